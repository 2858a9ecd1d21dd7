//! A table's rows as a stream: the query for them, and the walk through what comes.

use super::client::{Client, Result, Settings};
use super::explain::Failure;
use super::moment::Partition;
use super::native::Walk;
use super::schema::Object;
use super::sql;
use dedump_core::{Sink, StreamWriter};
use std::future::Future;

/// Rows of a block, at most, and at least where they are long.
const BLOCK_ROWS_MAX: u64 = 65_536;
const BLOCK_ROWS_MIN: u64 = 256;
/// Bytes of a block, about: it is held in memory, here and when it is put back.
const BLOCK_BYTES: u64 = 16 << 20;
/// Bytes that the server sorts in memory; beyond that it uses its disk.
const SORT_BYTES: u64 = 512 << 20;
/// The length of a query, at most: it names every part.
const QUERY_BYTES_MAX: u64 = 64 << 20;

/// What a query for rows asks for.
pub(super) struct Asked {
    columns: String,
    order: String,
}

impl Asked {
    /// Returns it in one text, the same for the same rows in the same order.
    pub fn text(&self) -> String {
        format!("{} ORDER BY {}", self.columns, self.order)
    }
}

/// Returns the columns and the order of the query for a table's rows. Rows that are alike in all that can be compared may change
/// places; the key alone would leave more of them.
pub(super) fn asked(object: &Object) -> Asked {
    let columns: Vec<String> = object.columns.iter().map(|column| sql::name(&column.name)).collect();
    let mut order: Vec<String> =
        Some(object.sorting_key.clone()).filter(|key| !key.trim().is_empty()).into_iter().collect();
    for column in &object.columns {
        let name = sql::name(&column.name);
        let has = |word: &str| column.kind.contains(word);
        if column.kind.starts_with("AggregateFunction(") {
            order.push(format!("hex({name})"));
        } else if has("JSON") || has("Dynamic") || has("Variant") || has("Object(") || has("Geometry") {
            order.push(format!("toString({name})"));
        } else if !has("AggregateFunction(") || column.kind.starts_with("SimpleAggregateFunction(") {
            order.push(name);
        }
    }
    Asked { columns: columns.join(", "), order: order.join(", ") }
}

/// Returns the query for the rows of some parts, or of all.
pub(super) fn query(object: &Object, asked: &Asked, partition: Option<&Partition>) -> String {
    let parts = |partition: &Partition| {
        let names: Vec<String> = partition.parts.iter().map(|part| sql::text(part)).collect();
        format!(" WHERE _part IN ({})", names.join(", "))
    };
    let parts = partition.map_or_else(String::new, parts);
    let order = if asked.order.is_empty() { String::new() } else { format!(" ORDER BY {}", asked.order) };
    format!("SELECT {} FROM {}{parts}{order} FORMAT Native", asked.columns, object.table_of_rows())
}

/// Returns what the server is told besides: nothing may be cut off in silence, and the order and the blocks are to be the same each time.
pub(super) fn settings(client: &Client, partition: Option<&Partition>) -> Vec<(&'static str, String)> {
    let row_bytes = partition.map_or(256, |partition| partition.bytes / partition.rows.max(1)).max(1);
    // A power of two, so that it stays when rows grow a little.
    let block_rows = (BLOCK_BYTES / row_bytes).clamp(BLOCK_ROWS_MIN, BLOCK_ROWS_MAX);
    let block_rows = 1_u64 << block_rows.ilog2();
    let mut settings = vec![
        ("max_threads", "1".to_owned()),
        ("max_block_size", block_rows.to_string()),
        ("max_bytes_before_external_sort", SORT_BYTES.to_string()),
        ("max_query_size", QUERY_BYTES_MAX.to_string()),
        ("max_result_rows", "0".to_owned()),
        ("max_result_bytes", "0".to_owned()),
        ("max_execution_time", "0".to_owned()),
        ("read_overflow_mode", "throw".to_owned()),
        ("result_overflow_mode", "throw".to_owned()),
        ("timeout_overflow_mode", "throw".to_owned()),
        ("sort_overflow_mode", "throw".to_owned()),
    ];
    let mut since = |year, month, name, value: &str| {
        if client.is_from(year, month) {
            settings.push((name, value.to_owned()));
        }
    };
    // What is read in the order of the key comes in blocks that depend on how the parts are cut.
    since(19, 14, "optimize_read_in_order", "0");
    since(21, 4, "limit", "0");
    since(21, 4, "offset", "0");
    since(22, 12, "final", "0");
    since(25, 6, "output_format_native_use_flattened_dynamic_and_json_serialization", "1");
    since(24, 12, "output_format_native_write_json_as_string", "0");
    settings
}

/// What came of a query for rows.
pub(super) struct Came {
    pub stream: StreamWriter,
    /// `None` where they can't be counted here.
    pub rows: Option<u64>,
    pub bytes: u64,
}

/// Writes the answer to a query for rows into a stream, as it comes, and checks that it is whole.
///
/// With `is_held` the server has to know that they are before it begins to answer. `begun` is awaited once the server has begun to answer: what it reads is settled then.
pub(super) async fn copy<F>(
    client: &Client,
    object: &Object,
    (query, settings, is_held): (&str, Settings<'_>, bool),
    (sink, stream): (&Sink, &str),
    begun: F,
) -> Result<Came>
where
    F: Future<Output = Result<()>>,
{
    let mut answer = client.stream(query, settings, is_held).await?;
    begun.await?;
    let mut came = Came { stream: sink.stream(stream).await?, rows: None, bytes: 0 };
    let mut walk = Walk::new(object.is_opaque());
    let wrong = |why: String| Failure::Broken(format!("the rows of {} are not whole: {why}", object.shown()));
    let mut are_checked = false;
    while let Some(bytes) = answer.piece().await? {
        let pieces = walk.feed(&bytes).map_err(wrong)?;
        if !are_checked && let Some(columns) = walk.columns() {
            check_columns(object, columns)?;
            are_checked = true;
        }
        for piece in pieces {
            came.stream.write(&piece.bytes).await?;
        }
    }
    let columns = walk.columns().map(<[_]>::to_vec);
    let (pieces, rows) = walk.finish().map_err(wrong)?;
    for piece in pieces {
        came.stream.write(&piece.bytes).await?;
    }
    if let Some(columns) = columns.filter(|_| !are_checked) {
        check_columns(object, &columns)?;
    }
    (came.rows, came.bytes) = (rows, answer.bytes);
    Ok(came)
}

/// Checks that what came is what was asked for.
fn check_columns(object: &Object, columns: &[(String, String)]) -> Result<()> {
    let differs = |at: &usize| {
        // To those who do not say how new they are, the server does not say the zone.
        let kind = |kind: &str| if kind.starts_with("DateTime(") { "DateTime".to_owned() } else { kind.to_owned() };
        let wanted = object.columns.get(*at).map(|column| (&column.name, kind(&column.kind)));
        wanted != columns.get(*at).map(|(name, written)| (name, kind(written)))
    };
    match (0..object.columns.len().max(columns.len())).find(differs) {
        None => Ok(()),
        Some(at) => {
            let name = object.columns.get(at).map_or("", |column| &column.name);
            Err(Failure::Broken(format!(
                "the column {name:?} of {} is not as it was when its definition was read; back it up again",
                object.shown()
            )))
        }
    }
}
