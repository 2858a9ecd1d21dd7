//! Every operation can be given to a runtime of several threads as a task of its own: its future is `Send` and borrows nothing
//! that must be. That this file compiles is the test.

use crate::kit::dumps::{Streams, StreamsEngine};
use crate::kit::{create, run, secret};
use dedump_core::{
    BackupOptions, CreateOptions, Filter, OpenOptions, PruneOptions, ReadData, Repository, RestoreOptions, SessionId,
    Snapshot, Store, WriterTarget, backup, check, diff, find, forget, forget_all, list, list_keys, list_sessions,
    plan_prune, probe_store, prune, reindex, release, restore, stats,
};
use std::time::Duration;

/// Gives the work to the runtime, and stops it at once.
macro_rules! spawn {
    ($repository:ident, $work:expr) => {{
        let $repository = $repository.clone();
        tokio::spawn(async move { drop($work.await) }).abort();
    }};
}

#[test]
fn every_operation_can_be_spawned() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        tokio::spawn(async { drop(Repository::create(Store::memory(), &secret(), CreateOptions::default()).await) })
            .abort();
        tokio::spawn(async { drop(Repository::open(Store::memory(), &secret(), OpenOptions::default()).await) })
            .abort();
        spawn!(repository, backup(&repository, &StreamsEngine(Streams::new()), &BackupOptions::new("s", "h"), &()));
        spawn!(repository, list(&repository, &Filter::default()));
        spawn!(repository, find(&repository, "latest", &Filter::default()));
        spawn!(repository, restored(&repository));
        spawn!(repository, forget(&repository, SessionId([1; 16])));
        spawn!(repository, forget_all(&repository, &[SessionId([1; 16])], &()));
        spawn!(repository, release(&repository, SessionId([1; 16])));
        spawn!(repository, prune(&repository, &PruneOptions::new("h"), &()));
        spawn!(repository, plan_prune(&repository, &PruneOptions::new("h"), &()));
        spawn!(repository, list_sessions(&repository, Duration::ZERO));
        spawn!(repository, check(&repository, ReadData::All, &()));
        spawn!(repository, probe_store(&repository));
        spawn!(repository, reindex(&repository, "h", &()));
        spawn!(repository, stats(&repository, &Filter::default(), &()));
        spawn!(repository, list_keys(&repository));
    });
}

async fn restored(repository: &Repository) -> dedump_core::Result<()> {
    let snapshot: Snapshot = find(repository, "latest", &Filter::default()).await?;
    let mut target = WriterTarget(Vec::new());
    drop(diff(repository, &snapshot, &snapshot, &()).await?);
    restore(repository, &snapshot, &RestoreOptions::default(), &mut target, &()).await.map(drop)
}
