//! The steps that a prune takes in a real repository, and what is noted on the way for its report.

use super::{PruneOptions, PruneOutcome, PrunePlan, PruneReport, plan, rescue};
use crate::edges::progress::{Event, Progress};
use crate::edges::store::{Created, Requests};
use crate::edges::system::now_ms;
use crate::format::decision::{MergeRecord, NoticeRecord};
use crate::format::names::{self, FragmentName, MERGES, PRUNE, PackKind};
use crate::format::pack::PackContents;
use crate::state::census::{Census, Needed, Survey};
use crate::state::fragments;
use crate::state::ground::{Choice, FragmentsListed, Ground, Merged, Notice, Other, PruneGround};
use crate::state::index::{ChunkNumber, PacksListed};
use crate::state::loader::{Loaded, Standings};
use crate::state::mark;
use crate::state::protocol::Outcome;
use crate::state::reader::{PackReader, ReadFrom};
use crate::state::repack::{self, RepackError};
use crate::state::repository::Repository;
use crate::state::session;
use crate::state::snapshots::{self, Snapshot};
use crate::words::error::{Error, Result};
use crate::words::id::{PackId, SessionId};
use crate::words::limits::{FRAGMENT_CHUNKS_TARGET, PRUNE_SPARE_BYTES};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long to wait before looking at sessions again.
const WAIT: Duration = Duration::from_secs(2);

/// A prune of a repository.
pub(super) struct Pruner<'a> {
    repository: &'a Repository,
    options: &'a PruneOptions,
    me: SessionId,
    progress: &'a dyn Progress,
    reader: PackReader,
    /// The session's.
    in_doubt: Arc<AtomicBool>,
    notes: Mutex<Notes>,
}

/// What is known on the way.
#[derive(Default)]
struct Notes {
    plan: PrunePlan,
    nodes_n: u64,
    /// Requests at the beginning, those that the marks took, and those until the plan stood.
    first: Requests,
    mark_reads_n: u64,
    planned: Requests,
}

impl<'a> Pruner<'a> {
    /// Creates the prune of a session, of which it says whether its decision is in doubt.
    pub(super) fn create(
        repository: &'a Repository,
        options: &'a PruneOptions,
        (me, in_doubt): (SessionId, Arc<AtomicBool>),
        progress: &'a dyn Progress,
    ) -> Self {
        let notes = Notes { first: repository.store.requests(), ..Notes::default() };
        Pruner {
            repository,
            options,
            me,
            progress,
            // Decisions, fragments and manifests may come from the cache: they never change, and are what they were, by their
            // seals and names. That they are there, the store's listings say.
            reader: PackReader::create(repository, ReadFrom::Store),
            in_doubt,
            notes: Mutex::new(notes),
        }
    }

    fn with_notes<T>(&self, call: impl FnOnce(&mut Notes) -> T) -> T {
        call(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn plan_of(&self, found: &[Notice]) -> PrunePlan {
        self.with_notes(|notes| {
            let mut plan = notes.plan.clone();
            if plan.deleted_packs_n == 0 && plan.merged_fragments_n == 0 && found.is_empty() {
                plan.requests_n = 0;
            }
            plan
        })
    }

    pub(super) fn report(&self, outcome: Outcome) -> Result<PruneReport> {
        let (plan, planned) = self.with_notes(|notes| (notes.plan.clone(), notes.planned));
        let mut report = PruneReport {
            outcome: PruneOutcome::Nothing,
            plan,
            packs_deleted_n: 0,
            packs_written_n: 0,
            bytes_written: 0,
            fenced: Vec::new(),
            requests: self.repository.store.requests().since(&planned),
        };
        match outcome {
            Outcome::Nothing => {}
            Outcome::Waiting(others) => {
                report.outcome = PruneOutcome::Waiting(others.into_iter().map(|other| other.id).collect());
            }
            Outcome::Done(done) => {
                report.outcome = PruneOutcome::Done;
                report.packs_deleted_n = done.packs.len() as u64;
                report.packs_written_n = done.rescued.len() as u64;
                report.bytes_written = done.rescued.iter().map(|pack| pack.info.bytes).sum();
                report.fenced = done.fenced;
            }
        }
        Ok(report)
    }

    /// Fences all sessions that look dead.
    pub(super) async fn fence_the_dead(&self) -> Result<Vec<SessionId>> {
        let mut fenced = Vec::new();
        for other in self.others().await?.into_iter().filter(|other| other.looks_dead) {
            self.fence(other.id).await?;
            fenced.push(other.id);
        }
        Ok(fenced)
    }

    /// What is to be rescued once the chosen packs are condemned too, laid out and grouped.
    async fn windows(&self, survey: &Survey<Vec<Snapshot>>, chunks: &[ChunkNumber]) -> Result<Vec<repack::Window>> {
        let units = rescue::lay_out(&self.reader, &survey.census, &survey.snapshots, chunks).await?;
        Ok(repack::windows(&survey.census, units, 0))
    }
}

impl Ground for Pruner<'_> {
    async fn notices(&self) -> Result<Vec<Notice>> {
        self.repository.notices().await
    }

    async fn fragment_names(&self) -> Result<FragmentsListed> {
        self.repository.fragment_names().await
    }

    async fn standings(&self, sessions: BTreeSet<SessionId>) -> Result<Standings> {
        self.repository.standings(sessions).await
    }

    async fn packs(&self) -> Result<PacksListed> {
        self.repository.packs().await
    }

    async fn fragment(&self, name: FragmentName) -> Result<Option<Vec<PackContents>>> {
        self.repository.fragment(name).await
    }
}

impl PruneGround for Pruner<'_> {
    type Snapshots = Vec<Snapshot>;

    async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let snapshots = snapshots::load(self.repository).await?;
        match snapshots.unreadable.into_iter().next() {
            None => Ok(snapshots.standing),
            Some((id, error)) => Err(Error::damaged(
                names::of_session(names::SNAPSHOTS, id),
                format!("nobody knows what it needs, so nothing is deleted; put a copy back, or forget it ({error})"),
            )),
        }
    }

    async fn mark(&self, snapshots: &Vec<Snapshot>, census: &Census) -> Result<Needed> {
        // What can't be read may name packs that are needed, and chunks that lie nowhere else.
        if let Some(problem) = census.loaded.problems.first() {
            return Err(Error::damaged("the index", format!("nothing was deleted; run `dedump check`: {problem}")));
        }
        let before = self.repository.store.requests();
        let mut needed = Needed::none(census.index());
        let streams = snapshots.iter().flat_map(|snapshot| &snapshot.record.streams);
        let nodes_n = mark::mark(&self.reader, census.index(), streams, &mut needed).await?;
        let reads_n = self.repository.store.requests().since(&before).reads_n;
        self.with_notes(|notes| {
            notes.nodes_n += nodes_n;
            notes.mark_reads_n += reads_n;
        });
        Ok(needed)
    }

    async fn choose(&self, survey: &Survey<Vec<Snapshot>>) -> Result<Choice> {
        let looked = self.repository.store.requests();
        // A pack that nothing names may be a running session's, or one's that committed a moment ago.
        let Loaded { counted, uncounted, .. } = &survey.census.loaded;
        let was_there = |name: &FragmentName| counted.contains(name) || uncounted.contains(name);
        let is_quiet = self.others().await?.iter().all(|other| other.looks_dead)
            && self.fragment_names().await?.keys().all(was_there);
        let mut orphans = if is_quiet { plan::orphans(&survey.census) } else { Vec::new() };
        orphans.retain(|(_, id, _)| !survey.condemned.contains(id));
        let room_bytes = self.repository.store.free_bytes().map(|bytes| bytes.saturating_sub(PRUNE_SPARE_BYTES));
        let (chosen, mut plan) = plan::choose(survey, self.options, &orphans, room_bytes);

        let mut condemned: HashSet<PackId> = survey.condemned.clone();
        condemned.extend(chosen.iter().map(|(_, id)| *id));
        let index = survey.census.index();
        let is_condemned = |number: &ChunkNumber| condemned.contains(&survey.census.pack_of(*number));
        let chunks: Vec<ChunkNumber> = survey.needed.iter().filter(is_condemned).collect();
        let before = self.repository.store.requests();
        let windows = self.windows(survey, &chunks).await?;
        let order_reads_n = self.repository.store.requests().since(&before).reads_n;
        let costs = repack::cost(&survey.census, &windows);
        let reads_n: u64 = costs.values().map(|cost| cost.requests_n).sum();
        let read_bytes = costs.values().map(|cost| cost.bytes).sum();
        let small = plan::small_fragments(&survey.census);
        let named = condemned.iter().filter_map(|id| survey.census.loaded.fragments_of.get(id)).flatten();
        let affected: BTreeSet<FragmentName> = named.chain(&small).copied().collect();
        let writes_n = |kind: PackKind, target: usize| {
            let infos = index.packs().iter().zip(survey.census.usage(&survey.needed));
            let bytes: u64 = infos
                .filter(|(info, _)| info.kind == kind && condemned.contains(&info.id))
                .map(|(_, usage)| usage.needed_bytes)
                .sum();
            bytes.div_ceil(target as u64)
        };
        let fragments_n = (index.entries_n() as u64 / FRAGMENT_CHUNKS_TARGET as u64 + 1).min(affected.len() as u64);
        plan.merged_fragments_n = small.len() as u64;
        plan.snapshots_n = survey.snapshots.len() as u64;
        plan.read_bytes = read_bytes;
        self.with_notes(|notes| {
            plan.nodes_n = notes.nodes_n;
            let again = match plan.deleted_packs_n {
                // Fragments are merged without a second look.
                0 => 0,
                _ => 2 + 4 + looked.since(&notes.first).total() - notes.mark_reads_n,
            };
            // Each that is repeated is read, if it is not cached, and deleted.
            let per_fragment_n = if self.repository.cache.is_some() { 1 } else { 2 };
            // The notice, put and read again; the sessions' marks and decisions; all that the plan was made from, but for the
            // manifests; what is rescued; the fragments; the decision; the notice and the mark.
            plan.requests_n = again
                + order_reads_n
                + reads_n
                + writes_n(PackKind::Data, self.repository.pack_bytes_target(PackKind::Data))
                + writes_n(PackKind::Meta, self.repository.pack_bytes_target(PackKind::Meta))
                + per_fragment_n * affected.len() as u64
                + fragments_n
                + 1
                + plan.deleted_packs_n
                + 2;
            notes.plan = plan.clone();
            notes.planned = self.repository.store.requests();
        });
        Ok(Choice { packs: chosen, fragments: small })
    }

    async fn put_notice(&self, packs: &BTreeSet<(PackKind, PackId)>) -> Result<()> {
        let name = names::of_session(PRUNE, self.me);
        let notice = NoticeRecord { put_ms: now_ms(), packs: packs.iter().copied().collect() };
        match self.repository.store.create(&name, self.repository.seal(&name, &notice)?).await? {
            Created::Yes => Ok(()),
            Created::Taken => Err(Error::Conflict(format!("{name} is taken; try again"))),
        }
    }

    async fn others(&self) -> Result<Vec<Other>> {
        let undecided = session::undecided(self.repository).await?;
        // By the store's own clock, where we have a mark: it says what time it was there at most a refresh ago. A plan has
        // none, and only shows what it finds.
        let mine = undecided.iter().find(|mark| mark.id == self.me).map(|mark| mark.modified_ms);
        let now_ms = mine.unwrap_or_else(now_ms);
        let dead_after = self.options.dead_after;
        let other = |mark: session::Mark| {
            let looks_dead = session::looks_dead(mark.modified_ms, now_ms, dead_after);
            Other { id: mark.id, looks_dead }
        };
        Ok(undecided.into_iter().filter(|mark| mark.id != self.me).map(other).collect())
    }

    async fn wait(&self, others: &[Other]) -> Result<bool> {
        if !self.options.wait {
            return Ok(false);
        }
        for other in others {
            // Of two prunes that would wait for one another, one must go.
            let mark = session::read(self.repository, other.id).await?;
            if mark.is_some_and(|mark| mark.operation == "prune") && other.id < self.me {
                return Ok(false);
            }
        }
        self.progress.event(Event::Waiting { sessions_n: others.len() as u64 });
        tokio::time::sleep(WAIT).await;
        Ok(true)
    }

    async fn fence(&self, other: SessionId) -> Result<()> {
        session::fence_any(self.repository, other, self.me, "it looked dead to a prune").await
    }

    async fn rescue(&self, survey: &Survey<Vec<Snapshot>>, chunks: &[ChunkNumber]) -> Result<Vec<PackContents>> {
        let windows = self.windows(survey, chunks).await?;
        let (sender, mut stored) = mpsc::unbounded_channel();
        let from = (&self.reader, &survey.census);
        let compression = self.options.compression;
        let done = repack::perform(from, self.repository, windows, compression, self.progress, sender).await;
        done.map_err(RepackError::into_error)?;
        let mut contents = Vec::new();
        while let Some(pack) = stored.recv().await {
            contents.push(pack);
        }
        Ok(contents)
    }

    async fn put_fragment(&self, number: u32, packs: Vec<PackContents>) -> Result<()> {
        let name = FragmentName { session: self.me, number };
        fragments::put(self.repository, name, packs).await.map(drop)
    }

    async fn commit(&self, merged: &Merged) -> Result<()> {
        let merge = MergeRecord {
            operation: "prune".to_owned(),
            ended_ms: now_ms(),
            fragments_n: merged.fragments_n,
            supersedes: merged.supersedes.iter().copied().collect(),
            notices: merged.notices.iter().copied().collect(),
        };
        self.in_doubt.store(true, Ordering::Relaxed);
        let decided = session::decide(self.repository, self.me, MERGES, &merge).await;
        let is_final = decided.as_ref().err().is_none_or(|undecided| undecided.is_final);
        self.in_doubt.store(!is_final, Ordering::Relaxed);
        decided.map_err(|undecided| undecided.error)
    }

    async fn delete_fragment(&self, name: FragmentName) -> Result<()> {
        self.repository.store.delete(&names::fragment(name)).await
    }

    async fn delete_pack(&self, kind: PackKind, id: PackId) -> Result<()> {
        self.repository.store.delete(&names::pack(kind, id)).await?;
        self.progress.event(Event::Deleted);
        Ok(())
    }

    async fn delete_own_notice(&self) -> Result<()> {
        self.delete_notice(self.me).await
    }

    async fn delete_notice(&self, id: SessionId) -> Result<()> {
        self.repository.store.delete(&names::of_session(PRUNE, id)).await
    }
}
