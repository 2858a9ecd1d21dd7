//! Many hosts, one bucket: four back up, a fifth forgets and prunes, and their links drop and come back.
//!
//! Each host is a network namespace of its own. How long they are at it is for the environment to say, and which seed:
//!
//! ```text
//! DEDUMP_HOSTS_SECS=180 DEDUMP_HOSTS_SEED=7 cargo nextest run -p dedump many_hosts --no-capture
//! ```

use super::network::{Entered, HUB, Network, enter};
use super::prune::Random;
use super::{Place, Ran};
use crate::kit::servers::S3s;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECS: u64 = 20;
const SEED: u64 = 1;
/// Hosts that back up; one more prunes.
const HOSTS: usize = 4;
/// Snapshots that stay of a source.
const KEPT: usize = 3;
/// Longer than any client tries again.
const PATIENCE: Duration = Duration::from_secs(300);

/// A dump of a source on a day: from one to the next a tenth of its blocks of rows change.
fn dump(source: usize, day: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in 0..400 {
        let mut rows = Random::seeded(((source as u64) << 48) | (block << 24) | ((day + block) / 10));
        for row in 0..100 {
            bytes.extend_from_slice(
                format!("{block}\t{row}\t{}\tsomebody@example.org\n", rows.below(1 << 40)).as_bytes(),
            );
        }
    }
    bytes
}

/// The source that all hosts back up; each has one of its own, too.
const SHARED: usize = HOSTS;

/// What a process does.
enum Doing {
    /// Backs a day of a source up, by an attempt's number.
    BackUp {
        source: usize,
        day: u64,
        attempt: u64,
    },
    Forget,
    Prune,
}

struct Running {
    host: usize,
    doing: Doing,
    child: Child,
}

/// A link, and when it is pulled or plugged in next.
struct Link {
    is_up: bool,
    next: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    own_n: usize,
    shared_n: usize,
    fenced_n: usize,
    unreached_n: usize,
    unanswered_n: usize,
    pruned_n: usize,
    waited_n: usize,
    forgotten_n: usize,
    drops_n: usize,
}

/// The hosts, and what must hold of the repository that they share.
struct Fleet {
    place: Place,
    s3s: S3s,
    network: Option<Network>,
    random: Random,
    days: [u64; HOSTS + 1],
    is_forgets_turn: bool,
    attempts_n: u64,
    /// Snapshots that were said to be committed, by id, with their attempt.
    committed: BTreeMap<String, u64>,
    /// The dump of each attempt.
    dumps: BTreeMap<u64, (usize, u64)>,
    /// Attempts that said that they failed, and whether they said that their commit went unanswered.
    failed: BTreeMap<u64, bool>,
    /// Snapshots that were said to be forgotten.
    forgotten: BTreeSet<String>,
    /// Whether a forget broke off, and nobody told what it had forgotten.
    may_have_forgotten: bool,
    counts: Counts,
}

impl Fleet {
    fn create(seed: u64, network: Option<Network>) -> Fleet {
        let s3s = S3s::start_at(if network.is_some() { HUB } else { "127.0.0.1" });
        s3s.create_bucket("backups");
        let fleet = Fleet {
            place: Place::empty(),
            s3s,
            network,
            random: Random::seeded(seed),
            days: [0; HOSTS + 1],
            is_forgets_turn: false,
            attempts_n: 0,
            committed: BTreeMap::new(),
            dumps: BTreeMap::new(),
            failed: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            may_have_forgotten: false,
            counts: Counts::default(),
        };
        Ran::of(&mut fleet.command(["init"])).expect_exit(0);
        fleet
    }

    /// The binary, at the bucket, where the server is.
    fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.place.command(["--allow-http", "--threads", "1"]);
        let keys = [("AWS_ACCESS_KEY_ID", S3s::KEY), ("AWS_SECRET_ACCESS_KEY", S3s::KEY), ("AWS_REGION", "us-east-1")];
        command.env("DEDUMP_REPO", "s3://backups/fleet").envs(keys).env("AWS_ENDPOINT_URL", self.s3s.endpoint());
        command.args(words);
        command
    }

    fn json<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Value {
        let ran = Ran::of(self.command(["--json"]).args(words.into_iter().collect::<Vec<_>>())).expect_exit(0);
        serde_json::from_str(&ran.out).expect("JSON")
    }

    /// Where it is kept what a host's process prints.
    fn path(&self, what: &str, host: usize) -> PathBuf {
        self.place.path(&format!("{what}-{host}"))
    }

    /// Begins the next that a host has to do.
    fn begin(&mut self, host: usize) -> Running {
        let doing = match host {
            HOSTS if self.is_forgets_turn => Doing::Forget,
            HOSTS => Doing::Prune,
            _ => self.next_backup(host),
        };
        self.is_forgets_turn ^= host == HOSTS;
        let mut command = self.command(["--json"]);
        // One each, as hosts have.
        command.env("XDG_CACHE_HOME", self.place.path(&format!("cache-{host}")));
        match &doing {
            Doing::BackUp { source, day, attempt } => {
                let file = self.place.write(&format!("dump-{host}"), &dump(*source, *day));
                let name = if *source == SHARED { "fleet".to_owned() } else { format!("host{source}") };
                let (source, attempt) = (format!("app{source}"), format!("attempt={attempt}"));
                command.args(["backup", "--name", "app.sql", "--source", &source, "--host", &name, "--tag", &attempt]);
                command.args(["--", "cat", &file]);
            }
            Doing::Forget => _ = command.args(["forget", "--keep-last", &KEPT.to_string(), "--min-age", "0s"]),
            Doing::Prune => {
                // Now and then a host that is at work looks dead.
                let dead_after = ["1s", "4s", "1h"][self.random.below(3) as usize];
                let max_unused = ["0%", "5%"][self.random.below(2) as usize];
                command.args(["prune", "--dead-after", dead_after, "--max-unused", max_unused]);
                // Somebody always is at work.
                command.args(["--wait"].iter().take(usize::from(dead_after != "1h")));
            }
        }
        if let Some(network) = &self.network {
            command = network.on(host, &command);
        }
        // Files, since nobody reads along, and a list of snapshots is longer than what a pipe holds.
        let file = |what: &str| File::create(self.path(what, host)).expect("it can be made");
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        Running { host, doing, child: command.spawn().expect("it starts") }
    }

    fn next_backup(&mut self, host: usize) -> Doing {
        let source = if self.random.below(3) == 0 { SHARED } else { host };
        self.days[source] += self.random.below(2);
        self.attempts_n += 1;
        let (day, attempt) = (self.days[source], self.attempts_n);
        self.dumps.insert(attempt, (source, day));
        Doing::BackUp { source, day, attempt }
    }

    /// Judges it if it has ended.
    fn attend(&mut self, mut running: Running) -> Option<Running> {
        let Some(status) = running.child.try_wait().expect("it is ours") else { return Some(running) };
        let read = |what: &str| fs::read_to_string(self.path(what, running.host)).expect("UTF-8");
        let (said, told) = (read("err"), serde_json::from_str(&read("out")).unwrap_or_default());
        assert!(!said.contains("panicked") && !said.contains("damage"), "{said}");
        match status.code() {
            Some(0) => self.note(running.doing, &told),
            Some(6) => {
                assert!(said.contains("was fenced") && said.lines().count() == 1, "{said}");
                self.counts.fenced_n += 1;
                if let Doing::BackUp { attempt, .. } = running.doing {
                    self.failed.insert(attempt, false);
                }
            }
            Some(1) if self.network.is_some() => {
                assert!(said.starts_with("dedump: cannot "), "{said}");
                self.counts.unreached_n += 1;
                match running.doing {
                    // A commit that went unanswered: whether it stands nobody knows.
                    Doing::BackUp { attempt, .. } => _ = self.failed.insert(attempt, said.contains(" snapshots/")),
                    Doing::Forget => self.may_have_forgotten = true,
                    Doing::Prune => {}
                }
            }
            code => panic!("it ended with {code:?}: {said}"),
        }
        None
    }

    /// Notes what somebody says that he did.
    fn note(&mut self, doing: Doing, told: &Value) {
        let id = |snapshot: &Value| snapshot["id"].as_str().expect("an id").to_owned();
        let counts = &mut self.counts;
        match doing {
            Doing::BackUp { source, attempt, .. } => {
                self.committed.insert(id(&told["snapshot"]), attempt);
                *(if source == SHARED { &mut counts.shared_n } else { &mut counts.own_n }) += 1;
            }
            Doing::Forget => {
                let forgotten = told["snapshots"].as_array().expect("an array");
                counts.forgotten_n += forgotten.len();
                self.forgotten.extend(forgotten.iter().map(id));
            }
            Doing::Prune if told["outcome"] == "waiting" => counts.waited_n += 1,
            Doing::Prune => counts.pruned_n += usize::from(told["outcome"] == "done"),
        }
    }

    /// Everybody does one thing after another for so long; links drop and come back.
    fn live(&mut self, secs: u64) {
        let until = Instant::now() + Duration::from_secs(secs);
        let soon = |random: &mut Random, ms: u64| Instant::now() + Duration::from_millis(100 + random.below(ms));
        let mut links: Vec<Link> =
            (0..=HOSTS).map(|_| Link { is_up: true, next: soon(&mut self.random, 4_000) }).collect();
        let mut running: Vec<Option<Running>> = (0..=HOSTS).map(|host| Some(self.begin(host))).collect();
        while Instant::now() < until {
            for host in 0..=HOSTS {
                running[host] =
                    running[host].take().and_then(|one| self.attend(one)).or_else(|| Some(self.begin(host)));
                let Some(network) = &self.network else { continue };
                let link = &mut links[host];
                if link.next <= Instant::now() {
                    link.is_up = !link.is_up;
                    network.set_link(host, link.is_up);
                    self.counts.drops_n += usize::from(!link.is_up);
                    // Most are back before anybody notices more than a pause; some are not, if there is time for it.
                    let down_ms = if self.random.below(16) == 0 { (secs * 200).min(20_000) } else { 2_000 };
                    link.next = soon(&mut self.random, if link.is_up { 4_000 } else { down_ms });
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(network) = &self.network {
            (0..=HOSTS).for_each(|host| network.set_link(host, true));
        }
        let all_up = Instant::now();
        while running.iter().any(Option::is_some) {
            assert!(all_up.elapsed() < PATIENCE, "somebody hangs");
            running = running.into_iter().map(|one| one.and_then(|one| self.attend(one))).collect();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns whether all has happened that may go wrong.
    fn has_met_all(&self) -> bool {
        let Counts { own_n, shared_n, pruned_n, forgotten_n, drops_n, .. } = self.counts;
        let all = [own_n, shared_n, pruned_n, forgotten_n, if self.network.is_some() { drops_n } else { 1 }];
        all.iter().all(|count| *count > 0)
    }

    /// Every snapshot that was committed and not forgotten is there, none that was said to have failed is, and all that is there
    /// restores bit for bit. Returns how many there are.
    fn judge_snapshots(&mut self) -> usize {
        let listed = self.json(["snapshots"]);
        let listed: BTreeMap<String, u64> = listed
            .as_array()
            .expect("an array")
            .iter()
            .map(|snapshot| {
                let attempt = snapshot["tags"]["attempt"].as_str().expect("a tag").parse().expect("a number");
                (snapshot["id"].as_str().expect("an id").to_owned(), attempt)
            })
            .collect();
        for (id, attempt) in &listed {
            assert!(!self.forgotten.contains(id), "{id} was forgotten, and is listed");
            assert!(self.committed.get(id).is_none_or(|committed| committed == attempt), "{id} is another");
            match self.failed.get(attempt) {
                None => {}
                Some(true) => self.counts.unanswered_n += 1,
                Some(false) => panic!("attempt {attempt} was said to have failed, and {id} is listed"),
            }
            let output = self.command(["restore", id, "--to", "-"]).output().expect("it runs");
            assert_eq!(output.status.code(), Some(0), "{id}: {}", String::from_utf8_lossy(&output.stderr));
            let (source, day) = self.dumps[attempt];
            assert!(output.stdout == dump(source, day), "{id} restores to something else");
        }
        for (id, attempt) in &self.committed {
            let source = self.dumps[attempt].0;
            let standing_n = listed.values().filter(|attempt| self.dumps[attempt].0 == source).count();
            // One that broke off may have forgotten what it did not tell, but never the last few.
            let may_be_gone = self.forgotten.contains(id) || self.may_have_forgotten && standing_n >= KEPT;
            assert!(listed.contains_key(id) || may_be_gone, "{id} of source {source} was committed, and is gone");
        }
        listed.len()
    }

    /// Prunes until nothing is left to do, and checks everything.
    fn clean_up_and_check(&self) {
        let prune = || {
            // A store tells the time of an object in seconds: the marks of those that ended last must be older than the prune's.
            std::thread::sleep(Duration::from_millis(1_100));
            self.json(["prune", "--dead-after", "0s", "--max-unused", "0%"])["outcome"].clone()
        };
        assert!((0..5).any(|_| prune() == "nothing"), "prunes come to an end");
        assert_eq!(self.json(["prune", "--dry-run", "--max-unused", "0%"])["plan"]["unused_bytes"], 0);
        let checked = Ran::of(&mut self.command(["check", "--read-data"])).expect_exit(0);
        assert_eq!(checked.err, "");
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
#[allow(clippy::print_stderr)] // what it met
fn many_hosts_lose_nothing_while_links_drop() {
    let network = match enter("hosts::many_hosts_lose_nothing_while_links_drop") {
        Entered::Passed => return,
        Entered::Inside => Some(Network::create(HOSTS + 1)),
        Entered::Forbidden => {
            eprintln!("NO NETWORK NAMESPACES here: the hosts are processes of this one, and no link drops");
            None
        }
    };
    let seed = from_environment("DEDUMP_HOSTS_SEED", SEED);
    eprintln!("seed {seed}");
    let mut fleet = Fleet::create(seed, network);
    let secs = from_environment("DEDUMP_HOSTS_SECS", SECS);
    fleet.live(secs);
    // On a busy machine not everything happens in that time.
    for _ in 0..5 {
        if fleet.has_met_all() {
            break;
        }
        fleet.live(secs);
    }
    let standing_n = fleet.judge_snapshots();
    fleet.clean_up_and_check();
    assert_eq!(fleet.judge_snapshots(), standing_n, "a prune forgets nothing");
    eprintln!("{:?}, standing {standing_n}", fleet.counts);
    assert!(fleet.has_met_all(), "each of them is met: {:?}", fleet.counts);
}
