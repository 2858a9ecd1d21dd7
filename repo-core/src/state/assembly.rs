//! Gives chunks back in order: plans ahead which blobs are needed, bases included, reads them in few requests, decodes each
//! once, and checks every chunk's id.
//!
//! A stream is read in *windows* of some MiB of plaintext. A blob that several windows need, as a base or for its own chunks,
//! is read and decoded in the first of them and held until the last; that is known because windows are planned well before
//! they are read, from the manifest and the index alone. What is held is bounded: a blob that would be too much is read
//! again later instead.

use super::chains::{self, Blobs, Job, NO_PACK, PackFailure, SealedJob};
use super::fetch::{Fetcher, cut};
use super::index::{BlobKey, Found};
use crate::crafts::crypto::keys::Keys;
use crate::edges::cpu;
use crate::format::node::LeafEntry;
use crate::format::record::Sealer;
use crate::words::error::{Error, Result};
use crate::words::limits::{RESTORE_HELD_BYTES_MAX, RESTORE_WINDOW_BYTES, RESTORE_WINDOWS_PLANNED};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A chunk that is wanted, and where it lies.
pub type Wanted = (LeafEntry, Found);

/// Chunks that follow one another, and the blobs that are to be read for them.
#[derive(Debug, Default)]
pub struct Window {
    /// Blobs to read and decode.
    jobs: BTreeMap<BlobKey, Job>,
    /// Blobs that no later window needs.
    releases: HashSet<BlobKey>,
    /// The chunks in order.
    chunks: Vec<Wanted>,
    /// Why its chunk can't be had where the index says; there is only one then.
    failure: Option<PackFailure>,
}

impl Window {
    /// Returns how many bytes of packs are read for it.
    pub fn bytes_to_read(&self) -> usize {
        let reads = chains::reads(self.jobs.values().map(|job| job.found).collect());
        reads.iter().map(|(_, bytes)| *bytes as usize).sum()
    }

    /// Returns its chunks, in order.
    pub fn chunks(&self) -> &[Wanted] {
        &self.chunks
    }
}

/// Plans windows ahead of their reading.
pub struct Planner {
    /// Plaintext of blobs that is held for later windows, at most.
    held_bytes_max: usize,
    /// Windows that are planned and not yet taken.
    queue: VecDeque<Planned>,
    taken_n: usize,
    /// What planned windows decode, until the last of them that needs it is taken.
    held: HashMap<BlobKey, Held>,
}

#[derive(Default)]
struct Planned {
    window: Window,
    /// Plaintext that is held beyond the end of this window.
    held_bytes: usize,
}

#[derive(Clone, Copy)]
struct Held {
    /// Number of the last window that needs it; not yet taken.
    until: usize,
    plain_bytes: usize,
}

impl Planner {
    /// Creates a planner that holds so many bytes of blobs for later windows, at most.
    pub fn holding(held_bytes_max: usize) -> Self {
        Planner { held_bytes_max, queue: VecDeque::new(), taken_n: 0, held: HashMap::new() }
    }

    /// Returns whether more windows should be planned before the next one is taken.
    pub fn wants_more(&self) -> bool {
        self.queue.len() < RESTORE_WINDOWS_PLANNED
    }

    /// Takes the next window; `None` if none is planned.
    pub fn take(&mut self) -> Option<Window> {
        let Planned { window, .. } = self.queue.pop_front()?;
        for key in &window.releases {
            self.held.remove(key);
        }
        self.taken_n += 1;
        Some(window)
    }

    /// Plans a window of chunks off the front of `chunks`, as many as fit; at least one. Damage is in the window.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn plan(&mut self, fetcher: &Fetcher, chunks: &mut VecDeque<Wanted>) -> Result<()> {
        let number = self.taken_n + self.queue.len();
        let (mut window, mut plain_bytes, mut reused, mut reused_bytes) = (Window::default(), 0, HashSet::new(), 0);
        for (entry, found) in chunks.iter() {
            let (mut jobs, mut reused_now) = (BTreeMap::new(), Vec::new());
            let mut has = |key: &BlobKey| {
                if window.jobs.contains_key(key) || reused.contains(key) {
                    return true;
                }
                let held_bytes = self.can_hold(key, number, reused_bytes);
                reused_bytes += held_bytes.unwrap_or_default();
                reused_now.extend(held_bytes.map(|_| *key));
                held_bytes.is_some()
            };
            let closed = match check_length(entry, found) {
                Ok(()) => chains::close(fetcher, *found, &mut has, &mut jobs).await,
                Err(failure) => Err(failure),
            };
            let more_bytes = match closed {
                Ok(more_bytes) => more_bytes,
                Err(failure) if !failure.error.is_damage() => return Err(failure.error),
                Err(_) if !window.chunks.is_empty() => break,
                Err(failure) => {
                    window.chunks.push((*entry, *found));
                    window.failure = Some(failure);
                    break;
                }
            };
            if plain_bytes + more_bytes > RESTORE_WINDOW_BYTES && !window.chunks.is_empty() {
                break;
            }
            plain_bytes += more_bytes;
            window.jobs.append(&mut jobs);
            reused.extend(reused_now);
            window.chunks.push((*entry, *found));
        }
        chunks.drain(..window.chunks.len());
        for (key, job) in &window.jobs {
            let plain_bytes = job.found.location.place.plain_bytes as usize;
            self.held.insert(*key, Held { until: number, plain_bytes });
        }
        window.releases.extend(window.jobs.keys());
        self.queue.push_back(Planned { window, held_bytes: 0 });
        reused.into_iter().for_each(|key| self.hold(key, number));
        Ok(())
    }

    /// Returns the length of a blob that an earlier window decodes and that may be held until the window of this number,
    /// besides so many bytes more.
    fn can_hold(&self, key: &BlobKey, number: usize, besides_bytes: usize) -> Option<usize> {
        let fits = |held: &&Held| {
            let more_bytes = besides_bytes + held.plain_bytes;
            let mut between = self.queue.range(held.until - self.taken_n..number - self.taken_n);
            between.all(|planned| planned.held_bytes + more_bytes <= self.held_bytes_max)
        };
        self.held.get(key).filter(fits).map(|held| held.plain_bytes)
    }

    /// Holds a blob until the window of this number.
    fn hold(&mut self, key: BlobKey, number: usize) {
        let Some(held) = self.held.get(&key).copied() else { return };
        self.queue[held.until - self.taken_n].window.releases.remove(&key);
        for planned in self.queue.range_mut(held.until - self.taken_n..number - self.taken_n) {
            planned.held_bytes += held.plain_bytes;
        }
        self.queue[number - self.taken_n].window.releases.insert(key);
        self.held.insert(key, Held { until: number, ..held });
    }
}

fn check_length(entry: &LeafEntry, found: &Found) -> Result<(), PackFailure> {
    if found.location.plain_bytes == entry.plain_bytes {
        return Ok(());
    }
    let why = format!("it has {} bytes, and {} in the manifest", found.location.plain_bytes, entry.plain_bytes);
    Err(PackFailure { pack: found.info.id, error: Error::damaged(format!("chunk {}", entry.id.short()), why) })
}

/// A window whose blobs were read, or why they could not be.
pub struct ReadWindow {
    releases: HashSet<BlobKey>,
    chunks: Vec<Wanted>,
    sealed: Result<Vec<SealedJob>, PackFailure>,
}

/// Reads the blobs of a window. A failure is in the result: the window may yet be had elsewhere.
pub async fn read(fetcher: &Fetcher, window: Window) -> ReadWindow {
    let Window { jobs, releases, chunks, failure } = window;
    let sealed = match failure {
        None => chains::read_jobs(fetcher.reader(), jobs.into_values().collect()).await,
        Some(failure) => Err(failure),
    };
    ReadWindow { releases, chunks, sealed }
}

/// Decodes windows in order, and holds what later ones need.
#[derive(Default)]
pub struct Assembly {
    blobs: Blobs,
}

impl Assembly {
    /// Returns the bytes of a window's chunks in order, every chunk verified. Where a pack is gone or damaged, takes the
    /// chunks from elsewhere if they are there.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`].
    pub async fn decode(&mut self, fetcher: &Fetcher, window: ReadWindow) -> Result<Vec<Bytes>> {
        let entries = window.chunks.iter().map(|(entry, _)| *entry).collect();
        match self.decode_only(fetcher, window).await? {
            Ok(pieces) => Ok(pieces),
            Err(failure) => fetch_elsewhere(fetcher, entries, failure).await,
        }
    }

    /// As [`Assembly::decode`], but takes no chunk from elsewhere: damage is in the result.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn decode_only(
        &mut self,
        fetcher: &Fetcher,
        window: ReadWindow,
    ) -> Result<Result<Vec<Bytes>, PackFailure>> {
        let ReadWindow { releases, chunks, sealed } = window;
        let decoded = match sealed {
            Ok(sealed) => self.decode_once(fetcher, sealed, chunks).await,
            Err(failure) => Err(failure),
        };
        self.blobs.retain(|key| !releases.contains(key));
        match decoded {
            Err(failure) if !failure.error.is_damage() => Err(failure.error),
            decoded => Ok(decoded),
        }
    }

    async fn decode_once(
        &mut self,
        fetcher: &Fetcher,
        sealed: Vec<SealedJob>,
        chunks: Vec<Wanted>,
    ) -> Result<Vec<Bytes>, PackFailure> {
        let repository = fetcher.repository();
        let (id, keys, mut blobs) = (repository.id(), Arc::clone(&repository.keys), std::mem::take(&mut self.blobs));
        let work = move || {
            let sealer = Sealer { repository: id, keys: &keys };
            let decoded = chains::decode_jobs(sealer, sealed, &mut blobs, None);
            let pieces = decoded.and_then(|()| cut_chunks(&keys, chunks, &blobs));
            (blobs, pieces)
        };
        let (blobs, pieces) = repository.cpu.run(work).await;
        self.blobs = blobs;
        pieces
    }
}

/// Cuts chunks out of their blobs and checks their ids.
fn cut_chunks(keys: &Keys, chunks: Vec<Wanted>, blobs: &Blobs) -> Result<Vec<Bytes>, PackFailure> {
    let pieces = cpu::map(chunks, |(entry, found)| {
        let damaged = |why| {
            let error = Error::damaged(format!("chunk {}", entry.id.short()), why);
            PackFailure { pack: found.info.id, error }
        };
        // An earlier window that failed has not decoded what it was to hold.
        let blob = blobs.get(&found.blob_key()).ok_or_else(|| damaged("its blob was not read"))?;
        let piece = cut(blob, &found.location).ok_or_else(|| damaged("it is cut off"))?;
        if keys.chunk_id(&piece) != entry.id {
            return Err(damaged("it does not hash to its id"));
        }
        Ok(piece)
    });
    pieces.into_iter().collect()
}

/// Fetches chunks again, wherever they are found now, each pack that fails avoided from then on; ends with the failure
/// when there is no other place.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`].
async fn fetch_elsewhere(
    fetcher: &Fetcher,
    mut entries: VecDeque<LeafEntry>,
    first: PackFailure,
) -> Result<Vec<Bytes>> {
    let (mut tried, mut pieces) = (HashSet::new(), Vec::new());
    while !entries.is_empty() {
        match fetch_alone(fetcher, &entries).await {
            Ok(more) => {
                entries.drain(..more.len());
                pieces.extend(more);
            }
            Err(again) if again.pack == NO_PACK => {
                return Err(if again.error.is_damage() { first.error } else { again.error });
            }
            Err(again) if again.error.is_damage() && fetcher.avoid(again.pack, &mut tried).await? => {}
            Err(again) => return Err(again.error),
        }
    }
    Ok(pieces)
}

/// Fetches the first of these chunks, as many as fit into one window, with all that their chains need.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`], with the pack.
async fn fetch_alone(fetcher: &Fetcher, entries: &VecDeque<LeafEntry>) -> Result<Vec<Bytes>, PackFailure> {
    let no_pack = |error| PackFailure { pack: NO_PACK, error };
    let mut chunks = VecDeque::with_capacity(entries.len());
    for entry in entries {
        chunks.push_back((*entry, fetcher.locate(&entry.id, "chunk").await.map_err(no_pack)?));
    }
    fetch_window(fetcher, &mut chunks).await
}

/// Takes chunks off the front, as many as fit into one window, and fetches them with all that their chains need.
///
/// # Errors
/// As [`Assembly::decode`], with the pack; nothing is tried twice.
pub async fn fetch_window(fetcher: &Fetcher, chunks: &mut VecDeque<Wanted>) -> Result<Vec<Bytes>, PackFailure> {
    let mut planner = Planner::holding(RESTORE_HELD_BYTES_MAX);
    let no_pack = |error| PackFailure { pack: NO_PACK, error };
    planner.plan(fetcher, chunks).await.map_err(no_pack)?;
    let window = planner.take().expect("one was planned");
    let ReadWindow { chunks, sealed, .. } = read(fetcher, window).await;
    Assembly::default().decode_once(fetcher, sealed?, chunks).await
}
