//! Puts a backup of MongoDB back: an archive is made anew of what was stored, and `mongorestore` loads it.
//!
//! ```text
//! prepare (nothing changes) ─▶ verify first ─▶ safety snapshot ─▶ mongorestore < archive ─▶ count, look at what is there
//! ```
//!
//! What is wanted is chosen before, so the archive has nothing else in it. A collection that is there already is refused, or with
//! [`Place::Replace`] dropped right before its documents come; others stay as they are. `mongorestore` goes on after some
//! errors and ends well all the same, such as when documents are there twice: so it is told to stop, what it says it has loaded is
//! compared with what was dumped, and the collections and indexes with those that are there then.

mod feed;
mod prepare;
mod run;

pub use prepare::{MongoPlan, PlannedCollection};

use super::client::{Client, ClientOptions};
use super::url::MongoUrl;
use dedump_core::{Error, Progress, Repository, Result, Snapshot, SnapshotId};

/// What becomes of collections that are there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing is restored.
    #[default]
    New,
    /// They are dropped, each right before its documents come.
    Replace,
}

/// How a backup is put back.
#[derive(Debug, Clone)]
pub struct MongoRestoreOptions {
    /// How the tools are run.
    pub client: ClientOptions,
    /// What becomes of collections that are there already.
    pub place: Place,
    /// Only this database of the backup.
    pub from_database: Option<String>,
    /// Only these collections, as `DATABASE.COLLECTION`; none stands for all.
    pub collections: Vec<String>,
    /// Whether users and roles are restored, which are there in the backup of a whole server.
    pub users: bool,
    /// Whether everything that is needed is read and verified before anything is touched.
    pub verify_first: bool,
    /// Whether databases are backed up before collections of theirs are dropped.
    pub safety_snapshot: bool,
    /// Who restores, as `user@host`: the safety snapshot is held in this name.
    pub by: String,
}

impl Default for MongoRestoreOptions {
    fn default() -> Self {
        MongoRestoreOptions {
            client: ClientOptions::default(),
            place: Place::New,
            from_database: None,
            collections: Vec::new(),
            users: false,
            verify_first: false,
            safety_snapshot: true,
            by: "dedump".to_owned(),
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MongoRestored {
    /// Collections and views.
    pub collections_n: u64,
    /// Documents that were loaded.
    pub documents_n: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether what was written while the dump ran was replayed, so that all collections are of one moment.
    pub oplog_replayed: bool,
    /// The snapshots of what was there.
    pub safety_snapshots: Vec<SnapshotId>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Puts a backup of a [`MongoEngine`](super::MongoEngine) back.
#[derive(Debug, Clone)]
pub struct MongoRestore {
    client: Client,
    options: MongoRestoreOptions,
}

impl MongoRestore {
    /// Creates a restore into the server of a URL; with a database in it, under that name.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: MongoRestoreOptions) -> Result<Self> {
        let url = MongoUrl::parse(url)?;
        url.with_password(options.client.password.as_deref())?;
        let is_namespace = |name: &String| name.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if let Some(name) = options.collections.iter().find(|name| !is_namespace(name)) {
            return Err(Error::Invalid(format!("what is {name:?}? a collection is named as shop.orders")));
        }
        if options.by.trim().is_empty() {
            return Err(Error::Invalid("who restores is not said".to_owned()));
        }
        Ok(MongoRestore { client: Client::new(url, options.client.clone()), options })
    }

    /// Returns where it goes, for people.
    pub fn place(&self) -> String {
        self.client.url.without_password()
    }

    /// Says what [`MongoRestore::run`] would do, and finds what it would refuse. Nothing changes.
    ///
    /// `part_prefix` is the folder of the server in the snapshot: `shop/`, or empty.
    ///
    /// # Errors
    /// As [`MongoRestore::run`], for what is known before documents are read.
    pub async fn plan(&self, repository: &Repository, snapshot: &Snapshot, part_prefix: &str) -> Result<MongoPlan> {
        Ok(self.prepare(repository, snapshot, part_prefix).await?.plan(self))
    }

    /// Puts the backup back. Dropping the future ends it; collections that were complete stay.
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
    ) -> Result<MongoRestored> {
        let prepared = self.prepare(repository, snapshot, part_prefix).await?;
        self.apply(prepared, repository, progress).await
    }
}
