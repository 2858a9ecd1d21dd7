//! Forgets snapshots by id. What they alone needed stays until a prune.
//!
//! A snapshot object is also the decision by which its session's fragments count, and later snapshots rely on those. So
//! first a tombstone is put, which keeps them counting and takes the snapshot away in one step; then the object is
//! deleted. A request of the old commit that arrives late cannot bring the snapshot back: the tombstone stands.

use crate::edges::store::Created;
use crate::edges::system::now_ms;
use crate::format::decision::TombstoneRecord;
use crate::format::names::{self, FORGOTTEN, INDEX, SNAPSHOTS};
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Decision};
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use crate::words::limits::RECORD_BYTES_MAX;

/// Forgets a snapshot, also one that does not open. Doing it twice, or on two hosts at once, does it once.
///
/// # Errors
/// [`Error::NotFound`]: there is no such snapshot, and it was not forgotten before. [`Error::Store`]: it may or may not be
/// forgotten; doing it again is safe.
pub async fn forget(repository: &Repository, id: SnapshotId) -> Result<()> {
    let name = names::of_session(FORGOTTEN, id);
    let tombstone = match snapshots::read(repository, SNAPSHOTS, id).await? {
        Some(Decision::Snapshot(record)) => TombstoneRecord {
            forgotten_ms: now_ms(),
            source: record.source,
            taken_ms: record.started_ms,
            fragments_n: record.fragments_n,
        },
        Some(Decision::Unreadable(_)) => TombstoneRecord {
            forgotten_ms: now_ms(),
            source: String::new(),
            taken_ms: 0,
            fragments_n: fragments_n(repository, id).await?,
        },
        None if repository.store.get(&name, RECORD_BYTES_MAX).await?.is_some() => return Ok(()),
        Some(Decision::Fence(_) | Decision::Merge(_)) | None => {
            let hint = "; it is not there, or was never committed".to_owned();
            return Err(Error::NotFound { what: "snapshot", name: id.to_string(), hint });
        }
    };
    match repository.store.create(&name, repository.seal(&name, &tombstone)?).await? {
        Created::Yes => {}
        // Somebody else forgets it too, and their tombstone says the same; one that does not open says nothing.
        Created::Taken => drop(snapshots::read_tombstone(repository, id).await?),
    }
    repository.store.delete(&names::of_session(SNAPSHOTS, id)).await
}

/// Counts the fragments of a session by their names.
async fn fragments_n(repository: &Repository, id: SnapshotId) -> Result<u32> {
    let listed = repository.store.list(INDEX).await?;
    let numbers = listed.iter().filter_map(|object| names::parse_fragment(&object.name));
    Ok(numbers.filter(|name| name.session == id).map(|name| name.number + 1).max().unwrap_or(0))
}
