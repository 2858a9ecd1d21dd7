//! How many requests it takes to open a repository of 10,000 packs, by counting.
//!
//! Packs and their chunks are made up: what counts is how many objects there are, and how many fragments list them, which the
//! tests of `state::fragments` know.

use super::backup::{BackupOptions, backup};
use super::find::{Filter, find};
use crate::crafts::compress::Encoding;
use crate::edges::cache::Cache;
use crate::edges::source::ReaderEngine;
use crate::edges::store::{Requests, Store};
use crate::format::contents::{BlobEntry, ChunkEntry};
use crate::format::names::{self, FragmentName, PackKind, SNAPSHOTS};
use crate::format::pack::{PackContents, PackInfo};
use crate::format::snapshot::SnapshotRecord;
use crate::state::repository::{CreateOptions, Credential, OpenOptions, Repository};
use crate::state::{fragments, loader, session};
use crate::words::id::{ChunkId, PackId, SessionId};
use bytes::Bytes;

const PACKS_N: u32 = 10_000;
/// Of a backup of that many packs at once.
const FRAGMENTS_N: u32 = 46;
const BACKUPS_N: usize = 2;

fn secret() -> Credential {
    Credential::generate_key_file().expect("random")
}

fn pack(number: u32) -> PackContents {
    let id = *blake3::hash(&number.to_le_bytes()).as_bytes();
    let blob = BlobEntry {
        sealed_bytes: 17,
        plain_bytes: 1,
        encoding: Encoding::Stored,
        depth: 0,
        generation: 0,
        chunks: vec![ChunkEntry { id: ChunkId(id), plain_bytes: 1 }],
        bases: Vec::new(),
        likes: Vec::new(),
    };
    let info = PackInfo { id: PackId(id), kind: PackKind::Data, bytes: 1, epoch: 1, salt: id };
    PackContents { info, blobs: vec![blob] }
}

/// Commits a session that stored all packs, as far as anybody can tell without reading them.
async fn fill(repository: &Repository, like: &SnapshotRecord) {
    let session = SessionId([9; 16]);
    let all: Vec<PackContents> = (0..PACKS_N).map(pack).collect();
    for PackContents { info, .. } in &all {
        let name = names::pack(info.kind, info.id);
        repository.store.create(&name, Bytes::from_static(b"x")).await.expect("creates");
    }
    for (number, packs) in (0..).zip(all.chunks(PACKS_N.div_ceil(FRAGMENTS_N) as usize)) {
        fragments::put(repository, FragmentName { session, number }, packs.to_vec()).await.expect("puts");
    }
    let record = SnapshotRecord { fragments_n: FRAGMENTS_N, started_ms: 1, ..like.clone() };
    let decided = session::decide(repository, session, SNAPSHOTS, &record).await;
    assert!(decided.is_ok());
}

async fn back_up(repository: &Repository, bytes: &'static [u8]) -> SnapshotRecord {
    let engine = ReaderEngine::new("app.sql", bytes);
    backup(repository, &engine, &BackupOptions::new("app", "db1"), &()).await.expect("backs up").snapshot.record
}

/// Opens and loads what a restore of the latest snapshot loads; returns the requests that it takes.
async fn open(store: &Store, secret: &Credential, cache: Option<Cache>) -> (Requests, Repository) {
    let before = store.requests();
    let options = OpenOptions { cache, ..OpenOptions::default() };
    let repository = Repository::open(store.clone(), secret, options).await.expect("opens");
    find(&repository, "latest", &Filter::default()).await.expect("finds");
    let loaded = loader::load_to_read(&repository).await.expect("loads");
    assert!(loaded.index.packs().len() >= PACKS_N as usize, "{:?}", loaded.problems);
    (store.requests().since(&before), repository)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_packs_open_with_few_requests() {
    let store = Store::memory_far_away();
    let secret = secret();
    let repository = Repository::create(store.clone(), &secret, CreateOptions::default()).await.expect("creates");
    back_up(&repository, b"day 1").await;
    let last = back_up(&repository, b"day 2").await;
    fill(&repository, &last).await;
    let folder = tempfile::tempdir().expect("a folder");
    let cache = || Some(Cache::new(folder.path(), 1 << 30));

    let (without, _) = open(&store, &secret, None).await;
    let (cold, _) = open(&store, &secret, cache()).await;
    // Config, listing of slots, slot; snapshots, tombstones and what they list; fragments and what they list.
    let expected = 3 + 2 + (BACKUPS_N as u64 + 1) + 1 + (BACKUPS_N as u64 + u64::from(FRAGMENTS_N));
    assert_eq!((without.total(), cold.total()), (expected, expected), "{cold:?}");
    assert!(cold.total() <= 60, "{cold:?}");

    let (warm, repository) = open(&store, &secret, cache()).await;
    // The slot; listings of snapshots, tombstones and fragments.
    assert_eq!((warm.total(), warm.reads_n, warm.lists_n), (4, 1, 3), "{warm:?}");

    let before = store.requests();
    back_up(&repository, b"day 2").await;
    let unchanged = store.requests().since(&before);
    // The mark; snapshots, tombstones, notices, fragments, data packs (11 pages), meta packs; the snapshot; the mark goes.
    assert_eq!((unchanged.lists_n, unchanged.reads_n), (4 + 11 + 1, 0), "{unchanged:?}");
    assert_eq!((unchanged.writes_n, unchanged.deletes_n), (2, 1), "{unchanged:?}");
    assert!(warm.total() + unchanged.total() <= 20 + u64::from(PACKS_N) / 1000, "{unchanged:?}");
}
