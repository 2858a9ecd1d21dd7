//! The calendar of a time zone: which hour, day, week, month, quarter or year a time lies in. The only file that names jiff.
//!
//! The zones are those that are built in, never the machine's: so every host that applies a policy decides the same, a small
//! container without tzdata too, and nothing is read from the environment.

use super::period::Period;
use crate::words::error::{Error, Result};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp, Zoned};

/// Of which stretch of the calendar one snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Every {
    /// An hour on the clock. Where clocks are set back, the hour that comes twice counts twice.
    Hour,
    /// A date.
    Day,
    /// A week of ISO 8601: from Monday on.
    Week,
    /// A month.
    Month,
    /// A quarter of a year.
    Quarter,
    /// A year.
    Year,
}

impl Every {
    /// All of them, the shortest first.
    pub const ALL: [Every; 6] = [Every::Hour, Every::Day, Every::Week, Every::Month, Every::Quarter, Every::Year];

    /// Returns its name: "hourly", "daily", …
    pub fn name(self) -> &'static str {
        match self {
            Every::Hour => "hourly",
            Every::Day => "daily",
            Every::Week => "weekly",
            Every::Month => "monthly",
            Every::Quarter => "quarterly",
            Every::Year => "yearly",
        }
    }
}

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// Returns the zone of UTC.
    pub fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// Returns the zone of an IANA name, such as `Europe/Berlin`, by the database that is built in.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there is none of that name.
    pub fn named(name: &str) -> Result<Zone> {
        let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| {
            Error::Invalid(format!("there is no time zone {name:?}: name one as in Europe/Berlin, or UTC"))
        })?;
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Ok(Zone { name, zone })
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the stretch that a time lies in, which no other stretch has: `2026-11-20 02:00Z`, `2026-11-20`,
    /// `2026-W47`, `2026-11`, `2026-Q4`, `2026`.
    pub fn bucket(&self, every: Every, time_ms: i64) -> String {
        let time = self.at(time_ms);
        let (year, month) = (time.year(), time.month());
        match every {
            Every::Hour => format!("{} {:02}:00{}", time.date(), time.hour(), self.offset(&time)),
            Every::Day => time.date().to_string(),
            Every::Week => {
                let week = time.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Every::Month => format!("{year:04}-{month:02}"),
            Every::Quarter => format!("{year:04}-Q{}", (month + 2) / 3),
            Every::Year => format!("{year:04}"),
        }
    }

    /// Prints a time for a person: `2026-11-20 02:15Z`, or with the zone's offset.
    pub fn show(&self, time_ms: i64) -> String {
        let time = self.at(time_ms);
        format!("{} {:02}:{:02}{}", time.date(), time.hour(), time.minute(), self.offset(&time))
    }

    /// Returns the time that lies a period before another; the earliest there is if that is before all calendars.
    pub fn before(&self, time_ms: i64, period: &Period) -> i64 {
        let span = Span::new().try_months(period.months).and_then(|span| span.try_days(period.days));
        let Ok(start) = span.and_then(|span| self.at(time_ms).checked_sub(span)) else { return i64::MIN };
        let exact_ms = i64::try_from(period.secs).unwrap_or(i64::MAX).saturating_mul(1000);
        // What the calendar cannot tell apart, it cannot move either.
        let start_ms =
            if period.months == 0 && period.days == 0 { time_ms } else { start.timestamp().as_millisecond() };
        start_ms.saturating_sub(exact_ms)
    }

    /// The time in this zone; one that is beyond the calendar is the nearest that is not.
    fn at(&self, time_ms: i64) -> Zoned {
        let nearest = if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::from_millisecond(time_ms).unwrap_or(nearest).to_zoned(self.zone.clone())
    }

    fn offset(&self, time: &Zoned) -> String {
        if self.zone == TimeZone::UTC { "Z".to_owned() } else { time.strftime("%:z").to_string() }
    }
}
