//! Chooses the bases of deltas, and reads them back.
//!
//! **Skip-deltas.** A delta against yesterday's chunk, which is a delta itself, would make chains as long as the series. So
//! a chunk's *generation* is 0 if it is stored whole, else that of its older self + 1, and generation *n* is compressed
//! against the ancestor (the older self of the older self …, as the deltas' entries record it) whose generation is *n* with
//! its last digit that is not 0 counted down by one, in the number system of base 4, or lower: 11 against 10, 10 against 9, 9
//! against 8, 8 against 4. A chain is then as long as the sum of *n*'s digits, at most, and it is held to 4 or log₂ *n*;
//! nothing ever has to be stored whole to cut one. The idea is that of skip lists (Pugh, 1990), as Subversion has used it for
//! the revisions of a file, in base 2. Base 4 goes back less far on the average: of the daily dumps of `benches/delta.py`,
//! days 2 to 9 add 69 MiB instead of 75. Chunks of one run may have older selves of several generations; so the depth of what
//! is taken has the same bound.

use super::chains::{self, Blobs, Budget, Find, Job, PackFailure, Part};
use super::fetch::{Fetcher, cut};
use super::index::{BlobKey, ChunkNumber, Found};
use super::parent::{Like, ParentChunk};
use crate::crafts::crypto::keys::Keys;
use crate::edges::cpu;
use crate::format::contents::{BaseEntry, ChunkEntry, NO_LIKE};
use crate::format::pack::Delta;
use crate::format::record::Sealer;
use crate::words::error::Error;
use crate::words::id::ChunkId;
use crate::words::limits::{
    BLOB_BASES_MAX, DELTA_BASES_CACHED_BYTES_MAX, DELTA_CHAIN_BYTES_TARGET, DELTA_DEPTH_MAX, DELTA_GENERATION_MAX,
    DELTA_PREFIX_BYTES_MAX, DELTA_PREFIX_BYTES_TARGET, DELTA_READ_BYTES_TARGET, DELTA_SHIFT_BYTES_MIN,
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Bases that were chosen for a run, and where they lie.
pub struct Choice {
    /// What the delta's entry will say.
    pub delta: Delta,
    /// The bases' chunks, in the order of `delta.bases`.
    found: Vec<Found>,
}

/// Why a chunk in the parent's stream is wanted in the prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// It is some chunk's older self.
    Like,
    /// It lies beside one.
    Beside,
}

/// A place in a parent's stream: the stream's number in this run, and the position.
type Place = (usize, usize);

/// Chooses bases for a run of new chunks, each with its older self; `None` if there are none.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Missing`], [`Error::Store`]: an ancestor can't be found.
pub async fn choose(
    fetcher: &Fetcher,
    chunks: &[ChunkEntry],
    likes: &[Option<Like>],
) -> Result<Option<Choice>, PackFailure> {
    let parents = parents(likes);
    let place_of = |like: &Like| {
        let parent = parents.iter().position(|parent| Arc::ptr_eq(parent, &like.chunks)).expect("all were collected");
        (parent, like.position)
    };
    let places: Vec<Option<Place>> = likes.iter().map(|like| like.as_ref().map(place_of)).collect();
    let number_at = |(parent, position): Place| parents[parent][position].number;
    let newest = fetcher.with_index(|index| {
        let generation = |place: Place| Some(index.find_numbered(number_at(place))?.location.place.generation);
        places.iter().flatten().filter_map(|place| generation(*place)).max()
    });
    let Some(generation) = newest.map(|newest| u32::from(newest) + 1).filter(|new| *new <= DELTA_GENERATION_MAX) else {
        return Ok(None);
    };
    let (mut bases, mut found, mut base_of) = (Vec::<BaseEntry>::new(), Vec::new(), HashMap::new());
    let bytes_at = |(parent, position): Place| {
        let chunk = parents[parent].get(position)?;
        Some(fetcher.with_index(|index| index.chunk(chunk.number).plain_bytes))
    };
    let was_moved = |(chunk, place): (&ChunkEntry, &Option<Place>)| {
        place.filter(|place| {
            bytes_at(*place).is_some_and(|bytes| bytes.abs_diff(chunk.plain_bytes) > DELTA_SHIFT_BYTES_MIN)
        })
    };
    let moved: Vec<Place> = chunks.iter().zip(&places).filter_map(was_moved).collect();
    for (place, want) in wants(&places, &moved, bytes_at) {
        let (id, base) = match ancestor(fetcher, number_at(place), generation).await {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            // It is only what is beside a like chunk.
            Err(failure) if want != Want::Like && failure.error.is_damage() => continue,
            Err(failure) => return Err(failure),
        };
        // Two places may have one ancestor: it serves once.
        let number = bases.iter().position(|entry| entry.id == id).unwrap_or(bases.len());
        if number == bases.len() {
            bases.push(BaseEntry { id, start: 0, plain_bytes: base.location.plain_bytes });
            found.push(base);
        }
        if want == Want::Like {
            base_of.insert(place, number as u16);
        }
    }
    let prefix_bytes: usize = bases.iter().map(|base| base.plain_bytes as usize).sum();
    if base_of.is_empty() || prefix_bytes > DELTA_PREFIX_BYTES_MAX {
        return Ok(None);
    }
    let depth = 1 + found.iter().map(|base: &Found| base.location.place.depth).max().unwrap_or_default();
    let likes = places.iter().map(|place| place.and_then(|place| base_of.get(&place).copied()).unwrap_or(NO_LIKE));
    let likes = likes.collect();
    Ok(Some(Choice { delta: Delta { depth, generation, bases, likes }, found }))
}

/// The streams that the run's older selves are in; mostly one.
fn parents(likes: &[Option<Like>]) -> Vec<Arc<[ParentChunk]>> {
    let mut parents: Vec<Arc<[ParentChunk]>> = Vec::new();
    for like in likes.iter().flatten() {
        if !parents.iter().any(|parent| Arc::ptr_eq(parent, &like.chunks)) {
            parents.push(Arc::clone(&like.chunks));
        }
    }
    parents
}

/// Returns what is wanted in the prefix, in the order of the parent's stream, as long as there is room for it: every older self,
/// and what lies beside those whose chunks were cut elsewhere this time. `bytes_at` knows how long the chunk at a place is, if
/// there is one.
fn wants(places: &[Option<Place>], moved: &[Place], bytes_at: impl Fn(Place) -> Option<u32>) -> BTreeMap<Place, Want> {
    let beside = |&(parent, position): &Place| {
        let positions = [position.checked_sub(1), Some(position + 1)].into_iter().flatten();
        positions.map(move |position| (parent, position))
    };
    let likes = places.iter().flatten().map(|place| (*place, Want::Like));
    let beside = moved.iter().flat_map(beside).map(|place| (place, Want::Beside));
    let (mut wants, mut bytes) = (BTreeMap::new(), 0);
    for (place, want) in likes.chain(beside) {
        // The stream has ended there.
        let Some(more) = bytes_at(place).map(|bytes| bytes as usize) else { continue };
        let is_room = wants.is_empty() || bytes + more <= DELTA_PREFIX_BYTES_TARGET;
        if wants.len() < BLOB_BASES_MAX && is_room && !wants.contains_key(&place) {
            bytes += more;
            wants.insert(place, want);
        }
    }
    wants
}

/// Returns the generation against which this one is compressed: the generation without the lowest digit that is not zero,
/// counted down by one, in the number system of base 4.
fn target(generation: u32) -> u32 {
    let mut unit = 1;
    while generation.is_multiple_of(unit * 4) {
        unit *= 4;
    }
    generation - unit
}

/// Returns how deep a delta of this generation may be: as deep as the way from it down to 0 is long, within bounds.
fn depth_max(generation: u32) -> u8 {
    let digits = std::iter::successors(Some(generation), |rest| (*rest >= 4).then_some(rest / 4)).map(|rest| rest % 4);
    let steps = u8::try_from(digits.sum::<u32>()).unwrap_or(u8::MAX);
    steps.min((generation.ilog2() as u8 + 1).clamp(4, DELTA_DEPTH_MAX))
}

/// Walks from a chunk to its older selves until one may serve a delta of this generation; `None` if there is no way back.
async fn ancestor(
    fetcher: &Fetcher,
    number: ChunkNumber,
    generation: u32,
) -> Result<Option<(ChunkId, Found)>, PackFailure> {
    let (target, depth_max) = (target(generation), depth_max(generation));
    let mut id = fetcher.with_index(|index| index.chunk(number).id);
    let mut depth_before = DELTA_DEPTH_MAX + 1;
    while let Some(found) = fetcher.with_index(|index| index.find_chunk(&id)) {
        let place = found.location.place;
        if u32::from(place.generation) <= target && place.depth < depth_max {
            return Ok(Some((id, found)));
        }
        // What is not shallower than what it serves is damage, and no way back.
        if place.depth == 0 || place.depth >= depth_before {
            break;
        }
        depth_before = place.depth;
        let (chains, reader) = fetcher.chains();
        let older = chains.entry(reader, &found, |entry| {
            let number = entry.chunks.iter().position(|chunk| chunk.id == id)?;
            entry.bases.get(usize::from(*entry.likes.get(number)?)).map(|base| base.id)
        });
        match older.await? {
            Some(older) => id = older,
            None => break,
        }
    }
    Ok(None)
}

/// A delta's bases, read back.
pub struct Bases {
    /// What the delta's entry will say.
    pub delta: Delta,
    /// The parts of the bases, back to back.
    pub prefix: Bytes,
    /// What compression alone made of those bases that are stored whole: so many bytes, of so many.
    pub whole: (u64, u64),
}

/// Reads bases back, and keeps the blobs that it decoded last: the next run's bases are mostly their neighbours.
pub struct BaseReader<'a> {
    fetcher: &'a Fetcher,
    blobs: Blobs,
    /// When each blob was used last.
    used: HashMap<BlobKey, u64>,
    /// Chunks of those blobs whose ids were found to be right.
    verified: HashSet<ChunkId>,
    batches_n: u64,
    /// What went wrong, each once.
    problems: HashSet<String>,
}

impl<'a> BaseReader<'a> {
    /// Creates a reader that has nothing yet.
    pub fn create(fetcher: &'a Fetcher) -> Self {
        BaseReader {
            fetcher,
            blobs: Blobs::default(),
            used: HashMap::new(),
            verified: HashSet::new(),
            batches_n: 0,
            problems: HashSet::new(),
        }
    }

    /// Returns what could not be read and did no harm: what should have become deltas was stored whole.
    pub fn into_problems(self) -> Vec<String> {
        self.problems.into_iter().collect()
    }

    /// Notes what could not be read, unless it is only that the cache does not have it.
    pub async fn note(&mut self, failure: &PackFailure) {
        if matches!(failure.error, Error::Damaged { .. }) {
            self.fetcher.reader().forget(failure.pack).await;
        }
        // A copy that is damaged is no problem of the repository.
        let is_told = !self.fetcher.reader().is_cache_alone();
        if is_told && !matches!(failure.error, Error::Missing { .. }) && self.problems.len() < 10 {
            self.problems.insert(format!("no delta against it: {}", failure.error));
        }
    }

    /// Reads the bases of several runs; `None` for those that have none, or whose bases can't be had.
    pub async fn read(&mut self, choices: Vec<Option<Choice>>) -> Vec<Option<Bases>> {
        let some: Vec<&Choice> = choices.iter().flatten().collect();
        let (mut prefixes, mut rest) = (VecDeque::new(), &some[..]);
        while !rest.is_empty() {
            self.batches_n += 1;
            let (group, others) = rest.split_at(self.fitting(rest).await);
            rest = others;
            match self.read_once(group).await {
                Ok(read) => prefixes.extend(read.into_iter().map(Some)),
                Err(_) => {
                    for choice in group {
                        prefixes.push_back(self.read_alone(choice).await);
                    }
                }
            }
            self.make_room();
        }
        let bases = choices.into_iter().map(|choice| {
            let choice = choice?;
            let prefix = prefixes.pop_front().flatten()?;
            let whole = choice.whole();
            Some(Bases { delta: choice.delta, prefix, whole })
        });
        bases.collect()
    }

    /// Returns how many of these choices can be read at once; at least one.
    async fn fitting(&mut self, choices: &[&Choice]) -> usize {
        let mut jobs = BTreeMap::new();
        for (number, choice) in choices.iter().enumerate() {
            // What fails alone fails again, and is told then.
            let closed = self.close(choice, &mut jobs).await;
            let bytes: usize = jobs.values().map(|job: &Job| job.found.location.place.plain_bytes as usize).sum();
            if number > 0 && (closed.is_err() || bytes > DELTA_READ_BYTES_TARGET) {
                return number;
            }
        }
        choices.len()
    }

    async fn read_alone(&mut self, choice: &Choice) -> Option<Bytes> {
        match self.read_once(&[choice]).await {
            Ok(mut prefixes) => prefixes.pop(),
            Err(failure) => {
                self.note(&failure).await;
                None
            }
        }
    }

    async fn read_once(&mut self, choices: &[&Choice]) -> Result<Vec<Bytes>, PackFailure> {
        let mut jobs = BTreeMap::new();
        for choice in choices {
            self.close(choice, &mut jobs).await?;
        }
        let bases = choices.iter().flat_map(|choice| choice.delta.bases.iter().map(|base| base.id).zip(&choice.found));
        let unverified = bases.filter(|(id, _)| !self.verified.contains(id));
        let unverified: HashMap<ChunkId, Found> = unverified.map(|(id, found)| (id, *found)).collect();
        let ids: Vec<ChunkId> = unverified.keys().copied().collect();
        let parts: Vec<Vec<Part>> = choices.iter().map(|choice| choice.parts()).collect();

        let sealed = chains::read_jobs(self.fetcher.reader(), jobs.into_values().collect()).await?;
        let repository = self.fetcher.repository();
        let (id, keys, mut blobs) = (repository.id(), Arc::clone(&repository.keys), std::mem::take(&mut self.blobs));
        let work = move || {
            let wanted: HashSet<BlobKey> = parts.iter().flatten().map(|part| part.blob).collect();
            let budget = Budget { wanted: &wanted, bytes: 2 * DELTA_READ_BYTES_TARGET };
            let decoded = chains::decode_jobs(Sealer { repository: id, keys: &keys }, sealed, &mut blobs, Some(budget));
            let prefixes = decoded.and_then(|()| verify(&keys, unverified, &blobs)).map(|()| {
                let prefix =
                    |parts: Vec<Part>| chains::prefix(&parts, &blobs).expect("the bases are there and verified");
                cpu::map(parts, prefix)
            });
            (blobs, prefixes)
        };
        let (blobs, prefixes) = repository.cpu.run(work).await;
        self.blobs = blobs;
        if prefixes.is_ok() {
            self.verified.extend(ids);
        }
        prefixes
    }

    /// Adds to `jobs` what the bases of a choice need and is not at hand.
    async fn close(&mut self, choice: &Choice, jobs: &mut BTreeMap<BlobKey, Job>) -> Result<(), PackFailure> {
        let (mut chain, mut chain_bytes) = (BTreeMap::new(), 0);
        for found in &choice.found {
            chain_bytes += chains::close(self.fetcher, *found, &mut |_| false, &mut chain).await?;
            // A reader must be able to hold all of a chain.
            if chain_bytes > DELTA_CHAIN_BYTES_TARGET {
                let why = "a chain would become too long".to_owned();
                return Err(PackFailure {
                    pack: found.info.id,
                    error: Error::Missing { object: found.blob_name(), why },
                });
            }
            let blobs = &self.blobs;
            chains::close(self.fetcher, *found, &mut |key| blobs.has(key), jobs).await?;
        }
        self.used.extend(chain.into_keys().map(|key| (key, self.batches_n)));
        Ok(())
    }

    /// Forgets the blobs that were used longest ago.
    fn make_room(&mut self) {
        self.used.retain(|key, _| self.blobs.has(key));
        let mut by_use: Vec<(u64, BlobKey)> = self.used.iter().map(|(key, used)| (*used, *key)).collect();
        by_use.sort_unstable();
        let mut bytes = self.blobs.bytes();
        for (_, key) in by_use {
            if bytes <= DELTA_BASES_CACHED_BYTES_MAX {
                break;
            }
            bytes -= self.blobs.remove(&key);
            // Read again, it is verified again.
            self.verified.clear();
        }
    }
}

impl Choice {
    fn whole(&self) -> (u64, u64) {
        let whole = self.found.iter().map(|base| base.location).filter(|location| location.place.depth == 0);
        whole.fold((0, 0), |(stored, plain), location| {
            (stored + u64::from(location.sealed_bytes), plain + u64::from(location.place.plain_bytes))
        })
    }

    fn parts(&self) -> Vec<Part> {
        let part = |(found, base): (&Found, &BaseEntry)| Part {
            blob: found.blob_key(),
            start: found.location.start + base.start,
            plain_bytes: base.plain_bytes,
        };
        self.found.iter().zip(&self.delta.bases).map(part).collect()
    }
}

/// Checks that bases are what their ids say: what is compressed against anything else is lost.
fn verify(keys: &Keys, bases: HashMap<ChunkId, Found>, blobs: &Blobs) -> Result<(), PackFailure> {
    let verified = cpu::map(bases.into_iter().collect(), |(id, found)| {
        let chunk = blobs.get(&found.blob_key()).and_then(|blob| cut(blob, &found.location));
        if chunk.is_some_and(|chunk| keys.chunk_id(&chunk) == id) {
            return Ok(());
        }
        let error = Error::damaged(format!("chunk {}", id.short()), "it does not hash to its id");
        Err(PackFailure { pack: found.info.id, error })
    });
    verified.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wanted of a parent's stream of ten chunks of so many bytes, by position.
    fn wanted(places: &[Option<usize>], moved: &[usize], chunk_bytes: usize) -> Vec<(usize, bool)> {
        let places: Vec<Option<Place>> = places.iter().map(|place| place.map(|position| (0, position))).collect();
        let moved: Vec<Place> = moved.iter().map(|position| (0, *position)).collect();
        let wants = wants(&places, &moved, |(_, position)| (position < 10).then_some(chunk_bytes as u32));
        wants.into_iter().map(|((_, position), want)| (position, want == Want::Like)).collect()
    }

    #[test]
    fn what_lies_beside_is_wanted_where_cuts_have_moved_and_only_if_there_is_room() {
        assert_eq!(wanted(&[Some(3), None, Some(6)], &[], 1000), [(3, true), (6, true)]);
        assert_eq!(wanted(&[Some(3), None, Some(6)], &[6], 1000), [(3, true), (5, false), (6, true), (7, false)]);
        // A neighbour that is an older self stays that, and the stream has ends.
        assert_eq!(wanted(&[Some(0), Some(1)], &[0, 1], 1000), [(0, true), (1, true), (2, false)]);
        assert_eq!(wanted(&[Some(9)], &[9], 1000), [(8, false), (9, true)]);
        // Older selves come first, in their order, and the first whatever its length.
        let half = DELTA_PREFIX_BYTES_TARGET / 2;
        assert_eq!(wanted(&[Some(2), Some(6)], &[2, 6], half), [(2, true), (6, true)]);
        assert_eq!(wanted(&[Some(2), Some(6)], &[2], half + 1), [(2, true)]);
    }
}
