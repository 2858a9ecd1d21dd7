//! The stream that a new one follows, and where in it the new stream is: finds for each new chunk its older self.
//!
//! Dumps of one source have their rows in much the same order, so the like of a chunk mostly follows the like of the chunk
//! before (Shilane et al., "WAN Optimized Replication of Backup Datasets Using Stream-Informed Delta Compression", FAST
//! 2012). A *cursor* says where that is. A chunk that the repository knows moves it; a new one is compared with the
//! sketches around it, then with all of the stream's, and where no sketch is alike the cursor itself is the guess.

use super::fetch::Fetcher;
use super::index::ChunkNumber;
use super::manifest::{ManifestReader, Root};
use crate::crafts::sketch::{SKETCH_BYTES, Sketch, likeness, super_features};
use crate::format::snapshot::StreamRecord;
use crate::words::error::Result;
use crate::words::limits::DELTA_GUESSES_MAX;
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

/// A chunk of the parent's stream.
#[derive(Debug, Clone, Copy)]
pub struct ParentChunk {
    /// The chunk, by its number in the index.
    pub number: ChunkNumber,
    sketch: Sketch,
}

/// A chunk's older self: where it is in the parent's stream.
#[derive(Clone)]
pub struct Like {
    /// The parent's chunks.
    pub chunks: Arc<[ParentChunk]>,
    /// The place among them.
    pub position: usize,
}

/// The parent's stream. Takes 16 bytes a chunk, three times that for a moment while it is loaded, and 28 more once a place had
/// to be searched for in all of it.
pub struct Parent {
    chunks: Arc<[ParentChunk]>,
    /// Where the older self of the next chunk is, if all goes on as before.
    cursor: usize,
    /// Guesses since a chunk was last found for certain.
    guesses_n: usize,
    /// Positions in the order of the chunks' numbers.
    by_number: Option<Vec<u32>>,
    /// Each super-feature with its positions, sorted.
    by_feature: Option<[Vec<(u32, u32)>; 3]>,
}

/// How far around the cursor chunks are compared before all are.
const NEAR_BEFORE: usize = 8;
const NEAR_AFTER: usize = 24;
/// Places with one super-feature that are compared, at most: chunks that repeat all over a stream are no use as bases.
const CANDIDATES_MAX: usize = 32;

impl Parent {
    /// Reads the chunks of a stream. Those that the index does not know are left out.
    ///
    /// # Errors
    /// [`Error::Missing`](crate::Error::Missing), [`Error::Damaged`](crate::Error::Damaged),
    /// [`Error::Store`](crate::Error::Store).
    pub async fn load(fetcher: &Fetcher, stream: &StreamRecord) -> Result<Parent> {
        let root = Root { id: stream.root, level: stream.root_level, bytes: stream.bytes, chunks_n: stream.chunks_n };
        let (mut reader, mut chunks) = (ManifestReader::create(root), Vec::new());
        while let Some((entries, sketches)) = reader.next_leaf_with_sketches(fetcher).await? {
            fetcher.with_index(|index| {
                for (entry, sketch) in
                    entries.iter().zip(sketches.into_iter().chain(std::iter::repeat([0; SKETCH_BYTES])))
                {
                    chunks.extend(index.number_of(&entry.id).map(|number| ParentChunk { number, sketch }));
                }
            });
        }
        Ok(Parent { chunks: chunks.into(), cursor: 0, guesses_n: 0, by_number: None, by_feature: None })
    }

    /// Takes note of a chunk that the repository knows, and returns its sketch if the parent has it.
    pub fn known(&mut self, number: ChunkNumber) -> Option<Sketch> {
        let is_it = |position: &usize| self.chunks[*position].number == number;
        let at_cursor = (self.cursor < self.chunks.len()).then_some(self.cursor).filter(is_it);
        let position = at_cursor.or_else(|| self.near().find(is_it)).or_else(|| self.position_of(number))?;
        self.found(position);
        Some(self.chunks[position].sketch).filter(|sketch| *sketch != [0; SKETCH_BYTES])
    }

    /// Returns where the older self of a new chunk probably is.
    pub fn like(&mut self, sketch: &Sketch) -> Option<Like> {
        let position = self.most_alike(self.near(), sketch).or_else(|| self.search(sketch));
        match position {
            Some(position) => self.found(position),
            None if self.cursor < self.chunks.len() && self.guesses_n < DELTA_GUESSES_MAX => {
                self.guesses_n += 1;
                self.cursor += 1;
            }
            None => return None,
        }
        Some(Like { chunks: Arc::clone(&self.chunks), position: self.cursor - 1 })
    }

    fn found(&mut self, position: usize) {
        self.guesses_n = 0;
        self.cursor = position + 1;
    }

    fn near(&self) -> Range<usize> {
        self.cursor.saturating_sub(NEAR_BEFORE)..(self.cursor + NEAR_AFTER).min(self.chunks.len())
    }

    /// Returns the position whose sketch shares most, the nearest of several; `None` if none shares anything.
    fn most_alike(&self, positions: impl Iterator<Item = usize>, sketch: &Sketch) -> Option<usize> {
        positions
            .map(|position| (likeness(&self.chunks[position].sketch, sketch), position))
            .filter(|(shared, _)| *shared > 0)
            .max_by_key(|(shared, position)| (*shared, Reverse(position.abs_diff(self.cursor))))
            .map(|(_, position)| position)
    }

    /// Returns the position of a known chunk, the nearest of several.
    fn position_of(&mut self, number: ChunkNumber) -> Option<usize> {
        let chunks = &self.chunks;
        let by_number = self.by_number.get_or_insert_with(|| {
            let mut positions: Vec<u32> = (0..chunks.len() as u32).collect();
            positions.sort_unstable_by_key(|position| chunks[*position as usize].number);
            positions
        });
        let first = by_number.partition_point(|position| chunks[*position as usize].number < number);
        let positions = by_number[first..].iter().map(|position| *position as usize);
        let same = positions.take_while(|position| chunks[*position].number == number).take(CANDIDATES_MAX);
        same.min_by_key(|position| position.abs_diff(self.cursor))
    }

    /// Searches the whole stream for a chunk that is alike.
    fn search(&mut self, sketch: &Sketch) -> Option<usize> {
        let chunks = &self.chunks;
        let by_feature = self.by_feature.get_or_insert_with(|| {
            let mut by_feature: [Vec<(u32, u32)>; 3] = Default::default();
            for (position, chunk) in (0..).zip(chunks.iter()) {
                for (feature, places) in super_features(&chunk.sketch).into_iter().zip(&mut by_feature) {
                    places.extend(feature.map(|feature| (feature, position)));
                }
            }
            by_feature.iter_mut().for_each(|places| places.sort_unstable());
            by_feature
        });
        let mut candidates = Vec::new();
        for (feature, places) in super_features(sketch).into_iter().zip(by_feature) {
            let Some(feature) = feature else { continue };
            let first = places.partition_point(|place| place.0 < feature);
            let same = places[first..].iter().take_while(|place| place.0 == feature).take(CANDIDATES_MAX);
            candidates.extend(same.map(|place| place.1 as usize));
        }
        self.most_alike(candidates.into_iter(), sketch)
    }
}
