//! `dedump prune` beside other processes that are killed at any time, and with bad input.
//!
//! How long processes are killed is for the environment to say; the suite does it for some seconds:
//!
//! ```text
//! DEDUMP_KILLING_SECS=180 cargo nextest run -p dedump killed_at_any_time --no-capture
//! ```

use crate::{Place, Ran, noise};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long processes are killed, unless the environment says otherwise.
const KILLING: Duration = Duration::from_secs(15);
/// Different dumps.
const DUMPS: u64 = 30;
const BACKUPS: usize = 6;
const PRUNES: usize = 2;
/// Snapshots that may stand before the older ones are forgotten.
const STANDING: usize = 12;

/// A stream of random numbers from a seed.
pub struct Random(blake3::OutputReader);

impl Random {
    pub fn seeded(seed: u64) -> Random {
        Random(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    pub fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }
}

/// A dump by its number: rows that all dumps share, and a stretch that is its own.
fn dump(number: u64) -> Vec<u8> {
    let (mut rows, mut own) = (Random::seeded(0), Random::seeded(1 + number));
    let mut bytes = Vec::new();
    for row in 0..6_000 {
        let is_own = row / 100 == number || row % 997 == number;
        let value = if is_own { own.below(1 << 40) } else { rows.below(1 << 40) };
        bytes.extend_from_slice(format!("{row}\t{value}\tsomebody@example.org\n").as_bytes());
    }
    bytes
}

/// What a process does.
enum Doing {
    BackUp(u64),
    Prune,
    Forget(Vec<String>),
}

struct Running {
    doing: Doing,
    child: Child,
    killed_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Counts {
    committed_n: usize,
    fenced_n: usize,
    backups_killed_n: usize,
    pruned_n: usize,
    waited_n: usize,
    prunes_killed_n: usize,
    forgotten_n: usize,
    forgets_killed_n: usize,
}

/// A repository at which many processes are at work, and what must hold of it.
struct Crowd {
    place: Place,
    random: Random,
    /// Snapshots that were said to be committed, oldest first, with the number of their dump.
    committed: Vec<(String, u64)>,
    /// Those that somebody began to forget.
    doomed: BTreeSet<String>,
    counts: Counts,
}

impl Crowd {
    fn create() -> Crowd {
        let place = Place::new();
        for number in 0..DUMPS {
            place.write(&format!("dump-{number}"), &dump(number));
        }
        Crowd {
            place,
            random: Random::seeded(4711),
            committed: Vec::new(),
            doomed: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    fn begin(&mut self, doing: Doing) -> Running {
        let mut command = self.place.command(["--json", "--threads", "1"]);
        match &doing {
            Doing::BackUp(number) => {
                let (tag, file) = (format!("dump={number}"), self.place.text(&format!("dump-{number}")));
                command.args(["backup", "--allow-shrink", "--name", "app.dump", "--tag", &tag, "--", "cat", &file]);
            }
            Doing::Prune => {
                // One that was killed looks dead soon; now and then one that is at work, too.
                let dead_after = if self.random.below(2) == 0 { "0s" } else { "1s" };
                let max_unused = ["0%", "5%"][self.random.below(2) as usize];
                command.args(["prune", "--dead-after", dead_after, "--max-unused", max_unused]);
            }
            Doing::Forget(ids) => {
                self.doomed.extend(ids.iter().cloned());
                command.arg("forget").args(ids);
            }
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let is_killed = self.random.below(5) < 2;
        let killed_at = is_killed.then(|| Instant::now() + Duration::from_millis(self.random.below(300)));
        Running { doing, child, killed_at }
    }

    fn begin_backup(&mut self) -> Running {
        let number = self.random.below(DUMPS);
        self.begin(Doing::BackUp(number))
    }

    /// Forgets all but the youngest, if that are too many.
    fn begin_forget(&mut self) -> Option<Running> {
        let standing: Vec<String> =
            self.committed.iter().map(|(id, _)| id).filter(|id| !self.doomed.contains(*id)).cloned().collect();
        (standing.len() > STANDING).then(|| self.begin(Doing::Forget(standing[..STANDING / 2].to_vec())))
    }

    /// Kills it if its time has come; judges it if it has ended.
    fn attend(&mut self, mut running: Running) -> Option<Running> {
        if running.child.try_wait().expect("it is ours").is_some() {
            self.judge(running);
            return None;
        }
        if running.killed_at.is_some_and(|at| at <= Instant::now()) {
            // It may have ended at this very moment, and then it is judged as that.
            running.child.kill().expect("it is ours");
            self.judge(running);
            return None;
        }
        Some(running)
    }

    fn judge(&mut self, Running { doing, child, .. }: Running) {
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (code, said) = (output.status.code(), text(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let counts = &mut self.counts;
        match (doing, code) {
            (Doing::BackUp(number), Some(0)) => {
                let id = told["snapshot"]["id"].as_str().expect("an id").to_owned();
                self.committed.push((id, number));
                counts.committed_n += 1;
            }
            (Doing::BackUp(_), Some(6)) => {
                assert!(said.contains("was fenced") && said.lines().count() == 1, "{said}");
                counts.fenced_n += 1;
            }
            (Doing::BackUp(_), None) => counts.backups_killed_n += 1,
            (Doing::Prune, Some(0)) if told["outcome"] == "waiting" => counts.waited_n += 1,
            (Doing::Prune, Some(0)) => counts.pruned_n += usize::from(told["outcome"] == "done"),
            (Doing::Prune, Some(6)) => {
                assert!(said.contains("was fenced") && said.lines().count() == 1, "{said}");
                counts.fenced_n += 1;
            }
            (Doing::Prune, None) => counts.prunes_killed_n += 1,
            (Doing::Forget(ids), Some(0)) => counts.forgotten_n += ids.len(),
            (Doing::Forget(_), None) => counts.forgets_killed_n += 1,
            (Doing::Forget(ids), _) => panic!("forget {ids:?} ended with {code:?}: {said}"),
            (Doing::BackUp(number), _) => panic!("a backup of dump {number} ended with {code:?}: {said}"),
            (Doing::Prune, _) => panic!("a prune ended with {code:?}: {said}"),
        }
    }

    /// Every snapshot that was committed and not forgotten is there, and all that is there restores bit for bit.
    fn judge_snapshots(&self) {
        let listed = self.place.json(["snapshots"]);
        let listed: BTreeMap<&str, u64> = listed
            .as_array()
            .expect("an array")
            .iter()
            .map(|snapshot| {
                let number = snapshot["tags"]["dump"].as_str().expect("a tag").parse().expect("a number");
                (snapshot["id"].as_str().expect("an id"), number)
            })
            .collect();
        for (id, number) in &self.committed {
            let found = listed.get(&**id);
            assert!(self.doomed.contains(id) || found.is_some(), "{id} was committed, and is gone");
            assert!(found.is_none_or(|found| found == number), "{id} is another");
        }
        for (id, number) in listed {
            let output = self.place.command(["restore", id, "--to", "-"]).output().expect("it runs");
            assert_eq!(output.status.code(), Some(0), "{id}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == dump(number), "{id} restores to something else");
        }
    }
}

#[test]
#[allow(clippy::print_stderr)] // what it met
fn backups_and_prunes_that_are_killed_at_any_time_lose_nothing() {
    let secs = std::env::var("DEDUMP_KILLING_SECS").ok().map(|secs| secs.parse().expect("a number of seconds"));
    let until = Instant::now() + secs.map_or(KILLING, Duration::from_secs);
    let mut crowd = Crowd::create();
    let mut running: Vec<Running> = Vec::new();
    while Instant::now() < until {
        running = running.into_iter().filter_map(|one| crowd.attend(one)).collect();
        let at_work = |is: fn(&Doing) -> bool| running.iter().filter(|one| is(&one.doing)).count();
        let backups_n = at_work(|doing| matches!(doing, Doing::BackUp(_)));
        let prunes_n = at_work(|doing| matches!(doing, Doing::Prune));
        let forgets_n = at_work(|doing| matches!(doing, Doing::Forget(_)));
        // Now and then backups pause: beside many of them few prunes come to an end.
        if until.duration_since(Instant::now()).as_millis() % 2_000 < 1_300 {
            running.extend((backups_n..BACKUPS).map(|_| crowd.begin_backup()));
        }
        running.extend((prunes_n..PRUNES).map(|_| crowd.begin(Doing::Prune)));
        if forgets_n == 0 {
            running.extend(crowd.begin_forget());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    running.into_iter().for_each(|one| crowd.judge(one));
    crowd.judge_snapshots();

    let place = &crowd.place;
    // The marks of those that ended last must be older than the prune's own.
    std::thread::sleep(Duration::from_millis(10));
    let prune = || place.json(["prune", "--dead-after", "0s", "--max-unused", "0%"])["outcome"].clone();
    let prunes_n = (1..=4).find(|_| prune() == "nothing").expect("prunes come to an end");
    assert_eq!(place.json(["prune", "--dry-run", "--max-unused", "0%"])["plan"]["unused_bytes"], 0);
    let checked = place.run(["check", "--read-data"]).expect_exit(0);
    assert_eq!(checked.err, "");
    crowd.judge_snapshots();
    let (counts, standing) = (&crowd.counts, place.json(["snapshots"]).as_array().map(Vec::len));
    eprintln!("{counts:?}, standing {standing:?}, {prunes_n} prunes at the end");
    let Counts { committed_n, backups_killed_n, pruned_n, prunes_killed_n, forgotten_n, .. } = *counts;
    let all = [committed_n, backups_killed_n, pruned_n, prunes_killed_n, forgotten_n];
    assert!(all.iter().all(|count| *count > 0), "each of them is met: {counts:?}");
}

#[test]
fn flags_that_cannot_be_are_one_line_and_exit_2() {
    let place = Place::new();
    place.back_up("app.dump", b"x");
    for (args, part) in [
        (vec!["--max-unused", "101%"], "0% to 100%"),
        (vec!["--max-unused=-1%"], "0% to 100%"),
        (vec!["--max-unused", "-1%"], "'-1'"),
        (vec!["--max-unused", "NaN%"], "0% to 100%"),
        (vec!["--max-unused", "much"], "10GiB"),
        (vec!["--max-unused", ""], "10GiB"),
        (vec!["--max-repack", "-5GiB"], "'-5'"),
        (vec!["--max-repack", "5 bananas"], "10GiB"),
        (vec!["--max-repack", "99999999999TiB"], "10GiB"),
        (vec!["--dead-after", "soon"], "3h"),
        (vec!["--dead-after=-3h"], "3h"),
        (vec!["--dead-after", "3"], "3h"),
        (vec!["--dry-run", "--wait"], "--wait"),
        (vec!["--wait", "--wait"], "multiple times"),
        (vec!["app.dump"], "app.dump"),
    ] {
        place.run([&["prune"], &args[..]].concat()).expect_line(2, part);
    }
    place.run(["sessions", "--dead-after", "later"]).expect_line(2, "3h");
    // What is odd and can be: nothing dies that soon, and nothing is that much.
    place.run(["prune", "--dead-after", "0s", "--max-unused", "100%", "--max-repack", "0"]).expect_exit(0);
}

/// A place with two snapshots, and a pack that nobody needs any more.
struct Scene {
    place: Place,
    kept: Vec<(String, Vec<u8>)>,
}

/// How the commands end while something is there that does not open.
struct Ends {
    backup: i32,
    snapshots: i32,
    check: i32,
    /// What check finds, and nothing else.
    finds: &'static str,
    prune: i32,
    /// What a prune says where it refuses.
    refuses: &'static str,
}

impl Scene {
    fn create() -> Scene {
        let place = Place::new();
        let dumps: Vec<Vec<u8>> =
            [200_000, 100_000, 150_000].iter().zip(1..).map(|(n, seed)| noise(seed, *n)).collect();
        let mut kept: Vec<(String, Vec<u8>)> =
            dumps.into_iter().map(|bytes| (place.back_up("app.dump", &bytes), bytes)).collect();
        place.run(["forget", &kept.remove(1).0]).expect_exit(0);
        Scene { place, kept }
    }

    /// Puts bytes where no command would.
    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.place.path("repo").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, bytes).expect("it can be written");
    }

    fn assert_restores(&self, what: &str) {
        for (id, bytes) in &self.kept {
            let output = self.place.command(["restore", id, "--to", "-"]).output().expect("it runs");
            assert!(output.status.success() && output.stdout == *bytes, "{what}: {id}");
        }
    }

    /// Runs every command; returns the prune's.
    fn judge(&mut self, what: &str, ends: &Ends) -> Ran {
        let bytes = noise(9, 120_000);
        let file = self.place.write("again", &bytes);
        let backup = self.place.run(["backup", "--json", "--allow-shrink", "--name", "app.dump", "--", "cat", &file]);
        let backup = backup.expect_exit(ends.backup);
        let told: Value = serde_json::from_str(&backup.out).expect("JSON");
        self.kept.push((told["snapshot"]["id"].as_str().expect("an id").to_owned(), bytes));
        for (args, code) in [(["snapshots"], ends.snapshots), (["sessions"], 0)] {
            let ran = self.place.run(args).expect_exit(code);
            assert!(ran.err.lines().all(|line| line.starts_with("dedump: ")), "{what}: {}", ran.err);
            assert_eq!(ran.err.lines().count(), usize::from(code != 0), "{what}: {}", ran.err);
        }
        let checked = Ran::of(&mut self.place.command(["--json", "check", "--read-data"])).expect_exit(ends.check);
        let checked: Value = serde_json::from_str(&checked.out).expect("JSON");
        let found = checked["findings"].as_array().expect("an array").iter().map(|one| one["kind"].as_str());
        let found: BTreeSet<&str> = found.map(|kind| kind.expect("a kind")).collect();
        assert_eq!(found, BTreeSet::from([ends.finds]), "{what}: {checked}");
        self.assert_restores(what);
        let prune = self.place.run(["prune", "--max-unused", "0%", "--dead-after", "0s"]);
        let prune = match ends.refuses {
            "" => prune.expect_exit(ends.prune),
            part => prune.expect_line(ends.prune, part),
        };
        self.assert_restores(what);
        prune
    }

    /// Prunes go on and leave nothing, and a check finds nothing.
    fn assert_ends_well(&self, what: &str) {
        self.place.run(["prune", "--max-unused", "0%", "--dead-after", "0s"]).expect_exit(0);
        let plan = self.place.json(["prune", "--dry-run", "--max-unused", "0%"]);
        assert_eq!(plan["plan"]["unused_bytes"], 0, "{what}: {plan}");
        self.place.run(["check", "--read-data"]).expect_exit(0);
        self.assert_restores(what);
    }
}

const SOMEBODY: &str = "0123456789abcdef0123456789abcdef";

/// Bytes that are no object; the last are another object's, so that they open elsewhere.
fn forgeries(place: &Place) -> [Vec<u8>; 4] {
    let snapshot = crate::files_below(&place.path("repo/snapshots")).remove(0);
    [Vec::new(), b"junk".to_vec(), vec![0; 4096], fs::read(snapshot).expect("it can be read")]
}

#[test]
fn a_forged_notice_or_mark_costs_nothing_and_goes_with_the_next_prune() {
    for (folder, finds) in [("prune", "notice-damaged"), ("sessions", "session-damaged")] {
        for number in 0..4 {
            let mut scene = Scene::create();
            let name = format!("{folder}/{SOMEBODY}");
            scene.put(&name, &forgeries(&scene.place)[number]);
            let what = format!("forgery {number} at {name}");
            let ends = Ends { backup: 0, snapshots: 0, check: 4, finds, prune: 0, refuses: "" };
            scene.judge(&what, &ends);
            assert!(!scene.place.path(&format!("repo/{name}")).exists(), "{what} is there still");
            scene.assert_ends_well(&what);
        }
    }
}

#[test]
fn a_forged_decision_costs_nothing_and_is_named() {
    for (folder, finds, snapshots, prune, refuses) in [
        ("snapshots", "snapshot-damaged", 4, 4, "forget it"),
        ("merges", "decision-damaged", 0, 0, ""),
        ("forgotten", "decision-damaged", 0, 0, ""),
    ] {
        for number in 0..4 {
            let mut scene = Scene::create();
            let name = format!("{folder}/{SOMEBODY}");
            scene.put(&name, &forgeries(&scene.place)[number]);
            let what = format!("forgery {number} at {name}");
            scene.judge(&what, &Ends { backup: 0, snapshots, check: 4, finds, prune, refuses });
            // Whoever can delete in the store takes it away again; a snapshot that does not open can be forgotten.
            match folder {
                "snapshots" => _ = scene.place.run(["forget", SOMEBODY]).expect_exit(0),
                _ => fs::remove_file(scene.place.path(&format!("repo/{name}"))).expect("it is there"),
            }
            scene.assert_ends_well(&what);
        }
    }
}

#[test]
fn a_notice_that_is_another_session_s_does_not_open() {
    let mut scene = Scene::create();
    // A real one: a mark that looks alive keeps a prune from going on.
    scene.put(&format!("sessions/{SOMEBODY}"), b"whoever");
    let waiting = scene.place.json(["prune", "--max-unused", "0%"]);
    assert_eq!((&waiting["outcome"], &waiting["waiting_for"][0]), (&"waiting".into(), &SOMEBODY.into()));
    fs::remove_file(scene.place.path(&format!("repo/sessions/{SOMEBODY}"))).expect("it is there");
    let notice = crate::files_below(&scene.place.path("repo/prune")).remove(0);
    let moved = Path::new("prune").join(SOMEBODY);
    fs::rename(notice, scene.place.path("repo").join(&moved)).expect("it can be moved");
    let ends = Ends { backup: 0, snapshots: 0, check: 4, finds: "notice-damaged", prune: 0, refuses: "" };
    scene.judge("a notice under another name", &ends);
    assert!(!scene.place.path("repo").join(&moved).exists());
    scene.assert_ends_well("a notice under another name");
}
