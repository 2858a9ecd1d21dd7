//! Which chunk lies where, in memory: at most 48 bytes a chunk.
//!
//! 36 bytes an entry (id and length), kept in the order of the blobs so that an entry needs no pointer to its blob; a
//! hash table of 4-byte entry numbers, filled to between 53 % and 70 %: 5.7 to 7.6 bytes; 24 bytes a blob of many
//! chunks. Entries live in segments, so nothing is ever copied to grow.

use crate::edges::store::Listed;
use crate::format::contents::ChunkEntry;
use crate::format::header::HEADER_BYTES;
use crate::format::names::{self, PackKind};
use crate::format::pack::{BlobPlace, PackContents, PackInfo};
use crate::words::id::{ChunkId, PackId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack, by its number in the index.
    pub pack: PackNumber,
    /// The blob's number in its pack.
    pub blob: u32,
    /// Where the blob starts in the pack.
    pub offset: u64,
    /// The blob's length in the pack.
    pub sealed_bytes: u32,
    /// What is needed to decode the blob.
    pub place: BlobPlace,
    /// Where the chunk starts in the blob's plaintext.
    pub start: u32,
    /// The chunk's length.
    pub plain_bytes: u32,
}

impl Location {
    /// Returns the blob's place in its pack.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.sealed_bytes)
    }
}

/// Where a chunk lies, and all that is needed to open its pack: good for ever, whatever becomes of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The pack.
    pub info: PackInfo,
    /// Where the chunk lies in it.
    pub location: Location,
    /// Where the pack's blobs end and its trailer begins.
    pub trailer_start: u64,
}

/// What tells a blob apart from all others: its pack, and where it starts there.
pub type BlobKey = (PackId, u64);

impl Found {
    /// Returns what tells the chunk's blob apart.
    pub fn blob_key(&self) -> BlobKey {
        (self.info.id, self.location.offset)
    }

    /// Returns how messages name the blob.
    pub fn blob_name(&self) -> String {
        format!("{}, blob {}", names::pack(self.info.kind, self.info.id), self.location.blob)
    }
}

/// What is stored at one depth: so many blobs must be decoded before those, in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DepthStats {
    /// Chunks.
    pub chunks_n: u64,
    /// Their bytes, before compression.
    pub plain_bytes: u64,
    /// What is stored for them.
    pub stored_bytes: u64,
}

/// Number of a chunk in one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkNumber(pub u32);

/// Number of a pack in one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackNumber(pub u32);

/// A blob, as the index knows it.
#[derive(Debug, Clone)]
pub struct BlobView {
    /// Its pack.
    pub pack: PackNumber,
    /// Its length in the pack.
    pub sealed_bytes: u32,
    /// What is needed to decode it.
    pub place: BlobPlace,
    /// The numbers of its chunks' entries: also of those that are known elsewhere.
    pub entries: Range<u32>,
}

/// The index in memory. A chunk that lies in several packs is known in the blob of the smallest depth, the first one added
/// of several: so a base is never deeper than it was for the delta that named it, whatever was stored twice since.
#[derive(Default)]
pub struct Index {
    packs: Vec<PackInfo>,
    /// Number of each pack's first blob among `blobs`.
    first_blobs: Vec<u32>,
    pack_numbers: HashMap<PackId, PackNumber>,
    blobs: Vec<Blob>,
    /// Entries below this number lie in `blobs`; the others were announced and not placed.
    placed_n: usize,
    entries: Entries,
    table: Vec<u32>,
    known_n: usize,
}

struct Blob {
    pack: PackNumber,
    offset: u32,
    sealed_bytes: u32,
    first_entry: u32,
    place: BlobPlace,
}

const EMPTY: u32 = u32::MAX;
const SEGMENT: usize = 4096;

#[derive(Default)]
struct Entries {
    segments: Vec<Vec<ChunkEntry>>,
    n: usize,
}

impl Entries {
    fn push(&mut self, entry: ChunkEntry) {
        if self.n.is_multiple_of(SEGMENT) {
            self.segments.push(Vec::with_capacity(SEGMENT));
        }
        self.segments.last_mut().expect("one was just pushed").push(entry);
        self.n += 1;
    }

    fn get(&self, number: usize) -> &ChunkEntry {
        &self.segments[number / SEGMENT][number % SEGMENT]
    }
}

impl Index {
    /// Adds what a pack holds; a pack that is there already is left as it is. Returns whether it was not.
    pub fn add(&mut self, contents: &PackContents) -> bool {
        self.add_pack(contents, true)
    }

    /// As [`Index::add`], but of a chunk that is known already the place stays the one that it had.
    pub fn add_as_last_resort(&mut self, contents: &PackContents) -> bool {
        self.add_pack(contents, false)
    }

    /// As [`Index::add_as_last_resort`], with other blobs of a pack that is there already.
    pub fn add_more_as_last_resort(&mut self, contents: &PackContents) {
        self.push_pack(contents, false);
    }

    fn add_pack(&mut self, contents: &PackContents, may_replace: bool) -> bool {
        let Entry::Vacant(vacant) = self.pack_numbers.entry(contents.info.id) else { return false };
        vacant.insert(PackNumber(u32::try_from(self.packs.len()).expect("fewer than 2^32 packs")));
        self.push_pack(contents, may_replace);
        true
    }

    fn push_pack(&mut self, contents: &PackContents, may_replace: bool) {
        assert!(self.placed_n == self.entries.n, "packs are added before chunks are announced");
        let pack = PackNumber(u32::try_from(self.packs.len()).expect("fewer than 2^32 packs"));
        self.packs.push(contents.info);
        self.first_blobs.push(entry_number(self.blobs.len()));
        let mut offset = HEADER_BYTES as u32;
        for blob in &contents.blobs {
            if self.blobs.len() == self.blobs.capacity() {
                // By an eighth, not double: the slack is part of the 48 bytes.
                self.blobs.reserve_exact(self.blobs.len() / 8 + 64);
            }
            self.blobs.push(Blob {
                pack,
                offset,
                sealed_bytes: blob.sealed_bytes,
                first_entry: entry_number(self.entries.n),
                place: blob.into(),
            });
            offset += blob.sealed_bytes;
            for chunk in &blob.chunks {
                self.insert(*chunk, may_replace.then_some(blob.depth));
            }
        }
        self.placed_n = self.entries.n;
    }

    /// Notes that this run will store a chunk, if it is not known yet; returns whether it was not.
    pub fn announce(&mut self, chunk: ChunkEntry) -> bool {
        if self.find(&chunk.id).is_some() {
            return false;
        }
        self.insert(chunk, None);
        true
    }

    /// Returns whether a chunk is placed or announced.
    pub fn knows(&self, id: &ChunkId) -> bool {
        self.find(id).is_some()
    }

    /// Returns where a chunk lies; `None` if it is unknown, or announced and not placed.
    pub fn locate(&self, id: &ChunkId) -> Option<Location> {
        let number = self.find(id).filter(|number| *number < self.placed_n)?;
        let after = self.blobs.partition_point(|blob| blob.first_entry as usize <= number);
        let blob_number = after.checked_sub(1)?;
        let blob = &self.blobs[blob_number];
        let start = (blob.first_entry as usize..number).map(|before| self.entries.get(before).plain_bytes).sum();
        Some(self.location(blob_number, start, self.entries.get(number).plain_bytes))
    }

    fn location(&self, blob_number: usize, start: u32, plain_bytes: u32) -> Location {
        let blob = &self.blobs[blob_number];
        Location {
            pack: blob.pack,
            blob: blob_number as u32 - self.first_blobs[blob.pack.0 as usize],
            offset: u64::from(blob.offset),
            sealed_bytes: blob.sealed_bytes,
            place: blob.place,
            start,
            plain_bytes,
        }
    }

    /// Returns how deep the blob of a chunk is; `None` as [`Index::locate`].
    pub fn depth_of(&self, id: &ChunkId) -> Option<u8> {
        self.find(id).filter(|number| *number < self.placed_n).map(|number| self.blob_of(number).place.depth)
    }

    /// Returns where a chunk lies, with all that is needed to read it; `None` as [`Index::locate`].
    pub fn find_chunk(&self, id: &ChunkId) -> Option<Found> {
        self.locate(id).map(|location| self.complete(location))
    }

    fn complete(&self, location: Location) -> Found {
        let next_pack = self.first_blobs.get(location.pack.0 as usize + 1);
        let last = &self.blobs[next_pack.map_or(self.blobs.len(), |first| *first as usize) - 1];
        let trailer_start = u64::from(last.offset) + u64::from(last.sealed_bytes);
        Found { info: *self.pack(location.pack), location, trailer_start }
    }

    /// Returns the number of a chunk that is placed: a short name for it, as long as this index lives.
    pub fn number_of(&self, id: &ChunkId) -> Option<ChunkNumber> {
        self.find(id).filter(|number| *number < self.placed_n).map(|number| ChunkNumber(number as u32))
    }

    /// Returns the chunk of a number.
    pub fn chunk(&self, number: ChunkNumber) -> &ChunkEntry {
        self.entries.get(number.0 as usize)
    }

    /// Returns where the chunk of a number lies.
    pub fn find_numbered(&self, number: ChunkNumber) -> Option<Found> {
        self.find_chunk(&self.chunk(number).id)
    }

    /// Returns what is known of a pack.
    pub fn pack(&self, number: PackNumber) -> &PackInfo {
        &self.packs[number.0 as usize]
    }

    /// Returns the pack of this id, if the index covers it.
    pub fn pack_number(&self, id: &PackId) -> Option<PackNumber> {
        self.pack_numbers.get(id).copied()
    }

    /// Returns the blobs of a pack with their chunks: each chunk's id, and where it lies.
    pub fn blobs_of(&self, pack: PackNumber) -> Vec<Vec<(ChunkId, Found)>> {
        let first = self.first_blobs[pack.0 as usize] as usize;
        let chunks = |number: usize| {
            let next = self.blobs.get(number + 1).map_or(self.placed_n, |next| next.first_entry as usize);
            let mut start = 0;
            let chunk = |entry: usize| {
                let entry = self.entries.get(entry);
                let location = self.location(number, start, entry.plain_bytes);
                start += entry.plain_bytes;
                (entry.id, self.complete(location))
            };
            (self.blobs[number].first_entry as usize..next).map(chunk).collect()
        };
        (first..self.blobs.len()).take_while(|number| self.blobs[*number].pack == pack).map(chunks).collect()
    }

    /// Returns how many blobs are placed.
    pub fn blobs_n(&self) -> usize {
        self.blobs.len()
    }

    /// Returns a blob by its number in the index.
    pub fn blob(&self, number: usize) -> BlobView {
        let blob = &self.blobs[number];
        let next = self.blobs.get(number + 1).map_or(entry_number(self.placed_n), |next| next.first_entry);
        let (pack, place) = (blob.pack, blob.place);
        BlobView { pack, sealed_bytes: blob.sealed_bytes, place, entries: blob.first_entry..next }
    }

    /// Returns where a blob lies, as if by a chunk of no length at its beginning.
    pub fn find_blob(&self, number: usize) -> Found {
        self.complete(self.location(number, 0, 0))
    }

    /// Returns the number of the blob that a chunk lies in.
    pub fn blob_number(&self, number: ChunkNumber) -> usize {
        self.blobs.partition_point(|blob| blob.first_entry <= number.0) - 1
    }

    /// Returns how many entries there are: chunks and nodes, those that lie in several packs several times.
    pub fn entries_n(&self) -> usize {
        self.entries.n
    }

    /// Returns whether the index covers a pack.
    pub fn has_pack(&self, id: &PackId) -> bool {
        self.pack_numbers.contains_key(id)
    }

    /// Returns all packs.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// Returns what the packs of a kind hold, by depth from 0.
    pub fn depths(&self, kind: PackKind) -> Vec<DepthStats> {
        let mut depths: Vec<DepthStats> = Vec::new();
        for (number, blob) in self.blobs.iter().enumerate().filter(|(_, blob)| self.pack(blob.pack).kind == kind) {
            let depth = usize::from(blob.place.depth);
            if depths.len() <= depth {
                depths.resize(depth + 1, DepthStats::default());
            }
            let next = self.blobs.get(number + 1).map_or(self.placed_n, |next| next.first_entry as usize);
            depths[depth].chunks_n += (next - blob.first_entry as usize) as u64;
            depths[depth].plain_bytes += u64::from(blob.place.plain_bytes);
            depths[depth].stored_bytes += u64::from(blob.sealed_bytes);
        }
        depths
    }

    /// Returns how many different chunks and nodes are known.
    pub fn chunks_n(&self) -> usize {
        self.known_n
    }

    /// Returns the memory that the index takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.entries.segments.len() * SEGMENT * size_of::<ChunkEntry>()
            + self.table.capacity() * size_of::<u32>()
            + self.blobs.capacity() * size_of::<Blob>()
            + self.packs.capacity() * size_of::<PackInfo>()
    }

    fn find(&self, id: &ChunkId) -> Option<usize> {
        self.slot_of(id).map(|slot| self.table[slot] as usize)
    }

    fn slot_of(&self, id: &ChunkId) -> Option<usize> {
        let mut slot = self.first_slot(id)?;
        loop {
            match self.table[slot] {
                EMPTY => return None,
                number if self.entries.get(number as usize).id == *id => return Some(slot),
                _ => slot = if slot + 1 == self.table.len() { 0 } else { slot + 1 },
            }
        }
    }

    /// Appends an entry, and enters it into the table unless its id is there; it takes the place of one in a deeper blob if
    /// it has a depth.
    fn insert(&mut self, chunk: ChunkEntry, depth: Option<u8>) {
        let number = entry_number(self.entries.n);
        self.entries.push(chunk);
        match self.slot_of(&chunk.id) {
            Some(slot) => {
                let there = self.table[slot] as usize;
                if depth.is_some_and(|depth| depth < self.blob_of(there).place.depth) {
                    self.table[slot] = number;
                }
            }
            None => {
                if (self.known_n + 1) * 10 > self.table.len() * 7 {
                    self.grow();
                }
                self.occupy(number);
                self.known_n += 1;
            }
        }
    }

    /// Returns the blob of an entry that is placed.
    fn blob_of(&self, number: usize) -> &Blob {
        &self.blobs[self.blobs.partition_point(|blob| blob.first_entry as usize <= number) - 1]
    }

    fn grow(&mut self) {
        let larger = (self.table.len() + self.table.len() / 3).max(1024);
        let before = std::mem::replace(&mut self.table, vec![EMPTY; larger]);
        for number in before.into_iter().filter(|number| *number != EMPTY) {
            self.occupy(number);
        }
    }

    /// Enters an entry of which no other has the id.
    fn occupy(&mut self, number: u32) {
        let id = self.entries.get(number as usize).id;
        let mut slot = self.first_slot(&id).expect("the table has grown");
        while self.table[slot] != EMPTY {
            slot = if slot + 1 == self.table.len() { 0 } else { slot + 1 };
        }
        self.table[slot] = number;
    }

    /// Ids are keyed hashes, so their first bytes spread evenly over the table; `None` while there is no table.
    fn first_slot(&self, id: &ChunkId) -> Option<usize> {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        let hash = u128::from(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        (!self.table.is_empty()).then(|| ((hash * self.table.len() as u128) >> 64) as usize)
    }
}

fn entry_number(n: usize) -> u32 {
    u32::try_from(n).ok().filter(|number| *number != EMPTY).expect("fewer than 2^32 chunks")
}

/// The packs that really are in the store, with their lengths; or nobody asked, and any pack may be.
#[derive(Default)]
pub struct PacksListed {
    there: HashMap<(PackKind, PackId), u64>,
    is_presumed: bool,
}

impl FromIterator<(PackKind, PackId, u64)> for PacksListed {
    fn from_iter<T: IntoIterator<Item = (PackKind, PackId, u64)>>(packs: T) -> Self {
        let there = packs.into_iter().map(|(kind, id, bytes)| ((kind, id), bytes)).collect();
        PacksListed { there, is_presumed: false }
    }
}

impl PacksListed {
    /// Collects the packs of a listing; other names are left out.
    pub fn collect(kind: PackKind, prefix: &str, listed: &[Listed], into: &mut PacksListed) {
        let packs =
            listed.iter().filter_map(|object| names::parse(prefix, &object.name).map(|id| ((kind, id), object.bytes)));
        into.there.extend(packs);
    }

    /// Presumes that every pack is there.
    pub fn presumed() -> PacksListed {
        PacksListed { there: HashMap::new(), is_presumed: true }
    }

    /// Returns the length of a pack, if it was listed.
    pub fn bytes(&self, kind: PackKind, id: PackId) -> Option<u64> {
        self.there.get(&(kind, id)).copied()
    }

    /// Returns whether a pack is there, as far as that was asked, and as long as it should be.
    pub fn has(&self, info: &PackInfo) -> bool {
        self.is_presumed || self.bytes(info.kind, info.id) == Some(info.bytes)
    }

    /// Returns all packs with their lengths, sorted.
    pub fn sorted(&self) -> Vec<(PackKind, PackId, u64)> {
        let mut packs: Vec<_> = self.there.iter().map(|((kind, id), bytes)| (*kind, *id, *bytes)).collect();
        packs.sort();
        packs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crafts::compress::Encoding;
    use crate::format::contents::BlobEntry;

    fn chunk(number: u32) -> ChunkEntry {
        ChunkEntry { id: ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes()), plain_bytes: number % 1000 + 1 }
    }

    fn pack(number: u8, chunks: Range<u32>) -> PackContents {
        let blobs = chunks
            .clone()
            .step_by(10)
            .map(|first| {
                let chunks: Vec<_> = (first..(first + 10).min(chunks.end)).map(chunk).collect();
                BlobEntry {
                    sealed_bytes: 100,
                    plain_bytes: chunks.iter().map(|chunk| chunk.plain_bytes).sum(),
                    encoding: Encoding::Zstd,
                    depth: 0,
                    generation: 0,
                    chunks,
                    bases: Vec::new(),
                    likes: Vec::new(),
                }
            })
            .collect();
        let info =
            PackInfo { id: PackId([number; 32]), kind: PackKind::Data, bytes: 1 << 20, epoch: 1, salt: [number; 32] };
        PackContents { info, blobs }
    }

    #[test]
    fn every_chunk_is_found_where_it_lies() {
        let mut index = Index::default();
        assert!(!index.knows(&chunk(0).id));
        index.add(&pack(1, 0..20_000));
        index.add(&pack(2, 19_995..30_000));
        index.add(&pack(1, 0..20_000));
        assert_eq!((index.chunks_n(), index.packs().len()), (30_000, 2));
        for number in 0..30_000 {
            let location = index.locate(&chunk(number).id).expect("is known");
            let in_first = number < 20_000;
            let (first, pack) = if in_first { (0, 1) } else { (19_995, 2) };
            assert_eq!(index.pack(location.pack).id, PackId([pack; 32]));
            assert_eq!(location.blob, (number - first) / 10);
            assert_eq!(location.offset, 64 + 100 * u64::from((number - first) / 10));
            let before = (first + (number - first) / 10 * 10..number).map(|n| chunk(n).plain_bytes).sum::<u32>();
            assert_eq!((location.start, location.plain_bytes), (before, chunk(number).plain_bytes));
        }
        assert_eq!(index.locate(&chunk(30_000).id), None);
    }

    #[test]
    fn a_chunk_in_several_packs_is_found_where_the_chain_is_shortest() {
        let deep = |number, depth| {
            let mut pack = pack(number, 0..10);
            pack.blobs[0].depth = depth;
            pack
        };
        let place = |index: &Index| index.pack(index.locate(&chunk(3).id).expect("is known").pack).id;
        let mut index = Index::default();
        for (number, depth, expected) in [(1, 2, 1), (2, 3, 1), (3, 1, 3), (4, 1, 3), (5, 0, 5)] {
            index.add(&deep(number, depth));
            assert_eq!(place(&index), PackId([expected; 32]), "{number} of depth {depth}");
        }
        let mut index = Index::default();
        index.add(&deep(1, 2));
        index.add_as_last_resort(&deep(2, 0));
        assert_eq!(place(&index), PackId([1; 32]), "a place of last resort takes nothing over");
    }

    #[test]
    fn an_announced_chunk_is_known_and_nowhere() {
        let mut index = Index::default();
        index.add(&pack(1, 0..10));
        assert!(!index.announce(chunk(3)));
        assert!(index.announce(chunk(10)));
        assert!(!index.announce(chunk(10)));
        assert!(index.knows(&chunk(10).id));
        assert_eq!(index.locate(&chunk(10).id), None);
    }

    #[test]
    fn a_chunk_takes_at_most_48_bytes() {
        let mut index = Index::default();
        for number in 0..8 {
            index.add(&pack(number, u32::from(number) * 100_000..(u32::from(number) + 1) * 100_000));
            let bytes_per_chunk = index.memory_bytes() as f64 / index.chunks_n() as f64;
            assert!(bytes_per_chunk <= 48.0, "{bytes_per_chunk} at {} chunks", index.chunks_n());
        }
    }
}
