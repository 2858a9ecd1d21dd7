//! Counts what is stored, and what it stands for.

use crate::edges::progress::{Event, Progress};
use crate::format::names::PackKind;
use crate::format::node::{ChildEntry, Node};
use crate::format::snapshot::Totals;
use crate::operations::find::Filter;
use crate::state::fetch::Fetcher;
use crate::state::index::DepthStats;
use crate::state::loader;
use crate::state::manifest::read_node;
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Snapshot};
use crate::words::error::Result;
use crate::words::id::ChunkId;
use std::collections::HashSet;

/// What the snapshots take together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsReport {
    /// Snapshots counted.
    pub snapshots: Vec<Snapshot>,
    /// Bytes of all their streams: what they would take without dedump.
    pub bytes: u64,
    /// Different chunks that they need.
    pub chunks_n: u64,
    /// Bytes of those, before compression: what deduplication leaves.
    pub chunk_bytes: u64,
    /// Different manifest nodes that they need.
    pub nodes_n: u64,
    /// All packs of chunks in the store, and their bytes.
    pub data_packs: (u64, u64),
    /// All packs of manifest nodes in the store, and their bytes.
    pub meta_packs: (u64, u64),
    /// All index fragments in the store, and their bytes.
    pub fragments: (u64, u64),
    /// What all packs of chunks hold, by depth: first what was compressed without a base, then deltas against that, and so on.
    pub depths: Vec<DepthStats>,
    /// Bytes that all backups added, by the snapshots' own totals.
    pub totals: Totals,
}

impl StatsReport {
    /// Returns what compression without a base saved, and what compression against other chunks saved, in bytes.
    pub fn saved_bytes(&self) -> (u64, u64) {
        let saved = |depths: &[DepthStats]| {
            depths.iter().map(|depth| depth.plain_bytes.saturating_sub(depth.stored_bytes)).sum()
        };
        let (whole, deltas) = self.depths.split_at(self.depths.len().min(1));
        (saved(whole), saved(deltas))
    }

    /// Returns all bytes that are stored: packs and index.
    pub fn stored_bytes(&self) -> u64 {
        self.data_packs.1 + self.meta_packs.1 + self.fragments.1
    }
}

/// Counts the snapshots that a filter means. Opens no manifest node twice.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing), [`Error::Damaged`](crate::Error::Damaged),
/// [`Error::Store`](crate::Error::Store).
pub async fn stats(repository: &Repository, filter: &Filter, progress: &dyn Progress) -> Result<StatsReport> {
    let snapshots = snapshots::load(repository).await?;
    let loaded = loader::load(repository).await?;
    let mut report = StatsReport::default();
    for (kind, _, bytes) in loaded.packs.sorted() {
        let packs = match kind {
            PackKind::Data => &mut report.data_packs,
            PackKind::Meta => &mut report.meta_packs,
        };
        *packs = (packs.0 + 1, packs.1 + bytes);
    }
    for listed in repository.store.list(crate::format::names::INDEX).await? {
        report.fragments = (report.fragments.0 + 1, report.fragments.1 + listed.bytes);
    }
    report.depths = loaded.index.depths(PackKind::Data);
    report.snapshots = snapshots.standing.into_iter().filter(|snapshot| filter.matches(snapshot)).collect();
    progress.event(Event::Planned { objects_n: report.snapshots.len() as u64, bytes: 0 });
    let fetcher = Fetcher::create(repository, loaded.index);
    let mut seen = Seen::default();
    for snapshot in &report.snapshots {
        report.bytes += snapshot.record.totals.bytes;
        add(&mut report.totals, &snapshot.record.totals);
        for stream in &snapshot.record.streams {
            let root = ChildEntry { id: stream.root, bytes: stream.bytes, chunks_n: stream.chunks_n };
            seen.walk(&fetcher, root, stream.root_level).await?;
        }
        progress.event(Event::Done { bytes: 0 });
    }
    report.chunks_n = seen.chunks.len() as u64;
    report.chunk_bytes = seen.chunk_bytes;
    report.nodes_n = seen.nodes.len() as u64;
    Ok(report)
}

fn add(sum: &mut Totals, one: &Totals) {
    sum.bytes += one.bytes;
    sum.chunks_n += one.chunks_n;
    sum.chunks_new_n += one.chunks_new_n;
    sum.bytes_new += one.bytes_new;
    sum.nodes_new_n += one.nodes_new_n;
    sum.bytes_added += one.bytes_added;
    sum.bytes_added_meta += one.bytes_added_meta;
    sum.bytes_stored_whole += one.bytes_stored_whole;
    sum.chunks_delta_n += one.chunks_delta_n;
    sum.bytes_delta += one.bytes_delta;
    sum.bytes_stored_delta += one.bytes_stored_delta;
    sum.bytes_read_back += one.bytes_read_back;
    sum.depths.resize(sum.depths.len().max(one.depths.len()), 0);
    sum.depths.iter_mut().zip(&one.depths).for_each(|(sum, one)| *sum += one);
}

#[derive(Default)]
struct Seen {
    nodes: HashSet<ChunkId>,
    chunks: HashSet<ChunkId>,
    chunk_bytes: u64,
}

impl Seen {
    async fn walk(&mut self, fetcher: &Fetcher, root: ChildEntry, level: u8) -> Result<()> {
        let mut pending = vec![(root, level)];
        while let Some((child, level)) = pending.pop() {
            if !self.nodes.insert(child.id) {
                continue;
            }
            match read_node(fetcher, &child, level).await? {
                Node::Inner { children, .. } => pending.extend(children.into_iter().map(|child| (child, level - 1))),
                Node::Leaf { entries, .. } => {
                    for entry in entries {
                        if self.chunks.insert(entry.id) {
                            self.chunk_bytes += u64::from(entry.plain_bytes);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
