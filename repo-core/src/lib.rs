//! dedump-core: a content-addressed, deduplicating, encrypted repository for database dumps.
//!
//! Every snapshot is a complete dump, restorable on its own, stored for about the price of what changed. The model in one
//! screen:
//!
//! - A [`Store`] holds a [`Repository`]: a directory, memory, or any `object_store`. A [`Credential`] opens it.
//! - An [`Engine`] dumps a *source*: it writes named *streams* into a [`Sink`] and returns a [`Verdict`]. [`backup`] cuts
//!   the streams into *chunks*, stores those that the repository does not have, compressed and sealed in *packs*, and
//!   commits one [`Snapshot`], after the verdict and never before.
//! - [`restore`] gives streams to a [`Target`]: every chunk is verified before it is handed over, every stream as a whole
//!   before it is ended.
//! - A [`Cache`] on the local disk saves requests to a store that is far away. Nothing relies on it.
//! - [`list`] and [`find`] name snapshots, [`diff`] compares two, [`stats`] counts, [`check`] looks for damage,
//!   [`reindex`] makes the index anew from the packs, [`forget`] takes a snapshot away. [`plan_forget`] says what a
//!   [retention policy](retention::Policy) takes away, and [`hold`] keeps a snapshot from all of that. [`copy`] gives snapshots
//!   a second home. [`add_key`], [`list_keys`] and [`remove_key`] say who may open.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> dedump_core::Result<()> {
//! use dedump_core::*;
//!
//! let secret = Credential::generate_key_file()?;
//! let repository = Repository::create(Store::memory(), &secret, CreateOptions::default()).await?;
//!
//! let dump = ReaderEngine::new("app.sql", &b"CREATE TABLE t (id int);"[..]);
//! let report = backup(&repository, &dump, &BackupOptions::new("app", "db1"), &()).await?;
//!
//! let mut back = WriterTarget(Vec::new());
//! restore(&repository, &report.snapshot, &RestoreOptions::default(), &mut back, &()).await?;
//! assert_eq!(back.0, b"CREATE TABLE t (id int);");
//! # Ok(())
//! # }
//! ```
//!
//! Operations are async and run inside the caller's tokio runtime, with its timer on; processor work runs on threads of
//! the repository's own. Dropping an operation's future cancels it: nothing is committed. The library reads no
//! environment, prints nothing, sets up no logging and has no global state. Memory is bounded by the constants in
//! [`limits`] plus the index, at most 48 bytes a chunk.
//!
//! Cargo features choose store back ends, and nothing else; so far there are none beyond the local disk and memory.

mod crafts;
mod edges;
mod format;
mod operations;
mod state;
mod words;

pub use crafts::chunker::{ChunkerKind, ChunkerParams};
pub use crafts::compress::Compression;
pub use crafts::crypto::slot::Argon2Params;
pub use crafts::retention;
pub use edges::cache::Cache;
pub use edges::parent::ParentStreams;
pub use edges::progress::{Event, Progress};
pub use edges::source::{Engine, ReaderEngine, Room, Sink, StreamWriter, Verdict, check_stream_name};
pub use edges::store::{Requests, Store, StoreOptions};
pub use edges::target::{Existing, FileTarget, Target, WriterTarget};
pub use format::config::ConfigRecord;
pub use format::hold::HoldRecord;
pub use format::session::SessionRecord;
pub use format::slot::{SlotKind, SlotLabel};
pub use format::snapshot::{Quality, SnapshotRecord, StreamRecord, Totals};
pub use operations::backup::{BackupOptions, BackupReport, DeltaMode, backup};
pub use operations::check::{CheckReport, Finding, FindingKind, ReadData, check};
pub use operations::copy::{CopyOptions, CopyPlan, CopyReport, copy, plan_copy};
pub use operations::diff::{Change, DiffReport, StreamDiff, diff};
pub use operations::find::{Filter, Listing, find, find_held, find_id, list};
pub use operations::forget::{Forgotten, forget, forget_all};
pub use operations::hold::{HoldOptions, hold, list_holds, release};
pub use operations::keys::{KeySlot, add_key, list_keys, remove_key};
pub use operations::probe::probe_store;
pub use operations::prune::{MaxUnused, PruneOptions, PruneOutcome, PrunePlan, PruneReport, plan_prune, prune};
pub use operations::reindex::{ReindexReport, reindex};
pub use operations::restore::{RestoreOptions, RestoreReport, restore};
pub use operations::restore_plan::{PlannedPack, RestorePlan, plan_restore};
pub use operations::retention::{ForgetGroup, ForgetPlan, Judged, plan_forget};
pub use operations::sessions::{SessionInfo, list_sessions};
pub use operations::stats::{StatsReport, stats};
pub use state::holds::Hold;
pub use state::index::DepthStats;
pub use state::repository::{CreateOptions, Credential, OpenOptions, Repository};
pub use state::snapshots::Snapshot;
pub use words::error::{Error, ErrorKind, Result};
pub use words::id::{ChunkId, PackId, ParseIdError, RepositoryId, SessionId, SlotId, SnapshotId};
pub use words::limits;

/// The trait attribute that an [`Engine`] or [`Target`] is written with.
pub use async_trait::async_trait;
/// The bytes that a [`Target`] is given.
pub use bytes::Bytes;
/// The crate of [`Store::from_object_store`].
pub use object_store;

/// Doors for the project's own tests and benches; no part of the public surface, and free to change.
#[doc(hidden)]
pub mod internals {
    pub use crate::crafts::chunker;
    pub use crate::crafts::crypto::{keys, seal, slot as slot_keys};
    pub use crate::crafts::{compress, sketch};
    pub use crate::edges::store::Created;
    pub use crate::edges::system;
    pub use crate::format::*;
    pub use crate::state::session::{DecisionGround, Undecided, decide_on, fence};
    pub use crate::state::{adoption, census, ground, index, loader, protocol};
}
