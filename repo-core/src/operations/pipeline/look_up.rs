//! The stage that knows what is new: it alone changes the index, builds the manifests and gathers what is to be packed.

use super::gather::{Gatherer, NewRun};
use super::{Hashed, Outcome, Plan, Step, gone};
use crate::crafts::buffers::Buffers;
use crate::crafts::chunker::ChunkerParams;
use crate::crafts::sketch::{Sketch, sketch};
use crate::edges::cpu;
use crate::edges::progress::{Event, Progress};
use crate::format::contents::ChunkEntry;
use crate::format::node::LeafEntry;
use crate::format::snapshot::StreamRecord;
use crate::state::fetch::Fetcher;
use crate::state::index::ChunkNumber;
use crate::state::manifest::{FinishedNode, ManifestBuilder};
use crate::state::packer::Run;
use crate::state::parent::{Like, Parent};
use crate::state::repository::Repository;
use crate::state::snapshots::Snapshot;
use crate::words::error::{Error, Result};
use crate::words::id::ChunkId;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

pub(super) struct LookUp<'a> {
    progress: &'a dyn Progress,
    repository: &'a Repository,
    fetcher: &'a Fetcher,
    /// The parent's streams, by name.
    parents: HashMap<&'a str, &'a StreamRecord>,
    with_sketches: bool,
    params: ChunkerParams,
    bytes_done: &'a AtomicU64,
    open: BTreeMap<usize, OpenStream<'a>>,
    data: Outlet<NewRun>,
    meta: Outlet<Run>,
    streams: BTreeMap<usize, StreamRecord>,
    outcome: Outcome,
}

struct OpenStream<'a> {
    name: String,
    manifest: ManifestBuilder<'a>,
    parent: Option<Parent>,
}

/// What the index says of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// It is stored; or this run came across it before, then it has no number.
    Known(Option<ChunkNumber>),
}

/// Gathers what is new and hands it on.
struct Outlet<T> {
    gatherer: Gatherer,
    sender: mpsc::Sender<T>,
}

impl<T: From<NewRun>> Outlet<T> {
    fn create(sender: mpsc::Sender<T>, buffers: &Buffers) -> Self {
        Outlet { gatherer: Gatherer::create(buffers.clone()), sender }
    }

    async fn push(&mut self, chunk: ChunkEntry, plain: &[u8], like: Option<Like>) -> Result<()> {
        let full = self.gatherer.push(chunk, plain, like);
        self.send(full).await
    }

    async fn finish(mut self) -> Result<()> {
        let rest = self.gatherer.finish();
        self.send(rest).await
    }

    async fn send(&mut self, run: Option<NewRun>) -> Result<()> {
        match run {
            Some(run) => self.sender.send(run.into()).await.map_err(gone),
            None => Ok(()),
        }
    }
}

impl<'a> LookUp<'a> {
    pub fn create(plan: &Plan<'a>, data: mpsc::Sender<NewRun>, meta: mpsc::Sender<Run>) -> LookUp<'a> {
        let streams = |parent: &'a Snapshot| parent.record.streams.iter();
        LookUp {
            progress: plan.progress,
            repository: plan.repository,
            fetcher: plan.fetcher,
            parents: plan.parent.into_iter().flat_map(streams).map(|stream| (stream.name.as_str(), stream)).collect(),
            with_sketches: plan.with_sketches,
            params: plan.chunker.params(),
            bytes_done: plan.bytes_done,
            open: BTreeMap::new(),
            data: Outlet::create(data, &plan.buffers),
            meta: Outlet::create(meta, &plan.buffers),
            streams: BTreeMap::new(),
            outcome: Outcome::default(),
        }
    }

    pub async fn run(mut self, mut steps: mpsc::Receiver<Step<Hashed>>) -> Result<Outcome> {
        while let Some(step) = steps.recv().await {
            match step {
                Step::Begin { number, name } => self.begin(number, name).await,
                Step::Bytes { number, bytes } => self.window(number, bytes).await?,
                Step::End { number, last, facts } => {
                    let hash = last.stream_hash.expect("the hash stage ends the hash with the stream");
                    self.window(number, last).await?;
                    self.end(number, hash, facts).await?;
                }
                Step::Reuse { number, stream } => self.reuse(number, *stream),
                // What it stored stays: others may share it by now, and the next backup may.
                Step::GiveUp { number } => {
                    self.open.remove(&number);
                    self.streams.remove(&number);
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

    /// Enters a stream of the parent, all of which was found in the index; see `operations/reuse.rs`.
    fn reuse(&mut self, number: usize, stream: StreamRecord) {
        let bytes = stream.bytes;
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.progress.event(Event::StreamBegun { name: stream.name.clone(), bytes: Some(bytes) });
        self.progress.event(Event::Looked { bytes, bytes_new: 0 });
        self.streams.insert(number, stream);
    }

    async fn begin(&mut self, number: usize, name: String) {
        self.progress.event(Event::StreamBegun { name: name.clone(), bytes: None });
        let parent = match self.parents.get(name.as_str()) {
            None => None,
            Some(stream) => match Parent::load(self.fetcher, stream).await {
                Ok(parent) => Some(parent),
                // The cache alone was asked, and does not have it: no deltas then, as agreed.
                Err(Error::Missing { .. }) => None,
                Err(error) => {
                    if self.outcome.problems.len() < 10 {
                        let problem = format!("no deltas against the snapshot before for stream {name:?}: {error}");
                        self.outcome.problems.push(problem);
                    }
                    None
                }
            },
        };
        let manifest = ManifestBuilder::create(&self.repository.keys);
        self.open.insert(number, OpenStream { name, manifest, parent });
    }

    async fn window(&mut self, number: usize, hashed: Hashed) -> Result<()> {
        let states = self.look_up(&hashed);
        let stream = self.open.get_mut(&number).expect("a stream begins before it goes on");
        // A known chunk's sketch is mostly the parent's.
        let is_wanted = |state: &State| {
            self.with_sketches && (stream.parent.is_none() || matches!(state, State::New | State::Known(None)))
        };
        let wanted: Vec<bool> = states.iter().map(is_wanted).collect();
        let (hashed, sketches) = sketches(self.repository, hashed, wanted).await;
        let (mut finished, mut new_bytes) = (Vec::new(), 0);
        let mut sketches = sketches.into_iter();
        for ((id, plain), state) in hashed.ids.iter().zip(hashed.cut.chunks()).zip(states) {
            let made = sketches.next().flatten();
            let stream = self.open.get_mut(&number).expect("it is open");
            let (sketch, like) = match (&mut stream.parent, state) {
                (Some(parent), State::New) => (made, made.and_then(|sketch| parent.like(&sketch))),
                (Some(parent), State::Known(number)) => (number.and_then(|number| parent.known(number)).or(made), None),
                (None, _) => (made, None),
            };
            let sketch = self.with_sketches.then(|| sketch.unwrap_or_else(|| self::sketch(plain)));
            let plain_bytes = plain.len() as u32;
            stream.manifest.push(LeafEntry { id: *id, plain_bytes }, sketch, &mut finished);
            if state == State::New {
                new_bytes += u64::from(plain_bytes);
                self.outcome.chunks_new_n += 1;
                self.data.push(ChunkEntry { id: *id, plain_bytes }, plain, like).await?;
            }
        }
        self.outcome.bytes_new += new_bytes;
        let bytes = hashed.cut.bytes().len() as u64;
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.progress.event(Event::Looked { bytes, bytes_new: new_bytes });
        self.nodes(finished).await
    }

    /// Announces a window's chunks.
    fn look_up(&self, hashed: &Hashed) -> Vec<State> {
        self.fetcher.with_index_mut(|index| {
            let chunks = hashed.ids.iter().zip(hashed.cut.chunks());
            let look_up = |(id, plain): (&ChunkId, &[u8])| {
                if index.announce(ChunkEntry { id: *id, plain_bytes: plain.len() as u32 }) {
                    State::New
                } else {
                    State::Known(index.number_of(id))
                }
            };
            chunks.map(look_up).collect()
        })
    }

    async fn nodes(&mut self, finished: Vec<FinishedNode>) -> Result<()> {
        for FinishedNode { id, bytes } in finished {
            let node = ChunkEntry { id, plain_bytes: bytes.len() as u32 };
            if self.fetcher.with_index_mut(|index| index.announce(node)) {
                self.outcome.nodes_new_n += 1;
                self.meta.push(node, &bytes, None).await?;
            }
        }
        Ok(())
    }

    async fn end(&mut self, number: usize, hash: [u8; 32], facts: BTreeMap<String, String>) -> Result<()> {
        let OpenStream { name, manifest, .. } = self.open.remove(&number).expect("a stream begins before it ends");
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

/// Makes the sketches that are wanted, side by side, if any is.
async fn sketches(repository: &Repository, hashed: Hashed, wanted: Vec<bool>) -> (Hashed, Vec<Option<Sketch>>) {
    if !wanted.contains(&true) {
        return (hashed, Vec::new());
    }
    let work = move || {
        let chunks = hashed.cut.chunks().zip(wanted).collect();
        let sketches = cpu::map(chunks, |(chunk, is_wanted): (&[u8], bool)| is_wanted.then(|| sketch(chunk)));
        (hashed, sketches)
    };
    repository.cpu.run(work).await
}
