//! The files of the cache: how they appear, and whose share each is.

use crate::edges::system::random;
use crate::format::names::{META, PACKS};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Whose room a file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Share {
    /// Packs of chunks.
    Data,
    /// Packs of manifest nodes.
    Manifests,
    /// Index fragments, decisions, the config.
    Index,
}

/// A file of the cache; the one that was used longest ago is the least.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CachedFile {
    pub used: SystemTime,
    pub bytes: u64,
    pub path: PathBuf,
    pub share: Share,
}

/// Returns the files of a repository's cache, with those that were being written when somebody was killed.
pub(super) fn scan(folder: &Path) -> io::Result<Vec<CachedFile>> {
    let mut files = Vec::new();
    let mut pending = vec![(folder.to_owned(), Share::Index)];
    while let Some((folder, share)) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            // A file that goes while we look is gone.
            let Ok((entry, metadata)) = entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata)))
            else {
                continue;
            };
            if metadata.is_dir() {
                let share = match entry.file_name().to_str() {
                    Some(PACKS) => Share::Data,
                    Some(META) => Share::Manifests,
                    _ => Share::Index,
                };
                pending.push((entry.path(), share));
            } else {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(CachedFile { used, bytes: metadata.len(), path: entry.path(), share });
            }
        }
    }
    Ok(files)
}

/// Writes a file for nobody but its owner; it appears under its name whole.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Others may write the same at the same time.
    let number = u64::from_le_bytes(random().map_err(io::Error::other)?);
    let temporary = path.with_extension(format!("{number:016x}.tmp"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        // By the clock that reading goes by: the file system's own may lag behind it.
        file.set_modified(SystemTime::now())
    });
    let done = written.and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        // What is left of it goes once there is no room for it, if it can't go now.
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Creates a folder and those above it for nobody but their owner, unless they are there.
pub(super) fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
