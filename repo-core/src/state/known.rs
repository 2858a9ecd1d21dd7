//! What an open repository remembers of decisions, so that it need not ask twice.
//!
//! That a session committed holds for ever: a snapshot's deletion leaves its tombstone, and tombstones and merges stay. So whose
//! decision was listed and has opened need not be listed or read again for its fragments to count. What is remembered is what
//! the last listing had: if somebody puts an older state of the store back, the next listing says so.

use crate::words::id::SessionId;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What the last listing of snapshots and tombstones had.
#[derive(Debug, Default)]
pub struct Known(Mutex<Listed>);

/// Sessions by what is known of them.
#[derive(Debug, Default, Clone)]
pub struct Listed {
    /// Those whose decision opened as a snapshot, or whose tombstone opened.
    pub committed: BTreeSet<SessionId>,
    /// Those that have a tombstone.
    pub forgotten: BTreeSet<SessionId>,
}

impl Known {
    /// Remembers this instead of what was known before.
    pub fn replace(&self, listed: Listed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listed;
    }

    /// Returns what is known.
    pub fn listed(&self) -> Listed {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers that sessions committed that have a tombstone.
    pub fn add_committed(&self, sessions: impl IntoIterator<Item = SessionId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).committed.extend(sessions);
    }
}
