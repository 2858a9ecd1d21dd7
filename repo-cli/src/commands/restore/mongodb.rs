//! `dedump restore --to mongodb://…`: puts collections back.

use super::way::{self, Done, Facts, Part, Plan, Turn, Way};
use super::{RestoreArgs, folder};
use crate::context::{Context, user_at_host};
use crate::exit::{Exit, Failure, Outcome};
use crate::mongo::{MONGO, MongoClientArgs, is_url};
use crate::progress::Meter;
use crate::{human, output, time};
use clap::Args;
use dedump_core::{Snapshot, async_trait};
use dedump_engines::mongodb::{MongoPlan, MongoRestore, MongoRestoreOptions, MongoRestored, Place};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How collections are put back.
#[derive(Debug, Args)]
pub struct MongoArgs {
    /// Restore this collection alone, as shop.orders; may be repeated
    #[arg(long = "collection", value_name = "DATABASE.COLLECTION", help_heading = MONGO)]
    collections: Vec<String>,
    /// Restore this database alone
    #[arg(long, value_name = "DATABASE", help_heading = MONGO)]
    from_database: Option<String>,
    #[command(flatten)]
    client: MongoClientArgs,
}

const STANDS: &str = "collections that were complete are there, the others as they were or in part";
/// Collections of a plan that are shown, at most.
const SHOWN_MAX: usize = 20;

impl MongoArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [("--collection", !self.collections.is_empty()), ("--from-database", self.from_database.is_some())];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag).or_else(|| self.client.first_given())
    }
}

/// Returns the URL, if collections are to be put back.
pub fn url(to: &Path) -> Option<&str> {
    to.to_str().filter(|to| is_url(to))
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs, url: &str) -> Outcome {
    if !args.streams.is_empty() || args.keep_going || args.force {
        return Err(Failure::usage("--stream, --force and --keep-going are for streams; a database takes --replace"));
    }
    let common = ["--replace", "--users", "--verify-first", "--no-safety-snapshot", "--dry-run", "--yes"];
    let other = args.database.first_flag_but(&common).or_else(|| args.tree.first_given());
    if let Some(flag) = other.or_else(|| args.redis.first_given()) {
        return Err(Failure::usage(format!("{flag} is not for MongoDB; see --help")));
    }
    way::one(context, args, &ToMongo::new(args, url)?)
}

/// The way back into a server of MongoDB.
pub struct ToMongo {
    restore: MongoRestore,
}

impl ToMongo {
    /// Creates a way.
    ///
    /// # Errors
    /// The URL or the options can't be.
    pub fn new(args: &RestoreArgs, url: &str) -> Result<Self, Failure> {
        let (mongo, database) = (&args.mongo, &args.database);
        let (verify_first, safety_snapshot) = database.is_careful();
        let options = MongoRestoreOptions {
            client: mongo.client.options(database.client())?,
            place: if database.is_to_replace() { Place::Replace } else { Place::New },
            from_database: mongo.from_database.clone(),
            collections: mongo.collections.clone(),
            users: database.makes_users(),
            verify_first,
            safety_snapshot,
            by: user_at_host(),
        };
        Ok(ToMongo { restore: MongoRestore::new(url, options)? })
    }
}

#[async_trait(?Send)]
impl Way for ToMongo {
    fn turn(&self) -> Turn {
        Turn::Mongo
    }

    fn stands(&self) -> &'static str {
        STANDS
    }

    fn folder(&self, snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
        folder(snapshot, only, "prelude.json", "mongodb://…")
    }

    async fn plan<'a>(&'a self, part: &'a Part<'a>) -> Result<Box<dyn Plan + 'a>, Failure> {
        let plan = self.restore.plan(part.repository, part.snapshot, &part.prefix).await?;
        Ok(Box::new(Planned { way: self, part, plan }))
    }
}

struct Planned<'a> {
    way: &'a ToMongo,
    part: &'a Part<'a>,
    plan: MongoPlan,
}

#[async_trait(?Send)]
impl Plan for Planned<'_> {
    fn facts(&self) -> Facts {
        Facts {
            place: self.plan.place.clone(),
            host: self.plan.place.clone(),
            bytes: self.plan.bytes,
            changes: self.plan.collections.iter().any(|collection| collection.is_there),
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

fn plan_to_text(part: &Part<'_>, plan: &MongoPlan) -> String {
    let collections = human::counted(plan.collections.len() as u64, "collection");
    let as_of = time::for_people(part.snapshot.record.started_ms);
    let mut rows = vec![
        ("what", format!("{collections} as of {as_of}, from snapshot {}", part.snapshot.id.short())),
        ("size", human::bytes(plan.bytes)),
        ("to", plan.place.clone()),
        ("takes", part.takes_at_least(&plan.place, plan.bytes)),
    ];
    if plan.safety_snapshot {
        rows.push(("first", "what is there is backed up".to_owned()));
    }
    if plan.replays_oplog {
        rows.push(("at the end", "what was written while the dump ran is replayed".to_owned()));
    }
    let mut text = output::facts(&rows);
    for collection in plan.collections.iter().take(SHOWN_MAX) {
        let there = if collection.is_there { ", which is there and is dropped" } else { "" };
        let (from, to) = (human::safe(&collection.from), human::safe(&collection.to));
        let documents = human::counted(collection.documents_n, "document");
        text.push_str(&format!("{from} with {documents} to {to}{there}\n"));
    }
    if let Some(more_n) = plan.collections.len().checked_sub(SHOWN_MAX).filter(|more_n| *more_n > 0) {
        text.push_str(&format!("and {} more\n", human::count(more_n as u64)));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

fn plan_to_json(part: &Part<'_>, plan: &MongoPlan) -> serde_json::Value {
    let collections = plan.collections.iter().map(|collection| {
        json!({
            "from": collection.from,
            "to": collection.to,
            "documents": collection.documents_n,
            "is_there": collection.is_there,
        })
    });
    json!({
        "snapshot": part.snapshot.id.to_string(),
        "place": plan.place,
        "bytes": plan.bytes,
        "takes": part.takes(&plan.place, plan.bytes),
        "collections": collections.collect::<Vec<_>>(),
        "replays_oplog": plan.replays_oplog,
        "safety_snapshot": plan.safety_snapshot,
        "warnings": plan.warnings,
    })
}

fn to_json(snapshot: &Snapshot, place: &str, restored: &MongoRestored) -> serde_json::Value {
    json!({
        "snapshot": snapshot.id.to_string(),
        "place": place,
        "collections": restored.collections_n,
        "documents": restored.documents_n,
        "bytes": restored.bytes,
        "oplog_replayed": restored.oplog_replayed,
        "safety_snapshots": restored.safety_snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "warnings": restored.warnings,
    })
}

fn to_text(snapshot: &Snapshot, place: &str, restored: &MongoRestored, took: Duration) -> String {
    let collections = human::counted(restored.collections_n, "collection");
    let (documents_n, bytes) = (human::count(restored.documents_n), human::bytes(restored.bytes));
    let mut rows = vec![
        ("server", place.to_owned()),
        ("as of", time::for_people(snapshot.record.started_ms)),
        ("from", format!("snapshot {} of {}", snapshot.id.short(), snapshot.record.source)),
        ("restored", format!("{collections} with {documents_n} documents, {bytes}, in {}", human::duration(took))),
    ];
    if restored.oplog_replayed {
        rows.push(("replayed", "what was written while the dump ran".to_owned()));
    }
    for id in &restored.safety_snapshots {
        rows.push(("before it", format!("is snapshot {}, which is held; `dedump release` lets it go", id.short())));
    }
    output::facts(&rows)
}
