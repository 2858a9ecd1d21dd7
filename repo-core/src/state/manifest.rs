//! Builds and walks manifest trees.
//!
//! A node ends after an entry whose id says so, at [`NODE_ENTRIES_MIN`] entries or later and at [`NODE_ENTRIES_MAX`] at
//! the latest; so equal stretches of a stream give equal nodes wherever they start, on every level.

use super::fetch::Fetcher;
use crate::crafts::crypto::keys::Keys;
use crate::crafts::sketch::Sketch;
use crate::format::node::{ChildEntry, LeafEntry, Node};
use crate::words::error::{Error, Result};
use crate::words::id::ChunkId;
use crate::words::limits::{NODE_ENTRIES_MAX, NODE_ENTRIES_MEAN, NODE_ENTRIES_MIN, NODE_LEVEL_MAX};

/// The root of a manifest, and what lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// Its node.
    pub id: ChunkId,
    /// Its level.
    pub level: u8,
    /// Bytes of the stream.
    pub bytes: u64,
    /// Chunks of the stream.
    pub chunks_n: u64,
}

/// Builds the manifest of one stream. Holds at most one unfinished node a level.
pub struct ManifestBuilder<'a> {
    keys: &'a Keys,
    leaf: Vec<LeafEntry>,
    /// As many as there are entries, or none.
    sketches: Vec<Sketch>,
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Nodes of this level that are finished.
    finished_n: u64,
    /// Children for the next node of the level above.
    children: Vec<ChildEntry>,
}

/// A node that is finished, to be stored unless it is known.
pub struct FinishedNode {
    /// Its id.
    pub id: ChunkId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl<'a> ManifestBuilder<'a> {
    /// Creates the builder of an empty stream.
    pub fn create(keys: &'a Keys) -> Self {
        ManifestBuilder { keys, leaf: Vec::new(), sketches: Vec::new(), levels: vec![Level::default()] }
    }

    /// Appends a chunk, with its sketch or without: one stream's chunks all alike. Nodes that this finishes are appended to
    /// `finished`.
    pub fn push(&mut self, entry: LeafEntry, sketch: Option<Sketch>, finished: &mut Vec<FinishedNode>) {
        self.leaf.push(entry);
        self.sketches.extend(sketch);
        if ends_node(self.leaf.len(), &entry.id) {
            self.finish_leaf(finished);
        }
    }

    /// Ends the stream and returns its root; the last nodes are appended to `finished`.
    pub fn finish(mut self, finished: &mut Vec<FinishedNode>) -> Root {
        if !self.leaf.is_empty() || self.levels[0].finished_n == 0 {
            self.finish_leaf(finished);
        }
        let mut level = 0;
        // A level with a single node is the top: that node is the root.
        while self.levels[level].finished_n > 1 {
            if !self.levels[level].children.is_empty() {
                self.finish_inner(level, finished);
            }
            level += 1;
        }
        let [root] = self.levels[level].children[..] else {
            unreachable!("the only node of a level waits for a parent")
        };
        Root { id: root.id, level: level as u8, bytes: root.bytes, chunks_n: root.chunks_n }
    }

    fn finish_leaf(&mut self, finished: &mut Vec<FinishedNode>) {
        let node = Node::Leaf { entries: std::mem::take(&mut self.leaf), sketches: std::mem::take(&mut self.sketches) };
        self.add_child(0, &node, finished);
    }

    /// Makes a node of the children that `level` has collected.
    fn finish_inner(&mut self, level: usize, finished: &mut Vec<FinishedNode>) {
        let children = std::mem::take(&mut self.levels[level].children);
        if self.levels.len() == level + 1 {
            self.levels.push(Level::default());
        }
        let node = Node::Inner { level: level as u8 + 1, children };
        self.add_child(level + 1, &node, finished);
    }

    /// Enters a finished node of `level` into the level's children.
    fn add_child(&mut self, level: usize, node: &Node, finished: &mut Vec<FinishedNode>) {
        assert!(level <= usize::from(NODE_LEVEL_MAX), "64^8 chunks do not fit into a stream");
        let bytes = node.encode();
        let id = self.keys.node_id(&bytes);
        let (bytes_below, chunks_n) = node.totals();
        finished.push(FinishedNode { id, bytes });
        self.levels[level].finished_n += 1;
        self.levels[level].children.push(ChildEntry { id, bytes: bytes_below, chunks_n });
        if ends_node(self.levels[level].children.len(), &id) {
            self.finish_inner(level, finished);
        }
    }
}

fn ends_node(entries_n: usize, last: &ChunkId) -> bool {
    let [a, b, c, d, ..] = last.0;
    let chosen = u64::from(u32::from_le_bytes([a, b, c, d])).is_multiple_of(NODE_ENTRIES_MEAN);
    entries_n >= NODE_ENTRIES_MAX || (entries_n >= NODE_ENTRIES_MIN && chosen)
}

/// Reads a manifest's leaves in the stream's order. Every node is checked against what its parent says of it.
pub struct ManifestReader {
    /// Nodes still to visit, the next one last.
    pending: Vec<(ChildEntry, u8)>,
}

impl ManifestReader {
    /// Creates the reader of the manifest below this root.
    pub fn create(root: Root) -> Self {
        let child = ChildEntry { id: root.id, bytes: root.bytes, chunks_n: root.chunks_n };
        ManifestReader { pending: vec![(child, root.level)] }
    }

    /// Returns the chunks of the next leaf, or `None` at the end.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`]: a node is not there, or not what its parent says. [`Error::Store`].
    pub async fn next_leaf(&mut self, fetcher: &Fetcher) -> Result<Option<Vec<LeafEntry>>> {
        Ok(self.next_leaf_with_sketches(fetcher).await?.map(|(entries, _)| entries))
    }

    /// Returns the chunks of the next leaf with their sketches, of which there are as many or none; `None` at the end.
    ///
    /// # Errors
    /// As [`ManifestReader::next_leaf`].
    pub async fn next_leaf_with_sketches(
        &mut self,
        fetcher: &Fetcher,
    ) -> Result<Option<(Vec<LeafEntry>, Vec<Sketch>)>> {
        while let Some((child, level)) = self.pending.pop() {
            match read_node(fetcher, &child, level).await? {
                Node::Leaf { entries, sketches } => return Ok(Some((entries, sketches))),
                Node::Inner { children, .. } => {
                    self.pending.extend(children.into_iter().rev().map(|child| (child, level - 1)));
                }
            }
        }
        Ok(None)
    }
}

/// Reads a node and checks it against what its parent says.
///
/// # Errors
/// As [`ManifestReader::next_leaf`].
pub async fn read_node(fetcher: &Fetcher, child: &ChildEntry, level: u8) -> Result<Node> {
    let object = || format!("node {}", child.id.short());
    let bytes = fetcher.node(&child.id).await?;
    let node = Node::decode(&bytes).map_err(|why| Error::damaged(object(), why))?;
    if node.level() != level || node.totals() != (child.bytes, child.chunks_n) {
        return Err(Error::damaged(object(), "it is not what the node above says of it"));
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crafts::crypto::keys::{Secret, Secrets};
    use std::collections::{BTreeMap, HashMap, HashSet};

    fn keys() -> Keys {
        let secrets = Secrets { naming: Secret([1; 32]), epochs: BTreeMap::from([(1, Secret([2; 32]))]) };
        Keys::derive(secrets).expect("an epoch")
    }

    fn entry(number: u32) -> LeafEntry {
        LeafEntry { id: ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes()), plain_bytes: 10 }
    }

    fn build(entries: impl Iterator<Item = LeafEntry>) -> (Root, HashMap<ChunkId, Node>) {
        let (keys, mut finished) = (keys(), Vec::new());
        let mut builder = ManifestBuilder::create(&keys);
        entries.for_each(|entry| builder.push(entry, None, &mut finished));
        let root = builder.finish(&mut finished);
        let nodes = finished.into_iter().map(|node| (node.id, Node::decode(&node.bytes).expect("decodes"))).collect();
        (root, nodes)
    }

    fn leaves(id: ChunkId, nodes: &HashMap<ChunkId, Node>, into: &mut Vec<LeafEntry>) {
        match &nodes[&id] {
            Node::Leaf { entries, .. } => into.extend(entries),
            Node::Inner { children, .. } => children.iter().for_each(|child| leaves(child.id, nodes, into)),
        }
    }

    #[test]
    fn a_tree_holds_its_entries_in_order_and_nothing_else() {
        for entries_n in [0, 1, 63, 64, 65, 1024, 5_000, 200_000] {
            let (root, nodes) = build((0..entries_n).map(entry));
            assert_eq!((root.bytes, root.chunks_n), (u64::from(entries_n) * 10, u64::from(entries_n)));
            assert_eq!(nodes[&root.id].level(), root.level);
            let mut found = Vec::new();
            leaves(root.id, &nodes, &mut found);
            assert!(found.into_iter().eq((0..entries_n).map(entry)), "{entries_n} entries");
        }
    }

    #[test]
    fn a_small_change_changes_few_nodes() {
        let (_, before) = build((0..200_000).map(entry));
        let (_, after) = build((0..100_000).chain(500_000..500_001).chain(100_000..200_000).map(entry));
        let before: HashSet<_> = before.keys().collect();
        let new_n = after.keys().filter(|id| !before.contains(id)).count();
        assert!((1..=6).contains(&new_n), "{new_n} of {} nodes are new", after.len());
    }
}
