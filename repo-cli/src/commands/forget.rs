//! `dedump forget`: takes snapshots away.

use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::{human, json, time};
use clap::Args;
use dedump_core::{Repository, Snapshot, find, forget};
use serde_json::json;

/// Forget snapshots
///
/// All ids are looked up before the first snapshot is forgotten. What a forgotten snapshot alone needed stays stored until
/// a prune.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The first digits of the snapshots' ids, or `latest`
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Say what would be forgotten, and forget nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs it.
pub fn run(context: &Context, args: &ForgetArgs) -> Outcome {
    let stands = "some of the snapshots may be forgotten; `dedump snapshots` tells";
    let forgotten = context.with_repository(stands, async |repository| {
        let snapshots = plan(&repository, args).await?;
        if !args.dry_run {
            for snapshot in &snapshots {
                forget(&repository, snapshot).await?;
            }
        }
        Ok(snapshots)
    })?;
    context.report(
        || json!({ "dry_run": args.dry_run, "snapshots": forgotten.iter().map(json::snapshot).collect::<Vec<_>>() }),
        || to_text(&forgotten, args.dry_run),
    )?;
    Ok(Exit::Done)
}

/// Finds the snapshots that are meant, each once.
async fn plan(repository: &Repository, args: &ForgetArgs) -> dedump_core::Result<Vec<Snapshot>> {
    let filter = args.filter.filter();
    let mut snapshots: Vec<Snapshot> = Vec::new();
    for name in &args.snapshots {
        let snapshot = find(repository, name, &filter).await?;
        if snapshots.iter().all(|other| other.id != snapshot.id) {
            snapshots.push(snapshot);
        }
    }
    Ok(snapshots)
}

fn to_text(snapshots: &[Snapshot], dry_run: bool) -> String {
    let verb = if dry_run { "would forget" } else { "forgot" };
    let mut text = String::new();
    for snapshot in snapshots {
        let record = &snapshot.record;
        text.push_str(&format!(
            "{verb} {} of {} at {}, {} of {}\n",
            snapshot.id.short(),
            time::for_people(record.started_ms),
            human::safe(&record.host),
            human::safe(&record.source),
            human::bytes(record.totals.bytes)
        ));
    }
    if !dry_run {
        text.push_str("their space is freed by a later prune\n");
    }
    text
}
