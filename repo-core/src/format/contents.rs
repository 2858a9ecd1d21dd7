//! What a pack holds, as its trailer and the index list it.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | number of blobs; then for each: |
//! | +0 | 4 | sealed length, with the tag |
//! | +4 | 4 | plain length |
//! | +8 | 4 | generation: 0 = stored whole, else its like chunk's + 1 |
//! | +12 | 2 | number of chunks |
//! | +14 | 2 | number of bases |
//! | +16 | 1 | encoding: 0 stored, 1 zstd, 2 zstd with prefix |
//! | +17 | 1 | depth: blobs to decode before this one, in a row |
//! | +18 | 2 | zero |
//! | +20 | 36 each | chunks: id (32), plain length (4) |
//! | … | 40 each | bases: chunk id (32), start (4) and length (4) of the part that serves, in the chunk's plaintext |
//!
//! Blobs lie back to back from the end of the pack's header; a blob's chunks back to back in its plaintext. The prefix of
//! a delta is its bases' parts, back to back in their order. A base is named by its chunk id, not its place, so that it
//! may move.

use super::bytes::{Cursor, len_u16, len_u32};
use crate::crafts::compress::Encoding;
use crate::crafts::crypto::seal::TAG_BYTES;
use crate::words::id::ChunkId;
use crate::words::limits::{BLOB_BASES_MAX, BLOB_CHUNKS_MAX, BLOB_PLAIN_BYTES_MAX, DELTA_DEPTH_MAX, PACK_BYTES_MAX};

const BLOB_ENTRY_BYTES: usize = 20;
const CHUNK_ENTRY_BYTES: usize = 36;
const BASE_ENTRY_BYTES: usize = 40;

/// One chunk inside a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Its id.
    pub id: ChunkId,
    /// Length of its plaintext.
    pub plain_bytes: u32,
}

/// A part of a chunk that serves as prefix of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseEntry {
    /// The chunk.
    pub id: ChunkId,
    /// Where the part starts in the chunk's plaintext.
    pub start: u32,
    /// Length of the part.
    pub plain_bytes: u32,
}

/// One blob of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobEntry {
    /// Length as it lies in the pack, with the tag.
    pub sealed_bytes: u32,
    /// Length of the plaintext.
    pub plain_bytes: u32,
    /// How the plaintext was encoded.
    pub encoding: Encoding,
    /// Blobs to decode before this one, in a row.
    pub depth: u8,
    /// How many deltas led to it, over snapshots.
    pub generation: u32,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkEntry>,
    /// The parts that make its prefix, in order.
    pub bases: Vec<BaseEntry>,
}

/// Encodes what a pack holds, after what `bytes` already has.
pub(super) fn encode(blobs: &[BlobEntry], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&len_u32(blobs.len()).to_le_bytes());
    for blob in blobs {
        bytes.extend_from_slice(&blob.sealed_bytes.to_le_bytes());
        bytes.extend_from_slice(&blob.plain_bytes.to_le_bytes());
        bytes.extend_from_slice(&blob.generation.to_le_bytes());
        bytes.extend_from_slice(&len_u16(blob.chunks.len()).to_le_bytes());
        bytes.extend_from_slice(&len_u16(blob.bases.len()).to_le_bytes());
        bytes.extend_from_slice(&[blob.encoding as u8, blob.depth, 0, 0]);
        for chunk in &blob.chunks {
            bytes.extend_from_slice(&chunk.id.0);
            bytes.extend_from_slice(&chunk.plain_bytes.to_le_bytes());
        }
        for base in &blob.bases {
            bytes.extend_from_slice(&base.id.0);
            bytes.extend_from_slice(&base.start.to_le_bytes());
            bytes.extend_from_slice(&base.plain_bytes.to_le_bytes());
        }
    }
}

/// Length that [`encode`] gives these blobs.
pub(super) fn encoded_bytes_n(blobs: &[BlobEntry]) -> usize {
    let blob = |blob: &BlobEntry| {
        BLOB_ENTRY_BYTES + blob.chunks.len() * CHUNK_ENTRY_BYTES + blob.bases.len() * BASE_ENTRY_BYTES
    };
    4 + blobs.iter().map(blob).sum::<usize>()
}

/// Decodes what a pack holds, and checks that it is possible.
pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Vec<BlobEntry>, String> {
    let blobs_n = cursor.count(BLOB_ENTRY_BYTES)?;
    let mut blobs = Vec::with_capacity(blobs_n);
    let mut sealed_bytes = 0u64;
    for _ in 0..blobs_n {
        let blob = decode_blob(cursor)?;
        sealed_bytes += u64::from(blob.sealed_bytes);
        if sealed_bytes > PACK_BYTES_MAX as u64 {
            return Err("its blobs are longer than a pack can be".to_owned());
        }
        blobs.push(blob);
    }
    Ok(blobs)
}

fn decode_blob(cursor: &mut Cursor<'_>) -> Result<BlobEntry, String> {
    let (sealed_bytes, plain_bytes, generation) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let (chunks_n, bases_n) = (usize::from(cursor.u16()?), usize::from(cursor.u16()?));
    let (encoding, depth) = (cursor.u8()?, cursor.u8()?);
    cursor.zeros(2)?;
    let encoding = Encoding::from_number(encoding).ok_or_else(|| format!("there is no encoding {encoding}"))?;
    let is_delta = encoding == Encoding::ZstdPrefix;
    if plain_bytes as usize > BLOB_PLAIN_BYTES_MAX
        || (sealed_bytes as usize) < TAG_BYTES
        || sealed_bytes as usize > plain_bytes as usize + TAG_BYTES
        || !(1..=BLOB_CHUNKS_MAX).contains(&chunks_n)
        || bases_n > BLOB_BASES_MAX
        || depth > DELTA_DEPTH_MAX
        || is_delta != (bases_n > 0)
        || is_delta != (depth > 0)
        || is_delta != (generation > 0)
    {
        return Err(format!(
            "a blob of {sealed_bytes} bytes with {chunks_n} chunks of {plain_bytes} bytes in all, {bases_n} bases, \
             depth {depth}, generation {generation}, encoding {} can't be",
            encoding as u8
        ));
    }
    let mut chunks = Vec::with_capacity(chunks_n.min(cursor.rest_bytes_n() / CHUNK_ENTRY_BYTES));
    for _ in 0..chunks_n {
        chunks.push(ChunkEntry { id: ChunkId(cursor.array()?), plain_bytes: cursor.u32()? });
    }
    if chunks.iter().map(|chunk| u64::from(chunk.plain_bytes)).sum::<u64>() != u64::from(plain_bytes) {
        return Err("the chunks of a blob do not make up its length".to_owned());
    }
    let mut bases = Vec::with_capacity(bases_n.min(cursor.rest_bytes_n() / BASE_ENTRY_BYTES));
    for _ in 0..bases_n {
        bases.push(BaseEntry { id: ChunkId(cursor.array()?), start: cursor.u32()?, plain_bytes: cursor.u32()? });
    }
    Ok(BlobEntry { sealed_bytes, plain_bytes, encoding, depth, generation, chunks, bases })
}
