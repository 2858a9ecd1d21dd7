//! Gathers new chunks into runs, and runs into batches for the processor.

use crate::crafts::buffers::Buffers;
use crate::format::contents::ChunkEntry;
use crate::state::packer::Run;
use crate::state::parent::Like;
use crate::words::limits::{BLOB_CHUNKS_MAX, BLOB_PLAIN_BYTES_TARGET, BLOBS_PER_WINDOW, DELTA_PLAIN_BYTES_TARGET};

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

/// Gathers chunks into runs, and runs into batches.
pub(super) struct Gatherer {
    run: NewRun,
    full: Vec<NewRun>,
    buffers: Buffers,
}

impl Gatherer {
    /// Creates a gatherer that puts plaintext into these buffers.
    pub fn create(buffers: Buffers) -> Self {
        Gatherer { run: NewRun::default(), full: Vec::new(), buffers }
    }

    /// Appends a chunk; returns a batch if that filled one.
    pub fn push(&mut self, chunk: ChunkEntry, plain: &[u8], like: Option<Like>) -> Option<Vec<NewRun>> {
        let is_delta = like.is_some() || self.run.likes.iter().any(Option::is_some);
        let target = if is_delta { DELTA_PLAIN_BYTES_TARGET } else { BLOB_PLAIN_BYTES_TARGET };
        let full = self.run.plain.len() + plain.len() > target || self.run.chunks.len() == BLOB_CHUNKS_MAX;
        if !self.run.chunks.is_empty() && full {
            self.full.push(std::mem::take(&mut self.run));
        }
        if self.run.chunks.is_empty() {
            self.run.plain = self.buffers.take(target.max(plain.len()));
        }
        self.run.plain.extend_from_slice(plain);
        self.run.chunks.push(chunk);
        self.run.likes.push(like);
        (self.full.len() >= BLOBS_PER_WINDOW).then(|| std::mem::take(&mut self.full))
    }

    /// Returns what is gathered, as the last batch.
    pub fn finish(&mut self) -> Vec<NewRun> {
        if !self.run.chunks.is_empty() {
            self.full.push(std::mem::take(&mut self.run));
        }
        std::mem::take(&mut self.full)
    }
}
