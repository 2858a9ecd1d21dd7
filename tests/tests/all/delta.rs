//! What deltas promise: a changed dump costs about its changes, comes back as it was, and no chain grows with the days.

use crate::kit::dumps::{self, Streams, StreamsEngine};
use crate::kit::rows::Table;
use crate::kit::watched::{Kind, Stop, Watched};
use crate::kit::{back_up_as, create, get_back, open, run};
use dedump_core::{
    BackupOptions, Cache, DeltaMode, Engine, Error, Filter, ReadData, Repository, RestoreOptions, Result, SessionId,
    Sink, Snapshot, Store, Totals, Verdict, WriterTarget, async_trait, backup, check, reindex, restore, stats,
};
use std::collections::BTreeMap;

/// Rows of most tables here: about 6 MiB.
const ROWS_N: usize = 80_000;

/// Asserts that a backup made deltas, and that its totals agree with one another.
fn assert_has_deltas(totals: &Totals) {
    assert!(totals.chunks_delta_n > 0 && totals.bytes_delta > 0 && totals.bytes_stored_delta > 0, "{totals:?}");
    assert!(totals.bytes_read_back > 0, "{totals:?}");
    assert_eq!(totals.depths.iter().sum::<u64>(), totals.chunks_new_n, "{totals:?}");
    assert_eq!(totals.depths[1..].iter().sum::<u64>(), totals.chunks_delta_n, "{totals:?}");
}

/// Asserts that a backup made no deltas, and read nothing for them.
fn assert_has_none(totals: &Totals) {
    assert_eq!((totals.chunks_delta_n, totals.bytes_delta, totals.bytes_stored_delta), (0, 0, 0), "{totals:?}");
    assert_eq!(totals.bytes_read_back, 0, "{totals:?}");
    assert_eq!(totals.depths, [totals.chunks_new_n], "{totals:?}");
}

/// Asserts that one backup adds several times less than another of the same dump.
fn assert_several_times_less(with: &Totals, without: &Totals) {
    assert!(with.bytes_added * 4 < without.bytes_added, "{} bytes, {}", with.bytes_added, without.bytes_added);
}

async fn assert_restores(repository: &Repository, snapshot: &Snapshot, streams: &Streams) {
    assert!(get_back(repository, snapshot).await.expect("restores") == *streams, "other bytes");
}

/// Backs up a day in a repository of its own for each mode; returns the last day's totals in each.
async fn last_totals<const N: usize>(modes: [DeltaMode; N], days: &[Streams]) -> [Totals; N] {
    let mut totals = Vec::new();
    for mode in modes {
        let repository = create(Store::memory()).await.expect("creates");
        let mut snapshots = Vec::new();
        for day in days {
            snapshots.push(back_up_as(&repository, mode, day).await.expect("backs up").snapshot);
        }
        for (snapshot, day) in snapshots.iter().zip(days) {
            assert_restores(&repository, snapshot, day).await;
        }
        totals.extend(snapshots.pop().map(|snapshot| snapshot.record.totals));
    }
    totals.try_into().expect("one of each mode")
}

#[test]
fn a_second_day_costs_several_times_less_with_deltas() {
    run(async {
        let mut table = Table::create(1, ROWS_N);
        let first = dumps::one("t", table.dump());
        table.change();
        let days = [first, dumps::one("t", table.dump())];
        let [auto, always, off] = last_totals([DeltaMode::Auto, DeltaMode::Always, DeltaMode::Off], &days).await;
        for with in [&auto, &always] {
            assert_has_deltas(with);
            assert_several_times_less(with, &off);
        }
        assert_has_none(&off);
    });
}

#[test]
fn blocks_in_another_order_find_their_older_selves() {
    run(async {
        let mut table = Table::create(2, ROWS_N);
        let first = dumps::one("t", table.dump());
        table.change();
        let days = [first, dumps::one("t", table.dump_backwards(8))];
        let [with, without] = last_totals([DeltaMode::Always, DeltaMode::Off], &days).await;
        assert_has_deltas(&with);
        assert_several_times_less(&with, &without);
    });
}

#[test]
fn where_a_cut_is_gone_both_chunks_that_it_parted_serve() {
    run(async {
        let mut noise = vec![0; 64 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        // Nothing of it compresses, and of 128 gaps a third take a cut away: where only one of the two chunks serves, about 30 KiB
        // are left each time.
        let second: Vec<u8> = noise.chunks(512 << 10).flat_map(|piece| piece[..488 << 10].to_vec()).collect();
        let days = [dumps::one("t", noise), dumps::one("t", second)];
        let [with] = last_totals([DeltaMode::Always], &days).await;
        assert_has_deltas(&with);
        assert!(with.bytes_stored_delta + with.bytes_stored_whole < 1 << 20, "{with:?}");
    });
}

#[test]
fn chains_stay_short_and_restores_cheap_over_fifteen_days() {
    async fn bytes_read(repository: &Repository, snapshot: &Snapshot, expected: &[u8]) -> u64 {
        let mut target = WriterTarget(Vec::new());
        let report = restore(repository, snapshot, &RestoreOptions::default(), &mut target, &()).await;
        assert!(target.0 == expected, "other bytes");
        report.expect("restores").bytes_read
    }

    run(async {
        let (with, without) =
            (create(Store::memory()).await.expect("creates"), create(Store::memory()).await.expect("creates"));
        let (mut table, mut days) = (Table::create(3, ROWS_N / 2), Vec::new());
        for _ in 0..15 {
            let dump = table.dump();
            let streams = dumps::one("t", dump.clone());
            let delta = back_up_as(&with, DeltaMode::Auto, &streams).await.expect("backs up").snapshot;
            let whole = back_up_as(&without, DeltaMode::Off, &streams).await.expect("backs up").snapshot;
            days.push((delta, whole, dump));
            table.change();
        }
        for (number, (delta, whole, dump)) in days.iter().enumerate() {
            let (read, read_whole) = (bytes_read(&with, delta, dump).await, bytes_read(&without, whole, dump).await);
            assert!(read * 10 <= read_whole * 16, "day {number}: {read} bytes, {read_whole} without deltas");
            if number > 0 {
                assert_has_deltas(&delta.record.totals);
            }
        }
        let depths = stats(&with, &Filter::default(), &()).await.expect("counts").depths;
        assert!((2..=5).contains(&depths.len()), "no deeper than 4: {depths:?}");
        assert_eq!(check(&with, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn a_named_parent_is_what_deltas_are_made_against() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut table = Table::create(4, ROWS_N / 2);
        let first = back_up_as(&repository, DeltaMode::Always, &dumps::one("t", table.dump())).await.expect("backs up");
        let other = dumps::one("t", Table::create(5, ROWS_N / 2).dump());
        let newest = back_up_as(&repository, DeltaMode::Always, &other).await.expect("backs up");
        table.change();
        let engine = StreamsEngine(dumps::one("t", table.dump()));
        let mut totals = Vec::new();
        for (parent, expected) in [(Some(first.snapshot.id), &first), (None, &newest)] {
            let repository = open(store.fork(Stop::Never).store()).await.expect("opens");
            let options = BackupOptions { delta: DeltaMode::Always, parent, ..BackupOptions::new("s", "host") };
            let snapshot = backup(&repository, &engine, &options, &()).await.expect("backs up").snapshot;
            assert_eq!(snapshot.record.parent, Some(expected.snapshot.id));
            assert_restores(&repository, &snapshot, &engine.0).await;
            totals.push(snapshot.record.totals);
        }
        assert_has_deltas(&totals[0]);
        assert_several_times_less(&totals[0], &totals[1]);
        let options = BackupOptions { parent: Some(SessionId([1; 16])), ..BackupOptions::new("s", "host") };
        let error = backup(&repository, &engine, &options, &()).await.expect_err("there is no such snapshot");
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    });
}

#[test]
fn streams_side_by_side_follow_their_own_namesakes() {
    struct Braided(Streams);

    #[async_trait]
    impl Engine for Braided {
        fn kind(&self) -> &str {
            "braided"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            let (mut a, mut b) = (sink.stream("a").await?, sink.stream("b").await?);
            for (left, right) in self.0["a"].chunks(300_000).zip(self.0["b"].chunks(300_000)) {
                a.write(left).await?;
                b.write(right).await?;
            }
            a.finish(BTreeMap::new()).await?;
            b.finish(BTreeMap::new()).await?;
            Ok(Verdict::default())
        }
    }

    run(async {
        let (mut a, mut b) = (Table::create(6, ROWS_N / 2), Table::create(7, ROWS_N / 2));
        let mut totals = Vec::new();
        let mut days = Vec::new();
        for _ in 0..2 {
            let (mut left, mut right) = (a.dump(), b.dump());
            // Both end with the same piece, so that no stream is cut short.
            let bytes_n = left.len().min(right.len());
            left.truncate(bytes_n);
            right.truncate(bytes_n);
            days.push(Braided(Streams::from([("a".to_owned(), left), ("b".to_owned(), right)])));
            a.change();
            b.change();
        }
        for delta in [DeltaMode::Always, DeltaMode::Off] {
            let repository = create(Store::memory()).await.expect("creates");
            let options = BackupOptions { delta, ..BackupOptions::new("s", "host") };
            for (number, day) in days.iter().enumerate() {
                let snapshot = backup(&repository, day, &options, &()).await.expect("backs up").snapshot;
                assert_restores(&repository, &snapshot, &day.0).await;
                if number == 1 {
                    totals.push(snapshot.record.totals);
                }
            }
        }
        assert_has_deltas(&totals[0]);
        assert_several_times_less(&totals[0], &totals[1]);
    });
}

#[test]
fn what_a_dump_has_twice_becomes_a_delta_once() {
    run(async {
        let mut table = Table::create(8, ROWS_N / 2);
        let twice = |table: &Table| {
            let dump = table.dump();
            Streams::from([("a".to_owned(), [&dump[..], &dump[..]].concat()), ("b".to_owned(), dump)])
        };
        let first = twice(&table);
        table.change();
        let days = [first, twice(&table)];
        let [with, without] = last_totals([DeltaMode::Always, DeltaMode::Off], &days).await;
        assert_has_deltas(&with);
        assert_several_times_less(&with, &without);
        assert!(with.bytes_new * 5 < with.bytes * 2, "a third of {} is new: {}", with.bytes, with.bytes_new);
    });
}

#[test]
fn after_a_reindex_days_restore_and_the_next_makes_deltas() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let (mut table, mut days) = (Table::create(9, ROWS_N / 2), Vec::new());
        for _ in 0..2 {
            let streams = dumps::one("t", table.dump());
            let report = back_up_as(&repository, DeltaMode::Always, &streams).await.expect("backs up");
            days.push((report.snapshot, streams));
            table.change();
        }
        for name in store.names().await.iter().filter(|name| name.starts_with("index/")) {
            store.remove(name).await;
        }
        assert_restores(&repository, &days[1].0, &days[1].1).await;
        reindex(&repository, "host", &()).await.expect("reindexes");
        for (snapshot, streams) in &days {
            assert_restores(&repository, snapshot, streams).await;
        }
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);

        let third = dumps::one("t", table.dump());
        let without = open(store.fork(Stop::Never).store()).await.expect("opens");
        let without = back_up_as(&without, DeltaMode::Off, &third).await.expect("backs up").snapshot.record.totals;
        let snapshot = back_up_as(&repository, DeltaMode::Always, &third).await.expect("backs up").snapshot;
        assert_has_deltas(&snapshot.record.totals);
        assert_several_times_less(&snapshot.record.totals, &without);
        assert_restores(&repository, &snapshot, &third).await;
    });
}

/// Reads of packs among the calls so far.
fn pack_reads(store: &Watched) -> usize {
    let is_read = |name: &str| name.starts_with("packs/") || name.starts_with("meta/");
    store.take_calls().iter().filter(|call| call.kind == Kind::Get && is_read(&call.name)).count()
}

#[test]
fn a_remote_store_without_a_cache_is_read_back_only_when_asked() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut table = Table::create(10, ROWS_N / 2);
        back_up_as(&repository, DeltaMode::Auto, &dumps::one("t", table.dump())).await.expect("backs up");
        for (mode, has_deltas) in [(DeltaMode::Auto, false), (DeltaMode::Always, true)] {
            table.change();
            let streams = dumps::one("t", table.dump());
            store.take_calls();
            let snapshot = back_up_as(&repository, mode, &streams).await.expect("backs up").snapshot;
            assert_eq!(pack_reads(&store) > 0, has_deltas, "{mode:?}");
            let assert_totals = if has_deltas { assert_has_deltas } else { assert_has_none };
            assert_totals(&snapshot.record.totals);
            assert_restores(&repository, &snapshot, &streams).await;
        }
    });
}

/// A remote repository with a cache, and a day in it.
struct Cached {
    store: Watched,
    repository: Repository,
    table: Table,
    cache: Cache,
    // Last: the cache lies in it.
    _folder: tempfile::TempDir,
}

impl Cached {
    async fn create(seed: u64, bytes_max: u64) -> Cached {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::new(folder.path(), bytes_max);
        let repository = repository.with_cache(cache.clone());
        let cached = Cached { store, repository, table: Table::create(seed, ROWS_N / 2), cache, _folder: folder };
        back_up_as(&cached.repository, DeltaMode::Auto, &dumps::one("t", cached.table.dump())).await.expect("backs up");
        cached
    }

    /// Backs up the next day, without a read of a pack, and restores it; returns the totals and the problems.
    async fn next_day(&mut self) -> (Totals, Vec<String>) {
        self.table.change();
        let streams = dumps::one("t", self.table.dump());
        self.store.take_calls();
        let report = back_up_as(&self.repository, DeltaMode::Auto, &streams).await.expect("backs up");
        assert_eq!(pack_reads(&self.store), 0, "the store is not asked for what the cache is for");
        assert_restores(&self.repository, &report.snapshot, &streams).await;
        (report.snapshot.record.totals, report.problems)
    }

    /// Damages what the cache has of the packs under a prefix.
    fn flip_a_bit_of_each(&self, prefix: &str) {
        let folder = self.cache.folder().join(self.repository.id().to_string()).join(prefix);
        let paths: Vec<_> = self.files().into_iter().filter(|path| path.starts_with(&folder)).collect();
        assert!(!paths.is_empty(), "the cache has {prefix}");
        for path in paths {
            let mut bytes = std::fs::read(&path).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).expect("writable");
        }
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let (mut files, mut pending) = (Vec::new(), vec![self.cache.folder().to_owned()]);
        while let Some(folder) = pending.pop() {
            for entry in std::fs::read_dir(folder).expect("the folder is there") {
                let path = entry.expect("is readable").path();
                if path.is_dir() { pending.push(path) } else { files.push(path) }
            }
        }
        files
    }
}

#[test]
fn a_cache_makes_deltas_without_reading_the_store() {
    run(async {
        let mut cached = Cached::create(11, 1 << 30).await;
        for _ in 0..3 {
            let (totals, problems) = cached.next_day().await;
            assert_has_deltas(&totals);
            assert_eq!(problems, Vec::<String>::new());
        }
    });
}

#[test]
fn a_cache_that_is_gone_costs_only_room() {
    run(async {
        let mut cached = Cached::create(12, 1 << 30).await;
        std::fs::remove_dir_all(cached.cache.folder()).expect("is there");
        let (totals, problems) = cached.next_day().await;
        assert_has_none(&totals);
        assert_eq!(problems, Vec::<String>::new());
        let (totals, _) = cached.next_day().await;
        assert_has_deltas(&totals);
    });
}

#[test]
fn a_cached_pack_that_is_damaged_does_no_harm() {
    for kind in ["packs", "meta"] {
        run(async {
            let mut cached = Cached::create(13, 1 << 30).await;
            cached.flip_a_bit_of_each(kind);
            let (totals, problems) = cached.next_day().await;
            assert_eq!(totals.chunks_delta_n, 0, "{totals:?}");
            assert_eq!(problems, Vec::<String>::new(), "it is no damage of the repository");
            let (totals, problems) = cached.next_day().await;
            assert_has_deltas(&totals);
            assert_eq!(problems, Vec::<String>::new());
        });
    }
}

#[test]
fn a_cached_manifest_that_is_damaged_is_in_the_way_once() {
    run(async {
        let mut cached = Cached::create(15, 1 << 30).await;
        cached.flip_a_bit_of_each("meta");
        // The same dump again: its manifest stays in the pack that is damaged.
        let same = dumps::one("t", cached.table.dump());
        back_up_as(&cached.repository, DeltaMode::Auto, &same).await.expect("backs up");
        let (_, problems) = cached.next_day().await;
        assert_eq!(problems, Vec::<String>::new(), "it is gone, not damaged again");
        let (totals, _) = cached.next_day().await;
        assert_has_deltas(&totals);
    });
}

#[test]
fn a_cache_keeps_to_its_bound() {
    const BYTES_MAX: u64 = 3 << 20;
    run(async {
        let mut cached = Cached::create(14, BYTES_MAX).await;
        let mut written = 0;
        for seed in 20..28 {
            cached.table = Table::create(seed, ROWS_N / 2);
            written += cached.next_day().await.0.bytes_added;
            let bytes: u64 = cached.files().iter().map(|path| path.metadata().expect("is there").len()).sum();
            assert!((1..=BYTES_MAX).contains(&bytes), "{bytes} bytes");
        }
        assert!(written > 2 * BYTES_MAX, "more was written than there is room for: {written}");
    });
}
