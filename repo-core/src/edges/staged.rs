//! What writers that were killed leave behind in a directory.
//!
//! `object_store`, and `store/direct.rs` like it, write a file that is named like the object, with `#` and a number behind it,
//! and put it into place when it is synced. Whoever is killed on the way leaves it there. No listing shows it, and it takes
//! room; where it was in place already, under two names, it keeps the object's room after the object is gone.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Deletes such files that nobody wrote to for so long. To take away one that is written still loses nothing: its put fails.
pub(super) fn sweep(root: &Path, age_min: Duration) -> io::Result<()> {
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            if !file.file_name().to_str().is_some_and(is_staged) {
                continue;
            }
            // Gone since it was listed: it was put into place.
            let Ok(metadata) = file.metadata() else { continue };
            // One of the future has no age, and stays.
            let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
            if metadata.is_file() && age >= age_min {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(object, number)| {
        !object.is_empty() && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}
