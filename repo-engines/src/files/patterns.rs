//! Patterns of paths, as `.gitignore` and restic have them.

use dedump_core::{Error, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A list of patterns; see [`FilesOptions::exclude`](super::FilesOptions::exclude) for what they mean.
#[derive(Debug, Clone)]
pub(super) struct Patterns {
    anything: GlobSet,
    /// Patterns that end in a slash.
    directories: GlobSet,
    patterns_n: usize,
}

impl Patterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// [`Error::Invalid`]: one of them is none.
    pub fn create(patterns: &[String]) -> Result<Patterns> {
        let (mut anything, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let refuse = |why: String| Error::Invalid(format!("pattern {pattern:?} can't be: {why}"));
            if pattern.starts_with('!') {
                let why =
                    "there are no exceptions from patterns; name what is wanted with an include pattern, or write \\!";
                return Err(refuse(why.to_owned()));
            }
            let body = pattern.trim_end_matches('/');
            if body.is_empty() {
                return Err(refuse("it names nothing".to_owned()));
            }
            let anywhere = if body.starts_with('/') { body.to_owned() } else { format!("**/{body}") };
            let glob = GlobBuilder::new(&anywhere).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| refuse(error.kind().to_string()))?;
            if pattern.ends_with('/') {
                directories.add(glob)
            } else {
                anything.add(glob)
            };
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error::Invalid(format!("the patterns are too many or too long: {error}")))
        };
        Ok(Patterns { anything: build(anything)?, directories: build(directories)?, patterns_n: patterns.len() })
    }

    /// Returns whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns_n == 0
    }

    /// Returns whether a pattern names this absolute path; one that names a directory above it does not.
    pub fn names(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.anything.is_match(path) || is_directory && self.directories.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_users_know() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("*.log", &["/a.log", "/var/x/a.log", "/.log", "/d.log/"], &["/a.log.1", "/a.logs"]),
            ("/abs/path", &["/abs/path"], &["/x/abs/path", "/abs/path/below", "/abs/pat"]),
            ("**/cache/", &["/cache/", "/a/b/cache/"], &["/cache", "/a/cached/"]),
            ("cache/", &["/cache/", "/a/b/cache/"], &["/cache"]),
            ("a/b", &["/a/b", "/x/a/b"], &["/a/x/b", "/xa/b"]),
            ("/a/*", &["/a/b", "/a/.b"], &["/a", "/a/b/c"]),
            ("/a/**", &["/a/b", "/a/b/c"], &["/a", "/b"]),
            ("*.{log,tmp}", &["/x.tmp"], &["/x.{log,tmp}"]),
            ("[ab]?", &["/ax"], &["/cx", "/a"]),
            ("\\*", &["/*", "/d/*"], &["/x"]),
        ];
        for (pattern, good, bad) in cases {
            let patterns = Patterns::create(&[(*pattern).to_owned()]).expect("a pattern");
            let names = |path: &&str| patterns.names(path.trim_end_matches('/').as_bytes(), path.ends_with('/'));
            assert!(good.iter().all(names), "{pattern} {good:?}");
            assert!(!bad.iter().any(names), "{pattern} {bad:?}");
        }
        let latin = Patterns::create(&["*.log".to_owned()]).expect("a pattern");
        assert!(latin.names(b"/\xff\n.log", false), "whatever bytes a name has");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "/", "!keep", "[a", "{a"] {
            let error = Patterns::create(&[bad.to_owned()]).expect_err(bad);
            assert!(error.to_string().contains("pattern"), "{error}");
        }
    }
}
