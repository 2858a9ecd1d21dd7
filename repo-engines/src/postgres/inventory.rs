//! What a database holds, asked in the very moment that the dump shows: for facts, and to compare a restore with.

use super::session::Session;
use dedump_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// A table with rows of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Schema and name, quoted where SQL needs it.
    pub(crate) name: String,
    /// Bytes of its data and what was moved out of its rows.
    pub(crate) bytes: u64,
    /// Whether an extension made it: such tables are dumped with their extension's rules.
    pub(crate) is_of_extension: bool,
    /// Its columns in order, without those that the server computes; not quoted.
    pub(crate) columns: Vec<String>,
    /// The columns of its primary key in order, not quoted; none: it has no key.
    pub(crate) key: Vec<String>,
}

/// Tables with data, the largest first, a line of JSON each. Partitions have the data, their parents have none; foreign tables are
/// not dumped.
const TABLES: &str = "
    SELECT json_build_array(format('%I.%I', n.nspname, c.relname), pg_table_size(c.oid), EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
        ARRAY(SELECT a.attname FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum),
        ARRAY(SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(attnum, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
        AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    ORDER BY pg_table_size(c.oid) DESC, n.nspname, c.relname";

/// What the database itself is like, as one line of JSON: it is no part of a dump that goes into another database.
const PROPERTIES: &str = "
    SELECT to_jsonb(x) FROM (
        SELECT d.datname AS name, pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,
            pg_get_userbyid(d.datdba) AS owner, d.datconnlimit AS connections_max, d.datacl::text[] AS privileges,
            shobj_description(d.oid, 'pg_database') AS comment,
            (SELECT jsonb_agg(jsonb_build_object('role', r.rolname, 'settings', s.setconfig) ORDER BY r.rolname NULLS FIRST)
                FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = d.oid) AS settings,
            (SELECT jsonb_object_agg(extname, extversion) FROM pg_extension) AS extensions,
            to_jsonb(d) ->> 'datlocprovider' AS locale_provider,
            COALESCE(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,
            to_jsonb(d) ->> 'daticurules' AS icu_rules
        FROM pg_database d WHERE d.datname = current_database()) x";

/// What is known of the server and the moment, as one line of JSON.
const MOMENT: &str = "
    SELECT jsonb_build_object(
        'server_version', current_setting('server_version'), 'server_version_num', current_setting('server_version_num')::int,
        'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
        'is_standby', pg_is_in_recovery(),
        'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
        'database_bytes', pg_database_size(current_database()),
        'user', current_user)";

/// What each kind of object is called, and a query for how many there are, without those of extensions and the system.
const KINDS: &[(&str, &str)] = &[
    ("tables", "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"),
    ("views", "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'v'"),
    ("materialized_views", "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm'"),
    ("sequences", "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'"),
    ("indexes", "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I')"),
    ("foreign_tables", "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f'"),
    ("functions", "pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace WHERE true"),
    ("types", "pg_type c JOIN pg_namespace n ON n.oid = c.typnamespace WHERE c.typtype IN ('c', 'd', 'e', 'r')"),
    ("constraints", "pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE true"),
    (
        "triggers",
        "pg_trigger c JOIN pg_class t ON t.oid = c.tgrelid JOIN pg_namespace n ON n.oid = t.relnamespace WHERE NOT c.tgisinternal",
    ),
    (
        "policies",
        "pg_policy c JOIN pg_class t ON t.oid = c.polrelid JOIN pg_namespace n ON n.oid = t.relnamespace WHERE true",
    ),
    (
        "rules",
        "pg_rewrite c JOIN pg_class t ON t.oid = c.ev_class JOIN pg_namespace n ON n.oid = t.relnamespace WHERE true",
    ),
    ("schemas", "pg_namespace n WHERE true"),
    ("extensions", "pg_extension c CROSS JOIN (SELECT 'public' AS nspname) n WHERE c.extname <> 'plpgsql'"),
    ("publications", "pg_publication c CROSS JOIN (SELECT 'public' AS nspname) n WHERE true"),
    ("event_triggers", "pg_event_trigger c CROSS JOIN (SELECT 'public' AS nspname) n WHERE true"),
    ("large_objects", "pg_largeobject_metadata c CROSS JOIN (SELECT 'public' AS nspname) n WHERE true"),
];
const NOT_THE_SYSTEMS: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

/// Returns the tables with data, the largest first.
///
/// # Errors
/// [`dedump_core::Error::DumpFailed`]: the server's.
pub(crate) async fn tables(session: &mut Session) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for line in session.ask(TABLES).await? {
        let (name, bytes, is_of_extension, columns, key) = parse(&line)?;
        tables.push(Table { name, bytes, is_of_extension, columns, key });
    }
    Ok(tables)
}

/// Returns what the database is like, apart from what is in it.
///
/// # Errors
/// Likewise.
pub(crate) async fn properties(session: &mut Session) -> Result<Value> {
    parse(&session.ask_one(&in_one_line(PROPERTIES)).await?)
}

/// Returns what is known of the server and the moment.
///
/// # Errors
/// Likewise.
pub(crate) async fn moment(session: &mut Session) -> Result<Value> {
    parse(&session.ask_one(&in_one_line(MOMENT)).await?)
}

fn in_one_line(query: &str) -> String {
    query.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads a line of JSON that a query made.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| Error::DumpFailed(format!("the server answers {line:?}: {error}")))
}

/// Returns how many objects of each kind there are.
///
/// # Errors
/// Likewise.
pub(crate) async fn kinds(session: &mut Session) -> Result<BTreeMap<String, u64>> {
    let one = |(kind, from): &(&str, &str)| format!("SELECT '{kind} ' || count(*) FROM {from} AND {NOT_THE_SYSTEMS}");
    let query = KINDS.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ");
    let lines = session.ask(&query).await?;
    let mut kinds = BTreeMap::new();
    for (kind, objects_n) in lines.iter().filter_map(|line| line.split_once(' ')) {
        kinds.insert(kind.to_owned(), parse(objects_n)?);
    }
    Ok(kinds)
}

/// Counts the rows of each table.
///
/// # Errors
/// Likewise.
pub(crate) async fn rows(session: &mut Session, tables: impl Iterator<Item = &Table>) -> Result<BTreeMap<String, u64>> {
    let mut rows = BTreeMap::new();
    for table in tables {
        let counted = session.ask_one(&format!("SELECT count(*) FROM ONLY {}", table.name)).await?;
        rows.insert(table.name.clone(), parse(&counted)?);
    }
    Ok(rows)
}
