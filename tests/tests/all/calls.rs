//! How much is asked of the store, by counting.

use crate::kit::dumps;
use crate::kit::random::Random;
use crate::kit::watched::{Kind, Watched};
use crate::kit::{back_up, create, get_back, open, open_cached, run};
use dedump_core::{
    Cache, CheckReport, MaxUnused, PruneOptions, PruneOutcome, PruneReport, ReadData, Repository, Requests, Store,
    check, forget, prune,
};

#[test]
fn an_unchanged_second_backup_uploads_nothing_but_its_session_and_snapshot() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(1).text(8_000_000));
        back_up(&repository, "s", &streams).await.expect("backs up");
        store.take_calls();
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let calls = store.take_calls();
        let puts: Vec<&str> =
            calls.iter().filter(|call| call.kind == Kind::Put).map(|call| call.name.as_str()).collect();
        assert_eq!(puts, [format!("sessions/{}", snapshot.id), format!("snapshots/{}", snapshot.id)]);
        assert!(calls.len() <= 20, "{} calls: {calls:?}", calls.len());
        assert_eq!(snapshot.record.totals.bytes_added, 0);
    });
}

#[test]
fn a_first_backup_puts_a_pack_of_each_kind_a_fragment_and_a_snapshot() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        store.take_calls();
        let streams = dumps::one("a", Random::seeded(2).text(8_000_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let puts: Vec<String> = store
            .take_calls()
            .into_iter()
            .filter(|call| call.kind == Kind::Put)
            .map(|call| call.name.split('/').next().expect("a prefix").to_owned())
            .collect();
        assert_eq!(puts.first().map(String::as_str), Some("sessions"), "announced before anything else");
        assert_eq!(puts.last().map(String::as_str), Some("snapshots"), "committed after everything else");
        let mut between = puts[1..puts.len() - 1].to_vec();
        between.sort();
        assert_eq!(between, ["index", "meta", "packs"]);
        assert_eq!(puts[puts.len() - 2], "index", "packs before the index");

        store.take_calls();
        get_back(&repository, &snapshot).await.expect("restores");
        let calls = store.take_calls();
        let pack_reads = calls.iter().filter(|call| call.name.starts_with("packs/")).count();
        assert!(pack_reads <= 3, "blobs that lie together are read together: {calls:?}");
    });
}

/// A repository in a bucket as far as anybody counts, and a cache beside it; each command is a process of its own.
struct Bucket {
    store: Store,
    cache: Cache,
    _folder: tempfile::TempDir,
}

impl Bucket {
    async fn create() -> Bucket {
        let store = Watched::create().store();
        create(store.clone()).await.expect("creates");
        let folder = tempfile::tempdir().expect("a folder");
        Bucket { store, cache: Cache::new(folder.path(), 1 << 30), _folder: folder }
    }

    /// Returns the requests of a command, with those that open the repository.
    async fn count<T>(&self, command: impl AsyncFnOnce(Repository) -> T) -> (Requests, T) {
        let before = self.store.requests();
        let done = command(open_cached(self.store.clone(), &self.cache).await.expect("opens")).await;
        (self.store.requests().since(&before), done)
    }

    /// As [`Bucket::count`], without the cache, as `check` is run.
    async fn count_check(&self) -> (Requests, CheckReport) {
        let before = self.store.requests();
        let repository = open(self.store.clone()).await.expect("opens");
        let report = check(&repository, ReadData::Nothing, &()).await.expect("checks");
        (self.store.requests().since(&before), report)
    }

    async fn hour(&self, streams: &dumps::Streams) -> Requests {
        self.count(async |repository| back_up(&repository, "s", streams).await.expect("backs up")).await.0
    }

    async fn prune(&self) -> (Requests, PruneReport) {
        let mut options = PruneOptions::new("host");
        options.max_unused = MaxUnused::Percent(5.0);
        self.count(async |repository| prune(&repository, &options, &()).await.expect("prunes")).await
    }
}

fn by_kind(requests: &Requests) -> [u64; 5] {
    assert_eq!(requests.heads_n, 0);
    let Requests { lists_n, reads_n, writes_n, deletes_n, .. } = *requests;
    [lists_n, reads_n, writes_n, deletes_n, requests.total()]
}

/// README.md ("What it costs in requests") works with these numbers.
#[test]
fn hours_of_backups_and_what_keeps_them_cost_what_the_readme_says() {
    run(async {
        let bucket = Bucket::create().await;
        let mut random = Random::seeded(4);
        let mut streams = dumps::one("a", random.text(3_000_000));
        bucket.hour(&streams).await;
        assert_eq!(by_kind(&bucket.hour(&streams).await), [6, 1, 2, 1, 10], "an unchanged hour");
        const HOURS_N: u64 = 40;
        let mut taken = 2;
        for hour in 0..HOURS_N {
            dumps::edit(&mut random, streams.get_mut("a").expect("a stream"));
            assert_eq!(by_kind(&bucket.hour(&streams).await), [6, 1, 5, 1, 13], "changed hour {hour}");
            taken += 1;
        }
        // Those that have fragments: all but the unchanged hour.
        let (checked, report) = bucket.count_check().await;
        assert_eq!(report.findings, []);
        assert_eq!(report.snapshots_n, taken);
        let reads_max = |report: &CheckReport, fragments_n: u64| 5 + report.snapshots_n + fragments_n + report.packs_n;
        assert!(checked.reads_n <= reads_max(&report, HOURS_N + 1) && checked.lists_n <= 30, "{checked:?}");

        let (pruned, report) = bucket.prune().await;
        assert_eq!(report.outcome, PruneOutcome::Done, "{report:?}");
        assert_eq!(by_kind(&pruned), [18, 1, 3, HOURS_N + 2, HOURS_N + 24], "a prune that merges");
        assert_eq!((report.plan.merged_fragments_n, report.packs_deleted_n), (HOURS_N + 1, 0));
        assert_eq!(bucket.store.list("index").await.expect("lists").len(), 1, "they were merged");
        // From now on merges are listed, too.
        assert_eq!(by_kind(&bucket.hour(&streams).await), [7, 1, 2, 1, 11], "an unchanged hour after a prune");
        let (idle, report) = bucket.prune().await;
        assert_eq!(report.outcome, PruneOutcome::Nothing);
        assert_eq!(by_kind(&idle), [23, 1, 1, 1, 26], "a prune that finds nothing to do");
        let (checked, report) = bucket.count_check().await;
        assert_eq!(report.findings, []);
        assert!(checked.reads_n <= reads_max(&report, 1) && checked.lists_n <= 30, "{checked:?}");
    });
}

#[test]
fn small_fragments_are_merged_while_others_are_at_work_and_nothing_is_lost() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(5);
        let (mut streams, mut days) = (dumps::one("a", random.text(200_000)), Vec::new());
        for _ in 0..34 {
            dumps::edit(&mut random, streams.get_mut("a").expect("a stream"));
            days.push((back_up(&repository, "s", &streams).await.expect("backs up"), streams.clone()));
        }
        // As if a backup were at work, and one had been interrupted that has a fragment.
        store.write("sessions/0123456789abcdef0123456789abcdef", b"whoever".to_vec()).await;
        let names = store.names().await;
        let fragment = names.iter().find(|name| name.starts_with("index/")).expect("there is one");
        let uncounted = "index/0123456789abcdef0123456789abcdef-0";
        store.write(uncounted, store.read(fragment).await).await;
        let mut options = PruneOptions::new("host");
        options.max_unused = MaxUnused::Percent(100.0);
        let report = prune(&repository, &options, &()).await.expect("prunes");
        assert_eq!((&report.outcome, report.plan.merged_fragments_n), (&PruneOutcome::Done, 34));
        let left: Vec<String> = store.names().await.into_iter().filter(|name| name.starts_with("index/")).collect();
        assert!(left.len() == 2 && left.contains(&uncounted.to_owned()), "{left:?}");
        // The tombstone of a snapshot whose fragment is gone expects none.
        forget(&repository, days.remove(0).0.id).await.expect("forgets");
        let other = open(store.store()).await.expect("opens");
        for (snapshot, streams) in &days {
            assert!(get_back(&other, snapshot).await.expect("restores") == *streams);
        }
        store.remove(uncounted).await;
        store.remove("sessions/0123456789abcdef0123456789abcdef").await;
        assert_eq!(check(&other, ReadData::All, &()).await.expect("checks").findings, []);
        let plan = prune(&repository, &options, &()).await.expect("prunes").plan;
        assert_eq!(plan.merged_fragments_n, 0, "one is left, and that is few");
    });
}
