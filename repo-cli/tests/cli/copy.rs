//! `dedump copy`, `dedump init --like`, and `dedump restore --plan`.

use crate::{CHEAP, PASSWORD, Place, noise};
use std::fs;

/// A place whose second repository opens with a key file of its own.
fn two(like: bool) -> (Place, Vec<String>) {
    let place = Place::new();
    let (copy, key) = (place.text("copy"), place.text("copy-key"));
    place.run(["key", "generate", &key]).expect_exit(0);
    let mut init = vec!["--repo".to_owned(), copy.clone(), "--key-file".to_owned(), key.clone(), "init".to_owned()];
    if like {
        init.extend(["--like".to_owned(), place.text("repo"), "--like-key-file".to_owned(), place.text("key")]);
    }
    let next = place.run(init).expect_exit(0).out;
    assert_eq!(next.contains("copy --to"), like, "{next}");
    (place, vec!["--to".to_owned(), copy, "--to-key-file".to_owned(), key])
}

fn with<'a>(command: &[&'a str], to: &'a [String]) -> Vec<&'a str> {
    command.iter().copied().chain(to.iter().map(String::as_str)).collect()
}

#[test]
fn snapshots_are_copied_once_and_restore_from_the_copy() {
    for like in [true, false] {
        let (place, to) = two(like);
        let (first, second) = (noise(7, 300_000), [noise(7, 300_000), b"more".to_vec()].concat());
        let ids = [place.back_up("a.bin", &first), place.back_up("a.bin", &second)];
        let plan = place.json(with(&["copy", "--dry-run"], &to));
        assert_eq!((plan["snapshots"].as_array().map(Vec::len), plan["dry_run"].as_bool()), (Some(2), Some(true)));
        assert_eq!(plan["names_alike"], like);
        let text = place.run(with(&["copy", "--dry-run"], &to)).expect_exit(0).out;
        assert!(text.contains("would copy 2 snapshots") && text.contains("nothing was changed"), "{text}");

        let report = place.json(with(&["copy"], &to));
        let origins: Vec<_> =
            report["snapshots"].as_array().expect("a list").iter().map(|one| &one["origin"]).collect();
        assert_eq!(origins, [&ids[0], &ids[1]]);
        let text = place.run(with(&["copy"], &to)).expect_exit(0).out;
        assert!(text.contains("0 snapshots") && text.contains("2 there already"), "{text}");

        fs::remove_dir_all(place.path("repo")).expect("the first one burns down");
        let out = place.text("out");
        let restore = ["--repo", &to[1], "--key-file", &to[3], "restore", "latest", "--stream", "a.bin", "--to", &out];
        place.run(restore).expect_exit(0);
        assert!(fs::read(&out).expect("is there") == second);
        let checked = place.run(["--repo", &to[1], "--key-file", &to[3], "check", "--read-data"]).expect_exit(0);
        assert!(checked.out.contains("no damage found"), "{}", checked.out);
    }
}

#[test]
fn ids_and_filters_choose_what_is_copied() {
    let (place, to) = two(true);
    let id = place.back_up("a.bin", &noise(7, 1000));
    place.run(["backup", "--name", "b", "--tag", "env=prod", "--", "echo", "b"]).expect_exit(0);
    let report = place.json(with(&["copy", "--tag", "env=prod"], &to));
    assert_eq!(report["snapshots"][0]["source"], "b");
    assert_eq!(report["snapshots"].as_array().map(Vec::len), Some(1));
    let report = place.json(with(&["copy", &id[..8]], &to));
    assert_eq!((&report["snapshots"][0]["origin"], &report["there"]), (&id.into(), &0.into()));
    place.run(with(&["copy", "0123", "--source", "b"], &to)).expect_line(2, "either ids or filters");
    place.run(with(&["copy", "ffffffffffff"], &to)).expect_line(1, "no snapshot");
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let (place, to) = two(true);
    place.back_up("a.bin", &noise(7, 1000));
    place.run(["copy"]).expect_line(2, "--to");
    place.run(["copy", "--to", &to[1]]).expect_line(5, "--to-password-file");
    let same = place.text("repo");
    place.run(["copy", "--to", &same]).expect_line(2, "same repository");
    let nowhere = place.text("nowhere");
    place.run(["copy", "--to", &nowhere]).expect_line(1, "is not a dedump repository");
    place.run(["copy", "--to", "ftp://x/y"]).expect_line(2, "does not know");
    let options = place.write("options", b"# of the other store\nendpoint https://x\n");
    let line = place.run(with(&["copy", "--to-store-option-file", &options], &to)).expect_exit(2).err;
    assert!(line.contains("line 2 is no setting") && !line.contains("https://x"), "{line}");
    place.run(["init", "--like-key-file", "x"]).expect_line(2, "--like");
    let wrong = ["--repo", &nowhere, "init", "--like", &to[1]];
    place.run(wrong).expect_line(5, "--like-password-file");
    assert!(!place.path("nowhere").exists(), "nothing is made before the other one opens");
}

#[test]
fn the_secret_of_the_other_repository_may_be_in_the_environment() {
    let place = Place::new();
    place.back_up("a.bin", &noise(7, 1000));
    let copy = place.text("copy");
    let mut init = place.bare(["--repo", &copy, "init", "--like", &place.text("repo")]);
    init.args(CHEAP).env("DEDUMP_PASSWORD", PASSWORD).env("DEDUMP_LIKE_KEY_FILE", place.path("key"));
    crate::Ran::of(&mut init).expect_exit(0);
    let mut command = place.command(["copy", "--to", &copy]);
    crate::Ran::of(command.env("DEDUMP_TO_PASSWORD", PASSWORD)).expect_exit(0);
    // And does not reach what dedump runs.
    let mut backup = place.command(["backup", "--name", "env", "--", "env"]);
    crate::Ran::of(backup.env("DEDUMP_TO_PASSWORD", PASSWORD).env("DEDUMP_LIKE_PASSWORD", PASSWORD)).expect_exit(0);
    let dump = place.run(["restore", "latest", "--to", "-"]).expect_exit(0).out;
    assert!(dump.contains("DEDUMP_REPO") && !dump.contains(PASSWORD), "{dump}");
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_are_copied() {
    let (place, to) = two(true);
    let bad = place.back_up("bad.bin", &noise(7, 100_000));
    let pack = fs::read_dir(place.path("repo/packs")).expect("lists").next().expect("a pack").expect("reads").path();
    place.run(["backup", "--name", "good", "--", "seq", "20000"]).expect_exit(0);
    let mut bytes = fs::read(&pack).expect("reads");
    bytes[500] ^= 1;
    fs::write(&pack, bytes).expect("writes");
    let ran = place.run(with(&["copy"], &to)).expect_exit(4);
    assert!(ran.err.contains(&format!("snapshot {} was not copied", &bad[..8])), "{}", ran.err);
    assert!(ran.out.contains("1 snapshot,"), "{}", ran.out);
}

#[test]
fn a_plan_says_what_a_restore_reads_and_costs() {
    let place = Place::new();
    place.back_up("a.bin", &noise(7, 3_000_000));
    let prices =
        place.write("prices", b"currency = EUR\nper_gib_out = 1024 # a euro a mebibyte\nper_1000_reads = 1000\n");
    let plan = place.json(["restore", "latest", "--plan", "--prices", &prices]);
    let (read, reads) = (plan["bytes_read"].as_f64().expect("a number"), plan["reads"].as_f64().expect("a number"));
    assert!((3_000_000.0..3_300_000.0).contains(&read), "{plan}");
    let cost = &plan["cost"];
    let near = |value: &serde_json::Value, expected: f64| (value.as_f64().expect("a number") - expected).abs() < 1e-6;
    assert!(near(&cost["traffic"], read / 1_048_576.0) && near(&cost["requests"], reads), "{plan}");
    assert_eq!((&cost["currency"], &plan["frozen"]), (&"EUR".into(), &0.into()));
    let text = place.run(["restore", "latest", "--plan", "--prices", &prices]).expect_exit(0).out;
    assert!(text.contains("packs/") && text.contains("EUR") && text.contains("thaw first  nothing"), "{text}");

    let list = place.text("thaw");
    place.run(["restore", "latest", "--thaw-list", &list]).expect_exit(0);
    assert_eq!(fs::read_to_string(&list).expect("is there"), "");
    place.run(["restore", "latest"]).expect_line(2, "--to");
    place.run(["restore", "latest", "--thaw-list", &list, "--keep-going"]).expect_line(2, "--keep-going");
    let implied = place.run(["restore", "latest", "--prices", &prices]).expect_exit(0).out;
    assert!(implied.contains("EUR"), "{implied}");
    place.run(["restore", "latest", "--plan", "--to", "-"]).expect_line(2, "--plan");
    let bad = place.write("bad", b"per_gib = 1\n");
    place.run(["restore", "latest", "--plan", "--prices", &bad]).expect_line(1, "per_gib_out");
}
