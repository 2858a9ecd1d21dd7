//! `snapshots/<sid>`: one committed backup. Written last, created only if absent: that is the commit.

use super::header::ObjectType;
use super::record::Record;
use crate::crafts::chunker::ChunkerParams;
use crate::words::id::{ChunkId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a backup can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[non_exhaustive]
pub enum Quality {
    /// Everything that was to be dumped is there, and nothing looks odd.
    Good,
    /// Everything is there, and something looks odd: see the reasons.
    Suspicious,
    /// Something that was to be dumped is not there: see the reasons.
    Partial,
}

impl From<Quality> for u8 {
    fn from(quality: Quality) -> u8 {
        match quality {
            Quality::Good => 0,
            Quality::Suspicious => 1,
            Quality::Partial => 2,
        }
    }
}

impl TryFrom<u8> for Quality {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Quality::Good),
            1 => Ok(Quality::Suspicious),
            2 => Ok(Quality::Partial),
            _ => Err(format!("there is no quality {number}")),
        }
    }
}

/// One stream of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its name, unique in the snapshot.
    pub name: String,
    /// Length, in bytes.
    pub bytes: u64,
    /// Number of chunks.
    pub chunks_n: u64,
    /// BLAKE3 of the whole stream, unkeyed, as `b3sum` prints it.
    pub hash: [u8; 32],
    /// The root of its manifest.
    pub root: ChunkId,
    /// The root's level: 0 if it is a leaf.
    pub root_level: u8,
    /// How it was cut.
    pub chunker: ChunkerParams,
    /// What the engine says of it.
    pub facts: BTreeMap<String, String>,
}

/// What a backup cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes of all streams.
    pub bytes: u64,
    /// Chunks of all streams.
    pub chunks_n: u64,
    /// Chunks that the repository did not have.
    pub chunks_new_n: u64,
    /// Bytes of those chunks, before compression.
    pub bytes_new: u64,
    /// Manifest nodes that the repository did not have.
    pub nodes_new_n: u64,
    /// Bytes put into data packs, meta packs and index fragments.
    pub bytes_added: u64,
    /// Of those, in meta packs and index fragments.
    pub bytes_added_meta: u64,
    /// Bytes stored for new chunks that were compressed without a base.
    pub bytes_stored_whole: u64,
    /// New chunks that were compressed against others.
    pub chunks_delta_n: u64,
    /// Bytes of those, before compression.
    pub bytes_delta: u64,
    /// Bytes stored for them.
    pub bytes_stored_delta: u64,
    /// Bytes read from the store or the cache for that, and for streams that were taken over from the parent.
    pub bytes_read_back: u64,
    /// How many new chunks have each depth, from 0: blobs to decode before theirs, in a row.
    pub depths: Vec<u64>,
}

impl Totals {
    /// Returns what compression without a base saved, and what compression against other chunks saved, in bytes.
    pub fn saved_bytes(&self) -> (u64, u64) {
        let whole = self.bytes_new.saturating_sub(self.bytes_delta);
        let saved_delta = self.bytes_delta.saturating_sub(self.bytes_stored_delta);
        (whole.saturating_sub(self.bytes_stored_whole), saved_delta)
    }
}

/// One committed backup; its id stands in its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// When the backup began, in milliseconds since 1970 UTC, by the host's clock.
    pub started_ms: i64,
    /// When it was committed, likewise.
    pub ended_ms: i64,
    /// The host that was backed up.
    pub host: String,
    /// What was dumped: the snapshots of one source follow one another.
    pub source: String,
    /// Labels given by the user.
    pub tags: BTreeMap<String, String>,
    /// The program that wrote it, with its version.
    pub program: String,
    /// How far it can be trusted.
    pub quality: Quality,
    /// Why it is not good; empty if it is.
    pub reasons: Vec<String>,
    /// What the user should know and what does not lessen its quality.
    pub warnings: Vec<String>,
    /// What the engine says of the dump: engine, command, versions.
    pub facts: BTreeMap<String, String>,
    /// The snapshot of the same source before this one.
    pub parent: Option<SnapshotId>,
    /// In a copy: the snapshot in the repository that it was copied from.
    pub origin: Option<SnapshotId>,
    /// The streams, in the order in which the engine wrote them.
    pub streams: Vec<StreamRecord>,
    /// How many index fragments the session wrote.
    pub fragments_n: u32,
    /// What it cost.
    pub totals: Totals,
}

impl Record for SnapshotRecord {
    const TYPE: ObjectType = ObjectType::Snapshot;
}
