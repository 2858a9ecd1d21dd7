//! `dedump restore --plan`: what a restore will read, cost, and need thawed.

use super::prices::{Cost, Prices};
use super::{RestoreArgs, names, selected, to_files};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Table};
use crate::progress::Work;
use crate::{human, time};
use dedump_core::{PlannedPack, RestoreOptions, RestorePlan, Snapshot, find, plan_restore};
use serde_json::json;
use std::path::Path;

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs) -> Outcome {
    let prices = args.prices.as_deref().map(Prices::read).transpose()?;
    let meter = context.meter(Work::Objects("packs asked"));
    let (snapshot, plan, takes, location) = context.with_repository("nothing was restored", async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let options = RestoreOptions {
            streams: names(&selected(&snapshot, &args.streams, args.only.as_deref())?),
            ..Default::default()
        };
        meter.start();
        let plan = plan_restore(&repository, &snapshot, &options, &meter).await?;
        let takes = to_files(&repository.id().to_string(), &snapshot).estimate(plan.bytes);
        Ok((snapshot, plan, takes, repository.location().to_owned()))
    })?;
    drop(meter);
    let cost = prices.map(|prices| prices.cost(&plan));
    if let Some(path) = &args.thaw_list {
        write_thaw_list(path, &location, &plan)?;
    }
    context.print(
        || to_json(&snapshot, &plan, takes.as_deref(), cost.as_ref()),
        || to_text(&snapshot, &plan, takes.as_deref(), (cost.as_ref(), args.thaw_list.as_deref())),
    )?;
    Ok(Exit::Done)
}

/// Writes the keys of what must be thawed, one a line; or as S3's batch jobs take them, `bucket,key`, if the file is to be a
/// `.csv`.
fn write_thaw_list(path: &Path, location: &str, plan: &RestorePlan) -> Result<(), Failure> {
    let (bucket, prefix) = bucket_and_prefix(location);
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let line = |pack: &PlannedPack| match is_csv {
        true => format!("{bucket},{prefix}{}\n", pack.name),
        false => format!("{prefix}{}\n", pack.name),
    };
    let text: String = frozen(plan).map(line).collect();
    std::fs::write(path, text)
        .map_err(|error| Failure::failed(format!("cannot write the thaw list {}: {error}", path.display())))
}

/// Splits `s3://bucket/prefix`; the prefix ends with its slash, unless it is empty.
fn bucket_and_prefix(location: &str) -> (&str, String) {
    let Some((_, rest)) = location.split_once("://") else { return ("", String::new()) };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    (bucket, if prefix.is_empty() { String::new() } else { format!("{prefix}/") })
}

fn frozen(plan: &RestorePlan) -> impl Iterator<Item = &PlannedPack> {
    plan.packs.iter().filter(|pack| pack.is_frozen)
}

fn sum(plan: &RestorePlan, of: impl Fn(&PlannedPack) -> u64) -> u64 {
    plan.packs.iter().map(of).sum()
}

fn to_json(snapshot: &Snapshot, plan: &RestorePlan, takes: Option<&str>, cost: Option<&Cost>) -> serde_json::Value {
    let cost_to_json = |cost: &Cost| {
        json!({
            "currency": cost.currency,
            "requests": cost.requests,
            "retrieval": cost.retrieval,
            "traffic": cost.traffic,
            "thawing": cost.thawing,
            "total": cost.total(),
        })
    };
    let pack = |pack: &PlannedPack| {
        json!({
            "name": pack.name,
            "bytes": pack.bytes,
            "bytes_read": pack.bytes_read,
            "requests": pack.requests_n,
            "frozen": pack.is_frozen,
        })
    };
    json!({
        "snapshot": snapshot.id.to_string(),
        "streams": plan.streams_n,
        "bytes": plan.bytes,
        "takes": takes,
        "bytes_read": sum(plan, |pack| pack.bytes_read) + plan.manifest_bytes,
        "reads": sum(plan, |pack| pack.requests_n) + plan.opening.reads_n,
        "lists": plan.opening.lists_n,
        "frozen": frozen(plan).count(),
        "packs": plan.packs.iter().map(pack).collect::<Vec<_>>(),
        "cost": cost.map(cost_to_json),
    })
}

fn to_text(
    snapshot: &Snapshot,
    plan: &RestorePlan,
    takes: Option<&str>,
    (cost, thaw_list): (Option<&Cost>, Option<&Path>),
) -> String {
    let mut table = Table::new(&["PACK", ">SIZE", ">READ", ">REQUESTS", "STATE"]);
    for pack in &plan.packs {
        table.row([
            // The kind, and the first digits of the id.
            pack.name.chars().take("packs/".len() + 8).collect(),
            human::bytes(pack.bytes),
            human::bytes(pack.bytes_read),
            human::count(pack.requests_n),
            if pack.is_frozen { "to be thawed" } else { "" }.to_owned(),
        ]);
    }
    let streams = human::counted(plan.streams_n, "stream");
    let frozen_n = frozen(plan).count() as u64;
    let mut facts = vec![
        ("snapshot", format!("{} of {}", snapshot.id.short(), snapshot.record.source)),
        ("as of", time::for_people(snapshot.record.started_ms)),
        ("restores", format!("{streams}, {}", human::bytes(plan.bytes))),
        ("takes", takes.unwrap_or("nobody knows yet: no restore to files was timed here").to_owned()),
        (
            "reads",
            format!(
                "about {} of {}, {} in {}",
                human::bytes(sum(plan, |pack| pack.bytes_read)),
                human::bytes(sum(plan, |pack| pack.bytes)),
                human::counted(sum(plan, |pack| pack.requests_n), "request"),
                human::counted(plan.packs.len() as u64, "pack")
            ),
        ),
        (
            "besides",
            format!(
                "{} and {} for the index and the manifests",
                human::counted(plan.opening.lists_n, "listing"),
                human::counted(plan.opening.reads_n, "read")
            ),
        ),
    ];
    let thaw_list = thaw_list.map(|path| format!(", listed in {}", path.display())).unwrap_or_default();
    match frozen_n {
        0 => facts.push(("thaw first", format!("nothing{thaw_list}"))),
        n => {
            let bytes = human::bytes(frozen(plan).map(|pack| pack.bytes).sum());
            facts.push(("thaw first", format!("{}, {bytes}{thaw_list}", human::counted(n, "pack"))));
        }
    }
    if let Some(cost) = cost {
        facts.push((
            "cost",
            format!(
                "{:.4} {}: {:.4} requests, {:.4} retrieval, {:.4} traffic, {:.4} thawing",
                cost.total(),
                cost.currency,
                cost.requests,
                cost.retrieval,
                cost.traffic,
                cost.thawing
            ),
        ));
    }
    format!("{}\n{}", table.render(), output::facts(&facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_prefix_of_the_location() {
        assert_eq!(bucket_and_prefix("s3://backups/db/app"), ("backups", "db/app/".to_owned()));
        assert_eq!(bucket_and_prefix("s3://backups"), ("backups", String::new()));
        assert_eq!(bucket_and_prefix("/srv/backup"), ("", String::new()));
    }
}
