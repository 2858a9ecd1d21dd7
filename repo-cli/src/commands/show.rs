//! `dedump show`: everything about one snapshot.

use super::snapshots::tags;
use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::Table;
use crate::{human, json, output, time};
use clap::Args;
use dedump_core::{Hold, Quality, Snapshot, SnapshotId, find, list_holds};
use std::collections::BTreeMap;
use std::time::Duration;

/// Show everything about one snapshot
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The first digits of a snapshot's id, or `latest`
    #[arg(default_value = "latest")]
    snapshot: String,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs it.
pub fn run(context: &Context, args: &ShowArgs) -> Outcome {
    let (snapshot, holds) = context.with_repository("nothing was changed", async |repository| {
        Ok((find(&repository, &args.snapshot, &args.filter.filter()).await?, list_holds(&repository).await?))
    })?;
    context.print(|| json::held_snapshot(&snapshot, &holds), || to_text(&snapshot, &holds))?;
    Ok(Exit::Done)
}

fn to_text(snapshot: &Snapshot, holds: &BTreeMap<SnapshotId, Hold>) -> String {
    let record = &snapshot.record;
    let totals = &record.totals;
    let took = Duration::from_millis(u64::try_from(record.ended_ms - record.started_ms).unwrap_or(0));
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let mut rows = vec![
        ("snapshot", snapshot.id.to_string()),
        ("begun", time::for_people(record.started_ms)),
        ("committed", format!("{}, after {}", time::for_people(record.ended_ms), human::duration(took))),
        ("host", record.host.clone()),
        ("source", record.source.clone()),
        ("tags", or_none(tags(snapshot))),
        ("before it", or_none(record.parent.map(|id| id.short()).unwrap_or_default())),
        ("quality", json::quality(record.quality).to_owned()),
    ];
    rows.extend(record.reasons.iter().map(|reason| ("reason", reason.clone())));
    rows.extend(record.warnings.iter().map(|warning| ("warning", warning.clone())));
    rows.extend(holds.get(&snapshot.id).map(|hold| ("hold", hold_in_words(hold))));
    rows.extend(record.origin.map(|id| ("copied from", id.to_string())));
    rows.extend([
        ("size", format!("{} in {}", human::bytes(totals.bytes), human::counted(totals.chunks_n, "chunk"))),
        (
            "new then",
            format!(
                "{} in {}, {} stored",
                human::bytes(totals.bytes_new),
                human::counted(totals.chunks_new_n, "chunk"),
                human::bytes(totals.bytes_added)
            ),
        ),
        ("written by", record.program.clone()),
    ]);
    rows.extend(record.facts.iter().map(|(name, fact)| (name.as_str(), fact_for_people(name, fact))));
    let mut table = Table::new(&["STREAM", ">BYTES", ">CHUNKS", "BLAKE3"]);
    for stream in &record.streams {
        let (bytes, chunks) = (human::count(stream.bytes), human::count(stream.chunks_n));
        table.row([stream.name.clone(), bytes, chunks, json::hash(stream)]);
    }
    let mut text = format!("{}\n{}", output::facts(&rows), table.render());
    if record.quality != Quality::Good {
        text.push_str("\nIt can be restored; the reasons above say what looks odd.\n");
    }
    text
}

/// When a source was begun and ended is told as a time.
fn fact_for_people(name: &str, fact: &str) -> String {
    let is_time = name.ends_with(".started_ms") || name.ends_with(".ended_ms");
    let ms = fact.parse().ok().filter(|_| is_time);
    ms.map_or_else(|| fact.to_owned(), time::for_people)
}

fn hold_in_words(hold: &Hold) -> String {
    if hold.holds_at(time::now_ms()) { hold.to_string() } else { format!("{hold}; it has ended") }
}
