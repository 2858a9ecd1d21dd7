//! Takes chunks out of packs and puts them into new ones, of the same repository or of another that names them alike.
//!
//! What is to make one blob is a [`Unit`]; units whose blobs, with all that those need, fit into memory at once are a
//! [`Window`]. All of it is planned from a [`Census`] alone, so that the cost is known before anything is read.

use super::bases::Bases;
use super::census::Census;
use super::chains::{self, Blobs, Chains, Find, Job, NO_PACK, PackFailure, Part, SealedJob};
use super::fetch::cut;
use super::index::{BlobKey, ChunkNumber, Found, Index};
use super::mark;
use super::packer::{Packer, Piece, Run, Stored};
use super::reader::PackReader;
use super::repository::Repository;
use crate::crafts::buffers::Buffers;
use crate::crafts::compress::Compression;
use crate::crafts::crypto::keys::Keys;
use crate::edges::progress::Progress;
use crate::format::contents::{BlobEntry, ChunkEntry, NO_LIKE};
use crate::format::names::PackKind;
use crate::format::pack::{Delta, EncodedBlob, PackContents, PackOpener};
use crate::format::record::Sealer;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use crate::words::limits::{BLOB_CHUNKS_MAX, BLOB_PLAIN_BYTES_TARGET, RESTORE_WINDOW_BYTES, RESTORE_WINDOWS_AHEAD};
use futures::future::try_join;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How chunks become a new blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Compressed alone.
    Whole,
    /// Compressed against the same bases as in this blob, a delta.
    Delta(usize),
    /// This blob, all of it, is sealed again as it was encoded.
    AsItIs(usize),
}

/// Chunks that will make one blob.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The kind of pack.
    pub kind: PackKind,
    /// How they become a blob.
    pub how: How,
    /// The chunks, in order.
    pub chunks: Vec<ChunkNumber>,
}

/// Groups chunks that follow one another into blobs that are stored whole.
pub fn whole_units(census: &Census, kind: PackKind, chunks: Vec<ChunkNumber>) -> Vec<Unit> {
    let (mut units, mut unit, mut bytes) = (Vec::new(), Vec::new(), 0);
    for number in chunks {
        let more = census.index().chunk(number).plain_bytes as usize;
        if !unit.is_empty() && (bytes + more > BLOB_PLAIN_BYTES_TARGET || unit.len() == BLOB_CHUNKS_MAX) {
            units.push(Unit { kind, how: How::Whole, chunks: std::mem::take(&mut unit) });
            bytes = 0;
        }
        bytes += more;
        unit.push(number);
    }
    if !unit.is_empty() {
        units.push(Unit { kind, how: How::Whole, chunks: unit });
    }
    units
}

/// Units that are read together, and every blob that is read for them.
pub struct Window {
    units: Vec<Unit>,
    /// Blobs to decode.
    blobs: HashSet<usize>,
    /// Blobs that move as they are.
    moved: Vec<usize>,
}

/// Groups units so that the blobs that each group needs fit into a window; one alone may be more. What one of the last `held_n`
/// windows needs is not needed again: only with none can every window be decoded for itself.
pub fn windows(census: &Census, units: Vec<Unit>, held_n: usize) -> Vec<Window> {
    let index = census.index();
    let (mut windows, mut bytes): (Vec<Window>, usize) = (Vec::new(), 0);
    for unit in units {
        let needed = |known: &[Window]| {
            needed_blobs(census, &unit, |blob| known.iter().any(|window| window.blobs.contains(&blob)))
        };
        let last_n = |n: usize| &windows[windows.len().saturating_sub(n)..];
        let moved = match unit.how {
            How::AsItIs(blob) => Some(blob),
            How::Whole | How::Delta(_) => None,
        };
        let moved_bytes = moved.map_or(0, |blob| index.blob(blob).sealed_bytes as usize);
        let more = needed(last_n(1 + held_n));
        let more_bytes = plain_bytes(census, &more) + moved_bytes;
        let fits = |window: &Window| window.units[0].kind == unit.kind && bytes + more_bytes <= RESTORE_WINDOW_BYTES;
        let alone = (!windows.last().is_some_and(fits)).then(|| needed(last_n(held_n)));
        match (windows.last_mut(), alone) {
            (Some(window), None) => {
                bytes += more_bytes;
                window.units.push(unit);
                window.blobs.extend(more);
                window.moved.extend(moved);
            }
            (_, alone) => {
                let blobs = alone.unwrap_or_default();
                bytes = plain_bytes(census, &blobs) + moved_bytes;
                windows.push(Window { units: vec![unit], blobs, moved: moved.into_iter().collect() });
            }
        }
    }
    windows
}

fn plain_bytes(census: &Census, blobs: &HashSet<usize>) -> usize {
    blobs.iter().map(|blob| census.index().blob(*blob).place.plain_bytes as usize).sum()
}

/// Returns the blobs that must be decoded for a unit, with all that their chains need, but for those that are known.
fn needed_blobs(census: &Census, unit: &Unit, is_known: impl Fn(usize) -> bool) -> HashSet<usize> {
    let (index, mut blobs) = (census.index(), HashSet::new());
    if let How::AsItIs(_) = unit.how {
        return blobs;
    }
    let mut pending: Vec<usize> = unit.chunks.iter().map(|number| index.blob_number(*number)).collect();
    while let Some(blob) = pending.pop() {
        if !is_known(blob) && blobs.insert(blob) {
            pending.extend(census.bases(blob).flatten().map(|base| index.blob_number(base)));
        }
    }
    blobs
}

/// What reading packs takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Requests.
    pub requests_n: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Returns what reading these windows takes of each pack, the trailers of those with deltas included.
pub fn cost(census: &Census, windows: &[Window]) -> BTreeMap<(PackKind, PackId), ReadCost> {
    let index = census.index();
    let mut costs: BTreeMap<(PackKind, PackId), ReadCost> = BTreeMap::new();
    let mut trailers = HashSet::new();
    for window in windows {
        let blobs = || window.blobs.iter().chain(&window.moved).map(|blob| index.find_blob(*blob));
        for (info, bytes) in chains::reads(blobs().collect()) {
            let cost = costs.entry((info.kind, info.id)).or_default();
            cost.requests_n += 1;
            cost.bytes += bytes;
        }
        for found in blobs().filter(|found| found.location.place.depth > 0) {
            if trailers.insert(found.info.id) {
                let cost = costs.entry((found.info.kind, found.info.id)).or_default();
                cost.requests_n += 1;
                cost.bytes += found.info.bytes - found.trailer_start;
            }
        }
    }
    costs
}

/// Finds chunks in a census.
struct Finder<'a> {
    census: &'a Census,
    chains: Chains,
    reader: &'a PackReader,
}

impl Find for Finder<'_> {
    async fn find(&self, id: &ChunkId) -> Result<Found> {
        let number = mark::find(self.census.index(), id, "chunk")?;
        Ok(self.census.index().find_numbered(number).expect("it has a number"))
    }

    fn chains(&self) -> (&Chains, &PackReader) {
        (&self.chains, self.reader)
    }
}

/// Why something was not packed anew.
#[derive(Debug)]
pub enum RepackError {
    /// A pack that was read is not what it should be, or is not there.
    Source(PackFailure),
    /// Anything else.
    Other(Error),
}

impl RepackError {
    /// Returns the error, without the pack.
    pub fn into_error(self) -> Error {
        match self {
            RepackError::Source(PackFailure { error, .. }) | RepackError::Other(error) => error,
        }
    }
}

/// Reads windows, and packs their units anew in `to`: data packs first. Each pack is sent to `stored` when it is there.
/// Returns what was stored in data packs and in meta packs.
///
/// # Errors
/// [`RepackError::Source`]: what is needed can't be read. [`RepackError::Other`]: the store of `to`.
pub async fn perform(
    (reader, census): (&PackReader, &Census),
    to: &Repository,
    windows: Vec<Window>,
    compression: Compression,
    progress: &dyn Progress,
    stored: mpsc::UnboundedSender<PackContents>,
) -> Result<(Stored, Stored), RepackError> {
    let mut sums = (Stored::default(), Stored::default());
    let (data, meta): (Vec<_>, Vec<_>) = windows.into_iter().partition(|window| window.units[0].kind == PackKind::Data);
    for (kind, windows) in [(PackKind::Data, data), (PackKind::Meta, meta)] {
        if windows.is_empty() {
            continue;
        }
        let (sender, pieces) = mpsc::channel(1);
        let finder = Finder { census, chains: Chains::default(), reader };
        let read = async {
            let sender = sender;
            let reads = stream::iter(windows).map(|window| read_window(&finder, window, kind));
            let mut reads = reads.buffered(RESTORE_WINDOWS_AHEAD).boxed();
            while let Some(pieces) = reads.try_next().await.map_err(RepackError::Source)? {
                for piece in pieces {
                    // The packer only goes away with an error of its own, which ends both.
                    if sender.send(piece).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let packer = Packer { repository: to, progress, kind, compression, buffers: Buffers::default() };
        let pack = async { packer.run(pieces, stored.clone()).await.map_err(RepackError::Other) };
        let ((), sum) = try_join(read, pack).await?;
        match kind {
            PackKind::Data => sums.0 = sum,
            PackKind::Meta => sums.1 = sum,
        }
    }
    Ok(sums)
}

/// What a unit's blob is made of.
enum Plan {
    /// A blob of that number in its pack, as it is.
    Moved(BlobKey, usize, BlobEntry),
    /// Chunks with their places; and of a delta what its entry says and what its prefix is made of.
    Run(Vec<(ChunkEntry, Found)>, Option<(BlobEntry, Vec<Part>)>),
}

async fn read_window(finder: &Finder<'_>, window: Window, kind: PackKind) -> Result<Vec<Piece>, PackFailure> {
    let (index, reader) = (finder.census.index(), finder.reader);
    let mut jobs: BTreeMap<BlobKey, Job> = BTreeMap::new();
    for blob in &window.blobs {
        chains::close(finder, index.find_blob(*blob), &mut |_| false, &mut jobs).await?;
    }
    let mut plans = Vec::with_capacity(window.units.len());
    for unit in &window.units {
        plans.push(plan(finder, unit, &jobs).await?);
    }
    let moved = window.moved.iter().map(|blob| Job { found: index.find_blob(*blob), prefix: Vec::new() }).collect();
    let reads = try_join(chains::read_jobs(reader, jobs.into_values().collect()), chains::read_jobs(reader, moved));
    let (sealed, moved) = reads.await?;
    let repository = reader.repository();
    let (id, keys) = (repository.id(), Arc::clone(&repository.keys));
    let work = move || {
        let sealer = Sealer { repository: id, keys: &keys };
        let mut blobs = Blobs::default();
        chains::decode_jobs(sealer, sealed, &mut blobs, None)?;
        let moved: HashMap<BlobKey, SealedJob> = moved.into_iter().map(|job| (job.job.found.blob_key(), job)).collect();
        let piece = |plan: Plan| match plan {
            Plan::Moved(key, number, entry) => take_out(sealer, &moved[&key], number, entry).map(Piece::AsItIs),
            Plan::Run(chunks, delta) => run((kind, &keys), chunks, delta, &blobs).map(Piece::Anew),
        };
        plans.into_iter().map(piece).collect()
    };
    repository.cpu.run(work).await
}

async fn plan(finder: &Finder<'_>, unit: &Unit, jobs: &BTreeMap<BlobKey, Job>) -> Result<Plan, PackFailure> {
    let index = finder.census.index();
    let entry = async |blob: usize| {
        let found = index.find_blob(blob);
        finder.chains.entry(finder.reader, &found, Clone::clone).await
    };
    let chunk = |number: &ChunkNumber| (*index.chunk(*number), index.find_numbered(*number).expect("it is placed"));
    let chunks = || unit.chunks.iter().map(chunk).collect();
    Ok(match unit.how {
        How::Whole => Plan::Run(chunks(), None),
        How::Delta(blob) => {
            let prefix = jobs[&index.find_blob(blob).blob_key()].prefix.clone();
            Plan::Run(chunks(), Some((entry(blob).await?, prefix)))
        }
        How::AsItIs(blob) => {
            let found = index.find_blob(blob);
            let entry = match found.location.place.depth {
                0 => whole_entry(index, blob),
                _ => entry(blob).await?,
            };
            Plan::Moved(found.blob_key(), found.location.blob as usize, entry)
        }
    })
}

/// Returns the entry of a blob that is stored whole: the index has all of it.
fn whole_entry(index: &Index, blob: usize) -> BlobEntry {
    let view = index.blob(blob);
    BlobEntry {
        sealed_bytes: view.sealed_bytes,
        plain_bytes: view.place.plain_bytes,
        encoding: view.place.encoding,
        depth: 0,
        generation: 0,
        chunks: view.entries.map(|entry| *index.chunk(ChunkNumber(entry))).collect(),
        bases: Vec::new(),
        likes: Vec::new(),
    }
}

/// Takes a blob out of its seal.
fn take_out(
    sealer: Sealer<'_>,
    SealedJob { job, sealed }: &SealedJob,
    number: usize,
    entry: BlobEntry,
) -> Result<EncodedBlob, PackFailure> {
    let info = job.found.info;
    let failed = |error| PackFailure { pack: info.id, error };
    let encoded = PackOpener::new(sealer, info).and_then(|opener| opener.open_seal(number, sealed)).map_err(failed)?;
    let BlobEntry { encoding, plain_bytes, depth, generation, chunks, bases, likes, .. } = entry;
    let delta = (depth > 0).then_some(Delta { depth, generation, bases, likes });
    Ok(EncodedBlob { encoding, encoded, plain_bytes, chunks, delta })
}

/// Gathers chunks out of decoded blobs, each verified.
fn run(
    (kind, keys): (PackKind, &Keys),
    chunks: Vec<(ChunkEntry, Found)>,
    delta: Option<(BlobEntry, Vec<Part>)>,
    blobs: &Blobs,
) -> Result<Run, PackFailure> {
    let mut run = Run::default();
    for (entry, found) in &chunks {
        let damaged = |why| {
            let error = Error::damaged(format!("chunk {}", entry.id.short()), why);
            PackFailure { pack: found.info.id, error }
        };
        let chunk = blobs.get(&found.blob_key()).and_then(|blob| cut(blob, &found.location));
        let chunk = chunk.ok_or_else(|| damaged("it is cut off"))?;
        if kind.chunk_id(keys, &chunk) != entry.id {
            return Err(damaged("it does not hash to its id"));
        }
        run.plain.extend_from_slice(&chunk);
        run.chunks.push(*entry);
    }
    if let Some((entry, parts)) = delta {
        let like = |(chunk, _): &(ChunkEntry, Found)| {
            let place = entry.chunks.iter().position(|other| other.id == chunk.id);
            place.map_or(NO_LIKE, |place| entry.likes[place])
        };
        let likes = chunks.iter().map(like).collect();
        let prefix = chains::prefix(&parts, blobs).ok_or_else(|| {
            let pack = chunks.first().map_or(NO_PACK, |(_, found)| found.info.id);
            PackFailure { pack, error: Error::damaged("a delta", "its bases do not reach as far as it says") }
        })?;
        let BlobEntry { depth, generation, bases, .. } = entry;
        run.bases = Some(Bases { delta: Delta { depth, generation, bases, likes }, prefix, whole: (0, 0) });
    }
    Ok(run)
}
