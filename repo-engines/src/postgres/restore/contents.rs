//! What a snapshot holds of one database, and what of it a restore needs.

use crate::postgres::client::parse_version;
use crate::postgres::copy;
use crate::postgres::sql;
use crate::postgres::url::decode;
use crate::stored::read_small;
use dedump_core::{Error, Repository, Result, Snapshot};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A table's schema and name, not quoted.
pub(super) type TableName = (String, String);

/// `inventory.json`; see `postgres::inventory`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Inventory {
    pub(super) database: Properties,
    #[serde(default)]
    pub(super) objects: BTreeMap<String, u64>,
    #[serde(default)]
    pub(super) tables: Vec<InventoryTable>,
}

/// What the database itself was like.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Properties {
    pub(super) name: String,
    pub(super) encoding: Option<String>,
    pub(super) collate: Option<String>,
    pub(super) ctype: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) connections_max: Option<i64>,
    pub(super) privileges: Option<Vec<String>>,
    pub(super) comment: Option<String>,
    pub(super) settings: Option<Vec<RoleSettings>>,
    pub(super) extensions: Option<BTreeMap<String, String>>,
    pub(super) locale_provider: Option<String>,
    pub(super) locale: Option<String>,
    pub(super) icu_rules: Option<String>,
}

/// Settings of a database, for one role in it or for all.
#[derive(Debug, Deserialize)]
pub(super) struct RoleSettings {
    pub(super) role: Option<String>,
    pub(super) settings: Vec<String>,
}

/// A table with data.
#[derive(Debug, Deserialize)]
pub(super) struct InventoryTable {
    pub(super) name: String,
    pub(super) rows: Option<u64>,
    /// Its columns, where its rows are a stream of their own.
    columns: Option<Vec<String>>,
}

/// A stream with the rows of one table.
#[derive(Debug, Clone)]
pub(super) struct TableStream {
    pub(super) name: String,
    /// The columns that its rows have, in their order, not quoted.
    pub(super) columns: Vec<String>,
}

/// What a snapshot holds of one database.
pub(super) struct Contents<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// The stream with roles and tablespaces.
    pub(super) globals: Option<String>,
    /// The stream with the database.
    pub(super) database: String,
    /// Streams with the rows of large tables.
    pub(super) tables: BTreeMap<TableName, TableStream>,
    pub(super) inventory: Inventory,
    /// The major version of the `pg_dump` that wrote them.
    pub(super) dump_major: Option<u32>,
    /// The major version of the server that they were dumped from.
    pub(super) server_major: Option<u32>,
    /// Which part was dumped: `all`, `schema`, `data`.
    pub(super) part: String,
    /// Whether tables, or rows of some, were left out, so that numbers may differ from those of the inventory.
    pub(super) is_filtered: bool,
    /// The moment that the dump shows.
    pub(super) time: Option<String>,
}

impl<'a> Contents<'a> {
    /// Reads what there is below a folder of a snapshot; an empty one stands for the snapshot itself.
    ///
    /// # Errors
    /// [`Error::NotFound`]: there is no dump of a database. Those of the repository.
    pub(super) async fn read(repository: &Repository, snapshot: &'a Snapshot, prefix: &str) -> Result<Contents<'a>> {
        let folder = prefix.trim_matches('/');
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names = || snapshot.record.streams.iter().map(|stream| stream.name.as_str());
        let database = format!("{below}database.dump");
        if !names().any(|name| name == database) {
            let there: Vec<_> = names().filter_map(|name| name.strip_suffix("database.dump")).take(10).collect();
            let hint = match there[..] {
                [] => "; it is no PostgreSQL dump, so restore its streams to files".to_owned(),
                _ => format!("; there is one in {}", there.join(", ")),
            };
            return Err(Error::NotFound { what: "PostgreSQL dump", name: folder.to_owned(), hint });
        }
        let of_dump = snapshot.record.streams.iter().find(|stream| stream.name == database);
        let command = of_dump.and_then(|stream| stream.facts.get("command")).map(String::as_str).unwrap_or_default();
        let (source, database_folder) = match below.rsplit_once("databases/") {
            Some((source, folder)) => (source, folder.trim_end_matches('/')),
            None => (below.as_str(), ""),
        };
        let globals = format!("{source}globals.sql");
        let globals = names().any(|name| name == globals).then_some(globals);
        let of_source = source.trim_end_matches('/').to_owned() + if source.is_empty() { "" } else { "." };
        let of_database =
            if database_folder.is_empty() { of_source.clone() } else { format!("{of_source}{database_folder}.") };
        let fact = |prefix: &str, key: &str| snapshot.record.facts.get(&format!("{prefix}{key}")).cloned();
        let major = |key: &str| fact(&of_source, key).and_then(|text| Some(parse_version(&text)?.0));
        let inventory = read_small(repository, snapshot, &format!("{below}inventory.json")).await?;
        let inventory: Inventory = serde_json::from_slice(&inventory).map_err(|error| {
            Error::Target(format!("{below}inventory.json can't be read: {error}; a newer dedump may have made it"))
        })?;
        let tables = tables(snapshot, &format!("{below}tables/"), &inventory)?;
        let is_filtered =
            command.contains("--table=") || tables.is_empty() && command.contains("--exclude-table-data=");
        Ok(Contents {
            snapshot,
            globals,
            database,
            tables,
            inventory,
            dump_major: major("client_version"),
            server_major: major("server_version"),
            part: fact(&of_database, "part").unwrap_or_else(|| "all".to_owned()),
            is_filtered,
            time: fact(&of_database, "time"),
        })
    }

    /// Returns whether the database has this extension.
    pub(super) fn has_extension(&self, name: &str) -> bool {
        self.inventory.database.extensions.as_ref().is_some_and(|extensions| extensions.contains_key(name))
    }

    /// Returns the length of these streams.
    pub(super) fn bytes_of(&self, names: &[String]) -> u64 {
        let streams = self.snapshot.record.streams.iter();
        streams.filter(|stream| names.contains(&stream.name)).map(|stream| stream.bytes).sum()
    }
}

/// Finds the streams with rows of one table each. Left out, one that is not understood would be a table without its rows.
fn tables(snapshot: &Snapshot, folder: &str, inventory: &Inventory) -> Result<BTreeMap<TableName, TableStream>> {
    let columns: BTreeMap<&str, &Vec<String>> =
        inventory.tables.iter().filter_map(|table| Some((table.name.as_str(), table.columns.as_ref()?))).collect();
    let mut tables = BTreeMap::new();
    for stream in &snapshot.record.streams {
        let Some(file) = stream.name.strip_prefix(folder) else { continue };
        let found = file.strip_suffix(copy::SUFFIX).and_then(|table| {
            let table = decode(table).ok()?;
            Some((sql::qualified(&table)?, *columns.get(table.as_str())?))
        });
        let Some((table, columns)) = found else {
            let name = &stream.name;
            return Err(Error::Target(format!(
                "stream {name:?} is of no table that is known; a newer dedump may have made it"
            )));
        };
        tables.insert(table, TableStream { name: stream.name.clone(), columns: columns.clone() });
    }
    Ok(tables)
}
