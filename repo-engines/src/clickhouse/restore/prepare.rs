//! Looks at the backup and at the server, and refuses what can't be. Changes nothing.

use super::names::Names;
use super::order::{Order, order};
use super::{ASIDE, ClickHouseRestore};
use crate::clickhouse::client::Client;
use crate::clickhouse::dump::{SCHEMA, check_version, patterns};
use crate::clickhouse::explain::Failure;
use crate::clickhouse::schema::{HIDDEN, Kind, Object};
use crate::clickhouse::sql;
use crate::clickhouse::tables::fact;
use crate::stored;
use dedump_core::{Error, Repository, Snapshot, StreamRecord};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, Failure>;

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClickHousePlan {
    /// Where it goes, for people.
    pub place: String,
    /// The tables with rows of their own.
    pub tables: Vec<PlannedTable>,
    /// Views, dictionaries and whatever else has no rows of its own, by the names that they get.
    pub others: Vec<String>,
    /// Bytes of rows.
    pub bytes: u64,
    /// Whether something that is there is replaced.
    pub changes: bool,
    /// Whether what is there is backed up first.
    pub safety_snapshot: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A table of the backup, and the one it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedTable {
    /// Its name in the backup.
    pub from: String,
    /// Its name in the server.
    pub to: String,
    /// Rows that are put back; `None` where the backup does not know.
    pub rows: Option<u64>,
    /// Their bytes.
    pub bytes: u64,
    /// The partitions.
    pub partitions_n: u64,
    /// Whether it takes the place of a table that is there.
    pub replaces: bool,
    /// The rows of that, where the server knows.
    pub rows_there: Option<u64>,
}

/// A table that is there.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct There {
    pub database: String,
    pub name: String,
    pub rows: Option<String>,
}

/// What is known before anything changes.
pub(super) struct Prepared<'a> {
    pub snapshot: &'a Snapshot,
    /// The folder of the backup in the snapshot.
    pub prefix: String,
    pub client: Client,
    pub names: Names,
    /// Databases and functions.
    pub firsts: Vec<Object>,
    pub order: Order,
    pub there: BTreeMap<(String, String), There>,
    /// The streams of rows that are wanted, by their table in the backup.
    pub streams: BTreeMap<(String, String), Vec<&'a StreamRecord>>,
    pub warnings: Vec<String>,
}

impl Prepared<'_> {
    /// Returns the name that an object gets.
    pub fn target(&self, object: &Object) -> (String, String) {
        (self.names.database(&object.database), object.name.clone())
    }

    /// Returns what is there under that name.
    pub fn there(&self, object: &Object) -> Option<&There> {
        self.there.get(&self.target(object))
    }

    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.order.before.iter().chain(&self.order.after)
    }

    /// Returns the streams with an object's rows.
    pub fn streams_of(&self, object: &Object) -> &[&StreamRecord] {
        self.streams.get(&object.key()).map_or(&[], Vec::as_slice)
    }

    pub fn plan(&self, of: &ClickHouseRestore) -> ClickHousePlan {
        let (with_rows, others): (Vec<&Object>, Vec<&Object>) = self
            .objects()
            .partition(|object| object.has_inner || object.rows() != crate::clickhouse::schema::Rows::None);
        let shown = |(database, name): (String, String)| format!("{database}.{name}");
        let table = |object: &&Object| {
            let streams = self.streams_of(object);
            let there = self.there(object);
            PlannedTable {
                from: object.shown(),
                to: shown(self.target(object)),
                rows: streams.iter().map(|stream| rows_of(stream)).sum(),
                bytes: streams.iter().map(|stream| stream.bytes).sum(),
                partitions_n: streams.len() as u64,
                replaces: there.is_some(),
                rows_there: there.and_then(|there| there.rows.as_ref()?.parse().ok()),
            }
        };
        let tables: Vec<PlannedTable> = with_rows.iter().map(table).collect();
        ClickHousePlan {
            place: of.place(),
            bytes: tables.iter().map(|table| table.bytes).sum(),
            tables,
            others: others.iter().map(|object| shown(self.target(object))).collect(),
            changes: self.objects().any(|object| self.there(object).is_some()),
            safety_snapshot: self.needs_safety_snapshot(of),
            warnings: self.warnings.clone(),
        }
    }

    pub fn needs_safety_snapshot(&self, of: &ClickHouseRestore) -> bool {
        of.options.safety_snapshot && self.objects().any(|object| self.there(object).is_some())
    }
}

/// Returns how many rows a stream has, if the backup knows.
pub(super) fn rows_of(stream: &StreamRecord) -> Option<u64> {
    stream.facts.get(fact::ROWS)?.parse().ok()
}

impl ClickHouseRestore {
    pub(super) async fn prepare<'a>(
        &self,
        repository: &Repository,
        snapshot: &'a Snapshot,
        part_prefix: &str,
    ) -> Result<Prepared<'a>> {
        let all: Vec<Object> = lines(repository, snapshot, part_prefix, SCHEMA).await?;
        let (mut firsts, tables): (Vec<_>, Vec<_>) = all.into_iter().partition(|object| object.kind != Kind::Table);
        let wanted = self.select(tables)?;
        let databases: BTreeSet<&String> = wanted.iter().map(|object| &object.database).collect();
        let is_part = !self.options.tables.is_empty() || self.options.from_database.is_some();
        if is_part {
            firsts.retain(|object| object.kind == Kind::Database && databases.contains(&object.name));
        }
        let renamed = self.renamed(&firsts)?;
        let names = Names::new(&wanted, renamed, self.options.unreplicated);
        let mut warnings = Vec::new();
        if let Some(object) = wanted.iter().find(|object| object.create.contains(HIDDEN)) {
            warnings.push(format!("the definition of {} lacks the secrets that the server kept back", object.shown()));
        }
        let streams = self.streams(snapshot, part_prefix, &wanted)?;
        let order = order(wanted, &names);
        let client = Client::open(&self.url, &self.options.client).await?;
        check_version(&client)?;
        let there = there(&client).await?;
        let prefix = part_prefix.to_owned();
        let prepared = Prepared { snapshot, prefix, client, names, firsts, order, there, streams, warnings };
        self.check_place(&prepared)?;
        Ok(prepared)
    }

    /// Returns the tables that are wanted.
    fn select(&self, tables: Vec<Object>) -> Result<Vec<Object>> {
        let invalid = |why: String| Err(Failure::Ours(Error::Invalid(why)));
        let patterns = patterns(&self.options.tables)?;
        let names = || tables.iter().take(20).map(Object::shown).collect::<Vec<_>>().join(", ");
        let from = self.options.from_database.as_ref();
        let is_wanted = |object: &&Object| {
            from.is_none_or(|from| *from == object.database)
                && (self.options.tables.is_empty() || patterns.is_match(object.shown()))
        };
        let wanted: Vec<Object> = tables.iter().filter(is_wanted).cloned().collect();
        if wanted.is_empty() && (from.is_some() || !self.options.tables.is_empty()) {
            return invalid(format!("the backup has no such table; it has {}", names()));
        }
        if !self.options.partitions.is_empty() && wanted.len() != 1 {
            return invalid(format!("partitions are chosen in one table, and these are {}", wanted.len()));
        }
        if let Some(view) = wanted.iter().find(|object| object.has_inner && !self.options.partitions.is_empty()) {
            return invalid(format!(
                "{} is a view, which comes back as a whole; leave the partitions out",
                view.shown()
            ));
        }
        Ok(wanted)
    }

    /// Returns which database gets which name.
    fn renamed(&self, firsts: &[Object]) -> Result<BTreeMap<String, String>> {
        let Some(to) = self.options.to_database.as_deref().or(self.url.database()) else { return Ok(BTreeMap::new()) };
        let databases: Vec<&str> =
            firsts.iter().filter(|object| object.kind == Kind::Database).map(|object| object.name.as_str()).collect();
        match databases.as_slice() {
            [from] => Ok(BTreeMap::from([((*from).to_owned(), to.to_owned())])),
            many => Err(Failure::Ours(Error::Invalid(format!(
                "the backup has the databases {}; say which one becomes {to}",
                many.join(", ")
            )))),
        }
    }

    fn streams<'a>(
        &self,
        snapshot: &'a Snapshot,
        prefix: &str,
        wanted: &[Object],
    ) -> Result<BTreeMap<(String, String), Vec<&'a StreamRecord>>> {
        let mut streams = BTreeMap::<_, Vec<&StreamRecord>>::new();
        if self.options.schema_only {
            return Ok(streams);
        }
        let keys: BTreeSet<_> = wanted.iter().map(Object::key).collect();
        let folder = format!("{prefix}data/");
        for stream in snapshot.record.streams.iter().filter(|stream| stream.name.starts_with(&folder)) {
            let fact = |name: &str| stream.facts.get(name).cloned().unwrap_or_default();
            let key = (fact(fact::DATABASE), fact(fact::TABLE));
            let partitions = &self.options.partitions;
            if keys.contains(&key) && (partitions.is_empty() || partitions.contains(&fact(fact::PARTITION))) {
                streams.entry(key).or_default().push(stream);
            }
        }
        let found_n: usize = streams.values().map(Vec::len).sum();
        if found_n < self.options.partitions.len() {
            let why =
                "the backup lacks one of these partitions; dedump show lists the streams, each with its partition";
            return Err(Failure::Ours(Error::Invalid(why.to_owned())));
        }
        Ok(streams)
    }

    fn check_place(&self, prepared: &Prepared<'_>) -> Result<()> {
        if self.options.replace {
            return Ok(());
        }
        match prepared.objects().find_map(|object| prepared.there(object)) {
            None => Ok(()),
            Some(there) => Err(Failure::Broken(format!(
                "{}.{} is there already and was left as it is; name another database, or replace it",
                there.database, there.name
            ))),
        }
    }
}

/// Reads a stream of JSON lines.
pub(super) async fn lines<T: DeserializeOwned>(
    repository: &Repository,
    snapshot: &Snapshot,
    prefix: &str,
    name: &str,
) -> Result<Vec<T>> {
    let wanted = format!("{prefix}{name}");
    let found = snapshot.record.streams.iter().find(|stream| stream.name == wanted);
    found.ok_or_else(|| Error::NotFound {
        what: "stream",
        name: wanted.clone(),
        hint: format!(" in snapshot {}; it has no backup of ClickHouse there", snapshot.id.short()),
    })?;
    let damaged = |why: String| Error::Damaged { object: format!("stream {wanted:?}"), why };
    let bytes = stored::read_small(repository, snapshot, &wanted).await?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let read = lines.map(|line| serde_json::from_slice(line)).collect::<std::result::Result<Vec<T>, _>>();
    Ok(read.map_err(|error| damaged(error.to_string()))?)
}

/// Returns what the server has, what restores have left out of it aside.
async fn there(client: &Client) -> Result<BTreeMap<(String, String), There>> {
    let has_rows = crate::clickhouse::schema::columns_of_system(client, "tables").await?.contains("total_rows");
    let rows = if has_rows { "toString(total_rows)" } else { "NULL" };
    let query = format!(
        "SELECT database, name, {rows} AS rows FROM system.tables WHERE NOT is_temporary AND NOT startsWith(name, {})",
        sql::text(ASIDE)
    );
    let all: Vec<There> = client.rows(&query).await?;
    Ok(all.into_iter().map(|there| ((there.database.clone(), there.name.clone()), there)).collect())
}
