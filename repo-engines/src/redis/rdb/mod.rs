//! The RDB format: read as a stream, with its checksum, and written again in an order that does not hang on chance.
//!
//! Nothing here knows a server or a repository, and nothing is async: it runs on a thread of its own. What is read may be
//! anybody's. Lengths are believed only as far as bytes follow; what is held is bounded by [`crate::sort`] and by
//! [`SMALL_BYTES_MAX`], however long a string is that the bytes announce.
//!
//! Layouts: `rdb.h` and `rdb.c` of Redis 2.6 to 8.0 and Valkey 7.2 to 9.1.

pub(super) mod canonical;
pub(super) mod input;
mod lzf;
pub(super) mod parse;
pub(super) mod value;

use crate::sort::Sorter;
use std::fmt;
use std::io;

/// Length of a string that has to be held as a whole (names and values of aux fields), at most.
const SMALL_BYTES_MAX: u64 = 1024 * 1024;

/// Why reading an RDB ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The bytes are not what an RDB has there.
    Bad {
        /// How many bytes came before.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// They end in the middle.
    Ended {
        /// How many there were.
        at: u64,
    },
    /// It has something that only newer or unfinished versions of the servers write, or that nobody can step over.
    Unknown(String),
    /// The source, the sink or a temporary file failed.
    Io(io::Error),
}

pub(super) type Result<T> = std::result::Result<T, Stop>;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Bad { at, why } => write!(f, "the RDB is damaged at byte {at}: {why}"),
            Stop::Ended { at } => write!(f, "the RDB ends in the middle, after {at} bytes"),
            Stop::Unknown(what) => write!(f, "{what}"),
            Stop::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

/// Takes bytes, in pieces of any length.
pub(super) trait Out {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Out for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl Out for Sorter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.append(bytes)?)
    }
}

/// Takes bytes that nobody wants.
pub(super) struct Nowhere;

impl Out for Nowhere {
    fn write(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Opcodes, between the records.
pub(super) mod opcode {
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION: u8 = 245;
    pub const FUNCTION_PRE_GA: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZE_DB: u8 = 251;
    pub const EXPIRE_MS: u8 = 252;
    pub const EXPIRE_SECS: u8 = 253;
    pub const SELECT_DB: u8 = 254;
    pub const EOF: u8 = 255;
}

/// The first bytes of an RDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// `REDIS`, or `VALKEY`.
    pub is_valkey: bool,
    /// The version of the format.
    pub version: u32,
}

impl Header {
    /// Returns the nine bytes.
    pub fn bytes(self) -> Vec<u8> {
        if self.is_valkey { format!("VALKEY{:03}", self.version) } else { format!("REDIS{:04}", self.version) }.into()
    }

    /// Returns whether a checksum follows the end.
    pub fn has_checksum(self) -> bool {
        self.version >= 5
    }
}
