//! The steps of a prune, and what its weakened kin do instead.

use super::ground::Model;
use super::scenario::Weakening;
use super::store::{Decision, Reply, Request};
use super::world::*;
use dedump_core::internals::census::{Census, Needed, Survey};
use dedump_core::internals::ground::{Choice, Merged, Other, PruneGround, Rule};
use dedump_core::internals::index::ChunkNumber;
use dedump_core::internals::names::{FragmentName, PackKind};
use dedump_core::internals::pack::PackContents;
use dedump_core::{Error, PackId, Result, SessionId};
use std::collections::BTreeSet;
use std::sync::Arc;

impl PruneGround for Model<'_> {
    type Snapshots = Vec<(Sid, BTreeSet<Chunk>)>;

    async fn snapshots(&self) -> Result<Self::Snapshots> {
        let standing = self.standing().await;
        if self.weakening() == Weakening::SnapshotsBeforeSessions {
            // The next time it will see what it sees now.
            let again =
                standing.iter().map(|(session, chunks)| (*session, Arc::new(Decision::Snapshot(chunks.clone()))));
            self.remember("snapshots", Reply::Decisions(again.collect()));
        }
        Ok(standing)
    }

    async fn mark(&self, snapshots: &Self::Snapshots, census: &Census) -> Result<Needed> {
        let mut needed = Needed::none(census.index());
        for chunk in snapshots.iter().flat_map(|(_, chunks)| chunks) {
            let Some(number) = census.index().number_of(&chunk_id(*chunk)) else {
                return Err(Error::Missing { object: format!("chunk {chunk}"), why: "it is nowhere".to_owned() });
            };
            needed.insert(number);
        }
        Ok(needed)
    }

    async fn choose(&self, survey: &Survey<Self::Snapshots>) -> Result<Choice> {
        let named = |key: &PackKey| self.found().iter().any(|(_, packs)| packs.contains(key));
        let there: Vec<PackKey> = survey.census.loaded.packs.sorted().iter().map(|(_, id, _)| pack_key(id)).collect();
        let free: Vec<PackKey> = there.iter().copied().filter(|key| !named(key)).collect();
        let options = match self.scenario.is_cleaning {
            true => vec![wasteful(survey, &free)],
            false => subsets(&free, self.scenario.condemn_max, self.scenario.merges || !self.found().is_empty()),
        };
        // All fragments that count, or none.
        let merges = self.scenario.merges && self.way(2).await == 1;
        let fragments = if merges { survey.census.loaded.counted.clone() } else { BTreeSet::new() };
        let nothing = BTreeSet::new();
        let chosen = match options.len() {
            0 => &nothing,
            n => &options[self.way(n).await],
        };
        if chosen.is_empty() && self.found().is_empty() {
            let keys: BTreeSet<_> = fragments.iter().map(fragment_key).collect();
            self.join(("merges", keys));
            return Ok(Choice { packs: BTreeSet::new(), fragments });
        }
        // All that `prune` looks at again of its first survey: the snapshots, what they need, and what does not count.
        let index = survey.census.index();
        let needed: BTreeSet<Chunk> = survey.needed.iter().map(|number| chunk_of(&index.chunk(number).id)).collect();
        let found = self.found();
        let uncounted = &survey.census.loaded.uncounted;
        self.join(("chosen", &found, (chosen, &fragments), &survey.snapshots, uncounted, needed));
        let packs = chosen.iter().map(|key| (PackKind::Data, pack_id(*key))).collect();
        Ok(Choice { packs, fragments })
    }

    async fn put_notice(&self, packs: &BTreeSet<(PackKind, PackId)>) -> Result<()> {
        if self.weakening() == Weakening::SessionsBeforeNotice {
            self.look_early("marks", Request::Marks).await;
            self.look_early("decisions", Request::Decisions((0..16).collect())).await;
        }
        self.change(Request::PutNotice(packs.iter().map(|(_, id)| pack_key(id)).collect())).await
    }

    async fn others(&self) -> Result<Vec<Other>> {
        if self.weakening() == Weakening::DecisionsBeforeMarks {
            self.look_early("decisions", Request::Decisions((0..16).collect())).await;
        }
        let undecided = self.undecided().await;
        let dead = match (undecided.is_empty(), self.scenario.is_rude) {
            (true, _) => BTreeSet::new(),
            (false, false) => self.dead().await,
            // One that looks alive ends the prune as surely as all.
            (false, true) if self.way(2).await == 0 => BTreeSet::new(),
            (false, true) => undecided.clone(),
        };
        let other = |session: &Sid| Other { id: session_id(*session), looks_dead: dead.contains(session) };
        Ok(undecided.iter().map(other).collect())
    }

    async fn wait(&self, _: &[Other]) -> Result<bool> {
        Ok(false)
    }

    async fn fence(&self, session: SessionId) -> Result<()> {
        match self.weakening() {
            Weakening::NoFence => Ok(()),
            _ => self.change(Request::Fence(sid(&session))).await,
        }
    }

    async fn rescue(&self, survey: &Survey<Self::Snapshots>, chunks: &[ChunkNumber]) -> Result<Vec<PackContents>> {
        let index = survey.census.index();
        let keeps_deltas = !self.scenario.may_unfold || self.way(2).await == 0;
        let blob = |number: &ChunkNumber| {
            let chunk = chunk_of(&index.chunk(*number).id);
            let blob = index.blob_number(*number);
            let bases = survey.census.bases(blob).flatten().map(|base| chunk_of(&index.chunk(base).id)).collect();
            let depth = index.blob(blob).place.depth;
            match keeps_deltas {
                true => Blob { chunk: Some(chunk), depth, bases },
                false => whole(chunk),
            }
        };
        let mut blobs: Vec<Blob> = chunks.iter().map(blob).collect();
        if self.weakening() == Weakening::Without(Rule::RescuedNoDeeper) {
            deepen(&mut blobs, survey);
        }
        let pack = match self.weakening() {
            // A pack that is nowhere.
            Weakening::NoRescue => Arc::new(Pack { key: (self.me, 9), blobs }),
            _ => self.put_pack(blobs).await?,
        };
        Ok(vec![contents(&pack)])
    }

    async fn put_fragment(&self, number: u32, packs: Vec<PackContents>) -> Result<()> {
        let mut packs: Vec<Pack> = packs.iter().map(pack_of).collect();
        match self.weakening() {
            Weakening::HidesUnreadable => hide_unreadable(&mut packs),
            Weakening::MergesInPart => drop(packs.pop()),
            _ => {}
        }
        let listed = packs.into_iter().map(Arc::new).collect();
        self.change(Request::PutFragment(u8::try_from(number).expect("few"), Arc::new(listed))).await
    }

    async fn commit(&self, merged: &Merged) -> Result<()> {
        let supersedes = merged.supersedes.iter().map(fragment_key).collect();
        let merge = Decision::Merge(supersedes, merged.notices.iter().map(sid).collect());
        match self.weakening() {
            Weakening::DeletesBeforeCommit => {
                self.put_off(Request::Commit(Arc::new(merge)));
                Ok(())
            }
            _ => self.decide(merge).await,
        }
    }

    async fn delete_fragment(&self, name: FragmentName) -> Result<()> {
        let request = Request::DeleteFragment(fragment_key(&name));
        match self.weakening() {
            Weakening::PacksBeforeFragments => {
                self.put_off(request);
                Ok(())
            }
            _ => self.change(request).await,
        }
    }

    async fn delete_pack(&self, _: PackKind, id: PackId) -> Result<()> {
        let request = Request::DeletePack(pack_key(&id));
        match self.weakening() {
            Weakening::NoticeBeforePacks => {
                self.put_off(request);
                Ok(())
            }
            _ => self.change(request).await,
        }
    }

    async fn delete_own_notice(&self) -> Result<()> {
        self.delete_notice(session_id(self.me)).await
    }

    async fn delete_notice(&self, id: SessionId) -> Result<()> {
        if self.weakening() != Weakening::NoticeBeforePacks {
            self.catch_up().await?;
        }
        self.change(Request::DeleteNotice(sid(&id))).await?;
        self.catch_up().await
    }
}

/// Every subset of at most `n_max`; the empty one if there is work besides.
fn subsets(packs: &[PackKey], n_max: u8, with_empty: bool) -> Vec<BTreeSet<PackKey>> {
    let all = (0u32..1 << packs.len()).filter(|bits| bits.count_ones() <= n_max.into() && (*bits > 0 || with_empty));
    let subset = |bits: u32| (0..packs.len()).filter(|at| bits >> at & 1 == 1).map(|at| packs[at]).collect();
    all.map(subset).collect()
}

/// The packs that hold something that nobody needs.
fn wasteful(survey: &Survey<Vec<(Sid, BTreeSet<Chunk>)>>, packs: &[PackKey]) -> BTreeSet<PackKey> {
    let index = survey.census.index();
    let is_needed = |mut entries: std::ops::Range<u32>| {
        // A hidden blob has no entries, and nobody needs it.
        !entries.is_empty() && entries.all(|entry| survey.needed.has(ChunkNumber(entry)))
    };
    let is_full = |key: &&PackKey| {
        let id = pack_id(**key);
        let mut blobs = (0..index.blobs_n()).map(|number| index.blob(number));
        index.has_pack(&id) && blobs.all(|blob| index.pack(blob.pack).id != id || is_needed(blob.entries))
    };
    packs.iter().filter(|key| !is_full(key)).copied().collect()
}

/// Makes every rescued chunk a delta against another that stays, one deeper than that.
fn deepen(blobs: &mut [Blob], survey: &Survey<Vec<(Sid, BTreeSet<Chunk>)>>) {
    let index = survey.census.index();
    for blob in blobs {
        let stays = |number: &ChunkNumber| !survey.condemned.contains(&survey.census.pack_of(*number));
        if let Some(base) =
            survey.needed.iter().filter(stays).find(|base| blob.chunk != Some(chunk_of(&index.chunk(*base).id)))
        {
            let depth = index.blob(index.blob_number(base)).place.depth + 1;
            *blob = delta(blob.chunk.expect("a chunk"), depth, &[chunk_of(&index.chunk(base).id)]);
        }
    }
}

/// Hides deltas whose bases are not among what a fragment lists.
fn hide_unreadable(packs: &mut [Pack]) {
    let listed: BTreeSet<Chunk> = packs.iter().flat_map(|pack| &pack.blobs).filter_map(|blob| blob.chunk).collect();
    for blob in packs.iter_mut().flat_map(|pack| &mut pack.blobs) {
        if !blob.bases.iter().all(|base| listed.contains(base)) {
            *blob = Blob { chunk: None, depth: 0, bases: Vec::new() };
        }
    }
}
