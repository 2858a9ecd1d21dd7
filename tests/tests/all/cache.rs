//! The local cache: what it saves, that nothing it holds is believed, and that it hides no damage.

use crate::kit::dumps::{self, Streams};
use crate::kit::rows::Table;
use crate::kit::watched::{Call, Kind, Watched};
use crate::kit::{back_up_as, create, get_back, open, open_cached, run, secret, snapshots};
use dedump_core::{
    Argon2Params, Cache, CreateOptions, Credential, DeltaMode, Error, FindingKind, OpenOptions, ReadData, Repository,
    Snapshot, add_key, check, remove_key,
};
use std::path::{Path, PathBuf};

/// A far repository that has two days, and a cache that has seen them.
struct Tried {
    store: Watched,
    cache: Cache,
    rows: Table,
    days: Vec<(Snapshot, Streams)>,
    folder: tempfile::TempDir,
}

impl Tried {
    async fn create(seed: u64) -> Tried {
        let store = Watched::create();
        create(store.store()).await.expect("creates");
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path(), 1 << 30);
        let mut tried = Tried { store, cache, rows: Table::create(seed, 20_000), days: Vec::new(), folder };
        for _ in 0..2 {
            tried.next_day().await;
        }
        tried.store.take_calls();
        tried
    }

    /// A process of its own that opens the repository.
    async fn open(&self) -> Repository {
        open_cached(self.store.store(), &self.cache).await.expect("opens")
    }

    /// Backs up the next day as a process of its own; nothing may be wrong.
    async fn next_day(&mut self) -> Snapshot {
        self.rows.change();
        let streams = dumps::one("t", self.rows.dump());
        let report = back_up_as(&self.open().await, DeltaMode::Auto, &streams).await.expect("backs up");
        assert_eq!(report.problems, Vec::<String>::new());
        self.days.push((report.snapshot.clone(), streams));
        report.snapshot
    }

    async fn assert_restores(&self) {
        let repository = self.open().await;
        assert_eq!(snapshots(&repository).await.expect("lists").len(), self.days.len());
        for (snapshot, streams) in &self.days {
            assert!(get_back(&repository, snapshot).await.expect("restores") == *streams, "other bytes");
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        files(self.folder.path())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn flip_a_bit(path: &Path) {
    let mut bytes = std::fs::read(path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("writable");
}

fn reads(calls: &[Call], prefix: &str) -> usize {
    calls.iter().filter(|call| call.kind == Kind::Get && call.name.starts_with(prefix)).count()
}

#[test]
fn the_next_day_on_a_far_store_makes_deltas_and_reads_only_the_key_slot() {
    run(async {
        let mut tried = Tried::create(1).await;
        let day = tried.next_day().await;
        assert!(day.record.totals.chunks_delta_n > 0, "{:?}", day.record.totals);
        let calls = tried.store.take_calls();
        assert_eq!((reads(&calls, ""), reads(&calls, "keys/")), (1, 1), "{calls:?}");
        tried.assert_restores().await;
        let calls = tried.store.take_calls();
        // Manifests come from the cache, and chunks from the store.
        assert_eq!(reads(&calls, "meta/") + reads(&calls, "index/") + reads(&calls, "snapshots/"), 0, "{calls:?}");
    });
}

#[test]
fn a_manifest_that_is_not_cached_is_fetched_whole_and_once() {
    run(async {
        let tried = Tried::create(2).await;
        for path in tried.files().iter().filter(|path| path.parent().is_some_and(|folder| folder.ends_with("meta"))) {
            std::fs::remove_file(path).expect("deletable");
        }
        let (last, _) = &tried.days[1];
        for fetched_n in [1, 0] {
            get_back(&tried.open().await, last).await.expect("restores");
            let calls = tried.store.take_calls();
            let last_pack = reads(&calls, "meta/");
            assert!(last_pack <= 2 * fetched_n && (fetched_n == 0 || last_pack > 0), "{calls:?}");
        }
    });
}

#[test]
fn whatever_is_damaged_in_the_cache_is_read_from_the_store() {
    run(async {
        let mut tried = Tried::create(3).await;
        let kinds = ["config", "index/", "snapshots/", "meta/", "packs/", "locations/"];
        for kind in kinds {
            let of_kind: Vec<PathBuf> =
                tried.files().into_iter().filter(|path| path.to_str().expect("UTF-8").contains(kind)).collect();
            assert!(!of_kind.is_empty(), "{kind} are cached");
            of_kind.iter().for_each(|path| flip_a_bit(path));
            tried.assert_restores().await;
        }
        tried.files().iter().for_each(|path| flip_a_bit(path));
        tried.next_day().await;
        tried.files().iter().for_each(|path| std::fs::write(path, b"short").expect("writable"));
        tried.next_day().await;
        tried.assert_restores().await;
        let day = tried.next_day().await;
        assert!(day.record.totals.chunks_delta_n > 0, "and then all is as it was");
    });
}

#[test]
fn what_is_damaged_in_the_store_is_found_though_it_is_cached() {
    run(async {
        let tried = Tried::create(4).await;
        let names = tried.store.names().await;
        let meta = names.iter().find(|name| name.starts_with("meta/")).expect("there is one").clone();
        // Of different sessions: the fragments of a snapshot that does not open don't count.
        let (first, second) = (tried.days[0].0.id, tried.days[1].0.id);
        let damaged = [format!("index/{first}-0"), format!("snapshots/{second}"), meta];
        for name in &damaged {
            let mut bytes = tried.store.read(name).await;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            tried.store.write(name, bytes).await;
        }
        tried.assert_restores().await;
        let report = check(&tried.open().await, ReadData::All, &()).await.expect("checks");
        let found =
            |kind, name: &String| report.findings.iter().any(|found| found.kind == kind && found.object == *name);
        assert!(found(FindingKind::FragmentDamaged, &damaged[0]), "{:?}", report.findings);
        assert!(found(FindingKind::SnapshotDamaged, &damaged[1]), "{:?}", report.findings);
        assert!(found(FindingKind::PackDamaged, &damaged[2]), "{:?}", report.findings);
    });
}

#[test]
fn a_key_that_was_removed_opens_no_more() {
    run(async {
        let tried = Tried::create(5).await;
        let other = Credential::generate_key_file().expect("random");
        let options = || OpenOptions { threads_n: 1, cache: Some(tried.cache.clone()) };
        let repository = tried.open().await;
        let slot = add_key(&repository, &other, Argon2Params::default(), "other", "host").await.expect("adds");
        Repository::open(tried.store.store(), &other, options()).await.expect("opens");
        remove_key(&repository, &slot.to_string()).await.expect("removes");
        let error = Repository::open(tried.store.store(), &other, options()).await.expect_err("it is removed");
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
        tried.assert_restores().await;
    });
}

#[test]
fn another_repository_in_the_same_place_is_not_taken_for_the_first() {
    run(async {
        let tried = Tried::create(6).await;
        let first = tried.open().await;
        for name in tried.store.names().await {
            tried.store.remove(&name).await;
        }
        let error = open_cached(tried.store.store(), &tried.cache).await.expect_err("nothing is there");
        assert!(matches!(error, Error::NotARepository { .. }), "{error}");
        let options = CreateOptions { threads_n: 1, ..CreateOptions::default() };
        let second = Repository::create(tried.store.store(), &secret(), options).await.expect("creates");
        let found = tried.open().await;
        assert_eq!(found.id(), second.id());
        assert_ne!(found.id(), first.id());
        assert_eq!(snapshots(&found).await.expect("lists"), []);
        // The next time the cache leads there by one request.
        tried.store.take_calls();
        assert_eq!(tried.open().await.id(), second.id());
        assert_eq!(tried.store.take_calls().len(), 1);
    });
}

#[test]
fn an_older_state_of_the_store_is_not_completed_from_the_cache() {
    run(async {
        let tried = Tried::create(7).await;
        // As if the last commit had never reached the store: what its session wrote is there, and does not count.
        let (last, streams) = &tried.days[1];
        tried.store.remove(&format!("snapshots/{}", last.id)).await;
        let repository = tried.open().await;
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 1);
        let again = back_up_as(&repository, DeltaMode::Off, streams).await.expect("backs up").snapshot;
        assert!(
            again.record.fragments_n > 0,
            "it lists what it adopted, and relies on no fragment of the lost session"
        );
        let without = open(tried.store.store()).await.expect("opens");
        assert!(get_back(&without, &again).await.expect("restores") == *streams);
        assert_eq!(check(&without, ReadData::All, &()).await.expect("checks").findings, []);
    });
}
