//! Gives streams back: reads ahead, decodes side by side, verifies every chunk and at the end the whole stream.

use crate::edges::progress::{Event, Progress};
use crate::edges::target::Target;
use crate::format::node::LeafEntry;
use crate::format::snapshot::StreamRecord;
use crate::state::assembly::{self, Assembly, Planner, ReadWindow, Wanted};
use crate::state::fetch::Fetcher;
use crate::state::loader;
use crate::state::manifest::{ManifestReader, Root};
use crate::state::repository::Repository;
use crate::state::snapshots::Snapshot;
use crate::words::error::{Error, Result};
use crate::words::limits::{
    NODE_ENTRIES_MAX, RESTORE_AHEAD_BYTES_MAX, RESTORE_HELD_BYTES_MAX, RESTORE_WINDOWS_AHEAD, RESTORE_WINDOWS_AHEAD_FAR,
};
use bytes::Bytes;
use futures::future::try_join3;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Streams given back, verified whole.
    pub streams_n: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of packs that were read for them.
    pub bytes_read: u64,
    /// Streams that could not be given back, by `keep_going`, each with the reason.
    pub failed: Vec<(String, String)>,
}

/// How a restore is made.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Only the streams of these names; empty stands for all.
    pub streams: Vec<String>,
    /// Goes on with the next stream when one is damaged or missing, and reports it, instead of ending.
    pub keep_going: bool,
}

/// Writes streams of a snapshot to a target, in the snapshot's order. A stream that fails is never ended at the target.
///
/// Memory is bounded by [`limits::RESTORE_BYTES_MAX`](crate::words::limits::RESTORE_BYTES_MAX) plus the index.
///
/// # Errors
/// [`Error::NotFound`]: no stream of that name. [`Error::Damaged`], [`Error::Missing`]: what is stored is not what was
/// backed up. [`Error::Target`]: the target's own. [`Error::Store`].
pub async fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    target: &mut dyn Target,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    let streams = select(snapshot, &options.streams)?;
    let fetcher = Fetcher::create(repository, loader::load_to_read(repository).await?.index);
    let mut report = RestoreReport::default();
    for stream in streams {
        progress.event(Event::StreamBegun { name: stream.name.clone(), bytes: Some(stream.bytes) });
        match restore_stream(&fetcher, stream, target, progress).await {
            Ok(()) => {
                report.streams_n += 1;
                report.bytes += stream.bytes;
            }
            Err(error) if options.keep_going && error.is_damage() => {
                report.failed.push((stream.name.clone(), error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    report.bytes_read = fetcher.reader().bytes_read();
    Ok(report)
}

/// Returns the streams of these names, or all for none.
///
/// # Errors
/// [`Error::NotFound`].
pub fn select<'a>(snapshot: &'a Snapshot, names: &[String]) -> Result<Vec<&'a StreamRecord>> {
    let streams = &snapshot.record.streams;
    if names.is_empty() {
        return Ok(streams.iter().collect());
    }
    let find = |name: &String| {
        streams.iter().find(|stream| stream.name == *name).ok_or_else(|| Error::NotFound {
            what: "stream",
            name: name.clone(),
            hint: format!(
                " in snapshot {}; it has {}",
                snapshot.id.short(),
                streams.iter().take(10).map(|stream| stream.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        })
    };
    names.iter().map(find).collect()
}

/// Writes one stream to a target; see [`restore`].
///
/// # Errors
/// As [`restore`].
pub(super) async fn restore_stream(
    fetcher: &Fetcher,
    stream: &StreamRecord,
    target: &mut dyn Target,
    progress: &dyn Progress,
) -> Result<()> {
    target.begin(stream).await?;
    // What may wait in between is bounded by the reader's room.
    let (read_sender, read_windows) = mpsc::unbounded_channel();
    let (sender, windows) = mpsc::channel(1);
    // Side by side: while one window is hashed and written, the next is decoded, and those behind it are read.
    let work = try_join3(
        read(fetcher, stream, read_sender),
        decode(fetcher, read_windows, sender),
        write(fetcher, windows, target, progress),
    );
    let ((), (), (bytes_n, hash)) = work.await?;
    if bytes_n != stream.bytes || hash != stream.hash {
        return Err(Error::damaged(
            format!("stream {:?}", stream.name),
            "its chunks are whole and do not make up what was backed up",
        ));
    }
    target.end().await
}

/// Writes the windows that arrive; returns how many bytes they had and what they hash to.
async fn write(
    fetcher: &Fetcher,
    mut windows: mpsc::Receiver<Vec<Bytes>>,
    target: &mut dyn Target,
    progress: &dyn Progress,
) -> Result<(u64, [u8; 32])> {
    let mut hasher = Box::new(blake3::Hasher::new());
    let mut bytes_n = 0;
    while let Some(pieces) = windows.recv().await {
        let hashed = pieces.clone();
        let work = move || {
            hashed.iter().for_each(|piece| {
                hasher.update(piece);
            });
            hasher
        };
        hasher = fetcher.repository().cpu.run(work).await;
        for piece in pieces {
            let piece_bytes = piece.len() as u64;
            bytes_n += piece_bytes;
            target.write(piece).await?;
            progress.event(Event::Restored { bytes: piece_bytes });
        }
    }
    Ok((bytes_n, *hasher.finalize().as_bytes()))
}

/// A window that was read, and the room that it takes until it is decoded.
type Roomed = (ReadWindow, OwnedSemaphorePermit);

/// Reads what a stream's windows need, in order, some windows and so many bytes ahead of the decoder. It never waits for the
/// decoder with a reply half read: what is on its way comes while a window is decoded.
async fn read(fetcher: &Fetcher, stream: &StreamRecord, sender: mpsc::UnboundedSender<Roomed>) -> Result<()> {
    let root = Root { id: stream.root, level: stream.root_level, bytes: stream.bytes, chunks_n: stream.chunks_n };
    let state = (ManifestReader::create(root), VecDeque::new(), Planner::holding(RESTORE_HELD_BYTES_MAX), false);
    let windows = stream::try_unfold(state, move |(mut reader, mut chunks, mut planner, mut at_end)| async move {
        while planner.wants_more() && !(at_end && chunks.is_empty()) {
            // A window's worth at least, so that no window ends because a leaf does.
            while !at_end && chunks.len() < 2 * NODE_ENTRIES_MAX {
                match reader.next_leaf(fetcher).await? {
                    Some(leaf) => chunks.extend(locate(fetcher, leaf).await?),
                    None => at_end = true,
                }
            }
            if !chunks.is_empty() {
                planner.plan(fetcher, &mut chunks).await?;
            }
        }
        Ok(planner.take().map(|window| (window, (reader, chunks, planner, at_end))))
    });
    let is_near = fetcher.repository().store.is_near();
    let ahead = if is_near { RESTORE_WINDOWS_AHEAD } else { RESTORE_WINDOWS_AHEAD_FAR };
    // Room for windows, each with its share of the bytes at least; given in the order of the windows.
    let room = Arc::new(Semaphore::new(RESTORE_AHEAD_BYTES_MAX));
    // Boxed, or the compiler can't see that a restore may go from thread to thread.
    let reads = windows.boxed().map_ok(|window| {
        let room = Arc::clone(&room);
        async move {
            let bytes = window.bytes_to_read().clamp(RESTORE_AHEAD_BYTES_MAX / ahead, RESTORE_AHEAD_BYTES_MAX);
            let taken = room.acquire_many_owned(bytes as u32).await.expect("it is never closed");
            Ok((assembly::read(fetcher, window).await, taken))
        }
    });
    let mut reads = reads.try_buffered(ahead).boxed();
    while let Some(window) = reads.try_next().await? {
        // The decoder only goes away with an error of its own, which ends all.
        if sender.send(window).is_err() {
            break;
        }
    }
    Ok(())
}

async fn locate(fetcher: &Fetcher, leaf: Vec<LeafEntry>) -> Result<Vec<Wanted>> {
    let mut chunks = Vec::with_capacity(leaf.len());
    for entry in leaf {
        chunks.push((entry, fetcher.locate(&entry.id, "chunk").await?));
    }
    Ok(chunks)
}

async fn decode(
    fetcher: &Fetcher,
    mut windows: mpsc::UnboundedReceiver<Roomed>,
    sender: mpsc::Sender<Vec<Bytes>>,
) -> Result<()> {
    let mut assembly = Assembly::default();
    while let Some((window, taken)) = windows.recv().await {
        let pieces = assembly.decode(fetcher, window).await?;
        drop(taken);
        // As above.
        if sender.send(pieces).await.is_err() {
            break;
        }
    }
    Ok(())
}
