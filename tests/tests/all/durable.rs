//! That what a local store says is written is on the disk: every object's file and the directory that names it are
//! synced before the next step relies on them.

#![allow(unsafe_code)] // to stand in front of the C library's fsync, and note who calls it

use crate::kit::dumps;
use crate::kit::random::Random;
use crate::kit::{back_up, create, run};
use dedump_core::Store;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

static SYNCED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The whole test binary's fsync: notes the file, and then does what the C library's does.
#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: libc::c_int) -> libc::c_int {
    if let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{descriptor}")) {
        SYNCED.lock().expect("nothing panics while it is held").insert(path);
    }
    // SAFETY: the same call with the same argument as the C library's own function makes.
    unsafe { libc::syscall(libc::SYS_fsync, descriptor) as libc::c_int }
}

#[test]
fn every_object_and_the_directory_that_names_it_is_synced() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let root = directory.path().canonicalize().expect("is there").join("repository");
    run(async {
        let store = Store::create_local(&root).expect("creates");
        let repository = create(store).await.expect("creates");
        back_up(&repository, "s", &dumps::one("a", Random::seeded(1).text(3_000_000))).await.expect("backs up");
    });
    let synced = SYNCED.lock().expect("nothing panics while it is held");
    for prefix in ["keys", "packs", "meta", "index", "snapshots"] {
        let objects: Vec<_> = std::fs::read_dir(root.join(prefix)).expect("is there").collect();
        assert!(!objects.is_empty(), "{prefix} has objects");
        assert!(synced.contains(&root.join(prefix)), "{prefix} is synced: {synced:?}");
        for object in objects {
            let path = object.expect("reads").path();
            // A file is synced under the name that it is staged with, which has its own name in it.
            assert!(synced.iter().any(|synced| is_staged(synced, &path)), "{path:?} is synced: {synced:?}");
        }
    }
    assert!(synced.contains(&root), "the repository's own directory is synced: {synced:?}");
    assert!(synced.iter().any(|synced| is_staged(synced, &root.join("config"))), "config is synced: {synced:?}");
}

fn is_staged(synced: &Path, path: &Path) -> bool {
    synced.to_string_lossy().starts_with(&*path.to_string_lossy())
}
