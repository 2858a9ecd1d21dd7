//! Forgets snapshots by id. What they alone needed stays until a prune.
//!
//! A snapshot object is also the decision by which its session's fragments count, and later snapshots rely on those. So
//! first a tombstone is put, which keeps them counting and takes the snapshot away in one step; then the object is
//! deleted. A request of the old commit that arrives late cannot bring the snapshot back: the tombstone stands.
//!
//! What is held is not forgotten. `operations::hold` tells how the two meet.

use crate::edges::progress::{Event, Progress};
use crate::edges::store::Created;
use crate::edges::system::now_ms;
use crate::format::decision::TombstoneRecord;
use crate::format::names::{self, FORGOTTEN, HOLDS, INDEX, SNAPSHOTS};
use crate::state::holds::{self, Hold};
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Decision};
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use crate::words::limits::{READS_MAX, RECORD_BYTES_MAX};
use futures::{StreamExt, stream};

/// What else a forget met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// A hold on the snapshot that had ended; it is deleted.
    pub ended: Option<Hold>,
    /// A hold that was put while the snapshot was being forgotten, too late to keep it; it is left.
    pub overtaken: Option<Hold>,
}

/// Forgets a snapshot, also one that does not open. Doing it twice, or on two hosts at once, does it once.
///
/// # Errors
/// [`Error::NotFound`]: there is no such snapshot, and it was not forgotten before. [`Error::Held`]: somebody holds it, and it
/// stands. [`Error::Store`]: it may or may not be forgotten; doing it again is safe.
pub async fn forget(repository: &Repository, id: SnapshotId) -> Result<Forgotten> {
    let name = names::of_session(FORGOTTEN, id);
    let tombstone = match snapshots::read(repository, SNAPSHOTS, id).await? {
        Some(Decision::Snapshot(record)) => TombstoneRecord {
            forgotten_ms: now_ms(),
            source: record.source,
            taken_ms: record.started_ms,
            fragments_n: record.fragments_n,
            origin: record.origin,
        },
        Some(Decision::Unreadable(_)) => TombstoneRecord {
            forgotten_ms: now_ms(),
            source: String::new(),
            taken_ms: 0,
            fragments_n: fragments_n(repository, id).await?,
            origin: None,
        },
        None if repository.store.get(&name, RECORD_BYTES_MAX).await?.is_some() => {
            return look_for_holds(repository, id, now_ms()).await;
        }
        Some(Decision::Fence(_) | Decision::Merge(_)) | None => {
            let hint = "; it is not there, or was never committed".to_owned();
            return Err(Error::NotFound { what: "snapshot", name: id.to_string(), hint });
        }
    };
    let held = holds::read(repository, id).await?;
    // Where a tombstone stands already, the hold came too late, and what is left to do is the deletion.
    if let Some(hold) = held.as_ref().filter(|hold| hold.holds_at(tombstone.forgotten_ms))
        && !snapshots::is_forgotten(repository, id).await?
    {
        return Err(Error::Held { snapshot: id.short(), why: hold.to_string() });
    }
    match repository.store.create(&name, repository.seal(&name, &tombstone)?).await? {
        Created::Yes => {}
        // Somebody else forgets it too, and their tombstone says the same; one that does not open says nothing.
        Created::Taken => match snapshots::read_tombstone(repository, id).await {
            Ok(Some(_)) => {}
            // The deletion without a tombstone would take chunks from others.
            Err(Error::Damaged { object, why }) => {
                let why = format!("{why}; as the snapshot still stands, delete that object and forget it again");
                return Err(Error::Damaged { object, why });
            }
            Err(error) => return Err(error),
            Ok(None) => return Err(Error::Conflict(format!("{name} can be neither written nor read; try again"))),
        },
    }
    repository.store.delete(&names::of_session(SNAPSHOTS, id)).await?;
    look_for_holds(repository, id, tombstone.forgotten_ms).await
}

/// Looks for a hold on a snapshot that is gone: one that has ended goes too, another came too late and tells of it.
async fn look_for_holds(repository: &Repository, id: SnapshotId, now_ms: i64) -> Result<Forgotten> {
    let (ended, overtaken) = match holds::read(repository, id).await? {
        Some(hold) if !hold.holds_at(now_ms) => (Some(hold), None),
        other => (None, other),
    };
    if ended.is_some() {
        repository.store.delete(&names::of_session(HOLDS, id)).await?;
    }
    Ok(Forgotten { ended, overtaken })
}

/// Forgets several snapshots, some at once; says of each, in their order, how that went. One that fails hinders no other.
pub async fn forget_all(
    repository: &Repository,
    ids: &[SnapshotId],
    progress: &dyn Progress,
) -> Vec<(SnapshotId, Result<Forgotten>)> {
    progress.event(Event::Planned { objects_n: ids.len() as u64, bytes: 0 });
    let outcomes = stream::iter(ids.iter().copied()).map(|id| async move {
        let outcome = forget(repository, id).await;
        progress.event(Event::Done { bytes: 0 });
        (id, outcome)
    });
    outcomes.buffered(READS_MAX).collect().await
}

/// Counts the fragments of a session by their names.
async fn fragments_n(repository: &Repository, id: SnapshotId) -> Result<u32> {
    let listed = repository.store.list(INDEX).await?;
    let numbers = listed.iter().filter_map(|object| names::parse_fragment(&object.name));
    Ok(numbers.filter(|name| name.session == id).map(|name| name.number + 1).max().unwrap_or(0))
}
