//! ClickHouse, over its HTTP interface: no file of the server's is needed, and no setting.
//!
//! [`ClickHouseEngine`] backs a server or a database up, [`ClickHouseRestore`] puts the backup back. Of a server it makes these streams:
//!
//! - `schema.jsonl`: databases, tables, views, dictionaries and functions, one JSON object a line, each with its statement.
//! - `access.jsonl`, of a whole server: users, roles, policies, quotas, profiles and grants, likewise.
//! - `data/DATABASE/TABLE/PARTITION/rows.native`: the rows of a partition, or of a table without any under `whole`, in the Native format.
//!
//! # The moment
//!
//! Each table is of one moment; there is none across tables. Parts never change, so the parts of a table at one moment are that moment,
//! and each partition is read by naming its parts. If one of them was merged away before the server began to read, rows are
//! missing, and the table is looked at again.
//!
//! # The order
//!
//! Rows are sorted by the table's sorting key, and those that are alike in it by everything else that can be compared. The server sorts
//! anew rather than reads in order: blocks would be cut otherwise after each merge. A partition whose parts have the content that they
//! had in the snapshot before is taken over unread.
//!
//! # Whole or not
//!
//! HTTP's `200` means nothing here: the server begins to answer before it knows how a query ends, and writes an exception into the rows.
//! So the stream is walked block by block, and its rows are compared with those of the parts. Where a type has no end that can be
//! found (`AggregateFunction`), and for tables without parts, the server holds the answer back (`wait_end_of_query`), and its status
//! counts.

mod access;
mod client;
mod dump;
mod explain;
mod moment;
mod native;
mod restore;
mod rows;
mod schema;
mod sql;
mod tables;
mod url;

pub use client::ClientOptions;
pub use dump::{ClickHouseEngine, ClickHouseOptions};
pub use restore::{ClickHousePlan, ClickHouseRestore, ClickHouseRestoreOptions, ClickHouseRestored, PlannedTable};
pub use url::ClickHouseUrl;

/// Doors for the project's own tests; no part of the public surface, and free to change.
#[doc(hidden)]
pub mod internals {
    use super::native::Walk;

    /// Walks a stream of the Native format that comes in pieces of so many bytes, and may have values that only a server can tell
    /// apart, or not. Returns its rows, if they can be counted.
    ///
    /// # Errors
    /// Why it is not whole.
    pub fn walk(stream: &[u8], piece_bytes: usize, may_be_opaque: bool) -> Result<Option<u64>, String> {
        let mut walk = Walk::new(may_be_opaque);
        let mut passed = Vec::new();
        for piece in stream.chunks(piece_bytes.max(1)) {
            passed.extend(walk.feed(piece)?);
        }
        let (last, rows) = walk.finish()?;
        passed.extend(last);
        let bytes: usize = passed.iter().map(|piece| piece.bytes.len()).sum();
        assert_eq!(bytes, stream.len(), "what passes is what came");
        Ok(rows)
    }
}
