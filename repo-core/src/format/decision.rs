//! The small objects that say what became of a session, beside the snapshot itself.
//!
//! `merges/<sid>` commits a run that is no backup. A fence stands in a decision's place and forbids it for ever. A
//! tombstone under `forgotten/<sid>` takes a snapshot away, and keeps what its session wrote in force for others.

use super::header::ObjectType;
use super::names::{FragmentName, PackKind};
use super::record::Record;
use crate::words::id::{PackId, SessionId, SnapshotId};
use serde::{Deserialize, Serialize};

/// Commits a reindex or a prune.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeRecord {
    /// What ran: "reindex", "prune".
    pub operation: String,
    /// When it committed, in milliseconds since 1970 UTC, by its own clock.
    pub ended_ms: i64,
    /// How many fragments the session wrote.
    pub fragments_n: u32,
    /// Fragments whose content the session's own fragments repeat, so that they may go.
    pub supersedes: Vec<FragmentName>,
    /// The sessions whose notices it fulfils: the packs that those name may go, too.
    pub notices: Vec<SessionId>,
}

impl Record for MergeRecord {
    const TYPE: ObjectType = ObjectType::Merge;
}

/// `prune/<sid>`: names packs that will be deleted, before anybody deletes them. Whoever lists notices from now on stores
/// anew what lies in these packs alone. A pack that was named once is never taken off a notice again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRecord {
    /// When it was put, in milliseconds since 1970 UTC, by the pruning host's clock.
    pub put_ms: i64,
    /// The packs.
    pub packs: Vec<(PackKind, PackId)>,
}

impl Record for NoticeRecord {
    const TYPE: ObjectType = ObjectType::Notice;
}

/// Forbids a session to commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRecord {
    /// The session that put the fence.
    pub by: SessionId,
    /// Why, in words.
    pub reason: String,
    /// When, in milliseconds since 1970 UTC, by the fencing host's clock.
    pub fenced_ms: i64,
}

impl Record for FenceRecord {
    const TYPE: ObjectType = ObjectType::Fence;
}

/// Says that a snapshot is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRecord {
    /// When, in milliseconds since 1970 UTC, by the forgetting host's clock.
    pub forgotten_ms: i64,
    /// The source of the snapshot.
    pub source: String,
    /// When the snapshot was taken, in milliseconds since 1970 UTC.
    pub taken_ms: i64,
    /// How many fragments the snapshot's session wrote.
    pub fragments_n: u32,
    /// Of a copy: the snapshot that it was copied from, so that it is not copied again.
    pub origin: Option<SnapshotId>,
}

impl Record for TombstoneRecord {
    const TYPE: ObjectType = ObjectType::Tombstone;
}
