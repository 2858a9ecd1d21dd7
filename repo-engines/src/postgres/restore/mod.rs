//! Puts a PostgreSQL dump back: into a new database that gets its name when it is whole, or parts of it into one that is there.
//!
//! ```text
//! prepare (nothing changes) ─▶ verify first ─▶ safety snapshot ─▶ roles ─▶ NAME_dedump_ID8: load, count, analyse ─▶ rename
//! ```
//!
//! Nothing has the wanted name before everything succeeded, and the renames are one transaction. What is killed in between leaves
//! a database with a name and a comment of its own, which the next restore finds and drops.

mod compare;
mod contents;
mod feed;
mod globals;
mod hints;
mod load;
mod plan;
mod prepare;
mod properties;
mod rows;
mod run;
mod selection;
mod server;
mod swap;

pub use globals::Globals;
pub use plan::PostgresPlan;
pub use rows::{OnConflict, RowsOptions, RowsRestored};

use super::client::{Client, ClientOptions};
use super::dump::{DumpPart, JOBS_MAX};
use super::sql;
use super::url::PostgresUrl;
use dedump_core::{Error, Progress, Repository, Result, Snapshot, SnapshotId};

/// Where a dump goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// A database of that name is made; if there is one, it must be empty.
    #[default]
    New,
    /// A new database takes the place of the one that is there, when it is whole.
    Replace,
    /// Schemas, tables or data go into the database that is there, in one transaction where the dump has one stream.
    Existing,
}

/// How a dump is put back.
#[derive(Debug, Clone)]
pub struct PostgresRestoreOptions {
    /// How the client tools are run.
    pub client: ClientOptions,
    /// Where the dump goes.
    pub place: Place,
    /// Whether the database that was replaced is dropped; otherwise it stays as `NAME_before_ID8`.
    pub drop_old: bool,
    /// Whether those who are connected to the database that is replaced are disconnected; otherwise they are a reason to refuse.
    pub disconnect: bool,
    /// Which roles are created first.
    pub globals: Globals,
    /// Leaves owners out: everything belongs to the user who restores.
    pub no_owner: bool,
    /// Leaves privileges out.
    pub no_privileges: bool,
    /// Leaves tablespaces out: everything lies in the usual one.
    pub no_tablespaces: bool,
    /// Goes on after errors, counts and reports them, instead of ending at the first.
    pub ignore_errors: bool,
    /// Streams that are loaded side by side.
    pub jobs: usize,
    /// Which part is loaded.
    pub part: DumpPart,
    /// Whether triggers and foreign keys are kept from looking at data that go into a database that is there; takes a superuser.
    pub disable_triggers: bool,
    /// Only these schemas; with `tables` empty too, everything.
    pub schemas: Vec<String>,
    /// Only these tables, as `SCHEMA.TABLE`, quoted where SQL needs it.
    pub tables: Vec<String>,
    /// Whether everything that is needed is read and decoded before anything is touched.
    pub verify_first: bool,
    /// Whether the database that is there is backed up before it is replaced or changed.
    pub safety_snapshot: bool,
    /// Who restores, as `user@host`: the safety snapshot is held in this name.
    pub by: String,
    /// The database to connect to while others are created and renamed; `postgres` without it.
    pub maintenance_database: Option<String>,
}

impl Default for PostgresRestoreOptions {
    fn default() -> Self {
        PostgresRestoreOptions {
            client: ClientOptions::default(),
            place: Place::New,
            drop_old: false,
            disconnect: false,
            globals: Globals::Missing,
            no_owner: false,
            no_privileges: false,
            no_tablespaces: false,
            ignore_errors: false,
            jobs: 1,
            part: DumpPart::All,
            disable_triggers: false,
            schemas: Vec::new(),
            tables: Vec::new(),
            verify_first: false,
            safety_snapshot: true,
            by: "dedump".to_owned(),
            maintenance_database: None,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresRestored {
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
    /// Roles that were created.
    pub roles: Vec<String>,
    /// The database that was there before, under its new name.
    pub kept: Option<String>,
    /// The snapshot of it.
    pub safety_snapshot: Option<SnapshotId>,
    /// Errors that the restore has gone on after.
    pub errors_n: u64,
    /// Those errors, and what differs from the dump for them.
    pub problems: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Puts a database back that a [`PostgresEngine`](super::PostgresEngine) has dumped.
#[derive(Debug, Clone)]
pub struct PostgresRestore {
    url: PostgresUrl,
    options: PostgresRestoreOptions,
}

impl PostgresRestore {
    /// Creates a restore into the database that a URL names; a URL without one stands for the name that was dumped.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: PostgresRestoreOptions) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Invalid(why.to_owned()));
        if !(1..=JOBS_MAX).contains(&options.jobs) {
            return Err(Error::Invalid(format!("{} jobs can't be: from 1 to {JOBS_MAX}", options.jobs)));
        }
        let has_parts = !options.schemas.is_empty() || !options.tables.is_empty();
        if options.place == Place::Existing && !has_parts && options.part != DumpPart::Data {
            return refuse(
                "a whole dump goes into a new database; name schemas or tables, or --part data, for one that is there",
            );
        }
        if options.disable_triggers && options.part != DumpPart::Data {
            return refuse("triggers are in the way of data alone; leave --disable-triggers out, or say --part data");
        }
        if options.place != Place::Existing && options.part == DumpPart::Data {
            return refuse("data alone go into a database that is there; a new one needs the schema too");
        }
        if options.place != Place::Replace && (options.drop_old || options.disconnect) {
            return refuse("to drop the old database, or disconnect its users, goes with --replace");
        }
        if options.by.trim().is_empty() {
            return refuse("who restores is not said");
        }
        for table in &options.tables {
            if sql::qualified(table).is_none() {
                return Err(Error::Invalid(format!("table {table:?} can't be: write it as SCHEMA.TABLE")));
            }
        }
        Ok(PostgresRestore { url: PostgresUrl::parse(url)?, options })
    }

    /// Returns where it goes, for people: the host and the database.
    pub fn place(&self) -> String {
        format!("{}/{}", self.url.host(), self.url.database().unwrap_or("?"))
    }

    /// Returns the usual name of the database that a restore of this snapshot has replaced and kept, for [`PostgresRestore::undo`].
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL names no database.
    pub fn kept_by(&self, snapshot: &Snapshot) -> Result<String> {
        let name = self.url.database();
        let name = name.ok_or_else(|| Error::Invalid("the URL names no database to put back".to_owned()))?;
        Ok(format!("{name}_before_{}", snapshot.id.short()))
    }

    /// Says what [`PostgresRestore::run`] would do, and finds what it would refuse. Nothing changes.
    ///
    /// `part_prefix` is the folder of the database in the snapshot: `app/`, `app/databases/NAME/`, or empty.
    ///
    /// # Errors
    /// As [`PostgresRestore::run`], for what is known before anything is loaded.
    pub async fn plan(&self, repository: &Repository, snapshot: &Snapshot, part_prefix: &str) -> Result<PostgresPlan> {
        let prepared = self.prepare(repository, snapshot, part_prefix).await.map_err(hints::of_target)?;
        Ok(prepared.plan(self))
    }

    /// Puts the dump back. Dropping the future ends the tools; the database that was there is then as it was, and the next restore
    /// drops what is left.
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
    ) -> Result<PostgresRestored> {
        let prepared = self.prepare(repository, snapshot, part_prefix).await.map_err(hints::of_target)?;
        self.apply(prepared, repository, progress).await.map_err(hints::of_target)
    }

    /// Returns the client for a database of the server.
    fn client(&self, database: &str) -> Client {
        Client::new(self.url.with_database(database), self.options.client.clone())
    }

    /// Returns the database to connect to while the one of this name is created or renamed.
    fn maintenance(&self, name: &str) -> &str {
        match &self.options.maintenance_database {
            Some(database) => database,
            None if name == "postgres" => "template1",
            None => "postgres",
        }
    }
}
