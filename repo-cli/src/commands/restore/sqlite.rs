//! `dedump restore --to sqlite:///…`: puts an SQLite database back.

use super::way::{self, Done, Facts, Part, Plan, Turn, Way};
use super::{RestoreArgs, folder};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Meter;
use crate::{human, output};
use dedump_core::{Snapshot, async_trait};
use dedump_engines::sqlite::{SqliteRestore, SqliteRestoreOptions, SqliteRestored};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const STANDS: &str = "the database that was there is as it was";

/// Returns the URL, if an SQLite database is to be put back.
pub fn url(to: &Path) -> Option<&str> {
    to.to_str().filter(|to| to.starts_with("sqlite:"))
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs, url: &str) -> Outcome {
    if !args.streams.is_empty() || args.keep_going || args.force {
        return Err(Failure::usage("--stream, --force and --keep-going are for streams; a database takes --replace"));
    }
    let other = args.tree.first_given().or_else(|| args.redis.first_given());
    if let Some(flag) = other.or_else(|| args.database.first_but(&["--replace", "--dry-run"])) {
        return Err(Failure::usage(format!("{flag} is not for SQLite; see --help")));
    }
    way::one(context, args, &ToSqlite::new(args, url)?)
}

/// The way back into an SQLite database.
pub struct ToSqlite {
    restore: SqliteRestore,
}

impl ToSqlite {
    /// Creates a way.
    ///
    /// # Errors
    /// The URL can't be.
    pub fn new(args: &RestoreArgs, url: &str) -> Result<Self, Failure> {
        let options = SqliteRestoreOptions { replace: args.database.is_to_replace() };
        Ok(ToSqlite { restore: SqliteRestore::new(url, options)? })
    }
}

#[async_trait(?Send)]
impl Way for ToSqlite {
    fn turn(&self) -> Turn {
        Turn::Sqlite
    }

    fn stands(&self) -> &'static str {
        STANDS
    }

    fn folder(&self, snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
        folder(snapshot, only, "database.sqlite", "sqlite:///…")
    }

    async fn plan<'a>(&'a self, part: &'a Part<'a>) -> Result<Box<dyn Plan + 'a>, Failure> {
        let path = self.restore.plan(part.snapshot, &part.prefix)?;
        let stream = format!("{}database.sqlite", part.prefix);
        let streams = &part.snapshot.record.streams;
        let bytes = streams.iter().find(|one| one.name == stream).map_or(0, |stream| stream.bytes);
        Ok(Box::new(Planned { way: self, part, path, bytes }))
    }
}

struct Planned<'a> {
    way: &'a ToSqlite,
    part: &'a Part<'a>,
    path: PathBuf,
    bytes: u64,
}

#[async_trait(?Send)]
impl Plan for Planned<'_> {
    fn facts(&self) -> Facts {
        let place = self.path.display().to_string();
        // The file that is there stays under another name, so nobody is asked.
        Facts { place, host: "files".to_owned(), bytes: self.bytes, changes: false }
    }

    fn to_text(&self) -> String {
        let path = human::safe(&self.path.display().to_string());
        format!("snapshot {} would become {path}\n", self.part.snapshot.id.short())
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "snapshot": self.part.snapshot.id.to_string(), "path": self.path.display().to_string() })
    }

    async fn carry_out(&self, meter: &Meter) -> Result<Done, Failure> {
        let Part { repository, snapshot, prefix } = self.part;
        let started = Instant::now();
        let restored = self.way.restore.run(repository, snapshot, prefix, meter).await?;
        Ok(Done {
            text: to_text(snapshot, &restored, started.elapsed()),
            json: to_json(snapshot, &restored),
            bytes: restored.bytes,
            warnings: restored.warnings,
            problems: Vec::new(),
            exit: Exit::Done,
        })
    }
}

fn to_json(snapshot: &Snapshot, restored: &SqliteRestored) -> serde_json::Value {
    json!({
        "snapshot": snapshot.id.to_string(),
        "path": restored.path.display().to_string(),
        "bytes": restored.bytes,
        "tables": restored.tables_n,
        "rows": restored.rows_n,
        "kept": restored.kept.as_ref().map(|path| path.display().to_string()),
        "warnings": restored.warnings,
    })
}

fn to_text(snapshot: &Snapshot, restored: &SqliteRestored, took: Duration) -> String {
    let path = |path: &Path| human::safe(&path.display().to_string());
    let (tables, rows_n) = (human::counted(restored.tables_n, "table"), human::counted(restored.rows_n, "row"));
    let mut rows = vec![
        ("database", path(&restored.path)),
        ("from", format!("snapshot {} of {}", snapshot.id.short(), snapshot.record.source)),
        ("written", format!("{} in {}", human::bytes(restored.bytes), human::duration(took))),
        ("counted", format!("{tables} with {rows_n}, as many as were dumped")),
    ];
    if let Some(kept) = &restored.kept {
        rows.push(("before it", format!("is {} now", path(kept))));
    }
    output::facts(&rows)
}
