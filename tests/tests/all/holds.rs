//! Holds: what they keep, how they end, and what happens when a hold and a forget meet.

use crate::kit::dumps;
use crate::kit::random::Random;
use crate::kit::watched::{Stop, Watched};
use crate::kit::{back_up, create, open, run, snapshots};
use crate::restore::keys_of;
use dedump_core::internals::hold::HoldRecord;
use dedump_core::internals::record::{self, Sealer};
use dedump_core::retention::{Fate, Period, Policy, Rule};
use dedump_core::{
    Error, ErrorKind, Filter, FindingKind, Forgotten, Hold, HoldOptions, ReadData, Repository, Result, SessionId,
    Snapshot, check, forget, forget_all, hold, list_holds, plan_forget, release,
};
use std::sync::{Arc, Mutex};

fn audit() -> HoldOptions {
    HoldOptions { reason: "audit".to_owned(), until_ms: None, by: "ana@db1".to_owned() }
}

/// A repository with two snapshots of one source.
async fn scene() -> (Watched, Repository, [Snapshot; 2]) {
    let store = Watched::create();
    let repository = create(store.store()).await.expect("creates");
    let streams = dumps::one("a", Random::seeded(1).text(200_000));
    let first = back_up(&repository, "s", &streams).await.expect("backs up");
    let second = back_up(&repository, "s", &streams).await.expect("backs up");
    (store, repository, [first, second])
}

/// Puts a hold past the checks of `hold`.
async fn put_hold(store: &Watched, repository: &Repository, id: SessionId, until_ms: Option<i64>) {
    let name = format!("holds/{id}");
    let hold = HoldRecord { reason: "old".to_owned(), since_ms: 0, until_ms, by: "bob@db2".to_owned() };
    let keys = keys_of(store, repository).await;
    let sealer = Sealer { repository: repository.id(), keys: &keys };
    store.write(&name, record::seal(sealer, &name, [3; 32], &hold).expect("seals")).await;
}

async fn ids(repository: &Repository) -> Vec<SessionId> {
    snapshots(repository).await.expect("lists").iter().map(|snapshot| snapshot.id).collect()
}

/// What a policy that keeps nothing would do to each snapshot, oldest first.
async fn fates(repository: &Repository) -> Vec<Fate> {
    let policy = Policy { min_age: Period::default(), ..Policy::default() };
    let plan = plan_forget(repository, &Filter::default(), &policy).await.expect("plans");
    plan.groups.into_iter().flat_map(|group| group.snapshots).map(|judged| judged.fate).collect()
}

#[test]
fn what_is_held_is_not_forgotten_until_it_is_released() {
    run(async {
        let (_, repository, [first, second]) = scene().await;
        assert_eq!(hold(&repository, first.id, &audit()).await.expect("holds"), None);
        let error = forget(&repository, first.id).await.expect_err("is held");
        assert_eq!(error.kind(), ErrorKind::Failed);
        let told = error.to_string();
        let advice = format!("dedump release {}", first.id.short());
        assert!(["held since", "ana@db1", "audit", &advice].iter().all(|part| told.contains(part)), "{told}");
        assert!(
            matches!(&fates(&repository).await[..], [Fate::Keep(rules), _] if matches!(rules[..], [Rule::Held(_)]))
        );
        assert_eq!(ids(&repository).await, [first.id, second.id]);

        assert!(
            matches!(release(&repository, first.id).await.expect("releases"), Hold::Says(record) if record.reason == "audit")
        );
        assert!(matches!(release(&repository, first.id).await, Err(Error::NotFound { .. })));
        assert_eq!(fates(&repository).await[0], Fate::Remove);
        assert_eq!(forget(&repository, first.id).await.expect("forgets"), Forgotten::default());
        assert_eq!(ids(&repository).await, [second.id]);
    });
}

#[test]
fn holding_again_replaces_the_hold_and_says_which() {
    run(async {
        let (_, repository, [first, _]) = scene().await;
        hold(&repository, first.id, &audit()).await.expect("holds");
        let again = HoldOptions { reason: "lawsuit".to_owned(), until_ms: Some(i64::MAX), ..audit() };
        let before = hold(&repository, first.id, &again).await.expect("holds again");
        assert!(matches!(before, Some(Hold::Says(record)) if record.reason == "audit"));
        let holds = list_holds(&repository).await.expect("lists");
        assert!(
            matches!(&holds[&first.id], Hold::Says(record) if record.reason == "lawsuit" && record.until_ms.is_some())
        );
        assert_eq!(holds.len(), 1);
    });
}

#[test]
fn a_hold_that_has_ended_holds_nothing_and_goes_with_its_snapshot() {
    run(async {
        let (store, repository, [first, _]) = scene().await;
        put_hold(&store, &repository, first.id, Some(1)).await;
        assert_eq!(fates(&repository).await[0], Fate::Remove);
        let forgotten = forget(&repository, first.id).await.expect("forgets");
        assert!(matches!(forgotten, Forgotten { ended: Some(_), overtaken: None }), "{forgotten:?}");
        assert_eq!(list_holds(&repository).await.expect("lists"), Default::default());
        // Also where the one that forgot it had not come that far.
        put_hold(&store, &repository, first.id, Some(1)).await;
        assert!(forget(&repository, first.id).await.expect("forgets again").ended.is_some());
        assert_eq!(list_holds(&repository).await.expect("lists"), Default::default());
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").notes, Vec::<String>::new());
    });
}

#[test]
fn a_hold_that_is_harmed_or_forged_still_holds_and_is_named() {
    run(async {
        let (base, repository, [first, second]) = scene().await;
        hold(&repository, first.id, &audit()).await.expect("holds");
        hold(&repository, second.id, &audit()).await.expect("holds");
        let name = format!("holds/{}", first.id);
        let whole = base.read(&name).await;
        let flipped = {
            let mut bytes = whole.clone();
            bytes[100] ^= 1;
            bytes
        };
        let newer = {
            let mut bytes = whole.clone();
            bytes[8] = 2;
            bytes
        };
        let other = base.read(&format!("holds/{}", second.id)).await;
        let snapshot = base.read(&format!("snapshots/{}", first.id)).await;
        for harm in [vec![], whole[..90].to_vec(), flipped, newer, other, snapshot, vec![7; 20 << 20]] {
            let store = base.fork(Stop::Never);
            store.write(&name, harm).await;
            let repository = open(store.store()).await.expect("opens");
            let error = forget(&repository, first.id).await.expect_err("is held");
            assert!(matches!(error, Error::Held { .. }), "{error}");
            assert!(matches!(fates(&repository).await[0], Fate::Keep(_)));
            let report = check(&repository, ReadData::Nothing, &()).await.expect("checks");
            let [finding] = &report.findings[..] else { panic!("{report:?}") };
            assert_eq!((finding.kind, &finding.object), (FindingKind::HoldDamaged, &name));
            // Holding anew mends it; releasing takes it away.
            hold(&repository, first.id, &audit()).await.expect("holds anew");
            assert_eq!(check(&repository, ReadData::Nothing, &()).await.expect("checks").findings, []);
            assert!(matches!(release(&repository, first.id).await.expect("releases"), Hold::Says(_)));
            forget(&repository, first.id).await.expect("forgets");
        }
        base.remove(&name).await;
        forget(&repository, first.id).await.expect("what is deleted holds no more");
    });
}

#[test]
fn what_cannot_be_held_is_refused() {
    run(async {
        let (_, repository, [first, second]) = scene().await;
        for options in [
            HoldOptions { reason: String::new(), ..audit() },
            HoldOptions { reason: "  ".to_owned(), ..audit() },
            HoldOptions { reason: "a\nb".to_owned(), ..audit() },
            HoldOptions { reason: "x".repeat(1025), ..audit() },
            HoldOptions { by: "\u{1b}".to_owned(), ..audit() },
            HoldOptions { until_ms: Some(1), ..audit() },
        ] {
            let error = hold(&repository, first.id, &options).await.expect_err("can't be");
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        }
        forget(&repository, second.id).await.expect("forgets");
        for id in [second.id, SessionId([1; 16])] {
            assert!(matches!(hold(&repository, id, &audit()).await, Err(Error::NotFound { .. })));
        }
        assert_eq!(list_holds(&repository).await.expect("lists"), Default::default());
    });
}

#[test]
fn one_that_is_held_hinders_no_other() {
    run(async {
        let (_, repository, [first, second]) = scene().await;
        hold(&repository, first.id, &audit()).await.expect("holds");
        let outcomes = forget_all(&repository, &[first.id, SessionId([1; 16]), second.id], &()).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(|(id, outcome)| (id, outcome.is_ok())).collect();
        assert_eq!(outcomes, [(first.id, false), (SessionId([1; 16]), false), (second.id, true)]);
        assert_eq!(ids(&repository).await, [first.id]);
    });
}

/// A hold at every moment of a forget, and a forget at every moment of a hold: if the hold says that it stands, then the
/// snapshot does, or the forget says that it came before.
#[test]
fn a_hold_and_a_forget_that_meet_never_both_succeed_in_silence() {
    run(async {
        let (base, _, [first, _]) = scene().await;
        let (mut met_n, mut overtaken_n, mut refused_n) = (0, 0, 0);
        for holds_during_forget in [true, false] {
            for number in 0..12 {
                let store = base.fork(Stop::Never);
                let repository = open(store.store()).await.expect("opens");
                let other = open(store.store()).await.expect("opens");
                let (id, held, forgot) = (first.id, Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
                let (held_there, forgot_there) = (held.clone(), forgot.clone());
                if holds_during_forget {
                    store.meanwhile(number, async move {
                        let outcome: Result<_> = hold(&other, id, &audit()).await;
                        *held_there.lock().expect("no panic") = Some(outcome);
                    });
                    let outcome: Result<_> = forget(&repository, id).await;
                    *forgot.lock().expect("no panic") = Some(outcome);
                } else {
                    store.meanwhile(number, async move {
                        let outcome: Result<_> = forget(&other, id).await;
                        *forgot_there.lock().expect("no panic") = Some(outcome);
                    });
                    let outcome: Result<_> = hold(&repository, id, &audit()).await;
                    *held.lock().expect("no panic") = Some(outcome);
                }
                if !store.has_met() {
                    continue;
                }
                met_n += 1;
                let stands = ids(&repository).await.contains(&id);
                let is_held = list_holds(&repository).await.expect("lists").contains_key(&id);
                let (held, forgot) = (held.lock().expect("no panic").take(), forgot.lock().expect("no panic").take());
                let (held, forgot) = (held.expect("it was tried"), forgot.expect("it was tried"));
                let what = format!("{holds_during_forget} at {number}: {held:?}, {forgot:?}");
                assert_eq!(stands, forgot.is_err(), "{what}");
                refused_n += usize::from(stands);
                match (held, forgot) {
                    (Ok(_), Ok(Forgotten { overtaken, .. })) => {
                        overtaken_n += 1;
                        assert!(overtaken.is_some() && is_held, "{what}");
                        let notes = check(&repository, ReadData::Nothing, &()).await.expect("checks").notes;
                        assert!(notes.iter().any(|note| note.contains("forgotten all the same")), "{notes:?}");
                        release(&repository, id).await.expect("it can be taken away");
                    }
                    (Ok(_), Err(_)) => assert!(is_held, "{what}"),
                    (Err(error), Ok(_)) => {
                        let tells = matches!(error, Error::Conflict(_) | Error::NotFound { .. });
                        assert!(tells && !is_held, "{what}");
                    }
                    (Err(_), Err(_)) => panic!("neither: {what}"),
                }
            }
        }
        assert!(met_n >= 8 && overtaken_n == 1 && refused_n >= 2, "{met_n}, {overtaken_n}, {refused_n}");
    });
}

#[test]
fn a_hold_that_crashes_anywhere_holds_or_does_not_and_harms_nothing() {
    run(async {
        let (base, _, [first, second]) = scene().await;
        for (stop, after) in (0..20).flat_map(|stop| [(stop, false), (stop, true)]) {
            let store = base.fork(if after { Stop::After(stop) } else { Stop::Before(stop) });
            let outcome = match open(store.store()).await {
                Ok(repository) => hold(&repository, first.id, &audit()).await,
                Err(error) => Err(error),
            };
            let repository = open(store.fork(Stop::Never).store()).await.expect("opens");
            let is_held = list_holds(&repository).await.expect("lists").contains_key(&first.id);
            assert!(is_held || outcome.is_err(), "{stop}");
            let report = check(&repository, ReadData::Nothing, &()).await.expect("checks");
            assert_eq!((report.findings, report.notes), (vec![], vec![]));
            assert_eq!(forget(&repository, first.id).await.is_err(), is_held);
            forget(&repository, second.id).await.expect("the other one is free");
        }
    });
}
