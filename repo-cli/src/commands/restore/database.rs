//! `dedump restore --to postgres://…`: puts a database back.

use super::database_report::{plan_to_json, plan_to_text, to_json, to_text};
use super::way::{self, Done, Facts, Part, Plan, Turn, Way};
use super::{RestoreArgs, rows};
use crate::client::ClientArgs;
use crate::context::{Context, user_at_host};
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Meter;
use crate::sources::{self, part_of};
use clap::{Args, ValueEnum};
use dedump_core::{Snapshot, async_trait};
use dedump_engines::postgres::{
    Globals, OnConflict, Place, PostgresPlan, PostgresRestore, PostgresRestoreOptions, RowsOptions,
};
use std::path::Path;
use std::time::Instant;

/// How a database is put back.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// Put it in the place of the database, or of the directory, that is there, which stays under another name
    #[arg(long, help_heading = DATABASES)]
    replace: bool,
    /// Undo the restore of this snapshot: put the database back that it replaced and that was kept
    #[arg(long, help_heading = DATABASES, conflicts_with_all = ["drop_old", "into_existing", "schemas", "tables", "part"])]
    undo: bool,
    /// Drop the database that was replaced, when the new one is in its place
    #[arg(long, help_heading = DATABASES, requires = "replace")]
    drop_old: bool,
    /// Disconnect those who are connected to the database that is replaced
    #[arg(long, help_heading = DATABASES)]
    disconnect: bool,
    /// Load the schemas or tables, or with --part data all rows, into the database that is there
    #[arg(long, help_heading = DATABASES, conflicts_with = "replace")]
    into_existing: bool,
    /// Restore this schema alone; may be repeated
    #[arg(long = "schema", value_name = "SCHEMA", help_heading = DATABASES)]
    schemas: Vec<String>,
    /// Restore this table alone, of MariaDB and MySQL without a schema; may be repeated
    #[arg(long = "table", value_name = "SCHEMA.TABLE", help_heading = DATABASES)]
    tables: Vec<String>,
    /// Restore only those rows of the one table for which this SQL condition holds, into the table that is there
    ///
    /// It is your own SQL, and is run as such with your rights.
    #[arg(long = "where", value_name = "CONDITION", help_heading = DATABASES, requires = "tables")]
    condition: Option<String>,
    /// What to do with a row whose key is there already: fail, skip (it stays) or update (it becomes as it was)
    #[arg(long, value_name = "WHAT", help_heading = DATABASES, value_enum, hide_possible_values = true, requires = "tables")]
    on_conflict: Option<Conflict>,
    /// Restore only the schema, or only the data
    #[arg(long, value_name = "PART", help_heading = DATABASES, value_enum)]
    part: Option<sources::Part>,
    /// Keep triggers and foreign keys from looking at data that go into a database that is there; takes a superuser
    #[arg(long, help_heading = DATABASES)]
    disable_triggers: bool,
    /// Which roles to create first: those that are missing, all that were dumped with their passwords and settings, or none
    #[arg(long, value_name = "WHICH", default_value = "missing", help_heading = DATABASES, value_enum)]
    #[arg(hide_possible_values = true)]
    globals: WhichGlobals,
    /// Give everything to the user who restores
    #[arg(long, help_heading = DATABASES)]
    no_owner: bool,
    /// Leave privileges out
    #[arg(long, help_heading = DATABASES)]
    no_privileges: bool,
    /// Put everything into the usual tablespace
    #[arg(long, help_heading = DATABASES)]
    no_tablespaces: bool,
    /// Go on after errors of the database; the exit code is 3 then
    #[arg(long, help_heading = DATABASES)]
    ignore_errors: bool,
    /// Streams to load side by side
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = DATABASES)]
    jobs: usize,
    /// Read and verify everything that is needed before the server is touched
    #[arg(long, help_heading = DATABASES)]
    verify_first: bool,
    /// Take no snapshot of the database that is there before it is replaced or changed
    #[arg(long, help_heading = DATABASES)]
    no_safety_snapshot: bool,
    /// The database to connect to while others are created and renamed [default: postgres]
    #[arg(long, value_name = "DATABASE", help_heading = DATABASES)]
    maintenance_db: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long, help_heading = DATABASES)]
    pub(super) dry_run: bool,
    /// Make users and what they may as they were; those who are there stay, but for Redis's (PostgreSQL has --globals)
    #[arg(long, help_heading = DATABASES)]
    users: bool,
    /// Do not ask before a database is replaced or changed
    #[arg(long, help_heading = DATABASES)]
    pub(super) yes: bool,
    #[command(flatten)]
    client: ClientArgs,
}

const DATABASES: &str = "Databases";
const STANDS: &str = "the database that was there is as it was; what was begun beside it, the next restore drops";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhichGlobals {
    Missing,
    All,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Conflict {
    Fail,
    Skip,
    Update,
}

impl DatabaseArgs {
    /// Returns which rows are to be put back, if only rows are.
    fn rows(&self) -> Result<Option<RowsOptions>, Failure> {
        if self.condition.is_none() && self.on_conflict.is_none() {
            return Ok(None);
        }
        let [table] = &self.tables[..] else {
            return Err(Failure::usage(
                "--where and --on-conflict are for the rows of one table; name it with --table",
            ));
        };
        if self.replace || self.into_existing || self.part.is_some() || !self.schemas.is_empty() {
            return Err(Failure::usage(
                "rows go into the table that is there: leave --replace, --into-existing, --schema and --part out",
            ));
        }
        Ok(Some(RowsOptions {
            table: table.clone(),
            // None stands for all rows.
            condition: self.condition.clone().unwrap_or_default(),
            on_conflict: match self.on_conflict {
                None | Some(Conflict::Fail) => OnConflict::Fail,
                Some(Conflict::Skip) => OnConflict::Skip,
                Some(Conflict::Update) => OnConflict::Update,
            },
        }))
    }

    /// Returns the first flag that was given and means nothing where no database is put back.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = self.given();
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag).or_else(|| self.client.first_given())
    }

    fn given(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("--replace", self.replace),
            ("--undo", self.undo),
            ("--into-existing", self.into_existing),
            ("--schema", !self.schemas.is_empty()),
            ("--table", !self.tables.is_empty()),
            ("--drop-old", self.drop_old),
            ("--where", self.condition.is_some()),
            ("--on-conflict", self.on_conflict.is_some()),
            ("--disconnect", self.disconnect),
            ("--part", self.part.is_some()),
            ("--disable-triggers", self.disable_triggers),
            ("--no-owner", self.no_owner),
            ("--no-privileges", self.no_privileges),
            ("--no-tablespaces", self.no_tablespaces),
            ("--ignore-errors", self.ignore_errors),
            ("--jobs", self.jobs != 1),
            ("--users", self.users),
            ("--verify-first", self.verify_first),
            ("--no-safety-snapshot", self.no_safety_snapshot),
            ("--maintenance-db", self.maintenance_db.is_some()),
            ("--dry-run", self.dry_run),
            ("--yes", self.yes),
        ]
    }

    /// Returns whether what is there is to be replaced.
    pub fn is_to_replace(&self) -> bool {
        self.replace
    }

    /// Returns whether what was replaced is dropped.
    pub(super) fn drops_old(&self) -> bool {
        self.drop_old
    }

    /// Returns the tables that are restored alone.
    pub(super) fn tables(&self) -> &[String] {
        &self.tables
    }

    /// Returns whether users are made as they were.
    pub(super) fn makes_users(&self) -> bool {
        self.users
    }

    /// Returns how the client reaches a server, as far as the flags are those of all servers.
    pub(super) fn client(&self) -> &ClientArgs {
        &self.client
    }

    /// Returns whether everything is verified before the server is touched, and whether it is backed up before it is changed.
    pub(super) fn is_careful(&self) -> (bool, bool) {
        (self.verify_first, !self.no_safety_snapshot)
    }

    /// Returns the tables that are chosen, and whether only definitions are.
    ///
    /// # Errors
    /// Rows without definitions are asked for, which this kind of database does not do.
    pub(super) fn tables_and_part(&self, kind: &str) -> Result<(Vec<String>, bool), Failure> {
        match self.part {
            Some(crate::sources::Part::Data) => {
                Err(Failure::usage(format!("{kind} takes rows with their tables; leave --part data out")))
            }
            part => Ok((self.tables.clone(), part.is_some())),
        }
    }

    /// Returns the first flag that was given and means nothing for other servers than PostgreSQL's.
    pub(super) fn first_of_postgres(&self) -> Option<&'static str> {
        let common = ["--replace", "--users", "--verify-first", "--no-safety-snapshot", "--dry-run", "--yes"];
        self.first_of_those_but(&common).or_else(|| self.client.first_of_postgres())
    }

    /// Returns the first flag that was given and means a part of one database.
    pub(super) fn first_of_one(&self) -> Option<&'static str> {
        let of_one = ["--undo", "--schema", "--table", "--part", "--into-existing"];
        let given = self.given();
        given.iter().find(|(flag, is_given)| *is_given && of_one.contains(flag)).map(|(flag, _)| *flag)
    }

    /// Returns the first flag that was given, but for these.
    pub(super) fn first_but(&self, common: &[&str]) -> Option<&'static str> {
        self.first_of_those_but(common).or_else(|| self.client.first_given())
    }

    /// As [`DatabaseArgs::first_but`], where tools of a database are run: how they are run is not among the flags.
    pub(super) fn first_flag_but(&self, common: &[&str]) -> Option<&'static str> {
        self.first_of_those_but(common)
    }

    fn first_of_those_but(&self, common: &[&str]) -> Option<&'static str> {
        let given = self.given();
        given.iter().find(|(flag, is_given)| *is_given && !common.contains(flag)).map(|(flag, _)| *flag)
    }

    fn options(&self) -> Result<PostgresRestoreOptions, Failure> {
        Ok(PostgresRestoreOptions {
            client: self.client.options()?,
            place: match (self.replace || self.undo, self.into_existing) {
                (true, _) => Place::Replace,
                (_, true) => Place::Existing,
                _ => Place::New,
            },
            drop_old: self.drop_old,
            disconnect: self.disconnect,
            globals: match self.globals {
                WhichGlobals::Missing => Globals::Missing,
                WhichGlobals::All => Globals::All,
                WhichGlobals::None => Globals::None,
            },
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            no_tablespaces: self.no_tablespaces,
            ignore_errors: self.ignore_errors,
            jobs: self.jobs,
            part: part_of(self.part),
            disable_triggers: self.disable_triggers,
            schemas: self.schemas.clone(),
            tables: self.tables.clone(),
            verify_first: self.verify_first,
            safety_snapshot: !self.no_safety_snapshot,
            by: user_at_host(),
            maintenance_database: self.maintenance_db.clone(),
        })
    }
}

/// Returns the URL of a database, if that is where a restore goes.
pub fn url(to: &Path) -> Option<&str> {
    to.to_str().filter(|to| ["postgres://", "postgresql://"].iter().any(|scheme| to.starts_with(scheme)))
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs, url: &str) -> Outcome {
    if !args.streams.is_empty() || args.keep_going || args.force {
        return Err(Failure::usage("--stream, --force and --keep-going are for files; see --help for databases"));
    }
    if args.database.users {
        return Err(Failure::usage("--users is not for PostgreSQL, whose roles come with --globals"));
    }
    let way = ToPostgres::new(args, url)?;
    if args.database.undo {
        return rows::undo(context, args, &way.restore);
    }
    if let Some(rows) = args.database.rows()? {
        return rows::put_rows(context, args, &way.restore, &rows);
    }
    way::one(context, args, &way)
}

/// The way back into a database of PostgreSQL.
pub(super) struct ToPostgres {
    restore: PostgresRestore,
    /// Whether a database that is there may be replaced or changed.
    may_change: bool,
}

impl ToPostgres {
    /// Creates a way.
    ///
    /// # Errors
    /// The URL or the options can't be.
    pub fn new(args: &RestoreArgs, url: &str) -> Result<Self, Failure> {
        let database = &args.database;
        let restore = PostgresRestore::new(url, database.options()?)?;
        Ok(ToPostgres { restore, may_change: database.replace || database.into_existing })
    }
}

#[async_trait(?Send)]
impl Way for ToPostgres {
    fn turn(&self) -> Turn {
        Turn::Postgres
    }

    fn stands(&self) -> &'static str {
        STANDS
    }

    fn folder(&self, snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
        prefix(snapshot, only)
    }

    async fn plan<'a>(&'a self, part: &'a Part<'a>) -> Result<Box<dyn Plan + 'a>, Failure> {
        let plan = self.restore.plan(part.repository, part.snapshot, &part.prefix).await?;
        Ok(Box::new(Planned { way: self, part, plan }))
    }
}

struct Planned<'a> {
    way: &'a ToPostgres,
    part: &'a Part<'a>,
    plan: PostgresPlan,
}

impl Planned<'_> {
    fn takes(&self) -> String {
        self.part.takes_at_least(&self.plan.host, self.plan.bytes)
    }
}

#[async_trait(?Send)]
impl Plan for Planned<'_> {
    fn facts(&self) -> Facts {
        Facts {
            place: format!("{}/{}", self.plan.host, self.plan.database),
            host: self.plan.host.clone(),
            bytes: self.plan.bytes,
            changes: self.way.may_change && self.plan.existing.is_some(),
        }
    }

    fn to_text(&self) -> String {
        plan_to_text(&self.plan, &self.takes())
    }

    fn to_json(&self) -> serde_json::Value {
        plan_to_json(&self.plan, &self.takes())
    }

    async fn carry_out(&self, meter: &Meter) -> Result<Done, Failure> {
        let Part { repository, snapshot, prefix } = self.part;
        let started = Instant::now();
        let restored = self.way.restore.run(repository, snapshot, prefix, meter).await?;
        Ok(Done {
            text: to_text(&self.plan, &restored, started.elapsed()),
            json: to_json(&self.plan, &restored),
            bytes: restored.bytes,
            warnings: restored.warnings,
            problems: restored.problems,
            exit: if restored.errors_n == 0 { Exit::Done } else { Exit::Doubtful },
        })
    }
}

/// Returns the folder of the database in the snapshot.
pub(super) fn prefix(snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
    let folders: Vec<&str> = snapshot
        .record
        .streams
        .iter()
        .filter_map(|stream| stream.name.strip_suffix("database.dump"))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'))
        .collect();
    let is_meant =
        |folder: &&&str| only.is_none_or(|only| folder.starts_with(&format!("{}/", only.trim_end_matches('/'))));
    let meant: Vec<&&str> = folders.iter().filter(is_meant).collect();
    let there = || folders.iter().map(|folder| folder.trim_end_matches('/')).collect::<Vec<_>>().join(", ");
    match meant[..] {
        [folder] => Ok((*folder).to_owned()),
        [] if folders.is_empty() => Err(Failure::failed(format!(
            "snapshot {} has no database in it that `dedump backup postgres://…` has dumped; restore its streams to files",
            snapshot.id.short()
        ))),
        [] => {
            Err(Failure::failed(format!("no such database in snapshot {}; there are {}", snapshot.id.short(), there())))
        }
        _ => Err(Failure::usage(format!("which database? choose one with --only: {}", there()))),
    }
}
