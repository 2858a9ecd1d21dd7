//! The engine: definitions first, then table after table, then definitions once more to see that nobody has changed them.

use super::access::{self, Access};
use super::client::{Client, ClientOptions};
use super::explain::Failure;
use super::schema::{self, HIDDEN, Kind, Object, Rows};
use super::tables::{Dumped, Tables};
use super::url::ClickHouseUrl;
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Serialize;
use std::collections::BTreeMap;

/// The stream with all definitions, one a line.
pub(super) const SCHEMA: &str = "schema.jsonl";
/// The oldest version whose answers are understood.
const OLDEST: (u32, u32) = (18, 14);

/// Backs up a ClickHouse server, or one database of it; see the [module](super).
#[derive(Debug, Clone)]
pub struct ClickHouseEngine {
    url: ClickHouseUrl,
    options: ClickHouseOptions,
}

/// Options of a [`ClickHouseEngine`].
#[derive(Debug, Clone)]
pub struct ClickHouseOptions {
    /// How the server is reached.
    pub client: ClientOptions,
    /// Only these tables, as `DATABASE.TABLE` with `*` for anything; empty stands for all.
    pub tables: Vec<String>,
    /// Tables whose rows are left out, likewise.
    pub exclude_table_data: Vec<String>,
    /// Stores users, roles, quotas, profiles, row policies and grants, if a whole server is backed up.
    pub access: bool,
    /// Goes on where a table is written to in so many partitions at once that they can't be read at one moment: each partition is
    /// then of a moment of its own, and the snapshot is suspicious.
    pub allow_moving: bool,
}

impl Default for ClickHouseOptions {
    fn default() -> Self {
        ClickHouseOptions {
            client: ClientOptions::default(),
            tables: Vec::new(),
            exclude_table_data: Vec::new(),
            access: true,
            allow_moving: false,
        }
    }
}

impl ClickHouseEngine {
    /// Creates an engine for the server of a URL; with a database in it, for that one alone.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: ClickHouseOptions) -> Result<Self> {
        Self::of(ClickHouseUrl::parse(url)?, options)
    }

    pub(super) fn of(url: ClickHouseUrl, options: ClickHouseOptions) -> Result<Self> {
        patterns(&options.tables)?;
        patterns(&options.exclude_table_data)?;
        Ok(ClickHouseEngine { url, options })
    }

    /// Returns what a source of this URL is called if nobody says: the database's name, or the host's.
    pub fn usual_name(&self) -> String {
        crate::percent::encode(self.url.database().unwrap_or(&self.url.host()))
    }

    async fn dump_all(&self, sink: &Sink) -> std::result::Result<Verdict, Failure> {
        let client = Client::open(&self.url, &self.options.client).await?;
        check_version(&client)?;
        let mut verdict = Verdict::default();
        self.check_grants(&client).await?;
        let objects = self.selected(schema::read(&client, self.url.database()).await?)?;
        note_what_is_left_out(&objects, &mut verdict);
        put(sink, SCHEMA, &objects).await?;
        self.access(&client, sink, &mut verdict).await?;
        let started: String = now(&client).await?;
        let without_rows = patterns(&self.options.exclude_table_data)?;
        let tables = Tables::new(&client, sink, self.options.allow_moving).await?;
        let mut all = Dumped::default();
        for object in objects.iter().filter(|object| object.kind == Kind::Table) {
            if self.options.exclude_table_data.is_empty() || !without_rows.is_match(object.shown()) {
                all.add(tables.dump(object, &mut verdict).await?);
            }
        }
        let again = self.selected(schema::read(&client, self.url.database()).await?)?;
        check_unchanged(&objects, &again)?;
        self.facts(&client, &objects, &all, &mut verdict);
        let ended = now(&client).await?;
        verdict.facts.extend([("server.started".to_owned(), started), ("server.ended".to_owned(), ended)]);
        Ok(verdict)
    }

    fn facts(&self, client: &Client, objects: &[Object], all: &Dumped, verdict: &mut Verdict) {
        let count = |kind| objects.iter().filter(|object| object.kind == kind).count().to_string();
        let facts = [
            ("server.version", client.version_text.clone()),
            ("server.user", client.user().to_owned()),
            ("host", self.url.host()),
            ("databases", count(Kind::Database)),
            ("tables", count(Kind::Table)),
            ("functions", count(Kind::Function)),
            ("streams.read", all.read_n.to_string()),
            ("streams.reused", all.reused_n.to_string()),
            ("rows", all.rows.to_string()),
            ("bytes.read", all.bytes.to_string()),
            ("moment", "each table is of one moment of its own; ClickHouse has none that spans tables".to_owned()),
        ];
        verdict.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        if let Some(database) = self.url.database() {
            verdict.facts.insert("database".to_owned(), database.to_owned());
        }
    }

    /// Refuses a user who may not see everything: what is hidden would be missing in silence.
    async fn check_grants(&self, client: &Client) -> std::result::Result<(), Failure> {
        if !client.is_from(24, 11) || !self.options.tables.is_empty() {
            return Ok(());
        }
        let scope = match self.url.database() {
            Some(database) => format!("{}.*", super::sql::name(database)),
            None => "*.*".to_owned(),
        };
        let answer = client.ask(&format!("CHECK GRANT SHOW, SELECT ON {scope}")).await?;
        match answer.trim() {
            "1" => Ok(()),
            _ => Err(Failure::Broken(format!(
                "this user may not see all of it, and what is hidden would be missing; GRANT SHOW, SELECT ON {scope} TO {}, or choose \
                 tables or a database",
                super::sql::name(client.user())
            ))),
        }
    }

    /// Returns the objects that are wanted. A database comes with its tables.
    fn selected(&self, objects: Vec<Object>) -> std::result::Result<Vec<Object>, Failure> {
        if self.options.tables.is_empty() {
            return Ok(objects);
        }
        let wanted = patterns(&self.options.tables)?;
        let (tables, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.kind == Kind::Table);
        let tables: Vec<_> = tables.into_iter().filter(|table| wanted.is_match(table.shown())).collect();
        if tables.is_empty() {
            let names = self.options.tables.join(", ");
            return Err(Failure::Broken(format!("it has no table {names}; write it like DATABASE.TABLE")));
        }
        let is_theirs =
            |object: &Object| object.kind == Kind::Database && tables.iter().any(|table| table.database == object.name);
        Ok(others.into_iter().filter(is_theirs).chain(tables.iter().cloned()).collect())
    }

    async fn access(&self, client: &Client, sink: &Sink, verdict: &mut Verdict) -> std::result::Result<(), Failure> {
        if !self.options.access || self.url.database().is_some() || !self.options.tables.is_empty() {
            return Ok(());
        }
        match access::read(client).await? {
            Access::Told(statements) => {
                let lacking_n = statements.iter().filter(|statement| statement.lacks_password).count();
                if lacking_n > 0 {
                    verdict.warnings.push(format!(
                        "the server keeps the passwords of {lacking_n} users back; those who are restored get new ones"
                    ));
                }
                put(sink, access::STREAM, &statements).await
            }
            Access::Untold(why) => {
                verdict.warnings.push(format!("users and what they may were not stored: {why}"));
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Engine for ClickHouseEngine {
    fn kind(&self) -> &str {
        "clickhouse"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        self.dump_all(sink).await.map_err(|failure| match failure {
            Failure::Ours(error) => error,
            failure => Error::DumpFailed(format!("{}; nothing was stored", failure.explain(&self.url))),
        })
    }
}

/// Refuses a server that is too old.
pub(super) fn check_version(client: &Client) -> std::result::Result<(), Failure> {
    if client.version >= OLDEST {
        return Ok(());
    }
    let (year, month) = OLDEST;
    Err(Failure::Broken(format!(
        "it is version {}, and the oldest one that works is {year}.{month}; upgrade it",
        client.version_text
    )))
}

/// Writes what is one JSON object a line.
async fn put<T: Serialize>(sink: &Sink, name: &str, lines: &[T]) -> std::result::Result<(), Failure> {
    let mut stream = sink.stream(name).await?;
    for line in lines {
        let line = serde_json::to_string(line)
            .map_err(|error| Error::System(format!("a definition can't be written: {error}")))?;
        stream.write(line.as_bytes()).await?;
        stream.write(b"\n").await?;
    }
    stream.finish(BTreeMap::from([("format".to_owned(), "JSON lines".to_owned())])).await?;
    Ok(())
}

async fn now(client: &Client) -> std::result::Result<String, Failure> {
    Ok(client.ask("SELECT toString(now(), 'UTC') FORMAT TabSeparated").await?.trim().to_owned())
}

fn note_what_is_left_out(objects: &[Object], verdict: &mut Verdict) {
    let names = |wanted: &dyn Fn(&Object) -> bool| {
        let names: Vec<String> = objects.iter().filter(|object| wanted(object)).map(Object::shown).collect();
        Some(names.join(", ")).filter(|names| !names.is_empty())
    };
    if let Some(names) = names(&|object| object.create.contains(HIDDEN)) {
        verdict.warnings.push(format!(
            "the server hides secrets in the definitions of {names}, so they come back without; let it show them \
             (format_display_secrets_in_show_and_select), or note them elsewhere"
        ));
    }
    if let Some(names) = names(&|object| object.kind == Kind::Table && object.rows() == Rows::Unreadable) {
        verdict
            .warnings
            .push(format!("no query returns the content of {names}, so only the definitions are in the dump"));
    }
    if let Some(names) = names(&|object| object.engine == "Buffer") {
        verdict.warnings.push(format!(
            "what {names} hold in memory is not in the dump until they have passed it on; OPTIMIZE TABLE makes them"
        ));
    }
}

fn check_unchanged(before: &[Object], after: &[Object]) -> std::result::Result<(), Failure> {
    let of_tables = |object: &&Object| object.kind == Kind::Table;
    let after: BTreeMap<_, _> = after.iter().filter(of_tables).map(|object| (object.key(), object)).collect();
    for object in before.iter().filter(of_tables).filter(|object| object.rows() != Rows::None) {
        let is_same = |now: &&Object| now.create == object.create && now.uuid == object.uuid;
        if after.get(&object.key()).is_none_or(|now| !is_same(now)) {
            let name = object.shown();
            return Err(Failure::Broken(format!(
                "{name} was changed or dropped while the server was read; back it up again"
            )));
        }
    }
    Ok(())
}

/// Reads names with `*`.
pub(super) fn patterns(texts: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        let glob = GlobBuilder::new(text).literal_separator(false).build();
        let invalid = |error: globset::Error| Error::Invalid(format!("{text:?} is no name of a table: {error}"));
        set.add(glob.map_err(invalid)?);
    }
    set.build().map_err(|error| Error::Invalid(format!("these are no names of tables: {error}")))
}
