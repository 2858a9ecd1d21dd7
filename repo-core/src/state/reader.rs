//! Reads parts of packs, and counts what it reads.
//!
//! Packs of manifest nodes are small, and who needs a node mostly needs its neighbours: where there is a local cache, such a
//! pack is fetched whole the first time that a part of it is asked for, found to be what its name says, and kept.

use super::repository::Repository;
use crate::format::names::{self, PackKind};
use crate::format::pack::PackInfo;
use crate::words::error::{Error, Result};
use crate::words::id::PackId;
use crate::words::limits::{META_PACK_BYTES_TARGET, META_PACKS_HELD_MAX};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where parts of packs are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Chunks from the store; nodes from the local cache, and from the store what is not there.
    Store,
    /// The local cache, and the store for what is not there.
    CacheThenStore,
    /// The local cache alone.
    Cache,
}

/// Reads parts of packs.
pub struct PackReader {
    repository: Repository,
    from: ReadFrom,
    bytes_read: AtomicU64,
    /// Meta packs whose bytes hash to their names; the one that was used last is the last.
    held: Mutex<VecDeque<(PackId, Bytes)>>,
    /// Taken while a meta pack is fetched: whoever wants the same then finds it. By the id's first byte, so that most go on.
    fetching: Vec<tokio::sync::Mutex<()>>,
}

/// Meta packs that may be fetched side by side.
const FETCHES_MAX: usize = 64;

impl PackReader {
    /// Creates a reader.
    pub fn create(repository: &Repository, from: ReadFrom) -> Self {
        PackReader {
            repository: repository.clone(),
            from,
            bytes_read: AtomicU64::new(0),
            held: Mutex::default(),
            fetching: (0..FETCHES_MAX).map(|_| tokio::sync::Mutex::default()).collect(),
        }
    }

    /// Returns the repository that it reads from.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns how many bytes it was asked for so far, from wherever they came.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Returns whether it reads nothing but the local cache.
    pub fn is_cache_alone(&self) -> bool {
        self.from == ReadFrom::Cache
    }

    /// After what it read of a pack was found to be damaged: forgets what the cache has of it, which may be what is wrong.
    pub async fn forget(&self, pack: PackId) {
        self.held().retain(|(held, _)| *held != pack);
        if let Some(cache) = &self.repository.cache {
            for kind in [PackKind::Data, PackKind::Meta] {
                cache.forget(&names::pack(kind, pack)).await;
            }
        }
    }

    /// Reads a part of a pack.
    ///
    /// # Errors
    /// [`Error::Missing`]: it is not there, or not in the cache if that is all that is asked. [`Error::Store`].
    pub async fn read(&self, info: &PackInfo, range: Range<u64>) -> Result<Bytes> {
        let name = names::pack(info.kind, info.id);
        let bytes = match (&self.repository.cache, self.from, info.kind) {
            (Some(_), _, PackKind::Meta) => self.read_meta(info, &name, range).await?,
            (None, ReadFrom::Cache, _) => None,
            (None, ..) | (Some(_), ReadFrom::Store, PackKind::Data) => self.read_store(&name, range).await?,
            (Some(cache), from, PackKind::Data) => match cache.pack_part(&name, info.id, range.clone()).await {
                None if from == ReadFrom::CacheThenStore => self.read_store(&name, range).await?,
                cached => cached,
            },
        };
        let bytes = bytes.ok_or_else(|| Error::Missing {
            object: name,
            why: "snapshots need it; put a copy of it back, or see what `check` says".to_owned(),
        })?;
        self.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    async fn read_store(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.repository.store.get_range(name, range).await
    }

    async fn read_meta(&self, info: &PackInfo, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let part = |whole: &Bytes| {
            let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
            (start <= end && end <= whole.len()).then(|| whole.slice(start..end))
        };
        let [first, ..] = info.id.0;
        let _fetching = self.fetching[usize::from(first) % FETCHES_MAX].lock().await;
        if let Some(whole) = self.take_held(info.id) {
            return Ok(part(&whole));
        }
        let Some(cache) = &self.repository.cache else { return Ok(None) };
        let (whole, is_new) = match cache.pack(name, info.id).await {
            Some(whole) => (whole, false),
            None if self.from == ReadFrom::Cache => return Ok(None),
            // Larger than any that we write: of such a one only what is needed.
            None if info.bytes > 2 * META_PACK_BYTES_TARGET as u64 => return self.read_store(name, range).await,
            None => match self.read_store(name, 0..info.bytes).await? {
                Some(whole) => (whole, true),
                None => return Ok(None),
            },
        };
        if is_new {
            if *blake3::hash(&whole).as_bytes() != info.id.0 {
                // What is wrong with it may lie elsewhere: the seal of the part tells.
                return Ok(part(&whole));
            }
            cache.keep(name, whole.clone()).await;
        }
        let bytes = part(&whole);
        let mut held = self.held();
        if held.len() == META_PACKS_HELD_MAX {
            held.pop_front();
        }
        held.push_back((info.id, whole));
        Ok(bytes)
    }

    fn take_held(&self, pack: PackId) -> Option<Bytes> {
        let mut held = self.held();
        let at = held.iter().position(|(held, _)| *held == pack)?;
        let found = held.remove(at)?;
        held.push_back(found.clone());
        Some(found.1)
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<(PackId, Bytes)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
