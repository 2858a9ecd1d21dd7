//! The only file that names bincode: small records to bytes and back.
//!
//! bincode 2.0.1, standard configuration: little-endian, varint integers, strings and sequences with a varint length.
//! The crate is unmaintained, so its bytes are described in FORMAT.md ("Records") and held by golden files; it can be
//! replaced without touching a repository. Nothing comes here before its seal was checked.

use crate::words::limits::RECORD_BYTES_MAX;

/// bincode counts 8 bytes for every number and length that it reads, however few they took: a record within the limit
/// stays below this; one that does not is refused before it is stored.
const DECODED_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Encodes a record.
pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(record, bincode::config::standard())
        .expect("records hold only strings, numbers, maps and lists, which always encode")
}

/// Decodes a record, which must use up all bytes, or says why that fails.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let config = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();
    let (record, used) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|error| format!("it does not decode: {error}"))?;
    if used != bytes.len() {
        return Err(format!("{} bytes are left over", bytes.len() - used));
    }
    Ok(record)
}
