//! Puts a backup of ClickHouse back into a running server.
//!
//! ```text
//! prepare (nothing changes) ─▶ safety snapshot ─▶ databases, functions, tables aside ─▶ rows, counted ─▶ EXCHANGE ─▶ views, queues
//! ```
//!
//! A table that is there is not touched before the new one stands beside it, full and counted: then the two change names. What takes rows
//! from tables (materialised views) or from elsewhere (Kafka) is made when all rows are in, or they would come twice. The rows that
//! a materialised view keeps itself are loaded into it like those of a table.
//!
//! What is killed in between leaves tables whose names begin with [`ASIDE`]; the next restore of the same tables drops them.

mod feed;
mod load;
mod names;
mod order;
mod prepare;
mod run;

pub use prepare::{ClickHousePlan, PlannedTable};

use super::client::ClientOptions;
use super::dump::patterns;
use super::explain::Failure;
use super::url::ClickHouseUrl;
use dedump_core::{Error, Progress, Repository, Result, Snapshot, SnapshotId};

/// What the name of a table begins with that is not whole yet.
pub(super) const ASIDE: &str = "__dedump_loading__";

/// How a backup is put back into a server.
#[derive(Debug, Clone)]
pub struct ClickHouseRestoreOptions {
    /// How the server is reached.
    pub client: ClientOptions,
    /// Whether tables that are there are replaced; otherwise the restore is refused.
    pub replace: bool,
    /// Only these tables, as `DATABASE.TABLE` in the backup, with `*` for anything; empty stands for all.
    pub tables: Vec<String>,
    /// Only these partitions, by id, of the one table that is chosen. With `replace`, the others of the table stay as they are.
    pub partitions: Vec<String>,
    /// Only the database of this name.
    pub from_database: Option<String>,
    /// The name that this one database gets; otherwise the one in the URL, otherwise the one it had.
    pub to_database: Option<String>,
    /// Whether definitions alone are restored.
    pub schema_only: bool,
    /// Whether replicated tables become such as need no Keeper.
    pub unreplicated: bool,
    /// Whether users, roles and grants are made as they were; those who are there stay.
    pub access: bool,
    /// Whether everything that is needed is read and decoded before anything is touched.
    pub verify_first: bool,
    /// Whether what is replaced is backed up first.
    pub safety_snapshot: bool,
    /// Who restores, as `user@host`: the safety snapshot is held in this name.
    pub by: String,
}

impl Default for ClickHouseRestoreOptions {
    fn default() -> Self {
        ClickHouseRestoreOptions {
            client: ClientOptions::default(),
            replace: false,
            tables: Vec::new(),
            partitions: Vec::new(),
            from_database: None,
            to_database: None,
            schema_only: false,
            unreplicated: false,
            access: false,
            verify_first: false,
            safety_snapshot: true,
            by: "dedump".to_owned(),
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClickHouseRestored {
    /// Tables whose rows were put back, and counted.
    pub tables_n: u64,
    /// Tables of these that took the place of one that was there.
    pub replaced_n: u64,
    /// Views, dictionaries and other things without rows of their own that were made.
    pub others_n: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of them, as they were sent.
    pub bytes: u64,
    /// Users, roles and other statements of access that were carried out.
    pub access_n: u64,
    /// The snapshot of what was there.
    pub safety_snapshot: Option<SnapshotId>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Puts a backup of a [`ClickHouseEngine`](super::ClickHouseEngine) back into a running server.
#[derive(Debug, Clone)]
pub struct ClickHouseRestore {
    url: ClickHouseUrl,
    options: ClickHouseRestoreOptions,
}

impl ClickHouseRestore {
    /// Creates a restore into the server of a URL.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: ClickHouseRestoreOptions) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Invalid(why.to_owned()));
        let url = ClickHouseUrl::parse(url)?;
        patterns(&options.tables)?;
        if options.to_database.is_some()
            && url.database().is_some_and(|name| Some(name) != options.to_database.as_deref())
        {
            return refuse("the URL names one database and the options another; name one");
        }
        if !options.partitions.is_empty() && options.tables.len() != 1 {
            return refuse("partitions are chosen in one table; name it");
        }
        if !options.partitions.is_empty() && options.schema_only {
            return refuse("definitions have no partitions; leave one of the two out");
        }
        if options.by.trim().is_empty() {
            return refuse("who restores is not said");
        }
        Ok(ClickHouseRestore { url, options })
    }

    /// Returns where it goes, for people.
    pub fn place(&self) -> String {
        self.url.without_password()
    }

    /// Says what [`ClickHouseRestore::run`] would do, and finds what it would refuse. Nothing changes.
    ///
    /// `part_prefix` is the folder of the server in the snapshot: `events/`, or empty.
    ///
    /// # Errors
    /// As [`ClickHouseRestore::run`], for what is known before rows are read.
    pub async fn plan(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        part_prefix: &str,
    ) -> Result<ClickHousePlan> {
        let prepared =
            self.prepare(repository, snapshot, part_prefix).await.map_err(|failure| self.explain(failure))?;
        Ok(prepared.plan(self))
    }

    /// Puts the backup back. Dropping the future ends it; what was loaded aside is dropped by the next restore.
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
    ) -> Result<ClickHouseRestored> {
        let prepared =
            self.prepare(repository, snapshot, part_prefix).await.map_err(|failure| self.explain(failure))?;
        self.apply(prepared, repository, progress).await
    }

    fn explain(&self, failure: Failure) -> Error {
        match failure {
            Failure::Ours(error) => error,
            failure => Error::Target(failure.explain(&self.url)),
        }
    }
}
