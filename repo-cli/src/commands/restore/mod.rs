//! `dedump restore`: gives streams back.

mod clickhouse;
mod confirm;
mod database;
mod database_report;
mod mongodb;
mod mysql;
mod plan;
mod prices;
mod redis;
mod rows;
mod several;
mod sqlite;
mod stdout;
mod tree;
mod way;

use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Work;
use crate::timings::Route;
use crate::{human, output};
use clap::Args;
use clickhouse::ClickHouseArgs;
use database::DatabaseArgs;
use dedump_core::{Existing, FileTarget, RestoreOptions, RestoreReport, Snapshot, StreamRecord, Target, find, restore};
use dedump_engines::postgres::AsDumped;
use mongodb::MongoArgs;
use mysql::MysqlArgs;
use redis::RedisArgs;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stdout::Stdout;
use tree::TreeArgs;

/// Restore a snapshot to files, standard output or a database
///
/// Every byte is verified before it is handed on, and a file appears under its name only when its whole stream was verified.
/// Existing files are left alone unless --force is given. A database is filled beside the one that is there, and gets its name
/// only when it is whole.
#[derive(Debug, Args)]
#[command(after_help = "\
Where it goes:
  --to -                              one stream, to standard output
  --stream app.dump --to new.dump     one stream, to this file
  --stream app.dump --to DIR/         one stream, to DIR/app.dump
  --to DIR                            the whole snapshot, a file for each stream
  --to files:DIR                      the files that `dedump backup files:PATH` has backed up; see Files
  --to postgres://USER@HOST/DATABASE  a database that `dedump backup postgres://...` has dumped; see Databases
  --to mysql://USER@HOST/DATABASE     a database that `dedump backup mysql://...` has dumped; see MariaDB and MySQL
  --to sqlite:///PATH                 a file that `dedump backup sqlite:///...` has backed up; takes --replace and --dry-run
  --to redis://HOST[/NUMBER]          keys that `dedump backup redis://...` has backed up; see Redis and Valkey
  --to rdb:FILE                       the same as an RDB file, with the steps that make a server load it
  --to mongodb://HOST[/DATABASE]      collections that `dedump backup mongodb://...` has backed up; see MongoDB
  --to clickhouse://HOST[/DATABASE]   tables that `dedump backup clickhouse://...` has backed up; see ClickHouse
  --to NAME=URL --to NAME=URL ...     several databases of one snapshot, PostgreSQL first and Redis last

Examples:
  dedump restore latest --stream app.dump --to - | pg_restore -d app_new
  dedump restore latest --source app.dump --before 2026-01-31 --to restored/
  dedump restore 3fa94b10 --to restored/ --keep-going
  dedump restore latest --only app --to files:/srv/app-copy --base /srv/app
  dedump restore latest --source app --to postgres://admin@db1/app_copy
  dedump restore latest --source app --to postgres://admin@db1/app --replace --dry-run
  dedump restore latest --plan --prices prices.txt --thaw-list keys.txt

A price list has lines like these, each of which may be left out:
  currency = USD
  per_1000_reads = 0.0004        per_1000_lists = 0.005
  per_gib_read = 0.03            per_gib_out = 0.09
  per_1000_thaws = 0.05          per_gib_thawed = 0.02")]
pub struct RestoreArgs {
    /// The first digits of a snapshot's id, or `latest`
    snapshot: String,
    /// Restore this stream; repeat it for several [default: all]
    #[arg(long = "stream", short, value_name = "NAME")]
    streams: Vec<String>,
    /// Where to: a file, a directory, a database's URL, or - for standard output; NAME=URL for each source of several
    #[arg(long, short = 'o', value_name = "PATH", required_unless_present_any = ["plan", "prices", "thaw_list"])]
    to: Vec<PathBuf>,
    /// Of a snapshot of several sources, restore this one alone, by its name
    #[arg(long, value_name = "SOURCE")]
    only: Option<String>,
    /// Replace existing files; write to a terminal
    #[arg(long, short)]
    force: bool,
    /// Go on with the next stream when one is damaged; the exit code is 4 then
    #[arg(long)]
    keep_going: bool,
    /// Say what would be read, and restore nothing: packs, bytes, requests, and what must be thawed first
    ///
    /// Opens the index and the manifests, and asks every pack that is needed for one byte.
    #[arg(long, conflicts_with_all = ["force", "keep_going"])]
    plan: bool,
    /// Work out what it costs by this price list, see below; implies --plan
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "force", "keep_going"])]
    prices: Option<PathBuf>,
    /// Write the keys of the objects that must be thawed first, one a line, for the provider's tool; implies --plan
    ///
    /// A name that ends in .csv gets lines of bucket and key, as the batch jobs of S3 take them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "force", "keep_going"])]
    thaw_list: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    tree: TreeArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    mongo: MongoArgs,
    #[command(flatten)]
    mysql: MysqlArgs,
    #[command(flatten)]
    clickhouse: ClickHouseArgs,
}

/// Where restored streams go.
enum Place {
    Stdout,
    Files(FileTarget),
}

impl RestoreArgs {
    /// Returns whether nothing is to be done but said.
    fn is_dry(&self) -> bool {
        self.plan || self.database.dry_run
    }
}

/// Runs it.
pub fn run(context: &Context, args: RestoreArgs) -> Outcome {
    if args.to.len() > 1 || args.to.iter().any(|to| several::named(to).is_some()) {
        return several::run(context, &args);
    }
    let to = args.to.first().cloned();
    let to = to.as_deref();
    if let Some(url) = to.and_then(mysql::url) {
        return mysql::run(context, &args, url);
    }
    if let Some(flag) = args.mysql.first_given() {
        return Err(Failure::usage(format!("{flag} is for MariaDB and MySQL: --to mysql://USER@HOST/DATABASE")));
    }
    if let Some(url) = to.and_then(clickhouse::url) {
        return clickhouse::run(context, &args, url);
    }
    if let Some(flag) = args.clickhouse.first_given() {
        return Err(Failure::usage(format!("{flag} is for ClickHouse: --to clickhouse://HOST")));
    }
    if let Some(url) = to.and_then(mongodb::url) {
        return mongodb::run(context, &args, url);
    }
    if let Some(flag) = args.mongo.first_given() {
        return Err(Failure::usage(format!("{flag} is for MongoDB: --to mongodb://HOST")));
    }
    if let Some(target) = to.and_then(redis::target) {
        return redis::run(context, &args, target);
    }
    if let Some(url) = to.and_then(sqlite::url) {
        return sqlite::run(context, &args, url);
    }
    if let Some(flag) = args.redis.first_given() {
        return Err(Failure::usage(format!("{flag} is for Redis and Valkey: --to redis://HOST, or rdb:FILE")));
    }
    if let Some(url) = to.and_then(database::url) {
        return database::run(context, &args, url);
    }
    if let Some(target) = to.and_then(tree::directory) {
        return tree::run(context, &args, &target);
    }
    if let Some(flag) = args.tree.first_given() {
        return Err(Failure::usage(format!("{flag} is for files: --to files:DIR")));
    }
    if let Some(flag) = args.database.first_given() {
        return Err(Failure::usage(format!("{flag} is for a database: --to postgres://USER@HOST/DATABASE")));
    }
    if args.plan && to.is_some() {
        return Err(Failure::usage("--plan restores nothing; leave --to out, or name a database"));
    }
    if args.plan || args.prices.is_some() || args.thaw_list.is_some() {
        return plan::run(context, &args);
    }
    let to = to.expect("it is required where there is no plan");
    let to_stdout = to.as_os_str() == "-";
    if to_stdout && context.json() {
        return Err(Failure::usage("--json prints to standard output, and so does --to -; restore to a file instead"));
    }
    if to_stdout && io::stdout().is_terminal() && !args.force {
        return Err(Failure::usage(
            "standard output is a terminal, which a dump may garble; pipe it somewhere, or allow it with --force",
        ));
    }
    let stands = match to_stdout {
        true => "what was written so far is not the whole stream",
        false => "files that were not complete are gone",
    };
    let started = Instant::now();
    let closed = Arc::new(AtomicBool::new(false));
    let work = context.with_repository(stands, async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let streams = selected(&snapshot, &args.streams, args.only.as_deref())?;
        let place = place(&args, to, &streams)?;
        let paths = paths(&place, &streams);
        let mut target: Box<dyn Target> = match place {
            Place::Stdout => Box::new(AsDumped::new(Stdout::new(Arc::clone(&closed)))),
            Place::Files(target) => Box::new(AsDumped::new(target)),
        };
        let meter = context.started_meter(Work::Restore(streams.iter().map(|stream| stream.bytes).sum()));
        let options = RestoreOptions { streams: names(&streams), keep_going: args.keep_going };
        let restoring = Instant::now();
        let report = restore(&repository, &snapshot, &options, &mut *target, &meter).await?;
        if !to_stdout && report.failed.is_empty() {
            to_files(&repository.id().to_string(), &snapshot).note(report.bytes, restoring.elapsed());
        }
        Ok((snapshot, paths, report))
    });
    if closed.load(Ordering::Relaxed) {
        // Like `cat big | head`: the reader had enough, which is no news to anybody.
        return Err(Failure { exit: Exit::BrokenPipe, message: String::new() });
    }
    let (snapshot, paths, report) = work?;
    for (name, why) in &report.failed {
        output::error(&format!("stream {name:?} was not restored: {why}"));
    }
    if !to_stdout {
        context.report(
            || to_json(&snapshot, &paths, &report),
            || to_text(&snapshot, &paths, &report, started.elapsed()),
        )?;
    }
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

/// The streams that are asked for, each once.
fn selected<'a>(
    snapshot: &'a Snapshot,
    names: &[String],
    only: Option<&str>,
) -> Result<Vec<&'a StreamRecord>, Failure> {
    let streams = &snapshot.record.streams;
    if let Some(missing) = names.iter().find(|name| streams.iter().all(|stream| stream.name != **name)) {
        let there = streams.iter().take(10).map(|stream| stream.name.as_str()).collect::<Vec<_>>().join(", ");
        let message = format!("no stream {missing:?} in snapshot {}; it has {there}", snapshot.id.short());
        return Err(Failure::failed(message));
    }
    let folder = only.map(|only| format!("{}/", only.trim_end_matches('/')));
    let is_meant = |stream: &&StreamRecord| {
        (names.is_empty() || names.contains(&stream.name))
            && folder.as_ref().is_none_or(|folder| stream.name.starts_with(folder))
    };
    let meant: Vec<&StreamRecord> = streams.iter().filter(is_meant).collect();
    match only {
        Some(only) if meant.is_empty() => {
            Err(Failure::failed(format!("no source {only:?} in snapshot {}; see `dedump show`", snapshot.id.short())))
        }
        _ => Ok(meant),
    }
}

/// Decides where the streams go, and refuses before anything is read.
fn place(args: &RestoreArgs, to: &Path, streams: &[&StreamRecord]) -> Result<Place, Failure> {
    if to.as_os_str() == "-" {
        return match streams {
            [_] => Ok(Place::Stdout),
            _ => Err(Failure::usage(format!(
                "standard output takes one stream, and there are {}; choose one with --stream: {}",
                streams.len(),
                streams.iter().take(10).map(|stream| stream.name.as_str()).collect::<Vec<_>>().join(", ")
            ))),
        };
    }
    let existing = if args.force { Existing::Replace } else { Existing::Refuse };
    let is_file = !args.streams.is_empty() && streams.len() == 1 && !is_directory(to);
    let target = match is_file {
        true => FileTarget::file(to, existing),
        false => FileTarget::directory(to, existing),
    };
    let names: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
    // The library says what is there; how to replace it is this program's to say.
    target.check(&names).map_err(|error| Failure::failed(format!("{error} (--force)")))?;
    Ok(Place::Files(target))
}

/// Returns the folder of the one source in a snapshot that has this file; `backed_up` says what such a source is.
fn folder(snapshot: &Snapshot, only: Option<&str>, file: &str, backed_up: &str) -> Result<String, Failure> {
    let streams = snapshot.record.streams.iter();
    let folder_of = |stream: &'_ StreamRecord| stream.name.strip_suffix(file).map(str::to_owned);
    let all: Vec<String> =
        streams.filter_map(folder_of).filter(|folder| folder.is_empty() || folder.ends_with('/')).collect();
    let names = || all.iter().map(|folder| folder.trim_end_matches('/')).collect::<Vec<_>>().join(", ");
    let is_meant =
        |folder: &&String| only.is_none_or(|only| only.trim_end_matches('/') == folder.trim_end_matches('/'));
    let id = snapshot.id.short();
    match all.iter().filter(is_meant).collect::<Vec<_>>()[..] {
        [folder] => Ok(folder.clone()),
        [] if all.is_empty() => Err(Failure::failed(format!(
            "snapshot {id} has nothing in it that `dedump backup {backed_up}` has backed up"
        ))),
        [] => Err(Failure::failed(format!("no such source of {backed_up} in snapshot {id}; there are {}", names()))),
        _ => Err(Failure::usage(format!("which one? choose it with --only: {}", names()))),
    }
}

/// Where a restore to files goes, for how long it takes.
fn to_files<'a>(repository: &'a str, snapshot: &'a Snapshot) -> Route<'a> {
    Route { repository, source: &snapshot.record.source, to: "files" }
}

fn names(streams: &[&StreamRecord]) -> Vec<String> {
    streams.iter().map(|stream| stream.name.clone()).collect()
}

fn is_directory(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Each stream's name and the file that it goes to.
fn paths(place: &Place, streams: &[&StreamRecord]) -> Vec<(String, PathBuf)> {
    match place {
        Place::Stdout => Vec::new(),
        Place::Files(target) => {
            streams.iter().map(|stream| (stream.name.clone(), target.path_of(&stream.name))).collect()
        }
    }
}

fn to_json(snapshot: &Snapshot, paths: &[(String, PathBuf)], report: &RestoreReport) -> serde_json::Value {
    let restored = paths.iter().filter(|(name, _)| report.failed.iter().all(|(failed, _)| failed != name));
    json!({
        "snapshot": snapshot.id.to_string(),
        "bytes": report.bytes,
        "bytes_read": report.bytes_read,
        "streams": restored
            .map(|(name, path)| json!({ "name": name, "path": path.display().to_string() }))
            .collect::<Vec<_>>(),
        "failed": report
            .failed
            .iter()
            .map(|(name, why)| json!({ "name": name, "why": why }))
            .collect::<Vec<_>>(),
    })
}

fn to_text(snapshot: &Snapshot, paths: &[(String, PathBuf)], report: &RestoreReport, took: Duration) -> String {
    let mut text = format!(
        "restored {}, {}, from snapshot {} in {}, {}\n",
        human::counted(report.streams_n, "stream"),
        human::bytes(report.bytes),
        snapshot.id.short(),
        human::duration(took),
        human::rate(report.bytes, took)
    );
    let restored = paths.iter().filter(|(name, _)| report.failed.iter().all(|(failed, _)| failed != name));
    for (_, path) in restored.take(20) {
        text.push_str(&format!("  {}\n", human::safe(&path.display().to_string())));
    }
    if report.streams_n > 20 {
        text.push_str(&format!("  and {} more\n", human::count(report.streams_n - 20)));
    }
    text
}
