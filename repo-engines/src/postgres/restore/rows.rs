//! Rows of one table, by a condition, into the table that is there.
//!
//! The rows of the snapshot go into a temporary table of one session, and from there in one transaction into the table. Only
//! the table's own stream is read where it has one.

use super::contents::{Contents, TableName, TableStream};
use super::feed::{Feed, Need, Taker};
use super::{PostgresRestore, hints, load, selection};
use crate::postgres::client::Client;
use crate::postgres::copy;
use crate::postgres::inventory;
use crate::postgres::session::Session;
use crate::postgres::sql;
use crate::stored;
use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, Snapshot, SnapshotId, StreamRecord, Target,
    async_trait, restore,
};

/// What is done with a row whose key is in the table already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is restored, no other row either.
    #[default]
    Fail,
    /// The row that is there stays.
    Skip,
    /// The row that is there becomes as it was, found by the primary key.
    Update,
}

/// Which rows are put back.
#[derive(Debug, Clone, Default)]
pub struct RowsOptions {
    /// The table, as `SCHEMA.TABLE`, quoted where SQL needs it. Of a partitioned one, name the partition.
    pub table: String,
    /// Which of its rows: SQL of the user's own, run as it is with the user's rights, on the rows of the snapshot; empty stands
    /// for all.
    pub condition: String,
    /// What is done with rows that are there.
    pub on_conflict: OnConflict,
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowsRestored {
    /// Rows that the snapshot has of the table.
    pub read_n: u64,
    /// Those that the condition means.
    pub matching_n: u64,
    /// Those that were not there and are now.
    pub inserted_n: u64,
    /// Those that were there and are as they were again.
    pub updated_n: u64,
    /// Those that were there and were left alone.
    pub skipped_n: u64,
    /// Streams that were read.
    pub streams: Vec<String>,
    /// The snapshot of the database before.
    pub safety_snapshot: Option<SnapshotId>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl PostgresRestore {
    /// Puts rows of one table back into that table, all that are meant or none.
    ///
    /// # Errors
    /// As [`PostgresRestore::run`]; the table is then as it was.
    pub async fn rows(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        part_prefix: &str,
        options: &RowsOptions,
        progress: &dyn Progress,
    ) -> Result<RowsRestored> {
        self.put_rows(repository, (snapshot, part_prefix), options, progress).await.map_err(hints::of_target)
    }

    async fn put_rows(
        &self,
        repository: &Repository,
        (snapshot, prefix): (&Snapshot, &str),
        options: &RowsOptions,
        progress: &dyn Progress,
    ) -> Result<RowsRestored> {
        let Some(table) = sql::qualified(&options.table) else {
            return Err(Error::Invalid(format!("table {:?} can't be: write it as SCHEMA.TABLE", options.table)));
        };
        let contents = Contents::read(repository, snapshot, prefix).await?;
        let name = self.url.database().unwrap_or(&contents.inventory.database.name).to_owned();
        let mut client = self.client(&name);
        client.choose_for_restore(contents.dump_major.unwrap_or_default()).await?;
        let mut session = Session::open_explained(&client, hints::explain).await?;
        let into =
            Into { name: sql::of_table(&table), alias: sql::name(&table.1), condition: condition(&options.condition) };
        let is_there = format!("SELECT to_regclass({}) IS NOT NULL", sql::text(&into.name));
        if session.ask_one(&is_there).await? != "t" {
            return Err(Error::DumpFailed(format!(
                "database {name} has no table {}; restore the table itself",
                options.table
            )));
        }
        // A condition that can't be is told before anything is read.
        run(&mut session, &format!("EXPLAIN SELECT FROM {} AS {} WHERE {}", into.name, into.alias, into.condition))
            .await?;
        let from = find_rows(repository, &contents, &client, &table).await?;
        let stream = from.stream(&contents).to_owned();
        let mut restored = RowsRestored { streams: vec![stream], ..RowsRestored::default() };
        if self.options.verify_first {
            stored::verify(repository, snapshot, restored.streams.clone(), progress).await?;
        }
        if self.options.safety_snapshot {
            let id = self.safety_snapshot((&name, snapshot.id), repository, progress, &mut restored.warnings).await?;
            restored.safety_snapshot = Some(id);
        }
        let mut taker =
            Rows { session, from: into.name.clone(), columns: Vec::new(), state: State::Before, held: Vec::new() };
        match &from {
            Origin::Stream(stream) => {
                taker.begin(stream.columns.clone()).await?;
                let options = RestoreOptions { streams: restored.streams.clone(), ..RestoreOptions::default() };
                restore(repository, snapshot, &options, &mut taker, progress).await?;
            }
            Origin::Archive(list) => {
                let invocation = |_: &StreamRecord| load::to_output(&client, Some(list), &["--file=-", "--data-only"]);
                let feed = Feed { invocation: &invocation, taker: &mut taker, need: Need::Part, counts_errors: false };
                feed.run(repository, snapshot, &restored.streams, progress).await?;
            }
        }
        let Rows { mut session, columns, state, .. } = taker;
        if state != State::Behind {
            return Err(Error::DumpFailed(format!("the dump has no rows of {}", options.table)));
        }
        into.insert(&mut session, &columns, options.on_conflict, &mut restored).await?;
        session.close().await?;
        Ok(restored)
    }
}

/// Where a table's rows are.
enum Origin<'a> {
    /// In a stream of their own.
    Stream(&'a TableStream),
    /// In the archive with all others, behind this entry of its table of contents.
    Archive(String),
}

impl Origin<'_> {
    fn stream<'a>(&'a self, contents: &'a Contents<'_>) -> &'a str {
        match self {
            Origin::Stream(stream) => &stream.name,
            Origin::Archive(_) => &contents.database,
        }
    }
}

async fn find_rows<'a>(
    repository: &Repository,
    contents: &'a Contents<'_>,
    client: &Client,
    table: &TableName,
) -> Result<Origin<'a>> {
    if let Some(stream) = contents.tables.get(table) {
        return Ok(Origin::Stream(stream));
    }
    let list = load::print((repository, contents), client, None, &["--list", "--verbose"]).await?;
    match selection::rows_of(&list, table) {
        Some(list) => Ok(Origin::Archive(list)),
        None => Err(Error::DumpFailed(format!(
            "the dump has no rows of {}.{}; of a partitioned table, name the partition",
            table.0, table.1
        ))),
    }
}

/// The line end keeps a comment at the condition's end from hiding what follows.
fn condition(text: &str) -> String {
    if text.trim().is_empty() { "true".to_owned() } else { format!("({text}\n)") }
}

/// Runs a statement that has the user's own SQL in it; psql sees a text, and no command of its own.
async fn run(session: &mut Session, statement: &str) -> Result<Vec<String>> {
    session.ask(&format!("SELECT {}\n\\gexec", sql::text(statement))).await
}

/// Where rows go.
struct Into {
    name: String,
    /// The table's own name, under which the condition may name its columns.
    alias: String,
    condition: String,
}

impl Into {
    async fn insert(
        &self,
        session: &mut Session,
        columns: &[String],
        on_conflict: OnConflict,
        restored: &mut RowsRestored,
    ) -> Result<()> {
        let Into { name, alias, condition } = self;
        let meant = format!("FROM pg_temp.dedump_rows AS {alias} WHERE {condition}");
        let key = format!(
            "SELECT to_json(a.attname) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
             WHERE i.indrelid = {}::regclass AND i.indisprimary",
            sql::text(name)
        );
        let key: Vec<String> =
            session.ask(&key).await?.iter().map(|line| inventory::parse(line)).collect::<Result<_>>()?;
        if on_conflict == OnConflict::Update && key.is_empty() {
            return Err(Error::DumpFailed(format!(
                "table {name} has no primary key to find rows by; use --on-conflict skip or fail"
            )));
        }
        let list = copy::list(columns);
        session.ask("BEGIN").await?;
        // Nobody else writes between what is counted and what is done.
        session.ask(&format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")).await?;
        restored.read_n = count(session, "SELECT count(*) FROM pg_temp.dedump_rows").await?;
        restored.matching_n = count(session, &format!("SELECT count(*) {meant}")).await?;
        if on_conflict == OnConflict::Update {
            let same: Vec<_> = key.iter().map(|column| format!("there.{0} = {alias}.{0}", sql::name(column))).collect();
            let exists = format!("SELECT FROM {name} AS there WHERE {}", same.join(" AND "));
            restored.updated_n = count(session, &format!("SELECT count(*) {meant} AND EXISTS ({exists})")).await?;
        }
        let keys = copy::list(&key);
        let others = columns.iter().filter(|column| !key.contains(column)).map(|column| sql::name(column));
        let sets: Vec<_> = others.map(|column| format!("{column} = EXCLUDED.{column}")).collect();
        let conflict = match on_conflict {
            OnConflict::Fail => String::new(),
            OnConflict::Skip => "ON CONFLICT DO NOTHING".to_owned(),
            OnConflict::Update if sets.is_empty() => format!("ON CONFLICT ({keys}) DO NOTHING"),
            OnConflict::Update => format!("ON CONFLICT ({keys}) DO UPDATE SET {}", sets.join(", ")),
        };
        let insert = format!(
            "WITH done AS (INSERT INTO {name} ({list}) OVERRIDING SYSTEM VALUE SELECT {list} {meant} {conflict} RETURNING 1) \
             SELECT count(*) FROM done"
        );
        let done_n = count(session, &insert).await?;
        session.ask("COMMIT").await?;
        match on_conflict {
            OnConflict::Update => restored.inserted_n = restored.matching_n.saturating_sub(restored.updated_n),
            OnConflict::Fail | OnConflict::Skip => {
                restored.inserted_n = done_n;
                restored.skipped_n = restored.matching_n.saturating_sub(done_n);
            }
        }
        Ok(())
    }
}

async fn count(session: &mut Session, statement: &str) -> Result<u64> {
    let lines = run(session, statement).await?;
    inventory::parse(lines.first().map(String::as_str).unwrap_or_default())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Within,
    Behind,
}

/// Takes the one `COPY` of what `pg_restore` prints, and has the session load it into a temporary table.
struct Rows {
    session: Session,
    /// The table whose columns the rows have.
    from: String,
    columns: Vec<String>,
    state: State,
    /// A line that has not ended yet.
    held: Vec<u8>,
}

#[async_trait]
impl Taker for Rows {
    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.held.extend_from_slice(bytes);
        let Some(end) = self.held.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.held.split_off(end + 1);
        let lines = std::mem::replace(&mut self.held, rest);
        let mut from = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let start = from;
            from += line.len();
            match self.state {
                State::Before if line.starts_with(b"COPY ") => {
                    let words = sql::words(&String::from_utf8_lossy(line), usize::MAX);
                    let is = |word: &sql::Word, text: &str| *word == sql::Word::Other(text.to_owned());
                    let inside = words.iter().skip_while(|word| !is(word, "(")).take_while(|word| !is(word, ")"));
                    self.begin(inside.filter_map(sql::Word::as_name).map(str::to_owned).collect()).await?;
                }
                State::Before | State::Behind => {}
                // A row that has nothing but a backslash and a dot is written otherwise: this is the end, and what comes
                // behind it psql does not see.
                State::Within if line == b"\\.\n" => {
                    self.session.write(line).await?;
                    self.state = State::Behind;
                }
                State::Within => {
                    let end = lines[start..].windows(4).position(|few| few == b"\n\\.\n").map(|at| start + at + 1);
                    let end = end.unwrap_or(lines.len());
                    self.session.write(&lines[start..end]).await?;
                    if end < lines.len() {
                        self.session.write(b"\\.\n").await?;
                        self.state = State::Behind;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Rows {
    /// Makes the temporary table, and has the session read rows from now on.
    async fn begin(&mut self, columns: Vec<String>) -> Result<()> {
        let list = copy::list(&columns);
        self.columns = columns;
        let make = format!("CREATE TEMPORARY TABLE dedump_rows AS SELECT {list} FROM {} WITH NO DATA", self.from);
        self.session.ask(&make).await?;
        self.session.write(format!("COPY pg_temp.dedump_rows ({list}) FROM stdin;\n").as_bytes()).await?;
        self.state = State::Within;
        Ok(())
    }
}

/// Of a stream that has nothing but rows.
#[async_trait]
impl Target for Rows {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.take(&bytes).await
    }

    async fn end(&mut self) -> Result<()> {
        if self.state != State::Within || !self.held.is_empty() {
            return Err(Error::Target(
                "the rows end before their stream does, so somebody has crafted them".to_owned(),
            ));
        }
        self.session.write(b"\\.\n").await?;
        self.state = State::Behind;
        Ok(())
    }
}
