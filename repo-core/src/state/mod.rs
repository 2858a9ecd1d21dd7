//! Floor 5, state: an open repository, and what operations on it share.

pub mod assembly;
pub mod bases;
pub mod chains;
pub mod fetch;
pub mod fragments;
pub mod index;
pub mod loader;
pub mod manifest;
pub mod packer;
pub mod parent;
pub mod reader;
pub mod repository;
pub mod session;
pub mod snapshots;
