//! What the processes do: little more than to call the core.

use super::ground::Model;
use super::scenario::{Role, Weakening, WriterPlan};
use super::store::{Decision, Reply, Request};
use super::world::*;
use dedump_core::internals::adoption::adopt;
use dedump_core::internals::ground::Ground;
use dedump_core::internals::index::Index;
use dedump_core::internals::loader::{self, Loaded, Rank};
use dedump_core::internals::protocol;
use dedump_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It did what it was for, or gave up as it may.
    Fine,
    /// It was fenced.
    Conflict,
    /// A reader did not get what a standing snapshot needs.
    Missed,
    /// A prune found that something is missing.
    PruneMissed,
    /// The core refused what the ground did for it.
    Refused,
}

/// Runs a process.
pub async fn run(model: &Model<'_>, role: &Role) -> Ended {
    match role {
        Role::Writer(plan) => of_run(model, writer(model, plan).await),
        Role::Prune => of_run(model, prune(model).await),
        Role::Reader => reader(model).await,
        Role::Forget(session) => {
            // Whether it ends well or not, nothing follows.
            let _ = forget(model, *session).await;
            Ended::Fine
        }
    }
}

fn of_run(model: &Model<'_>, result: Result<()>) -> Ended {
    match result {
        Err(Error::Conflict(_)) => Ended::Conflict,
        Err(Error::Missing { .. }) if !model.scenario.is_writer(model.me) => Ended::PruneMissed,
        Err(Error::System(_)) => Ended::Refused,
        _ => Ended::Fine,
    }
}

/// Takes the mark away, unless the decision may still take effect.
async fn end(model: &Model<'_>) {
    if !model.is_in_doubt() || model.scenario.weakening == Weakening::MarkOfDoubtTaken {
        // A mark that stays behind is harmless.
        let _ = model.change(Request::DeleteMark).await;
    }
}

// ---- Backup ----

async fn writer(model: &Model<'_>, plan: &WriterPlan) -> Result<()> {
    let weakening = model.scenario.weakening;
    if !matches!(weakening, Weakening::NoMark | Weakening::MarkAfterReading) {
        model.change(Request::PutMark).await?;
    }
    let result = write(model, plan).await;
    end(model).await;
    result
}

async fn write(model: &Model<'_>, plan: &WriterPlan) -> Result<()> {
    let weakening = model.scenario.weakening;
    let mut loaded = load(model).await?;
    let mut packs: Vec<Arc<Pack>> = Vec::new();
    if model.scenario.adopts {
        if weakening == Weakening::AdoptionOfCondemned {
            loaded.condemned = Some(HashSet::new());
        }
        packs = adopt(model, &mut loaded).await?.iter().map(|pack| Arc::new(pack_of(pack))).collect();
    }
    if weakening == Weakening::MarkAfterReading {
        model.change(Request::PutMark).await?;
    }
    let (mut missing, mut ways) = (Vec::new(), 1);
    for chunk in &plan.wants {
        if loaded.index.knows(&chunk_id(*chunk)) {
            continue;
        }
        let bases = plan.deltas.iter().filter(|(of, _)| of == chunk).map(|(_, base)| *base);
        let depth = |base| loaded.index.depth_of(&chunk_id(base)).map(|depth| delta(*chunk, depth + 1, &[base]));
        let delta = bases.filter_map(depth).next();
        ways = ways.max(1 + usize::from(delta.is_some()));
        missing.push((*chunk, delta));
    }
    // What it is about to store and to list: all that it retains of what it read.
    model.join(("writes", &missing, &packs));
    let way = if ways > 1 { model.way(ways).await } else { 0 };
    let blob =
        |(chunk, delta): &(Chunk, Option<Blob>)| delta.clone().filter(|_| way == 1).unwrap_or_else(|| whole(*chunk));
    let blobs: Vec<Blob> = missing.iter().map(blob).collect();
    let per_pack = if plan.splits { 1 } else { blobs.len().max(1) };
    for blobs in blobs.chunks(per_pack) {
        packs.push(model.put_pack(blobs.to_vec()).await?);
    }
    if !packs.is_empty() {
        model.change(Request::PutFragment(0, Arc::new(packs))).await?;
    }
    model.decide(Decision::Snapshot(plan.wants.iter().copied().collect())).await
}

async fn load(model: &Model<'_>) -> Result<Loaded> {
    match model.scenario.weakening {
        // Condemned packs are left out, and deltas that need them are not.
        Weakening::DeltasOfCondemned => {
            let notices = model.notices().await?;
            let named = |id: &_| {
                notices
                    .iter()
                    .any(|(_, packs)| packs.as_ref().is_ok_and(|packs| packs.iter().any(|(_, named)| named == id)))
            };
            let (loaded, ()) =
                loader::load_ranked(model, |id| if named(id) { Rank::Never } else { Rank::Equal }).await?;
            Ok(loaded)
        }
        _ => loader::load_to_add(model).await,
    }
}

// ---- Prune ----

async fn prune(model: &Model<'_>) -> Result<()> {
    model.change(Request::PutMark).await?;
    let result = protocol::prune(model).await;
    end(model).await;
    result.map(drop)
}

// ---- Forget ----

async fn forget(model: &Model<'_>, session: Sid) -> Result<()> {
    let (tombstone, deletion) = (Request::PutTombstone(session), Request::DeleteSnapshot(session));
    match model.scenario.weakening {
        Weakening::NoTombstone => model.change(deletion).await,
        Weakening::TombstoneLast => {
            model.change(deletion).await?;
            model.change(tombstone).await
        }
        _ => {
            model.change(tombstone).await?;
            model.change(deletion).await
        }
    }
}

// ---- Restore ----

/// How often a reader loads the index again.
const RELOADS_MAX: usize = 3;

async fn reader(model: &Model<'_>) -> Ended {
    let standing = model.standing().await;
    if standing.is_empty() {
        return Ended::Fine;
    }
    let way = if standing.len() > 1 { model.way(standing.len()).await } else { 0 };
    let (snapshot, chunks) = &standing[way];
    let mut avoided = BTreeSet::new();
    model.join(("reads", snapshot, chunks));
    for load_n in 0..=RELOADS_MAX {
        let ids: HashSet<_> = avoided.iter().map(|key| pack_id(*key)).collect();
        let Ok(loaded) = loader::load_avoiding(model, &ids).await else { return Ended::Fine };
        let mut packs = BTreeMap::new();
        let is_whole = chunks.iter().all(|chunk| resolve(&loaded.index, *chunk, &|key| model.listed(key), &mut packs));
        model.join(("loaded", load_n, snapshot, chunks, &avoided, is_whole, &packs));
        let mut gone = None;
        for key in packs.keys() {
            let reply = model.step(Request::Pack(*key)).await;
            let Reply::Pack(pack) = &*reply else { panic!("{reply:?}") };
            if pack.is_none() {
                gone = Some(*key);
                break;
            }
        }
        if is_whole && gone.is_none() {
            return Ended::Fine;
        }
        avoided.extend(gone);
        model.join(("reload", load_n, snapshot, chunks, &avoided));
    }
    // A snapshot that was forgotten meanwhile promises nothing.
    match model.standing().await.iter().any(|(standing, _)| standing == snapshot) {
        true => Ended::Missed,
        false => Ended::Fine,
    }
}

/// Finds the packs that a chunk lies in, with all its bases; whether that leads to its end.
pub fn resolve(
    index: &Index,
    chunk: Chunk,
    listed: &dyn Fn(PackKey) -> Option<Arc<Pack>>,
    packs: &mut BTreeMap<PackKey, ()>,
) -> bool {
    let Some(found) = index.find_chunk(&chunk_id(chunk)) else { return false };
    let key = pack_key(&found.info.id);
    let Some(pack) = listed(key) else { return false };
    packs.insert(key, ());
    let blob = &pack.blobs[found.location.blob as usize];
    let depth = found.location.place.depth;
    blob.chunk == Some(chunk)
        && blob.bases.iter().all(|base| {
            let is_shallower = index.depth_of(&chunk_id(*base)).is_some_and(|base| base < depth);
            is_shallower && resolve(index, *base, listed, packs)
        })
}
