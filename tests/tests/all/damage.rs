//! Every kind of object, deleted, truncated, with a bit flipped, or swapped with another of its kind: the damage is found
//! and named, what does not need the object restores, and never does anything panic or give wrong bytes.

use crate::kit::dumps::{self, Streams};
use crate::kit::places::Place;
use crate::kit::random::Random;
use crate::kit::watched::{Stop, Watched};
use crate::kit::{back_up, create, get_back, open, run, secret};
use dedump_core::internals::fence;
use dedump_core::{
    Argon2Params, Credential, Error, ErrorKind, FindingKind, HoldOptions, OpenOptions, ReadData, Repository, SessionId,
    Snapshot, add_key, check, find, forget, hold, list, reindex,
};
use std::collections::BTreeMap;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Delete,
    Truncate,
    Flip,
    Swap,
}

const HARMS: [Harm; 4] = [Harm::Delete, Harm::Truncate, Harm::Flip, Harm::Swap];

/// A repository with two of everything.
struct Scene {
    store: Watched,
    snapshots: Vec<(Snapshot, Streams)>,
}

fn passphrase() -> Credential {
    Credential::passphrase("open sesame")
}

impl Scene {
    async fn create() -> Scene {
        Self::create_in(Place::memory(), 4).await
    }

    /// With so many snapshots before those that are forgotten.
    async fn create_in(place: Place, days: usize) -> Scene {
        let mut random = Random::seeded(1);
        let store = Watched::create_in(place);
        let repository = create(store.store()).await.expect("creates");
        let cheap = Argon2Params { memory_kib: 8, passes: 1, lanes: 1 };
        add_key(&repository, &passphrase(), cheap, "second", "host").await.expect("adds");
        let mut streams =
            Streams::from([("a".to_owned(), random.text(1_500_000)), ("b".to_owned(), random.bytes(500_000))]);
        let mut snapshots = Vec::new();
        for day in 0..days {
            if day == days / 2 {
                reindex(&repository, "host", &()).await.expect("reindexes");
            }
            let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
            snapshots.push((snapshot, streams.clone()));
            // Something new each day, of which later days keep a part.
            dumps::edit(&mut random, streams.get_mut("a").expect("is there"));
            streams.insert(format!("c{day}"), random.bytes(300_000));
        }
        reindex(&repository, "host", &()).await.expect("reindexes");
        for _ in 0..2 {
            // Two that are forgotten, whose chunks the last one still needs, and whose fragments are not merged.
            streams.insert(format!("c{}", streams.len()), random.bytes(300_000));
            let forgotten = back_up(&repository, "s", &streams).await.expect("backs up");
            forget(&repository, forgotten.id).await.expect("forgets");
        }
        let last = back_up(&repository, "s", &streams).await.expect("backs up");
        snapshots.push((last, streams));
        for (snapshot, _) in &snapshots[..2] {
            let options = HoldOptions { reason: "audit".to_owned(), until_ms: None, by: "ana@db1".to_owned() };
            hold(&repository, snapshot.id, &options).await.expect("holds");
        }
        for number in [1, 2] {
            let id = SessionId([number; 16]);
            assert!(fence(&repository, "snapshots", id, SessionId([3; 16]), "looked dead").await.expect("fences"));
            assert!(fence(&repository, "merges", id, SessionId([3; 16]), "looked dead").await.expect("fences"));
        }
        Scene { store, snapshots }
    }

    /// Names of the objects under a prefix.
    async fn names(&self, prefix: &str) -> Vec<String> {
        self.store.names().await.into_iter().filter(|name| name.starts_with(prefix)).collect()
    }

    /// Returns a copy with one object harmed; a swap needs the other's name.
    async fn harmed(&self, harm: Harm, name: &str, other: &str) -> Watched {
        let store = self.store.fork(Stop::Never);
        let mut bytes = store.read(name).await;
        match harm {
            Harm::Delete => store.remove(name).await,
            Harm::Truncate => {
                bytes.truncate(bytes.len() / 2);
                store.write(name, bytes).await;
            }
            Harm::Flip => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                store.write(name, bytes).await;
            }
            Harm::Swap => {
                let others = store.read(other).await;
                store.write(name, others).await;
                store.write(other, bytes).await;
            }
        }
        store
    }

    /// Checks the harmed store: these kinds are found and no others; snapshots restore unless a finding names them, or
    /// they are gone or damaged themselves.
    async fn judge(&self, store: &Watched, harm: Harm, name: &str, expected: &[FindingKind]) {
        let what = format!("{harm:?} {name}");
        let repository = open(store.store()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let report = check(&repository, ReadData::All, &()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut kinds: Vec<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds, expected, "{what}: {:#?}", report.findings);
        let names_it =
            |finding: &dedump_core::Finding| finding.object == name || finding.kind == FindingKind::DecisionMissing;
        assert!(expected.is_empty() || report.findings.iter().any(names_it), "{what}: {:#?}", report.findings);

        let standing: BTreeMap<_, _> = list(&repository, &Default::default())
            .await
            .expect("lists")
            .snapshots
            .into_iter()
            .map(|snapshot| (snapshot.id, snapshot))
            .collect();
        for (snapshot, streams) in &self.snapshots {
            let is_hurt = report.findings.iter().any(|finding| finding.snapshots.contains(&snapshot.id));
            match standing.get(&snapshot.id) {
                None => assert!(name.starts_with("snapshots/"), "{what}: {} is gone", snapshot.id),
                Some(found) => match get_back(&repository, found).await {
                    Ok(back) => {
                        assert!(back == *streams, "{what}: wrong bytes");
                        assert!(!is_hurt, "{what}: {} restores, and a finding says it does not", snapshot.id);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Damage, "{what}: {error}");
                        assert!(is_hurt, "{what}: {} fails with {error}, and no finding says so", snapshot.id);
                    }
                },
            }
        }
        if let Some(last) = self.snapshots.last() {
            let again = back_up(&repository, "s", &last.1).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            let back = get_back(&repository, &again).await;
            // What is damaged and still has its length is only found by reading it; deduplication trusts it until then.
            let trusted = kinds.contains(&FindingKind::PackDamaged);
            assert!(trusted || back.as_ref().is_ok_and(|back| *back == last.1), "{what}: {back:?}");
            assert!(back.map_or_else(|error| error.is_damage(), |back| back == last.1), "{what}: wrong bytes");
        }
    }
}

/// Harms each object under a prefix in every way and judges; `expected` says what must be found, of each harm.
fn harm_all(prefix: &'static str, expected: fn(Harm) -> Vec<FindingKind>) {
    run(async { harm_some(&Scene::create().await, prefix, usize::MAX, expected).await });
}

/// Likewise so many of them.
async fn harm_some(scene: &Scene, prefix: &str, names_max: usize, expected: fn(Harm) -> Vec<FindingKind>) {
    let names = scene.names(prefix).await;
    assert!(names.len() >= 2, "there are two of {prefix}: {names:?}");
    for (number, name) in names.iter().take(names_max).enumerate() {
        let other = &names[(number + 1) % names.len()];
        for harm in HARMS {
            let store = scene.harmed(harm, name, other).await;
            scene.judge(&store, harm, name, &expected(harm)).await;
        }
    }
}

#[test]
fn a_harmed_data_pack_hurts_only_what_needs_it() {
    harm_all("packs/", in_a_data_pack);
}

fn in_a_data_pack(harm: Harm) -> Vec<FindingKind> {
    match harm {
        Harm::Delete => vec![FindingKind::PackMissing],
        Harm::Truncate => vec![FindingKind::PackMissing, FindingKind::PackDamaged],
        // Of swapped packs with different lengths even every chunk is found again, by their trailers.
        Harm::Flip | Harm::Swap => vec![FindingKind::PackDamaged],
    }
}

#[test]
fn a_harmed_meta_pack_hurts_only_what_needs_it() {
    run(async { harm_meta_packs(&Scene::create().await, usize::MAX).await });
}

async fn harm_meta_packs(scene: &Scene, names_max: usize) {
    let names = scene.names("meta/").await;
    for (number, name) in names.iter().take(names_max).enumerate() {
        let other = &names[(number + 1) % names.len()];
        for harm in HARMS {
            let store = scene.harmed(harm, name, other).await;
            let repository = open(store.store()).await.expect("opens");
            let report = check(&repository, ReadData::All, &()).await.expect("checks");
            let kinds: Vec<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
            let expected = if harm == Harm::Delete { FindingKind::PackMissing } else { FindingKind::PackDamaged };
            // A pack that only forgotten snapshots need may go unmissed.
            let unneeded = harm == Harm::Delete && kinds.is_empty();
            assert!(unneeded || kinds.contains(&expected), "{harm:?} {name}: {:#?}", report.findings);
            for (snapshot, streams) in &scene.snapshots {
                let is_hurt = report.findings.iter().any(|finding| finding.snapshots.contains(&snapshot.id));
                match get_back(&repository, snapshot).await {
                    Ok(back) => assert!(back == *streams && !is_hurt, "{harm:?} {name}"),
                    Err(error) => assert!(error.is_damage() && is_hurt, "{harm:?} {name}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_harmed_fragment_costs_no_snapshot() {
    harm_all("index/", in_a_fragment);
}

fn in_a_fragment(harm: Harm) -> Vec<FindingKind> {
    match harm {
        Harm::Delete => vec![FindingKind::FragmentMissing],
        Harm::Truncate | Harm::Flip | Harm::Swap => vec![FindingKind::FragmentDamaged],
    }
}

#[test]
fn a_harmed_snapshot_costs_no_other() {
    run(async {
        let scene = Scene::create().await;
        let last = &scene.snapshots.last().expect("there are some").0;
        let last_name = format!("snapshots/{}", last.id);
        let names = scene.names("snapshots/").await;
        for (number, name) in names.iter().enumerate() {
            let other = &names[(number + 1) % names.len()];
            for harm in HARMS {
                let store = scene.harmed(harm, name, other).await;
                scene.judge(&store, harm, name, &in_a_snapshot(harm)).await;
                if harm == Harm::Flip && *name == last_name {
                    let repository = open(store.store()).await.expect("opens");
                    let error = find(&repository, &last.id.to_string(), &Default::default()).await;
                    assert!(matches!(error, Err(Error::Damaged { .. })), "{error:?}");
                }
            }
        }
    });
}

fn in_a_snapshot(harm: Harm) -> Vec<FindingKind> {
    match harm {
        // Fences and merged sessions are no loss; the last one's packs nobody else needs.
        Harm::Delete => vec![],
        _ => vec![FindingKind::SnapshotDamaged],
    }
}

#[test]
fn a_harmed_tombstone_or_merge_costs_no_snapshot() {
    harm_all("forgotten/", in_a_tombstone);
    run(async { harm_merges(&Scene::create().await, usize::MAX).await });
}

fn in_a_tombstone(harm: Harm) -> Vec<FindingKind> {
    match harm {
        // The session's packs are needed by the last snapshot, and counted by the tombstone alone.
        Harm::Delete => vec![FindingKind::DecisionMissing],
        _ => vec![FindingKind::DecisionDamaged],
    }
}

async fn harm_merges(scene: &Scene, names_max: usize) {
    let names = scene.names("merges/").await;
    for (number, name) in names.iter().take(names_max).enumerate() {
        let other = &names[(number + 1) % names.len()];
        for harm in HARMS {
            let store = scene.harmed(harm, name, other).await;
            let repository = open(store.store()).await.expect("opens");
            let report = check(&repository, ReadData::All, &()).await.expect("checks");
            let damaged = report.findings.iter().any(|finding| finding.kind == FindingKind::DecisionDamaged);
            assert_eq!(damaged, harm != Harm::Delete, "{harm:?} {name}: {:#?}", report.findings);
            for (snapshot, streams) in &scene.snapshots {
                let back = get_back(&repository, snapshot).await.expect("restores");
                assert!(back == *streams, "{harm:?} {name}");
            }
        }
    }
}

#[test]
fn a_harmed_session_mark_costs_nothing() {
    run(async { harm_a_mark(Scene::create().await).await });
}

async fn harm_a_mark(mut scene: Scene) {
    // The marks of two interrupted runs: a crash leaves them behind.
    let mut marks = Vec::new();
    for seed in [7, 8] {
        let crashed = scene.store.fork(Stop::Before(12));
        let repository = open(crashed.store()).await.expect("opens");
        let streams = dumps::one("a", Random::seeded(seed).bytes(40_000_000));
        back_up(&repository, "crashed", &streams).await.expect_err("crashes");
        let name = crashed.names().await.into_iter().find(|name| name.starts_with("sessions/"));
        let name = name.expect("the mark stays");
        marks.push((name.clone(), crashed.read(&name).await));
    }
    for (name, bytes) in &marks {
        scene.store.write(name, bytes.clone()).await;
    }
    scene.store = scene.store.fork(Stop::Never);
    for harm in HARMS {
        let store = scene.harmed(harm, &marks[0].0, &marks[1].0).await;
        let expected = if harm == Harm::Delete { vec![] } else { vec![FindingKind::SessionDamaged] };
        scene.judge(&store, harm, &marks[0].0, &expected).await;
    }
}

#[test]
fn a_harmed_hold_costs_no_snapshot() {
    harm_all("holds/", in_a_hold);
}

fn in_a_hold(harm: Harm) -> Vec<FindingKind> {
    match harm {
        Harm::Delete => vec![],
        _ => vec![FindingKind::HoldDamaged],
    }
}

#[test]
fn one_harmed_object_of_each_kind_in_a_directory_is_found() {
    harm_one_of_each(Place::directory);
}

#[test]
fn one_harmed_object_of_each_kind_on_s3_is_found() {
    harm_one_of_each(Place::s3);
}

fn harm_one_of_each(place: fn() -> Place) {
    run(async {
        let scene = Scene::create_in(place(), 2).await;
        harm_some(&scene, "packs/", 1, in_a_data_pack).await;
        harm_some(&scene, "index/", 1, in_a_fragment).await;
        harm_some(&scene, "snapshots/", 1, in_a_snapshot).await;
        harm_some(&scene, "forgotten/", 1, in_a_tombstone).await;
        harm_some(&scene, "holds/", 1, in_a_hold).await;
        harm_meta_packs(&scene, 1).await;
        harm_merges(&scene, 1).await;
        harm_slots(&scene).await;
        harm_config(&scene).await;
        harm_a_mark(scene).await;
    });
}

#[test]
fn a_harmed_key_slot_is_found_and_the_other_key_opens() {
    run(async {
        let scene = Scene::create().await;
        harm_slots(&scene).await;
        // Every byte of a slot counts, also those that only its own secret opens.
        let first = &scene.names("keys/").await[0];
        let bytes = scene.store.read(first).await;
        for at in 0..bytes.len() {
            let store = scene.store.fork(Stop::Never);
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x80;
            store.write(first, wrong).await;
            for credential in [secret(), passphrase()] {
                if let Ok(repository) = Repository::open(store.store(), &credential, OpenOptions::default()).await {
                    let report = check(&repository, ReadData::Nothing, &()).await.expect("checks");
                    assert!(!report.findings.is_empty(), "byte {at} of {first} does not count");
                }
            }
        }
    });
}

async fn harm_slots(scene: &Scene) {
    let names = scene.names("keys/").await;
    let [first, second] = &names[..] else { panic!("two slots: {names:?}") };
    for (name, other) in [(first, second), (second, first)] {
        for harm in HARMS {
            let store = scene.harmed(harm, name, other).await;
            let mut opened = Vec::new();
            for credential in [secret(), passphrase()] {
                match Repository::open(store.store(), &credential, OpenOptions::default()).await {
                    Ok(repository) => opened.push(repository),
                    Err(Error::WrongKey { .. } | Error::Damaged { .. }) => {}
                    Err(error) => panic!("{harm:?} {name}: {error}"),
                }
            }
            match harm {
                Harm::Delete => assert_eq!(opened.len(), 1, "{name}"),
                // Neither opens any more: a slot is bound to its name.
                Harm::Swap => assert_eq!(opened.len(), 0, "{name}"),
                // What only hit the label leaves both.
                Harm::Truncate | Harm::Flip => assert!(!opened.is_empty(), "{harm:?} {name}"),
            }
            for repository in opened {
                let report = check(&repository, ReadData::Nothing, &()).await.expect("checks");
                let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
                let expected = if harm == Harm::Delete { vec![] } else { vec![FindingKind::SlotDamaged] };
                assert_eq!(kinds, expected, "{harm:?} {name}");
            }
        }
    }
}

#[test]
fn a_harmed_config_is_named() {
    run(async {
        let scene = Scene::create().await;
        harm_config(&scene).await;
        let store = scene.store.fork(Stop::Never);
        let mut newer = store.read("config").await;
        newer[8] = 2;
        store.write("config", newer).await;
        let error = open(store.store()).await.expect_err("does not open");
        assert!(matches!(error, Error::NewerFormat { version: 2, .. }), "{error}");
    });
}

async fn harm_config(scene: &Scene) {
    let other = scene.names("snapshots/").await.remove(0);
    for harm in HARMS {
        let store = scene.harmed(harm, "config", &other).await;
        let error = open(store.store()).await.expect_err("does not open");
        match harm {
            Harm::Delete => assert!(matches!(error, Error::NotARepository { .. }), "{error}"),
            _ => assert!(error.to_string().starts_with("config is damaged: "), "{error}"),
        }
    }
}

#[test]
fn a_chunk_that_lies_in_two_packs_is_read_from_the_one_that_is_whole() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(9).text(3_000_000));
        // Two backups that do not know of one another store the same chunks twice.
        let (first, second) = tokio::join!(back_up(&repository, "a", &streams), back_up(&repository, "b", &streams));
        let (first, second) = (first.expect("backs up"), second.expect("backs up"));
        let names: Vec<String> = store.names().await.into_iter().filter(|name| name.starts_with("packs/")).collect();
        assert_eq!(names.len(), 2, "both stored the chunks: {names:?}");
        for name in &names {
            let bytes = store.read(name).await;
            for at in (200..bytes.len()).step_by(100_000) {
                let store = store.fork(Stop::Never);
                let mut wrong = bytes.clone();
                wrong[at] ^= 1;
                store.write(name, wrong).await;
                let repository = open(store.store()).await.expect("opens");
                for snapshot in [&first, &second] {
                    let back = get_back(&repository, snapshot).await.expect("restores from the other pack");
                    assert!(back == streams);
                }
                let report = check(&repository, ReadData::All, &()).await.expect("checks");
                let [finding] = &report.findings[..] else { panic!("{:#?}", report.findings) };
                assert_eq!((finding.kind, &finding.object), (FindingKind::PackDamaged, name));
                assert!(finding.snapshots.is_empty(), "what restores is not hurt: {finding:#?}");
            }
        }
    });
}
