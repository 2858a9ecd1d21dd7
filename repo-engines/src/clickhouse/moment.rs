//! Which parts a table has at one moment. A part never changes, so those that are named are that moment.

use super::client::{Client, Result};
use super::schema::{Object, columns_of_system};
use super::sql;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What begins the partition of a part that only patches others (`UPDATE`, as of 25.7); behind it comes a hash, and theirs.
const PATCH: &str = "patch-";

/// The rows of a partition at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub id: String,
    /// The names of its parts.
    pub parts: Vec<String>,
    /// Rows in them, those that were deleted lightly too.
    pub rows: u64,
    pub bytes: u64,
    /// Whether rows were deleted lightly, so that fewer are to be seen.
    pub has_deleted: bool,
    /// What it is made of: the same for the same parts alone.
    pub digest: String,
}

#[derive(Deserialize)]
struct PartRow {
    partition_id: String,
    name: String,
    rows: String,
    bytes: String,
    hash: String,
    has_deleted: u8,
}

/// Tells the parts of tables of one server.
pub(super) struct Moments {
    there: BTreeSet<String>,
}

impl Moments {
    pub async fn new(client: &Client) -> Result<Self> {
        Ok(Moments { there: columns_of_system(client, "parts").await? })
    }

    /// Returns the partitions that a table has now. What else the rows depend on, `asked` says: the query, the columns.
    pub async fn now(&self, client: &Client, object: &Object, asked: &str) -> Result<BTreeMap<String, Partition>> {
        let hash = match self.there.contains("hash_of_all_files") {
            // Of the content: a mutation that leaves a part as it is gives it another name alone.
            true => "hash_of_all_files",
            // Of this very part.
            false => "concat(name, ' ', toString(bytes_on_disk), ' ', toString(modification_time))",
        };
        let has_deleted = if self.there.contains("has_lightweight_delete") { "has_lightweight_delete" } else { "0" };
        let table = object.inner.as_deref().unwrap_or(&object.name);
        let query = format!(
            "SELECT partition_id, name, toString(rows) AS rows, toString(data_uncompressed_bytes) AS bytes, {hash} AS hash, \
             toUInt8({has_deleted}) AS has_deleted FROM system.parts WHERE active AND database = {} AND table = {} ORDER BY name",
            sql::text(&object.database),
            sql::text(table)
        );
        let rows: Vec<PartRow> = client.rows(&query).await?;
        Ok(partitions(rows, asked))
    }
}

fn partitions(rows: Vec<PartRow>, asked: &str) -> BTreeMap<String, Partition> {
    let (patches, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.partition_id.starts_with(PATCH));
    let mut partitions = BTreeMap::<String, (Partition, Vec<String>)>::new();
    for row in rows {
        let (partition, lines) = partitions.entry(row.partition_id.clone()).or_insert_with(|| {
            let of_this = |patch: &&PartRow| patch.partition_id.ends_with(&format!("-{}", row.partition_id));
            let patches = patches.iter().filter(of_this).map(|patch| format!("patch {} {}", patch.name, patch.hash));
            let id = row.partition_id.clone();
            let partition =
                Partition { id, parts: Vec::new(), rows: 0, bytes: 0, has_deleted: false, digest: String::new() };
            (partition, patches.collect())
        });
        lines.push(format!("{} {}", row.hash, row.rows));
        partition.rows += row.rows.parse::<u64>().unwrap_or(0);
        partition.bytes += row.bytes.parse::<u64>().unwrap_or(0);
        partition.has_deleted |= row.has_deleted != 0;
        partition.parts.push(row.name);
    }
    let finished = |(id, (mut partition, mut lines)): (String, (Partition, Vec<String>))| {
        lines.sort();
        let text = format!("{asked}\n{}", lines.join("\n"));
        partition.digest = blake3::hash(text.as_bytes()).to_hex()[..32].to_owned();
        (id, partition)
    };
    partitions.into_iter().map(finished).collect()
}
