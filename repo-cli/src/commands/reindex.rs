//! `dedump reindex`: makes the index anew.

use crate::context::{Context, host_name};
use crate::exit::{Exit, Outcome};
use crate::progress::Work;
use crate::{human, output};
use clap::Args;
use dedump_core::{ReindexReport, reindex};
use serde_json::json;

/// Make the index anew from what the packs say of themselves
///
/// For an index that `dedump check` found damaged. No data is lost with an index: it is a cache.
#[derive(Debug, Args)]
pub struct ReindexArgs {}

/// Runs it.
pub fn run(context: &Context, _: &ReindexArgs) -> Outcome {
    // Whoever doubts the index doubts its copies, too.
    let opening = context.opening()?.without_cache();
    let report = context.with_opening(opening, "the old index stays in force", async |repository| {
        Ok(reindex(&repository, &host_name(), &context.started_meter(Work::Objects("reindex"))).await?)
    })?;
    report.unreadable.iter().for_each(|problem| output::warning(problem));
    context.report(|| to_json(&report), || to_text(&report))?;
    Ok(if report.unreadable.is_empty() { Exit::Done } else { Exit::Damage })
}

fn to_json(report: &ReindexReport) -> serde_json::Value {
    json!({
        "packs": report.packs_n,
        "chunks": report.chunks_n,
        "fragments": report.fragments_n,
        "fragments_deleted": report.fragments_deleted_n,
        "unreadable": report.unreadable,
    })
}

fn to_text(report: &ReindexReport) -> String {
    format!(
        "indexed {} in {}: wrote {}, deleted {}\n",
        human::counted(report.chunks_n, "chunk"),
        human::counted(report.packs_n, "pack"),
        human::counted(report.fragments_n.into(), "fragment"),
        human::count(report.fragments_deleted_n)
    )
}
