//! What the command says when the bucket, or the way to it, is not as it should be: one line, with what to do next.

use super::{Place, Ran, noise};
use crate::kit::proxy::{Canned, Fate, Proxy};
use crate::kit::servers::Moto;
use std::process::Command;

/// A repository in a bucket, behind a path on which things go wrong.
struct Far {
    place: Place,
    proxy: Proxy,
    moto: Moto,
}

impl Far {
    fn empty() -> Far {
        let moto = Moto::start();
        moto.create_bucket("backups");
        Far { place: Place::empty(), proxy: Proxy::before(&moto.endpoint()), moto }
    }

    fn new() -> Far {
        let far = Far::empty();
        far.run(&["init"]).expect_exit(0);
        far
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(["--allow-http"]);
        command.args(args);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.env("DEDUMP_REPO", "s3://backups/db").env("AWS_ENDPOINT_URL", self.proxy.endpoint());
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env("AWS_REGION", "us-east-1");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&mut self.command(args))
    }

    /// Backs up so many bytes that do not compress.
    fn back_up(&self, seed: u8, bytes_n: usize) -> Ran {
        let input = self.place.write("input", &noise(seed, bytes_n));
        // Flags before the dump's own command.
        let mut command = self.command(&["backup", "--quiet", "--allow-shrink", "--name", "app.dump"]);
        Ran::of(command.args(["--", "cat", &input]))
    }

    fn snapshots(&self) -> Vec<String> {
        let listed = self.run(&["snapshots", "--json"]).expect_exit(0);
        let listed: serde_json::Value = serde_json::from_str(&listed.out).expect("JSON");
        let id = |snapshot: &serde_json::Value| snapshot["id"].as_str().expect("an id").to_owned();
        listed.as_array().expect("a list").iter().map(id).collect()
    }

    /// Restores the newest snapshot and compares it.
    fn expect_restored(&self, seed: u8, bytes_n: usize) {
        let to = self.place.text("restored");
        self.run(&["restore", "latest", "--quiet", "--stream", "app.dump", "--to", &to]).expect_exit(0);
        assert!(std::fs::read(&to).expect("restored") == noise(seed, bytes_n));
        std::fs::remove_file(to).expect("it is there");
    }
}

#[test]
fn what_the_store_refuses_is_one_line_with_what_to_do() {
    let far = Far::new();
    let region = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'";
    for (refusal, part) in [
        (
            Canned::s3("400 Bad Request", "AuthorizationHeaderMalformed", region),
            "expecting 'eu-central-1'; the region is wrong",
        ),
        (Canned::s3("301 Moved Permanently", "PermanentRedirect", "Use the specified endpoint."), "set AWS_REGION"),
        (Canned::skewed(), "this machine's clock is wrong: set it"),
        (Canned::expired(), "the credentials have expired: get new ones"),
        (Canned::denied(), "the credentials do not allow it"),
        (Canned::s3("403 Forbidden", "SignatureDoesNotMatch", "Check your key."), "the credentials are wrong"),
    ] {
        far.proxy.rule(move |_| refusal.clone());
        for command in
            [&["snapshots"][..], &["check"], &["forget", "latest"], &["prune"], &["restore", "latest", "--to", "-"]]
        {
            far.run(command).expect_line(1, part);
        }
        far.back_up(1, 1_000).expect_line(1, part);
    }
}

#[test]
fn a_bucket_that_is_not_there_is_no_empty_repository() {
    let far = Far::empty();
    for command in [&["init"][..], &["snapshots"], &["check"], &["prune"]] {
        let mut command = far.command(command);
        Ran::of(command.args(["--repo", "s3://nobody/db"])).expect_line(1, "there is no such bucket: create it");
    }
    far.run(&["snapshots"]).expect_line(1, "is not a dedump repository; create one with `dedump init`");
}

#[test]
fn credentials_that_may_not_delete_back_up_and_check_and_are_told_what_they_lack() {
    let far = Far::empty();
    let deny = || far.proxy.rule(|asked| if asked.deletes() { Canned::denied() } else { Fate::Pass });
    deny();
    far.run(&["init"]).expect_line(1, "the credentials may not delete, which init and check --store need");
    far.proxy.clear();
    // What the first attempt left is in nobody's way.
    far.run(&["init", "--quiet"]).expect_exit(0);

    deny();
    for seed in 1..=3 {
        let ran = far.back_up(seed, 400_000).expect_exit(0);
        assert_eq!(ran.err, "");
    }
    far.run(&["check", "--read-data", "--quiet"]).expect_exit(0);
    far.expect_restored(3, 400_000);
    let ended = far.run(&["sessions"]).expect_exit(0).out;
    assert_eq!(ended.matches(" ended ").count(), 3, "{ended}");

    let first = far.snapshots()[0].clone();
    let forgot = far.run(&["forget", &first]).expect_line(1, "is forgotten, but not all of it is gone: cannot delete");
    assert!(forgot.err.contains("may not delete: the next prune by others that may takes it away"), "{}", forgot.err);
    assert_eq!(far.snapshots().len(), 2);
    far.run(&["prune"]).expect_line(1, "the credentials may not delete, which is as it should be for backups");
    far.run(&["check", "--read-data", "--quiet"]).expect_exit(0);

    // Others may: what stayed behind goes.
    far.proxy.clear();
    far.run(&["prune", "--quiet"]).expect_exit(0);
    let name = format!("/backups/db/snapshots/{first}");
    let deleted = far.proxy.seen().into_iter().any(|seen| seen.asked.deletes() && seen.asked.target == name);
    assert!(deleted, "the forgotten snapshot's object is still there");
    assert!(far.run(&["sessions"]).expect_exit(0).out.contains("nobody is at work"));
    far.run(&["check", "--read-data", "--quiet"]).expect_exit(0);
    far.expect_restored(3, 400_000);
}

#[test]
fn a_token_that_expires_midway_is_said_and_the_next_run_goes_on() {
    let far = Far::new();
    far.proxy.rule(|asked| {
        let is_late = asked.method == "PUT" && asked.target.contains("/meta/");
        if is_late { Canned::expired() } else { Fate::Pass }
    });
    let why = far.back_up(1, 400_000).expect_line(1, "the credentials have expired: get new ones and run it again").err;
    assert!(why.contains("cannot write meta/") && why.contains("is not sent twice"), "{why}");
    far.proxy.clear();
    assert!(far.snapshots().is_empty());
    far.back_up(1, 400_000).expect_exit(0);
    far.expect_restored(1, 400_000);
}

#[test]
fn a_path_that_cuts_every_tenth_reply_is_not_noticed() {
    let far = Far::empty();
    far.proxy.every(10, Fate::CutReply);
    far.run(&["init", "--quiet"]).expect_exit(0);
    for seed in 1..=3 {
        assert_eq!(far.back_up(seed, 400_000).expect_exit(0).err, "");
    }
    far.expect_restored(3, 400_000);
    let first = far.snapshots()[0].clone();
    for command in [
        &["forget", "--quiet", &first][..],
        &["prune", "--quiet"],
        &["check", "--read-data", "--quiet"],
        &["stats", "--quiet"],
    ] {
        assert_eq!(far.run(command).expect_exit(0).err, "", "{command:?}");
    }
    far.expect_restored(3, 400_000);
    assert!(far.proxy.seen().len() > 100, "{} requests are too few to tell", far.proxy.seen().len());
}

#[test]
fn storage_classes_and_limits_that_cannot_be_are_refused() {
    let place = Place::new();
    let refused = place.run(["snapshots", "--storage-class", "packs=GLACIER_IR"]);
    refused.expect_line(2, "a directory has no storage classes");
    let far = Far::new();
    for (class, part) in [
        ("snapshots=GLACIER_IR", "only packs and meta are worth one"),
        ("meta=DEEP_ARCHIVE", "must be thawed before it is read"),
        ("packs=two words", "a word of the provider's"),
    ] {
        far.run(&["snapshots", "--storage-class", class]).expect_line(2, part);
    }
    for args in [["--limit-upload", "0"], ["--limit-download", "fast"], ["--limit-upload", "10"]] {
        let ran = far.run(&[&["snapshots"][..], &args].concat()).expect_exit(2);
        assert!(ran.err.contains("give bytes a second with their unit"), "{}", ran.err);
    }
    // What a class is called is for the store to know.
    far.run(&["--storage-class", "packs=COLDER", "backup", "--quiet", "--name", "x", "--", "echo", "x"])
        .expect_line(1, "the store has no such storage class: see --storage-class");
}

#[test]
fn what_lies_in_an_archive_is_planned_thawed_and_restored() {
    let far = Far::new();
    let input = far.place.write("input", &noise(5, 700_000));
    let mut command = far.command(&["backup", "--quiet", "--storage-class", "packs=GLACIER", "--name", "app.dump"]);
    Ran::of(command.args(["--", "cat", &input])).expect_exit(0);
    let list = far.place.text("keys.txt");
    let plan = far.run(&["restore", "latest", "--plan", "--thaw-list", &list]).expect_exit(0).out;
    assert!(plan.contains("to be thawed") && plan.contains("thaw first  1 pack") && plan.contains(&list), "{plan}");
    let keys = std::fs::read_to_string(&list).expect("it is written");
    let [key] = keys.lines().collect::<Vec<_>>()[..] else { panic!("one key: {keys}") };
    assert!(key.starts_with("db/packs/"), "{key}");
    let csv = far.place.text("keys.csv");
    far.run(&["restore", "latest", "--thaw-list", &csv]).expect_exit(0);
    assert_eq!(std::fs::read_to_string(&csv).expect("it is written"), format!("backups,{key}\n"));
    far.run(&["restore", "latest", "--quiet", "--to", "-"]).expect_line(1, "it lies in cold storage: thaw it");

    far.moto.thaw("backups", key);
    let plan = far.run(&["restore", "latest", "--plan", "--thaw-list", &list]).expect_exit(0).out;
    assert!(plan.contains("thaw first  nothing"), "{plan}");
    assert_eq!(std::fs::read_to_string(&list).expect("it is written"), "");
    far.expect_restored(5, 700_000);
}

#[test]
fn copies_go_from_a_bucket_to_another_and_are_read_back() {
    let far = Far::new();
    far.back_up(1, 400_000).expect_exit(0);
    far.back_up(2, 300_000).expect_exit(0);
    let other = "s3://backups/copies";
    far.run(&["--repo", other, "init", "--quiet", "--like", "s3://backups/db"]).expect_exit(0);
    let copied = far.run(&["copy", "--to", other]).expect_exit(0).out;
    assert!(
        copied.contains("2 snapshots") && copied.contains("as they are") && copied.contains("requests"),
        "{copied}"
    );
    let seen = far.proxy.seen();
    let of = |method: &str| -> Vec<&str> {
        let asked = seen.iter().map(|seen| &seen.asked).filter(|asked| asked.method == method);
        asked.map(|asked| asked.target.as_str()).filter(|target| target.starts_with("/backups/copies/packs/")).collect()
    };
    assert!(!of("PUT").is_empty());
    for pack in of("PUT") {
        assert!(of("GET").contains(&pack), "{pack} was read back");
    }
    far.run(&["--repo", other, "check", "--read-data", "--quiet"]).expect_exit(0);
    let to = far.place.text("restored");
    far.run(&["--repo", other, "restore", "latest", "--quiet", "--stream", "app.dump", "--to", &to]).expect_exit(0);
    assert!(std::fs::read(&to).expect("restored") == noise(2, 300_000));
}
