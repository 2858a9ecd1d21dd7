//! The core's traits over a process's history: each step takes the next reply, or stays pending where there is none.

use super::scenario::{Scenario, Weakening};
use super::store::{Decision, Reply, Request};
use super::world::*;
use dedump_core::internals::Created;
use dedump_core::internals::DecisionGround;
use dedump_core::internals::decide_on;
use dedump_core::internals::ground::{FragmentsListed, Ground, Notice, Rule};
use dedump_core::internals::index::PacksListed;
use dedump_core::internals::loader::Standings;
use dedump_core::internals::names::{FragmentName, PackKind};
use dedump_core::internals::pack::PackContents;
use dedump_core::{Error, Result, SessionId};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// The ground that one process stands on.
pub struct Model<'a> {
    /// The process's session.
    pub me: Sid,
    /// What may happen.
    pub scenario: &'a Scenario,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    replies: Vec<Arc<Reply>>,
    at: usize,
    pending: Option<Request>,
    joined: Option<(usize, u128)>,
    /// What is taken for granted from here on, if anything, and what was asked for meanwhile.
    sails: Option<Sail>,
    log: Vec<(Request, Reply)>,
    /// What fragments held when they were read, and how many were read again while sailing.
    read: BTreeMap<FragmentKey, Listed>,
    rereads_n: u32,
    packs_n: u8,
    is_in_doubt: bool,
    /// What fragments said of packs.
    listed: BTreeMap<PackKey, Arc<Pack>>,
    /// What a prune found first, and how often it looked.
    found: Option<BTreeMap<Sid, BTreeSet<PackKey>>>,
    looks_n: u8,
    /// What weakened steps did too early or put off.
    early: BTreeMap<&'static str, Arc<Reply>>,
    put_off: Vec<Request>,
}

/// What a process takes for granted that sails: every change goes well, and of the fragments that it reads a second time,
/// those are gone whose bit is set. (They are immutable, so nothing else can be.)
#[derive(Debug, Clone, Copy)]
pub struct Sail {
    /// One bit a reading.
    pub gone: u32,
}

/// Where a process stands after its replies.
#[derive(Debug)]
pub struct Stand {
    /// The step that it asks for; `None` if it has ended.
    pub pending: Option<Request>,
    /// What stands for all that it retains, if that is known.
    pub digest: Option<u128>,
    /// What it asked for besides, if it sailed, and was told.
    pub log: Vec<(Request, Reply)>,
    /// How many fragments it read again while it sailed.
    pub rereads_n: u32,
}

impl Inner {
    fn sail(&mut self, request: &Request) -> Option<Reply> {
        let sail = self.sails?;
        let Request::Fragment(name) = request else { return request.good_reply() };
        let there = self.read.get(name)?.clone();
        let is_gone = sail.gone >> self.rereads_n & 1 == 1;
        self.rereads_n += 1;
        Some(Reply::Fragment((!is_gone).then_some(there)))
    }
}

impl<'a> Model<'a> {
    /// Creates the ground of a process that was given these replies.
    pub fn create(me: Sid, scenario: &'a Scenario, replies: Vec<Arc<Reply>>, sails: Option<Sail>) -> Model<'a> {
        Model { me, scenario, inner: Mutex::new(Inner { replies, sails, ..Inner::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where the process stands; it is pending or has ended.
    pub fn stand(self) -> Stand {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let digest = inner.joined.filter(|(at, _)| *at == inner.replies.len()).map(|(_, digest)| digest);
        Stand { pending: inner.pending, digest, log: inner.log, rereads_n: inner.rereads_n }
    }

    /// Notes that all the process retains from here on is this: histories that come here with the same are one.
    pub fn join(&self, retained: impl Hash) {
        let mut inner = self.lock();
        inner.joined = Some((inner.at, digest_of((retained, inner.packs_n, inner.is_in_doubt, inner.looks_n))));
    }

    /// Takes a step: the reply that the history has, or none yet.
    pub async fn step(&self, request: Request) -> Arc<Reply> {
        poll_fn(|_| {
            let mut inner = self.lock();
            if inner.at < inner.replies.len() {
                inner.at += 1;
                return Poll::Ready(inner.replies[inner.at - 1].clone());
            }
            match inner.sail(&request) {
                Some(reply) if inner.pending.is_none() => {
                    inner.log.push((request.clone(), reply.clone()));
                    Poll::Ready(Arc::new(reply))
                }
                _ => {
                    // Of several at once the first is next.
                    inner.pending.get_or_insert_with(|| request.clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes a step that changes something.
    pub async fn change(&self, request: Request) -> Result<()> {
        match *self.step(request).await {
            Reply::Done | Reply::Yes(_) => Ok(()),
            _ => Err(lost()),
        }
    }

    /// Takes one of `n` ways.
    pub async fn way(&self, n: usize) -> usize {
        match *self.step(Request::Choose(u8::try_from(n).expect("few ways"))).await {
            Reply::Way(way) => way.into(),
            ref other => panic!("{other:?} is no way"),
        }
    }

    /// Puts a pack of ours with these blobs.
    pub async fn put_pack(&self, blobs: Vec<Blob>) -> Result<Arc<Pack>> {
        let number = {
            let mut inner = self.lock();
            inner.packs_n += 1;
            inner.packs_n - 1
        };
        let pack = Arc::new(Pack { key: (self.me, number), blobs });
        self.change(Request::PutPack(pack.clone())).await?;
        Ok(pack)
    }

    /// Creates our decision; see [`Model::is_in_doubt`].
    pub async fn decide(&self, decision: Decision) -> Result<()> {
        let decided = decide_on(&Deciding { model: self, decision: Arc::new(decision) }).await;
        decided.map_err(|undecided| {
            self.lock().is_in_doubt = !undecided.is_final;
            undecided.error
        })
    }

    /// Returns whether our decision may still take effect.
    pub fn is_in_doubt(&self) -> bool {
        self.lock().is_in_doubt
    }

    /// Returns what fragments said of a pack.
    pub fn listed(&self, key: PackKey) -> Option<Arc<Pack>> {
        self.lock().listed.get(&key).cloned()
    }

    pub(super) fn weakening(&self) -> Weakening {
        self.scenario.weakening
    }

    fn is_writer(&self) -> bool {
        self.scenario.is_writer(self.me)
    }

    /// Takes a step whose reply may have been fetched too early.
    async fn look(&self, what: &'static str, request: Request) -> Arc<Reply> {
        let early = self.lock().early.remove(what);
        match early {
            Some(reply) => reply,
            None => self.step(request).await,
        }
    }

    pub(super) async fn look_early(&self, what: &'static str, request: Request) {
        let reply = self.step(request).await;
        self.lock().early.insert(what, reply);
    }

    /// Notes what a step will be told the next time that it is taken.
    pub(super) fn remember(&self, what: &'static str, reply: Reply) {
        self.lock().early.insert(what, Arc::new(reply));
    }

    /// Returns the notices that a prune found first.
    pub(super) fn found(&self) -> BTreeMap<Sid, BTreeSet<PackKey>> {
        self.lock().found.clone().unwrap_or_default()
    }

    /// Does what was put off.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let put_off = std::mem::take(&mut self.lock().put_off);
        for request in put_off {
            self.change(request).await?;
        }
        Ok(())
    }

    pub(super) fn put_off(&self, request: Request) {
        self.lock().put_off.push(request);
    }

    async fn decisions(&self, of: BTreeSet<Sid>) -> (BTreeMap<Sid, Arc<Decision>>, BTreeSet<Sid>) {
        let reply = self.look("decisions", Request::Decisions(of)).await;
        let Reply::Decisions(decisions) = &*reply else { panic!("{reply:?}") };
        (decisions.clone(), self.tombstones().await)
    }

    async fn tombstones(&self) -> BTreeSet<Sid> {
        if !self.scenario.forgets() {
            return self.scenario.tombstones();
        }
        let reply = self.step(Request::Tombstones).await;
        let Reply::Sessions(tombstones) = &*reply else { panic!("{reply:?}") };
        tombstones.clone()
    }

    /// Lists the sessions that have a mark and no decision, other than ours.
    pub(super) async fn undecided(&self) -> BTreeSet<Sid> {
        let marks = self.look("marks", Request::Marks).await;
        let Reply::Sessions(marks) = &*marks else { panic!("{marks:?}") };
        let others: BTreeSet<Sid> = marks.iter().copied().filter(|session| *session != self.me).collect();
        let (decisions, tombstones) = self.decisions(others).await;
        let is_open =
            |session: &&Sid| **session != self.me && !decisions.contains_key(session) && !tombstones.contains(session);
        marks.iter().filter(is_open).copied().collect()
    }

    pub(super) async fn dead(&self) -> BTreeSet<Sid> {
        let reply = self.look("dead", Request::Dead).await;
        let Reply::Sessions(dead) = &*reply else { panic!("{reply:?}") };
        dead.clone()
    }

    /// Lists the snapshots that stand.
    pub async fn standing(&self) -> Vec<(Sid, BTreeSet<Chunk>)> {
        let reply = self.look("snapshots", Request::Snapshots).await;
        let Reply::Decisions(decisions) = &*reply else { panic!("{reply:?}") };
        let decisions = decisions.clone();
        let tombstones = self.tombstones().await;
        let standing = decisions.iter().filter_map(|(session, decision)| match &**decision {
            Decision::Snapshot(chunks) if !tombstones.contains(session) => Some((*session, chunks.clone())),
            _ => None,
        });
        standing.collect()
    }

    fn is_deaf(&self) -> bool {
        match self.weakening() {
            Weakening::WriterIgnoresNotices => self.is_writer(),
            Weakening::PruneDeafToOthers => !self.is_writer(),
            _ => false,
        }
    }
}

/// Returns the error of a request whose reply is an error.
pub fn lost() -> Error {
    let source = std::io::Error::other("no reply").into();
    Error::Store { action: "cannot write", object: String::new(), hint: None, source }
}

/// Returns 128 bits that stand for a value.
pub fn digest_of(value: impl Hash) -> u128 {
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

impl Ground for Model<'_> {
    async fn notices(&self) -> Result<Vec<Notice>> {
        let weakening = self.weakening();
        if weakening == Weakening::NoticesAfterIndex && self.is_writer() {
            self.look_early("fragments", Request::Fragments).await;
            self.look_early("decisions", Request::Decisions((0..16).collect())).await;
            self.look_early("packs", Request::Packs).await;
        }
        if weakening == Weakening::PacksBeforeNotices && !self.is_writer() && self.lock().looks_n > 0 {
            self.look_early("packs", Request::Packs).await;
        }
        let reply = self.step(Request::Notices).await;
        let Reply::Notices(notices) = &*reply else { panic!("{reply:?}") };
        let mut notices = notices.clone();
        if self.is_deaf() {
            notices.retain(|owner, _| *owner == self.me);
        }
        let mut inner = self.lock();
        inner.looks_n += 1;
        inner.found.get_or_insert_with(|| notices.clone());
        let names = |packs: &BTreeSet<PackKey>| packs.iter().map(|key| (PackKind::Data, pack_id(*key))).collect();
        Ok(notices.iter().map(|(owner, packs)| (session_id(*owner), Ok(names(packs)))).collect())
    }

    async fn fragment_names(&self) -> Result<FragmentsListed> {
        let reply = self.look("fragments", Request::Fragments).await;
        let Reply::Fragments(names) = &*reply else { panic!("{reply:?}") };
        // A load forgets what an earlier one read. So must we: a history that was joined may have read other things.
        let mut inner = self.lock();
        inner.listed.clear();
        inner.read.clear();
        Ok(names.iter().map(|name| (fragment_name(*name), 1)).collect())
    }

    async fn standings(&self, sessions: BTreeSet<SessionId>) -> Result<Standings> {
        let (decisions, tombstones) = self.decisions(sessions.iter().map(sid).collect()).await;
        let counts = |session: &SessionId| match decisions.get(&sid(session)).map(|decision| &**decision) {
            Some(Decision::Snapshot(_) | Decision::Merge(..)) => true,
            Some(Decision::Fence) => self.weakening() == Weakening::FencedCount,
            None => tombstones.contains(&sid(session)) || self.weakening() == Weakening::UncommittedCount,
        };
        Ok(Standings { counting: sessions.into_iter().filter(counts).collect(), ..Standings::default() })
    }

    async fn packs(&self) -> Result<PacksListed> {
        let reply = self.look("packs", Request::Packs).await;
        let Reply::Packs(packs) = &*reply else { panic!("{reply:?}") };
        Ok(PacksListed::from_iter(packs.keys().map(|key| listing(*key))))
    }

    async fn fragment(&self, name: FragmentName) -> Result<Option<Vec<PackContents>>> {
        let reply = self.step(Request::Fragment(fragment_key(&name))).await;
        let Reply::Fragment(listed) = &*reply else { panic!("{reply:?}") };
        let mut inner = self.lock();
        if let Some(listed) = listed {
            inner.read.insert(fragment_key(&name), listed.clone());
        }
        for pack in listed.iter().flat_map(|listed| &**listed) {
            let known = inner.listed.entry(pack.key).or_insert_with(|| pack.clone());
            let is_hidden = |(known, other): (&Blob, &Blob)| known.chunk.is_none() && other.chunk.is_some();
            if known.blobs.iter().zip(&pack.blobs).any(is_hidden) {
                *known = pack.clone();
            }
        }
        Ok(listed.as_ref().map(|listed| listed.iter().map(|pack| contents(pack)).collect()))
    }

    fn keeps(&self, rule: Rule) -> bool {
        self.weakening() != Weakening::Without(rule)
    }
}

/// A decision on its way.
struct Deciding<'m, 'a> {
    model: &'m Model<'a>,
    decision: Arc<Decision>,
}

impl DecisionGround for Deciding<'_, '_> {
    async fn create(&self) -> Result<Created> {
        let is_merge = matches!(*self.decision, Decision::Merge(..));
        let request = match self.model.weakening() {
            Weakening::CommitPlainly if !is_merge => Request::CommitPlainly(self.decision.clone()),
            Weakening::MergePlainly if is_merge => Request::CommitPlainly(self.decision.clone()),
            _ => Request::Commit(self.decision.clone()),
        };
        match *self.model.step(request).await {
            Reply::Yes(true) => Ok(Created::Yes),
            Reply::Yes(false) => Ok(Created::Taken),
            _ => Err(lost()),
        }
    }

    async fn taken(&self) -> Error {
        Error::Conflict("fenced".to_owned())
    }

    async fn is_ours(&self) -> Result<Option<bool>> {
        let there = self.model.step(Request::ReadDecision).await;
        let Reply::Decision(there) = &*there else { panic!("{there:?}") };
        Ok(there.as_ref().map(|there| *there == self.decision))
    }

    fn may_lose_replies(&self) -> bool {
        true
    }
}
