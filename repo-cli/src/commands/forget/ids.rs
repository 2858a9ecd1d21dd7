//! `dedump forget ID…`: takes the named snapshots away, and nothing else.

use super::{Failed, ForgetArgs, STANDS, tell};
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::{human, json, time};
use dedump_core::{
    Error, Filter, Quality, Repository, Snapshot, SnapshotId, find, find_id, forget_all, list, list_holds,
};
use serde_json::json;
use std::collections::BTreeSet;

/// Runs it.
pub fn run(context: &Context, args: &ForgetArgs) -> Outcome {
    let (meant, outcomes, bereft) = context.with_repository(STANDS, async |repository| {
        let meant = plan(&repository, args).await?;
        let bereft = bereft(&repository, &meant).await?;
        let ids: Vec<SnapshotId> = meant.iter().map(|one| one.id).collect();
        let outcomes = if args.dry_run { Vec::new() } else { forget_all(&repository, &ids, &()).await };
        Ok((meant, outcomes, bereft))
    })?;
    let failed = Failed::of(&outcomes);
    let forgotten: Vec<&Meant> = meant.iter().filter(|one| !failed.contains(one.id)).collect();
    context.report(
        || {
            let snapshots: Vec<_> = forgotten.iter().map(|one| to_json(one)).collect();
            json!({ "dry_run": args.dry_run, "snapshots": snapshots, "failed": failed.to_json() })
        },
        || to_text(&forgotten, &bereft, args.dry_run),
    )?;
    Ok(tell(&outcomes).unwrap_or(Exit::Done))
}

/// A snapshot to forget; one that does not open is known by its id alone.
struct Meant {
    id: SnapshotId,
    snapshot: Option<Snapshot>,
}

/// Finds the snapshots that are meant, each once. One that is held ends it: nothing is forgotten then.
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
    let holds = list_holds(repository).await?;
    for one in &meant {
        if let Some(hold) = holds.get(&one.id).filter(|hold| hold.holds_at(time::now_ms())) {
            return Err(Error::Held { snapshot: one.id.short(), why: hold.to_string() });
        }
    }
    Ok(meant)
}

/// Returns the sources that lose their last good snapshot by this.
async fn bereft(repository: &Repository, meant: &[Meant]) -> dedump_core::Result<BTreeSet<String>> {
    let all = list(repository, &Filter::default()).await?.snapshots;
    let goes = |snapshot: &Snapshot| meant.iter().any(|one| one.id == snapshot.id);
    let good = || all.iter().filter(|snapshot| snapshot.record.quality == Quality::Good);
    let left: BTreeSet<&str> = good().filter(|one| !goes(one)).map(|one| one.record.source.as_str()).collect();
    let lost = good().filter(|one| goes(one) && !left.contains(one.record.source.as_str()));
    Ok(lost.map(|one| one.record.source.clone()).collect())
}

fn to_json(meant: &Meant) -> serde_json::Value {
    match &meant.snapshot {
        Some(snapshot) => json::snapshot(snapshot),
        None => json!({ "id": meant.id.to_string() }),
    }
}

fn to_text(meant: &[&Meant], bereft: &BTreeSet<String>, dry_run: bool) -> String {
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
    for source in bereft {
        let now = if dry_run { "that would leave" } else { "that leaves" };
        text.push_str(&format!("{now} no good snapshot of {}\n", human::safe(source)));
    }
    if !dry_run && !meant.is_empty() {
        text.push_str("their space is freed by the next `dedump prune`\n");
    }
    text
}
