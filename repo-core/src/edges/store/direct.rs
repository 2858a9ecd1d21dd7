//! Large files of a directory, written past the page cache.
//!
//! Nobody reads a pack again soon, and a database on the same machine would miss the memory: through the cache a dump drives
//! out its pages. It is quicker, too: the kernel need not find a page for each 4 KiB, and copy into it.
//!
//! What stands in the directory, and when, is as `object_store` has it: a file named like the object, with `#` and a number
//! behind it, is written and synced; a link gives it the object's name, if nobody else has that; its own name is taken away,
//! and the folder is synced. Whatever can't be written so is left to `object_store`.

use super::Store;
use bytes::Bytes;
use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Shorter objects go through the cache: they are read again sooner.
const DIRECT_BYTES_MIN: usize = 1 << 20;
/// Bytes that are written in one call.
const WRITE_BYTES: usize = 1 << 20;
/// What addresses, offsets and lengths of such writes must be multiples of, on any disk.
const ALIGNMENT: usize = 4096;

impl Store {
    /// Creates a large object of a directory, unless there is one of that name, as [`create`]; `None` if it can't be done here.
    pub(super) async fn put_direct(&self, name: &str, bytes: &Bytes) -> Option<io::Result<()>> {
        let directory = self.directory.as_ref().filter(|_| bytes.len() >= DIRECT_BYTES_MIN)?;
        let (path, bytes) = (directory.join(name), bytes.clone());
        let work = tokio::task::spawn_blocking(move || create(&path, &bytes));
        let created = work.await.map_err(io::Error::other).and_then(|created| created);
        Some(created).filter(|created| !created.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported))
    }
}

/// Creates a file, durably.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`]: there is one of that name. [`ErrorKind::Unsupported`]: the file system has no such writes, or
/// not yet the folder. Others of the system: then the file is not there, or only its folder could not be synced.
fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (file, staged) = stage(path).map_err(lack)?;
    let linked = write(file, bytes).map_err(lack).and_then(|()| fs::hard_link(&staged, path));
    let removed = fs::remove_file(&staged);
    linked.and(removed)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Creates a file beside the one that is to be.
fn stage(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).custom_flags(OFlag::O_DIRECT.bits());
    let mut number = 1u32;
    loop {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        match options.open(&staged) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            opened => return opened.map(|file| (file, staged.into())),
        }
    }
}

/// Writes all bytes and syncs them. They pass through an aligned buffer, in whole multiples; the file is cut to its length.
fn write(mut file: File, bytes: &[u8]) -> io::Result<()> {
    let mut buffer = vec![0; WRITE_BYTES + ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    let aligned = &mut buffer[start..start + WRITE_BYTES];
    for piece in bytes.chunks(WRITE_BYTES) {
        aligned[..piece.len()].copy_from_slice(piece);
        file.write_all(&aligned[..piece.len().next_multiple_of(ALIGNMENT)])?;
    }
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Names what says that it can't be done this way: EINVAL of file systems that always use the cache, and a folder that
/// `object_store` creates.
fn lack(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::NotFound => ErrorKind::Unsupported.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::store::Created;
    use nix::fcntl::{FcntlArg, fcntl};

    fn noise(bytes_n: usize) -> Bytes {
        let mut noise = vec![0; bytes_n];
        blake3::Hasher::new().update(&bytes_n.to_le_bytes()).finalize_xof().fill(&mut noise);
        noise.into()
    }

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("lists").file_name().into_string().expect("UTF-8");
        fs::read_dir(folder).expect("is there").map(name).collect()
    }

    #[test]
    fn files_of_any_length_hold_what_was_written_and_nothing_lies_beside_them() {
        let folder = tempfile::tempdir().expect("a folder");
        for bytes_n in [0, 1, 4095, 4096, 4097, WRITE_BYTES - 1, WRITE_BYTES, WRITE_BYTES + 1, 3 * WRITE_BYTES + 5000] {
            let path = folder.path().join(bytes_n.to_string());
            match create(&path, &noise(bytes_n)) {
                Ok(()) => assert_eq!(fs::read(&path).expect("reads"), noise(bytes_n), "{bytes_n} bytes"),
                // A temporary folder in memory, of a kernel before 6.6: there the other tests hold all the more.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
            }
        }
        assert!(names(folder.path()).iter().all(|name| !name.contains('#')), "{:?}", names(folder.path()));
    }

    #[test]
    fn writes_pass_the_cache_by_and_each_has_a_file_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pack");
        // Of somebody who is writing it, too, or was killed.
        fs::write(folder.path().join("pack#1"), "another's").expect("writes");
        let Ok((file, staged)) = stage(&path) else { return assert_eq!(names(folder.path()), ["pack#1"]) };
        assert_eq!(staged, folder.path().join("pack#2"));
        let flags = fcntl(&file, FcntlArg::F_GETFL).expect("it is open");
        assert_ne!(flags & OFlag::O_DIRECT.bits(), 0);
        create(&path, &noise(5000)).expect("creates");
        assert_eq!(fs::read(folder.path().join("pack#1")).expect("reads"), b"another's");
        assert_eq!(fs::read(staged).expect("reads"), b"");
    }

    #[tokio::test]
    async fn an_object_is_created_once_and_its_folder_with_the_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::local(folder.path()).expect("opens");
        let packs = folder.path().join("packs");
        for name in ["packs/first", "packs/second"] {
            let (mine, other) = (noise(DIRECT_BYTES_MIN + 1), noise(DIRECT_BYTES_MIN + 2));
            assert_eq!(store.create(name, mine.clone()).await.expect("creates"), Created::Yes);
            assert_eq!(store.create(name, mine.clone()).await.expect("is equal"), Created::Yes);
            assert_eq!(store.create(name, other.clone()).await.expect("is refused"), Created::Taken);
            store.create_content_addressed(name, mine.clone()).await.expect("is as long");
            let error = store.create_content_addressed(name, other).await.expect_err("is longer");
            assert!(error.is_damage(), "{error}");
            assert_eq!(fs::read(folder.path().join(name)).expect("reads"), mine);
        }
        let mut there = names(&packs);
        there.sort();
        assert_eq!(there, ["first", "second"]);
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = create(&folder.path().join("packs/one"), &noise(5000)).expect_err("there is no such folder");
        assert_eq!(missing.kind(), ErrorKind::Unsupported);
        // A name that can't be linked to, when all is written.
        fs::create_dir(folder.path().join("one")).expect("creates");
        let taken = create(&folder.path().join("one"), &noise(5000)).expect_err("a folder has that name");
        assert!(matches!(taken.kind(), ErrorKind::AlreadyExists | ErrorKind::Unsupported), "{taken}");
        assert_eq!(names(folder.path()), ["one"]);
    }
}
