//! ClickHouse, over its HTTP interface: no file of the server's is needed, and no setting.

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
