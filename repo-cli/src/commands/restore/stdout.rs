//! Standard output as a restore's target.
//!
//! A thread of its own writes it. Whoever reads the other end of the pipe may be slow, and the restore reads and decodes on
//! meanwhile.

use bytes::Bytes;
use dedump_core::{Error, Result, StreamRecord, Target, async_trait};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait for the thread, at most; each is a chunk of the stream.
const PIECES_QUEUED_MAX: usize = 16;

/// Standard output. It remembers that its reader went away.
pub struct Stdout {
    closed: Arc<AtomicBool>,
    pieces: Option<mpsc::Sender<Bytes>>,
    written: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Stdout {
    /// Creates the target; `closed` becomes true when nobody reads it any more.
    pub fn new(closed: Arc<AtomicBool>) -> Self {
        Stdout { closed, pieces: None, written: None }
    }

    /// Waits until all is written, or says why it can't be.
    async fn finish(&mut self) -> Result<()> {
        self.pieces = None;
        let Some(written) = self.written.take() else { return Ok(()) };
        let died = |_| Err(io::Error::other("the thread that writes it has died"));
        written.await.unwrap_or_else(died).map_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                self.closed.store(true, Ordering::Relaxed);
            }
            failed(error)
        })
    }
}

fn failed(error: io::Error) -> Error {
    Error::Target(format!("cannot write the output: {error}"))
}

#[async_trait]
impl Target for Stdout {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        // Not by Rust's own handle, which would look for the ends of lines.
        let output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
        enlarge_pipe(&output);
        let (sender, pieces) = mpsc::channel(PIECES_QUEUED_MAX);
        let (done, written) = oneshot::channel();
        let write = move || {
            // Nobody waits for it when the restore has failed elsewhere.
            let _ = done.send(write_all(output, pieces));
        };
        std::thread::Builder::new().name("dedump-stdout".to_owned()).spawn(write).map_err(failed)?;
        (self.pieces, self.written) = (Some(sender), Some(written));
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let pieces = self.pieces.as_ref().expect("a stream begins before it goes on");
        match pieces.send(bytes).await {
            Ok(()) => Ok(()),
            // The thread has ended, and knows why.
            Err(_) => {
                self.finish().await?;
                Err(failed(io::Error::other("the thread that writes it has ended early")))
            }
        }
    }

    async fn end(&mut self) -> Result<()> {
        self.finish().await
    }
}

fn write_all(mut output: File, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(bytes) = pieces.blocking_recv() {
        output.write_all(&bytes)?;
    }
    Ok(())
}

/// Enlarges a pipe where the system allows it; a smaller one is slower, not worse.
#[cfg(target_os = "linux")]
fn enlarge_pipe(pipe: impl AsFd) {
    const PIPE_BYTES: i32 = 1 << 20;
    // Refused for what is no pipe, and for users who have used up their share of pipe memory.
    let _ = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
}

/// Leaves a pipe as it is.
#[cfg(not(target_os = "linux"))]
fn enlarge_pipe(_: impl AsFd) {}
