//! Floor 2, crafts: bytes in, bytes out. No I/O, no clock, no randomness, no async.

pub mod buffers;
pub mod chunker;
pub mod compress;
pub mod crypto;
pub mod retention;
pub mod sketch;
