//! `dedump backup`: dumps into the repository.

use crate::args;
use crate::context::{Context, host_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::{Meter, Work};
use crate::sources::{Listener, SourceArgs};
use crate::{human, json, output, secret, sources};
use clap::{Args, ValueEnum};
use dedump_core::{
    BackupOptions, BackupReport, Compression, DeltaMode, Engine, Filter, Quality, backup, check_stream_name, find,
};
use dedump_engines::{CommandEngine, CommandOptions, Several, StdinEngine, StdinOptions};
use serde_json::json;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Back up databases, files, what commands print, or standard input
///
/// A source is a database's URL, a directory, or a command; several become one snapshot. With --, dedump runs one command itself, without a
/// shell, and stores its standard output. The snapshot is made only when every dump has succeeded and looks whole: a dump that
/// failed never becomes a snapshot. With `-`, standard input is stored; nobody tells dedump then whether the command before the
/// pipe failed, so prefer the other forms.
#[derive(Debug, Args)]
#[command(
    override_usage = "dedump backup [OPTIONS] [NAME=]SOURCE...\n       \
                      dedump backup [OPTIONS] --name NAME -- COMMAND [ARG]...\n       \
                      COMMAND | dedump backup [OPTIONS] --name NAME -",
    after_help = "\
Sources:
  postgres://USER@HOST:PORT/DATABASE   a PostgreSQL database, in one moment, with its roles; * stands for all databases.
                                       As libpq reads URLs: postgres:///app?host=/run/postgresql, ?sslmode=verify-full, ...
  files:PATH                           a file or a directory with all that is in it: owners, modes, times, links, holes
  cmd:'COMMAND ARG...'                 what a command prints; without a shell
  NAME=SOURCE                          the streams of a source lie in a folder of its name [default: the database's, directory's or program's]

Examples:
  dedump backup postgres://backup@db1/app
  dedump backup 'postgres://backup@db1/*' --jobs 2
  dedump backup postgres:///app files:/etc/app conf=cmd:'kubectl get configmap -o yaml' --name nightly
  dedump backup postgres://app@localhost/app --via 'kubectl exec -i db-0 --'
  dedump backup --name app.dump -- pg_dump -Fc -Z0 app
  dedump backup --name app.sql --tag env=prod -- mariadb-dump --single-transaction app
  pg_dump -Fc -Z0 app | dedump backup --name app.dump -

Let the dump tool compress nothing (-Z0): compressed dumps of two days have hardly a byte in common."
)]
pub struct BackupArgs {
    /// Name of the stream of a command or of standard input, a file name or a relative path; of sources, what is dumped
    #[arg(long, short, value_name = "NAME")]
    name: Option<String>,
    /// What is dumped; the snapshots of one source follow one another [default: --name, or the name of the only source]
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
    /// auto, or zstd's level, from -7 (fast) to 19 (small)
    ///
    /// auto: quickly, and harder while a store that is far away takes less than what is ready for it.
    #[arg(long, value_name = "LEVEL", default_value = "auto", allow_negative_numbers = true, value_parser = args::compression)]
    compression: Compression,
    /// Compress new chunks against like ones of the snapshot before: auto, always or off
    ///
    /// auto: where those can be read back cheaply, from a repository on this machine or from the local cache. always: fetch
    /// them from anywhere. off: never, and prepare nothing for it.
    #[arg(long, value_name = "WHEN", default_value = "auto", value_enum, hide_possible_values = true)]
    delta: Delta,
    /// Compress against this snapshot: an id or `latest` [default: the newest of the source, of this host first]
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<String>,
    /// What to back up, see below; - stands for standard input
    #[arg(value_name = "SOURCE")]
    input: Vec<OsString>,
    #[command(flatten)]
    sources: SourceArgs,
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
    let meter = context.meter(Work::Backup);
    let (engine, name) = engine(context, &args, &meter)?;
    let mut options = options(&args, args.source.clone().unwrap_or(name));
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

fn options(args: &BackupArgs, source: String) -> BackupOptions {
    let mut options = BackupOptions::new(source, args.host.clone().unwrap_or_else(host_name));
    options.tags = args.tags.iter().cloned().collect();
    options.compression = args.compression;
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

/// Returns the engine of what is to be backed up, and the name of that if no other is given.
fn engine(context: &Context, args: &BackupArgs, meter: &Meter) -> Result<(Box<dyn Engine>, String), Failure> {
    let is_alone = |word: &OsString| word == "-" || !sources::is_source(word);
    if args.command.is_empty() && !args.input.is_empty() && !args.input.iter().any(is_alone) {
        return several(context, args, meter);
    }
    if let Some(flag) = args.sources.first_given() {
        return Err(Failure::usage(format!("{flag} is for sources such as postgres://USER@HOST/DATABASE; see --help")));
    }
    alone(context, args, meter)
}

fn several(context: &Context, args: &BackupArgs, meter: &Meter) -> Result<(Box<dyn Engine>, String), Failure> {
    let listener: Option<Listener> = (!context.quiet()).then(|| Arc::new(meter.passing_on()) as Listener);
    let sources = args.sources.sources(&args.input, args.allow_empty, listener.as_ref())?;
    let name = match (args.name.as_ref().or(args.source.as_ref()), &sources[..]) {
        (Some(name), _) => name.clone(),
        (None, [source]) => format!("{}{}", source.name(), args.sources.suffix()),
        (None, _) => return Err(Failure::usage("what are these sources together? name them, as in --name nightly")),
    };
    Ok((Box::new(Several::new(sources)?.partial(args.sources.is_partial())), name))
}

fn alone(context: &Context, args: &BackupArgs, meter: &Meter) -> Result<(Box<dyn Engine>, String), Failure> {
    let allow_empty = args.allow_empty;
    let name = || {
        let name =
            args.name.clone().ok_or_else(|| Failure::usage("what shall the stream be called? say --name NAME"))?;
        check_stream_name(&name)?;
        Ok::<_, Failure>(name)
    };
    match (&args.input[..], &args.command[..]) {
        ([dash], []) if dash == "-" => {
            let name = name()?;
            Ok((Box::new(StdinEngine::new(&name, StdinOptions { allow_empty })?), name))
        }
        ([], []) => Err(Failure::usage(
            "back up what? give a source, as in `dedump backup postgres://USER@HOST/DATABASE`, a command behind --, as in \
             `dedump backup --name app.dump -- pg_dump -Fc -Z0 app`, or - for standard input",
        )),
        ([], argv) => {
            let options = CommandOptions {
                allow_empty,
                env_removed: secret::PASSWORD_VARIABLES.map(Into::into).to_vec(),
                ..CommandOptions::default()
            };
            let name = name()?;
            let engine = CommandEngine::new(&name, argv.to_vec(), options)?;
            // Quiet or not, the last of it is in the error if the command fails.
            let engine = if context.quiet() { engine } else { engine.on_stderr(meter.passing_on()) };
            Ok((Box::new(engine), name))
        }
        (words, _) if words.iter().any(|word| word == "-" || sources::is_source(word)) => {
            Err(Failure::usage("give sources, or - for standard input, or a command behind --, and not two of them"))
        }
        ([word, ..], _) => Err(Failure::usage(format!(
            "what is {word:?}? a source is postgres://USER@HOST/DATABASE, files:PATH or cmd:'COMMAND'; put -- before a command, as in \
             `dedump backup --name app.dump -- pg_dump -Fc -Z0 app`"
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
