//! How long the command line takes to list a thousand snapshots, as its user sees it: a process, started and ended.

use crate::table::{Row, ms};
use crate::timing::{median, secs};
use crate::{Result, Size, key_file_text, program, secret};
use dedump_core::{BackupOptions, CreateOptions, Engine, Repository, Sink, Store, Verdict, async_trait, backup};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// How long the list of a thousand snapshots may take.
const SECS_MAX: f64 = 0.1;

/// Makes a repository of so many snapshots in a directory, and lists them with the real binary.
///
/// # Errors
/// The binary cannot be built or fails; a backup fails.
pub fn measure(size: Size) -> Result<Vec<Row>> {
    let snapshots_n = size.choose(1000, 200);
    let dedump = program::build()?;
    let folder = tempfile::tempdir()?;
    let (repository, key_file) = (folder.path().join("repository"), folder.path().join("key"));
    std::fs::write(&key_file, key_file_text())?;
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (fill_secs, filled) = secs(|| runtime.block_on(fill(&repository, snapshots_n)));
    filled?;

    let (mut list, mut json, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.choose(31, 11) {
        list.push(run(Command::new(&dedump).arg("snapshots"), &repository, &key_file, snapshots_n)?);
        json.push(run(Command::new(&dedump).args(["snapshots", "--json"]), &repository, &key_file, snapshots_n)?);
        nothing.push(run(Command::new(&dedump).arg("--version"), &repository, &key_file, 1)?);
    }
    let least = list.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(vec![
        Row::at_most(format!("`dedump snapshots`, {snapshots_n} snapshots, key file"), median(list), SECS_MAX, ms),
        Row::figure("the quickest of its runs", ms(least)),
        Row::figure("the same with `--json`", ms(median(json))),
        Row::figure("`dedump --version`: the process alone", ms(median(nothing))),
        Row::figure(format!("a tiny backup, mean over {snapshots_n}"), ms(fill_secs / f64::from(snapshots_n))),
    ])
}

/// Runs a command that must print at least so many lines (or bytes), and returns its time in seconds.
fn run(command: &mut Command, repository: &Path, key_file: &Path, lines_n: u32) -> Result<f64> {
    command.env("DEDUMP_REPO", repository).env("DEDUMP_KEY_FILE", key_file).stderr(Stdio::inherit());
    let (secs_n, output) = secs(|| command.output());
    let output = output?;
    if !output.status.success() || output.stdout.len() < lines_n as usize {
        return Err(format!("{command:?} ended with {} and {} bytes", output.status, output.stdout.len()).into());
    }
    Ok(secs_n)
}

async fn fill(folder: &Path, snapshots_n: u32) -> Result<()> {
    let repository = Repository::create(Store::create_local(folder)?, &secret(), CreateOptions::default()).await?;
    for number in 0..snapshots_n {
        let mut options = BackupOptions::new(format!("app{}", number % 10), "db1.example.org");
        options.tags.insert("env".to_owned(), "production".to_owned());
        options.shrunk_percent = 0;
        // A hundred different dumps: a repository in which most days brought nothing new.
        backup(&repository, &TinyEngine(number % 100), &options, &()).await?;
    }
    Ok(())
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
