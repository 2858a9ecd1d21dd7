//! The server that is restored to: which databases it has, who is connected, and what unfinished restores have left.

use crate::postgres::client::Client;
use crate::postgres::inventory;
use crate::postgres::session::Session;
use crate::postgres::sql;
use dedump_core::{Error, Result};
use serde::Deserialize;

/// Names are this long at most, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A database of the server.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Found {
    pub(super) oid: u64,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) is_template: bool,
    pub(super) takes_connections: bool,
    /// Others who are connected, each as a line for people.
    pub(super) connected: Vec<String>,
}

/// What is known of the server.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct About {
    pub(super) version_num: u32,
    pub(super) creates_databases: bool,
    pub(super) is_standby: bool,
    pub(super) user: String,
}

const ABOUT: &str = "SELECT json_build_object('version_num', current_setting('server_version_num')::int, \
    'creates_databases', rolsuper OR rolcreatedb, 'is_standby', pg_is_in_recovery(), \
    'user', current_user) FROM pg_roles WHERE rolname = current_user";

const FOUND: &str = "SELECT json_build_object('oid', d.oid::bigint, 'name', d.datname, 'bytes', \
    CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE') \
        THEN pg_database_size(d.oid) ELSE 0 END, \
    'is_template', d.datistemplate, 'takes_connections', d.datallowconn, 'connected', COALESCE((SELECT \
        json_agg(format('%s (%s, from %s, process %s)', a.usename, COALESCE(NULLIF(a.application_name, ''), 'no name'), \
            COALESCE(a.client_addr::text, 'this host'), a.pid) ORDER BY a.pid) \
        FROM pg_stat_activity a WHERE a.datid = d.oid AND a.pid <> pg_backend_pid()), '[]')) FROM pg_database d";

/// Returns what is known of the server.
pub(super) async fn about(session: &mut Session) -> Result<About> {
    inventory::parse(&session.ask_one(ABOUT).await?)
}

/// Returns the database of this name, if there is one.
pub(super) async fn find(session: &mut Session, name: &str) -> Result<Option<Found>> {
    let lines = session.ask(&format!("{FOUND} WHERE d.datname = {}", sql::text(name))).await?;
    lines.first().map(|line| inventory::parse(line)).transpose()
}

/// Returns what unfinished restores into a database of this name have left.
pub(super) async fn leftovers(session: &mut Session, name: &str) -> Result<Vec<Found>> {
    let mark = sql::text(&mark(name));
    let query = format!("{FOUND} WHERE shobj_description(d.oid, 'pg_database') = {mark} ORDER BY d.datname");
    session.ask(&query).await?.iter().map(|line| inventory::parse(line)).collect()
}

/// Returns the comment of a database that is being filled, to get this name.
pub(super) fn mark(name: &str) -> String {
    format!("dedump: an unfinished restore of the database {name}; to be dropped")
}

/// Returns a name that no database has: `NAME_WHAT_ID8`, or with a number behind.
pub(super) async fn free_name(session: &mut Session, name: &str, what: &str, id8: &str) -> Result<String> {
    let taken = session.ask("SELECT to_json(datname) FROM pg_database").await?;
    let taken: Vec<String> = taken.iter().map(|line| inventory::parse(line)).collect::<Result<_>>()?;
    let free = (1..).map(|number| derived(name, what, id8, number)).find(|name| !taken.contains(name));
    Ok(free.expect("numbers do not end"))
}

/// Returns the `number`th name of this kind, of a length that a name may have.
fn derived(name: &str, what: &str, id8: &str, number: u32) -> String {
    let tail = if number == 1 { format!("_{what}_{id8}") } else { format!("_{what}_{id8}_{number}") };
    let mut front = name.to_owned();
    while front.len() + tail.len() > NAME_BYTES_MAX {
        front.pop();
    }
    front + &tail
}

/// Says what is in a database besides what every new one has; `None`: nothing.
pub(super) async fn what_is_there(client: &Client, explain: fn(Error) -> Error) -> Result<Option<String>> {
    let mut session = Session::open_explained(client, explain).await?;
    let kinds = inventory::kinds(&mut session).await?;
    let schemas =
        "SELECT count(*) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> ALL ('{public,information_schema}')";
    let schemas_n: u64 = inventory::parse(&session.ask_one(schemas).await?)?;
    session.close().await?;
    let kinds = kinds.into_iter().filter(|(kind, _)| kind != "schemas").chain([("schemas".to_owned(), schemas_n)]);
    let there: Vec<_> = kinds
        .filter(|(_, objects_n)| *objects_n > 0)
        .map(|(kind, objects_n)| format!("{objects_n} {}", kind.replace('_', " ")))
        .collect();
    Ok(if there.is_empty() { None } else { Some(there.join(", ")) })
}

/// Drops a database that nobody is connected to.
pub(super) async fn drop_database(session: &mut Session, name: &str) -> Result<()> {
    session.ask(&format!("DROP DATABASE IF EXISTS {}", sql::name(name))).await.map(drop)
}

/// Drops a database of our own, and whoever of ours is still connected.
pub(super) async fn drop_own(session: &mut Session, name: &str) -> Result<()> {
    session.ask(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql::name(name))).await.map(drop)
}

/// Names those who are connected, for a message.
pub(super) fn who(connected: &[String]) -> String {
    let mut text = connected.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if connected.len() > 5 {
        text.push_str(&format!(" and {} more", connected.len() - 5));
    }
    text
}

/// Gives databases new names, all or none. `disconnect`: whoever is connected to the first is made to leave, and nobody
/// else gets in until it is done.
///
/// # Errors
/// [`Error::DumpFailed`]: the server refuses; nothing has changed.
pub(super) async fn rename(session: &mut Session, steps: &Rename<'_>) -> Result<()> {
    let from_to =
        |(from, to): &(String, String)| format!("ALTER DATABASE {} RENAME TO {}", sql::name(from), sql::name(to));
    let mut script = Vec::new();
    if let Some((name, renamed)) = steps.disconnect {
        script.push(format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", sql::name(name)));
        script.push(format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {}",
            sql::text(name)
        ));
        script.push("BEGIN".to_owned());
        script.extend(steps.names.iter().map(from_to));
        script.push(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", sql::name(renamed)));
        script.extend(steps.besides.iter().cloned());
        script.push("COMMIT".to_owned());
        // If it came to nothing: the transaction's own has gone with it. Otherwise it changes nothing.
        script.push(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", sql::name(name)));
    } else {
        script.push("BEGIN".to_owned());
        script.extend(steps.names.iter().map(from_to));
        script.extend(steps.besides.iter().cloned());
        script.push("COMMIT".to_owned());
    }
    match session.attempt(&script).await? {
        None => Ok(()),
        Some(why) => Err(Error::DumpFailed(why)),
    }
}

/// New names for databases, in one transaction.
pub(super) struct Rename<'a> {
    /// From which name to which.
    pub(super) names: Vec<(String, String)>,
    /// What else is done in the transaction, behind the names.
    pub(super) besides: Vec<String>,
    /// Who is connected to the first of these is disconnected; the second is its new name.
    pub(super) disconnect: Option<(&'a str, &'a str)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_fit() {
        assert_eq!(derived("app", "dedump", "0011aabb", 1), "app_dedump_0011aabb");
        assert_eq!(derived("app", "before", "0011aabb", 3), "app_before_0011aabb_3");
        let long = derived(&"ü".repeat(31), "before", "0011aabb", 1);
        assert!(long.len() <= NAME_BYTES_MAX && long.ends_with("ü_before_0011aabb"), "{long}");
    }
}
