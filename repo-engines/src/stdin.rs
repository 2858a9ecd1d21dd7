//! The engine for standard input, or any reader like it: what it gives becomes one stream.

use crate::child::{PIPE_BYTES, enlarge_pipe};
use crate::content::{self, Found};
use crate::gates::{Expected, Watch};
use crate::intake::Intake;
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait, check_stream_name};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;

/// Pieces of standard input that wait to be taken, at most; each has up to 1 MiB.
const PIECES_QUEUED_MAX: usize = 2;

/// Backs up what standard input gives, to its end, as one stream.
///
/// Standard input has **no exit status**. In `pg_dump app | dedump backup -`, nobody tells dedump that `pg_dump` failed: its
/// end of the pipe is closed either way, and what was written until then looks like a dump. Only the end markers that some
/// formats have help (see [`gates`](crate::gates)); a stream without them gets a warning. Let dedump run the command instead:
/// `dedump backup -- pg_dump app`, a [`CommandEngine`](crate::CommandEngine).
///
/// It can dump once: the input is used up.
pub struct StdinEngine<R = Stdin> {
    stream: String,
    options: StdinOptions,
    reader: Mutex<Option<R>>,
}

/// Options of a [`StdinEngine`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StdinOptions {
    /// Whether no input at all is a good dump.
    pub allow_empty: bool,
}

impl StdinEngine {
    /// Creates an engine that names what comes from the process' standard input `stream`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there can't be such a stream.
    pub fn new(stream: impl Into<String>, options: StdinOptions) -> Result<Self> {
        StdinEngine::with_reader(stream, Stdin::default(), options)
    }
}

impl<R: AsyncRead + Unpin + Send> StdinEngine<R> {
    /// Creates an engine that names what `reader` gives `stream`; `reader` stands in for standard input.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there can't be such a stream.
    pub fn with_reader(stream: impl Into<String>, reader: R, options: StdinOptions) -> Result<Self> {
        let stream = stream.into();
        check_stream_name(&stream)?;
        Ok(StdinEngine { stream, options, reader: Mutex::new(Some(reader)) })
    }

    async fn run(&self, intake: &mut impl Intake) -> Result<Found> {
        let taken = self.reader.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let mut reader = taken.ok_or_else(|| {
            Error::Invalid(format!("the input of {:?} has been read already; make a new engine", self.stream))
        })?;
        let mut watch = Watch::default();
        loop {
            let read = reader
                .read(intake.spare())
                .await
                .map_err(|error| Error::DumpFailed(format!("cannot read the input: {error}; nothing was stored")))?;
            if read == 0 {
                break;
            }
            watch.feed(&intake.spare()[..read]);
            intake.advance(read).await?;
        }
        let mut found = content::judge(&self.stream, &watch, Expected::Anything, self.options.allow_empty)?;
        if !found.proven_whole {
            found.verdict.warnings.push(format!(
                "whether {:?} is whole is unknown: its format has no end marker, and standard input has no exit status; let \
                 dedump run the command: dedump backup -- COMMAND",
                self.stream
            ));
        }
        Ok(found)
    }
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send> Engine for StdinEngine<R> {
    fn kind(&self) -> &str {
        "stdin"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let mut stream = sink.stream(&self.stream).await?;
        let found = self.run(&mut stream).await?;
        stream.finish(found.stream_facts).await?;
        Ok(found.verdict)
    }
}

/// The process' standard input, read by a thread of its own in pieces of up to 1 MiB.
///
/// tokio's own standard input goes through small buffers, and keeps the runtime from shutting down while it waits for input;
/// this thread starts with the first read, is left behind when the reader is dropped, and dies with the process. What it had
/// read ahead by then is lost.
#[derive(Debug, Default)]
pub struct Stdin {
    pieces: Option<Pieces>,
}

impl AsyncRead for Stdin {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let pieces = match &mut self.pieces {
            Some(pieces) => pieces,
            none => {
                enlarge_pipe(io::stdin());
                // The lock belongs to the thread. Its buffer is passed over by reads that are larger.
                none.insert(Pieces::of(|| io::stdin().lock())?)
            }
        };
        pieces.poll_read(context, out)
    }
}

/// Pieces that a thread reads ahead.
#[derive(Debug)]
struct Pieces {
    /// A piece of no bytes is the end. A channel that closes without it means that the thread died.
    pieces: mpsc::Receiver<io::Result<Piece>>,
    /// Gives buffers back to the thread.
    buffers: std::sync::mpsc::Sender<Vec<u8>>,
    now: Piece,
    taken: usize,
    ended: bool,
}

/// A buffer, and how much of it was filled. Its length stays as it is: to make it anew would be to zero it.
#[derive(Debug, Default)]
struct Piece {
    buffer: Vec<u8>,
    filled: usize,
}

impl Pieces {
    /// Starts a thread that opens a blocking reader and reads it to its end.
    fn of<R: Read>(open: impl FnOnce() -> R + Send + 'static) -> io::Result<Pieces> {
        let (sender, pieces) = mpsc::channel(PIECES_QUEUED_MAX);
        let (buffers, free) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("dedump-stdin".to_owned())
            .spawn(move || read_ahead(open(), &sender, &free))?;
        Ok(Pieces { pieces, buffers, now: Piece::default(), taken: 0, ended: false })
    }

    fn poll_read(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.taken == self.now.filled && !self.ended {
            let next = std::task::ready!(self.pieces.poll_recv(context));
            let next = next.unwrap_or_else(|| Err(io::Error::other("the thread that reads it has died")))?;
            self.ended = next.filled == 0;
            let used = std::mem::replace(&mut self.now, next);
            self.taken = 0;
            // Refused only by a thread that has ended and needs no more buffers.
            let _ = self.buffers.send(used.buffer);
        }
        let piece = &self.now.buffer[self.taken..self.now.filled];
        let piece = &piece[..piece.len().min(out.remaining())];
        out.put_slice(piece);
        self.taken += piece.len();
        Poll::Ready(Ok(()))
    }
}

/// Reads to the end or to an error, unless the receiver goes away before. A piece is full, unless it is the last: a pipe gives
/// less at a time, and to hand over each such bit costs more than to read it.
fn read_ahead(
    mut input: impl Read,
    pieces: &mpsc::Sender<io::Result<Piece>>,
    free: &std::sync::mpsc::Receiver<Vec<u8>>,
) {
    loop {
        let mut buffer = free.try_recv().unwrap_or_default();
        buffer.resize(PIPE_BYTES, 0);
        let mut filled = 0;
        let end = loop {
            match input.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(Err(error)),
                Ok(0) => break Some(Ok(Piece::default())),
                Ok(bytes_n) => filled += bytes_n,
            }
            if filled == buffer.len() {
                break None;
            }
        };
        if filled > 0 && pieces.blocking_send(Ok(Piece { buffer, filled })).is_err() {
            return;
        }
        if let Some(end) = end {
            // Nobody waits for it if the receiver has gone away.
            let _ = pieces.blocking_send(end);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Memory;

    const WHOLE: &str =
        "--\n-- PostgreSQL database dump\n--\n\n1\tone\n--\n-- PostgreSQL database dump complete\n--\n\n";

    async fn run(input: impl AsyncRead + Unpin + Send, options: StdinOptions) -> (Result<Found>, Vec<u8>) {
        let mut memory = Memory::new();
        let engine = StdinEngine::with_reader("app.sql", input, options).expect("a good name");
        let found = engine.run(&mut memory).await;
        (found, memory.bytes)
    }

    async fn failure(input: impl AsyncRead + Unpin + Send) -> String {
        match run(input, StdinOptions::default()).await.0 {
            Err(Error::DumpFailed(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn input_becomes_the_stream_byte_for_byte() {
        let input: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let (found, bytes) = run(&input[..], StdinOptions::default()).await;
        assert!(found.is_ok());
        assert!(bytes == input);
    }

    #[tokio::test]
    async fn input_without_an_end_marker_gets_a_warning() {
        let (found, _) = run(&b"a,b\n1,2\n"[..], StdinOptions::default()).await;
        let warnings = found.expect("no gate").verdict.warnings;
        assert!(warnings[0].contains("\"app.sql\" is whole is unknown"), "{warnings:?}");

        let (found, _) = run(WHOLE.as_bytes(), StdinOptions::default()).await;
        let found = found.expect("a whole dump");
        assert_eq!(found.verdict, Verdict::default());
        assert_eq!(found.stream_facts["format"], "pg_dump text");
    }

    #[tokio::test]
    async fn input_that_lost_its_end_is_refused() {
        let why = failure(&WHOLE.as_bytes()[..60]).await;
        assert!(why.contains("the dump is incomplete") && why.ends_with("nothing was stored"), "{why}");
    }

    #[tokio::test]
    async fn empty_input_is_refused_unless_allowed() {
        let why = failure(tokio::io::empty()).await;
        assert!(why.contains("--allow-empty"), "{why}");
        let (found, bytes) = run(tokio::io::empty(), StdinOptions { allow_empty: true }).await;
        assert_eq!((found.expect("allowed").verdict.warnings.len(), bytes.len()), (1, 0));
    }

    #[tokio::test]
    async fn a_reader_that_fails_fails_the_dump() {
        let broken = PiecesReader(Pieces::of(|| Read::chain(WHOLE.as_bytes(), Fails)).expect("a thread"));
        let why = failure(broken).await;
        assert!(why.contains("cable pulled"), "{why}");
    }

    #[tokio::test]
    async fn a_store_that_fails_is_reported_as_such() {
        let engine =
            StdinEngine::with_reader("app.sql", WHOLE.as_bytes(), StdinOptions::default()).expect("a good name");
        assert!(matches!(engine.run(&mut Memory::refusing_after(3)).await, Err(Error::Conflict(_))));
    }

    #[tokio::test]
    async fn a_reader_is_used_up_by_one_dump() {
        let engine =
            StdinEngine::with_reader("app.sql", WHOLE.as_bytes(), StdinOptions::default()).expect("a good name");
        engine.run(&mut Memory::new()).await.expect("the first time");
        assert!(matches!(engine.run(&mut Memory::new()).await, Err(Error::Invalid(_))));
    }

    #[tokio::test]
    async fn the_reading_thread_gives_every_byte_in_order() {
        let input: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
        let expected = input.clone();
        let pieces = PiecesReader(Pieces::of(move || Trickles(io::Cursor::new(input))).expect("a thread"));
        let (found, bytes) = run(pieces, StdinOptions::default()).await;
        assert!(found.is_ok());
        assert!(bytes == expected);
    }

    #[tokio::test]
    async fn a_reading_thread_that_dies_is_no_end_of_input() {
        struct Dies;
        impl Read for Dies {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                std::panic::resume_unwind(Box::new("on purpose"))
            }
        }
        let why = failure(PiecesReader(Pieces::of(|| Dies).expect("a thread"))).await;
        assert!(why.contains("has died"), "{why}");
    }

    /// Gives as a pipe does: less than is asked for.
    struct Trickles(io::Cursor<Vec<u8>>);

    impl Read for Trickles {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let bytes_n = into.len().min(100_003);
            Read::read(&mut self.0, &mut into[..bytes_n])
        }
    }

    struct Fails;

    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("cable pulled"))
        }
    }

    struct PiecesReader(Pieces);

    impl AsyncRead for PiecesReader {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.poll_read(context, out)
        }
    }
}
