//! x
pub mod words;
pub mod crafts;
pub mod format;
pub mod edges;
