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
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
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
    /// Meta packs that are fetched or were; the one that was used last is the last.
    held: Mutex<VecDeque<(PackId, Fetched)>>,
}

/// A meta pack on its way or here. Whoever waits for it drives it, so that it comes though others who wanted it look away.
type Fetched = Shared<BoxFuture<'static, Option<Bytes>>>;

impl PackReader {
    /// Creates a reader.
    pub fn create(repository: &Repository, from: ReadFrom) -> Self {
        PackReader { repository: repository.clone(), from, bytes_read: AtomicU64::new(0), held: Mutex::default() }
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
        // One that is larger than any that we write is no small pack.
        let is_small = info.bytes <= 2 * META_PACK_BYTES_TARGET as u64;
        if is_small && let Some(whole) = self.whole(info).await {
            let (start, end) = (usize::try_from(range.start).ok(), usize::try_from(range.end).ok());
            let range = start.zip(end).filter(|(start, end)| start <= end && *end <= whole.len());
            return Ok(range.map(|(start, end)| whole.slice(start..end)));
        }
        self.held().retain(|(held, _)| *held != info.id);
        // Whatever is wrong with the pack as a whole: the part tells whether it matters.
        if self.from == ReadFrom::Cache { Ok(None) } else { self.read_store(name, range).await }
    }

    /// Returns a whole meta pack; several who want the same wait for one request.
    async fn whole(&self, info: &PackInfo) -> Option<Bytes> {
        let fetched = {
            let mut held = self.held();
            let there = held.iter().position(|(held, _)| *held == info.id);
            let found = match there.and_then(|at| held.remove(at)) {
                Some(found) => found,
                None => (info.id, fetch_whole(self.repository.clone(), *info, self.from).boxed().shared()),
            };
            if held.len() == META_PACKS_HELD_MAX {
                held.pop_front();
            }
            held.push_back(found.clone());
            found.1
        };
        fetched.await
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<(PackId, Fetched)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches a pack from the cache, or from the store for the cache; `None` if its bytes are not to be had, or do not hash to its
/// name.
async fn fetch_whole(repository: Repository, info: PackInfo, from: ReadFrom) -> Option<Bytes> {
    let cache = repository.cache.as_ref()?;
    let name = names::pack(info.kind, info.id);
    if let Some(whole) = cache.pack(&name, info.id).await {
        return Some(whole);
    }
    if from == ReadFrom::Cache {
        return None;
    }
    // Why the store fails is told to whoever asks for the part next.
    let whole = repository.store.get_range(&name, 0..info.bytes).await.ok()??;
    if *blake3::hash(&whole).as_bytes() != info.id.0 {
        return None;
    }
    cache.keep(&name, whole.clone()).await;
    Some(whole)
}
