//! Holds: what keeps snapshots from being forgotten.

use super::repository::Repository;
use super::snapshots::list_ids;
use crate::crafts::retention::{Held, Zone};
use crate::format::hold::HoldRecord;
use crate::format::names::{self, HOLDS};
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use crate::words::limits::READS_MAX;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::fmt;

/// A hold on a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// It opens.
    Says(HoldRecord),
    /// It does not open, for this reason. It holds: whoever damages a hold must not get rid of it by that.
    Unreadable(String),
}

impl Hold {
    /// Returns whether it holds at a time, in milliseconds since 1970 UTC.
    pub fn holds_at(&self, now_ms: i64) -> bool {
        match self {
            Hold::Says(record) => record.until_ms.is_none_or(|until_ms| until_ms > now_ms),
            Hold::Unreadable(_) => true,
        }
    }

    /// Returns what a retention policy looks at.
    pub(crate) fn held(&self) -> Held {
        match self {
            Hold::Says(record) => Held { reason: record.reason.clone(), until_ms: record.until_ms },
            Hold::Unreadable(_) => Held { reason: "the hold does not open".to_owned(), until_ms: None },
        }
    }
}

/// In a sentence about the snapshot: `held since 2026-11-20 09:30Z by ana@db1, until 2027-01-01 00:00Z, because: audit`.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Says(HoldRecord { reason, since_ms, until_ms, by }) => {
                write!(f, "held since {} by {by}", Zone::utc().show(*since_ms))?;
                if let Some(until_ms) = until_ms {
                    write!(f, ", until {}", Zone::utc().show(*until_ms))?;
                }
                write!(f, ", because: {reason}")
            }
            Hold::Unreadable(why) => write!(f, "held by an object that does not open ({why})"),
        }
    }
}

/// Reads the hold on a snapshot, if there is one.
///
/// # Errors
/// [`Error::Store`].
pub async fn read(repository: &Repository, id: SnapshotId) -> Result<Option<Hold>> {
    match repository.read::<HoldRecord>(&names::of_session(HOLDS, id)).await {
        Ok(record) => Ok(record.map(Hold::Says)),
        Err(error @ (Error::Damaged { .. } | Error::NewerFormat { .. })) => {
            Ok(Some(Hold::Unreadable(error.to_string())))
        }
        Err(error) => Err(error),
    }
}

/// The complaint that nobody holds a snapshot.
pub fn not_held(name: String) -> Error {
    let hint = "; `dedump snapshots` says which are held".to_owned();
    Error::NotFound { what: "hold on snapshot", name, hint }
}

/// Reads all holds.
///
/// # Errors
/// [`Error::Store`].
pub async fn load(repository: &Repository) -> Result<BTreeMap<SnapshotId, Hold>> {
    let ids = list_ids(repository, HOLDS).await?;
    let found = stream::iter(ids).map(|id| async move { Ok::<_, Error>((id, read(repository, id).await?)) });
    let found: Vec<_> = found.buffer_unordered(READS_MAX).try_collect().await?;
    Ok(found.into_iter().filter_map(|(id, hold)| hold.map(|hold| (id, hold))).collect())
}
