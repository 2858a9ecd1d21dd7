//! How many requests were made.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that were made to a store; retries of the client's own are not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Listings, a page of 1,000 names each.
    pub lists_n: u64,
    /// Reads of objects, whole or in part.
    pub reads_n: u64,
    /// Writes.
    pub writes_n: u64,
    /// Deletions.
    pub deletes_n: u64,
}

impl Requests {
    /// Returns how many there were of all kinds.
    pub fn total(&self) -> u64 {
        self.lists_n + self.reads_n + self.writes_n + self.deletes_n
    }

    /// Returns those that were made since `before`.
    pub fn since(&self, before: &Requests) -> Requests {
        Requests {
            lists_n: self.lists_n - before.lists_n,
            reads_n: self.reads_n - before.reads_n,
            writes_n: self.writes_n - before.writes_n,
            deletes_n: self.deletes_n - before.deletes_n,
        }
    }
}

/// Names that a store gives in one page of a listing.
const LIST_PAGE: u64 = 1000;

/// Counts requests as they are made.
#[derive(Debug, Default)]
pub(super) struct Counters {
    lists_n: AtomicU64,
    reads_n: AtomicU64,
    writes_n: AtomicU64,
    deletes_n: AtomicU64,
}

impl Counters {
    /// Counts a listing that gave so many names.
    pub(super) fn list(&self, names_n: usize) {
        self.lists_n.fetch_add(1 + names_n as u64 / LIST_PAGE, Ordering::Relaxed);
    }

    /// Counts a read.
    pub(super) fn read(&self) {
        self.reads_n.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a write.
    pub(super) fn write(&self) {
        self.writes_n.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a deletion.
    pub(super) fn delete(&self) {
        self.deletes_n.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what was counted so far.
    pub(super) fn so_far(&self) -> Requests {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            lists_n: count(&self.lists_n),
            reads_n: count(&self.reads_n),
            writes_n: count(&self.writes_n),
            deletes_n: count(&self.deletes_n),
        }
    }
}
