//! `packs/<id>` and `meta/<id>`: write-once objects of many blobs.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 64 | header |
//! | 64 | … | blobs, back to back, the n-th sealed with nonce (body, n) |
//! | … | *t* | trailer, sealed with nonce (trailer, 0): what the pack holds, then zeros as padding |
//! | end−20 | 20 | tail, sealed with nonce (tail, 0): *t* as 4 bytes, and a tag |
//!
//! Associated data of every part: the header. A part's place in the pack is in its nonce, the pack is in its key.
//! The name is the unkeyed BLAKE3 of all bytes.

use super::bytes::{Cursor, len_u32};
use super::contents::{self, BaseEntry, BlobEntry, ChunkEntry};
use super::header::{HEADER_BYTES, Header, ObjectType};
use super::names::{self, PackKind};
use super::record::Sealer;
use crate::crafts::compress::{Decompressor, Encoding};
use crate::crafts::crypto::keys::{Keys, Purpose};
use crate::crafts::crypto::seal::{Domain, ObjectCipher, TAG_BYTES};
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId, RepositoryId};
use crate::words::limits::{PACK_BYTES_MAX, PAD_BYTES_MAX};

/// Length of the sealed tail.
pub const TAIL_BYTES: usize = 4 + TAG_BYTES;

impl PackKind {
    /// Returns the type in the header.
    pub fn object_type(self) -> ObjectType {
        match self {
            PackKind::Data => ObjectType::DataPack,
            PackKind::Meta => ObjectType::MetaPack,
        }
    }

    fn purpose(self) -> Purpose {
        match self {
            PackKind::Data => Purpose::Data,
            PackKind::Meta => Purpose::Meta,
        }
    }

    /// Names what lies in a pack of this kind by its plaintext.
    pub fn chunk_id(self, keys: &Keys, plain: &[u8]) -> ChunkId {
        match self {
            PackKind::Data => keys.chunk_id(plain),
            PackKind::Meta => keys.node_id(plain),
        }
    }
}

/// What is known of a pack besides its blobs; enough to open a blob without reading the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// Its id.
    pub id: PackId,
    /// Its kind.
    pub kind: PackKind,
    /// Its length.
    pub bytes: u64,
    /// The epoch in its header.
    pub epoch: u32,
    /// The salt in its header.
    pub salt: [u8; 32],
}

/// A pack and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackContents {
    /// The pack.
    pub info: PackInfo,
    /// Its blobs, in order.
    pub blobs: Vec<BlobEntry>,
}

impl PackContents {
    /// Returns how many chunks or nodes it holds.
    pub fn chunks_n(&self) -> usize {
        self.blobs.iter().map(|blob| blob.chunks.len()).sum()
    }
}

/// A blob's plaintext after compression, and what its entry will say.
#[derive(Debug)]
pub struct EncodedBlob {
    /// How it was encoded.
    pub encoding: Encoding,
    /// The encoded bytes, not yet sealed.
    pub encoded: Vec<u8>,
    /// Length of the plaintext.
    pub plain_bytes: u32,
    /// The chunks in it, in order.
    pub chunks: Vec<ChunkEntry>,
    /// What is known of a delta besides; nothing for a blob that is stored whole.
    pub delta: Option<Delta>,
}

/// What a delta's entry says of its bases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Blobs to decode before it, in a row.
    pub depth: u8,
    /// How many deltas led to it.
    pub generation: u32,
    /// The parts that make its prefix, in order.
    pub bases: Vec<BaseEntry>,
    /// For each chunk, the number of its older self among the bases.
    pub likes: Vec<u16>,
}

/// A pack being filled.
pub struct PackWriter {
    kind: PackKind,
    header: Header,
    cipher: ObjectCipher,
    bytes: Vec<u8>,
    blobs: Vec<BlobEntry>,
}

impl PackWriter {
    /// Creates an empty pack in a buffer, which is empty, too.
    pub fn create(kind: PackKind, sealer: Sealer<'_>, salt: [u8; 32], mut bytes: Vec<u8>) -> Self {
        let epoch = sealer.keys.newest_epoch();
        let header = Header { object_type: kind.object_type(), epoch, repository: sealer.repository, salt };
        let cipher = cipher(sealer.keys, kind, &header).expect("the newest epoch has keys");
        bytes.clear();
        bytes.extend_from_slice(&header.encode());
        PackWriter { kind, header, cipher, bytes, blobs: Vec::new() }
    }

    /// Returns whether no blob is in it.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Returns how many blobs are in it.
    pub fn blobs_n(&self) -> usize {
        self.blobs.len()
    }

    /// Returns the length that the pack would have, before padding, with one more blob of this encoded length.
    pub fn bytes_with(&self, encoded_bytes: usize) -> usize {
        self.bytes.len() + encoded_bytes + contents::encoded_bytes_n(&self.blobs) + 2 * TAG_BYTES + TAIL_BYTES
    }

    /// Seals a blob into the pack.
    pub fn push(&mut self, blob: EncodedBlob) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&blob.encoded);
        self.cipher.seal_tail_of(Domain::Body, self.blobs.len() as u64, &mut self.bytes, start);
        let whole = Delta { depth: 0, generation: 0, bases: Vec::new(), likes: Vec::new() };
        let Delta { depth, generation, bases, likes } = blob.delta.unwrap_or(whole);
        self.blobs.push(BlobEntry {
            sealed_bytes: len_u32(self.bytes.len() - start),
            plain_bytes: blob.plain_bytes,
            encoding: blob.encoding,
            depth,
            generation,
            chunks: blob.chunks,
            bases,
            likes,
        });
    }

    /// Ends the pack: returns what it holds and its bytes.
    pub fn finish(mut self) -> (PackContents, Vec<u8>) {
        let start = self.bytes.len();
        contents::encode(&self.blobs, &mut self.bytes);
        let padded = padded_bytes((self.bytes.len() + TAG_BYTES + TAIL_BYTES) as u64) as usize;
        self.bytes.resize(padded - TAG_BYTES - TAIL_BYTES, 0);
        self.cipher.seal_tail_of(Domain::Trailer, 0, &mut self.bytes, start);
        let trailer_bytes = len_u32(self.bytes.len() - start);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&trailer_bytes.to_le_bytes());
        self.cipher.seal_tail_of(Domain::Tail, 0, &mut self.bytes, start);
        assert!(self.bytes.len() == padded && padded <= PACK_BYTES_MAX, "a pack ends where its padding says");
        let info = PackInfo {
            id: PackId(*blake3::hash(&self.bytes).as_bytes()),
            kind: self.kind,
            bytes: self.bytes.len() as u64,
            epoch: self.header.epoch,
            salt: self.header.salt,
        };
        (PackContents { info, blobs: self.blobs }, self.bytes)
    }
}

/// Opens the blobs and the trailer of one pack.
pub struct PackOpener {
    info: PackInfo,
    name: String,
    cipher: ObjectCipher,
}

impl PackOpener {
    /// Creates the opener of a pack of which all is known.
    ///
    /// # Errors
    /// [`Error::Damaged`]: sealed under an epoch that no key has.
    pub fn new(sealer: Sealer<'_>, info: PackInfo) -> Result<Self> {
        let name = names::pack(info.kind, info.id);
        let header = header_of(&info, sealer.repository);
        let cipher = cipher(sealer.keys, info.kind, &header)
            .ok_or_else(|| Error::damaged(&name, format!("key epoch {} is unknown", info.epoch)))?;
        Ok(PackOpener { info, name, cipher })
    }

    /// Returns the plaintext of the `number`-th blob, from its bytes in the pack; the prefix is that of a delta, else
    /// nothing. It is put into a buffer, whose bytes are replaced. Chunk ids are not yet checked.
    ///
    /// # Errors
    /// [`Error::Damaged`]: not what was sealed there.
    pub fn open_blob<'a>(
        &self,
        inflater: &mut Decompressor<'a>,
        (number, blob): (usize, &BlobPlace),
        prefix: &'a [u8],
        sealed: &[u8],
        into: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let encoded = self.open_seal(number, sealed)?;
        inflater
            .decompress_into(into, blob.encoding, &encoded, prefix, blob.plain_bytes as usize)
            .map_err(|why| Error::damaged(self.blob_name(number), why))
    }

    /// Returns the encoded bytes of the `number`-th blob.
    ///
    /// # Errors
    /// [`Error::Damaged`]: not what was sealed there.
    pub fn open_seal(&self, number: usize, sealed: &[u8]) -> Result<Vec<u8>> {
        self.cipher
            .open(Domain::Body, number as u64, sealed)
            .ok_or_else(|| Error::damaged(self.blob_name(number), "its seal is broken"))
    }

    /// Returns how messages name a blob.
    pub fn blob_name(&self, number: usize) -> String {
        format!("{}, blob {number}", self.name)
    }

    /// Returns the length of the sealed trailer, from the pack's last [`TAIL_BYTES`] bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`]: not the tail that was sealed, or a trailer that can't fit.
    pub fn open_tail(&self, tail: &[u8]) -> Result<u64> {
        let damaged = |why: &str| Error::damaged(&self.name, why);
        let plain = self.cipher.open(Domain::Tail, 0, tail).ok_or_else(|| damaged("the seal of its tail is broken"))?;
        let trailer_bytes = u64::from(Cursor::new(&plain).u32().map_err(|why| damaged(&why))?);
        if trailer_bytes + (HEADER_BYTES + TAIL_BYTES) as u64 > self.info.bytes {
            return Err(damaged("its trailer is longer than itself"));
        }
        Ok(trailer_bytes)
    }

    /// Returns what the pack holds, from its sealed trailer.
    ///
    /// # Errors
    /// [`Error::Damaged`]: not the trailer that was sealed, or one that does not fit the pack.
    pub fn open_trailer(&self, sealed: &[u8]) -> Result<PackContents> {
        let damaged = |why: String| Error::damaged(&self.name, format!("its trailer: {why}"));
        let plain =
            self.cipher.open(Domain::Trailer, 0, sealed).ok_or_else(|| damaged("the seal is broken".to_owned()))?;
        let mut cursor = Cursor::new(&plain);
        let blobs = contents::decode(&mut cursor).map_err(damaged)?;
        cursor.end_padded().map_err(damaged)?;
        let blobs_bytes: u64 = blobs.iter().map(|blob| u64::from(blob.sealed_bytes)).sum();
        if blobs_bytes + (HEADER_BYTES + sealed.len() + TAIL_BYTES) as u64 != self.info.bytes {
            return Err(damaged("its blobs do not make up the pack".to_owned()));
        }
        Ok(PackContents { info: self.info, blobs })
    }
}

/// What is needed to decode a blob besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobPlace {
    /// How it was encoded.
    pub encoding: Encoding,
    /// Blobs to decode before it, in a row.
    pub depth: u8,
    /// How many deltas led to it, over snapshots.
    pub generation: u16,
    /// Length of the plaintext.
    pub plain_bytes: u32,
}

impl From<&BlobEntry> for BlobPlace {
    fn from(entry: &BlobEntry) -> BlobPlace {
        BlobPlace {
            encoding: entry.encoding,
            depth: entry.depth,
            generation: u16::try_from(entry.generation).unwrap_or(u16::MAX),
            plain_bytes: entry.plain_bytes,
        }
    }
}

/// Reads a pack's header.
///
/// # Errors
/// [`Error::Damaged`]: not a header of a pack of this kind and repository, or an impossible length.
/// [`Error::NewerFormat`].
pub fn info_from_header(
    kind: PackKind,
    id: PackId,
    pack_bytes: u64,
    repository: RepositoryId,
    head: &[u8],
) -> Result<PackInfo> {
    let name = names::pack(kind, id);
    if !((HEADER_BYTES + TAG_BYTES + 4 + TAIL_BYTES) as u64..=PACK_BYTES_MAX as u64).contains(&pack_bytes) {
        return Err(Error::damaged(name, format!("{pack_bytes} bytes can't be the length of a pack")));
    }
    let (header, _) = Header::decode(&name, head)?;
    header.expect(&name, kind.object_type(), repository)?;
    Ok(PackInfo { id, kind, bytes: pack_bytes, epoch: header.epoch, salt: header.salt })
}

/// Opens a whole pack and checks everything that can be checked of it alone: name, header, tail, trailer, every blob's
/// seal, and of blobs that are stored whole every chunk's id. Returns what it holds. A delta's encoded bytes are given to
/// `delta`, with its number and entry: its bases lie elsewhere.
///
/// # Errors
/// [`Error::Damaged`] with the first thing that does not hold, [`Error::NewerFormat`].
pub fn verify(
    sealer: Sealer<'_>,
    (kind, id): (PackKind, PackId),
    bytes: &[u8],
    mut delta: impl FnMut(usize, &BlobEntry, &[u8]) -> Result<(), String>,
) -> Result<PackContents> {
    let name = names::pack(kind, id);
    let damaged = |why: &str| Error::damaged(&name, why);
    if blake3::hash(bytes) != blake3::Hash::from_bytes(id.0) {
        return Err(damaged("its bytes do not hash to its name"));
    }
    let info = info_from_header(kind, id, bytes.len() as u64, sealer.repository, bytes)?;
    let opener = PackOpener::new(sealer, info)?;
    let (rest, tail) = bytes.split_at_checked(bytes.len() - TAIL_BYTES).ok_or_else(|| damaged("it is too short"))?;
    let trailer_bytes = opener.open_tail(tail)? as usize;
    let (blobs, trailer) =
        rest.split_at_checked(rest.len() - trailer_bytes).ok_or_else(|| damaged("it is too short"))?;
    let contents = opener.open_trailer(trailer)?;
    let mut blobs = Cursor::new(blobs.get(HEADER_BYTES..).unwrap_or_default());
    let (mut inflater, mut plain) = (Decompressor::new()?, Vec::new());
    for (number, blob) in contents.blobs.iter().enumerate() {
        let sealed = blobs.take(blob.sealed_bytes as usize).map_err(|why| damaged(&why))?;
        let damaged = |why| Error::damaged(opener.blob_name(number), why);
        if blob.encoding == Encoding::ZstdPrefix {
            delta(number, blob, &opener.open_seal(number, sealed)?).map_err(damaged)?;
            continue;
        }
        plain = opener.open_blob(&mut inflater, (number, &blob.into()), b"", sealed, plain)?;
        verify_chunks(sealer.keys, kind, &blob.chunks, &plain).map_err(damaged)?;
    }
    Ok(contents)
}

/// Checks that a blob's plaintext is made up of its chunks, or says what is not.
pub fn verify_chunks(keys: &Keys, kind: PackKind, chunks: &[ChunkEntry], plain: &[u8]) -> Result<(), String> {
    let mut cursor = Cursor::new(plain);
    for chunk in chunks {
        let bytes = cursor.take(chunk.plain_bytes as usize)?;
        if kind.chunk_id(keys, bytes) != chunk.id {
            return Err(format!("chunk {} does not hash to its id", chunk.id.short()));
        }
    }
    cursor.end()
}

fn header_of(info: &PackInfo, repository: RepositoryId) -> Header {
    Header { object_type: info.kind.object_type(), epoch: info.epoch, repository, salt: info.salt }
}

fn cipher(keys: &Keys, kind: PackKind, header: &Header) -> Option<ObjectCipher> {
    let key = keys.purpose(header.epoch, kind.purpose())?;
    Some(ObjectCipher::new(key, &header.salt, header.encode().to_vec()))
}

/// Length to which an object of this length is padded.
///
/// Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019)
/// keeps the 5 or so highest bits of a length; from 4 MiB up a unit of 64 KiB is enough here, as such a pack is a sum of
/// many blobs' lengths.
pub fn padded_bytes(bytes: u64) -> u64 {
    if bytes < 2 {
        return bytes;
    }
    let exponent = bytes.ilog2();
    let kept = exponent.ilog2() + 1;
    let unit = (1u64 << exponent.saturating_sub(kept)).min(PAD_BYTES_MAX);
    bytes.next_multiple_of(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_hides_a_length_at_a_small_price() {
        for (bytes, padded) in [(0, 0), (1, 1), (9, 10), (1000, 1024), (70_000, 71_680), (5 << 20, 5 << 20)] {
            assert_eq!(padded_bytes(bytes), padded, "{bytes}");
        }
        assert_eq!(padded_bytes((31 << 20) + 1), (31 << 20) + 65_536);
        for bytes in (1..40).map(|power| (1u64 << power) + 1) {
            let padded = padded_bytes(bytes);
            assert!(padded >= bytes && (padded - bytes) * 100 <= bytes * 12, "{bytes} to {padded}");
            assert_eq!(padded_bytes(padded), padded, "padding is stable");
        }
    }
}
