//! How long the command line takes to list a thousand snapshots beside a million chunks, as its user sees it: a process,
//! started and ended.

use crate::mark::{self, DayEngine};
use crate::parts;
use crate::table::{Row, mib, ms};
use crate::timing::{children_peak_bytes, median, secs};
use crate::{Result, Size, key_file_text, program, secret};
use dedump_core::{
    BackupOptions, Compression, CreateOptions, DeltaMode, Engine, OpenOptions, Repository, Sink, Store, Verdict,
    async_trait, backup,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How long the list of a thousand snapshots may take.
const SECS_MAX: f64 = 0.1;
/// What its process may take.
const BYTES_MAX: u64 = 120 << 20;

/// The word for its parts.
pub const PART: &str = "snapshots";

/// Makes a repository of so many snapshots and chunks in a directory, and lists them with the real binary.
///
/// # Errors
/// The binary cannot be built or fails; a backup fails.
pub fn measure(size: Size) -> Result<Vec<Row>> {
    let (snapshots_n, pages_n) = size.choose((1000, 1_080_000), (200, 50_000));
    let dedump = program::build()?;
    let folder = tempfile::tempdir()?;
    let repository = folder.path().join("repository");
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, key_file_text())?;
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (fill_secs, filled) = secs(|| runtime.block_on(fill(&repository, snapshots_n)));
    filled?;
    let chunks_n = runtime.block_on(fill_index(&repository, pages_n))?;

    let path = |path: &Path| Ok::<_, &str>(path.to_str().ok_or("a temporary path is no UTF-8")?.to_owned());
    let (dedump, folder) = (path(&dedump)?, path(folder.path())?);
    let (snapshots_n, rounds_n) = (snapshots_n.to_string(), size.choose(31, 11).to_string());
    // A process of its own for each, or the peak of one command would hide behind another's.
    let part = |command: &str| parts::start(&[PART, command, &dedump, &folder, &snapshots_n, &rounds_n]);
    let (list, json, nothing, tiny) = (part("list")?, part("json")?, part("nothing")?, part("backup")?);
    let median_secs = |facts: &parts::Facts| facts.number("median_us").map(|micros| micros as f64 / 1e6);
    let peak = |facts: &parts::Facts| facts.number("children_peak_bytes").map(|bytes| bytes as f64);
    let chunks = format!("{:.2} million chunks", chunks_n as f64 / 1e6);
    Ok(vec![
        Row::at_most(
            format!("`dedump snapshots`, {snapshots_n} snapshots, {chunks}, key file"),
            median_secs(&list)?,
            SECS_MAX,
            ms,
        ),
        Row::at_most("its peak memory", peak(&list)?, BYTES_MAX as f64, mib),
        Row::figure("the quickest of its runs", ms(list.number("least_us")? as f64 / 1e6)),
        Row::figure("the same with `--json`", ms(median_secs(&json)?)),
        Row::figure("`dedump --version`: the process alone", ms(median_secs(&nothing)?)),
        Row::figure(format!("a tiny backup, which loads the index of {chunks}"), ms(median_secs(&tiny)?)),
        Row::figure("its peak memory", mib(peak(&tiny)?)),
        Row::figure(
            format!("a tiny backup, mean over the {snapshots_n} before those chunks"),
            ms(fill_secs / snapshots_n.parse::<f64>()?),
        ),
    ])
}

/// Runs one command several times, in a process of its own; returns the lines to report.
///
/// # Errors
/// The command's, or one that there is not.
pub fn part(args: &[&str]) -> Result<String> {
    let [name, dedump, folder, snapshots_n, rounds_n] = args else {
        return Err("a part needs a name, a binary, a folder and two numbers".into());
    };
    let (folder, snapshots_n, rounds_n) = (Path::new(folder), snapshots_n.parse()?, rounds_n.parse()?);
    let (args, bytes_min): (&[&str], usize) = match *name {
        "list" => (&["snapshots"], snapshots_n),
        "json" => (&["snapshots", "--json"], snapshots_n),
        "nothing" => (&["--version"], 1),
        "backup" => (&["backup", "--quiet", "--name", "app", "-"], 0),
        _ => return Err(format!("there is no part {name}").into()),
    };
    let runs = (0..rounds_n).map(|_| run(Command::new(dedump).args(args), folder, bytes_min));
    let runs = runs.collect::<Result<Vec<f64>>>()?;
    let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
    let micros = |secs: f64| (secs * 1e6) as u64;
    Ok(format!(
        "median_us {}\nleast_us {}\nchildren_peak_bytes {}\n",
        micros(median(runs)),
        micros(least),
        children_peak_bytes()?
    ))
}

/// Runs a command that must print at least so many bytes, and returns its time in seconds.
fn run(command: &mut Command, folder: &Path, bytes_min: usize) -> Result<f64> {
    command.env("DEDUMP_REPO", folder.join("repository")).env("DEDUMP_KEY_FILE", folder.join("key"));
    command.env_remove("DEDUMP_CACHE_DIR").stderr(Stdio::inherit()).stdout(Stdio::piped()).stdin(Stdio::piped());
    let (secs_n, output) = secs(|| {
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().ok_or("a child without standard input")?;
        // What does not read it has ended, maybe.
        let _ = stdin.write_all(b"a tiny dump\n");
        drop(stdin);
        Result::Ok(child.wait_with_output()?)
    });
    let output = output?;
    if !output.status.success() || output.stdout.len() < bytes_min {
        return Err(format!("{command:?} ended with {} and {} bytes", output.status, output.stdout.len()).into());
    }
    Ok(secs_n)
}

async fn fill(folder: &Path, snapshots_n: u32) -> Result<()> {
    // Short chunks, so that a million of them take little room; what the index holds of each is the same.
    let create = CreateOptions { chunker: mark::short_chunks(), ..CreateOptions::default() };
    let repository = Repository::create(Store::create_local(folder)?, &secret(), create).await?;
    for number in 0..snapshots_n {
        let mut options = BackupOptions::new(format!("app{}", number % 10), "db1.example.org");
        options.tags.insert("env".to_owned(), "production".to_owned());
        options.shrunk_percent = 0;
        // A hundred different dumps: a repository in which most days brought nothing new.
        backup(&repository, &TinyEngine(number % 100), &options, &()).await?;
    }
    Ok(())
}

/// Adds a snapshot of many short chunks; returns how many.
async fn fill_index(folder: &Path, pages_n: u64) -> Result<u64> {
    let repository = Repository::open(Store::local(folder)?, &secret(), OpenOptions::default()).await?;
    let mut options = BackupOptions::new("large", "db1.example.org");
    options.compression = Compression::Level(1);
    options.delta = DeltaMode::Off;
    let engine = DayEngine { day: 0, pages_n, turns: Arc::new(Semaphore::new(1)) };
    Ok(backup(&repository, &engine, &options, &()).await?.snapshot.record.totals.chunks_new_n)
}

/// A small dump with the facts that the command engine notes of `pg_dump`.
struct TinyEngine(u32);

#[async_trait]
impl Engine for TinyEngine {
    fn kind(&self) -> &str {
        "command"
    }

    async fn dump(&self, sink: &Sink) -> dedump_core::Result<Verdict> {
        let mut stream = sink.stream("app.dump").await?;
        stream.write(format!("COPY public.t FROM stdin;\n{}\n\\.\n", self.0).as_bytes()).await?;
        stream.finish(BTreeMap::from([("format".to_owned(), "pg_dump plain".to_owned())])).await?;
        let facts = [
            ("argv", r#"["pg_dump","--host","db1.example.org","--format","plain","--no-password","app"]"#),
            ("exit", "0"),
            ("server_version", "15.13 (Debian 15.13-0+deb12u1)"),
        ];
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Verdict { facts, ..Verdict::default() })
    }
}
