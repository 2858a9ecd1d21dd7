//! Numbers for people.

use std::time::Duration;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Prints a length: `512 B`, `1.50 KiB`, `39.6 MiB`. Three digits, never more than is there.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // From 999.5 on it would be printed as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// Prints how many times larger `whole` is than `part`: `12.3`; `-` where nothing is stored.
pub fn ratio(whole: u64, part: u64) -> String {
    if part == 0 {
        return "-".to_owned();
    }
    three_digits(whole as f64 / part as f64)
}

/// Prints a share: `1.4 %`.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// Prints a count with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints a count and its noun: `1 chunk`, `2 chunks`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Prints a duration: `0.4 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        _ => format!("{} h {:02} min", secs / 3600, secs / 60 % 60),
    }
}

/// Prints a rate: `120 MiB/s`.
pub fn rate(bytes_n: u64, duration: Duration) -> String {
    let per_sec = bytes_n as f64 / duration.as_secs_f64().max(0.001);
    format!("{}/s", bytes(per_sec as u64))
}

/// Prints what was saved by each means: `1.20 GiB by deduplication, 310 MiB by delta, 40.2 MiB by compression`.
pub fn savings(deduplicated: u64, (compressed, delta): (u64, u64)) -> String {
    let [deduplicated, delta, compressed] = [deduplicated, delta, compressed].map(bytes);
    format!("{deduplicated} by deduplication, {delta} by delta, {compressed} by compression")
}

/// Prints how many chunks there are at each depth, from 0: `1,204 whole, 310 one deep, 4 two deep`.
pub fn depths(chunks_n: impl Iterator<Item = u64>) -> String {
    const NAMES: [&str; 9] = [
        "whole",
        "one deep",
        "two deep",
        "three deep",
        "four deep",
        "five deep",
        "six deep",
        "seven deep",
        "eight deep",
    ];
    let named = NAMES.into_iter().zip(chunks_n).filter(|(_, chunks_n)| *chunks_n > 0);
    let named: Vec<String> = named.map(|(name, chunks_n)| format!("{} {name}", count(chunks_n))).collect();
    if named.is_empty() { "-".to_owned() } else { named.join(", ") }
}

/// Prints text that others chose without what could command a terminal.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn three_digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_three_digits_and_a_unit() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 * 1024, "10.0 KiB"),
            (1023 * 1024, "1.00 MiB"),
            (41_523_200, "39.6 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(n), text, "{n}");
        }
    }

    #[test]
    fn ratios_and_shares_of_nothing_are_a_dash() {
        assert_eq!((ratio(1000, 100).as_str(), ratio(5, 0).as_str()), ("10.0", "-"));
        assert_eq!((percent(1, 8).as_str(), percent(0, 0).as_str()), ("12.5 %", "-"));
    }

    #[test]
    fn counts_keep_their_thousands_apart() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        assert_eq!((counted(1, "chunk").as_str(), counted(0, "chunk").as_str()), ("1 chunk", "0 chunks"));
    }

    #[test]
    fn durations_use_the_unit_that_matters() {
        for (ms, text) in [(400, "0.4 s"), (185_000, "3 min 05 s"), (7_620_000, "2 h 07 min")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
