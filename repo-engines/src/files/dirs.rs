//! Directories below one that is open, each opened by its name in the one above and never by way of a symbolic link: so
//! whoever replaces a directory by a link meanwhile leads nobody elsewhere.

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Result;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How every directory is opened.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory, and those on the way to the one that was asked for last.
pub(super) struct Dirs {
    top: OwnedFd,
    open: Vec<(Vec<u8>, OwnedFd)>,
}

impl Dirs {
    /// Creates it over the top directory.
    pub fn create(top: OwnedFd) -> Dirs {
        Dirs { top, open: Vec::new() }
    }

    /// Returns the top directory.
    pub fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// Returns the directory of this path below the top one; slashes at its ends do not count.
    ///
    /// # Errors
    /// The system's: also if a part of the path is a symbolic link.
    pub fn open(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        let same_n = self.open.iter().zip(&parts).take_while(|((open, _), part)| open == *part).count();
        self.open.truncate(same_n);
        for part in &parts[same_n..] {
            assert!(!matches!(*part, b"." | b".."), "paths are checked before anything is opened");
            let above = self.open.last().map_or(self.top.as_fd(), |(_, fd)| fd.as_fd());
            let fd = openat(above, *part, FLAGS, Mode::empty())?;
            self.open.push((part.to_vec(), fd));
        }
        Ok(self.open.last().map_or(self.top.as_fd(), |(_, fd)| fd.as_fd()))
    }
}

/// Splits a path into that of its directory and its name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_directory_that_became_a_link_is_not_entered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("top/a/b")).expect("creates");
        std::fs::create_dir_all(path("other/b")).expect("creates");
        let mut dirs = Dirs::create(std::fs::File::open(path("top")).expect("opens").into());
        dirs.open(b"/a/b").expect("opens");
        dirs.open(b"").expect("leaves");
        std::fs::rename(path("top/a"), path("moved")).expect("moves");
        std::os::unix::fs::symlink(path("other"), path("top/a")).expect("links");
        for way in [&b"a"[..], b"a/b"] {
            let error = dirs.open(way).err();
            assert!(matches!(error, Some(Errno::LOOP | Errno::NOTDIR)), "{error:?}");
        }
    }
}
