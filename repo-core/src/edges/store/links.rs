//! Hard links: by one, a directory's file gets its name only if nobody else has it, whole and in one step.

use super::Store;
use super::failure::io_hint;
use crate::edges::system::random;
use crate::format::names::PROBE;
use crate::words::error::{Error, Result};
use crate::words::id::SessionId;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

impl Store {
    /// Sees that a directory lies on a file system that has hard links. Of other stores nothing is asked.
    ///
    /// # Errors
    /// [`Error::UnfitStore`]: it has none, as FAT, exFAT and some network and FUSE file systems. [`Error::Store`].
    pub(crate) async fn check_links(&self) -> Result<()> {
        let Some(directory) = self.directory.clone() else { return Ok(()) };
        let name = SessionId(random()?).to_string();
        let folder = directory.join(PROBE);
        let work = tokio::task::spawn_blocking(move || link(&folder, &name));
        match work.await.map_err(io::Error::other).and_then(|linked| linked) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if is_lack(&error) => Err(Error::UnfitStore {
                location: self.location.clone(),
                why: "lies on a file system without hard links, by which an object is created only once".to_owned(),
            }),
            Ok(Err(error)) | Err(error) => {
                let (object, hint) = (self.location.clone(), io_hint(&error));
                Err(Error::Store { action: "cannot write to", object, hint, source: Box::new(error) })
            }
        }
    }
}

/// Writes a file and links it; what came of the link is inside.
fn link(folder: &Path, name: &str) -> io::Result<io::Result<()>> {
    fs::create_dir_all(folder)?;
    // Left behind, they are swept like other files whose names end so.
    let [first, second] = ["#0", "#1"].map(|end| folder.join(format!("{name}{end}")));
    File::create_new(&first)?;
    let linked = fs::hard_link(&first, &second);
    fs::remove_file(&first)?;
    if linked.is_ok() {
        fs::remove_file(&second)?;
    }
    Ok(linked)
}

/// Returns whether a link was refused because there are none: a file could be made and taken away in the same folder.
fn is_lack(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_with_hard_links_passes_and_keeps_nothing_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::create_local(folder.path().join("repo")).expect("creates");
        store.check_links().await.expect("it has them");
        let left = fs::read_dir(folder.path().join("repo").join(PROBE)).expect("it is there").count();
        assert_eq!(left, 0);
        Store::memory().check_links().await.expect("nothing is asked of it");
    }

    #[test]
    fn what_the_kernel_says_without_them_is_told_from_other_failures() {
        let raw = io::Error::from_raw_os_error;
        // link(2): EPERM of FAT and its kin, ENOSYS and EOPNOTSUPP of others.
        for lack in [1, 38, 95] {
            assert!(is_lack(&raw(lack)), "{}", raw(lack));
        }
        // ENOSPC, EIO, EROFS.
        for other in [28, 5, 30] {
            assert!(!is_lack(&raw(other)), "{}", raw(other));
        }
    }
}
