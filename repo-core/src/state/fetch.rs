//! Reads chunks and nodes back: finds them, reads their blobs in few requests, opens, inflates, and checks every id.

use super::index::{Index, Location, PackNumber};
use super::loader;
use super::repository::Repository;
use crate::crafts::compress::Decompressor;
use crate::crafts::crypto::keys::Keys;
use crate::edges::cpu;
use crate::format::names::{self, PackKind};
use crate::format::node::LeafEntry;
use crate::format::pack::PackOpener;
use crate::words::error::{Error, Result};
use crate::words::id::ChunkId;
use crate::words::limits::{
    COALESCE_GAP_BYTES, COALESCED_BYTES_MAX, NODE_BLOBS_CACHED_MAX, READS_MAX, RESTORE_WINDOW_BYTES,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError, RwLock};

/// Reads from one repository through one index, which it loads again once if packs have moved meanwhile, and completes
/// from the packs' own trailers if a fragment is lost.
pub struct Fetcher {
    repository: Repository,
    index: RwLock<Index>,
    repairs: tokio::sync::Mutex<Repairs>,
    node_blobs: Mutex<VecDeque<((PackNumber, u32), Bytes)>>,
}

#[derive(Default)]
struct Repairs {
    reloaded: bool,
    scanned: bool,
}

/// Chunks that follow one another in a stream, and the blobs that hold them.
pub struct Window {
    /// Blobs to read, with where they lie.
    blobs: BTreeMap<(PackNumber, u64), Location>,
    /// The chunks in the stream's order.
    chunks: Vec<(LeafEntry, Location)>,
}

impl Window {
    fn create() -> Self {
        Window { blobs: BTreeMap::new(), chunks: Vec::new() }
    }
}

impl Fetcher {
    /// Creates a fetcher over a loaded index.
    pub fn create(repository: &Repository, index: Index) -> Self {
        Fetcher {
            repository: repository.clone(),
            index: RwLock::new(index),
            repairs: Default::default(),
            node_blobs: Default::default(),
        }
    }

    /// Calls `read` with the index.
    pub fn with_index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the repository that it reads from.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Finds a chunk or node. An unknown one makes it read the trailers of packs that the index does not cover, once.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Store`].
    pub async fn locate(&self, id: &ChunkId, what: &str) -> Result<Location> {
        if let Some(location) = self.with_index(|index| index.locate(id)) {
            return Ok(location);
        }
        self.scan_uncovered().await?;
        self.with_index(|index| index.locate(id)).ok_or_else(|| Error::Missing {
            object: format!("{what} {}", id.short()),
            why: "no pack that is left holds it; `dedump check` names the snapshots that need it".to_owned(),
        })
    }

    async fn scan_uncovered(&self) -> Result<()> {
        let mut repairs = self.repairs.lock().await;
        if std::mem::replace(&mut repairs.scanned, true) {
            return Ok(());
        }
        let packs = loader::list_packs(&self.repository).await?;
        let uncovered: Vec<_> =
            packs.sorted().into_iter().filter(|(_, id, _)| !self.with_index(|index| index.has_pack(id))).collect();
        let mut trailers =
            stream::iter(uncovered).map(|pack| loader::read_trailer(&self.repository, pack)).buffered(READS_MAX);
        while let Some(contents) = trailers.next().await {
            match contents {
                Ok(contents) => self.index.write().unwrap_or_else(PoisonError::into_inner).add(&contents),
                // What a damaged pack holds stays unknown, and so missing where it is needed.
                Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Loads the index again, once; returns whether it did.
    async fn reload(&self) -> Result<bool> {
        let mut repairs = self.repairs.lock().await;
        if std::mem::replace(&mut repairs.reloaded, true) {
            return Ok(false);
        }
        let loaded = loader::load(&self.repository).await?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = loaded.index;
        self.node_blobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        repairs.scanned = false;
        Ok(true)
    }

    /// Returns the bytes of a manifest node, verified.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`].
    pub async fn node(&self, id: &ChunkId) -> Result<Bytes> {
        let location = self.locate(id, "node").await?;
        let blob = match self.node_blob(&location).await {
            Err(Error::Missing { .. }) if self.reload().await? => {
                self.node_blob(&self.locate(id, "node").await?).await?
            }
            other => other?,
        };
        // The place may have changed by the reload; the index has the current one.
        let location = self.locate(id, "node").await?;
        let bytes =
            cut(&blob, &location).ok_or_else(|| Error::damaged(format!("node {}", id.short()), "it is cut off"))?;
        if self.repository.keys.node_id(&bytes) != *id {
            return Err(Error::damaged(format!("node {}", id.short()), "it does not hash to its id"));
        }
        Ok(bytes)
    }

    async fn node_blob(&self, location: &Location) -> Result<Bytes> {
        let key = (location.pack, location.blob);
        let cached = |blobs: &VecDeque<((PackNumber, u32), Bytes)>| {
            blobs.iter().find(|(cached, _)| *cached == key).map(|(_, blob)| blob.clone())
        };
        if let Some(blob) = cached(&self.node_blobs.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(blob);
        }
        let info = self.with_index(|index| *index.pack(location.pack));
        let sealed = self.read_range(info.kind, info.id, location.range()).await?;
        let opener = PackOpener::new(self.repository.sealer(), info)?;
        let location = *location;
        let plain = self
            .repository
            .cpu
            .run(move || opener.open_blob(&mut Decompressor::new()?, location.blob as usize, &location.place, &sealed))
            .await?;
        let blob = Bytes::from(plain);
        let mut blobs = self.node_blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if blobs.len() == NODE_BLOBS_CACHED_MAX {
            blobs.pop_front();
        }
        blobs.push_back((key, blob.clone()));
        Ok(blob)
    }

    /// Takes chunks off the front of `chunks` as long as their blobs fit into one window; at least one.
    ///
    /// # Errors
    /// As [`Fetcher::locate`].
    pub async fn plan(&self, chunks: &mut VecDeque<LeafEntry>) -> Result<Window> {
        let mut window = Window::create();
        let mut plain_bytes = 0;
        while let Some(entry) = chunks.front() {
            let location = self.locate(&entry.id, "chunk").await?;
            if location.plain_bytes != entry.plain_bytes {
                let why = format!("it has {} bytes, and {} in the manifest", location.plain_bytes, entry.plain_bytes);
                return Err(Error::damaged(format!("chunk {}", entry.id.short()), why));
            }
            let key = (location.pack, location.offset);
            if !window.blobs.contains_key(&key) {
                plain_bytes += location.place.plain_bytes as usize;
                if plain_bytes > RESTORE_WINDOW_BYTES && !window.chunks.is_empty() {
                    break;
                }
                window.blobs.insert(key, location);
            }
            window.chunks.push((*entry, location));
            chunks.pop_front();
        }
        Ok(window)
    }

    /// Returns the bytes of a window in the stream's order, every chunk verified.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`].
    pub async fn fetch(&self, window: Window) -> Result<Vec<Bytes>> {
        let entries: Vec<LeafEntry> = window.chunks.iter().map(|(entry, _)| *entry).collect();
        match self.fetch_once(window).await {
            Err(Error::Missing { .. }) if self.reload().await? => {
                let mut pieces = Vec::new();
                let mut chunks = VecDeque::from(entries);
                while !chunks.is_empty() {
                    let window = self.plan(&mut chunks).await?;
                    pieces.extend(self.fetch_once(window).await?);
                }
                Ok(pieces)
            }
            other => other,
        }
    }

    async fn fetch_once(&self, window: Window) -> Result<Vec<Bytes>> {
        let reads: Vec<_> = coalesce(window.blobs.values().copied())
            .into_iter()
            .map(|read| (self.with_index(|index| *index.pack(read.pack)), read))
            .collect();
        let sealed: Vec<(PackOpener, Location, Bytes)> = stream::iter(reads)
            .map(|(info, read)| async move {
                let bytes = self.read_range(info.kind, info.id, read.range.clone()).await?;
                let blobs = read.blobs.into_iter().map(|location| {
                    let start = (location.offset - read.range.start) as usize;
                    let sealed = bytes.slice(start..start + location.sealed_bytes as usize);
                    Ok((PackOpener::new(self.repository.sealer(), info)?, location, sealed))
                });
                blobs.collect::<Result<Vec<_>>>()
            })
            .buffered(READS_MAX)
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .flatten()
            .collect();
        let keys = self.repository.keys.clone();
        self.repository.cpu.run(move || decode(sealed, &window.chunks, &keys)).await
    }

    async fn read_range(
        &self,
        kind: PackKind,
        id: crate::words::id::PackId,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes> {
        let name = names::pack(kind, id);
        self.repository.store.get_range(&name, range).await?.ok_or_else(|| Error::Missing {
            object: name,
            why: "snapshots need it; put a copy of it back, or see `dedump check`".to_owned(),
        })
    }
}

/// Blobs of one pack that are read in one request.
struct Read {
    pack: PackNumber,
    range: std::ops::Range<u64>,
    blobs: Vec<Location>,
}

/// Joins blobs that lie near one another, in the order of pack and offset.
fn coalesce(blobs: impl Iterator<Item = Location>) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for blob in blobs {
        let range = blob.range();
        match reads.last_mut() {
            Some(last)
                if last.pack == blob.pack
                    && range.start <= last.range.end + COALESCE_GAP_BYTES
                    && range.end - last.range.start <= COALESCED_BYTES_MAX =>
            {
                last.range.end = range.end;
                last.blobs.push(blob);
            }
            _ => reads.push(Read { pack: blob.pack, range, blobs: vec![blob] }),
        }
    }
    reads
}

/// Opens the blobs, checks the chunks that are wanted, and returns them in the stream's order.
fn decode(
    sealed: Vec<(PackOpener, Location, Bytes)>,
    chunks: &[(LeafEntry, Location)],
    keys: &Keys,
) -> Result<Vec<Bytes>> {
    let places: Vec<_> = sealed.iter().map(|(_, location, _)| (location.pack, location.offset)).collect();
    let plains = cpu::map_with(sealed, Decompressor::new, |inflater, (opener, location, sealed)| {
        let inflater = inflater.as_mut().map_err(|error| Error::System(error.to_string()))?;
        opener.open_blob(inflater, location.blob as usize, &location.place, &sealed).map(Bytes::from)
    });
    let mut blobs = BTreeMap::new();
    for (place, plain) in places.into_iter().zip(plains) {
        blobs.insert(place, plain?);
    }
    let pieces = cpu::map(chunks.to_vec(), |(entry, location)| {
        let damaged = |why| Error::damaged(format!("chunk {}", entry.id.short()), why);
        let blob = blobs.get(&(location.pack, location.offset)).expect("every blob of the window was read");
        let piece = cut(blob, &location).ok_or_else(|| damaged("it is cut off"))?;
        if keys.chunk_id(&piece) != entry.id {
            return Err(damaged("it does not hash to its id"));
        }
        Ok(piece)
    });
    pieces.into_iter().collect()
}

fn cut(blob: &Bytes, location: &Location) -> Option<Bytes> {
    let (start, bytes_n) = (location.start as usize, location.plain_bytes as usize);
    (start + bytes_n <= blob.len()).then(|| blob.slice(start..start + bytes_n))
}
