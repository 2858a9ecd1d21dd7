//! Slowing down for a store that asks for it.
//!
//! A store that has too much to do answers 503 (S3's "SlowDown", Azure's "ServerBusy") or 429, perhaps with the seconds to wait
//! in `Retry-After`. The client repeats such a request by itself; left alone, all the others go on meanwhile, and whoever
//! has sixteen connections asks sixteen times as often as was too much. So every request of a store waits here for its turn:
//! while the store complains, turns lie apart, twice as far with each complaint, and every good reply brings them closer.

use super::retry::with_jitter;
use crate::words::limits::STORE_SLOW_DOWN_SECS_MAX;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How far turns lie apart at the first complaint, and at most.
const SPACING_MIN: Duration = Duration::from_millis(20);
const SPACING_MAX: Duration = Duration::from_secs(2);
/// After a complaint nobody asks for so many turns.
const SILENCE_TURNS: u32 = 8;

/// When the next request may go.
#[derive(Debug, Default)]
pub(super) struct Courtesy(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    spacing: Duration,
    next: Option<Instant>,
}

impl Courtesy {
    /// Waits for the turn of a request; at once, unless the store has complained lately.
    pub(super) async fn turn(&self) {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let Some(next) = turns.next.filter(|next| *next > now || !turns.spacing.is_zero()) else { return };
            let turn = next.max(now);
            turns.next = Some(turn + turns.spacing);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    /// Notes that the store complained, and for how long it wants silence, if it said so.
    pub(super) fn slow_down(&self, retry_after: Option<Duration>) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.spacing = (turns.spacing * 2).clamp(SPACING_MIN, SPACING_MAX);
        let longest = Duration::from_secs(STORE_SLOW_DOWN_SECS_MAX);
        let silence = retry_after.unwrap_or_default().min(longest).max(with_jitter(turns.spacing * SILENCE_TURNS));
        let next = Instant::now() + silence;
        turns.next = Some(turns.next.map_or(next, |before| before.max(next)).min(Instant::now() + longest));
    }

    /// Notes a reply that is no complaint.
    pub(super) fn go_on(&self) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.spacing = turns.spacing * 7 / 8;
        if turns.spacing < SPACING_MIN / 4 {
            turns.spacing = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    async fn secs_for(courtesy: &Courtesy, requests_n: usize) -> f64 {
        let begun = Instant::now();
        join_all((0..requests_n).map(|_| courtesy.turn())).await;
        begun.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_store_that_does_not_complain() {
        let courtesy = Courtesy::default();
        courtesy.go_on();
        assert_eq!(secs_for(&courtesy, 1000).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn complaints_make_pauses_longer_and_good_replies_shorter() {
        let courtesy = Courtesy::default();
        courtesy.slow_down(None);
        let once = secs_for(&courtesy, 50).await;
        for _ in 0..3 {
            courtesy.slow_down(None);
        }
        let often = secs_for(&courtesy, 50).await;
        assert!(once > 0.5 && often > 4.0 * once, "{once} s, {often} s");
        for _ in 0..100 {
            courtesy.slow_down(None);
        }
        let worst = secs_for(&courtesy, 1).await;
        assert!(worst <= STORE_SLOW_DOWN_SECS_MAX as f64, "{worst} s");
        for _ in 0..100 {
            courtesy.go_on();
        }
        courtesy.turn().await;
        assert_eq!(secs_for(&courtesy, 50).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_a_store_asks_for_is_kept_within_bounds() {
        let courtesy = Courtesy::default();
        courtesy.slow_down(Some(Duration::from_secs(7)));
        assert!((7.0..7.1).contains(&secs_for(&courtesy, 1).await));
        courtesy.slow_down(Some(Duration::from_secs(86_400)));
        assert!(secs_for(&courtesy, 1).await <= STORE_SLOW_DOWN_SECS_MAX as f64);
    }
}
