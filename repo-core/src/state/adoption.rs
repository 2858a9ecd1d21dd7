//! Makes use of what an interrupted run left behind.
//!
//! A run that dies before it commits leaves packs, and fragments that never count. The next one lists those packs in
//! fragments of its own, and then they count with its decision. It does not matter to it what became of the other run, or
//! becomes of it: nobody needs to be fenced for it, nor to look dead. Why that is safe:
//!
//! - A pack is what it is, whoever wrote it: it is written once, its name is its hash, and a run that fails or is fenced
//!   deletes none. Should the other run commit after all, two fragments say the same of the same pack.
//! - A prune may have condemned it, since no fragment that counts names it. The adopter put its mark, then listed the notices,
//!   then the fragments, as for everything else that it relies on: a pack that a notice names by then is left alone, and a
//!   prune whose notice comes later sees the adopter's mark, and waits for it or fences it.
//! - A pack goes before its notice does, and the packs were listed after the notices: one that was condemned and deleted,
//!   with its notice, is not in the adopter's listing.
//! - A delta is relied on only where all that it needs lies in shallower blobs that the adopter's own index knows, so no way
//!   of decoding goes in a circle, and what the index knows is safe for the reasons above.
//! - What is listed is what the packs hold, deltas included that can't be decoded: so it does not matter which of several
//!   fragments that list a pack is believed.

use super::ground::Ground;
use super::loader::Loaded;
use crate::format::pack::PackContents;
use crate::words::error::{Error, Result};
use crate::words::id::ChunkId;
use std::collections::{HashMap, HashSet};

/// Adds to the index what runs have stored that did not commit, and returns it: the caller lists it in fragments of its own,
/// all of it, before it commits. The index was loaded by [`load_to_add`](super::loader::load_to_add).
///
/// # Errors
/// [`Error::Store`]. A fragment that does not open is left where it is.
pub async fn adopt(ground: &impl Ground, loaded: &mut Loaded) -> Result<Vec<PackContents>> {
    // A notice that does not open may name any pack.
    let Some(condemned) = &loaded.condemned else { return Ok(Vec::new()) };
    let mut packs: Vec<PackContents> = Vec::new();
    let mut seen = HashSet::new();
    for name in &loaded.uncounted {
        match ground.fragment(*name).await {
            Ok(contents) => packs.extend(contents.into_iter().flatten().filter(|pack| seen.insert(pack.info.id))),
            Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    packs.retain(|PackContents { info, .. }| {
        loaded.packs.has(info) && !condemned.contains(&info.id) && !loaded.index.has_pack(&info.id)
    });
    let mut readable = packs.clone();
    hide_unreadable(&mut readable, |id| loaded.index.depth_of(id));
    for pack in &readable {
        loaded.index.add(pack);
    }
    Ok(packs)
}

/// Hides the deltas that can't be decoded by way of shallower blobs of these packs and of the index.
fn hide_unreadable(packs: &mut [PackContents], depth_of: impl Fn(&ChunkId) -> Option<u8>) {
    let mut deltas = Vec::new();
    let mut depths: HashMap<ChunkId, u8> = HashMap::new();
    for (pack, contents) in packs.iter().enumerate() {
        for (blob, entry) in contents.blobs.iter().enumerate() {
            match entry.depth {
                0 => depths.extend(entry.chunks.iter().map(|chunk| (chunk.id, 0))),
                depth => deltas.push((depth, pack, blob)),
            }
        }
    }
    deltas.sort_unstable();
    for (depth, pack, blob) in deltas {
        let entry = &mut packs[pack].blobs[blob];
        let is_shallower = |id: &ChunkId| {
            let there = [depth_of(id), depths.get(id).copied()];
            there.into_iter().flatten().any(|base| base < depth)
        };
        if entry.bases.iter().all(|base| is_shallower(&base.id)) {
            for chunk in &entry.chunks {
                depths.entry(chunk.id).or_insert(depth);
            }
        } else {
            *entry = entry.hidden();
        }
    }
}
