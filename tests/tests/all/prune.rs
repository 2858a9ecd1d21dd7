//! Prune: what nobody needs goes, everything else stays and restores, whoever is at work and wherever it stops.

use crate::kit::dumps::{self, Streams};
use crate::kit::random::Random;
use crate::kit::rows::Table;
use crate::kit::watched::{Kind, Stop, Watched};
use crate::kit::{back_up, back_up_as, create, get_back, in_time, open, run, snapshots};
use dedump_core::{
    DeltaMode, ErrorKind, Filter, MaxUnused, PruneOptions, PruneOutcome, PruneReport, ReadData, Repository, Snapshot,
    SnapshotId, Store, check, forget, plan_prune, prune, reindex, stats,
};
use std::collections::{BTreeMap, BTreeSet};

type Expected = BTreeMap<SnapshotId, Streams>;

fn options(max_unused: f64) -> PruneOptions {
    let mut options = PruneOptions::new("host");
    options.max_unused = MaxUnused::Percent(max_unused);
    options
}

async fn prune_all(repository: &Repository) -> PruneReport {
    prune(repository, &options(0.0), &()).await.expect("prunes")
}

/// Every snapshot restores bit for bit, a check that reads everything finds nothing, and no chain is too deep.
async fn assert_sound(repository: &Repository, expected: &Expected) {
    let report = check(repository, ReadData::All, &()).await.expect("checks");
    assert_eq!(report.findings, []);
    let standing = snapshots(repository).await.expect("lists");
    let ids: BTreeSet<_> = standing.iter().map(|snapshot| snapshot.id).collect();
    assert!(ids.iter().eq(expected.keys()), "{ids:?}");
    for snapshot in standing {
        assert!(
            get_back(repository, &snapshot).await.expect("restores") == expected[&snapshot.id],
            "{:?}",
            snapshot.id
        );
    }
}

async fn days(repository: &Repository, rows: &mut Table, days_n: usize) -> (Vec<Snapshot>, Expected) {
    let (mut taken, mut expected) = (Vec::new(), Expected::new());
    for _ in 0..days_n {
        let mut streams = dumps::one("app.sql", rows.dump());
        // What no other day has, in the same packs as what others need.
        streams.insert("log".to_owned(), Random::seeded(days_n as u64 + taken.len() as u64).bytes(300_000));
        let snapshot = back_up_as(repository, DeltaMode::Always, &streams).await.expect("backs up").snapshot;
        expected.insert(snapshot.id, streams);
        taken.push(snapshot);
        rows.change();
    }
    (taken, expected)
}

#[test]
fn what_was_forgotten_is_freed_and_the_rest_restores() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut rows = Table::create(7, 40_000);
        let (taken, mut expected) = days(&repository, &mut rows, 9).await;
        let depths = |totals: &dedump_core::Totals| totals.depths.len();
        let deepest = taken.iter().map(|snapshot| depths(&snapshot.record.totals)).max();
        // The base of all goes, a link of the chains, and the newest.
        for number in [0, 3, 4, 8] {
            forget(&repository, taken[number].id).await.expect("forgets");
            expected.remove(&taken[number].id);
        }
        let before = stats(&repository, &Filter::default(), &()).await.expect("counts");
        let report = prune_all(&repository).await;
        assert_eq!(report.outcome, PruneOutcome::Done);
        assert!(report.plan.freed_bytes > 0, "{report:?}");
        assert_sound(&repository, &expected).await;
        let after = stats(&repository, &Filter::default(), &()).await.expect("counts");
        assert!(after.depths.len() <= deepest.expect("some"), "{:?}", after.depths);
        let bytes = |stats: &dedump_core::StatsReport| stats.depths.iter().map(|depth| depth.stored_bytes).sum::<u64>();
        assert!(bytes(&after) < bytes(&before), "{} to {}", bytes(&before), bytes(&after));

        // A day goes on as before, and a second prune has nothing left to do.
        let streams = dumps::one("app.sql", rows.dump());
        let next = back_up_as(&repository, DeltaMode::Always, &streams).await.expect("backs up").snapshot;
        assert!(next.record.totals.chunks_delta_n > 0);
        expected.insert(next.id, streams);
        assert_sound(&repository, &expected).await;
        let again = prune(&repository, &options(5.0), &()).await.expect("prunes");
        assert_eq!(again.outcome, PruneOutcome::Nothing, "{again:?}");

        for id in expected.keys() {
            forget(&repository, *id).await.expect("forgets");
        }
        prune_all(&repository).await;
        let names = store.names().await;
        let left: Vec<_> = names
            .iter()
            .filter(|name| !["config", "keys/", "forgotten/", "merges/"].iter().any(|kept| name.starts_with(kept)))
            .collect();
        assert!(left.is_empty(), "nothing is needed, nothing is left: {left:?}");
        let streams = dumps::one("app.sql", rows.dump());
        let first = back_up(&repository, "s", &streams).await.expect("backs up");
        assert_sound(&repository, &Expected::from([(first.id, streams)])).await;
    });
}

#[test]
fn of_a_pack_that_is_half_needed_the_other_half_goes() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(6);
        let mut streams = dumps::one("kept", random.bytes(1_000_000));
        streams.insert("gone".to_owned(), random.bytes(1_000_000));
        let both = back_up_as(&repository, DeltaMode::Off, &streams).await.expect("backs up").snapshot;
        streams.remove("gone");
        let one = back_up_as(&repository, DeltaMode::Off, &streams).await.expect("backs up").snapshot;
        forget(&repository, both.id).await.expect("forgets");
        let report = prune_all(&repository).await;
        assert!(report.plan.rescued_chunks_n > 0 && report.packs_written_n > 0, "{report:?}");
        let mut packed = 0;
        for name in store.names().await.iter().filter(|name| name.starts_with("packs/")) {
            packed += store.read(name).await.len();
        }
        assert!((1_000_000..1_100_000).contains(&packed), "{packed}");
        assert!(report.bytes_written.abs_diff(report.plan.rescued_bytes) * 20 < report.bytes_written, "{report:?}");
        assert_sound(&repository, &Expected::from([(one.id, streams)])).await;
    });
}

#[test]
fn little_enough_stays_unused_and_no_more_is_repacked_than_asked() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut rows = Table::create(8, 60_000);
        let (taken, mut expected) = days(&repository, &mut rows, 4).await;
        forget(&repository, taken[1].id).await.expect("forgets");
        expected.remove(&taken[1].id);
        let mut nothing = options(0.0);
        nothing.max_repack_bytes = Some(0);
        let plan = plan_prune(&repository, &nothing, &()).await.expect("plans");
        assert_eq!((plan.rescued_chunks_n, plan.rescued_bytes), (0, 0), "{plan:?}");
        for percent in [50.0, 5.0, 1.0] {
            prune(&repository, &options(percent), &()).await.expect("prunes");
            let plan = plan_prune(&repository, &options(100.0), &()).await.expect("plans");
            let share = plan.unused_bytes as f64 * 100.0 / plan.packs_bytes as f64;
            assert!(share <= percent + 1.0, "{share} of {percent}: {plan:?}");
            assert_sound(&repository, &expected).await;
        }
    });
}

#[test]
fn a_plan_says_how_many_requests_it_takes() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut rows = Table::create(9, 60_000);
        let (taken, _) = days(&repository, &mut rows, 12).await;
        for snapshot in &taken[2..8] {
            forget(&repository, snapshot.id).await.expect("forgets");
        }
        let report = prune_all(&repository).await;
        let (planned, made) = (report.plan.requests_n as f64, report.requests.total() as f64);
        assert!((planned / made - 1.0).abs() <= 0.1, "planned {planned}, made {made}: {:?}", report.requests);
    });
}

#[test]
fn a_backup_at_work_is_waited_for_and_relies_on_nothing_condemned() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(3);
        let (first, second) = (dumps::one("a", random.text(3_000_000)), dumps::one("a", random.text(3_000_000)));
        let old = back_up(&repository, "s", &first).await.expect("backs up");
        let kept = back_up(&repository, "s", &second).await.expect("backs up");
        forget(&repository, old.id).await.expect("forgets");

        // A mark that nobody decides: as if a backup were at work.
        let mark = "sessions/0123456789abcdef0123456789abcdef";
        store.write(mark, b"whoever".to_vec()).await;
        let report = prune_all(&repository).await;
        assert!(matches!(&report.outcome, PruneOutcome::Waiting(others) if others.len() == 1), "{report:?}");
        assert_eq!(report.packs_deleted_n, 0);
        let notices = store.names().await.iter().filter(|name| name.starts_with("prune/")).count();
        assert_eq!(notices, 1, "the notice stays");

        // What comes back meanwhile is stored anew.
        let again = back_up(&repository, "s", &first).await.expect("backs up");
        assert_eq!(again.record.totals.bytes_new, again.record.totals.bytes);

        // Once the mark looks dead, its session is fenced and the prune goes on, without a word of the first one.
        let mut impatient = options(0.0);
        impatient.dead_after = std::time::Duration::ZERO;
        let report = prune(&repository, &impatient, &()).await.expect("prunes");
        assert_eq!(report.outcome, PruneOutcome::Done);
        assert_eq!(report.fenced.len(), 1);
        let left = store.names().await.iter().filter(|name| name.starts_with("prune/")).count();
        assert_eq!(left, 0);
        assert_sound(&repository, &Expected::from([(kept.id, second), (again.id, first)])).await;
    });
}

#[test]
fn any_row_of_backups_forgets_prunes_and_reindexes_loses_nothing() {
    for seed in 0..6 {
        run(async {
            let repository = create(Store::memory()).await.expect("creates");
            let mut random = Random::seeded(100 + seed);
            let mut rows = Table::create(seed, 8_000);
            let (mut expected, mut versions) = (Expected::new(), vec![rows.dump()]);
            for step in 0..40 {
                match random.below(10) {
                    0..=4 => {
                        if random.below(3) > 0 {
                            rows.change();
                            versions.push(rows.dump());
                        }
                        let version = versions[random.below(versions.len())].clone();
                        let streams = dumps::one("app.sql", version);
                        let taken = back_up_as(&repository, DeltaMode::Always, &streams).await.expect("backs up");
                        expected.insert(taken.snapshot.id, streams);
                    }
                    5..=7 if !expected.is_empty() => {
                        let id = *expected.keys().nth(random.below(expected.len())).expect("is there");
                        forget(&repository, id).await.expect("forgets");
                        expected.remove(&id);
                    }
                    8 if random.below(3) == 0 => drop(reindex(&repository, "host", &()).await.expect("reindexes")),
                    _ => {
                        let percent = [0.0, 10.0, 40.0][random.below(3)];
                        prune(&repository, &options(percent), &())
                            .await
                            .unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
                        assert_sound(&repository, &expected).await;
                    }
                }
            }
            assert_sound(&repository, &expected).await;
        });
    }
}

#[test]
fn what_an_interrupted_backup_had_listed_is_used_by_the_next() {
    run(async {
        let store = Watched::create();
        create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(11).bytes(3_000_000));
        // The commit and all after it fail: packs and fragments are there.
        let calls = {
            let whole = store.fork(Stop::Never);
            back_up(&open(whole.store()).await.expect("opens"), "s", &streams).await.expect("backs up");
            whole.take_calls()
        };
        let commit = calls.iter().position(|call| call.kind == Kind::Put && call.name.starts_with("snapshots/"));
        let stopped = store.fork(Stop::Before(commit.expect("it commits")));
        let died = async { back_up(&open(stopped.store()).await?, "s", &streams).await }.await;
        assert!(died.is_err() && stopped.has_stopped());

        let store = stopped.fork(Stop::Never);
        let repository = open(store.store()).await.expect("opens");
        let packs_n = |names: &[String]| names.iter().filter(|name| name.starts_with("packs/")).count();
        let before = packs_n(&store.names().await);
        assert!(before > 0);
        let next = back_up(&repository, "s", &streams).await.expect("backs up");
        assert_eq!(next.record.totals.bytes_new, 0, "all of it was there");
        assert_eq!(packs_n(&store.names().await), before);
        let expected = Expected::from([(next.id, streams)]);
        // What it took over counts by its own commit, and stays when the other's traces go.
        let mut impatient = options(0.0);
        impatient.dead_after = std::time::Duration::ZERO;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        prune(&repository, &impatient, &()).await.expect("prunes");
        let report = check(&repository, ReadData::All, &()).await.expect("checks");
        assert_eq!(report.findings, []);
        assert_sound(&repository, &expected).await;
    });
}

#[test]
fn a_prune_that_meets_the_deletions_of_another_sees_no_damage() {
    run(async {
        let base = Watched::create();
        let repository = create(base.store()).await.expect("creates");
        let mut rows = Table::create(12, 4_000);
        let (taken, _) = days(&repository, &mut rows, 4).await;
        for number in [0, 2] {
            forget(&repository, taken[number].id).await.expect("forgets");
        }
        let mut rude = options(0.0);
        rude.dead_after = std::time::Duration::ZERO;
        // The other takes this one for dead, where its mark is there already, and does all its work between two calls of it.
        let with_another_at = async |call: usize, plans_only: bool| {
            let store = base.fork(Stop::Never);
            let one = open(store.store()).await.expect("opens");
            let (other, rude) = (open(store.store()).await.expect("opens"), rude.clone());
            store.meanwhile(call, async move {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                prune(&other, &rude, &()).await.expect("prunes");
            });
            let outcome = match plans_only {
                true => plan_prune(&one, &options(0.0), &()).await.map(drop),
                false => prune(&one, &options(0.0), &()).await.map(drop),
            };
            if let Err(error) = &outcome {
                assert_eq!(error.kind(), ErrorKind::Conflict, "before call {call}: {error}");
            }
            store.has_met()
        };
        for plans_only in [false, true] {
            let mut met_n = 0;
            for call in 0..200 {
                met_n += usize::from(with_another_at(call, plans_only).await);
            }
            assert!(met_n > 5, "the other came in {met_n} places");
        }
    });
}

#[test]
fn what_a_killed_writer_left_in_a_directory_goes_a_day_later() {
    run(async {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let root = directory.path().join("repository");
        let repository = create(Store::create_local(&root).expect("creates")).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(13).text(100_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let leave = |name: &str, age_hours: u64| {
            let file = std::fs::File::create(root.join(name)).expect("it can be made");
            let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age_hours * 3600);
            file.set_modified(time).expect("it is ours");
        };
        let (pack, foreign) = (format!("packs/{}", "0a".repeat(32)), "packs/notes#a");
        leave(&format!("{pack}#1"), 25);
        leave(&format!("{pack}#2"), 23);
        leave(foreign, 25);
        prune_all(&repository).await;
        assert!(!root.join(format!("{pack}#1")).exists());
        assert!(root.join(format!("{pack}#2")).exists(), "its writer may be at work");
        assert!(root.join(foreign).exists(), "it is no writer's");
        assert_sound(&repository, &Expected::from([(snapshot.id, streams)])).await;
    });
}

#[test]
fn a_snapshot_that_cannot_be_read_stops_a_prune() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(5);
        let old = back_up(&repository, "s", &dumps::one("a", random.text(500_000))).await.expect("backs up");
        let kept = back_up(&repository, "s", &dumps::one("a", random.text(500_000))).await.expect("backs up");
        forget(&repository, old.id).await.expect("forgets");
        let name = format!("snapshots/{}", kept.id);
        let mut bytes = store.read(&name).await;
        bytes[100] ^= 1;
        store.write(&name, bytes).await;
        let before: Vec<_> = store.names().await;
        let error = prune(&open(store.store()).await.expect("opens"), &options(0.0), &()).await.expect_err("refuses");
        assert!(error.to_string().contains("nothing is deleted"), "{error}");
        assert_eq!(store.names().await, before);
    });
}

#[test]
fn after_a_reindex_a_damaged_decision_stops_no_prune() {
    for prefix in ["forgotten/", "merges/"] {
        run(async {
            let store = Watched::create();
            let repository = create(store.store()).await.expect("creates");
            let mut rows = Table::create(15, 8_000);
            let (taken, mut expected) = days(&repository, &mut rows, 4).await;
            for (number, snapshot) in taken[..2].iter().enumerate() {
                forget(&repository, snapshot.id).await.expect("forgets");
                expected.remove(&snapshot.id);
                if number == 0 {
                    prune_all(&repository).await;
                }
            }
            let counts = |name: &&String| name.starts_with(prefix) && !name.ends_with(&taken[0].id.to_string());
            let name = store.names().await.iter().find(counts).expect("is there").clone();
            store.write(&name, b"noise".to_vec()).await;
            let before = store.names().await;
            let error = prune(&repository, &options(0.0), &()).await.expect_err("nobody knows what counts");
            assert!(error.is_damage() && error.to_string().contains(&name), "{error}");
            assert_eq!(store.names().await, before, "nothing is deleted, and no mark is left");

            reindex(&repository, "host", &()).await.expect("reindexes");
            let report = prune_all(&repository).await;
            assert_eq!(report.outcome, PruneOutcome::Done, "{prefix}");
            // Now that nothing hangs on it, it may go.
            let report = check(&repository, ReadData::All, &()).await.expect("checks");
            assert!(report.findings.iter().all(|finding| finding.object == name), "{:?}", report.findings);
            store.remove(&name).await;
            assert_sound(&repository, &expected).await;
        });
    }
}

#[test]
fn waiting_ends_with_the_sessions_that_were_there() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(16);
        let old = back_up(&repository, "s", &dumps::one("a", random.text(500_000))).await.expect("backs up");
        let streams = dumps::one("a", random.text(500_000));
        let kept = back_up(&repository, "s", &streams).await.expect("backs up");
        forget(&repository, old.id).await.expect("forgets");
        let (there, later) = ("sessions/00000000000000000000000000000001", "sessions/00000000000000000000000000000002");
        store.write(there, b"whoever".to_vec()).await;
        let mut patient = options(0.0);
        patient.wait = true;
        let others = async {
            while !store.names().await.iter().any(|name| name.starts_with("prune/")) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            // The first look at the marks follows the notice.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            store.write(later, b"whoever".to_vec()).await;
            store.remove(there).await;
        };
        let (report, ()) = in_time(futures::future::join(prune(&repository, &patient, &()), others)).await;
        let report = report.expect("prunes");
        assert_eq!((report.outcome, report.fenced), (PruneOutcome::Done, Vec::new()));
        assert!(store.names().await.contains(&later.to_owned()), "it is still at work");
        store.remove(later).await;
        assert_sound(&repository, &Expected::from([(kept.id, streams)])).await;
    });
}

#[test]
fn a_plan_counts_what_dead_runs_left_and_no_clock_that_was_set_back_keeps_them() {
    run(async {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let root = directory.path().join("repository");
        let repository = create(Store::create_local(&root).expect("creates")).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(17).text(300_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        // A pack that nobody lists, and the marks of those who may have put it: one from the past and one from the future.
        let packs = root.join("packs");
        let pack = std::fs::read_dir(&packs).expect("lists").next().expect("one").expect("lists").path();
        std::fs::copy(pack, packs.join("0b".repeat(32))).expect("copies");
        let mark = |name: &str, time: std::time::SystemTime| {
            let file = std::fs::File::create(root.join("sessions").join(name)).expect("it can be made");
            file.set_modified(time).expect("it is ours");
        };
        let (now, days) = (std::time::SystemTime::now(), std::time::Duration::from_secs(2 * 24 * 3600));
        mark(&"1".repeat(32), now - days);
        mark(&"2".repeat(32), now + days);
        let plan = plan_prune(&repository, &options(0.0), &()).await.expect("plans");
        assert_eq!((plan.orphans_n, plan.deleted_packs_n), (1, 1));
        let report = prune_all(&repository).await;
        assert_eq!((report.outcome, report.packs_deleted_n, report.fenced.len()), (PruneOutcome::Done, 1, 2));
        // Where there is nothing to delete, dead marks go all the same.
        mark(&"3".repeat(32), now - days);
        let report = prune_all(&repository).await;
        assert_eq!((report.outcome, report.fenced.len()), (PruneOutcome::Nothing, 1));
        assert_eq!(std::fs::read_dir(root.join("sessions")).expect("lists").count(), 0);
        assert_sound(&repository, &Expected::from([(snapshot.id, streams)])).await;
    });
}
