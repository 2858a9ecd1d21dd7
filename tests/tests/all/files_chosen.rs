//! What of a tree is backed up: what was asked for and has changed, and no database in use; and what can't be read is said.

use crate::kit::random::Random;
use crate::kit::tree::{
    LONG, as_root, assert_comes_back, back_up_files, back_up_watched, count, folder, good, let_ticks_pass, look,
    restore_to, when_reading, write,
};
use crate::kit::{create, get_back, run, snapshots};
use dedump_core::{Error, Quality, Store};
use dedump_engines::files::{FilesEngine, FilesOptions};
use rustix::fs::inotify;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

#[test]
fn an_unchanged_tree_is_not_read_and_adds_next_to_nothing() {
    let (_folder, data) = folder();
    let mut random = Random::seeded(2);
    for number in 0..600 {
        write(data.join(format!("{number:03}")), random.text(5_000));
    }
    write(data.join("large"), random.text(17 << 20));
    let_ticks_pass();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let first = good(&repository, &data).await;
        assert_eq!((count(&first, "files"), count(&first, "files_read")), (601, 601));
        let opens = || {
            let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("watches");
            inotify::add_watch(&watch, &data, inotify::WatchFlags::OPEN).expect("watches");
            watch
        };
        let opened = |watch: std::os::fd::OwnedFd| {
            let mut buffer = [std::mem::MaybeUninit::uninit(); 65536];
            let mut reader = inotify::Reader::new(watch, &mut buffer);
            let mut files_n = 0;
            while let Ok(event) = reader.next() {
                files_n += usize::from(!event.events().contains(inotify::ReadFlags::ISDIR));
            }
            files_n
        };
        let watch = opens();
        let second = good(&repository, &data).await;
        assert_eq!(opened(watch), 0, "files that were opened");
        assert_eq!((count(&second, "files_read"), count(&second, "files_reused")), (0, 601));
        assert_eq!(second.record.streams, first.record.streams);
        let totals = &second.record.totals;
        assert_eq!((totals.bytes_new, totals.nodes_new_n, totals.bytes_added), (0, 0, 0));
        assert_eq!(totals.bytes, first.record.totals.bytes);

        // One that changes: its bundle alone is read, which may be all small files, by chance, and never the large one; and the
        // content that nobody could tell by length and mtime.
        let before = fs::metadata(data.join("300")).expect("is there").modified().expect("a time");
        write(data.join("300"), random.text(5_000));
        File::options().write(true).open(data.join("300")).expect("opens").set_modified(before).expect("sets the time");
        let_ticks_pass();
        let third = good(&repository, &data).await;
        let read_n = count(&third, "files_read");
        assert!((1..=600).contains(&read_n) && count(&third, "files_reused") == 601 - read_n, "{read_n}");
        assert_comes_back(&repository, &data).await;

        let watch = opens();
        let options = FilesOptions { rescan: true, ..FilesOptions::default() };
        let rescanned = back_up_files(&repository, &data, options).await.expect("backs up").snapshot;
        assert_eq!((count(&rescanned, "files_read"), count(&rescanned, "files_reused")), (601, 0));
        assert!(opened(watch) >= 601);
        assert_eq!(rescanned.record.totals.bytes_new, 0);
        let after = good(&repository, &data).await;
        assert_eq!(count(&after, "files_read"), 0, "a rescan says what it saw");
    });
}

#[test]
fn a_file_that_had_just_changed_is_read_again() {
    let (_folder, data) = folder();
    for attempt in 0..100 {
        let read_again = run(async {
            let repository = create(Store::memory()).await.expect("creates");
            let begun = Instant::now();
            write(data.join("file"), format!("{attempt}"));
            good(&repository, &data).await;
            let was_quick = begun.elapsed() < Duration::from_millis(100);
            let second = good(&repository, &data).await;
            was_quick.then(|| count(&second, "files_read"))
        });
        if let Some(files_n) = read_again {
            assert_eq!(files_n, 1, "another change in the same tick would not show");
            return;
        }
    }
    panic!("this machine was never quick enough to test it");
}

#[test]
fn what_changes_while_it_is_read_is_named() {
    let (_folder, data) = folder();
    write(data.join("a quiet one"), "x");
    write(data.join("log\n"), vec![b'x'; LONG]);
    let_ticks_pass();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let append = when_reading(|| {
            let mut log = File::options().append(true).open(data.join("log\n")).expect("opens");
            log.write_all(b"more").expect("writes");
        });
        let report = back_up_watched(&repository, &data, FilesOptions::default(), &append).await.expect("backs up");
        let record = &report.snapshot.record;
        assert_eq!(record.quality, Quality::Suspicious);
        assert_eq!(record.reasons.len(), 1, "{:?}", record.reasons);
        assert!(record.reasons[0].contains("log\\n\" changed while it was read"), "{:?}", record.reasons);
        let_ticks_pass();
        let again = good(&repository, &data).await;
        assert_eq!(count(&again, "files_read"), 1, "that one");

        let shorten = when_reading(|| {
            File::options().write(true).open(data.join("log\n")).expect("opens").set_len(10).expect("shortens");
        });
        let options = FilesOptions { rescan: true, ..FilesOptions::default() };
        let report = back_up_watched(&repository, &data, options, &shorten).await.expect("backs up");
        assert_eq!(report.snapshot.record.quality, Quality::Suspicious);
        let target = data.with_file_name("restored");
        restore_to(&repository, &report.snapshot, &target, &as_root(&data)).await.expect("restores what was read");
    });
}

#[test]
fn what_vanishes_fails_the_backup_or_is_named() {
    let (_folder, data) = folder();
    let elsewhere = data.with_file_name("elsewhere");
    fs::create_dir(&elsewhere).expect("creates");
    write(elsewhere.join("secret"), "of somebody else");
    write(data.join("a long one"), vec![b'x'; LONG]);
    let prepare = || {
        write(data.join("gone"), "x");
        fs::remove_file(data.join("replaced")).ok();
        fs::create_dir_all(data.join("replaced")).expect("creates");
        write(data.join("replaced/below"), "x");
    };
    let happen = || {
        fs::remove_file(data.join("gone")).expect("removes");
        fs::remove_dir_all(data.join("replaced")).expect("removes");
        symlink(&elsewhere, data.join("replaced")).expect("links");
    };
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        prepare();
        let error = back_up_watched(&repository, &data, FilesOptions::default(), &when_reading(happen)).await;
        let error = error.expect_err("something is missing").to_string();
        assert!(error.contains("gone vanished while it was backed up; exclude it, or allow"), "{error}");
        assert_eq!(snapshots(&repository).await.expect("lists"), []);

        prepare();
        let options = FilesOptions { partial: true, rescan: true, ..FilesOptions::default() };
        let report = back_up_watched(&repository, &data, options, &when_reading(happen)).await.expect("backs up");
        let record = &report.snapshot.record;
        assert_eq!((record.quality, record.reasons.len()), (Quality::Partial, 1), "{:?}", record.reasons);
        assert!(record.reasons[0].contains("gone vanished"), "{:?}", record.reasons);
        let target = data.with_file_name("restored");
        restore_to(&repository, &report.snapshot, &target, &as_root(&data)).await.expect("restores");
        assert!(!target.join("gone").exists());
        assert!(
            fs::symlink_metadata(target.join("replaced")).expect("is there").is_symlink(),
            "it is what it was then"
        );
        let tree = String::from_utf8_lossy(&get_back(&repository, &report.snapshot).await.expect("reads")["tree"])
            .into_owned();
        assert!(!tree.contains("secret"), "nobody followed the link");
    });
}

#[test]
fn what_cannot_be_read_fails_the_backup_or_is_named() {
    let (folder, data) = folder();
    write(data.join("closed"), "x");
    write(data.join("open"), "x");
    fs::create_dir(data.join("closed directory")).expect("creates");
    for (path, mode) in
        [("data/closed", 0), ("data/closed directory", 0), ("data", 0o755), ("data/open", 0o644), ("", 0o755)]
    {
        fs::set_permissions(folder.path().join(path), fs::Permissions::from_mode(mode)).expect("chmods");
    }
    // Root reads everything, so nobody does it: the thread, and those that it starts.
    let nobody = std::thread::spawn(move || {
        if rustix::fs::stat("/proc/thread-self").expect("is there").st_uid == 0 {
            let uid = rustix::fs::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(uid, uid, uid).expect("gives up rights");
        }
        run(async {
            let repository = create(Store::memory()).await.expect("creates");
            let error = back_up_files(&repository, &data, FilesOptions::default()).await.expect_err("is closed");
            assert!(error.to_string().contains("cannot be read: Permission denied"), "{error}");
            let options = FilesOptions { partial: true, ..FilesOptions::default() };
            let snapshot = back_up_files(&repository, &data, options).await.expect("backs up").snapshot;
            assert_eq!((snapshot.record.quality, snapshot.record.reasons.len()), (Quality::Partial, 2));
            assert_eq!(count(&snapshot, "files_read"), 1);
            // Without root, what another owned comes back as one's own, and that is told once.
            let target = tempfile::tempdir().expect("a folder");
            let restored = restore_to(&repository, &snapshot, &target.path().join("x"), &as_root(&data)).await;
            let restored = restored.expect("restores");
            assert_eq!(fs::read(target.path().join("x/open")).expect("reads"), b"x");
            let owned_by_root = fs::metadata(&data).expect("is there").uid() == 0;
            assert_eq!(restored.warnings.len(), usize::from(owned_by_root), "{:?}", restored.warnings);
        });
    });
    nobody.join().expect("as nobody");
}

#[test]
fn patterns_choose_what_is_backed_up() {
    let (_folder, data) = folder();
    for directory in ["a/cache", "a/src", "b/src/cache"] {
        fs::create_dir_all(data.join(directory)).expect("creates");
    }
    for file in ["a/x.log", "a/cache/x", "a/src/x.c", "a/src/x.o", "b/src/cache/x.c", "b/src/y.c", "top"] {
        write(data.join(file), file);
    }
    let paths = |options: FilesOptions| {
        run(async {
            let repository = create(Store::memory()).await.expect("creates");
            let snapshot = back_up_files(&repository, &data, options).await.expect("backs up").snapshot;
            let target = data.with_file_name("restored");
            restore_to(&repository, &snapshot, &target, &as_root(&data)).await.expect("restores");
            let paths: Vec<String> = look(&target).into_keys().map(|path| path.display().to_string()).collect();
            fs::remove_dir_all(&target).expect("removes");
            paths
        })
    };
    let list = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
    let excluding = FilesOptions { exclude: list(&["*.log", "**/cache/", "*.o"]), ..FilesOptions::default() };
    assert_eq!(paths(excluding), ["", "a", "a/src", "a/src/x.c", "b", "b/src", "b/src/y.c", "top"]);
    let absolute = format!("{}/b", data.display());
    let excluding = FilesOptions { exclude: list(&[&absolute, "a"]), ..FilesOptions::default() };
    assert_eq!(paths(excluding), ["", "top"]);
    let including = FilesOptions { include: list(&["*.c"]), exclude: list(&["cache"]), ..FilesOptions::default() };
    assert_eq!(paths(including), ["", "a", "a/src", "a/src/x.c", "b", "b/src", "b/src/y.c"]);
    let including = FilesOptions { include: list(&["b/src/"]), ..FilesOptions::default() };
    assert_eq!(paths(including), ["", "b", "b/src", "b/src/cache", "b/src/cache/x.c", "b/src/y.c"]);
    let error = FilesEngine::new(vec![data.clone()], FilesOptions { exclude: list(&["["]), ..Default::default() });
    assert!(matches!(error, Err(Error::Invalid(_))));
    let nested = FilesEngine::new(vec![data.clone(), data.join("a")], FilesOptions::default());
    assert!(nested.expect_err("twice").to_string().contains("name one"));
}

#[test]
fn directories_of_databases_are_refused_with_what_to_use() {
    for (names, source) in [
        (&["PG_VERSION", "postmaster.pid"][..], "postgres://"),
        (&["dump.rdb"], "redis://"),
        (&["ibdata1", "mysql.ibd"], "mysql://"),
    ] {
        let (_folder, data) = folder();
        let database = data.join("srv/database");
        fs::create_dir_all(&database).expect("creates");
        names.iter().for_each(|name| write(database.join(name), "x"));
        run(async {
            let repository = create(Store::memory()).await.expect("creates");
            let error = back_up_files(&repository, &data, FilesOptions::default()).await.expect_err("is refused");
            let error = error.to_string();
            assert!(error.contains("srv/database") && error.contains(source), "{error}");
            // To exclude what gives it away does not make it a backup.
            let sly = FilesOptions { exclude: vec![names[0].to_owned()], ..FilesOptions::default() };
            assert!(back_up_files(&repository, &data, sly).await.is_err());
            let without = FilesOptions { exclude: vec!["srv/database".to_owned()], ..FilesOptions::default() };
            assert!(back_up_files(&repository, &data, without).await.is_ok());
            let stopped = FilesOptions { databases: true, ..FilesOptions::default() };
            let snapshot = back_up_files(&repository, &data, stopped).await.expect("backs up").snapshot;
            assert!(snapshot.record.warnings[0].contains("srv/database"), "{:?}", snapshot.record.warnings);
        });
    }
}
