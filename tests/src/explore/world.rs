//! The small world's nouns, and how they become the core's own: real [`PackContents`] with real ids.

use dedump_core::internals::compress::Encoding;
use dedump_core::internals::contents::{BaseEntry, BlobEntry, ChunkEntry};
use dedump_core::internals::names::{FragmentName, PackKind};
use dedump_core::internals::pack::{PackContents, PackInfo};
use dedump_core::{ChunkId, PackId, SessionId};
use std::sync::Arc;

/// A session: the process of this number, or 0 for what was there before.
pub type Sid = u8;
/// A chunk.
pub type Chunk = u8;
/// The session's n-th pack.
pub type PackKey = (Sid, u8);
/// The session's n-th fragment.
pub type FragmentKey = (Sid, u8);
/// What a fragment lists.
pub type Listed = Arc<Vec<Arc<Pack>>>;

const PACK_BYTES: u64 = 1000;
const CHUNK_BYTES: u32 = 100;

/// One chunk in a blob of its own; none if the blob is hidden.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob {
    /// The chunk.
    pub chunk: Option<Chunk>,
    /// How deep it says it is.
    pub depth: u8,
    /// What it is compressed against.
    pub bases: Vec<Chunk>,
}

/// A pack, as its trailer or a fragment has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pack {
    /// Its name.
    pub key: PackKey,
    /// Its blobs.
    pub blobs: Vec<Blob>,
}

/// Returns a blob that is stored whole.
pub fn whole(chunk: Chunk) -> Blob {
    Blob { chunk: Some(chunk), depth: 0, bases: Vec::new() }
}

/// Returns a delta.
pub fn delta(chunk: Chunk, depth: u8, bases: &[Chunk]) -> Blob {
    Blob { chunk: Some(chunk), depth, bases: bases.to_vec() }
}

/// Returns the core's name of a session.
pub fn session_id(session: Sid) -> SessionId {
    SessionId([session; 16])
}

/// Returns the core's name of a chunk.
pub fn chunk_id(chunk: Chunk) -> ChunkId {
    ChunkId([chunk * 40 + 7; 32])
}

/// Returns the core's name of a pack.
pub fn pack_id((session, number): PackKey) -> PackId {
    let mut id = [0; 32];
    (id[0], id[1]) = (session, number);
    PackId(id)
}

/// Returns the pack of this id.
pub fn pack_key(id: &PackId) -> PackKey {
    (id.0[0], id.0[1])
}

/// Returns the chunk of this id.
pub fn chunk_of(id: &ChunkId) -> Chunk {
    (id.0[0] - 7) / 40
}

/// Returns the session of this id.
pub fn sid(id: &SessionId) -> Sid {
    id.0[0]
}

/// Returns the core's name of a fragment.
pub fn fragment_name((session, number): FragmentKey) -> FragmentName {
    FragmentName { session: session_id(session), number: number.into() }
}

/// Returns the fragment of this name.
pub fn fragment_key(name: &FragmentName) -> FragmentKey {
    (sid(&name.session), u8::try_from(name.number).expect("few fragments"))
}

/// Returns the kind and length that every pack has.
pub fn listing((session, number): PackKey) -> (PackKind, PackId, u64) {
    (PackKind::Data, pack_id((session, number)), PACK_BYTES)
}

/// Returns the core's form of a pack.
pub fn contents(pack: &Pack) -> PackContents {
    let (kind, id, bytes) = listing(pack.key);
    PackContents {
        info: PackInfo { id, kind, bytes, epoch: 0, salt: [0; 32] },
        blobs: pack.blobs.iter().map(entry).collect(),
    }
}

fn entry(blob: &Blob) -> BlobEntry {
    let is_delta = !blob.bases.is_empty();
    let full = BlobEntry {
        sealed_bytes: CHUNK_BYTES,
        plain_bytes: CHUNK_BYTES,
        encoding: if is_delta { Encoding::ZstdPrefix } else { Encoding::Zstd },
        depth: blob.depth,
        generation: u32::from(is_delta),
        chunks: blob.chunk.iter().map(|chunk| ChunkEntry { id: chunk_id(*chunk), plain_bytes: CHUNK_BYTES }).collect(),
        bases: blob.bases.iter().map(|base| BaseEntry { id: chunk_id(*base), start: 0, plain_bytes: 10 }).collect(),
        likes: if is_delta { vec![0] } else { Vec::new() },
    };
    if blob.chunk.is_none() { full.hidden() } else { full }
}

/// Returns the small form of a pack.
pub fn pack_of(contents: &PackContents) -> Pack {
    let blob = |entry: &BlobEntry| Blob {
        chunk: entry.chunks.first().map(|chunk| chunk_of(&chunk.id)),
        depth: entry.depth,
        bases: entry.bases.iter().map(|base| chunk_of(&base.id)).collect(),
    };
    Pack { key: pack_key(&contents.info.id), blobs: contents.blobs.iter().map(blob).collect() }
}
