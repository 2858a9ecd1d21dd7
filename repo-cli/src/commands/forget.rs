//! `dedump forget`: takes snapshots away.

use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::{human, json, time};
use clap::Args;
use dedump_core::{Error, Repository, Snapshot, SnapshotId, find, find_id, forget};
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
        let meant = plan(&repository, args).await?;
        if !args.dry_run {
            for one in &meant {
                forget(&repository, one.id).await?;
            }
        }
        Ok(meant)
    })?;
    context.report(
        || json!({ "dry_run": args.dry_run, "snapshots": forgotten.iter().map(to_json).collect::<Vec<_>>() }),
        || to_text(&forgotten, args.dry_run),
    )?;
    Ok(Exit::Done)
}

/// A snapshot to forget; one that does not open is known by its id alone.
struct Meant {
    id: SnapshotId,
    snapshot: Option<Snapshot>,
}

/// Finds the snapshots that are meant, each once.
async fn plan(repository: &Repository, args: &ForgetArgs) -> dedump_core::Result<Vec<Meant>> {
    let filter = args.filter.filter();
    let mut meant: Vec<Meant> = Vec::new();
    for name in &args.snapshots {
        let one = match find(repository, name, &filter).await {
            Ok(snapshot) => Meant { id: snapshot.id, snapshot: Some(snapshot) },
            Err(Error::Damaged { .. }) if name != "latest" => {
                Meant { id: find_id(repository, name).await?, snapshot: None }
            }
            Err(error) => return Err(error),
        };
        if meant.iter().all(|other| other.id != one.id) {
            meant.push(one);
        }
    }
    Ok(meant)
}

fn to_json(meant: &Meant) -> serde_json::Value {
    match &meant.snapshot {
        Some(snapshot) => json::snapshot(snapshot),
        None => json!({ "id": meant.id.to_string() }),
    }
}

fn to_text(meant: &[Meant], dry_run: bool) -> String {
    let verb = if dry_run { "would forget" } else { "forgot" };
    let mut text = String::new();
    for one in meant {
        let id = one.id.short();
        text.push_str(&match &one.snapshot {
            None => format!("{verb} {id}, which does not open\n"),
            Some(Snapshot { record, .. }) => format!(
                "{verb} {id} of {} at {}, {} of {}\n",
                time::for_people(record.started_ms),
                human::safe(&record.host),
                human::safe(&record.source),
                human::bytes(record.totals.bytes)
            ),
        });
    }
    if !dry_run {
        text.push_str("their space is freed by a later prune\n");
    }
    text
}
