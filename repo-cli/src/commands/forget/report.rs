//! What a policy does, for people and for programs: every snapshot, and the rule that kept it.

use super::Failed;
use super::keep::in_words;
use crate::output::Table;
use crate::{human, json, time};
use dedump_core::ForgetPlan;
use dedump_core::retention::{Count, Fate, GroupBy, Policy, Rule};
use dedump_core::{ForgetGroup, Judged};
use serde_json::{Value, json};

/// The report as text; in a terminal `width` columns wide.
pub fn to_text(plan: &ForgetPlan, policy: &Policy, dry_run: bool, failed: &Failed<'_>, width: Option<usize>) -> String {
    if plan.groups.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let mut text = String::new();
    for group in &plan.groups {
        let removed_n = group.removed().count();
        let kept_n = group.snapshots.len() - removed_n;
        text.push_str(&format!("{}: {}, {removed_n} to remove\n", group_name(&group.key), kept(kept_n)));
        let table = table(group, policy);
        text.push_str(&width.map_or_else(|| table.render(), |width| table.render_within(width)));
        text.push('\n');
    }
    let all_n: usize = plan.groups.iter().map(|group| group.snapshots.len()).sum();
    let removed_n = plan.removed().len();
    let of_all = human::counted(all_n as u64, "snapshot");
    text.push_str(&match (dry_run, removed_n, removed_n - failed.0.len()) {
        (_, 0, _) => format!("nothing to forget: {of_all} kept\n"),
        (true, ..) => format!("would forget {} of {of_all}; nothing was changed\n", human::count(removed_n as u64)),
        (false, _, forgotten_n) => {
            let number = human::count(forgotten_n as u64);
            format!("forgot {number} of {of_all}; their space is freed by the next `dedump prune`\n")
        }
    });
    text
}

fn kept(number: usize) -> String {
    format!("{} to keep", human::count(number as u64))
}

/// What all snapshots of a group have in common, for people: `app on db1`.
pub fn group_name(key: &[(GroupBy, String)]) -> String {
    let name = match key {
        [] => "all snapshots".to_owned(),
        [(GroupBy::Source, source), (GroupBy::Host, host)] => format!("{source} on {host}"),
        key => {
            let part = |(by, value): &(GroupBy, String)| match by {
                GroupBy::Tag(key) if value.is_empty() => format!("no tag {key}"),
                GroupBy::Tag(key) => format!("tag {key}={value}"),
                by => format!("{} {value}", by.name()),
            };
            key.iter().map(part).collect::<Vec<_>>().join(", ")
        }
    };
    human::safe(&name)
}

/// The snapshots of a group; columns that would say the same on every line are left out.
fn table(group: &ForgetGroup, policy: &Policy) -> Table {
    let all = || group.snapshots.iter();
    let by = |one: &GroupBy| group.key.iter().any(|(by, _)| by == one);
    let shown = [
        ("SOURCE", !by(&GroupBy::Source)),
        ("HOST", !by(&GroupBy::Host)),
        ("TAGS", all().any(|judged| !judged.snapshot.record.tags.is_empty())),
        ("QUALITY", all().any(|judged| json::quality(judged.snapshot.record.quality) != "good")),
    ];
    let optional = shown.iter().filter(|(_, is_shown)| *is_shown).map(|(header, _)| *header);
    let mut table = Table::new(&["", "ID", "TIME"].into_iter().chain(optional).chain(["KEPT BY"]).collect::<Vec<_>>());
    for judged in all() {
        let record = &judged.snapshot.record;
        let cells = [
            record.source.clone(),
            record.host.clone(),
            crate::commands::snapshots::tags(&judged.snapshot),
            json::quality(record.quality).to_owned(),
        ];
        let optional = cells.into_iter().zip(shown).filter(|(_, (_, is_shown))| *is_shown).map(|(cell, _)| cell);
        let fate = if judged.fate == Fate::Remove { "remove" } else { "keep" };
        let first = [fate.to_owned(), judged.snapshot.id.short(), policy.zone.show(record.started_ms)];
        table.row(first.into_iter().chain(optional).chain([rules(judged)]));
    }
    table
}

/// The rules in words. What holds whatever the policy is left out where the policy keeps the snapshot anyway, but for holds
/// and times in the future, which somebody should know of.
fn rules(judged: &Judged) -> String {
    let Fate::Keep(rules) = &judged.fate else { return String::new() };
    let is_kept_anyway = rules.iter().any(Rule::is_asked_for);
    let is_worth_it = |rule: &&Rule| {
        let goes_without_saying = matches!(rule, Rule::Young(_) | Rule::LastGood { .. } | Rule::LastOfAll { .. });
        !(is_kept_anyway && goes_without_saying)
    };
    rules.iter().filter(is_worth_it).map(Rule::to_string).collect::<Vec<_>>().join(", ")
}

/// The report as JSON.
pub fn to_json(plan: &ForgetPlan, policy: &Policy, dry_run: bool, failed: &Failed<'_>) -> Value {
    let goes = |judged: &&Judged| judged.fate == Fate::Remove && !failed.contains(judged.snapshot.id);
    let all = || plan.groups.iter().flat_map(|group| &group.snapshots);
    let removed: Vec<Value> = all().filter(goes).map(snapshot).collect();
    let tags = policy.tags.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    let mut words: serde_json::Map<String, Value> =
        in_words(policy).into_iter().map(|(name, value)| (name, value.into())).collect();
    words.insert("keep_tags".to_owned(), tags.collect::<Vec<_>>().into());
    json!({
        "dry_run": dry_run,
        "time": time::rfc3339(plan.now_ms),
        "policy": words,
        "groups": plan.groups.iter().map(|group| {
            let key = group.key.iter().map(|(by, value)| (by.name(), value.clone().into()));
            json!({
                "by": key.collect::<serde_json::Map<String, Value>>(),
                "snapshots": group.snapshots.iter().map(judged).collect::<Vec<_>>(),
            })
        }).collect::<Vec<_>>(),
        "snapshots": removed,
        "kept": all().count() - removed.len(),
        "removed": removed.len(),
        "failed": failed.to_json(),
        "unreadable": plan.unreadable,
    })
}

fn snapshot(judged: &Judged) -> Value {
    let mut value = json::snapshot(&judged.snapshot);
    value["hold"] = judged.hold.as_ref().map_or(Value::Null, json::hold);
    value
}

fn judged(judged: &Judged) -> Value {
    let rules = match &judged.fate {
        Fate::Keep(rules) => rules.iter().map(rule).collect(),
        Fate::Remove => Vec::new(),
    };
    json!({
        "id": judged.snapshot.id.to_string(),
        "time": time::rfc3339(judged.snapshot.record.started_ms),
        "host": judged.snapshot.record.host,
        "source": judged.snapshot.record.source,
        "tags": judged.snapshot.record.tags,
        "quality": json::quality(judged.snapshot.record.quality),
        "hold": judged.hold.as_ref().map_or(Value::Null, json::hold),
        "keep": judged.fate != Fate::Remove,
        "rules": rules,
    })
}

fn rule(rule: &Rule) -> Value {
    let (bucket, number, of) = match rule {
        Rule::Last { number, of } => (None, Some(*number), Some(*of)),
        Rule::Every { bucket, number, of, .. } => (Some(bucket), Some(*number), Some(*of)),
        Rule::EveryWithin { bucket, .. } => (Some(bucket), None, None),
        Rule::Oldest { found, of, .. } => (None, Some(*found), Some(*of)),
        _ => (None, None, None),
    };
    let of = of.and_then(|of| if let Count::First(of) = of { Some(of) } else { None });
    json!({ "rule": rule.name(), "text": rule.to_string(), "bucket": bucket, "number": number, "of": of })
}
