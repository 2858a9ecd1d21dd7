//! Floor 5, state: an open repository, and what operations on it share.

pub mod fetch;
pub mod index;
pub mod loader;
pub mod manifest;
pub mod packer;
pub mod repository;
pub mod session;
pub mod snapshots;
