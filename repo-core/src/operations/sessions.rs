//! Lists who is at work.

use crate::edges::system::now_ms;
use crate::format::names::{self, SESSIONS};
use crate::format::session::SessionRecord;
use crate::state::repository::Repository;
use crate::state::session;
use crate::state::snapshots::Decisions;
use crate::words::error::Result;
use crate::words::id::SessionId;
use std::time::Duration;

/// A session whose mark is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id; that of the snapshot that a backup is going to commit.
    pub id: SessionId,
    /// What its mark says; `None` if that does not open.
    pub record: Option<SessionRecord>,
    /// When the mark was written last, in milliseconds since 1970 UTC, by the store's clock.
    pub modified_ms: i64,
    /// Whether it has committed or was fenced: then the mark is only left over, and the next prune takes it away.
    pub is_decided: bool,
    /// Whether its mark was not rewritten for longer than was asked, by this host's clock. It is only shown.
    pub looks_dead: bool,
}

/// Lists the sessions whose marks are there, the oldest mark first.
///
/// # Errors
/// [`Error::Store`](crate::Error::Store).
pub async fn list_sessions(repository: &Repository, dead_after: Duration) -> Result<Vec<SessionInfo>> {
    let listed = repository.store.list(SESSIONS).await?;
    let decisions = Decisions::list(repository).await?;
    let mut sessions = Vec::new();
    for object in listed {
        let Some(id) = names::parse(SESSIONS, &object.name) else { continue };
        let is_decided = decisions.is_decided(id);
        sessions.push(SessionInfo {
            id,
            record: session::read(repository, id).await?,
            modified_ms: object.modified_ms,
            is_decided,
            looks_dead: !is_decided && session::looks_dead(object.modified_ms, now_ms(), dead_after),
        });
    }
    sessions.sort_by_key(|session| (session.modified_ms, session.id));
    Ok(sessions)
}
