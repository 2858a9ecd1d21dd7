//! `dedump snapshots`: lists what there is.

use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::Table;
use crate::{human, json, output, time};
use clap::Args;
use dedump_core::{Hold, Snapshot, SnapshotId, list, list_holds};
use std::collections::BTreeMap;

/// List the snapshots, oldest first
#[derive(Debug, Args)]
#[command(after_help = "Times are UTC. If a snapshot can't be read, the others are listed and the exit code is 4.")]
pub struct SnapshotsArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Runs it.
pub fn run(context: &Context, args: &SnapshotsArgs) -> Outcome {
    let (listing, holds) = context.with_repository("nothing was changed", async |repository| {
        Ok((list(&repository, &args.filter.filter()).await?, list_holds(&repository).await?))
    })?;
    listing.unreadable.iter().for_each(|problem| output::warning(&format!("{problem}; `dedump check` says more")));
    let to_json = || listing.snapshots.iter().map(|one| json::held_snapshot(one, &holds)).collect();
    context.print(to_json, || to_text(&listing.snapshots, &holds))?;
    Ok(if listing.unreadable.is_empty() { Exit::Done } else { Exit::Damage })
}

fn to_text(snapshots: &[Snapshot], holds: &BTreeMap<SnapshotId, Hold>) -> String {
    if snapshots.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let mut table =
        Table::new(&["ID", "TIME", "HOST", "SOURCE", "TAGS", "STREAMS", ">SIZE", ">ADDED", "QUALITY", "HELD"]);
    for snapshot in snapshots {
        let record = &snapshot.record;
        table.row([
            snapshot.id.short(),
            time::for_people(record.started_ms),
            record.host.clone(),
            record.source.clone(),
            tags(snapshot),
            streams(snapshot),
            human::bytes(record.totals.bytes),
            human::bytes(record.totals.bytes_added),
            json::quality(record.quality).to_owned(),
            holds.get(&snapshot.id).map(held).unwrap_or_default(),
        ]);
    }
    format!("{}{}\n", table.render(), human::counted(snapshots.len() as u64, "snapshot"))
}

/// Says in a word or two whether a hold holds, and how long.
fn held(hold: &Hold) -> String {
    match hold {
        hold if !hold.holds_at(time::now_ms()) => "ended".to_owned(),
        Hold::Says(record) => {
            record.until_ms.map_or_else(|| "yes".to_owned(), |until_ms| format!("until {}", time::date(until_ms)))
        }
        Hold::Unreadable(_) => "unreadable".to_owned(),
    }
}

/// Prints a snapshot's tags: `env=prod,tier=1`.
pub fn tags(snapshot: &Snapshot) -> String {
    snapshot.record.tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn streams(snapshot: &Snapshot) -> String {
    match &snapshot.record.streams[..] {
        [only] => only.name.clone(),
        streams => human::counted(streams.len() as u64, "stream"),
    }
}
