//! dedump itself, as a process at a pipe.

use super::alone::drain;
use crate::timing::{children_secs, secs};
use crate::{Result, key_file_text, program, secret};
use dedump_core::{CreateOptions, Filter, OpenOptions, Repository, Store, Totals, find};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::runtime::Runtime;

/// What a process took for each GB (10^9 bytes) of the text, from its start to its end.
#[derive(Debug, Default, Clone, Copy)]
pub struct Took {
    /// Seconds by the clock.
    pub wall: f64,
    /// Seconds of a processor, all threads together.
    pub work: f64,
}

/// The three paths of a dump.
#[derive(Debug, Default, Clone, Copy)]
pub struct Paths {
    pub new: Took,
    pub duplicate: Took,
    pub restore: Took,
}

/// The real binary, and where it works.
pub struct Dedump<'a> {
    binary: PathBuf,
    folder: &'a Path,
    runtime: Runtime,
}

impl<'a> Dedump<'a> {
    /// Builds the binary, and writes a key file into the folder.
    ///
    /// # Errors
    /// The binary does not build; the folder can't be written.
    pub fn create(folder: &'a Path) -> Result<Self> {
        let key_file = folder.join("key");
        std::fs::write(&key_file, key_file_text())?;
        std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Dedump { binary: program::build()?, folder, runtime })
    }

    /// Backs a text up into a new repository, backs it up again, and gives it back.
    ///
    /// # Errors
    /// A process that fails, or that did something else.
    pub fn round(&self, text: &[u8]) -> Result<Paths> {
        let repository = self.repository();
        self.runtime.block_on(async {
            Repository::create(Store::create_local(&repository)?, &secret(), CreateOptions::default()).await
        })?;
        let new = self.back_up(text)?;
        let first = self.newest_totals()?;
        let duplicate = self.back_up(text)?;
        let second = self.newest_totals()?;
        let restore = self.restore(text)?;
        std::fs::remove_dir_all(repository)?;
        if [&first, &second].iter().any(|totals| totals.bytes != text.len() as u64)
            || first.chunks_new_n == 0
            || second.chunks_new_n != 0
        {
            return Err("a backup did not store the text once".into());
        }
        Ok(Paths { new, duplicate, restore })
    }

    fn back_up(&self, text: &[u8]) -> Result<Took> {
        let mut command = self.command(&["backup", "--quiet", "--name", "text", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        took(command, text, |child| {
            let mut stdin = child.stdin.take().ok_or("a child without standard input")?;
            match stdin.write_all(text) {
                // It says itself why it has read no more.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                written => Ok(written?),
            }
        })
    }

    fn restore(&self, text: &[u8]) -> Result<Took> {
        let mut command = self.command(&["restore", "--quiet", "latest", "--stream", "text", "--to", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut bytes_n = 0;
        let took = took(command, text, |child| {
            bytes_n = drain(&mut child.stdout.take().ok_or("a child without standard output")?)?;
            Ok(())
        })?;
        // dedump has compared every byte with what it stored.
        if bytes_n == text.len() as u64 { Ok(took) } else { Err("the restore gave back something else".into()) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env("DEDUMP_REPO", self.repository()).env("DEDUMP_KEY_FILE", self.folder.join("key"));
        // A repository on this machine has no cache unless one is named: every pack would be written twice.
        command.env_remove("DEDUMP_CACHE_DIR");
        command
    }

    fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    fn newest_totals(&self) -> Result<Totals> {
        self.runtime.block_on(async {
            let store = Store::local(self.repository())?;
            let repository = Repository::open(store, &secret(), OpenOptions::default()).await?;
            Ok(find(&repository, "latest", &Filter::default()).await?.record.totals)
        })
    }
}

/// Runs a process, with somebody at the other end of its pipe, until it has ended; its last words are in the error.
fn took(mut command: Command, text: &[u8], peer: impl FnOnce(&mut Child) -> Result<()>) -> Result<Took> {
    command.stderr(Stdio::piped());
    let work_before = children_secs()?;
    let (wall_secs, output) = secs(|| {
        let mut child = command.spawn()?;
        let met = peer(&mut child);
        let output = child.wait_with_output()?;
        met.map(|()| output)
    });
    let (output, work_secs) = (output?, children_secs()? - work_before);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} ended with {}: {}", output.status, said.trim()).into());
    }
    let gb = text.len() as f64 / 1e9;
    Ok(Took { wall: wall_secs / gb, work: work_secs / gb })
}
