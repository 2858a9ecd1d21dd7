//! What copies to another repository promise: complete dumps of their own, only what is missing travels, nothing twice.

use crate::kit::dumps::{self, Streams};
use crate::kit::random::Random;
use crate::kit::rows::Table;
use crate::kit::watched::{Call, Kind, Stop, Watched};
use crate::kit::{back_up, back_up_as, create, get_back, open, run, secret, snapshots};
use dedump_core::internals::loader;
use dedump_core::{
    ChunkId, CopyOptions, CopyReport, CreateOptions, DeltaMode, Error, Filter, MaxUnused, OpenOptions, PruneOptions,
    PruneOutcome, ReadData, Repository, Result, Snapshot, Store, check, copy, forget, forget_all, plan_copy, prune,
    stats,
};
use std::time::Duration;

const ROWS_N: usize = 40_000;

/// Makes a repository with a snapshot a day.
async fn days(store: Store, days_n: usize) -> (Repository, Vec<(Snapshot, Streams)>, Table) {
    let repository = create(store).await.expect("creates");
    let (mut rows, mut days) = (Table::create(5, ROWS_N), Vec::new());
    for day in 0..days_n {
        let mut streams = dumps::one("app.sql", rows.dump());
        streams.insert("globals.sql".to_owned(), format!("-- day {day}\n").into_bytes());
        streams.insert("empty".to_owned(), Vec::new());
        days.push((back_up(&repository, "app", &streams).await.expect("backs up"), streams));
        rows.change();
    }
    (repository, days, rows)
}

/// Creates a repository that names chunks as another does, and has nothing else of it.
async fn create_like(store: Store, like: &Repository) -> Repository {
    let options = CreateOptions { threads_n: 2, like: Some(like.clone()), ..CreateOptions::default() };
    Repository::create(store, &secret(), options).await.expect("creates")
}

async fn copy_all(from: &Repository, to: &Repository) -> Result<CopyReport> {
    let plan = plan_copy(from, to, snapshots(from).await?, false).await?;
    copy(from, to, &plan, &CopyOptions::new("copier"), &()).await
}

/// Asserts that each snapshot has one copy, which says of the dump what it says and restores to the same; and that nothing is
/// wrong there.
async fn assert_copied<'a>(to: &Repository, days: impl IntoIterator<Item = &'a (Snapshot, Streams)>) {
    let copies = snapshots(to).await.expect("lists");
    let mut copies_n = 0;
    for (snapshot, streams) in days {
        let mut of_it = copies.iter().filter(|copy| copy.record.origin == Some(snapshot.id));
        let copy = of_it.next().expect("there is a copy");
        assert_eq!(of_it.next(), None, "there is one");
        assert!(get_back(to, copy).await.expect("restores") == *streams, "other bytes");
        let (mut there, mut here) = (copy.record.clone(), snapshot.record.clone());
        for record in [&mut there, &mut here] {
            // Cut elsewhere, a stream has other chunks.
            for stream in &mut record.streams {
                (stream.root, stream.root_level, stream.chunks_n) = (ChunkId([0; 32]), 0, 0);
            }
            (record.parent, record.origin, record.fragments_n) = Default::default();
            record.totals = Default::default();
        }
        assert_eq!(there, here);
        copies_n += 1;
    }
    assert_eq!(copies.len(), copies_n);
    assert_eq!(check(to, ReadData::All, &()).await.expect("checks").findings, []);
}

fn added(snapshots: &[Snapshot]) -> u64 {
    snapshots.iter().map(|snapshot| snapshot.record.totals.bytes_added).sum()
}

fn shrink(days: &[(Snapshot, Streams)]) -> Vec<Snapshot> {
    days.iter().map(|(snapshot, _)| snapshot.clone()).collect()
}

#[test]
fn snapshots_move_as_they_are_to_a_repository_that_names_chunks_alike() {
    run(async {
        let (from, mut all, mut rows) = days(Store::memory(), 4).await;
        let to = create_like(Store::memory(), &from).await;
        let report = copy_all(&from, &to).await.expect("copies");
        assert_eq!((report.copied.len(), report.failed.len(), report.problems.len()), (4, 0, 0));
        assert_copied(&to, &all).await;
        let (here, there) = (added(&shrink(&all)), added(&report.copied));
        assert!(there <= here + here / 50, "{there} bytes there, {here} here");
        assert!(report.copied[3].record.totals.chunks_delta_n > 0, "deltas move as deltas");
        let parents: Vec<_> = report.copied.iter().map(|copy| copy.record.parent).collect();
        assert_eq!(parents[1..], report.copied.iter().map(|copy| Some(copy.id)).collect::<Vec<_>>()[..3]);

        let again = copy_all(&from, &to).await.expect("copies nothing");
        assert_eq!(again, CopyReport::default());
        rows.change();
        let streams = dumps::one("app.sql", rows.dump());
        all.push((back_up(&from, "app", &streams).await.expect("backs up"), streams));
        let next = copy_all(&from, &to).await.expect("copies the new one");
        assert_eq!(next.copied.len(), 1);
        let (here, there) = (all[4].0.record.totals.bytes_added, added(&next.copied));
        assert!(there <= here + here / 20, "{there} bytes there, {here} here");
        assert!(next.bytes_read <= here + here / 4, "{} bytes were read, {here} were new", next.bytes_read);
        assert_copied(&to, &all).await;
    });
}

#[test]
fn neither_of_two_that_name_chunks_alike_opens_what_the_other_sealed() {
    run(async {
        let watched = Watched::create();
        let (from, all, _) = days(watched.store(), 1).await;
        let store = Store::memory();
        let to = create_like(store.clone(), &from).await;
        copy_all(&from, &to).await.expect("copies");
        let mine: Vec<_> = watched.store().list("packs").await.expect("lists");
        let theirs: Vec<_> = store.list("packs").await.expect("lists");
        assert!(!mine.is_empty() && !theirs.is_empty());
        for pack in mine {
            let bytes = watched.store().get(&pack.name, 1 << 30).await.expect("reads").expect("is there");
            store.create(&pack.name, bytes).await.expect("writes");
        }
        let report = check(&to, ReadData::All, &()).await.expect("checks");
        assert!(!report.findings.is_empty(), "a pack of the other repository is no pack of this one");
        assert_eq!(all.len(), 1);
    });
}

#[test]
fn snapshots_are_cut_anew_for_a_repository_with_other_names() {
    run(async {
        let (from, mut all, mut rows) = days(Store::memory(), 3).await;
        let to = create(Store::memory()).await.expect("creates");
        let report = copy_all(&from, &to).await.expect("copies");
        assert_eq!((report.copied.len(), report.failed.len()), (3, 0));
        assert_copied(&to, &all).await;
        let (here, there) = (added(&shrink(&all)), added(&report.copied));
        assert!(there <= here + here / 5, "{there} bytes there, {here} here");
        // What was backed up there itself serves copies, too.
        rows.change();
        let streams = dumps::one("app.sql", rows.dump());
        back_up(&to, "app", &streams).await.expect("backs up there");
        all.push((back_up(&from, "app", &streams).await.expect("backs up"), streams));
        let next = copy_all(&from, &to).await.expect("copies");
        assert_eq!(next.copied[0].record.totals.chunks_new_n, 0);
    });
}

#[test]
fn the_latest_alone_brings_what_it_needs_and_no_more() {
    run(async {
        let (from, all, _) = days(Store::memory(), 5).await;
        let to = create_like(Store::memory(), &from).await;
        let latest = all.last().expect("there are some");
        let plan = plan_copy(&from, &to, vec![latest.0.clone()], false).await.expect("plans");
        let report = copy(&from, &to, &plan, &CopyOptions::new("copier"), &()).await.expect("copies");
        assert_copied(&to, [latest]).await;
        let alone = create(Store::memory()).await.expect("creates");
        let direct = back_up(&alone, "app", &latest.1).await.expect("backs up");
        assert!(report.copied[0].record.totals.chunks_delta_n > 0, "deltas bring their bases along");
        let (there, direct) = (added(&report.copied), direct.record.totals.bytes_added);
        assert!(there <= direct + direct / 4, "{there} bytes, {direct} by a backup alone");
        // The earlier ones find their places later.
        assert_eq!(copy_all(&from, &to).await.expect("copies the rest").copied.len(), 4);
        assert_copied(&to, &all).await;
    });
}

#[test]
fn of_a_blob_that_is_needed_in_part_that_part_travels() {
    run(async {
        let from = create(Store::memory()).await.expect("creates");
        let mut bytes = Random::seeded(9).bytes(4_000_000);
        back_up_as(&from, DeltaMode::Off, &dumps::one("a", bytes.clone())).await.expect("backs up");
        // About every third chunk is another then.
        for at in (0..bytes.len()).step_by(200_000) {
            bytes[at] ^= 1;
        }
        let streams = dumps::one("a", bytes);
        let second = back_up_as(&from, DeltaMode::Off, &streams).await.expect("backs up").snapshot;
        let to = create_like(Store::memory(), &from).await;
        let plan = plan_copy(&from, &to, vec![second.clone()], false).await.expect("plans");
        let report = copy(&from, &to, &plan, &CopyOptions::new("copier"), &()).await.expect("copies");
        assert_copied(&to, &[(second.clone(), streams)]).await;
        let chunks_n = second.record.totals.chunks_n;
        assert_eq!(report.copied[0].record.totals.chunks_new_n, chunks_n);
        let stored = stats(&to, &Filter::default(), &()).await.expect("counts").depths;
        assert_eq!(stored.iter().map(|depth| depth.chunks_n).sum::<u64>(), chunks_n);
    });
}

#[test]
fn a_delta_whose_base_is_deeper_there_is_stored_whole() {
    run(async {
        let (from, all, _) = days(Store::memory(), 6).await;
        let to = create_like(Store::memory(), &from).await;
        // There, the first day was compressed against the second.
        for day in [1, 0] {
            back_up(&to, "app", &all[day].1).await.expect("backs up there");
        }
        let report = copy_all(&from, &to).await.expect("copies");
        assert_eq!(report.copied.len(), 6);
        for (copy, (_, streams)) in report.copied.iter().zip(&all) {
            assert!(get_back(&to, copy).await.expect("restores") == *streams);
        }
        let loaded = loader::load_to_add(&to).await.expect("loads");
        assert!(!loaded.is_dangling, "every base is shallower than its delta");
        assert_eq!(check(&to, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn what_a_prune_has_packed_anew_is_copied_in_part() {
    run(async {
        let (from, all, _) = days(Store::memory(), 6).await;
        for (snapshot, _) in [&all[0], &all[2], &all[3]] {
            forget(&from, snapshot.id).await.expect("forgets");
        }
        let mut options = PruneOptions::new("host");
        options.max_unused = MaxUnused::Percent(0.0);
        assert_eq!(prune(&from, &options, &()).await.expect("prunes").outcome, PruneOutcome::Done);
        let to = create_like(Store::memory(), &from).await;
        for day in [5, 1, 4] {
            let plan = plan_copy(&from, &to, vec![all[day].0.clone()], false).await.expect("plans");
            copy(&from, &to, &plan, &CopyOptions::new("copier"), &()).await.expect("copies");
        }
        assert_copied(&to, [&all[5], &all[1], &all[4]]).await;
    });
}

#[test]
fn what_was_backed_up_there_itself_is_not_sent() {
    run(async {
        let (from, all, _) = days(Store::memory(), 3).await;
        let to = create_like(Store::memory(), &from).await;
        for day in [2, 0, 1] {
            back_up(&to, "app", &all[day].1).await.expect("backs up there");
        }
        let report = copy_all(&from, &to).await.expect("copies");
        let new_n: u64 = report.copied.iter().map(|copy| copy.record.totals.chunks_new_n).sum();
        assert_eq!((report.copied.len(), new_n), (3, 0));
        for (copy, (_, streams)) in report.copied.iter().zip(&all) {
            assert!(get_back(&to, copy).await.expect("restores") == *streams);
        }
        assert_eq!(check(&to, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn a_mixed_history_stays_readable() {
    run(async {
        // Each has deltas of its own over the same chunks, and gets the other's.
        let (here, mut all, mut rows) = days(Store::memory(), 3).await;
        let there = create_like(Store::memory(), &here).await;
        for (round, direct) in [0, 2, 1].into_iter().enumerate() {
            back_up(&there, "app", &all[direct].1).await.expect("backs up there");
            rows.change();
            let streams = dumps::one("app.sql", rows.dump());
            back_up(&there, "app", &streams).await.expect("backs up there");
            if round != 1 {
                all.push((back_up(&here, "app", &streams).await.expect("backs up"), streams));
            }
            copy_all(&here, &there).await.expect("copies there");
            copy_all(&there, &here).await.expect("copies back");
        }
        let (mine, theirs) = (snapshots(&here).await.expect("lists"), snapshots(&there).await.expect("lists"));
        assert_eq!(mine.len(), theirs.len());
        for repository in [&here, &there] {
            assert_eq!(check(repository, ReadData::All, &()).await.expect("checks").findings, []);
        }
        for (snapshot, streams) in &all {
            let copy = theirs.iter().find(|copy| copy.record.origin == Some(snapshot.id)).expect("there is a copy");
            assert!(get_back(&there, copy).await.expect("restores") == *streams);
        }
    });
}

#[test]
fn what_was_forgotten_there_is_not_copied_again() {
    run(async {
        let (from, all, _) = days(Store::memory(), 3).await;
        let to = create_like(Store::memory(), &from).await;
        let copies = copy_all(&from, &to).await.expect("copies").copied;
        for outcome in forget_all(&to, &[copies[0].id, copies[1].id], &()).await {
            outcome.1.expect("forgets");
        }
        let standing = snapshots(&from).await.expect("lists");
        let plan = plan_copy(&from, &to, standing.clone(), false).await.expect("plans");
        assert_eq!((plan.snapshots.len(), plan.there_n, plan.forgotten_n), (0, 1, 2));
        let plan = plan_copy(&from, &to, standing, true).await.expect("plans");
        assert_eq!((plan.snapshots.len(), plan.forgotten_n), (2, 0));
        copy(&from, &to, &plan, &CopyOptions::new("copier"), &()).await.expect("copies them again");
        assert_copied(&to, &all).await;
    });
}

#[test]
fn a_copy_of_a_copy_remembers_the_first() {
    run(async {
        let (first, all, _) = days(Store::memory(), 2).await;
        let second = create_like(Store::memory(), &first).await;
        let third = create(Store::memory()).await.expect("creates");
        copy_all(&first, &second).await.expect("copies");
        copy_all(&second, &third).await.expect("copies on");
        assert_copied(&third, &all).await;
        for (from, to) in [(&first, &third), (&third, &first), (&second, &first), (&third, &second)] {
            assert_eq!(copy_all(from, to).await.expect("finds all there").copied, []);
        }
        // What the first one forgot does not come back from the others.
        forget(&first, all[0].0.id).await.expect("forgets");
        assert_eq!(copy_all(&second, &first).await.expect("leaves it").copied, []);
    });
}

#[test]
fn a_repository_is_not_copied_to_itself() {
    run(async {
        let store = Store::memory();
        let (from, all, _) = days(store.clone(), 1).await;
        let same = Repository::open(store, &secret(), OpenOptions::default()).await.expect("opens");
        let error = plan_copy(&from, &same, shrink(&all), false).await.expect_err("the same");
        assert!(matches!(&error, Error::Invalid(why) if why.contains("same repository")), "{error}");
    });
}

/// Copies to forks of a store that stop at every call, and then again without a stop.
async fn stop_everywhere(names_alike: bool) {
    let (from, all, _) = days(Store::memory(), 2).await;
    let base = Watched::create();
    match names_alike {
        true => drop(create_like(base.store(), &from).await),
        false => drop(create(base.store()).await.expect("creates")),
    }
    for after in [false, true] {
        for number in 0.. {
            let store = base.fork(if after { Stop::After(number) } else { Stop::Before(number) });
            let stopped = match open(store.store()).await {
                Ok(to) => copy_all(&from, &to).await,
                Err(error) => Err(error),
            };
            let store = store.fork(Stop::Never);
            let to = open(store.store()).await.expect("opens after a crash");
            for copy in snapshots(&to).await.expect("lists") {
                let (_, streams) = all.iter().find(|(one, _)| copy.record.origin == Some(one.id)).expect("a copy");
                assert!(get_back(&to, &copy).await.expect("restores") == *streams, "stopped at {number}");
            }
            copy_all(&from, &to).await.expect("goes on");
            assert_copied(&to, &all).await;
            if stopped.is_ok() {
                assert!(number > 10, "a copy makes more calls than {number}");
                break;
            }
        }
    }
}

#[test]
fn a_copy_that_crashes_anywhere_goes_on() {
    run(stop_everywhere(true));
}

#[test]
fn a_copy_that_cuts_anew_and_crashes_anywhere_goes_on() {
    run(stop_everywhere(false));
}

fn data_bytes_put(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.kind == Kind::Put && call.name.starts_with("packs/")).count()
}

#[test]
fn what_was_sent_before_a_break_is_not_sent_again() {
    run(async {
        let from = create(Store::memory()).await.expect("creates");
        let streams = dumps::one("app.bin", Random::seeded(8).bytes(100_000_000));
        let snapshot = back_up(&from, "app", &streams).await.expect("backs up");
        let base = Watched::create();
        let to = create_like(base.store(), &from).await;
        base.take_calls();
        let whole = base.fork(Stop::Never);
        copy_all(&from, &open(whole.store()).await.expect("opens")).await.expect("copies");
        let calls = whole.take_calls();
        let packs_n = data_bytes_put(&calls);
        assert!(packs_n >= 3, "{packs_n} packs");
        // The fragment that lists them is there, and the commit is not.
        let last = calls.iter().rposition(|call| call.kind == Kind::Put).expect("there is a commit");
        let store = base.fork(Stop::Before(last));
        copy_all(&from, &open(store.store()).await.expect("opens")).await.expect_err("stops");
        let store = store.fork(Stop::Never);
        let again = open(store.store()).await.expect("opens");
        copy_all(&from, &again).await.expect("goes on");
        assert_eq!(data_bytes_put(&store.take_calls()), 0);
        assert_copied(&again, &[(snapshot, streams)]).await;
        drop(to);
    });
}

#[test]
fn a_snapshot_that_is_damaged_hinders_no_other() {
    run(async {
        for names_alike in [true, false] {
            let store = Store::memory();
            let (from, mut all, _) = days(store.clone(), 1).await;
            let lonely = dumps::one("other.bin", Random::seeded(4).bytes(300_000));
            let before: Vec<_> = store.list("packs").await.expect("lists");
            let damaged = back_up(&from, "other", &lonely).await.expect("backs up");
            let pack = store.list("packs").await.expect("lists").into_iter().find(|pack| !before.contains(pack));
            let pack = pack.expect("it has a pack of its own").name;
            let streams = dumps::one("app.sql", Table::create(6, 2_000).dump());
            all.push((back_up(&from, "app", &streams).await.expect("backs up"), streams));
            let mut bytes = store.get(&pack, 1 << 30).await.expect("reads").expect("is there").to_vec();
            bytes[1000] ^= 1;
            store.overwrite(&pack, bytes.into()).await.expect("writes");

            let to = match names_alike {
                true => create_like(Store::memory(), &from).await,
                false => create(Store::memory()).await.expect("creates"),
            };
            let report = copy_all(&from, &to).await.expect("copies the others");
            assert_eq!(report.copied.len(), 2);
            let [(id, why)] = &report.failed[..] else { panic!("{:?}", report.failed) };
            assert!(*id == damaged.id && why.contains("damaged"), "{why}");
            assert_copied(&to, &all).await;

            // Where the pack is gone, the next backup stores its chunks again, and what needs them can be copied.
            store.delete(&pack).await.expect("deletes");
            back_up(&from, "other", &lonely).await.expect("backs up again");
            let report = copy_all(&from, &to).await.expect("copies");
            let copied =
                report.copied.iter().find(|copy| copy.record.origin == Some(damaged.id)).expect("it is copied");
            assert!(get_back(&to, copied).await.expect("restores") == lonely);
        }
    });
}

#[test]
fn a_pack_that_a_prune_takes_away_meanwhile_is_found_elsewhere() {
    run(async {
        let store = Watched::create();
        let (from, all, _) = days(store.store(), 5).await;
        forget(&from, all[0].0.id).await.expect("forgets");
        forget(&from, all[1].0.id).await.expect("forgets");
        let mut met_n = 0;
        for at in [3, 8, 12, 16, 20, 30] {
            let base = store.fork(Stop::Never);
            let from = open(base.store()).await.expect("opens");
            let to = create_like(Store::memory(), &from).await;
            let plan = plan_copy(&from, &to, snapshots(&from).await.expect("lists"), false).await.expect("plans");
            base.take_calls();
            let other = open(base.store()).await.expect("opens");
            base.meanwhile(at, async move {
                let mut options = PruneOptions::new("other");
                options.max_unused = MaxUnused::Percent(0.0);
                options.dead_after = Duration::ZERO;
                prune(&other, &options, &()).await.expect("prunes");
            });
            let report = copy(&from, &to, &plan, &CopyOptions::new("copier"), &()).await.expect("copies");
            assert_eq!((report.copied.len(), report.failed), (3, vec![]), "at {at}");
            assert_copied(&to, &all[2..]).await;
            met_n += usize::from(base.has_met());
        }
        assert!(met_n >= 3, "{met_n} prunes came in between");
    });
}

#[test]
fn a_prune_there_that_takes_the_copy_for_dead_fences_it() {
    run(async {
        let (from, all, _) = days(Store::memory(), 2).await;
        let watched = Watched::create();
        let to = create_like(watched.store(), &from).await;
        back_up(&to, "x", &dumps::one("x", Random::seeded(1).bytes(100_000))).await.expect("backs up");
        let old = snapshots(&to).await.expect("lists").remove(0);
        forget(&to, old.id).await.expect("forgets");
        let plan = plan_copy(&from, &to, shrink(&all), false).await.expect("plans");
        // When the first pack is about to go there.
        let trial = watched.fork(Stop::Never);
        let there = open(trial.store()).await.expect("opens");
        trial.take_calls();
        copy(&from, &there, &plan, &CopyOptions::new("copier"), &()).await.expect("copies");
        let first =
            trial.take_calls().iter().position(|call| call.kind == Kind::Put && call.name.starts_with("packs/"));
        let to = open(watched.store()).await.expect("opens");
        let other = open(watched.store()).await.expect("opens");
        watched.take_calls();
        watched.meanwhile(first.expect("a pack is put"), async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let mut options = PruneOptions::new("other");
            options.max_unused = MaxUnused::Percent(0.0);
            options.dead_after = Duration::ZERO;
            assert_eq!(prune(&other, &options, &()).await.expect("prunes").outcome, PruneOutcome::Done);
        });
        let outcome = copy(&from, &to, &plan, &CopyOptions::new("copier"), &()).await;
        assert!(watched.has_met(), "the prune came in between");
        assert!(matches!(outcome, Err(Error::Conflict(_))), "{outcome:?}");
        assert_eq!(snapshots(&to).await.expect("lists"), [], "nothing was committed");
        let report = copy_all(&from, &to).await.expect("copies when it is run again");
        assert_eq!(report.copied.len(), 2);
        assert_copied(&to, &all).await;
    });
}
