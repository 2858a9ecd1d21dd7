//! Reads chunks and nodes back: finds them, reads their blobs in few requests, opens, inflates, and checks every id.

use super::index::{Index, Location};
use super::loader;
use super::repository::Repository;
use crate::crafts::compress::Decompressor;
use crate::crafts::crypto::keys::Keys;
use crate::edges::cpu;
use crate::format::names;
use crate::format::node::LeafEntry;
use crate::format::pack::{PackInfo, PackOpener};
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use crate::words::limits::{
    COALESCE_GAP_BYTES, COALESCED_BYTES_MAX, NODE_BLOBS_CACHED_MAX, READS_MAX, RESTORE_WINDOW_BYTES,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError, RwLock};

/// Reads from one repository through one index. It completes the index from the packs' own trailers if a fragment is
/// lost; and where a pack is gone or damaged, it loads the index again, once a pack, to find its chunks elsewhere.
pub struct Fetcher {
    repository: Repository,
    index: RwLock<Index>,
    repairs: tokio::sync::Mutex<Repairs>,
    node_blobs: Mutex<VecDeque<((PackId, u32), Bytes)>>,
}

#[derive(Default)]
struct Repairs {
    scanned: bool,
    avoided: HashSet<PackId>,
}

/// Where a chunk lies, and all that is needed to open its pack: good for ever, whatever becomes of the index.
#[derive(Clone, Copy)]
struct Found {
    info: PackInfo,
    location: Location,
}

/// A pack that could not be read, and why.
struct PackFailure {
    pack: PackId,
    error: Error,
}

/// Chunks that follow one another in a stream, and the blobs that hold them.
pub struct Window {
    /// Blobs to read, with where they lie.
    blobs: BTreeMap<(PackId, u64), Found>,
    /// The chunks in the stream's order.
    chunks: Vec<(LeafEntry, Found)>,
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
    pub async fn locate(&self, id: &ChunkId, what: &str) -> Result<(PackId, Location)> {
        self.find(id, what).await.map(|found| (found.info.id, found.location))
    }

    async fn find(&self, id: &ChunkId, what: &str) -> Result<Found> {
        let look_up = || {
            self.with_index(|index| {
                index.locate(id).map(|location| Found { info: *index.pack(location.pack), location })
            })
        };
        if let Some(found) = look_up() {
            return Ok(found);
        }
        self.scan_uncovered().await?;
        look_up().ok_or_else(|| Error::Missing {
            object: format!("{what} {}", id.short()),
            why: "no pack that is left holds it; `check` names the snapshots that need it".to_owned(),
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

    /// After a pack failed: loads the index again so that it finds chunks elsewhere where it can. Returns whether it is
    /// worth another try: not if the pack was avoided before.
    async fn avoid(&self, pack: PackId, tried: &mut HashSet<PackId>) -> Result<bool> {
        if !tried.insert(pack) {
            return Ok(false);
        }
        self.avoid_all([pack]).await?;
        Ok(true)
    }

    /// Loads the index again so that it takes places in these packs last; not if they are avoided already.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn avoid_all(&self, packs: impl IntoIterator<Item = PackId>) -> Result<()> {
        let mut repairs = self.repairs.lock().await;
        let avoided_before_n = repairs.avoided.len();
        repairs.avoided.extend(packs);
        if repairs.avoided.len() > avoided_before_n {
            let loaded = loader::load_avoiding(&self.repository, &repairs.avoided).await?;
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = loaded.index;
            repairs.scanned = false;
        }
        Ok(())
    }

    /// Returns the bytes of a manifest node, verified.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`].
    pub async fn node(&self, id: &ChunkId) -> Result<Bytes> {
        let mut tried = HashSet::new();
        loop {
            let found = self.find(id, "node").await?;
            match self.node_once(id, found).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.is_damage() && self.avoid(found.info.id, &mut tried).await? => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn node_once(&self, id: &ChunkId, found: Found) -> Result<Bytes> {
        let blob = self.node_blob(found).await?;
        let damaged = |why| Error::damaged(format!("node {}", id.short()), why);
        let bytes = cut(&blob, &found.location).ok_or_else(|| damaged("it is cut off"))?;
        if self.repository.keys.node_id(&bytes) != *id {
            return Err(damaged("it does not hash to its id"));
        }
        Ok(bytes)
    }

    async fn node_blob(&self, Found { info, location }: Found) -> Result<Bytes> {
        let key = (info.id, location.blob);
        let cached = |blobs: &VecDeque<((PackId, u32), Bytes)>| {
            blobs.iter().find(|(cached, _)| *cached == key).map(|(_, blob)| blob.clone())
        };
        if let Some(blob) = cached(&self.node_blobs.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(blob);
        }
        let sealed = self.read_range(&info, location.range()).await?;
        let opener = PackOpener::new(self.repository.sealer(), info)?;
        let open =
            move || opener.open_blob(&mut Decompressor::new()?, location.blob as usize, &location.place, &sealed);
        let blob = Bytes::from(self.repository.cpu.run(open).await?);
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
        let mut window = Window { blobs: BTreeMap::new(), chunks: Vec::new() };
        let mut plain_bytes = 0;
        while let Some(entry) = chunks.front() {
            let found = self.find(&entry.id, "chunk").await?;
            let location = found.location;
            if location.plain_bytes != entry.plain_bytes {
                let why = format!("it has {} bytes, and {} in the manifest", location.plain_bytes, entry.plain_bytes);
                return Err(Error::damaged(format!("chunk {}", entry.id.short()), why));
            }
            let key = (found.info.id, location.offset);
            if !window.blobs.contains_key(&key) {
                plain_bytes += location.place.plain_bytes as usize;
                if plain_bytes > RESTORE_WINDOW_BYTES && !window.chunks.is_empty() {
                    break;
                }
                window.blobs.insert(key, found);
            }
            window.chunks.push((*entry, found));
            chunks.pop_front();
        }
        Ok(window)
    }

    /// Returns the bytes of a window in the stream's order, every chunk verified.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`].
    pub async fn fetch(&self, window: Window) -> Result<Vec<Bytes>> {
        let mut tried = HashSet::new();
        let (mut windows, mut pieces) = (VecDeque::from([window]), Vec::new());
        while let Some(window) = windows.pop_front() {
            let mut chunks: VecDeque<LeafEntry> = window.chunks.iter().map(|(entry, _)| *entry).collect();
            match self.fetch_once(window).await {
                Ok(more) => pieces.extend(more),
                Err(PackFailure { pack, error }) if error.is_damage() => {
                    if !self.avoid(pack, &mut tried).await? {
                        return Err(error);
                    }
                    // The same chunks again, wherever they are found now, before what follows them.
                    let mut again = Vec::new();
                    while !chunks.is_empty() {
                        again.push(self.plan(&mut chunks).await.map_err(|_| error_of(&error))?);
                    }
                    again.into_iter().rev().for_each(|window| windows.push_front(window));
                }
                Err(PackFailure { error, .. }) => return Err(error),
            }
        }
        Ok(pieces)
    }

    async fn fetch_once(&self, window: Window) -> Result<Vec<Bytes>, PackFailure> {
        let sealed: Vec<SealedBlob> = stream::iter(coalesce(window.blobs.values().copied()))
            .map(|read| async move {
                let failed = |error| PackFailure { pack: read.info.id, error };
                let bytes = self.read_range(&read.info, read.range.clone()).await.map_err(failed)?;
                let blobs = read.blobs.iter().map(|found| {
                    let start = (found.location.offset - read.range.start) as usize;
                    let sealed = bytes.slice(start..start + found.location.sealed_bytes as usize);
                    let opener = PackOpener::new(self.repository.sealer(), read.info).map_err(failed)?;
                    Ok(SealedBlob { opener, found: *found, sealed })
                });
                blobs.collect::<Result<Vec<_>, PackFailure>>()
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

    async fn read_range(&self, info: &PackInfo, range: std::ops::Range<u64>) -> Result<Bytes> {
        let name = names::pack(info.kind, info.id);
        self.repository.store.get_range(&name, range).await?.ok_or_else(|| Error::Missing {
            object: name,
            why: "snapshots need it; put a copy of it back, or see what `check` says".to_owned(),
        })
    }
}

/// The failure that made a second try necessary says more than that there is no other place.
fn error_of(first: &Error) -> Error {
    match first {
        Error::Missing { object, why } => Error::Missing { object: object.clone(), why: why.clone() },
        Error::Damaged { object, why } => Error::Damaged { object: object.clone(), why: why.clone() },
        other => Error::System(other.to_string()),
    }
}

/// A blob as it was read.
struct SealedBlob {
    opener: PackOpener,
    found: Found,
    sealed: Bytes,
}

/// Blobs of one pack that are read in one request.
struct Read {
    info: PackInfo,
    range: std::ops::Range<u64>,
    blobs: Vec<Found>,
}

/// Joins blobs that lie near one another, in the order of pack and offset.
fn coalesce(blobs: impl Iterator<Item = Found>) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for found in blobs {
        let range = found.location.range();
        match reads.last_mut() {
            Some(last)
                if last.info.id == found.info.id
                    && range.start <= last.range.end + COALESCE_GAP_BYTES
                    && range.end - last.range.start <= COALESCED_BYTES_MAX =>
            {
                last.range.end = range.end;
                last.blobs.push(found);
            }
            _ => reads.push(Read { info: found.info, range, blobs: vec![found] }),
        }
    }
    reads
}

/// Opens the blobs, checks the chunks that are wanted, and returns them in the stream's order.
fn decode(sealed: Vec<SealedBlob>, chunks: &[(LeafEntry, Found)], keys: &Keys) -> Result<Vec<Bytes>, PackFailure> {
    let opened = cpu::map_with(sealed, Decompressor::new, |inflater, SealedBlob { opener, found, sealed }| {
        let (pack, location) = (found.info.id, found.location);
        let failed = |error| PackFailure { pack, error };
        let inflater = inflater.as_mut().map_err(|error| failed(Error::System(error.to_string())))?;
        let plain = opener.open_blob(inflater, location.blob as usize, &location.place, &sealed).map_err(failed)?;
        Ok(((pack, location.offset), Bytes::from(plain)))
    });
    let blobs = opened.into_iter().collect::<Result<BTreeMap<_, _>, PackFailure>>()?;
    let pieces = cpu::map(chunks.to_vec(), |(entry, found)| {
        let pack = found.info.id;
        let damaged = |why| PackFailure { pack, error: Error::damaged(format!("chunk {}", entry.id.short()), why) };
        let blob = blobs.get(&(pack, found.location.offset)).expect("every blob of the window was read");
        let piece = cut(blob, &found.location).ok_or_else(|| damaged("it is cut off"))?;
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
