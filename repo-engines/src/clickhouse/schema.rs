//! What a server has: databases, tables, views, dictionaries, functions, and what depends on what, as its `system` tables tell it.

use super::client::{Client, Result};
use super::explain::Failure;
use super::native::Type;
use super::sql;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Databases that every server has and that nobody restores.
const SYSTEM: &str = "'system', 'INFORMATION_SCHEMA', 'information_schema', '_temporary_and_external_tables'";
/// What stands in a definition where the server hides a secret.
pub(super) const HIDDEN: &str = "'[HIDDEN]'";

/// Something with a definition. Stored as a line of `schema.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    pub kind: Kind,
    /// Empty for functions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub database: String,
    /// A database's own name, too.
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine: String,
    /// The statement that makes it.
    pub create: String,
    /// The tables that the server says must be there first, each with its database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<(String, String)>,
    /// The columns that have data of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sorting_key: String,
    /// Of a materialised view without `TO`: whether it has a table of its own, whose rows are stored under its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_inner: bool,
    /// That table, and the view's UUID; of today only.
    #[serde(skip)]
    pub inner: Option<String>,
    #[serde(skip)]
    pub uuid: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Database,
    Function,
    Table,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// What there is of a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// In parts, each in a partition.
    Parts,
    /// In one piece.
    Whole,
    /// None of its own: a view, a connection to elsewhere.
    None,
    /// Some that no query returns.
    Unreadable,
}

impl Object {
    /// Returns its name for people.
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::Table => format!("{}.{}", self.database, self.name),
            _ => self.name.clone(),
        }
    }

    pub fn key(&self) -> (String, String) {
        (self.database.clone(), self.name.clone())
    }

    /// Returns the table that has its rows.
    pub fn table_of_rows(&self) -> String {
        sql::table(&self.database, self.inner.as_deref().unwrap_or(&self.name))
    }

    pub fn is_materialized_view(&self) -> bool {
        self.engine == "MaterializedView"
    }

    /// Returns what there is of its rows.
    pub fn rows(&self) -> Rows {
        match self.engine.as_str() {
            "MaterializedView" if self.has_inner => Rows::Parts,
            engine if engine.ends_with("MergeTree") => Rows::Parts,
            "Log" | "TinyLog" | "StripeLog" | "Memory" | "Join" | "EmbeddedRocksDB" | "KeeperMap" => Rows::Whole,
            "Set" | "TimeSeries" | "WindowView" | "LiveView" => Rows::Unreadable,
            _ => Rows::None,
        }
    }

    /// Returns whether a column's values are only the server's to tell apart.
    pub fn is_opaque(&self) -> bool {
        self.columns.iter().any(|column| Type::parse(&column.kind).is_ok_and(|kind| kind.is_opaque()))
    }
}

#[derive(Deserialize)]
struct TableRow {
    database: String,
    name: String,
    engine: String,
    create_table_query: String,
    uuid: String,
    sorting_key: String,
    needs: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct ColumnRow {
    database: String,
    table: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    default_kind: String,
}

#[derive(Deserialize)]
struct NameRow {
    name: String,
}

#[derive(Deserialize)]
struct FunctionRow {
    name: String,
    create_query: String,
}

/// Returns what the server has, of one database or of all, in the order of names.
pub(super) async fn read(client: &Client, database: Option<&str>) -> Result<Vec<Object>> {
    let scope = match database {
        Some(database) => format!("= {}", sql::text(database)),
        None => format!("NOT IN ({SYSTEM})"),
    };
    let mut objects = databases(client, &scope).await?;
    if objects.is_empty() && database.is_some() {
        let name = database.unwrap_or_default();
        return Err(Failure::Broken(format!(
            "it has no database {name:?}, or this user may not see it; correct the URL"
        )));
    }
    if database.is_none() && client.is_from(21, 10) {
        objects.extend(functions(client).await?);
    }
    objects.extend(tables(client, &scope).await?);
    Ok(objects)
}

async fn databases(client: &Client, scope: &str) -> Result<Vec<Object>> {
    let rows: Vec<NameRow> =
        client.rows(&format!("SELECT name FROM system.databases WHERE name {scope} ORDER BY name")).await?;
    let mut objects = Vec::new();
    for NameRow { name } in rows {
        let create = client.ask(&format!("SHOW CREATE DATABASE {} FORMAT TabSeparatedRaw", sql::name(&name))).await?;
        objects.push(Object {
            kind: Kind::Database,
            create: create.trim_end().to_owned(),
            database: String::new(),
            name,
            engine: String::new(),
            needs: Vec::new(),
            columns: Vec::new(),
            sorting_key: String::new(),
            has_inner: false,
            inner: None,
            uuid: String::new(),
        });
    }
    Ok(objects)
}

async fn functions(client: &Client) -> Result<Vec<Object>> {
    let query = "SELECT name, create_query FROM system.functions WHERE origin = 'SQLUserDefined' ORDER BY name";
    let rows: Vec<FunctionRow> = client.rows(query).await?;
    let object = |FunctionRow { name, create_query }| Object {
        kind: Kind::Function,
        create: create_query,
        database: String::new(),
        name,
        engine: String::new(),
        needs: Vec::new(),
        columns: Vec::new(),
        sorting_key: String::new(),
        has_inner: false,
        inner: None,
        uuid: String::new(),
    };
    Ok(rows.into_iter().map(object).collect())
}

/// Returns which columns a `system` table has.
pub(super) async fn columns_of_system(client: &Client, table: &str) -> Result<BTreeSet<String>> {
    let query = format!("SELECT name FROM system.columns WHERE database = 'system' AND table = {}", sql::text(table));
    let rows: Vec<NameRow> = client.rows(&query).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

async fn tables(client: &Client, scope: &str) -> Result<Vec<Object>> {
    let there = columns_of_system(client, "tables").await?;
    let uuid = if there.contains("uuid") { "toString(uuid)" } else { "''" };
    let needs = match there.contains("loading_dependencies_table") {
        true => "arrayMap((d, t) -> [d, t], loading_dependencies_database, loading_dependencies_table)",
        false => "emptyArrayString()",
    };
    let query = format!(
        "SELECT database, name, engine, create_table_query, {uuid} AS uuid, sorting_key, {needs} AS needs FROM system.tables \
         WHERE database {scope} AND NOT is_temporary ORDER BY database, name"
    );
    let rows: Vec<TableRow> = client.rows(&query).await?;
    let mut columns = columns(client, scope).await?;
    let fed = fed_by(client, scope).await?;
    let names: BTreeSet<(String, String)> = rows.iter().map(|row| (row.database.clone(), row.name.clone())).collect();
    let mut objects = Vec::new();
    let mut inners = BTreeSet::new();
    for row in rows {
        let key = (row.database.clone(), row.name.clone());
        let mut object = Object {
            kind: Kind::Table,
            columns: columns.remove(&key).unwrap_or_default(),
            needs: row.needs,
            engine: row.engine,
            create: row.create_table_query,
            sorting_key: row.sorting_key,
            has_inner: false,
            inner: None,
            uuid: row.uuid,
            database: row.database,
            name: row.name,
        };
        object.needs.extend(fed.get(&key).cloned().unwrap_or_default());
        object.needs.sort();
        object.needs.dedup();
        if object.is_materialized_view() {
            let usual = [format!(".inner_id.{}", object.uuid), format!(".inner.{}", object.name)];
            object.inner = usual.into_iter().find(|name| names.contains(&(object.database.clone(), name.clone())));
            object.has_inner = object.inner.is_some();
            inners.extend(object.inner.iter().map(|inner| (object.database.clone(), inner.clone())));
        }
        objects.push(object);
    }
    let (inner, mut objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| inners.contains(&object.key()));
    for object in objects.iter_mut().filter(|object| object.has_inner) {
        let is_own = |one: &&Object| one.database == object.database && Some(&one.name) == object.inner.as_ref();
        let own = inner.iter().find(is_own).expect("it was found among them");
        object.columns = own.columns.clone();
        object.sorting_key = own.sorting_key.clone();
    }
    for object in objects.iter_mut().filter(|object| object.rows() == Rows::None) {
        object.columns.clear();
    }
    Ok(objects)
}

/// Returns for each materialised view the tables whose rows it takes.
async fn fed_by(client: &Client, scope: &str) -> Result<BTreeMap<(String, String), Vec<(String, String)>>> {
    #[derive(Deserialize)]
    struct Row {
        database: String,
        name: String,
        dependents: Vec<(String, String)>,
    }
    let query = format!(
        "SELECT database, name, arrayMap((d, t) -> [d, t], dependencies_database, dependencies_table) AS dependents \
         FROM system.tables WHERE database {scope} AND notEmpty(dependencies_table)"
    );
    let mut fed = BTreeMap::<_, Vec<_>>::new();
    for row in client.rows::<Row>(&query).await? {
        for dependent in row.dependents {
            fed.entry(dependent).or_default().push((row.database.clone(), row.name.clone()));
        }
    }
    Ok(fed)
}

async fn columns(client: &Client, scope: &str) -> Result<BTreeMap<(String, String), Vec<Column>>> {
    let query = format!("SELECT database, table, name, type, default_kind FROM system.columns WHERE database {scope}");
    // The server keeps the order of the columns within a table.
    let rows: Vec<ColumnRow> = client.rows(&query).await?;
    let takes_materialized = client.is_from(23, 4);
    let mut columns = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        let is_stored = match row.default_kind.as_str() {
            "ALIAS" | "EPHEMERAL" => false,
            // Which a server before that version calculates anew whatever it is given.
            "MATERIALIZED" => takes_materialized,
            _ => true,
        };
        if is_stored {
            let column = Column { name: row.name, kind: row.kind };
            columns.entry((row.database, row.table)).or_default().push(column);
        }
    }
    Ok(columns)
}
