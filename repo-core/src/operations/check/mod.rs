//! Looks for damage: reads what others rely on, names what does not hold, and which snapshots it hurts. Changes nothing.
//!
//! Structure: every small object's seal and record, every snapshot's manifest down to its chunks, every chunk's place in
//! a pack that is there and has its length, and likewise the bases of every delta. With data: every blob of the chosen
//! packs, opened, inflated and hashed, deltas with all that their chains need.

mod deltas;
mod manifests;
mod objects;
mod packs;

use super::lookout::Lookout;
use crate::edges::progress::Progress;
use crate::state::fetch::Fetcher;
use crate::state::loader::{self, Loaded};
use crate::state::repository::Repository;
use crate::state::snapshots;
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use std::collections::{BTreeMap, BTreeSet};

/// How much of the data is read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum ReadData {
    /// None: structure only.
    #[default]
    Nothing,
    /// All packs.
    All,
    /// A share of the packs, other ones with every seed.
    Share {
        /// In per cent, above 0 and up to 100.
        percent: f64,
        /// Decides which packs.
        seed: u64,
    },
    /// One of so many parts: all parts together are all packs.
    Part {
        /// Which part, from 1.
        part: u32,
        /// Of how many.
        parts_n: u32,
    },
}

/// What kind of damage it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// A key slot does not open under the repository's keys.
    SlotDamaged,
    /// A snapshot does not open.
    SnapshotDamaged,
    /// A session's mark does not open.
    SessionDamaged,
    /// A merge, fence or tombstone does not open.
    DecisionDamaged,
    /// A prune's notice does not open.
    NoticeDamaged,
    /// A hold on a snapshot does not open.
    HoldDamaged,
    /// A decision is gone by which packs counted that standing snapshots need.
    DecisionMissing,
    /// An index fragment does not open.
    FragmentDamaged,
    /// An index fragment that was written is not there.
    FragmentMissing,
    /// A pack that is needed is not there, or has another length.
    PackMissing,
    /// A pack's bytes are not those that were written.
    PackDamaged,
    /// A manifest node is nowhere.
    NodeMissing,
    /// A manifest node is not what it was.
    NodeDamaged,
    /// A chunk is nowhere.
    ChunkMissing,
    /// A chunk is not what it was.
    ChunkDamaged,
    /// A blob was compressed against others, and what it says of them can't be, or it does not decode.
    ChainDamaged,
}

impl FindingKind {
    /// Returns its name, as documented for `--json`.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::SlotDamaged => "slot-damaged",
            FindingKind::SnapshotDamaged => "snapshot-damaged",
            FindingKind::SessionDamaged => "session-damaged",
            FindingKind::DecisionDamaged => "decision-damaged",
            FindingKind::NoticeDamaged => "notice-damaged",
            FindingKind::HoldDamaged => "hold-damaged",
            FindingKind::DecisionMissing => "decision-missing",
            FindingKind::FragmentDamaged => "fragment-damaged",
            FindingKind::FragmentMissing => "fragment-missing",
            FindingKind::PackMissing => "pack-missing",
            FindingKind::PackDamaged => "pack-damaged",
            FindingKind::NodeMissing => "node-missing",
            FindingKind::NodeDamaged => "node-damaged",
            FindingKind::ChunkMissing => "chunk-missing",
            FindingKind::ChunkDamaged => "chunk-damaged",
            FindingKind::ChainDamaged => "chain-damaged",
        }
    }

    /// Returns what to do about it, in one line.
    pub fn advice(self) -> &'static str {
        match self {
            FindingKind::SlotDamaged => "remove the key slot and add the key anew, while another still opens",
            FindingKind::SnapshotDamaged => {
                "put a copy of the object back, its data is still there; or forget the snapshot"
            }
            FindingKind::SessionDamaged => "harmless; it goes with the next prune",
            FindingKind::DecisionDamaged => {
                "put a copy of the object back; or run `dedump reindex`, and then delete the object while no backup is at work"
            }
            FindingKind::NoticeDamaged => "run `dedump prune`; until then backups store everything anew",
            FindingKind::HoldDamaged => "it still holds its snapshot; hold that anew, or release it",
            FindingKind::DecisionMissing | FindingKind::FragmentDamaged | FindingKind::FragmentMissing => {
                "run `dedump reindex`"
            }
            FindingKind::PackMissing => {
                "put a copy of the pack back; or back up again, which stores anew what the source still has"
            }
            FindingKind::PackDamaged => {
                "put a copy of the pack back; or move it away and back up again, which stores anew what the source still has"
            }
            FindingKind::NodeMissing | FindingKind::NodeDamaged => {
                "put a copy of the pack back, or run `dedump reindex` if the index was damaged"
            }
            FindingKind::ChunkMissing => "back up again, which stores anew what the source still has",
            FindingKind::ChunkDamaged => "run check with all data, which names the pack",
            FindingKind::ChainDamaged => {
                "put a copy of the pack back; or move it away and back up again, which stores anew what the source still has"
            }
        }
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of damage it is.
    pub kind: FindingKind,
    /// The object: its name in the store, or `chunk 0011aabb`, `node 0011aabb`.
    pub object: String,
    /// What does not hold.
    pub why: String,
    /// Snapshots that can't be restored whole because of it.
    pub snapshots: BTreeSet<SnapshotId>,
}

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What does not hold; empty if all is well. Of many like ones below one cause, the cause alone.
    pub findings: Vec<Finding>,
    /// What is worth knowing and is no damage: runs under way, packs of interrupted ones.
    pub notes: Vec<String>,
    /// Snapshots that stand.
    pub snapshots_n: u64,
    /// Different manifest nodes that were opened.
    pub nodes_n: u64,
    /// Different chunks that snapshots need.
    pub chunks_n: u64,
    /// Packs that are there.
    pub packs_n: u64,
    /// Packs whose data was read.
    pub packs_read_n: u64,
    /// Bytes of those.
    pub bytes_read: u64,
}

/// Findings under way: one an object and kind, with all the snapshots that it hurts.
#[derive(Default)]
struct Findings(BTreeMap<(FindingKind, String), (String, BTreeSet<SnapshotId>)>);

impl Findings {
    fn add(&mut self, kind: FindingKind, object: impl Into<String>, why: impl Into<String>) {
        self.0.entry((kind, object.into())).or_insert_with(|| (why.into(), BTreeSet::new()));
    }

    /// Notes an error about an object; what is no damage is the store's failure, and ends the check.
    fn add_error(&mut self, kind: FindingKind, object: &str, error: Error) -> Result<()> {
        let why = match error {
            Error::Damaged { why, .. } | Error::Missing { why, .. } => why,
            newer @ Error::NewerFormat { .. } => newer.to_string(),
            other => return Err(other),
        };
        self.add(kind, object, why);
        Ok(())
    }

    fn hurts(&mut self, kind: FindingKind, object: &str, snapshot: SnapshotId) {
        if let Some((_, snapshots)) = self.0.get_mut(&(kind, object.to_owned())) {
            snapshots.insert(snapshot);
        }
    }
}

/// Checks the repository.
///
/// Opens no manifest node twice. Memory: the index, 33 bytes or so a different chunk and node, some bytes a delta, and with
/// data some packs and 200 bytes or so a chunk in deltas.
///
/// # Errors
/// [`Error::Store`]: the store failed, which is no damage. [`Error::Invalid`]: an impossible share or part. Damage is in
/// the report, never an error.
pub async fn check(repository: &Repository, read_data: ReadData, progress: &dyn Progress) -> Result<CheckReport> {
    packs::check_choice(read_data)?;
    // What is judged is the store: nothing of it may be taken from anywhere else.
    let repository = &repository.without_cache();
    let mut lookout = Lookout::begin(repository).await?;
    loop {
        let report = check_once(repository, read_data, progress).await?;
        // What a prune deleted meanwhile is no damage: then it is looked at again, as it is now.
        if report.findings.is_empty() || !lookout.is_disturbed().await? {
            return Ok(report);
        }
    }
}

async fn check_once(repository: &Repository, read_data: ReadData, progress: &dyn Progress) -> Result<CheckReport> {
    let (mut findings, mut report) = (Findings::default(), CheckReport::default());
    // Snapshots before the index, as in every reader: what a snapshot needs was in the index before it.
    let snapshots = snapshots::load(repository).await?;
    let loaded = loader::load_as_listed(repository).await?;
    report.snapshots_n = snapshots.standing.len() as u64;
    report.packs_n = loaded.packs.sorted().len() as u64;

    objects::check(repository, &snapshots, &loaded, &mut findings, &mut report.notes).await?;
    let Loaded { index, packs, lost, uncounted, fragments_of, .. } = loaded;
    let fetcher = Fetcher::create(repository, index);
    let damaged = packs::check(&fetcher, &packs, read_data, progress, (&mut findings, &mut report)).await?;
    let mut walk = manifests::Walk::create(&fetcher, &lost, &damaged, &fragments_of, &mut findings);
    for snapshot in &snapshots.standing {
        walk.snapshot(snapshot).await?;
    }
    (report.nodes_n, report.chunks_n) = walk.totals();
    let uncounted_needed = walk.into_uncounted_needed();
    objects::check_undecided(repository, &uncounted, &uncounted_needed, (&mut findings, &mut report.notes)).await?;
    let finding = |((kind, object), (why, snapshots))| Finding { kind, object, why, snapshots };
    report.findings = findings.0.into_iter().map(finding).collect();
    Ok(report)
}
