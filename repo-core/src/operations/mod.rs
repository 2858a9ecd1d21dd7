//! Floor 6, operations: what can be done with a repository. Functions, not methods.

pub mod backup;
pub mod check;
pub mod copy;
pub mod diff;
pub mod find;
pub mod forget;
pub mod hold;
pub mod keys;
mod lookout;
#[cfg(test)]
mod opening;
pub mod probe;
pub mod prune;
pub mod reindex;
pub mod restore;
pub mod restore_plan;
pub mod retention;
mod reuse;
pub mod sessions;
pub mod stats;

mod pipeline;
