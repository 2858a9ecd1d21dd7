//! The envelope of small sealed objects: config, snapshot, session, merge, fence, tombstone, slot label, hold.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 64 | header |
//! | 64 | 4 | payload length *n*, sealed |
//! | 68 | n | payload, sealed: the record by the codec |
//! | 68+n | … | zeros, sealed, so that the object's length is a multiple of 256 |
//! | end−16 | 16 | tag |
//!
//! Associated data: the header, then the object's name in the store, so that no record can be moved to another name.

use super::bytes::{Cursor, len_u32, pad};
use super::codec;
use super::header::{Header, ObjectType};
use crate::crafts::crypto::keys::{Keys, Purpose};
use crate::crafts::crypto::seal::{Domain, ObjectCipher, TAG_BYTES};
use crate::words::error::{Error, Result};
use crate::words::id::RepositoryId;
use crate::words::limits::RECORD_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

const PAD_UNIT: usize = 256;

/// Ties a type to its number in the header.
pub trait Record: Serialize + DeserializeOwned {
    /// The type in the header.
    const TYPE: ObjectType;
}

/// What sealing needs of a repository: its id and its keys.
#[derive(Debug, Clone, Copy)]
pub struct Sealer<'a> {
    /// The repository's id.
    pub repository: RepositoryId,
    /// Its keys.
    pub keys: &'a Keys,
}

/// Encodes and seals a record that will be stored under `name`.
///
/// # Errors
/// [`Error::Invalid`]: larger than [`RECORD_BYTES_MAX`].
pub fn seal<T: Record>(sealer: Sealer<'_>, name: &str, salt: [u8; 32], record: &T) -> Result<Vec<u8>> {
    let payload = codec::encode(record);
    if payload.len() + 2 * PAD_UNIT > RECORD_BYTES_MAX {
        return Err(Error::Invalid(format!("{name} would have {} bytes, more than {RECORD_BYTES_MAX}", payload.len())));
    }
    let epoch = sealer.keys.newest_epoch();
    let header = Header { object_type: T::TYPE, epoch, repository: sealer.repository, salt };
    let head = header.encode();
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(&len_u32(payload.len()).to_le_bytes());
    bytes.extend_from_slice(&payload);
    pad(&mut bytes, TAG_BYTES, PAD_UNIT);
    let cipher = cipher(sealer.keys, &header, name).expect("the newest epoch has keys");
    cipher.seal_tail_of(Domain::Body, 0, &mut bytes, head.len());
    Ok(bytes)
}

/// Returns which record an object holds, by its header alone: not yet proven.
///
/// # Errors
/// As [`Header::decode`].
pub fn type_of(name: &str, bytes: &[u8]) -> Result<ObjectType> {
    Header::decode(name, bytes).map(|(header, _)| header.object_type)
}

/// Opens and decodes the record that was stored under `name`.
///
/// # Errors
/// [`Error::Damaged`]: not what was sealed for this name. [`Error::NewerFormat`].
pub fn open<T: Record>(sealer: Sealer<'_>, name: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |why: String| Error::damaged(name, why);
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(damaged(format!("it has {} bytes, more than {RECORD_BYTES_MAX}", bytes.len())));
    }
    let (header, sealed) = Header::decode(name, bytes)?;
    header.expect(name, T::TYPE, sealer.repository)?;
    let plain = cipher(sealer.keys, &header, name)
        .ok_or_else(|| damaged(format!("it is sealed under key epoch {}, which no key has", header.epoch)))?
        .open(Domain::Body, 0, sealed)
        .ok_or_else(|| damaged("its seal is broken".to_owned()))?;
    let mut cursor = Cursor::new(&plain);
    let payload_bytes = cursor.count(1).map_err(damaged)?;
    let payload = cursor.take(payload_bytes).map_err(damaged)?;
    cursor.end_padded().map_err(damaged)?;
    codec::decode(payload).map_err(damaged)
}

fn cipher(keys: &Keys, header: &Header, name: &str) -> Option<ObjectCipher> {
    let mut associated = header.encode().to_vec();
    associated.extend_from_slice(name.as_bytes());
    Some(ObjectCipher::new(keys.purpose(header.epoch, Purpose::Record)?, &header.salt, associated))
}
