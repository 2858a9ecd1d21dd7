//! Chooses the packs to condemn.

use super::PruneOptions;
use crate::format::names::{FragmentName, PackKind};
use crate::state::census::{Census, Survey, Usage};
use crate::words::id::PackId;
use crate::words::limits::{FRAGMENT_CHUNKS_TARGET, FRAGMENT_SMALL_SHARE, FRAGMENTS_SMALL_MAX};
use std::collections::BTreeSet;

/// How much of the packs may stay unused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So many of a hundred bytes.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
}

impl Default for MaxUnused {
    fn default() -> Self {
        MaxUnused::Percent(5.0)
    }
}

/// What a prune is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrunePlan {
    /// Snapshots that stand.
    pub snapshots_n: u64,
    /// Manifest nodes that were opened to see what they need.
    pub nodes_n: u64,
    /// Packs that are there, and their bytes.
    pub packs_n: u64,
    /// Their bytes.
    pub packs_bytes: u64,
    /// Bytes of them that no snapshot needs.
    pub unused_bytes: u64,
    /// Packs to delete: those that are chosen now, and those that earlier prunes condemned.
    pub deleted_packs_n: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Those of them that an interrupted run left behind.
    pub orphans_n: u64,
    /// Chunks and nodes in them that are needed, and are stored anew first.
    pub rescued_chunks_n: u64,
    /// Bytes that are read for that.
    pub read_bytes: u64,
    /// About so many bytes are written for that.
    pub rescued_bytes: u64,
    /// About so many bytes are freed.
    pub freed_bytes: u64,
    /// About so many bytes stay unused.
    pub unused_after_bytes: u64,
    /// Packs that stay because there is no room to store anew what is needed of them, and for nothing else.
    pub no_room_n: u64,
    /// Small index fragments that are repeated in fewer.
    pub merged_fragments_n: u64,
    /// Requests that applying it takes, about.
    pub requests_n: u64,
}

/// A pack that counts.
struct Candidate {
    id: (PackKind, PackId),
    bytes: u64,
    needed_bytes: u64,
    usage: Usage,
}

impl Candidate {
    fn unused_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.needed_bytes)
    }
}

/// Chooses packs that nobody needs, and then those of which the smallest share is needed, until little enough stays unused,
/// or until there is no room to store anew what is needed of them: nothing is deleted before that is done.
pub(super) fn choose<S>(
    survey: &Survey<S>,
    options: &PruneOptions,
    orphans: &[(PackKind, PackId, u64)],
    room_bytes: Option<u64>,
) -> (BTreeSet<(PackKind, PackId)>, PrunePlan) {
    let Survey { census, needed, condemned, .. } = survey;
    let usage = census.usage(needed);
    let infos = census.index().packs().iter().zip(usage);
    let all: Vec<Candidate> = infos
        .map(|(info, usage)| {
            // Header and trailer go the way of the blobs.
            let share = u128::from(info.bytes) * u128::from(usage.needed_bytes);
            let needed_bytes = (share / u128::from(usage.blobs_bytes.max(1))) as u64;
            Candidate { id: (info.kind, info.id), bytes: info.bytes, needed_bytes, usage }
        })
        .collect();
    let (doomed, mut others): (Vec<_>, Vec<_>) = all.iter().partition(|pack| condemned.contains(&pack.id.1));
    let mut plan = PrunePlan {
        packs_n: (all.len() + orphans.len()) as u64,
        packs_bytes: all.iter().map(|pack| pack.bytes).chain(orphans.iter().map(|(.., bytes)| *bytes)).sum(),
        orphans_n: orphans.len() as u64,
        ..PrunePlan::default()
    };
    plan.unused_bytes = all.iter().map(Candidate::unused_bytes).chain(orphans.iter().map(|(.., bytes)| *bytes)).sum();
    let needed_bytes: u64 = all.iter().map(|pack| pack.needed_bytes).sum();
    let allowed_bytes = match options.max_unused {
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Percent(percent) if percent >= 100.0 => u64::MAX,
        // Of what will be there, unused bytes included.
        MaxUnused::Percent(percent) => (needed_bytes as f64 * percent / (100.0 - percent)) as u64,
    };
    others.sort_by(|a, b| {
        let share = |pack: &Candidate| pack.needed_bytes as f64 / pack.bytes.max(1) as f64;
        share(a).total_cmp(&share(b)).then(a.id.cmp(&b.id))
    });
    let mut unused_bytes: u64 = others.iter().map(|pack| pack.unused_bytes()).sum();
    let mut repacked_bytes: u64 = doomed.iter().map(|pack| pack.needed_bytes).sum();
    let mut chosen: BTreeSet<_> = orphans.iter().map(|(kind, id, _)| (*kind, *id)).collect();
    let mut deleted: Vec<&Candidate> = doomed;
    for pack in others {
        let is_dead = pack.usage.needed_chunks_n == 0;
        let fits = |max: Option<u64>| max.is_none_or(|max| repacked_bytes + pack.needed_bytes <= max);
        let is_wanted = unused_bytes > allowed_bytes && pack.unused_bytes() > 0 && fits(options.max_repack_bytes);
        plan.no_room_n += u64::from(!is_dead && is_wanted && !fits(room_bytes));
        if is_dead || (is_wanted && fits(room_bytes)) {
            unused_bytes -= pack.unused_bytes();
            repacked_bytes += pack.needed_bytes;
            chosen.insert(pack.id);
            deleted.push(pack);
        }
    }
    plan.deleted_packs_n = (deleted.len() + orphans.len()) as u64;
    plan.deleted_bytes = deleted.iter().map(|pack| pack.bytes).chain(orphans.iter().map(|(.., bytes)| *bytes)).sum();
    plan.rescued_chunks_n = deleted.iter().map(|pack| pack.usage.needed_chunks_n).sum();
    plan.rescued_bytes = repacked_bytes;
    plan.freed_bytes = plan.deleted_bytes.saturating_sub(repacked_bytes);
    plan.unused_after_bytes = unused_bytes;
    (chosen, plan)
}

/// The small fragments, if there are so many that it is worth merging them.
pub(super) fn small_fragments(census: &Census) -> BTreeSet<FragmentName> {
    let is_small = |(_, chunks_n): &(&FragmentName, &u64)| {
        **chunks_n * (FRAGMENT_SMALL_SHARE as u64) < FRAGMENT_CHUNKS_TARGET as u64
    };
    let small: BTreeSet<_> = census.loaded.chunks_n_of.iter().filter(is_small).map(|(name, _)| *name).collect();
    if small.len() > FRAGMENTS_SMALL_MAX { small } else { BTreeSet::new() }
}

/// The packs that are there and that nothing that counts names.
pub(super) fn orphans(census: &Census) -> Vec<(PackKind, PackId, u64)> {
    let mut packs = census.loaded.packs.sorted();
    packs.retain(|(_, id, _)| !census.loaded.fragments_of.contains_key(id));
    packs
}
