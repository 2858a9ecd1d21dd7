//! Holds snapshots, so that nothing forgets them, and releases them.
//!
//! A hold and a forget of the same snapshot at once: both put their object, then look for the other's. A forget that finds
//! a hold before its tombstone refuses; a hold that finds the tombstone fails. What is left is a forget that looked just
//! before the hold was put, and puts its tombstone just after that looked: the forget wins, finds the hold when it looks
//! again, and says so; `check` names a hold whose snapshot is gone.

use crate::edges::store::Created;
use crate::edges::system::now_ms;
use crate::format::hold::HoldRecord;
use crate::format::names::{self, HOLDS, SNAPSHOTS};
use crate::state::holds::{self, Hold};
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Decision};
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use crate::words::limits::LABEL_BYTES_MAX;
use std::collections::BTreeMap;

/// Why a snapshot is held, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldOptions {
    /// Why; not empty.
    pub reason: String,
    /// When the hold ends, in milliseconds since 1970 UTC; `None`: when it is released.
    pub until_ms: Option<i64>,
    /// Who holds it, as `user@host`.
    pub by: String,
}

/// Holds a snapshot, also one that does not open: nothing forgets it until the hold ends or is released. Returns the hold that
/// this one replaces, if any.
///
/// # Errors
/// [`Error::Invalid`]: no reason, one that is too long or has control characters, or an end that has passed.
/// [`Error::NotFound`]: there is no such snapshot. [`Error::Conflict`]: it was forgotten at the same time, or somebody else
/// holds it at the same time. [`Error::Store`].
pub async fn hold(repository: &Repository, id: SnapshotId, options: &HoldOptions) -> Result<Option<Hold>> {
    let HoldOptions { reason, until_ms, by } = options.clone();
    let since_ms = now_ms();
    check_text("reason", &reason)?;
    check_text("name of who holds it", &by)?;
    if until_ms.is_some_and(|until_ms| until_ms <= since_ms) {
        return Err(Error::Invalid("the hold would have ended already; give a time to come".to_owned()));
    }
    check_standing(repository, id).await?;
    let name = names::of_session(HOLDS, id);
    let record = repository.seal(&name, &HoldRecord { reason, since_ms, until_ms, by })?;
    let before = holds::read(repository, id).await?;
    match before {
        Some(_) => repository.store.overwrite(&name, record).await?,
        None if repository.store.create(&name, record).await? == Created::Yes => {}
        None => return Err(Error::Conflict(format!("somebody else holds {} just now; look again", id.short()))),
    }
    // Put, then look: see above.
    if snapshots::is_forgotten(repository, id).await? {
        repository.store.delete(&name).await?;
        return Err(Error::Conflict(format!("snapshot {} is being forgotten; the hold came too late", id.short())));
    }
    Ok(before)
}

/// Releases a snapshot, and returns the hold that it had. Also where the snapshot is gone, or the hold does not open.
///
/// # Errors
/// [`Error::NotFound`]: nobody holds it. [`Error::Store`].
pub async fn release(repository: &Repository, id: SnapshotId) -> Result<Hold> {
    let held = holds::read(repository, id).await?.ok_or_else(|| holds::not_held(id.short()))?;
    repository.store.delete(&names::of_session(HOLDS, id)).await?;
    Ok(held)
}

/// Lists all holds, those that have ended or whose snapshot is gone too.
///
/// # Errors
/// [`Error::Store`]. A hold that does not open is in the list.
pub async fn list_holds(repository: &Repository) -> Result<BTreeMap<SnapshotId, Hold>> {
    holds::load(repository).await
}

async fn check_standing(repository: &Repository, id: SnapshotId) -> Result<()> {
    let there = snapshots::read(repository, SNAPSHOTS, id).await?;
    let is_there = matches!(there, Some(Decision::Snapshot(_) | Decision::Unreadable(_)));
    if is_there && !snapshots::is_forgotten(repository, id).await? {
        return Ok(());
    }
    let hint = "; `dedump snapshots` lists what there is".to_owned();
    Err(Error::NotFound { what: "snapshot", name: id.short(), hint })
}

fn check_text(what: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() || text.len() > LABEL_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Error::Invalid(format!(
            "the {what} {text:?} can't be: some words, at most {LABEL_BYTES_MAX} bytes, without control characters"
        )));
    }
    Ok(())
}
