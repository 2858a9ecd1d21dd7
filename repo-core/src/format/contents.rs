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
//! | … | 2 each | in a delta, for each chunk: the number of the base that is its older self, or 65,535 |
//!
//! Blobs lie back to back from the end of the pack's header; a blob's chunks back to back in its plaintext. The prefix of
//! a delta is its bases' parts, back to back in their order. A base is named by its chunk id, not its place, so that it
//! may move.

use super::bytes::{Cursor, len_u16, len_u32};
use crate::crafts::compress::Encoding;
use crate::crafts::crypto::seal::TAG_BYTES;
use crate::words::id::ChunkId;
use crate::words::limits::{
    BLOB_BASES_MAX, BLOB_CHUNKS_MAX, BLOB_PLAIN_BYTES_MAX, CHUNK_BYTES_MAX, DELTA_DEPTH_MAX, DELTA_GENERATION_MAX,
    DELTA_PREFIX_BYTES_MAX, PACK_BYTES_MAX,
};

const BLOB_ENTRY_BYTES: usize = 20;
const CHUNK_ENTRY_BYTES: usize = 36;
/// What a base takes in a trailer, and again in the index.
pub const BASE_ENTRY_BYTES: usize = 40;
const LIKE_BYTES: usize = 2;

/// Stands in [`BlobEntry::likes`] for a chunk that has no older self among the bases.
pub const NO_LIKE: u16 = u16::MAX;

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
    /// For each chunk of a delta, the number of the base that is its older self, or [`NO_LIKE`]; empty in other blobs.
    pub likes: Vec<u16>,
}

impl BlobEntry {
    /// Returns the length of the prefix.
    pub fn prefix_bytes(&self) -> usize {
        self.bases.iter().map(|base| base.plain_bytes as usize).sum()
    }

    /// Returns an entry for the index in memory, where the blob shall not be found: it only takes its place in the pack.
    pub fn hidden(&self) -> BlobEntry {
        BlobEntry {
            sealed_bytes: self.sealed_bytes,
            plain_bytes: 0,
            encoding: Encoding::Stored,
            depth: 0,
            generation: 0,
            chunks: Vec::new(),
            bases: Vec::new(),
            likes: Vec::new(),
        }
    }
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
        for like in &blob.likes {
            bytes.extend_from_slice(&like.to_le_bytes());
        }
    }
}

/// Length that [`encode`] gives these blobs.
pub(super) fn encoded_bytes_n(blobs: &[BlobEntry]) -> usize {
    let blob = |blob: &BlobEntry| {
        BLOB_ENTRY_BYTES
            + blob.chunks.len() * CHUNK_ENTRY_BYTES
            + blob.bases.len() * BASE_ENTRY_BYTES
            + blob.likes.len() * LIKE_BYTES
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
        || generation > DELTA_GENERATION_MAX
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
    let (bases, likes) = if is_delta { decode_bases(cursor, bases_n, chunks_n)? } else { Default::default() };
    Ok(BlobEntry { sealed_bytes, plain_bytes, encoding, depth, generation, chunks, bases, likes })
}

fn decode_bases(
    cursor: &mut Cursor<'_>,
    bases_n: usize,
    chunks_n: usize,
) -> Result<(Vec<BaseEntry>, Vec<u16>), String> {
    let (mut bases, mut prefix_bytes) = (Vec::with_capacity(bases_n), 0u64);
    for _ in 0..bases_n {
        let base = BaseEntry { id: ChunkId(cursor.array()?), start: cursor.u32()?, plain_bytes: cursor.u32()? };
        let end = u64::from(base.start) + u64::from(base.plain_bytes);
        if base.plain_bytes == 0 || end > CHUNK_BYTES_MAX as u64 {
            return Err(format!("bytes {} to {end} of a chunk can't be a base", base.start));
        }
        prefix_bytes += u64::from(base.plain_bytes);
        bases.push(base);
    }
    if prefix_bytes > DELTA_PREFIX_BYTES_MAX as u64 {
        return Err(format!("a prefix of {prefix_bytes} bytes can't be"));
    }
    let mut likes = Vec::with_capacity(chunks_n.min(cursor.rest_bytes_n() / LIKE_BYTES));
    for _ in 0..chunks_n {
        let like = cursor.u16()?;
        if like != NO_LIKE && usize::from(like) >= bases_n {
            return Err(format!("of {bases_n} bases, number {like} is named"));
        }
        likes.push(like);
    }
    Ok((bases, likes))
}
