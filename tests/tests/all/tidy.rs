//! Rules about the sources that no compiler knows. Each is a pure function over texts, and is seen to fail on an example.

use crate::sources::{Source, expect_none, expect_one, read, root, rust, texts};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

const LINES_MAX: usize = 500;
/// The crates that are shipped.
const SHIPPED: [&str; 3] = ["repo-core/src/", "repo-engines/src/", "repo-cli/src/"];
const CORE: &str = "repo-core/src/";

#[test]
fn the_core_imports_only_from_lower_floors() {
    let rows = floor_rows(&read("ARCHITECTURE.md"));
    expect_none(&floor_complaints(&rows, &core()));
}

#[test]
fn each_outside_crate_has_one_door() {
    let doors = table(&read("ARCHITECTURE.md"), &["crate", "only in"]);
    expect_none(&door_complaints(&doors, &core()));
}

#[test]
fn shipped_code_keeps_its_manners() {
    expect_none(&shipped().iter().flat_map(manner_complaints).collect::<Vec<_>>());
}

#[test]
fn shipped_files_are_short() {
    expect_none(&shipped().iter().filter_map(length_complaint).collect::<Vec<_>>());
}

#[test]
fn nothing_names_a_machine_or_a_registry_host() {
    expect_none(&texts(|_| true).iter().flat_map(word_complaints).collect::<Vec<_>>());
}

#[test]
fn every_crate_shares_lints_and_is_not_published() {
    let members = members(&read("Cargo.toml"));
    let manifest = |member: &String| {
        let path = format!("{member}/Cargo.toml");
        Source { text: read(&path), path }
    };
    expect_none(&members.iter().map(manifest).flat_map(|source| manifest_complaints(&source)).collect::<Vec<_>>());
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let pages = texts(|path| path.ends_with(".md"));
    assert!(pages.iter().any(|page| page.path == "ARCHITECTURE.md"));
    let exists = |path: &str| root().join(path).exists();
    expect_none(&pages.iter().flat_map(|page| link_complaints(page, &exists)).collect::<Vec<_>>());
}

#[test]
fn no_test_file_is_forgotten() {
    expect_none(&forgotten_complaints(&rust("tests/tests/all/"), "tests/tests/all/"));
}

/// The core's sources, by their path below `src`.
fn core() -> Vec<Source> {
    let below = |source: Source| Source { path: source.path[CORE.len()..].to_owned(), text: source.text };
    rust(CORE).into_iter().map(below).collect()
}

fn shipped() -> Vec<Source> {
    SHIPPED.into_iter().flat_map(rust).collect()
}

// ---- Floors ----

/// A row of the table of floors: a file, or a folder with its `/`.
struct FloorRow {
    floor: u8,
    path: String,
}

impl FloorRow {
    fn covers(&self, path: &str) -> bool {
        if self.path.ends_with('/') { path.starts_with(&self.path) } else { path == self.path }
    }

    /// The module at the crate's root that the row is about.
    fn module(&self) -> &str {
        self.path.trim_end_matches('/').trim_end_matches(".rs")
    }
}

fn floor_rows(architecture: &str) -> Vec<FloorRow> {
    let rows = table(architecture, &["floor", "name", "path"]).into_iter();
    rows.map(|row| FloorRow { floor: row[0].parse().expect("a floor is a number"), path: row[2].clone() }).collect()
}

fn floor_complaints(rows: &[FloorRow], sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for row in rows {
        if !sources.iter().any(|source| row.covers(&source.path)) {
            complaints.push(format!("ARCHITECTURE.md: floor {} covers nothing: {}", row.floor, row.path));
        }
    }
    for source in sources {
        let Some(own) = rows.iter().find(|row| row.covers(&source.path)) else {
            complaints.push(format!("{}: on no floor of ARCHITECTURE.md", source.path));
            continue;
        };
        if own.path == "lib.rs" {
            continue;
        }
        for (name, line) in crate_names(source) {
            match rows.iter().find(|row| row.module() == name && row.path != "lib.rs") {
                Some(row) if row.floor <= own.floor => {}
                Some(row) => complaints.push(format!(
                    "{}:{line}: floor {} names crate::{name}, which is on floor {}",
                    source.path, own.floor, row.floor
                )),
                None => complaints
                    .push(format!("{}:{line}: names crate::{name}, which is the facade's or on no floor", source.path)),
            }
        }
    }
    complaints
}

/// What a file names at the crate's root, as `crate::name` or by way of `super`, with the line.
fn crate_names(source: &Source) -> Vec<(String, usize)> {
    let mut depth = source.path.trim_end_matches(".rs").split('/').count();
    if source.path.ends_with("/mod.rs") {
        depth -= 1;
    }
    let mut names = Vec::new();
    crate_names_in(tokens(source), depth, &mut names);
    names
}

/// `depth`: how many times `super` leads from here to the crate's root.
fn crate_names_in(stream: TokenStream, depth: usize, names: &mut Vec<(String, usize)>) {
    let trees: Vec<_> = stream.into_iter().collect();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        at += 1;
        match tree {
            TokenTree::Group(group) => {
                let inside_module = group.delimiter() == Delimiter::Brace
                    && at >= 3
                    && is_word(&trees[at - 3], "mod")
                    && matches!(&trees[at - 2], TokenTree::Ident(_));
                crate_names_in(group.stream(), depth + usize::from(inside_module), names);
            }
            TokenTree::Ident(word) if *word == "crate" => {
                if let Some(next) = after_colons(&trees, at) {
                    first_words(next, names);
                    at += 2;
                }
            }
            TokenTree::Ident(word) if *word == "super" => {
                let mut ups = 1;
                while let Some(next) = after_colons(&trees, at) {
                    at += 2;
                    if is_word(next, "super") {
                        ups += 1;
                        at += 1;
                    } else {
                        if ups >= depth {
                            first_words(next, names);
                        }
                        break;
                    }
                }
            }
            _ => {}
        }
    }
}

/// The token after a `::` that starts at `at`.
fn after_colons(trees: &[TokenTree], at: usize) -> Option<&TokenTree> {
    (is_mark(trees.get(at)?, ':') && is_mark(trees.get(at + 1)?, ':')).then(|| trees.get(at + 2))?
}

/// The word itself, or the first word of each branch of a `{…}`.
fn first_words(tree: &TokenTree, names: &mut Vec<(String, usize)>) {
    match tree {
        TokenTree::Ident(word) => names.push((word.to_string(), line_of(word.span()))),
        TokenTree::Group(group) => {
            let mut at_start = true;
            for tree in group.stream() {
                if at_start {
                    first_words(&tree, names);
                }
                at_start = is_mark(&tree, ',');
            }
        }
        other => names.push((other.to_string(), line_of(other.span()))),
    }
}

// ---- Doors ----

fn door_complaints(doors: &[Vec<String>], sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for door in doors {
        let (name, places) = (&door[0], door[1].split(',').map(str::trim).collect::<Vec<_>>());
        for source in sources {
            let lines = outside_names(tokens(source), name);
            match (lines.first(), places.contains(&source.path.as_str())) {
                (Some(line), false) => {
                    complaints.push(format!("{}:{line}: only {places:?} may name {name}", source.path))
                }
                (None, true) => complaints.push(format!("ARCHITECTURE.md: {} does not name {name}", source.path)),
                _ => {}
            }
        }
        for place in places {
            if !sources.iter().any(|source| source.path == place) {
                complaints.push(format!("ARCHITECTURE.md: {place}, which may name {name}, does not exist"));
            }
        }
    }
    complaints
}

/// Words after which `::name` starts a path.
const KEYWORDS: [&str; 9] = ["as", "dyn", "else", "if", "in", "match", "mut", "return", "use"];

/// Lines on which the crate `name` is named: at the start of a path, or alone in a `use`.
fn outside_names(stream: TokenStream, name: &str) -> Vec<usize> {
    let trees: Vec<_> = stream.into_iter().collect();
    let mut lines = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).and_then(|at| trees.get(at));
        match tree {
            TokenTree::Group(group) => lines.extend(outside_names(group.stream(), name)),
            _ if is_word(tree, name) => {
                let starts_path = after_colons(&trees, at + 1).is_some();
                let used = before(1).is_some_and(|tree| is_word(tree, "use") || is_word(tree, "crate"));
                // `a::name::b` is another's; `::name::b` and `x: name::b` are the crate.
                let inside_path = before(1).is_some_and(|tree| is_mark(tree, ':'))
                    && before(2).is_some_and(|tree| is_mark(tree, ':'))
                    && before(3).is_some_and(
                        |tree| matches!(tree, TokenTree::Ident(word) if !KEYWORDS.iter().any(|k| word == k)),
                    );
                if (starts_path || used) && !inside_path {
                    lines.push(line_of(tree.span()));
                }
            }
            _ => {}
        }
    }
    lines
}

// ---- Manners ----

/// No `unwrap`, nothing left to do, nothing ignored or thrown away without a reason.
fn manner_complaints(source: &Source) -> Vec<String> {
    let stream = tokens(source);
    let mut tests = Vec::new();
    test_lines(stream.clone(), &mut tests);
    let whole_file_is_tests = source.path.ends_with("/tests.rs") || source.path.contains("/tests/");
    let lines: Vec<_> = source.text.lines().collect();
    let mut complaints = Vec::new();
    visit(stream, &mut |trees, at| {
        let line = line_of(trees[at].span());
        let in_tests = whole_file_is_tests || tests.iter().any(|range| range.contains(&line));
        let word = |offset: usize, word: &str| trees.get(at + offset).is_some_and(|tree| is_word(tree, word));
        let mark = |offset: usize, mark: char| trees.get(at + offset).is_some_and(|tree| is_mark(tree, mark));
        let explained = || {
            let own = lines.get(line - 1).is_some_and(|line| line.contains("//"));
            own || line >= 2 && lines.get(line - 2).is_some_and(|line| line.contains("//"))
        };
        let attribute = || attribute_at(trees, at).map(|inside| inside.to_string()).unwrap_or_default();
        let why = if mark(0, '.') && (word(1, "unwrap") || word(1, "unwrap_err")) && !in_tests {
            "`unwrap` outside tests: return the error, or `expect(\"why it cannot fail\")`"
        } else if (word(0, "todo") || word(0, "unimplemented")) && mark(1, '!') {
            "something is left to do"
        } else if word(0, "let") && word(1, "_") && mark(2, '=') && !explained() {
            "`let _ =` without a comment that says why"
        } else if attribute().starts_with("ignore") {
            "a test that never runs"
        } else if ["allow", "expect"].iter().any(|lint| attribute().starts_with(&format!("{lint} (")))
            && !attribute().contains("reason =")
            && !explained()
        {
            "a lint is silenced without a reason"
        } else {
            return;
        };
        complaints.push(format!("{}:{line}: {why}", source.path));
    });
    complaints
}

fn length_complaint(source: &Source) -> Option<String> {
    let mut tests = Vec::new();
    test_lines(tokens(source), &mut tests);
    let tests_n: usize = tests.into_iter().map(|range| range.count()).sum();
    let lines_n = source.text.lines().count() - tests_n;
    (lines_n > LINES_MAX)
        .then(|| format!("{} has {lines_n} lines without its tests, more than {LINES_MAX}", source.path))
}

/// The lines of items under `#[cfg(test)]`.
fn test_lines(stream: TokenStream, ranges: &mut Vec<RangeInclusive<usize>>) {
    let trees: Vec<_> = stream.into_iter().collect();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        if attribute_at(&trees, at).is_some_and(|inside| inside.to_string() == "cfg (test)") {
            let start = line_of(tree.span());
            let ends = |tree: &TokenTree| match tree {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                other => is_mark(other, ';'),
            };
            at += trees[at..].iter().position(ends).expect("an attribute stands before an item");
            ranges.push(start..=trees[at].span().end().line);
        } else if let TokenTree::Group(group) = tree {
            test_lines(group.stream(), ranges);
        }
        at += 1;
    }
}

// ---- Words ----

/// Paths of a machine and hosts of registries, which stand nowhere. In two parts each, so that this file may hold them.
const WORDS: [(&str, &str); 8] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/tmp/", "wt-"),
    ("crates", ".io/"),
    ("index.crates", ".io"),
    ("pypi", ".org"),
    ("deb.debian", ".org"),
    ("registry.npmjs", ".org"),
];

fn word_complaints(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for (first, second) in WORDS {
            let word = format!("{first}{second}");
            if line.contains(&word) {
                complaints.push(format!("{}:{}: names {word}", source.path, number + 1));
            }
        }
    }
    complaints
}

// ---- Manifests ----

fn members(manifest: &str) -> Vec<String> {
    let list = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("a list of members");
    list.split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|member| !member.is_empty())
        .collect()
}

fn manifest_complaints(source: &Source) -> Vec<String> {
    let lines: Vec<_> = source.text.lines().map(str::trim).collect();
    let shares_lints = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
    let unpublished = lines.iter().any(|line| ["publish.workspace = true", "publish = false"].contains(line));
    let mut complaints = Vec::new();
    if !shares_lints {
        complaints.push(format!("{}: lacks `[lints]`, `workspace = true`", source.path));
    }
    if !unpublished {
        complaints.push(format!("{}: lacks `publish.workspace = true`", source.path));
    }
    complaints
}

// ---- Links ----

fn link_complaints(page: &Source, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut complaints = Vec::new();
    let mut in_code = false;
    for (number, line) in page.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let reference = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target.trim());
        for target in inline.chain(reference).filter(|_| !in_code) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !exists(format!("{folder}/{path}").trim_start_matches('/')) {
                complaints.push(format!("{}:{}: leads to {target}, which does not exist", page.path, number + 1));
            }
        }
    }
    complaints
}

// ---- Test files ----

/// Every file below `folder` is named by a `mod` in its parent: `main.rs` at the top, `x.rs` or `x/mod.rs` for `x/y.rs`.
fn forgotten_complaints(sources: &[Source], folder: &str) -> Vec<String> {
    let mut mods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources {
        let trees: Vec<_> = tokens(source).into_iter().collect();
        let named = trees.windows(3).filter(|three| is_word(&three[0], "mod") && is_mark(&three[2], ';'));
        mods.insert(source.path.clone(), named.map(|three| three[1].to_string()).collect());
    }
    let mut complaints = Vec::new();
    for source in sources {
        let module = source.path[folder.len()..].trim_end_matches(".rs").trim_end_matches("/mod");
        let (parents, name) = match module.rsplit_once('/') {
            None if module == "main" => continue,
            None => (vec![format!("{folder}main.rs")], module),
            Some((parent, name)) => (vec![format!("{folder}{parent}.rs"), format!("{folder}{parent}/mod.rs")], name),
        };
        let names_it = |parent: &String| mods.get(parent).is_some_and(|names| names.iter().any(|named| named == name));
        if !parents.iter().any(names_it) {
            complaints.push(format!("{} is forgotten: {} has no `mod {name};`", source.path, parents[0]));
        }
    }
    complaints
}

// ---- Reading ----

/// The rows of the Markdown table with exactly these headings, without backticks.
fn table(page: &str, headings: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let inside = line.trim().trim_start_matches('|').trim_end_matches('|');
        inside.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines = page.lines().skip_while(|line| cells(line) != headings).skip(2);
    let rows: Vec<_> = lines.by_ref().take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "no table with the headings {headings:?}");
    assert!(rows.iter().all(|row| row.len() == headings.len()), "a row of the table {headings:?} has other cells");
    rows
}

fn tokens(source: &Source) -> TokenStream {
    source.text.parse().unwrap_or_else(|error| panic!("{} is no Rust: {error}", source.path))
}

/// Calls `look` for every token, with its neighbours.
fn visit(stream: TokenStream, look: &mut dyn FnMut(&[TokenTree], usize)) {
    let trees: Vec<_> = stream.into_iter().collect();
    for at in 0..trees.len() {
        look(&trees, at);
        if let TokenTree::Group(group) = &trees[at] {
            visit(group.stream(), look);
        }
    }
}

/// What stands inside the `#[…]` or `#![…]` that starts at `at`.
fn attribute_at(trees: &[TokenTree], at: usize) -> Option<TokenStream> {
    let inner = usize::from(trees.get(at + 1).is_some_and(|tree| is_mark(tree, '!')));
    match trees.get(at + 1 + inner) {
        Some(TokenTree::Group(group)) if is_mark(&trees[at], '#') && group.delimiter() == Delimiter::Bracket => {
            Some(group.stream())
        }
        _ => None,
    }
}

fn is_word(tree: &TokenTree, word: &str) -> bool {
    matches!(tree, TokenTree::Ident(found) if *found == word)
}

fn is_mark(tree: &TokenTree, mark: char) -> bool {
    matches!(tree, TokenTree::Punct(found) if found.as_char() == mark)
}

fn line_of(span: Span) -> usize {
    span.start().line
}

// ---- Every rule, seen to fail ----

fn example_rows() -> Vec<FloorRow> {
    let page = "# x\n\n| floor | name | path |\n|---|---|---|\n| 3 | facade | `lib.rs` |\n| 2 | upper | `upper/` |\n| 1 | lower | `lower/` |\n\nend";
    floor_rows(page)
}

fn floors_with(path: &str, text: &str) -> Vec<String> {
    let fine = [("lib.rs", "mod upper;"), ("upper/mod.rs", "use crate::lower::A;"), ("lower/mod.rs", "pub struct A;")];
    let mut sources: Vec<_> = fine.iter().map(|(path, text)| Source::example(path, text)).collect();
    sources.retain(|source| source.path != path);
    sources.push(Source::example(path, text));
    floor_complaints(&example_rows(), &sources)
}

#[test]
fn an_upward_import_is_found() {
    expect_none(&floors_with(
        "upper/a.rs",
        "use crate::{lower::A, upper::b}; use super::b; fn f() { crate::lower::g() }",
    ));
    expect_none(&floors_with(
        "lower/a.rs",
        "// crate::upper\n/// crate::upper\npub(crate) fn f() { \"crate::upper\"; }",
    ));
    let upward = [
        "use crate::upper::A;",
        "use crate::{lower::A, upper::B};",
        "fn f() {\n crate::upper::g() }",
        "fn f() { assert!(crate::upper::g()) }",
        "#[cfg(test)] mod tests { use crate::upper::A; }",
        "use super::super::upper::A;",
        "mod tests { use super::super::super::{upper::A}; }",
        "macro_rules! m { () => { $crate::upper::A } }",
    ];
    for text in upward {
        expect_one(&floors_with("lower/a.rs", text), &["lower/a.rs:", "crate::upper", "floor 2"]);
    }
    expect_one(&floors_with("upper/a.rs", "use crate::Error;"), &["crate::Error", "facade"]);
    expect_one(&floors_with("lower/a.rs", "use crate::*;"), &["crate::*"]);
    expect_none(&floors_with("lower/a.rs", "mod tests { use super::super::{upper}; }"));
    expect_one(&floors_with("stray.rs", ""), &["stray.rs", "no floor"]);
    let only_upper = [Source::example("lib.rs", ""), Source::example("upper/mod.rs", "")];
    expect_one(&floor_complaints(&example_rows(), &only_upper), &["covers nothing", "lower/"]);
}

#[test]
fn a_crate_outside_its_door_is_found() {
    let doors = vec![vec!["zstd".to_owned(), "craft.rs".to_owned()]];
    let with = |text: &str| {
        door_complaints(&doors, &[Source::example("craft.rs", "use zstd::bulk;"), Source::example("other.rs", text)])
    };
    expect_none(&with("use crate::zstd::x; // zstd::bulk\nfn zstd() { a.zstd(); Encoding::zstd }"));
    for text in [
        "use zstd::bulk;",
        "use zstd;",
        "use ::zstd::x;",
        "fn f() { return ::zstd::x() }",
        "fn f() { vec![zstd::g()]; }",
        "extern crate zstd;",
    ] {
        expect_one(&with(text), &["other.rs:1", "zstd"]);
    }
    let unused = [Source::example("craft.rs", "")];
    expect_one(&door_complaints(&doors, &unused), &["craft.rs does not name zstd"]);
    expect_one(&door_complaints(&doors, &[]), &["craft.rs", "does not exist"]);
}

#[test]
fn bad_manners_are_found() {
    let with = |text: &str| manner_complaints(&Source::example("a.rs", text));
    let fine = "// unwrap()\nfn f() { x.unwrap_or(1); x.expect(\"it\"); }\n#[cfg(test)]\nmod tests { fn g() { x.unwrap(); } }\n\
                // A reason.\nlet _ = f();\nlet _ = g(); // Another.\n#[allow(dead_code, reason = \"it\")] fn h() {}\n\
                let todo = 1; let _x = 2; Ok(_) = ignore;";
    expect_none(&with(fine));
    expect_one(&with("\nfn f() { x.unwrap(); }"), &["a.rs:2", "unwrap"]);
    expect_one(&with("fn f() { vec![x.unwrap()]; }\n#[cfg(test)] mod tests {}"), &["a.rs:1", "unwrap"]);
    expect_one(&with("#[cfg(test)] mod tests { }\nfn f() { x.unwrap(); }"), &["a.rs:2", "unwrap"]);
    expect_one(&with("fn f() { todo!() }"), &["left to do"]);
    expect_one(&with("#[cfg(test)] mod tests { fn f() { unimplemented!(\"x\") } }"), &["left to do"]);
    expect_one(&with("#[cfg(test)] mod tests { #[test] #[ignore] fn f() {} }"), &["never runs"]);
    expect_one(&with("#[ignore = \"slow\"] fn f() {}"), &["never runs"]);
    expect_one(&with("// far\n\nfn f() {\n    let _ = g();\n}"), &["a.rs:4", "let _ ="]);
    expect_one(&with("#[allow(dead_code)] fn f() {}"), &["silenced"]);
    expect_one(&with("#![allow(dead_code)]"), &["silenced"]);
}

#[test]
fn a_long_file_is_found() {
    let with = |own_n: usize, tests_n: usize| {
        let text = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(own_n), "// y\n".repeat(tests_n));
        Vec::from_iter(length_complaint(&Source::example("a.rs", &text)))
    };
    expect_none(&with(LINES_MAX, 1000));
    expect_one(&with(LINES_MAX + 1, 0), &["a.rs", "501 lines"]);
}

#[test]
fn a_machine_or_a_registry_host_is_found() {
    for (first, second) in WORDS {
        let text = format!("fine\nsee {first}{second}x");
        let found = word_complaints(&Source::example("a.md", &text));
        assert!(found.iter().any(|complaint| complaint.contains("a.md:2")), "{first}{second}: {found:?}");
    }
    expect_none(&word_complaints(&Source::example("a.md", "homework, crates.io-index, a repository's root")));
}

#[test]
fn a_manifest_without_lints_or_publish_is_found() {
    assert_eq!(members("[workspace]\nmembers = [\"a\", \"b-c\"]\n"), ["a", "b-c"]);
    let with = |text: &str| manifest_complaints(&Source::example("a/Cargo.toml", text));
    expect_none(&with("[package]\npublish.workspace = true\n\n[lints]\nworkspace = true\n"));
    expect_one(
        &with("[package]\npublish = false\n\n[dependencies]\nx.workspace = true\n"),
        &["a/Cargo.toml", "[lints]"],
    );
    expect_one(&with("[package]\n\n[lints]\nworkspace = true\n"), &["a/Cargo.toml", "publish"]);
}

#[test]
fn a_dead_link_is_found() {
    let exists = |path: &str| path == "docs/there.md" || path == "docs/../up.md";
    let with = |text: &str| link_complaints(&Source::example("docs/a.md", text), &exists);
    expect_none(&with(
        "[a](there.md), [b](there.md#part) [c](https://example.org/x) [d](#here) [e](../up.md)\n```\n[x](gone)\n```",
    ));
    expect_one(&with("fine\nsee [a](there.md) and [b](gone.md)"), &["docs/a.md:2", "gone.md"]);
    expect_one(&with("[a]: gone.md"), &["gone.md"]);
}

#[test]
fn a_forgotten_test_file_is_found() {
    let with = |path: &str, main: &str| {
        let sources = [Source::example("t/main.rs", main), Source::example("t/a.rs", ""), Source::example(path, "")];
        forgotten_complaints(&sources, "t/")
    };
    expect_none(&with("t/b.rs", "mod a; pub mod b;"));
    expect_none(&with("t/b/mod.rs", "mod a; mod b;"));
    expect_one(&with("t/b.rs", "mod a; // mod b;"), &["t/b.rs", "forgotten"]);
    expect_one(&with("t/a/deep.rs", "mod a;"), &["t/a/deep.rs", "mod deep;"]);
}
