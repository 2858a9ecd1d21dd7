//! Floor 3, format: one file per stored object. Nothing else reads or writes stored bytes; FORMAT.md beside the crate
//! says the same in words, and golden files hold both to it.

pub mod config;
pub mod contents;
pub mod decision;
pub mod fragment;
pub mod header;
pub mod hold;
pub mod names;
pub mod node;
pub mod pack;
pub mod record;
pub mod session;
pub mod slot;
pub mod snapshot;

mod bytes;
mod codec;
