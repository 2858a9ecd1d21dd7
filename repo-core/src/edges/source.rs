//! Where dumps come from: the engine's side of a backup.
//!
//! An [`Engine`] opens streams at the [`Sink`], writes each to its end, and returns its [`Verdict`] when, and only when,
//! the dump succeeded. The verdict comes before anything is committed: an engine that returns an error, or whose future
//! is dropped, leaves no snapshot behind.

use super::parent::{Before, ParentStreams};
use crate::format::snapshot::StreamRecord;
use crate::words::error::{Error, Result};
use crate::words::limits::{
    STREAM_NAME_BYTES_MAX, STREAM_NAME_PART_BYTES_MAX, STREAMS_MAX, STREAMS_OPEN_MAX, WINDOW_BYTES, WINDOWS_QUEUED_MAX,
};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// The driver for one kind of source.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns what kind of engine it is, in one lower-case word; stored with the snapshot.
    fn kind(&self) -> &str;

    /// Writes the dump into the sink and judges it.
    ///
    /// Must read its source to the end, and must return an error unless the source itself said that the dump succeeded.
    /// Children must die when this future is dropped.
    ///
    /// # Errors
    /// [`Error::DumpFailed`] with one line that says what failed; whatever the sink returned.
    async fn dump(&self, sink: &Sink) -> Result<Verdict>;
}

/// What an engine says of a dump that succeeded. The default is a good dump with nothing to add.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the dump is complete and yet looks odd; makes the snapshot suspicious.
    pub suspicious: Vec<String>,
    /// What is missing from the dump, by the user's leave; makes the snapshot partial.
    pub missing: Vec<String>,
    /// What the user should know and what does not lessen the snapshot.
    pub warnings: Vec<String>,
    /// What is worth recording: the command, versions, counts. Never a secret.
    pub facts: BTreeMap<String, String>,
}

/// Takes the streams of one dump, or of a [part](Sink::part) of it. Streams may be written one after another or side by side.
pub struct Sink {
    inner: Arc<SinkInner>,
    /// What the names of its streams begin with: nothing, or the part's name and a slash.
    prefix: String,
}

struct SinkInner {
    sender: mpsc::Sender<Piece>,
    pool: WindowPool,
    names: Mutex<Names>,
    /// The snapshot that the backup follows.
    before: Option<Arc<dyn Before>>,
}

/// The streams that were opened and not given up.
#[derive(Default)]
struct Names {
    taken: BTreeMap<String, Named>,
    /// Streams of those that are not finished.
    open_n: usize,
    /// Streams that were ever opened; the next one's number.
    opened_n: usize,
}

struct Named {
    number: usize,
    is_open: bool,
}

/// Takes the bytes of one stream. Dropped without [`StreamWriter::finish`], the whole backup fails.
///
/// If the future of one of its functions is dropped before it is done (by a `select!` or a time-out), bytes may be lost, so
/// the writer takes no more, and the backup fails.
pub struct StreamWriter {
    inner: Arc<SinkInner>,
    name: String,
    number: usize,
    window: Window,
    /// A window is on its way; if that is still so when the next call comes, the one before was dropped.
    sending: bool,
}

/// Room for the next bytes of a stream, to be filled where the stream's writer is not: see [`StreamWriter::lend`].
pub struct Room {
    window: Window,
}

impl Room {
    /// Returns what is not filled yet; empty when all of it is.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.window.bytes[self.window.filled..]
    }

    /// Notes that the first `bytes_n` bytes of [`spare`](Self::spare) are filled.
    ///
    /// # Panics
    /// If there was less room.
    pub fn advance(&mut self, bytes_n: usize) {
        assert!(bytes_n <= self.window.bytes.len() - self.window.filled, "more was written than there was room for");
        self.window.filled += bytes_n;
    }

    /// Returns what is filled.
    pub fn bytes(&self) -> &[u8] {
        self.window.bytes()
    }
}

/// What travels from the sink to the pipeline.
pub(crate) enum Piece {
    /// Stream `number` begins.
    Begin { number: usize, name: String },
    /// The next bytes of a stream.
    Bytes { number: usize, window: Window },
    /// A stream is complete.
    End { number: usize, facts: BTreeMap<String, String> },
    /// A stream of the snapshot before is taken over as it is.
    Reuse { number: usize, stream: Box<StreamRecord> },
    /// A stream, complete or not, is not part of the dump any more.
    GiveUp { number: usize },
    /// The engine has given its verdict: nothing comes any more.
    Close,
}

impl Sink {
    /// Creates a sink whose windows leave `headroom` bytes free in front, and the pipeline's end of it.
    pub(crate) fn create(headroom: usize, before: Option<Arc<dyn Before>>) -> (Sink, mpsc::Receiver<Piece>) {
        let (sender, receiver) = mpsc::channel(WINDOWS_QUEUED_MAX);
        let pool = WindowPool { headroom, free: Arc::default() };
        let inner = SinkInner { sender, pool, names: Mutex::default(), before };
        (Sink { inner: Arc::new(inner), prefix: String::new() }, receiver)
    }

    /// Returns what the snapshot that this backup follows has below this part; `None` if it follows none.
    pub fn parent(&self) -> Option<ParentStreams> {
        self.inner.before.as_ref().map(|before| ParentStreams::new(Arc::clone(before), &self.prefix))
    }

    /// Takes the stream of this name out of the snapshot before into this dump as it is, with its facts, unread. Returns
    /// whether it could: not if there is none, or if something that it needs is not there any more, or about to go. Then the
    /// engine has to write it.
    ///
    /// That the source's bytes are still those is the engine's word, which nobody verifies.
    ///
    /// # Errors
    /// As [`Sink::stream`]; [`Error::Store`]: the stream's manifest can't be read.
    pub async fn reuse(&self, name: &str) -> Result<bool> {
        check_stream_name(name)?;
        let name = format!("{}{name}", self.prefix);
        let Some(before) = &self.inner.before else { return Ok(false) };
        let Some(stream) = before.stream(&name) else { return Ok(false) };
        if !before.holds(stream).await? {
            return Ok(false);
        }
        let number = self.inner.take(&name, false)?;
        self.inner.send(Piece::Reuse { number, stream: Box::new(stream.clone()) }).await?;
        Ok(true)
    }

    /// Returns a sink for a part of this dump: the names of its streams begin with `name` and a slash.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no stream can be called so; see [`Sink::stream`].
    pub fn part(&self, name: &str) -> Result<Sink> {
        check_stream_name(name)?;
        Ok(Sink { inner: Arc::clone(&self.inner), prefix: format!("{}{name}/", self.prefix) })
    }

    /// Takes back all streams that were opened through this sink, and through parts of it, whether they were finished or not:
    /// the dump is as if they had never begun. What a writer of theirs that is left still sends is dropped.
    ///
    /// # Errors
    /// [`Error::Conflict`]: the backup has already failed elsewhere.
    pub async fn give_up(self) -> Result<()> {
        let given_up: Vec<usize> = {
            let mut names = self.inner.names();
            let (given_up, taken) = std::mem::take(&mut names.taken)
                .into_iter()
                .partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with(&self.prefix));
            names.taken = taken;
            let given_up: Vec<Named> = given_up.into_values().collect();
            names.open_n -= given_up.iter().filter(|named| named.is_open).count();
            given_up.iter().map(|named| named.number).collect()
        };
        for number in given_up {
            self.inner.send(Piece::GiveUp { number }).await?;
        }
        Ok(())
    }

    /// Opens a stream. Its name is a relative path of at most 1,024 bytes without empty, `.` or `..` parts, control
    /// characters or backslashes, so that it can become a file's name anywhere.
    ///
    /// # Errors
    /// [`Error::Invalid`]: such a name, or one that is taken, or too many streams, in all ([`STREAMS_MAX`]) or open at once
    /// ([`STREAMS_OPEN_MAX`]). [`Error::Conflict`]: the backup has already failed elsewhere.
    pub async fn stream(&self, name: &str) -> Result<StreamWriter> {
        check_stream_name(name)?;
        let name = format!("{}{name}", self.prefix);
        check_stream_name(&name)?;
        let number = self.inner.take(&name, true)?;
        self.inner.send(Piece::Begin { number, name: name.clone() }).await?;
        let window = self.inner.pool.take();
        Ok(StreamWriter { inner: Arc::clone(&self.inner), name, number, window, sending: false })
    }

    /// Ends the dump: whatever a writer that is left sends from now on is refused.
    pub(crate) async fn close(&self) -> Result<()> {
        self.inner.send(Piece::Close).await
    }
}

impl SinkInner {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a stream that is to be written, or for one that is whole already; returns its number.
    fn take(&self, name: &str, is_open: bool) -> Result<usize> {
        let mut names = self.names();
        check_against(&names.taken, name)?;
        if is_open && names.open_n >= STREAMS_OPEN_MAX {
            return Err(Error::Invalid(format!(
                "more than {STREAMS_OPEN_MAX} streams are open at once; finish some before {name:?} is opened"
            )));
        }
        let number = names.opened_n;
        names.opened_n += 1;
        names.open_n += usize::from(is_open);
        names.taken.insert(name.to_owned(), Named { number, is_open });
        Ok(number)
    }

    async fn send(&self, piece: Piece) -> Result<()> {
        let closed = |_| Error::Conflict("the repository has stopped taking this dump".to_owned());
        self.sender.send(piece).await.map_err(closed)
    }
}

impl StreamWriter {
    /// Appends bytes. Waits while the repository is busy.
    ///
    /// # Errors
    /// [`Error::Conflict`]: the backup has already failed elsewhere.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.check_whole()?;
        while !bytes.is_empty() {
            let spare = self.spare();
            let (now, later) = bytes.split_at(bytes.len().min(spare.len()));
            spare[..now.len()].copy_from_slice(now);
            self.advance(now.len()).await?;
            bytes = later;
        }
        Ok(())
    }

    /// Returns room for the next bytes, never empty: read into it, then [`advance`](Self::advance). Saves a copy.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.window.bytes[self.window.filled..]
    }

    /// Takes over the first `bytes_n` bytes of [`spare`](Self::spare). Waits while the repository is busy.
    ///
    /// # Errors
    /// [`Error::Conflict`]: the backup has already failed elsewhere.
    ///
    /// # Panics
    /// If there was less room.
    pub async fn advance(&mut self, bytes_n: usize) -> Result<()> {
        assert!(bytes_n <= self.window.bytes.len() - self.window.filled, "more was written than there was room for");
        self.check_whole()?;
        self.window.filled += bytes_n;
        if self.window.filled == self.window.bytes.len() { self.flush().await } else { Ok(()) }
    }

    /// Returns room for bytes that another thread reads; [`put`](Self::put) appends them. Saves a copy.
    pub fn lend(&self) -> Room {
        Room { window: self.inner.pool.take() }
    }

    /// Appends what a room holds. Waits while the repository is busy.
    ///
    /// # Errors
    /// [`Error::Conflict`]: the backup has already failed elsewhere. [`Error::Invalid`]: a room of another dump.
    pub async fn put(&mut self, room: Room) -> Result<()> {
        self.check_whole()?;
        if !Arc::ptr_eq(&room.window.pool.free, &self.inner.pool.free) {
            return Err(Error::Invalid("this room was lent by a stream of another dump".to_owned()));
        }
        if self.window.filled > self.window.start {
            self.flush().await?;
        }
        if room.bytes().is_empty() { Ok(()) } else { self.send(room.window).await }
    }

    /// Appends everything that a reader gives, and returns how much that was.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the reader failed. [`Error::Conflict`]: the backup has already failed elsewhere.
    pub async fn copy_from(&mut self, reader: &mut (impl AsyncRead + Unpin + ?Sized)) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let read = reader
                .read(self.spare())
                .await
                .map_err(|error| Error::DumpFailed(format!("the dump cannot be read: {error}")))?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes += read as u64;
            self.advance(read).await?;
        }
    }

    /// Ends the stream; `facts` are stored with it.
    ///
    /// # Errors
    /// [`Error::Conflict`]: the backup has already failed elsewhere.
    pub async fn finish(mut self, facts: BTreeMap<String, String>) -> Result<()> {
        self.check_whole()?;
        if self.window.filled > self.window.start {
            self.flush().await?;
        }
        let number = self.number;
        // It is another's if this one was given up meanwhile and its name was taken again.
        {
            let mut names = self.inner.names();
            if let Some(named) = names.taken.get_mut(&self.name).filter(|named| named.number == number) {
                named.is_open = false;
                names.open_n -= 1;
            }
        }
        self.inner.send(Piece::End { number: self.number, facts }).await
    }

    async fn flush(&mut self) -> Result<()> {
        let window = std::mem::replace(&mut self.window, self.inner.pool.take());
        self.send(window).await
    }

    async fn send(&mut self, window: Window) -> Result<()> {
        self.sending = true;
        self.inner.send(Piece::Bytes { number: self.number, window }).await?;
        self.sending = false;
        Ok(())
    }

    fn check_whole(&self) -> Result<()> {
        if self.sending {
            let why = "a write to the stream was cancelled, so it has a hole; nothing was stored";
            return Err(Error::DumpFailed(why.to_owned()));
        }
        Ok(())
    }
}

/// Checks that a stream's name is none of these, no directory of one, and in none.
fn check_against<T>(names: &BTreeMap<String, T>, name: &str) -> Result<()> {
    if names.len() == STREAMS_MAX {
        return Err(Error::Invalid(format!("a snapshot holds at most {STREAMS_MAX} streams")));
    }
    if names.contains_key(name) {
        return Err(Error::Invalid(format!("two streams are called {name:?}; give each a name of its own")));
    }
    let below = format!("{name}/");
    let below = names.range(below.clone()..).next().filter(|(next, _)| next.starts_with(&below));
    let above = name.match_indices('/').find_map(|(at, _)| names.get_key_value(&name[..at]));
    match below.or(above) {
        None => Ok(()),
        Some((other, _)) => Err(Error::Invalid(format!(
            "streams {name:?} and {other:?} can't be in one directory: one would be a file and a folder; rename one"
        ))),
    }
}

/// Bytes of a stream under way, with room in front for what the chunker left over of the window before.
pub(crate) struct Window {
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
    pool: WindowPool,
}

/// Windows that are free again: 4 MiB are not allocated anew for every 4 MiB read.
#[derive(Clone)]
struct WindowPool {
    headroom: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl WindowPool {
    fn take(&self) -> Window {
        let free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let bytes = free.unwrap_or_else(|| vec![0; self.headroom + WINDOW_BYTES]);
        Window { bytes, start: self.headroom, filled: self.headroom, pool: self.clone() }
    }
}

impl Window {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.filled]
    }

    /// Puts bytes in front of the others; they must fit into the headroom.
    pub(crate) fn prepend(&mut self, front: &[u8]) {
        let start = self.start.checked_sub(front.len()).expect("the chunker leaves less than the longest chunk");
        self.bytes[start..self.start].copy_from_slice(front);
        self.start = start;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(bytes);
    }
}

/// Backs up one stream from a reader, whatever it holds. It has no verdict of its own: the end of the reader is the end
/// of the dump, so use it where a failure shows up as a read error.
///
/// It serves one backup: what a second one would read is only what the first one left.
pub struct ReaderEngine<R> {
    stream_name: String,
    reader: Mutex<Option<R>>,
}

impl<R: AsyncRead + Send + Unpin> ReaderEngine<R> {
    /// Creates the engine of a stream with this name.
    pub fn new(stream_name: impl Into<String>, reader: R) -> Self {
        ReaderEngine { stream_name: stream_name.into(), reader: Mutex::new(Some(reader)) }
    }
}

#[async_trait]
impl<R: AsyncRead + Send + Unpin> Engine for ReaderEngine<R> {
    fn kind(&self) -> &str {
        "reader"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut reader = reader.ok_or_else(|| {
            Error::Invalid("this reader was read by an earlier backup; make an engine with a new one".to_owned())
        })?;
        let mut stream = sink.stream(&self.stream_name).await?;
        stream.copy_from(&mut reader).await?;
        stream.finish(BTreeMap::new()).await?;
        Ok(Verdict::default())
    }
}

/// Checks a stream's name; see [`Sink::stream`].
///
/// # Errors
/// [`Error::Invalid`], with what is wrong and what is right.
pub fn check_stream_name(name: &str) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::Invalid(format!(
            "stream name {name:?} can't be: {why}; use a relative path like app.dump or db/app.sql"
        )))
    };
    if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX {
        return refuse("it must have 1 to 1024 bytes");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return refuse("it has a control character or a backslash");
    }
    if name.split('/').any(|part| part.len() > STREAM_NAME_PART_BYTES_MAX) {
        return refuse("a part of it between slashes has more than 200 bytes");
    }
    if name.starts_with('/') || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("it has an empty, \".\" or \"..\" part");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rooms_are_appended_in_their_order_and_only_to_their_own_dump() {
        let ((sink, pieces), (other, _others)) = (Sink::create(10, None), Sink::create(20, None));
        let read = tokio::spawn(async move {
            let (mut pieces, mut bytes, mut pieces_n) = (pieces, Vec::new(), 0);
            while let Some(piece) = pieces.recv().await {
                if let Piece::Bytes { window, .. } = piece {
                    assert_eq!(window.start, 10, "there is room in front");
                    bytes.extend_from_slice(window.bytes());
                    pieces_n += 1;
                }
            }
            (bytes, pieces_n)
        });
        let mut stream = sink.stream("a").await.expect("opens");
        let fill = |mut room: Room, bytes: &[u8]| {
            for byte in bytes {
                room.spare()[0] = *byte;
                room.advance(1);
            }
            room
        };
        stream.write(b"written ").await.expect("takes it");
        let (first, second) = (fill(stream.lend(), b"first "), fill(stream.lend(), b"second "));
        stream.put(first).await.expect("takes it");
        stream.put(stream.lend()).await.expect("takes nothing");
        stream.write(b"between ").await.expect("takes it");
        stream.put(second).await.expect("takes it");
        let strange = fill(other.stream("a").await.expect("opens").lend(), b"strange");
        assert!(matches!(stream.put(strange).await, Err(Error::Invalid(_))));
        stream.finish(BTreeMap::new()).await.expect("finishes");
        drop(sink);
        assert_eq!(read.await.expect("reads"), (b"written first between second ".to_vec(), 4));
    }

    #[test]
    fn a_stream_is_no_folder_of_another() {
        let names = BTreeMap::from([("a/b".to_owned(), ()), ("c".to_owned(), ())]);
        for good in ["a/c", "a-b", "b", "cc", "a/bb"] {
            assert!(check_against(&names, good).is_ok(), "{good:?}");
        }
        for bad in ["a", "a/b", "a/b/c", "c/d", "c"] {
            assert!(check_against(&names, bad).is_err(), "{bad:?}");
        }
        assert!(check_stream_name(&"b".repeat(201)).is_err(), "no file system takes such a name");
    }

    #[test]
    fn stream_names_that_could_leave_a_directory_are_refused() {
        for good in ["app.dump", "db/app.sql", "…/x", "a b", "-", ".hidden", "a..b"] {
            assert!(check_stream_name(good).is_ok(), "{good:?}");
        }
        let long = "a".repeat(1025);
        for bad in
            ["", "/", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\nb", "a\0b", "a\u{7f}", "C:\\x", &long]
        {
            assert!(check_stream_name(bad).is_err(), "{bad:?}");
        }
    }
}
