//! Finds chunks and nodes, wherever they are by now, and reads nodes.

use super::chains::{Chains, Find};
use super::index::{Found, Index, Location};
use super::loader;
use super::reader::{PackReader, ReadFrom};
use super::repository::Repository;
use crate::crafts::compress::Decompressor;
use crate::format::pack::PackOpener;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use crate::words::limits::{NODE_BLOBS_CACHED_MAX, READS_MAX};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Reads from one repository through one index. It completes the index from the packs' own trailers if a fragment is
/// lost; and where a pack is gone or damaged, it loads the index again, once a pack, to find its chunks elsewhere.
pub struct Fetcher {
    reader: PackReader,
    index: Arc<RwLock<Index>>,
    chains: Chains,
    /// Whether the index stays as it is, whatever is found.
    is_fixed: bool,
    /// Not held while something is awaited: stages that share a fetcher also share a task, and one that waits to hand on
    /// its work is not polled, with whatever it holds.
    repairs: Mutex<Repairs>,
    node_blobs: Mutex<VecDeque<((PackId, u32), Bytes)>>,
}

#[derive(Default)]
struct Repairs {
    scanned: bool,
    /// Packs whose places are taken last.
    avoided: HashSet<PackId>,
    /// Those of them that the index was loaded with.
    heeded: HashSet<PackId>,
}

impl Fetcher {
    /// Creates a fetcher over a loaded index, which reads from the store.
    pub fn create(repository: &Repository, index: Index) -> Self {
        Self::over(PackReader::create(repository, ReadFrom::Store), Arc::new(RwLock::new(index)), false)
    }

    /// Creates a fetcher over an index that others rely on: it leaves the index as it is, and takes for missing what that
    /// does not know.
    pub fn create_fixed(reader: PackReader, index: Index) -> Self {
        Self::over(reader, Arc::new(RwLock::new(index)), true)
    }

    /// Creates another such fetcher over the index of this one, which reads in a way of its own.
    pub fn create_beside(&self, reader: PackReader) -> Self {
        Self::over(reader, Arc::clone(&self.index), true)
    }

    fn over(reader: PackReader, index: Arc<RwLock<Index>>, is_fixed: bool) -> Self {
        Fetcher {
            reader,
            index,
            chains: Chains::default(),
            is_fixed,
            repairs: Default::default(),
            node_blobs: Default::default(),
        }
    }

    /// Calls `read` with the index.
    pub fn with_index<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `change` with the index.
    pub fn with_index_mut<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the repository that it reads from.
    pub fn repository(&self) -> &Repository {
        self.reader.repository()
    }

    /// Returns what reads its packs.
    pub fn reader(&self) -> &PackReader {
        &self.reader
    }

    /// Finds a chunk or node. An unknown one makes it read the trailers of packs that the index does not cover, once.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Store`].
    pub async fn locate(&self, id: &ChunkId, what: &str) -> Result<Found> {
        let look_up = || self.with_index(|index| index.find_chunk(id));
        if let Some(found) = look_up() {
            return Ok(found);
        }
        if !self.is_fixed {
            self.scan_uncovered().await?;
        }
        look_up().ok_or_else(|| Error::Missing {
            object: format!("{what} {}", id.short()),
            why: "no pack that is left holds it; `check` names the snapshots that need it".to_owned(),
        })
    }

    fn repairs(&self) -> MutexGuard<'_, Repairs> {
        self.repairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn scan_uncovered(&self) -> Result<()> {
        if self.repairs().scanned {
            return Ok(());
        }
        let packs = loader::list_packs(self.repository()).await?;
        let uncovered: Vec<_> =
            packs.sorted().into_iter().filter(|(_, id, _)| !self.with_index(|index| index.has_pack(id))).collect();
        let mut trailers =
            stream::iter(uncovered).map(|pack| loader::read_trailer(self.repository(), pack)).buffered(READS_MAX);
        while let Some(contents) = trailers.next().await {
            match contents {
                Ok(contents) => self.with_index_mut(|index| {
                    // Another may have come across it meanwhile.
                    if !index.has_pack(&contents.info.id) {
                        index.add(&contents);
                    }
                }),
                // What a damaged pack holds stays unknown, and so missing where it is needed.
                Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.repairs().scanned = true;
        Ok(())
    }

    /// After a pack failed: loads the index again so that it finds chunks elsewhere where it can. Returns whether it is
    /// worth another try: not if the pack was avoided before.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn avoid(&self, pack: PackId, tried: &mut HashSet<PackId>) -> Result<bool> {
        if self.is_fixed || !tried.insert(pack) {
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
        self.repairs().avoided.extend(packs);
        loop {
            let avoided = self.repairs().avoided.clone();
            if avoided == self.repairs().heeded {
                return Ok(());
            }
            let loaded = loader::load_avoiding(self.repository(), &avoided).await?;
            let mut repairs = self.repairs();
            // If another has added to them meanwhile, it is loaded once more.
            if repairs.avoided == avoided {
                self.with_index_mut(|index| *index = loaded.index);
                repairs.scanned = false;
                repairs.heeded = avoided;
            }
        }
    }

    /// Returns the bytes of a manifest node, verified.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Store`].
    pub async fn node(&self, id: &ChunkId) -> Result<Bytes> {
        let mut tried = HashSet::new();
        loop {
            let found = self.locate(id, "node").await?;
            match self.node_once(id, found).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.is_damage() && self.avoid(found.info.id, &mut tried).await? => {}
                Err(error) => {
                    if matches!(error, Error::Damaged { .. }) {
                        self.reader.forget(found.info.id).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn node_once(&self, id: &ChunkId, found: Found) -> Result<Bytes> {
        let blob = self.node_blob(found).await?;
        let damaged = |why| Error::damaged(format!("node {}", id.short()), why);
        let bytes = cut(&blob, &found.location).ok_or_else(|| damaged("it is cut off"))?;
        if self.repository().keys.node_id(&bytes) != *id {
            return Err(damaged("it does not hash to its id"));
        }
        Ok(bytes)
    }

    async fn node_blob(&self, Found { info, location, .. }: Found) -> Result<Bytes> {
        let key = (info.id, location.blob);
        let cached = |blobs: &VecDeque<((PackId, u32), Bytes)>| {
            blobs.iter().find(|(cached, _)| *cached == key).map(|(_, blob)| blob.clone())
        };
        if let Some(blob) = cached(&self.node_blobs.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(blob);
        }
        let sealed = self.reader.read(&info, location.range()).await?;
        let opener = PackOpener::new(self.repository().sealer(), info)?;
        let number = location.blob as usize;
        let open =
            move || opener.open_blob(&mut Decompressor::new()?, (number, &location.place), b"", &sealed, Vec::new());
        let blob = Bytes::from(self.repository().cpu.run(open).await?);
        let mut blobs = self.node_blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if blobs.len() == NODE_BLOBS_CACHED_MAX {
            blobs.pop_front();
        }
        blobs.push_back((key, blob.clone()));
        Ok(blob)
    }
}

impl Find for Fetcher {
    async fn find(&self, id: &ChunkId) -> Result<Found> {
        self.locate(id, "chunk").await
    }

    fn chains(&self) -> (&Chains, &PackReader) {
        (&self.chains, &self.reader)
    }
}

/// Cuts a chunk out of its blob's plaintext; `None` if that is too short.
pub fn cut(blob: &Bytes, location: &Location) -> Option<Bytes> {
    let (start, bytes_n) = (location.start as usize, location.plain_bytes as usize);
    (start + bytes_n <= blob.len()).then(|| blob.slice(start..start + bytes_n))
}
