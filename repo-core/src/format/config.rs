//! `config`: what a repository is, fixed when it is created.

use super::header::ObjectType;
use super::record::Record;
use crate::crafts::chunker::ChunkerParams;
use serde::{Deserialize, Serialize};

/// The repository's parameters; its id stands in the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// When it was created, in milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// The program that created it, with its version.
    pub program: String,
    /// How streams are cut unless a backup asks otherwise.
    pub chunker: ChunkerParams,
}

impl Record for ConfigRecord {
    const TYPE: ObjectType = ObjectType::Config;
}
