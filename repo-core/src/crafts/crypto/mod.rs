//! Keys, seals and key slots. FORMAT.md ("Keys", "Seals") has the argument; this is its code.

pub mod keys;
pub mod seal;
pub mod slot;
