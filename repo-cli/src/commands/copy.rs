//! `dedump copy`: a second home for snapshots.

use crate::args::{FilterArgs, compression, tag};
use crate::context::{Context, host_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::other::{Other, Purpose};
use crate::output::{self, Table};
use crate::progress::Work;
use crate::secret::{SecretFlags, TO};
use crate::{human, json, runtime, time};
use clap::Args;
use dedump_core::{
    Compression, CopyOptions, CopyPlan, CopyReport, Filter, Repository, Snapshot, copy, find, list, plan_copy,
};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Copy snapshots to another repository, which then holds complete dumps of its own
///
/// Only what it lacks is sent, and what is there already is not copied again; nor is what was forgotten there, so that it
/// may keep less. Broken off anywhere, it goes on when it is run again. Make the other one with `dedump init --like THIS`:
/// then what is stored moves as it is; any other repository takes copies, too, and every dump is read whole for it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dedump --repo s3://copies/app init --like /backup/app
  dedump --repo /backup/app copy --to s3://copies/app
  dedump --repo /backup/app copy --to s3://copies/app --source app.dump --since 2026-01-01 --dry-run")]
pub struct CopyArgs {
    /// Snapshots to copy: first digits of their ids, or `latest` [default: all that the filters leave]
    snapshots: Vec<String>,
    #[command(flatten)]
    to: ToArgs,
    /// Copy also what was copied before and forgotten there
    #[arg(long)]
    again: bool,
    /// Say what would be copied, and copy nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Do not read back what was sent, to see that it arrived as it should
    ///
    /// Nor is it read back under a --storage-class, which holds for the other repository here.
    #[arg(long)]
    no_verify: bool,
    /// auto, or zstd's level for what has to be compressed anew, from -7 to 19
    #[arg(long, value_name = "LEVEL", default_value = "auto", allow_negative_numbers = true, hide_short_help = true)]
    #[arg(value_parser = compression)]
    compression: Compression,
    #[command(flatten)]
    filter: FilterArgs,
}

const OTHER: &str = "The other repository";

/// Where copies go.
#[derive(Debug, Clone, Args)]
struct ToArgs {
    /// Where the other repository lies
    #[arg(long, value_name = "LOCATION", help_heading = OTHER)]
    to: String,
    /// Read its password from this file's only line [env: DEDUMP_TO_PASSWORD_FILE]
    ///
    /// Without any of these and of DEDUMP_TO_PASSWORD, DEDUMP_TO_PASSWORD_FILE, DEDUMP_TO_PASSWORD_COMMAND and
    /// DEDUMP_TO_KEY_FILE, the secret of the first repository is tried.
    #[arg(long, value_name = "FILE", group = "to_secret", help_heading = OTHER)]
    to_password_file: Option<PathBuf>,
    /// Take the password that this command prints [env: DEDUMP_TO_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", group = "to_secret", help_heading = OTHER)]
    to_password_command: Option<String>,
    /// Open it with this key file [env: DEDUMP_TO_KEY_FILE]
    #[arg(long, value_name = "FILE", group = "to_secret", help_heading = OTHER)]
    to_key_file: Option<PathBuf>,
    /// Set what its store's provider calls KEY, before the environment, which both share; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag, hide_short_help = true, help_heading = OTHER)]
    to_store_option: Vec<(String, String)>,
    /// Read such settings from a file, a line each: credentials do not belong on a command line
    #[arg(long, value_name = "FILE", hide_short_help = true, help_heading = OTHER)]
    to_store_option_file: Option<PathBuf>,
}

impl ToArgs {
    fn other(self, purpose: Purpose) -> Other {
        Other {
            location: self.to,
            secret: SecretFlags {
                password_file: self.to_password_file,
                password_command: self.to_password_command,
                key_file: self.to_key_file,
            },
            variables: &TO,
            settings: self.to_store_option,
            settings_file: self.to_store_option_file,
            purpose,
        }
    }
}

/// Runs it.
pub fn run(context: &Context, args: CopyArgs) -> Outcome {
    let filter = args.filter.filter();
    if !args.snapshots.is_empty() && filter != Filter::default() && args.snapshots != ["latest"] {
        return Err(Failure::usage("give either ids or filters; with `latest`, filters say among which"));
    }
    let mut options = CopyOptions::new(host_name());
    options.compression = args.compression;
    let opening = context.opening_to_read()?;
    // What lies in an archive can't be read back.
    let is_verified = !args.no_verify && context.store_options().storage_classes.is_empty();
    let purpose = if is_verified { Purpose::Verified } else { Purpose::Written };
    let other = args.to.other(purpose).opening(context, opening.credential())?;
    let store = other.opening().store().clone();
    let meter = context.meter(Work::Copy);
    let started = Instant::now();
    let work = async {
        let from = opening.open(context).await?;
        let to = other.open(context).await?;
        let (snapshots, mut problems) = chosen(&from, &args.snapshots, &filter).await?;
        let plan = plan_copy(&from, &to, snapshots, args.again).await?;
        if args.dry_run {
            return Ok((plan, None));
        }
        meter.start();
        let mut report = copy(&from, &to, &plan, &options, &meter).await?;
        problems.append(&mut report.problems);
        report.problems = problems;
        Ok((plan, Some(report)))
    };
    let stands = "the copies that were complete stand; run it again, and it goes on";
    let done = runtime::run(work, Some(store.clone()), stands);
    drop(meter);
    opening.complain();
    other.opening().complain();
    let (plan, report) = done?;
    let Some(report) = report else {
        context.print(|| plan_to_json(&plan), || plan_to_text(&plan, store.location()))?;
        return Ok(Exit::Done);
    };
    report.problems.iter().for_each(|problem| output::warning(problem));
    for (id, why) in &report.failed {
        output::error(&format!("snapshot {} was not copied: {why}", id.short()));
    }
    context.report(|| to_json(&plan, &report), || to_text(&plan, &report, (store.location(), started.elapsed())))?;
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

/// Returns the snapshots that are meant, and what could not be read.
async fn chosen(from: &Repository, names: &[String], filter: &Filter) -> Result<(Vec<Snapshot>, Vec<String>), Failure> {
    if names.is_empty() {
        let listing = list(from, filter).await?;
        return Ok((listing.snapshots, listing.unreadable));
    }
    let mut snapshots: Vec<Snapshot> = Vec::new();
    for name in names {
        let snapshot = find(from, name, filter).await?;
        if snapshots.iter().all(|there| there.id != snapshot.id) {
            snapshots.push(snapshot);
        }
    }
    Ok((snapshots, Vec::new()))
}

fn way(plan: &CopyPlan) -> &'static str {
    if plan.names_alike { "as they are" } else { "cut anew: the repositories name chunks differently" }
}

fn left_out(plan: &CopyPlan) -> String {
    let mut text = format!("{} there already", human::count(plan.there_n));
    if plan.forgotten_n > 0 {
        text += &format!(", {} forgotten there (--again copies them)", human::count(plan.forgotten_n));
    }
    text
}

fn plan_to_text(plan: &CopyPlan, to: &str) -> String {
    let mut table = Table::new(&["ID", "TIME", "HOST", "SOURCE", ">SIZE"]);
    for snapshot in &plan.snapshots {
        let record = &snapshot.record;
        table.row([
            snapshot.id.short(),
            time::for_people(record.started_ms),
            record.host.clone(),
            record.source.clone(),
            human::bytes(record.totals.bytes),
        ]);
    }
    let table = if plan.snapshots.is_empty() { String::new() } else { format!("{}\n", table.render()) };
    let n = human::counted(plan.snapshots.len() as u64, "snapshot");
    format!("{table}would copy {n} to {to}, {}; {}; nothing was changed\n", way(plan), left_out(plan))
}

fn plan_to_json(plan: &CopyPlan) -> serde_json::Value {
    json!({
        "dry_run": true,
        "snapshots": plan.snapshots.iter().map(json::snapshot).collect::<Vec<_>>(),
        "there": plan.there_n,
        "forgotten": plan.forgotten_n,
        "names_alike": plan.names_alike,
        "problems": plan.problems,
    })
}

fn to_text(plan: &CopyPlan, report: &CopyReport, (to, took): (&str, Duration)) -> String {
    let sum = |of: fn(&Snapshot) -> u64| report.copied.iter().map(of).sum::<u64>();
    let (bytes, added) = (sum(|copy| copy.record.totals.bytes), sum(|copy| copy.record.totals.bytes_added));
    output::facts(&[
        (
            "copied",
            format!(
                "{}, {}, to {to} in {}",
                human::counted(report.copied.len() as u64, "snapshot"),
                human::bytes(bytes),
                human::duration(took)
            ),
        ),
        ("left out", left_out(plan)),
        ("way", way(plan).to_owned()),
        ("read", human::bytes(report.bytes_read)),
        ("sent", format!("{}, ratio {}", human::bytes(added), human::ratio(bytes, added))),
    ])
}

fn to_json(plan: &CopyPlan, report: &CopyReport) -> serde_json::Value {
    json!({
        "dry_run": false,
        "snapshots": report.copied.iter().map(json::snapshot).collect::<Vec<_>>(),
        "there": plan.there_n,
        "forgotten": plan.forgotten_n,
        "names_alike": plan.names_alike,
        "bytes_read": report.bytes_read,
        "failed": report
            .failed
            .iter()
            .map(|(id, why)| json!({ "id": id.to_string(), "why": why }))
            .collect::<Vec<_>>(),
        "problems": report.problems,
    })
}
