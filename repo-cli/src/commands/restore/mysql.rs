//! `dedump restore --to mysql://…`: puts a database of MariaDB's or MySQL's back.

use super::way::{self, Done, Facts, Part, Plan, Turn, Way};
use super::{RestoreArgs, folder};
use crate::context::{Context, user_at_host};
use crate::exit::{Exit, Failure, Outcome};
use crate::mysql::{MYSQL, MysqlClientArgs, is_url};
use crate::progress::Meter;
use crate::{human, output};
use clap::Args;
use dedump_core::{Snapshot, async_trait};
use dedump_engines::mysql::{MysqlPlan, MysqlRestore, MysqlRestoreOptions, MysqlRestored, Place};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How such a database is put back.
#[derive(Debug, Args)]
pub struct MysqlArgs {
    /// Leave out as whom views, triggers, routines and events are run: they are run as the user who restores
    #[arg(long, help_heading = MYSQL)]
    no_definers: bool,
    #[command(flatten)]
    client: MysqlClientArgs,
}

const STANDS: &str = "what was there is as it was; what was begun beside it, the next restore drops";

impl MysqlArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        if self.no_definers { Some("--no-definers") } else { self.client.first_given() }
    }
}

/// Returns the URL, if such a database is to be put back.
pub fn url(to: &Path) -> Option<&str> {
    to.to_str().filter(|to| is_url(to))
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs, url: &str) -> Outcome {
    if !args.streams.is_empty() || args.keep_going || args.force {
        return Err(Failure::usage("--stream, --force and --keep-going are for streams; a database takes --replace"));
    }
    let common = [
        "--replace",
        "--users",
        "--drop-old",
        "--table",
        "--verify-first",
        "--no-safety-snapshot",
        "--dry-run",
        "--yes",
    ];
    let other = args.database.first_flag_but(&common).or_else(|| args.tree.first_given());
    if let Some(flag) = other
        .or_else(|| args.redis.first_given())
        .or_else(|| args.mongo.first_given())
        .or_else(|| args.clickhouse.first_given())
    {
        return Err(Failure::usage(format!("{flag} is not for MariaDB and MySQL; see --help")));
    }
    way::one(context, args, &ToMysql::new(args, url)?)
}

/// The way back into a server of MariaDB's or MySQL's.
pub struct ToMysql {
    restore: MysqlRestore,
}

impl ToMysql {
    /// Creates a way.
    ///
    /// # Errors
    /// The URL or the options can't be.
    pub fn new(args: &RestoreArgs, url: &str) -> Result<Self, Failure> {
        let (mysql, database) = (&args.mysql, &args.database);
        let (verify_first, safety_snapshot) = database.is_careful();
        let options = MysqlRestoreOptions {
            client: mysql.client.options(database.client())?,
            place: if database.is_to_replace() { Place::Replace } else { Place::New },
            drop_old: database.drops_old(),
            tables: database.tables().to_vec(),
            no_definers: mysql.no_definers,
            users: database.makes_users(),
            verify_first,
            safety_snapshot,
            by: user_at_host(),
        };
        Ok(ToMysql { restore: MysqlRestore::new(url, options)? })
    }
}

#[async_trait(?Send)]
impl Way for ToMysql {
    fn turn(&self) -> Turn {
        Turn::Mysql
    }

    fn stands(&self) -> &'static str {
        STANDS
    }

    fn folder(&self, snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
        folder(snapshot, only, "database.json", "mysql://…")
    }

    async fn plan<'a>(&'a self, part: &'a Part<'a>) -> Result<Box<dyn Plan + 'a>, Failure> {
        let plan = self.restore.plan(part.repository, part.snapshot, &part.prefix).await?;
        Ok(Box::new(Planned { way: self, part, plan }))
    }
}

struct Planned<'a> {
    way: &'a ToMysql,
    part: &'a Part<'a>,
    plan: MysqlPlan,
}

#[async_trait(?Send)]
impl Plan for Planned<'_> {
    fn facts(&self) -> Facts {
        Facts {
            place: format!("{}/{}", self.plan.host, self.plan.database),
            host: self.plan.host.clone(),
            bytes: self.plan.bytes,
            changes: self.plan.existing.is_some(),
        }
    }

    fn to_text(&self) -> String {
        plan_to_text(self.part, &self.plan)
    }

    fn to_json(&self) -> serde_json::Value {
        plan_to_json(self.part, &self.plan)
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
            problems: Vec::new(),
            exit: Exit::Done,
        })
    }
}

fn plan_to_text(part: &Part<'_>, plan: &MysqlPlan) -> String {
    let time = plan.time.as_deref().unwrap_or("an unknown time");
    let (streams, rows_n) = (human::counted(plan.streams.len() as u64, "stream"), human::counted(plan.rows_n, "row"));
    let mut rows = vec![
        ("what", format!("{} as of {time}, from snapshot {}", plan.dumped, plan.snapshot.short())),
        ("size", format!("{} in {streams}, {rows_n}", human::bytes(plan.bytes))),
        ("to", format!("{} on {}", plan.database, plan.host)),
        ("takes", part.takes_at_least(&plan.host, plan.bytes)),
    ];
    if let Some(existing) = &plan.existing {
        rows.push(("there", existing.clone()));
        rows.push(("lost", format!("what was changed there since {time}")));
    }
    let mut text = output::facts(&rows);
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("{}. {step}\n", number + 1));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

fn plan_to_json(part: &Part<'_>, plan: &MysqlPlan) -> serde_json::Value {
    json!({
        "snapshot": plan.snapshot.to_string(),
        "time": plan.time,
        "host": plan.host,
        "database": plan.database,
        "dumped": plan.dumped,
        "streams": plan.streams,
        "bytes": plan.bytes,
        "rows": plan.rows_n,
        "takes": part.takes_at_least(&plan.host, plan.bytes),
        "existing": plan.existing,
        "leftovers": plan.leftovers,
        "steps": plan.steps,
        "warnings": plan.warnings,
    })
}

fn to_json(plan: &MysqlPlan, restored: &MysqlRestored) -> serde_json::Value {
    json!({
        "snapshot": plan.snapshot.to_string(),
        "host": plan.host,
        "database": restored.database,
        "streams": restored.streams,
        "bytes": restored.bytes,
        "tables": restored.tables_n,
        "rows": restored.rows_n,
        "users": restored.users,
        "kept": restored.kept,
        "safety_snapshot": restored.safety_snapshot.map(|id| id.to_string()),
        "warnings": restored.warnings,
    })
}

fn to_text(plan: &MysqlPlan, restored: &MysqlRestored, took: Duration) -> String {
    let streams = human::counted(restored.streams.len() as u64, "stream");
    let (bytes, rate) = (human::bytes(restored.bytes), human::rate(restored.bytes, took));
    let (tables, rows_n) = (human::counted(restored.tables_n, "table"), human::counted(restored.rows_n, "row"));
    let mut rows = vec![
        ("database", format!("{} on {}", restored.database, plan.host)),
        ("as of", plan.time.clone().unwrap_or_else(|| "an unknown time".to_owned())),
        ("from", format!("snapshot {} of {}", plan.snapshot.short(), plan.dumped)),
        ("read", format!("{streams}, {bytes}, in {}, {rate}", human::duration(took))),
        ("counted", format!("{tables} with {rows_n}, as many as were dumped")),
    ];
    if !restored.users.is_empty() {
        rows.push(("users", format!("made {}", restored.users.join(", "))));
    }
    if let Some(kept) = &restored.kept {
        rows.push(("before it", format!("is in {kept} now; drop it when you need it no more")));
    }
    if let Some(id) = restored.safety_snapshot {
        rows.push(("and as", format!("snapshot {}, which is held; `dedump release` lets it go", id.short())));
    }
    output::facts(&rows)
}
