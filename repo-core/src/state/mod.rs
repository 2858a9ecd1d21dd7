//! Floor 5, state: an open repository, and what operations on it share.

pub mod adoption;
pub mod ahead;
pub mod assembly;
pub mod bases;
pub mod census;
pub mod chains;
pub mod effort;
pub mod fetch;
pub mod fragments;
pub mod ground;
pub mod holds;
pub mod index;
pub mod known;
pub mod loader;
pub mod manifest;
pub mod mark;
pub mod packer;
pub mod parent;
pub mod probe;
pub mod protocol;
pub mod reader;
pub mod repack;
pub mod repository;
pub mod session;
pub mod snapshots;
