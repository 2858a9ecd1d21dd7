//! Which snapshots a policy keeps: a pure function from what is known of them, a policy and the time to a fate each.
//!
//! What holds whatever the policy, and is tested as properties:
//!
//! - **Rules only keep.** A snapshot goes if no rule keeps it, so rules are judged one by one, and more of them, or larger
//!   numbers, keep more.
//! - **Doing it again does no more.** What a rule kept, it keeps among what is left, too.
//! - **The future takes no place.** A snapshot whose time is ahead of the clock is kept, and no rule counts or starts from
//!   it: one wrong clock, or one forged snapshot, cannot make the true ones old. When the clock that judges is itself ahead,
//!   `within` helps: it counts back from the newest good snapshot of the group, never from a later time.
//! - **Only good ones push out good ones.** Good snapshots are judged among themselves. The others are judged among all, so
//!   they go when either kind takes their place.
//! - **A source keeps its last good snapshot**, in whatever groups, and whatever the policy looks at. A clock that was set
//!   back may make a later snapshot look older; so what says that it came after the last good one (its `parent` leads
//!   there) stays with it, until a time passes that one's.

mod calendar;
mod judge;
mod period;

pub use calendar::{Every, Zone};
pub use judge::judge;
pub use period::Period;

use crate::words::id::SnapshotId;
use std::collections::BTreeMap;
use std::fmt;

/// What a policy looks at in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Its id; of snapshots of one time, the larger counts as the newer.
    pub id: SnapshotId,
    /// When it began, in milliseconds since 1970 UTC, by its host's clock: its place in the calendar.
    pub time_ms: i64,
    /// When it was committed, likewise: its age counts from then.
    pub committed_ms: i64,
    /// What was dumped.
    pub source: &'a str,
    /// Where.
    pub host: &'a str,
    /// The user's labels.
    pub tags: &'a BTreeMap<String, String>,
    /// Whether it is complete, and nothing looks odd.
    pub is_good: bool,
    /// The snapshot that its backup found before it.
    pub parent: Option<SnapshotId>,
    /// What holds it, if anything does.
    pub hold: Option<Held>,
    /// Whether the policy is to judge it. The others are kept, and count only for their source's last good snapshot.
    pub is_meant: bool,
}

/// A hold on a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Why.
    pub reason: String,
    /// When it ends, in milliseconds since 1970 UTC, if it does.
    pub until_ms: Option<i64>,
}

/// How many a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// So many.
    First(u64),
    /// All.
    All,
}

impl Count {
    fn is_reached(self, number: u64) -> bool {
        self <= Count::First(number)
    }
}

/// What snapshots must have in common to be judged together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupBy {
    /// Their source.
    Source,
    /// Their host.
    Host,
    /// The value of the tag of this key; none is a value, too.
    Tag(String),
}

impl GroupBy {
    /// Returns its name: "source", "host", "tag=KEY".
    pub fn name(&self) -> String {
        match self {
            GroupBy::Source => "source".to_owned(),
            GroupBy::Host => "host".to_owned(),
            GroupBy::Tag(key) => format!("tag={key}"),
        }
    }
}

/// What to keep. The default has no rule, groups by source and host, counts in UTC, and leaves what is younger than an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many.
    pub last: Option<Count>,
    /// The newest of each of the latest so many hours, days, … that have one.
    pub every: BTreeMap<Every, Count>,
    /// All of this time.
    pub within: Option<Period>,
    /// The newest of each hour, day, … of this time.
    pub every_within: BTreeMap<Every, Period>,
    /// All that carry one of these tags: a key, and its value unless any will do.
    pub tags: Vec<(String, Option<String>)>,
    /// What is judged together; all of them, if empty.
    pub group_by: Vec<GroupBy>,
    /// The calendar that the rules count in.
    pub zone: Zone,
    /// Younger ones stay in any case.
    pub min_age: Period,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            last: None,
            every: BTreeMap::new(),
            within: None,
            every_within: BTreeMap::new(),
            tags: Vec::new(),
            group_by: vec![GroupBy::Source, GroupBy::Host],
            zone: Zone::utc(),
            min_age: Period { secs: 3600, ..Period::default() },
        }
    }
}

impl Policy {
    /// Returns the group of a snapshot: what it is grouped by, and the snapshot's value of each.
    pub fn group_of(&self, snapshot: &Facts<'_>) -> Vec<(GroupBy, String)> {
        let value = |by: &GroupBy| match by {
            GroupBy::Source => snapshot.source.to_owned(),
            GroupBy::Host => snapshot.host.to_owned(),
            GroupBy::Tag(key) => snapshot.tags.get(key).cloned().unwrap_or_default(),
        };
        self.group_by.iter().map(|by| (by.clone(), value(by))).collect()
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays, by all of these rules; there is at least one.
    Keep(Vec<Rule>),
    /// It goes.
    Remove,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// It is one of the newest.
    Last {
        /// Which, from 1.
        number: u64,
        /// Of how many.
        of: Count,
    },
    /// It is the newest of its hour, day, ….
    Every {
        /// Of what.
        every: Every,
        /// The name of that.
        bucket: String,
        /// Which, from 1.
        number: u64,
        /// Of how many.
        of: Count,
    },
    /// It is the oldest there is, and there are fewer hours, days, … than are to be kept: history is not cut short while it is
    /// shorter than asked for.
    Oldest {
        /// Of what there are too few.
        every: Every,
        /// How many there are.
        found: u64,
        /// How many there may be.
        of: Count,
    },
    /// It is not older than this.
    Within(Period),
    /// It is the newest of its hour, day, …, and not older than this.
    EveryWithin {
        /// Of what.
        every: Every,
        /// The name of that.
        bucket: String,
        /// How old it may be.
        period: Period,
    },
    /// It carries this tag.
    Tag {
        /// The tag's key.
        key: String,
        /// Its value, if that was asked for.
        value: Option<String>,
    },
    /// Somebody holds it.
    Held(Held),
    /// It was committed less than this ago.
    Young(Period),
    /// It is the last good snapshot of its source.
    LastGood {
        /// The source.
        source: String,
    },
    /// It is the last snapshot of its source, of which none is good.
    LastOfAll {
        /// The source.
        source: String,
    },
    /// It says that it came after the last snapshot of its source, whose time is later: a clock was set back.
    AfterLast {
        /// That last one.
        last: SnapshotId,
    },
    /// Its time is ahead of the clock: it is kept until that passes.
    Future,
    /// The policy was not asked about it.
    NotMeant,
}

impl Rule {
    /// Returns its name, as documented for `--json`.
    pub fn name(&self) -> &'static str {
        match self {
            Rule::Last { .. } => "last",
            Rule::Every { every, .. } => every.name(),
            Rule::Oldest { .. } => "oldest",
            Rule::Within(_) => "within",
            Rule::EveryWithin { every, .. } => match every {
                Every::Hour => "within-hourly",
                Every::Day => "within-daily",
                Every::Week => "within-weekly",
                Every::Month => "within-monthly",
                Every::Quarter => "within-quarterly",
                Every::Year => "within-yearly",
            },
            Rule::Tag { .. } => "tag",
            Rule::Held(_) => "held",
            Rule::Young(_) => "young",
            Rule::LastGood { .. } => "last-good",
            Rule::LastOfAll { .. } => "last-of-all",
            Rule::AfterLast { .. } => "after-last",
            Rule::Future => "future",
            Rule::NotMeant => "not-meant",
        }
    }

    /// Returns whether it is one that the policy asked for, rather than one that holds whatever the policy.
    pub fn is_asked_for(&self) -> bool {
        matches!(
            self,
            Rule::Last { .. }
                | Rule::Every { .. }
                | Rule::Oldest { .. }
                | Rule::Within(_)
                | Rule::EveryWithin { .. }
                | Rule::Tag { .. }
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Last { number, of: Count::First(of) } => write!(f, "last {number} of {of}"),
            Rule::Last { number, of: Count::All } => write!(f, "last {number}"),
            Rule::Every { every, bucket, number, of: Count::First(of) } => {
                write!(f, "{} {bucket} ({number} of {of})", every.name())
            }
            Rule::Every { every, bucket, number, of: Count::All } => write!(f, "{} {bucket} ({number})", every.name()),
            Rule::Oldest { every, found, of: Count::First(of) } => {
                write!(f, "oldest ({found} of {of} {} so far)", every.name())
            }
            Rule::Oldest { every, of: Count::All, .. } => write!(f, "oldest (all {})", every.name()),
            Rule::Within(period) => write!(f, "within {period}"),
            Rule::EveryWithin { every, bucket, period } => write!(f, "{} {bucket} within {period}", every.name()),
            Rule::Tag { key, value: Some(value) } => write!(f, "tag {key}={value}"),
            Rule::Tag { key, value: None } => write!(f, "tag {key}"),
            Rule::Held(Held { reason, until_ms: Some(until_ms) }) => {
                write!(f, "held: {reason}, until {}", Zone::utc().show(*until_ms))
            }
            Rule::Held(Held { reason, until_ms: None }) => write!(f, "held: {reason}"),
            Rule::Young(period) => write!(f, "younger than {period}"),
            Rule::LastGood { source } => write!(f, "last good of {source}"),
            Rule::LastOfAll { source } => write!(f, "last of {source}, none is good"),
            Rule::AfterLast { last } => write!(f, "taken after {}, by a clock that was set back", last.short()),
            Rule::Future => f.write_str("in the future"),
            Rule::NotMeant => f.write_str("not asked about"),
        }
    }
}
