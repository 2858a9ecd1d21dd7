//! Copies snapshots to another repository, which then holds complete dumps of its own.
//!
//! Every snapshot is a session of its own in the other repository, committed as a backup is: whatever ends a copy, what it
//! committed stands, and what it had stored besides is used by the next one. A copy remembers where it comes from, its
//! *origin*, and so is made once, also by way of a third repository, and back.
//!
//! Where both repositories name chunks alike (`CreateOptions::like`), blobs move as they were encoded, and only chunks
//! travel that the other one lacks (`shared`). Elsewhere nobody can tell which those are without the dump: it is restored
//! here and backed up there, cut and named as there (`anew`).

mod anew;
mod shared;

use crate::crafts::compress::Compression;
use crate::edges::progress::{Event, Progress};
use crate::format::names::FORGOTTEN;
use crate::format::snapshot::{SnapshotRecord, StreamRecord, Totals};
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Snapshot};
use crate::words::error::{Error, Result};
use crate::words::id::{PackId, SnapshotId};
use crate::words::limits::READS_MAX;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{HashMap, HashSet, VecDeque};

/// How snapshots are copied.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CopyOptions {
    /// The host that copies, for the marks of its sessions.
    pub host: String,
    /// How what is encoded anew is compressed.
    pub compression: Compression,
}

impl CopyOptions {
    /// Returns the options for a copy that this host makes, the rest at safe defaults.
    pub fn new(host: impl Into<String>) -> Self {
        CopyOptions { host: host.into(), compression: Compression::Auto }
    }
}

/// What a copy would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyPlan {
    /// Snapshots to copy, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Snapshots that are there already.
    pub there_n: u64,
    /// Snapshots whose copies were forgotten there.
    pub forgotten_n: u64,
    /// Whether both repositories name chunks alike, so that blobs move as they are.
    pub names_alike: bool,
    /// Snapshots there that do not open: whatever they were copied from is copied again.
    pub problems: Vec<String>,
    /// The snapshots that stand there, by what they are copies of.
    copies: HashMap<SnapshotId, SnapshotId>,
}

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// The copies, as they stand in the other repository.
    pub copied: Vec<Snapshot>,
    /// Snapshots that could not be read, each with the reason; the others were copied all the same.
    pub failed: Vec<(SnapshotId, String)>,
    /// What was wrong in either repository and did not hinder the copy; `check` says more.
    pub problems: Vec<String>,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
}

/// Says which of these snapshots of `from` are still to be copied to `to`.
///
/// A snapshot whose copy was forgotten there is left out, unless `again`: the other repository may keep less.
///
/// # Errors
/// [`Error::Invalid`]: both are one repository. [`Error::Store`].
pub async fn plan_copy(
    from: &Repository,
    to: &Repository,
    mut snapshots: Vec<Snapshot>,
    again: bool,
) -> Result<CopyPlan> {
    if from.id() == to.id() {
        return Err(Error::Invalid(format!(
            "{} and {} are the same repository; copy to another one, made with `dedump init`",
            from.location(),
            to.location()
        )));
    }
    let there = snapshots::load(to).await?;
    let copies: HashMap<_, _> = there.standing.iter().map(|snapshot| (origin(snapshot), snapshot.id)).collect();
    let problems = there.unreadable.iter().map(|(_, error)| error.to_string()).collect();
    let mut plan = CopyPlan { names_alike: from.keys.names_alike(&to.keys), copies, problems, ..CopyPlan::default() };
    let listed_n = snapshots.len();
    snapshots.retain(|snapshot| !plan.copies.contains_key(&origin(snapshot)));
    plan.there_n = (listed_n - snapshots.len()) as u64;
    if !again && !snapshots.is_empty() {
        let (forgotten, listed_n) = (forgotten(to).await?, snapshots.len());
        snapshots.retain(|snapshot| !forgotten.contains(&origin(snapshot)));
        plan.forgotten_n = (listed_n - snapshots.len()) as u64;
    }
    snapshots.sort_by_key(|snapshot| (snapshot.record.started_ms, snapshot.id));
    plan.snapshots = snapshots;
    Ok(plan)
}

/// Returns the snapshot that this one is a copy of, in the end: itself if it is none.
fn origin(snapshot: &Snapshot) -> SnapshotId {
    snapshot.record.origin.unwrap_or(snapshot.id)
}

/// Returns what the forgotten snapshots of a repository were copies of, or were.
async fn forgotten(repository: &Repository) -> Result<HashSet<SnapshotId>> {
    let ids = snapshots::list_ids(repository, FORGOTTEN).await?;
    let origins = stream::iter(ids).map(|id| async move {
        match snapshots::read_tombstone(repository, id).await {
            Ok(tombstone) => Ok(tombstone.and_then(|tombstone| tombstone.origin).unwrap_or(id)),
            // It says nothing, so it keeps nothing from being copied but what had its own id.
            Err(error) if error.is_damage() => Ok(id),
            Err(error) => Err(error),
        }
    });
    origins.buffer_unordered(READS_MAX).try_collect().await
}

/// What every part of a copy needs.
struct Job<'a> {
    from: &'a Repository,
    to: &'a Repository,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
}

/// A snapshot could not be read where it is.
struct SourceFailure {
    /// The pack to blame, where it is known.
    pack: Option<PackId>,
    error: Error,
}

/// Attempts to move a snapshot's blobs before it is restored and backed up instead: that reader finds chunks in more places.
const ATTEMPTS_MAX: u32 = 2;

/// Copies the snapshots of a plan, oldest first. A snapshot that can't be read is in the report, and hinders no other.
///
/// Must run inside a tokio runtime with its timer on. Dropped, it leaves the copies that it committed, and what it stored
/// besides is used by the next copy. Memory is bounded as that of a backup and a restore at once, plus both indexes.
///
/// # Errors
/// [`Error::Store`], of either repository; [`Error::Conflict`]: another process took this one for dead. What was copied
/// before stands, and doing it again goes on.
pub async fn copy(
    from: &Repository,
    to: &Repository,
    plan: &CopyPlan,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<CopyReport> {
    let job = Job { from, to, options, progress };
    let mut report = CopyReport { problems: plan.problems.clone(), ..CopyReport::default() };
    let mut copies = plan.copies.clone();
    let mut pending: VecDeque<&Snapshot> = plan.snapshots.iter().collect();
    let (mut avoided, mut attempts_n) = (HashSet::new(), 0);
    progress.event(Event::Planned { objects_n: pending.len() as u64, bytes: 0 });
    while let Some(next) = pending.front().copied() {
        let before_n = report.copied.len();
        let failure = if plan.names_alike && attempts_n < ATTEMPTS_MAX {
            shared::copy_batch(&job, pending.make_contiguous(), &avoided, &mut copies, &mut report).await?
        } else {
            anew::copy_one(&job, next, &mut copies, &mut report).await?
        };
        let copied_n = report.copied.len() - before_n;
        pending.drain(..copied_n);
        attempts_n = if copied_n > 0 { 0 } else { attempts_n };
        let Some(SourceFailure { pack, error }) = failure else { continue };
        avoided.extend(pack);
        attempts_n += 1;
        if !plan.names_alike || attempts_n > ATTEMPTS_MAX {
            let failed = pending.pop_front().expect("one failed");
            report.failed.push((failed.id, error.to_string()));
            progress.event(Event::Done { bytes: 0 });
            attempts_n = 0;
        }
    }
    Ok(report)
}

/// Returns the record of a copy: what the dump was stays, what it cost is new.
fn record(
    snapshot: &Snapshot,
    streams: Vec<StreamRecord>,
    (fragments_n, totals): (u32, Totals),
    copies: &HashMap<SnapshotId, SnapshotId>,
) -> SnapshotRecord {
    SnapshotRecord {
        parent: snapshot.record.parent.and_then(|parent| copies.get(&parent).copied()),
        origin: Some(origin(snapshot)),
        streams,
        fragments_n,
        totals,
        ..snapshot.record.clone()
    }
}

/// Notes a copy that was committed.
fn note(job: &Job<'_>, copy: Snapshot, copies: &mut HashMap<SnapshotId, SnapshotId>, report: &mut CopyReport) {
    copies.insert(origin(&copy), copy.id);
    report.copied.push(copy);
    job.progress.event(Event::Done { bytes: 0 });
}
