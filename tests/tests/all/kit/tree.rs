//! Trees of files: what is in them, backed up and given back.

use dedump_core::{
    BackupOptions, BackupReport, Event, Progress, Quality, ReadData, Repository, Result, Snapshot, backup, check,
};
use dedump_engines::files::{self, FilesEngine, FilesOptions, FilesRestoreOptions, FilesRestored};
use rustix::fs::{lgetxattr, llistxattr};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// What a tree has, by the paths below it.
pub type Seen = BTreeMap<PathBuf, One>;

#[derive(Debug, PartialEq, Eq)]
pub struct One {
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

pub fn look(root: &Path) -> Seen {
    let (mut seen, mut firsts) = (Seen::new(), BTreeMap::new());
    look_at(root, root, &mut seen, &mut firsts);
    seen
}

pub fn look_at(root: &Path, path: &Path, seen: &mut Seen, firsts: &mut BTreeMap<u64, PathBuf>) {
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

pub fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
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

pub fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("creates");
    (folder, data)
}

pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::write(path, bytes).expect("writes");
}

/// Waits until a change of any file shows in its times; see `State::is_settled`.
pub fn let_ticks_pass() {
    std::thread::sleep(Duration::from_millis(150));
}

pub async fn back_up_files(repository: &Repository, root: &Path, options: FilesOptions) -> Result<BackupReport> {
    back_up_watched(repository, root, options, &()).await
}

pub async fn back_up_watched(
    repository: &Repository,
    root: &Path,
    options: FilesOptions,
    progress: &dyn Progress,
) -> Result<BackupReport> {
    let engine = FilesEngine::new(vec![root.to_owned()], options)?;
    let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("files", "host") };
    backup(repository, &engine, &options, progress).await
}

pub async fn good(repository: &Repository, root: &Path) -> Snapshot {
    let report = back_up_files(repository, root, FilesOptions::default()).await.expect("backs up");
    assert_eq!((report.snapshot.record.quality, &report.problems[..]), (Quality::Good, &[][..]));
    report.snapshot
}

/// Options that make a root the target itself.
pub fn as_root(root: &Path) -> FilesRestoreOptions {
    FilesRestoreOptions { base: Some(root.to_owned()), ..FilesRestoreOptions::default() }
}

pub async fn restore_to(
    repository: &Repository,
    snapshot: &Snapshot,
    target: &Path,
    options: &FilesRestoreOptions,
) -> Result<FilesRestored> {
    files::restore(repository, snapshot, "", target, options, &()).await
}

pub fn count(snapshot: &Snapshot, fact: &str) -> u64 {
    snapshot.record.facts[fact].parse().expect("a number")
}

/// Backs a tree up, restores it beside, and compares both.
pub async fn assert_comes_back(repository: &Repository, data: &Path) -> Snapshot {
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

pub fn left_over(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists").path());
    let is_left = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".dedump"));
    paths.filter(is_left).collect()
}

/// Calls something once, when the first window of a long file has come by.
pub struct WhenReading<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Progress for WhenReading<F> {
    fn event(&self, event: Event) {
        if matches!(event, Event::Looked { bytes, .. } if bytes > 256 << 10) {
            let call = self.0.lock().expect("nothing panics while it is held").take();
            call.into_iter().for_each(|call| call());
        }
    }
}

pub fn when_reading<F: FnOnce() + Send>(call: F) -> WhenReading<F> {
    WhenReading(Mutex::new(Some(call)))
}

/// More than all queues of a backup hold, so that its end is not read before its first window was looked up.
pub const LONG: usize = 96 << 20;
