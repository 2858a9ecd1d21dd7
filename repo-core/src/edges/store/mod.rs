//! The store: the only module that talks to `object_store`.
//!
//! A small contract: read whole or in part, create if absent, overwrite (for session marks and holds alone), delete, list. Every
//! name is one of `format::names`. Errors say which object, and what to do where that is known.

mod cloud;
mod failure;
mod location;
mod requests;

pub use cloud::StoreOptions;
pub use requests::Requests;

use self::failure::{failed, io_hint, may_pass};
use self::location::Location;
use self::requests::Counters;
use crate::edges::staged;
use crate::edges::system::random;
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

/// Attempts after the first at what the client does not try again by itself; the pauses between them grow fourfold.
const RETRIES_MAX: u32 = 3;
const RETRY_PAUSE_MS: u64 = 400;

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
    /// Opens the store that a text names: a path, `file://`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or
    /// `az://CONTAINER/PREFIX`. Of a bucket no request is made yet.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it names none, or the settings can't be. As [`Store::local`].
    pub fn at(location: &str, options: &StoreOptions) -> Result<Store> {
        match Location::parse(location)? {
            Location::Local(path) => Store::local(path),
            Location::Bucket { provider, bucket, prefix } => {
                let inner = cloud::build(provider, &bucket, &prefix, options)?;
                Ok(Store::from_object_store(inner, location.trim_end_matches('/')))
            }
        }
    }

    /// Opens the store that a text names, for a new repository: creates a directory, or sees that the prefix is empty.
    ///
    /// # Errors
    /// As [`Store::at`] and [`Store::create_local`]; [`Error::AlreadyExists`]: there is something in it.
    pub async fn create_at(location: &str, options: &StoreOptions) -> Result<Store> {
        if let Location::Local(path) = Location::parse(location)? {
            return Store::create_local(path);
        }
        let store = Store::at(location, options)?;
        let mut listed = store.inner.list(None);
        let first = listed.try_next().await.map_err(|error| failed("cannot list", location, error))?;
        drop(listed);
        store.requests.list(0);
        let taken = |why: &str| Error::AlreadyExists { location: store.location.clone(), why: why.to_owned() };
        match first {
            None => Ok(store),
            Some(_) if store.head(crate::format::names::CONFIG).await.is_ok() => {
                Err(taken("already holds a repository; use it, or name another prefix"))
            }
            Some(_) => Err(taken("is not empty; name another prefix")),
        }
    }

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

    /// Creates an empty store in memory that is treated as one far away.
    #[cfg(test)]
    pub(crate) fn memory_far_away() -> Store {
        Store { is_near: false, ..Store::memory() }
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
    pub fn is_near(&self) -> bool {
        self.is_near
    }

    /// Returns the requests that were made through this store and its clones.
    pub fn requests(&self) -> Requests {
        self.requests.so_far()
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
        self.requests.read();
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
            Ok(bytes) if bytes.len() as u64 == bytes_n => {
                self.requests.got(bytes.len());
                Ok(Some(bytes))
            }
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
        self.requests.read();
        let bytes_n = range.end - range.start;
        let error = match self.inner.get_range(&path(name), range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == bytes_n => {
                self.requests.got(bytes.len());
                return Ok(Some(bytes));
            }
            Ok(bytes) => cut_short(bytes.len(), bytes_n),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => error,
        };
        // Stores differ in how they refuse a range beyond the end: ask for the length before believing in a failure.
        match self.head(name).await {
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
        for attempt in 0.. {
            match self.try_to_create(name, &bytes).await {
                Ok(()) => return Ok(Created::Yes),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    match self.get(name, bytes.len().max(1)).await {
                        Ok(Some(there)) if there == bytes => return Ok(Created::Yes),
                        // Two requests met, and the store refused both.
                        Ok(None) if attempt < RETRIES_MAX => self.pause(attempt).await,
                        Err(error) if !error.is_damage() => return Err(error),
                        _ => return Ok(Created::Taken),
                    }
                }
                Err(error) if self.is_worth_another(&error, attempt) => self.pause(attempt).await,
                Err(error) => return Err(failed("cannot write", name, error)),
            }
        }
        unreachable!("attempts end")
    }

    /// Creates an object named by its content. If one is there, and as long, it is the same.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Damaged`] if one is there with another length.
    pub async fn create_content_addressed(&self, name: &str, bytes: Bytes) -> Result<()> {
        for attempt in 0.. {
            match self.try_to_create(name, &bytes).await {
                Ok(()) => return Ok(()),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    match self.head(name).await {
                        Ok(there) if there.size == bytes.len() as u64 => return Ok(()),
                        Ok(there) => {
                            let why = format!("it has {} bytes, and {} belong there", there.size, bytes.len());
                            return Err(Error::damaged(name, why));
                        }
                        Err(object_store::Error::NotFound { .. }) if attempt < RETRIES_MAX => self.pause(attempt).await,
                        Err(error) => return Err(failed("cannot read", name, error)),
                    }
                }
                Err(error) if self.is_worth_another(&error, attempt) => self.pause(attempt).await,
                Err(error) => return Err(failed("cannot write", name, error)),
            }
        }
        unreachable!("attempts end")
    }

    async fn head(&self, name: &str) -> object_store::Result<object_store::ObjectMeta> {
        self.requests.head();
        self.inner.head(&path(name)).await
    }

    async fn try_to_create(&self, name: &str, bytes: &Bytes) -> object_store::Result<()> {
        self.requests.write(bytes.len());
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        self.inner.put_opts(&path(name), PutPayload::from_bytes(bytes.clone()), options).await.map(drop)
    }

    /// Returns whether a create-if-absent that failed may be asked for again. The client does so itself for other
    /// requests; this one it takes for one that must not be done twice. Here it may: it comes out the same, or says that
    /// something is there, and then that is looked at.
    fn is_worth_another(&self, error: &object_store::Error, attempt: u32) -> bool {
        !self.is_local() && attempt < RETRIES_MAX && may_pass(error)
    }

    /// Waits longer from one attempt to the next, and never as long as others do.
    async fn pause(&self, attempt: u32) {
        let share = random::<1>().map_or(128, |[byte]| u64::from(byte));
        let longest_ms = RETRY_PAUSE_MS << (2 * attempt);
        tokio::time::sleep(Duration::from_millis(longest_ms / 2 + longest_ms * share / 512)).await;
    }

    /// Writes an object whether or not there is one: only for a session's own mark, and for holds.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn overwrite(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.requests.write(bytes.len());
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
        self.requests.delete();
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
        self.requests.list(listed.len());
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
