//! The server that is restored to: what is there, and what unfinished restores have left.

use crate::fed::{FedTool, Kept};
use crate::mysql::client::{Client, Tool};
use crate::mysql::inventory::{self, Described};
use crate::mysql::text;
use dedump_core::{Error, Result};

/// Names are this long at most, in characters.
const NAME_CHARS_MAX: usize = 64;
/// The table by which a database is known that a restore is filling.
pub(super) const MARK: &str = "dedump_unfinished_restore";

/// Returns what there is in the database of this name; `None`: there is no such database.
pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Described>> {
    let query = format!("SELECT schema_name FROM information_schema.schemata WHERE schema_name = {}", text::text(name));
    if client.ask(&query).await?.is_empty() {
        return Ok(None);
    }
    let names = [name.to_owned()];
    Ok(inventory::describe(client, &names).await?.remove(name))
}

/// Returns databases that unfinished restores into one of this name have left, each with whether somebody is filling it.
pub(super) async fn leftovers(client: &Client, name: &str) -> Result<Vec<(String, bool)>> {
    let query = format!(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = {} ORDER BY 1",
        text::text(MARK)
    );
    let begin = derived(name, "dedump", "", 1);
    let mut found = Vec::new();
    for row in client.ask(&query).await? {
        let Some(Some(database)) = row.into_iter().next() else { continue };
        if !database.starts_with(&begin) {
            continue;
        }
        let [is_free] = client.ask_one(&format!("SELECT IS_FREE_LOCK({})", text::text(&lock(&database)))).await?;
        found.push((database, is_free != "1"));
    }
    Ok(found)
}

/// Returns a name that no database has: `NAME_WHAT_ID8`, or with a number behind.
pub(super) async fn free_name(client: &Client, name: &str, what: &str, id8: &str) -> Result<String> {
    let rows = client.ask("SELECT schema_name FROM information_schema.schemata").await?;
    let taken: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    let free = (1..).map(|number| derived(name, what, id8, number));
    let is_taken = |name: &String| taken.iter().any(|taken| taken.eq_ignore_ascii_case(name));
    Ok(free.into_iter().find(|name| !is_taken(name)).expect("numbers do not end"))
}

/// Returns the `number`th name of this kind, of a length that a name may have.
fn derived(name: &str, what: &str, id8: &str, number: u32) -> String {
    let tail = if number == 1 { format!("_{what}_{id8}") } else { format!("_{what}_{id8}_{number}") };
    // As if the tail were as long as it gets, so that what is left is found by its begin.
    let front: String = name.chars().take(NAME_CHARS_MAX - what.len() - "__00000000_00".len()).collect();
    front + &tail
}

/// Returns the name of the lock that whoever fills a database holds; it is shorter than a database's may be.
fn lock(database: &str) -> String {
    let hash = blake3::hash(database.as_bytes()).to_hex();
    format!("dedump restore {}", &hash[..32])
}

/// Says what is in a database; `None`: nothing.
pub(super) fn what_is_there(described: &Described) -> Option<String> {
    let triggers_n: u64 = described.triggers.values().sum();
    let kinds = [
        (described.tables.len() as u64, "table"),
        (described.views.len() as u64, "view"),
        (described.sequences.len() as u64, "sequence"),
        (triggers_n, "trigger"),
        (described.routines_n, "routine"),
        (described.events_n, "event"),
    ];
    let there: Vec<String> = kinds
        .iter()
        .filter(|(objects_n, _)| *objects_n > 0)
        .map(|(objects_n, kind)| format!("{objects_n} {kind}{}", if *objects_n == 1 { "" } else { "s" }))
        .collect();
    if there.is_empty() { None } else { Some(there.join(", ")) }
}

/// A session that holds the lock on a database which is being filled. Dropped, it lets go.
pub(super) struct Hold {
    _tool: FedTool,
}

impl Hold {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: another restore has it, or the session can't be had.
    pub(super) async fn take(client: &Client, database: &str) -> Result<Hold> {
        let invocation = client.session(None);
        let mut tool = FedTool::start(&invocation, client.tool_name(Tool::Client))?;
        // It is idle until the end; a usual limit would be eight hours.
        let script =
            format!("SET SESSION wait_timeout = 2000000;\nSELECT GET_LOCK({}, 0);\n", text::text(&lock(database)));
        let mut kept = Kept { bytes: Vec::new(), bytes_max: 1024 };
        tool.exchange(Some(&[&invocation.input, script.as_bytes()].concat()), &mut kept).await?;
        if tool.read_line(&mut kept).await? && kept.bytes == b"1\n" {
            return Ok(Hold { _tool: tool });
        }
        match tool.end(&mut kept).await? {
            Err(ended) => Err(ended.failure()),
            Ok(()) => Err(Error::DumpFailed(format!(
                "another restore is filling the database {database}; wait for it, or end it"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_fit_and_begin_alike() {
        assert_eq!(derived("app", "dedump", "0011aabb", 1), "app_dedump_0011aabb");
        assert_eq!(derived("app", "before", "0011aabb", 3), "app_before_0011aabb_3");
        let long = derived(&"ü".repeat(64), "before", "0011aabb", 99);
        assert_eq!(long.chars().count(), NAME_CHARS_MAX);
        assert!(long.starts_with(&derived(&"ü".repeat(64), "before", "", 1)), "{long}");
    }
}
