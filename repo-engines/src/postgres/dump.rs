//! The engine for PostgreSQL: `pg_dump` in one exported snapshot, with all that stands beside a database.

use super::client::{Client, ClientOptions, parse_version};
use super::inventory::{self, Table};
use super::session::{Session, explain};
use super::streams::Dumped;
use super::token;
use super::url::{PostgresUrl, encode};
use crate::child::{Invocation, Listener};
use crate::gates::{Expected, Watch};
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The name of a database that stands for all databases of a server.
pub const ALL_DATABASES: &str = "*";
/// Streams that are dumped side by side, at most.
pub const JOBS_MAX: usize = 12;
/// With several jobs, a table of so many bytes is a stream of its own.
pub const LARGE_TABLE_BYTES: u64 = 8 << 20;
/// With rows in the order of the key, one of so many.
pub const ORDERED_TABLE_BYTES: u64 = 1 << 20;
/// The output of `pg_dumpall --globals-only`, at most: it is held in memory.
const GLOBALS_BYTES_MAX: usize = 256 << 20;

/// Which part of a database is dumped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DumpPart {
    /// Everything.
    #[default]
    All,
    /// What there is, without rows.
    Schema,
    /// Rows, sequences' values and large objects alone.
    Data,
}

/// How a PostgreSQL database is dumped.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// How the client tools are run.
    pub client: ClientOptions,
    /// Which part is dumped.
    pub part: DumpPart,
    /// Streams that are dumped side by side; more than one gives every large table a stream of its own.
    pub jobs: usize,
    /// Whether the rows of all but the smallest tables, each a stream of its own then, are in the order of the primary key instead
    /// of the one that they happen to lie in.
    pub order_by_key: bool,
    /// Only these tables, as `pg_dump --table` takes them; empty stands for all.
    pub tables: Vec<String>,
    /// Tables whose rows are left out, as `pg_dump --exclude-table-data` takes them.
    pub exclude_table_data: Vec<String>,
    /// Whether roles and tablespaces are dumped, too.
    pub globals: bool,
    /// Whether the rows of each table are counted, in the same moment that the dump shows.
    pub count_rows: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        PostgresOptions {
            client: ClientOptions::default(),
            part: DumpPart::All,
            jobs: 1,
            order_by_key: false,
            tables: Vec::new(),
            exclude_table_data: Vec::new(),
            globals: true,
            count_rows: true,
        }
    }
}

/// Backs up a PostgreSQL database, or all databases of a server.
///
/// Everything of one database is of one moment: a session exports its snapshot, in which every `pg_dump` runs and rows are
/// counted. The streams are
///
/// | stream | what it is |
/// |---|---|
/// | `globals.sql` | roles, their memberships and settings, tablespaces: `pg_dumpall --globals-only` |
/// | `database.dump` | the database: `pg_dump -Fc -Z0` |
/// | `tables/SCHEMA.TABLE.copy` | with several jobs, the rows of a large table, as `COPY` writes them; `database.dump` then has all but these |
/// | `inventory.json` | the database's own properties, how many objects of each kind, rows and bytes of each table, columns of those that are streams |
///
/// below `databases/NAME/` each where all databases are dumped. What differs between two dumps of one database is taken out
/// of what is stored, and put back by a restore: the moment in an archive's header, the token of `\restrict`.
pub struct PostgresEngine {
    url: PostgresUrl,
    pub(super) options: PostgresOptions,
    pub(super) listener: Option<Box<Listener>>,
}

impl PostgresEngine {
    /// Creates an engine for the database that a URL names; [`ALL_DATABASES`] stands for all.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: PostgresOptions) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Invalid(why.to_owned()));
        if !(1..=JOBS_MAX).contains(&options.jobs) {
            return Err(Error::Invalid(format!("{} jobs can't be: from 1 to {JOBS_MAX}", options.jobs)));
        }
        let has_streams_of_tables = options.jobs > 1 || options.order_by_key;
        if has_streams_of_tables && !options.tables.is_empty() {
            return refuse(
                "several jobs and sorted rows are for whole databases; leave --jobs and --order-by-key out where tables are chosen",
            );
        }
        if has_streams_of_tables && !options.exclude_table_data.is_empty() {
            return refuse(
                "which rows are left out only pg_dump can tell; leave --jobs and --order-by-key out where it is told so",
            );
        }
        if has_streams_of_tables && options.part == DumpPart::Schema {
            return refuse("a schema has no rows to dump side by side or to sort; leave --jobs and --order-by-key out");
        }
        let url = PostgresUrl::parse(url)?;
        if url.database() == Some(ALL_DATABASES) && !options.tables.is_empty() {
            return refuse("tables are chosen in one database; name it in the URL");
        }
        Ok(PostgresEngine { url, options, listener: None })
    }

    /// Creates an engine for a database of a server that is known; the options are right.
    pub(super) fn of(url: PostgresUrl, options: PostgresOptions) -> Self {
        PostgresEngine { url, options, listener: None }
    }

    /// Hands what the tools write to standard error to `listener`, piece by piece, as it comes.
    #[must_use]
    pub fn on_stderr(self, listener: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        PostgresEngine { listener: Some(Box::new(listener)), ..self }
    }

    /// Returns what a source of this URL is called if nobody says: the database's name, or the host's for all databases.
    pub fn usual_name(&self) -> String {
        let name = match self.url.database() {
            Some(ALL_DATABASES) | None => self.url.host(),
            Some(name) => name.to_owned(),
        };
        encode(&name)
    }

    async fn dump_all(&self, sink: &Sink, verdict: &mut Verdict) -> Result<()> {
        let is_all = self.url.database() == Some(ALL_DATABASES);
        let first = if is_all { self.url.with_database("postgres") } else { self.url.clone() };
        let mut client = Client::new(first, self.options.client.clone());
        let mut session = Session::open(&client).await?;
        let server = inventory::moment(&mut session).await?;
        let server_num: Option<u32> = server["server_version_num"].as_u64().and_then(|num| num.try_into().ok());
        let unknown = || Error::DumpFailed(format!("the server does not say its version: {server}"));
        client.choose(server_num.ok_or_else(unknown)? / 10_000).await?;
        let client_version = client.version_text("pg_dump").await?;
        warn_of_old_client(&client_version, verdict);
        if self.options.globals && self.options.part != DumpPart::Data {
            self.dump_globals(&client, &mut session, sink, verdict).await?;
        }
        let facts = [("client_version", client_version), ("server_version", text(&server["server_version"]))];
        verdict.facts.extend(facts.map(|(key, value)| (key.to_owned(), value)));
        if !is_all {
            return self.dump_database(&client, session, sink, "", verdict).await;
        }
        let query =
            "SELECT to_json(datname) FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname";
        let lines = session.ask(query).await?;
        session.close().await?;
        for line in lines {
            let name: String = inventory::parse(&line)?;
            let client = client.of_database(&name);
            let session = Session::open(&client).await?;
            let folder = encode(&name);
            let part = sink.part(&format!("databases/{folder}"))?;
            let failed = |error| match error {
                Error::DumpFailed(why) => Error::DumpFailed(format!("database {name}: {why}")),
                error => error,
            };
            self.dump_database(&client, session, &part, &format!("{folder}."), verdict).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Dumps one database in one moment. Its facts begin with `prefix`.
    async fn dump_database(
        &self,
        client: &Client,
        mut session: Session,
        sink: &Sink,
        prefix: &str,
        verdict: &mut Verdict,
    ) -> Result<()> {
        session.ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        // Rows that a policy hides are an error then, as pg_dump has it.
        session.ask("SET row_security = off").await?;
        let snapshot = session.ask_one("SELECT pg_export_snapshot()").await?;
        let moment = inventory::moment(&mut session).await?;
        let properties = inventory::properties(&mut session).await?;
        let tables = inventory::tables(&mut session).await?;
        let kinds = inventory::kinds(&mut session).await?;
        self.warn_of_what_is_left_out(&kinds, verdict);

        let large: Vec<&Table> = tables.iter().filter(|table| self.is_large(table)).collect();
        if !large.is_empty() {
            // Or one could be emptied or rewritten before it is its turn, which no snapshot is safe from. pg_dump locks as well.
            let names: Vec<&str> = large.iter().map(|table| table.name.as_str()).collect();
            session.ask(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "))).await?;
        }
        let units = self.units(&snapshot, &large);
        let streams_n = units.len();
        let dump = |unit| self.dump_unit(client, sink, &snapshot, unit);
        let dumps = stream::iter(units).map(dump).buffer_unordered(self.options.jobs);
        let options = &self.options;
        // Which tables are in the dump is known where it is all of them.
        let has_all_rows = options.tables.is_empty() && options.exclude_table_data.is_empty();
        // Those of the large are counted as they pass.
        let others = tables.iter().filter(|table| !self.is_large(table));
        let count = async {
            match options.count_rows && has_all_rows && options.part != DumpPart::Schema {
                true => inventory::rows(&mut session, others).await,
                false => Ok(BTreeMap::new()),
            }
        };
        let (dumped, mut rows) = futures::future::try_join(dumps.try_collect::<Vec<Dumped>>(), count).await?;
        for dumped in dumped {
            verdict.warnings.extend(dumped.warnings);
            rows.extend(dumped.rows);
        }
        session.ask("COMMIT").await?;
        session.close().await?;

        let facts = [
            ("database", text(&properties["name"])),
            ("host", client.url.host()),
            ("time", text(&moment["time"])),
            ("lsn", text(&moment["lsn"])),
            ("database_bytes", moment["database_bytes"].to_string()),
            ("tables", tables.len().to_string()),
            ("streams", streams_n.to_string()),
            ("part", format!("{:?}", self.options.part).to_lowercase()),
        ];
        // Of some tables alone it would be no answer.
        let rows_n = (rows.len() == tables.len()).then(|| ("rows", rows.values().sum::<u64>().to_string()));
        verdict.facts.extend(facts.into_iter().chain(rows_n).map(|(key, value)| (format!("{prefix}{key}"), value)));
        let is_large = |table: &Table| self.is_large(table);
        let inventory = inventory_text(&properties, &kinds, &tables, &rows, &is_large);
        put(sink, "inventory.json", &inventory, BTreeMap::new()).await
    }

    fn warn_of_what_is_left_out(&self, kinds: &BTreeMap<String, u64>, verdict: &mut Verdict) {
        let large_objects_n = kinds.get("large_objects").copied().unwrap_or_default();
        if !self.options.tables.is_empty() && large_objects_n > 0 {
            verdict.warnings.push(format!(
                "{large_objects_n} large objects are not in the dump, since tables were chosen; dump the whole database for them"
            ));
        }
    }

    async fn dump_globals(
        &self,
        client: &Client,
        session: &mut Session,
        sink: &Sink,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let mut arguments: Vec<OsString> = ["--globals-only", "--no-password"].map(OsString::from).to_vec();
        if session.ask_one("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')").await? != "t" {
            arguments.push("--no-role-passwords".into());
            let why = "the passwords of roles are not in the dump, since this user may not read them; restored roles have none";
            verdict.warnings.push(why.to_owned());
        }
        let invocation: Invocation = client.invocation("pg_dumpall", "-d", &arguments)?;
        let bytes = invocation.capture(GLOBALS_BYTES_MAX).await.map_err(explain)?;
        let mut watch = Watch::default();
        watch.feed(&bytes);
        watch.judge(Expected::PgDumpAll).map_err(|why| Error::DumpFailed(format!("globals.sql: {why}")))?;
        let dump = String::from_utf8(bytes).map_err(|_| {
            Error::DumpFailed("pg_dumpall prints what is no UTF-8, in spite of PGCLIENTENCODING".to_owned())
        })?;
        let facts = [("format", "pg_dumpall text"), (token::FACT, "taken out")];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        put(sink, "globals.sql", token::exchange(&dump, token::PLACEHOLDER).as_bytes(), facts).await
    }
}

#[async_trait]
impl Engine for PostgresEngine {
    fn kind(&self) -> &str {
        "postgres"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        self.dump_all(sink, &mut verdict).await?;
        Ok(verdict)
    }
}

async fn put(sink: &Sink, name: &str, bytes: &[u8], facts: BTreeMap<String, String>) -> Result<()> {
    let mut stream = sink.stream(name).await?;
    stream.write(bytes).await?;
    stream.finish(facts).await
}

/// Without the moment, so that it stays as it is while the database does; a line for each table.
fn inventory_text(
    properties: &Value,
    kinds: &BTreeMap<String, u64>,
    tables: &[Table],
    rows: &BTreeMap<String, u64>,
    is_stream: &dyn Fn(&Table) -> bool,
) -> Vec<u8> {
    let mut sorted: Vec<&Table> = tables.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let line = |table: &&Table| {
        let mut line = json!({ "name": table.name, "rows": rows.get(&table.name), "bytes": table.bytes });
        if is_stream(table) {
            line["columns"] = json!(table.columns);
        }
        line.to_string()
    };
    let tables = sorted.iter().map(line).collect::<Vec<_>>().join(",\n");
    format!("{{\"database\":{properties},\n\"objects\":{},\n\"tables\":[\n{tables}\n]}}\n", json!(kinds)).into_bytes()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The first minor versions of each major one whose pg_dump and psql are not open to a hostile server or dump (CVE-2026-6477,
/// CVE-2026-18408).
pub(super) const MINORS_SAFE: &[(u32, u32)] = &[(14, 24), (15, 19), (16, 15), (17, 11), (18, 6)];

fn warn_of_old_client(version: &str, verdict: &mut Verdict) {
    let Some((major, minor)) = parse_version(version) else { return };
    let safe = MINORS_SAFE.iter().find(|(of, _)| *of == major).map(|(_, minor)| *minor);
    if safe.is_some_and(|safe| minor < safe) {
        verdict.warnings.push(format!(
            "the client tools are {major}.{minor}, which a hostile server can misuse (CVE-2026-6477); bring them up to {major}.{}",
            safe.unwrap_or_default()
        ));
    }
}
