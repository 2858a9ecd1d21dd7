//! Forgets snapshots by id. What they alone needed stays until a prune.
//!
//! A snapshot object is also the decision by which its session's fragments count, and later snapshots rely on those. So
//! first a tombstone is put, which keeps them counting and takes the snapshot away in one step; then the object is
//! deleted. A request of the old commit that arrives late cannot bring the snapshot back: the tombstone stands.

use crate::edges::store::Created;
use crate::edges::system::now_ms;
use crate::format::decision::TombstoneRecord;
use crate::format::names::{self, FORGOTTEN, SNAPSHOTS};
use crate::state::repository::Repository;
use crate::state::snapshots::Snapshot;
use crate::words::error::Result;

/// Forgets a snapshot. Doing it twice, or on two hosts at once, does it once.
///
/// # Errors
/// [`Error::Store`](crate::Error::Store): it may or may not be forgotten; doing it again is safe.
pub async fn forget(repository: &Repository, snapshot: &Snapshot) -> Result<()> {
    let tombstone = TombstoneRecord {
        forgotten_ms: now_ms(),
        source: snapshot.record.source.clone(),
        taken_ms: snapshot.record.started_ms,
        fragments_n: snapshot.record.fragments_n,
    };
    let name = names::of_session(FORGOTTEN, snapshot.id);
    match repository.store.create(&name, repository.seal(&name, &tombstone)?).await? {
        // Taken: somebody else forgets it too, and their tombstone says the same.
        Created::Yes | Created::Taken => {}
    }
    repository.store.delete(&names::of_session(SNAPSHOTS, snapshot.id)).await
}
