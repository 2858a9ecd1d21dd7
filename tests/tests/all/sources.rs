//! Reads the project's own files.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the project: its path from the root, with `/`, and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// A made-up file, to see a rule fail on.
    pub(crate) fn example(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace is there")
}

/// Reads a text file by its path from the root.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// Paths of all files that are, or are about to be, in git.
pub(crate) fn tracked() -> Vec<String> {
    let output = Command::new("git")
        // The checkout may belong to another user than the one who runs the tests.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let mut paths: Vec<_> = paths.split_terminator('\0').map(str::to_owned).collect();
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 20, "this is not the project's checkout: {paths:?}");
    paths
}

/// Reads all tracked text files for which `wanted` holds.
pub(crate) fn texts(wanted: impl Fn(&str) -> bool) -> Vec<Source> {
    let paths = tracked().into_iter().filter(|path| wanted(path));
    let read = paths.filter_map(|path| {
        // What is not UTF-8 is no text.
        let text = String::from_utf8(std::fs::read(root().join(&path)).expect("readable")).ok()?;
        Some(Source { path, text })
    });
    read.collect()
}

/// Reads the Rust files below a folder.
pub(crate) fn rust(folder: &str) -> Vec<Source> {
    let sources = texts(|path| path.starts_with(folder) && path.ends_with(".rs"));
    assert!(!sources.is_empty(), "no Rust files below {folder}");
    sources
}

/// Fails with all complaints, if there are any.
pub(crate) fn expect_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Fails unless there is exactly one complaint and it holds all of `parts`.
#[track_caller]
pub(crate) fn expect_one(complaints: &[String], parts: &[&str]) {
    let [complaint] = complaints else { panic!("expected one complaint about {parts:?}: {complaints:?}") };
    assert!(parts.iter().all(|part| complaint.contains(part)), "{complaint:?} lacks one of {parts:?}");
}
