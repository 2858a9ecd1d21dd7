//! `dedump diff`: how two snapshots differ.

use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::human;
use crate::output::Table;
use crate::progress::Work;
use clap::Args;
use dedump_core::{Change, DiffReport, Snapshot, StreamDiff, diff, find};
use serde_json::json;

/// Compare two snapshots, stream by stream
///
/// It costs about what differs: what both share is not read.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The first digits of a snapshot's id, or `latest`
    #[arg(value_name = "BEFORE")]
    first: String,
    /// The other one
    #[arg(value_name = "AFTER")]
    second: String,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs it.
pub fn run(context: &Context, args: &DiffArgs) -> Outcome {
    let filter = args.filter.filter();
    let (before, after, report) = context.with_repository("nothing was changed", async |repository| {
        let before = find(&repository, &args.first, &filter).await?;
        let after = find(&repository, &args.second, &filter).await?;
        let meter = context.meter(Work::Objects("streams"));
        let report = diff(&repository, &before, &after, &meter).await?;
        Ok((before, after, report))
    })?;
    context.print(|| to_json(&before, &after, &report), || to_text(&before, &after, &report))?;
    Ok(Exit::Done)
}

fn change(stream: &StreamDiff) -> &'static str {
    match stream.change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
        Change::Same => "same",
    }
}

fn to_json(before: &Snapshot, after: &Snapshot, report: &DiffReport) -> serde_json::Value {
    let stream = |stream: &StreamDiff| {
        json!({
            "name": stream.name,
            "change": change(stream),
            "bytes_before": stream.bytes_before,
            "bytes_after": stream.bytes_after,
            "bytes_removed": stream.bytes_removed,
            "bytes_added": stream.bytes_added,
        })
    };
    json!({
        "before": before.id.to_string(),
        "after": after.id.to_string(),
        "streams": report.streams.iter().map(stream).collect::<Vec<_>>(),
    })
}

fn to_text(before: &Snapshot, after: &Snapshot, report: &DiffReport) -> String {
    let mut table = Table::new(&["STREAM", "CHANGE", ">BEFORE", ">AFTER", ">ONLY BEFORE", ">ONLY AFTER"]);
    for stream in &report.streams {
        table.row([
            stream.name.clone(),
            change(stream).to_owned(),
            human::bytes(stream.bytes_before),
            human::bytes(stream.bytes_after),
            human::bytes(stream.bytes_removed),
            human::bytes(stream.bytes_added),
        ]);
    }
    format!("{} to {}\n{}", before.id.short(), after.id.short(), table.render())
}
