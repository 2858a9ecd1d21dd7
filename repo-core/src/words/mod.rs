//! Floor 1, words: the names, bounds and errors that every other floor speaks in.

pub mod error;
pub mod id;
pub mod limits;
