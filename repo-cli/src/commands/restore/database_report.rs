//! What a restore of a database will do, and what it did, for people and programs.

use crate::human;
use crate::output;
use crate::time;
use dedump_engines::postgres::{PostgresPlan, PostgresRestored};
use serde_json::json;
use std::time::Duration;

pub(super) fn plan_to_text(plan: &PostgresPlan, takes: &str) -> String {
    let time = plan.time.as_deref().unwrap_or("an unknown time");
    let (streams, rows_n) = (human::counted(plan.streams.len() as u64, "stream"), human::counted(plan.rows_n, "row"));
    let mut rows = vec![
        ("what", format!("{} as of {time}, from snapshot {}", plan.dumped, plan.snapshot.short())),
        ("size", format!("{} in {streams}, {rows_n}", human::bytes(plan.bytes))),
        ("to", format!("{} on {}", plan.database, plan.host)),
        ("takes", takes.to_owned()),
    ];
    if let Some(existing) = &plan.existing {
        let bytes = plan.existing_bytes.map(|bytes| format!("{}, ", human::bytes(bytes)));
        rows.push(("there", bytes.unwrap_or_default() + existing));
        rows.push(("lost", format!("what was changed there since {time}{}", ago(plan.time.as_deref()))));
    }
    let mut text = output::facts(&rows);
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("{}. {step}\n", number + 1));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

/// Says how long ago that was: `, 2 h 07 min ago`.
fn ago(time: Option<&str>) -> String {
    let ms = time.and_then(|time| time::parse_ms(time).ok()).and_then(|ms| u64::try_from(time::now_ms() - ms).ok());
    ms.map_or_else(String::new, |ms| format!(", {} ago", human::duration(Duration::from_millis(ms))))
}

pub(super) fn plan_to_json(plan: &PostgresPlan, takes: &str) -> serde_json::Value {
    json!({
        "snapshot": plan.snapshot.to_string(),
        "time": plan.time,
        "host": plan.host,
        "database": plan.database,
        "dumped": plan.dumped,
        "streams": plan.streams,
        "bytes": plan.bytes,
        "rows": plan.rows_n,
        "takes": takes,
        "roles": plan.roles,
        "existing": plan.existing,
        "existing_bytes": plan.existing_bytes,
        "leftovers": plan.leftovers,
        "steps": plan.steps,
        "warnings": plan.warnings,
    })
}

pub(super) fn to_json(plan: &PostgresPlan, restored: &PostgresRestored) -> serde_json::Value {
    json!({
        "snapshot": plan.snapshot.to_string(),
        "host": plan.host,
        "database": restored.database,
        "streams": restored.streams,
        "bytes": restored.bytes,
        "tables": restored.tables_n,
        "rows": restored.rows_n,
        "roles": restored.roles,
        "kept": restored.kept,
        "safety_snapshot": restored.safety_snapshot.map(|id| id.to_string()),
        "errors": restored.errors_n,
        "problems": restored.problems,
        "warnings": restored.warnings,
    })
}

pub(super) fn to_text(plan: &PostgresPlan, restored: &PostgresRestored, took: Duration) -> String {
    let mut rows = vec![
        ("database", format!("{} on {}", restored.database, plan.host)),
        ("as of", plan.time.clone().unwrap_or_else(|| "an unknown time".to_owned())),
        ("from", format!("snapshot {} of {}", plan.snapshot.short(), plan.dumped)),
        (
            "read",
            format!(
                "{}, {}, in {}, {}",
                human::counted(restored.streams.len() as u64, "stream"),
                human::bytes(restored.bytes),
                human::duration(took),
                human::rate(restored.bytes, took)
            ),
        ),
    ];
    if restored.tables_n > 0 {
        let (tables, rows_n) = (human::counted(restored.tables_n, "table"), human::counted(restored.rows_n, "row"));
        rows.push(("counted", format!("{tables} with {rows_n}, as many as were dumped")));
    }
    if !restored.roles.is_empty() {
        rows.push(("roles", format!("created {}", restored.roles.join(", "))));
    }
    if let Some(kept) = &restored.kept {
        rows.push(("before it", format!("is called {kept} now; drop it when you need it no more")));
    }
    if let Some(id) = restored.safety_snapshot {
        rows.push(("and as", format!("snapshot {}, which is held; `dedump release` lets it go", id.short())));
    }
    output::facts(&rows)
}
