//! What a snapshot holds of one database.

use crate::mysql::inventory::{DumpedTable, Inventory};
use crate::mysql::text;
use crate::stored::read_small;
use dedump_core::{Error, Repository, Result, Snapshot};

/// What a snapshot holds of one database.
pub(super) struct Contents<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// The folder of its streams; ends with its slash, unless it is empty.
    pub(super) folder: String,
    /// The stream with users.
    pub(super) users: Option<String>,
    pub(super) inventory: Inventory,
    /// The moment that the dump shows.
    pub(super) time: Option<String>,
}

impl<'a> Contents<'a> {
    /// Reads what there is below a folder of a snapshot; an empty one stands for the snapshot itself.
    ///
    /// # Errors
    /// [`Error::NotFound`]: there is no dump of a database. Those of the repository.
    pub(super) async fn read(repository: &Repository, snapshot: &'a Snapshot, prefix: &str) -> Result<Contents<'a>> {
        let prefix = prefix.trim_matches('/');
        let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let names = || snapshot.record.streams.iter().map(|stream| stream.name.as_str());
        let stream = format!("{folder}database.json");
        if !names().any(|name| name == stream) {
            let there: Vec<_> = names().filter_map(|name| name.strip_suffix("database.json")).take(10).collect();
            let hint = match there[..] {
                [] => "; it is no dump of MariaDB or MySQL, so restore its streams to files".to_owned(),
                _ => format!("; there is one in {}", there.join(", ")),
            };
            return Err(Error::NotFound { what: "dump of MariaDB or MySQL", name: prefix.to_owned(), hint });
        }
        let inventory = read_small(repository, snapshot, &stream).await?;
        let inventory: Inventory = serde_json::from_slice(&inventory).map_err(|error| {
            Error::Target(format!("{stream} can't be read: {error}; a newer dedump may have made it"))
        })?;
        let source = folder.rsplit_once("databases/").map_or(folder.as_str(), |(source, _)| source);
        let users = format!("{source}users.sql");
        let users = names().any(|name| name == users).then_some(users);
        let of_source = if source.is_empty() { String::new() } else { source.trim_end_matches('/').to_owned() + "." };
        let time = snapshot.record.facts.get(&format!("{of_source}time")).cloned();
        Ok(Contents { snapshot, folder, users, inventory, time })
    }

    /// Returns the tables of these names, or all for none.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: there is no such table.
    pub(super) fn tables(&self, names: &[String]) -> Result<Vec<DumpedTable>> {
        let tables = &self.inventory.tables;
        if let Some(missing) = names.iter().find(|name| tables.iter().all(|table| table.name != **name)) {
            let there = tables.iter().take(10).map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::DumpFailed(format!("the dump has no table {missing}; it has {there}")));
        }
        let is_meant = |table: &&DumpedTable| names.is_empty() || names.contains(&table.name);
        Ok(tables.iter().filter(is_meant).cloned().collect())
    }

    /// Returns the name of one of its streams, if the snapshot has it.
    pub(super) fn stream(&self, name: &str) -> Option<String> {
        let name = format!("{}{name}", self.folder);
        self.snapshot.record.streams.iter().any(|stream| stream.name == name).then_some(name)
    }

    /// Returns the stream of a table.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the snapshot does not have it.
    pub(super) fn stream_of(&self, table: &str) -> Result<String> {
        let stream = self.stream(&format!("tables/{}.sql", text::encode(table)));
        stream
            .ok_or_else(|| Error::DumpFailed(format!("the snapshot has no stream of table {table}; take another one")))
    }

    /// Returns the stream of a table's triggers.
    pub(super) fn triggers_of(&self, table: &str) -> Option<String> {
        self.stream(&format!("triggers/{}.sql", text::encode(table)))
    }

    /// Returns the length of these streams.
    pub(super) fn bytes_of(&self, names: &[String]) -> u64 {
        let streams = self.snapshot.record.streams.iter();
        streams.filter(|stream| names.contains(&stream.name)).map(|stream| stream.bytes).sum()
    }
}
