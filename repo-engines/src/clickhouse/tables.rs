//! The rows of one table after another, each table at one moment.
//!
//! A partition is read by naming its parts, which never change. Rows that are missing mean that a part was merged away before the
//! server began to read: then the table is looked at again, and what has changed since is read anew, side by side, so that all of it
//! begins at once.

use super::client::{Client, Result};
use super::explain::Failure;
use super::moment::{Moments, Partition};
use super::rows::{self, Asked, Came};
use super::schema::{Object, Rows};
use crate::percent;
use dedump_core::{Sink, Verdict};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// How often a table is looked at before its writers have won.
const ROUNDS_MAX: usize = 6;
/// Partitions that are read side by side where writers are at work.
const SIDE_BY_SIDE: usize = 8;
/// The name of the streams.
pub(super) const ROWS: &str = "rows.native";
/// What stands for a partition where a table has none.
pub(super) const WHOLE: &str = "whole";

/// Facts of a stream of rows.
pub(super) mod fact {
    pub const DATABASE: &str = "database";
    pub const TABLE: &str = "table";
    pub const PARTITION: &str = "partition";
    pub const ROWS: &str = "rows";
    pub const PARTS: &str = "parts";
}

/// What was dumped.
#[derive(Debug, Default)]
pub(super) struct Dumped {
    pub read_n: u64,
    pub reused_n: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl Dumped {
    pub fn add(&mut self, other: Dumped) {
        self.read_n += other.read_n;
        self.reused_n += other.reused_n;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Dumps the tables of one server.
pub(super) struct Tables<'a> {
    client: &'a Client,
    sink: &'a Sink,
    moments: Moments,
    allow_moving: bool,
}

/// What became of a partition that was asked for.
enum Outcome {
    Held(Partition, Held),
    /// A part of it was gone.
    Gone,
}

/// A stream that is whole.
struct Held {
    digest: String,
    rows: u64,
    bytes: u64,
    is_reused: bool,
}

impl<'a> Tables<'a> {
    pub async fn new(client: &'a Client, sink: &'a Sink, allow_moving: bool) -> Result<Self> {
        Ok(Tables { client, sink, moments: Moments::new(client).await?, allow_moving })
    }

    /// Dumps the rows of a table.
    pub async fn dump(&self, object: &Object, verdict: &mut Verdict) -> Result<Dumped> {
        if object.columns.is_empty() {
            return Ok(Dumped::default());
        }
        match object.rows() {
            Rows::None | Rows::Unreadable => Ok(Dumped::default()),
            Rows::Whole => self.whole(object).await,
            Rows::Parts => self.parts(object, verdict).await,
        }
    }

    /// Dumps a table without parts, in one query. It is counted before and after: there is no other word of how many rows it has.
    async fn whole(&self, object: &Object) -> Result<Dumped> {
        let asked = rows::asked(object);
        let query = rows::query(object, &asked, None);
        let folder = folder(object, WHOLE);
        let settings = rows::settings(self.client, None);
        for _ in 0..ROUNDS_MAX {
            let before = self.count(object).await?;
            let nothing = async { Ok(()) };
            let name = format!("{folder}/{ROWS}");
            let came = rows::copy(self.client, object, (&query, &settings, true), (self.sink, &name), nothing).await?;
            let after = self.count(object).await?;
            let mut facts = facts(object, WHOLE);
            facts.extend(came.rows.map(|rows| (fact::ROWS.to_owned(), rows.to_string())));
            came.stream.finish(facts).await?;
            let rows = came.rows.unwrap_or(before);
            if (before.min(after)..=before.max(after)).contains(&rows) {
                return Ok(Dumped { read_n: 1, reused_n: 0, rows, bytes: came.bytes });
            }
            self.sink.part(&folder)?.give_up().await?;
        }
        let name = object.shown();
        Err(Failure::Broken(format!(
            "{name} never shows as many rows as it counts; try again when nobody writes to it"
        )))
    }

    async fn count(&self, object: &Object) -> Result<u64> {
        let query = format!("SELECT toString(count()) FROM {} FORMAT TabSeparated", object.table_of_rows());
        let answer = self.client.ask(&query).await?;
        answer.trim().parse().map_err(|_| Failure::Broken(format!("{} can't be counted", object.shown())))
    }

    async fn parts(&self, object: &Object, verdict: &mut Verdict) -> Result<Dumped> {
        let asked = rows::asked(object);
        let mut held = BTreeMap::<String, Held>::new();
        for round in 0..ROUNDS_MAX {
            let now = self.moments.now(self.client, object, &asked.text()).await?;
            let is_old = |id: &String, one: &Held| now.get(id).is_none_or(|partition| partition.digest != one.digest);
            let old: Vec<String> = held.iter().filter(|(id, one)| is_old(id, one)).map(|(id, _)| id.clone()).collect();
            for id in old {
                held.remove(&id);
                self.sink.part(&folder(object, &id))?.give_up().await?;
            }
            let todo: Vec<Partition> =
                now.into_values().filter(|partition| !held.contains_key(&partition.id)).collect();
            let side_by_side = if round == 0 { 1 } else { SIDE_BY_SIDE };
            let outcomes: Vec<Outcome> = stream::iter(todo)
                .map(|partition| self.partition(object, &asked, partition))
                .buffer_unordered(side_by_side)
                .try_collect()
                .await?;
            let gone_n = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Gone)).count();
            for outcome in outcomes {
                if let Outcome::Held(partition, one) = outcome {
                    held.insert(partition.id, one);
                }
            }
            if gone_n == 0 {
                return Ok(sum(held));
            }
        }
        self.moving(object, &asked, held, verdict).await
    }

    /// Reads what is left where no moment could be had: each partition at a moment of its own.
    async fn moving(
        &self,
        object: &Object,
        asked: &Asked,
        mut held: BTreeMap<String, Held>,
        verdict: &mut Verdict,
    ) -> Result<Dumped> {
        let name = object.shown();
        if !self.allow_moving {
            return Err(Failure::Broken(format!(
                "{name} is written to faster than it can be read at one moment; try again when it is quieter, or allow its \
                 partitions to be of a moment each with --allow-moving"
            )));
        }
        for _ in 0..ROUNDS_MAX {
            let now = self.moments.now(self.client, object, &asked.text()).await?;
            let missing: Vec<Partition> =
                now.into_values().filter(|partition| !held.contains_key(&partition.id)).collect();
            if missing.is_empty() {
                verdict.suspicious.push(format!(
                    "the partitions of {name} are of a moment each, since it was written to all the time"
                ));
                return Ok(sum(held));
            }
            for partition in missing {
                if let Outcome::Held(partition, one) = self.partition(object, asked, partition).await? {
                    held.insert(partition.id, one);
                }
            }
        }
        Err(Failure::Broken(format!("{name} is merged faster than it can be read; try again when it is quieter")))
    }

    /// Takes over or reads the rows of a partition, as they are at the moment that it was looked at.
    async fn partition(&self, object: &Object, asked: &Asked, partition: Partition) -> Result<Outcome> {
        let folder = folder(object, &partition.id);
        let name = format!("{folder}/{ROWS}");
        if let Some(one) = self.reuse(&name, &partition).await? {
            return Ok(Outcome::Held(partition, one));
        }
        let query = rows::query(object, asked, Some(&partition));
        let settings = rows::settings(self.client, Some(&partition));
        // Where rows can't be compared with those of the parts, it has to be seen that all parts are there when reading has begun.
        let must_see = object.is_opaque() || partition.has_deleted;
        let mut are_there = true;
        let look = async {
            if must_see {
                are_there = self.are_there(object, &partition).await?;
            }
            Ok(())
        };
        let request = (query.as_str(), settings.as_slice(), object.is_opaque());
        let came = rows::copy(self.client, object, request, (self.sink, &name), look).await?;
        let is_whole = match came.rows {
            Some(rows) if rows > partition.rows => return Err(too_many(object, &partition, rows)),
            Some(rows) if !partition.has_deleted => rows == partition.rows,
            _ => are_there,
        };
        let (rows, bytes) = (came.rows.unwrap_or(partition.rows), came.bytes);
        self.finish(object, &partition, came, rows).await?;
        if is_whole {
            let held = Held { digest: partition.digest.clone(), rows, bytes, is_reused: false };
            return Ok(Outcome::Held(partition, held));
        }
        if self.are_there(object, &partition).await? && !must_see {
            return Err(Failure::Broken(format!(
                "{} shows {rows} of the {} rows of its partition {}; does a row policy hide the others from this user?",
                object.shown(),
                partition.rows,
                partition.id
            )));
        }
        self.sink.part(&folder)?.give_up().await?;
        Ok(Outcome::Gone)
    }

    async fn finish(&self, object: &Object, partition: &Partition, came: Came, rows: u64) -> Result<()> {
        let mut facts = facts(object, &partition.id);
        facts.insert(fact::ROWS.to_owned(), rows.to_string());
        facts.insert(fact::PARTS.to_owned(), partition.digest.clone());
        came.stream.finish(facts).await?;
        Ok(())
    }

    /// Takes the rows over from the snapshot before, if it has those of the same parts.
    async fn reuse(&self, name: &str, partition: &Partition) -> Result<Option<Held>> {
        let Some(parent) = self.sink.parent() else { return Ok(None) };
        let Some(stream) = parent.stream(name) else { return Ok(None) };
        if stream.facts.get(fact::PARTS) != Some(&partition.digest) || !self.sink.reuse(name).await? {
            return Ok(None);
        }
        let rows = stream.facts.get(fact::ROWS).and_then(|rows| rows.parse().ok()).unwrap_or(0);
        Ok(Some(Held { digest: partition.digest.clone(), rows, bytes: 0, is_reused: true }))
    }

    /// Returns whether all parts of a partition are still those of the table.
    async fn are_there(&self, object: &Object, partition: &Partition) -> Result<bool> {
        let now = self.moments.now(self.client, object, "").await?;
        let now = now.get(&partition.id).map_or(&[][..], |now| &now.parts);
        Ok(partition.parts.iter().all(|part| now.contains(part)))
    }
}

fn too_many(object: &Object, partition: &Partition, rows: u64) -> Failure {
    Failure::Broken(format!(
        "{} shows {rows} rows of its partition {}, whose parts have {}; look at the server's log",
        object.shown(),
        partition.id,
        partition.rows
    ))
}

fn sum(held: BTreeMap<String, Held>) -> Dumped {
    let mut dumped = Dumped::default();
    for one in held.into_values() {
        dumped.add(Dumped {
            read_n: u64::from(!one.is_reused),
            reused_n: u64::from(one.is_reused),
            rows: one.rows,
            bytes: one.bytes,
        });
    }
    dumped
}

/// Returns the folder of the stream with a partition's rows.
fn folder(object: &Object, partition: &str) -> String {
    let encoded = [&object.database, &object.name, partition].map(|name| short(&percent::encode(name)));
    format!("data/{}", encoded.join("/"))
}

/// Makes a name short enough for a part of a stream's name.
fn short(encoded: &str) -> String {
    const BYTES_MAX: usize = 200;
    match encoded {
        // Such are no names of files.
        "." | ".." => encoded.replace('.', "%2E"),
        encoded if encoded.len() <= BYTES_MAX => encoded.to_owned(),
        encoded => {
            let hash = blake3::hash(encoded.as_bytes()).to_hex();
            format!("{}~{}", &encoded[..BYTES_MAX - 33], &hash[..32])
        }
    }
}

fn facts(object: &Object, partition: &str) -> BTreeMap<String, String> {
    let facts = [
        ("format", "ClickHouse Native"),
        (fact::DATABASE, &object.database),
        (fact::TABLE, &object.name),
        (fact::PARTITION, partition),
    ];
    facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
