//! Chains of deltas: which bases a blob needs, and theirs, down to blobs that are stored whole.
//!
//! The index does not keep bases, they would double it. They are read from the trailers of the packs that hold deltas,
//! one request a pack, and the trailers read last are kept.

use super::index::{BlobKey, Found};
use super::loader;
use super::reader::PackReader;
use crate::crafts::buffers::Buffers;
use crate::crafts::compress::{Decompressor, Encoding};
use crate::edges::cpu;
use crate::format::contents::{BaseEntry, BlobEntry};
use crate::format::pack::{PackContents, PackInfo, PackOpener, TAIL_BYTES};
use crate::format::record::Sealer;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use crate::words::limits::{
    COALESCE_GAP_BYTES, COALESCED_BYTES_MAX, DELTA_CHAIN_BYTES_MAX, DELTA_ENTRIES_CACHED_MAX, READS_MAX,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// A pack that could not be read, and why.
#[derive(Debug)]
pub struct PackFailure {
    /// The pack.
    pub pack: PackId,
    /// What went wrong.
    pub error: Error,
}

/// Stands for the pack of a failure that no pack is to blame for.
pub const NO_PACK: PackId = PackId([0; 32]);

/// The entries of one pack's deltas, by the blobs' numbers.
type PackDeltas = HashMap<u32, BlobEntry>;

/// The entries of deltas that were used last.
#[derive(Default)]
pub struct Chains(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    packs: HashMap<PackId, CachedPack>,
    entries_n: usize,
    uses_n: u64,
}

struct CachedPack {
    deltas: Arc<PackDeltas>,
    entries_n: usize,
    used: u64,
}

impl Chains {
    /// Calls `read` with a delta's entry.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Missing`], [`Error::Store`]: the trailer can't be read, or says something else than the
    /// index.
    pub async fn entry<T>(
        &self,
        reader: &PackReader,
        found: &Found,
        read: impl FnOnce(&BlobEntry) -> T,
    ) -> Result<T, PackFailure> {
        let pack = found.info.id;
        let failed = |error| PackFailure { pack, error };
        let deltas = match self.cached(pack) {
            Some(deltas) => deltas,
            None => {
                let deltas = Arc::new(read_deltas(reader, found).await.map_err(failed)?);
                self.keep(pack, &deltas);
                deltas
            }
        };
        let entry = deltas.get(&found.location.blob).filter(|entry| entry.sealed_bytes == found.location.sealed_bytes);
        entry.map(read).ok_or_else(|| failed(Error::damaged(found.blob_name(), "its trailer knows of no such delta")))
    }

    fn cached(&self, pack: PackId) -> Option<Arc<PackDeltas>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.uses_n += 1;
        let uses_n = cached.uses_n;
        let there = cached.packs.get_mut(&pack)?;
        there.used = uses_n;
        Some(Arc::clone(&there.deltas))
    }

    /// Keeps a pack's entries; those that were used longest ago make room.
    fn keep(&self, pack: PackId, deltas: &Arc<PackDeltas>) {
        let entries_n = deltas.values().map(|entry| entry.chunks.len() + entry.bases.len()).sum();
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while cached.entries_n + entries_n > DELTA_ENTRIES_CACHED_MAX {
            let Some(oldest) = cached.packs.iter().min_by_key(|(_, pack)| pack.used).map(|(id, _)| *id) else { break };
            cached.entries_n -= cached.packs.remove(&oldest).map_or(0, |pack| pack.entries_n);
        }
        let used = cached.uses_n;
        cached.entries_n += entries_n;
        if let Some(before) = cached.packs.insert(pack, CachedPack { deltas: Arc::clone(deltas), entries_n, used }) {
            cached.entries_n -= before.entries_n;
        }
    }
}

/// Reads the entries out of the pack's own trailer, or, where that is damaged, out of the index.
async fn read_deltas(reader: &PackReader, found: &Found) -> Result<PackDeltas> {
    let contents = match read_trailer(reader, found).await {
        Err(error @ Error::Damaged { .. }) => {
            loader::listed_blobs(reader.repository(), found.info.id).await?.ok_or(error)?
        }
        contents => contents?,
    };
    let deltas = (0..).zip(contents.blobs).filter(|(_, blob)| blob.encoding == Encoding::ZstdPrefix);
    Ok(deltas.collect())
}

async fn read_trailer(reader: &PackReader, found: &Found) -> Result<PackContents> {
    let info = found.info;
    let end = info.bytes.saturating_sub(TAIL_BYTES as u64).max(found.trailer_start);
    let sealed = reader.read(&info, found.trailer_start..end).await?;
    PackOpener::new(reader.repository().sealer(), info)?.open_trailer(&sealed)
}

/// A blob to be read and decoded.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it lies, by one of its chunks.
    pub found: Found,
    /// What its prefix is made of; nothing for a blob that is stored whole.
    pub prefix: Vec<Part>,
}

/// A part of a blob's plaintext.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The blob.
    pub blob: BlobKey,
    /// Where the part starts.
    pub start: u32,
    /// Its length.
    pub plain_bytes: u32,
}

/// Finds chunks, and the bases of deltas.
pub trait Find: Sync {
    /// Returns where a chunk lies.
    fn find(&self, id: &ChunkId) -> impl Future<Output = Result<Found>> + Send;
    /// Returns where entries of deltas come from.
    fn chains(&self) -> (&Chains, &PackReader);
}

/// Adds to `jobs` the blob of a chunk and all that its chain needs, but for blobs that `has` knows of; returns the length
/// of the plaintext that this adds.
///
/// A chain that can't be is damage: a base that is shorter than the part that is named, or more plaintext than any chain may
/// need. That it goes in a circle is found when it is decoded.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Missing`], [`Error::Store`], with the pack that names what is not there.
pub async fn close(
    finder: &impl Find,
    found: Found,
    has: &mut (impl FnMut(&BlobKey) -> bool + Send),
    jobs: &mut BTreeMap<BlobKey, Job>,
) -> Result<usize, PackFailure> {
    let (mut pending, mut plain_bytes) = (vec![found], 0);
    while let Some(found) = pending.pop() {
        let key = found.blob_key();
        if jobs.contains_key(&key) || has(&key) {
            continue;
        }
        plain_bytes += found.location.place.plain_bytes as usize;
        if plain_bytes > DELTA_CHAIN_BYTES_MAX {
            let why = format!("a chain that it is part of needs more than {DELTA_CHAIN_BYTES_MAX} bytes");
            return Err(PackFailure { pack: found.info.id, error: Error::damaged(found.blob_name(), why) });
        }
        let mut prefix = Vec::new();
        if found.location.place.encoding == Encoding::ZstdPrefix {
            for (base, part) in bases(finder, &found).await? {
                pending.push(base);
                prefix.push(part);
            }
        }
        jobs.insert(key, Job { found, prefix });
    }
    Ok(plain_bytes)
}

/// Returns where the bases of a delta lie, and what of them serves.
async fn bases(finder: &impl Find, found: &Found) -> Result<Vec<(Found, Part)>, PackFailure> {
    let entries = base_entries(finder, found).await?;
    let mut bases = Vec::with_capacity(entries.len());
    for entry in entries {
        let base = finder.find(&entry.id).await.map_err(|error| {
            let error = match error {
                Error::Missing { object, why } => {
                    Error::Missing { object, why: format!("{} was compressed against it: {why}", found.blob_name()) }
                }
                other => other,
            };
            PackFailure { pack: found.info.id, error }
        })?;
        check_base(found, &entry, &base)?;
        let start = base.location.start + entry.start;
        bases.push((base, Part { blob: base.blob_key(), start, plain_bytes: entry.plain_bytes }));
    }
    Ok(bases)
}

/// Returns what a delta's entry says of its bases.
///
/// # Errors
/// As [`Chains::entry`].
pub async fn base_entries(finder: &impl Find, found: &Found) -> Result<Vec<BaseEntry>, PackFailure> {
    let (chains, reader) = finder.chains();
    chains.entry(reader, found, |entry| entry.bases.clone()).await
}

/// Checks that a chunk, where it lies, is as long as the part of it that a delta names.
///
/// # Errors
/// [`Error::Damaged`], with the delta's pack.
pub fn check_base(found: &Found, entry: &BaseEntry, base: &Found) -> Result<(), PackFailure> {
    let bytes = base.location.plain_bytes;
    if u64::from(entry.start) + u64::from(entry.plain_bytes) <= u64::from(bytes) {
        return Ok(());
    }
    let why = format!("its base {} has only {bytes} bytes", entry.id.short());
    Err(PackFailure { pack: found.info.id, error: Error::damaged(found.blob_name(), why) })
}

/// A job whose blob was read.
pub struct SealedJob {
    /// The job.
    pub job: Job,
    /// The blob as it lies in its pack.
    pub sealed: Bytes,
}

/// Reads the blobs of jobs, in few requests.
///
/// # Errors
/// [`Error::Missing`], [`Error::Store`], with the pack.
pub async fn read_jobs(reader: &PackReader, jobs: Vec<Job>) -> Result<Vec<SealedJob>, PackFailure> {
    let reads = coalesce(jobs);
    stream::iter(reads)
        .map(|read| async move {
            let failed = |error| PackFailure { pack: read.pack, error };
            let info = read.jobs[0].found.info;
            let bytes = reader.read(&info, read.range.clone()).await.map_err(failed)?;
            let sealed = read.jobs.into_iter().map(|job| {
                let start = (job.found.location.offset - read.range.start) as usize;
                let sealed = bytes.slice(start..start + job.found.location.sealed_bytes as usize);
                SealedJob { job, sealed }
            });
            Ok(sealed.collect::<Vec<_>>())
        })
        .buffered(READS_MAX)
        .try_collect::<Vec<_>>()
        .await
        .map(|read| read.into_iter().flatten().collect())
}

/// Blobs of one pack that are read in one request.
struct Read {
    pack: PackId,
    range: std::ops::Range<u64>,
    jobs: Vec<Job>,
}

/// Returns the requests that reading these blobs takes: of which pack, and how many bytes.
pub fn reads(blobs: Vec<Found>) -> Vec<(PackInfo, u64)> {
    let reads = coalesce(blobs.into_iter().map(|found| Job { found, prefix: Vec::new() }).collect());
    reads.iter().map(|read| (read.jobs[0].found.info, read.range.end - read.range.start)).collect()
}

/// Joins blobs that lie near one another, in the order of pack and offset.
fn coalesce(mut jobs: Vec<Job>) -> Vec<Read> {
    jobs.sort_by_key(|job| job.found.blob_key());
    let mut reads: Vec<Read> = Vec::new();
    for job in jobs {
        let range = job.found.location.range();
        match reads.last_mut() {
            Some(last)
                if last.pack == job.found.info.id
                    && range.start <= last.range.end + COALESCE_GAP_BYTES
                    && range.end - last.range.start <= COALESCED_BYTES_MAX =>
            {
                last.range.end = range.end;
                last.jobs.push(job);
            }
            _ => reads.push(Read { pack: job.found.info.id, range, jobs: vec![job] }),
        }
    }
    reads
}

/// Decoded blobs, and the buffers for more.
#[derive(Default)]
pub struct Blobs {
    plain: HashMap<BlobKey, Bytes>,
    buffers: Buffers,
}

impl Blobs {
    /// Returns a blob's plaintext, if it is there.
    pub fn get(&self, key: &BlobKey) -> Option<&Bytes> {
        self.plain.get(key)
    }

    /// Returns whether a blob is there.
    pub fn has(&self, key: &BlobKey) -> bool {
        self.plain.contains_key(key)
    }

    /// Drops those of which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&BlobKey) -> bool) {
        self.plain.retain(|key, _| keep(key));
    }

    /// Drops a blob; returns the length of its plaintext.
    pub fn remove(&mut self, key: &BlobKey) -> usize {
        self.plain.remove(key).map_or(0, |blob| blob.len())
    }

    /// Returns the length of all plaintext.
    pub fn bytes(&self) -> usize {
        self.plain.values().map(Bytes::len).sum()
    }
}

/// What of the blobs that are decoded is wanted in the end, and how many bytes of all of them may be held meanwhile before
/// the others go.
pub struct Budget<'a> {
    /// The blobs that are wanted.
    pub wanted: &'a HashSet<BlobKey>,
    /// Bytes of plaintext.
    pub bytes: usize,
}

/// Blobs that are decoded side by side, at most; more would only be held for longer.
const DECODED_AT_ONCE: usize = 8;

/// Opens and inflates blobs side by side, each when all its bases are in `blobs`; adds them. With a budget, what is decoded only
/// for others goes when none of these is left and more bytes are held than that allows. Chunk ids are not checked. Only for
/// work on the processor's pool.
///
/// # Errors
/// [`Error::Damaged`], with the pack; also where bases wait for one another, or are not there.
pub fn decode_jobs(
    sealer: Sealer<'_>,
    mut jobs: Vec<SealedJob>,
    blobs: &mut Blobs,
    budget: Option<Budget<'_>>,
) -> Result<(), PackFailure> {
    let mut users: HashMap<BlobKey, usize> = jobs.iter().map(|job| (job.job.found.blob_key(), 0)).collect();
    for part in jobs.iter().flat_map(|job| &job.job.prefix) {
        users.entry(part.blob).and_modify(|users_n| *users_n += 1);
    }
    while !jobs.is_empty() {
        let is_ready = |job: &SealedJob| job.job.prefix.iter().all(|part| blobs.has(&part.blob));
        let (mut ready, mut waiting): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_ready);
        if ready.is_empty() {
            let found = &waiting[0].job.found;
            let why = "its bases are not there, or need it themselves";
            return Err(PackFailure { pack: found.info.id, error: Error::damaged(found.blob_name(), why) });
        }
        // The deepest first: their bases may go then.
        ready.sort_by_key(|job| Reverse(job.job.found.location.place.depth));
        waiting.extend(ready.drain(ready.len().min(DECODED_AT_ONCE)..));
        let used: Vec<BlobKey> = ready.iter().flat_map(|job| &job.job.prefix).map(|part| part.blob).collect();
        for one in cpu::map(ready, |job| decode_job(sealer, &job, blobs)) {
            let (key, plain) = one?;
            blobs.plain.insert(key, plain);
        }
        for key in used {
            let Some(users_n) = users.get_mut(&key) else { continue };
            *users_n -= 1;
            if *users_n == 0
                && budget.as_ref().is_some_and(|budget| !budget.wanted.contains(&key) && blobs.bytes() > budget.bytes)
            {
                blobs.remove(&key);
            }
        }
        jobs = waiting;
    }
    Ok(())
}

/// Opens and inflates one blob whose bases are there. Its prefix is there no longer than that takes.
fn decode_job(
    sealer: Sealer<'_>,
    SealedJob { job, sealed }: &SealedJob,
    blobs: &Blobs,
) -> Result<(BlobKey, Bytes), PackFailure> {
    let found = job.found;
    let failed = |error| PackFailure { pack: found.info.id, error };
    let opener = PackOpener::new(sealer, found.info).map_err(failed)?;
    let number = found.location.blob as usize;
    let prefix = prefix(&job.prefix, blobs)
        .ok_or_else(|| failed(Error::damaged(opener.blob_name(number), "its bases do not reach as far as it says")))?;
    let place = &found.location.place;
    let buffer = blobs.buffers.take(place.plain_bytes as usize);
    let mut inflater = Decompressor::new().map_err(failed)?;
    let plain = opener.open_blob(&mut inflater, (number, place), &prefix, sealed, buffer).map_err(failed)?;
    Ok((found.blob_key(), blobs.buffers.share(plain)))
}

/// Returns the parts back to back; `None` if one is not there. Nothing is copied if they lie so in one blob.
pub fn prefix(parts: &[Part], blobs: &Blobs) -> Option<Bytes> {
    let follows = |pair: &[Part]| pair[0].blob == pair[1].blob && pair[0].start + pair[0].plain_bytes == pair[1].start;
    if let ([first, ..], [.., last]) = (parts, parts)
        && parts.windows(2).all(follows)
    {
        let range = first.start as usize..(last.start + last.plain_bytes) as usize;
        return blobs.get(&first.blob).filter(|blob| range.end <= blob.len()).map(|blob| blob.slice(range));
    }
    let mut prefix = blobs.buffers.take(parts.iter().map(|part| part.plain_bytes as usize).sum());
    for part in parts {
        let start = part.start as usize;
        prefix.extend_from_slice(blobs.get(&part.blob)?.get(start..start + part.plain_bytes as usize)?);
    }
    Some(blobs.buffers.share(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crafts::compress::{DeltaCompressor, Effort};
    use crate::edges::store::Store;
    use crate::format::contents::{BaseEntry, ChunkEntry};
    use crate::format::header::HEADER_BYTES;
    use crate::format::names::PackKind;
    use crate::format::pack::{Delta, EncodedBlob, PackWriter};
    use crate::state::index::{Location, PackNumber};
    use crate::state::repository::{CreateOptions, Credential, Repository};

    const BLOB_BYTES: usize = 100_000;

    fn plain(number: u8) -> Vec<u8> {
        let mut plain = vec![0; BLOB_BYTES];
        blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut plain);
        plain
    }

    /// What each blob is made against: the last one against two.
    const BASES: [&[u8]; 4] = [&[], &[0], &[1], &[2, 0]];

    /// The jobs of a blob that is stored whole and of deltas in its pack.
    fn chain(sealer: Sealer<'_>) -> Vec<SealedJob> {
        let mut writer = PackWriter::create(PackKind::Data, sealer, [7; 32], Vec::new());
        let (id, plain_bytes) = (|number: u8| ChunkId([number; 32]), BLOB_BYTES as u32);
        for (number, bases) in (0..).zip(BASES) {
            let chunks = vec![ChunkEntry { id: id(number), plain_bytes }];
            let (mut encoding, mut encoded, mut delta) = (Encoding::Stored, plain(number), None);
            if !bases.is_empty() {
                let prefix = bases.iter().flat_map(|base| plain(*base)).collect::<Vec<u8>>();
                let mut compressor = DeltaCompressor::new(Effort::Quick).expect("set up");
                encoded = compressor.compress(&plain(number), &prefix).expect("compresses");
                let bases = bases.iter().map(|base| BaseEntry { id: id(*base), start: 0, plain_bytes }).collect();
                encoding = Encoding::ZstdPrefix;
                delta = Some(Delta { depth: number, generation: u32::from(number), bases, likes: vec![0] });
            }
            writer.push(EncodedBlob { encoding, encoded, plain_bytes, chunks, delta });
        }
        let (contents, bytes) = writer.finish();
        let bytes = Bytes::from(bytes);
        let (mut offset, mut jobs) = (HEADER_BYTES as u64, Vec::<SealedJob>::new());
        for (blob, entry) in (0..).zip(&contents.blobs) {
            let (pack, place, sealed_bytes) = (PackNumber(0), entry.into(), entry.sealed_bytes);
            let location = Location { pack, blob, offset, sealed_bytes, place, start: 0, plain_bytes };
            let part = |base: &u8| {
                let blob = jobs[usize::from(*base)].job.found.blob_key();
                Part { blob, start: 0, plain_bytes }
            };
            let prefix = BASES[blob as usize].iter().map(part).collect();
            let found = Found { info: contents.info, location, trailer_start: 0 };
            let range = location.range();
            let sealed = bytes.slice(range.start as usize..range.end as usize);
            jobs.push(SealedJob { job: Job { found, prefix }, sealed });
            offset = range.end;
        }
        jobs
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_only_others_needed_goes_when_the_budget_is_small() {
        let secret = Credential::generate_key_file().expect("random");
        let created = Repository::create(Store::memory(), &secret, CreateOptions::default()).await;
        let repository = created.expect("creates");
        let inner = repository.clone();
        let work = move || {
            let sealer = inner.sealer();
            let keys: Vec<BlobKey> = chain(sealer).iter().map(|job| job.job.found.blob_key()).collect();
            let wanted = HashSet::from([keys[1], keys[3]]);
            let held = |blobs: &Blobs| -> Vec<usize> { (0..4).filter(|number| blobs.has(&keys[*number])).collect() };
            // Their order does not matter.
            let jobs = || chain(sealer).into_iter().rev().collect();

            let mut blobs = Blobs::default();
            decode_jobs(sealer, jobs(), &mut blobs, None).expect("decodes");
            assert_eq!(held(&blobs), [0, 1, 2, 3]);
            for (key, number) in keys.iter().zip(0..) {
                assert!(blobs.get(key).is_some_and(|blob| *blob == plain(number)), "{number}");
            }

            for (bytes, left) in [(0, &[1, 3][..]), (3 * BLOB_BYTES, &[0, 1, 3]), (4 * BLOB_BYTES, &[0, 1, 2, 3])] {
                let mut blobs = Blobs::default();
                decode_jobs(sealer, jobs(), &mut blobs, Some(Budget { wanted: &wanted, bytes })).expect("decodes");
                assert_eq!(held(&blobs), left, "with room for {bytes}");
                assert!(blobs.get(&keys[3]).is_some_and(|blob| *blob == plain(3)));
            }

            // What was there before stays: whoever put it there knows what for.
            let (mut blobs, mut rest) = (Blobs::default(), chain(sealer));
            decode_jobs(sealer, vec![rest.remove(0)], &mut blobs, None).expect("decodes");
            decode_jobs(sealer, rest, &mut blobs, Some(Budget { wanted: &wanted, bytes: 0 })).expect("decodes");
            assert_eq!(held(&blobs), [0, 1, 3]);
        };
        repository.cpu.run(work).await;
    }
}
