//! Engines: the drivers for what dedump backs up.
//!
//! | engine | backs up | knows that the dump is whole by |
//! |---|---|---|
//! | [`CommandEngine`] | what a command prints | its exit status, the end of its output, its content |
//! | [`mysql::MysqlEngine`] | MariaDB's and MySQL's databases, in one moment | the exit status of the tool, its last line, what the server says there is |
//! | [`clickhouse::ClickHouseEngine`] | ClickHouse, each table in one moment | whole blocks, and the rows of the parts that were named |
//! | [`postgres::PostgresEngine`] | PostgreSQL's databases, in one moment | the exit status of its tools, the archive's end |
//! | [`Several`] | several of these, in one snapshot | each one's own verdict |
//! | [`StdinEngine`] | what somebody pipes in | its content alone |
//! | [`mongodb::MongoEngine`] | MongoDB, by its own tools | the exit status, the end and the CRC-64 of every collection |
//! | [`redis::RedisEngine`] | Redis and Valkey, in one moment | the RDB's end and its CRC-64 |
//! | [`sqlite::SqliteEngine`] | an SQLite database, while others write to it | `integrity_check` of what is stored |
//! | [`files::FilesEngine`] | files and directories | every file's state before and after it was read |
//!
//! An engine writes streams into a [`Sink`] and returns a [`Verdict`], and only then the dump becomes a snapshot: nothing is
//! committed before the source itself said that the dump succeeded. The [`gates`] are the demands on a stream's content that
//! all engines share. [`redact()`] prints a command without its secrets. [`postgres::PostgresRestore`] puts a PostgreSQL dump back.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> dedump_core::Result<()> {
//! use dedump_core::*;
//! use dedump_engines::{CommandEngine, CommandOptions};
//!
//! let secret = Credential::generate_key_file()?;
//! let repository = Repository::create(Store::memory(), &secret, CreateOptions::default()).await?;
//! let options = BackupOptions::new("greeting", "db1");
//!
//! let argv = |line: &str| line.split(' ').map(Into::into).collect();
//! let good = CommandEngine::new("greeting.txt", argv("echo hello"), CommandOptions::default())?;
//! let report = backup(&repository, &good, &options, &()).await?;
//! assert_eq!(report.snapshot.record.streams.len(), 1);
//!
//! // A command that fails leaves no snapshot behind, whatever it wrote before.
//! let bad = CommandEngine::new("greeting.txt", argv("cat /etc/hostname /no/such/file"), CommandOptions::default())?;
//! let error = backup(&repository, &bad, &options, &()).await.expect_err("half a dump");
//! assert!(error.to_string().starts_with("cat failed with exit status 1; nothing was stored"));
//! # Ok(())
//! # }
//! ```
//!
//! # An engine of one's own
//!
//! An engine needs nothing but dedump-core. It reads its source to the end, and it turns every doubt into an error: an engine
//! that returns `Ok` too early makes a snapshot of half a dump.
//!
//! ```
//! use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait};
//! use dedump_engines::gates::{Expected, Watch};
//! use std::collections::BTreeMap;
//!
//! /// Backs up a database's settings, which a library of its own reads.
//! struct Settings;
//!
//! #[async_trait]
//! impl Engine for Settings {
//!     fn kind(&self) -> &str {
//!         "settings"
//!     }
//!
//!     async fn dump(&self, sink: &Sink) -> Result<Verdict> {
//!         let mut stream = sink.stream("settings.sql").await?;
//!         let mut watch = Watch::default();
//!         for piece in ["SET a = 1;\n", "SET b = 2;\n"] {
//!             watch.feed(piece.as_bytes());
//!             stream.write(piece.as_bytes()).await?;
//!         }
//!         // Everything was read. Is it what it should be?
//!         let judgement = watch.judge(Expected::Anything).map_err(Error::DumpFailed)?;
//!         stream.finish(BTreeMap::new()).await?;
//!         Ok(Verdict { warnings: judgement.warnings, ..Verdict::default() })
//!     }
//! }
//! ```
//!
//! [`Sink`]: dedump_core::Sink
//! [`Verdict`]: dedump_core::Verdict

pub mod clickhouse;
pub mod files;
pub mod gates;
pub mod mongodb;
pub mod mysql;
pub mod postgres;
pub mod redis;
pub mod sqlite;

mod child;
mod command;
mod content;
mod fed;
mod intake;
mod percent;
mod redact;
mod safety;
mod several;
mod sort;
mod stdin;
mod stored;
mod tls;
mod worker;

pub use command::{CommandEngine, CommandOptions, OUTPUT_GRACE};
pub use redact::redact;
pub use several::{Several, Source};
pub use stdin::{StdinEngine, StdinOptions};
