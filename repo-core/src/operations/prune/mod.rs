//! Deletes what no snapshot needs, while others back up, restore and prune.
//!
//! The order of steps is [`protocol::prune`]'s, and FORMAT.md ("Deletion") argues for it. What it needs of a real
//! repository is in `pruner`: the walk over manifests (`mark`), the choice of packs (`plan`), the copy of what is needed of them
//! (`rescue`).

mod plan;
mod pruner;
mod rescue;

pub use plan::{MaxUnused, PrunePlan};

use self::pruner::Pruner;
use super::lookout::Lookout;
use crate::crafts::compress::Compression;
use crate::edges::progress::Progress;
use crate::edges::store::Requests;
use crate::state::ground::PruneGround;
use crate::state::protocol::{self, Outcome};
use crate::state::repository::Repository;
use crate::state::session::{self, Session};
use crate::words::error::Result;
use crate::words::id::SessionId;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How to prune.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PruneOptions {
    /// The host that prunes, as others see it.
    pub host: String,
    /// How much may stay unused.
    pub max_unused: MaxUnused,
    /// Bytes that may be stored anew, at most; what earlier prunes condemned comes on top.
    pub max_repack_bytes: Option<u64>,
    /// Whether to wait for sessions that are at work, rather than to leave it to a later prune.
    pub wait: bool,
    /// A session whose mark was not rewritten for so long counts as dead.
    pub dead_after: Duration,
    /// How what is stored anew is compressed.
    pub compression: Compression,
}

impl PruneOptions {
    /// Returns the usual options.
    pub fn new(host: impl Into<String>) -> Self {
        PruneOptions {
            host: host.into(),
            max_unused: MaxUnused::default(),
            max_repack_bytes: None,
            wait: false,
            dead_after: Duration::from_secs(crate::words::limits::SESSION_DEAD_AFTER_SECS),
            compression: Compression::Auto,
        }
    }
}

/// How a prune ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PruneOutcome {
    /// There was nothing to delete.
    Nothing,
    /// The packs are condemned. These sessions may rely on them; once they have ended, the next prune deletes.
    Waiting(Vec<SessionId>),
    /// Deleted.
    Done,
}

/// What a prune did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// How it ended.
    pub outcome: PruneOutcome,
    /// What it was going to do.
    pub plan: PrunePlan,
    /// Packs that were deleted.
    pub packs_deleted_n: u64,
    /// Packs that were written with what was needed of those.
    pub packs_written_n: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Sessions that looked dead, and can't commit any more.
    pub fenced: Vec<SessionId>,
    /// Requests that were made after the plan.
    pub requests: Requests,
}

/// Says what a prune would do, and does nothing.
///
/// # Errors
/// As [`prune`].
pub async fn plan_prune(repository: &Repository, options: &PruneOptions, progress: &dyn Progress) -> Result<PrunePlan> {
    let mut lookout = Lookout::begin(repository).await?;
    loop {
        match plan_once(repository, options, progress).await {
            Err(error) if error.is_damage() && lookout.is_disturbed().await? => {}
            outcome => return outcome,
        }
    }
}

async fn plan_once(repository: &Repository, options: &PruneOptions, progress: &dyn Progress) -> Result<PrunePlan> {
    let pruner = Pruner::create(repository, options, (SessionId([0; 16]), Arc::default()), progress);
    let (found, survey) = protocol::look(&pruner).await?;
    pruner.choose(&survey).await?;
    Ok(pruner.plan_of(&found))
}

/// Deletes packs that no snapshot needs, and rewrites those of which too little is needed.
///
/// It locks nothing and nobody: backups, restores, checks and other prunes may run meanwhile. Where a session is at work that
/// may rely on what is to be deleted, it leaves a notice, and a later prune goes on from there. Stopped anywhere, it loses
/// nothing, and the next prune goes on.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`]: something that a snapshot needs is not there, or a snapshot does not open, so that
/// nobody knows what it needs. [`Error::Conflict`]: another prune took this one for dead. Nothing was deleted then.
/// [`Error::Store`]: the next prune goes on.
///
/// [`Error::Missing`]: crate::Error::Missing
/// [`Error::Damaged`]: crate::Error::Damaged
/// [`Error::Conflict`]: crate::Error::Conflict
/// [`Error::Store`]: crate::Error::Store
pub async fn prune(repository: &Repository, options: &PruneOptions, progress: &dyn Progress) -> Result<PruneReport> {
    let mut lookout = Lookout::begin(repository).await?;
    loop {
        // Damage is met before anything is deleted, so each try begins as the first did, as a session of its own.
        match prune_once(repository, options, progress).await {
            Err(error) if error.is_damage() && lookout.is_disturbed().await? => {}
            outcome => return outcome,
        }
    }
}

async fn prune_once(repository: &Repository, options: &PruneOptions, progress: &dyn Progress) -> Result<PruneReport> {
    let mut session = Session::start(repository, "prune", &options.host, "").await?;
    let pruner = Pruner::create(repository, options, (session.id(), session.in_doubt()), progress);
    let outcome = session.refresh_while(&AtomicU64::new(0), protocol::prune(&pruner)).await;
    let mut fenced = Vec::new();
    if matches!(outcome, Ok(Outcome::Nothing)) {
        // Nobody had to be fenced for anything to be deleted: it only clears up.
        fenced = pruner.fence_the_dead().await.unwrap_or_default();
    }
    if outcome.is_ok() {
        // Marks and files that were left behind; they are in nobody's way, so a failure is none of this prune's.
        let _ = session::sweep(repository, session.id()).await;
        // As above.
        let _ = repository.store.sweep().await;
    }
    session.end().await;
    let mut report = pruner.report(outcome?)?;
    report.fenced.append(&mut fenced);
    Ok(report)
}
