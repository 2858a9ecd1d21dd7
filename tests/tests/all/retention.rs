//! The retention policy: what always holds of it, as properties of random repositories, and what each rule says, as examples.
//! The calendar has its own file.

use dedump_core::retention::{Count, Every, Facts, Fate, GroupBy, Held, Period, Policy, Rule, Zone, judge};
use dedump_core::{SessionId, SnapshotId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// 2026-11-20 12:00 UTC, a Friday.
const NOW: i64 = 1_795_176_000_000;
/// What counts as the future starts here.
const AHEAD: i64 = 300_000;

/// A snapshot as the tests have it.
#[derive(Debug, Clone)]
struct Snap {
    id: SnapshotId,
    time_ms: i64,
    committed_ms: i64,
    source: String,
    host: String,
    tags: BTreeMap<String, String>,
    is_good: bool,
    parent: Option<SnapshotId>,
    hold: Option<Held>,
    is_meant: bool,
}

impl Snap {
    /// A good one of `app` on `db1`.
    fn at(number: u8, time_ms: i64) -> Snap {
        Snap {
            id: id(number),
            time_ms,
            committed_ms: time_ms,
            source: "app".to_owned(),
            host: "db1".to_owned(),
            tags: BTreeMap::new(),
            is_good: true,
            parent: None,
            hold: None,
            is_meant: true,
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            id: self.id,
            time_ms: self.time_ms,
            committed_ms: self.committed_ms,
            source: &self.source,
            host: &self.host,
            tags: &self.tags,
            is_good: self.is_good,
            parent: self.parent,
            hold: self.hold.clone(),
            is_meant: self.is_meant,
        }
    }

    fn is_future(&self) -> bool {
        self.time_ms.max(self.committed_ms) > NOW + AHEAD
    }

    fn is_real_and_good(&self) -> bool {
        self.is_good && !self.is_future()
    }
}

fn id(number: u8) -> SnapshotId {
    SessionId([number; 16])
}

fn fates(snaps: &[Snap], policy: &Policy) -> BTreeMap<SnapshotId, Fate> {
    let facts: Vec<_> = snaps.iter().map(Snap::facts).collect();
    snaps.iter().map(|snap| snap.id).zip(judge(&facts, policy, NOW)).collect()
}

fn kept(snaps: &[Snap], policy: &Policy) -> BTreeSet<SnapshotId> {
    fates(snaps, policy).into_iter().filter(|(_, fate)| *fate != Fate::Remove).map(|(id, _)| id).collect()
}

// ---- Random repositories ----

/// Times cluster: the same hour, the same day, years ago, ahead by a little and by a lot, and beyond all calendars.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => (0..40i64).prop_map(|hours| NOW - hours * HOUR),
        4 => (0..60i64, 0..4i64).prop_map(|(days, quarters)| NOW - days * DAY - quarters * HOUR / 4),
        2 => (0..1500i64).prop_map(|days| NOW - days * DAY),
        1 => (0..AHEAD).prop_map(|ahead| NOW + ahead),
        1 => (1..1000i64).prop_map(|days| NOW + days * DAY),
        1 => any::<i64>(),
    ]
}

fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    let tag = prop_oneof![
        4 => Just(None),
        1 => Just(Some(("env", "prod"))),
        1 => Just(Some(("env", "test"))),
        1 => Just(Some(("monthly", ""))),
    ];
    tag.prop_map(|tag| tag.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect())
}

/// A snapshot without its id; parents are any ids, also such as lead in circles or nowhere.
fn snap() -> impl Strategy<Value = Snap> {
    let hold = (any::<bool>(), option::of(-DAY..DAY))
        .prop_map(|(_, until)| Held { reason: "audit".to_owned(), until_ms: until.map(|from_now| NOW + from_now) });
    let marks = (prop::bool::weighted(0.75), option::weighted(0.5, 0..50u8), option::weighted(0.1, hold));
    let names = (prop_oneof!["app", "web"], prop_oneof!["db1", "db2"], tags());
    let took = prop_oneof![9 => 0..HOUR, 1 => -DAY..40 * DAY];
    (time(), took, names, marks, prop::bool::weighted(0.9)).prop_map(
        |(time_ms, took, (source, host, tags), (is_good, parent, hold), is_meant)| Snap {
            id: id(0),
            time_ms,
            committed_ms: time_ms.saturating_add(took),
            source,
            host,
            tags,
            is_good,
            parent: parent.map(id),
            hold,
            is_meant,
        },
    )
}

fn numbered(mut snaps: Vec<Snap>, first: u8) -> Vec<Snap> {
    (first..).zip(&mut snaps).for_each(|(number, snap)| snap.id = id(number));
    snaps
}

fn snaps() -> impl Strategy<Value = Vec<Snap>> {
    vec(snap(), 0..40).prop_map(|snaps| numbered(snaps, 0))
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![9 => (0..12u64).prop_map(Count::First), 1 => Just(Count::All)]
}

fn period() -> impl Strategy<Value = Period> {
    (0..4u32, 0..40u32, 0..100_000u64).prop_map(|(months, days, secs)| Period { months, days, secs })
}

fn of_each<T: std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = BTreeMap<Every, T>> {
    let each = Every::ALL.map(|every| option::weighted(0.3, value.clone()).prop_map(move |value| (every, value)));
    each.prop_map(|found| found.into_iter().filter_map(|(every, value)| value.map(|value| (every, value))).collect())
}

fn policy() -> impl Strategy<Value = Policy> {
    let counts = of_each(count().boxed());
    let periods = of_each(period().boxed());
    let keys = prop_oneof![Just(("env", Some("prod"))), Just(("env", None)), Just(("monthly", None))];
    let tags = vec(keys.prop_map(|(key, value)| (key.to_owned(), value.map(str::to_owned))), 0..2);
    let group_by =
        prop::sample::subsequence(vec![GroupBy::Source, GroupBy::Host, GroupBy::Tag("env".to_owned())], 0..=3);
    let zone = prop::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]);
    let min_age = prop_oneof![Just(0u64), 0..200_000u64];
    (option::of(count()), counts, option::of(period()), periods, tags, group_by, zone, min_age).prop_map(
        |(last, every, within, every_within, tags, group_by, zone, secs)| Policy {
            last,
            every,
            within,
            every_within,
            tags,
            group_by,
            zone: Zone::named(zone).expect("it is built in"),
            min_age: Period { secs, ..Period::default() },
        },
    )
}

/// The same cases on every run; a failure prints its smallest example.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1500,
        rng_seed: RngSeed::Fixed(20_261_120),
        failure_persistence: None,
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_must_stay_stays(snaps in snaps(), policy in policy()) {
        let kept = kept(&snaps, &policy);
        for snap in &snaps {
            let is_held = snap.hold.as_ref().is_some_and(|hold| hold.until_ms.is_none_or(|until| until > NOW));
            let age_ms = NOW.saturating_sub(snap.time_ms.max(snap.committed_ms));
            let is_young = age_ms < policy.min_age.secs as i64 * 1000;
            if is_held || is_young || snap.is_future() || !snap.is_meant {
                prop_assert!(kept.contains(&snap.id), "{snap:?}");
            }
        }
        // A source that had a good snapshot has one still, and none that is newer went; one that had any has one still.
        for source in ["app", "web"] {
            let of_source = || snaps.iter().filter(|snap| snap.source == source);
            let newest = of_source().filter(|snap| snap.is_real_and_good()).max_by_key(|snap| (snap.time_ms, snap.id));
            prop_assert!(newest.is_none_or(|newest| kept.contains(&newest.id)), "{source} lost {newest:?}");
            prop_assert!(of_source().next().is_none() || of_source().any(|snap| kept.contains(&snap.id)));
        }
    }

    #[test]
    fn what_is_kept_has_a_rule_that_says_so(snaps in snaps(), policy in policy()) {
        for fate in fates(&snaps, &policy).into_values() {
            if let Fate::Keep(rules) = fate {
                prop_assert!(!rules.is_empty());
                prop_assert!(rules.iter().all(|rule| !rule.to_string().is_empty() && !rule.name().is_empty()));
            }
        }
    }

    #[test]
    fn asking_for_more_keeps_no_less(snaps in snaps(), policy in policy(), more in policy()) {
        let larger = Policy {
            last: policy.last.max(more.last),
            every: most(&policy.every, &more.every),
            within: longest(policy.within, more.within),
            every_within: Every::ALL.into_iter().filter_map(|every| {
                let of = |policy: &Policy| policy.every_within.get(&every).copied();
                longest(of(&policy), of(&more)).map(|period| (every, period))
            }).collect(),
            tags: [&policy.tags[..], &more.tags].concat(),
            min_age: policy.min_age.max(more.min_age),
            ..policy.clone()
        };
        let (less, more) = (kept(&snaps, &policy), kept(&snaps, &larger));
        prop_assert!(less.is_subset(&more), "{:?} went, of {larger:?}", less.difference(&more));
    }

    #[test]
    fn snapshots_of_the_future_change_nothing_for_others(snaps in snaps(), ahead in vec(snap(), 1..8), policy in policy()) {
        let mut ahead = numbered(ahead, 40);
        ahead.iter_mut().for_each(|snap| snap.time_ms = snap.time_ms.max(NOW + AHEAD + 1 + snap.time_ms.rem_euclid(DAY)));
        let alone = fates(&snaps, &policy);
        let mut together = fates(&[&snaps[..], &ahead].concat(), &policy);
        together.retain(|id, _| alone.contains_key(id));
        prop_assert_eq!(alone, together);
    }

    #[test]
    fn doubtful_snapshots_change_nothing_for_good_ones(snaps in snaps(), doubtful in vec(snap(), 1..8), policy in policy()) {
        let mut doubtful = numbered(doubtful, 40);
        doubtful.iter_mut().for_each(|snap| snap.is_good = false);
        let mut alone = fates(&snaps, &policy);
        let mut together = fates(&[&snaps[..], &doubtful].concat(), &policy);
        let good: BTreeSet<_> = snaps.iter().filter(|snap| snap.is_good).map(|snap| snap.id).collect();
        alone.retain(|id, _| good.contains(id));
        together.retain(|id, _| good.contains(id));
        prop_assert_eq!(alone, together);
    }

    #[test]
    fn their_order_decides_nothing(
        (snaps, shuffled) in snaps().prop_flat_map(|snaps| (Just(snaps.clone()), Just(snaps).prop_shuffle())),
        policy in policy(),
    ) {
        prop_assert_eq!(fates(&snaps, &policy), fates(&shuffled, &policy));
    }

    #[test]
    fn doing_it_again_removes_no_more(snaps in snaps(), policy in policy()) {
        let first = kept(&snaps, &policy);
        let left: Vec<_> = snaps.iter().filter(|snap| first.contains(&snap.id)).cloned().collect();
        prop_assert_eq!(kept(&left, &policy), first);
    }

    #[test]
    fn what_is_not_meant_takes_no_place(snaps in snaps(), policy in policy()) {
        let meant: Vec<_> = snaps.iter().filter(|snap| snap.is_meant).cloned().collect();
        let mut together = by_rules(fates(&snaps, &policy));
        together.retain(|id, _| meant.iter().any(|snap| snap.id == *id));
        prop_assert_eq!(by_rules(fates(&meant, &policy)), together);
    }

    #[test]
    fn groups_do_not_know_of_one_another(snaps in snaps(), policy in policy()) {
        let mut groups: BTreeMap<_, Vec<Snap>> = BTreeMap::new();
        for snap in &snaps {
            groups.entry(policy.group_of(&snap.facts())).or_default().push(snap.clone());
        }
        let apart: BTreeMap<_, _> = groups.values().flat_map(|group| by_rules(fates(group, &policy))).collect();
        prop_assert_eq!(apart, by_rules(fates(&snaps, &policy)));
    }

    #[test]
    fn keeping_the_days_of_utc_is_what_a_plain_count_says(hours in vec(2..2000i64, 0..60), days in 1..20u64) {
        let snaps: Vec<_> = (0..).zip(&hours).map(|(number, hours)| Snap::at(number, NOW - hours * HOUR)).collect();
        let policy = Policy { every: BTreeMap::from([(Every::Day, Count::First(days))]), ..Policy::default() };
        // The newest of each day, by the day's number; of those, the latest; and the oldest of all while they are too few.
        let mut newest: BTreeMap<i64, (i64, SnapshotId)> = BTreeMap::new();
        for snap in &snaps {
            let of_day = newest.entry(snap.time_ms.div_euclid(DAY)).or_insert((snap.time_ms, snap.id));
            *of_day = (*of_day).max((snap.time_ms, snap.id));
        }
        let mut expected: BTreeSet<_> = newest.values().rev().take(days as usize).map(|(_, id)| *id).collect();
        if newest.len() < days as usize {
            expected.extend(snaps.iter().min_by_key(|snap| (snap.time_ms, snap.id)).map(|snap| snap.id));
        }
        prop_assert_eq!(kept(&snaps, &policy), expected);
    }

    #[test]
    fn no_time_is_too_strange(times in vec(any::<i64>(), 0..10), now in any::<i64>(), policy in policy()) {
        let snaps: Vec<_> = (0..).zip(times).map(|(number, time_ms)| Snap::at(number, time_ms)).collect();
        let facts: Vec<_> = snaps.iter().map(Snap::facts).collect();
        let fates = judge(&facts, &policy, now);
        prop_assert!(facts.is_empty() || fates.iter().any(|fate| *fate != Fate::Remove));
    }
}

/// The rules that the policy asked for: the others know of all snapshots of a source.
fn by_rules(fates: BTreeMap<SnapshotId, Fate>) -> BTreeMap<SnapshotId, Vec<Rule>> {
    let asked_for = |fate| match fate {
        Fate::Keep(rules) => rules.into_iter().filter(Rule::is_asked_for).collect(),
        Fate::Remove => Vec::new(),
    };
    fates.into_iter().map(|(id, fate)| (id, asked_for(fate))).collect()
}

fn most(one: &BTreeMap<Every, Count>, other: &BTreeMap<Every, Count>) -> BTreeMap<Every, Count> {
    let largest = |every: Every| Some((every, one.get(&every).max(other.get(&every)).copied()?));
    Every::ALL.into_iter().filter_map(largest).collect()
}

/// A period that is no shorter than either, whatever the calendar: more of every unit.
fn longest(one: Option<Period>, other: Option<Period>) -> Option<Period> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let [months, days] = [one.months.max(other.months), one.days.max(other.days)];
    Some(Period { months, days, secs: one.secs.max(other.secs) })
}

// ---- Examples ----

fn last(count: u64) -> Policy {
    Policy { last: Some(Count::First(count)), ..Policy::default() }
}

fn every(every: Every, count: u64) -> Policy {
    Policy { every: BTreeMap::from([(every, Count::First(count))]), ..Policy::default() }
}

/// What is kept, by number, with the rules in words.
fn told(snaps: &[Snap], policy: &Policy) -> Vec<(u8, String)> {
    let say = |(id, fate): (SnapshotId, Fate)| match fate {
        Fate::Keep(rules) => Some((id.0[0], rules.iter().map(Rule::to_string).collect::<Vec<_>>().join(", "))),
        Fate::Remove => None,
    };
    fates(snaps, policy).into_iter().filter_map(say).collect()
}

fn words(found: &[(u8, String)]) -> Vec<(u8, &str)> {
    found.iter().map(|(number, words)| (*number, words.as_str())).collect()
}

#[test]
fn every_rule_says_what_it_kept() {
    let mut snaps: Vec<_> = (0..5).map(|day| Snap::at(day as u8, NOW - (5 - day) * DAY)).collect();
    snaps[1].tags.insert("env".to_owned(), "prod".to_owned());
    snaps[2].hold = Some(Held { reason: "audit".to_owned(), until_ms: Some(NOW + 42 * DAY) });
    let policy = Policy {
        tags: vec![("env".to_owned(), Some("prod".to_owned()))],
        every: BTreeMap::from([
            (Every::Day, Count::First(1)),
            (Every::Year, Count::First(2)),
            (Every::Month, Count::All),
        ]),
        within: Some("36h".parse().expect("a period")),
        every_within: BTreeMap::from([(Every::Month, "1mo".parse().expect("a period"))]),
        ..last(2)
    };
    let found = told(&snaps, &policy);
    let expected = [
        (0, "oldest (all monthly), oldest (1 of 2 yearly so far)"),
        (1, "tag env=prod"),
        (2, "held: audit, until 2027-01-01 12:00Z"),
        (3, "last 2 of 2, within 36h"),
        (
            4,
            "last 1 of 2, daily 2026-11-19 (1 of 1), monthly 2026-11 (1), yearly 2026 (1 of 2), within 36h, \
             monthly 2026-11 within 1mo, last good of app",
        ),
    ];
    // 36 hours count back from the newest, which is a day old.
    assert_eq!(words(&found), expected);
}

#[test]
fn a_forged_or_mistaken_time_pushes_nothing_out() {
    // What restic's manual warns of: with one snapshot dated far ahead, "within" and "last" count from that.
    let mut snaps: Vec<_> = (0..10).map(|day| Snap::at(day as u8, NOW - (10 - day) * DAY)).collect();
    let policy = Policy { within: Some("3d".parse().expect("a period")), ..last(3) };
    let honest = kept(&snaps, &policy);
    assert_eq!(honest, [6, 7, 8, 9].map(id).into());
    snaps.extend((0..20).map(|number| Snap::at(100 + number, NOW + i64::from(number + 1) * 365 * DAY)));
    let poisoned = told(&snaps, &policy);
    assert!(honest.iter().all(|id| poisoned.iter().any(|(number, _)| *number == id.0[0])), "{poisoned:?}");
    assert!(poisoned.iter().filter(|(number, _)| *number >= 100).all(|(_, words)| words == "in the future"));
    assert_eq!(poisoned.len(), honest.len() + 20, "they are kept, and seen");
}

#[test]
fn a_commit_time_ahead_is_the_future_too() {
    let mut ahead = Snap::at(1, NOW - DAY);
    ahead.committed_ms = NOW + DAY;
    assert_eq!(
        words(&told(&[Snap::at(0, NOW - 2 * DAY), ahead], &last(1)))[..],
        [(0, "last 1 of 1, last good of app"), (1, "in the future"),]
    );
}

#[test]
fn a_clock_that_is_years_ahead_makes_nothing_old() {
    let snaps: Vec<_> = (0..10).map(|day| Snap::at(day as u8, NOW - (10 - day) * DAY)).collect();
    let facts: Vec<_> = snaps.iter().map(Snap::facts).collect();
    let policy = Policy { within: Some("3d".parse().expect("a period")), ..Policy::default() };
    let stays = |now_ms| judge(&facts, &policy, now_ms).iter().filter(|fate| **fate != Fate::Remove).count();
    assert_eq!((stays(NOW), stays(NOW + 3650 * DAY)), (4, 4), "it counts from the newest there is");
}

#[test]
fn tags_and_stretches_within_a_time_keep_what_they_say() {
    let mut snaps: Vec<_> = (0..4).map(|day| Snap::at(day, NOW - i64::from(4 - day) * DAY)).collect();
    for (snap, value) in snaps.iter_mut().zip(["prod", "test", "", "prod"]) {
        snap.tags = BTreeMap::from([("env".to_owned(), value.to_owned())]);
    }
    let tag = |key: &str, value: Option<&str>| {
        let tags = vec![(key.to_owned(), value.map(str::to_owned))];
        kept(&snaps, &Policy { tags, ..Policy::default() })
    };
    assert_eq!(tag("env", Some("prod")), [id(0), id(3)].into());
    assert_eq!(tag("env", Some("test")), [id(1), id(3)].into());
    assert_eq!(tag("env", None), [0, 1, 2, 3].map(id).into());
    assert_eq!(tag("tier", None), [id(3)].into(), "the last good one");
    let every_within = BTreeMap::from([(Every::Day, "2d".parse().expect("a period"))]);
    assert_eq!(kept(&snaps, &Policy { every_within, ..Policy::default() }), [1, 2, 3].map(id).into());
}

#[test]
fn a_newest_that_is_a_little_ahead_moves_no_period() {
    let policy = Policy { within: Some("3d".parse().expect("a period")), ..Policy::default() };
    let snaps = [Snap::at(0, NOW - 3 * DAY - 1), Snap::at(1, NOW - 3 * DAY), Snap::at(2, NOW + AHEAD)];
    assert_eq!(kept(&snaps, &policy), [id(1), id(2)].into());
}

#[test]
fn what_came_after_the_last_one_by_a_clock_that_was_set_back_stays() {
    // 2 was taken while the clock was a day ahead, 3 and 4 after it was set right: their parents say so.
    let mut snaps = [2 * DAY, 30 * HOUR, 5 * HOUR, 26 * HOUR, 25 * HOUR, 25 * HOUR].map(|age| Snap::at(0, NOW - age));
    (0..).zip(&mut snaps).for_each(|(number, snap)| snap.id = id(number));
    (snaps[3].parent, snaps[4].parent, snaps[5].parent) = (Some(id(2)), Some(id(3)), Some(id(1)));
    let found = told(&snaps, &last(1));
    let expected = [
        (2, "last 1 of 1, last good of app"),
        (3, "taken after 02020202, by a clock that was set back"),
        (4, "taken after 02020202, by a clock that was set back"),
    ];
    assert_eq!(words(&found), expected);
    // Once a time has passed the wrong one's, order is order again.
    let found = told(&[&snaps[..], &[Snap::at(9, NOW - 4 * HOUR)]].concat(), &last(1));
    assert_eq!(words(&found), [(9, "last 1 of 1, last good of app")]);
}

#[test]
fn doubtful_ones_go_when_either_kind_takes_their_place() {
    let mut snaps: Vec<_> = (0..4).map(|day| Snap::at(day as u8, NOW - (5 - day) * DAY)).collect();
    snaps[1].is_good = false;
    snaps[3].is_good = false;
    let found = told(&snaps, &last(2));
    assert_eq!(words(&found), [(0, "last 2 of 2"), (2, "last 1 of 2, last good of app"), (3, "last 1 of 2"),]);
}

#[test]
fn a_source_without_a_good_snapshot_keeps_its_last() {
    let mut snaps = [3, 2].map(|days| Snap::at(days, NOW - i64::from(days) * DAY));
    snaps.iter_mut().for_each(|snap| snap.is_good = false);
    assert_eq!(words(&told(&snaps, &Policy::default())), [(2, "last of app, none is good")]);
}

#[test]
fn groups_are_what_is_asked_for() {
    let mut snaps: Vec<_> = (0..8).map(|number| Snap::at(number, NOW - i64::from(8 - number) * DAY)).collect();
    for (number, snap) in snaps.iter_mut().enumerate() {
        snap.host = format!("db{}", number / 4);
        snap.tags = BTreeMap::from([("env".to_owned(), if number % 2 == 0 { "a" } else { "b" }.to_owned())]);
    }
    let env = || GroupBy::Tag("env".to_owned());
    for (group_by, expected) in [
        (vec![], vec![7]),
        (vec![GroupBy::Source], vec![7]),
        (vec![GroupBy::Source, GroupBy::Host], vec![3, 7]),
        (vec![env()], vec![6, 7]),
        (vec![GroupBy::Host, env()], vec![2, 3, 6, 7]),
    ] {
        let policy = Policy { group_by, ..last(1) };
        assert_eq!(kept(&snaps, &policy), expected.into_iter().map(id).collect(), "{:?}", policy.group_by);
    }
}

#[test]
fn of_one_time_the_larger_id_is_the_newer() {
    let snaps = [3, 1, 2].map(|number| Snap::at(number, NOW - DAY));
    assert_eq!(kept(&snaps, &last(1)), [id(3)].into());
    assert_eq!(kept(&snaps, &every(Every::Hour, 5)), [id(1), id(3)].into(), "the oldest is the smallest");
}

#[test]
fn history_shorter_than_asked_for_keeps_its_start() {
    // A snapshot a day from 2024-01-10 on, forgotten by a yearly policy every day: the first stays until there are 3 years.
    let policy = Policy { min_age: Period::default(), ..every(Every::Year, 3) };
    let start = 1_704_844_800_000;
    let mut standing: Vec<Snap> = Vec::new();
    let mut years = Vec::new();
    for day in 0..1200u32 {
        let mut snap = Snap::at(0, start + i64::from(day) * DAY);
        snap.id = SessionId(u128::from(day).to_be_bytes());
        let now = snap.time_ms + HOUR;
        standing.push(snap);
        let facts: Vec<_> = standing.iter().map(Snap::facts).collect();
        let fates = judge(&facts, &policy, now);
        standing =
            standing.into_iter().zip(fates).filter(|(_, fate)| *fate != Fate::Remove).map(|(snap, _)| snap).collect();
        if day % 365 == 300 {
            years.push((standing.len(), standing[0].time_ms == start));
        }
    }
    assert_eq!(years, [(2, true), (3, true), (3, false)]);
}

#[test]
fn the_minimum_age_counts_from_the_commit() {
    let mut long = Snap::at(1, NOW - 5 * HOUR);
    long.committed_ms = NOW - HOUR / 2;
    let snaps = [long, Snap::at(2, NOW - HOUR - 1), Snap::at(3, NOW - HOUR), Snap::at(4, NOW - HOUR + 1)];
    let found = told(&snaps, &Policy { group_by: vec![], ..Policy::default() });
    assert_eq!(words(&found), [(1, "younger than 1h"), (4, "younger than 1h, last good of app")]);
}
