//! `dedump check`: looks for damage.

use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::human;
use crate::progress::Work;
use clap::Args;
use dedump_core::{CheckReport, Finding, FindingKind, ReadData, SnapshotId, check, probe_store};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Look for damage; changes no data
///
/// Without --read-data the structure is checked: that every snapshot's data is listed and its packs are there. With it,
/// the packs are read, and every chunk in them is decrypted and hashed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dedump check                      the structure
  dedump check --read-data          and all data
  dedump check --read-data=10%      and a tenth of it, another one every time
  dedump check --read-data=2/7      and the second of seven parts: all of it in a week

The exit code is 4 if something is damaged or missing.")]
pub struct CheckArgs {
    /// Read the data, too: all of it, a share like 10%, or a part like 2/7
    #[arg(long, value_name = "PERCENT%|N/M", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    #[arg(value_parser = read_data)]
    read_data: Option<ReadData>,
    /// Probe the store, too: whether it keeps what commit and prune rest on; writes and deletes a few small objects
    #[arg(long)]
    store: bool,
}

/// Reads how much of the data is to be read: `all`, `10%`, `2/7`.
fn read_data(text: &str) -> Result<ReadData, String> {
    let wrong = || "write it as 10% (more than 0, up to 100), 2/7 (part 2 of 7), or all".to_owned();
    if text == "all" {
        return Ok(ReadData::All);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        let in_range = percent > 0.0 && percent <= 100.0;
        return if in_range { Ok(ReadData::Share { percent, seed: 0 }) } else { Err(wrong()) };
    }
    let (part, parts_n) = text.split_once('/').ok_or_else(wrong)?;
    match (part.parse(), parts_n.parse()) {
        (Ok(part), Ok(parts_n)) if (1..=parts_n).contains(&part) => Ok(ReadData::Part { part, parts_n }),
        _ => Err(wrong()),
    }
}

/// Runs it.
pub fn run(context: &Context, args: &CheckArgs) -> Outcome {
    let read_data = match args.read_data {
        Some(ReadData::Share { percent, .. }) => ReadData::Share { percent, seed: another_seed() },
        Some(read_data) => read_data,
        None => ReadData::Nothing,
    };
    let started = Instant::now();
    // The store is judged, and nothing else.
    let opening = context.opening()?.without_cache();
    let report = context.with_opening(opening, "nothing was changed", async |repository| {
        if args.store {
            probe_store(&repository).await?;
        }
        let mut report = check(&repository, read_data, &context.started_meter(Work::Objects("check"))).await?;
        if args.store {
            report.notes.push("the store keeps what commits and prunes rest on".to_owned());
        }
        Ok(report)
    })?;
    let found = !report.findings.is_empty();
    if found {
        // Damage is worth a word even where reports are not.
        context.print(|| to_json(&report), || to_text(&report, started.elapsed()))?;
        return Ok(Exit::Damage);
    }
    context.report(|| to_json(&report), || to_text(&report, started.elapsed()))?;
    Ok(Exit::Done)
}

/// Other packs every time: the clock is random enough for that.
fn another_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn to_json(report: &CheckReport) -> serde_json::Value {
    let finding = |finding: &Finding| {
        json!({
            "kind": finding.kind.name(),
            "object": finding.object,
            "why": finding.why,
            "snapshots": finding.snapshots.iter().map(SnapshotId::to_string).collect::<Vec<_>>(),
            "advice": finding.kind.advice(),
        })
    };
    json!({
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "notes": report.notes,
        "snapshots": report.snapshots_n,
        "nodes": report.nodes_n,
        "chunks": report.chunks_n,
        "packs": report.packs_n,
        "packs_read": report.packs_read_n,
        "bytes_read": report.bytes_read,
    })
}

fn to_text(report: &CheckReport, took: Duration) -> String {
    let mut text: String = report.findings.iter().map(finding_lines).collect();
    for note in &report.notes {
        text.push_str(&format!("note: {}\n", human::safe(note)));
    }
    let read = match report.packs_read_n {
        0 => String::new(),
        packs_n => format!("; read {} of {}", human::bytes(report.bytes_read), human::counted(packs_n, "pack")),
    };
    text.push_str(&format!(
        "checked {}, {}, {} in {}{read}, in {}\n",
        human::counted(report.snapshots_n, "snapshot"),
        human::counted(report.nodes_n, "manifest node"),
        human::counted(report.chunks_n, "chunk"),
        human::counted(report.packs_n, "pack"),
        human::duration(took)
    ));
    text.push_str(&verdict(report));
    text
}

/// What it all means, in one line.
fn verdict(report: &CheckReport) -> String {
    let hurt: BTreeSet<&SnapshotId> = report.findings.iter().flat_map(|finding| &finding.snapshots).collect();
    // A snapshot whose own object is damaged does not stand, and is not counted among those that do.
    let is_lost = |finding: &&Finding| finding.kind == FindingKind::SnapshotDamaged;
    let lost_n = report.findings.iter().filter(is_lost).count() as u64;
    let found = human::counted(report.findings.len() as u64, "finding");
    match (report.findings.len(), hurt.len() as u64 + lost_n) {
        (0, _) => "no damage found\n".to_owned(),
        (_, 0) => format!("{found} of damage; every snapshot can be restored\n"),
        (_, hurt_n) => {
            let all = human::counted(report.snapshots_n + lost_n, "snapshot");
            format!("{found} of damage; {} of {all} can't be restored whole\n", human::count(hurt_n))
        }
    }
}

fn finding_lines(finding: &Finding) -> String {
    let mut text =
        format!("{}: {}: {}\n", finding.kind.name(), human::safe(&finding.object), human::safe(&finding.why));
    if !finding.snapshots.is_empty() {
        let ids: Vec<String> = finding.snapshots.iter().map(SnapshotId::short).collect();
        text.push_str(&format!("  hurts {}\n", ids.join(", ")));
    }
    text.push_str(&format!("  what to do: {}\n", finding.kind.advice()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_counts_the_snapshots_that_are_lost() {
        let finding = |kind, snapshots: &[u8]| Finding {
            kind,
            object: "x".to_owned(),
            why: "y".to_owned(),
            snapshots: snapshots.iter().map(|&n| dedump_core::SessionId([n; 16])).collect(),
        };
        let report = |findings| CheckReport { findings, snapshots_n: 3, ..CheckReport::default() };
        assert_eq!(verdict(&report(vec![])), "no damage found\n");
        let index = finding(FindingKind::FragmentMissing, &[]);
        assert_eq!(verdict(&report(vec![index])), "1 finding of damage; every snapshot can be restored\n");
        let packs = vec![finding(FindingKind::PackMissing, &[1, 2]), finding(FindingKind::PackDamaged, &[2])];
        assert_eq!(verdict(&report(packs)), "2 findings of damage; 2 of 3 snapshots can't be restored whole\n");
        let snapshot = finding(FindingKind::SnapshotDamaged, &[]);
        assert_eq!(verdict(&report(vec![snapshot])), "1 finding of damage; 1 of 4 snapshots can't be restored whole\n");
    }

    #[test]
    fn the_share_of_the_data_is_all_or_percent_or_a_part() {
        assert_eq!(read_data("all"), Ok(ReadData::All));
        assert_eq!(read_data("10%"), Ok(ReadData::Share { percent: 10.0, seed: 0 }));
        assert_eq!(read_data("0.5 %"), Ok(ReadData::Share { percent: 0.5, seed: 0 }));
        assert_eq!(read_data("2/7"), Ok(ReadData::Part { part: 2, parts_n: 7 }));
        for wrong in ["", "10", "0%", "101%", "-1%", "nan%", "%", "0/7", "8/7", "1/0", "1/", "x/y", "some"] {
            assert!(read_data(wrong).is_err(), "{wrong:?}");
        }
    }
}
