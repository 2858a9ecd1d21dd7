//! The snapshots: every manifest is walked down to its chunks, and no node is opened twice.

use super::packs::{Cause, DamagedChunks};
use super::{FindingKind, Findings};
use crate::format::contents::BaseEntry;
use crate::format::names::{self, FragmentName};
use crate::format::node::{ChildEntry, LeafEntry, Node};
use crate::state::chains;
use crate::state::fetch::Fetcher;
use crate::state::index::{BlobKey, Found, Index};
use crate::state::manifest::read_node;
use crate::state::snapshots::Snapshot;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use crate::words::limits::DELTA_DEPTH_MAX;
use std::collections::{HashMap, HashSet};

/// A walk over manifests that share nodes.
pub(super) struct Walk<'a> {
    fetcher: &'a Fetcher,
    /// What packs that are gone held.
    lost: &'a Index,
    damaged: &'a DamagedChunks,
    /// Packs that a counted fragment names.
    counted: &'a HashMap<PackId, Vec<FragmentName>>,
    /// Packs that are needed and that no counted fragment names.
    uncounted_needed: HashSet<PackId>,
    findings: &'a mut Findings,
    /// What is wrong below a node that was opened; nothing for most.
    nodes: HashMap<ChunkId, Vec<Cause>>,
    chunks: HashSet<ChunkId>,
    /// What is wrong with the chain of a delta that was looked at; nothing for most.
    chains: HashMap<BlobKey, Vec<Cause>>,
}

/// Below one node, causes beyond so many are not told apart: the snapshot is hurt, and the findings have them all.
const CAUSES_MAX: usize = 100;

/// Chains are followed this far: twice as far as they may be long when they are written, since chunks may move.
const CHAIN_WALK_MAX: u8 = 2 * DELTA_DEPTH_MAX;

impl<'a> Walk<'a> {
    pub(super) fn create(
        fetcher: &'a Fetcher,
        lost: &'a Index,
        damaged: &'a DamagedChunks,
        counted: &'a HashMap<PackId, Vec<FragmentName>>,
        findings: &'a mut Findings,
    ) -> Self {
        Walk {
            fetcher,
            lost,
            damaged,
            counted,
            uncounted_needed: HashSet::new(),
            findings,
            nodes: HashMap::new(),
            chunks: HashSet::new(),
            chains: HashMap::new(),
        }
    }

    /// Returns packs that are needed and that no counted fragment names: they were found by their own trailers.
    pub(super) fn into_uncounted_needed(self) -> HashSet<PackId> {
        self.uncounted_needed
    }

    fn note_place(&mut self, pack: PackId) {
        if !self.counted.contains_key(&pack) {
            self.uncounted_needed.insert(pack);
        }
    }

    /// Returns how many different nodes were opened and chunks were met.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.nodes.len() as u64, self.chunks.len() as u64)
    }

    pub(super) async fn snapshot(&mut self, snapshot: &Snapshot) -> Result<()> {
        for stream in &snapshot.record.streams {
            let root = ChildEntry { id: stream.root, bytes: stream.bytes, chunks_n: stream.chunks_n };
            for (kind, object) in self.node(root, stream.root_level).await? {
                self.findings.hurts(kind, &object, snapshot.id);
            }
        }
        Ok(())
    }

    /// Returns what is wrong below a node. The recursion is as deep as the tree: 9 levels at most.
    async fn node(&mut self, child: ChildEntry, level: u8) -> Result<Vec<Cause>> {
        if let Some(causes) = self.nodes.get(&child.id) {
            return Ok(causes.clone());
        }
        let node = read_node(self.fetcher, &child, level).await;
        if let Ok(found) = self.fetcher.locate(&child.id, "node").await {
            self.note_place(found.info.id);
        }
        let mut causes = match node {
            Ok(Node::Leaf { entries, .. }) => self.leaf(&entries).await?,
            Ok(Node::Inner { children, .. }) => {
                let mut causes = Vec::new();
                for child in children {
                    causes.extend(Box::pin(self.node(child, level - 1)).await?);
                }
                causes
            }
            Err(error) => vec![self.blame(&child.id, "node", error)?],
        };
        causes.sort();
        causes.dedup();
        causes.truncate(CAUSES_MAX);
        self.nodes.insert(child.id, causes.clone());
        Ok(causes)
    }

    async fn leaf(&mut self, entries: &[LeafEntry]) -> Result<Vec<Cause>> {
        let mut causes = Vec::new();
        for entry in entries {
            self.chunks.insert(entry.id);
            if let Some(cause) = self.damaged.get(&entry.id) {
                causes.push(cause.clone());
                continue;
            }
            match self.fetcher.locate(&entry.id, "chunk").await {
                Ok(found) if found.location.plain_bytes == entry.plain_bytes => {
                    self.note_place(found.info.id);
                    causes.extend(self.chain(&found, 0).await?);
                }
                Ok(found) => {
                    let object = format!("chunk {}", entry.id.short());
                    let bytes = found.location.plain_bytes;
                    let why = format!("it has {bytes} bytes, and {} in a manifest", entry.plain_bytes);
                    causes.push(self.blame(&entry.id, "chunk", Error::damaged(object, why))?);
                }
                Err(error) => causes.push(self.blame(&entry.id, "chunk", error)?),
            }
        }
        Ok(causes)
    }

    /// Returns what is wrong with the chain of a chunk's blob. The recursion is as deep as the chain, which has a bound.
    async fn chain(&mut self, found: &Found, below_n: u8) -> Result<Vec<Cause>> {
        if found.location.place.depth == 0 {
            return Ok(Vec::new());
        }
        if let Some(causes) = self.chains.get(&found.blob_key()) {
            return Ok(causes.clone());
        }
        if below_n > CHAIN_WALK_MAX {
            let error = Error::damaged(found.blob_name(), "its chain is too long");
            return Ok(vec![self.chain_finding(found, error)?]);
        }
        // Whoever comes by again while this is looked at has found a circle.
        let circle = (FindingKind::ChainDamaged, found.blob_name());
        self.chains.insert(found.blob_key(), vec![circle.clone()]);
        let mut causes = Vec::new();
        match chains::base_entries(self.fetcher, found).await {
            Ok(bases) => {
                for base in bases {
                    causes.extend(self.base(found, base, below_n).await?);
                }
            }
            Err(failure) => causes.push(self.chain_finding(found, failure.error)?),
        }
        if causes.contains(&circle) {
            self.findings.add(circle.0, circle.1, "it needs itself to be decoded");
        }
        causes.sort();
        causes.dedup();
        causes.truncate(CAUSES_MAX);
        self.chains.insert(found.blob_key(), causes.clone());
        Ok(causes)
    }

    async fn base(&mut self, found: &Found, base: BaseEntry, below_n: u8) -> Result<Vec<Cause>> {
        if let Some(cause) = self.damaged.get(&base.id) {
            return Ok(vec![cause.clone()]);
        }
        let place = match self.fetcher.locate(&base.id, "chunk").await {
            Ok(place) => place,
            Err(error) => return Ok(vec![self.blame(&base.id, "chunk", error)?]),
        };
        self.note_place(place.info.id);
        match chains::check_base(found, &base, &place) {
            Ok(()) => Box::pin(self.chain(&place, below_n + 1)).await,
            Err(failure) => Ok(vec![self.chain_finding(found, failure.error)?]),
        }
    }

    fn chain_finding(&mut self, found: &Found, error: Error) -> Result<Cause> {
        let object = found.blob_name();
        self.findings.add_error(FindingKind::ChainDamaged, &object, error)?;
        Ok((FindingKind::ChainDamaged, object))
    }

    /// Makes a finding of an error about a chunk or node; what is lost with its pack is the pack's finding.
    fn blame(&mut self, id: &ChunkId, what: &str, error: Error) -> Result<Cause> {
        let is_missing = matches!(error, Error::Missing { .. });
        let lost = self.lost.locate(id).map(|location| *self.lost.pack(location.pack));
        let (kind, object) = match (lost, self.damaged.get(id), what) {
            (Some(info), _, _) if is_missing => (FindingKind::PackMissing, names::pack(info.kind, info.id)),
            (_, Some(cause), _) => cause.clone(),
            (_, _, "node") if is_missing => (FindingKind::NodeMissing, format!("node {}", id.short())),
            (_, _, "node") => (FindingKind::NodeDamaged, format!("node {}", id.short())),
            _ if is_missing => (FindingKind::ChunkMissing, format!("chunk {}", id.short())),
            _ => (FindingKind::ChunkDamaged, format!("chunk {}", id.short())),
        };
        if kind == FindingKind::PackMissing {
            self.findings.add(kind, object.clone(), "snapshots need it, and it is not there or has another length");
        } else {
            self.findings.add_error(kind, &object, error)?;
        }
        Ok((kind, object))
    }
}
