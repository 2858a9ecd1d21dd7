//! The data's path in a backup, from the engine's windows to stored packs. Five stages that run side by side in the
//! backup's own future, with bounded queues between them:
//!
//! ```text
//! sink ─▶ cut ─▶ hash ─▶ look up ─▶ pack data ─▶ ┐
//!                             └───▶ pack meta ─▶ ┴▶ fragments
//! ```
//!
//! Cutting, hashing and packing go to the processor's pool in windows. Dropping the future drops every stage.

use crate::crafts::chunker::{Chunker, ChunkerParams};
use crate::edges::cpu;
use crate::edges::progress::{Event, Progress};
use crate::edges::source::{Piece, Window};
use crate::format::contents::ChunkEntry;
use crate::format::names::PackKind;
use crate::format::node::LeafEntry;
use crate::format::snapshot::StreamRecord;
use crate::state::index::Index;
use crate::state::manifest::{FinishedNode, ManifestBuilder};
use crate::state::packer::{Fragments, Gatherer, Packer, Run};
use crate::state::repository::Repository;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, SessionId};
use crate::words::limits::WINDOWS_QUEUED_MAX;
use futures::future::try_join;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// What the pipeline needs to know.
pub(super) struct Plan<'a> {
    pub repository: &'a Repository,
    pub progress: &'a dyn Progress,
    pub chunker: Arc<Chunker>,
    pub level: i32,
    pub session: SessionId,
    /// Counts what went through, for the session's mark.
    pub bytes_done: &'a AtomicU64,
}

/// What went through the pipeline.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub streams: Vec<StreamRecord>,
    pub chunks_new_n: u64,
    pub bytes_new: u64,
    pub nodes_new_n: u64,
    pub bytes_added: u64,
    pub fragments_n: u32,
}

/// Runs all stages until the sink is gone.
pub(super) async fn run(plan: Plan<'_>, pieces: mpsc::Receiver<Piece>, index: Index) -> Result<Outcome> {
    let Plan { repository, progress, level, session, .. } = plan;
    let (cut_sender, cut) = mpsc::channel(WINDOWS_QUEUED_MAX);
    let (hashed_sender, hashed) = mpsc::channel(WINDOWS_QUEUED_MAX);
    let (data_sender, data) = mpsc::channel(WINDOWS_QUEUED_MAX);
    let (meta_sender, meta) = mpsc::channel(WINDOWS_QUEUED_MAX);
    let (stored_sender, stored) = mpsc::unbounded_channel();

    let front = try_join(
        cut_stage(repository, progress, Arc::clone(&plan.chunker), pieces, cut_sender),
        hash_stage(repository, cut, hashed_sender),
    );
    let look_up = LookUp::create(&plan, index, data_sender, meta_sender).run(hashed);
    let packer = |kind| Packer { repository, progress, kind, level };
    let pack = try_join(
        packer(PackKind::Data).run(data, stored_sender.clone()),
        packer(PackKind::Meta).run(meta, stored_sender),
    );
    let back = try_join(pack, Fragments::create(repository, session).run(stored));
    let (_, (outcome, ((data_bytes, meta_bytes), (fragments_n, fragment_bytes)))) =
        try_join(front, try_join(look_up, back)).await?;
    Ok(Outcome { bytes_added: data_bytes + meta_bytes + fragment_bytes, fragments_n, ..outcome })
}

/// What travels between the stages: a stream begins, goes on, ends. Windows of several streams may alternate.
enum Step<T> {
    Begin { number: usize, name: String },
    Bytes { number: usize, bytes: T },
    End { number: usize, last: T, facts: BTreeMap<String, String> },
}

/// A window, and where its chunks are.
struct Cut {
    /// `None` only where there is nothing to hold.
    window: Option<CutBytes>,
    lengths: Vec<u32>,
}

/// The bytes of a window, or those left over at a stream's end.
enum CutBytes {
    Window(Window),
    Rest(Vec<u8>),
}

impl Cut {
    fn bytes(&self) -> &[u8] {
        let all = match &self.window {
            Some(CutBytes::Window(window)) => window.bytes(),
            Some(CutBytes::Rest(rest)) => rest,
            None => &[],
        };
        let covered = self.lengths.iter().map(|length| *length as usize).sum();
        &all[..covered]
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes();
        self.lengths.iter().map(move |length| {
            let (chunk, after) = rest.split_at(*length as usize);
            rest = after;
            chunk
        })
    }
}

/// The next stage went away: it failed, and its own error is the one that is reported.
fn gone<T>(_: mpsc::error::SendError<T>) -> Error {
    Error::Conflict("the backup has failed elsewhere".to_owned())
}

async fn cut_stage(
    repository: &Repository,
    progress: &dyn Progress,
    chunker: Arc<Chunker>,
    mut pieces: mpsc::Receiver<Piece>,
    sender: mpsc::Sender<Step<Cut>>,
) -> Result<()> {
    let mut left_over: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    while let Some(piece) = pieces.recv().await {
        let step = match piece {
            Piece::Begin { number, name } => {
                left_over.insert(number, Vec::new());
                Step::Begin { number, name }
            }
            Piece::Bytes { number, mut window } => {
                progress.event(Event::Read { bytes: window.bytes().len() as u64 });
                let rest = left_over.remove(&number).expect("a stream begins before it goes on");
                let chunker = Arc::clone(&chunker);
                let (cut, rest) = repository
                    .cpu
                    .run(move || {
                        window.prepend(&rest);
                        let mut lengths = Vec::new();
                        let covered = chunker.cut(window.bytes(), false, &mut lengths);
                        let rest = window.bytes()[covered..].to_vec();
                        (Cut { window: Some(CutBytes::Window(window)), lengths }, rest)
                    })
                    .await;
                left_over.insert(number, rest);
                Step::Bytes { number, bytes: cut }
            }
            Piece::End { number, facts } => {
                let rest = left_over.remove(&number).expect("a stream begins before it ends");
                let mut lengths = Vec::new();
                chunker.cut(&rest, true, &mut lengths);
                Step::End { number, last: Cut { window: Some(CutBytes::Rest(rest)), lengths }, facts }
            }
        };
        sender.send(step).await.map_err(gone)?;
    }
    Ok(())
}

/// A window whose chunks have names; at a stream's end also the stream's hash.
struct Hashed {
    cut: Cut,
    ids: Vec<ChunkId>,
    stream_hash: Option<[u8; 32]>,
}

async fn hash_stage(
    repository: &Repository,
    mut steps: mpsc::Receiver<Step<Cut>>,
    sender: mpsc::Sender<Step<Hashed>>,
) -> Result<()> {
    let mut hashers: BTreeMap<usize, Box<blake3::Hasher>> = BTreeMap::new();
    while let Some(step) = steps.recv().await {
        let step = match step {
            Step::Begin { number, name } => {
                hashers.insert(number, Box::default());
                Step::Begin { number, name }
            }
            Step::Bytes { number, bytes } => {
                let hasher = hashers.remove(&number).expect("a stream begins before it goes on");
                let (hashed, hasher) = hash(repository, bytes, hasher).await;
                hashers.insert(number, hasher);
                Step::Bytes { number, bytes: hashed }
            }
            Step::End { number, last, facts } => {
                let hasher = hashers.remove(&number).expect("a stream begins before it ends");
                let (mut hashed, hasher) = hash(repository, last, hasher).await;
                hashed.stream_hash = Some(*hasher.finalize().as_bytes());
                Step::End { number, last: hashed, facts }
            }
        };
        sender.send(step).await.map_err(gone)?;
    }
    Ok(())
}

async fn hash(repository: &Repository, cut: Cut, mut hasher: Box<blake3::Hasher>) -> (Hashed, Box<blake3::Hasher>) {
    let keys = Arc::clone(&repository.keys);
    let work = move || {
        let (ids, _) = cpu::join(
            || cpu::map(cut.chunks().collect(), |chunk: &[u8]| keys.chunk_id(chunk)),
            || {
                hasher.update(cut.bytes());
            },
        );
        (Hashed { cut, ids, stream_hash: None }, hasher)
    };
    repository.cpu.run(work).await
}

/// The stage that knows what is new: it alone touches the index, builds the manifests and gathers what is to be packed.
struct LookUp<'a> {
    progress: &'a dyn Progress,
    repository: &'a Repository,
    params: ChunkerParams,
    bytes_done: &'a AtomicU64,
    index: Index,
    open: BTreeMap<usize, OpenStream<'a>>,
    data: Outlet,
    meta: Outlet,
    streams: BTreeMap<usize, StreamRecord>,
    outcome: Outcome,
}

struct OpenStream<'a> {
    name: String,
    manifest: ManifestBuilder<'a>,
}

/// Gathers what is new and hands it to a packer.
struct Outlet {
    gatherer: Gatherer,
    sender: mpsc::Sender<Vec<Run>>,
}

impl Outlet {
    async fn push(&mut self, chunk: ChunkEntry, plain: &[u8]) -> Result<()> {
        match self.gatherer.push(chunk, plain) {
            Some(batch) => self.sender.send(batch).await.map_err(gone),
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<()> {
        let batch = self.gatherer.finish();
        if batch.is_empty() { Ok(()) } else { self.sender.send(batch).await.map_err(gone) }
    }
}

impl<'a> LookUp<'a> {
    fn create(plan: &Plan<'a>, index: Index, data: mpsc::Sender<Vec<Run>>, meta: mpsc::Sender<Vec<Run>>) -> LookUp<'a> {
        LookUp {
            progress: plan.progress,
            repository: plan.repository,
            params: plan.chunker.params(),
            bytes_done: plan.bytes_done,
            index,
            open: BTreeMap::new(),
            data: Outlet { gatherer: Gatherer::default(), sender: data },
            meta: Outlet { gatherer: Gatherer::default(), sender: meta },
            streams: BTreeMap::new(),
            outcome: Outcome::default(),
        }
    }

    async fn run(mut self, mut steps: mpsc::Receiver<Step<Hashed>>) -> Result<Outcome> {
        while let Some(step) = steps.recv().await {
            match step {
                Step::Begin { number, name } => {
                    self.progress.event(Event::StreamBegun { name: name.clone(), bytes: None });
                    let manifest = ManifestBuilder::create(&self.repository.keys);
                    self.open.insert(number, OpenStream { name, manifest });
                }
                Step::Bytes { number, bytes } => self.window(number, bytes).await?,
                Step::End { number, last, facts } => {
                    let hash = last.stream_hash.expect("the hash stage ends the hash with the stream");
                    self.window(number, last).await?;
                    self.end(number, hash, facts).await?;
                }
            }
        }
        if let Some(stream) = self.open.values().next() {
            return Err(Error::DumpFailed(format!(
                "the dump ended in the middle of stream {:?}; nothing was stored",
                stream.name
            )));
        }
        self.data.finish().await?;
        self.meta.finish().await?;
        self.outcome.streams = self.streams.into_values().collect();
        Ok(self.outcome)
    }

    async fn window(&mut self, number: usize, hashed: Hashed) -> Result<()> {
        let stream = self.open.get_mut(&number).expect("a stream begins before it goes on");
        let (mut finished, mut new_bytes) = (Vec::new(), 0);
        for (id, plain) in hashed.ids.iter().zip(hashed.cut.chunks()) {
            let plain_bytes = plain.len() as u32;
            stream.manifest.push(LeafEntry { id: *id, plain_bytes }, &mut finished);
            let chunk = ChunkEntry { id: *id, plain_bytes };
            if self.index.announce(chunk) {
                self.outcome.chunks_new_n += 1;
                new_bytes += u64::from(plain_bytes);
                self.data.push(chunk, plain).await?;
            }
        }
        self.outcome.bytes_new += new_bytes;
        let bytes = hashed.cut.bytes().len() as u64;
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.progress.event(Event::Looked { bytes, bytes_new: new_bytes });
        self.nodes(finished).await
    }

    async fn nodes(&mut self, finished: Vec<FinishedNode>) -> Result<()> {
        for FinishedNode { id, bytes } in finished {
            let node = ChunkEntry { id, plain_bytes: bytes.len() as u32 };
            if self.index.announce(node) {
                self.outcome.nodes_new_n += 1;
                self.meta.push(node, &bytes).await?;
            }
        }
        Ok(())
    }

    async fn end(&mut self, number: usize, hash: [u8; 32], facts: BTreeMap<String, String>) -> Result<()> {
        let OpenStream { name, manifest } = self.open.remove(&number).expect("a stream begins before it ends");
        let mut finished = Vec::new();
        let root = manifest.finish(&mut finished);
        self.nodes(finished).await?;
        let record = StreamRecord {
            name,
            bytes: root.bytes,
            chunks_n: root.chunks_n,
            hash,
            root: root.id,
            root_level: root.level,
            chunker: self.params,
            facts,
        };
        self.streams.insert(number, record);
        Ok(())
    }
}
