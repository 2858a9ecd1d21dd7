//! A local cache of packs, sealed as they are stored: what a backup wrote lately, for the deltas of the next one.
//!
//! One file a pack, in a folder of the repository's own. Nothing relies on it: whatever is read from it is opened and
//! verified like what comes from the store, and it may be deleted at any time. Several processes may use it at once: files
//! appear under their names whole, and one that is gone is a miss. What was used longest ago goes first.

use crate::words::id::{PackId, RepositoryId};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A folder with packs that were written or read lately. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackCache {
    folder: Arc<Path>,
    bytes_max: u64,
}

impl PackCache {
    /// Opens the cache of a repository, in a folder of its own below `folder`, for at most `bytes_max` bytes. Nothing is
    /// created before there is something to keep.
    pub fn new(folder: impl AsRef<Path>, repository: RepositoryId, bytes_max: u64) -> Self {
        PackCache { folder: folder.as_ref().join(repository.to_string()).into(), bytes_max }
    }

    /// Returns the folder that the packs lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, pack: PackId) -> PathBuf {
        self.folder.join(pack.to_string())
    }

    /// Returns a part of a pack; `None` if it is not there, or can't be read: it is a cache.
    pub(crate) async fn read(&self, pack: PackId, range: Range<u64>) -> Option<Bytes> {
        let path = self.path(pack);
        blocking(move || read(&path, range)).await.ok()
    }

    /// Keeps a pack, and makes room for it.
    ///
    /// # Errors
    /// The file system's. The pack is in the store already, so nothing is lost.
    pub(crate) async fn keep(&self, pack: PackId, bytes: Bytes) -> io::Result<()> {
        let this = self.clone();
        blocking(move || this.keep_now(pack, &bytes)).await
    }

    fn keep_now(&self, pack: PackId, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.bytes_max {
            return Ok(());
        }
        create_private(&self.folder)?;
        let temporary = self.folder.join(format!("{}.{}.tmp", pack, std::process::id()));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            // By the clock that reading goes by: the file system's own may lag behind it.
            file.set_modified(SystemTime::now())
        });
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, self.path(pack))) {
            // What is left of it goes with the next `make_room` if it can't go now.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.make_room()
    }

    /// Forgets a pack, because what was read of it was not what was written.
    pub(crate) async fn forget(&self, pack: PackId) {
        let path = self.path(pack);
        // Gone already, or it can't go: either way nothing relies on it.
        let _ = blocking(move || fs::remove_file(path)).await;
    }

    /// Deletes what was used longest ago until the rest fits.
    fn make_room(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // A file that goes while we look is gone.
            let Ok((entry, metadata)) = entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata)))
            else {
                continue;
            };
            if metadata.is_file() {
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, file_bytes, path) in files {
            if bytes <= self.bytes_max {
                break;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => bytes -= file_bytes,
            }
        }
        Ok(())
    }
}

fn read(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    // The time of change says when it was used last. On a file system that can't tell, the order is that of writing.
    let _ = file.set_modified(SystemTime::now());
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
