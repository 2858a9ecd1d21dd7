//! `dedump prune`: deletes what no snapshot needs.

use crate::context::{Context, host_name};
use crate::exit::{Exit, Outcome};
use crate::progress::Work;
use crate::{args, human, json, output};
use clap::Args;
use dedump_core::{MaxUnused, PruneOptions, PruneOutcome, PrunePlan, PruneReport, plan_prune, prune};
use serde_json::json;
use std::time::Duration;

/// Delete what no snapshot needs
///
/// Packs that no snapshot needs are deleted; of packs that are needed in part, what is needed is stored anew first, until
/// little enough stays unused. Nobody is locked out: backups, restores and checks may run meanwhile. Where a session is at
/// work that may rely on what is to be deleted, a notice is left, and the next prune goes on. Stopped anywhere, it loses
/// nothing.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Say what would be done, and do nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Leave this much unused: a share of the packs like 5%, or a size like 10GiB
    #[arg(long, value_name = "SHARE|SIZE", value_parser = args::max_unused, default_value = "5%")]
    max_unused: MaxUnused,
    /// Store anew this much at most, like 50GiB [default: as much as it takes]
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    max_repack: Option<u64>,
    /// Wait for sessions that are at work, rather than leave it to the next prune
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// A session that gave no sign for so long counts as dead: it is fenced, and can't commit any more
    ///
    /// Those at work give one each minute. With less than some minutes, one that is only slow may lose its work.
    #[arg(long, value_name = "DURATION", value_parser = args::duration, default_value = args::DEAD_AFTER)]
    dead_after: Duration,
}

/// Runs it.
pub fn run(context: &Context, args: &PruneArgs) -> Outcome {
    let mut options = PruneOptions::new(host_name());
    options.max_unused = args.max_unused;
    options.max_repack_bytes = args.max_repack;
    options.wait = args.wait;
    options.dead_after = args.dead_after;
    if args.dry_run {
        let plan = context.with_repository("nothing was changed", async |repository| {
            Ok(plan_prune(&repository, &options, &context.started_meter(Work::Objects("prune"))).await?)
        })?;
        context.report(|| json!({ "dry_run": true, "plan": plan_json(&plan) }), || plan_text(&plan))?;
        return Ok(Exit::Done);
    }
    let stands = "nothing that a snapshot needs was deleted; the next `dedump prune` goes on";
    let report = context.with_repository(stands, async |repository| {
        Ok(prune(&repository, &options, &context.started_meter(Work::Objects("prune"))).await?)
    })?;
    context.report(|| to_json(&report), || to_text(&report, args.wait))?;
    Ok(Exit::Done)
}

fn plan_json(plan: &PrunePlan) -> serde_json::Value {
    json!({
        "snapshots": plan.snapshots_n,
        "nodes": plan.nodes_n,
        "packs": plan.packs_n,
        "packs_bytes": plan.packs_bytes,
        "unused_bytes": plan.unused_bytes,
        "deleted_packs": plan.deleted_packs_n,
        "deleted_bytes": plan.deleted_bytes,
        "orphans": plan.orphans_n,
        "rescued_chunks": plan.rescued_chunks_n,
        "read_bytes": plan.read_bytes,
        "rescued_bytes": plan.rescued_bytes,
        "freed_bytes": plan.freed_bytes,
        "unused_after_bytes": plan.unused_after_bytes,
        "no_room_packs": plan.no_room_n,
        "merged_fragments": plan.merged_fragments_n,
        "requests": plan.requests_n,
    })
}

fn to_json(report: &PruneReport) -> serde_json::Value {
    let (outcome, waiting_for) = match &report.outcome {
        PruneOutcome::Done => ("done", Vec::new()),
        PruneOutcome::Waiting(sessions) => ("waiting", sessions.iter().map(ToString::to_string).collect()),
        _ => ("nothing", Vec::new()),
    };
    json!({
        "dry_run": false,
        "outcome": outcome,
        "waiting_for": waiting_for,
        "plan": plan_json(&report.plan),
        "packs_deleted": report.packs_deleted_n,
        "packs_written": report.packs_written_n,
        "bytes_written": report.bytes_written,
        "fenced": report.fenced.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "requests": json::requests(&report.requests),
    })
}

/// What is unused, and of how much.
fn unused(bytes: u64, of: u64) -> String {
    format!("{} of {} ({})", human::bytes(bytes), human::bytes(of), human::percent(bytes, of))
}

fn plan_facts(plan: &PrunePlan) -> Vec<(&'static str, String)> {
    let packs = format!("{}, {}", human::counted(plan.deleted_packs_n, "pack"), human::bytes(plan.deleted_bytes));
    let orphans = match plan.orphans_n {
        0 => String::new(),
        orphans_n => format!(" ({} left behind by interrupted runs)", human::count(orphans_n)),
    };
    let after = plan.packs_bytes.saturating_sub(plan.freed_bytes);
    let mut facts = vec![
        ("unused now", unused(plan.unused_bytes, plan.packs_bytes)),
        ("to delete", packs + &orphans),
        (
            "to store anew",
            format!(
                "{} in about {}, reading {}",
                human::counted(plan.rescued_chunks_n, "chunk"),
                human::bytes(plan.rescued_bytes),
                human::bytes(plan.read_bytes)
            ),
        ),
        ("frees", format!("about {}", human::bytes(plan.freed_bytes))),
        ("unused then", unused(plan.unused_after_bytes, after)),
        ("requests", format!("about {}", human::count(plan.requests_n))),
    ];
    facts.extend(merged(plan));
    facts.extend(no_room(plan));
    facts
}

/// Says what is merged of the index.
fn merged(plan: &PrunePlan) -> Option<(&'static str, String)> {
    let fragments = human::counted(plan.merged_fragments_n, "small fragment");
    (plan.merged_fragments_n > 0).then(|| ("index", format!("{fragments} into few")))
}

/// Says what stays only because the disk is too full.
fn no_room(plan: &PrunePlan) -> Option<(&'static str, String)> {
    let why = "the disk has no room to store anew what is needed of it; free some and prune again";
    (plan.no_room_n > 0).then(|| ("no room for", format!("{}: {why}", human::counted(plan.no_room_n, "more pack"))))
}

fn plan_text(plan: &PrunePlan) -> String {
    if plan.deleted_packs_n == 0 && plan.merged_fragments_n == 0 {
        return nothing(plan);
    }
    output::facts(&plan_facts(plan))
}

fn nothing(plan: &PrunePlan) -> String {
    let said = format!("nothing to delete: {} unused\n", unused(plan.unused_bytes, plan.packs_bytes));
    said + &no_room(plan).map(|fact| output::facts(&[fact])).unwrap_or_default()
}

fn to_text(report: &PruneReport, has_waited: bool) -> String {
    let plan = &report.plan;
    match &report.outcome {
        PruneOutcome::Waiting(sessions) => format!(
            "condemned {}, {}, and deleted nothing yet: {} at work may rely on them ({}). Run `dedump prune` again when \
             they have ended{}; `dedump sessions` says who they are, and --dead-after when one counts as dead.\n",
            human::counted(plan.deleted_packs_n, "pack"),
            human::bytes(plan.deleted_bytes),
            human::counted(sessions.len() as u64, "session"),
            sessions.iter().map(|id| id.short()).collect::<Vec<_>>().join(", "),
            if has_waited { "" } else { ", or let it --wait" },
        ),
        PruneOutcome::Done => {
            let freed = plan.deleted_bytes.saturating_sub(report.bytes_written);
            let after = plan.packs_bytes.saturating_sub(freed);
            let mut facts = vec![
                (
                    "deleted",
                    format!("{}, {}", human::counted(report.packs_deleted_n, "pack"), human::bytes(plan.deleted_bytes)),
                ),
                (
                    "stored anew",
                    format!(
                        "{} in {}, {}",
                        human::counted(plan.rescued_chunks_n, "chunk"),
                        human::counted(report.packs_written_n, "pack"),
                        human::bytes(report.bytes_written)
                    ),
                ),
                ("freed", human::bytes(freed)),
                ("unused", unused(plan.unused_after_bytes, after)),
                (
                    "to do it",
                    format!(
                        "{} (planned {})",
                        human::counted(report.requests.total(), "request"),
                        human::count(plan.requests_n)
                    ),
                ),
            ];
            if !report.fenced.is_empty() {
                let ids: Vec<_> = report.fenced.iter().map(|id| id.short()).collect();
                let sessions = human::counted(ids.len() as u64, "session");
                facts.push(("fenced", format!("{sessions} with no sign of life: {}", ids.join(", "))));
            }
            facts.extend(merged(plan));
            facts.extend(no_room(plan));
            output::facts(&facts)
        }
        _ => nothing(plan),
    }
}
