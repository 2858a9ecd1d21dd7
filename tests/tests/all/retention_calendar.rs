//! The calendar of retention: edges of buckets, daylight saving, leap days, weeks of ISO 8601, days that never were.

use dedump_core::retention::{Every, Period, Zone};
use jiff::Timestamp;

fn zone(name: &str) -> Zone {
    Zone::named(name).expect("it is built in")
}

fn ms(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap_or_else(|error| panic!("{time}: {error}")).as_millisecond()
}

/// Expects each time's bucket in a zone.
fn expect(name: &str, every: Every, table: &[(&str, &str)]) {
    for (time, bucket) in table {
        assert_eq!(zone(name).bucket(every, ms(time)), *bucket, "{} of {time} in {name}", every.name());
    }
}

#[test]
fn buckets_end_where_the_next_begins() {
    for (every, before, after) in [
        (Every::Hour, "2026-11-20 01:00Z", "2026-11-20 02:00Z"),
        (Every::Day, "2026-11-20", "2026-11-21"),
        (Every::Week, "2026-W47", "2026-W48"),
        (Every::Month, "2026-11", "2026-12"),
        (Every::Quarter, "2026-Q3", "2026-Q4"),
        (Every::Year, "2026", "2027"),
    ] {
        let edge = match every {
            Every::Hour => "2026-11-20T02:00:00Z",
            Every::Day => "2026-11-21T00:00:00Z",
            Every::Week => "2026-11-23T00:00:00Z",
            Every::Month => "2026-12-01T00:00:00Z",
            Every::Quarter => "2026-10-01T00:00:00Z",
            Every::Year => "2027-01-01T00:00:00Z",
        };
        let buckets = [-1, 0].map(|offset| Zone::utc().bucket(every, ms(edge) + offset));
        assert_eq!(buckets, [before, after], "{edge}");
    }
}

#[test]
fn quarters_have_three_months() {
    for (month, quarter) in (1..=12).zip([1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]) {
        let time = ms(&format!("2026-{month:02}-15T00:00:00Z"));
        assert_eq!(Zone::utc().bucket(Every::Quarter, time), format!("2026-Q{quarter}"));
    }
}

#[test]
fn a_day_is_the_zones_day() {
    let time = "2026-11-20T23:30:00Z";
    for (name, day) in [
        ("UTC", "2026-11-20"),
        ("Europe/Berlin", "2026-11-21"),
        ("America/New_York", "2026-11-20"),
        ("Pacific/Kiritimati", "2026-11-21"),
        ("Pacific/Pago_Pago", "2026-11-20"),
    ] {
        expect(name, Every::Day, &[(time, day)]);
    }
}

#[test]
fn the_hour_that_comes_twice_counts_twice() {
    expect(
        "Europe/Berlin",
        Every::Hour,
        &[
            ("2026-10-25T00:30:00Z", "2026-10-25 02:00+02:00"),
            ("2026-10-25T01:30:00Z", "2026-10-25 02:00+01:00"),
            ("2026-10-25T02:30:00Z", "2026-10-25 03:00+01:00"),
        ],
    );
    expect(
        "America/New_York",
        Every::Hour,
        &[("2026-11-01T05:30:00Z", "2026-11-01 01:00-04:00"), ("2026-11-01T06:30:00Z", "2026-11-01 01:00-05:00")],
    );
    // By half an hour only: from 02:00 back to 01:30.
    expect(
        "Australia/Lord_Howe",
        Every::Hour,
        &[
            ("2026-04-04T14:15:00Z", "2026-04-05 01:00+11:00"),
            ("2026-04-04T14:45:00Z", "2026-04-05 01:00+11:00"),
            ("2026-04-04T15:15:00Z", "2026-04-05 01:00+10:30"),
            ("2026-04-04T15:45:00Z", "2026-04-05 02:00+10:30"),
        ],
    );
}

#[test]
fn the_hour_that_is_left_out_is_no_bucket() {
    expect(
        "Europe/Berlin",
        Every::Hour,
        &[("2026-03-29T00:59:59Z", "2026-03-29 01:00+01:00"), ("2026-03-29T01:00:00Z", "2026-03-29 03:00+02:00")],
    );
    expect(
        "America/New_York",
        Every::Hour,
        &[("2026-03-08T06:59:59Z", "2026-03-08 01:00-05:00"), ("2026-03-08T07:00:00Z", "2026-03-08 03:00-04:00")],
    );
    expect(
        "Australia/Lord_Howe",
        Every::Hour,
        &[("2026-10-03T15:29:59Z", "2026-10-04 01:00+10:30"), ("2026-10-03T15:30:00Z", "2026-10-04 02:00+11:00")],
    );
}

#[test]
fn days_of_23_and_25_hours_are_days() {
    for (from, to, hours, day) in [
        ("2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", 23, "2026-03-29"),
        ("2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", 25, "2026-10-25"),
    ] {
        expect("Europe/Berlin", Every::Day, &[(from, day), (to, day)]);
        assert_eq!((ms(to) + 1000 - ms(from)) / 3_600_000, hours);
        for outside in [ms(from) - 1, ms(to) + 1000] {
            assert_ne!(zone("Europe/Berlin").bucket(Every::Day, outside), day);
        }
    }
}

#[test]
fn a_day_that_never_was_is_no_bucket() {
    // Samoa went from the 29th to the 31st of December 2011.
    expect(
        "Pacific/Apia",
        Every::Day,
        &[("2011-12-30T09:59:59Z", "2011-12-29"), ("2011-12-30T10:00:00Z", "2011-12-31")],
    );
}

#[test]
fn a_clock_set_back_over_midnight_returns_to_the_day_before() {
    // At 00:01 on 2010-11-07 clocks went back to 23:01 of the 6th.
    expect(
        "America/St_Johns",
        Every::Day,
        &[
            ("2010-11-07T02:29:00Z", "2010-11-06"),
            ("2010-11-07T02:30:30Z", "2010-11-07"),
            ("2010-11-07T02:31:00Z", "2010-11-06"),
            ("2010-11-07T03:30:00Z", "2010-11-07"),
        ],
    );
}

#[test]
fn leap_days_are_days() {
    expect("UTC", Every::Day, &[("2028-02-29T12:00:00Z", "2028-02-29"), ("2028-03-01T00:00:00Z", "2028-03-01")]);
    let year = Period { months: 12, ..Period::default() };
    assert_eq!(Zone::utc().before(ms("2028-02-29T12:00:00Z"), &year), ms("2027-02-28T12:00:00Z"));
    let leap = Period { months: 48, ..Period::default() };
    assert_eq!(Zone::utc().before(ms("2028-02-29T12:00:00Z"), &leap), ms("2024-02-29T12:00:00Z"));
    assert_eq!(Zone::utc().before(ms("2100-03-01T00:00:00Z"), &days(1)), ms("2100-02-28T00:00:00Z"));
}

#[test]
fn weeks_are_those_of_iso_8601() {
    expect(
        "UTC",
        Every::Week,
        &[
            ("2020-12-31T12:00:00Z", "2020-W53"),
            ("2021-01-03T23:59:59Z", "2020-W53"),
            ("2021-01-04T00:00:00Z", "2021-W01"),
            ("2026-12-31T12:00:00Z", "2026-W53"),
            ("2027-01-01T12:00:00Z", "2026-W53"),
            ("2024-12-30T00:00:00Z", "2025-W01"),
            ("2024-12-29T23:59:59Z", "2024-W52"),
        ],
    );
    // A Sunday's night in one zone is a Monday's morning in another.
    expect("Asia/Tokyo", Every::Week, &[("2021-01-03T20:00:00Z", "2021-W01")]);
}

#[test]
fn a_day_back_is_the_same_time_of_the_day_before_whatever_the_clocks_did() {
    let berlin = zone("Europe/Berlin");
    assert_eq!(berlin.before(ms("2026-10-26T11:00:00Z"), &days(2)), ms("2026-10-24T10:00:00Z"));
    assert_eq!(berlin.before(ms("2026-03-30T10:00:00Z"), &days(2)), ms("2026-03-28T11:00:00Z"));
    let hours = Period { secs: 48 * 3600, ..Period::default() };
    assert_eq!(berlin.before(ms("2026-10-26T11:00:00Z"), &hours), ms("2026-10-24T11:00:00Z"));
    // Half past two on a day that has none.
    assert_eq!(berlin.before(ms("2026-03-30T00:30:00Z"), &days(1)), ms("2026-03-29T01:30:00Z"));
}

#[test]
fn months_back_end_on_the_last_day_there_is() {
    let month = |months| Period { months, ..Period::default() };
    assert_eq!(Zone::utc().before(ms("2026-03-31T08:00:00Z"), &month(1)), ms("2026-02-28T08:00:00Z"));
    assert_eq!(Zone::utc().before(ms("2026-05-31T08:00:00Z"), &month(1)), ms("2026-04-30T08:00:00Z"));
    assert_eq!(Zone::utc().before(ms("2026-01-31T08:00:00Z"), &month(13)), ms("2024-12-31T08:00:00Z"));
}

#[test]
fn further_back_than_all_calendars_is_the_beginning_of_time() {
    for period in [
        Period { months: u32::MAX, ..Period::default() },
        Period { days: u32::MAX, ..Period::default() },
        Period { months: 12 * 9000, days: 365 * 9000, secs: 0 },
    ] {
        assert_eq!(Zone::utc().before(0, &period), i64::MIN, "{period:?}");
    }
    assert_eq!(Zone::utc().before(0, &Period { secs: u64::MAX, ..Period::default() }), -i64::MAX);
    assert_eq!(Zone::utc().before(i64::MIN, &Period::default()), i64::MIN);
}

#[test]
fn zones_are_known_by_their_names() {
    assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
    assert_eq!((zone("UTC").name(), zone("UTC").show(0)), ("UTC", "1970-01-01 00:00Z".to_owned()));
    assert_eq!(zone("Asia/Kathmandu").show(ms("2026-11-20T12:00:00Z")), "2026-11-20 17:45+05:45");
    for name in ["", "Berlin", "Europe/Nowhere", "local", "../../etc/passwd"] {
        let error = Zone::named(name).expect_err(name);
        assert!(error.to_string().contains("as in Europe/Berlin"), "{error}");
    }
}

fn days(days: u32) -> Period {
    Period { days, ..Period::default() }
}
