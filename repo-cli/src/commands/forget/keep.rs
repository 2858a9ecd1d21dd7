//! The flags that say what a policy keeps.

use super::group_by_name;
use crate::exit::Failure;
use clap::Args;
use dedump_core::retention::{Count, Every, GroupBy, Period, Policy, Zone};
use std::collections::BTreeMap;

const KEEP: &str = "Policy";

/// What to keep. Flags that were not given are told from those that were.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = KEEP)]
pub struct KeepArgs {
    /// Keep the newest N snapshots (here and below: a number, or `all`)
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_last: Option<Count>,
    /// Keep the newest snapshot of each of the latest N hours that have one
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_hourly: Option<Count>,
    /// … of the latest N days
    ///
    /// While there are fewer days than N, the oldest snapshot stays too; likewise for hours, weeks and so on.
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_daily: Option<Count>,
    /// … of the latest N weeks, from Monday on
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_weekly: Option<Count>,
    /// … of the latest N months
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_monthly: Option<Count>,
    /// … of the latest N quarters
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_quarterly: Option<Count>,
    /// … of the latest N years
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    keep_yearly: Option<Count>,
    /// Keep all snapshots of this time: 90d, 1y6mo, 12h
    ///
    /// It counts back from the newest good snapshot of the group, or from now if that is earlier; so a source that
    /// is no longer backed up keeps what it has. Units: y, mo, w, d, h, min, s.
    #[arg(long, value_name = "TIME", value_parser = period)]
    keep_within: Option<Period>,
    /// Keep the newest snapshot of each hour of this time
    #[arg(long, value_name = "TIME", value_parser = period)]
    keep_within_hourly: Option<Period>,
    /// … of each day
    #[arg(long, value_name = "TIME", value_parser = period)]
    keep_within_daily: Option<Period>,
    /// … of each week
    #[arg(long, value_name = "TIME", value_parser = period)]
    keep_within_weekly: Option<Period>,
    /// … of each month
    #[arg(long, value_name = "TIME", value_parser = period)]
    keep_within_monthly: Option<Period>,
    /// … of each quarter
    #[arg(long, value_name = "TIME", value_parser = period)]
    keep_within_quarterly: Option<Period>,
    /// … of each year
    #[arg(long, value_name = "TIME", value_parser = period)]
    keep_within_yearly: Option<Period>,
    /// Keep all snapshots with this tag, whatever its value if none is given; repeat it for more
    #[arg(long = "keep-tag", value_name = "KEY[=VALUE]", value_parser = tag)]
    keep_tags: Vec<(String, Option<String>)>,
    /// What snapshots must have in common to be judged together: of source, host and tag=KEY; or `none` [default: source,host]
    #[arg(long, value_name = "LIST", value_parser = group_by)]
    group_by: Option<Groups>,
    /// The time zone whose hours, days and so on count, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    time_zone: Option<Zone>,
    /// Remove nothing that was committed less than this ago [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = min_age)]
    min_age: Option<Period>,
    /// Let the policy keep nothing, but for what stays whatever it says
    #[arg(long)]
    pub unsafe_keep_nothing: bool,
}

/// What clap would take for a flag that repeats, were it a list.
#[derive(Debug, Clone)]
struct Groups(Vec<GroupBy>);

impl KeepArgs {
    fn counts(&self) -> [(&'static str, Every, Option<Count>); 6] {
        [
            ("--keep-hourly", Every::Hour, self.keep_hourly),
            ("--keep-daily", Every::Day, self.keep_daily),
            ("--keep-weekly", Every::Week, self.keep_weekly),
            ("--keep-monthly", Every::Month, self.keep_monthly),
            ("--keep-quarterly", Every::Quarter, self.keep_quarterly),
            ("--keep-yearly", Every::Year, self.keep_yearly),
        ]
    }

    fn periods(&self) -> [(&'static str, Every, Option<Period>); 6] {
        [
            ("--keep-within-hourly", Every::Hour, self.keep_within_hourly),
            ("--keep-within-daily", Every::Day, self.keep_within_daily),
            ("--keep-within-weekly", Every::Week, self.keep_within_weekly),
            ("--keep-within-monthly", Every::Month, self.keep_within_monthly),
            ("--keep-within-quarterly", Every::Quarter, self.keep_within_quarterly),
            ("--keep-within-yearly", Every::Year, self.keep_within_yearly),
        ]
    }

    /// Returns a flag of a policy that was given, if any was.
    pub fn given(&self) -> Option<&'static str> {
        let counts = self.counts().map(|(flag, _, count)| (flag, count.is_some()));
        let periods = self.periods().map(|(flag, _, period)| (flag, period.is_some()));
        let others = [
            ("--keep-last", self.keep_last.is_some()),
            ("--keep-within", self.keep_within.is_some()),
            ("--keep-tag", !self.keep_tags.is_empty()),
            ("--group-by", self.group_by.is_some()),
            ("--time-zone", self.time_zone.is_some()),
            ("--min-age", self.min_age.is_some()),
            ("--unsafe-keep-nothing", self.unsafe_keep_nothing),
        ];
        let all = [&others[..], &counts[..], &periods[..]].concat();
        all.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }

    /// Returns the policy that they make.
    ///
    /// # Errors
    /// It would keep nothing, and nobody said that this is meant.
    pub fn policy(&self) -> Result<Policy, Failure> {
        let is_something = |count: &Count| *count != Count::First(0);
        let counts =
            self.counts().into_iter().filter_map(|(_, every, count)| Some((every, count.filter(is_something)?)));
        let periods = self.periods().into_iter().filter_map(|(_, every, period)| Some((every, period?)));
        let default = Policy::default();
        let policy = Policy {
            last: self.keep_last.filter(is_something),
            every: counts.collect(),
            within: self.keep_within,
            every_within: periods.collect::<BTreeMap<_, _>>(),
            tags: self.keep_tags.clone(),
            group_by: self.group_by.clone().map_or(default.group_by, |groups| groups.0),
            zone: self.time_zone.clone().unwrap_or(default.zone),
            min_age: self.min_age.unwrap_or(default.min_age),
        };
        let keeps_nothing = policy.last.is_none()
            && policy.within.is_none()
            && policy.every.is_empty()
            && policy.every_within.is_empty()
            && policy.tags.is_empty();
        match keeps_nothing && !self.unsafe_keep_nothing {
            true if self.given().is_none() => {
                Err(Failure::usage("forget what? give the ids of snapshots, or say what to keep, as in --keep-daily 7"))
            }
            true => Err(Failure::usage(
                "this policy keeps nothing; say what to keep, as in --keep-daily 7, or --unsafe-keep-nothing if that is meant",
            )),
            false => Ok(policy),
        }
    }
}

fn count(text: &str) -> Result<Count, String> {
    match text {
        "all" | "unlimited" | "-1" => Ok(Count::All),
        _ => text.parse().map(Count::First).map_err(|_| "give a number, or `all`".to_owned()),
    }
}

fn period(text: &str) -> Result<Period, String> {
    match min_age(text)? {
        period if period.is_zero() => Err("no time at all keeps nothing".to_owned()),
        period => Ok(period),
    }
}

fn min_age(text: &str) -> Result<Period, String> {
    text.parse::<Period>().map_err(|error| error.to_string())
}

fn zone(name: &str) -> Result<Zone, String> {
    Zone::named(name).map_err(|error| error.to_string())
}

fn tag(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
    if key.is_empty() { Err("write it as key or key=value".to_owned()) } else { Ok((key.to_owned(), value)) }
}

fn group_by(text: &str) -> Result<Groups, String> {
    if text == "none" {
        return Ok(Groups(Vec::new()));
    }
    let mut groups = Vec::new();
    for part in text.split(',') {
        let by = match (part, part.strip_prefix("tag=")) {
            ("source", _) => GroupBy::Source,
            ("host", _) => GroupBy::Host,
            (_, Some(key)) if !key.is_empty() => GroupBy::Tag(key.to_owned()),
            _ => return Err(format!("{part:?} is none of source, host and tag=KEY; or say `none`")),
        };
        if groups.contains(&by) {
            return Err(format!("{part} is named twice"));
        }
        groups.push(by);
    }
    Ok(Groups(groups))
}

/// Prints a policy's rules as the flags that ask for them: `--keep-daily 7 --keep-within 90d`.
pub fn in_words(policy: &Policy) -> Vec<(String, String)> {
    let count = |count: &Count| match count {
        Count::First(number) => number.to_string(),
        Count::All => "all".to_owned(),
    };
    let mut words = Vec::new();
    words.extend(policy.last.iter().map(|last| ("keep_last".to_owned(), count(last))));
    words.extend(policy.every.iter().map(|(every, of)| (format!("keep_{}", every.name()), count(of))));
    words.extend(policy.within.iter().map(|period| ("keep_within".to_owned(), period.to_string())));
    let within = policy.every_within.iter();
    words.extend(within.map(|(every, period)| (format!("keep_within_{}", every.name()), period.to_string())));
    words.extend([
        ("group_by".to_owned(), group_by_name(&policy.group_by)),
        ("time_zone".to_owned(), policy.zone.name().to_owned()),
        ("min_age".to_owned(), policy.min_age.to_string()),
    ]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_numbers_or_all() {
        assert_eq!((count("7"), count("all"), count("-1")), (Ok(Count::First(7)), Ok(Count::All), Ok(Count::All)));
        for text in ["", "-2", "7d", "1.5", "every"] {
            assert!(count(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn groups_are_sources_hosts_and_tags() {
        let groups = |text: &str| group_by(text).map(|groups| group_by_name(&groups.0));
        for text in ["source,host", "none", "tag=env", "host,tag=env,tag=tier"] {
            assert_eq!(groups(text).as_deref(), Ok(text));
        }
        for text in ["", "paths", "source,source", "tag=", "source,", "none,host"] {
            assert!(groups(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_of_zero_are_no_rule() {
        let none =
            KeepArgs { keep_last: Some(Count::First(0)), keep_daily: Some(Count::First(0)), ..KeepArgs::default() };
        assert_eq!(none.policy().map_err(|failure| failure.exit), Err(crate::exit::Exit::Usage));
        let policy = KeepArgs { unsafe_keep_nothing: true, ..none }.policy().expect("it is meant");
        assert_eq!(policy, Policy::default());
    }
}
