//! The engine for MariaDB and MySQL.

use super::client::{Client, ClientOptions, Flavour, Tool, parse_version};
use super::errors::explain;
use super::inventory::{self, Described, DumpedTable, Inventory, Server};
use super::privileges::Lacking;
use super::take::{Take, Taken};
use super::url::MysqlUrl;
use super::{programs, text, users};
use crate::child::{Listener, Running};
use crate::command::{OUTPUT_GRACE, judge_end};
use crate::gates::Watch;
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

/// What the tool writes of triggers, routines or events, at most: it is held in memory.
const PROGRAMS_BYTES_MAX: usize = 256 << 20;

/// How MariaDB's and MySQL's databases are dumped.
#[derive(Debug, Clone)]
pub struct MysqlOptions {
    /// How the client tools are run.
    pub client: ClientOptions,
    /// Whether users and what is granted to them are dumped, too.
    pub users: bool,
    /// Whether what the account may not see is left out; the snapshot is partial then. Otherwise it is an error.
    pub partial: bool,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        MysqlOptions { client: ClientOptions::default(), users: true, partial: false }
    }
}

/// Backs up a database of MariaDB's or MySQL's, or all databases of a server; see [the module](super).
pub struct MysqlEngine {
    url: MysqlUrl,
    options: MysqlOptions,
    listener: Option<Box<Listener>>,
}

/// A database that is being dumped.
struct Database {
    name: String,
    described: Described,
    lacking: Lacking,
}

impl MysqlEngine {
    /// Creates an engine for the database that a URL names; none, or `*`, stands for all.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL can't be.
    pub fn new(url: &str, options: MysqlOptions) -> Result<Self> {
        Ok(Self::of(MysqlUrl::parse(url)?, options))
    }

    /// Creates an engine for a database of a server that is known.
    pub(super) fn of(url: MysqlUrl, options: MysqlOptions) -> Self {
        MysqlEngine { url, options, listener: None }
    }

    /// Hands what the tools write to standard error to `listener`, piece by piece, as it comes.
    #[must_use]
    pub fn on_stderr(self, listener: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        MysqlEngine { listener: Some(Box::new(listener)), ..self }
    }

    /// Returns what a source of this URL is called if nobody says: the database's name, or the host's for all databases.
    pub fn usual_name(&self) -> String {
        text::encode(&self.url.database().map_or_else(|| self.url.host(), str::to_owned))
    }

    async fn dump_all(&self, sink: &Sink, verdict: &mut Verdict) -> Result<()> {
        let mut client = Client::find(self.url.clone(), self.options.client.clone()).await?;
        let server = inventory::server(&client).await?;
        client.choose(server.flavour).await?;
        let names = inventory::databases(&client, self.url.database()).await?;
        if self.url.database().is_none() && !server.grants.sees_all_databases() {
            let why = format!(
                "the user {0} may not see which databases there are; GRANT SHOW DATABASES ON *.* TO {0}",
                server.user
            );
            if !self.options.partial {
                return Err(Error::DumpFailed(format!("{why}; or have those it does not see left out with --partial")));
            }
            verdict.missing.push(why);
        }
        let databases = self.look(&client, &server, &names, verdict).await?;
        let started = inventory::time(&client).await?;
        let (taken, told) = Box::pin(self.dump_rows(&client, &server, sink, &databases, verdict)).await?;
        let ended = inventory::time(&client).await?;
        if self.options.users {
            dump_users(&client, &server, sink, verdict).await?;
        }
        let facts = [
            ("server_version", server.version.clone()),
            ("client_version", client.version.clone()),
            ("flavour", server.flavour.name().to_owned()),
            ("host", client.url.host()),
            ("time", started),
            ("ended", ended),
        ];
        let told = told.into_iter().map(|(key, value)| (key.to_owned(), value));
        verdict.facts.extend(facts.map(|(key, value)| (key.to_owned(), value)).into_iter().chain(told));
        let mut taken = taken;
        for database in &databases {
            let failed = |error| match error {
                Error::DumpFailed(why) => Error::DumpFailed(format!("database {}: {why}", database.name)),
                error => error,
            };
            let taken = taken.remove(&database.name).unwrap_or_default();
            Box::pin(self.finish(&client, &server, sink, (database, taken), verdict)).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Looks at what there is, and refuses what the account may not see all of.
    async fn look(
        &self,
        client: &Client,
        server: &Server,
        names: &[String],
        verdict: &mut Verdict,
    ) -> Result<Vec<Database>> {
        let mut described = inventory::describe(client, names).await?;
        let mut databases = Vec::new();
        for name in names {
            let described = described.remove(name).unwrap_or_default();
            let mut lacking =
                server.grants.lacking(name, server.flavour, parse_version(&server.version).unwrap_or_default());
            // Views are seen by whoever may select from them.
            lacking.views &= lacking.select || !described.views.is_empty();
            if !lacking.is_nothing() {
                let statements = lacking.statements(name, &server.user, server.flavour);
                let why = format!("the user {} may not see all of database {name}", server.user);
                if !self.options.partial {
                    return Err(Error::DumpFailed(format!(
                        "{why}, so nothing was stored; {statements}; or have what it does not see left out with --partial"
                    )));
                }
                verdict.missing.push(format!("{why}, and what it does not see is not in the dump; {statements}"));
            }
            warn(name, &described, verdict);
            databases.push(Database { name: name.clone(), described, lacking });
        }
        Ok(databases)
    }

    /// Dumps tables, views and sequences of all databases in one moment.
    async fn dump_rows(
        &self,
        client: &Client,
        server: &Server,
        sink: &Sink,
        databases: &[Database],
        verdict: &mut Verdict,
    ) -> Result<(BTreeMap<String, Taken>, BTreeMap<&'static str, String>)> {
        let mut arguments = usual_arguments(client);
        arguments.extend(["--single-transaction", "--skip-triggers"].map(OsString::from));
        arguments.extend(position_arguments(client, server, verdict));
        if databases.iter().flat_map(|database| database.described.tables.values()).any(|table| table.is_versioned) {
            match client.knows(Tool::Dump, "--dump-history") {
                true => arguments.push("--dump-history".into()),
                false => verdict.warnings.push(
                    "the rows that versioned tables had before are not in the dump, since the tool can't dump them; use one of MariaDB 10.11 or later"
                        .to_owned(),
                ),
            }
        }
        for database in databases.iter().filter(|database| database.lacking.views) {
            let views = database.described.views.iter();
            arguments.extend(views.map(|view| format!("--ignore-table={}.{view}", database.name).into()));
        }
        arguments.extend(["--databases", "--"].map(OsString::from));
        arguments.extend(databases.iter().map(|database| OsString::from(&database.name)));
        let invocation = client.invocation(Tool::Dump, &arguments);
        let mut take = Take::new(sink, self.url.database().is_none());
        let running = Running::start(&invocation)?;
        let mut watch = Watch::default();
        let ended = running.read_to_end(&mut take, &mut watch, self.listener.as_deref(), OUTPUT_GRACE).await?;
        judge_end(client.tool_name(Tool::Dump), &ended).map_err(explain)?;
        take.finish().await
    }

    /// Dumps what is run in a database, and what is known of it.
    async fn finish(
        &self,
        client: &Client,
        server: &Server,
        sink: &Sink,
        (database, taken): (&Database, Taken),
        verdict: &mut Verdict,
    ) -> Result<()> {
        let Database { name, described, lacking } = database;
        let mut described_views = described.views.clone();
        if lacking.views {
            described_views.clear();
        }
        if let Some(missing) = taken.missing(described, &described_views) {
            return Err(Error::DumpFailed(format!(
                "{missing} is not in the dump; either it was dropped meanwhile, or an option file of the tool's leaves it out; nothing was stored"
            )));
        }
        let is_alone = self.url.database().is_some();
        let part = if is_alone { None } else { Some(sink.part(&format!("databases/{}", text::encode(name)))?) };
        let sink = part.as_ref().unwrap_or(sink);
        let mut definers = programs::definers(&taken.view_text);
        put(sink, "sequences.sql", &taken.sequence_text).await?;
        put(sink, "views.sql", &taken.view_text).await?;
        let mut run = async |stream: String, flags: &[&str], table: Option<&String>, expected_n: u64| {
            let text = dump_programs(client, name, flags, table).await?;
            if programs::created_n(&text) < expected_n {
                return Err(Error::DumpFailed(format!("{stream} has fewer than the {expected_n} that there are")));
            }
            definers.extend(programs::definers(&text));
            put(sink, &stream, &text).await
        };
        for (table, triggers_n) in described.triggers.iter().filter(|_| !lacking.triggers) {
            let stream = format!("triggers/{}.sql", text::encode(table));
            run(stream, &["--no-create-info", "--triggers"], Some(table), *triggers_n).await?;
        }
        if described.routines_n > 0 && !lacking.routines {
            run(
                "routines.sql".to_owned(),
                &["--no-create-info", "--skip-triggers", "--routines"],
                None,
                described.routines_n,
            )
            .await?;
        }
        if described.events_n > 0 && !lacking.events {
            run(
                "events.sql".to_owned(),
                &["--no-create-info", "--skip-triggers", "--events"],
                None,
                described.events_n,
            )
            .await?;
        }
        let inventory = inventory_of(server, database, taken, definers);
        let prefix = if is_alone { String::new() } else { format!("{}.", text::encode(name)) };
        let rows_n: u64 = inventory.tables.iter().filter_map(|table| table.rows).sum();
        let facts =
            [("database", name.clone()), ("tables", inventory.tables.len().to_string()), ("rows", rows_n.to_string())];
        verdict.facts.extend(facts.map(|(key, value)| (format!("{prefix}{key}"), value)));
        put(sink, "database.json", &as_lines(&inventory)).await
    }
}

#[async_trait]
impl Engine for MysqlEngine {
    fn kind(&self) -> &str {
        "mysql"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        self.dump_all(sink, &mut verdict).await?;
        Ok(verdict)
    }
}

/// Returns what every run of the tool is told, whatever option files say.
fn usual_arguments(client: &Client) -> Vec<OsString> {
    const USUAL: [&str; 16] = [
        "--quick",
        "--skip-lock-tables",
        "--comments",
        "--skip-dump-date",
        "--order-by-primary",
        "--hex-blob",
        "--skip-extended-insert",
        "--skip-complete-insert",
        "--skip-add-drop-table",
        "--skip-add-locks",
        "--create-options",
        "--quote-names",
        "--set-charset",
        "--tz-utc",
        "--skip-routines",
        "--skip-events",
    ];
    let mut arguments: Vec<OsString> = USUAL.map(OsString::from).to_vec();
    // Of newer tools, or of MySQL's: not to ask for a privilege that a dump does not need, or for what no other server has.
    let where_known = [
        ("--no-tablespaces", "--no-tablespaces"),
        ("--column-statistics", "--column-statistics=0"),
        ("--set-gtid-purged", "--set-gtid-purged=OFF"),
        ("--max-statement-time", "--max-statement-time=0"),
    ];
    let known = where_known.iter().filter(|(option, _)| client.knows(Tool::Dump, option));
    arguments.extend(known.map(|(_, argument)| OsString::from(argument)));
    arguments
}

/// Returns what has the tool tell the position in the binary log, if there is one that the account may see.
fn position_arguments(client: &Client, server: &Server, verdict: &mut Verdict) -> Option<OsString> {
    if !server.has_binlog {
        return None;
    }
    let grants = &server.grants;
    // MariaDB's transaction knows its own position. MySQL's tool stops all writers for a moment to learn it.
    let may_see = server.flavour == Flavour::MariaDb
        || grants.has_everywhere(&["RELOAD"]) && grants.has_everywhere(&["REPLICATION CLIENT", "SUPER"]);
    if !may_see {
        verdict.warnings.push(format!(
            "the position in the binary log is not recorded; GRANT RELOAD, REPLICATION CLIENT ON *.* TO {} for that",
            server.user
        ));
        return None;
    }
    Some(if client.knows(Tool::Dump, "--source-data") { "--source-data=2".into() } else { "--master-data=2".into() })
}

/// Says what is no error and yet worth to be known.
fn warn(name: &str, described: &Described, verdict: &mut Verdict) {
    let named = |tables: Vec<String>| {
        let more = if tables.len() > 5 { format!(" and {} more", tables.len() - 5) } else { String::new() };
        format!("{}{more}", tables.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", "))
    };
    let others = described.tables.iter().filter(|(_, table)| table.has_rows && !is_of_one_moment(&table.engine));
    let others: Vec<String> = others.map(|(table, about)| format!("{name}.{table} ({})", about.engine)).collect();
    if !others.is_empty() {
        verdict.warnings.push(format!(
            "these tables are not InnoDB's, so writers may have changed them while they were dumped: {}",
            named(others)
        ));
    }
    let floats =
        described.tables.iter().flat_map(|(table, about)| about.floats.iter().map(move |column| (table, column)));
    let floats: Vec<String> = floats.map(|(table, column)| format!("{name}.{table}.{column}")).collect();
    if !floats.is_empty() {
        verdict.warnings.push(format!(
            "of FLOAT columns the server gives six digits only, so these may lose their last ones: {}; make them DOUBLE",
            named(floats)
        ));
    }
}

/// Returns whether an engine's tables are what they were when the transaction began.
fn is_of_one_moment(engine: &str) -> bool {
    ["InnoDB", "ROCKSDB", "TokuDB"].iter().any(|known| engine.eq_ignore_ascii_case(known))
}

async fn dump_users(client: &Client, server: &Server, sink: &Sink, verdict: &mut Verdict) -> Result<()> {
    match users::dump(client, server).await {
        Ok((statements, left_out)) => {
            if !left_out.is_empty() {
                verdict.warnings.push(format!("these users are not in the dump: {}", left_out.join(", ")));
            }
            put(sink, "users.sql", statements.as_bytes()).await
        }
        Err(Error::DumpFailed(why)) => {
            verdict.warnings.push(format!(
                "users and what is granted to them are not in the dump ({why}); GRANT SELECT ON mysql.* TO {} for that, or leave them out with --no-globals",
                server.user
            ));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Returns what the tool writes of the triggers of tables, of views, or of a database's routines or events.
///
/// # Errors
/// [`Error::DumpFailed`]: the tool fails, or what it writes is not whole.
pub(super) async fn dump_programs(
    client: &Client,
    database: &str,
    flags: &[&str],
    tables: impl IntoIterator<Item = &String>,
) -> Result<Vec<u8>> {
    let mut arguments = usual_arguments(client);
    arguments.extend(["--no-data", "--no-create-db"].map(OsString::from));
    arguments.extend(flags.iter().map(OsString::from));
    arguments.extend(["--".into(), database.into()]);
    arguments.extend(tables.into_iter().map(OsString::from));
    let output = client.invocation(Tool::Dump, &arguments).capture(PROGRAMS_BYTES_MAX).await.map_err(explain)?;
    programs::without_head(&output).map_err(Error::DumpFailed)
}

fn inventory_of(server: &Server, database: &Database, taken: Taken, definers: BTreeSet<String>) -> Inventory {
    let Database { name, described, lacking } = database;
    let tables = taken.tables.iter().map(|(name, rows)| DumpedTable {
        name: name.clone(),
        rows: rows.map(|rows| rows.rows_n),
        row_bytes_max: rows.map_or(0, |rows| rows.bytes_max),
    });
    let triggers: Vec<String> = described.triggers.keys().filter(|_| !lacking.triggers).cloned().collect();
    let objects = [
        ("tables", taken.tables.len() as u64),
        ("views", taken.views.len() as u64),
        ("sequences", taken.sequences.len() as u64),
        ("triggers", if lacking.triggers { 0 } else { described.triggers.values().sum() }),
        ("routines", if lacking.routines { 0 } else { described.routines_n }),
        ("events", if lacking.events { 0 } else { described.events_n }),
    ];
    Inventory {
        database: name.clone(),
        create: taken.create.clone(),
        flavour: server.flavour.name().to_owned(),
        objects: objects.map(|(kind, objects_n)| (kind.to_owned(), objects_n)).into(),
        tables: tables.collect(),
        views: taken.views.into_iter().collect(),
        sequences: taken.sequences.into_iter().collect(),
        triggers,
        definers: definers.into_iter().collect(),
    }
}

/// Writes it with a line a table, so that little changes when little has changed.
fn as_lines(inventory: &Inventory) -> Vec<u8> {
    let text = serde_json::to_string(inventory).expect("strings and numbers become JSON");
    text.replace("},{\"name\":", "},\n{\"name\":").into_bytes()
}

/// Writes a stream, unless there is nothing to write.
async fn put(sink: &Sink, name: &str, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut stream = sink.stream(name).await?;
    stream.write(bytes).await?;
    stream.finish(BTreeMap::new()).await
}
