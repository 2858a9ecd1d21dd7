//! Walks manifests, many nodes at a time, and opens no node twice.

use super::census::Needed;
use super::chains::{self, Blobs, Job};
use super::fetch::cut;
use super::index::{ChunkNumber, Index};
use super::reader::PackReader;
use crate::crafts::crypto::keys::Keys;
use crate::format::node::{ChildEntry, LeafEntry, Node};
use crate::format::record::Sealer;
use crate::format::snapshot::StreamRecord;
use crate::words::error::{Error, Result};
use crate::words::id::ChunkId;
use crate::words::limits::RESTORE_WINDOW_BYTES;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Marks the nodes below these roots and their chunks; returns how many nodes were opened.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`]: a node or chunk that is needed. [`Error::Store`].
pub async fn mark(
    reader: &PackReader,
    index: &Index,
    streams: impl Iterator<Item = &StreamRecord>,
    needed: &mut Needed,
) -> Result<u64> {
    let mut level: Vec<(ChildEntry, u8)> = streams.map(root).collect();
    let mut nodes_n = 0;
    while !level.is_empty() {
        let mut fresh = Vec::new();
        for (child, at) in level {
            if needed.insert(find(index, &child.id, "node")?) {
                fresh.push((child, at));
            }
        }
        nodes_n += fresh.len() as u64;
        level = Vec::new();
        // In the order in which they lie, so that each blob is read once for all its nodes.
        fresh.sort_by_key(|(child, _)| index.number_of(&child.id));
        for nodes in windows(index, fresh) {
            for (node, at) in read(reader, index, nodes).await? {
                match node {
                    Node::Leaf { entries, .. } => {
                        for entry in entries {
                            needed.insert(find(index, &entry.id, "chunk")?);
                        }
                    }
                    Node::Inner { children, .. } => level.extend(children.into_iter().map(|child| (child, at - 1))),
                }
            }
        }
    }
    Ok(nodes_n)
}

/// Calls `leaf` with the leaves of a stream, in order.
///
/// # Errors
/// As [`mark`].
pub async fn leaves(
    reader: &PackReader,
    index: &Index,
    stream: &StreamRecord,
    mut leaf: impl FnMut(Vec<LeafEntry>),
) -> Result<()> {
    // Nodes still to open, the next one last.
    let mut pending = vec![root(stream)];
    while let Some((_, at)) = pending.last().copied() {
        let same_level = pending.iter().rev().take_while(|(_, level)| *level == at).count();
        let mut nodes: Vec<_> = pending.drain(pending.len() - same_level..).rev().collect();
        let fitting = windows(index, nodes.clone()).first().map_or(0, Vec::len);
        pending.extend(nodes.drain(fitting..).rev());
        let mut below = Vec::new();
        for (node, at) in read(reader, index, nodes).await? {
            match node {
                Node::Leaf { entries, .. } => leaf(entries),
                Node::Inner { children, .. } => below.extend(children.into_iter().map(|child| (child, at - 1))),
            }
        }
        pending.extend(below.into_iter().rev());
    }
    Ok(())
}

fn root(stream: &StreamRecord) -> (ChildEntry, u8) {
    (ChildEntry { id: stream.root, bytes: stream.bytes, chunks_n: stream.chunks_n }, stream.root_level)
}

/// Finds what a snapshot needs.
pub fn find(index: &Index, id: &ChunkId, what: &str) -> Result<ChunkNumber> {
    index.number_of(id).ok_or_else(|| Error::Missing {
        object: format!("{what} {}", id.short()),
        why: "a snapshot needs it; nothing was changed; `dedump check` names the snapshot".to_owned(),
    })
}

/// Splits nodes into groups whose blobs fit into one window.
fn windows(index: &Index, nodes: Vec<(ChildEntry, u8)>) -> Vec<Vec<(ChildEntry, u8)>> {
    let (mut windows, mut window, mut bytes, mut last) = (Vec::new(), Vec::new(), 0, None);
    for node in nodes {
        let found = index.find_chunk(&node.0.id);
        let key = found.map(|found| found.blob_key());
        if key != last {
            bytes += found.map_or(0, |found| found.location.place.plain_bytes as usize);
            last = key;
        }
        if bytes > RESTORE_WINDOW_BYTES && !window.is_empty() {
            windows.push(std::mem::take(&mut window));
            bytes = 0;
            last = None;
        }
        window.push(node);
    }
    windows.push(window);
    windows
}

/// Reads nodes, each blob once, and checks them against what their parents say.
async fn read(reader: &PackReader, index: &Index, nodes: Vec<(ChildEntry, u8)>) -> Result<Vec<(Node, u8)>> {
    let mut jobs = BTreeMap::new();
    let mut wanted = Vec::with_capacity(nodes.len());
    for (child, level) in nodes {
        let number = find(index, &child.id, "node")?;
        let found = index.find_numbered(number).expect("it has a number");
        jobs.entry(found.blob_key()).or_insert(Job { found, prefix: Vec::new() });
        wanted.push((child, level, found));
    }
    let sealed = chains::read_jobs(reader, jobs.into_values().collect()).await.map_err(|failure| failure.error)?;
    let repository = reader.repository();
    let (id, keys) = (repository.id(), Arc::clone(&repository.keys));
    let work = move || {
        let mut blobs = Blobs::default();
        chains::decode_jobs(Sealer { repository: id, keys: &keys }, sealed, &mut blobs, None)
            .map_err(|failure| failure.error)?;
        let decode = |(child, level, found): (ChildEntry, u8, super::index::Found)| {
            let bytes = blobs.get(&found.blob_key()).and_then(|blob| cut(blob, &found.location));
            decode(&keys, &child, level, bytes.as_deref().unwrap_or_default()).map(|node| (node, level))
        };
        wanted.into_iter().map(decode).collect()
    };
    repository.cpu.run(work).await
}

fn decode(keys: &Keys, child: &ChildEntry, level: u8, bytes: &[u8]) -> Result<Node> {
    let damaged = |why: String| Error::damaged(format!("node {}", child.id.short()), why);
    if keys.node_id(bytes) != child.id {
        return Err(damaged("it does not hash to its id".to_owned()));
    }
    let node = Node::decode(bytes).map_err(damaged)?;
    if node.level() != level || node.totals() != (child.bytes, child.chunks_n) {
        return Err(damaged("it is not what the node above says of it".to_owned()));
    }
    Ok(node)
}
