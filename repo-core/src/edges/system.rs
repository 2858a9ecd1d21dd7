//! What only the operating system knows: random bytes and the time of day.

use crate::words::error::{Error, Result};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns random bytes from the operating system.
///
/// # Errors
/// [`Error::System`]: it has none to give.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::System(format!("the system gave no random bytes: {error}")))?;
    Ok(bytes)
}

/// Returns the time of day in milliseconds since 1970 UTC. It is shown and stored, and decides nothing about safety.
pub fn now_ms() -> i64 {
    let since = |later: SystemTime, earlier| {
        later.duration_since(earlier).ok().and_then(|span| i64::try_from(span.as_millis()).ok())
    };
    let now = SystemTime::now();
    since(now, UNIX_EPOCH).or_else(|| since(UNIX_EPOCH, now).map(|ms| -ms)).unwrap_or(i64::MAX)
}
