//! `dedump stats`: what is stored, and what it stands for.

use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::progress::Work;
use crate::{human, output};
use clap::Args;
use dedump_core::{DepthStats, StatsReport, stats};
use serde_json::json;

/// Count what is stored, and what it stands for
#[derive(Debug, Args)]
#[command(after_help = "What is stored is counted as a whole; filters choose the snapshots whose streams are counted.")]
pub struct StatsArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs it.
pub fn run(context: &Context, args: &StatsArgs) -> Outcome {
    let report = context.with_repository("nothing was changed", async |repository| {
        Ok(stats(&repository, &args.filter.filter(), &context.started_meter(Work::Objects("snapshots"))).await?)
    })?;
    context.print(|| to_json(&report), || to_text(&report))?;
    Ok(Exit::Done)
}

fn to_json(report: &StatsReport) -> serde_json::Value {
    let objects = |(objects_n, bytes): (u64, u64)| json!({ "objects": objects_n, "bytes": bytes });
    json!({
        "snapshots": report.snapshots.len(),
        "bytes": report.bytes,
        "chunks": report.chunks_n,
        "chunk_bytes": report.chunk_bytes,
        "nodes": report.nodes_n,
        "data_packs": objects(report.data_packs),
        "meta_packs": objects(report.meta_packs),
        "fragments": objects(report.fragments),
        "depths": report.depths.iter().map(depth_json).collect::<Vec<_>>(),
        "stored_bytes": report.stored_bytes(),
    })
}

fn depth_json(depth: &DepthStats) -> serde_json::Value {
    json!({ "chunks": depth.chunks_n, "bytes": depth.plain_bytes, "stored_bytes": depth.stored_bytes })
}

fn to_text(report: &StatsReport) -> String {
    let packs =
        |(packs_n, bytes): (u64, u64)| format!("{} in {}", human::bytes(bytes), human::counted(packs_n, "pack"));
    let fragments = human::counted(report.fragments.0, "fragment");
    let stored = report.stored_bytes();
    output::facts(&[
        ("snapshots", human::count(report.snapshots.len() as u64)),
        ("their streams", human::bytes(report.bytes)),
        (
            "different",
            format!(
                "{} in {}, ratio {}",
                human::bytes(report.chunk_bytes),
                human::counted(report.chunks_n, "chunk"),
                human::ratio(report.bytes, report.chunk_bytes)
            ),
        ),
        ("saved", human::savings(report.bytes.saturating_sub(report.chunk_bytes), report.saved_bytes())),
        ("chains", human::depths(report.depths.iter().map(|depth| depth.chunks_n))),
        ("data", packs(report.data_packs)),
        ("manifests", packs(report.meta_packs)),
        ("index", format!("{} in {fragments}", human::bytes(report.fragments.1))),
        ("stored", format!("{}, ratio {}", human::bytes(stored), human::ratio(report.bytes, stored))),
    ])
}
