//! Sessions and decisions: who may commit, and what counts.

use crate::kit::dumps::{self, StreamsEngine};
use crate::kit::random::Random;
use crate::kit::watched::{Lie, Watched};
use crate::kit::{back_up, create, get_back, run, snapshots};
use dedump_core::internals::fence;
use dedump_core::{
    BackupOptions, Engine, Error, ErrorKind, Filter, PruneOptions, ReadData, Repository, Result, SessionId, Sink,
    Verdict, async_trait, backup, check, forget, probe_store, prune, stats,
};

/// Fences the session that is at work, in the middle of its dump, as a prune would that took it for dead.
struct Fenced<'a> {
    store: &'a Watched,
    repository: &'a Repository,
    dump: StreamsEngine,
}

#[async_trait]
impl Engine for Fenced<'_> {
    fn kind(&self) -> &str {
        "fenced"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let verdict = self.dump.dump(sink).await?;
        for name in self.store.names().await {
            if let Some(id) = name.strip_prefix("sessions/") {
                let id = id.parse().expect("a session's id");
                assert!(fence(self.repository, "snapshots", id, SessionId([9; 16]), "it looked dead").await?);
            }
        }
        Ok(verdict)
    }
}

#[test]
fn a_fenced_session_never_commits_and_its_fragments_never_count() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(1).text(2_000_000));
        let engine = Fenced { store: &store, repository: &repository, dump: StreamsEngine(streams.clone()) };
        let error = backup(&repository, &engine, &BackupOptions::new("s", "h"), &()).await.expect_err("is fenced");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("it looked dead"), "{error}");
        assert_eq!(snapshots(&repository).await.expect("lists"), []);
        let counted = stats(&repository, &Filter::default(), &()).await.expect("counts");
        assert_eq!(counted.depths.iter().map(|depth| depth.chunks_n).sum::<u64>(), 0, "what it wrote does not count");
        // The next one takes its packs over, and then they count by that one's commit.
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        assert_eq!(snapshot.record.totals.chunks_new_n, 0);
        assert!(get_back(&repository, &snapshot).await.expect("restores") == streams);
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn a_forgotten_snapshot_keeps_counting_for_others_and_never_returns() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(2).text(2_000_000));
        let first = back_up(&repository, "s", &streams).await.expect("backs up");
        let second = back_up(&repository, "s", &streams).await.expect("backs up");
        let name = format!("snapshots/{}", first.id);
        let object = store.read(&name).await;
        forget(&repository, first.id).await.expect("forgets");
        forget(&repository, first.id).await.expect("forgets twice");
        // The first commit's request, delayed on its way, arrives only now.
        store.write(&name, object).await;
        let standing: Vec<_> = snapshots(&repository).await.expect("lists").iter().map(|found| found.id).collect();
        assert_eq!(standing, [second.id]);
        assert!(get_back(&repository, &second).await.expect("restores") == streams);
        let third = back_up(&repository, "s", &streams).await.expect("backs up");
        assert_eq!(third.record.totals.chunks_new_n, 0, "the forgotten one's fragments still count");
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn two_backups_at_once_both_commit() {
    run(async {
        let repository = create(Watched::create().store()).await.expect("creates");
        let mut random = Random::seeded(3);
        let (a, b) = (dumps::one("a", random.text(9_000_000)), dumps::one("a", random.text(9_000_000)));
        let (left, right) = tokio::join!(back_up(&repository, "a", &a), back_up(&repository, "b", &b));
        let (left, right) = (left.expect("commits"), right.expect("commits"));
        assert!(get_back(&repository, &left).await.expect("restores") == a);
        assert!(get_back(&repository, &right).await.expect("restores") == b);
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn a_store_that_fails_is_reported_as_the_store_and_ends_the_dump() {
    use crate::kit::watched::Stop;
    run(async {
        let store = Watched::create();
        create(store.store()).await.expect("creates");
        let mut random = Random::seeded(4);
        let streams = dumps::one("a", random.bytes(80_000_000));
        // Opening takes 3 calls, the session 1, the index 8; then the first pack fails.
        for stop in 3..14 {
            let failing = store.fork(Stop::Before(stop));
            let repository = crate::kit::open(failing.store()).await.expect("opens");
            let error = back_up(&repository, "s", &streams).await.expect_err("fails");
            assert!(matches!(error, Error::Store { .. }), "at call {stop}: {error}");
        }
    });
}

#[test]
fn whoever_has_no_key_cannot_take_a_snapshot_away_by_creating_objects() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(5).text(200_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        for garbage in [Vec::new(), vec![0; 512], store.read(&format!("snapshots/{}", snapshot.id)).await] {
            store.write(&format!("forgotten/{}", snapshot.id), garbage).await;
            let standing = snapshots(&repository).await.expect("lists");
            assert_eq!(standing.len(), 1);
            assert!(get_back(&repository, &standing[0]).await.expect("restores") == streams);
            let report = check(&repository, ReadData::All, &()).await.expect("checks");
            let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind.name()).collect();
            assert_eq!(kinds, ["decision-damaged"]);
        }
    });
}

#[test]
fn a_store_that_breaks_a_promise_is_refused() {
    run(async {
        for (lie, why) in [
            (Lie::CreatesAgain, "create-if-absent"),
            (Lie::ListsNothing, "does not list"),
            (Lie::DeletesNothing, "was deleted"),
        ] {
            let store = Watched::create();
            store.lie(lie);
            let error = create(store.store()).await.expect_err("it is no place for a repository");
            assert!(matches!(error, Error::UnfitStore { .. }) && error.to_string().contains(why), "{lie:?}: {error}");
            let names = store.names().await;
            assert!(!names.iter().any(|name| name == "config" || name.starts_with("keys/")), "{names:?}");
        }
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        probe_store(&repository).await.expect("it keeps what it promises");
        assert!(!store.names().await.iter().any(|name| name.starts_with("probe/")));
        for lie in [Lie::CreatesAgain, Lie::ListsNothing, Lie::DeletesNothing, Lie::ReadsNothing] {
            store.lie(lie);
            let error = probe_store(&repository).await.expect_err("it lies");
            assert!(matches!(error, Error::UnfitStore { .. }), "{lie:?}: {error}");
        }
    });
}

#[test]
fn a_reply_that_is_cut_short_is_the_stores_failure_and_no_damage() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(6).text(200_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        store.lie(Lie::CutsShort);
        for outcome in [
            snapshots(&repository).await.map(drop),
            get_back(&repository, &snapshot).await.map(drop),
            back_up(&repository, "s", &streams).await.map(drop),
            prune(&repository, &PruneOptions::new("h"), &()).await.map(drop),
            check(&repository, ReadData::All, &()).await.map(drop),
        ] {
            let error = outcome.expect_err("half of everything is missing");
            assert!(matches!(&error, Error::Store { action: "cannot read", .. }), "{error}");
        }
    });
}
