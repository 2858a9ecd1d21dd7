//! The judgement: every rule is asked on its own, and what none keeps goes.

use super::{Count, Every, Facts, Fate, Period, Policy, Rule};
use crate::words::id::SnapshotId;
use crate::words::limits::CLOCK_AHEAD_SECS_MAX;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Some snapshots, by their place among all, the newest first.
type Line = Vec<usize>;

/// Says what becomes of each snapshot, in their order. Give it all snapshots of the repository, those that the policy is not
/// to judge too: see [`Facts::is_meant`].
///
/// The order in which they are given decides nothing.
pub fn judge(snapshots: &[Facts<'_>], policy: &Policy, now_ms: i64) -> Vec<Fate> {
    let mut judgement = Judgement { snapshots, policy, now_ms, rules: vec![Vec::new(); snapshots.len()] };
    for line in judgement.groups().into_values() {
        judgement.group(&line);
    }
    for at in 0..snapshots.len() {
        judgement.alone(at);
    }
    for line in judgement.sources().into_values() {
        judgement.source(&line);
    }
    let fate = |(rules, snapshot): (Vec<Rule>, &Facts<'_>)| match rules.is_empty() {
        _ if !snapshot.is_meant => Fate::Keep(vec![Rule::NotMeant]),
        true => Fate::Remove,
        false => Fate::Keep(rules),
    };
    judgement.rules.into_iter().zip(snapshots).map(fate).collect()
}

struct Judgement<'a> {
    snapshots: &'a [Facts<'a>],
    policy: &'a Policy,
    now_ms: i64,
    /// What keeps each snapshot so far.
    rules: Vec<Vec<Rule>>,
}

impl Judgement<'_> {
    fn is_future(&self, at: usize) -> bool {
        let ahead_ms = i64::try_from(CLOCK_AHEAD_SECS_MAX * 1000).unwrap_or(i64::MAX);
        let Facts { time_ms, committed_ms, .. } = self.snapshots[at];
        time_ms.max(committed_ms) > self.now_ms.saturating_add(ahead_ms)
    }

    /// Puts snapshots in order, the newest first, without those that are in the future.
    fn line(&self, places: impl Iterator<Item = usize>) -> Line {
        let mut line: Line = places.filter(|at| !self.is_future(*at)).collect();
        line.sort_by_key(|at| Reverse((self.snapshots[*at].time_ms, self.snapshots[*at].id)));
        line
    }

    /// Splits what the policy is to judge into its groups.
    fn groups(&self) -> BTreeMap<Vec<String>, Line> {
        let mut groups: BTreeMap<Vec<String>, Line> = BTreeMap::new();
        let meant = (0..self.snapshots.len()).filter(|at| self.snapshots[*at].is_meant);
        for at in self.line(meant) {
            let group = self.policy.group_of(&self.snapshots[at]).into_iter().map(|(_, value)| value);
            groups.entry(group.collect()).or_default().push(at);
        }
        groups
    }

    fn sources(&self) -> BTreeMap<String, Line> {
        let mut sources: BTreeMap<String, Line> = BTreeMap::new();
        for at in self.line(0..self.snapshots.len()) {
            sources.entry(self.snapshots[at].source.to_owned()).or_default().push(at);
        }
        sources
    }

    /// Asks the rules that the policy has, of one group.
    fn group(&mut self, line: &[usize]) {
        let good = self.good(line);
        // Where none is good, those that are not take their place: else an old group would lose all of them by time alone.
        let newest = good.first().or(line.first());
        let newest_ms = newest.map_or(self.now_ms, |at| self.snapshots[*at].time_ms);
        let reference_ms = newest_ms.min(self.now_ms);
        for (at, rule) in self.asked_for(&good, reference_ms) {
            self.rules[at].push(rule);
        }
        if good.len() < line.len() {
            for (at, rule) in self.asked_for(line, reference_ms) {
                if !self.snapshots[at].is_good {
                    self.rules[at].push(rule);
                }
            }
        }
    }

    fn good(&self, line: &[usize]) -> Line {
        line.iter().copied().filter(|at| self.snapshots[*at].is_good).collect()
    }

    fn asked_for(&self, line: &[usize], reference_ms: i64) -> Vec<(usize, Rule)> {
        let mut kept = Vec::new();
        if let Some(of) = self.policy.last {
            let numbered = (1..).zip(line).take_while(|(number, _)| !of.is_reached(number - 1));
            kept.extend(numbered.map(|(number, at)| (*at, Rule::Last { number, of })));
        }
        for (every, of) in &self.policy.every {
            self.every(line, *every, *of, &mut kept);
        }
        if let Some(period) = self.policy.within {
            let young = self.within(line, reference_ms, &period);
            kept.extend(young.iter().map(|at| (*at, Rule::Within(period))));
        }
        for (every, period) in &self.policy.every_within {
            let mut seen = BTreeSet::new();
            for at in self.within(line, reference_ms, period) {
                let bucket = self.policy.zone.bucket(*every, self.snapshots[at].time_ms);
                if seen.insert(bucket.clone()) {
                    kept.push((at, Rule::EveryWithin { every: *every, bucket, period: *period }));
                }
            }
        }
        kept
    }

    /// Keeps the newest of each of the latest stretches of the calendar that have one, and the oldest of all while those are
    /// fewer than asked for.
    fn every(&self, line: &[usize], every: Every, of: Count, kept: &mut Vec<(usize, Rule)>) {
        let (mut seen, mut number) = (BTreeSet::new(), 0);
        for at in line {
            let bucket = self.policy.zone.bucket(every, self.snapshots[*at].time_ms);
            if seen.contains(&bucket) {
                continue;
            }
            if of.is_reached(number) {
                return;
            }
            number += 1;
            seen.insert(bucket.clone());
            kept.push((*at, Rule::Every { every, bucket, number, of }));
        }
        if let Some(oldest) = line.last()
            && !of.is_reached(number)
            && kept.last().is_some_and(|(at, _)| at != oldest)
        {
            kept.push((*oldest, Rule::Oldest { every, found: number, of }));
        }
    }

    fn within(&self, line: &[usize], reference_ms: i64, period: &Period) -> Line {
        let start_ms = self.policy.zone.before(reference_ms, period);
        line.iter().copied().filter(|at| self.snapshots[*at].time_ms >= start_ms).collect()
    }

    /// Asks the rules that look at one snapshot alone.
    fn alone(&mut self, at: usize) {
        let Facts { time_ms, committed_ms, tags, hold, .. } = &self.snapshots[at];
        let rules = &mut self.rules[at];
        for (key, value) in &self.policy.tags {
            if tags.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found)) {
                rules.push(Rule::Tag { key: key.clone(), value: value.clone() });
            }
        }
        if let Some(held) = hold
            && held.until_ms.is_none_or(|until_ms| until_ms > self.now_ms)
        {
            rules.push(Rule::Held(held.clone()));
        }
        let min_age = self.policy.min_age;
        if self.is_future(at) {
            self.rules[at].push(Rule::Future);
        } else if *time_ms.max(committed_ms) > self.policy.zone.before(self.now_ms, &min_age) {
            self.rules[at].push(Rule::Young(min_age));
        }
    }

    /// Keeps a source's last good snapshot, and what says that it came after that.
    fn source(&mut self, line: &[usize]) {
        let good = self.good(line);
        let line = if good.is_empty() { line } else { &good };
        let Some(last) = line.first() else { return };
        let source = self.snapshots[*last].source.to_owned();
        let rule = if good.is_empty() { Rule::LastOfAll { source } } else { Rule::LastGood { source } };
        self.rules[*last].push(rule);
        let mut children: BTreeMap<SnapshotId, Line> = BTreeMap::new();
        for at in line {
            if let Some(parent) = self.snapshots[*at].parent {
                children.entry(parent).or_default().push(*at);
            }
        }
        let last = self.snapshots[*last].id;
        let mut pending = vec![last];
        while let Some(parent) = pending.pop() {
            // Taken out, so that forged parents that lead in a circle end.
            for at in children.remove(&parent).unwrap_or_default() {
                pending.push(self.snapshots[at].id);
                if self.snapshots[at].id != last {
                    self.rules[at].push(Rule::AfterLast { last });
                }
            }
        }
    }
}
