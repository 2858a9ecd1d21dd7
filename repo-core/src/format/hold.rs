//! `holds/<sid>`: keeps a snapshot from being forgotten. Replaced when somebody holds the snapshot again, deleted when it is
//! released.

use super::header::ObjectType;
use super::record::Record;
use serde::{Deserialize, Serialize};

/// Who holds a snapshot, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// Why, in the user's words.
    pub reason: String,
    /// Since when, in milliseconds since 1970 UTC, by the clock of the host that put it.
    pub since_ms: i64,
    /// When it ends, likewise; `None`: when it is released.
    pub until_ms: Option<i64>,
    /// Who put it, as `user@host`.
    pub by: String,
}

impl Record for HoldRecord {
    const TYPE: ObjectType = ObjectType::Hold;
}
