//! A thread that takes bytes apart and tells what it finds, step by step, and the channels to it.

use dedump_core::{Bytes, Error, Result};
use std::fmt::Display;
use std::io::{self, Read};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

/// Pieces that wait between the source and the thread, or the thread and the sink, at most.
pub(crate) const PIECES_QUEUED_MAX: usize = 8;

/// The thread at work: its steps, and why it gave up if it did.
pub(crate) struct Worker<Step, Stop> {
    steps: Receiver<Step>,
    thread: Option<JoinHandle<std::result::Result<(), Stop>>>,
}

impl<Step: Send + 'static, Stop: Display + Send + 'static> Worker<Step, Stop> {
    /// Starts a thread.
    pub fn start(work: impl FnOnce(Sender<Step>) -> std::result::Result<(), Stop> + Send + 'static) -> Self {
        let (sender, steps) = mpsc::channel(PIECES_QUEUED_MAX);
        Worker { steps, thread: Some(tokio::task::spawn_blocking(move || work(sender))) }
    }

    /// Returns the next step; `None` at a good end.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: why the thread gave up.
    pub async fn next(&mut self) -> Result<Option<Step>> {
        if let Some(step) = self.steps.recv().await {
            return Ok(Some(step));
        }
        match self.thread.take() {
            None => Ok(None),
            Some(thread) => match thread.await {
                Ok(Ok(())) => Ok(None),
                Ok(Err(stop)) => Err(Error::DumpFailed(format!("{stop}; nothing was stored"))),
                Err(error) => Err(Error::System(format!("the thread that sorts died: {error}"))),
            },
        }
    }

    /// Returns why the thread gave up; if it did not, `otherwise`.
    pub async fn error(mut self, otherwise: &str) -> Error {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Error::DumpFailed(format!("{otherwise}; nothing was stored")),
                Err(error) => return error,
            }
        }
    }
}

/// Tells a step.
///
/// # Errors
/// Nobody listens any more.
pub(crate) fn tell<Step>(steps: &Sender<Step>, step: Step) -> io::Result<()> {
    steps.blocking_send(step).map_err(|_| io::Error::other("the backup was given up"))
}

/// Reads what comes through a channel.
pub(crate) struct Pieces {
    pieces: Receiver<Bytes>,
    piece: Bytes,
}

impl Pieces {
    pub fn new(pieces: Receiver<Bytes>) -> Self {
        Pieces { pieces, piece: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let taken = self.piece.split_to(into.len().min(self.piece.len()));
        into[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
