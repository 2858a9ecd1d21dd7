//! Puts a backup of Redis or Valkey back: into a running server by `RESTORE`, or as a file with the right procedure.
//!
//! ```text
//! prepare (nothing changes) ─▶ verify first ─▶ safety snapshot ─▶ spare databases: RESTORE …, count ─▶ functions ─▶ SWAPDB
//! ```
//!
//! Nobody sees a database before all of it is there: it is filled under a number that is free, and changes places with the
//! wanted one. What is killed in between leaves two keys beside its own, by which the next restore knows the database and
//! empties it. Where a server has no free number, or no `SWAPDB`, databases are filled in place, and the report says so.
//! Merging always happens in place.
//!
//! A value is held in memory as a whole while it is sent, since `RESTORE` wants its length first; one of more than
//! [`VALUE_BYTES_MAX`] is refused by the servers too, and goes into a file only.

mod databases;
mod feed;
mod file;
mod finish;
mod prepare;
mod procedure;
mod run;

pub use file::{RedisFileOptions, RedisFileRestored, restore_file};
pub use prepare::{PlannedDatabase, RedisPlan};

use super::client::ClientOptions;
use super::explain::Failure;
use super::url::RedisUrl;
use dedump_core::{Error, Progress, Repository, Result, Snapshot, SnapshotId};
use std::path::PathBuf;

/// A value that `RESTORE` takes, at most: what `proto-max-bulk-len` allows where nobody has changed it.
pub const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Where keys go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// Into databases that are empty.
    #[default]
    Empty,
    /// In place of what is in these databases.
    Replace,
    /// Beside the keys that are there.
    Merge(OnConflict),
}

/// What becomes of a key that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is restored.
    #[default]
    Fail,
    /// It stays as it is.
    Skip,
    /// It is replaced.
    Replace,
}

/// How a backup is put back into a server.
#[derive(Debug, Clone)]
pub struct RedisRestoreOptions {
    /// How the server is reached.
    pub client: ClientOptions,
    /// Where keys go.
    pub place: Place,
    /// Only keys that begin with one of these; none stands for all keys.
    pub key_prefixes: Vec<Vec<u8>>,
    /// Only the database of this number.
    pub from_database: Option<u64>,
    /// The number that this one database gets; otherwise the one in the URL, otherwise the one it had.
    pub to_database: Option<u64>,
    /// Whether functions are restored, when all keys are.
    pub functions: bool,
    /// Whether users are made as they were, but for the one who restores. Others stay.
    pub users: bool,
    /// Whether everything that is needed is read and decoded before anything is touched.
    pub verify_first: bool,
    /// Whether the server is backed up before keys that it has are replaced or merged with.
    pub safety_snapshot: bool,
    /// Whether the server saves itself to its disk at the end, and that is waited for.
    pub save: bool,
    /// Who restores, as `user@host`: the safety snapshot is held in this name.
    pub by: String,
    /// The folder of the safety snapshot's temporary files; `None` stands for the system's.
    pub temporary_folder: Option<PathBuf>,
}

impl Default for RedisRestoreOptions {
    fn default() -> Self {
        RedisRestoreOptions {
            client: ClientOptions::default(),
            place: Place::Empty,
            key_prefixes: Vec::new(),
            from_database: None,
            to_database: None,
            functions: true,
            users: false,
            verify_first: false,
            safety_snapshot: true,
            save: false,
            by: "dedump".to_owned(),
            temporary_folder: None,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisRestored {
    /// Keys that were put back.
    pub keys_n: u64,
    /// Bytes of their values, as they were sent.
    pub bytes: u64,
    /// Keys that were there and stayed.
    pub skipped_n: u64,
    /// Keys that were left out since their time had come.
    pub expired_n: u64,
    /// Libraries of functions that were put back.
    pub functions_n: u64,
    /// Users that were made.
    pub users: Vec<String>,
    /// Whether databases were filled aside and changed places with the wanted ones.
    pub swapped: bool,
    /// Whether the server's digest is the one that was recorded; `None` if they can't be compared.
    pub digest_compared: bool,
    /// The snapshot of what was there.
    pub safety_snapshot: Option<SnapshotId>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Puts a backup of a [`RedisEngine`](super::RedisEngine) back into a running server.
#[derive(Debug, Clone)]
pub struct RedisRestore {
    url: RedisUrl,
    options: RedisRestoreOptions,
}

impl RedisRestore {
    /// Creates a restore into the server of a URL.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: RedisRestoreOptions) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Invalid(why.to_owned()));
        let url = RedisUrl::parse(url)?;
        if options.place == Place::Replace && !options.key_prefixes.is_empty() {
            return refuse(
                "to replace a database by some keys would drop the others; merge, and replace the keys that are there",
            );
        }
        if options.to_database.is_some() && url.database().is_some_and(|database| Some(database) != options.to_database)
        {
            return refuse("the URL names one database and the options another; name one");
        }
        if options.key_prefixes.iter().any(Vec::is_empty) {
            return refuse("an empty prefix stands for every key; leave it out");
        }
        if options.by.trim().is_empty() {
            return refuse("who restores is not said");
        }
        Ok(RedisRestore { url, options })
    }

    /// Returns where it goes, for people.
    pub fn place(&self) -> String {
        self.url.without_password()
    }

    /// Says what [`RedisRestore::run`] would do, and finds what it would refuse. Nothing changes.
    ///
    /// `part_prefix` is the folder of the server in the snapshot: `cache/`, or empty.
    ///
    /// # Errors
    /// As [`RedisRestore::run`], for what is known before keys are read.
    pub async fn plan(&self, repository: &Repository, snapshot: &Snapshot, part_prefix: &str) -> Result<RedisPlan> {
        let _ = repository; // A plan needs no more than the snapshot; the signature is that of the other engines.
        let prepared = self.prepare(snapshot, part_prefix).await.map_err(|failure| self.explain(failure))?;
        Ok(prepared.plan(self))
    }

    /// Puts the backup back. Dropping the future ends it; what was filled aside is emptied by the next restore.
    ///
    /// # Errors
    /// [`Error::Target`]: the server or what is there speaks against it; the message says what has become of the data.
    /// [`Error::NotFound`]: the snapshot has no such backup. [`Error::Damaged`], [`Error::Missing`], [`Error::Store`]: the
    /// repository's.
    pub async fn run(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        part_prefix: &str,
        progress: &dyn Progress,
    ) -> Result<RedisRestored> {
        let prepared = self.prepare(snapshot, part_prefix).await.map_err(|failure| self.explain(failure))?;
        self.apply(prepared, repository, progress).await
    }

    fn explain(&self, failure: Failure) -> Error {
        match failure {
            Failure::Ours(error) => error,
            failure => Error::Target(failure.explain(&self.url)),
        }
    }
}
