//! The store: the only module that talks to `object_store`.
//!
//! A small contract: read whole or in part, create if absent, overwrite (for session marks and holds alone), delete, list. Every
//! name is one of `format::names`. Errors say which object, and what to do where that is known.

mod cloud;
mod courtesy;
#[cfg(target_os = "linux")]
mod direct;
mod failure;
mod links;
mod location;
mod pace;
mod read;
mod requests;
mod retry;
mod settings;
mod wire;
mod write;

pub use read::Listed;
pub use requests::Requests;
pub use settings::StoreOptions;
pub use write::Created;

use self::failure::{failed, io_hint};
use self::location::Location;
use self::pace::Pace;
use self::requests::Counters;
use self::retry::{Attempts, Patience};
use crate::edges::staged;
use crate::format::names::{CONFIG, PROBE};
use crate::words::error::{Error, Result};
use crate::words::limits::STAGED_AGE_SECS_MIN;
use futures::{TryStreamExt, future};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a repository lies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    location: String,
    /// The directory that it is, if it is one: an absolute path.
    directory: Option<PathBuf>,
    is_near: bool,
    requests: Arc<Counters>,
    left_behind: Arc<Mutex<Vec<String>>>,
    treatment: Arc<Treatment>,
}

/// How a store is treated: what of [`StoreOptions`] its requests are asked by.
#[derive(Debug, Default)]
struct Treatment {
    options: StoreOptions,
    patience: Patience,
    download: Option<Pace>,
}

impl Store {
    /// Opens the store that a text names: a path, `file://`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or
    /// `az://CONTAINER/PREFIX`. Of a bucket no request is made yet.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it names none, or the settings can't be. As [`Store::local`].
    pub fn at(location: &str, options: &StoreOptions) -> Result<Store> {
        match Location::parse(location)? {
            Location::Local(path) => {
                options.check_classes(None)?;
                Store::local(path)?.treated(options)
            }
            Location::Bucket { provider, bucket, prefix } => {
                options.check_classes(Some(provider))?;
                let inner = cloud::build(provider, &bucket, &prefix, options)?;
                Store::from_object_store(inner, location.trim_end_matches('/')).treated(options)
            }
        }
    }

    fn treated(self, options: &StoreOptions) -> Result<Store> {
        let patience = options.patience()?;
        let download = options.download_bytes_per_sec_max.map(Pace::create);
        let treatment = Treatment { options: options.clone(), patience, download };
        Ok(Store { treatment: Arc::new(treatment), ..self })
    }

    /// Opens the store that a text names, for a new repository: creates a directory, or sees that the prefix is empty.
    ///
    /// # Errors
    /// As [`Store::at`] and [`Store::create_local`]; [`Error::AlreadyExists`]: there is something in it.
    pub async fn create_at(location: &str, options: &StoreOptions) -> Result<Store> {
        if let Location::Local(path) = Location::parse(location)? {
            options.check_classes(None)?;
            return Store::create_local(path)?.treated(options);
        }
        let store = Store::at(location, options)?;
        let taken = |why: &str| Error::AlreadyExists { location: store.location.clone(), why: why.to_owned() };
        match store.is_empty().await? {
            true => Ok(store),
            false if store.head(CONFIG).await.is_ok() => {
                Err(taken("already holds a repository; use it, or name another prefix"))
            }
            false => Err(taken("is not empty; name another prefix")),
        }
    }

    /// Returns whether there is nothing in it, but for what a probe left whose credentials may not delete.
    async fn is_empty(&self) -> Result<bool> {
        let probed = format!("{PROBE}/");
        let mut attempts = self.attempts();
        loop {
            self.requests.list(0);
            let listed = self.inner.list(None);
            let others = listed.try_skip_while(|meta| future::ready(Ok(meta.location.as_ref().starts_with(&probed))));
            match std::pin::pin!(others).try_next().await {
                Ok(first) => return Ok(first.is_none()),
                Err(error) if attempts.again(&error, true).await => {}
                Err(error) => return Err(failed("cannot list", &self.location, error)),
            }
        }
    }

    /// Begins with attempts at a request; a directory gets one.
    fn attempts(&self) -> Attempts {
        Attempts::begin(if self.is_local() { Patience::NONE } else { self.treatment.patience })
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
        // Whole, as the library has it, too: whoever embeds this may change its working directory.
        let directory = path.as_ref().canonicalize().map_err(|_| not_a_repository())?;
        let inner = LocalFileSystem::new_with_prefix(&directory).map_err(|_| not_a_repository())?.with_fsync(true);
        let directory = Some(directory);
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
            Ok(_) if path.join(CONFIG).exists() => {
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
            treatment: Arc::default(),
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
}

fn path(name: &str) -> ObjectPath {
    ObjectPath::from(name)
}
