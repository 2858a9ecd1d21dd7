//! `sessions/<sid>`: the public mark of a run that adds to the repository. Rewritten as the run goes on, deleted at its
//! end. It only informs: what a session wrote counts by its decision alone.

use super::header::ObjectType;
use super::record::Record;
use serde::{Deserialize, Serialize};

/// Who is at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// What runs: "backup", "copy", "prune", "reindex".
    pub operation: String,
    /// The host that it runs on.
    pub host: String,
    /// Its process id there.
    pub process: u32,
    /// The program, with its version.
    pub program: String,
    /// What is backed up; empty for other runs.
    pub source: String,
    /// When it began, in milliseconds since 1970 UTC, by its own clock.
    pub started_ms: i64,
    /// How often it was rewritten: a number that still grows belongs to a session that still lives.
    pub refreshes_n: u64,
    /// Bytes read so far.
    pub bytes_done: u64,
}

impl Record for SessionRecord {
    const TYPE: ObjectType = ObjectType::Session;
}
