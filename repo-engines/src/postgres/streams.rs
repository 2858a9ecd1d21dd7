//! The streams that a database becomes: one archive, and beside it the rows of large tables.

use super::client::Client;
use super::copy;
use super::created::{self, WithoutMoment};
use super::dump::{DumpPart, LARGE_TABLE_BYTES, ORDERED_TABLE_BYTES, PostgresEngine};
use super::inventory::Table;
use super::session::explain;
use super::url::encode;
use crate::child::Running;
use crate::command::{OUTPUT_GRACE, Run, judge_end};
use crate::gates::{Expected, Watch};
use dedump_core::{Error, Result, Sink};
use std::ffi::OsString;

/// What is dumped by one tool, and the stream that it becomes.
pub(super) enum Unit {
    /// What `pg_dump` is asked for.
    Archive { stream: &'static str, arguments: Vec<OsString> },
    /// The rows of a table.
    Rows { stream: String, table: Table },
}

/// What became of it.
pub(super) struct Dumped {
    pub(super) warnings: Vec<String>,
    /// The table whose rows it was, and their number.
    pub(super) rows: Option<(String, u64)>,
}

impl PostgresEngine {
    /// Returns whether a table's rows are a stream of their own.
    pub(super) fn is_large(&self, table: &Table) -> bool {
        let bytes_min = match self.options.order_by_key {
            true => ORDERED_TABLE_BYTES,
            false if self.options.jobs > 1 => LARGE_TABLE_BYTES,
            false => return false,
        };
        let names_bytes = copy::list(&table.columns).len();
        table.bytes >= bytes_min && !table.is_of_extension && (1..=copy::COLUMNS_BYTES_MAX).contains(&names_bytes)
    }

    /// Returns what is to be dumped; the largest first, so that none is left alone at the end.
    pub(super) fn units(&self, snapshot: &str, large: &[&Table]) -> Vec<Unit> {
        let options = &self.options;
        let mut arguments: Vec<OsString> = ["-Fc", "-Z0", "--no-password"].map(OsString::from).to_vec();
        arguments.push(format!("--snapshot={snapshot}").into());
        arguments.extend(match options.part {
            DumpPart::All => None,
            DumpPart::Schema => Some("--schema-only".into()),
            DumpPart::Data => Some("--data-only".into()),
        });
        arguments.extend(options.tables.iter().map(|table| format!("--table={table}").into()));
        arguments.extend(options.exclude_table_data.iter().map(|table| format!("--exclude-table-data={table}").into()));
        arguments.extend(large.iter().map(|table| format!("--exclude-table-data={}", table.name).into()));
        let rows = |table: &&Table| {
            let stream = format!("tables/{}{}", encode(&table.name), copy::SUFFIX);
            Unit::Rows { stream, table: (*table).clone() }
        };
        let mut units: Vec<Unit> = large.iter().map(rows).collect();
        units.insert(units.len().min(1), Unit::Archive { stream: "database.dump", arguments });
        units
    }

    /// Dumps one of them.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the tool fails, or what it writes is not what it should be.
    pub(super) async fn dump_unit(&self, client: &Client, sink: &Sink, snapshot: &str, unit: Unit) -> Result<Dumped> {
        match unit {
            Unit::Archive { stream, arguments } => self.dump_archive(client, sink, stream, &arguments).await,
            Unit::Rows { stream, table } => self.dump_rows(client, sink, snapshot, (&stream, &table)).await,
        }
    }

    async fn dump_archive(&self, client: &Client, sink: &Sink, stream: &str, arguments: &[OsString]) -> Result<Dumped> {
        let invocation = client.invocation("pg_dump", "-d", arguments)?;
        let mut intake = WithoutMoment::new(sink.stream(stream).await?);
        let run = Run { stream, expected: Expected::PgArchive, allow_empty: false, grace: OUTPUT_GRACE };
        let mut found = run.take(&invocation, &mut intake, self.listener.as_deref()).await.map_err(explain)?;
        let (writer, moment) = intake.finish().await?;
        found.stream_facts.extend(moment.map(|moment| (created::FACT.to_owned(), moment)));
        found.stream_facts.extend(found.verdict.facts.remove("command").map(|command| ("command".to_owned(), command)));
        writer.finish(found.stream_facts).await?;
        Ok(Dumped { warnings: found.verdict.warnings, rows: None })
    }

    async fn dump_rows(
        &self,
        client: &Client,
        sink: &Sink,
        snapshot: &str,
        (stream, table): (&str, &Table),
    ) -> Result<Dumped> {
        let by_key = self.options.order_by_key;
        let invocation = copy::out(client, snapshot, table, by_key)?;
        let mut intake = copy::Rows::new(sink.stream(stream).await?);
        let running = Running::start(&invocation)?;
        let mut watch = Watch::default();
        let ended = running.read_to_end(&mut intake, &mut watch, self.listener.as_deref(), OUTPUT_GRACE).await?;
        let of_table = |error: Error| match explain(error) {
            Error::DumpFailed(why) => Error::DumpFailed(format!("table {}: {why}", table.name)),
            error => error,
        };
        judge_end("psql", &ended).map_err(of_table)?;
        let (writer, rows_n) = intake.finish().map_err(of_table)?;
        let order = if by_key && !table.key.is_empty() { "key" } else { "as it lies" };
        let facts = [("format", copy::FORMAT.to_owned()), ("rows", rows_n.to_string()), ("order", order.to_owned())];
        writer.finish(facts.map(|(key, value)| (key.to_owned(), value)).into()).await?;
        Ok(Dumped { warnings: Vec::new(), rows: Some((table.name.clone(), rows_n)) })
    }
}
