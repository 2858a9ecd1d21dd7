//! Takes streams of the parent snapshot over into a backup without reading their source.
//!
//! Such a stream is a copy of its record, and what the record names must be there as long as the new snapshot stands. That is
//! so, by the argument that lets any backup refer to chunks that it finds in its index (FORMAT.md, "Deletion"):
//!
//! - The backup's mark was put before it listed the notices, and [`load_to_add`](crate::state::loader::load_to_add) made an
//!   index of what is listed by then, without anything in packs that a notice names, and without deltas that could not be decoded
//!   without those. What that index places, a prune whose notice comes later finds needed, or fences this session, so that it
//!   commits nothing.
//! - So the manifest is walked, all of it: every node is read by way of that index alone, and every chunk of every leaf must have
//!   a place in it. This is what would have been asked of each chunk had the source been read and cut; the only difference is
//!   that the nodes are found rather than made.
//! - A chunk that this run stores anew has no place in the index. A stream that needs one counts as not whole, and is read: that
//!   is rare, and errs towards reading.
//!
//! That the parent itself may be forgotten meanwhile is no harm: what it needed stays, as above, and its record is here.

use super::restore::restore_stream;
use crate::crafts::chunker::ChunkerParams;
use crate::edges::parent::Before;
use crate::edges::target::WriterTarget;
use crate::format::node::{ChildEntry, LeafEntry, Node};
use crate::format::snapshot::StreamRecord;
use crate::state::fetch::Fetcher;
use crate::state::manifest::read_node;
use crate::state::reader::{PackReader, ReadFrom};
use crate::state::snapshots::Snapshot;
use crate::words::error::Result;
use crate::words::limits::READS_MAX;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The parent's streams, and what tells whether they are whole.
pub(super) struct Reusable {
    streams: Vec<StreamRecord>,
    numbers: HashMap<String, usize>,
    /// Over the backup's own index. It reads from the store whatever deltas may cost.
    fetcher: Fetcher,
    chunker: ChunkerParams,
    problems: Mutex<Vec<String>>,
}

impl Reusable {
    /// Takes the streams of the parent, for a backup that looks up chunks by way of `fetcher` and cuts them with `chunker`.
    pub fn create(fetcher: &Fetcher, parent: &Snapshot, chunker: ChunkerParams) -> Reusable {
        let streams = parent.record.streams.clone();
        let numbers = streams.iter().enumerate().map(|(number, stream)| (stream.name.clone(), number)).collect();
        let reader = PackReader::create(fetcher.repository(), ReadFrom::CacheThenStore);
        Reusable { streams, numbers, fetcher: fetcher.create_beside(reader), chunker, problems: Mutex::default() }
    }

    /// Returns how many bytes of packs were read.
    pub fn bytes_read(&self) -> u64 {
        self.fetcher.reader().bytes_read()
    }

    /// Returns what was found damaged.
    pub fn take_problems(&self) -> Vec<String> {
        std::mem::take(&mut self.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Walks a manifest, a level at a time; returns whether the index has a place for every chunk.
    async fn walk(&self, stream: &StreamRecord) -> Result<bool> {
        let root = ChildEntry { id: stream.root, bytes: stream.bytes, chunks_n: stream.chunks_n };
        let (mut below, mut level) = (vec![root], stream.root_level);
        while !below.is_empty() {
            let at = level;
            let reads = below.into_iter().map(|child| async move { read_node(&self.fetcher, &child, at).await });
            let mut nodes = stream::iter(reads).buffered(READS_MAX).boxed();
            let mut next = Vec::new();
            while let Some(node) = nodes.try_next().await? {
                match node {
                    Node::Leaf { entries, .. } if !self.has_all(&entries) => return Ok(false),
                    Node::Leaf { .. } => {}
                    Node::Inner { children, .. } => next.extend(children),
                }
            }
            // A leaf has no children, and `read_node` takes no node of another level than the one that it asks for.
            level = level.saturating_sub(1);
            below = next;
        }
        Ok(true)
    }

    fn has_all(&self, entries: &[LeafEntry]) -> bool {
        self.fetcher.with_index(|index| {
            let is_placed = |entry: &LeafEntry| {
                index.locate(&entry.id).is_some_and(|location| location.plain_bytes == entry.plain_bytes)
            };
            entries.iter().all(is_placed)
        })
    }
}

#[async_trait]
impl Before for Reusable {
    fn streams(&self) -> &[StreamRecord] {
        &self.streams
    }

    fn stream(&self, name: &str) -> Option<&StreamRecord> {
        self.numbers.get(name).and_then(|number| self.streams.get(*number))
    }

    async fn holds(&self, stream: &StreamRecord) -> Result<bool> {
        // Whoever asks for another way of cutting wants the stream cut so.
        if stream.chunker != self.chunker {
            return Ok(false);
        }
        match self.walk(stream).await {
            Err(error) if error.is_damage() => {
                let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
                if problems.len() < 10 {
                    problems.push(format!("stream {:?} was read and not taken over: {error}", stream.name));
                }
                Ok(false)
            }
            other => other,
        }
    }

    async fn read(&self, stream: &StreamRecord) -> Result<Vec<u8>> {
        let mut target = WriterTarget(Vec::new());
        restore_stream(&self.fetcher, stream, &mut target, &()).await?;
        Ok(target.0)
    }
}
