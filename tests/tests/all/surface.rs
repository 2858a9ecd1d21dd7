//! The public surface of dedump-core, written out and compared with `repo-core/golden/public-api.txt`, so that it grows
//! on purpose. `DEDUMP_BLESS=1` writes the file anew.
//!
//! Read from the sources: from the public items of `lib.rs`, through re-exports, to each item's definition. What
//! `#[doc(hidden)]` marks is no part of it. Items that a `macro_rules!` of one arm makes are seen too.

use crate::sources::{Source, root, rust};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, Type, UseTree, Visibility};

const GOLDEN: &str = "repo-core/golden/public-api.txt";
const CORE: &str = "repo-core/src/";

#[test]
fn the_public_surface_is_the_one_that_was_agreed() {
    let below = |source: Source| Source { path: source.path[CORE.len()..].to_owned(), text: source.text };
    let sources: Vec<_> = rust(CORE).into_iter().map(below).collect();
    let found = surface(&sources).expect("the facade can be read");
    if std::env::var_os("DEDUMP_BLESS").is_some() {
        std::fs::write(root().join(GOLDEN), &found).expect("writable");
    }
    let golden = std::fs::read_to_string(root().join(GOLDEN)).unwrap_or_default();
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (golden.lines().collect(), found.lines().collect());
    let changes: Vec<_> = old.difference(&new).map(|line| format!("- {line}")).collect();
    let changes = [changes, new.difference(&old).map(|line| format!("+ {line}")).collect()].concat();
    assert!(golden == found, "the surface changed; if on purpose, run with DEDUMP_BLESS=1\n{}\n", changes.join("\n"));
}

/// Writes the surface of a crate, a line a fact, sorted by path.
fn surface(sources: &[Source]) -> Result<String, String> {
    let krate = Crate::read(sources)?;
    let mut lines = BTreeSet::new();
    krate.export_module(&[], "", &mut lines)?;
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

type Module = Vec<String>;

/// The items of every module that is no test.
struct Crate {
    modules: BTreeMap<Module, Vec<Item>>,
}

impl Crate {
    fn read(sources: &[Source]) -> Result<Crate, String> {
        let mut krate = Crate { modules: BTreeMap::new() };
        for source in sources {
            let file = syn::parse_file(&source.text).map_err(|error| format!("{}: {error}", source.path))?;
            let mut module: Module = source.path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            if ["mod", "lib"].contains(&module.last().expect("a name").as_str()) {
                module.pop();
            }
            krate.insert(module, file.items);
        }
        Ok(krate)
    }

    fn insert(&mut self, module: Module, mut items: Vec<Item>) {
        items.extend(expanded(&items));
        for item in &items {
            if let Item::Mod(inner) = item
                && let Some((_, content)) = &inner.content
                && !is_test(&inner.attrs)
            {
                self.insert([module.clone(), vec![inner.ident.to_string()]].concat(), content.clone());
            }
        }
        self.modules.insert(module, items);
    }

    /// Writes the public items of a module under `prefix`.
    fn export_module(&self, module: &[String], prefix: &str, lines: &mut BTreeSet<String>) -> Result<(), String> {
        let items = self.modules.get(module).ok_or_else(|| format!("no module {}", module.join("::")))?;
        for item in items.iter().filter(|item| is_exported(item)) {
            match item {
                Item::Use(item) => {
                    for (path, name) in uses(&item.tree)? {
                        self.export_path(module, &path, &format!("{prefix}{name}"), lines)?;
                    }
                }
                _ => {
                    if let Some(name) = name_of(item) {
                        self.export_item(module, item, &format!("{prefix}{name}"), lines)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes what `path`, as it stands in `module`, leads to, under `name`.
    fn export_path(
        &self,
        module: &[String],
        path: &[String],
        name: &str,
        lines: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        let Some(target) = self.resolve(module, path) else {
            lines.insert(format!("{name}: outside: {}", path.join("::")));
            return Ok(());
        };
        let Some((last, home)) = target.split_last() else { return Err(format!("{name} is the crate itself")) };
        let items = self.modules.get(home).ok_or_else(|| format!("{name}: no module {}", home.join("::")))?;
        let mut found = false;
        for item in items {
            if name_of(item).as_deref() == Some(last) {
                self.export_item(home, item, name, lines)?;
                found = true;
            } else if let Item::Use(item) = item {
                // A re-export of a re-export.
                for (path, renamed) in uses(&item.tree).unwrap_or_default() {
                    if renamed == *last && !matches!(item.vis, Visibility::Inherited) {
                        self.export_path(home, &path, name, lines)?;
                        found = true;
                    }
                }
            }
        }
        if found { Ok(()) } else { Err(format!("{name}: {} has no item {last}", home.join("::"))) }
    }

    /// Returns the path from the crate's root, or `None` if it leads to another crate.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<Module> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                let items = self.modules.get(module)?;
                items.iter().find(|item| name_of(item).as_deref() == Some(first))?;
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn export_item(
        &self,
        module: &[String],
        item: &Item,
        name: &str,
        lines: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        let mut line = |text: String| lines.insert(text);
        match item {
            Item::Mod(inner) => {
                line(format!("{name}: mod"));
                let inside = [module, &[inner.ident.to_string()]].concat();
                return self.export_module(&inside, &format!("{name}::"), lines);
            }
            Item::Struct(item) => {
                line(format!("{name}: struct{}{}", text(&item.generics), marks(&item.attrs)));
                fields(name, &item.fields, true, &mut line);
            }
            Item::Enum(item) => {
                line(format!("{name}: enum{}{}", text(&item.generics), marks(&item.attrs)));
                for variant in &item.variants {
                    let number = variant.discriminant.as_ref().map(|(_, number)| format!(" = {}", text(number)));
                    line(format!("{name}::{}: variant{}", variant.ident, number.unwrap_or_default()));
                    fields(&format!("{name}::{}", variant.ident), &variant.fields, false, &mut line);
                }
            }
            Item::Trait(item) => {
                line(format!("{name}: trait{}: {}", text(&item.generics), text(&item.supertraits)));
                for item in &item.items {
                    match item {
                        TraitItem::Fn(item) => {
                            let provided = if item.default.is_some() { " { provided }" } else { "" };
                            line(format!("{name}::{}: {}{provided}", item.sig.ident, text(&item.sig)));
                        }
                        TraitItem::Type(item) => _ = line(format!("{name}::{}: {}", item.ident, text(item))),
                        TraitItem::Const(item) => _ = line(format!("{name}::{}: const {}", item.ident, text(&item.ty))),
                        other => return Err(format!("{name}: cannot read {}", text(other))),
                    }
                }
            }
            Item::Fn(item) => _ = line(format!("{name}: {}", text(&item.sig))),
            Item::Type(item) => {
                line(format!("{name}: type{} = {}", text(&item.generics), text(&item.ty)));
            }
            Item::Const(item) => _ = line(format!("{name}: const {}", text(&item.ty))),
            Item::Static(item) => _ = line(format!("{name}: static {}", text(&item.ty))),
            other => return Err(format!("{name}: cannot read {}", text(other))),
        }
        if matches!(item, Item::Struct(_) | Item::Enum(_)) {
            self.export_impls(module, item, name, &mut line);
        }
        Ok(())
    }

    /// Writes what the crate implements for a type: its public functions, and its traits.
    fn export_impls(&self, home: &[String], item: &Item, name: &str, line: &mut dyn FnMut(String) -> bool) {
        let own = name_of(item).expect("a type has a name");
        for (module, items) in &self.modules {
            // Another type of the same name, whose implementations stand beside it.
            let has_its_own = module != home
                && items.iter().any(|item| {
                    matches!(item, Item::Struct(_) | Item::Enum(_) | Item::Type(_))
                        && name_of(item).as_ref() == Some(&own)
                });
            for item in items.iter().filter(|_| !has_its_own) {
                let Item::Impl(block) = item else { continue };
                let Type::Path(path) = &*block.self_ty else { continue };
                if path.path.segments.last().is_none_or(|last| last.ident != own) || is_test(&block.attrs) {
                    continue;
                }
                if let Some((implemented, _)) = &block.trait_ {
                    line(format!("{name}: impl {} for {}", text(implemented), text(&block.self_ty)));
                    continue;
                }
                for item in &block.items {
                    match item {
                        ImplItem::Fn(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                            line(format!("{name}::{}: {}", item.sig.ident, text(&item.sig)));
                        }
                        ImplItem::Const(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                            line(format!("{name}::{}: const {}", item.ident, text(&item.ty)));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Writes the fields that can be named: of a struct the public ones, of a variant all.
fn fields(name: &str, fields: &Fields, need_pub: bool, line: &mut dyn FnMut(String) -> bool) {
    let mut hidden_n = 0;
    for (number, field) in fields.iter().enumerate() {
        if need_pub && !is_public(&field.vis) {
            hidden_n += 1;
            continue;
        }
        let field_name = field.ident.as_ref().map_or(number.to_string(), ToString::to_string);
        line(format!("{name}.{field_name}: {}", text(&field.ty)));
    }
    if hidden_n > 0 {
        line(format!("{name}.*: has private fields"));
    }
}

/// What matters to a caller beside the item itself: what is derived, and whether it may grow.
fn marks(attributes: &[Attribute]) -> String {
    let shown = |attribute: &&Attribute| {
        ["derive", "non_exhaustive", "must_use"].iter().any(|name| attribute.path().is_ident(name))
    };
    attributes.iter().filter(shown).map(|attribute| format!(" {}", text(&attribute.meta))).collect()
}

/// The paths of a `use`, each with the name that it gets.
fn uses(tree: &UseTree) -> Result<Vec<(Module, String)>, String> {
    fn walk(tree: &UseTree, path: &mut Module, found: &mut Vec<(Module, String)>) -> Result<(), String> {
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                walk(&inner.tree, path, found)?;
                path.pop();
            }
            UseTree::Name(inner) if inner.ident == "self" => {
                found.push((path.clone(), path.last().cloned().unwrap_or_default()));
            }
            UseTree::Name(inner) => {
                let name = inner.ident.to_string();
                found.push(([&path[..], std::slice::from_ref(&name)].concat(), name));
            }
            UseTree::Rename(inner) => {
                let full = [&path[..], &[inner.ident.to_string()]].concat();
                found.push((full, inner.rename.to_string()));
            }
            UseTree::Group(group) => group.items.iter().try_for_each(|tree| walk(tree, path, found))?,
            UseTree::Glob(_) => return Err(format!("name what is exported, instead of {}::*", path.join("::"))),
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(tree, &mut Vec::new(), &mut found)?;
    Ok(found)
}

fn is_exported(item: &Item) -> bool {
    let (visibility, attributes) = match item {
        Item::Const(item) => (&item.vis, &item.attrs),
        Item::Enum(item) => (&item.vis, &item.attrs),
        Item::Fn(item) => (&item.vis, &item.attrs),
        Item::Mod(item) => (&item.vis, &item.attrs),
        Item::Static(item) => (&item.vis, &item.attrs),
        Item::Struct(item) => (&item.vis, &item.attrs),
        Item::Trait(item) => (&item.vis, &item.attrs),
        Item::Type(item) => (&item.vis, &item.attrs),
        Item::Use(item) => (&item.vis, &item.attrs),
        _ => return false,
    };
    is_public(visibility) && !is_hidden(attributes) && !is_test(attributes)
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| text(&attribute.meta) == "doc(hidden)")
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| text(&attribute.meta) == "cfg(test)")
}

/// Tokens in one line, without the spaces that nobody would write.
fn text(tokens: &impl ToTokens) -> String {
    let mut line = tokens.to_token_stream().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    line = line.replace("->", "\u{1}").replace("=>", "\u{2}");
    for (wide, narrow) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" <", "<"),
        (" >", ">"),
        ("( ", "("),
        (" )", ")"),
        (" (", "("),
        ("[ ", "["),
        (" ]", "]"),
        ("& ", "&"),
        (" ,", ","),
        (" ;", ";"),
        (" :", ":"),
        ("' ", "'"),
        (" !", "!"),
        (",>", ">"),
        (",)", ")"),
    ] {
        line = line.replace(wide, narrow);
    }
    line.replace('\u{1}', "->").replace('\u{2}', "=>").trim().to_owned()
}

// ---- Macros ----

/// The items that a module's own `macro_rules!` of one arm make where the module calls them.
fn expanded(items: &[Item]) -> Vec<Item> {
    let macros = || items.iter().filter_map(|item| if let Item::Macro(item) = item { Some(item) } else { None });
    let mut made = Vec::new();
    for call in macros().filter(|item| item.ident.is_none()) {
        let definition = macros().find(|item| item.ident.is_some() && item.ident.as_ref() == call.mac.path.get_ident());
        if let Some(definition) = definition
            && let Some(tokens) = expand(definition.mac.tokens.clone(), call.mac.tokens.clone())
        {
            made.extend(syn::parse2::<syn::File>(tokens).map(|file| file.items).unwrap_or_default());
        }
    }
    made
}

/// Expands a call of a macro of one arm that takes attributes, single tokens and marks; `None` for any other.
fn expand(definition: TokenStream, call: TokenStream) -> Option<TokenStream> {
    let groups =
        definition.into_iter().filter_map(|tree| if let TokenTree::Group(group) = tree { Some(group) } else { None });
    let arms: Vec<_> = groups.collect();
    let [pattern, body] = &arms[..] else { return None };
    let pattern: Vec<_> = pattern.stream().into_iter().collect();
    let mut call = call.into_iter().peekable();
    let mut bound = BTreeMap::new();
    let mut at = 0;
    while let Some(tree) = pattern.get(at) {
        match (tree, pattern.get(at + 1)) {
            (TokenTree::Punct(mark), Some(TokenTree::Ident(name))) if mark.as_char() == '$' => {
                bound.insert(name.to_string(), call.next()?);
                at += 4;
            }
            (TokenTree::Punct(mark), Some(TokenTree::Group(_))) if mark.as_char() == '$' => {
                while call.next_if(|tree| matches!(tree, TokenTree::Punct(mark) if mark.as_char() == '#')).is_some() {
                    call.next()?;
                }
                at += 3;
            }
            _ => {
                call.next()?;
                at += 1;
            }
        }
    }
    Some(substitute(body.stream(), &bound))
}

fn substitute(body: TokenStream, bound: &BTreeMap<String, TokenTree>) -> TokenStream {
    let mut trees = body.into_iter().peekable();
    let mut made = Vec::new();
    while let Some(tree) = trees.next() {
        match (tree, trees.peek()) {
            (TokenTree::Punct(mark), Some(TokenTree::Ident(name)))
                if mark.as_char() == '$' && bound.contains_key(&name.to_string()) =>
            {
                made.extend(bound.get(&name.to_string()).cloned());
                trees.next();
            }
            // A repetition: attributes, which do not matter here, and its `*`.
            (TokenTree::Punct(mark), Some(TokenTree::Group(group)))
                if mark.as_char() == '$' && group.delimiter() == Delimiter::Parenthesis =>
            {
                trees.next();
                trees.next();
            }
            (TokenTree::Group(group), _) => {
                let inside = substitute(group.stream(), bound);
                made.push(TokenTree::Group(Group::new(group.delimiter(), inside)));
            }
            (tree, _) => made.push(tree),
        }
    }
    made.into_iter().collect()
}

// ---- Seen to fail ----

fn lines_of(lib: &str, inner: &str) -> Result<Vec<String>, String> {
    let sources = [
        Source::example("lib.rs", lib),
        Source::example("inner/mod.rs", "pub mod deep;"),
        Source::example("inner/deep.rs", inner),
    ];
    surface(&sources).map(|found| found.lines().map(str::to_owned).collect())
}

#[test]
fn the_surface_is_what_the_facade_names() {
    let inner = "
        #[derive(Clone)] #[non_exhaustive] pub struct A<'a> { pub x: &'a [u8], y: u8 }
        impl<'a> A<'a> { pub fn new(x: &'a [u8]) -> Result<Self, E> { todo!() } fn own(&self) {} #[doc(hidden)] pub fn hid() {} }
        impl std::fmt::Display for A<'_> { }
        pub enum E { One = 1, Two(u8), Three { z: Vec<u8> } }
        pub trait T: Send { fn f(&self); fn g(&self) -> u8 { 1 } }
        pub async fn run<X: T + 'static>(x: X, n: u64) -> Option<Vec<u8>> { None }
        pub const N: usize = 1; pub type R = Result<(), E>; pub fn not_exported() {}
        macro_rules! id { ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
            $(#[$doc])* pub struct $name(pub [u8; $bytes]); impl $name { pub fn short(&self) -> u8 { 1 } } } }
        id!( /// Doc.
            Id, 16);
    ";
    let lib = "mod inner; pub use inner::deep::{A, E as Failure, Id, N, R, T, run}; #[doc(hidden)] pub use inner::deep::not_exported;
        pub mod extra { pub use crate::inner::deep::N as M; pub use bytes::Bytes; } pub(crate) use inner::deep::E;";
    let expected = [
        "A.*: has private fields",
        "A.x: &'a [u8]",
        "A: impl std::fmt::Display for A<'_>",
        "A: struct<'a> derive(Clone) non_exhaustive",
        "A::new: fn new(x: &'a [u8]) -> Result<Self, E>",
        "Failure: enum",
        "Failure::One: variant = 1",
        "Failure::Three.z: Vec<u8>",
        "Failure::Three: variant",
        "Failure::Two.0: u8",
        "Failure::Two: variant",
        "Id.0: [u8; 16]",
        "Id: struct",
        "Id::short: fn short(&self) -> u8",
        "N: const usize",
        "R: type = Result<(), E>",
        "T: trait: Send",
        "T::f: fn f(&self)",
        "T::g: fn g(&self) -> u8 { provided }",
        "extra: mod",
        "extra::Bytes: outside: bytes::Bytes",
        "extra::M: const usize",
        "run: async fn run<X: T + 'static>(x: X, n: u64) -> Option<Vec<u8>>",
    ];
    assert_eq!(lines_of(lib, inner).expect("readable"), expected);
    assert_eq!(
        lines_of("mod inner; pub use inner::deep;", "pub fn f() {} fn g() {}").expect("readable"),
        ["deep: mod", "deep::f: fn f()"]
    );
    let again = lines_of("mod inner; pub use inner::deep::f;", "mod d { pub fn f() {} } pub use d::f;");
    assert_eq!(again.expect("readable"), ["f: fn f()"]);
}

#[test]
fn a_change_of_a_signature_a_glob_and_a_dead_path_are_seen() {
    let with = |inner: &str| lines_of("mod inner; pub use inner::deep::f;", inner);
    assert_ne!(with("pub fn f(a: u8) {}"), with("pub fn f(a: u16) {}"));
    assert!(with("pub fn g() {}").expect_err("nothing there").contains("no item f"));
    assert!(lines_of("mod inner; pub use inner::deep::*;", "").expect_err("a glob").contains("inner::deep::*"));
}
