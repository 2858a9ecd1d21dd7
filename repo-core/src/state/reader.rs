//! Reads parts of packs, and counts what it reads.

use super::repository::Repository;
use crate::format::names;
use crate::format::pack::PackInfo;
use crate::words::error::{Error, Result};
use crate::words::id::PackId;
use bytes::Bytes;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where parts of packs are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The store.
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
}

impl PackReader {
    /// Creates a reader.
    pub fn create(repository: &Repository, from: ReadFrom) -> Self {
        PackReader { repository: repository.clone(), from, bytes_read: AtomicU64::new(0) }
    }

    /// Returns the repository that it reads from.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns how many bytes it has read so far, from wherever.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// After what it read of a pack was found to be damaged: forgets what the cache has of it, which may be what is wrong.
    pub async fn forget(&self, pack: PackId) {
        if let (Some(cache), ReadFrom::CacheThenStore | ReadFrom::Cache) = (&self.repository.cache, self.from) {
            cache.forget(pack).await;
        }
    }

    /// Reads a part of a pack.
    ///
    /// # Errors
    /// [`Error::Missing`]: it is not there, or not in the cache if that is all that is asked. [`Error::Store`].
    pub async fn read(&self, info: &PackInfo, range: Range<u64>) -> Result<Bytes> {
        let cached = match (&self.repository.cache, self.from) {
            (_, ReadFrom::Store) | (None, _) => None,
            (Some(cache), _) => cache.read(info.id, range.clone()).await,
        };
        let bytes = match cached {
            Some(bytes) => Some(bytes),
            None if self.from == ReadFrom::Cache => None,
            None => self.repository.store.get_range(&names::pack(info.kind, info.id), range).await?,
        };
        let bytes = bytes.ok_or_else(|| Error::Missing {
            object: names::pack(info.kind, info.id),
            why: "snapshots need it; put a copy of it back, or see what `check` says".to_owned(),
        })?;
        self.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}
