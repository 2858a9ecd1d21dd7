//! The search: breadth first over (content of the store, history of each process), everything interned.

use super::ground::{Model, Sail, Stand, digest_of};
use super::oracle;
use super::process::{self, Ended};
use super::scenario::{Role, Scenario};
use super::states::{Quick, States};
use super::store::{Reply, Request, Store};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// Different states that were reached.
    pub states_n: usize,
    /// Transitions between them.
    pub transitions_n: u64,
    /// Different contents of the store among them.
    pub stores_n: usize,
    /// Different histories of processes among them.
    pub histories_n: usize,
    /// States in which everybody had ended well, so that a last prune was tried.
    pub quiet_n: usize,
    /// Steps after joined histories that were seen to be alike.
    pub twins_n: usize,
    /// Whether all states were reached.
    pub is_complete: bool,
    /// The first thing that must not be.
    pub violation: Option<Violation>,
}

/// What must not be, and how it came about.
#[derive(Debug)]
pub struct Violation {
    /// In words.
    pub what: String,
    /// A shortest run that leads to it, a line a step.
    pub run: Vec<String>,
}

/// Searches until a violation, the end, or so many states.
pub fn explore(scenario: &Scenario, states_max: usize) -> Found {
    Explorer::create(scenario).search(states_max)
}

struct Explorer<'a> {
    scenario: &'a Scenario,
    stores: Vec<StoreInfo>,
    store_numbers: HashMap<Arc<Store>, u32>,
    histories: Vec<History>,
    next: HashMap<(u32, Arc<Reply>), u32>,
    joined: HashMap<(u8, u128), u32>,
    /// For histories that another was joined with: the replies of that other one, if joins are checked; and how often.
    twins: HashMap<u32, Vec<Arc<Reply>>>,
    twins_n: usize,
    /// What a process at this history can do in this store: places in `successors`.
    moves: HashMap<(u32, u32), (u32, u32), Quick>,
    successors: Vec<(u32, u32)>,
    arrivals: HashMap<u32, Vec<u32>, Quick>,
}

struct StoreInfo {
    store: Arc<Store>,
    complaint: Option<String>,
    /// Whether a last prune left garbage; `None` until it was tried.
    rest: Option<Option<String>>,
}

struct History {
    process: u8,
    before: Option<(u32, Arc<Reply>)>,
    pending: Option<Request>,
    ended: Ended,
}

const DEAD: u32 = u32::MAX;

impl<'a> Explorer<'a> {
    fn create(scenario: &'a Scenario) -> Self {
        Explorer {
            scenario,
            stores: Vec::new(),
            store_numbers: HashMap::new(),
            histories: Vec::new(),
            next: HashMap::new(),
            joined: HashMap::new(),
            twins: HashMap::new(),
            twins_n: 0,
            moves: HashMap::default(),
            successors: Vec::new(),
            arrivals: HashMap::default(),
        }
    }

    fn search(mut self, states_max: usize) -> Found {
        let width = 1 + self.scenario.roles.len();
        let mut states = States::create(width, states_max);
        let store = self.store(self.scenario.initial.clone());
        let mut first = vec![store];
        for process in 0..self.scenario.roles.len() as u8 {
            let begun = self.begin(process);
            first.push(begun);
        }
        states.insert(&first, 0);
        let (mut at, mut transitions_n, mut quiet_n) = (0, 0u64, 0);
        let mut violation = None;
        let mut now = vec![0; width];
        'search: while at < states.n() && states.n() < states_max {
            now.copy_from_slice(states.get(at));
            let mut is_stuck = true;
            for process in 0..width {
                let (from, to) = if process == 0 { self.arrive(now[0]) } else { self.moves(now[0], now[process]) };
                for successor in from..to {
                    let (store, history) = match process {
                        0 => (self.arrivals[&now[0]][successor as usize], 0),
                        _ => self.successors[successor as usize],
                    };
                    is_stuck = false;
                    transitions_n += 1;
                    let mut after = [0u32; 16];
                    after[..width].copy_from_slice(&now);
                    after[0] = store;
                    if process > 0 {
                        after[process] = history;
                    }
                    if states.insert(&after[..width], at as u32)
                        && let Some(what) = self.complaint(store, (process > 0).then_some(history))
                    {
                        violation = Some((what, states.n() - 1));
                        break 'search;
                    }
                }
            }
            if is_stuck && self.is_quiet(&now) {
                quiet_n += 1;
                if let Some(what) = self.rest(now[0]) {
                    violation = Some((what, at));
                    break 'search;
                }
            }
            at += 1;
        }
        Found {
            states_n: states.n(),
            transitions_n,
            stores_n: self.stores.len(),
            histories_n: self.histories.len(),
            quiet_n,
            twins_n: self.twins_n,
            is_complete: violation.is_none() && at == states.n(),
            violation: violation.map(|(what, at)| Violation { what, run: self.run_to(&states, at) }),
        }
    }

    // ---- What must hold ----

    fn complaint(&self, store: u32, history: Option<u32>) -> Option<String> {
        if let Some(complaint) = &self.stores[store as usize].complaint {
            return Some(complaint.clone());
        }
        let history = history.filter(|history| *history != DEAD).map(|history| &self.histories[history as usize])?;
        let session = history.process + 1;
        let is_dead = self.stores[store as usize].store.dead.contains(&session);
        match (history.pending.is_none(), history.ended) {
            (true, Ended::Missed) => Some(format!("reader {session} missed something of a snapshot that stands")),
            (true, Ended::PruneMissed) => Some(format!("prune {session} missed something that a snapshot needs")),
            (true, Ended::Refused) => Some(format!("the core refused to go on with {session}")),
            (true, Ended::Conflict) if !self.scenario.is_rude && !is_dead => {
                Some(format!("{session} was fenced, although it is at work"))
            }
            _ => None,
        }
    }

    /// Returns whether nothing went wrong on the way, so that everything must be in order in the end.
    fn is_quiet(&self, state: &[u32]) -> bool {
        let store = &self.stores[state[0] as usize].store;
        store.late.is_empty() && state[1..].iter().all(|history| *history != DEAD)
    }

    /// Has prunes run on their own, and returns what they leave behind.
    fn rest(&mut self, number: u32) -> Option<String> {
        if let Some(rest) = &self.stores[number as usize].rest {
            return rest.clone();
        }
        let rest = last_prunes(self.scenario, &self.stores[number as usize].store);
        self.stores[number as usize].rest = Some(rest.clone());
        rest
    }

    // ---- Interning ----

    fn store(&mut self, store: Store) -> u32 {
        if let Some(number) = self.store_numbers.get(&store) {
            return *number;
        }
        let number = self.stores.len() as u32;
        let store = Arc::new(store);
        let complaint = oracle::complaint(&store);
        self.stores.push(StoreInfo { store: store.clone(), complaint, rest: None });
        self.store_numbers.insert(store, number);
        number
    }

    fn begin(&mut self, process: u8) -> u32 {
        let (stand, ended) = stand(self.scenario, process, Vec::new(), None);
        self.histories.push(History { process, before: None, pending: stand.pending, ended });
        self.histories.len() as u32 - 1
    }

    fn replies(&self, mut history: u32) -> Vec<Arc<Reply>> {
        let mut replies = Vec::new();
        while let Some((before, reply)) = &self.histories[history as usize].before {
            replies.push(reply.clone());
            history = *before;
        }
        replies.reverse();
        replies
    }

    /// Returns the history after one more reply.
    fn after(&mut self, history: u32, reply: Reply) -> u32 {
        let reply = Arc::new(reply);
        if let Some(after) = self.next.get(&(history, reply.clone())) {
            return *after;
        }
        let process = self.histories[history as usize].process;
        let mut replies = self.replies(history);
        replies.push(reply.clone());
        let (stand, ended) = stand(self.scenario, process, replies.clone(), None);
        let digest = self.digest(process, &replies, &stand, ended);
        self.check_twin(history, &reply, (&stand, ended, digest));
        let number = self.histories.len() as u32;
        let after = match digest.map(|digest| self.joined.entry((process, digest))) {
            Some(Entry::Occupied(there)) => {
                if self.scenario.checks_joins {
                    self.twins.entry(*there.get()).or_insert(replies);
                }
                *there.get()
            }
            vacant => {
                if let Some(Entry::Vacant(vacant)) = vacant {
                    vacant.insert(number);
                }
                let before = Some((history, reply.clone()));
                self.histories.push(History { process, before, pending: stand.pending, ended });
                number
            }
        };
        self.next.insert((history, reply), after);
        after
    }

    /// Returns what stands for all that a process retains, and so for what it will do; `None` if nothing does.
    fn digest(&self, process: u8, replies: &[Arc<Reply>], stand: &Stand, ended: Ended) -> Option<u128> {
        let here = stand.digest.map(|digest| digest_of((digest, &stand.pending)));
        match &stand.pending {
            None => Some(digest_of(("ended", ended))),
            Some(request) if self.is_straight(process, request) => self.outlook(process, replies).or(here),
            Some(_) => here,
        }
    }

    /// Returns what stands for all that a process will do, if that depends on nothing but whether changes go well and whether
    /// fragments that it read are still there when it reads them again.
    fn outlook(&self, process: u8, replies: &[Arc<Reply>]) -> Option<u128> {
        let (mut outlook, mut gone) = (Vec::new(), 0u32);
        loop {
            let (stand, ended) = stand(self.scenario, process, replies.to_vec(), Some(Sail { gone }));
            if stand.pending.is_some() || stand.rereads_n > 4 {
                return None;
            }
            outlook.push((gone, stand.log, ended));
            // The next in the order of a tree of choices: counted at its leaves, the last reading first.
            let bits = 0..stand.rereads_n;
            match bits.rev().find(|bit| gone >> bit & 1 == 0) {
                Some(bit) => gone = gone & ((1 << bit) - 1) | 1 << bit,
                None => return Some(digest_of(outlook)),
            }
        }
    }

    /// Panics if a history that was joined with one before this does not go on as this one does.
    fn check_twin(&mut self, history: u32, reply: &Arc<Reply>, expected: (&Stand, Ended, Option<u128>)) {
        let (mut at, mut since) = (history, vec![reply.clone()]);
        while !self.twins.contains_key(&at) {
            let Some((before, reply)) = &self.histories[at as usize].before else { return };
            since.push(reply.clone());
            at = *before;
        }
        let replies: Vec<_> = self.twins[&at].iter().cloned().chain(since.into_iter().rev()).collect();
        let process = self.histories[history as usize].process;
        let (stand, ended) = stand(self.scenario, process, replies.clone(), None);
        let digest = self.digest(process, &replies, &stand, ended);
        let (there, there_ended, there_digest) = expected;
        assert_eq!((&stand.pending, ended, digest), (&there.pending, there_ended, there_digest), "after {replies:?}");
        self.twins_n += 1;
    }

    fn is_straight(&self, process: u8, request: &Request) -> bool {
        matches!(self.scenario.roles[process as usize], Role::Prune | Role::Writer(_))
            && (request.good_reply().is_some() || matches!(request, Request::Fragment(_)))
    }

    // ---- Moves ----

    fn moves(&mut self, store: u32, history: u32) -> (u32, u32) {
        if history == DEAD {
            return (0, 0);
        }
        if let Some(found) = self.moves.get(&(store, history)) {
            return *found;
        }
        let mut successors = Vec::new();
        let (process, request) = {
            let history = &self.histories[history as usize];
            (history.process, history.pending.clone())
        };
        if let Some(request) = request {
            let before = self.stores[store as usize].store.clone();
            let me = process + 1;
            for (after, reply) in before.perform(me, &request, self.scenario) {
                let history = self.after(history, reply);
                self.settle(after, history, &mut successors);
            }
            if (before.dead.len() as u8) < self.scenario.deaths_max && self.scenario.has_session(me) {
                let mut after = Store::clone(&before);
                after.dead.insert(me);
                successors.push((self.store(after), DEAD));
            }
        }
        let from = self.successors.len() as u32;
        self.successors.append(&mut successors);
        let found = (from, self.successors.len() as u32);
        self.moves.insert((store, history), found);
        found
    }

    /// Takes the steps that nobody else can see.
    fn settle(&mut self, store: Store, history: u32, successors: &mut Vec<(u32, u32)>) {
        let me = self.histories[history as usize].process + 1;
        match self.histories[history as usize].pending {
            Some(Request::Choose(n)) => {
                for way in 0..n {
                    let history = self.after(history, Reply::Way(way));
                    self.settle(store.clone(), history, successors);
                }
            }
            Some(Request::DeleteMark) if store.decisions.contains_key(&me) => {
                let mut store = store;
                let reply = store.apply(me, &Request::DeleteMark);
                let history = self.after(history, reply);
                self.settle(store, history, successors);
            }
            _ => {
                let successor = (self.store(store), history);
                if !successors.contains(&successor) {
                    successors.push(successor);
                }
            }
        }
    }

    fn arrive(&mut self, store: u32) -> (u32, u32) {
        if let Some(found) = self.arrivals.get(&store) {
            return (0, found.len() as u32);
        }
        let before = self.stores[store as usize].store.clone();
        let after: Vec<u32> = before.arrivals().into_iter().map(|after| self.store(after)).collect();
        let n = after.len() as u32;
        self.arrivals.insert(store, after);
        (0, n)
    }

    // ---- Showing ----

    fn run_to(&self, states: &States, mut at: usize) -> Vec<String> {
        let mut run = Vec::new();
        loop {
            let before = states.parents[at] as usize;
            let after = states.get(at).to_vec();
            let store = &self.stores[after[0] as usize].store;
            if at == before {
                run.push(format!("at first: {}", oracle::describe(store)));
                break;
            }
            let moved = states.get(before).iter().zip(&after).skip(1).position(|(before, after)| before != after);
            let who = match moved {
                None => "a late request arrives".to_owned(),
                Some(process) => {
                    let request = &self.histories[states.get(before)[process + 1] as usize].pending;
                    let then = match after[process + 1] {
                        DEAD => "dies".to_owned(),
                        history => match &self.histories[history as usize] {
                            History { pending: Some(request), .. } => format!("next: {request:?}"),
                            History { ended, .. } => format!("ends: {ended:?}"),
                        },
                    };
                    format!("{} {:?}, {then}", process + 1, request.as_ref().expect("it moved"))
                }
            };
            run.push(format!("{who}\n      => {}", oracle::describe(store)));
            at = before;
        }
        run.reverse();
        run
    }
}

/// Runs a process from its start through these replies.
fn stand(scenario: &Scenario, process: u8, replies: Vec<Arc<Reply>>, sails: Option<Sail>) -> (Stand, Ended) {
    let model = Model::create(process + 1, scenario, replies, sails);
    let mut run = Box::pin(process::run(&model, &scenario.roles[process as usize]));
    let polled = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    drop(run);
    let stand = model.stand();
    match polled {
        Poll::Ready(ended) => {
            assert!(stand.pending.is_none(), "it waits for nothing when it ends");
            (stand, ended)
        }
        Poll::Pending => {
            assert!(stand.pending.is_some(), "it waits for a step");
            (stand, Ended::Fine)
        }
    }
}

/// Runs prunes on their own until one finds nothing to do, and returns what is wrong afterwards.
fn last_prunes(scenario: &Scenario, store: &Store) -> Option<String> {
    let mut store = store.clone();
    let cleaner = scenario.cleaner();
    let first = scenario.roles.len() as u8;
    for process in first..first + 3 {
        let mut replies = Vec::new();
        loop {
            let (stand, ended) = stand(&cleaner, process, replies.clone(), None);
            let Some(request) = stand.pending else {
                if ended != Ended::Fine {
                    return Some(format!("the last prune ended as {ended:?}"));
                }
                break;
            };
            // Whoever is not done by now is dead.
            let reply = match request {
                Request::Choose(n) => Reply::Way(n - 1),
                request => store.apply(process + 1, &request),
            };
            replies.push(Arc::new(reply));
        }
    }
    oracle::complaint(&store).or_else(|| oracle::garbage(&store))
}
