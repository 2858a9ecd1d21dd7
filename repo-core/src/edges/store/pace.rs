//! A rate: so many bytes a second, for all that travels one way through one store.
//!
//! Nothing is saved up: a store that was idle for an hour begins at the rate, not with an hour's worth. Who asks first goes
//! first, a piece at a time, so that bodies that travel side by side share the rate evenly.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that are let through together, at most and at least: few enough to be even, enough to be worth a timer.
const PIECE_BYTES_MAX: u64 = 256 * 1024;
const PIECE_BYTES_MIN: u64 = 1024;
/// Pieces that a second's worth is cut into, within those bounds.
const PIECES_PER_SEC: u64 = 16;

/// Lets bytes through at a rate.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_sec: NonZeroU64,
    /// When the last piece that was let through has had its time.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// Creates a pace of so many bytes a second.
    pub(super) fn create(bytes_per_sec: NonZeroU64) -> Pace {
        Pace { bytes_per_sec, free_at: Mutex::new(None) }
    }

    /// Returns how many bytes to ask for at once, at most.
    pub(super) fn piece_bytes(&self) -> usize {
        (self.bytes_per_sec.get() / PIECES_PER_SEC).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX) as usize
    }

    /// Waits until it is the turn of the last of so many bytes, a piece at a time.
    pub(super) async fn take(&self, bytes_n: usize) {
        let mut left = bytes_n;
        while left > 0 {
            let piece = left.min(self.piece_bytes());
            let turn = self.next_turn(piece);
            tokio::time::sleep_until(turn).await;
            left -= piece;
        }
    }

    fn next_turn(&self, bytes_n: usize) -> Instant {
        let nanos = bytes_n as u64 * 1_000_000_000 / self.bytes_per_sec.get();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let turn = free_at.map_or(now, |free_at| free_at.max(now));
        *free_at = Some(turn + Duration::from_nanos(nanos));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    const RATE: u64 = 1024 * 1024;

    fn pace() -> Pace {
        Pace::create(NonZeroU64::new(RATE).expect("not zero"))
    }

    /// Sends a body a piece at a time; returns when each piece went, in seconds, and its bytes.
    async fn send(pace: &Pace, bytes_n: usize) -> Vec<(f64, usize)> {
        let begun = Instant::now();
        let mut sent = Vec::new();
        let mut left = bytes_n;
        while left > 0 {
            let piece = left.min(pace.piece_bytes());
            pace.take(piece).await;
            sent.push((begun.elapsed().as_secs_f64(), piece));
            left -= piece;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_spread_over_its_time_without_a_burst() {
        let pace = pace();
        // Nothing is saved up while nobody sends.
        tokio::time::advance(Duration::from_secs(3600)).await;
        let sent = send(&pace, 8 * RATE as usize).await;
        let mut bytes = 0;
        for (secs, piece) in sent {
            bytes += piece;
            let allowed = secs * RATE as f64 + pace.piece_bytes() as f64;
            assert!(bytes as f64 <= allowed + 8192.0, "{bytes} bytes after {secs} s");
            assert!(bytes as f64 >= secs * RATE as f64 - 8192.0, "only {bytes} bytes after {secs} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_side_by_side_share_the_rate_evenly() {
        let pace = pace();
        let begun = Instant::now();
        let bodies = join_all((0..4).map(|_| send(&pace, 2 * RATE as usize))).await;
        let secs = begun.elapsed().as_secs_f64();
        assert!((7.5..8.2).contains(&secs), "8 MiB at 1 MiB/s took {secs} s");
        for sent in bodies {
            let at_half: usize = sent.iter().filter(|(at, _)| *at <= secs / 2.0).map(|(_, piece)| piece).sum();
            assert!(at_half.abs_diff(RATE as usize) <= 2 * pace.piece_bytes(), "{at_half} bytes at half time");
        }
    }
}
