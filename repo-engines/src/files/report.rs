//! What a walk counts, and what it has to say.

use super::tree::show;
use dedump_core::{Error, Result, Verdict};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};

/// Names that a verdict lists of each kind, at most: it is stored with the snapshot.
const NAMED_MAX: usize = 100;

/// Counts and names.
pub(super) struct Report {
    partial: bool,
    pub files_n: u64,
    pub directories_n: u64,
    pub symlinks_n: u64,
    pub hard_links_n: u64,
    pub special_n: u64,
    pub sockets_n: u64,
    pub excluded_n: u64,
    /// Directories that another file system is mounted on.
    pub elsewhere_n: u64,
    pub bytes: u64,
    pub files_read_n: u64,
    pub files_reused_n: u64,
    suspicious: Named,
    missing: Named,
    warnings: Vec<String>,
    lost: HashSet<Vec<u8>>,
}

/// Messages, of which the first ones are kept.
#[derive(Default)]
struct Named {
    first: Vec<String>,
    all_n: usize,
}

impl Named {
    fn push(&mut self, message: String) {
        self.all_n += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(message);
        }
    }

    fn finish(mut self, what: &str) -> Vec<String> {
        let more_n = self.all_n - self.first.len();
        if more_n > 0 {
            self.first.push(format!("{more_n} more {what}"));
        }
        self.first
    }
}

/// Why a file is not in the dump.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// It was there a moment ago.
    Vanished,
    /// The system does not give it.
    Unreadable(Errno),
}

impl Trouble {
    pub fn of(error: Errno) -> Trouble {
        match error {
            // A name that leads to something else than it did.
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::STALE => Trouble::Vanished,
            error => Trouble::Unreadable(error),
        }
    }
}

impl Report {
    pub fn create(partial: bool) -> Report {
        Report {
            partial,
            files_n: 0,
            directories_n: 0,
            symlinks_n: 0,
            hard_links_n: 0,
            special_n: 0,
            sockets_n: 0,
            excluded_n: 0,
            elsewhere_n: 0,
            bytes: 0,
            files_read_n: 0,
            files_reused_n: 0,
            suspicious: Named::default(),
            missing: Named::default(),
            warnings: Vec::new(),
            lost: HashSet::new(),
        }
    }

    /// Notes that a file is not in the dump.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the user did not allow that.
    pub fn trouble(&mut self, path: &[u8], trouble: Trouble) -> Result<()> {
        let path_shown = show(path);
        let message = match trouble {
            Trouble::Vanished => format!("{path_shown} vanished while it was backed up"),
            Trouble::Unreadable(error) => format!("{path_shown} cannot be read: {error}"),
        };
        if !self.partial {
            return Err(Error::DumpFailed(format!(
                "{message}; exclude it, or allow a backup without what cannot be read; nothing was stored"
            )));
        }
        self.lost.insert(path.to_vec());
        self.missing.push(message);
        Ok(())
    }

    /// Returns whether it was noted that this file is not in the dump.
    pub fn is_lost(&self, path: &[u8]) -> bool {
        self.lost.contains(path)
    }

    /// Notes that a file was written to while it was read.
    pub fn changed(&mut self, path: &[u8]) {
        self.suspicious.push(format!("{} changed while it was read", show(path)));
    }

    /// Notes the directory of a database.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the user did not ask for such.
    pub fn database(&mut self, path: &[u8], database: &str, source: &str, is_allowed: bool) -> Result<()> {
        let path = show(path);
        if !is_allowed {
            return Err(Error::DumpFailed(format!(
                "{path} is the directory of a {database} database, and its files copied one by one are no backup; back it up as \
                 {source}, and exclude the directory; nothing was stored"
            )));
        }
        self.warnings.push(format!(
            "{path} is the directory of a {database} database; what was taken of it is worth something only if its server was \
             stopped"
        ));
        Ok(())
    }

    /// Returns the verdict.
    pub fn verdict(self) -> Verdict {
        let counts = [
            ("bytes", self.bytes),
            ("directories", self.directories_n),
            ("excluded", self.excluded_n),
            ("files", self.files_n),
            ("files_read", self.files_read_n),
            ("files_reused", self.files_reused_n),
            ("hard_links", self.hard_links_n),
            ("other_file_systems", self.elsewhere_n),
            ("sockets_skipped", self.sockets_n),
            ("special_files", self.special_n),
            ("symlinks", self.symlinks_n),
        ];
        let facts: BTreeMap<String, String> =
            counts.into_iter().map(|(name, count)| (name.to_owned(), count.to_string())).collect();
        Verdict {
            suspicious: self.suspicious.finish("files changed while they were read"),
            missing: self.missing.finish("files are missing"),
            warnings: self.warnings,
            facts,
        }
    }
}
