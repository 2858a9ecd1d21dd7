//! The data's path in a backup, from the engine's windows to stored packs. Six stages that run side by side in the
//! backup's own future, with bounded queues between them:
//!
//! ```text
//! sink ─▶ cut ─▶ hash ─▶ look up ─▶ read bases ─▶ pack data ─▶ ┐
//!                             └──────────────────▶ pack meta ─▶ ┴▶ fragments
//! ```
//!
//! Cutting, hashing, decoding and packing go to the processor's pool in windows. Dropping the future drops every stage.

mod gather;
mod look_up;

use self::gather::NewRun;
use self::look_up::LookUp;

use crate::crafts::buffers::Buffers;
use crate::crafts::chunker::Chunker;
use crate::crafts::compress::Compression;
use crate::edges::cpu;
use crate::edges::progress::{Event, Progress};
use crate::edges::source::{Piece, Window};
use crate::format::names::PackKind;
use crate::format::pack::PackContents;
use crate::format::snapshot::{StreamRecord, Totals};
use crate::state::bases::{self, BaseReader};
use crate::state::fetch::Fetcher;
use crate::state::fragments::Fragments;
use crate::state::packer::{self, Packer, Run, Stored};
use crate::state::repository::Repository;
use crate::state::snapshots::Snapshot;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, SessionId};
use crate::words::limits::{BLOBS_PER_WINDOW, BLOBS_QUEUED_MAX, WINDOWS_QUEUED_MAX};
use futures::future::{try_join, try_join3};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::mpsc;

/// What the pipeline needs to know.
pub(super) struct Plan<'a> {
    pub repository: &'a Repository,
    /// Knows which chunks are there, and reads bases.
    pub fetcher: &'a Fetcher,
    /// The snapshot against which deltas are made, if they are.
    pub parent: Option<&'a Snapshot>,
    /// Whether chunks get sketches, so that deltas can be made against them later.
    pub with_sketches: bool,
    pub progress: &'a dyn Progress,
    pub chunker: Arc<Chunker>,
    pub compression: Compression,
    /// Where plaintext on its way into packs is kept.
    pub buffers: Buffers,
    pub session: SessionId,
    /// Packs of runs that did not commit, which the session's fragments are to list, too.
    pub adopted: Vec<PackContents>,
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
    pub data: Stored,
    pub meta: Stored,
    pub fragment_bytes: u64,
    pub fragments_n: u32,
    pub bytes_read_back: u64,
    /// What went wrong and cost no more than room.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Returns what the dump has and what it cost.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            bytes: self.streams.iter().map(|stream| stream.bytes).sum(),
            chunks_n: self.streams.iter().map(|stream| stream.chunks_n).sum(),
            chunks_new_n: self.chunks_new_n,
            bytes_new: self.bytes_new,
            nodes_new_n: self.nodes_new_n,
            bytes_read_back: self.bytes_read_back,
            ..Totals::default()
        };
        packer::add_stored(&mut totals, &self.data, &self.meta, self.fragment_bytes);
        totals
    }
}

/// Runs all stages until the sink is gone.
pub(super) async fn run(mut plan: Plan<'_>, pieces: mpsc::Receiver<Piece>) -> Result<Outcome> {
    let Plan { repository, fetcher, progress, compression, session, .. } = plan;
    let (cut_sender, cut) = mpsc::channel(WINDOWS_QUEUED_MAX);
    let (hashed_sender, hashed) = mpsc::channel(WINDOWS_QUEUED_MAX);
    let (new_sender, new) = mpsc::channel(BLOBS_QUEUED_MAX);
    let (data_sender, data) = mpsc::channel(BLOBS_QUEUED_MAX);
    let (meta_sender, meta) = mpsc::channel(BLOBS_QUEUED_MAX);
    let (stored_sender, stored) = mpsc::unbounded_channel();
    let adopted = std::mem::take(&mut plan.adopted);
    let front = try_join(
        cut_stage(repository, progress, Arc::clone(&plan.chunker), pieces, cut_sender),
        hash_stage(repository, cut, hashed_sender),
    );
    let middle =
        try_join(LookUp::create(&plan, new_sender, meta_sender).run(hashed), bases_stage(fetcher, new, data_sender));
    let buffers = &plan.buffers;
    let packer = |kind| Packer { repository, progress, kind, compression, buffers: buffers.clone() };
    let back = try_join3(
        packer(PackKind::Data).run(data, stored_sender.clone()),
        packer(PackKind::Meta).run(meta, stored_sender),
        Fragments::create(repository, session).run_early(adopted, stored),
    );
    let (_, (outcome, problems), (data, meta, (fragments_n, fragment_bytes))) = try_join3(front, middle, back).await?;
    let problems = outcome.problems.into_iter().chain(problems).collect();
    Ok(Outcome { data, meta, fragments_n, fragment_bytes, problems, ..outcome })
}

/// What travels between the stages: a stream begins, goes on, ends, is taken over whole, or never was. Windows of several streams may alternate.
enum Step<T> {
    Begin { number: usize, name: String },
    Bytes { number: usize, bytes: T },
    End { number: usize, last: T, facts: BTreeMap<String, String> },
    Reuse { number: usize, stream: Box<StreamRecord> },
    GiveUp { number: usize },
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
    let mut given_up = BTreeSet::new();
    while let Some(piece) = pieces.recv().await {
        let step = match piece {
            // Of a writer that has not heard of it yet.
            Piece::Begin { number, .. }
            | Piece::Bytes { number, .. }
            | Piece::End { number, .. }
            | Piece::Reuse { number, .. }
                if given_up.contains(&number) =>
            {
                continue;
            }
            Piece::GiveUp { number } => {
                left_over.remove(&number);
                given_up.insert(number);
                Step::GiveUp { number }
            }
            Piece::Reuse { number, stream } => Step::Reuse { number, stream },
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
            // What a writer still sends finds the queue closed; a stream that it did not finish is found by the last stage.
            Piece::Close => break,
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
            Step::Reuse { number, stream } => Step::Reuse { number, stream },
            Step::GiveUp { number } => {
                hashers.remove(&number);
                Step::GiveUp { number }
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

/// Reads the bases of new chunks back, and hands both on. Returns what could not be read.
async fn bases_stage(
    fetcher: &Fetcher,
    mut runs: mpsc::Receiver<NewRun>,
    sender: mpsc::Sender<Run>,
) -> Result<Vec<String>> {
    let mut reader = BaseReader::create(fetcher);
    loop {
        let mut batch = Vec::with_capacity(BLOBS_PER_WINDOW);
        if runs.recv_many(&mut batch, BLOBS_PER_WINDOW).await == 0 {
            return Ok(reader.into_problems());
        }
        let mut choices = Vec::with_capacity(batch.len());
        for run in &batch {
            let choice = match bases::choose(fetcher, &run.chunks, &run.likes).await {
                Ok(choice) => choice,
                Err(failure) => {
                    reader.note(&failure).await;
                    None
                }
            };
            choices.push(choice);
        }
        let bases = reader.read(choices).await;
        for (run, bases) in batch.into_iter().zip(bases) {
            sender.send(Run { plain: run.plain, chunks: run.chunks, bases }).await.map_err(gone)?;
        }
    }
}
