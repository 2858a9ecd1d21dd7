//! Times, read from the command line and printed: always with their offset, UTC unless it says otherwise.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Reads a time: `2026-01-31`, `2026-01-31 17:05`, or RFC 3339 as in `2026-01-31T17:05:00+01:00`. Without an offset it is UTC.
/// Returns milliseconds since 1970 UTC.
///
/// # Errors
/// A line that says which forms there are.
pub fn parse_ms(text: &str) -> Result<i64, String> {
    let in_utc = |time: DateTime| time.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    let text = text.trim();
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>().and_then(in_utc))
        .or_else(|_| text.parse::<Date>().and_then(|date| in_utc(date.at(0, 0, 0, 0))))
        .map(Timestamp::as_millisecond)
        .map_err(|_| {
            "give a date like 2026-01-31, a time like \"2026-01-31 17:05\" (UTC), or one with an offset like \
             2026-01-31T17:05:00+01:00"
                .to_owned()
        })
}

/// Returns the time of day, in milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Prints a time for a person: `2026-01-31 17:05:00Z`.
pub fn for_people(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Prints the date of a time, in UTC: `2026-01-31`.
pub fn date(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

/// Prints a time for a program: RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| "?".to_owned(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let day = 1_769_817_600_000;
        for (text, ms) in [
            ("2026-01-31", day),
            ("2026-01-31 17:05", day + 61_500_000),
            ("2026-01-31T17:05", day + 61_500_000),
            ("2026-01-31 17:05:01", day + 61_501_000),
            ("2026-01-31T17:05:00Z", day + 61_500_000),
            ("2026-01-31T17:05:00+01:00", day + 57_900_000),
            ("2026-01-31 17:05:00-02:00", day + 68_700_000),
        ] {
            assert_eq!(parse_ms(text), Ok(ms), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2026-02-30", "31.01.2026", "2026-01-31 25:00", "17:05"] {
            assert!(parse_ms(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_are_printed_with_their_offset() {
        assert_eq!(for_people(1_769_879_100_042), "2026-01-31 17:05:00Z");
        assert_eq!(rfc3339(1_769_879_100_042), "2026-01-31T17:05:00.042Z");
        assert_eq!(for_people(i64::MAX), "?");
    }
}
