//! Random sequences of operations, beside a plain model in memory: the repository must always say what the model says.

use crate::kit::dumps::{self, Streams};
use crate::kit::random::Random;
use crate::kit::servers::S3s;
use crate::kit::{back_up, get_back, run, s3_options, secret, snapshots};
use dedump_core::{
    ChunkerKind, ChunkerParams, CreateOptions, Filter, OpenOptions, ReadData, Repository, SnapshotId, Store, check,
    forget, reindex, stats,
};
use std::collections::BTreeMap;

/// Chunks of a few hundred bytes, so that a small dump has deep manifests.
pub fn small_chunks() -> ChunkerParams {
    ChunkerParams { kind: ChunkerKind::FastCdc, min_bytes: 64, avg_bytes: 256, max_bytes: 1024, normalization: 1 }
}

struct Model {
    store: Store,
    repository: Repository,
    random: Random,
    /// What the database holds now.
    streams: Streams,
    /// What must be in the repository.
    expected: BTreeMap<SnapshotId, Streams>,
}

impl Model {
    async fn create(seed: u64, store: Store) -> Model {
        let options = CreateOptions { chunker: small_chunks(), threads_n: 2, ..CreateOptions::default() };
        let repository = Repository::create(store.clone(), &secret(), options).await.expect("creates");
        let mut random = Random::seeded(seed);
        let streams = ["a", "dir/b"].map(|name| (name.to_owned(), random.text(300_000))).into();
        Model { store, repository, random, streams, expected: BTreeMap::new() }
    }

    async fn step(&mut self) {
        match self.random.below(12) {
            0..=2 => self.edit(),
            3..=5 => {
                let snapshot = back_up(&self.repository, "s", &self.streams).await.expect("backs up");
                self.expected.insert(snapshot.id, self.streams.clone());
            }
            6 => self.forget_one().await,
            7..=8 => self.restore_one().await,
            9 => {
                let read_data = if self.random.below(2) == 0 { ReadData::Nothing } else { ReadData::All };
                let report = check(&self.repository, read_data, &()).await.expect("checks");
                assert_eq!(report.findings, []);
                assert_eq!(report.notes, Vec::<String>::new());
                assert_eq!(report.snapshots_n, self.expected.len() as u64);
            }
            10 => {
                let report = reindex(&self.repository, "host", &()).await.expect("reindexes");
                assert_eq!(report.unreadable, Vec::<String>::new());
            }
            _ => {
                self.repository =
                    Repository::open(self.store.clone(), &secret(), OpenOptions { threads_n: 2, cache: None })
                        .await
                        .expect("opens again");
                let counted = stats(&self.repository, &Filter::default(), &()).await.expect("counts");
                let bytes = self.expected.values().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>();
                assert_eq!(counted.bytes, bytes as u64);
            }
        }
    }

    fn edit(&mut self) {
        let names: Vec<String> = self.streams.keys().cloned().collect();
        let name = &names[self.random.below(names.len())];
        match self.random.below(8) {
            0 if names.len() > 1 => {
                self.streams.remove(name);
            }
            1 => {
                let new_n = self.random.below(50_000);
                let new = self.random.text(new_n);
                self.streams.insert(format!("s{}", self.random.below(5)), new);
            }
            _ => dumps::edit(&mut self.random, self.streams.get_mut(name).expect("is there")),
        }
    }

    async fn forget_one(&mut self) {
        let all = snapshots(&self.repository).await.expect("lists");
        if !all.is_empty() {
            let snapshot = &all[self.random.below(all.len())];
            forget(&self.repository, snapshot.id).await.expect("forgets");
            self.expected.remove(&snapshot.id);
        }
    }

    async fn restore_one(&mut self) {
        let all = snapshots(&self.repository).await.expect("lists");
        let mut ids: Vec<_> = all.iter().map(|snapshot| snapshot.id).collect();
        ids.sort();
        assert!(ids.iter().eq(self.expected.keys()), "exactly the expected snapshots stand");
        if !all.is_empty() {
            let snapshot = &all[self.random.below(all.len())];
            let found = get_back(&self.repository, snapshot).await.expect("restores");
            assert!(found == self.expected[&snapshot.id], "snapshot {} is another", snapshot.id);
        }
    }
}

fn play(seed: u64, steps_n: usize, store: Store) {
    run(async {
        let mut model = Model::create(seed, store).await;
        for _ in 0..steps_n {
            model.step().await;
        }
        for snapshot in snapshots(&model.repository).await.expect("lists") {
            let found = get_back(&model.repository, &snapshot).await.expect("restores");
            assert!(found == model.expected[&snapshot.id]);
        }
    });
}

#[test]
fn random_sequences_agree_with_the_model_in_memory() {
    for seed in 0..8 {
        play(seed, 60, Store::memory());
    }
}

#[test]
fn random_sequences_agree_with_the_model_on_disk() {
    for seed in 100..102 {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let store = Store::create_local(directory.path().join("repository")).expect("creates");
        play(seed, 60, store);
    }
}

#[test]
fn random_sequences_agree_with_the_model_on_s3() {
    let s3s = S3s::start();
    s3s.create_bucket("backups");
    for seed in 200..202 {
        let store = Store::at(&format!("s3://backups/{seed}"), &s3_options(&s3s.endpoint(), S3s::KEY));
        play(seed, 40, store.expect("opens"));
    }
}
