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
