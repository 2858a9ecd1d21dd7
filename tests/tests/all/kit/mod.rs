//! What several tests share: seeded randomness, dumps to back up, stores that watch and fail.

pub mod clickhouse;
pub mod databases;
pub mod dumps;
pub mod front;
pub mod gcs;
pub mod mongo;
pub mod mongo_dumps;
pub mod mysql;
pub mod places;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod rows;
pub mod servers;
pub mod simulated;
pub mod sqlite;
pub mod tree;
pub mod watched;

use dedump_core::{
    BackupOptions, BackupReport, Cache, CreateOptions, Credential, DeltaMode, Filter, OpenOptions, Repository,
    RestoreOptions, Result, Snapshot, Store, StoreOptions, WriterTarget, backup, list, restore,
};
use std::time::Duration;

/// Runs a test's future on a runtime of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(test)
}

/// Longer than anything should take; what hangs in a test would hang for longer still.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must end by itself.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it hangs")
}

/// The key of all test repositories.
pub fn secret() -> Credential {
    let text = format!("dedump-key-1:{}\n", "07".repeat(32));
    Credential::from_key_file_text(&text).expect("a well-formed key file")
}

/// Creates a repository that cuts chunks of about 64 KiB, as the default is.
pub async fn create(store: Store) -> Result<Repository> {
    Repository::create(store, &secret(), CreateOptions { threads_n: 2, ..CreateOptions::default() }).await
}

/// Opens a repository of these tests.
pub async fn open(store: Store) -> Result<Repository> {
    Repository::open(store, &secret(), OpenOptions { threads_n: 2, cache: None }).await
}

/// Opens a repository of these tests with a local cache, as a new process does.
pub async fn open_cached(store: Store, cache: &Cache) -> Result<Repository> {
    Repository::open(store, &secret(), OpenOptions { threads_n: 2, cache: Some(cache.clone()) }).await
}

/// Backs up these streams as the next snapshot of a source.
pub async fn back_up(repository: &Repository, source: &str, streams: &dumps::Streams) -> Result<Snapshot> {
    let engine = dumps::StreamsEngine(streams.clone());
    Ok(backup(repository, &engine, &BackupOptions::new(source, "host"), &()).await?.snapshot)
}

/// Backs up these streams as the next snapshot of the source `s`, with deltas or without.
pub async fn back_up_as(repository: &Repository, delta: DeltaMode, streams: &dumps::Streams) -> Result<BackupReport> {
    let options = BackupOptions { delta, ..BackupOptions::new("s", "host") };
    backup(repository, &dumps::StreamsEngine(streams.clone()), &options, &()).await
}

/// Restores a whole snapshot into memory.
pub async fn get_back(repository: &Repository, snapshot: &Snapshot) -> Result<dumps::Streams> {
    let mut streams = dumps::Streams::new();
    for stream in &snapshot.record.streams {
        let options = RestoreOptions { streams: vec![stream.name.clone()], ..RestoreOptions::default() };
        let mut target = WriterTarget(Vec::new());
        restore(repository, snapshot, &options, &mut target, &()).await?;
        streams.insert(stream.name.clone(), target.0);
    }
    Ok(streams)
}

/// Lists all snapshots, oldest first.
pub async fn snapshots(repository: &Repository) -> Result<Vec<Snapshot>> {
    Ok(list(repository, &Filter::default()).await?.snapshots)
}

/// Returns options for a server on this machine, with these settings.
pub fn store_options(settings: &[(&str, &str)]) -> StoreOptions {
    let mut options = StoreOptions::default();
    options.allow_http = true;
    options.settings.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    options
}

/// Returns options for a server that speaks S3; the key is its own secret.
pub fn s3_options(endpoint: &str, key: &str) -> StoreOptions {
    let place = [("endpoint", endpoint), ("region", "us-east-1")];
    store_options(&[place, [("access_key_id", key), ("secret_access_key", key)]].concat())
}
