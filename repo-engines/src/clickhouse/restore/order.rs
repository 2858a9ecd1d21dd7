//! In which order things are made: what others need first, and what takes rows from tables only when those are full.

use super::names::Names;
use crate::clickhouse::schema::Object;
use std::collections::{BTreeMap, BTreeSet};

/// What is made before rows come, and what after.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub before: Vec<Object>,
    pub after: Vec<Object>,
}

/// Sorts tables, views and dictionaries by what they need.
pub(super) fn order(objects: Vec<Object>, names: &Names) -> Order {
    let needs: BTreeMap<_, BTreeSet<_>> = objects
        .iter()
        .map(|object| {
            let mut needs = names.named(object);
            needs.extend(object.needs.iter().cloned());
            needs.remove(&object.key());
            (object.key(), needs)
        })
        .collect();
    let mut early: BTreeSet<(String, String)> =
        objects.iter().filter(|object| rank(object) == 0).map(Object::key).collect();
    // What a table needs, such as the dictionary of a default, is made before it; a view that takes rows never is.
    loop {
        let more: Vec<_> = objects
            .iter()
            .filter(|object| !early.contains(&object.key()) && rank(object) == 1)
            .map(Object::key)
            .filter(|key| early.iter().any(|one| needs.get(one).is_some_and(|needs| needs.contains(key))))
            .collect();
        if more.is_empty() {
            break;
        }
        early.extend(more);
    }
    let (before, after) = objects.into_iter().partition(|object| early.contains(&object.key()));
    Order { before: sorted(before, &needs), after: sorted(after, &needs) }
}

/// Returns how late something comes: tables, then what only looks, then what leads to others, what takes rows, what fetches them.
fn rank(object: &Object) -> u8 {
    match object.engine.as_str() {
        "View" | "Dictionary" => 1,
        "Distributed" | "Merge" | "Buffer" | "Alias" => 2,
        "MaterializedView" | "LiveView" | "WindowView" => 3,
        "Kafka" | "RabbitMQ" | "NATS" | "S3Queue" | "AzureQueue" | "FileLog" | "MaterializedPostgreSQL" => 4,
        _ => 0,
    }
}

fn sorted(objects: Vec<Object>, needs: &BTreeMap<(String, String), BTreeSet<(String, String)>>) -> Vec<Object> {
    let mut left: BTreeMap<_, Object> = objects.into_iter().map(|object| (object.key(), object)).collect();
    let mut sorted = Vec::new();
    while !left.is_empty() {
        let is_ready = |key: &(String, String)| {
            needs.get(key).is_none_or(|needs| needs.iter().all(|need| !left.contains_key(need)))
        };
        let mut keys: Vec<_> = left.iter().map(|(key, object)| (!is_ready(key), rank(object), key.clone())).collect();
        keys.sort();
        // If none is ready they need one another, and the server has to say what it makes of that.
        let (_, _, key) = keys.swap_remove(0);
        sorted.extend(left.remove(&key));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_rows_comes_after_them_and_what_is_needed_first() {
        let object = |name: &str, engine: &str, create: &str| -> Object {
            let line = serde_json::json!({ "kind": "table", "database": "d", "name": name, "engine": engine, "create": create });
            serde_json::from_value(line).expect("an object")
        };
        let objects = vec![
            object("a_view", "View", "CREATE VIEW d.a_view AS SELECT * FROM d.b_view"),
            object("a_mv", "MaterializedView", "CREATE MATERIALIZED VIEW d.a_mv TO d.z AS SELECT * FROM d.queue"),
            object("b_mv", "MaterializedView", "CREATE MATERIALIZED VIEW d.b_mv TO d.z AS SELECT * FROM d.y"),
            object("b_view", "View", "CREATE VIEW d.b_view AS SELECT * FROM d.y"),
            object("dict", "Dictionary", "CREATE DICTIONARY d.dict (a Int8) SOURCE(CLICKHOUSE(DB 'd' TABLE 'y'))"),
            object("queue", "Kafka", "CREATE TABLE d.queue (a Int8) ENGINE = Kafka"),
            object("all", "Distributed", "CREATE TABLE d.all (a Int8) ENGINE = Distributed('c', 'd', 'y')"),
            object("x", "MergeTree", "CREATE TABLE d.x (a Int8 DEFAULT dictGet('d.dict', 'a', 1)) ENGINE = MergeTree"),
            object("y", "MergeTree", "CREATE TABLE d.y (a Int8) ENGINE = MergeTree"),
            object("z", "MergeTree", "CREATE TABLE d.z (a Int8) ENGINE = MergeTree"),
        ];
        let names = Names::new(&objects, BTreeMap::new(), false);
        let Order { before, after } = order(objects, &names);
        let names = |objects: &[Object]| objects.iter().map(|object| object.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&before), ["y", "z", "dict", "x"]);
        assert_eq!(names(&after), ["b_view", "a_view", "all", "b_mv", "queue", "a_mv"]);
    }
}
