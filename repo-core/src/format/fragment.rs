//! `index/<sid>-<n>`: which chunks lie where. A cache of pack trailers: it can always be made again from them.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 64 | header; the rest is sealed as one part, with the header and the name as associated data |
//! | 64 | 4 | number of packs; then for each: |
//! | +0 | 32 | pack id |
//! | +32 | 32 | the salt of its header |
//! | +64 | 8 | its length |
//! | +72 | 4 | its key epoch |
//! | +76 | 2 | its format version |
//! | +78 | 1 | its object type: 3 or 4 |
//! | +79 | 1 | zero |
//! | +80 | … | what it holds, as in its trailer |
//! | … | … | zeros as padding, and a tag |

use super::bytes::{Cursor, len_u32};
use super::contents;
use super::header::{FORMAT_VERSION, HEADER_BYTES, Header, ObjectType};
use super::names::{self, FragmentName, PackKind};
use super::pack::{PackContents, PackInfo, padded_bytes};
use super::record::Sealer;
use crate::crafts::crypto::keys::{Keys, Purpose};
use crate::crafts::crypto::seal::{Domain, ObjectCipher, TAG_BYTES};
use crate::words::error::{Error, Result};
use crate::words::id::PackId;
use crate::words::limits::FRAGMENT_BYTES_MAX;

/// What names a pack, before what it holds.
const PACK_INFO_BYTES: usize = 80;
/// The least that a pack takes.
const PACK_ENTRY_BYTES: usize = PACK_INFO_BYTES + 4;

/// Returns the bytes that a pack takes in a fragment, before the seal.
pub fn entry_bytes_n(pack: &PackContents) -> usize {
    PACK_INFO_BYTES + contents::encoded_bytes_n(&pack.blobs)
}

/// Encodes and seals a fragment.
pub fn seal(sealer: Sealer<'_>, name: FragmentName, salt: [u8; 32], packs: &[PackContents]) -> Vec<u8> {
    let epoch = sealer.keys.newest_epoch();
    let header = Header { object_type: ObjectType::Fragment, epoch, repository: sealer.repository, salt };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&len_u32(packs.len()).to_le_bytes());
    for PackContents { info, blobs } in packs {
        bytes.extend_from_slice(&info.id.0);
        bytes.extend_from_slice(&info.salt);
        bytes.extend_from_slice(&info.bytes.to_le_bytes());
        bytes.extend_from_slice(&info.epoch.to_le_bytes());
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[info.kind.object_type() as u8, 0]);
        contents::encode(blobs, &mut bytes);
    }
    let padded = padded_bytes((bytes.len() + TAG_BYTES) as u64) as usize;
    assert!(padded <= FRAGMENT_BYTES_MAX, "a fragment is written long before its limit");
    bytes.resize(padded - TAG_BYTES, 0);
    let cipher = cipher(sealer.keys, &header, name).expect("the newest epoch has keys");
    cipher.seal_tail_of(Domain::Body, 0, &mut bytes, HEADER_BYTES);
    bytes
}

/// Opens and decodes a fragment.
///
/// # Errors
/// [`Error::Damaged`]: not what was sealed for this name. [`Error::NewerFormat`].
pub fn open(sealer: Sealer<'_>, name: FragmentName, bytes: &[u8]) -> Result<Vec<PackContents>> {
    let object = names::fragment(name);
    let damaged = |why: String| Error::damaged(&object, why);
    if bytes.len() > FRAGMENT_BYTES_MAX {
        return Err(damaged(format!("it has {} bytes, more than {FRAGMENT_BYTES_MAX}", bytes.len())));
    }
    let (header, sealed) = Header::decode(&object, bytes)?;
    header.expect(&object, ObjectType::Fragment, sealer.repository)?;
    let plain = cipher(sealer.keys, &header, name)
        .ok_or_else(|| damaged(format!("key epoch {} is unknown", header.epoch)))?
        .open(Domain::Body, 0, sealed)
        .ok_or_else(|| damaged("its seal is broken".to_owned()))?;
    decode(&plain).map_err(damaged)
}

fn decode(plain: &[u8]) -> Result<Vec<PackContents>, String> {
    let mut cursor = Cursor::new(plain);
    let packs_n = cursor.count(PACK_ENTRY_BYTES)?;
    let mut packs = Vec::with_capacity(packs_n);
    for _ in 0..packs_n {
        let (id, salt) = (PackId(cursor.array()?), cursor.array()?);
        let (bytes, epoch, version) = (cursor.u64()?, cursor.u32()?, cursor.u16()?);
        let kind = match (version, ObjectType::from_number(cursor.u8()?)) {
            (FORMAT_VERSION, Some(ObjectType::DataPack)) => PackKind::Data,
            (FORMAT_VERSION, Some(ObjectType::MetaPack)) => PackKind::Meta,
            _ => return Err(format!("it lists a pack of version {version} and a type that can't be")),
        };
        cursor.zeros(1)?;
        let blobs = contents::decode(&mut cursor)?;
        packs.push(PackContents { info: PackInfo { id, kind, bytes, epoch, salt }, blobs });
    }
    cursor.end_padded()?;
    Ok(packs)
}

fn cipher(keys: &Keys, header: &Header, name: FragmentName) -> Option<ObjectCipher> {
    let mut associated = header.encode().to_vec();
    associated.extend_from_slice(names::fragment(name).as_bytes());
    Some(ObjectCipher::new(keys.purpose(header.epoch, Purpose::Index)?, &header.salt, associated))
}
