//! What is asked of a store again when it went wrong, and when to stop.
//!
//! Two layers do so. The client repeats a request whose reply says 5xx, 408 or 429 or that never reached the server, and, where
//! doing it twice is harmless by HTTP's rules, one whose reply broke off; it goes on reading a body that broke off where it
//! stopped. This file is the second layer, for what the client gives up at once: a create-if-absent or a deletion whose reply
//! got lost, a body that can't be gone on with, one that arrived garbled at the server. All of these may be done again here: names
//! and bytes stay the same, so it comes out the same, or the store says that something is there, and then that is looked at.
//! What the store decided is not asked again, nor is a body that is shorter than it should be though nothing broke off: it
//! would be so again.

use super::failure::{find_error, is_garbled, is_timeout_reply, was_repeated_by_client};
use crate::edges::system::random;
use crate::words::limits::{STORE_ATTEMPTS_MAX, STORE_PAUSE_MS_MAX, STORE_PAUSE_MS_MIN, STORE_RETRY_SECS_MAX};
use object_store::client::{HttpError, HttpErrorKind};
use std::time::Duration;
use tokio::time::Instant;

/// How long a store is asked again; of a directory, it is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) attempts_max: u32,
    pub(super) time_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { attempts_max: STORE_ATTEMPTS_MAX, time_max: Duration::from_secs(STORE_RETRY_SECS_MAX) }
    }
}

impl Patience {
    /// Asks once.
    pub(super) const NONE: Patience = Patience { attempts_max: 1, time_max: Duration::ZERO };
}

/// The attempts at one thing.
#[derive(Debug)]
pub(super) struct Attempts {
    patience: Patience,
    begun: Instant,
    failed_n: u32,
}

impl Attempts {
    /// Begins with the first.
    pub(super) fn begin(patience: Patience) -> Attempts {
        Attempts { patience, begun: Instant::now(), failed_n: 0 }
    }

    /// Notes that one failed; waits, and returns true, if another is worth it.
    ///
    /// Of a request that is safe to repeat by HTTP's rules the client has repeated all that it could.
    pub(super) async fn again(&mut self, error: &object_store::Error, is_safe: bool) -> bool {
        is_worth_another(error, is_safe) && self.pause().await
    }

    /// Notes that one failed; waits, longer from one attempt to the next and never as long as others do, and returns true,
    /// unless it was the last.
    pub(super) async fn pause(&mut self) -> bool {
        self.failed_n += 1;
        if self.failed_n >= self.patience.attempts_max || self.begun.elapsed() >= self.patience.time_max {
            return false;
        }
        let longest_ms = (STORE_PAUSE_MS_MIN << (2 * self.failed_n).min(16)).min(STORE_PAUSE_MS_MAX);
        tokio::time::sleep(with_jitter(Duration::from_millis(longest_ms))).await;
        true
    }
}

/// Returns between half of a time and all of it.
pub(super) fn with_jitter(longest: Duration) -> Duration {
    let share = random::<1>().map_or(128, |[byte]| u32::from(byte));
    longest / 2 + longest * share / 512
}

fn is_worth_another(error: &object_store::Error, is_safe: bool) -> bool {
    if is_garbled(error) || is_timeout_reply(error) {
        return true;
    }
    let Some(http) = find_error::<HttpError>(error) else { return false };
    match http.kind() {
        // In a body these come, too, and there nobody has repeated them.
        HttpErrorKind::Connect | HttpErrorKind::Request => !was_repeated_by_client(error),
        HttpErrorKind::Timeout | HttpErrorKind::Interrupted => !is_safe || !was_repeated_by_client(error),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn patience(attempts_max: u32, secs: u64) -> Patience {
        Patience { attempts_max, time_max: Duration::from_secs(secs) }
    }

    fn broken(kind: HttpErrorKind) -> object_store::Error {
        let source = Box::new(HttpError::new(kind, io::Error::from(io::ErrorKind::UnexpectedEof)));
        object_store::Error::Generic { store: "S3", source }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded_in_number_and_in_time_and_pauses_grow() {
        let begun = Instant::now();
        let mut attempts = Attempts::begin(patience(5, 3600));
        let mut pauses = Vec::new();
        let mut last = begun;
        while attempts.again(&broken(HttpErrorKind::Interrupted), false).await {
            pauses.push(last.elapsed());
            last = Instant::now();
        }
        assert_eq!(pauses.len(), 4, "{pauses:?}");
        assert!(pauses.windows(2).take(2).all(|two| two[0] < two[1]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| pause.as_millis() <= u128::from(STORE_PAUSE_MS_MAX)), "{pauses:?}");

        let mut attempts = Attempts::begin(patience(1000, 10));
        let begun = Instant::now();
        while attempts.pause().await {}
        let secs = begun.elapsed().as_secs_f64();
        assert!((10.0..10.0 + STORE_PAUSE_MS_MAX as f64 / 1000.0).contains(&secs), "{secs} s");
        assert!(!Attempts::begin(Patience::NONE).pause().await, "once is once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_decided_is_not_asked_again() {
        let source = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code></Error>";
        let denied = object_store::Error::Generic { store: "S3", source: source.into() };
        assert!(!Attempts::begin(Patience::default()).again(&denied, false).await);
        let source = "Server returned non-2xx status code: 400 Bad Request: <Error><Code>BadDigest</Code></Error>";
        let garbled = object_store::Error::Generic { store: "S3", source: source.into() };
        assert!(Attempts::begin(Patience::default()).again(&garbled, false).await);
    }
}
