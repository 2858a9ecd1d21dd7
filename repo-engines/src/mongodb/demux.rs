//! The thread that takes an archive apart, into the documents of each collection.

use super::archive::{self, Collection, Prelude, Stop, Visit, new_crc, parse};
use super::bson;
use crate::sort::{SortKey, Sorter};
use crate::worker::{PIECES_QUEUED_MAX, Pieces, Worker, tell};
use crc_fast::Digest;
use dedump_core::Bytes;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::mpsc::{self, Sender};

/// Bytes of a piece.
const PIECE_BYTES: usize = 512 * 1024;
/// Bytes of documents that are sorted in memory; more go through temporary files.
const SORTED_BYTES: usize = 64 << 20;

/// What the thread tells. A collection is its place in the prelude.
pub(super) enum Step {
    /// What the archive says before its documents.
    Prelude(Prelude),
    /// The documents of a collection begin; with the name under which they come.
    Begin(usize, String),
    /// The next documents, or parts of them.
    Piece(usize, Vec<u8>),
    /// All documents of a collection were there.
    End(usize, Counted),
}

/// What a collection has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub documents_n: u64,
    /// The checksum of the documents in their stored order.
    pub crc: u64,
    /// Whether they are in the order of `_id`.
    pub is_sorted: bool,
}

/// The thread at work.
pub(super) type Demux = Worker<Step, Stop>;

impl Demux {
    /// Starts a thread that reads an archive; the sender is dropped at its end. With a folder for temporary files, documents are
    /// put into the order of `_id`, but those of collections whose order is part of what they say.
    pub fn of_archive(sorted_in: Option<PathBuf>) -> (Sender<Bytes>, Demux) {
        let (sender, pieces) = mpsc::channel(PIECES_QUEUED_MAX);
        let demux = Worker::start(move |steps| {
            let mut parts = Parts { steps, sorted_in, collections: Vec::new(), open: BTreeMap::new() };
            parse(Pieces::new(pieces), &mut parts)
        });
        (sender, demux)
    }
}

/// Sorts documents into collections, and tells pieces of them.
struct Parts {
    steps: Sender<Step>,
    sorted_in: Option<PathBuf>,
    /// Whether the order of a collection is free.
    collections: Vec<bool>,
    open: BTreeMap<usize, Open>,
}

/// A collection whose documents come.
struct Open {
    documents_n: u64,
    way: Way,
}

enum Way {
    /// As they come.
    AsIs(Vec<u8>),
    /// By `_id`.
    Sorted(Box<Sorter>),
}

impl Visit for Parts {
    fn prelude(&mut self, prelude: Prelude) -> archive::Result<()> {
        self.collections = prelude.collections.iter().map(is_free).collect();
        Ok(tell(&self.steps, Step::Prelude(prelude))?)
    }

    fn begin(&mut self, collection: usize, name: &str) -> archive::Result<()> {
        let folder = self.sorted_in.as_ref().filter(|_| self.collections[collection]);
        let way = match folder {
            Some(folder) => Way::Sorted(Box::new(Sorter::new(SORTED_BYTES, folder))),
            None => Way::AsIs(Vec::with_capacity(PIECE_BYTES)),
        };
        self.open.insert(collection, Open { documents_n: 0, way });
        Ok(tell(&self.steps, Step::Begin(collection, name.to_owned()))?)
    }

    fn document(&mut self, collection: usize, document: &[u8]) -> archive::Result<()> {
        let open = self.open.get_mut(&collection).expect("it has begun");
        open.documents_n += 1;
        match &mut open.way {
            Way::AsIs(piece) => {
                piece.extend_from_slice(document);
                if piece.len() >= PIECE_BYTES {
                    let piece = std::mem::replace(piece, Vec::with_capacity(PIECE_BYTES));
                    tell(&self.steps, Step::Piece(collection, piece))?;
                }
            }
            Way::Sorted(sorter) => {
                let mut key = SortKey::default();
                if let Some(id) = bson::find(document, "_id") {
                    key.extend(&[id.kind]);
                    key.extend(id.bytes);
                }
                sorter.append(document)?;
                sorter.end(&mut key)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, collection: usize, crc: u64) -> archive::Result<()> {
        let open = self.open.remove(&collection).expect("it has begun");
        let counted = match open.way {
            Way::AsIs(piece) => {
                tell(&self.steps, Step::Piece(collection, piece))?;
                Counted { documents_n: open.documents_n, crc, is_sorted: false }
            }
            Way::Sorted(mut sorter) => {
                let mut out = Out { steps: &self.steps, collection, piece: Vec::new(), crc: new_crc() };
                let mut sorted = sorter.sorted()?;
                while sorted.next()? {
                    sorted.payload(|part| out.write(part))?;
                }
                out.flush()?;
                Counted { documents_n: open.documents_n, crc: out.crc.finalize(), is_sorted: true }
            }
        };
        Ok(tell(&self.steps, Step::End(collection, counted))?)
    }
}

/// Tells sorted documents in pieces.
struct Out<'a> {
    steps: &'a Sender<Step>,
    collection: usize,
    piece: Vec<u8>,
    crc: Digest,
}

impl Out<'_> {
    fn write(&mut self, part: &[u8]) -> archive::Result<()> {
        self.crc.update(part);
        self.piece.extend_from_slice(part);
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> archive::Result<()> {
        Ok(tell(self.steps, Step::Piece(self.collection, std::mem::take(&mut self.piece)))?)
    }
}

/// Returns whether a collection says the same in any order: not if it is capped, or the log of what happened.
fn is_free(collection: &Collection) -> bool {
    let metadata: Json = serde_json::from_str(&collection.metadata).unwrap_or(Json::Null);
    !collection.database.is_empty() && metadata["options"]["capped"] != Json::Bool(true)
}
