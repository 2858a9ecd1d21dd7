//! Files and directories: what is there comes back as it was.

use crate::kit::random::Random;
use crate::kit::tree::{as_root, assert_comes_back, count, folder, good, let_ticks_pass, look, restore_to, write};
use crate::kit::{create, run};
use dedump_core::{BackupOptions, Error, Store, backup};
use dedump_engines::files::{FilesEngine, FilesOptions, FilesRestoreOptions};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Instant;

#[test]
fn odd_names_links_modes_and_times_come_back() {
    let (_folder, data) = folder();
    let names: [&[u8]; 8] =
        [b"plain", b"new\nline", b"\xff\xfe not utf-8", b" ", b"\\back\"quote", b"-rf", "ü".as_bytes(), b"\x01\x7f"];
    for name in names {
        write(data.join(OsStr::from_bytes(name)), name);
        let directory = data.join(OsStr::from_bytes(&[name, b".d"].concat()));
        fs::create_dir(&directory).expect("creates");
        write(directory.join(OsStr::from_bytes(name)), b"");
    }
    write(data.join("setuid"), "x");
    fs::set_permissions(data.join("setuid"), fs::Permissions::from_mode(0o6751)).expect("chmods");
    write(data.join("nobody reads"), "x");
    fs::set_permissions(data.join("nobody reads"), fs::Permissions::from_mode(0o000)).expect("chmods");
    fs::hard_link(data.join("plain"), data.join("zz other name")).expect("links");
    fs::hard_link(data.join("plain"), data.join("plain.d/third")).expect("links");
    symlink("/nowhere/\u{1}", data.join("dangling")).expect("links");
    symlink("plain.d", data.join("to a directory")).expect("links");
    fs::hard_link(data.join("dangling"), data.join("dangling too")).expect("links");
    mknodat(CWD, data.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).expect("makes a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).expect("binds");
    if rustix::fs::stat("/proc/self").expect("is there").st_uid == 0 {
        let null = rustix::fs::makedev(1, 3);
        mknodat(CWD, data.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), null).expect("makes");
        rustix::fs::chown(data.join("-rf"), Some(rustix::fs::Uid::from_raw(12345)), None).expect("chowns");
    } else {
        eprintln!("not root: no device and no foreign owner in this test");
    }
    let old = Timespec { tv_sec: -5, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: old, last_modification: old };
    for name in ["plain", "plain.d", "dangling"] {
        utimensat(CWD, data.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).expect("sets times");
    }
    fs::set_permissions(data.join(" .d"), fs::Permissions::from_mode(0o500)).expect("chmods");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &data).await;
        assert_eq!(count(&snapshot, "sockets_skipped"), 1);
        assert_eq!(count(&snapshot, "hard_links"), 3);
        fs::remove_file(data.join("socket")).expect("removes");
        utimensat(CWD, &data, &times, AtFlags::empty()).expect("sets times");
        assert_comes_back(&repository, &data).await;
    });
}

#[test]
fn attributes_come_back() {
    let (_folder, data) = folder();
    write(data.join("file"), "x");
    fs::create_dir(data.join("directory")).expect("creates");
    let set =
        |name: &str, attribute: &str, value: &[u8]| lsetxattr(data.join(name), attribute, value, XattrFlags::empty());
    if let Err(error) = set("file", "user.binary", &[0, 255, 10, 13]) {
        eprintln!("NOT TESTED: the file system of {} has no extended attributes: {error}", data.display());
        return;
    }
    set("file", "user.empty", b"").expect("sets");
    set("directory", "user.long", &[b'x'; 3000]).expect("sets");
    // An access control list: u::rw-, u:1234:r--, g::r--, m::r--, o::---.
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(id.to_le_bytes()));
    }
    match set("file", "system.posix_acl_access", &list) {
        Ok(()) => set("directory", "system.posix_acl_default", &list).expect("sets"),
        Err(error) => eprintln!("NOT TESTED: the file system of {} has no ACLs: {error}", data.display()),
    }
    write(data.join("directory/below"), "y");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        assert_comes_back(&repository, &data).await;
    });
}

#[test]
fn holes_come_back_as_holes_and_are_not_stored() {
    let (_folder, data) = folder();
    let mut random = Random::seeded(1);
    let mut sparse = File::create(data.join("sparse")).expect("creates");
    for at in [0, 1 << 20, 300 << 20] {
        sparse.seek(SeekFrom::Start(at)).expect("seeks");
        sparse.write_all(&random.bytes(100_000)).expect("writes");
    }
    sparse.set_len(1 << 30).expect("grows");
    sparse.sync_all().expect("syncs");
    File::create(data.join("all hole")).expect("creates").set_len(500 << 20).expect("grows");
    let begins_with_a_hole = File::create(data.join("late")).expect("creates");
    std::os::unix::fs::FileExt::write_all_at(&begins_with_a_hole, b"end", 10 << 20).expect("writes");
    begins_with_a_hole.sync_all().expect("syncs");
    let blocks = |path: PathBuf| fs::metadata(path).expect("is there").blocks();
    assert!(blocks(data.join("sparse")) < 4000, "this file system stores holes");
    let_ticks_pass();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let first = good(&repository, &data).await;
        assert!(first.record.totals.bytes < 1_000_000, "{:?}", first.record.totals);
        let second = good(&repository, &data).await;
        assert_eq!((count(&second, "files_read"), count(&second, "files_reused")), (0, 3));
        assert_eq!(second.record.streams, first.record.streams, "the tree, too, has its extents from before");
        let target = data.with_file_name("restored");
        restore_to(&repository, &second, &target, &as_root(&data)).await.expect("restores");
        for name in ["sparse", "all hole", "late"] {
            let (before, after) = (data.join(name), target.join(name));
            assert!(fs::read(&before).expect("reads") == fs::read(&after).expect("reads"), "{name}");
            assert!(
                blocks(after.clone()) <= blocks(before.clone()) + 64,
                "{name}: {} {}",
                blocks(after),
                blocks(before)
            );
        }
    });
}

#[test]
fn several_roots_keep_their_absolute_paths() {
    let (folder, data) = folder();
    write(data.join("x"), "x");
    fs::create_dir(folder.path().join("a")).expect("creates");
    write(folder.path().join("a/y"), "y");
    write(folder.path().join("single"), "z");
    symlink("data", folder.path().join("way")).expect("links");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let roots = ["single", "way", "a"].map(|name| folder.path().join(name)).to_vec();
        let engine = FilesEngine::new(roots, FilesOptions::default()).expect("roots");
        let snapshot =
            backup(&repository, &engine, &BackupOptions::new("s", "h"), &()).await.expect("backs up").snapshot;
        let target = folder.path().join("restored");
        let everything = FilesRestoreOptions::default();
        restore_to(&repository, &snapshot, &target, &everything).await.expect("restores");
        let below = target.join(folder.path().strip_prefix("/").expect("absolute"));
        for (path, content) in [("a/y", "y"), ("single", "z"), ("way/x", "x")] {
            assert_eq!(fs::read(below.join(path)).expect("reads"), content.as_bytes());
        }
        assert!(!below.join("data").exists());
    });
}

#[test]
fn a_hundred_thousand_small_files_come_back() {
    let (_folder, data) = folder();
    let mut random = Random::seeded(3);
    for directory in 0..1000 {
        let directory = data.join(format!("{:02}/{directory:03}", directory % 40));
        fs::create_dir_all(&directory).expect("creates");
        for number in 0..100 {
            let bytes_n = random.below(2000);
            write(directory.join(format!("{number}")), random.text(bytes_n));
        }
    }
    let_ticks_pass();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut times = Vec::new();
        let mut lap = Instant::now();
        let mut lap =
            |what: &str| times.push(format!("{what} {:?}", std::mem::replace(&mut lap, Instant::now()).elapsed()));
        let first = good(&repository, &data).await;
        lap("first backup");
        let second = good(&repository, &data).await;
        lap("second backup");
        let target = data.with_file_name("restored");
        let restored = restore_to(&repository, &second, &target, &as_root(&data)).await.expect("restores");
        lap("restore");
        eprintln!("100,000 files in {} streams: {}", second.record.streams.len(), times.join(", "));
        assert_eq!((count(&first, "files"), restored.files_n), (100_000, 100_000));
        // Empty ones have no bytes to read.
        assert_eq!(count(&second, "files_read"), 0);
        assert_eq!(second.record.totals.bytes_added, 0);
        assert!(second.record.streams.len() < 1000);
        assert!(look(&data) == look(&target));

        // Of one file, one bundle is read.
        let one = FilesRestoreOptions { paths: vec![data.join("07/007/7")], base: Some(data.clone()), replace: true };
        let restored = restore_to(&repository, &second, &target, &one).await.expect("restores");
        assert_eq!(look(&target).len(), 4);
        assert_eq!(fs::read(target.join("07/007/7")).expect("reads"), fs::read(data.join("07/007/7")).expect("reads"));
        assert!(restored.bytes_read < second.record.totals.bytes / 10, "{restored:?}");
        assert_eq!(fs::read_dir(restored.replaced.expect("it was full")).expect("lists").count(), 40);
    });
}

#[test]
fn a_link_whose_file_was_not_asked_for_has_its_content() {
    let (_folder, data) = folder();
    fs::create_dir(data.join("b")).expect("creates");
    write(data.join("a"), "content");
    fs::hard_link(data.join("a"), data.join("b/first")).expect("links");
    fs::hard_link(data.join("a"), data.join("b/second")).expect("links");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &data).await;
        let target = data.with_file_name("restored");
        let options = as_root(&data.join("b"));
        restore_to(&repository, &snapshot, &target, &options).await.expect("restores");
        let inode = |name: &str| fs::metadata(target.join(name)).expect("is there").ino();
        assert_eq!(inode("first"), inode("second"));
        assert_eq!(fs::read(target.join("first")).expect("reads"), b"content");
        let options = FilesRestoreOptions { paths: vec![data.join("none")], ..FilesRestoreOptions::default() };
        let error = restore_to(&repository, &snapshot, &data.with_file_name("y"), &options).await;
        assert!(matches!(error, Err(Error::NotFound { .. })), "{error:?}");
    });
}
