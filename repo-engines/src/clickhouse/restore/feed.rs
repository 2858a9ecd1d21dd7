//! From the repository to the server: streams of rows, cut into blocks, as inserts.

use crate::clickhouse::client::Client;
use crate::clickhouse::explain::Failure;
use crate::clickhouse::native::Walk;
use crate::clickhouse::schema::Object;
use crate::clickhouse::sql;
use crate::clickhouse::url::ClickHouseUrl;
use dedump_core::{Bytes, Error, Result, StreamRecord, Target, async_trait};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes of an insert, about: whole blocks.
const INSERT_BYTES: usize = 32 << 20;
/// Pieces that wait for the connection where a stream can't be cut.
const PIECES_QUEUED_MAX: usize = 8;

/// Where a stream goes.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The `INSERT`.
    pub query: String,
    /// Whether only the server can tell where a block ends.
    pub is_opaque: bool,
}

impl Route {
    pub fn new(object: &Object, (database, table): (&str, &str)) -> Self {
        let columns: Vec<String> = object.columns.iter().map(|column| sql::name(&column.name)).collect();
        let query = format!("INSERT INTO {} ({}) FORMAT Native", sql::table(database, table), columns.join(", "));
        Route { query, is_opaque: object.is_opaque() }
    }
}

/// Inserts streams, each by its route.
pub(super) struct Feeder<'a> {
    pub client: &'a Client,
    pub url: &'a ClickHouseUrl,
    pub routes: BTreeMap<String, Route>,
    /// What is the same for this snapshot alone.
    pub token: String,
    /// Bytes that were sent.
    pub bytes: u64,
    open: Option<Open>,
}

/// The stream that is under way.
struct Open {
    name: String,
    route: Route,
    way: Way,
}

enum Way {
    /// Cut into blocks.
    Blocks { walk: Walk, batch: Vec<u8>, inserts_n: u64 },
    /// As it comes, in one insert.
    Through { sender: mpsc::Sender<Bytes>, insert: JoinHandle<std::result::Result<(), Failure>> },
}

impl<'a> Feeder<'a> {
    pub fn new(client: &'a Client, url: &'a ClickHouseUrl, routes: BTreeMap<String, Route>, token: String) -> Self {
        Feeder { client, url, routes, token, bytes: 0, open: None }
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Ours(error) => error,
            failure => Error::Target(failure.explain(self.url)),
        }
    }

    /// Sends what has gathered.
    async fn send(&mut self, at_least: usize) -> Result<()> {
        let Some(Open { name, route, way: Way::Blocks { batch, inserts_n, .. } }) = &mut self.open else {
            return Ok(());
        };
        if batch.is_empty() || batch.len() < at_least {
            return Ok(());
        }
        let rows = Bytes::from(std::mem::take(batch));
        *inserts_n += 1;
        let settings = settings(self.client, &token(&self.token, name, *inserts_n));
        self.bytes += rows.len() as u64;
        let inserted = self.client.insert(&route.query, &settings, rows).await;
        inserted.map_err(|failure| self.failed(failure))
    }
}

#[async_trait]
impl Target for Feeder<'_> {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        let route = self.routes.get(&stream.name).cloned().expect("only streams with a route are asked for");
        let way = match route.is_opaque {
            false => Way::Blocks { walk: Walk::new(false), batch: Vec::new(), inserts_n: 0 },
            true => {
                let (sender, receiver) = mpsc::channel(PIECES_QUEUED_MAX);
                let (client, query) = (self.client.clone(), route.query.clone());
                let settings = settings(self.client, &token(&self.token, &stream.name, 0));
                let insert = tokio::spawn(async move { client.insert_stream(&query, &settings, receiver).await });
                Way::Through { sender, insert }
            }
        };
        self.open = Some(Open { name: stream.name.clone(), route, way });
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let open = self.open.as_mut().expect("a stream has begun");
        match &mut open.way {
            Way::Blocks { walk, batch, .. } => {
                for piece in walk.feed(&bytes).map_err(|why| damaged(&open.name, &why))? {
                    batch.extend_from_slice(&piece.bytes);
                }
                self.send(INSERT_BYTES).await
            }
            Way::Through { sender, .. } => {
                self.bytes += bytes.len() as u64;
                match sender.send(bytes).await {
                    Ok(()) => Ok(()),
                    // It has ended: why, it says itself.
                    Err(_) => self.end().await.and(Err(Error::Target("the server ended an insert early".to_owned()))),
                }
            }
        }
    }

    async fn end(&mut self) -> Result<()> {
        let open = self.open.as_mut().expect("a stream has begun");
        if let Way::Blocks { walk, batch, .. } = &mut open.way {
            let (pieces, _) = std::mem::take(walk).finish().map_err(|why| damaged(&open.name, &why))?;
            for piece in pieces {
                batch.extend_from_slice(&piece.bytes);
            }
            self.send(0).await?;
        }
        match self.open.take().map(|open| open.way) {
            Some(Way::Through { sender, insert }) => {
                drop(sender);
                let ended = insert.await.map_err(|error| Error::System(format!("an insert died: {error}")))?;
                ended.map_err(|failure| self.failed(failure))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Feeder<'_> {
    fn drop(&mut self) {
        // An insert that is under way must not end as if its rows were all.
        if let Some(Open { way: Way::Through { insert, .. }, .. }) = &self.open {
            insert.abort();
        }
    }
}

fn damaged(stream: &str, why: &str) -> Error {
    Error::Damaged { object: format!("stream {stream:?}"), why: why.to_owned() }
}

fn token(of: &str, stream: &str, number: u64) -> String {
    blake3::hash(format!("{of} {stream} {number}").as_bytes()).to_hex()[..32].to_owned()
}

/// Returns what an insert is told: rows stay as they are, even those that are alike.
fn settings(client: &Client, token: &str) -> Vec<(&'static str, String)> {
    let mut settings = vec![("max_execution_time", "0".to_owned())];
    let mut since = |year, month, name, value: &str| {
        if client.is_from(year, month) {
            settings.push((name, value.to_owned()));
        }
    };
    since(18, 16, "insert_deduplicate", if client.is_from(22, 2) { "1" } else { "0" });
    since(22, 2, "insert_deduplication_token", token);
    since(20, 12, "optimize_on_insert", "0");
    since(19, 5, "max_partitions_per_insert_block", "0");
    since(22, 1, "async_insert", "0");
    since(23, 4, "insert_allow_materialized_columns", "1");
    settings
}
