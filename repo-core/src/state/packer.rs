//! Turns new chunks and nodes into packs.
//!
//! Runs of chunks are compressed side by side on the processor's pool, and sealed into the open pack in their order. A full
//! pack is opened again and verified in memory before it is put, while the next one fills.

use super::bases::Bases;
use super::effort::Chooser;
use super::repository::Repository;
use crate::crafts::buffers::Buffers;
use crate::crafts::compress::{Compression, Compressor, Decompressor, DeltaCompressor, Effort, Encoding};
use crate::crafts::crypto::keys::Keys;
use crate::edges::progress::{Event, Progress};
use crate::edges::system::random;
use crate::format::contents::{BASE_ENTRY_BYTES, BlobEntry, ChunkEntry};
use crate::format::names::{self, PackKind};
use crate::format::pack::{self, EncodedBlob, PackContents, PackWriter};
use crate::format::record::Sealer;
use crate::format::snapshot::Totals;
use crate::words::error::{Error, Result};
use crate::words::limits::{
    BLOBS_ENCODED_MAX, BLOBS_ENCODED_MIN, DELTA_GAIN_SHARE_MIN, DELTA_SAMPLE_BYTES, KIB, UPLOADS_MAX, UPLOADS_MAX_NEAR,
};
use futures::StreamExt;
use futures::future::{self, BoxFuture, Either};
use futures::stream::{self, FuturesUnordered};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

/// Chunks that will make one blob: their plaintext, back to back, and what they are.
#[derive(Default)]
pub struct Run {
    /// The plaintext.
    pub plain: Vec<u8>,
    /// The chunks in it.
    pub chunks: Vec<ChunkEntry>,
    /// What it may be compressed against.
    pub bases: Option<Bases>,
}

/// What will be one blob.
pub enum Piece {
    /// Chunks that are compressed now.
    Anew(Run),
    /// A blob that was encoded before, in a pack with the same names for its chunks.
    AsItIs(EncodedBlob),
}

impl From<Run> for Piece {
    fn from(run: Run) -> Piece {
        Piece::Anew(run)
    }
}

/// Writes the packs of one kind for one session.
pub struct Packer<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Hears of every pack that is stored.
    pub progress: &'a dyn Progress,
    /// The kind of packs.
    pub kind: PackKind,
    /// How it is compressed.
    pub compression: Compression,
    /// Takes the plaintext that is packed.
    pub buffers: Buffers,
}

/// What was stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Bytes of the packs.
    pub pack_bytes: u64,
    /// Bytes in blobs that are stored whole.
    pub whole_bytes: u64,
    /// Chunks in deltas.
    pub delta_chunks_n: u64,
    /// Bytes of those, before compression.
    pub delta_plain_bytes: u64,
    /// Bytes in deltas.
    pub delta_bytes: u64,
    /// How many chunks have each depth, from 0.
    pub depths: Vec<u64>,
}

impl Stored {
    fn add(&mut self, contents: &PackContents) {
        self.pack_bytes += contents.info.bytes;
        for blob in &contents.blobs {
            let (chunks_n, depth) = (blob.chunks.len() as u64, usize::from(blob.depth));
            if self.depths.len() <= depth {
                self.depths.resize(depth + 1, 0);
            }
            self.depths[depth] += chunks_n;
            if depth == 0 {
                self.whole_bytes += u64::from(blob.sealed_bytes);
            } else {
                self.delta_chunks_n += chunks_n;
                self.delta_plain_bytes += u64::from(blob.plain_bytes);
                self.delta_bytes += u64::from(blob.sealed_bytes);
            }
        }
    }
}

/// Adds to the totals of a run what its packs and fragments take.
pub fn add_stored(totals: &mut Totals, data: &Stored, meta: &Stored, fragment_bytes: u64) {
    totals.bytes_added += data.pack_bytes + meta.pack_bytes + fragment_bytes;
    totals.bytes_added_meta += meta.pack_bytes + fragment_bytes;
    totals.bytes_stored_whole += data.whole_bytes;
    totals.chunks_delta_n += data.delta_chunks_n;
    totals.bytes_delta += data.delta_plain_bytes;
    totals.bytes_stored_delta += data.delta_bytes;
    totals.depths.clone_from(&data.depths);
}

impl Packer<'_> {
    /// Compresses, seals, verifies and puts the pieces that arrive, until their sender goes; sends what each pack holds
    /// to `stored` once it is in the store. Returns what that was.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::System`]: memory that does not keep what is written into it, or none left.
    pub async fn run<P: Into<Piece> + Send>(
        self,
        pieces: mpsc::Receiver<P>,
        stored: mpsc::UnboundedSender<PackContents>,
    ) -> Result<Stored> {
        let is_near = self.repository.store.is_near();
        let uploads_max = if is_near { UPLOADS_MAX_NEAR } else { UPLOADS_MAX };
        let target = self.repository.pack_bytes_target(self.kind);
        // One is filled while the others go out.
        let packs = Buffers::keeping((1 + uploads_max) * (target + PACK_BUFFER_SPARE_BYTES));
        let mut uploads = Uploads { running: FuturesUnordered::new(), stored, sum: Stored::default() };
        let chooser = Mutex::new(Chooser::create(self.compression, self.kind, is_near));
        let take = |mut pieces: mpsc::Receiver<P>| async move { Some((pieces.recv().await?, pieces)) };
        // Boxed, or the compiler can't see that a backup may go from thread to thread.
        let pieces = stream::unfold(pieces, take).boxed();
        // While one is sealed, the next are encoded.
        let at_once = (2 * self.repository.cpu.threads_n()).clamp(BLOBS_ENCODED_MIN, BLOBS_ENCODED_MAX);
        let encoded = pieces.map(|piece| self.encode(piece.into(), lock(&chooser).effort())).buffered(at_once);
        let mut encoded = std::pin::pin!(encoded);
        let mut open = None;
        let mut begun = Instant::now();
        loop {
            let blob = uploads.drive(encoded.next()).await?.transpose()?;
            let at_end = blob.is_none();
            let job =
                PackJob { repository: self.repository.clone(), kind: self.kind, packs: packs.clone(), open, at_end };
            let packed = self.repository.cpu.run(move || job.run(blob));
            let (still_open, full) = uploads.drive(packed).await??;
            open = still_open;
            for pack in full {
                let made = Instant::now();
                uploads.wait_until_below(uploads_max).await?;
                lock(&chooser).note(made - begun, made.elapsed());
                begun = Instant::now();
                uploads.running.push(Box::pin(verify_and_put(self.repository, self.progress, &packs, pack)));
            }
            if at_end {
                uploads.wait_until_below(1).await?;
                return Ok(uploads.sum);
            }
        }
    }

    /// Compresses a piece, on the processor's pool.
    async fn encode(&self, piece: Piece, effort: Effort) -> Result<Encoded> {
        let run = match piece {
            Piece::AsItIs(blob) => {
                let digest = blob.delta.as_ref().map(|_| *blake3::hash(&blob.encoded).as_bytes());
                return Ok((blob, digest));
            }
            Piece::Anew(run) => run,
        };
        let (keys, kind, buffers) = (Arc::clone(&self.repository.keys), self.kind, self.buffers.clone());
        let work = move || {
            let encoded = encode(effort, &run, (kind, &keys), &buffers);
            buffers.give(run.plain);
            encoded
        };
        self.repository.cpu.run(work).await
    }
}

fn lock(chooser: &Mutex<Chooser>) -> MutexGuard<'_, Chooser> {
    chooser.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a pack's buffer has beyond the length at which it is full: for its padding.
const PACK_BUFFER_SPARE_BYTES: usize = 256 * KIB;

/// Packs on their way to the store.
struct Uploads<'a> {
    running: FuturesUnordered<BoxFuture<'a, Result<PackContents>>>,
    stored: mpsc::UnboundedSender<PackContents>,
    sum: Stored,
}

impl Uploads<'_> {
    /// Waits for something else while the uploads go on.
    async fn drive<T>(&mut self, other: impl Future<Output = T>) -> Result<T> {
        let mut other = std::pin::pin!(other);
        while !self.running.is_empty() {
            match future::select(other.as_mut(), self.running.next()).await {
                Either::Left((output, _)) => return Ok(output),
                Either::Right((stored, _)) => self.note(stored.expect("some were running")?),
            }
        }
        Ok(other.await)
    }

    async fn wait_until_below(&mut self, running_n: usize) -> Result<()> {
        while self.running.len() >= running_n {
            let stored = self.running.next().await.expect("some are running")?;
            self.note(stored);
        }
        Ok(())
    }

    fn note(&mut self, contents: PackContents) {
        self.sum.add(&contents);
        // Nobody listens any more when the operation has failed elsewhere; that failure is what is reported.
        let _ = self.stored.send(contents);
    }
}

/// A pack that is full: what it holds, its bytes, and what its deltas must be, by their numbers.
struct Finished {
    contents: PackContents,
    bytes: Vec<u8>,
    deltas: Vec<(usize, Digest)>,
}

/// A pack that is being filled.
struct Open {
    writer: PackWriter,
    deltas: Vec<(usize, Digest)>,
}

impl Open {
    fn finish(self) -> Finished {
        let (contents, bytes) = self.writer.finish();
        Finished { contents, bytes, deltas: self.deltas }
    }
}

/// BLAKE3 of a delta's encoded bytes, taken when they were found to decode to its chunks.
type Digest = [u8; 32];

/// A blob that is encoded and not yet sealed; of a delta, with what it must be.
type Encoded = (EncodedBlob, Option<Digest>);

/// Seals one blob, on the processor's pool.
struct PackJob {
    repository: Repository,
    kind: PackKind,
    /// Gives a new pack its buffer.
    packs: Buffers,
    open: Option<Open>,
    at_end: bool,
}

impl PackJob {
    fn run(mut self, blob: Option<Encoded>) -> Result<(Option<Open>, Vec<Finished>)> {
        let target = self.repository.pack_bytes_target(self.kind);
        let mut full = Vec::new();
        if let Some((blob, digest)) = blob {
            if let Some(pack) =
                self.open.take_if(|pack| !pack.writer.is_empty() && pack.writer.bytes_with(blob.encoded.len()) > target)
            {
                full.push(pack.finish());
            }
            let pack = match self.open.take() {
                Some(pack) => pack,
                None => {
                    let bytes = self.packs.take(target + PACK_BUFFER_SPARE_BYTES);
                    let writer = PackWriter::create(self.kind, self.repository.sealer(), random()?, bytes);
                    Open { writer, deltas: Vec::new() }
                }
            };
            let pack = self.open.insert(pack);
            pack.deltas.extend(digest.map(|digest| (pack.writer.blobs_n(), digest)));
            pack.writer.push(blob);
        }
        if self.at_end {
            full.extend(self.open.take().map(Open::finish));
        }
        Ok((self.open, full))
    }
}

/// Encodes a run as a delta, if that is worth it, or whole. A delta can't be decoded again later without its bases, so it is
/// decoded at once and its chunks are checked; what it was then is returned with it.
fn encode(effort: Effort, run: &Run, (kind, keys): (PackKind, &Keys), buffers: &Buffers) -> Result<Encoded> {
    let plain_bytes = u32::try_from(run.plain.len()).expect("a blob is at most some MiB");
    let blob =
        |encoding, encoded, delta| EncodedBlob { encoding, encoded, plain_bytes, chunks: run.chunks.clone(), delta };
    let mut whole = Compressor::new(effort)?;
    let Some(bases) = &run.bases else {
        let (encoding, encoded) = whole.compress(&run.plain)?;
        return Ok((blob(encoding, encoded, None), None));
    };
    let frame = DeltaCompressor::new(effort)?.compress(&run.plain, &bases.prefix)?;
    if let Some((encoding, encoded)) = smaller_whole(&mut whole, run, bases, frame.len())? {
        return Ok((blob(encoding, encoded, None), None));
    }
    let (buffer, encoding) = (buffers.take(run.plain.len()), Encoding::ZstdPrefix);
    let back = Decompressor::new()?.decompress_into(buffer, encoding, &frame, &bases.prefix, run.plain.len());
    let is_whole = back.and_then(|back| {
        let verified = pack::verify_chunks(keys, kind, &run.chunks, &back);
        buffers.give(back);
        verified
    });
    if is_whole.is_err() {
        return Err(garbled("a delta does not decode to its chunks"));
    }
    let digest = *blake3::hash(&frame).as_bytes();
    Ok((blob(Encoding::ZstdPrefix, frame, Some(bases.delta.clone())), Some(digest)))
}

/// Returns the run compressed alone, if that is smaller than the delta with all that the delta costs: what its bases take in
/// the trailer and in the index, and a little for their being read back by every restore. Where its bases, or else a sample,
/// say that the delta is at most half as large, nothing more is asked.
fn smaller_whole(
    compressor: &mut Compressor,
    run: &Run,
    bases: &Bases,
    delta_bytes: usize,
) -> Result<Option<(Encoding, Vec<u8>)>> {
    let bases_bytes = bases.delta.bases.len() * 2 * BASE_ENTRY_BYTES;
    let cost = delta_bytes + bases_bytes + run.plain.len() / DELTA_GAIN_SHARE_MIN;
    let (stored, plain) = match bases.whole {
        (_, 0) => {
            let sample_bytes = run.plain.len().min(DELTA_SAMPLE_BYTES);
            let start = (run.plain.len() - sample_bytes) / 2;
            let (_, sample) = compressor.compress(&run.plain[start..start + sample_bytes])?;
            (sample.len() as u64, sample_bytes as u64)
        }
        whole => whole,
    };
    let alone = (stored * run.plain.len() as u64 / plain.max(1)).min(run.plain.len() as u64);
    if (cost as u64) * 2 <= alone {
        return Ok(None);
    }
    let (encoding, encoded) = compressor.compress(&run.plain)?;
    // Never longer than the plaintext: so is no delta that is kept.
    Ok((encoded.len() <= cost).then_some((encoding, encoded)))
}

fn garbled(what: &str) -> Error {
    Error::System(format!("{what}; nothing was committed; test this machine's memory"))
}

async fn verify_and_put(
    repository: &Repository,
    progress: &dyn Progress,
    packs: &Buffers,
    Finished { contents, bytes, deltas }: Finished,
) -> Result<PackContents> {
    let bytes = packs.share(bytes);
    let (keys, id, info) = (repository.keys.clone(), repository.id(), contents.info);
    let written = bytes.clone();
    let work = move || {
        let mut deltas = deltas.into_iter();
        let delta = |number, _: &BlobEntry, encoded: &[u8]| match deltas.next() {
            Some(expected) if expected == (number, *blake3::hash(encoded).as_bytes()) => Ok(()),
            _ => Err("it is not the delta that was made".to_owned()),
        };
        pack::verify(Sealer { repository: id, keys: &keys }, (info.kind, info.id), &written, delta)
    };
    let verified = repository.cpu.run(work).await;
    if verified.as_ref().ok() != Some(&contents) {
        let why = verified.err().map_or_else(|| "it holds something else".to_owned(), |error| error.to_string());
        return Err(garbled(&format!("a pack did not read back from memory as it was written ({why})")));
    }
    let bytes_n = bytes.len() as u64;
    let name = names::pack(info.kind, info.id);
    repository.store.create_content_addressed(&name, bytes.clone()).await?;
    progress.event(Event::Stored { bytes: bytes_n });
    // The next backup may make deltas against it.
    if let Some(cache) = &repository.cache {
        cache.keep(&name, bytes).await;
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::store::Store;
    use crate::format::contents::BaseEntry;
    use crate::format::pack::Delta;
    use crate::state::repository::{CreateOptions, Credential};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pack_that_memory_garbled_is_not_put() {
        let secret = Credential::generate_key_file().expect("random");
        let store = Store::memory();
        let repository = Repository::create(store.clone(), &secret, CreateOptions::default()).await.expect("creates");
        let plain = b"some chunk".repeat(100);
        let chunk = ChunkEntry { id: repository.keys.chunk_id(&plain), plain_bytes: plain.len() as u32 };
        let mut noise = vec![0; 5000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let of_noise = ChunkEntry { id: repository.keys.chunk_id(&noise), plain_bytes: 5000 };
        let job = |run| {
            let open = None;
            let packs = Buffers::default();
            let job = PackJob { repository: repository.clone(), kind: PackKind::Data, packs, open, at_end: true };
            let encoded = encode(Effort::Quick, &run, (PackKind::Data, &repository.keys), &Buffers::default());
            let (_, mut full) = job.run(Some(encoded.expect("encodes"))).expect("packs");
            full.remove(0)
        };
        let whole = |chunk| Run { plain: plain.clone(), chunks: vec![chunk], bases: None };
        // A bit that flips after sealing, and a chunk that changed between hashing and compressing.
        let mut flipped = job(whole(chunk));
        flipped.bytes[100] ^= 1;
        let renamed = job(whole(ChunkEntry { id: repository.keys.chunk_id(b"another"), ..chunk }));
        for garbled in [flipped, renamed] {
            let error = verify_and_put(&repository, &(), &Buffers::default(), garbled).await.expect_err("is found");
            assert!(matches!(error, Error::System(_)), "{error}");
            assert_eq!(store.list(names::PACKS).await.expect("lists"), []);
        }
        // A delta that is not the one that was found to decode: the pack alone can't tell.
        let bases = Bases {
            delta: Delta {
                depth: 1,
                generation: 1,
                bases: vec![BaseEntry { id: chunk.id, start: 0, plain_bytes: chunk.plain_bytes }],
                likes: vec![0],
            },
            prefix: noise.clone().into(),
            whole: (0, 0),
        };
        let mut delta = job(Run { plain: noise.clone(), chunks: vec![of_noise], bases: Some(bases) });
        assert_eq!(delta.contents.blobs[0].depth, 1, "it is a delta");
        delta.deltas[0].1[0] ^= 1;
        let error = verify_and_put(&repository, &(), &Buffers::default(), delta).await.expect_err("is found");
        assert!(error.to_string().contains("not the delta that was made"), "{error}");

        verify_and_put(&repository, &(), &Buffers::default(), job(whole(chunk))).await.expect("a whole one is put");
        assert_eq!(store.list(names::PACKS).await.expect("lists").len(), 1);
    }
}
