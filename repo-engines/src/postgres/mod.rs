//! PostgreSQL, by its own client tools.

mod as_dumped;
mod client;
mod copy;
mod created;
mod dump;
mod inventory;
mod restore;
mod session;
mod sql;
mod streams;
mod token;
mod url;

pub use as_dumped::AsDumped;
pub use client::ClientOptions;
pub use dump::{
    ALL_DATABASES, DumpPart, JOBS_MAX, LARGE_TABLE_BYTES, ORDERED_TABLE_BYTES, PostgresEngine, PostgresOptions,
};
pub use restore::{
    Globals, OnConflict, Place, PostgresPlan, PostgresRestore, PostgresRestoreOptions, PostgresRestored, RowsOptions,
    RowsRestored,
};
pub use url::PostgresUrl;
