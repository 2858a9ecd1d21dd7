//! Floor 6, operations: what can be done with a repository. Functions, not methods.

pub mod backup;
pub mod check;
pub mod diff;
pub mod find;
pub mod forget;
pub mod keys;
pub mod reindex;
pub mod restore;
pub mod stats;

mod pipeline;
