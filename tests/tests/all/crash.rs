//! The store stops at every call of every operation, before it and after it with the reply lost. Whatever was committed
//! restores, nothing half-done shows, and the next run works. In memory it stops at each call; in a directory and in a bucket at
//! some, since what is the same everywhere was seen in memory.

use crate::kit::dumps::{self, Streams};
use crate::kit::places::Place;
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

/// Where the store lies, and at which of its calls it stops: at every so many.
struct Course {
    place: Place,
    stride: usize,
}

impl Course {
    fn in_memory() -> Course {
        Course { place: Place::memory(), stride: 1 }
    }

    fn in_a_directory() -> Course {
        Course { place: Place::directory(), stride: 5 }
    }

    fn on_s3() -> Course {
        Course { place: Place::s3(), stride: 7 }
    }
}

/// Runs `operation` against forks of `base` that stop at call 0, 1, 2 … until one runs through; judges each. With a stride of
/// more than one, those that stop after a call stop at others than those that stop before.
async fn stop_everywhere(
    base: &Watched,
    before: &Expected,
    operation: impl AsyncFn(&Repository) -> Result<Expected>,
    streams: &Streams,
    stride: usize,
) {
    for after in [false, true] {
        let mut call = if after { stride / 2 } else { 0 };
        loop {
            let stop = if after { Stop::After(call) } else { Stop::Before(call) };
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
            call += stride;
        }
        assert!(call > 5, "the operation makes more calls than {call}");
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

async fn base(place: Place) -> (Watched, Expected, Streams) {
    let mut random = Random::seeded(1);
    let store = Watched::create_in(place);
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

fn back_up_and_crash(course: impl FnOnce() -> Course, new_bytes_n: usize) {
    run(async {
        let Course { place, stride } = course();
        let (store, before, mut streams) = base(place).await;
        streams.insert("b".to_owned(), Random::seeded(2).bytes(new_bytes_n));
        let operation = async |repository: &Repository| {
            let snapshot = back_up(repository, "s", &streams).await?;
            let mut after = before.clone();
            after.insert(snapshot.id, streams.clone());
            Ok(after)
        };
        stop_everywhere(&store, &before, operation, &streams, stride).await;
    });
}

#[test]
fn a_backup_that_crashes_anywhere_loses_nothing() {
    // Enough that does not compress for several packs.
    back_up_and_crash(Course::in_memory, 36_000_000);
}

#[test]
fn a_backup_that_crashes_in_a_directory_loses_nothing() {
    back_up_and_crash(Course::in_a_directory, 2_000_000);
}

#[test]
fn a_backup_that_crashes_on_s3_loses_nothing() {
    back_up_and_crash(Course::on_s3, 2_000_000);
}

fn forget_and_crash(course: impl FnOnce() -> Course) {
    run(async {
        let Course { place, stride } = course();
        let (store, before, streams) = base(place).await;
        let operation = async |repository: &Repository| {
            let oldest = snapshots(repository).await?.remove(0);
            forget(repository, oldest.id).await?;
            let mut after = before.clone();
            after.remove(&oldest.id);
            Ok(after)
        };
        stop_everywhere(&store, &before, operation, &streams, stride).await;
    });
}

#[test]
fn a_forget_that_crashes_anywhere_loses_nothing_else() {
    forget_and_crash(Course::in_memory);
    forget_and_crash(Course::in_a_directory);
}

#[test]
fn a_forget_that_crashes_on_s3_loses_nothing_else() {
    forget_and_crash(Course::on_s3);
}

fn reindex_and_crash(course: impl FnOnce() -> Course) {
    run(async {
        let Course { place, stride } = course();
        let (store, before, streams) = base(place).await;
        let operation = async |repository: &Repository| {
            reindex(repository, "host", &()).await?;
            Ok(before.clone())
        };
        stop_everywhere(&store, &before, operation, &streams, stride).await;
    });
}

#[test]
fn a_reindex_that_crashes_anywhere_loses_nothing() {
    reindex_and_crash(Course::in_memory);
    reindex_and_crash(Course::in_a_directory);
}

#[test]
fn a_reindex_that_crashes_on_s3_loses_nothing() {
    reindex_and_crash(Course::on_s3);
}

/// A repository that a prune has something to do in, and how it is asked to.
struct Forgotten {
    store: Watched,
    /// What is left after the forgetting.
    before: Expected,
    next: Streams,
    options: PruneOptions,
}

impl Forgotten {
    async fn create(place: Place) -> Forgotten {
        let store = Watched::create_in(place);
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
        Forgotten { store, before, next: dumps::one("a", table.dump()), options }
    }

    /// Prunes a copy that stops there, and again; returns whether the first came that far.
    async fn crash_and_prune_again(&self, stop: Stop) -> bool {
        let Forgotten { store, before, next, options } = self;
        let stopped = store.fork(stop);
        let first = async { prune(&open(stopped.store()).await?, options, &()).await }.await;
        if !stopped.has_stopped() {
            assert!(first.is_ok());
            return false;
        }
        let store = stopped.fork(Stop::Never);
        let repository = open(store.store()).await.expect("opens");
        // The mark of the first may have been written in the same tick of the store's clock: a file system's has some milliseconds.
        tokio::time::sleep(Duration::from_millis(25)).await;
        prune(&repository, options, &()).await.unwrap_or_else(|error| panic!("{stop:?}: {error}"));
        let left = store.names().await;
        let garbage = left.iter().filter(|name| name.starts_with("prune/") || name.starts_with("sessions/"));
        assert!(garbage.clone().next().is_none(), "{stop:?}: {:?}", garbage.collect::<Vec<_>>());
        let plan = plan_prune(&repository, options, &()).await.expect("plans");
        assert_eq!((plan.unused_bytes, plan.orphans_n), (0, 0), "{stop:?}: {plan:?}");
        judge(&store, before, Some(before), next, &format!("{stop:?}, and pruned again")).await;
        true
    }
}

fn prune_and_crash(course: impl FnOnce() -> Course) {
    run(async {
        let Course { place, stride } = course();
        let forgotten = Forgotten::create(place).await;
        let Forgotten { store, before, next, options } = &forgotten;
        let operation = async |repository: &Repository| {
            let report = prune(repository, options, &()).await?;
            assert_eq!(report.outcome, PruneOutcome::Done);
            let left = plan_prune(repository, options, &()).await?;
            assert_eq!((left.unused_bytes, left.orphans_n), (0, 0), "{left:?}");
            Ok(before.clone())
        };
        stop_everywhere(store, before, operation, next, stride).await;

        // Whatever is left of a prune that was stopped, the next one finds and ends.
        let strides = || (0..).step_by(stride);
        for call in strides() {
            if !forgotten.crash_and_prune_again(Stop::Before(call)).await {
                break;
            }
        }
        for call in strides() {
            if !forgotten.crash_and_prune_again(Stop::After(call)).await {
                break;
            }
        }
    });
}

#[test]
fn a_prune_that_crashes_anywhere_loses_nothing_and_the_next_goes_on() {
    prune_and_crash(Course::in_memory);
}

#[test]
fn a_prune_that_crashes_in_a_directory_loses_nothing_and_the_next_goes_on() {
    prune_and_crash(Course::in_a_directory);
}

#[test]
fn a_prune_that_crashes_on_s3_loses_nothing_and_the_next_goes_on() {
    // It asks for much, and is stopped four times over.
    prune_and_crash(|| Course { stride: 23, ..Course::on_s3() });
}
