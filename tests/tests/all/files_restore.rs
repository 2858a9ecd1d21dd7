//! Files given back: what is in the target stays, what ends midway leaves nothing, and no snapshot leads outside.

use crate::kit::dumps::{Streams, StreamsEngine};
use crate::kit::random::Random;
use crate::kit::tree::{as_root, folder, good, left_over, look, restore_to, write};
use crate::kit::{back_up, create, run};
use dedump_core::{BackupOptions, Error, Event, Progress, Result, Store, backup};
use dedump_engines::files::{self, FilesRestoreOptions, FilesRestored};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;

#[test]
fn what_is_in_the_target_stays_unless_it_is_to_be_replaced() {
    let (folder, data) = folder();
    write(data.join("new"), "new");
    let target = folder.path().join("target");
    fs::create_dir(&target).expect("creates");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &data).await;
        restore_to(&repository, &snapshot, &target, &as_root(&data)).await.expect("it is empty");
        write(target.join("old"), "old");
        let before = look(&target);
        let error = restore_to(&repository, &snapshot, &target, &as_root(&data)).await.expect_err("it is not");
        assert!(error.to_string().contains("is not empty, and was left as it is"), "{error}");
        assert_eq!(look(&target), before);
        let file = folder.path().join("file");
        write(&file, "x");
        let replacing = FilesRestoreOptions { replace: true, ..as_root(&data) };
        assert!(restore_to(&repository, &snapshot, &file, &replacing).await.is_err(), "no directory");

        let restored = restore_to(&repository, &snapshot, &target, &replacing).await.expect("restores");
        assert_eq!(look(&target), look(&data));
        assert_eq!(look(&restored.replaced.expect("it was full")), before);
        assert!(left_over(folder.path()).is_empty());
    });
}

#[test]
fn a_restore_that_ends_midway_leaves_the_target_and_the_next_one_clears_up() {
    struct Looking(PathBuf, Mutex<Vec<PathBuf>>);
    impl Progress for Looking {
        fn event(&self, event: Event) {
            if matches!(event, Event::Restored { .. }) {
                assert!(!self.0.join("target").exists());
                *self.1.lock().expect("nothing panics while it is held") = left_over(&self.0);
            }
        }
    }

    let (folder, data) = folder();
    write(data.join("file"), Random::seeded(4).text(1_000_000));
    let target = folder.path().join("target");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &data).await;
        let looking = Looking(folder.path().to_owned(), Mutex::default());
        let options = as_root(&data);
        files::restore(&repository, &snapshot, "", &target, &options, &looking).await.expect("restores");
        let staged = looking.1.into_inner().expect("nothing panics while it is held");
        assert_eq!(staged.len(), 1, "{staged:?}");
        fs::remove_dir_all(&target).expect("removes");

        // As if it had been killed; nobody holds its lock.
        fs::create_dir_all(staged[0].join("half")).expect("creates");
        write(staged[0].join("half/file"), "x");
        // And one that is at work.
        let mut other = staged[0].clone().into_os_string();
        other.push("9");
        fs::create_dir(&other).expect("creates");
        let lock = File::open(&other).expect("opens");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locks");
        let restored = restore_to(&repository, &snapshot, &target, &options).await.expect("restores");
        assert_eq!(left_over(folder.path()), [PathBuf::from(&other)]);
        assert!(restored.warnings[0].contains("at work"), "{:?}", restored.warnings);
        assert_eq!(look(&target), look(&data));
    });
}

#[test]
fn a_restore_that_is_dropped_leaves_nothing() {
    struct Counting(std::sync::atomic::AtomicU64);
    impl Progress for Counting {
        fn event(&self, event: Event) {
            if let Event::Restored { bytes } = event {
                self.0.fetch_add(bytes, std::sync::atomic::Ordering::SeqCst);
            }
        }
    }

    let (folder, data) = folder();
    write(data.join("file"), Random::seeded(6).bytes(50 << 20));
    let target = folder.path().join("target");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &data).await;
        let (counting, options) = (Counting(Default::default()), as_root(&data));
        let restored = || counting.0.load(std::sync::atomic::Ordering::SeqCst);
        let mut work = Box::pin(files::restore(&repository, &snapshot, "", &target, &options, &counting));
        std::future::poll_fn(|context| {
            let polled = work.as_mut().poll(context);
            assert!(polled.is_pending(), "it ended before it could be dropped");
            if restored() > 1 << 20 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        assert_eq!(left_over(folder.path()).len(), 1, "it was at work");
        drop(work);
        assert!(!target.exists() && left_over(folder.path()).is_empty());
    });
}

#[test]
fn a_damaged_bundle_leaves_nothing() {
    let (folder, data) = folder();
    write(data.join("file"), Random::seeded(5).text(1_000_000));
    run(async {
        let store = crate::kit::watched::Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let snapshot = good(&repository, &data).await;
        let streams = &snapshot.record.streams;
        assert_eq!(streams.len(), 2);
        // The tree is whole: what it says is checked against what the snapshot has.
        let mut forged = snapshot.clone();
        forged.record.streams[1].hash[0] ^= 1;
        let error = restore_to(&repository, &forged, &folder.path().join("target"), &as_root(&data)).await;
        assert!(matches!(error, Err(Error::Damaged { .. })), "{error:?}");
        assert!(!folder.path().join("target").exists() && left_over(folder.path()).is_empty());
    });
}

/// Restores a tree that somebody else wrote.
fn restore_forged(lines: &[&str], content: &[u8]) -> (tempfile::TempDir, Result<FilesRestored>) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("inner")).expect("creates");
    write(folder.path().join("outside"), "as it was");
    let target = folder.path().join("inner/target");
    let mut tree = String::from("{\"dedump_tree\":1,\"roots\":[\"/\"]}\n");
    for line in lines {
        let rest = r#""mode":"0755","uid":0,"gid":0,"mtime":[0,0]}"#;
        tree.push_str(&format!("{{{},{rest}\n", line.replace("FOLDER", &folder.path().display().to_string())));
    }
    let restored = run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let streams =
            Streams::from([("tree".to_owned(), tree.into_bytes()), ("content/x".to_owned(), content.to_vec())]);
        let engine = StreamsEngine(streams);
        let report = backup(&repository, &engine, &BackupOptions::new("s", "h"), &()).await.expect("backs up");
        restore_to(&repository, &report.snapshot, &target, &FilesRestoreOptions::default()).await
    });
    (folder, restored)
}

const FILE: &str = r#""type":"file","size":4,"content":"content/x""#;

#[test]
fn a_tree_that_climbs_out_is_damage_and_nothing_is_restored() {
    let file = |path: &str| format!(r#""path":"{path}",{FILE}"#);
    let link = |path: &str, target: &str| format!(r#""path":"{path}","type":"symlink","target":"{target}""#);
    let hard = |path: &str, target: &str| format!(r#""path":"{path}","type":"hardlink","target":"{target}""#);
    let cases: Vec<(&str, Vec<String>)> = vec![
        ("a name", vec![file("/../outside")]),
        ("a name in the middle", vec![file("/a/../../outside")]),
        ("a name at the end", vec![r#""path":"/a/..","type":"directory""#.to_owned()]),
        ("a dot", vec![file("/a/./b")]),
        ("a relative path", vec![file("outside")]),
        ("an empty path", vec![file("")]),
        ("a doubled slash", vec![file("//outside")]),
        ("a byte 0", vec![file("/a\\u0000b")]),
        ("hex of a name", vec![format!(r#""path":{{"hex":"2f2e2e2f6f757473696465"}},{FILE}"#)]),
        ("a file below a link", vec![link("/a", "FOLDER"), file("/a/outside")]),
        ("a file deep below a link", vec![link("/a", "FOLDER"), file("/a/b/outside")]),
        ("a directory that was a link", vec![link("/a", "FOLDER"), r#""path":"/a","type":"directory""#.to_owned()]),
        ("a link that was a directory", vec![r#""path":"/a","type":"directory""#.to_owned(), link("/a", "FOLDER")]),
        ("a file below a file", vec![file("/a"), file("/a/b")]),
        ("a file below a hard link", vec![link("/a", "FOLDER"), hard("/b", "/a"), file("/b/outside")]),
        ("a hard link out", vec![hard("/a", "FOLDER/outside")]),
        ("a hard link by a name", vec![hard("/a", "/../outside")]),
        ("a hard link to a file that has no other names", vec![file("/a"), hard("/b", "/a")]),
        (
            "a hard link to a directory",
            vec![r#""path":"/a","type":"directory","linked":true"#.to_owned(), hard("/b", "/a")],
        ),
        ("a hard link without a file", vec![r#""path":"/a","type":"hardlink""#.to_owned()]),
        ("a link to nowhere", vec![r#""path":"/a","type":"symlink""#.to_owned()]),
        ("a device without its numbers", vec![r#""path":"/a","type":"char_device""#.to_owned()]),
        ("two of a name", vec![file("/a"), file("/a")]),
        ("another order", vec![file("/b"), file("/a")]),
        ("more bytes than there are", vec![format!(r#""path":"/a","type":"file","size":40,"content":"content/x""#)]),
        ("bytes beyond", vec![format!(r#""path":"/a",{FILE},"offset":18446744073709551615"#)]),
        ("bytes of two files", vec![file("/a"), file("/b")]),
        ("bytes of nowhere", vec![r#""path":"/a","type":"file","size":4"#.to_owned()]),
        ("bytes of another stream", vec![r#""path":"/a","type":"file","size":4,"content":"../tree""#.to_owned()]),
        ("extents out of the file", vec![format!(r#""path":"/a",{FILE},"extents":[[2,3]]"#)]),
        ("extents out of order", vec![format!(r#""path":"/a",{FILE},"extents":[[2,2],[0,2]]"#)]),
        ("extents beyond all", vec![format!(r#""path":"/a",{FILE},"extents":[[18446744073709551615,2]]"#)]),
        ("no mode", vec![format!(r#""path":"/a",{FILE},"mode":"77777""#)]),
        ("no such thing", vec![r#""path":"/a","type":"socket""#.to_owned()]),
    ];
    for (what, lines) in cases {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (folder, restored) = restore_forged(&lines, b"evil");
        assert!(matches!(restored, Err(Error::Damaged { .. })), "{what}: {restored:?}");
        assert_eq!(fs::read(folder.path().join("outside")).expect("reads"), b"as it was", "{what}");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 2, "{what}");
        assert_eq!(fs::read_dir(folder.path().join("inner")).expect("lists").count(), 0, "{what}");
    }
    // What is as it should be, and leads out only when somebody else follows it.
    let lines = [file("/a"), link("/b", "FOLDER/outside"), link("/c", "../../outside")];
    let (folder, restored) = restore_forged(&lines.each_ref().map(String::as_str), b"good");
    restored.expect("restores");
    assert_eq!(fs::read(folder.path().join("inner/target/a")).expect("reads"), b"good");
    assert_eq!(fs::read(folder.path().join("outside")).expect("reads"), b"as it was");
}

#[test]
fn a_snapshot_of_something_else_is_told_so() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let dump = Streams::from([("tree".to_owned(), b"CREATE TABLE t;\n".to_vec())]);
        let snapshot = back_up(&repository, "s", &dump).await.expect("backs up");
        let folder = tempfile::tempdir().expect("a folder");
        let all = FilesRestoreOptions::default();
        let error = restore_to(&repository, &snapshot, &folder.path().join("x"), &all).await;
        assert!(matches!(error, Err(Error::Damaged { .. })), "{error:?}");
        let error = files::restore(&repository, &snapshot, "part", &folder.path().join("x"), &all, &()).await;
        assert!(matches!(error, Err(Error::NotFound { .. })), "{error:?}");
    });
}
