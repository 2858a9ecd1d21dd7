//! `dedump restore --to postgres://…`: puts a database back.

use super::{RestoreArgs, rows};
use crate::context::{Context, user_at_host};
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Work;
use crate::sources::{ClientArgs, Part, part_of};
use crate::{human, output};
use clap::{Args, ValueEnum};
use dedump_core::{Snapshot, find};
use dedump_engines::postgres::{
    Globals, OnConflict, Place, PostgresPlan, PostgresRestore, PostgresRestoreOptions, PostgresRestored, RowsOptions,
};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

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
    /// Load the schemas or tables into the database that is there
    #[arg(long, help_heading = DATABASES, conflicts_with = "replace")]
    into_existing: bool,
    /// Restore this schema alone; may be repeated
    #[arg(long = "schema", value_name = "SCHEMA", help_heading = DATABASES)]
    schemas: Vec<String>,
    /// Restore this table alone; may be repeated
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
    part: Option<Part>,
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
        let given = [
            ("--replace", self.replace),
            ("--undo", self.undo),
            ("--into-existing", self.into_existing),
            ("--schema", !self.schemas.is_empty()),
            ("--table", !self.tables.is_empty()),
            ("--drop-old", self.drop_old),
            ("--disconnect", self.disconnect),
            ("--part", self.part.is_some()),
            ("--no-owner", self.no_owner),
            ("--no-privileges", self.no_privileges),
            ("--no-tablespaces", self.no_tablespaces),
            ("--ignore-errors", self.ignore_errors),
            ("--jobs", self.jobs != 1),
            ("--verify-first", self.verify_first),
            ("--no-safety-snapshot", self.no_safety_snapshot),
            ("--maintenance-db", self.maintenance_db.is_some()),
            ("--dry-run", self.dry_run),
            ("--yes", self.yes),
        ];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag).or_else(|| self.client.first_given())
    }

    /// Returns whether what is there is to be replaced.
    pub fn is_to_replace(&self) -> bool {
        self.replace
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
    let database = &args.database;
    let restore = PostgresRestore::new(url, database.options()?)?;
    if database.undo {
        return rows::undo(context, args, &restore);
    }
    if let Some(rows) = database.rows()? {
        return rows::put_rows(context, args, &restore, &rows);
    }
    let started = Instant::now();
    let done = context.with_repository(STANDS, async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let prefix = prefix(&snapshot, args.only.as_deref())?;
        let plan = restore.plan(&repository, &snapshot, &prefix).await?;
        if database.dry_run || args.plan {
            return Ok((plan, None));
        }
        if (database.replace || database.into_existing) && plan.existing.is_some() && !database.yes {
            confirm(plan_to_text(&plan).trim_end(), &format!("{}/{}", plan.host, plan.database)).await?;
        }
        let meter = context.started_meter(Work::Restore(plan.bytes));
        let restored = restore.run(&repository, &snapshot, &prefix, &meter).await?;
        Ok((plan, Some(restored)))
    })?;
    let (plan, restored) = done;
    let Some(restored) = restored else {
        context.print(|| plan_to_json(&plan), || plan_to_text(&plan))?;
        return Ok(Exit::Done);
    };
    restored.warnings.iter().for_each(|warning| output::warning(warning));
    restored.problems.iter().for_each(|problem| output::error(problem));
    context.report(|| to_json(&plan, &restored), || to_text(&plan, &restored, started.elapsed()))?;
    Ok(if restored.errors_n == 0 { Exit::Done } else { Exit::Doubtful })
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

/// Asks for the name of what will be replaced or changed.
pub(super) async fn confirm(what: &str, expected: &str) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::usage(format!(
            "{expected} would be replaced or changed, and there is no terminal to ask on; look at it with --dry-run, and say --yes"
        )));
    }
    output::stderr_line(what);
    output::stderr_bytes(format!("type {expected} to go on: ").as_bytes());
    let (sender, answer) = tokio::sync::oneshot::channel();
    // A thread of its own: one of the runtime's would be waited for after Ctrl-C.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).map(|_| line);
        // What can't be read is not what was asked for; and nobody waits any more if it was interrupted.
        let _ = sender.send(read.unwrap_or_default());
    });
    match answer.await {
        Ok(line) if line.trim() == expected => Ok(()),
        _ => Err(Failure::failed(format!("that is not {expected}; nothing was changed"))),
    }
}

fn plan_to_text(plan: &PostgresPlan) -> String {
    let time = plan.time.as_deref().unwrap_or("an unknown time");
    let (streams, rows_n) = (human::counted(plan.streams.len() as u64, "stream"), human::counted(plan.rows_n, "row"));
    let mut rows = vec![
        ("what", format!("{} as of {time}, from snapshot {}", plan.dumped, plan.snapshot.short())),
        ("size", format!("{} in {streams}, {rows_n}", human::bytes(plan.bytes))),
        ("to", format!("{} on {}", plan.database, plan.host)),
    ];
    if let Some(existing) = &plan.existing {
        let bytes = plan.existing_bytes.map(|bytes| format!("{}, ", human::bytes(bytes)));
        rows.push(("there", bytes.unwrap_or_default() + existing));
        rows.push(("lost", format!("what was changed there since {time}")));
    }
    let mut text = output::facts(&rows);
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("{}. {step}\n", number + 1));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

fn plan_to_json(plan: &PostgresPlan) -> serde_json::Value {
    json!({
        "snapshot": plan.snapshot.to_string(),
        "time": plan.time,
        "host": plan.host,
        "database": plan.database,
        "dumped": plan.dumped,
        "streams": plan.streams,
        "bytes": plan.bytes,
        "rows": plan.rows_n,
        "roles": plan.roles,
        "existing": plan.existing,
        "existing_bytes": plan.existing_bytes,
        "leftovers": plan.leftovers,
        "steps": plan.steps,
        "warnings": plan.warnings,
    })
}

fn to_json(plan: &PostgresPlan, restored: &PostgresRestored) -> serde_json::Value {
    json!({
        "snapshot": plan.snapshot.to_string(),
        "host": plan.host,
        "database": restored.database,
        "streams": restored.streams,
        "bytes": restored.bytes,
        "tables": restored.tables_n,
        "rows": restored.rows_n,
        "roles": restored.roles,
        "kept": restored.kept,
        "safety_snapshot": restored.safety_snapshot.map(|id| id.to_string()),
        "errors": restored.errors_n,
        "problems": restored.problems,
        "warnings": restored.warnings,
    })
}

fn to_text(plan: &PostgresPlan, restored: &PostgresRestored, took: Duration) -> String {
    let mut rows = vec![
        ("database", format!("{} on {}", restored.database, plan.host)),
        ("as of", plan.time.clone().unwrap_or_else(|| "an unknown time".to_owned())),
        ("from", format!("snapshot {} of {}", plan.snapshot.short(), plan.dumped)),
        (
            "read",
            format!(
                "{}, {}, in {}, {}",
                human::counted(restored.streams.len() as u64, "stream"),
                human::bytes(restored.bytes),
                human::duration(took),
                human::rate(restored.bytes, took)
            ),
        ),
    ];
    if restored.tables_n > 0 {
        let (tables, rows_n) = (human::counted(restored.tables_n, "table"), human::count(restored.rows_n));
        rows.push(("counted", format!("{tables} with {rows_n} rows, as many as were dumped")));
    }
    if !restored.roles.is_empty() {
        rows.push(("roles", format!("created {}", restored.roles.join(", "))));
    }
    if let Some(kept) = &restored.kept {
        rows.push(("before it", format!("is called {kept} now; drop it when you need it no more")));
    }
    if let Some(id) = restored.safety_snapshot {
        rows.push(("and as", format!("snapshot {}, which is held; `dedump release` lets it go", id.short())));
    }
    output::facts(&rows)
}
