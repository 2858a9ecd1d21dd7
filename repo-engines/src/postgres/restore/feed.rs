//! Streams of a snapshot into the standard input of a client tool, without blocking the runtime's threads.
//!
//! A tool that ends early has either failed, and then what it said is the error; or it has all that it wants, such as an
//! archive's table of contents, and then nothing more is read for it.

use crate::child::{self, Group, Invocation};
use crate::postgres::copy;
use crate::postgres::created;
use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, Snapshot, StreamRecord, Target, async_trait, restore,
};
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// Bytes of a tool's error output that are kept.
const SAID_BYTES: usize = 4 * 1024;
/// Ends a restore whose tool has all that it wants; nobody sees it.
const ENOUGH: &str = "the tool has all that it wants";

/// Takes what a tool prints.
#[async_trait]
pub(super) trait Taker: Send {
    /// Takes the next bytes.
    async fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Keeps what a tool prints in memory, up to a limit.
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    pub(super) bytes_max: usize,
}

#[async_trait]
impl Taker for Kept {
    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > self.bytes_max {
            return Err(Error::Target(format!(
                "the archive's table of contents has more than {} bytes",
                self.bytes_max
            )));
        }
        Ok(())
    }
}

/// How much of a stream its tool must read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// What it wants; the rest is not read from the repository.
    Part,
    /// Everything, so that the stream was verified whole when it ends.
    Whole,
}

/// What is fed, and how.
pub(super) struct Feed<'a> {
    /// How the tool for a stream is started.
    pub(super) invocation: &'a (dyn Fn(&StreamRecord) -> Result<Invocation> + Send + Sync),
    /// Where its output goes.
    pub(super) taker: &'a mut (dyn Taker + Send),
    pub(super) need: Need,
    /// Whether errors are counted that `pg_restore` has gone on after.
    pub(super) counts_errors: bool,
}

/// What tools said that were fed.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// Errors that `pg_restore` has gone on after.
    pub(super) errors_n: u64,
    /// Its last words about them.
    pub(super) problems: Vec<String>,
}

impl Feed<'_> {
    /// Feeds these streams, one after another, each to a tool of its own.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: a tool failed. Those of the repository.
    pub(super) async fn run(
        self,
        repository: &Repository,
        snapshot: &Snapshot,
        streams: &[String],
        progress: &dyn Progress,
    ) -> Result<Fed> {
        let need = self.need;
        let mut pipe = Pipe { feed: self, tool: None, fed: Fed::default(), has_enough: false };
        for stream in streams {
            let options = RestoreOptions { streams: vec![stream.clone()], ..RestoreOptions::default() };
            match restore(repository, snapshot, &options, &mut pipe, progress).await {
                Err(Error::Target(why)) if why == ENOUGH && need == Need::Part && pipe.has_enough => {}
                outcome => drop(outcome?),
            }
        }
        Ok(pipe.fed)
    }
}

struct Pipe<'a> {
    feed: Feed<'a>,
    tool: Option<Tool>,
    fed: Fed,
    has_enough: bool,
}

/// A tool that runs. Dropped, it is killed with its group.
struct Tool {
    // Before the child: see `child::Running`.
    group: Group,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
    /// The moment to put back into the first bytes of an archive.
    moment: Option<String>,
    head: Vec<u8>,
    /// What it is called, whatever it is that runs it.
    name: &'static str,
}

impl Tool {
    fn start(invocation: &Invocation, stream: &StreamRecord) -> Result<Tool> {
        let mut command = invocation.command();
        command.stdin(Stdio::piped());
        let (group, mut child) = invocation.spawn(&mut command)?;
        let stdin = child.stdin.take().expect("stdin is piped");
        child::enlarge_pipe(&stdin);
        // What the tool is told before the stream: a password, a list.
        Ok(Tool {
            group,
            stdin: Some(stdin),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            said: Vec::new(),
            moment: stream.facts.get(created::FACT).cloned(),
            head: invocation.input.clone(),
            name: if stream.name.ends_with(copy::SUFFIX) { "psql" } else { "pg_restore" },
        })
    }

    /// Writes bytes while what the tool prints is read; `false`: it takes no more. Without bytes, reads to the end.
    async fn exchange(&mut self, bytes: Option<&[u8]>, taker: &mut dyn Taker) -> Result<bool> {
        let mut stdin = self.stdin.take();
        let mut written = false;
        {
            let write = async {
                match (&mut stdin, bytes) {
                    (Some(stdin), Some(bytes)) => {
                        let all = async {
                            stdin.write_all(bytes).await?;
                            stdin.flush().await
                        };
                        all.await.is_ok()
                    }
                    (_, bytes) => bytes.is_none(),
                }
            };
            let mut write = std::pin::pin!(write);
            let (mut out, mut err) = (vec![0; 64 * 1024], [0; SAID_BYTES]);
            let mut is_written = false;
            while !is_written || bytes.is_none() && (self.stdout.is_some() || self.stderr.is_some()) {
                let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
                tokio::select! {
                    done = &mut write, if !is_written => (written, is_written) = (done, true),
                    read = read(stdout, &mut out), if stdout.is_some() => match read {
                        0 => self.stdout = None,
                        read => taker.take(&out[..read]).await?,
                    },
                    read = read(stderr, &mut err), if stderr.is_some() => match read {
                        0 => self.stderr = None,
                        read => {
                            self.said.extend_from_slice(&err[..read]);
                            self.said.drain(..self.said.len().saturating_sub(SAID_BYTES));
                        }
                    },
                }
            }
        }
        if bytes.is_some() && written {
            self.stdin = stdin;
        }
        Ok(written)
    }

    /// Closes its input and waits for its end.
    async fn end(mut self, taker: &mut dyn Taker, counts_errors: bool) -> Result<Fed> {
        drop(self.stdin.take());
        self.exchange(None, taker).await?;
        let status = self.child.wait().await;
        let status = status.map_err(|error| Error::DumpFailed(format!("cannot wait for {}: {error}", self.name)))?;
        if status.success() {
            self.group.spare();
            return Ok(Fed::default());
        }
        let failure = child::failed(&format!("{} {}", self.name, child::describe_failure(status)), &self.said);
        match ignored_errors(&self.said) {
            Some(errors_n) if counts_errors && status.code() == Some(1) => {
                self.group.spare();
                Ok(Fed { errors_n, problems: vec![failure.to_string()] })
            }
            _ => Err(failure),
        }
    }
}

async fn read(from: &mut Option<impl tokio::io::AsyncRead + Unpin>, piece: &mut [u8]) -> usize {
    match from {
        // What can't be read has ended; the exit status judges it.
        Some(from) => from.read(piece).await.unwrap_or(0),
        None => 0,
    }
}

/// Reads how many errors `pg_restore` says that it has gone on after.
fn ignored_errors(said: &[u8]) -> Option<u64> {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().rev().find_map(|line| line.split_once("errors ignored on restore: "))?;
    line.1.trim().parse().ok()
}

impl Pipe<'_> {
    /// Hands bytes to the tool. It may have enough.
    async fn hand_on(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(tool) = &mut self.tool else { return Ok(()) };
        if tool.exchange(Some(bytes), self.feed.taker).await? {
            return Ok(());
        }
        // It takes no more: it has failed and says why, or has all that it wants.
        self.end_tool().await?;
        self.has_enough = true;
        match self.feed.need {
            Need::Part => Err(Error::Target(ENOUGH.to_owned())),
            Need::Whole => Ok(()),
        }
    }

    async fn end_tool(&mut self) -> Result<()> {
        let Some(tool) = self.tool.take() else { return Ok(()) };
        let fed = tool.end(self.feed.taker, self.feed.counts_errors).await?;
        self.fed.errors_n += fed.errors_n;
        self.fed.problems.extend(fed.problems);
        Ok(())
    }

    /// Hands on the head of an archive, with its own moment.
    async fn hand_on_head(&mut self) -> Result<()> {
        let Some(tool) = &mut self.tool else { return Ok(()) };
        let Some(moment) = tool.moment.take() else { return Ok(()) };
        let mut head = std::mem::take(&mut tool.head);
        created::put_back(&mut head, &moment);
        self.hand_on(&head).await
    }
}

#[async_trait]
impl Target for Pipe<'_> {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        self.has_enough = false;
        let mut tool = Tool::start(&(self.feed.invocation)(stream)?, stream)?;
        let before = std::mem::take(&mut tool.head);
        self.tool = Some(tool);
        if before.is_empty() { Ok(()) } else { self.hand_on(&before).await }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.tool {
            Some(tool) if tool.moment.is_some() => {
                tool.head.extend_from_slice(&bytes);
                if tool.head.len() < created::HEAD_BYTES {
                    return Ok(());
                }
                self.hand_on_head().await
            }
            _ => self.hand_on(&bytes).await,
        }
    }

    async fn end(&mut self) -> Result<()> {
        // Of what is shorter than any archive's head.
        self.hand_on_head().await?;
        self.end_tool().await
    }
}
