//! Turns new chunks and nodes into packs, and packs into index fragments.
//!
//! Runs of chunks are compressed side by side and sealed into the open pack in windows on the processor's pool. A full
//! pack is opened again and verified in memory before it is put, while the next one fills.

use super::repository::Repository;
use crate::crafts::compress::Compressor;
use crate::edges::cpu;
use crate::edges::progress::{Event, Progress};
use crate::edges::store::Created;
use crate::edges::system::random;
use crate::format::contents::ChunkEntry;
use crate::format::fragment;
use crate::format::names::{self, FragmentName, PackKind};
use crate::format::pack::{self, EncodedBlob, PackContents, PackWriter};
use crate::format::record::Sealer;
use crate::words::error::{Error, Result};
use crate::words::id::SessionId;
use crate::words::limits::{
    BLOB_CHUNKS_MAX, BLOB_PLAIN_BYTES_TARGET, BLOBS_PER_WINDOW, DATA_PACK_BYTES_TARGET, FRAGMENT_CHUNKS_TARGET,
    META_PACK_BYTES_TARGET, UPLOADS_MAX,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{self, BoxFuture, Either};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

/// Chunks that will make one blob: their plaintext, back to back, and what they are.
#[derive(Default)]
pub struct Run {
    /// The plaintext.
    pub plain: Vec<u8>,
    /// The chunks in it.
    pub chunks: Vec<ChunkEntry>,
}

/// Gathers chunks into runs, and runs into batches for the processor.
#[derive(Default)]
pub struct Gatherer {
    run: Run,
    full: Vec<Run>,
}

impl Gatherer {
    /// Appends a chunk; returns a batch if that filled one.
    pub fn push(&mut self, chunk: ChunkEntry, plain: &[u8]) -> Option<Vec<Run>> {
        let full = self.run.plain.len() + plain.len() > BLOB_PLAIN_BYTES_TARGET;
        if !self.run.chunks.is_empty() && (full || self.run.chunks.len() == BLOB_CHUNKS_MAX) {
            self.full.push(std::mem::take(&mut self.run));
        }
        if self.run.chunks.is_empty() {
            self.run.plain.reserve(BLOB_PLAIN_BYTES_TARGET.max(plain.len()));
        }
        self.run.plain.extend_from_slice(plain);
        self.run.chunks.push(chunk);
        (self.full.len() >= BLOBS_PER_WINDOW).then(|| std::mem::take(&mut self.full))
    }

    /// Returns what is gathered, as the last batch.
    pub fn finish(&mut self) -> Vec<Run> {
        if !self.run.chunks.is_empty() {
            self.full.push(std::mem::take(&mut self.run));
        }
        std::mem::take(&mut self.full)
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
    /// zstd's level.
    pub level: i32,
}

impl Packer<'_> {
    /// Compresses, seals, verifies and puts the batches that arrive, until their sender goes; sends what each pack holds
    /// to `stored` once it is in the store. Returns the packs' bytes.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::System`]: memory that does not keep what is written into it, or none left.
    pub async fn run(
        self,
        mut batches: mpsc::Receiver<Vec<Run>>,
        stored: mpsc::UnboundedSender<PackContents>,
    ) -> Result<u64> {
        let mut uploads = Uploads { running: FuturesUnordered::new(), stored, stored_bytes: 0 };
        let mut open = None;
        loop {
            let batch = uploads.drive(batches.recv()).await?;
            let at_end = batch.is_none();
            let repository = self.repository.clone();
            let job = PackJob { repository, kind: self.kind, level: self.level, open, at_end };
            let packed = self.repository.cpu.run(move || job.run(batch.unwrap_or_default()));
            let (still_open, full) = uploads.drive(packed).await??;
            open = still_open;
            for pack in full {
                uploads.wait_until_below(UPLOADS_MAX).await?;
                uploads.running.push(Box::pin(verify_and_put(self.repository, self.progress, pack)));
            }
            if at_end {
                uploads.wait_until_below(1).await?;
                return Ok(uploads.stored_bytes);
            }
        }
    }
}

/// Packs on their way to the store.
struct Uploads<'a> {
    running: FuturesUnordered<BoxFuture<'a, Result<PackContents>>>,
    stored: mpsc::UnboundedSender<PackContents>,
    stored_bytes: u64,
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
        self.stored_bytes += contents.info.bytes;
        // Nobody listens any more when the operation has failed elsewhere; that failure is what is reported.
        let _ = self.stored.send(contents);
    }
}

type Finished = (PackContents, Vec<u8>);

/// One window of packing, on the processor's pool.
struct PackJob {
    repository: Repository,
    kind: PackKind,
    level: i32,
    open: Option<PackWriter>,
    at_end: bool,
}

impl PackJob {
    fn run(mut self, batch: Vec<Run>) -> Result<(Option<PackWriter>, Vec<Finished>)> {
        let level = self.level;
        let encoded = cpu::map_with(batch, || Compressor::new(level), encode);
        let target = match self.kind {
            PackKind::Data => DATA_PACK_BYTES_TARGET,
            PackKind::Meta => META_PACK_BYTES_TARGET,
        };
        let mut full = Vec::new();
        for blob in encoded {
            let blob = blob?;
            if let Some(pack) =
                self.open.take_if(|pack| !pack.is_empty() && pack.bytes_with(blob.encoded.len()) > target)
            {
                full.push(pack.finish());
            }
            let pack = match self.open.take() {
                Some(pack) => pack,
                None => PackWriter::create(self.kind, self.repository.sealer(), random()?, target),
            };
            self.open.insert(pack).push(blob);
        }
        if self.at_end {
            full.extend(self.open.take().map(PackWriter::finish));
        }
        Ok((self.open, full))
    }
}

fn encode(compressor: &mut Result<Compressor>, run: Run) -> Result<EncodedBlob> {
    let compressor = compressor.as_mut().map_err(|error| match error {
        Error::Invalid(why) => Error::Invalid(why.clone()),
        other => Error::System(other.to_string()),
    })?;
    let (encoding, encoded) = compressor.compress(&run.plain)?;
    let plain_bytes = u32::try_from(run.plain.len()).expect("a blob is at most some MiB");
    Ok(EncodedBlob { encoding, encoded, plain_bytes, chunks: run.chunks })
}

async fn verify_and_put(
    repository: &Repository,
    progress: &dyn Progress,
    (contents, bytes): Finished,
) -> Result<PackContents> {
    let bytes = Bytes::from(bytes);
    let (keys, id, info) = (repository.keys.clone(), repository.id(), contents.info);
    let written = bytes.clone();
    let verified = repository
        .cpu
        .run(move || pack::verify(Sealer { repository: id, keys: &keys }, info.kind, info.id, &written))
        .await;
    if verified.as_ref().ok() != Some(&contents) {
        let why = verified.err().map_or_else(|| "it holds something else".to_owned(), |error| error.to_string());
        return Err(Error::System(format!(
            "a pack did not read back from memory as it was written ({why}); nothing was committed; test this machine's memory"
        )));
    }
    let bytes_n = bytes.len() as u64;
    repository.store.create_content_addressed(&names::pack(info.kind, info.id), bytes).await?;
    progress.event(Event::Stored { bytes: bytes_n });
    Ok(contents)
}

/// Writes a session's index fragments.
pub struct Fragments<'a> {
    repository: &'a Repository,
    session: SessionId,
    pending: Vec<PackContents>,
    pending_chunks_n: usize,
    written_n: u32,
    written_bytes: u64,
}

impl<'a> Fragments<'a> {
    /// Creates the writer of a session's fragments.
    pub fn create(repository: &'a Repository, session: SessionId) -> Self {
        Fragments { repository, session, pending: Vec::new(), pending_chunks_n: 0, written_n: 0, written_bytes: 0 }
    }

    /// Notes the packs that arrive, writes a fragment whenever enough has come together and one at the end; returns how
    /// many fragments it wrote, and their bytes.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Conflict`].
    pub async fn run(mut self, mut stored: mpsc::UnboundedReceiver<PackContents>) -> Result<(u32, u64)> {
        while let Some(pack) = stored.recv().await {
            self.pending_chunks_n += pack.blobs.iter().map(|blob| blob.chunks.len()).sum::<usize>();
            self.pending.push(pack);
            if self.pending_chunks_n >= FRAGMENT_CHUNKS_TARGET {
                self.write().await?;
            }
        }
        if !self.pending.is_empty() {
            self.write().await?;
        }
        Ok((self.written_n, self.written_bytes))
    }

    async fn write(&mut self) -> Result<()> {
        let packs = std::mem::take(&mut self.pending);
        self.pending_chunks_n = 0;
        let name = FragmentName { session: self.session, number: self.written_n };
        let (repository, salt) = (self.repository.clone(), random()?);
        let bytes = self.repository.cpu.run(move || fragment::seal(repository.sealer(), name, salt, &packs)).await;
        self.written_bytes += bytes.len() as u64;
        match self.repository.store.create(&names::fragment(name), bytes.into()).await? {
            Created::Yes => self.written_n += 1,
            Created::Taken => return Err(Error::Conflict(format!("{} is taken; try again", names::fragment(name)))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::store::Store;
    use crate::format::contents::ChunkEntry;
    use crate::state::repository::{CreateOptions, Credential};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pack_that_memory_garbled_is_not_put() {
        let secret = Credential::generate_key_file().expect("random");
        let store = Store::memory();
        let repository = Repository::create(store.clone(), &secret, CreateOptions::default()).await.expect("creates");
        let plain = b"some chunk".repeat(100);
        let chunk = ChunkEntry { id: repository.keys.chunk_id(&plain), plain_bytes: plain.len() as u32 };
        let job = |chunk| {
            let open = None;
            let job = PackJob { repository: repository.clone(), kind: PackKind::Data, level: 3, open, at_end: true };
            let (_, mut full) = job.run(vec![Run { plain: plain.clone(), chunks: vec![chunk] }]).expect("packs");
            full.remove(0)
        };
        // A bit that flips after sealing, and a chunk that changed between hashing and compressing.
        let mut flipped = job(chunk);
        flipped.1[100] ^= 1;
        let renamed = job(ChunkEntry { id: repository.keys.chunk_id(b"another"), ..chunk });
        for garbled in [flipped, renamed] {
            let error = verify_and_put(&repository, &(), garbled).await.expect_err("is found");
            assert!(matches!(error, Error::System(_)), "{error}");
            assert_eq!(store.list(names::PACKS).await.expect("lists"), []);
        }
        verify_and_put(&repository, &(), job(chunk)).await.expect("a whole one is put");
        assert_eq!(store.list(names::PACKS).await.expect("lists").len(), 1);
    }
}
