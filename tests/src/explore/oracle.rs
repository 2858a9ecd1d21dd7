//! What must hold of the store in every state, whatever anybody is doing.

use super::process::resolve;
use super::store::{Decision, Store};
use super::world::*;
use dedump_core::Result;
use dedump_core::SessionId;
use dedump_core::internals::ground::{FragmentsListed, Ground, Notice};
use dedump_core::internals::index::PacksListed;
use dedump_core::internals::loader::{self, Standings};
use dedump_core::internals::names::FragmentName;
use dedump_core::internals::pack::PackContents;
use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker};

/// Returns what a standing snapshot needs and can't have, in words; `None` if all is well. It is asked twice: of the index
/// that the core loads, and of the fragments themselves, by brute force.
pub fn complaint(store: &Store) -> Option<String> {
    let decodable = decodable(store);
    let loaded = now(loader::load(&Instant(store))).expect("nothing fails at once");
    for (session, chunks) in store.standing() {
        for chunk in chunks {
            if !decodable.contains(chunk) {
                return Some(format!("snapshot {session} needs chunk {chunk}, which can't be decoded any more"));
            }
            // What the pack really holds, whatever a fragment says.
            let mut packs = BTreeMap::new();
            if !resolve(&loaded.index, *chunk, &|key| store.packs.get(&key).cloned(), &mut packs) {
                return Some(format!("snapshot {session} needs chunk {chunk}, which a reader would not find"));
            }
        }
    }
    None
}

/// The chunks that counted fragments lead to: those stored whole in packs that are there, and deltas of such, and so on.
fn decodable(store: &Store) -> BTreeSet<Chunk> {
    let counted = store.fragments.iter().filter(|((session, _), _)| store.counts(*session));
    let listed = counted.flat_map(|(_, listed)| &**listed).filter(|pack| store.packs.contains_key(&pack.key));
    let blobs: Vec<&Blob> = listed.flat_map(|pack| &pack.blobs).collect();
    let mut decodable = BTreeSet::new();
    loop {
        let before = decodable.len();
        for blob in &blobs {
            if blob.bases.iter().all(|base| decodable.contains(base)) {
                decodable.extend(blob.chunk);
            }
        }
        if decodable.len() == before {
            return decodable;
        }
    }
}

/// Returns what a store still holds for nobody, in words, after the last prune has ended; `None` if nothing.
pub fn garbage(store: &Store) -> Option<String> {
    let needed: BTreeSet<Chunk> = store.standing().flat_map(|(_, chunks)| chunks).copied().collect();
    let counted = store.fragments.iter().filter(|((session, _), _)| store.counts(*session));
    let listed: BTreeSet<PackKey> = counted.flat_map(|(_, listed)| &**listed).map(|pack| pack.key).collect();
    if let Some(owner) = store.notices.keys().next() {
        return Some(format!("the notice of {owner} stays for ever"));
    }
    if let Some(key) = store.packs.keys().find(|key| !listed.contains(*key)) {
        return Some(format!("pack {key:?} stays for ever, and no fragment names it"));
    }
    // Bases are needed by way of what is needed.
    let mut bases = needed.clone();
    loop {
        let before = bases.len();
        for blob in store.packs.values().flat_map(|pack| &pack.blobs) {
            if blob.chunk.is_some_and(|chunk| bases.contains(&chunk)) {
                bases.extend(&blob.bases);
            }
        }
        if bases.len() == before {
            break;
        }
    }
    let is_dead = |pack: &&std::sync::Arc<Pack>| {
        !pack.blobs.iter().any(|blob| blob.chunk.is_some_and(|chunk| bases.contains(&chunk)))
    };
    store.packs.values().find(is_dead).map(|pack| format!("pack {:?} stays for ever, and nobody needs it", pack.key))
}

/// Returns what a future gives that never waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// A ground on which all steps are taken at one time.
struct Instant<'a>(&'a Store);

impl Ground for Instant<'_> {
    async fn notices(&self) -> Result<Vec<Notice>> {
        Ok(Vec::new())
    }

    async fn fragment_names(&self) -> Result<FragmentsListed> {
        Ok(self.0.fragments.keys().map(|name| (fragment_name(*name), 1)).collect())
    }

    async fn standings(&self, sessions: BTreeSet<SessionId>) -> Result<Standings> {
        let counting = sessions.into_iter().filter(|session| self.0.counts(sid(session))).collect();
        Ok(Standings { counting, ..Standings::default() })
    }

    async fn packs(&self) -> Result<PacksListed> {
        Ok(self.0.packs.keys().map(|key| listing(*key)).collect())
    }

    async fn fragment(&self, name: FragmentName) -> Result<Option<Vec<PackContents>>> {
        let listed = self.0.fragments.get(&fragment_key(&name));
        Ok(listed.map(|listed| listed.iter().map(|pack| contents(pack)).collect()))
    }
}

/// Returns a store's content in a line, for runs that are shown.
pub fn describe(store: &Store) -> String {
    let blob = |blob: &Blob| match (blob.chunk, &blob.bases[..]) {
        (None, _) => "hidden".to_owned(),
        (Some(chunk), []) => format!("{chunk}"),
        (Some(chunk), bases) => format!("{chunk}@{}<-{bases:?}", blob.depth),
    };
    let pack = |pack: &Pack| {
        format!("{}.{}[{}]", pack.key.0, pack.key.1, pack.blobs.iter().map(blob).collect::<Vec<_>>().join(" "))
    };
    let packs: Vec<_> = store.packs.values().map(|found| pack(found)).collect();
    let fragments: Vec<_> = store
        .fragments
        .iter()
        .map(|((session, number), listed)| {
            let counts = if store.counts(*session) { "" } else { "?" };
            format!(
                "{session}-{number}{counts}({})",
                listed.iter().map(|found| pack(found)).collect::<Vec<_>>().join(" ")
            )
        })
        .collect();
    let decision = |(session, decision): (&Sid, &std::sync::Arc<Decision>)| match &**decision {
        Decision::Snapshot(chunks) => format!("{session}:snapshot{chunks:?}"),
        Decision::Merge(..) => format!("{session}:merge"),
        Decision::Fence => format!("{session}:fence"),
    };
    let decisions: Vec<_> = store.decisions.iter().map(decision).collect();
    format!(
        "packs {} | fragments {} | {} | marks {:?} notices {:?} tombstones {:?} late {:?}",
        packs.join(" "),
        fragments.join(" "),
        decisions.join(" "),
        store.marks,
        store.notices,
        store.tombstones,
        store.late
    )
}
