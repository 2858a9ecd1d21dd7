//! Compares two snapshots by their manifests' nodes: what both share is never opened, so the cost follows what differs.

use crate::edges::progress::Progress;
use crate::format::node::{ChildEntry, LeafEntry, Node};
use crate::format::snapshot::StreamRecord;
use crate::state::fetch::Fetcher;
use crate::state::loader;
use crate::state::manifest::read_node;
use crate::state::repository::Repository;
use crate::state::snapshots::Snapshot;
use crate::words::error::Result;
use crate::words::id::ChunkId;
use std::collections::{BTreeMap, BTreeSet};

/// How two snapshots differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// Every stream of either snapshot, by name.
    pub streams: Vec<StreamDiff>,
    /// Manifest nodes that were opened.
    pub nodes_opened_n: u64,
}

/// How one stream differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDiff {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// Its bytes in the first snapshot.
    pub bytes_before: u64,
    /// Its bytes in the second.
    pub bytes_after: u64,
    /// Bytes in chunks that only the first one has.
    pub bytes_removed: u64,
    /// Bytes in chunks that only the second one has.
    pub bytes_added: u64,
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the second snapshot has it.
    Added,
    /// Only the first one has it.
    Removed,
    /// Both have it, with other bytes.
    Changed,
    /// Both have it, with the same bytes.
    Same,
}

/// Compares two snapshots, stream by stream.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing), [`Error::Damaged`](crate::Error::Damaged),
/// [`Error::Store`](crate::Error::Store).
pub async fn diff(
    repository: &Repository,
    before: &Snapshot,
    after: &Snapshot,
    progress: &dyn Progress,
) -> Result<DiffReport> {
    let by_name = |snapshot: &Snapshot| -> BTreeMap<String, StreamRecord> {
        snapshot.record.streams.iter().map(|stream| (stream.name.clone(), stream.clone())).collect()
    };
    let (before, after) = (by_name(before), by_name(after));
    let fetcher = Fetcher::create(repository, loader::load_to_read(repository).await?.index);
    let mut report = DiffReport::default();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let pair = (before.get(name), after.get(name));
        report.streams.push(diff_stream(&fetcher, name, pair, &mut report.nodes_opened_n).await?);
        progress.event(crate::edges::progress::Event::Done { bytes: 0 });
    }
    Ok(report)
}

async fn diff_stream(
    fetcher: &Fetcher,
    name: &str,
    pair: (Option<&StreamRecord>, Option<&StreamRecord>),
    nodes_opened_n: &mut u64,
) -> Result<StreamDiff> {
    let bytes = |stream: Option<&StreamRecord>| stream.map_or(0, |stream| stream.bytes);
    let (bytes_before, bytes_after) = (bytes(pair.0), bytes(pair.1));
    let (change, bytes_removed, bytes_added) = match pair {
        (Some(before), Some(after)) if before.hash == after.hash && bytes_before == bytes_after => (Change::Same, 0, 0),
        (Some(before), Some(after)) => {
            let (removed, added) = diff_trees(fetcher, before, after, nodes_opened_n).await?;
            (Change::Changed, removed, added)
        }
        (Some(_), None) => (Change::Removed, bytes_before, 0),
        (None, _) => (Change::Added, 0, bytes_after),
    };
    Ok(StreamDiff { name: name.to_owned(), change, bytes_before, bytes_after, bytes_removed, bytes_added })
}

/// Nodes of one level, each as often as it occurs.
type Level = BTreeMap<ChunkId, (ChildEntry, u64)>;

/// Returns the bytes in chunks of one tree alone, and of the other alone; chunks count as often as they occur.
async fn diff_trees(
    fetcher: &Fetcher,
    before: &StreamRecord,
    after: &StreamRecord,
    nodes_opened_n: &mut u64,
) -> Result<(u64, u64)> {
    let root = |stream: &StreamRecord| {
        let child = ChildEntry { id: stream.root, bytes: stream.bytes, chunks_n: stream.chunks_n };
        BTreeMap::from([(stream.root_level, Level::from([(stream.root, (child, 1))]))])
    };
    let (mut before, mut after) = (root(before), root(after));
    let (mut removed, mut added) = (BTreeMap::new(), BTreeMap::new());
    while let Some(level) = before.keys().chain(after.keys()).max().copied() {
        let (mut left, mut right) =
            (before.remove(&level).unwrap_or_default(), after.remove(&level).unwrap_or_default());
        cancel(&mut left, &mut right);
        for (nodes, below, leaves) in [(left, &mut before, &mut removed), (right, &mut after, &mut added)] {
            *nodes_opened_n += nodes.len() as u64;
            open_level(fetcher, level, nodes, below, leaves).await?;
        }
    }
    cancel(&mut removed, &mut added);
    let bytes = |chunks: BTreeMap<ChunkId, (LeafEntry, u64)>| {
        chunks.into_values().map(|(entry, times)| u64::from(entry.plain_bytes) * times).sum()
    };
    Ok((bytes(removed), bytes(added)))
}

/// Takes away from both what both have, as often as both have it.
fn cancel<T>(left: &mut BTreeMap<ChunkId, (T, u64)>, right: &mut BTreeMap<ChunkId, (T, u64)>) {
    for (id, (_, left_times)) in left.iter_mut() {
        if let Some((_, right_times)) = right.get_mut(id) {
            let common = (*left_times).min(*right_times);
            *left_times -= common;
            *right_times -= common;
        }
    }
    left.retain(|_, (_, times)| *times > 0);
    right.retain(|_, (_, times)| *times > 0);
}

async fn open_level(
    fetcher: &Fetcher,
    level: u8,
    nodes: Level,
    below: &mut BTreeMap<u8, Level>,
    leaves: &mut BTreeMap<ChunkId, (LeafEntry, u64)>,
) -> Result<()> {
    for (child, times) in nodes.into_values() {
        match read_node(fetcher, &child, level).await? {
            Node::Leaf { entries, .. } => {
                for entry in entries {
                    leaves.entry(entry.id).or_insert((entry, 0)).1 += times;
                }
            }
            Node::Inner { children, .. } => {
                let below = below.entry(level - 1).or_default();
                for child in children {
                    below.entry(child.id).or_insert((child, 0)).1 += times;
                }
            }
        }
    }
    Ok(())
}
