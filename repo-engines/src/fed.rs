//! A child whose standard input is fed piece by piece while what it prints is read, without blocking the runtime's threads.

use crate::child::{self, Group, Invocation};
use dedump_core::{Error, Result, async_trait};
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// Bytes of a tool's error output that are kept.
const SAID_BYTES: usize = 4 * 1024;

/// Takes what a tool prints.
#[async_trait]
pub(crate) trait Taker: Send {
    /// Takes the next bytes.
    async fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Keeps what a tool prints in memory, up to a limit.
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bytes_max: usize,
}

#[async_trait]
impl Taker for Kept {
    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > self.bytes_max {
            return Err(Error::Target(format!("what a tool prints has more than {} bytes", self.bytes_max)));
        }
        Ok(())
    }
}

/// A tool that runs. Dropped, it is killed with its group.
pub(crate) struct FedTool {
    // Before the child: see `child::Running`.
    group: Group,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
    /// What it is called, whatever it is that runs it.
    name: &'static str,
}

/// A tool that has not ended well. Dropped before [`BadEnd::spare`], what is left of its group is killed.
pub(crate) struct BadEnd {
    group: Group,
    name: &'static str,
    pub(crate) status: ExitStatus,
    pub(crate) said: Vec<u8>,
}

impl BadEnd {
    /// Says how it ended, and its last words.
    pub(crate) fn failure(&self) -> Error {
        child::failed(&format!("{} {}", self.name, child::describe_failure(self.status)), &self.said)
    }

    /// Lets those who are left of its group live.
    pub(crate) fn spare(mut self) {
        self.group.spare();
    }
}

impl FedTool {
    /// Starts a tool that is told nothing yet, not even what the invocation has for its input.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be started.
    pub(crate) fn start(invocation: &Invocation, name: &'static str) -> Result<FedTool> {
        let mut command = invocation.command();
        command.stdin(Stdio::piped());
        let (group, mut child) = invocation.spawn(&mut command)?;
        let stdin = child.stdin.take().expect("stdin is piped");
        child::enlarge_pipe(&stdin);
        Ok(FedTool {
            group,
            stdin: Some(stdin),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            said: Vec::new(),
            name,
        })
    }

    /// Writes bytes while what the tool prints is read; `false`: it takes no more. Without bytes, reads to the end.
    ///
    /// # Errors
    /// What the taker returned.
    pub(crate) async fn exchange(&mut self, bytes: Option<&[u8]>, taker: &mut dyn Taker) -> Result<bool> {
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

    /// Reads what it prints until a line has ended; `false`: its output ended first.
    ///
    /// # Errors
    /// What the taker returned.
    pub(crate) async fn read_line(&mut self, taker: &mut dyn Taker) -> Result<bool> {
        let mut byte = [0];
        loop {
            match read(&mut self.stdout, &mut byte).await {
                0 => return Ok(false),
                _ => taker.take(&byte).await?,
            }
            if byte == *b"\n" {
                return Ok(true);
            }
        }
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be waited for. What the taker returned.
    pub(crate) async fn end(mut self, taker: &mut dyn Taker) -> Result<std::result::Result<(), BadEnd>> {
        drop(self.stdin.take());
        self.exchange(None, taker).await?;
        let status = self.child.wait().await;
        let status = status.map_err(|error| Error::DumpFailed(format!("cannot wait for {}: {error}", self.name)))?;
        if status.success() {
            self.group.spare();
            return Ok(Ok(()));
        }
        Ok(Err(BadEnd { group: self.group, name: self.name, status, said: self.said }))
    }
}

async fn read(from: &mut Option<impl tokio::io::AsyncRead + Unpin>, piece: &mut [u8]) -> usize {
    match from {
        // What can't be read has ended; the exit status judges it.
        Some(from) => from.read(piece).await.unwrap_or(0),
        None => 0,
    }
}
