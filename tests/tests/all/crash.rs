//! The store stops at every call of every operation, before it and after it with the reply lost. Whatever was committed
//! restores, nothing half-done shows, and the next run works.

use crate::kit::dumps::{self, Streams};
use crate::kit::random::Random;
use crate::kit::rows::Table;
use crate::kit::watched::{Stop, Watched};
use crate::kit::{back_up, back_up_as, create, get_back, open, run, snapshots};
use dedump_core::{
    DeltaMode, MaxUnused, PruneOptions, PruneOutcome, ReadData, Repository, Result, SnapshotId, check, forget,
    plan_prune, prune, reindex,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Snapshots that must be there, with their streams.
type Expected = BTreeMap<SnapshotId, Streams>;

/// Runs `operation` against forks of `base` that stop at call 0, 1, 2 … until one runs through; judges each.
async fn stop_everywhere(
    base: &Watched,
    before: &Expected,
    operation: impl AsyncFn(&Repository) -> Result<Expected>,
    streams: &Streams,
) {
    for after in [false, true] {
        let mut stopped_n = 0;
        loop {
            let stop = if after { Stop::After(stopped_n) } else { Stop::Before(stopped_n) };
            let store = base.fork(stop);
            let outcome = match open(store.store()).await {
                Ok(repository) => operation(&repository).await,
                Err(error) => Err(error),
            };
            let what = format!("{stop:?}, which ended with {:?}", outcome.as_ref().map(BTreeMap::len));
            judge(&store.fork(Stop::Never), before, outcome.as_ref().ok(), streams, &what).await;
            if !store.has_stopped() {
                assert!(outcome.is_ok(), "{what}");
                break;
            }
            stopped_n += 1;
        }
        assert!(stopped_n > 5, "the operation makes more calls than {stopped_n}");
    }
}

/// Whatever stands restores; what stood before, or what the operation promised, stands; and life goes on.
async fn judge(store: &Watched, before: &Expected, promised: Option<&Expected>, streams: &Streams, what: &str) {
    let repository = open(store.store()).await.expect("the repository opens after a crash");
    let report = check(&repository, ReadData::All, &()).await.expect("checks");
    assert_eq!(report.findings, [], "{what}");
    let standing = snapshots(&repository).await.expect("lists");
    for snapshot in &standing {
        let expected = promised.and_then(|all| all.get(&snapshot.id)).or_else(|| before.get(&snapshot.id));
        // A commit whose reply was lost: the operation could not name it, and it is the new dump.
        let expected = expected.unwrap_or(streams);
        assert!(get_back(&repository, snapshot).await.expect("restores") == *expected, "{what}");
    }
    if let Some(promised) = promised {
        let ids: Vec<_> = standing.iter().map(|snapshot| snapshot.id).collect();
        assert!(promised.keys().all(|id| ids.contains(id)) && ids.len() == promised.len(), "{what}: {ids:?}");
    }
    let next = back_up(&repository, "s", streams).await.expect("the next backup works");
    assert!(get_back(&repository, &next).await.expect("restores") == *streams, "{what}");
}

async fn base() -> (Watched, Expected, Streams) {
    let mut random = Random::seeded(1);
    let store = Watched::create();
    let repository = create(store.store()).await.expect("creates");
    let mut streams = dumps::one("a", random.text(1_000_000));
    let mut expected = Expected::new();
    for _ in 0..2 {
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        expected.insert(snapshot.id, streams.clone());
        dumps::edit(&mut random, streams.get_mut("a").expect("is there"));
    }
    store.take_calls();
    (store, expected, streams)
}

#[test]
fn a_backup_that_crashes_anywhere_loses_nothing() {
    run(async {
        let (store, before, mut streams) = base().await;
        // Enough that does not compress for several packs.
        streams.insert("b".to_owned(), Random::seeded(2).bytes(36_000_000));
        let operation = async |repository: &Repository| {
            let snapshot = back_up(repository, "s", &streams).await?;
            let mut after = before.clone();
            after.insert(snapshot.id, streams.clone());
            Ok(after)
        };
        stop_everywhere(&store, &before, operation, &streams).await;
    });
}

#[test]
fn a_forget_that_crashes_anywhere_loses_nothing_else() {
    run(async {
        let (store, before, streams) = base().await;
        let operation = async |repository: &Repository| {
            let oldest = snapshots(repository).await?.remove(0);
            forget(repository, oldest.id).await?;
            let mut after = before.clone();
            after.remove(&oldest.id);
            Ok(after)
        };
        stop_everywhere(&store, &before, operation, &streams).await;
    });
}

#[test]
fn a_reindex_that_crashes_anywhere_loses_nothing() {
    run(async {
        let (store, before, streams) = base().await;
        let operation = async |repository: &Repository| {
            reindex(repository, "host", &()).await?;
            Ok(before.clone())
        };
        stop_everywhere(&store, &before, operation, &streams).await;
    });
}

#[test]
fn a_prune_that_crashes_anywhere_loses_nothing_and_the_next_goes_on() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut table = Table::create(3, 4_000);
        let mut before = Expected::new();
        let mut taken = Vec::new();
        for _ in 0..5 {
            let streams = dumps::one("a", table.dump());
            let snapshot = back_up_as(&repository, DeltaMode::Always, &streams).await.expect("backs up").snapshot;
            taken.push(snapshot.id);
            before.insert(snapshot.id, streams);
            table.change();
        }
        for id in [taken[0], taken[2], taken[4]] {
            forget(&repository, id).await.expect("forgets");
            before.remove(&id);
        }
        store.take_calls();
        let mut options = PruneOptions::new("host");
        options.max_unused = MaxUnused::Percent(0.0);
        // What a prune that crashed left behind looks dead at once to the next.
        options.dead_after = Duration::ZERO;
        let operation = async |repository: &Repository| {
            let report = prune(repository, &options, &()).await?;
            assert_eq!(report.outcome, PruneOutcome::Done);
            let left = plan_prune(repository, &options, &()).await?;
            assert_eq!((left.unused_bytes, left.orphans_n), (0, 0), "{left:?}");
            Ok(before.clone())
        };
        let streams = dumps::one("a", table.dump());
        stop_everywhere(&store, &before, operation, &streams).await;

        // Whatever is left of a prune that was stopped, the next one finds and ends.
        for after in [false, true] {
            for call in 0.. {
                let stop = if after { Stop::After(call) } else { Stop::Before(call) };
                let stopped = store.fork(stop);
                let first = async { prune(&open(stopped.store()).await?, &options, &()).await }.await;
                if !stopped.has_stopped() {
                    assert!(first.is_ok());
                    break;
                }
                let store = stopped.fork(Stop::Never);
                let repository = open(store.store()).await.expect("opens");
                // The mark of the first may have been written in the same millisecond.
                tokio::time::sleep(Duration::from_millis(2)).await;
                prune(&repository, &options, &()).await.unwrap_or_else(|error| panic!("{stop:?}: {error}"));
                let left = store.names().await;
                let garbage = left.iter().filter(|name| name.starts_with("prune/") || name.starts_with("sessions/"));
                assert!(garbage.clone().next().is_none(), "{stop:?}: {:?}", garbage.collect::<Vec<_>>());
                let plan = plan_prune(&repository, &options, &()).await.expect("plans");
                assert_eq!((plan.unused_bytes, plan.orphans_n), (0, 0), "{stop:?}: {plan:?}");
                judge(&store, &before, Some(&before), &streams, &format!("{stop:?}, and pruned again")).await;
            }
        }
    });
}
