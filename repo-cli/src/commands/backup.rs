//! `dedump backup`: dumps into the repository.

use crate::args;
use crate::context::{Context, host_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::{Meter, Work};
use crate::{human, json, output, secret};
use clap::{Args, ValueEnum};
use dedump_core::{BackupOptions, BackupReport, DeltaMode, Engine, Filter, Quality, backup, check_stream_name, find};
use dedump_engines::{CommandEngine, CommandOptions, StdinEngine, StdinOptions};
use serde_json::json;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// Back up what a command prints, or standard input
///
/// dedump runs the command itself, without a shell, and stores its standard output. The snapshot is made only when the
/// command has exited with status 0 and its output looks whole: a dump that failed never becomes a snapshot. With `-`,
/// standard input is stored; nobody tells dedump then whether the command before the pipe failed, so prefer the first form.
#[derive(Debug, Args)]
#[command(
    override_usage = "dedump backup [OPTIONS] --name NAME -- COMMAND [ARG]...\n       \
                      COMMAND | dedump backup [OPTIONS] --name NAME -",
    after_help = "\
Examples:
  dedump backup --name app.dump -- pg_dump -Fc -Z0 app
  dedump backup --name app.sql --tag env=prod -- mariadb-dump --single-transaction app
  pg_dump -Fc -Z0 app | dedump backup --name app.dump -

Let the dump tool compress nothing (-Z0): compressed dumps of two days have hardly a byte in common."
)]
pub struct BackupArgs {
    /// Name of the stream: a file name, or a relative path
    #[arg(long, short, value_name = "NAME")]
    name: String,
    /// What is dumped; the snapshots of one source follow one another [default: the stream's name]
    #[arg(long, short, value_name = "SOURCE")]
    source: Option<String>,
    /// The host that is backed up [default: this host's name]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Label the snapshot; may be repeated
    #[arg(long = "tag", short, value_name = "KEY=VALUE", value_parser = args::tag)]
    tags: Vec<(String, String)>,
    /// Store a dump of no bytes, too
    #[arg(long)]
    allow_empty: bool,
    /// Do not mark a dump as suspicious that is less than half as long as the one before
    #[arg(long)]
    allow_shrink: bool,
    /// zstd's level, from -7 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = 3, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(-7..=19))]
    compression: i32,
    /// Compress new chunks against like ones of the snapshot before: auto, always or off
    ///
    /// auto: where those can be read back cheaply, from a repository on this machine or from the local cache. always: fetch
    /// them from anywhere. off: never, and prepare nothing for it.
    #[arg(long, value_name = "WHEN", default_value = "auto", value_enum, hide_possible_values = true)]
    delta: Delta,
    /// Compress against this snapshot: an id or `latest` [default: the newest of the source, of this host first]
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<String>,
    /// `-` stands for standard input; the usage line says so
    #[arg(value_name = "-", hide = true)]
    input: Vec<OsString>,
    /// The command to run, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Delta {
    Auto,
    Always,
    Off,
}

/// Runs it.
pub fn run(context: &Context, args: BackupArgs) -> Outcome {
    check_stream_name(&args.name)?;
    let mut options = options(&args);
    let meter = context.meter(Work::Backup);
    let engine = engine(context, &args, &meter)?;
    let started = Instant::now();
    let report = context.with_repository("nothing was committed", async |repository| {
        if let Some(parent) = &args.parent {
            options.parent = Some(find(&repository, parent, &Filter::default()).await?.id);
        }
        meter.start();
        Ok(backup(&repository, &*engine, &options, &meter).await?)
    })?;
    drop(meter);
    complain(&report);
    context.report(|| to_json(&report), || to_text(&report, started.elapsed()))?;
    Ok(if report.snapshot.record.quality == Quality::Good { Exit::Done } else { Exit::Doubtful })
}

fn options(args: &BackupArgs) -> BackupOptions {
    let source = args.source.clone().unwrap_or_else(|| args.name.clone());
    let mut options = BackupOptions::new(source, args.host.clone().unwrap_or_else(host_name));
    options.tags = args.tags.iter().cloned().collect();
    options.compression_level = args.compression;
    options.delta = match args.delta {
        Delta::Auto => DeltaMode::Auto,
        Delta::Always => DeltaMode::Always,
        Delta::Off => DeltaMode::Off,
    };
    if args.allow_shrink {
        options.shrunk_percent = 0;
    }
    options
}

fn engine(context: &Context, args: &BackupArgs, meter: &Meter) -> Result<Box<dyn Engine>, Failure> {
    let (name, allow_empty) = (args.name.as_str(), args.allow_empty);
    match (&args.input[..], &args.command[..]) {
        ([dash], []) if dash == "-" => Ok(Box::new(StdinEngine::new(name, StdinOptions { allow_empty })?)),
        ([], []) => Err(Failure::usage(
            "back up what? give a command behind --, as in `dedump backup --name app.dump -- pg_dump -Fc -Z0 app`, or - for \
             standard input, as in `pg_dump -Fc -Z0 app | dedump backup --name app.dump -`",
        )),
        ([], argv) => {
            let options = CommandOptions {
                allow_empty,
                env_removed: secret::PASSWORD_VARIABLES.map(Into::into).to_vec(),
                ..CommandOptions::default()
            };
            let engine = CommandEngine::new(name, argv.to_vec(), options)?;
            // Quiet or not, the last of it is in the error if the command fails.
            let engine = if context.quiet() { engine } else { engine.on_stderr(meter.passing_on()) };
            Ok(Box::new(engine))
        }
        ([dash, ..], _) if dash == "-" => {
            Err(Failure::usage("give either - for standard input or a command behind --, not both"))
        }
        ([word, ..], _) => Err(Failure::usage(format!(
            "what is {word:?}? put -- before the command, as in `dedump backup --name app.dump -- pg_dump -Fc -Z0 app`"
        ))),
    }
}

fn complain(report: &BackupReport) {
    let record = &report.snapshot.record;
    record.warnings.iter().chain(&report.problems).for_each(|warning| output::warning(warning));
    for reason in &record.reasons {
        output::error(&format!("{} snapshot {}: {reason}", json::quality(record.quality), report.snapshot.id.short()));
    }
}

fn to_json(report: &BackupReport) -> serde_json::Value {
    json!({ "snapshot": json::snapshot(&report.snapshot), "problems": report.problems })
}

fn to_text(report: &BackupReport, took: Duration) -> String {
    let (snapshot, record) = (&report.snapshot, &report.snapshot.record);
    let totals = &record.totals;
    let quality = if record.quality == Quality::Good { "" } else { json::quality(record.quality) };
    output::facts(&[
        ("snapshot", format!("{} of {} {quality}", snapshot.id.short(), record.source).trim_end().to_owned()),
        (
            "read",
            format!("{} in {}, {}", human::bytes(totals.bytes), human::duration(took), human::rate(totals.bytes, took)),
        ),
        (
            "new",
            format!(
                "{} of {}, {} ({})",
                human::count(totals.chunks_new_n),
                human::counted(totals.chunks_n, "chunk"),
                human::bytes(totals.bytes_new),
                human::percent(totals.bytes_new, totals.bytes)
            ),
        ),
        (
            "added",
            format!("{}, ratio {}", human::bytes(totals.bytes_added), human::ratio(totals.bytes, totals.bytes_added)),
        ),
        ("saved", human::savings(totals.bytes.saturating_sub(totals.bytes_new), totals.saved_bytes())),
        ("chains", human::depths(totals.depths.iter().copied())),
        ("read back", human::bytes(totals.bytes_read_back)),
    ])
}
