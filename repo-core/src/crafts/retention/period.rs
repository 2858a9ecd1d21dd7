//! Lengths of time as people give them: `90d`, `1y6mo`.

use crate::words::error::Error;
use std::fmt;
use std::str::FromStr;

/// A length of time. Months and days are the calendar's: a day is from a time of day to the same one of the next day, whether
/// or not the clocks change between; a month ends on the last day where there is no such date. The rest is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// Months; a year is 12.
    pub months: u32,
    /// Days; a week is 7.
    pub days: u32,
    /// Seconds.
    pub secs: u64,
}

impl Period {
    /// Returns whether it is no time at all.
    pub fn is_zero(&self) -> bool {
        *self == Period::default()
    }

    fn add(&mut self, number: u32, unit: &str) -> Option<()> {
        let secs = |each: u64| u64::from(number) * each;
        match unit {
            "y" => self.months = self.months.checked_add(number.checked_mul(12)?)?,
            "mo" => self.months = self.months.checked_add(number)?,
            "w" => self.days = self.days.checked_add(number.checked_mul(7)?)?,
            "d" => self.days = self.days.checked_add(number)?,
            "h" => self.secs += secs(3600),
            "min" => self.secs += secs(60),
            "s" => self.secs += secs(1),
            _ => return None,
        }
        Some(())
    }
}

/// Reads `90d`, `1y6mo`, `12h`; the units are y, mo, w, d, h, min, s. A bare `m` is refused: some mean months by it, others
/// minutes.
impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || {
            let units = "numbers with the units y, mo, w, d, h, min or s, as in 90d or 1y6mo";
            Error::Invalid(format!("{text:?} is no length of time: give {units}"))
        };
        let mut period = Period::default();
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(period);
        }
        if rest.is_empty() {
            return Err(refused());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
            let (number, after) = rest.split_at(digits);
            let (unit, left) = after.split_at(after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len()));
            number.parse().ok().and_then(|number| period.add(number, unit)).ok_or_else(refused)?;
            rest = left.trim_start();
        }
        Ok(period)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, mins, secs) = (self.secs / 3600, self.secs / 60 % 60, self.secs % 60);
        let (years, months, days) = (u64::from(self.months / 12), u64::from(self.months % 12), u64::from(self.days));
        for (number, unit) in [(years, "y"), (months, "mo"), (days, "d"), (hours, "h"), (mins, "min"), (secs, "s")] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        if self.is_zero() { f.write_str("0") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_printed() {
        for (text, months, days, secs, printed) in [
            ("90d", 0, 90, 0, "90d"),
            ("1y6mo", 18, 0, 0, "1y6mo"),
            ("2w", 0, 14, 0, "14d"),
            ("1d 12h", 0, 1, 43_200, "1d12h"),
            ("90min", 0, 0, 5400, "1h30min"),
            ("0", 0, 0, 0, "0"),
            ("0d", 0, 0, 0, "0"),
            ("45s", 0, 0, 45, "45s"),
        ] {
            let period: Period = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(period, Period { months, days, secs }, "{text:?}");
            assert_eq!(period.to_string(), printed);
            assert_eq!(printed.parse::<Period>().expect("what is printed is read"), period);
        }
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for text in ["", " ", "d", "90", "3m", "-1d", "1.5d", "1D", "1d2", "99999999999d", "999999999y", "1dd", "1h-2d"]
        {
            let error = text.parse::<Period>().expect_err(text);
            assert!(error.to_string().contains("as in 90d"), "{error}");
        }
    }
}
