//! What the server says that there is: compared with what was dumped, and stored so that a restore can be.

use super::client::{Client, Flavour};
use super::privileges::Grants;
use super::session::Row;
use super::text;
use dedump_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The databases that are the server's own.
pub(super) const OWN: &str = "'information_schema','performance_schema','mysql','sys'";
/// Engines whose tables hold no rows of their own; the tool dumps none of theirs.
const WITHOUT_ROWS: &str =
    "'MRG_MYISAM','MRG_ISAM','FEDERATED','CONNECT','OQGRAPH','SPIDER','VP','BLACKHOLE','NDBCLUSTER'";

/// What is known of the server and the one who asks.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) flavour: Flavour,
    /// As SQL has it: `` `me`@`%` ``.
    pub(super) user: String,
    pub(super) has_binlog: bool,
    pub(super) packet_bytes_max: u64,
    pub(super) is_read_only: bool,
    pub(super) grants: Grants,
}

/// A database, as the server describes it.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) views: Vec<String>,
    pub(super) sequences: Vec<String>,
    /// Tables with triggers, and how many.
    pub(super) triggers: BTreeMap<String, u64>,
    pub(super) routines_n: u64,
    pub(super) events_n: u64,
}

/// A table, as the server describes it.
#[derive(Debug, Default, Clone)]
pub(super) struct Table {
    pub(super) engine: String,
    pub(super) has_rows: bool,
    /// It keeps the rows that it had, too.
    pub(super) is_versioned: bool,
    /// Columns of type FLOAT.
    pub(super) floats: Vec<String>,
}

/// What a dump has of one database: `database.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Inventory {
    pub(super) database: String,
    /// What stands behind the name where the database is created.
    pub(super) create: String,
    /// Whose server it was.
    pub(super) flavour: String,
    /// How many of each kind there are.
    pub(super) objects: BTreeMap<String, u64>,
    pub(super) tables: Vec<DumpedTable>,
    pub(super) views: Vec<String>,
    pub(super) sequences: Vec<String>,
    /// Tables with triggers.
    pub(super) triggers: Vec<String>,
    /// Who views, triggers, routines and events are run as, as SQL has it.
    pub(super) definers: Vec<String>,
}

/// A table that was dumped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct DumpedTable {
    pub(super) name: String,
    /// None where the table's engine holds none of its own.
    pub(super) rows: Option<u64>,
    /// Length of the longest row as a statement.
    pub(super) row_bytes_max: u64,
}

/// Asks the server for all that concerns it as a whole.
///
/// # Errors
/// [`Error::DumpFailed`]: it can't be reached, or does not answer.
pub(super) async fn server(client: &Client) -> Result<Server> {
    let [version, user, binlog, packet, read_only] = client
        .ask_one("SELECT VERSION(), CURRENT_USER(), @@global.log_bin, @@global.max_allowed_packet, @@global.read_only")
        .await?;
    let grants = client.ask("SHOW GRANTS").await?;
    Ok(Server {
        flavour: Flavour::of(&version),
        version,
        user: account(&user),
        has_binlog: binlog == "1",
        packet_bytes_max: packet.parse().unwrap_or(u64::MAX),
        is_read_only: read_only == "1" || read_only == "ON",
        grants: Grants::parse(grants.iter().filter_map(|row| row.first()?.as_deref())),
    })
}

/// Writes `me@%` as SQL has it.
fn account(user: &str) -> String {
    let (user, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    format!("{}@{}", text::name(user), text::name(host))
}

/// Returns the moment, in UTC.
///
/// # Errors
/// Likewise.
pub(super) async fn time(client: &Client) -> Result<String> {
    let [time] = client.ask_one("SELECT DATE_FORMAT(UTC_TIMESTAMP(3), '%Y-%m-%dT%H:%i:%s.%fZ')").await?;
    Ok(time.replace("000Z", "Z"))
}

/// Returns the names of the databases that are to be dumped: this one, or all that are not the server's own.
///
/// # Errors
/// Likewise; or there is no such database.
pub(super) async fn databases(client: &Client, only: Option<&str>) -> Result<Vec<String>> {
    let which = match only {
        Some(name) => format!("schema_name = {}", text::text(name)),
        None => format!("schema_name NOT IN ({OWN})"),
    };
    let query = format!("SELECT schema_name FROM information_schema.schemata WHERE {which} ORDER BY schema_name");
    let names: Vec<String> = client.ask(&query).await?.into_iter().filter_map(first).collect();
    match (only, &names[..]) {
        (Some(name), []) => Err(Error::DumpFailed(format!(
            "there is no database {name}, or the user may not see it; check the name in the URL"
        ))),
        (None, []) => Err(Error::DumpFailed(
            "the server has no databases but its own, or the user may see none; grant it SELECT".to_owned(),
        )),
        _ => names.iter().try_for_each(|name| text::check_name("database", name)).map(|()| names),
    }
}

/// Asks for what there is in these databases.
///
/// # Errors
/// Likewise; or a name has control characters.
pub(super) async fn describe(client: &Client, databases: &[String]) -> Result<BTreeMap<String, Described>> {
    let mut found: BTreeMap<String, Described> =
        databases.iter().map(|name| (name.clone(), Described::default())).collect();
    let list = databases.iter().map(|name| text::text(name)).collect::<Vec<_>>().join(", ");
    let tables = format!(
        "SELECT 'table', table_schema, table_name, table_type, IFNULL(engine, ''), IFNULL(engine, '') NOT IN ({WITHOUT_ROWS})
            FROM information_schema.tables WHERE table_schema IN ({list}) AND table_type NOT LIKE '%TEMPORARY%';
        SELECT 'float', table_schema, table_name, column_name, '', '' FROM information_schema.columns
            WHERE table_schema IN ({list}) AND data_type = 'float';
        SELECT 'trigger', trigger_schema, event_object_table, COUNT(*), '', '' FROM information_schema.triggers
            WHERE trigger_schema IN ({list}) GROUP BY trigger_schema, event_object_table;
        SELECT 'routine', routine_schema, '', COUNT(*), '', '' FROM information_schema.routines
            WHERE routine_schema IN ({list}) GROUP BY routine_schema;
        SELECT 'event', event_schema, '', COUNT(*), '', '' FROM information_schema.events
            WHERE event_schema IN ({list}) GROUP BY event_schema;"
    );
    for row in client.ask(&tables).await? {
        take(&mut found, row)?;
    }
    Ok(found)
}

fn take(found: &mut BTreeMap<String, Described>, row: Row) -> Result<()> {
    let fields: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
    let odd = || Error::DumpFailed(format!("the server describes a table as {fields:?}"));
    let [what, schema, name, kind, engine, has_rows] = &fields[..] else { return Err(odd()) };
    // Names may be compared without regard to case.
    let Some(database) = found.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(schema)).map(|(_, found)| found)
    else {
        return Err(odd());
    };
    match (what.as_str(), kind.as_str()) {
        ("table", "VIEW" | "SYSTEM VIEW") => {
            text::check_name("view", name)?;
            database.views.push(name.clone());
        }
        ("table", "SEQUENCE") => {
            text::check_name("sequence", name)?;
            database.sequences.push(name.clone());
        }
        ("table", kind) => {
            text::check_name("table", name)?;
            let table = Table {
                engine: engine.clone(),
                has_rows: has_rows == "1",
                is_versioned: kind == "SYSTEM VERSIONED",
                floats: Vec::new(),
            };
            database.tables.insert(name.clone(), table);
        }
        ("float", column) => {
            if let Some(table) = database.tables.get_mut(name) {
                table.floats.push(column.to_owned());
            }
        }
        ("trigger", number) => {
            database.triggers.insert(name.clone(), number.parse().map_err(|_| odd())?);
        }
        ("routine", number) => database.routines_n = number.parse().map_err(|_| odd())?,
        ("event", number) => database.events_n = number.parse().map_err(|_| odd())?,
        _ => return Err(odd()),
    }
    Ok(())
}

fn first(row: Row) -> Option<String> {
    row.into_iter().next().flatten()
}
