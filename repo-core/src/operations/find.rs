//! Finds snapshots: all of them, the newest, or by a prefix of an id.

use crate::state::repository::Repository;
use crate::state::snapshots::{self, Snapshot};
use crate::words::error::{Error, Result};
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
/// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Store`]; [`Error::Damaged`] if the only match does not open.
pub async fn find(repository: &Repository, name: &str, filter: &Filter) -> Result<Snapshot> {
    let all = snapshots::load(repository).await?;
    if name == "latest" {
        return all.standing.into_iter().rev().find(|snapshot| filter.matches(snapshot)).ok_or_else(|| {
            let hint = "; `dedump snapshots` lists what there is".to_owned();
            Error::NotFound { what: "snapshot", name: name.to_owned(), hint }
        });
    }
    if name.is_empty() || !name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Error::Invalid(format!(
            "snapshot {name:?} can't be: give the first digits of an id, as `dedump snapshots` prints it, or `latest`"
        )));
    }
    let matches = |id: &crate::words::id::SnapshotId| id.to_string().starts_with(name);
    let unreadable = all.unreadable.into_iter().find(|(id, _)| matches(id));
    let mut found: Vec<_> =
        all.standing.into_iter().filter(|snapshot| matches(&snapshot.id) && filter.matches(snapshot)).collect();
    match (found.len(), unreadable) {
        (0, Some((_, error))) => Err(error),
        (0, None) => Err(Error::NotFound {
            what: "snapshot",
            name: name.to_owned(),
            hint: "; `dedump snapshots` lists what there is".to_owned(),
        }),
        (1, _) => Ok(found.remove(0)),
        _ => Err(Error::Ambiguous {
            what: "snapshot",
            prefix: name.to_owned(),
            candidates: found.iter().map(|snapshot| snapshot.id.to_string()[..12].to_owned()).collect(),
        }),
    }
}
