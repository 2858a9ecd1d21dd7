//! `dedump restore --to clickhouse://…`: puts tables, views and what belongs to them back.

use super::way::{self, Done, Facts, Part, Plan, Turn, Way};
use super::{RestoreArgs, folder};
use crate::clickhouse::{CLICKHOUSE, ClickHouseClientArgs, is_url};
use crate::context::{Context, user_at_host};
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Meter;
use crate::{human, output, time};
use clap::Args;
use dedump_core::{Snapshot, async_trait};
use dedump_engines::clickhouse::{
    ClickHousePlan, ClickHouseRestore, ClickHouseRestoreOptions, ClickHouseRestored, PlannedTable,
};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How tables are put back.
#[derive(Debug, Args)]
pub struct ClickHouseArgs {
    /// Restore only the partition of this id, of the one table that --table names; may be repeated. With --replace the others stay
    #[arg(long = "partition", value_name = "ID", help_heading = CLICKHOUSE, requires = "tables")]
    partitions: Vec<String>,
    /// Make replicated tables such as need no Keeper
    #[arg(long, help_heading = CLICKHOUSE)]
    unreplicated: bool,
    #[command(flatten)]
    client: ClickHouseClientArgs,
}

const STANDS: &str = "tables that were not replaced are as they were, and the next restore drops what was begun aside";
/// Tables of a plan that are shown, at most.
const SHOWN_MAX: usize = 20;

impl ClickHouseArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [("--partition", !self.partitions.is_empty()), ("--unreplicated", self.unreplicated)];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag).or_else(|| self.client.first_given())
    }
}

/// Returns the URL, if tables of ClickHouse are to be put back.
pub fn url(to: &Path) -> Option<&str> {
    to.to_str().filter(|to| is_url(to))
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs, url: &str) -> Outcome {
    if !args.streams.is_empty() || args.keep_going || args.force {
        return Err(Failure::usage("--stream, --force and --keep-going are for streams; a database takes --replace"));
    }
    let common =
        ["--replace", "--users", "--table", "--part", "--verify-first", "--no-safety-snapshot", "--dry-run", "--yes"];
    let other = args.database.first_flag_but(&common).or_else(|| args.tree.first_given());
    if let Some(flag) = other.or_else(|| args.redis.first_given()).or_else(|| args.mongo.first_given()) {
        return Err(Failure::usage(format!("{flag} is not for ClickHouse; see --help")));
    }
    way::one(context, args, &ToClickHouse::new(args, url)?)
}

/// The way back into a server of ClickHouse.
pub struct ToClickHouse {
    restore: ClickHouseRestore,
}

impl ToClickHouse {
    /// Creates a way.
    ///
    /// # Errors
    /// The URL or the options can't be.
    pub fn new(args: &RestoreArgs, url: &str) -> Result<Self, Failure> {
        let (clickhouse, database) = (&args.clickhouse, &args.database);
        let (verify_first, safety_snapshot) = database.is_careful();
        let (tables, is_schema) = database.tables_and_part("ClickHouse")?;
        let options = ClickHouseRestoreOptions {
            client: clickhouse.client.options(database.client())?,
            replace: database.is_to_replace(),
            tables,
            partitions: clickhouse.partitions.clone(),
            schema_only: is_schema,
            unreplicated: clickhouse.unreplicated,
            access: database.makes_users(),
            verify_first,
            safety_snapshot,
            by: user_at_host(),
            ..ClickHouseRestoreOptions::default()
        };
        Ok(ToClickHouse { restore: ClickHouseRestore::new(url, options)? })
    }
}

#[async_trait(?Send)]
impl Way for ToClickHouse {
    fn turn(&self) -> Turn {
        Turn::ClickHouse
    }

    fn stands(&self) -> &'static str {
        STANDS
    }

    fn folder(&self, snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
        folder(snapshot, only, "schema.jsonl", "clickhouse://…")
    }

    async fn plan<'a>(&'a self, part: &'a Part<'a>) -> Result<Box<dyn Plan + 'a>, Failure> {
        let plan = self.restore.plan(part.repository, part.snapshot, &part.prefix).await?;
        Ok(Box::new(Planned { way: self, part, plan }))
    }
}

struct Planned<'a> {
    way: &'a ToClickHouse,
    part: &'a Part<'a>,
    plan: ClickHousePlan,
}

#[async_trait(?Send)]
impl Plan for Planned<'_> {
    fn facts(&self) -> Facts {
        Facts {
            place: self.plan.place.clone(),
            host: self.plan.place.clone(),
            bytes: self.plan.bytes,
            changes: self.plan.changes,
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
            text: to_text(snapshot, &self.plan.place, &restored, started.elapsed()),
            json: to_json(snapshot, &self.plan.place, &restored),
            bytes: restored.bytes,
            warnings: restored.warnings,
            problems: Vec::new(),
            exit: Exit::Done,
        })
    }
}

fn plan_to_text(part: &Part<'_>, plan: &ClickHousePlan) -> String {
    let tables = human::counted(plan.tables.len() as u64, "table");
    let as_of = time::for_people(part.snapshot.record.started_ms);
    let mut rows = vec![
        ("what", format!("{tables} as of {as_of}, from snapshot {}", part.snapshot.id.short())),
        ("size", human::bytes(plan.bytes)),
        ("to", plan.place.clone()),
        ("takes", part.takes_at_least(&plan.place, plan.bytes)),
    ];
    if plan.safety_snapshot {
        rows.push(("first", "what is there is backed up".to_owned()));
    }
    if !plan.others.is_empty() {
        rows.push(("besides", human::safe(&plan.others.join(", "))));
    }
    let mut text = output::facts(&rows);
    plan.tables.iter().take(SHOWN_MAX).for_each(|table| text.push_str(&table_to_text(table)));
    if let Some(more_n) = plan.tables.len().checked_sub(SHOWN_MAX).filter(|more_n| *more_n > 0) {
        text.push_str(&format!("and {} more\n", human::count(more_n as u64)));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

fn table_to_text(table: &PlannedTable) -> String {
    let rows = table.rows.map_or_else(|| "rows".to_owned(), |rows| human::counted(rows, "row"));
    let there = match (table.replaces, table.rows_there) {
        (false, _) => String::new(),
        (true, None) => ", which is there and is replaced".to_owned(),
        (true, Some(rows)) => format!(", which is there with {} and is replaced", human::counted(rows, "row")),
    };
    format!("{} with {rows} to {}{there}\n", human::safe(&table.from), human::safe(&table.to))
}

fn plan_to_json(part: &Part<'_>, plan: &ClickHousePlan) -> serde_json::Value {
    let tables = plan.tables.iter().map(|table| {
        json!({
            "from": table.from,
            "to": table.to,
            "rows": table.rows,
            "bytes": table.bytes,
            "partitions": table.partitions_n,
            "replaces": table.replaces,
            "rows_there": table.rows_there,
        })
    });
    json!({
        "snapshot": part.snapshot.id.to_string(),
        "place": plan.place,
        "bytes": plan.bytes,
        "takes": part.takes(&plan.place, plan.bytes),
        "tables": tables.collect::<Vec<_>>(),
        "others": plan.others,
        "safety_snapshot": plan.safety_snapshot,
        "warnings": plan.warnings,
    })
}

fn to_json(snapshot: &Snapshot, place: &str, restored: &ClickHouseRestored) -> serde_json::Value {
    json!({
        "snapshot": snapshot.id.to_string(),
        "place": place,
        "tables": restored.tables_n,
        "replaced": restored.replaced_n,
        "others": restored.others_n,
        "rows": restored.rows,
        "bytes": restored.bytes,
        "access": restored.access_n,
        "safety_snapshot": restored.safety_snapshot.map(|id| id.to_string()),
        "warnings": restored.warnings,
    })
}

fn to_text(snapshot: &Snapshot, place: &str, restored: &ClickHouseRestored, took: Duration) -> String {
    let tables = human::counted(restored.tables_n, "table");
    let (rows_n, bytes) = (human::counted(restored.rows, "row"), human::bytes(restored.bytes));
    let mut rows = vec![
        ("server", place.to_owned()),
        ("as of", time::for_people(snapshot.record.started_ms)),
        ("from", format!("snapshot {} of {}", snapshot.id.short(), snapshot.record.source)),
        ("restored", format!("{tables} with {rows_n}, counted, {bytes}, in {}", human::duration(took))),
    ];
    if restored.others_n > 0 {
        rows.push(("besides", format!("views, dictionaries and the like: {}", human::count(restored.others_n))));
    }
    if restored.access_n > 0 {
        rows.push(("access", format!("statements: {}", human::count(restored.access_n))));
    }
    if let Some(id) = restored.safety_snapshot {
        rows.push(("before it", format!("is snapshot {}, which is held; `dedump release` lets it go", id.short())));
    }
    output::facts(&rows)
}
