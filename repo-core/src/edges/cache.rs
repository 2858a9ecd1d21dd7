//! A local cache of what never changes in a repository, sealed as it is stored.
//!
//! One file an object, under its name in the store, in a folder of the repository's own: the config, index fragments,
//! decisions, packs of manifests, and the packs of chunks that were written or read lately, for the deltas of the next backup.
//! Key slots, marks, notices, holds and fences are never here.
//!
//! **Nothing relies on it.** Whatever is read from it is opened and verified as what comes from the store; what fails is
//! forgotten, and the store is asked. That an object is there never follows from its copy here: only the store's listings say
//! so. It may be deleted at any time, also while it is used.
//!
//! **Several processes** may use it at once: files appear under their names whole, and one that is gone is a miss.
//!
//! **Shares.** What was used longest ago goes first, data packs before the rest: a quarter of the room is for them and a quarter
//! for packs of manifests, whatever else there is; the rest is for the index and the decisions. Each may use what the others
//! leave, and gives it back when they need it. So no backup of new data pushes out what every command reads.
//!
//! A disk that is full, read-only or somebody else's ends the writing to it for the rest of the process, and says so once.

mod files;

use self::files::{Share, create_private, scan, write_new};
use crate::words::id::{PackId, RepositoryId, SlotId};
use crate::words::limits::PACK_BYTES_MAX;
use bytes::Bytes;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// What an object must not have been used for, before it goes because a listing does not have it: another process may have
/// stored it since that listing.
const GONE_AGE_MIN: Duration = Duration::from_secs(3600);
/// Below the cache's folder: what opened which location last.
const LOCATIONS: &str = "locations";

/// A folder for the caches of repositories. Cheap to clone; nothing is created before there is something to keep.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Arc<Path>,
    bytes_max: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether writing has failed: it is not tried again.
    is_disabled: bool,
    problem: Option<String>,
}

/// What opened a location the last time. A hint: whoever goes by it finds out whether it still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The repository that lies there.
    pub repository: RepositoryId,
    /// The key slot that opened.
    pub slot: SlotId,
}

impl Cache {
    /// Names a folder, of which each repository may use `bytes_max` bytes.
    pub fn new(folder: impl AsRef<Path>, bytes_max: u64) -> Cache {
        Cache { folder: folder.as_ref().into(), bytes_max, state: Arc::default() }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns why nothing is kept any more, once, if that is so.
    pub fn take_problem(&self) -> Option<String> {
        self.state().problem.take()
    }

    /// Returns the cache of a repository.
    pub(crate) fn of(&self, repository: RepositoryId) -> RepositoryCache {
        RepositoryCache {
            folder: self.folder.join(repository.to_string()).into(),
            cache: self.clone(),
            repository,
            used: Arc::default(),
            verified: Arc::default(),
        }
    }

    /// Returns what opened a location the last time.
    pub(crate) async fn hint(&self, location: &str) -> Option<Hint> {
        let path = self.hint_path(location);
        let text = blocking(move || fs::read_to_string(path)).await.ok()?;
        let (repository, slot) = text.trim_end().split_once(' ')?;
        Some(Hint { repository: repository.parse().ok()?, slot: slot.parse().ok()? })
    }

    /// Notes what opened a location.
    pub(crate) async fn set_hint(&self, location: &str, hint: Hint) {
        let (this, path) = (self.clone(), self.hint_path(location));
        let text = format!("{} {}\n", hint.repository, hint.slot);
        self.attempt(move || {
            create_private(&this.folder.join(LOCATIONS))?;
            write_new(&path, text.as_bytes())
        })
        .await;
    }

    /// The location is hashed: it may be long, or name what others need not read in a file's name.
    fn hint_path(&self, location: &str) -> PathBuf {
        self.folder.join(LOCATIONS).join(blake3::hash(location.as_bytes()).to_hex().as_str())
    }

    /// Writes something, unless writing has failed before.
    async fn attempt(&self, write: impl FnOnce() -> io::Result<()> + Send + 'static) {
        if self.state().is_disabled {
            return;
        }
        match blocking(write).await {
            // Somebody deletes the cache meanwhile, as anybody may.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let mut state = self.state();
                if !state.is_disabled {
                    let folder = self.folder.display();
                    state.problem = Some(format!(
                        "the cache in {folder} keeps nothing more ({error}); name another folder with --cache-dir, or say \
                         --no-cache"
                    ));
                }
                state.is_disabled = true;
            }
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cache of one repository. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryCache {
    cache: Cache,
    folder: Arc<Path>,
    repository: RepositoryId,
    used: Arc<Mutex<Used>>,
    /// Packs whose copies here were found to be whole.
    verified: Arc<Mutex<HashSet<PackId>>>,
}

/// What the folder holds, as far as this process knows.
#[derive(Debug, Default)]
struct Used {
    /// By the last look; `None` before the first.
    bytes: Option<u64>,
    added_bytes: u64,
}

impl RepositoryCache {
    /// Returns the folder of caches that it is a part of.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Notes the key slot that opened the repository at a location.
    pub(crate) async fn set_hint(&self, location: &str, slot: SlotId) {
        self.cache.set_hint(location, Hint { repository: self.repository, slot }).await;
    }

    /// Returns an object of at most `bytes_max` bytes, unverified; `None` if it is not there, or can't be read: it is a cache.
    pub(crate) async fn get(&self, name: &str, bytes_max: usize) -> Option<Bytes> {
        let path = self.folder.join(name);
        blocking(move || read_all(&path, bytes_max as u64)).await.ok()
    }

    /// Keeps an object, and makes room for it. What fails costs a request later, and is told once.
    pub(crate) async fn keep(&self, name: &str, bytes: Bytes) {
        if bytes.len() as u64 > self.cache.bytes_max {
            return;
        }
        let (this, path) = (self.clone(), self.folder.join(name));
        self.cache
            .attempt(move || {
                create_private(path.parent().expect("it is below the folder"))?;
                write_new(&path, &bytes)?;
                this.added(bytes.len() as u64)
            })
            .await;
    }

    /// Forgets an object, because what was read of it was not what was written.
    pub(crate) async fn forget(&self, name: &str) {
        let path = self.folder.join(name);
        // Gone already, or it can't go: either way nothing relies on it.
        let _ = blocking(move || fs::remove_file(path)).await;
    }

    /// Returns a pack whose bytes hash to its name; `None` if it is not there.
    pub(crate) async fn pack(&self, name: &str, pack: PackId) -> Option<Bytes> {
        let path = self.folder.join(name);
        blocking(move || read_pack(&path, pack)).await.ok()
    }

    /// Returns a part of a pack whose bytes hash to its name; `None` if it is not there.
    ///
    /// The first time the whole file is read for that.
    pub(crate) async fn pack_part(&self, name: &str, pack: PackId, range: Range<u64>) -> Option<Bytes> {
        let (this, path) = (self.clone(), self.folder.join(name));
        blocking(move || {
            if this.verified().contains(&pack) {
                return read_range(&path, range);
            }
            let bytes = read_pack(&path, pack)?;
            this.verified().insert(pack);
            let range = usize::try_from(range.start).map_err(io::Error::other)?
                ..usize::try_from(range.end).map_err(io::Error::other)?;
            if range.end > bytes.len() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            Ok(bytes.slice(range))
        })
        .await
        .ok()
    }

    /// Forgets what lies here under a prefix and is not among these names: the store does not list it any more. What was used
    /// within the hour stays: it may be newer than the listing.
    pub(crate) async fn drop_gone(&self, prefix: &str, names: impl IntoIterator<Item = &str>) {
        let listed: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        let (folder, prefix) = (self.folder.clone(), prefix.to_owned());
        // What can't be looked at or deleted stays until there is no room for it.
        let _ = blocking(move || {
            for entry in fs::read_dir(folder.join(&prefix))? {
                let entry = entry?;
                let is_listed = |file: &str| listed.contains(&format!("{prefix}/{file}"));
                if !entry.file_name().to_str().is_some_and(is_listed) && is_older(&entry, GONE_AGE_MIN) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        })
        .await;
    }

    fn verified(&self) -> MutexGuard<'_, HashSet<PackId>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something was added. Looks at the folder first, and then whenever there may be too much: others may have
    /// added to it, too.
    fn added(&self, bytes_n: u64) -> io::Result<()> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.added_bytes += bytes_n;
        let bytes_max = self.cache.bytes_max;
        let fits = used.bytes.is_some_and(|bytes| bytes + used.added_bytes <= bytes_max);
        if !fits || used.added_bytes > bytes_max / 16 {
            *used = Used { bytes: Some(make_room(&self.folder, bytes_max)?), added_bytes: 0 };
        }
        Ok(())
    }
}

/// Deletes what was used longest ago until the rest fits; returns what is left, in bytes.
fn make_room(folder: &Path, bytes_max: u64) -> io::Result<u64> {
    let mut files = scan(folder)?;
    files.sort();
    let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let floors = [
        (Share::Data, bytes_max / 4),
        (Share::Manifests, bytes_max / 4),
        (Share::Index, bytes_max - bytes_max / 4 * 2),
    ];
    for (share, floor) in floors {
        let of_share = || files.iter().filter(|file| file.share == share);
        let mut share_bytes: u64 = of_share().map(|file| file.bytes).sum();
        for file in of_share() {
            if bytes <= bytes_max || share_bytes <= floor {
                break;
            }
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {
                    bytes -= file.bytes;
                    share_bytes -= file.bytes;
                }
            }
        }
    }
    Ok(bytes)
}

fn is_older(entry: &fs::DirEntry, age_min: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > age_min))
}

/// Opens a file, and notes that it is used.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // The time of change says when it was used last. On a file system that can't tell, the order is that of writing.
    let _ = file.set_modified(SystemTime::now());
    Ok(file)
}

fn read_all(path: &Path, bytes_max: u64) -> io::Result<Bytes> {
    let file = open(path)?;
    if file.metadata()?.len() > bytes_max {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// Reads a pack; one that is damaged goes.
fn read_pack(path: &Path, pack: PackId) -> io::Result<Bytes> {
    let bytes = read_all(path, PACK_BYTES_MAX as u64)?;
    if *blake3::hash(&bytes).as_bytes() != pack.0 {
        fs::remove_file(path)?;
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok(bytes)
}

fn read_range(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
