//! How many requests were made, and how many bytes they carried.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that were made to a store; retries of the client's own are not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Listings, a page of 1,000 names each.
    pub lists_n: u64,
    /// Reads of objects, whole or in part.
    pub reads_n: u64,
    /// Looks at an object's length alone.
    pub heads_n: u64,
    /// Writes.
    pub writes_n: u64,
    /// Deletions.
    pub deletes_n: u64,
    /// Bytes of objects that were read; listings and headers are not seen.
    pub bytes_read: u64,
    /// Bytes of objects that were sent, whether or not they were taken.
    pub bytes_written: u64,
}

impl Requests {
    /// Returns how many there were of all kinds.
    pub fn total(&self) -> u64 {
        self.lists_n + self.reads_n + self.heads_n + self.writes_n + self.deletes_n
    }

    /// Returns these and others.
    pub fn and(&self, others: &Requests) -> Requests {
        Requests {
            lists_n: self.lists_n + others.lists_n,
            reads_n: self.reads_n + others.reads_n,
            heads_n: self.heads_n + others.heads_n,
            writes_n: self.writes_n + others.writes_n,
            deletes_n: self.deletes_n + others.deletes_n,
            bytes_read: self.bytes_read + others.bytes_read,
            bytes_written: self.bytes_written + others.bytes_written,
        }
    }

    /// Returns those that were made since `before`.
    pub fn since(&self, before: &Requests) -> Requests {
        Requests {
            lists_n: self.lists_n - before.lists_n,
            reads_n: self.reads_n - before.reads_n,
            heads_n: self.heads_n - before.heads_n,
            writes_n: self.writes_n - before.writes_n,
            deletes_n: self.deletes_n - before.deletes_n,
            bytes_read: self.bytes_read - before.bytes_read,
            bytes_written: self.bytes_written - before.bytes_written,
        }
    }
}

/// Names that a store gives in one page of a listing.
const LIST_PAGE: usize = 1000;

/// Counts requests as they are made.
#[derive(Debug, Default)]
pub(super) struct Counters {
    lists_n: AtomicU64,
    reads_n: AtomicU64,
    heads_n: AtomicU64,
    writes_n: AtomicU64,
    deletes_n: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Counters {
    /// Counts a listing that gave so many names: an empty one has a page, too.
    pub(super) fn list(&self, names_n: usize) {
        self.lists_n.fetch_add(names_n.div_ceil(LIST_PAGE).max(1) as u64, Ordering::Relaxed);
    }

    /// Counts a read that was asked for.
    pub(super) fn read(&self) {
        self.reads_n.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bytes that a read gave.
    pub(super) fn got(&self, bytes_n: usize) {
        self.bytes_read.fetch_add(bytes_n as u64, Ordering::Relaxed);
    }

    /// Counts a look at an object's length.
    pub(super) fn head(&self) {
        self.heads_n.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a write of so many bytes.
    pub(super) fn write(&self, bytes_n: usize) {
        self.writes_n.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes_n as u64, Ordering::Relaxed);
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
            heads_n: count(&self.heads_n),
            writes_n: count(&self.writes_n),
            deletes_n: count(&self.deletes_n),
            bytes_read: count(&self.bytes_read),
            bytes_written: count(&self.bytes_written),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_counted_by_its_pages() {
        for (names_n, pages_n) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (10_000, 10)] {
            let counters = Counters::default();
            counters.list(names_n);
            assert_eq!(counters.so_far().lists_n, pages_n, "{names_n} names");
        }
    }
}
