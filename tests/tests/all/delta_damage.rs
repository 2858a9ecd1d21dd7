//! Deltas whose bases are gone or damaged, and chains that nobody but a forger makes: named, never followed round and round,
//! and never wrong bytes.

use crate::kit::dumps::{self, Streams};
use crate::kit::places::Place;
use crate::kit::random::Random;
use crate::kit::rows::Table;
use crate::kit::watched::Watched;
use crate::kit::{back_up, back_up_as, create, get_back, in_time, open, run};
use crate::restore::keys_of;
use dedump_core::internals::compress::{DeltaCompressor, Effort, Encoding};
use dedump_core::internals::contents::{BaseEntry, ChunkEntry};
use dedump_core::internals::keys::Keys;
use dedump_core::internals::names::{self, PackKind};
use dedump_core::internals::pack::{Delta, EncodedBlob, PackWriter};
use dedump_core::internals::{fragment, record::Sealer};
use dedump_core::{ChunkId, DeltaMode, Error, FindingKind, ReadData, Repository, Snapshot, check};
use std::collections::BTreeSet;

/// Two days of a table, the second all deltas against the first.
struct TwoDays {
    store: Watched,
    repository: Repository,
    table: Table,
    days: Vec<(Snapshot, Streams)>,
    /// The name of the pack that has all the first day's chunks.
    first_pack: String,
}

impl TwoDays {
    async fn create(place: Place, seed: u64) -> TwoDays {
        let store = Watched::create_in(place);
        let repository = create(store.store()).await.expect("creates");
        let (mut table, mut days) = (Table::create(seed, 100_000), Vec::new());
        let mut first_pack = None;
        for _ in 0..2 {
            table.change();
            let streams = dumps::one("t", table.dump());
            let snapshot = back_up_as(&repository, DeltaMode::Always, &streams).await.expect("backs up").snapshot;
            days.push((snapshot, streams));
            let packs: Vec<String> =
                store.names().await.into_iter().filter(|name| name.starts_with("packs/")).collect();
            assert_eq!(packs.len(), days.len(), "one a day: {packs:?}");
            first_pack.get_or_insert_with(|| packs[0].clone());
        }
        assert!(days[1].0.record.totals.depths[1] > 0, "there are deltas");
        let first_pack = first_pack.expect("there were days");
        TwoDays { store, repository, table, days, first_pack }
    }

    fn ids(&self) -> BTreeSet<dedump_core::SnapshotId> {
        self.days.iter().map(|(snapshot, _)| snapshot.id).collect()
    }
}

#[test]
fn a_missing_base_pack_hurts_both_days_and_a_backup_heals_what_it_has() {
    lose_a_base_pack(Place::memory);
    lose_a_base_pack(Place::directory);
}

#[test]
fn a_missing_base_pack_on_s3_hurts_both_days_and_a_backup_heals_what_it_has() {
    lose_a_base_pack(Place::s3);
}

fn lose_a_base_pack(place: fn() -> Place) {
    run(async {
        let scene = TwoDays::create(place(), 1).await;
        let TwoDays { store, repository, days, first_pack, .. } = &scene;
        store.remove(first_pack).await;
        for read_data in [ReadData::Nothing, ReadData::All] {
            let findings = in_time(check(repository, read_data, &())).await.expect("checks").findings;
            let [finding] = &findings[..] else { panic!("{read_data:?}: the cause alone: {findings:#?}") };
            assert_eq!((finding.kind, &finding.object), (FindingKind::PackMissing, first_pack));
            assert_eq!(finding.snapshots, scene.ids(), "{read_data:?}");
        }
        let (second, streams) = &days[1];
        let error = in_time(get_back(repository, second)).await.expect_err("its bases are gone");
        assert!(matches!(error, Error::Missing { .. }), "{error}");

        let report = back_up_as(repository, DeltaMode::Always, streams).await.expect("backs up");
        let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
        assert!(problem.contains("packs are missing (1)"), "{problem}");
        let (totals, whole_n) = (&report.snapshot.record.totals, second.record.totals.depths[0]);
        assert_eq!(totals.chunks_new_n, totals.chunks_n - whole_n, "what can't be read is stored again");
        assert!(whole_n * 10 < totals.chunks_n, "nearly all of the second day needed the lost pack: {whole_n}");
        for snapshot in [&report.snapshot, second] {
            assert!(get_back(repository, snapshot).await.expect("restores") == *streams);
        }
    });
}

#[test]
fn a_damaged_base_pack_is_named_and_later_days_do_without_it() {
    damage_a_base_pack(Place::memory);
    damage_a_base_pack(Place::directory);
}

#[test]
fn a_damaged_base_pack_on_s3_is_named_and_later_days_do_without_it() {
    damage_a_base_pack(Place::s3);
}

fn damage_a_base_pack(place: fn() -> Place) {
    run(async {
        let mut scene = TwoDays::create(place(), 2).await;
        let mut bytes = scene.store.read(&scene.first_pack).await;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        scene.store.write(&scene.first_pack, bytes).await;
        let repository = &scene.repository;
        let findings = in_time(check(repository, ReadData::All, &())).await.expect("checks").findings;
        let [finding] = &findings[..] else { panic!("the cause alone: {findings:#?}") };
        assert_eq!((finding.kind, &finding.object), (FindingKind::PackDamaged, &scene.first_pack));
        assert_eq!(finding.snapshots, scene.ids());
        let (second, streams) = &scene.days[1];
        let error = in_time(get_back(repository, second)).await.expect_err("a base is damaged");
        assert!(matches!(error, Error::Damaged { .. }), "{error}");

        // It is the same chunks that a second backup of the day finds: it can't know, and gives no wrong bytes.
        let again = back_up_as(repository, DeltaMode::Always, streams).await.expect("backs up").snapshot;
        assert!(get_back(repository, &again).await.is_err_and(|error| error.is_damage()));

        scene.table.change();
        let third = dumps::one("t", scene.table.dump());
        let report = in_time(back_up_as(repository, DeltaMode::Always, &third)).await.expect("backs up");
        assert!(report.problems.iter().any(|problem| problem.contains(&scene.first_pack)), "{:?}", report.problems);
        let depths = &report.snapshot.record.totals.depths;
        assert!(
            depths[0] > 0 && depths[1..].iter().sum::<u64>() > 0,
            "whole where it must, deltas elsewhere: {depths:?}"
        );
        assert!(get_back(repository, &report.snapshot).await.expect("none of its chunks is old") == third);
    });
}

/// Makes the blobs of a forged pack.
struct Forger {
    keys: Keys,
    /// What the snapshot is made of: one chunk.
    plain: Vec<u8>,
}

impl Forger {
    fn id(&self, plain: &[u8]) -> ChunkId {
        self.keys.chunk_id(plain)
    }

    /// Returns the entry of a chunk as a base, all of it.
    fn base(&self, plain: &[u8]) -> BaseEntry {
        BaseEntry { id: self.id(plain), start: 0, plain_bytes: plain.len() as u32 }
    }

    fn whole(&self, plain: &[u8]) -> EncodedBlob {
        let plain_bytes = plain.len() as u32;
        let chunks = vec![ChunkEntry { id: self.id(plain), plain_bytes }];
        EncodedBlob { encoding: Encoding::Stored, encoded: plain.to_vec(), plain_bytes, chunks, delta: None }
    }

    /// Returns a delta that decodes with this prefix, whatever it says of its base.
    fn delta(&self, plain: &[u8], prefix: &[u8], depth: u8, generation: u32, base: BaseEntry) -> EncodedBlob {
        let encoded =
            DeltaCompressor::new(Effort::Level(3)).expect("set up").compress(plain, prefix).expect("compresses");
        let delta = Delta { depth, generation, bases: vec![base], likes: vec![0] };
        EncodedBlob { encoding: Encoding::ZstdPrefix, encoded, delta: Some(delta), ..self.whole(plain) }
    }
}

/// A repository in which somebody with its keys has put other blobs in the place of the only data pack.
struct Forged {
    repository: Repository,
    snapshot: Snapshot,
    plain: Vec<u8>,
}

impl Forged {
    async fn create(blobs: impl FnOnce(&Forger) -> Vec<EncodedBlob>) -> Forged {
        Self::create_in(Place::memory(), blobs).await
    }

    async fn create_in(place: Place, blobs: impl FnOnce(&Forger) -> Vec<EncodedBlob>) -> Forged {
        let store = Watched::create_in(place);
        let repository = create(store.store()).await.expect("creates");
        let plain = Random::seeded(3).text(4000);
        let snapshot = back_up(&repository, "s", &dumps::one("t", plain.clone())).await.expect("backs up");
        let forger = Forger { keys: keys_of(&store, &repository).await, plain };
        let sealer = Sealer { repository: repository.id(), keys: &forger.keys };

        let mut writer = PackWriter::create(PackKind::Data, sealer, [4; 32], Vec::new());
        blobs(&forger).into_iter().for_each(|blob| writer.push(blob));
        let (forged, bytes) = writer.finish();
        store.write(&names::pack(PackKind::Data, forged.info.id), bytes).await;

        let fragment = store.names().await.iter().find_map(|name| names::parse_fragment(name)).expect("there is one");
        let name = names::fragment(fragment);
        let mut packs = fragment::open(sealer, fragment, &store.read(&name).await).expect("opens");
        let data = packs.iter().position(|pack| pack.info.kind == PackKind::Data).expect("there is one");
        store.remove(&names::pack(PackKind::Data, packs[data].info.id)).await;
        packs[data] = forged;
        store.write(&name, fragment::seal(sealer, fragment, [5; 32], &packs)).await;
        let repository = open(store.store()).await.expect("opens");
        Forged { repository, snapshot, plain: forger.plain }
    }

    /// Asserts that the snapshot is found hurt, for the reason that the error of its restore gives, and that the next day does
    /// without the chain.
    async fn judge(&self, checks: &[ReadData], kinds: &[FindingKind], why: &str) {
        for read_data in checks {
            let findings = in_time(check(&self.repository, *read_data, &())).await.expect("checks").findings;
            let hurt: Vec<_> =
                findings.iter().filter(|finding| finding.snapshots.contains(&self.snapshot.id)).collect();
            let [finding] = hurt[..] else { panic!("{read_data:?}: {findings:#?}") };
            assert!(kinds.contains(&finding.kind), "{read_data:?}: {finding:#?}");
        }
        let error = in_time(get_back(&self.repository, &self.snapshot)).await.expect_err("it can't be restored");
        assert!(error.is_damage() && error.to_string().contains(why), "{error}");

        let mut changed = self.plain.clone();
        changed[2000..2010].copy_from_slice(b"0123456789");
        let changed = dumps::one("t", changed);
        let next = in_time(back_up_as(&self.repository, DeltaMode::Always, &changed)).await.expect("backs up").snapshot;
        assert_eq!(next.record.totals.depths, [1], "no delta against what can't be read");
        assert!(get_back(&self.repository, &next).await.expect("restores") == changed);
    }
}

const BOTH: [ReadData; 2] = [ReadData::Nothing, ReadData::All];

/// Another chunk than the snapshot's.
fn other(seed: u64) -> Vec<u8> {
    Random::seeded(seed).text(3000)
}

#[test]
fn a_delta_that_is_its_own_base_is_damage() {
    run(async {
        // Generation 7: the next day's delta must not be against it, but against what led to it: itself, and so on.
        for generation in [1, 7] {
            for place in [Place::memory(), Place::s3()] {
                let forged = Forged::create_in(place, |forger| {
                    let plain = &forger.plain;
                    vec![forger.delta(plain, plain, 1, generation, forger.base(plain))]
                });
                forged.await.judge(&BOTH, &[FindingKind::ChainDamaged], "or need it themselves").await;
            }
        }
    });
}

#[test]
fn deltas_that_are_bases_of_one_another_are_damage() {
    run(async {
        let forged = Forged::create(|forger| {
            let (plain, other) = (&forger.plain, other(4));
            vec![
                forger.delta(plain, &other, 2, 7, forger.base(&other)),
                forger.delta(&other, plain, 1, 7, forger.base(plain)),
            ]
        });
        forged.await.judge(&BOTH, &[FindingKind::ChainDamaged], "or need it themselves").await;
    });
}

#[test]
fn a_base_that_lies_deeper_by_now_still_serves() {
    run(async {
        let forged = Forged::create(|forger| {
            let (plain, other, last) = (&forger.plain, other(5), other(6));
            vec![
                forger.whole(&last),
                forger.delta(&other, &last, 2, 1, forger.base(&last)),
                forger.delta(plain, &other, 1, 1, forger.base(&other)),
            ]
        });
        // It was whole when the delta was made, and that copy is lost: what counts is whether it can be decoded.
        let forged = forged.await;
        for read_data in BOTH {
            let findings = check(&forged.repository, read_data, &()).await.expect("checks").findings;
            assert!(findings.iter().all(|finding| finding.snapshots.is_empty()), "{findings:#?}");
        }
        let back = get_back(&forged.repository, &forged.snapshot).await.expect("restores");
        assert!(back == dumps::one("t", forged.plain.clone()));
    });
}

#[test]
fn a_base_that_is_shorter_than_its_part_is_damage() {
    run(async {
        // The part begins inside, and its end is one byte beyond.
        let forged = Forged::create(|forger| {
            let (plain, other) = (&forger.plain, other(7));
            let base = BaseEntry { start: 1000, plain_bytes: 2001, ..forger.base(&other) };
            // What follows in the blob must not be taken for the chunk's.
            let mut both = forger.whole(&[&other[..], b"more"].concat());
            let more = ChunkEntry { id: forger.id(b"more"), plain_bytes: 4 };
            both.chunks = vec![ChunkEntry { id: forger.id(&other), plain_bytes: 3000 }, more];
            vec![both, forger.delta(plain, &[&other[1000..], b"m"].concat(), 1, 1, base)]
        });
        forged.await.judge(&BOTH, &[FindingKind::ChainDamaged], "has only 3000 bytes").await;
    });
}

#[test]
fn a_base_that_is_nowhere_is_named() {
    run(async {
        let forged = Forged::create(|forger| {
            let (plain, other) = (&forger.plain, other(8));
            vec![forger.delta(plain, &other, 1, 1, forger.base(&other))]
        });
        let kinds = [FindingKind::ChainDamaged, FindingKind::ChunkMissing];
        forged.await.judge(&BOTH, &kinds, "was compressed against it").await;
    });
}

#[test]
fn a_delta_of_another_base_gives_no_wrong_bytes() {
    run(async {
        let forged = Forged::create(|forger| {
            let (plain, right, wrong) = (&forger.plain, other(9), other(10));
            // All of the prefix is needed, so whatever decodes is something else.
            let plain = plain.clone();
            vec![
                forger.whole(&wrong),
                forger.delta(&plain, &[&plain[..1500], &right[..1500]].concat(), 1, 1, forger.base(&wrong)),
            ]
        });
        // Only who decodes it can see it.
        forged.await.judge(&[ReadData::All], &[FindingKind::ChainDamaged], "is damaged").await;
    });
}
