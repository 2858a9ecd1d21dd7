//! Files and directories: what is there comes back as it was, what has not changed is not read, and no snapshot leads outside.

use crate::kit::dumps::{Streams, StreamsEngine};
use crate::kit::random::Random;
use crate::kit::{back_up, create, get_back, run, snapshots};
use dedump_core::{
    BackupOptions, BackupReport, Error, Event, Progress, Quality, ReadData, Repository, Result, Snapshot, Store,
    backup, check,
};
use dedump_engines::files::{self, FilesEngine, FilesOptions, FilesRestoreOptions, FilesRestored};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, inotify, lgetxattr, llistxattr, lsetxattr, mknodat,
    utimensat,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a tree has, by the paths below it.
type Seen = BTreeMap<PathBuf, One>;

#[derive(Debug, PartialEq, Eq)]
struct One {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    content: Vec<u8>,
    /// The first path of the same file.
    first: PathBuf,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    device: u64,
}

fn look(root: &Path) -> Seen {
    let (mut seen, mut firsts) = (Seen::new(), BTreeMap::new());
    look_at(root, root, &mut seen, &mut firsts);
    seen
}

fn look_at(root: &Path, path: &Path, seen: &mut Seen, firsts: &mut BTreeMap<u64, PathBuf>) {
    let (metadata, below) = (fs::symlink_metadata(path).expect("it is there"), path.strip_prefix(root).expect("below"));
    let file_type = metadata.file_type();
    let (kind, content) = if file_type.is_symlink() {
        ('l', fs::read_link(path).expect("a link").into_os_string().as_bytes().to_vec())
    } else if file_type.is_dir() {
        ('d', Vec::new())
    } else if file_type.is_file() {
        ('f', fs::read(path).expect("reads"))
    } else {
        (if file_type.is_fifo() { 'p' } else { 'c' }, Vec::new())
    };
    let one = One {
        kind,
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        first: firsts.entry(metadata.ino()).or_insert_with(|| below.to_owned()).clone(),
        xattrs: xattrs(path),
        device: metadata.rdev(),
    };
    seen.insert(below.to_owned(), one);
    if kind == 'd' {
        let mut names: Vec<_> = fs::read_dir(path).expect("lists").map(|entry| entry.expect("lists").path()).collect();
        names.sort();
        names.iter().for_each(|path| look_at(root, path, seen, firsts));
    }
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut buffer = vec![0; 65536];
    let bytes_n = llistxattr(path, &mut buffer[..]).unwrap_or(0);
    let names = buffer[..bytes_n].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut all: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 65536];
            let bytes_n = lgetxattr(path, name, &mut value[..]).expect("it was listed");
            (name.to_vec(), value[..bytes_n].to_vec())
        })
        .collect();
    all.sort();
    all
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("creates");
    (folder, data)
}

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::write(path, bytes).expect("writes");
}

/// Waits until a change of any file shows in its times; see `State::is_settled`.
fn let_ticks_pass() {
    std::thread::sleep(Duration::from_millis(150));
}

async fn back_up_files(repository: &Repository, root: &Path, options: FilesOptions) -> Result<BackupReport> {
    back_up_watched(repository, root, options, &()).await
}

async fn back_up_watched(
    repository: &Repository,
    root: &Path,
    options: FilesOptions,
    progress: &dyn Progress,
) -> Result<BackupReport> {
    let engine = FilesEngine::new(vec![root.to_owned()], options)?;
    let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("files", "host") };
    backup(repository, &engine, &options, progress).await
}

async fn good(repository: &Repository, root: &Path) -> Snapshot {
    let report = back_up_files(repository, root, FilesOptions::default()).await.expect("backs up");
    assert_eq!((report.snapshot.record.quality, &report.problems[..]), (Quality::Good, &[][..]));
    report.snapshot
}

/// Options that make a root the target itself.
fn as_root(root: &Path) -> FilesRestoreOptions {
    FilesRestoreOptions { base: Some(root.to_owned()), ..FilesRestoreOptions::default() }
}

async fn restore_to(
    repository: &Repository,
    snapshot: &Snapshot,
    target: &Path,
    options: &FilesRestoreOptions,
) -> Result<FilesRestored> {
    files::restore(repository, snapshot, "", target, options, &()).await
}

fn count(snapshot: &Snapshot, fact: &str) -> u64 {
    snapshot.record.facts[fact].parse().expect("a number")
}

/// Backs a tree up, restores it beside, and compares both.
async fn assert_comes_back(repository: &Repository, data: &Path) -> Snapshot {
    let snapshot = good(repository, data).await;
    let target = data.with_file_name("restored");
    let restored = restore_to(repository, &snapshot, &target, &as_root(data)).await.expect("restores");
    assert!(restored.warnings.is_empty(), "{:?}", restored.warnings);
    let (before, after) = (look(data), look(&target));
    for (path, one) in &before {
        assert_eq!(Some(one), after.get(path), "{path:?}");
    }
    assert_eq!(before.len(), after.len());
    assert!(left_over(data.parent().expect("it has one")).is_empty());
    assert_eq!(check(repository, ReadData::All, &()).await.expect("checks").findings, []);
    fs::remove_dir_all(&target).expect("removes");
    snapshot
}

fn left_over(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists").path());
    let is_left = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".dedump"));
    paths.filter(is_left).collect()
}

/// Calls something once, when the first window of a long file has come by.
struct WhenReading<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Progress for WhenReading<F> {
    fn event(&self, event: Event) {
        if matches!(event, Event::Looked { bytes, .. } if bytes > 1 << 20) {
            let call = self.0.lock().expect("nothing panics while it is held").take();
            call.into_iter().for_each(|call| call());
        }
    }
}

fn when_reading<F: FnOnce() + Send>(call: F) -> WhenReading<F> {
    WhenReading(Mutex::new(Some(call)))
}

/// More than all queues of a backup hold, so that its end is not read before its first window was looked up.
const LONG: usize = 96 << 20;

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
