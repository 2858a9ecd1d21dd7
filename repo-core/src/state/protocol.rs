//! Prune, step by step. FORMAT.md ("Deletion") has the argument for every order here; what runs in production and what the
//! exploration of all interleavings runs are these very functions.

use super::census::{Census, Needed, Survey, condemned};
use super::fragments::Waiting;
use super::ground::{Choice, Merged, Notice, Other, PruneGround, Rule};
use super::index::ChunkNumber;
use crate::format::names::{FragmentName, PackKind};
use crate::format::pack::PackContents;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId, SessionId};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How a prune ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing to delete.
    Nothing,
    /// The notice is there. Sessions are at work that may rely on what it names; a later prune goes on.
    Waiting(Vec<Other>),
    /// Deleted.
    Done(Done),
}

/// What was deleted, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Packs that were deleted.
    pub packs: BTreeSet<(PackKind, PackId)>,
    /// Sessions that looked dead and were fenced.
    pub fenced: Vec<SessionId>,
    /// Fragments that were written.
    pub fragments_n: u32,
    /// Fragments that were deleted.
    pub fragments_deleted_n: u64,
    /// Packs that were written with what was needed of the deleted ones.
    pub rescued: Vec<PackContents>,
}

/// Deletes what no snapshot needs. The mark of our session is there.
///
/// # Errors
/// [`Error::Conflict`]: we were fenced; nothing was deleted. [`Error::Missing`], [`Error::Damaged`]: something that a
/// snapshot needs is not there; nothing was deleted. [`Error::Store`]: the next prune goes on from wherever this one was.
pub async fn prune<G: PruneGround>(ground: &G) -> Result<Outcome> {
    let (found, plan) = look(ground).await?;
    let Choice { packs: chosen, fragments: small } = ground.choose(&plan).await?;
    if chosen.is_empty() && found.is_empty() {
        return if small.is_empty() { Ok(Outcome::Nothing) } else { merge(ground, small).await };
    }
    if !chosen.is_empty() {
        ground.put_notice(&chosen).await?;
    }
    // Whoever may rely on a pack that our notice names, or one that we found, put its mark before that notice.
    let fenced = match settle(ground).await? {
        Ok(fenced) => fenced,
        Err(alive) => return Ok(Outcome::Waiting(alive)),
    };
    // Of a notice that does not open nobody knows the packs. Its prune must not delete them any more: they may be in use.
    for (owner, _) in found.iter().filter(|(_, packs)| packs.is_err()) {
        ground.fence(*owner).await?;
    }
    let mut packs = condemned(&found);
    packs.extend(&chosen);
    let survey = survey(ground, &packs, Some(&plan)).await?;
    // Of sessions that had written before and are not at work now, what does not count never will.
    let was_there = |name: &&FragmentName| {
        plan.census.loaded.uncounted.contains(name) || !ground.keeps(Rule::GarbageWasThereBefore)
    };
    let garbage: BTreeSet<_> = survey.census.loaded.uncounted.iter().filter(was_there).copied().collect();
    drop(plan);

    let rescued = rescue(ground, &survey).await?;
    let small = small.intersection(&survey.census.loaded.counted).copied().collect();
    let (fragments_n, supersedes) = write_fragments(ground, &survey, &packs, (small, &rescued)).await?;
    let merged = Merged { fragments_n, supersedes, notices: found.iter().map(|(owner, _)| *owner).collect() };
    ground.commit(&merged).await?;

    // From here on anybody may finish it: a notice that is still there is found by the next prune. Fragments before packs, or
    // they would name what is gone; packs before notices, or somebody would rely on what is about to go.
    for name in merged.supersedes.union(&garbage) {
        ground.delete_fragment(*name).await?;
    }
    for (kind, id) in &packs {
        ground.delete_pack(*kind, *id).await?;
    }
    for owner in &merged.notices {
        ground.delete_notice(*owner).await?;
    }
    if !chosen.is_empty() {
        ground.delete_own_notice().await?;
    }
    let fragments_deleted_n = merged.supersedes.union(&garbage).count() as u64;
    Ok(Outcome::Done(Done { packs, fenced, fragments_n, fragments_deleted_n, rescued }))
}

/// Repeats fragments in fewer, and deletes nothing else.
///
/// Nobody has to be waited for, nor looked at twice. What the fragments list is listed as it was from the commit on, by others,
/// so whoever relies on it, and whoever lists it while it reads, goes on to find it; a fragment that is gone when it is read was
/// repeated by somebody else, who committed before that. And nothing is listed that is about to go: notices were read before
/// the fragments were listed, and there was none; one that comes later finds our mark, and its prune waits for us, or fences us
/// and nothing of this happens.
async fn merge<G: PruneGround>(ground: &G, supersedes: BTreeSet<FragmentName>) -> Result<Outcome> {
    let mut writer = Writer { ground, waiting: Waiting::default(), written_n: 0 };
    repeat(&mut writer, &supersedes, &BTreeSet::new()).await?;
    let fragments_n = writer.finish().await?;
    let merged = Merged { fragments_n, supersedes, notices: BTreeSet::new() };
    ground.commit(&merged).await?;
    for name in &merged.supersedes {
        ground.delete_fragment(*name).await?;
    }
    let fragments_deleted_n = merged.supersedes.len() as u64;
    Ok(Outcome::Done(Done { fragments_n, fragments_deleted_n, ..Done::default() }))
}

/// Looks at what is condemned already, and at what is needed.
///
/// # Errors
/// As [`prune`].
pub async fn look<G: PruneGround>(ground: &G) -> Result<(Vec<Notice>, Survey<G::Snapshots>)> {
    let found = ground.notices().await?;
    Ok((found, survey(ground, &BTreeSet::new(), None).await?))
}

/// Sees to it that no session is undecided that was there when our notice was put, but our own: those that look dead are
/// fenced. Returns the fenced ones, or those that are at work.
///
/// Sessions that come later are nobody to wait for: they find the notice, and rely on nothing that it names.
async fn settle(ground: &impl PruneGround) -> Result<Result<Vec<SessionId>, Vec<Other>>> {
    let mut others = ground.others().await?;
    let there: HashSet<SessionId> = others.iter().map(|other| other.id).collect();
    loop {
        others.retain(|other| there.contains(&other.id));
        let (dead, alive): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| other.looks_dead);
        if alive.is_empty() {
            for other in &dead {
                ground.fence(other.id).await?;
            }
            return Ok(Ok(dead.into_iter().map(|other| other.id).collect()));
        }
        if !ground.wait(&alive).await? {
            return Ok(Err(alive));
        }
        others = ground.others().await?;
    }
}

/// Finds out what is needed. Snapshots before everything else: what a snapshot needs was there before it. Notices before
/// packs: a notice that is gone went after its packs.
async fn survey<G: PruneGround>(
    ground: &G,
    packs: &BTreeSet<(PackKind, PackId)>,
    before: Option<&Survey<G::Snapshots>>,
) -> Result<Survey<G::Snapshots>> {
    let snapshots = ground.snapshots().await?;
    let notices = ground.notices().await?;
    let condemned: HashSet<PackId> = condemned(&notices).union(packs).map(|(_, id)| *id).collect();
    let census = Census::take(ground, &condemned).await?;
    let mut needed = match before {
        // The same snapshots need the same chunks: no node is opened again.
        Some(before) if before.snapshots == snapshots => carry_over(before, &census)?,
        _ => ground.mark(&snapshots, &census).await?,
    };
    if ground.keeps(Rule::BasesAreNeeded) {
        needed.close_over_bases(&census)?;
    }
    Ok(Survey { snapshots, condemned, census, needed })
}

fn carry_over<S>(before: &Survey<S>, census: &Census) -> Result<Needed> {
    let mut needed = Needed::none(census.index());
    for number in before.needed.iter() {
        let id = before.census.index().chunk(number).id;
        needed.insert(census.index().number_of(&id).ok_or_else(|| gone(&id))?);
    }
    Ok(needed)
}

fn gone(id: &ChunkId) -> Error {
    let why = "a snapshot needs it; nothing was deleted; run `dedump check`".to_owned();
    Error::Missing { object: format!("chunk {}", id.short()), why }
}

/// Stores anew what is needed and lies in condemned packs alone, our own or anybody's.
async fn rescue<G: PruneGround>(ground: &G, survey: &Survey<G::Snapshots>) -> Result<Vec<PackContents>> {
    let census = &survey.census;
    let chunks: Vec<ChunkNumber> =
        survey.needed.iter().filter(|number| survey.condemned.contains(&census.pack_of(*number))).collect();
    if chunks.is_empty() {
        return Ok(Vec::new());
    }
    let rescued = ground.rescue(survey, &chunks).await?;
    let mut depths: HashMap<ChunkId, u8> = HashMap::new();
    for blob in rescued.iter().flat_map(|pack| &pack.blobs) {
        for chunk in &blob.chunks {
            let depth = depths.entry(chunk.id).or_insert(blob.depth);
            *depth = blob.depth.min(*depth);
        }
    }
    // A chunk that got deeper would make longer chains of all that is compressed against it.
    let is_safe = |number: &ChunkNumber| {
        let (index, id) = (census.index(), census.index().chunk(*number).id);
        let depth_max = index.blob(index.blob_number(*number)).place.depth;
        depths.get(&id).is_some_and(|depth| *depth <= depth_max || !ground.keeps(Rule::RescuedNoDeeper))
    };
    match chunks.iter().find(|number| !is_safe(number)) {
        None => Ok(rescued),
        Some(number) => {
            let id = census.index().chunk(*number).id.short();
            Err(Error::System(format!("chunk {id} was not stored anew as it should; nothing was deleted; report this")))
        }
    }
}

/// Writes fragments with what was rescued, and with what stays of those that name packs of ours and of the small ones; returns
/// how many, and those that they stand for.
///
/// What stays is repeated as it was, also deltas that nobody could decode once our packs are gone. A backup that began after
/// our notice may find that another one has stored their bases anew, and rely on them; were they hidden here, it would lose
/// them by our commit. Whoever loads the index leaves out what it can't decode.
async fn write_fragments<G: PruneGround>(
    ground: &G,
    survey: &Survey<G::Snapshots>,
    packs: &BTreeSet<(PackKind, PackId)>,
    (small, rescued): (BTreeSet<FragmentName>, &[PackContents]),
) -> Result<(u32, BTreeSet<FragmentName>)> {
    let (census, index) = (&survey.census, survey.census.index());
    for number in census.unreadable_without(&survey.condemned, &survey.needed) {
        if let Some(entry) = index.blob(number).entries.clone().find(|entry| survey.needed.has(ChunkNumber(*entry))) {
            return Err(gone(&index.chunk(ChunkNumber(entry)).id));
        }
    }
    let named = packs.iter().filter_map(|(_, id)| census.loaded.fragments_of.get(id));
    let supersedes: BTreeSet<FragmentName> = named.flatten().copied().chain(small).collect();
    let mut writer = Writer { ground, waiting: Waiting::default(), written_n: 0 };
    for pack in rescued {
        writer.push(pack.clone()).await?;
    }
    repeat(&mut writer, &supersedes, packs).await?;
    Ok((writer.finish().await?, supersedes))
}

/// Repeats what fragments list, but for some packs.
async fn repeat<G: PruneGround>(
    writer: &mut Writer<'_, G>,
    fragments: &BTreeSet<FragmentName>,
    without: &BTreeSet<(PackKind, PackId)>,
) -> Result<()> {
    let mut seen = HashSet::new();
    for name in fragments {
        for pack in writer.ground.fragment(*name).await?.into_iter().flatten() {
            if !without.contains(&(pack.info.kind, pack.info.id)) && seen.insert(pack.info.id) {
                writer.push(pack).await?;
            }
        }
    }
    Ok(())
}

/// Writes fragments of ours as they fill.
struct Writer<'a, G> {
    ground: &'a G,
    waiting: Waiting,
    written_n: u32,
}

impl<G: PruneGround> Writer<'_, G> {
    async fn push(&mut self, pack: PackContents) -> Result<()> {
        match self.waiting.push(pack) {
            Some(packs) => self.write(packs).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, packs: Vec<PackContents>) -> Result<()> {
        self.ground.put_fragment(self.written_n, packs).await?;
        self.written_n += 1;
        Ok(())
    }

    async fn finish(mut self) -> Result<u32> {
        if let Some(packs) = self.waiting.take() {
            self.write(packs).await?;
        }
        Ok(self.written_n)
    }
}
