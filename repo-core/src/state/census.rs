//! What lies where, who needs it, and what would be lost with a pack.

use super::ground::{Ground, Notice};
use super::index::{ChunkNumber, Index, PackNumber};
use super::loader::{self, Listener, Loaded, Rank};
use crate::format::names::PackKind;
use crate::format::pack::PackContents;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use std::collections::{BTreeSet, HashSet};

/// Everything that counts, with the bases of every delta.
pub struct Census {
    /// The index, and what was found while it was loaded.
    pub loaded: Loaded,
    /// Deltas in the order of their blobs' numbers, and where their bases begin in `bases`.
    deltas: Vec<(u32, u32)>,
    /// Entries of bases; [`UNKNOWN`] for one that is nowhere.
    bases: Vec<u32>,
}

const UNKNOWN: u32 = u32::MAX;

/// Takes down bases while the index is loaded.
#[derive(Default)]
struct Bases {
    deltas: Vec<(u32, u32)>,
    bases: Vec<u32>,
    /// Bases that were not there when their delta came, and where they belong.
    later: Vec<(u32, ChunkId)>,
}

impl Listener for Bases {
    fn hear(&mut self, index: &Index, pack: &PackContents) {
        let first = index.blobs_n() - pack.blobs.len();
        for (number, blob) in (first as u32..).zip(&pack.blobs).filter(|(_, blob)| !blob.bases.is_empty()) {
            self.deltas.push((number, self.bases.len() as u32));
            for base in &blob.bases {
                let there = index.number_of(&base.id);
                if there.is_none() {
                    self.later.push((self.bases.len() as u32, base.id));
                }
                self.bases.push(there.map_or(UNKNOWN, |number| number.0));
            }
        }
    }
}

impl Bases {
    /// Gives every base the entry that the finished index has for its chunk.
    fn finish(mut self, loaded: Loaded) -> Census {
        let index = &loaded.index;
        for base in self.bases.iter_mut().filter(|base| **base != UNKNOWN) {
            *base = index.number_of(&index.chunk(ChunkNumber(*base)).id).map_or(UNKNOWN, |number| number.0);
        }
        for (place, id) in self.later {
            self.bases[place as usize] = index.number_of(&id).map_or(UNKNOWN, |number| number.0);
        }
        Census { loaded, deltas: self.deltas, bases: self.bases }
    }
}

impl Census {
    /// Loads what counts. Of a chunk that lies in several packs at the same depth, a place outside the condemned ones is
    /// taken.
    ///
    /// # Errors
    /// As [`loader::load`].
    pub async fn take(ground: &impl Ground, condemned: &HashSet<PackId>) -> Result<Census> {
        let rank = |id: &PackId| if condemned.contains(id) { Rank::Behind } else { Rank::Equal };
        let (loaded, bases): (Loaded, Bases) = loader::load_ranked(ground, rank).await?;
        Ok(bases.finish(loaded))
    }

    /// Returns the index.
    pub fn index(&self) -> &Index {
        &self.loaded.index
    }

    /// Returns the entries of a blob's bases; [`None`] for one that is nowhere.
    pub fn bases(&self, blob: usize) -> impl Iterator<Item = Option<ChunkNumber>> + '_ {
        let bases = match self.deltas.binary_search_by_key(&(blob as u32), |(blob, _)| *blob) {
            Ok(place) => {
                let end = self.deltas.get(place + 1).map_or(self.bases.len(), |(_, next)| *next as usize);
                &self.bases[self.deltas[place].1 as usize..end]
            }
            Err(_) => &[],
        };
        bases.iter().map(|base| (*base != UNKNOWN).then_some(ChunkNumber(*base)))
    }

    /// Returns the entry that stands for a chunk, wherever it lies besides.
    fn chosen(&self, entry: u32) -> ChunkNumber {
        let index = self.index();
        index.number_of(&index.chunk(ChunkNumber(entry)).id).expect("it is placed")
    }

    /// Returns the pack of an entry.
    pub fn pack_of(&self, number: ChunkNumber) -> PackId {
        let index = self.index();
        index.pack(index.blob(index.blob_number(number)).pack).id
    }

    /// Returns what of each pack is needed, in the order of the index's packs.
    pub fn usage(&self, needed: &Needed) -> Vec<Usage> {
        let index = self.index();
        let mut usage = vec![Usage::default(); index.packs().len()];
        for number in 0..index.blobs_n() {
            let blob = index.blob(number);
            let (mut needed_bytes, mut needed_n) = (0, 0);
            for entry in blob.entries.clone().map(ChunkNumber).filter(|entry| needed.has(*entry)) {
                needed_bytes += u64::from(index.chunk(entry).plain_bytes);
                needed_n += 1;
            }
            let PackNumber(pack) = blob.pack;
            let of_pack = &mut usage[pack as usize];
            of_pack.needed_chunks_n += needed_n;
            of_pack.blobs_bytes += u64::from(blob.sealed_bytes);
            if needed_n > 0 {
                let share = u128::from(blob.sealed_bytes) * u128::from(needed_bytes);
                of_pack.needed_bytes += (share / u128::from(blob.place.plain_bytes.max(1))) as u64;
                of_pack.needed_plain_bytes += needed_bytes;
            }
        }
        usage
    }

    /// Returns the blobs that can't be decoded once condemned packs are gone and what is needed of them was rescued.
    pub fn unreadable_without(&self, condemned: &HashSet<PackId>, needed: &Needed) -> HashSet<usize> {
        let index = self.index();
        let mut by_depth: Vec<Vec<usize>> = Vec::new();
        for number in 0..index.blobs_n() {
            let depth = usize::from(index.blob(number).place.depth);
            if by_depth.len() <= depth {
                by_depth.resize(depth + 1, Vec::new());
            }
            by_depth[depth].push(number);
        }
        let (mut readable, mut unreadable) = (Needed::none(index), HashSet::new());
        for same_depth in by_depth {
            let mut now = Vec::new();
            for number in same_depth {
                let blob = index.blob(number);
                let stays = !condemned.contains(&index.pack(blob.pack).id);
                let has_bases = self.bases(number).all(|base| base.is_some_and(|base| readable.has(base)));
                if stays && !has_bases {
                    unreadable.insert(number);
                }
                if has_bases {
                    let entries = blob.entries.filter(|entry| stays || needed.has(ChunkNumber(*entry)));
                    now.extend(entries.map(|entry| self.chosen(entry)));
                }
            }
            // Only what is deeper may rely on it.
            for entry in now {
                readable.insert(entry);
            }
        }
        unreadable
    }
}

/// What of a pack is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Chunks and nodes that are needed and not known elsewhere.
    pub needed_chunks_n: u64,
    /// Bytes of the pack's blobs.
    pub blobs_bytes: u64,
    /// The share of what is needed in them.
    pub needed_bytes: u64,
    /// Their bytes, before compression.
    pub needed_plain_bytes: u64,
}

/// Entries of an index that are needed: one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    bits: Vec<u64>,
}

impl Needed {
    /// Needs nothing yet.
    pub fn none(index: &Index) -> Needed {
        Needed { bits: vec![0; index.entries_n().div_ceil(64)] }
    }

    /// Returns whether an entry is needed.
    pub fn has(&self, number: ChunkNumber) -> bool {
        self.bits[number.0 as usize / 64] >> (number.0 % 64) & 1 == 1
    }

    /// Notes that an entry is needed; returns whether it was not before.
    pub fn insert(&mut self, number: ChunkNumber) -> bool {
        let word = &mut self.bits[number.0 as usize / 64];
        let bit = 1 << (number.0 % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Returns the entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = ChunkNumber> + '_ {
        let words = self.bits.iter().zip(0u32..).filter(|(word, _)| **word != 0);
        words.flat_map(|(word, at)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| ChunkNumber(at * 64 + bit))
        })
    }

    /// Notes that all is needed too that needed chunks are compressed against.
    ///
    /// # Errors
    /// [`Error::Missing`]: such a chunk is nowhere.
    pub fn close_over_bases(&mut self, census: &Census) -> Result<()> {
        let mut pending: Vec<ChunkNumber> = self.iter().collect();
        let mut visited = HashSet::new();
        while let Some(number) = pending.pop() {
            let blob = census.index().blob_number(number);
            if census.index().blob(blob).place.depth == 0 || !visited.insert(blob) {
                continue;
            }
            for base in census.bases(blob) {
                let Some(base) = base else {
                    let object = format!("chunk {}", census.index().chunk(number).id.short());
                    let why =
                        "a snapshot needs it, and what it was compressed against is not there; run `dedump check`";
                    return Err(Error::Missing { object, why: why.to_owned() });
                };
                if self.insert(base) {
                    pending.push(base);
                }
            }
        }
        Ok(())
    }
}

/// What a prune knows of the repository at one time.
pub struct Survey<S> {
    /// The snapshots.
    pub snapshots: S,
    /// The packs that any notice names.
    pub condemned: HashSet<PackId>,
    /// What counts.
    pub census: Census,
    /// What the snapshots need, bases included.
    pub needed: Needed,
}

/// Returns the packs that notices name.
pub fn condemned(notices: &[Notice]) -> BTreeSet<(PackKind, PackId)> {
    notices.iter().filter_map(|(_, packs)| packs.as_ref().ok()).flatten().copied().collect()
}
