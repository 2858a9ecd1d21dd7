//! The first 64 bytes of every stored object, in the clear.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 6 | magic `dedump` |
//! | 6 | 1 | object type |
//! | 7 | 1 | sealing: 0 = by the repository's keys (1 is kept for packs sealed to a public key) |
//! | 8 | 2 | format version |
//! | 10 | 2 | zero |
//! | 12 | 4 | key epoch |
//! | 16 | 16 | repository id |
//! | 32 | 32 | salt |

use super::bytes::Cursor;
use crate::words::error::{Error, Result};
use crate::words::id::RepositoryId;

/// Length of the header.
pub const HEADER_BYTES: usize = 64;
/// The format version that this library writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: &[u8; 6] = b"dedump";
const SEALING_REPOSITORY: u8 = 0;

/// What a stored object is, by its number in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ObjectType {
    /// `config`.
    Config = 1,
    /// `keys/…`.
    Slot = 2,
    /// `packs/…`: chunks of streams.
    DataPack = 3,
    /// `meta/…`: manifest nodes.
    MetaPack = 4,
    /// `index/…`.
    Fragment = 5,
    /// `snapshots/…`, the decision of a backup that committed.
    Snapshot = 6,
    /// `sessions/…`.
    Session = 7,
    /// `merges/…`, the decision of another run that committed.
    Merge = 8,
    /// `snapshots/…` or `merges/…`, the decision of a session that never may commit.
    Fence = 9,
    /// `forgotten/…`: the snapshot of this id is gone, what its session wrote still counts.
    Tombstone = 10,
    /// Inside a key slot: its label.
    SlotLabel = 11,
    /// `prune/…`: packs that a prune condemns.
    Notice = 12,
    /// `holds/…`: keeps a snapshot from being forgotten.
    Hold = 13,
}

impl ObjectType {
    const ALL: [ObjectType; 13] = [
        ObjectType::Config,
        ObjectType::Slot,
        ObjectType::DataPack,
        ObjectType::MetaPack,
        ObjectType::Fragment,
        ObjectType::Snapshot,
        ObjectType::Session,
        ObjectType::Merge,
        ObjectType::Fence,
        ObjectType::Tombstone,
        ObjectType::SlotLabel,
        ObjectType::Notice,
        ObjectType::Hold,
    ];

    /// Returns the type of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|object_type| *object_type as u8 == number)
    }
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub object_type: ObjectType,
    /// The epoch whose keys seal it; 0 for a key slot.
    pub epoch: u32,
    /// The repository that it belongs to.
    pub repository: RepositoryId,
    /// Random; makes the object's key its own.
    pub salt: [u8; 32],
}

impl Header {
    /// Encodes the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..6].copy_from_slice(MAGIC);
        bytes[6] = self.object_type as u8;
        bytes[7] = SEALING_REPOSITORY;
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.repository.0);
        bytes[32..].copy_from_slice(&self.salt);
        bytes
    }

    /// Splits an object into its header and the rest.
    ///
    /// # Errors
    /// [`Error::Damaged`]: not an object of dedump, or of a type or sealing that version 1 does not know.
    /// [`Error::NewerFormat`]: a version above [`FORMAT_VERSION`].
    pub fn decode<'a>(object: &str, bytes: &'a [u8]) -> Result<(Header, &'a [u8])> {
        let damaged = |why: String| Error::damaged(object, why);
        let (head, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| {
            damaged(format!("it has {} bytes, fewer than the {HEADER_BYTES} of a header", bytes.len()))
        })?;
        let mut cursor = Cursor::new(head);
        if &cursor.array::<6>().map_err(damaged)? != MAGIC {
            return Err(damaged("it does not start with the magic of a dedump object".to_owned()));
        }
        let (type_number, sealing) = (cursor.u8().map_err(damaged)?, cursor.u8().map_err(damaged)?);
        let version = cursor.u16().map_err(damaged)?;
        if version > FORMAT_VERSION {
            return Err(Error::NewerFormat { object: object.to_owned(), version, known: FORMAT_VERSION });
        }
        cursor.zeros(2).map_err(damaged)?;
        let object_type = ObjectType::from_number(type_number)
            .filter(|_| version == FORMAT_VERSION && sealing == SEALING_REPOSITORY)
            .ok_or_else(|| damaged(format!("type {type_number}, sealing {sealing}, version {version} can't be")))?;
        let epoch = cursor.u32().map_err(damaged)?;
        let repository = RepositoryId(cursor.array().map_err(damaged)?);
        let salt = cursor.array().map_err(damaged)?;
        Ok((Header { object_type, epoch, repository, salt }, rest))
    }

    /// Checks that the object is what its name says, and of this repository.
    ///
    /// # Errors
    /// [`Error::Damaged`]: another type, or another repository's.
    pub fn expect(&self, object: &str, object_type: ObjectType, repository: RepositoryId) -> Result<()> {
        if self.object_type != object_type {
            return Err(Error::damaged(object, format!("it is a {:?}, not a {object_type:?}", self.object_type)));
        }
        if self.repository != repository {
            return Err(Error::damaged(object, format!("it belongs to repository {}", self.repository.short())));
        }
        Ok(())
    }
}
