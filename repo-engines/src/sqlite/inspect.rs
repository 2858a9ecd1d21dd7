//! What a database holds, and whether it is whole.

use rusqlite::{Connection, ErrorCode, Result};
use serde_json::{Map, Value, json};

/// Complaints of a check that are kept.
const COMPLAINTS_MAX: u32 = 10;

/// What a check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// What is damaged.
    pub(super) damage: Vec<String>,
    /// What could not be checked, and what is odd.
    pub(super) warnings: Vec<String>,
}

/// Checks all pages, tables and indexes of a database.
///
/// # Errors
/// SQLite's: it could not be done.
pub(super) fn check(connection: &Connection) -> Result<Checked> {
    let mut checked = Checked::default();
    match complaints(connection, None) {
        Ok(damage) => checked.damage = damage,
        Err(error) if is_damage(&error) => checked.damage = vec![error.to_string()],
        // A function, a collation or a module that only the application has: what does not need it can be checked.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => check_each(connection, &mut checked)?,
        Err(error) => return Err(error),
    }
    if checked.damage.is_empty() {
        let broken = "SELECT count(*), min(\"table\") FROM pragma_foreign_key_check";
        match connection.query_row(broken, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?))) {
            Ok((0, _)) => {}
            Ok((n, table)) => checked.warnings.push(format!(
                "{n} rows refer to rows that are not there, some of them in the table {}; they are in the dump as they are",
                table.unwrap_or_default()
            )),
            Err(error) => checked.warnings.push(format!("foreign keys could not be checked: {error}")),
        }
    }
    Ok(checked)
}

fn check_each(connection: &Connection, checked: &mut Checked) -> Result<()> {
    for table in tables(connection)? {
        match complaints(connection, Some(&table)) {
            Ok(damage) => checked.damage.extend(damage),
            Err(error) if is_damage(&error) => checked.damage.push(format!("{table}: {error}")),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => {
                checked.warnings.push(format!("the table {table} could not be checked: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn complaints(connection: &Connection, table: Option<&str>) -> Result<Vec<String>> {
    let query = match table {
        None => format!("PRAGMA integrity_check({COMPLAINTS_MAX})"),
        Some(table) => format!("PRAGMA integrity_check({})", quoted(table)),
    };
    let mut statement = connection.prepare(&query)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut all: Vec<String> = rows.collect::<Result<_>>()?;
    all.retain(|line| line != "ok");
    Ok(all.into_iter().map(|line| line.replace('\n', " ")).collect())
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns the names of the tables that have rows of their own, sorted.
fn tables(connection: &Connection) -> Result<Vec<String>> {
    let query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    connection.prepare(query)?.query_map([], |row| row.get(0))?.collect()
}

/// Returns the tables and how many rows each has; `null` where they can't be counted, or shall not.
///
/// # Errors
/// SQLite's: the schema can't be read.
pub(super) fn rows(connection: &Connection, counts: bool) -> Result<Vec<(String, Option<u64>)>> {
    let count = |name: String| {
        let query = format!("SELECT count(*) FROM {}", quoted(&name));
        let rows_n = counts.then(|| connection.query_row(&query, [], |row| row.get::<_, i64>(0)).ok()).flatten();
        (name, rows_n.map(i64::unsigned_abs))
    };
    Ok(tables(connection)?.into_iter().map(count).collect())
}

/// Returns what the database itself is like.
///
/// # Errors
/// SQLite's.
pub(super) fn properties(connection: &Connection) -> Result<Map<String, Value>> {
    let mut properties = Map::new();
    for name in ["page_size", "page_count", "freelist_count", "user_version", "application_id", "auto_vacuum"] {
        let value: i64 = connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
        properties.insert(name.to_owned(), json!(value));
    }
    let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    properties.insert("encoding".to_owned(), json!(encoding));
    Ok(properties)
}

/// Returns how many objects of each kind the schema has.
///
/// # Errors
/// SQLite's.
pub(super) fn objects(connection: &Connection) -> Result<Map<String, Value>> {
    let mut statement = connection.prepare("SELECT type, count(*) FROM sqlite_schema GROUP BY type ORDER BY type")?;
    let objects = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, json!(row.get::<_, i64>(1)?))))?;
    objects.collect()
}
