//! What commit and prune stand on: the steps that they take in the store, each of which others may come between.
//!
//! The protocol itself ([`super::loader`], [`super::protocol`]) is written against this trait alone. A repository implements
//! it on its store; the project's exploration of all interleavings implements it on a store of its own, and so runs the very
//! functions that run in production.

use super::census::{Census, Needed, Survey};
use super::index::{ChunkNumber, PacksListed};
use super::loader::{self, Standings};
use super::repository::Repository;
use super::snapshots::{self, Decision, Decisions, Standing};
use crate::format::decision::NoticeRecord;
use crate::format::names::{self, FragmentName, INDEX, MERGES, PRUNE, PackKind};
use crate::format::pack::PackContents;
use crate::words::error::{Error, Result};
use crate::words::id::{PackId, SessionId};
use crate::words::limits::READS_MAX;
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};

/// What a notice says: the packs that it names, or why it does not open.
pub type Notice = (SessionId, Result<BTreeSet<(PackKind, PackId)>>);

/// Rules that the exploration of all interleavings breaks, one at a time, to show that it would notice. Only those that
/// can't be broken from a ground's side have a name here.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// What needed chunks are compressed against is needed, too.
    BasesAreNeeded,
    /// A rescued chunk is no deeper than it was.
    RescuedNoDeeper,
    /// Fragments that do not count are deleted only if they were there before the sessions were listed.
    GarbageWasThereBefore,
}

/// Index fragments, and their lengths in bytes.
pub type FragmentsListed = BTreeMap<FragmentName, u64>;

/// The steps that reading takes.
pub trait Ground: Sync {
    /// Returns whether a rule holds, as it does everywhere but in the tests that break it.
    #[doc(hidden)]
    fn keeps(&self, _: Rule) -> bool {
        true
    }
    /// Lists the notices of prunes.
    fn notices(&self) -> impl Future<Output = Result<Vec<Notice>>> + Send;
    /// Lists the index fragments, with their lengths in bytes.
    fn fragment_names(&self) -> impl Future<Output = Result<FragmentsListed>> + Send;
    /// Says which of these sessions committed: lists the decisions, or knows from an earlier listing.
    fn standings(&self, sessions: BTreeSet<SessionId>) -> impl Future<Output = Result<Standings>> + Send;
    /// Lists the packs.
    fn packs(&self) -> impl Future<Output = Result<PacksListed>> + Send;
    /// Reads a fragment; `None` if it is gone.
    fn fragment(&self, name: FragmentName) -> impl Future<Output = Result<Option<Vec<PackContents>>>> + Send;
}

/// Another session that is not decided yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its id.
    pub id: SessionId,
    /// Whether it looks dead: then it may be fenced.
    pub looks_dead: bool,
}

/// What a prune is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Packs to condemn.
    pub packs: BTreeSet<(PackKind, PackId)>,
    /// Fragments that count, and are to be repeated in fewer.
    pub fragments: BTreeSet<FragmentName>,
}

/// What a prune's decision says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// How many fragments the prune wrote.
    pub fragments_n: u32,
    /// Fragments whose content those repeat, as far as anybody needs it.
    pub supersedes: BTreeSet<FragmentName>,
    /// Notices whose packs will be deleted now.
    pub notices: BTreeSet<SessionId>,
}

/// The steps that a prune takes. Its own session's mark is there when it begins.
pub trait PruneGround: Ground {
    /// The snapshots that stand.
    type Snapshots: PartialEq + Send + Sync;

    /// Lists the snapshots that stand.
    fn snapshots(&self) -> impl Future<Output = Result<Self::Snapshots>> + Send;
    /// Marks the chunks and nodes that these snapshots are made of.
    fn mark(&self, snapshots: &Self::Snapshots, census: &Census) -> impl Future<Output = Result<Needed>> + Send;
    /// Chooses packs to condemn, besides those that are condemned already, and fragments to merge.
    fn choose(&self, survey: &Survey<Self::Snapshots>) -> impl Future<Output = Result<Choice>> + Send;
    /// Puts our notice.
    fn put_notice(&self, packs: &BTreeSet<(PackKind, PackId)>) -> impl Future<Output = Result<()>> + Send;
    /// Lists the other sessions' marks, and then which of them are not decided.
    fn others(&self) -> impl Future<Output = Result<Vec<Other>>> + Send;
    /// Says whether to look again at sessions that are at work, rather than to leave it to a later prune.
    fn wait(&self, others: &[Other]) -> impl Future<Output = Result<bool>> + Send;
    /// Forbids a session to commit, unless it has.
    fn fence(&self, session: SessionId) -> impl Future<Output = Result<()>> + Send;
    /// Puts new packs with these chunks, none deeper than it was, and returns what they hold.
    fn rescue(
        &self,
        survey: &Survey<Self::Snapshots>,
        chunks: &[ChunkNumber],
    ) -> impl Future<Output = Result<Vec<PackContents>>> + Send;
    /// Puts a fragment of ours.
    fn put_fragment(&self, number: u32, packs: Vec<PackContents>) -> impl Future<Output = Result<()>> + Send;
    /// Creates our decision.
    ///
    /// # Errors
    /// [`Error::Conflict`]: a fence came first.
    fn commit(&self, merged: &Merged) -> impl Future<Output = Result<()>> + Send;
    /// Deletes a fragment that no longer counts.
    fn delete_fragment(&self, name: FragmentName) -> impl Future<Output = Result<()>> + Send;
    /// Deletes a condemned pack.
    fn delete_pack(&self, kind: PackKind, id: PackId) -> impl Future<Output = Result<()>> + Send;
    /// Deletes our notice, whose packs are gone.
    fn delete_own_notice(&self) -> impl Future<Output = Result<()>> + Send;
    /// Deletes the notice of another whose packs are gone.
    fn delete_notice(&self, id: SessionId) -> impl Future<Output = Result<()>> + Send;
}

impl Ground for Repository {
    async fn notices(&self) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        for id in snapshots::list_ids(self, PRUNE).await? {
            match self.read::<NoticeRecord>(&names::of_session(PRUNE, id)).await {
                Ok(Some(notice)) => notices.push((id, Ok(notice.packs.into_iter().collect()))),
                // Its prune has ended meanwhile: the packs went before it.
                Ok(None) => {}
                Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {
                    notices.push((id, Err(error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(notices)
    }

    async fn fragment_names(&self) -> Result<FragmentsListed> {
        let listed = self.store.list(INDEX).await?;
        if let Some(cache) = &self.cache {
            cache.drop_gone(INDEX, listed.iter().map(|object| object.name.as_str())).await;
        }
        Ok(listed.iter().filter_map(|object| Some((names::parse_fragment(&object.name)?, object.bytes))).collect())
    }

    /// Asks first what was listed before: whoever committed then has committed now. Only of the others decisions are listed.
    async fn standings(&self, sessions: BTreeSet<SessionId>) -> Result<Standings> {
        let mut standings = Standings { counting: committed(self, &sessions).await?, ..Standings::default() };
        let mut open: BTreeSet<SessionId> = sessions.difference(&standings.counting).copied().collect();
        if open.is_empty() {
            return Ok(standings);
        }
        let merges = snapshots::list_ids(self, MERGES).await?;
        standings.counting.extend(merged(self, &merges, &open).await?);
        open.retain(|id| !standings.counting.contains(id));
        if open.is_empty() {
            return Ok(standings);
        }
        let decisions = Decisions::list_besides(self, merges).await?;
        let mut read = stream::iter(open)
            .map(async |id| Ok::<_, Error>((id, decisions.standing(self, id).await?)))
            .buffer_unordered(READS_MAX);
        while let Some(standing) = read.next().await {
            match standing? {
                (id, Standing::Counts) => drop(standings.counting.insert(id)),
                (_, Standing::DoesNotCount) => {}
                (id, Standing::Unknown(error)) => {
                    if error.is_damage() {
                        standings.unknown.insert(id);
                    }
                    standings.problems.push(error);
                }
            }
        }
        Ok(standings)
    }

    async fn packs(&self) -> Result<PacksListed> {
        loader::list_packs(self).await
    }

    async fn fragment(&self, name: FragmentName) -> Result<Option<Vec<PackContents>>> {
        loader::read_fragment(self, name).await
    }
}

/// Returns which of these sessions committed, by the last listing of snapshots and tombstones.
async fn committed(repository: &Repository, sessions: &BTreeSet<SessionId>) -> Result<BTreeSet<SessionId>> {
    let known = repository.known.listed();
    let mut committed: BTreeSet<SessionId> = sessions.intersection(&known.committed).copied().collect();
    let forgotten: Vec<_> =
        sessions.difference(&committed).filter(|id| known.forgotten.contains(id)).copied().collect();
    let mut read = stream::iter(forgotten)
        .map(|id| async move { (id, snapshots::read_listed_tombstone(repository, id).await) })
        .buffer_unordered(READS_MAX);
    while let Some((id, tombstone)) = read.next().await {
        match tombstone {
            Ok(Some(_)) => drop(committed.insert(id)),
            Ok(None) => {}
            // The listing of all decisions tells what to make of it.
            Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    repository.known.add_committed(committed.iter().copied());
    Ok(committed)
}

/// Returns which of these sessions committed a merge.
async fn merged(
    repository: &Repository,
    merges: &BTreeSet<SessionId>,
    sessions: &BTreeSet<SessionId>,
) -> Result<Vec<SessionId>> {
    if let Some(cache) = &repository.cache {
        let names: Vec<String> = merges.iter().map(|id| names::of_session(MERGES, *id)).collect();
        cache.drop_gone(MERGES, names.iter().map(String::as_str)).await;
    }
    let mut read = stream::iter(merges.intersection(sessions).copied())
        .map(|id| async move { Ok::<_, Error>((id, snapshots::read_listed(repository, MERGES, id).await?)) })
        .buffer_unordered(READS_MAX);
    let mut merged = Vec::new();
    while let Some(decision) = read.next().await {
        if let (id, Some(Decision::Merge(_))) = decision? {
            merged.push(id);
        }
    }
    Ok(merged)
}
