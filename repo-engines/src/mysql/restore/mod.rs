//! Puts a dump of MariaDB's or MySQL's back: beside what is there, and in its place when all of it is whole.
//!
//! ```text
//! prepare (nothing changes) ─▶ verify first ─▶ safety snapshot ─▶ users ─▶ NAME_dedump_ID8: load, count
//!     ─▶ RENAME TABLE, all in one statement ─▶ views, routines, triggers, events ─▶ drop NAME_dedump_ID8
//! ```
//!
//! These servers can't rename a database. So tables move: the old ones into `NAME_before_ID8`, the new ones into their place, all
//! by one statement, which happens as a whole or not at all. Views, routines, triggers and events can't move; they are tried out
//! in the database that is loaded, and made again in the one that is wanted. If that fails, the tables move back. Events come
//! last, when all is in its place.
//!
//! Rows are dumped one a statement, and loaded in long statements of [`STATEMENT_BYTES`] that are made of them on the way.
//! The longest row is held in memory, as the client and the server do as well.

mod contents;
mod feed;
mod plan;
mod prepare;
mod rebuild;
mod run;
mod swap;
mod target;

pub use plan::MysqlPlan;

use super::client::ClientOptions;
use super::errors;
use super::url::MysqlUrl;
use dedump_core::{Error, Progress, Repository, Result, Snapshot, SnapshotId};

/// Length of the statements that rows are loaded by, about.
pub const STATEMENT_BYTES: usize = 1 << 20;

/// Where a dump goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing of it must be there.
    #[default]
    New,
    /// It takes the place of the database, or of the tables, that are there, when it is whole.
    Replace,
}

/// How a dump is put back.
#[derive(Debug, Clone)]
pub struct MysqlRestoreOptions {
    /// How the client tools are run.
    pub client: ClientOptions,
    /// Where the dump goes.
    pub place: Place,
    /// Whether what was replaced is dropped; otherwise it stays in the database `NAME_before_ID8`.
    pub drop_old: bool,
    /// Only these tables, with their triggers; none stands for everything.
    pub tables: Vec<String>,
    /// Leaves out as whom views, triggers, routines and events are run: they are run as the user who restores.
    pub no_definers: bool,
    /// Whether users that are not there are made as they were.
    pub users: bool,
    /// Whether everything that is needed is read and decoded before anything is touched.
    pub verify_first: bool,
    /// Whether the database that is there is backed up before it is changed.
    pub safety_snapshot: bool,
    /// Who restores, as `user@host`: the safety snapshot is held in this name.
    pub by: String,
}

impl Default for MysqlRestoreOptions {
    fn default() -> Self {
        MysqlRestoreOptions {
            client: ClientOptions::default(),
            place: Place::New,
            drop_old: false,
            tables: Vec::new(),
            no_definers: false,
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
pub struct MysqlRestored {
    /// The database that has the dump now.
    pub database: String,
    /// Streams that were read.
    pub streams: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Tables whose rows were counted and are as many as were dumped.
    pub tables_n: u64,
    /// Those rows.
    pub rows_n: u64,
    /// Users and roles that were made.
    pub users: Vec<String>,
    /// The database that has what was there before.
    pub kept: Option<String>,
    /// The snapshot of it.
    pub safety_snapshot: Option<SnapshotId>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Puts a database back that a [`MysqlEngine`](super::MysqlEngine) has dumped.
#[derive(Debug, Clone)]
pub struct MysqlRestore {
    url: MysqlUrl,
    options: MysqlRestoreOptions,
}

impl MysqlRestore {
    /// Creates a restore into the database that a URL names; a URL without one stands for the name that was dumped.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: MysqlRestoreOptions) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Invalid(why.to_owned()));
        if options.place != Place::Replace && options.drop_old {
            return refuse("to drop what was there goes with --replace");
        }
        if options.by.trim().is_empty() {
            return refuse("who restores is not said");
        }
        Ok(MysqlRestore { url: MysqlUrl::parse(url)?, options })
    }

    /// Says what [`MysqlRestore::run`] would do, and finds what it would refuse. Nothing changes.
    ///
    /// `part_prefix` is the folder of the database in the snapshot: `app/`, `app/databases/NAME/`, or empty.
    ///
    /// # Errors
    /// As [`MysqlRestore::run`], for what is known before anything is loaded.
    pub async fn plan(&self, repository: &Repository, snapshot: &Snapshot, part_prefix: &str) -> Result<MysqlPlan> {
        let prepared = Box::pin(self.prepare(repository, snapshot, part_prefix)).await.map_err(errors::of_target)?;
        Ok(prepared.plan(self))
    }

    /// Puts the dump back. Dropping the future ends the tools; what was there is then as it was, and the next restore drops what
    /// is left. While tables change places, views and triggers are missing for a moment.
    ///
    /// # Errors
    /// [`Error::Target`]: the server, its tools, or what is there speak against it; what was there is as it was.
    /// [`Error::NotFound`]: the snapshot has no such dump. [`Error::Damaged`], [`Error::Missing`], [`Error::Store`]: the
    /// repository's.
    pub async fn run(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        part_prefix: &str,
        progress: &dyn Progress,
    ) -> Result<MysqlRestored> {
        let prepared = Box::pin(self.prepare(repository, snapshot, part_prefix)).await.map_err(errors::of_target)?;
        Box::pin(self.apply(prepared, repository, progress)).await.map_err(errors::of_target)
    }
}

/// Rebuilds a stream that comes in pieces of so many bytes; see [`super::internals`].
#[must_use]
pub fn rebuilt(stream: &[u8], statement_bytes_max: usize, piece_bytes: usize) -> Vec<u8> {
    let mut rebuild = rebuild::Rebuild::new(rebuild::Adapt::default(), statement_bytes_max);
    let mut out = Vec::new();
    stream.chunks(piece_bytes).for_each(|piece| rebuild.feed(piece, &mut out));
    rebuild.finish(&mut out);
    out
}
