//! A server of Redis backed up and put back by the command line, beside a database, and as a file.

use super::*;
use crate::kit::redis::Redis;

/// Fast to dump: nobody is waited for who might want the same RDB.
const SETTINGS: [&str; 2] = ["repl-diskless-sync-delay 0", "save \"\""];

#[test]
fn a_server_is_put_back_replaced_merged_and_given_as_a_file() {
    let (there, here) = (Redis::start(&SETTINGS), Redis::start(&SETTINGS));
    there.call("MSET user:1 one user:2 two cart:1 milk");
    let place = Place::new();
    place.run(["backup", &there.url(), "conf=cmd:echo x", "--name", "nightly"]).expect_exit(0);

    let to = here.url();
    let planned = place.run(["restore", "latest", "--to", &to, "--dry-run"]).expect_exit(0);
    assert!(planned.out.contains("database 0 with 3 keys to 0, which is empty"), "{}", planned.out);
    assert_eq!(here.call("DBSIZE"), "0");
    let restored = place.run(["restore", "latest", "--to", &to]).expect_exit(0);
    assert!(restored.out.contains("restored  3 keys"), "{}", restored.out);
    assert_eq!(here.call("GET user:2"), "two");

    // What is there is not touched unless that is asked for, and then not unless somebody said yes.
    here.call("MSET user:2 new other:1 other");
    place.run(["restore", "latest", "--to", &to]).expect_line(1, "has 4 keys and was left as it is");
    place.run(["restore", "latest", "--to", &to, "--replace"]).expect_line(2, "say --yes");
    assert_eq!((here.call("DBSIZE"), here.call("GET user:2")), ("4".into(), "new".into()));
    let merge = |what: &str| {
        let words = [
            "restore",
            "latest",
            "--source",
            "nightly",
            "--to",
            &to,
            "--yes",
            "--key-prefix",
            "user:",
            "--merge",
            what,
        ];
        place.run(words)
    };
    merge("fail").expect_line(1, "2 of the keys are there already");
    merge("skip").expect_exit(0);
    assert_eq!(here.call("GET user:2"), "new");
    merge("replace").expect_exit(0);
    assert_eq!((here.call("GET user:2"), here.call("GET other:1")), ("two".into(), "other".into()));
    let words = ["restore", "latest", "--source", "nightly", "--to", &to, "--replace", "--yes"];
    let replaced = place.json(words);
    assert_eq!((replaced["keys"].as_u64(), here.call("DBSIZE").as_str()), (Some(3), "3"), "{replaced}");
    let safety = replaced["safety_snapshot"].as_str().expect("it was backed up").to_owned();
    place.run(["restore", &safety, "--to", &to, "--replace", "--yes", "--no-safety-snapshot"]).expect_exit(0);
    assert_eq!(here.call("GET other:1"), "other");

    // As a file, with what to do.
    let file = place.path("dump.rdb").display().to_string();
    let to_file = ["restore", "latest", "--source", "nightly", "--to", &format!("rdb:{file}")];
    let written = place.run(to_file).expect_exit(0);
    assert!(written.out.contains("SHUTDOWN NOSAVE") && written.out.contains("DBSIZE      # 3,"), "{}", written.out);
    assert!(fs::read(&file).expect("is there").starts_with(b"REDIS00"));
    place.run(to_file).expect_line(1, "dump.rdb");
    place.run(to_file.iter().chain(&["--users"])).expect_line(2, "--users is for a server");
    place.run(to_file.iter().chain(&["--force", "--original"])).expect_line(1, "original.rdb");
}

#[test]
fn flags_of_one_kind_of_server_are_refused_for_the_other() {
    let place = Place::new();
    for (words, why) in [
        (
            &["backup", "redis://h", "postgres://h/d", "--name", "n", "--db-password-command", "echo x"][..],
            "one password for two",
        ),
        (&["backup", "--name", "n", "--exact-rdb", "--", "true"], "--exact-rdb is for sources"),
        (&["backup", "redis://h/1", "--exact-rdb"], "the server's own bytes come with a whole RDB alone"),
        (&["restore", "latest", "--to", "redis://h", "--jobs", "2"], "--jobs is not for Redis"),
        (&["restore", "latest", "--to", "redis://h", "--path", "x"], "--path is not for Redis"),
        (&["restore", "latest", "--to", "redis://h", "--original"], "--original are for --to rdb:FILE"),
        (&["restore", "latest", "--to", "postgres://h/d", "--save"], "--save is for Redis and Valkey"),
        (&["restore", "latest", "--to", "x", "--key-prefix", "a"], "--key-prefix is for Redis and Valkey"),
    ] {
        place.run(words).expect_line(2, why);
    }
}
