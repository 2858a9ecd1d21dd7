//! Holds the dependencies to `deny.toml`, without a network: licences, pinned versions, sources.
//!
//! `cargo deny check` does more (advisories) and needs more (a network, and time to build it); this runs everywhere.

use crate::sources::{expect_none, expect_one, read, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Crates whose output is stored, so that a new version is a decision of its own.
const PINNED: [(&str, &str); 2] = [("bincode", "2.0.1"), ("fastcdc", "5.0.0")];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What the rules look at in a package.
#[derive(Debug, Clone)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// `None` for a package of this workspace.
    source: Option<String>,
    manifest: String,
}

#[test]
fn every_licence_is_allowed() {
    expect_none(&licence_complaints(&packages(), &allowed(&read("deny.toml"))));
}

#[test]
fn crates_whose_output_is_stored_are_pinned() {
    expect_none(&pin_complaints(&packages()));
}

#[test]
fn every_dependency_is_of_the_registry_or_of_the_workspace() {
    let root = root().into_os_string().into_string().expect("UTF-8");
    expect_none(&source_complaints(&packages(), &root));
}

fn licence_complaints(packages: &[Package], allowed: &BTreeSet<String>) -> Vec<String> {
    let complaint = |package: &Package| {
        let Package { name, version, licence, .. } = package;
        match licence.as_deref().map(|licence| (licence, satisfied(licence, allowed))) {
            None => Some(format!("{name} {version} names no licence")),
            Some((licence, Err(why))) => Some(format!("{name} {version}: {why} in its licence {licence:?}")),
            Some((licence, Ok(false))) => {
                Some(format!("{name} {version}: deny.toml does not allow its licence {licence:?}"))
            }
            Some((_, Ok(true))) => None,
        }
    };
    packages.iter().filter_map(complaint).collect()
}

fn pin_complaints(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, pinned) in PINNED {
        let found: Vec<_> =
            packages.iter().filter(|package| package.name == name).map(|p| p.version.as_str()).collect();
        if found != [pinned] {
            complaints.push(format!("{name} must be exactly {pinned}, and is {found:?}"));
        }
    }
    complaints
}

fn source_complaints(packages: &[Package], root: &str) -> Vec<String> {
    let complaint = |package: &Package| match &package.source {
        Some(source) if source == REGISTRY => None,
        Some(source) => Some(format!("{} {} comes from {source}", package.name, package.version)),
        None if package.manifest.starts_with(root) => None,
        None => Some(format!("{} comes from {}, outside the workspace", package.name, package.manifest)),
    };
    packages.iter().filter_map(complaint).collect()
}

/// The packages of the lock file, for all platforms.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed; `cargo fetch --locked` brings what it needs\n{why}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let package = |package: &Value| Package {
        name: text(&package["name"]).expect("a name"),
        version: text(&package["version"]).expect("a version"),
        licence: text(&package["license"]),
        source: text(&package["source"]),
        manifest: text(&package["manifest_path"]).expect("a manifest"),
    };
    let packages: Vec<_> = metadata["packages"].as_array().expect("packages").iter().map(package).collect();
    assert!(packages.len() > 50, "too few packages to be true: {}", packages.len());
    packages
}

/// The `allow` list of the `[licenses]` section.
fn allowed(deny: &str) -> BTreeSet<String> {
    let section = deny.split("\n[").find(|section| section.starts_with("licenses]")).expect("a section [licenses]");
    let list = section.split("\nallow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("a list `allow`");
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .flat_map(|line| line.split(','))
        .map(|item| item.trim().trim_matches('"').to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Says whether an SPDX expression can be met by allowed licences; `/` is the old way to write `OR`.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().collect::<Vec<_>>().into_iter().peekable();
    let met = any(&mut words, allowed)?;
    match words.next() {
        None => Ok(met),
        Some(word) => Err(format!("unexpected {word:?}")),
    }
}

type Words<'a> = std::iter::Peekable<std::vec::IntoIter<&'a str>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut met = all(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed)?;
    }
    Ok(met)
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut met = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed)?;
    }
    Ok(met)
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Result<bool, String> {
    match words.next() {
        None => Err("an unfinished expression".to_owned()),
        Some("(") => {
            let met = any(words, allowed)?;
            words.next_if_eq(&")").map(|_| met).ok_or_else(|| "an open bracket".to_owned())
        }
        Some(word @ (")" | "AND" | "OR" | "WITH")) => Err(format!("unexpected {word:?}")),
        Some(licence) if words.next_if_eq(&"WITH").is_some() => {
            let exception = words.next().ok_or("an unfinished expression")?;
            Ok(allowed.contains(&format!("{licence} WITH {exception}")))
        }
        Some(licence) => Ok(allowed.contains(licence)),
    }
}

fn example(name: &str, licence: Option<&str>) -> Package {
    Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        licence: licence.map(str::to_owned),
        source: Some(REGISTRY.to_owned()),
        manifest: "/elsewhere/Cargo.toml".to_owned(),
    }
}

#[test]
fn expressions_are_met_as_spdx_says() {
    let allowed = allowed(
        "x\n[licenses]\nversion = 2\nallow = [\n    \"MIT\", # one\n    \"A WITH B\",\n    \"C\",\n]\n[bans]\n",
    );
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND C", true),
        ("GPL-3.0 OR MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND C", true),
        ("A WITH B", true),
        ("A", false),
        ("MIT WITH B", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), Ok(met), "{expression}");
    }
    for broken in ["", "MIT OR", "(MIT", "MIT)", "MIT C", "AND MIT", "A WITH"] {
        assert!(satisfied(broken, &allowed).is_err(), "{broken:?}");
    }
}

#[test]
fn a_package_with_a_wrong_licence_version_or_source_is_named() {
    let allowed = BTreeSet::from(["MIT".to_owned()]);
    expect_none(&licence_complaints(&[example("fine", Some("MIT"))], &allowed));
    expect_one(&licence_complaints(&[example("copyleft", Some("AGPL-3.0"))], &allowed), &["copyleft", "AGPL-3.0"]);
    expect_one(&licence_complaints(&[example("silent", None)], &allowed), &["silent", "no licence"]);

    let pinned = |version: &str| Package { version: version.to_owned(), ..example("bincode", None) };
    let fastcdc = Package { version: "5.0.0".to_owned(), ..example("fastcdc", None) };
    expect_none(&pin_complaints(&[pinned("2.0.1"), fastcdc.clone()]));
    expect_one(&pin_complaints(&[pinned("2.0.2"), fastcdc.clone()]), &["bincode", "2.0.2"]);
    expect_one(&pin_complaints(&[pinned("2.0.1"), pinned("3.0.0"), fastcdc]), &["bincode", "3.0.0"]);

    let from = |source: Option<&str>| [Package { source: source.map(str::to_owned), ..example("stray", None) }];
    expect_none(&source_complaints(&from(None), "/elsewhere"));
    expect_one(&source_complaints(&from(None), "/here"), &["stray", "outside"]);
    expect_one(&source_complaints(&from(Some("git+https://example.org/x")), "/here"), &["stray", "git+"]);
}
