//! A manifest node: a piece of the list of chunks that makes up a stream. Stored as a chunk of a meta pack.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | level: 0 = leaf |
//! | 1 | 1 | sketch: 0 = none, 1 = 12 bytes a chunk; 0 above the leaves |
//! | 2 | 2 | number of entries |
//! | 4 | 4 | zero |
//! | 8 | 36 or 48 each | in a leaf: chunk id (32), length (4), sketch (12, if any) |
//! | 8 | 48 each | above: node id (32), bytes below (8), chunks below (8) |

use super::bytes::{Cursor, len_u16};
use crate::crafts::sketch::Sketch;
use crate::words::id::ChunkId;
use crate::words::limits::{CHUNK_BYTES_MAX, NODE_ENTRIES_MAX, NODE_LEVEL_MAX};

/// A chunk in a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafEntry {
    /// The chunk.
    pub id: ChunkId,
    /// Its length.
    pub plain_bytes: u32,
}

/// A node below another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildEntry {
    /// The node.
    pub id: ChunkId,
    /// Bytes of the stream below it.
    pub bytes: u64,
    /// Chunks below it.
    pub chunks_n: u64,
}

/// A decoded node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Chunks, and their sketches: as many, or none.
    Leaf {
        /// The chunks.
        entries: Vec<LeafEntry>,
        /// Their sketches, or nothing.
        sketches: Vec<Sketch>,
    },
    /// Nodes of the level below.
    Inner {
        /// This node's level: 1 above the leaves.
        level: u8,
        /// The nodes.
        children: Vec<ChildEntry>,
    },
}

impl Node {
    /// Returns the level: 0 for a leaf.
    pub fn level(&self) -> u8 {
        match self {
            Node::Leaf { .. } => 0,
            Node::Inner { level, .. } => *level,
        }
    }

    /// Returns bytes and chunks of the stream below.
    pub fn totals(&self) -> (u64, u64) {
        match self {
            Node::Leaf { entries, .. } => {
                (entries.iter().map(|entry| u64::from(entry.plain_bytes)).sum(), entries.len() as u64)
            }
            Node::Inner { children, .. } => children.iter().fold((0, 0), |(bytes, chunks_n), child| {
                (bytes.saturating_add(child.bytes), chunks_n.saturating_add(child.chunks_n))
            }),
        }
    }

    /// Encodes the node.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut head = |level: u8, sketch: u8, entries_n: usize| {
            bytes.extend_from_slice(&[level, sketch]);
            bytes.extend_from_slice(&len_u16(entries_n).to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
        };
        match self {
            Node::Leaf { entries, sketches } => {
                assert!(sketches.is_empty() || sketches.len() == entries.len(), "a sketch for every chunk, or none");
                head(0, u8::from(!sketches.is_empty()), entries.len());
                let mut sketches = sketches.iter();
                for entry in entries {
                    bytes.extend_from_slice(&entry.id.0);
                    bytes.extend_from_slice(&entry.plain_bytes.to_le_bytes());
                    bytes.extend(sketches.next().into_iter().flatten());
                }
            }
            Node::Inner { level, children } => {
                head(*level, 0, children.len());
                for child in children {
                    bytes.extend_from_slice(&child.id.0);
                    bytes.extend_from_slice(&child.bytes.to_le_bytes());
                    bytes.extend_from_slice(&child.chunks_n.to_le_bytes());
                }
            }
        }
        bytes
    }

    /// Decodes a node, or says what is impossible about it.
    pub fn decode(bytes: &[u8]) -> Result<Node, String> {
        let mut cursor = Cursor::new(bytes);
        let (level, sketch, entries_n) = (cursor.u8()?, cursor.u8()?, usize::from(cursor.u16()?));
        cursor.zeros(4)?;
        if level > NODE_LEVEL_MAX
            || sketch > 1
            || (sketch > 0 && (level > 0 || entries_n == 0))
            || entries_n > NODE_ENTRIES_MAX
        {
            return Err(format!("a node of level {level}, sketch {sketch} and {entries_n} entries can't be"));
        }
        let node = if level == 0 {
            decode_leaf(&mut cursor, sketch == 1, entries_n)?
        } else {
            decode_inner(&mut cursor, level, entries_n)?
        };
        cursor.end()?;
        Ok(node)
    }
}

fn decode_leaf(cursor: &mut Cursor<'_>, has_sketches: bool, entries_n: usize) -> Result<Node, String> {
    let (mut entries, mut sketches) = (Vec::with_capacity(entries_n), Vec::new());
    for _ in 0..entries_n {
        let entry = LeafEntry { id: ChunkId(cursor.array()?), plain_bytes: cursor.u32()? };
        if !(1..=CHUNK_BYTES_MAX).contains(&(entry.plain_bytes as usize)) {
            return Err(format!("a chunk of {} bytes can't be", entry.plain_bytes));
        }
        entries.push(entry);
        if has_sketches {
            sketches.push(cursor.array()?);
        }
    }
    Ok(Node::Leaf { entries, sketches })
}

fn decode_inner(cursor: &mut Cursor<'_>, level: u8, entries_n: usize) -> Result<Node, String> {
    if entries_n == 0 {
        return Err("a node above the leaves is empty".to_owned());
    }
    let mut children = Vec::with_capacity(entries_n);
    for _ in 0..entries_n {
        children.push(ChildEntry { id: ChunkId(cursor.array()?), bytes: cursor.u64()?, chunks_n: cursor.u64()? });
    }
    Ok(Node::Inner { level, children })
}
