//! `dedump forget` by a policy, and holds: what is printed, what is refused, and how it exits.

use crate::{Place, Ran};
use dedump_core::internals::keys::{Keys, Secret};
use dedump_core::internals::record::{self, Sealer};
use dedump_core::internals::slot;
use dedump_core::internals::slot_keys::SlotKeys;
use dedump_core::internals::snapshot::{Quality, SnapshotRecord};
use dedump_core::{ChunkId, RepositoryId, SessionId};
use serde_json::Value;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400_000;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_millis()).expect("it is soon after")
}

/// The last noon that is two hours ago at least: what is an hour from it is on the same day, whenever the test runs.
fn newest_noon() -> i64 {
    let noon = DAY / 2;
    (now_ms() - 2 * 3_600_000 - noon).div_euclid(DAY) * DAY + noon
}

/// A place with one real snapshot, of which any number with other times can be made.
struct Past {
    place: Place,
    repository: RepositoryId,
    keys: Keys,
    pattern: SnapshotRecord,
    made_n: u8,
}

impl Past {
    fn new() -> Past {
        let place = Place::empty();
        let created = place.json(["init"]);
        let repository: RepositoryId = created["id"].as_str().expect("an id").parse().expect("an id");
        place
            .run(["backup", "--name", "app.dump", "--host", "db1", "--source", "app", "--", "echo", "x"])
            .expect_exit(0);
        let [slot_path] = &crate::files_below(&place.path("repo/keys"))[..] else { panic!("one key") };
        let name = format!("keys/{}", slot_path.file_name().expect("a name").display());
        let slot = fs::read(slot_path).expect("it can be read");
        let text = fs::read_to_string(place.path("key")).expect("it can be read");
        let secret: ChunkId = text.trim().rsplit(':').next().expect("digits").parse().expect("64 digits");
        let parsed = slot::parse(&name, repository, &slot).expect("parses");
        let slot_keys = SlotKeys::from_key_file(&Secret(secret.0), parsed.salt());
        let secrets = parsed.unwrap_secrets(&slot_keys).expect("is whole").expect("is ours");
        let keys = Keys::derive(secrets).expect("has an epoch");
        let [path] = &crate::files_below(&place.path("repo/snapshots"))[..] else { panic!("one snapshot") };
        let name = format!("snapshots/{}", path.file_name().expect("a name").display());
        let bytes = fs::read(path).expect("it can be read");
        let pattern = record::open(Sealer { repository, keys: &keys }, &name, &bytes).expect("opens");
        // The fragments are those of the real one, whose tombstone keeps them.
        let pattern = SnapshotRecord { fragments_n: 0, ..pattern };
        place.run(["forget", "latest"]).expect_exit(0);
        Past { place, repository, keys, pattern, made_n: 0 }
    }

    /// Makes a snapshot that was begun at a time; returns its id.
    fn snapshot(&mut self, started_ms: i64, change: impl Fn(&mut SnapshotRecord)) -> String {
        self.made_n += 1;
        let id = SessionId([self.made_n; 16]);
        let mut record = SnapshotRecord { started_ms, ended_ms: started_ms + 1000, ..self.pattern.clone() };
        change(&mut record);
        let name = format!("snapshots/{id}");
        let sealer = Sealer { repository: self.repository, keys: &self.keys };
        let bytes = record::seal(sealer, &name, [self.made_n; 32], &record).expect("seals");
        fs::write(self.place.path(&format!("repo/{name}")), bytes).expect("it can be written");
        id.to_string()
    }

    /// One a day, at noon, the youngest two hours old at least; returns their ids, oldest first.
    fn days(&mut self, days: i64) -> Vec<String> {
        let newest = newest_noon();
        (0..days).rev().map(|day| self.snapshot(newest - day * DAY, |_| {})).collect()
    }

    fn standing(&self) -> Vec<String> {
        let listed = self.place.json(["snapshots"]);
        let listed = listed.as_array().expect("an array");
        listed.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
    }
}

#[test]
fn a_policy_says_of_each_snapshot_what_keeps_it_and_forgets_the_others() {
    let mut past = Past::new();
    let ids = past.days(10);
    let odd = past.snapshot(newest_noon() - 3 * DAY + 3_600_000, |record| record.quality = Quality::Suspicious);
    let ahead = past.snapshot(now_ms() + 365 * DAY, |_| {});
    let other = past.snapshot(now_ms() - 900 * DAY, |record| record.source = "web".to_owned());
    let args = ["forget", "--keep-last", "2", "--keep-daily", "4"];

    let dry = past.place.run([&args[..], &["--dry-run"]].concat()).expect_exit(0).out;
    assert_eq!(past.standing().len(), 13);
    let line = |id: &str| dry.lines().find(|line| line.contains(&id[..8])).unwrap_or_else(|| panic!("{id} in {dry}"));
    assert!(dry.starts_with("app on db1: 6 to keep, 6 to remove\n"), "{dry}");
    assert!(line(&ids[9]).starts_with("keep ") && line(&ids[9]).contains("last 1 of 2, daily 20"), "{dry}");
    assert!(line(&ids[6]).contains("(4 of 4)") && !line(&ids[6]).contains("last"), "{dry}");
    assert!(line(&ids[5]).starts_with("remove "), "{dry}");
    assert!(line(&ahead).starts_with("keep ") && line(&ahead).ends_with("in the future"), "{dry}");
    assert!(line(&odd).contains("suspicious"), "{dry}");
    assert!(line(&other).contains("last 1 of 2"), "{dry}");
    assert!(dry.ends_with("would forget 6 of 13 snapshots; nothing was changed\n"), "{dry}");

    let told = past.place.json([&args[..], &["-n"]].concat());
    assert_eq!((&told["dry_run"], &told["kept"], &told["removed"]), (&true.into(), &7.into(), &6.into()));
    assert_eq!(told["policy"]["keep_daily"], "4");
    let group = &told["groups"][0];
    assert_eq!((&group["by"]["source"], &group["by"]["host"]), (&"app".into(), &"db1".into()));
    let judged = |id: &str| {
        let all = group["snapshots"].as_array().expect("an array");
        all.iter().find(|one| one["id"] == id).expect("it is there").clone()
    };
    assert_eq!(judged(&ids[8])["rules"][0]["rule"], "last");
    assert_eq!((&judged(&ids[8])["rules"][1]["number"], &judged(&ids[8])["rules"][1]["of"]), (&2.into(), &4.into()));
    assert_eq!((&judged(&ids[0])["keep"], &judged(&ids[0])["rules"]), (&false.into(), &Value::Array(vec![])));

    let forgot = past.place.run(args).expect_exit(0).out;
    assert!(
        forgot.ends_with("forgot 6 of 13 snapshots; their space is freed by the next `dedump prune`\n"),
        "{forgot}"
    );
    let left = past.standing();
    assert!(ids[6..].iter().chain([&ahead, &other]).all(|id| left.contains(id)) && left.len() == 7, "{left:?}");
    let again = past.place.run(args).expect_exit(0).out;
    assert!(again.ends_with("nothing to forget: 7 snapshots kept\n"), "{again}");
}

#[test]
fn filters_and_groups_bound_what_a_policy_looks_at() {
    let mut past = Past::new();
    let prod = |record: &mut SnapshotRecord| _ = record.tags.insert("env".to_owned(), "prod".to_owned());
    let ids = past.days(3);
    let tagged = past.snapshot(now_ms() - 40 * DAY, prod);
    let web = past.snapshot(now_ms() - 50 * DAY, |record| record.source = "web".to_owned());
    let forget = |more: &[&str]| past.place.json([&["forget", "--keep-last", "1", "-n"], more].concat());
    let removed = |told: Value| {
        let removed = told["snapshots"].as_array().expect("an array").clone();
        removed.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(removed(forget(&[])), [&tagged, &ids[0], &ids[1]].map(Clone::clone));
    assert_eq!(removed(forget(&["--source", "web"])), Vec::<String>::new());
    assert_eq!(removed(forget(&["--before", "2000-01-01"])), Vec::<String>::new());
    assert_eq!(removed(forget(&["--group-by", "source,tag=env"])), [&ids[0], &ids[1]].map(Clone::clone));
    // The last good one of each source stays, in whatever group.
    assert_eq!(removed(forget(&["--group-by", "none"])), [&tagged, &ids[0], &ids[1]].map(Clone::clone));
    assert_eq!(removed(forget(&["--keep-tag", "env=prod"])), [&ids[0], &ids[1]].map(Clone::clone));
    assert!(past.standing().contains(&web));
    let zoned = past.place.run(["forget", "--keep-daily", "9", "--time-zone", "asia/kathmandu", "-n"]).expect_exit(0);
    assert!(zoned.out.contains("+05:45") && zoned.out.contains("(1 of 9)"), "{}", zoned.out);
}

#[test]
fn a_young_snapshot_stays_unless_the_minimum_age_allows() {
    let mut past = Past::new();
    let young = past.snapshot(now_ms() - 60_000, |_| {});
    past.snapshot(now_ms() - 30_000, |_| {});
    let kept = past.place.run(["forget", "--keep-last", "1"]).expect_exit(0).out;
    assert!(kept.contains("younger than 1h") && kept.contains("nothing to forget"), "{kept}");
    past.place.run(["forget", "--keep-last", "1", "--min-age", "10s"]).expect_exit(0);
    assert!(!past.standing().contains(&young));
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let mut past = Past::new();
    let ids = past.days(3);
    for args in [
        vec!["--keep-last", "0"],
        vec!["--keep-daily", "0", "--keep-yearly", "0"],
        vec!["--min-age", "2h"],
        vec!["--group-by", "host"],
        vec!["--keep-tag", "monhtly"],
    ] {
        let ran = past.place.run([&["forget"], &args[..]].concat()).expect_line(2, "--unsafe-keep-nothing");
        assert!(ran.err.contains("keeps no"), "{args:?}: {}", ran.err);
    }
    past.place.run(["forget"]).expect_line(2, "--keep-daily 7");
    past.place.run(["forget", "--host", "db1"]).expect_line(2, "--keep-daily 7");
    assert_eq!(past.standing().len(), 3);
    past.place.run(["forget", "--unsafe-keep-nothing"]).expect_exit(0);
    assert_eq!(past.standing(), ids[2..], "the last good one stays");
}

#[test]
fn what_cannot_be_a_policy_is_one_line_and_exits_2() {
    let mut past = Past::new();
    let id = past.days(1).remove(0);
    for (args, part) in [
        (vec![&*id, "--keep-last", "3"], "leave out --keep-last, or the ids"),
        (vec![&*id, "--keep-within-daily", "3d"], "leave out --keep-within-daily, or the ids"),
        (vec![&*id, "--unsafe-keep-nothing"], "leave out --unsafe-keep-nothing"),
        (vec![&*id, "--min-age", "3d"], "leave out --min-age"),
        (vec!["--keep-last", "3", "--keep-last", "4"], "cannot be used multiple times"),
        (vec!["--keep-last", "three"], "or `all`"),
        (vec!["--keep-last", "-2"], "or `all`"),
        (vec!["--keep-within", "3m"], "as in 90d"),
        (vec!["--keep-within", "0d"], "keeps nothing"),
        (vec!["--keep-daily", "3", "--time-zone", "Berlin"], "as in Europe/Berlin"),
        (vec!["--keep-daily", "3", "--group-by", "source,source"], "named twice"),
        (vec!["--keep-daily", "3", "--group-by", "paths"], "none of source, host"),
        (vec!["--keep-tag", "=x"], "key=value"),
    ] {
        past.place.run([&["forget"], &args[..]].concat()).expect_line(2, part);
    }
    assert_eq!(past.standing(), [id]);
}

#[test]
fn unlimited_is_all() {
    let mut past = Past::new();
    past.days(5);
    for all in ["all", "-1", "unlimited"] {
        let kept = past.place.run(["forget", "--keep-daily", all]).expect_exit(0).out;
        assert!(kept.contains("nothing to forget: 5 snapshots kept"), "{kept}");
    }
}

#[test]
fn holds_keep_snapshots_and_are_shown() {
    let mut past = Past::new();
    let ids = past.days(4);
    let place = &past.place;
    let held = place.run(["hold", &ids[0], "--reason", "audit 2026"]).expect_exit(0).out;
    assert!(held.contains("until it is released"), "{held}");
    let replaced = place.json(["hold", &ids[1], "--reason", "first"]);
    assert_eq!((&replaced["replaced"], &replaced["hold"]["reason"]), (&Value::Null, &"first".into()));
    let replaced = place.json(["hold", &ids[1], "--reason", "second", "--until", "2999-01-01"]);
    assert_eq!(replaced["replaced"]["reason"], "first");
    assert_eq!(replaced["hold"]["until"], "2999-01-01T00:00:00.000Z");
    assert_eq!(replaced["hold"]["holds"], true);

    let listed = place.run(["snapshots"]).expect_exit(0).out;
    assert!(listed.contains("HELD") && listed.contains("until 2999-01-01"), "{listed}");
    let shown = place.run(["show", &ids[0]]).expect_exit(0).out;
    assert!(shown.contains("audit 2026") && shown.contains('@'), "{shown}");
    assert_eq!(place.json(["show", &ids[0]])["hold"]["reason"], "audit 2026");
    assert_eq!(place.json(["show", &ids[2]])["hold"], Value::Null);

    // By id nothing is forgotten where one of them is held; by a policy the others are.
    place.run(["forget", &ids[3], &ids[0]]).expect_line(1, &format!("dedump release {}", &ids[0][..8]));
    assert_eq!(past.standing().len(), 4);
    let kept = place.run(["forget", "--keep-last", "1"]).expect_exit(0).out;
    assert!(kept.contains("held: audit 2026") && kept.contains("held: second, until 2999-01-01 00:00Z"), "{kept}");
    assert_eq!(past.standing(), [&ids[0], &ids[1], &ids[3]].map(Clone::clone));

    place.run(["release", &ids[0][..6]]).expect_exit(0);
    place.run(["release", &ids[0]]).expect_line(1, "dedump snapshots");
    let forgot = place.run(["forget", &ids[0]]).expect_exit(0).out;
    assert!(forgot.contains("dedump prune"), "{forgot}");
    assert_eq!(place.json(["release", &ids[1]])["hold"]["reason"], "second");
}

#[test]
fn a_hold_that_does_not_open_holds_and_an_impossible_one_is_refused() {
    let mut past = Past::new();
    let ids = past.days(2);
    fs::create_dir(past.place.path("repo/holds")).expect("it can be made");
    fs::write(past.place.path(&format!("repo/holds/{}", ids[0])), b"junk").expect("it can be written");
    past.place.run(["forget", &ids[0]]).expect_line(1, "does not open");
    let kept = past.place.run(["forget", "--keep-last", "1"]).expect_exit(0).out;
    assert!(kept.contains("held: the hold does not open"), "{kept}");
    assert!(past.place.run(["check"]).expect_exit(4).out.contains("hold-damaged"));
    past.place.run(["release", &ids[0]]).expect_exit(0);
    past.place.run(["check"]).expect_exit(0);

    past.place.run(["hold", &ids[0]]).expect_line(2, "--reason");
    past.place.run(["hold", &ids[0], "--reason", ""]).expect_line(2, "reason");
    past.place.run(["hold", &ids[0], "--reason", "x", "--until", "2001-01-01"]).expect_line(2, "time to come");
    past.place.run(["hold", "0123", "--reason", "x"]).expect_line(1, "0123");
}

#[test]
fn a_snapshot_that_does_not_open_stays_and_is_told() {
    let mut past = Past::new();
    let ids = past.days(3);
    fs::write(past.place.path(&format!("repo/snapshots/{}", ids[1])), b"junk").expect("it can be written");
    let ran = past.place.run(["forget", "--keep-last", "1"]).expect_exit(4);
    assert!(ran.err.contains(&ids[1]) && ran.out.contains("forgot 1 of 2 snapshots"), "{} {}", ran.out, ran.err);
    assert!(past.place.path(&format!("repo/snapshots/{}", ids[1])).exists());
}

#[test]
fn one_that_cannot_be_forgotten_hinders_no_other_and_is_named() {
    let mut past = Past::new();
    let ids = past.days(3);
    // A folder in the way of its tombstone.
    fs::create_dir_all(past.place.path(&format!("repo/forgotten/{}/x", ids[0]))).expect("it can be made");
    let ran = past.place.run(["forget", "--keep-last", "1"]).expect_exit(6);
    assert!(ran.err.contains(&ids[0][..8]) && ran.err.contains("not forgotten"), "{}", ran.err);
    assert!(ran.out.contains("forgot 1 of 3 snapshots"), "{}", ran.out);
    assert_eq!(past.standing(), [&ids[0], &ids[2]].map(Clone::clone));
    let by_id = Ran::of(past.place.command(["--json"]).args(["forget", &ids[0], &ids[2]])).expect_exit(6);
    let told: Value = serde_json::from_str(&by_id.out).expect("JSON");
    assert_eq!((&told["failed"][0]["id"], &told["snapshots"][0]["id"]), (&(*ids[0]).into(), &(*ids[2]).into()));
}

#[test]
fn the_last_good_snapshot_goes_by_its_id_alone_and_that_is_said() {
    let mut past = Past::new();
    let ids = past.days(2);
    let dry = past.place.run(["forget", "-n", &ids[0], &ids[1]]).expect_exit(0).out;
    assert!(dry.contains("that would leave no good snapshot of app"), "{dry}");
    let first = past.place.run(["forget", &ids[1]]).expect_exit(0).out;
    assert!(!first.contains("no good snapshot"), "{first}");
    let last = past.place.run(["forget", &ids[0]]).expect_exit(0).out;
    assert!(last.contains("that leaves no good snapshot of app"), "{last}");
}
