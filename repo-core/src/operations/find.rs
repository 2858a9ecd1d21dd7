//! Finds snapshots: all of them, the newest, or by a prefix of an id.

use crate::state::holds;
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Snapshot};
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use std::collections::BTreeMap;

/// Which snapshots are meant. The default means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this source.
    pub source: Option<String>,
    /// Only those of this host.
    pub host: Option<String>,
    /// Only those that carry all of these tags.
    pub tags: BTreeMap<String, String>,
    /// Only those that began before this time, in milliseconds since 1970 UTC.
    pub before_ms: Option<i64>,
    /// Only those that began at this time or later.
    pub since_ms: Option<i64>,
}

impl Filter {
    /// Returns whether a snapshot is meant.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let record = &snapshot.record;
        self.source.as_ref().is_none_or(|source| record.source == *source)
            && self.host.as_ref().is_none_or(|host| record.host == *host)
            && self.tags.iter().all(|(key, value)| record.tags.get(key) == Some(value))
            && self.before_ms.is_none_or(|before_ms| record.started_ms < before_ms)
            && self.since_ms.is_none_or(|since_ms| record.started_ms >= since_ms)
    }
}

/// The snapshots that a filter means, oldest first, and what could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Snapshots that do not open, each with the reason; `check` says more.
    pub unreadable: Vec<String>,
}

/// Lists snapshots, oldest first. Reads every snapshot object once.
///
/// # Errors
/// [`Error::Store`]. A damaged snapshot is in the listing, not an error.
pub async fn list(repository: &Repository, filter: &Filter) -> Result<Listing> {
    let all = snapshots::load(repository).await?;
    Ok(Listing {
        snapshots: all.standing.into_iter().filter(|snapshot| filter.matches(snapshot)).collect(),
        unreadable: all.unreadable.iter().map(|(_, error)| error.to_string()).collect(),
    })
}

/// Finds one snapshot: by a prefix of its id, or `latest` for the newest, among those that the filter means.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Store`]. [`Error::Damaged`]: the snapshot that is meant does not open;
/// for `latest`, any that does not: nobody knows whether it is the newest.
pub async fn find(repository: &Repository, name: &str, filter: &Filter) -> Result<Snapshot> {
    let mut all = snapshots::load(repository).await?;
    if name == "latest" {
        if let Some((_, error)) = all.unreadable.pop() {
            return Err(match error {
                Error::Damaged { object, why } => {
                    let why = format!("{why}; it may be the latest, so name the snapshot that you want by its id");
                    Error::Damaged { object, why }
                }
                other => other,
            });
        }
        let latest = all.standing.into_iter().rev().find(|snapshot| filter.matches(snapshot));
        return latest.ok_or_else(|| not_found(name));
    }
    let standing = all.standing.iter().filter(|snapshot| filter.matches(snapshot)).map(|snapshot| snapshot.id);
    let id = by_prefix(name, standing.chain(all.unreadable.iter().map(|(id, _)| *id)))?;
    if let Some(at) = all.unreadable.iter().position(|(unreadable, _)| *unreadable == id) {
        return Err(all.unreadable.swap_remove(at).1);
    }
    all.standing.into_iter().find(|snapshot| snapshot.id == id).ok_or_else(|| not_found(name))
}

/// Finds the id of a snapshot by a prefix, whether or not it opens: to forget it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Store`].
pub async fn find_id(repository: &Repository, name: &str) -> Result<SnapshotId> {
    let all = snapshots::load(repository).await?;
    let standing = all.standing.iter().map(|snapshot| snapshot.id);
    by_prefix(name, standing.chain(all.unreadable.iter().map(|(id, _)| *id)))
}

/// Finds the id of a held snapshot by a prefix, also where the snapshot is gone: to release it.
///
/// # Errors
/// [`Error::NotFound`]: none of that prefix is held. [`Error::Ambiguous`], [`Error::Store`].
pub async fn find_held(repository: &Repository, name: &str) -> Result<SnapshotId> {
    match by_prefix(name, holds::load(repository).await?.into_keys()) {
        Err(Error::NotFound { name, .. }) => Err(holds::not_held(name)),
        found => found,
    }
}

fn by_prefix(prefix: &str, ids: impl Iterator<Item = SnapshotId>) -> Result<SnapshotId> {
    if prefix.is_empty() || !prefix.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Error::Invalid(format!(
            "snapshot {prefix:?} can't be: give the first digits of an id, as `dedump snapshots` prints it, or `latest`"
        )));
    }
    let found: Vec<SnapshotId> = ids.filter(|id| id.to_string().starts_with(prefix)).collect();
    match found[..] {
        [] => Err(not_found(prefix)),
        [id] => Ok(id),
        _ => Err(Error::Ambiguous {
            what: "snapshot",
            prefix: prefix.to_owned(),
            candidates: found.iter().map(|id| id.to_string()[..12].to_owned()).collect(),
        }),
    }
}

fn not_found(name: &str) -> Error {
    let hint = "; `dedump snapshots` lists what there is".to_owned();
    Error::NotFound { what: "snapshot", name: name.to_owned(), hint }
}
