//! The store: the only file that talks to `object_store`.
//!
//! A small contract: read whole or in part, create if absent, overwrite (for session marks and holds alone), delete, list. Every
//! name is one of `format::names`. Errors say which object, and what to do where that is known.

use super::staged;
use crate::words::error::{Error, Result};
use crate::words::limits::STAGED_AGE_SECS_MIN;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a repository lies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    location: String,
    /// The directory that it is, if it is one.
    directory: Option<PathBuf>,
    is_near: bool,
    requests: Arc<Counters>,
    left_behind: Arc<Mutex<Vec<String>>>,
}

/// Requests that were made to a store; retries of the client's own are not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Listings, a page of 1,000 names each.
    pub lists_n: u64,
    /// Reads of objects, whole or in part.
    pub reads_n: u64,
    /// Writes.
    pub writes_n: u64,
    /// Deletions.
    pub deletes_n: u64,
}

impl Requests {
    /// Returns how many there were of all kinds.
    pub fn total(&self) -> u64 {
        self.lists_n + self.reads_n + self.writes_n + self.deletes_n
    }

    /// Returns those that were made since `before`.
    pub fn since(&self, before: &Requests) -> Requests {
        Requests {
            lists_n: self.lists_n - before.lists_n,
            reads_n: self.reads_n - before.reads_n,
            writes_n: self.writes_n - before.writes_n,
            deletes_n: self.deletes_n - before.deletes_n,
        }
    }
}

/// Names that a store gives in one page of a listing.
const LIST_PAGE: u64 = 1000;

#[derive(Debug, Default)]
struct Counters {
    lists_n: AtomicU64,
    reads_n: AtomicU64,
    writes_n: AtomicU64,
    deletes_n: AtomicU64,
}

/// An object and its length, as a listing gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Name of the object in the store.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, in milliseconds since 1970 UTC, by the store's clock.
    pub modified_ms: i64,
}

/// How a create-if-absent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there now, with these bytes, by our doing.
    Yes,
    /// An object of that name was there before, with other bytes.
    Taken,
}

impl Store {
    /// Opens a directory as a store; it must exist. Every write is synced, the file and the directories that name it,
    /// before it counts as done.
    ///
    /// # Errors
    /// [`Error::NotARepository`]: there is no such directory. [`Error::Store`]: it cannot be looked at.
    pub fn local(path: impl AsRef<Path>) -> Result<Store> {
        let location = path.as_ref().display().to_string();
        let not_a_repository = || Error::NotARepository { location: location.clone() };
        match std::fs::metadata(path.as_ref()) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let hint = io_hint(&error);
                return Err(Error::Store { action: "cannot open", object: location, hint, source: Box::new(error) });
            }
            _ => return Err(not_a_repository()),
        }
        let inner = LocalFileSystem::new_with_prefix(path.as_ref()).map_err(|_| not_a_repository())?.with_fsync(true);
        let directory = Some(path.as_ref().to_owned());
        Ok(Store { directory, is_near: true, ..Store::from_object_store(Arc::new(inner), location) })
    }

    /// Creates the directory of a new local store, with its parents, for nobody but its owner, and opens it.
    ///
    /// # Errors
    /// [`Error::Store`]: it cannot be created. [`Error::AlreadyExists`]: there is something in it, or it is no directory.
    pub fn create_local(path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        let location = path.display().to_string();
        let failed = |error: std::io::Error| {
            let hint = io_hint(&error);
            Error::Store { action: "cannot create", object: location.clone(), hint, source: Box::new(error) }
        };
        let taken = |why: &str| Error::AlreadyExists { location: location.clone(), why: why.to_owned() };
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => return Err(taken("is not a directory; name another place")),
            Ok(_) if path.join(crate::format::names::CONFIG).exists() => {
                return Err(taken("already holds a repository; use it, or name another place"));
            }
            Ok(_) if std::fs::read_dir(path).map_err(failed)?.next().is_some() => {
                return Err(taken("is not empty; name an empty or new directory"));
            }
            Ok(_) => {}
            Err(_) => {
                let mut builder = std::fs::DirBuilder::new();
                builder.recursive(true);
                #[cfg(unix)]
                std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
                builder.create(path).map_err(failed)?;
            }
        }
        Store::local(path)
    }

    /// Creates an empty store in memory, for tests.
    pub fn memory() -> Store {
        Store { is_near: true, ..Store::from_object_store(Arc::new(InMemory::new()), "memory://") }
    }

    /// Opens a store of the caller's own; `location` is how messages name it.
    ///
    /// It must give read-after-write, list-after-write and create-if-absent (`PutMode::Create`).
    pub fn from_object_store(inner: Arc<dyn ObjectStore>, location: impl Into<String>) -> Store {
        Store {
            inner,
            location: location.into(),
            directory: None,
            is_near: false,
            requests: Arc::default(),
            left_behind: Arc::default(),
        }
    }

    /// Returns whether it is a directory of this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.directory.is_some()
    }

    /// Deletes what writers that were killed left behind in a directory, a day later.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) async fn sweep(&self) -> Result<()> {
        let Some(directory) = self.directory.clone() else { return Ok(()) };
        let age_min = Duration::from_secs(STAGED_AGE_SECS_MIN);
        let work = tokio::task::spawn_blocking(move || staged::sweep(&directory, age_min));
        work.await.map_err(std::io::Error::other).and_then(|swept| swept).map_err(|error| {
            let (object, hint) = (self.location.clone(), io_hint(&error));
            Error::Store { action: "cannot clear up", object, hint, source: Box::new(error) }
        })
    }

    /// Returns the bytes that may still be written, where that is known: of a directory.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let stats = nix::sys::statvfs::statvfs(self.directory.as_ref()?).ok()?;
        Some((stats.blocks_available() as u64).saturating_mul(stats.fragment_size() as u64))
    }

    /// Notes an object that is in somebody's way, for [`Store::clear_up`].
    pub(crate) fn leave_behind(&self, name: String) {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    /// Takes away what runs left that were dropped before their end, through this store or its clones: the marks of their
    /// sessions. Prunes would wait for those until they look dead.
    ///
    /// # Errors
    /// [`Error::Store`]: they stay, and the next prune that takes them for dead takes them away.
    pub async fn clear_up(&self) -> Result<()> {
        let left_behind = std::mem::take(&mut *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner));
        for name in left_behind {
            self.delete(&name).await?;
        }
        Ok(())
    }

    /// Returns whether reading from it costs next to nothing: it is this machine's disk or memory.
    pub(crate) fn is_near(&self) -> bool {
        self.is_near
    }

    /// Returns the requests that were made through this store and its clones.
    pub fn requests(&self) -> Requests {
        let Counters { lists_n, reads_n, writes_n, deletes_n } = &*self.requests;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            lists_n: count(lists_n),
            reads_n: count(reads_n),
            writes_n: count(writes_n),
            deletes_n: count(deletes_n),
        }
    }

    /// Returns how messages name this store.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Reads a whole object of at most `bytes_max` bytes; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`], also where its bytes end before they should; [`Error::Damaged`] if it is longer.
    pub async fn get(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>> {
        self.requests.reads_n.fetch_add(1, Ordering::Relaxed);
        let result = match self.inner.get(&path(name)).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("cannot read", name, error)),
        };
        let bytes_n = result.meta.size;
        if bytes_n > bytes_max as u64 {
            return Err(Error::damaged(name, format!("it has {bytes_n} bytes, more than {bytes_max}")));
        }
        match result.bytes().await {
            Ok(bytes) if bytes.len() as u64 == bytes_n => Ok(Some(bytes)),
            // Taken for the object, it would look damaged.
            Ok(bytes) => Err(failed("cannot read", name, cut_short(bytes.len(), bytes_n))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("cannot read", name, error)),
        }
    }

    /// Reads a part of an object; `None` if there is no object of that name or it is shorter.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.requests.reads_n.fetch_add(1, Ordering::Relaxed);
        let bytes_n = range.end - range.start;
        let error = match self.inner.get_range(&path(name), range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == bytes_n => return Ok(Some(bytes)),
            Ok(bytes) => cut_short(bytes.len(), bytes_n),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => error,
        };
        // Stores differ in how they refuse a range beyond the end: ask for the length before believing in a failure.
        match self.inner.head(&path(name)).await {
            Ok(meta) if meta.size < range.end => Ok(None),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            _ => Err(failed("cannot read", name, error)),
        }
    }

    /// Creates an object unless there is one of that name. A reply that got lost and was asked for again looks like
    /// somebody else's object, so what is there is read back: equal bytes are ours.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created> {
        self.requests.writes_n.fetch_add(1, Ordering::Relaxed);
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.inner.put_opts(&path(name), PutPayload::from_bytes(bytes.clone()), options).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let there = self.get(name, bytes.len().max(1)).await;
                Ok(if there.is_ok_and(|there| there == Some(bytes)) { Created::Yes } else { Created::Taken })
            }
            Err(error) => Err(failed("cannot write", name, error)),
        }
    }

    /// Creates an object named by its content. If one is there, and as long, it is the same.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Damaged`] if one is there with another length.
    pub async fn create_content_addressed(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.requests.writes_n.fetch_add(1, Ordering::Relaxed);
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let bytes_n = bytes.len() as u64;
        match self.inner.put_opts(&path(name), PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let there = self.inner.head(&path(name)).await.map_err(|error| failed("cannot read", name, error))?;
                if there.size == bytes_n {
                    return Ok(());
                }
                Err(Error::damaged(name, format!("it has {} bytes, and {bytes_n} belong there", there.size)))
            }
            Err(error) => Err(failed("cannot write", name, error)),
        }
    }

    /// Writes an object whether or not there is one: only for a session's own mark, and for holds.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn overwrite(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.requests.writes_n.fetch_add(1, Ordering::Relaxed);
        self.inner
            .put(&path(name), PutPayload::from_bytes(bytes))
            .await
            .map(drop)
            .map_err(|error| failed("cannot write", name, error))
    }

    /// Deletes an object; it may be gone already.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.requests.deletes_n.fetch_add(1, Ordering::Relaxed);
        match self.inner.delete(&path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("cannot delete", name, error)),
        }
    }

    /// Lists the objects below a prefix, sorted by name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut listed: Vec<Listed> = self
            .inner
            .list(Some(&path(prefix)))
            .map_ok(|meta| Listed {
                name: meta.location.to_string(),
                bytes: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
            })
            .boxed()
            .try_collect()
            .await
            .map_err(|error| failed("cannot list", prefix, error))?;
        self.requests.lists_n.fetch_add(1 + listed.len() as u64 / LIST_PAGE, Ordering::Relaxed);
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }
}

fn path(name: &str) -> ObjectPath {
    ObjectPath::from(name)
}

/// The error of a reply that ends before it should.
fn cut_short(bytes_n: usize, expected_n: u64) -> object_store::Error {
    let why = format!("the store sent {bytes_n} bytes of {expected_n}; try again");
    object_store::Error::Generic { store: "", source: why.into() }
}

fn failed(action: &'static str, object: &str, error: object_store::Error) -> Error {
    let hint = find_io_error(&error).and_then(io_hint);
    let source = match error {
        // It says "Generic LocalFileSystem error", and its source what happened.
        object_store::Error::Generic { source, .. } => source,
        error => Box::new(error),
    };
    Error::Store { action, object: object.to_owned(), hint, source }
}

fn find_io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// What to do about an error of the file system.
fn io_hint(error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full: free some space and run it again; nothing that was committed is harmed"
        }
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: mount it for writing and run it again",
        ErrorKind::PermissionDenied => "the permissions do not allow it: run it as the repository's owner",
        _ => return None,
    };
    Some(hint.to_owned())
}
