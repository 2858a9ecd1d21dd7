//! `dedump restore --to sqlite:///…`: puts an SQLite database back.

use super::{RestoreArgs, folder, to_files};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Work;
use crate::{human, output};
use dedump_core::{Snapshot, find};
use dedump_engines::sqlite::{SqliteRestore, SqliteRestoreOptions, SqliteRestored};
use serde_json::json;
use std::path::Path;
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
    let restore = SqliteRestore::new(url, SqliteRestoreOptions { replace: args.database.is_to_replace() })?;
    let started = Instant::now();
    let (snapshot, path, restored) = context.with_repository(STANDS, async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let prefix = folder(&snapshot, args.only.as_deref(), "database.sqlite", "sqlite:///…")?;
        let path = restore.plan(&snapshot, &prefix)?;
        if args.database.dry_run || args.plan {
            return Ok((snapshot, path, None));
        }
        let meter = context.started_meter(Work::Restore(0));
        let restoring = Instant::now();
        let restored = restore.run(&repository, &snapshot, &prefix, &meter).await?;
        to_files(&repository.id().to_string(), &snapshot).note(restored.bytes, restoring.elapsed());
        Ok((snapshot, path, Some(restored)))
    })?;
    let Some(restored) = restored else {
        let path = path.display().to_string();
        context.print(
            || json!({ "snapshot": snapshot.id.to_string(), "path": path }),
            || format!("snapshot {} would become {}\n", snapshot.id.short(), human::safe(&path)),
        )?;
        return Ok(Exit::Done);
    };
    restored.warnings.iter().for_each(|warning| output::warning(warning));
    context.report(|| to_json(&snapshot, &restored), || to_text(&snapshot, &restored, started.elapsed()))?;
    Ok(Exit::Done)
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
    let (tables, rows_n) = (human::counted(restored.tables_n, "table"), human::count(restored.rows_n));
    let mut rows = vec![
        ("database", path(&restored.path)),
        ("from", format!("snapshot {} of {}", snapshot.id.short(), snapshot.record.source)),
        ("written", format!("{} in {}", human::bytes(restored.bytes), human::duration(took))),
        ("counted", format!("{tables} with {rows_n} rows, as many as were dumped")),
    ];
    if let Some(kept) = &restored.kept {
        rows.push(("before it", format!("is {} now", path(kept))));
    }
    output::facts(&rows)
}
