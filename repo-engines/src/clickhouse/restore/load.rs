//! Makes tables and fills them, aside; counts what they have.

use super::ASIDE;
use super::ClickHouseRestore;
use super::feed::{Feeder, Route};
use super::prepare::{Prepared, rows_of};
use crate::clickhouse::client::Client;
use crate::clickhouse::explain::Failure;
use crate::clickhouse::schema::{Object, Rows, columns_of_system};
use crate::clickhouse::sql;
use crate::clickhouse::tables::fact;
use dedump_core::{Progress, Repository, RestoreOptions, restore};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What lets a server make again what it has made once, whatever has come to be advised against since.
const CREATE_SETTINGS: &[(&str, &str)] = &[
    ("flatten_nested", "0"),
    ("data_type_default_nullable", "0"),
    ("allow_deprecated_syntax_for_merge_tree", "1"),
    ("allow_experimental_bfloat16_type", "1"),
    ("allow_experimental_codecs", "1"),
    ("allow_experimental_dynamic_type", "1"),
    ("allow_experimental_full_text_index", "1"),
    ("allow_experimental_json_type", "1"),
    ("allow_experimental_low_cardinality_type", "1"),
    ("allow_experimental_map_type", "1"),
    ("allow_experimental_nullable_tuple_type", "1"),
    ("allow_experimental_object_type", "1"),
    ("allow_experimental_qbit_type", "1"),
    ("allow_experimental_refreshable_materialized_view", "1"),
    ("allow_experimental_statistics", "1"),
    ("allow_experimental_time_series_table", "1"),
    ("allow_experimental_variant_type", "1"),
    ("allow_experimental_vector_similarity_index", "1"),
    ("allow_experimental_window_view", "1"),
    ("allow_materialized_view_with_bad_select", "1"),
    ("allow_suspicious_codecs", "1"),
    ("allow_suspicious_fixed_string_types", "1"),
    ("allow_suspicious_indices", "1"),
    ("allow_suspicious_low_cardinality_types", "1"),
    ("allow_suspicious_primary_key", "1"),
    ("allow_suspicious_ttl_expressions", "1"),
    ("allow_suspicious_types_in_group_by", "1"),
    ("allow_suspicious_types_in_order_by", "1"),
    ("allow_suspicious_variant_types", "1"),
    ("enable_time_time64_type", "1"),
];

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// A table that is filled.
#[derive(Debug, Clone)]
pub(super) struct Filled {
    pub object: Object,
    /// Where it is filled.
    pub at: (String, String),
    /// Whether merges stay out until it is counted.
    pub has_stopped: bool,
}

/// Returns those settings that a server knows.
pub(super) async fn create_settings(client: &Client) -> Result<Vec<(&'static str, String)>> {
    #[derive(Deserialize)]
    struct Row {
        name: String,
    }
    let names: Vec<String> = CREATE_SETTINGS.iter().map(|(name, _)| sql::text(name)).collect();
    let query = format!("SELECT name FROM system.settings WHERE name IN ({})", names.join(", "));
    let known: Vec<Row> = client.rows(&query).await?;
    let is_known = |name: &str| known.iter().any(|row| row.name == name);
    let settings = CREATE_SETTINGS.iter().filter(|(name, _)| is_known(name));
    Ok(settings.map(|(name, value)| (*name, (*value).to_owned())).collect())
}

impl ClickHouseRestore {
    /// Makes a table, and keeps merges out of it.
    pub(super) async fn make(
        &self,
        prepared: &Prepared<'_>,
        object: &Object,
        at: (String, String),
        settings: &[(&'static str, String)],
    ) -> Result<Filled> {
        let client = &prepared.client;
        let is_aside = at.1.starts_with(ASIDE);
        if is_aside {
            client.ask(&drop_sql(client, object, &at, true)).await?;
        }
        let create = prepared.names.create(object, (&at.0, &at.1), is_aside);
        client.ask_with(&create, settings).await.map_err(|failure| of(object, failure))?;
        let has_stopped = match object.rows() {
            Rows::Parts if !object.has_inner => stop_merges(client, &at).await?,
            _ => false,
        };
        Ok(Filled { object: object.clone(), at, has_stopped })
    }

    /// Fills tables with their rows, and counts them. Returns how many bytes were sent.
    pub(super) async fn fill(
        &self,
        prepared: &Prepared<'_>,
        filled: &[Filled],
        repository: &Repository,
        progress: &dyn Progress,
        warnings: &mut Vec<String>,
    ) -> Result<(u64, u64)> {
        let (mut routes, mut streams) = (BTreeMap::new(), Vec::new());
        for one in filled {
            for stream in prepared.streams_of(&one.object) {
                routes.insert(stream.name.clone(), Route::new(&one.object, (&one.at.0, &one.at.1)));
                streams.push(stream.name.clone());
            }
        }
        let mut bytes = 0;
        // Of none, all would be restored.
        if !streams.is_empty() {
            let token = format!("{} {}", prepared.snapshot.id, random()?);
            let mut feeder = Feeder::new(&prepared.client, &self.url, routes, token);
            let options = RestoreOptions { streams, ..RestoreOptions::default() };
            restore(repository, prepared.snapshot, &options, &mut feeder, progress).await?;
            bytes = feeder.bytes;
        }
        let mut rows = 0;
        for one in filled {
            rows += self.count(prepared, one, warnings).await?;
        }
        Ok((rows, bytes))
    }

    /// Compares the rows of a table with those of the backup, partition by partition.
    async fn count(&self, prepared: &Prepared<'_>, one: &Filled, warnings: &mut Vec<String>) -> Result<u64> {
        #[derive(Deserialize)]
        struct Row {
            id: String,
            rows: String,
        }
        let streams = prepared.streams_of(&one.object);
        if streams.is_empty() {
            return Ok(0);
        }
        let id = if one.object.rows() == Rows::Parts { "_partition_id" } else { "'whole'" };
        let table = sql::table(&one.at.0, &one.at.1);
        // Not called `_partition_id`, or old servers would group by something else.
        let query = format!("SELECT toString({id}) AS id, toString(count()) AS rows FROM {table} GROUP BY id");
        let there: Vec<Row> = prepared.client.rows(&query).await?;
        let there: BTreeMap<String, u64> =
            there.into_iter().map(|row| (row.id, row.rows.parse().unwrap_or(0))).collect();
        let wanted: BTreeMap<String, u64> = streams
            .iter()
            .filter_map(|stream| Some((stream.facts.get(fact::PARTITION)?.clone(), rows_of(stream)?)))
            .collect();
        let (there_n, wanted_n): (u64, u64) = (there.values().sum(), wanted.values().sum());
        if one.has_stopped {
            prepared.client.ask(&format!("SYSTEM START MERGES {table}")).await?;
        }
        let name = one.object.shown();
        // Other versions may name partitions otherwise, and then only the sum can be compared.
        let are_same_ids = there.keys().eq(wanted.keys());
        if there_n == wanted_n && (there == wanted || !are_same_ids) {
            return Ok(there_n);
        }
        let may_merge = !one.has_stopped && merges_rows(&one.object.engine);
        if there_n < wanted_n && may_merge {
            warnings.push(format!(
                "{name} has {there_n} rows of {wanted_n}: its engine merges them, and this user may not stop that"
            ));
            return Ok(there_n);
        }
        Err(Failure::Broken(format!("{name} should have {wanted_n} rows now and has {there_n}")))
    }
}

/// Returns whether an engine makes fewer rows of many.
fn merges_rows(engine: &str) -> bool {
    ["Replacing", "Summing", "Aggregating", "Collapsing", "Coalescing", "Graphite"]
        .iter()
        .any(|word| engine.contains(word))
}

/// Keeps merges out of a table, if this user may and the server knows how.
async fn stop_merges(client: &Client, at: &(String, String)) -> Result<bool> {
    match client.ask(&format!("SYSTEM STOP MERGES {}", sql::table(&at.0, &at.1))).await {
        Ok(_) => Ok(true),
        Err(Failure::Refused(..)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Returns the statement that drops what an object became.
pub(super) fn drop_sql(client: &Client, object: &Object, at: &(String, String), if_exists: bool) -> String {
    let kind = if object.engine == "Dictionary" && client.is_from(20, 1) { "DICTIONARY" } else { "TABLE" };
    let exists = if if_exists { "IF EXISTS " } else { "" };
    let sync = if client.is_from(21, 1) { " SYNC" } else { "" };
    format!("DROP {kind} {exists}{}{sync}", sql::table(&at.0, &at.1))
}

/// Returns the table that has the rows of a materialised view which was just made.
pub(super) async fn inner_of(client: &Client, at: &(String, String)) -> Result<(String, String)> {
    #[derive(Deserialize)]
    struct Row {
        uuid: String,
    }
    let has_uuid = columns_of_system(client, "tables").await?.contains("uuid");
    let uuid = if has_uuid { "toString(uuid)" } else { "''" };
    let condition = format!("database = {} AND name = {}", sql::text(&at.0), sql::text(&at.1));
    let rows: Vec<Row> = client.rows(&format!("SELECT {uuid} AS uuid FROM system.tables WHERE {condition}")).await?;
    let uuid = rows.into_iter().next().map(|row| row.uuid).unwrap_or_default();
    let is_none = uuid.chars().all(|c| c == '0' || c == '-');
    let name = if is_none { format!(".inner.{}", at.1) } else { format!(".inner_id.{uuid}") };
    Ok((at.0.clone(), name))
}

/// Says which object it was about.
pub(super) fn of(object: &Object, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(code, words) => Failure::Refused(code, format!("{} can't be made: {words}", object.shown())),
        failure => failure,
    }
}

/// Returns 32 digits that nobody guesses.
pub(super) fn random() -> Result<String> {
    let mut bytes = [0_u8; 16];
    let cannot = |error: getrandom::Error| dedump_core::Error::System(format!("no random numbers: {error}"));
    getrandom::fill(&mut bytes).map_err(cannot)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
