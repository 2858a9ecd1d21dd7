//! `dedump restore --to redis://…` and `--to rdb:…`: puts keys back, or gives an RDB file.

use super::way::{self, Done, Facts, Part, Plan, Turn, Way};
use super::{RestoreArgs, folder};
use crate::context::{Context, user_at_host};
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::{Meter, Work};
use crate::redis::{REDIS, RedisClientArgs, is_url};
use crate::{human, output, time};
use clap::{Args, ValueEnum};
use dedump_core::{Existing, Snapshot, async_trait, find};
use dedump_engines::redis::{
    OnConflict, Place, RedisFileOptions, RedisFileRestored, RedisPlan, RedisRestore, RedisRestoreOptions,
    RedisRestored, restore_file,
};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// How keys are put back.
#[derive(Debug, Args)]
pub struct RedisArgs {
    /// Restore only keys that begin with this; may be repeated
    #[arg(long = "key-prefix", value_name = "PREFIX", help_heading = REDIS)]
    key_prefixes: Vec<String>,
    /// Restore only the database of this number
    #[arg(long, value_name = "NUMBER", help_heading = REDIS)]
    from_db: Option<u64>,
    /// Restore that one database under this number
    #[arg(long, value_name = "NUMBER", help_heading = REDIS)]
    to_db: Option<u64>,
    /// Put keys beside those that are there; of one that is there already: fail, skip (it stays) or replace
    #[arg(long, value_name = "WHAT", help_heading = REDIS, value_enum, hide_possible_values = true, conflicts_with = "replace")]
    merge: Option<Merge>,
    /// Restore no functions
    #[arg(long, help_heading = REDIS)]
    no_functions: bool,
    /// Have the server save itself to its disk at the end, and wait for that
    #[arg(long, help_heading = REDIS)]
    save: bool,
    /// Give the bytes that the server had sent, from a backup that was made with --exact-rdb
    #[arg(long, help_heading = REDIS)]
    original: bool,
    #[command(flatten)]
    client: RedisClientArgs,
}

const STANDS: &str = "what was begun aside, the next restore clears away";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Merge {
    Fail,
    Skip,
    Replace,
}

/// Where keys go.
pub enum Target<'a> {
    Server(&'a str),
    File(&'a Path),
}

/// Returns where keys go, if that is what is restored.
pub fn target(to: &Path) -> Option<Target<'_>> {
    let text = to.to_str()?;
    match text.strip_prefix("rdb:") {
        Some(file) => Some(Target::File(Path::new(file))),
        None => is_url(text).then_some(Target::Server(text)),
    }
}

impl RedisArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let of_files = [("--original", self.original)];
        let first = of_files.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag);
        first.or_else(|| self.first_of_servers())
    }

    /// Returns the first flag that was given and means nothing for a file.
    fn first_of_servers(&self) -> Option<&'static str> {
        let given = [
            ("--key-prefix", !self.key_prefixes.is_empty()),
            ("--from-db", self.from_db.is_some()),
            ("--to-db", self.to_db.is_some()),
            ("--merge", self.merge.is_some()),
            ("--no-functions", self.no_functions),
            ("--save", self.save),
        ];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag).or_else(|| self.client.first_given())
    }
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs, target: Target<'_>) -> Outcome {
    if !args.streams.is_empty() || args.keep_going {
        return Err(Failure::usage("--stream and --keep-going are for files of streams; leave them out"));
    }
    if let Some(flag) = args.database.first_of_postgres().or_else(|| args.tree.first_given()) {
        return Err(Failure::usage(format!("{flag} is not for Redis and Valkey; see --help")));
    }
    match target {
        Target::Server(url) => into_server(context, args, url),
        Target::File(path) => to_file(context, args, path),
    }
}

fn options(args: &RestoreArgs) -> Result<RedisRestoreOptions, Failure> {
    let (redis, database) = (&args.redis, &args.database);
    let (verify_first, safety_snapshot) = database.is_careful();
    Ok(RedisRestoreOptions {
        client: redis.client.options(database.client())?,
        place: match redis.merge {
            _ if database.is_to_replace() => Place::Replace,
            Some(Merge::Fail) => Place::Merge(OnConflict::Fail),
            Some(Merge::Skip) => Place::Merge(OnConflict::Skip),
            Some(Merge::Replace) => Place::Merge(OnConflict::Replace),
            None => Place::Empty,
        },
        key_prefixes: redis.key_prefixes.iter().map(|prefix| prefix.clone().into_bytes()).collect(),
        from_database: redis.from_db,
        to_database: redis.to_db,
        functions: !redis.no_functions,
        users: database.makes_users(),
        verify_first,
        safety_snapshot,
        save: redis.save,
        by: user_at_host(),
        temporary_folder: redis.client.spill_dir(),
    })
}

fn into_server(context: &Context, args: &RestoreArgs, url: &str) -> Outcome {
    if args.force || args.redis.original {
        return Err(Failure::usage(
            "--force and --original are for --to rdb:FILE; a server takes --replace or --merge",
        ));
    }
    way::one(context, args, &ToRedis::new(args, url)?)
}

/// The way back into a server of Redis or Valkey.
pub struct ToRedis {
    restore: RedisRestore,
}

impl ToRedis {
    /// Creates a way.
    ///
    /// # Errors
    /// The URL or the options can't be.
    pub fn new(args: &RestoreArgs, url: &str) -> Result<Self, Failure> {
        Ok(ToRedis { restore: RedisRestore::new(url, options(args)?)? })
    }
}

#[async_trait(?Send)]
impl Way for ToRedis {
    fn turn(&self) -> Turn {
        Turn::Redis
    }

    fn stands(&self) -> &'static str {
        STANDS
    }

    fn folder(&self, snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
        folder(snapshot, only, "database.rdb", "redis://…")
    }

    async fn plan<'a>(&'a self, part: &'a Part<'a>) -> Result<Box<dyn Plan + 'a>, Failure> {
        let plan = self.restore.plan(part.repository, part.snapshot, &part.prefix).await?;
        Ok(Box::new(Planned { way: self, part, plan }))
    }
}

struct Planned<'a> {
    way: &'a ToRedis,
    part: &'a Part<'a>,
    plan: RedisPlan,
}

#[async_trait(?Send)]
impl Plan for Planned<'_> {
    fn facts(&self) -> Facts {
        Facts {
            place: self.plan.place.clone(),
            host: self.plan.place.clone(),
            bytes: self.plan.bytes,
            changes: self.plan.databases.iter().any(|database| database.keys_there_n > 0),
        }
    }

    fn to_text(&self) -> String {
        let takes = self.part.takes_at_least(&self.plan.place, self.plan.bytes);
        plan_to_text(self.part.snapshot, &self.plan, &takes)
    }

    fn to_json(&self) -> serde_json::Value {
        let takes = self.part.takes(&self.plan.place, self.plan.bytes);
        plan_to_json(self.part.snapshot, &self.plan, takes.as_deref())
    }

    async fn carry_out(&self, meter: &Meter) -> Result<Done, Failure> {
        let Part { repository, snapshot, prefix } = self.part;
        let started = Instant::now();
        let restored = self.way.restore.run(repository, snapshot, prefix, meter).await?;
        Ok(Done {
            text: to_text(snapshot, &self.plan.place, &restored, &human::duration(started.elapsed())),
            json: to_json(snapshot, &self.plan.place, &restored),
            bytes: self.plan.bytes,
            warnings: restored.warnings,
            problems: Vec::new(),
            exit: Exit::Done,
        })
    }
}

fn to_file(context: &Context, args: &RestoreArgs, path: &Path) -> Outcome {
    if let Some(flag) = args.redis.first_of_servers().or_else(|| args.database.first_given()) {
        return Err(Failure::usage(format!(
            "{flag} is for a server: --to redis://HOST; a file has everything, and takes --force"
        )));
    }
    if args.plan {
        return Err(Failure::usage("--plan restores nothing; leave --to out, or name a server"));
    }
    let options = RedisFileOptions {
        existing: if args.force { Existing::Replace } else { Existing::Refuse },
        original: args.redis.original,
    };
    let (snapshot, restored) = context.with_repository("no file was written", async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let prefix = folder(&snapshot, args.only.as_deref(), "database.rdb", "redis://…")?;
        let meter = context.started_meter(Work::Restore(0));
        let restored = restore_file(&repository, &snapshot, &prefix, path, &options, &meter).await?;
        Ok((snapshot, restored))
    })?;
    restored.warnings.iter().for_each(|warning| output::warning(warning));
    context.report(|| file_to_json(&snapshot, &restored), || file_to_text(&snapshot, &restored))?;
    Ok(Exit::Done)
}

fn plan_to_text(snapshot: &Snapshot, plan: &RedisPlan, takes: &str) -> String {
    let mut rows = vec![
        ("what", format!("{} as of {}, from snapshot {}", plan.stream, as_of(snapshot), snapshot.id.short())),
        ("size", human::bytes(plan.bytes)),
        ("to", plan.place.clone()),
        ("takes", takes.to_owned()),
    ];
    if plan.safety_snapshot {
        rows.push(("first", "what is there is backed up".to_owned()));
    }
    let mut text = output::facts(&rows);
    for database in &plan.databases {
        let there = match database.keys_there_n {
            0 => "is empty".to_owned(),
            keys_n => format!("has {}", human::counted(keys_n, "key")),
        };
        let way = database.spare.map_or_else(String::new, |spare| format!("; filled as {spare} first, then swapped"));
        let keys = human::counted(database.keys_n, "key");
        text.push_str(&format!("database {} with {keys} to {}, which {there}{way}\n", database.from, database.to));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

fn as_of(snapshot: &Snapshot) -> String {
    time::for_people(snapshot.record.started_ms)
}

fn plan_to_json(snapshot: &Snapshot, plan: &RedisPlan, takes: Option<&str>) -> serde_json::Value {
    let databases = plan.databases.iter().map(|database| {
        json!({
            "from": database.from,
            "to": database.to,
            "keys": database.keys_n,
            "keys_there": database.keys_there_n,
            "spare": database.spare,
        })
    });
    json!({
        "snapshot": snapshot.id.to_string(),
        "place": plan.place,
        "stream": plan.stream,
        "bytes": plan.bytes,
        "takes": takes,
        "databases": databases.collect::<Vec<_>>(),
        "safety_snapshot": plan.safety_snapshot,
        "warnings": plan.warnings,
    })
}

fn to_json(snapshot: &Snapshot, place: &str, restored: &RedisRestored) -> serde_json::Value {
    json!({
        "snapshot": snapshot.id.to_string(),
        "place": place,
        "keys": restored.keys_n,
        "bytes": restored.bytes,
        "skipped": restored.skipped_n,
        "expired": restored.expired_n,
        "functions": restored.functions_n,
        "users": restored.users,
        "swapped": restored.swapped,
        "digest_compared": restored.digest_compared,
        "safety_snapshot": restored.safety_snapshot.map(|id| id.to_string()),
        "warnings": restored.warnings,
    })
}

fn to_text(snapshot: &Snapshot, place: &str, restored: &RedisRestored, took: &str) -> String {
    let mut rows = vec![
        ("server", place.to_owned()),
        ("as of", as_of(snapshot)),
        ("from", format!("snapshot {} of {}", snapshot.id.short(), snapshot.record.source)),
        (
            "restored",
            format!("{}, {}, in {took}", human::counted(restored.keys_n, "key"), human::bytes(restored.bytes)),
        ),
    ];
    let left = [(restored.skipped_n, "there already, and left as they are"), (restored.expired_n, "expired meanwhile")];
    for (keys_n, why) in left.into_iter().filter(|(keys_n, _)| *keys_n > 0) {
        rows.push(("left out", format!("{} {why}", human::counted(keys_n, "key"))));
    }
    if restored.functions_n > 0 {
        rows.push(("functions", format!("libraries: {}", human::count(restored.functions_n))));
    }
    if !restored.users.is_empty() {
        rows.push(("users", restored.users.join(", ")));
    }
    if restored.digest_compared {
        rows.push(("digest", "is what it was when it was backed up".to_owned()));
    }
    if let Some(id) = restored.safety_snapshot {
        rows.push(("before it", format!("is snapshot {}, which is held; `dedump release` lets it go", id.short())));
    }
    output::facts(&rows)
}

fn file_to_json(snapshot: &Snapshot, restored: &RedisFileRestored) -> serde_json::Value {
    json!({
        "snapshot": snapshot.id.to_string(),
        "path": restored.path.display().to_string(),
        "bytes": restored.bytes,
        "procedure": restored.procedure,
        "warnings": restored.warnings,
    })
}

fn file_to_text(snapshot: &Snapshot, restored: &RedisFileRestored) -> String {
    format!(
        "restored {} from snapshot {} to {}\n{}",
        human::bytes(restored.bytes),
        snapshot.id.short(),
        human::safe(&restored.path.display().to_string()),
        restored.procedure
    )
}
