//! What is in the store, and what each request does to it: once, or not at all, or twice, or late.

use super::scenario::Scenario;
use super::world::{Chunk, FragmentKey, Listed, Pack, PackKey, Sid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Decision {
    /// A snapshot of these chunks.
    Snapshot(BTreeSet<Chunk>),
    /// A merge, with all that it says.
    Merge(Vec<FragmentKey>, Vec<Sid>),
    /// It may never commit.
    Fence,
}

impl Decision {
    /// Returns what kind of decision it is, without what it says.
    fn kind(&self) -> Arc<Decision> {
        Arc::new(match self {
            Decision::Snapshot(_) => Decision::Snapshot(BTreeSet::new()),
            Decision::Merge(..) => Decision::Merge(Vec::new(), Vec::new()),
            Decision::Fence => Decision::Fence,
        })
    }
}

/// Everything that is in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Store {
    /// Packs.
    pub packs: BTreeMap<PackKey, Arc<Pack>>,
    /// Fragments.
    pub fragments: BTreeMap<FragmentKey, Listed>,
    /// Marks of sessions.
    pub marks: BTreeSet<Sid>,
    /// Decisions, under `snapshots/` and `merges/`.
    pub decisions: BTreeMap<Sid, Arc<Decision>>,
    /// Tombstones.
    pub tombstones: BTreeSet<Sid>,
    /// Notices, and the packs that they name.
    pub notices: BTreeMap<Sid, BTreeSet<PackKey>>,
    /// Requests that their senders gave up on, or made a second time: each takes effect some day, or never.
    pub late: BTreeSet<(Sid, Request)>,
    /// Processes that are dead: no part of the store, but what an observer may come to know of them.
    pub dead: BTreeSet<Sid>,
    /// How many faults there were.
    pub faults_n: u8,
}

/// A step. Its sender's session is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Puts our mark.
    PutMark,
    /// Deletes our mark.
    DeleteMark,
    /// Lists the notices, and reads them.
    Notices,
    /// Lists the fragments.
    Fragments,
    /// Lists the decisions, and reads those of these sessions.
    Decisions(BTreeSet<Sid>),
    /// Lists the tombstones.
    Tombstones,
    /// Lists the packs.
    Packs,
    /// Reads a fragment.
    Fragment(FragmentKey),
    /// Lists the snapshots that are there, without a look at tombstones.
    Snapshots,
    /// Lists the marks.
    Marks,
    /// Asks which processes are dead.
    Dead,
    /// Puts our notice.
    PutNotice(BTreeSet<PackKey>),
    /// Creates a fence, unless there is a decision; replies whether a fence is there now.
    Fence(Sid),
    /// Puts a pack.
    PutPack(Arc<Pack>),
    /// Puts a fragment of ours.
    PutFragment(u8, Listed),
    /// Creates our decision.
    Commit(Arc<Decision>),
    /// Puts our decision, whatever is there.
    CommitPlainly(Arc<Decision>),
    /// Reads our decision.
    ReadDecision,
    /// Deletes a fragment.
    DeleteFragment(FragmentKey),
    /// Deletes a pack.
    DeletePack(PackKey),
    /// Deletes a notice.
    DeleteNotice(Sid),
    /// Creates a tombstone.
    PutTombstone(Sid),
    /// Deletes a snapshot.
    DeleteSnapshot(Sid),
    /// Reads a pack.
    Pack(PackKey),
    /// Takes one of so many ways: no step in the store.
    Choose(u8),
}

/// What a step tells its sender: no more than it looks at, so that histories do not differ in what nobody sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Done.
    Done,
    /// An error: it may have been done, or may still be.
    Failed,
    /// Whether it was created, or is a fence, or is dead.
    Yes(bool),
    /// Notices.
    Notices(BTreeMap<Sid, BTreeSet<PackKey>>),
    /// Fragments that are there.
    Fragments(BTreeSet<FragmentKey>),
    /// Sessions.
    Sessions(BTreeSet<Sid>),
    /// Decisions.
    Decisions(BTreeMap<Sid, Arc<Decision>>),
    /// Packs that are there.
    Packs(BTreeMap<PackKey, ()>),
    /// A fragment.
    Fragment(Option<Listed>),
    /// A pack.
    Pack(Option<Arc<Pack>>),
    /// Our decision.
    Decision(Option<Arc<Decision>>),
    /// Which way.
    Way(u8),
}

impl Request {
    /// Returns the reply to a request that only changes things and went well.
    pub fn good_reply(&self) -> Option<Reply> {
        match self {
            Request::PutMark
            | Request::DeleteMark
            | Request::PutNotice(_)
            | Request::PutPack(_)
            | Request::PutFragment(..)
            | Request::DeleteFragment(_)
            | Request::DeletePack(_)
            | Request::DeleteNotice(_)
            | Request::PutTombstone(_)
            | Request::DeleteSnapshot(_) => Some(Reply::Done),
            Request::Commit(_) | Request::CommitPlainly(_) => Some(Reply::Yes(true)),
            _ => None,
        }
    }
}

impl Store {
    /// Returns the snapshots that stand.
    pub fn standing(&self) -> impl Iterator<Item = (Sid, &BTreeSet<Chunk>)> {
        self.decisions.iter().filter_map(|(session, decision)| match &**decision {
            Decision::Snapshot(chunks) if !self.tombstones.contains(session) => Some((*session, chunks)),
            _ => None,
        })
    }

    /// Returns whether what a session wrote counts.
    pub fn counts(&self, session: Sid) -> bool {
        match self.decisions.get(&session).map(|decision| &**decision) {
            Some(Decision::Snapshot(_) | Decision::Merge(..)) => true,
            Some(Decision::Fence) => false,
            None => self.tombstones.contains(&session),
        }
    }

    /// Does what a request asks for, at once.
    pub fn apply(&mut self, me: Sid, request: &Request) -> Reply {
        match request {
            Request::PutMark => {
                self.marks.insert(me);
            }
            Request::DeleteMark => {
                self.marks.remove(&me);
            }
            Request::PutNotice(packs) => {
                self.notices.insert(me, packs.clone());
            }
            Request::PutPack(pack) => {
                self.packs.insert(pack.key, pack.clone());
            }
            Request::PutFragment(number, listed) => {
                self.fragments.insert((me, *number), listed.clone());
            }
            Request::DeleteFragment(name) => {
                self.fragments.remove(name);
            }
            Request::DeletePack(pack) => {
                self.packs.remove(pack);
            }
            Request::DeleteNotice(owner) => {
                self.notices.remove(owner);
            }
            Request::PutTombstone(session) => {
                self.tombstones.insert(*session);
            }
            Request::DeleteSnapshot(session) => {
                self.decisions.remove(session);
            }
            Request::CommitPlainly(decision) => {
                self.decisions.insert(me, decision.clone());
                return Reply::Yes(true);
            }
            Request::Commit(decision) => {
                let is_free = !self.decisions.contains_key(&me);
                self.decisions.entry(me).or_insert_with(|| decision.clone());
                return Reply::Yes(is_free);
            }
            Request::Fence(session) => {
                let there = self.decisions.entry(*session).or_insert_with(|| Arc::new(Decision::Fence));
                return Reply::Yes(**there == Decision::Fence);
            }
            Request::Notices => return Reply::Notices(self.notices.clone()),
            Request::Fragments => return Reply::Fragments(self.fragments.keys().copied().collect()),
            Request::Decisions(sessions) => {
                let asked = self.decisions.iter().filter(|(session, _)| sessions.contains(session));
                return Reply::Decisions(asked.map(|(session, decision)| (*session, decision.kind())).collect());
            }
            Request::Snapshots => {
                let is_snapshot = |decision: &Decision| matches!(decision, Decision::Snapshot(_));
                let snapshots = self.decisions.iter().filter(|(_, decision)| is_snapshot(decision));
                return Reply::Decisions(snapshots.map(|(session, decision)| (*session, decision.clone())).collect());
            }
            Request::Tombstones => return Reply::Sessions(self.tombstones.clone()),
            Request::Packs => return Reply::Packs(self.packs.keys().map(|key| (*key, ())).collect()),
            Request::Fragment(name) => return Reply::Fragment(self.fragments.get(name).cloned()),
            Request::Marks => return Reply::Sessions(self.marks.clone()),
            Request::Dead => return Reply::Sessions(self.dead.clone()),
            Request::ReadDecision => return Reply::Decision(self.decisions.get(&me).cloned()),
            Request::Pack(key) => return Reply::Pack(self.packs.get(key).cloned()),
            Request::Choose(_) => unreachable!("a choice is no step in the store"),
        }
        Reply::Done
    }

    /// Returns all that may come of a request.
    pub fn perform(&self, me: Sid, request: &Request, scenario: &Scenario) -> Vec<(Store, Reply)> {
        let mut after = self.clone();
        let reply = after.apply(me, request);
        let mut outcomes = vec![(after.clone(), reply.clone())];
        if self.faults_n == scenario.faults_max || !scenario.may_fail(request) {
            return outcomes;
        }
        after.faults_n += 1;
        // It took effect, and its reply was lost.
        outcomes.push((after.clone(), Reply::Failed));
        if let (Request::Commit(_), Reply::Yes(true)) = (request, &reply) {
            // So it was made again, and found itself.
            outcomes.push((after.clone(), Reply::Yes(false)));
        }
        // Its sender gave up, and it takes effect later.
        let mut not_yet = self.clone();
        not_yet.faults_n += 1;
        not_yet.late.insert((me, request.clone()));
        outcomes.push((not_yet, Reply::Failed));
        // It was made twice, and the first one takes effect later.
        after.late.insert((me, request.clone()));
        outcomes.push((after, reply));
        outcomes
    }

    /// Returns what may happen without any process: a late request takes effect.
    pub fn arrivals(&self) -> Vec<Store> {
        let arrive = |late: &(Sid, Request)| {
            let mut after = self.clone();
            after.late.remove(late);
            after.apply(late.0, &late.1);
            after
        };
        self.late.iter().map(arrive).collect()
    }
}
