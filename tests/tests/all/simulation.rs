//! Many clients at once over a store that fails, in an order that a seed decides: they back up, forget, prune, restore, check
//! and reindex; they are killed, sleep for a day while others take them for dead, and get errors for what was done, for what
//! was not, and for what will be. Nothing that was committed and not forgotten may be lost, at no moment.
//!
//! A failure names its seed. The order, the dumps and the faults follow from it; keys, ids and salts are random all the same,
//! so a seed may need more than one try. Other seeds, and more of them:
//!
//! ```text
//! DEDUMP_SIMULATION_SEEDS=17 cargo nextest run -p dedump-tests simulation
//! DEDUMP_SIMULATION_SEEDS=100-199 cargo nextest run -p dedump-tests simulation --no-capture
//! ```

use crate::kit::dumps::{self, Streams, StreamsEngine};
use crate::kit::random::Random;
use crate::kit::simulated::{Event, Pending, Request, Simulated, cut_off, unavailable};
use crate::kit::{get_back, open, secret, snapshots};
use crate::model::small_chunks;
use dedump_core::{
    BackupOptions, CreateOptions, DeltaMode, Error, MaxUnused, OpenOptions, PruneOptions, PruneOutcome, ReadData,
    Repository, Result, Snapshot, SnapshotId, Store, backup, check, forget, plan_prune, prune, reindex,
};
use futures::StreamExt;
use futures::channel::mpsc;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Seeds of the suite's own run.
const SEEDS: std::ops::Range<u64> = 0..40;
/// Requests that the suite's own run makes, at least.
const REQUESTS_MIN: usize = 100_000;
/// Operations that begin with one seed.
const TASKS: usize = 90;
/// After so many requests everything is looked at.
const AUDIT_EVERY: usize = 500;
/// How often a reader that met a prune tries, at most; and how many prunes leave nothing to the next.
const TRIES: usize = 4;

#[test]
fn many_clients_over_a_store_that_fails_lose_nothing() {
    let chosen = std::env::var("DEDUMP_SIMULATION_SEEDS").ok();
    let seeds = chosen.as_deref().map_or(SEEDS, |text| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u64>().expect("DEDUMP_SIMULATION_SEEDS is like 7 or 100-199");
        number(first)..number(last) + 1
    });
    let mut total = Counts::default();
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        total.add(&tokio::task::LocalSet::new().block_on(&runtime, play(seed)));
    }
    eprintln!("{total:?}");
    if chosen.is_none() {
        assert!(total.requests_n >= REQUESTS_MIN, "{total:?}");
        let Counts { committed_n, forgotten_n, pruned_n, fenced_n, killed_n, slept_n, faults_n, .. } = total;
        let all = [committed_n, forgotten_n, pruned_n, fenced_n, killed_n, slept_n, faults_n];
        assert!(all.iter().all(|count| *count >= 40), "each of them is met: {total:?}");
    }
}

/// What is done to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Nothing, and nobody is taken for dead: whatever is begun succeeds.
    Fair,
    /// They are killed, sleep, and are taken for dead.
    Rude,
    /// And the store fails.
    Foul,
}

/// What one client does.
#[derive(Debug, Clone)]
enum Task {
    BackUp { run: usize, source: usize, delta: DeltaMode },
    Forget { choice: usize },
    Restore { choice: usize },
    Prune(PruneOptions),
    PlanPrune(PruneOptions),
    Check,
    Reindex,
}

/// What came of it.
enum Did {
    BackedUp(SnapshotId),
    Forgot(SnapshotId),
    Pruned(PruneOutcome, usize),
    Restored { tries_n: usize },
    Nothing,
}

#[derive(Debug, Default)]
struct Counts {
    requests_n: usize,
    committed_n: usize,
    in_doubt_n: usize,
    forgotten_n: usize,
    pruned_n: usize,
    waited_n: usize,
    fenced_n: usize,
    restored_n: usize,
    restored_again_n: usize,
    killed_n: usize,
    slept_n: usize,
    faults_n: usize,
    failed_n: usize,
    audits_n: usize,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.requests_n += other.requests_n;
        self.committed_n += other.committed_n;
        self.in_doubt_n += other.in_doubt_n;
        self.forgotten_n += other.forgotten_n;
        self.pruned_n += other.pruned_n;
        self.waited_n += other.waited_n;
        self.fenced_n += other.fenced_n;
        self.restored_n += other.restored_n;
        self.restored_again_n += other.restored_again_n;
        self.killed_n += other.killed_n;
        self.slept_n += other.slept_n;
        self.faults_n += other.faults_n;
        self.failed_n += other.failed_n;
        self.audits_n += other.audits_n;
    }
}

/// What must hold of the repository.
#[derive(Default)]
struct Ledger {
    /// What each run of a backup dumps. Its snapshot says in a tag which run it is of.
    dumps: Vec<Streams>,
    /// Runs that said that they committed.
    committed: BTreeMap<SnapshotId, usize>,
    /// Runs that said that they were fenced.
    fenced: BTreeSet<usize>,
    /// Snapshots that somebody began to forget.
    doomed: BTreeSet<SnapshotId>,
    /// Those of which somebody said that they are forgotten.
    forgotten: BTreeSet<SnapshotId>,
}

type SharedLedger = Arc<Mutex<Ledger>>;

/// A client at work.
struct Running {
    task: Task,
    handle: JoinHandle<Result<Did>>,
    faults_n: usize,
    asleep_until: usize,
}

struct Simulation {
    seed: u64,
    weather: Weather,
    random: Random,
    store: Simulated,
    ledger: SharedLedger,
    begun_n: usize,
    clients: BTreeMap<usize, Running>,
    pending: Vec<Pending>,
    /// Requests that nobody waits for any more, and when they arrive.
    late: Vec<(usize, Request)>,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    counts: Counts,
}

async fn play(seed: u64) -> Counts {
    let mut simulation = Simulation::create(seed).await;
    let mut clients_n = 1;
    while simulation.begun_n < TASKS || !simulation.clients.is_empty() {
        while simulation.begun_n < TASKS && simulation.clients.len() < clients_n {
            simulation.begin();
            // Calm times and crowded ones: while many are at work, few prunes come to an end.
            if simulation.one_in(4) {
                clients_n = 1 + simulation.random.below(6);
            }
        }
        simulation.gather().await;
        simulation.step().await;
    }
    simulation.end().await;
    simulation.counts
}

impl Simulation {
    async fn create(seed: u64) -> Simulation {
        let store = Simulated::default();
        let options = CreateOptions { chunker: small_chunks(), threads_n: 1, ..CreateOptions::default() };
        Repository::create(store.plain(), &secret(), options).await.expect("creates");
        let (sender, events) = mpsc::unbounded();
        let weather = [Weather::Fair, Weather::Rude, Weather::Foul, Weather::Foul][seed as usize % 4];
        Simulation {
            seed,
            weather,
            random: Random::seeded(seed),
            store,
            ledger: SharedLedger::default(),
            begun_n: 0,
            clients: BTreeMap::new(),
            pending: Vec::new(),
            late: Vec::new(),
            sender,
            events,
            counts: Counts::default(),
        }
    }

    /// Says where it happened.
    fn place(&self) -> String {
        format!("seed {}, {:?}, request {}", self.seed, self.weather, self.counts.requests_n)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
    }

    /// Begins another client.
    fn begin(&mut self) {
        let choice = self.random.below(1 << 30);
        let task = match self.random.below(100) {
            0..=44 => {
                let dump = self.dump();
                let mut ledger = self.ledger.lock().expect("nobody panics with it");
                ledger.dumps.push(dump);
                let run = ledger.dumps.len() - 1;
                let delta = if choice.is_multiple_of(3) { DeltaMode::Off } else { DeltaMode::Always };
                Task::BackUp { run, source: choice % 2, delta }
            }
            45..=59 => Task::Forget { choice },
            60..=69 => Task::Restore { choice },
            70..=89 => Task::Prune(self.prune_options()),
            90..=92 => Task::PlanPrune(self.prune_options()),
            93..=96 => Task::Check,
            _ => Task::Reindex,
        };
        let client = self.begun_n;
        self.begun_n += 1;
        let store = self.store.of_client(client, self.sender.clone());
        let act = Act { place: self.place(), simulated: self.store.clone(), ledger: self.ledger.clone() };
        let ending = Ending(client, self.sender.clone());
        let work = task.clone();
        let handle = tokio::task::spawn_local(async move {
            let _ending = ending;
            act.perform(store, work).await
        });
        self.clients.insert(client, Running { task, handle, faults_n: 0, asleep_until: 0 });
    }

    /// The dump before, changed a little; one of any time, whose chunks may be about to go; or a new one.
    fn dump(&mut self) -> Streams {
        let before = {
            let ledger = self.ledger.lock().expect("nobody panics with it");
            match self.random.below(10) {
                0..=4 => ledger.dumps.last().cloned().map(|dump| (dump, true)),
                5..=7 if !ledger.dumps.is_empty() => {
                    Some((ledger.dumps[self.random.below(ledger.dumps.len())].clone(), false))
                }
                _ => None,
            }
        };
        let Some((mut dump, is_edited)) = before else {
            let bytes_n = 2_000 + self.random.below(30_000);
            let mut dump = dumps::one("a", self.random.text(bytes_n));
            dump.insert("b".to_owned(), self.random.bytes(bytes_n / 4));
            return dump;
        };
        if is_edited {
            for bytes in dump.values_mut() {
                dumps::edit(&mut self.random, bytes);
                bytes.truncate(60_000);
            }
        }
        dump
    }

    fn prune_options(&mut self) -> PruneOptions {
        let mut options = PruneOptions::new("host");
        options.max_unused = MaxUnused::Percent([0.0, 0.0, 5.0, 30.0][self.random.below(4)]);
        // By the store's clock, which goes on by ten seconds or so a request.
        let dead_after_secs = match self.weather {
            Weather::Fair => 1 << 40,
            _ => [0, 0, 300, 10_800][self.random.below(4)],
        };
        options.dead_after = Duration::from_secs(dead_after_secs);
        options
    }

    /// Waits until every client waits for the store.
    async fn gather(&mut self) {
        let is_waiting = |pending: &[Pending], client: usize| pending.iter().any(|pending| pending.client == client);
        while self.clients.keys().any(|client| !is_waiting(&self.pending, *client)) {
            match self.events.next().await.expect("we hold a sender ourselves") {
                // One that was killed may have asked before.
                Event::Asked(pending) if self.clients.contains_key(&pending.client) => self.pending.push(pending),
                Event::Asked(_) => {}
                Event::Ended(client) => self.judge(client).await,
            }
        }
    }

    /// Lets one request have its turn, or does something to its client.
    async fn step(&mut self) {
        self.counts.requests_n += 1;
        let now = self.counts.requests_n;
        let secs = 1 + self.random.below(20) as u64;
        self.store.wait(secs);
        if now.is_multiple_of(AUDIT_EVERY) {
            self.audit().await;
        }
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(usize, Request)> = due;
        for (_, request) in due {
            // Nobody hears how it went.
            let _ = self.store.perform(request).await;
        }
        if self.clients.is_empty() {
            return;
        }
        let mut awake: Vec<usize> = self.clients.keys().copied().collect();
        if self.clients.values().any(|running| running.asleep_until <= now) {
            awake.retain(|client| self.clients[client].asleep_until <= now);
        }
        let client = awake[self.random.below(awake.len())];
        if self.weather != Weather::Fair && self.one_in(400) {
            return self.kill(client);
        }
        if self.weather != Weather::Fair && self.one_in(400) {
            self.counts.slept_n += 1;
            let requests_n = 30 + self.random.below(800);
            self.clients.get_mut(&client).expect("it asked").asleep_until = now + requests_n;
            return;
        }
        // Of what a client asks at once, any may come first. In an order that does not tell when they came.
        let mut asked: Vec<usize> = (0..self.pending.len()).collect();
        asked.retain(|at| self.pending[*at].client == client);
        asked.sort_by_key(|at| self.pending[*at].request.kind());
        let at = asked[self.random.below(asked.len())];
        let pending = self.pending.remove(at);
        self.serve(pending).await;
    }

    /// Performs a request, or lets it fail in one of the ways there are.
    async fn serve(&mut self, pending: Pending) {
        let request = pending.request.clone();
        if self.weather != Weather::Foul || !self.one_in(150) {
            return pending.answer(self.store.perform(request).await);
        }
        self.counts.faults_n += 1;
        self.clients.get_mut(&pending.client).expect("it asked").faults_n += 1;
        match self.random.below(6) {
            0 => pending.answer(Err(unavailable())),
            1 => {
                // It is done, and the client never hears of it.
                let _ = self.store.perform(request).await;
                pending.answer(Err(unavailable()));
            }
            2 => {
                let at = self.late();
                self.late.push((at, request));
                pending.answer(Err(unavailable()));
            }
            // The first reply was lost on its way, and the client's own retry gets the second.
            3 => {
                let _ = self.store.perform(request.clone()).await;
                pending.answer(self.store.perform(request).await);
            }
            kind => match self.store.perform(request).await {
                Ok(reply) => pending.answer(cut_off(reply, kind == 4).await),
                error => pending.answer(error),
            },
        }
    }

    /// When a request arrives that is late.
    fn late(&mut self) -> usize {
        self.counts.requests_n + 1 + self.random.below(800)
    }

    /// Kills a client. What it had asked may still arrive.
    fn kill(&mut self, client: usize) {
        self.counts.killed_n += 1;
        self.clients.remove(&client).expect("it asked").handle.abort();
        let (gone, left) = std::mem::take(&mut self.pending).into_iter().partition(|asked| asked.client == client);
        self.pending = left;
        let gone: Vec<Pending> = gone;
        for pending in gone {
            match self.random.below(3) {
                0 => {}
                1 => self.late.push((0, pending.request)),
                _ => {
                    let at = self.late();
                    self.late.push((at, pending.request));
                }
            }
        }
    }

    /// Judges what a client says of its work.
    async fn judge(&mut self, client: usize) {
        // One that was killed says nothing.
        let Some(Running { task, handle, faults_n, .. }) = self.clients.remove(&client) else { return };
        self.pending.retain(|pending| pending.client != client);
        let outcome = match handle.await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let place = format!("{}, {task:?}", self.place());
        let mut ledger = self.ledger.lock().expect("nobody panics with it");
        match (&task, outcome) {
            (Task::BackUp { run, .. }, Ok(Did::BackedUp(id))) => {
                self.counts.committed_n += 1;
                ledger.committed.insert(id, *run);
            }
            (_, Ok(Did::Forgot(id))) => {
                self.counts.forgotten_n += 1;
                ledger.forgotten.insert(id);
            }
            (_, Ok(Did::Pruned(outcome, fenced_n))) => {
                self.counts.pruned_n += usize::from(outcome == PruneOutcome::Done);
                self.counts.waited_n += usize::from(matches!(outcome, PruneOutcome::Waiting(_)));
                self.counts.fenced_n += fenced_n;
            }
            (_, Ok(Did::Restored { tries_n })) => {
                self.counts.restored_n += 1;
                self.counts.restored_again_n += usize::from(tries_n > 1);
            }
            (_, Ok(_)) => {}
            (task, Err(error)) => {
                self.counts.failed_n += 1;
                let is_fenced = matches!(&error, Error::Conflict(why) if why.contains("was fenced"));
                match (task, &error) {
                    (Task::BackUp { run, .. }, _) if is_fenced => _ = ledger.fenced.insert(*run),
                    (Task::BackUp { .. }, Error::Store { object, .. }) if object.starts_with("snapshots/") => {
                        self.counts.in_doubt_n += 1;
                    }
                    _ => {}
                }
                let is_explained = match &error {
                    Error::Store { .. } => faults_n > 0,
                    Error::Conflict(_) => faults_n > 0 || is_fenced && self.weather != Weather::Fair,
                    // Another client forgot it, and had listed it, too.
                    Error::NotFound { .. } => matches!(task, Task::Forget { .. }),
                    _ => false,
                };
                assert!(is_explained, "{place}, after {faults_n} faults: {error}");
            }
        }
    }

    /// Looks at everything, as it is stored at this moment.
    async fn audit(&mut self) {
        self.counts.audits_n += 1;
        self.look_at(self.store.copy()).await;
    }

    async fn look_at(&self, store: Store) {
        let place = self.place();
        let repository = open(store).await.expect("opens");
        let standing = snapshots(&repository).await.expect("lists");
        for snapshot in &standing {
            let found = get_back(&repository, snapshot).await;
            let found = found.unwrap_or_else(|error| panic!("{place}: snapshot {}: {error}", snapshot.id.short()));
            let ledger = self.ledger.lock().expect("nobody panics with it");
            assert!(found == ledger.dumps[run_of(snapshot)], "{place}: {} is another", snapshot.id.short());
            assert!(!ledger.forgotten.contains(&snapshot.id), "{place}: {} is back", snapshot.id.short());
            assert!(!ledger.fenced.contains(&run_of(snapshot)), "{place}: {} was fenced", snapshot.id.short());
        }
        let report = check(&repository, ReadData::All, &()).await.expect("checks");
        assert_eq!(report.findings, [], "{place}");
        let ids: BTreeSet<SnapshotId> = standing.iter().map(|snapshot| snapshot.id).collect();
        let ledger = self.ledger.lock().expect("nobody panics with it");
        for id in ledger.committed.keys().filter(|id| !ledger.doomed.contains(id)) {
            assert!(ids.contains(id), "{place}: {} was committed, and is gone", id.short());
        }
    }

    /// When all are gone: nothing is lost, and a prune leaves what is needed.
    async fn end(&mut self) {
        for (_, request) in std::mem::take(&mut self.late) {
            // Nobody hears how it went.
            let _ = self.store.perform(request).await;
        }
        let place = format!("{}, at the end", self.place());
        self.audit().await;
        let mut options = PruneOptions::new("host");
        options.max_unused = MaxUnused::Percent(0.0);
        options.dead_after = Duration::ZERO;
        // By this machine's clock, every mark must be older than the prune's.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let repository = open(self.store.plain()).await.expect("opens");
        let first = prune(&repository, &options, &()).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        // Of a delta that lies in two packs, with other bases in each, the next prune may take the other one: then the bases
        // of the first are needed no more.
        let mut last = first.clone();
        for _ in 1..TRIES {
            last = prune(&repository, &options, &()).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            if last.outcome == PruneOutcome::Nothing {
                break;
            }
        }
        assert_eq!(last.outcome, PruneOutcome::Nothing, "{place}: {first:?}, {last:?}");
        assert_eq!((last.plan.unused_bytes, last.plan.orphans_n), (0, 0), "{place}: {last:?}");
        assert_eq!(self.store.names("prune").await, Vec::<String>::new(), "{place}");
        // Where there was nothing to delete, nobody was in its way.
        if first.outcome == PruneOutcome::Done {
            assert_eq!(self.store.names("sessions").await, Vec::<String>::new(), "{place}");
        }
        self.look_at(self.store.plain()).await;
    }
}

fn run_of(snapshot: &Snapshot) -> usize {
    snapshot.record.tags["run"].parse().expect("a number")
}

/// Tells when a client has ended, however it did.
struct Ending(usize, mpsc::UnboundedSender<Event>);

impl Drop for Ending {
    fn drop(&mut self) {
        // The test may have ended before.
        let _ = self.1.unbounded_send(Event::Ended(self.0));
    }
}

/// What a client knows besides its task.
struct Act {
    place: String,
    simulated: Simulated,
    ledger: SharedLedger,
}

impl Act {
    async fn perform(&self, store: Store, task: Task) -> Result<Did> {
        let repository = Repository::open(store, &secret(), OpenOptions { threads_n: 1, cache: None }).await?;
        match task {
            Task::BackUp { run, source, delta } => {
                let dump = self.ledger.lock().expect("nobody panics with it").dumps[run].clone();
                let mut options =
                    BackupOptions { delta, shrunk_percent: 0, ..BackupOptions::new(format!("s{source}"), "host") };
                options.tags.insert("run".to_owned(), run.to_string());
                let report = backup(&repository, &StreamsEngine(dump), &options, &()).await?;
                Ok(Did::BackedUp(report.snapshot.id))
            }
            Task::Forget { choice } => {
                let Some(chosen) = self.choose(&repository, choice).await? else { return Ok(Did::Nothing) };
                self.ledger.lock().expect("nobody panics with it").doomed.insert(chosen.id);
                forget(&repository, chosen.id).await?;
                Ok(Did::Forgot(chosen.id))
            }
            Task::Restore { choice } => match self.choose(&repository, choice).await? {
                Some(chosen) => self.restore(&repository, &chosen).await,
                None => Ok(Did::Nothing),
            },
            Task::Prune(options) => {
                let report = prune(&repository, &options, &()).await?;
                Ok(Did::Pruned(report.outcome, report.fenced.len()))
            }
            Task::PlanPrune(options) => plan_prune(&repository, &options, &()).await.map(|_| Did::Nothing),
            Task::Check => {
                let report = check(&repository, ReadData::All, &()).await?;
                assert_eq!(report.findings, [], "begun at {}", self.place);
                Ok(Did::Nothing)
            }
            Task::Reindex => reindex(&repository, "host", &()).await.map(|_| Did::Nothing),
        }
    }

    async fn choose(&self, repository: &Repository, choice: usize) -> Result<Option<Snapshot>> {
        let mut listed = snapshots(repository).await?;
        listed.sort_by_key(run_of);
        Ok(if listed.is_empty() { None } else { Some(listed.swap_remove(choice % listed.len())) })
    }

    /// Restores; again, if something was deleted meanwhile.
    async fn restore(&self, repository: &Repository, chosen: &Snapshot) -> Result<Did> {
        for tries_n in 1..=TRIES {
            let deleted_n = self.simulated.packs_deleted_n();
            match get_back(repository, chosen).await {
                Ok(found) => {
                    let ledger = self.ledger.lock().expect("nobody panics with it");
                    assert!(found == ledger.dumps[run_of(chosen)], "begun at {}: another dump", self.place);
                    return Ok(Did::Restored { tries_n });
                }
                Err(error) if error.is_damage() => {
                    if self.ledger.lock().expect("nobody panics with it").doomed.contains(&chosen.id) {
                        return Ok(Did::Nothing);
                    }
                    let is_explained = self.simulated.packs_deleted_n() > deleted_n;
                    assert!(is_explained, "begun at {}: {} {error}", self.place, chosen.id.short());
                }
                Err(error) => return Err(error),
            }
        }
        panic!("begun at {}: {} does not restore, however often", self.place, chosen.id.short());
    }
}
