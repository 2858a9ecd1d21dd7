//! Buffers that are used again and again.
//!
//! A buffer of some hundred KiB that is freed goes back to the system, and the next one is handed out page by page, zeroed:
//! a sixth of the processor time of a backup against bases, before these were kept.

use crate::words::limits::BUFFERS_KEPT_BYTES_MAX;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Buffers that nobody uses just now. Clones share them.
#[derive(Clone)]
pub struct Buffers(Arc<Idle>);

struct Idle {
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Capacity of those that are kept, at most, in bytes.
    bytes_max: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers::keeping(BUFFERS_KEPT_BYTES_MAX)
    }
}

/// Below this, a buffer costs less than looking for it.
const BYTES_MIN: usize = 64 << 10;
/// Capacities are multiples of this, so that one buffer serves blobs of about the same length.
const CAPACITY_UNIT: usize = 256 << 10;

impl Buffers {
    /// Creates a home for buffers that keeps so many bytes of them, at most.
    pub fn keeping(bytes_max: usize) -> Self {
        Buffers(Arc::new(Idle { buffers: Mutex::default(), bytes_max }))
    }

    /// Returns an empty buffer that has room for so many bytes.
    pub fn take(&self, bytes_n: usize) -> Vec<u8> {
        if bytes_n < BYTES_MIN {
            return Vec::with_capacity(bytes_n);
        }
        let mut idle = self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().rposition(|buffer| buffer.capacity() >= bytes_n) {
            Some(number) => idle.swap_remove(number),
            None => Vec::with_capacity(bytes_n.next_multiple_of(CAPACITY_UNIT)),
        }
    }

    /// Takes a buffer that nobody uses any more.
    pub fn give(&self, buffer: Vec<u8>) {
        keep(&self.0, buffer);
    }

    /// Returns a buffer's bytes; the buffer comes back when the last clone or slice of them is dropped.
    pub fn share(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() < BYTES_MIN {
            return Bytes::from(buffer);
        }
        Bytes::from_owner(Shared { buffer, home: Arc::downgrade(&self.0) })
    }
}

struct Shared {
    buffer: Vec<u8>,
    home: Weak<Idle>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        keep(&home, std::mem::take(&mut self.buffer));
    }
}

fn keep(home: &Idle, mut buffer: Vec<u8>) {
    buffer.clear();
    let mut idle = home.buffers.lock().unwrap_or_else(PoisonError::into_inner);
    let kept_bytes: usize = idle.iter().map(Vec::capacity).sum();
    if buffer.capacity() >= BYTES_MIN && kept_bytes + buffer.capacity() <= home.bytes_max {
        idle.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_when_its_last_bytes_are_dropped() {
        let buffers = Buffers::default();
        let mut first = buffers.take(100_000);
        assert!(first.is_empty() && first.capacity() >= 100_000);
        first.resize(100_000, 7);
        let place = first.as_ptr();
        let bytes = buffers.share(first);
        let slice = bytes.slice(10..20);
        drop(bytes);
        let other = buffers.take(100_000);
        assert_ne!(other.as_ptr(), place, "a slice still uses it");
        assert_eq!(&slice[..], [7; 10]);
        drop(slice);
        let again = buffers.take(100_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        let other = buffers.take(100_000);
        assert_ne!(other.as_ptr(), place, "it is in use");
    }

    #[test]
    fn a_buffer_that_is_given_is_taken_again() {
        let buffers = Buffers::default();
        let mut first = buffers.take(100_000);
        first.push(7);
        let place = first.as_ptr();
        buffers.give(first);
        buffers.give(vec![1; 10]);
        let again = buffers.take(100_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let buffers = Buffers::default();
        let many: Vec<Bytes> = (0..BUFFERS_KEPT_BYTES_MAX / CAPACITY_UNIT + 10)
            .map(|_| {
                let mut buffer = buffers.take(CAPACITY_UNIT);
                buffer.push(1);
                buffers.share(buffer)
            })
            .collect();
        drop(many);
        let kept_bytes: usize = buffers.0.buffers.lock().expect("nobody panicked").iter().map(Vec::capacity).sum();
        assert_eq!(kept_bytes, BUFFERS_KEPT_BYTES_MAX);
    }

    #[test]
    fn bytes_outlive_the_buffers() {
        let buffers = Buffers::default();
        let bytes = buffers.share(vec![3; BYTES_MIN]);
        drop(buffers);
        assert_eq!(bytes[BYTES_MIN - 1], 3);
    }
}
