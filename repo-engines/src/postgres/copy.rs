//! The rows of one table as `COPY` writes them, a line each: out of the server, and back into it.
//!
//! Such a stream costs the server and its tools less than an archive does, may be sorted by the table's key, and its rows can be
//! counted as they pass. It has neither a head nor an end mark, so that nothing in it is ever read as a command. What
//! `setup_connection` of `pg_dump` sets for a session is set here, too, so that values are written the same way, and in full.

use super::client::Client;
use super::inventory::Table;
use super::sql;
use crate::child::Invocation;
use crate::intake::Intake;
use dedump_core::{Error, Result};
use std::ffi::OsString;

/// What the streams' names end with.
pub(super) const SUFFIX: &str = ".copy";
/// What the streams' format is called.
pub(super) const FORMAT: &str = "PostgreSQL COPY text";
/// A table with more bytes of columns' names is dumped by `pg_dump`: its `COPY` would not fit into an argument.
pub(super) const COLUMNS_BYTES_MAX: usize = 64 * 1024;
/// Lifts the database's own time limits, without a word on the output; the second is of PostgreSQL 17 and later.
const NO_LIMITS: [&str; 4] = [
    "SET statement_timeout = 0",
    "\\o /dev/null",
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'",
    "\\o",
];
/// For a session that writes rows.
const SETTINGS: &str = "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET bytea_output = hex; \
    SET xmloption = content; SET synchronize_seqscans = off; SET timezone = 'UTC'";
/// For one that writes or reads them.
const SETTINGS_OF_BOTH: &str = "SET search_path = ''; SET row_security = off; SET lock_timeout = 0; \
    SET client_min_messages = warning; SET standard_conforming_strings = on";

/// Returns `psql` that writes the rows of a table to its output, as a snapshot that a session has exported shows them.
///
/// # Errors
/// [`Error::Invalid`]: the password can't be handed on.
pub(super) fn out(client: &Client, snapshot: &str, table: &Table, by_key: bool) -> Result<Invocation> {
    let columns = list(&table.columns);
    let copy = match by_key && !table.key.is_empty() {
        true => format!("COPY (SELECT {columns} FROM ONLY {} ORDER BY {}) TO STDOUT", table.name, list(&table.key)),
        false => format!("COPY {} ({columns}) TO STDOUT", table.name),
    };
    psql(
        client,
        &[
            SETTINGS_OF_BOTH,
            SETTINGS,
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            &format!("SET TRANSACTION SNAPSHOT {}", sql::text(snapshot)),
            &copy,
        ],
    )
}

/// Returns `psql` that takes the rows of a table from its input. Without triggers, foreign keys are not looked at either; that
/// takes a superuser.
///
/// # Errors
/// As [`out`].
pub(super) fn into(client: &Client, table: &str, columns: &[String], disable_triggers: bool) -> Result<Invocation> {
    let copy = format!("COPY {table} ({}) FROM STDIN", list(columns));
    match disable_triggers {
        true => psql(client, &[SETTINGS_OF_BOTH, "SET session_replication_role = replica", &copy]),
        false => psql(client, &[SETTINGS_OF_BOTH, &copy]),
    }
}

fn psql(client: &Client, statements: &[&str]) -> Result<Invocation> {
    let mut arguments = ["-X", "-q", "-A", "-t", "--no-password", "-v", "ON_ERROR_STOP=1"].map(OsString::from).to_vec();
    for statement in NO_LIMITS.iter().chain(statements) {
        arguments.extend(["-c".into(), (*statement).into()]);
    }
    client.invocation("psql", "-d", &arguments)
}

/// Returns names as SQL has a list of them.
pub(super) fn list(names: &[String]) -> String {
    names.iter().map(|name| sql::name(name)).collect::<Vec<_>>().join(", ")
}

/// Counts rows that stream by, and finds what `COPY` never writes.
pub(super) struct Rows<I> {
    inner: I,
    rows_n: u64,
    last: u8,
    has_return: bool,
}

impl<I: Intake> Rows<I> {
    pub(super) fn new(inner: I) -> Self {
        Rows { inner, rows_n: 0, last: b'\n', has_return: false }
    }

    /// Returns where the bytes went, and how many rows they were.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: these are not the rows that the server sent.
    pub(super) fn finish(self) -> Result<(I, u64)> {
        if self.has_return {
            let why = "there are carriage returns, which COPY never writes: a terminal in between (docker exec -t) has changed \
                the rows; run the tools without one";
            return Err(Error::DumpFailed(why.to_owned()));
        }
        if self.last != b'\n' {
            return Err(Error::DumpFailed("the last row has no end".to_owned()));
        }
        Ok((self.inner, self.rows_n))
    }
}

impl<I: Intake> Intake for Rows<I> {
    fn spare(&mut self) -> &mut [u8] {
        self.inner.spare()
    }

    async fn advance(&mut self, bytes_n: usize) -> Result<()> {
        let bytes = &self.inner.spare()[..bytes_n];
        for at in memchr::memchr2_iter(b'\n', b'\r', bytes) {
            match bytes[at] {
                b'\n' => self.rows_n += 1,
                _ => self.has_return = true,
            }
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.inner.advance(bytes_n).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Memory;

    async fn rows_of(pieces: &[&[u8]]) -> Result<u64> {
        let mut intake = Rows::new(Memory::new());
        for piece in pieces {
            intake.spare()[..piece.len()].copy_from_slice(piece);
            intake.advance(piece.len()).await.expect("memory takes it");
        }
        let (memory, rows_n) = intake.finish()?;
        assert_eq!(memory.bytes, pieces.concat());
        Ok(rows_n)
    }

    #[tokio::test]
    async fn rows_are_counted_and_what_is_none_is_refused() {
        assert_eq!(rows_of(&[b""]).await.expect("no row is no mistake"), 0);
        assert_eq!(rows_of(&[b"1\ta\n2", b"\tb\n", b"\n"]).await.expect("good"), 3);
        let why = rows_of(&[b"1\ta\n2"]).await.expect_err("it was cut").to_string();
        assert!(why.contains("the last row has no end"), "{why}");
        let why = rows_of(&[b"1\ta\r\n"]).await.expect_err("a terminal").to_string();
        assert!(why.contains("carriage returns"), "{why}");
    }
}
