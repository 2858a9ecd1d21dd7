//! Plans what a retention policy forgets. The judgement itself is pure and lies in `crafts/retention`.

use super::find::Filter;
use crate::crafts::retention::{Facts, Fate, GroupBy, Policy, judge};
use crate::edges::system::now_ms;
use crate::format::snapshot::Quality;
use crate::state::holds::{self, Hold};
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Snapshot};
use crate::words::error::Result;
use crate::words::id::SnapshotId;
use std::collections::BTreeMap;

/// What a policy does to the snapshots that it was asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetPlan {
    /// The time that it judged by, in milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// The groups, sorted by what they have in common.
    pub groups: Vec<ForgetGroup>,
    /// Snapshots that do not open, each with the reason: they are kept, and take no place.
    pub unreadable: Vec<String>,
}

/// Snapshots that are judged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetGroup {
    /// What they are grouped by, and what of it they have in common.
    pub key: Vec<(GroupBy, String)>,
    /// The snapshots, oldest first.
    pub snapshots: Vec<Judged>,
}

/// A snapshot, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The hold on it, also one that has ended.
    pub hold: Option<Hold>,
    /// What becomes of it.
    pub fate: Fate,
}

impl ForgetGroup {
    /// Returns the snapshots that go.
    pub fn removed(&self) -> impl Iterator<Item = &Snapshot> {
        let goes = |judged: &&Judged| judged.fate == Fate::Remove;
        self.snapshots.iter().filter(goes).map(|judged| &judged.snapshot)
    }

    /// Returns whether snapshots go and the policy keeps none of the others, even if something else does.
    pub fn keeps_nothing(&self) -> bool {
        let is_asked_for = |judged: &Judged| match &judged.fate {
            Fate::Keep(rules) => rules.iter().any(|rule| rule.is_asked_for()),
            Fate::Remove => false,
        };
        self.removed().next().is_some() && !self.snapshots.iter().any(is_asked_for)
    }
}

impl ForgetPlan {
    /// Returns the ids of the snapshots that go.
    pub fn removed(&self) -> Vec<SnapshotId> {
        self.groups.iter().flat_map(ForgetGroup::removed).map(|snapshot| snapshot.id).collect()
    }
}

/// Judges the snapshots that a filter means by a policy, by the clock of this host. Changes nothing; hand
/// [`ForgetPlan::removed`] to [`forget_all`](crate::forget_all).
///
/// # Errors
/// [`Error::Store`](crate::Error::Store). Damaged snapshots are in the plan.
pub async fn plan_forget(repository: &Repository, filter: &Filter, policy: &Policy) -> Result<ForgetPlan> {
    let snapshots = snapshots::load(repository).await?;
    let holds = holds::load(repository).await?;
    let now_ms = now_ms();
    let facts: Vec<Facts<'_>> =
        snapshots.standing.iter().map(|snapshot| facts(snapshot, holds.get(&snapshot.id), filter)).collect();
    let fates = judge(&facts, policy, now_ms);
    let mut groups: BTreeMap<Vec<(GroupBy, String)>, Vec<Judged>> = BTreeMap::new();
    for ((snapshot, facts), fate) in snapshots.standing.iter().zip(&facts).zip(fates) {
        if facts.is_meant {
            let judged = Judged { snapshot: snapshot.clone(), hold: holds.get(&snapshot.id).cloned(), fate };
            groups.entry(policy.group_of(facts)).or_default().push(judged);
        }
    }
    Ok(ForgetPlan {
        now_ms,
        groups: groups.into_iter().map(|(key, snapshots)| ForgetGroup { key, snapshots }).collect(),
        unreadable: snapshots.unreadable.iter().map(|(_, error)| error.to_string()).collect(),
    })
}

fn facts<'a>(snapshot: &'a Snapshot, hold: Option<&Hold>, filter: &Filter) -> Facts<'a> {
    let record = &snapshot.record;
    Facts {
        id: snapshot.id,
        time_ms: record.started_ms,
        committed_ms: record.ended_ms,
        source: &record.source,
        host: &record.host,
        tags: &record.tags,
        is_good: record.quality == Quality::Good,
        parent: record.parent,
        hold: hold.map(Hold::held),
        is_meant: filter.matches(snapshot),
    }
}
