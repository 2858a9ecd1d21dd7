//! Which snapshots stand, and which sessions' fragments count.
//!
//! A snapshot stands if its object is there and no tombstone is. A session's fragments count if it was decided, and not by
//! a fence; a tombstone keeps them counting after the snapshot is gone, since later snapshots rely on them.

use super::known::Listed;
use super::repository::Repository;
use crate::format::decision::{FenceRecord, MergeRecord, TombstoneRecord};
use crate::format::header::ObjectType;
use crate::format::names::{self, FORGOTTEN, FragmentName, MERGES, SNAPSHOTS};
use crate::format::record;
use crate::format::snapshot::SnapshotRecord;
use crate::words::error::{Error, Result};
use crate::words::id::{SessionId, SnapshotId};
use crate::words::limits::{READS_MAX, RECORD_BYTES_MAX};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;

/// A committed backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id: the session's that committed it.
    pub id: SnapshotId,
    /// What it says.
    pub record: SnapshotRecord,
}

/// What a decision object turned out to be.
#[derive(Debug)]
pub enum Decision {
    /// A backup committed.
    Snapshot(Box<SnapshotRecord>),
    /// Another run committed.
    Merge(MergeRecord),
    /// The session may never commit.
    Fence(FenceRecord),
    /// The object does not open.
    Unreadable(Error),
}

/// The snapshots that stand, oldest first, and what could not be read.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Those that stand and open.
    pub standing: Vec<Snapshot>,
    /// Names of objects that do not open, and why.
    pub unreadable: Vec<(SnapshotId, Error)>,
}

/// Reads all snapshots: those that are cached are read from there, and that they stand follows from the listings alone.
///
/// # Errors
/// [`Error::Store`]. Damaged snapshots are in the result.
pub async fn load(repository: &Repository) -> Result<Snapshots> {
    // Snapshots before tombstones: a snapshot that is forgotten in between shows up twice, never not at all.
    let listed = list_ids(repository, SNAPSHOTS).await?;
    let forgotten = list_ids(repository, FORGOTTEN).await?;
    if let Some(cache) = &repository.cache {
        for (prefix, ids) in [(SNAPSHOTS, &listed), (FORGOTTEN, &forgotten)] {
            let names: Vec<String> = ids.iter().map(|id| names::of_session(prefix, *id)).collect();
            cache.drop_gone(prefix, names.iter().map(String::as_str)).await;
        }
    }
    let mut withdrawn = BTreeSet::new();
    let mut snapshots = Snapshots::default();
    // Where the snapshot is still there, only a tombstone that opens takes it away: a store's user without a key cannot.
    for id in listed.intersection(&forgotten) {
        match read_listed_tombstone(repository, *id).await {
            Ok(Some(_)) => drop(withdrawn.insert(*id)),
            Ok(None) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    let mut decisions = stream::iter(listed.difference(&withdrawn).copied())
        .map(|id| async move { Ok::<_, Error>((id, read_listed(repository, SNAPSHOTS, id).await?)) })
        .buffer_unordered(READS_MAX);
    while let Some((id, decision)) = decisions.try_next().await? {
        match decision {
            Some(Decision::Snapshot(record)) => snapshots.standing.push(Snapshot { id, record: *record }),
            Some(Decision::Unreadable(error)) => snapshots.unreadable.push((id, error)),
            Some(Decision::Merge(_)) => {
                let why = "it is a merge, and belongs under merges/";
                snapshots.unreadable.push((id, Error::damaged(names::of_session(SNAPSHOTS, id), why)));
            }
            Some(Decision::Fence(_)) | None => {}
        }
    }
    snapshots.standing.sort_by_key(|snapshot| (snapshot.record.started_ms, snapshot.id));
    snapshots.unreadable.sort_by_key(|(id, _)| *id);
    drop(decisions);
    let committed = snapshots.standing.iter().map(|snapshot| snapshot.id).chain(withdrawn).collect();
    repository.known.replace(Listed { committed, forgotten });
    Ok(snapshots)
}

/// Reads the decision of a session under `snapshots/` or `merges/`; `None` if there is none.
///
/// # Errors
/// [`Error::Store`].
pub async fn read(repository: &Repository, prefix: &str, id: SessionId) -> Result<Option<Decision>> {
    Ok(fetch(repository, prefix, id).await?.map(|(decision, _)| decision))
}

/// As [`read`], of a decision that a listing has: from the cache, if it is there and opens.
///
/// # Errors
/// As [`read`].
pub async fn read_listed(repository: &Repository, prefix: &str, id: SessionId) -> Result<Option<Decision>> {
    let Some(cache) = &repository.cache else { return read(repository, prefix, id).await };
    let name = names::of_session(prefix, id);
    if let Some(bytes) = cache.get(&name, RECORD_BYTES_MAX).await {
        match open(repository, prefix, &name, &bytes) {
            decision @ (Decision::Snapshot(_) | Decision::Merge(_)) => return Ok(Some(decision)),
            // The copy is damaged, or was never put by us.
            Decision::Fence(_) | Decision::Unreadable(_) => cache.forget(&name).await,
        }
    }
    let found = fetch(repository, prefix, id).await?;
    // A fence is not kept: it says nothing for ever.
    if let Some((Decision::Snapshot(_) | Decision::Merge(_), bytes)) = &found {
        cache.keep(&name, bytes.clone()).await;
    }
    Ok(found.map(|(decision, _)| decision))
}

/// Reads a decision, with its bytes, from the store.
async fn fetch(repository: &Repository, prefix: &str, id: SessionId) -> Result<Option<(Decision, Bytes)>> {
    let name = names::of_session(prefix, id);
    match repository.store.get(&name, RECORD_BYTES_MAX).await {
        Ok(Some(bytes)) => Ok(Some((open(repository, prefix, &name, &bytes), bytes))),
        Ok(None) => Ok(None),
        Err(error) if error.is_damage() => Ok(Some((Decision::Unreadable(error), Bytes::new()))),
        Err(error) => Err(error),
    }
}

fn open(repository: &Repository, prefix: &str, name: &str, bytes: &[u8]) -> Decision {
    let sealer = repository.sealer();
    let decision = match record::type_of(name, bytes) {
        Ok(ObjectType::Snapshot) if prefix == SNAPSHOTS => {
            record::open(sealer, name, bytes).map(|record| Decision::Snapshot(Box::new(record)))
        }
        Ok(ObjectType::Merge) if prefix == MERGES => record::open(sealer, name, bytes).map(Decision::Merge),
        Ok(ObjectType::Fence) => record::open(sealer, name, bytes).map(Decision::Fence),
        Ok(other) => Err(Error::damaged(name, format!("it is a {other:?}, which does not belong there"))),
        Err(error) => Err(error),
    };
    decision.unwrap_or_else(Decision::Unreadable)
}

/// Lists the sessions that have an object under a prefix.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_ids(repository: &Repository, prefix: &str) -> Result<BTreeSet<SessionId>> {
    let listed = repository.store.list(prefix).await?;
    Ok(listed.iter().filter_map(|object| names::parse(prefix, &object.name)).collect())
}

/// Reads a tombstone.
///
/// # Errors
/// [`Error::Store`], [`Error::Damaged`].
pub async fn read_tombstone(repository: &Repository, id: SnapshotId) -> Result<Option<TombstoneRecord>> {
    repository.read(&names::of_session(FORGOTTEN, id)).await
}

/// Reads a tombstone that a listing has: from the cache, if it is there and opens.
///
/// # Errors
/// As [`read_tombstone`].
pub async fn read_listed_tombstone(repository: &Repository, id: SnapshotId) -> Result<Option<TombstoneRecord>> {
    repository.read_listed(&names::of_session(FORGOTTEN, id)).await
}

/// Returns whether a tombstone of this id stands. One that does not open says nothing.
///
/// # Errors
/// [`Error::Store`].
pub async fn is_forgotten(repository: &Repository, id: SnapshotId) -> Result<bool> {
    match read_tombstone(repository, id).await {
        Ok(tombstone) => Ok(tombstone.is_some()),
        Err(error) if error.is_damage() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The decisions of all sessions, as far as listings tell.
pub struct Decisions {
    snapshots: BTreeSet<SessionId>,
    merges: BTreeSet<SessionId>,
    forgotten: BTreeSet<SessionId>,
}

/// Whether what a session wrote counts.
#[derive(Debug)]
pub enum Standing {
    /// It committed.
    Counts,
    /// It has not committed yet, or never will.
    DoesNotCount,
    /// Its decision does not open, so nobody can tell.
    Unknown(Error),
}

impl Decisions {
    /// Lists them: snapshots before tombstones, as in [`load`].
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(repository: &Repository) -> Result<Self> {
        let snapshots = list_ids(repository, SNAPSHOTS).await?;
        Decisions::complete(repository, snapshots, list_ids(repository, MERGES).await?).await
    }

    /// As [`Decisions::list`], where the merges were listed already. Their place in the order does not matter, since no session
    /// commits both there and among the snapshots: what came later is as if it came after all listings.
    ///
    /// # Errors
    /// As [`Decisions::list`].
    pub async fn list_besides(repository: &Repository, merges: BTreeSet<SessionId>) -> Result<Self> {
        let snapshots = list_ids(repository, SNAPSHOTS).await?;
        Decisions::complete(repository, snapshots, merges).await
    }

    async fn complete(
        repository: &Repository,
        snapshots: BTreeSet<SessionId>,
        merges: BTreeSet<SessionId>,
    ) -> Result<Self> {
        Ok(Decisions { snapshots, merges, forgotten: list_ids(repository, FORGOTTEN).await? })
    }

    /// Returns the snapshots that are there although a tombstone is, too: whoever forgot them was stopped, or may not delete.
    pub fn left_over(&self) -> impl Iterator<Item = SessionId> {
        self.snapshots.intersection(&self.forgotten).copied()
    }

    /// Returns whether what a session wrote counts.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn standing(&self, repository: &Repository, id: SessionId) -> Result<Standing> {
        let mut is_fenced = false;
        for (prefix, listed) in [(SNAPSHOTS, &self.snapshots), (MERGES, &self.merges)] {
            if !listed.contains(&id) {
                continue;
            }
            return Ok(match read_listed(repository, prefix, id).await? {
                Some(Decision::Snapshot(_) | Decision::Merge(_)) => Standing::Counts,
                // A session commits in one of the two places. A late fence may stand in the other.
                Some(Decision::Fence(_)) => {
                    is_fenced = true;
                    continue;
                }
                Some(Decision::Unreadable(_)) if self.forgotten.contains(&id) => break,
                Some(Decision::Unreadable(error)) => Standing::Unknown(error),
                // Gone since it was listed, which only forgetting does: its tombstone came first.
                None => Standing::Counts,
            });
        }
        // One that was put when the snapshot had been committed and forgotten forbids nothing any more, and may be later than
        // the listing of tombstones.
        if !is_fenced && !self.forgotten.contains(&id) {
            return Ok(Standing::DoesNotCount);
        }
        match read_listed_tombstone(repository, id).await {
            Ok(Some(_)) => Ok(Standing::Counts),
            Ok(None) => Ok(Standing::DoesNotCount),
            Err(error) if error.is_damage() => Ok(Standing::Unknown(error)),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a session was decided, by a commit or by a fence.
    pub fn is_decided(&self, id: SessionId) -> bool {
        [&self.snapshots, &self.merges, &self.forgotten].iter().any(|ids| ids.contains(&id))
    }
}

/// What all decisions together say of fragments.
#[derive(Debug, Default)]
pub struct Expected {
    /// Fragments that were written, less those that a merge made superfluous.
    pub fragments: BTreeSet<FragmentName>,
    /// Merges and tombstones that do not open. Snapshots are left to [`load`].
    pub unreadable: Vec<(String, Error)>,
}

/// Reads all other decisions than these snapshots: which fragments should be there.
///
/// # Errors
/// [`Error::Store`].
pub async fn expected_fragments(repository: &Repository, standing: &[Snapshot]) -> Result<Expected> {
    let (mut written, mut superseded) = (BTreeSet::new(), BTreeSet::new());
    let mut unreadable = Vec::new();
    let mut expect = |session: SessionId, fragments_n: u32| {
        written.extend((0..fragments_n).map(|number| FragmentName { session, number }));
    };
    for snapshot in standing {
        expect(snapshot.id, snapshot.record.fragments_n);
    }
    for id in list_ids(repository, FORGOTTEN).await? {
        match read_listed_tombstone(repository, id).await {
            Ok(Some(tombstone)) => expect(id, tombstone.fragments_n),
            Ok(None) => {}
            Err(error @ (Error::Damaged { .. } | Error::NewerFormat { .. })) => {
                unreadable.push((names::of_session(FORGOTTEN, id), error));
            }
            Err(error) => return Err(error),
        }
    }
    for id in list_ids(repository, MERGES).await? {
        match read_listed(repository, MERGES, id).await? {
            Some(Decision::Merge(merge)) => {
                expect(id, merge.fragments_n);
                superseded.extend(merge.supersedes);
            }
            Some(Decision::Unreadable(error)) => unreadable.push((names::of_session(MERGES, id), error)),
            Some(Decision::Fence(_) | Decision::Snapshot(_)) | None => {}
        }
    }
    Ok(Expected { fragments: written.difference(&superseded).copied().collect(), unreadable })
}

/// Returns the fragments that should be there and are not.
///
/// # Errors
/// [`Error::Store`].
pub async fn missing_fragments(repository: &Repository) -> Result<BTreeSet<FragmentName>> {
    let standing = load(repository).await?.standing;
    let expected = expected_fragments(repository, &standing).await?;
    missing_of(repository, &expected).await
}

/// Returns the fragments that are expected and not there. Decisions come before this listing: what is expected was put before
/// them.
///
/// # Errors
/// [`Error::Store`].
pub async fn missing_of(repository: &Repository, expected: &Expected) -> Result<BTreeSet<FragmentName>> {
    let listed = repository.store.list(names::INDEX).await?;
    let there: BTreeSet<_> = listed.iter().filter_map(|object| names::parse_fragment(&object.name)).collect();
    Ok(expected.fragments.difference(&there).copied().collect())
}
