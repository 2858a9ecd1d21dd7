//! The engine for standard input, or any reader like it: what it gives becomes one stream.

use crate::child::enlarge_pipe;
use crate::content::{self, Found};
use crate::gates::{Expected, Watch};
use crate::intake::{Lender, Lent};
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait, check_stream_name};
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, Empty};
use tokio::sync::mpsc;

/// Rooms that are lent to the thread that reads standard input: it fills one while the other is taken over.
const ROOMS_N: usize = 2;

/// Backs up what standard input gives, to its end, as one stream.
///
/// Standard input has **no exit status**. In `pg_dump app | dedump backup -`, nobody tells dedump that `pg_dump` failed: its
/// end of the pipe is closed either way, and what was written until then looks like a dump. Only the end markers that some
/// formats have help (see [`gates`](crate::gates)); a stream without them gets a warning. Let dedump run the command instead:
/// `dedump backup -- pg_dump app`, a [`CommandEngine`](crate::CommandEngine).
///
/// It can dump once: the input is used up.
pub struct StdinEngine<R = Empty> {
    stream: String,
    options: StdinOptions,
    input: Mutex<Option<Input<R>>>,
}

/// What is read.
enum Input<R> {
    Standard,
    Reader(R),
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
    /// A thread of its own reads it, straight into what the repository takes: tokio's own standard input goes through small
    /// buffers, and keeps the runtime from shutting down while it waits for input. This one starts with the dump, is left
    /// behind when the dump is dropped, and dies with the process; what it had read ahead by then is lost.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there can't be such a stream.
    pub fn new(stream: impl Into<String>, options: StdinOptions) -> Result<Self> {
        StdinEngine::create(stream.into(), Input::Standard, options)
    }
}

impl<R: AsyncRead + Unpin + Send> StdinEngine<R> {
    /// Creates an engine that names what `reader` gives `stream`; `reader` stands in for standard input.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there can't be such a stream.
    pub fn with_reader(stream: impl Into<String>, reader: R, options: StdinOptions) -> Result<Self> {
        StdinEngine::create(stream.into(), Input::Reader(reader), options)
    }

    fn create(stream: String, input: Input<R>, options: StdinOptions) -> Result<Self> {
        check_stream_name(&stream)?;
        Ok(StdinEngine { stream, options, input: Mutex::new(Some(input)) })
    }

    async fn run(&self, intake: &mut impl Lender) -> Result<Found> {
        let taken = self.input.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let input = taken.ok_or_else(|| {
            Error::Invalid(format!("the input of {:?} has been read already; make a new engine", self.stream))
        })?;
        let mut watch = Watch::default();
        match input {
            Input::Standard => {
                enlarge_pipe(io::stdin());
                // The lock belongs to the thread. Its buffer is passed over by reads that are larger.
                feed_blocking(|| io::stdin().lock(), intake, &mut watch).await?;
            }
            Input::Reader(reader) => feed(reader, intake, &mut watch).await?,
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

fn unreadable(error: io::Error) -> Error {
    Error::DumpFailed(format!("cannot read the input: {error}; nothing was stored"))
}

/// Reads everything into the intake, and shows it to the watch.
async fn feed(mut reader: impl AsyncRead + Unpin, intake: &mut impl Lender, watch: &mut Watch) -> Result<()> {
    loop {
        let read = reader.read(intake.spare()).await.map_err(unreadable)?;
        if read == 0 {
            return Ok(());
        }
        watch.feed(&intake.spare()[..read]);
        intake.advance(read).await?;
    }
}

/// Likewise of a blocking reader, which a thread opens and reads.
async fn feed_blocking<R: Read>(
    open: impl FnOnce() -> R + Send + 'static,
    intake: &mut impl Lender,
    watch: &mut Watch,
) -> Result<()> {
    let (lender, rooms) = std::sync::mpsc::channel();
    // Never full: there are no more rooms.
    let (sender, mut filled) = mpsc::channel(ROOMS_N + 1);
    let read = move || read_ahead(open(), &rooms, &sender);
    std::thread::Builder::new().name("dedump-stdin".to_owned()).spawn(read).map_err(unreadable)?;
    for _ in 0..ROOMS_N {
        // Refused only by a thread that has ended and needs no more room.
        let _ = lender.send(intake.lend());
    }
    loop {
        // The thread says when it is at the end; a channel that closes before means that it died.
        let died = || unreadable(io::Error::other("the thread that reads it has died"));
        let Some(room) = filled.recv().await.ok_or_else(died)?.map_err(unreadable)? else { return Ok(()) };
        watch.feed(room.bytes());
        intake.put(room).await?;
        // As above.
        let _ = lender.send(intake.lend());
    }
}

/// A room that was filled; `None` at the end.
type Filled<T> = io::Result<Option<T>>;

/// A read that gives less is followed by a short pause …
const READ_BYTES_MIN: usize = 256 * 1024;
/// … so long. Whoever writes quickly fills the pipe meanwhile; else reader and writer wait for its lock in turns, and a sixth of
/// what a pipe costs is lost on that.
const PAUSE: Duration = Duration::from_micros(50);

/// Reads to the end or to an error, unless the receiver goes away before. A room is full, unless it is the last: a pipe gives
/// less at a time, and to hand over each such bit costs more than to read it.
fn read_ahead<T: Lent>(mut input: impl Read, rooms: &std::sync::mpsc::Receiver<T>, filled: &mpsc::Sender<Filled<T>>) {
    while let Ok(mut room) = rooms.recv() {
        let end = loop {
            let read = match input.read(room.spare()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Some(Err(error)),
                Ok(0) => break Some(Ok(None)),
                Ok(bytes_n) => bytes_n,
            };
            room.advance(read);
            if room.spare().is_empty() {
                break None;
            }
            if read < READ_BYTES_MIN {
                std::thread::sleep(PAUSE);
            }
        };
        // Nobody waits for it if the receiver has gone away.
        if filled.blocking_send(Ok(Some(room))).is_err() {
            return;
        }
        if let Some(end) = end {
            // Likewise.
            let _ = filled.blocking_send(end);
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

    async fn run_blocking<R: Read>(open: impl FnOnce() -> R + Send + 'static) -> (Result<()>, Vec<u8>) {
        let mut memory = Memory::new();
        let fed = feed_blocking(open, &mut memory, &mut Watch::default()).await;
        (fed, memory.bytes)
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
        let (fed, bytes) = run_blocking(|| Read::chain(WHOLE.as_bytes(), Fails)).await;
        let why = fed.expect_err("it fails").to_string();
        assert!(why.contains("cable pulled") && bytes == WHOLE.as_bytes(), "{why}");
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
        let (fed, bytes) = run_blocking(move || Trickles(io::Cursor::new(input))).await;
        assert!(fed.is_ok());
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
        let why = run_blocking(|| Dies).await.0.expect_err("it dies").to_string();
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
}
