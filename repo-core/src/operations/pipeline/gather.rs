//! Gathers new chunks into runs for the processor.

use crate::crafts::buffers::Buffers;
use crate::format::contents::ChunkEntry;
use crate::state::packer::Run;
use crate::state::parent::Like;
use crate::words::limits::{BLOB_CHUNKS_MAX, BLOB_PLAIN_BYTES_TARGET, DELTA_PLAIN_BYTES_TARGET};

/// New chunks that will make one blob: their plaintext, back to back, what they are, and their older selves.
#[derive(Default)]
pub(super) struct NewRun {
    pub plain: Vec<u8>,
    pub chunks: Vec<ChunkEntry>,
    /// For each chunk, where its older self is.
    pub likes: Vec<Option<Like>>,
}

impl From<NewRun> for Run {
    fn from(run: NewRun) -> Run {
        Run { plain: run.plain, chunks: run.chunks, bases: None }
    }
}

/// Gathers chunks into runs.
pub(super) struct Gatherer {
    run: NewRun,
    buffers: Buffers,
}

impl Gatherer {
    /// Creates a gatherer that puts plaintext into these buffers.
    pub fn create(buffers: Buffers) -> Self {
        Gatherer { run: NewRun::default(), buffers }
    }

    /// Appends a chunk; returns the run before it if that was full.
    pub fn push(&mut self, chunk: ChunkEntry, plain: &[u8], like: Option<Like>) -> Option<NewRun> {
        let is_delta = like.is_some() || self.run.likes.iter().any(Option::is_some);
        let target = if is_delta { DELTA_PLAIN_BYTES_TARGET } else { BLOB_PLAIN_BYTES_TARGET };
        let is_full = self.run.plain.len() + plain.len() > target || self.run.chunks.len() == BLOB_CHUNKS_MAX;
        let full = if is_full { self.finish() } else { None };
        if self.run.chunks.is_empty() {
            self.run.plain = self.buffers.take(target.max(plain.len()));
        }
        self.run.plain.extend_from_slice(plain);
        self.run.chunks.push(chunk);
        self.run.likes.push(like);
        full
    }

    /// Returns what is gathered, if anything is.
    pub fn finish(&mut self) -> Option<NewRun> {
        (!self.run.chunks.is_empty()).then(|| std::mem::take(&mut self.run))
    }
}
