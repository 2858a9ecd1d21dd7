//! Smaller ways back for a database: a replaced one in its place again, rows of one table.

use super::RestoreArgs;
use super::confirm::confirm;
use super::database::prefix;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Work;
use crate::{human, output};
use dedump_core::find;
use dedump_engines::postgres::{PostgresRestore, RowsOptions, RowsRestored};
use serde_json::json;

/// Puts the database back that the restore of a snapshot has replaced.
pub(super) fn undo(context: &Context, args: &RestoreArgs, restore: &PostgresRestore) -> Outcome {
    if args.database.dry_run || args.plan {
        return Err(Failure::usage("for --undo there is no dry run: it renames two databases"));
    }
    let (kept, undone) = context.with_repository("both databases are as they were", async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let kept = restore.kept_by(&snapshot)?;
        if !args.database.yes {
            let what = format!("{kept} will take the place of {} again, which gets another name", restore.place());
            confirm(&what, &restore.place()).await?;
        }
        let undone = restore.undo(&kept).await?;
        Ok((kept, undone))
    })?;
    context.report(
        || json!({ "database": restore.place(), "was": kept, "undone": undone }),
        || format!("{kept} is {} again; what the restore made is called {undone} now\n", restore.place()),
    )?;
    Ok(Exit::Done)
}

/// Puts rows of one table back.
pub(super) fn put_rows(
    context: &Context,
    args: &RestoreArgs,
    restore: &PostgresRestore,
    rows: &RowsOptions,
) -> Outcome {
    if args.database.dry_run || args.plan {
        return Err(Failure::usage("for rows there is no dry run: they go in by one transaction, or not at all"));
    }
    let restored = context.with_repository("the table is as it was", async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let prefix = prefix(&snapshot, args.only.as_deref())?;
        if !args.database.yes {
            let what = format!("rows of {} in {} will change", rows.table, restore.place());
            confirm(&what, &restore.place()).await?;
        }
        let meter = context.started_meter(Work::Restore(0));
        Ok(restore.rows(&repository, &snapshot, &prefix, rows, &meter).await?)
    })?;
    restored.warnings.iter().for_each(|warning| output::warning(warning));
    context.report(|| rows_to_json(&restored), || rows_to_text(&rows.table, &restored))?;
    Ok(Exit::Done)
}

fn rows_to_json(restored: &RowsRestored) -> serde_json::Value {
    json!({
        "rows": restored.read_n,
        "matching": restored.matching_n,
        "inserted": restored.inserted_n,
        "updated": restored.updated_n,
        "skipped": restored.skipped_n,
        "streams": restored.streams,
        "safety_snapshot": restored.safety_snapshot.map(|id| id.to_string()),
        "warnings": restored.warnings,
    })
}

fn rows_to_text(table: &str, restored: &RowsRestored) -> String {
    let [read, matching, inserted, updated, skipped] =
        [restored.read_n, restored.matching_n, restored.inserted_n, restored.updated_n, restored.skipped_n]
            .map(human::count);
    let mut text = format!(
        "{} of {read} rows of {} are meant: {inserted} inserted, {updated} updated, {skipped} left as they are\n",
        matching,
        human::safe(table)
    );
    if let Some(id) = restored.safety_snapshot {
        text.push_str(&format!("the database as it was before is snapshot {}, which is held\n", id.short()));
    }
    text
}
