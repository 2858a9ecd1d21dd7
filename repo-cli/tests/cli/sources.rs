//! Several sources by their URLs: one snapshot, a verdict each; and a database by the command line.

use super::*;
use crate::kit::postgres::Postgres;

fn url(postgres: &Postgres) -> String {
    format!("postgres://postgres@/app?host={}", postgres.folder().display())
}

#[test]
fn sources_make_one_snapshot_and_each_may_be_left_out() {
    let place = Place::new();
    let all = ["backup", "--name", "nightly", "a=cmd:echo one", "cmd:echo two", "bad=cmd:sh -c 'echo half; exit 3'"];
    place.run(all).expect_line(1, "source bad: sh failed with exit status 3");
    assert_eq!(place.json(["snapshots"]), serde_json::json!([]));
    let with = |flags: &[&'static str]| place.run(all.iter().copied().chain(flags.iter().copied()));

    with(&["--partial", "--json"]).expect_exit(3);
    let shown = place.json(["show", "latest"]);
    assert_eq!((shown["source"].as_str(), shown["quality"].as_str()), (Some("nightly"), Some("partial")));
    assert!(shown["reasons"][0].as_str().expect("a reason").starts_with("source bad failed: sh failed"), "{shown}");
    let streams = shown["streams"].as_array().expect("streams");
    let names: Vec<&str> = streams.iter().map(|stream| stream["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["a/output", "echo/output"]);
    place.run(["restore", "latest", "--to", &place.text("back")]).expect_exit(0);
    assert_eq!(fs::read(place.path("back/echo/output")).expect("is there"), b"two\n");
    // A time for people, as the others are.
    assert!(
        place.run(["show", "latest"]).out.lines().any(|line| line.starts_with("a.ended_ms") && line.ends_with('Z'))
    );

    with(&["--skip", "bad", "--allow-shrink"]).expect_exit(0);
    with(&["--only", "a", "--allow-shrink"]).expect_exit(0);
    assert_eq!(place.json(["show", "latest"])["streams"].as_array().expect("streams").len(), 1);
    with(&["--only", "b"]).expect_line(2, "no source is called \"b\"; there are a, echo, bad");
}

#[test]
fn sources_that_cannot_be_are_refused_before_anything_is_read() {
    let place = Place::new();
    for (args, part) in [
        (&["cmd:echo x", "cmd:true"][..], "name them, as in --name nightly"),
        (&["cmd:echo x", "cmd:echo y", "--name", "n"], "two sources are called \"echo\" and \"echo\""),
        (&["oracle://db/app", "--name", "n"], "what is \"oracle://db/app\"? a source is postgres://"),
        (&["postgres://db/a/b"], "a slash is in the database's name"),
        (&["postgres://me:s3cret@db/a?x"], "a parameter has no value"),
        (&["postgres://db/app", "-", "--name", "n"], "give sources, or - for standard input"),
        (&["postgres://db/app", "--jobs", "99"], "99 jobs can't be"),
        (&["postgres://db/app", "--jobs", "2", "--table", "t"], "--order-by-key out where tables are chosen"),
        (&["postgres://db/app", "--via", "docker exec -it db"], "leave -it out"),
        (&["--name", "x", "--jobs", "2", "--", "true"], "--jobs is for sources such as postgres://"),
        (&["-"], "say --name NAME"),
        (&["cmd:'"], "a quote that does not end"),
        (&["cmd:echo x", "--skip", "echo"], "leaves no source"),
        (&["mysql://db/app", "--table", "t"], "--table means nothing for these sources"),
        (&["redis://db", "--jobs", "2"], "--jobs means nothing for these sources"),
        (&["redis://db", "--order-by-key"], "--order-by-key means nothing"),
        (&["postgres://db/app", "--oplog"], "--oplog means nothing"),
        (&["postgres://db/app", "--spill-dir", "x"], "--spill-dir means nothing"),
        (&["mongodb://db/app", "--exact-rdb"], "--exact-rdb means nothing"),
        (&["sqlite:///app", "--mysql-bin", "x"], "--mysql-bin means nothing"),
        (&["postgres://db/app", "--allow-moving"], "--allow-moving means nothing"),
        (&["postgres://db/app", "--lock-wait", "1"], "--lock-wait means nothing"),
        (&["postgres://db/app", "--exclude", "*.log"], "a flag for files means nothing"),
    ] {
        let ran = place.run(["backup"].iter().chain(args)).expect_line(2, part);
        assert!(!ran.err.contains("s3cret"), "{}", ran.err);
    }
}

#[test]
fn a_database_is_backed_up_by_its_url() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
    let (place, url) = (Place::new(), url(&postgres));
    let bin = ["--pg-bin", "/usr/lib/postgresql/15/bin"];
    let backup =
        |more: &[&'static str]| place.run(["backup", &url].iter().chain(&bin).copied().chain(more.iter().copied()));
    backup(&[]).expect_exit(0);
    let shown = place.json(["show", "latest"]);
    assert_eq!((shown["source"].as_str(), shown["facts"]["app.rows"].as_str()), (Some("app"), Some("5000")), "{shown}");
    backup(&["--part", "schema"]).expect_exit(0);
    assert_eq!(place.json(["show", "latest"])["source"], "app-schema");

    // What is restored is what pg_dump wrote: the moment of the dump is in it again.
    let dump = place.text("app.dump");
    place.run(["restore", "latest", "--source", "app", "--stream", "app/database.dump", "--to", &dump]).expect_exit(0);
    let listed = postgres.run("pg_restore", &["--list", &dump]);
    assert!(!listed.contains("Archive created at 2000-"), "{listed}");
    postgres.create_database("again");
    postgres.run("pg_restore", &["--exit-on-error", "-d", "again", &dump]);
    assert_eq!(postgres.psql("again", "SELECT count(*) FROM t"), "5000\n");

    let nowhere = format!("postgres://postgres@/app?host={}", place.text("nowhere"));
    place.run(["backup", &nowhere].iter().chain(&bin)).expect_line(1, "check the host and the port in the URL");
}

#[test]
fn files_are_backed_up_and_given_back() {
    let place = Place::new();
    fs::create_dir_all(place.path("app/cache")).expect("makes");
    fs::write(place.path("app/settings"), b"a = 1\n").expect("writes");
    fs::write(place.path("app/cache/x"), b"x").expect("writes");
    let source = format!("files:{}", place.text("app"));
    place.run(["backup", &source, "--exclude", "cache/"]).expect_exit(0);
    let again = place.json(["backup", &source, "--exclude", "cache/"]);
    assert_eq!(again["snapshot"]["source"], "app");
    let (copy, base) = (place.text("copy"), place.text("app"));
    let to = format!("files:{copy}");
    let ran = place.run(["restore", "latest", "--to", &to, "--base", &base]).expect_exit(0);
    assert!(ran.out.starts_with("restored 1 file, 6 B, from snapshot"), "{}", ran.out);
    assert_eq!(fs::read(place.path("copy/settings")).expect("is there"), b"a = 1\n");
    assert!(!place.path("copy/cache").exists());
    // What is there stays, unless it is to be replaced; then it is kept beside.
    fs::write(place.path("copy/settings"), b"mine").expect("writes");
    place.run(["restore", "latest", "--to", &to, "--base", &base]).expect_line(1, "--replace");
    assert_eq!(fs::read(place.path("copy/settings")).expect("is there"), b"mine");
    let replaced = place.json(["restore", "latest", "--to", &to, "--base", &base, "--replace"]);
    assert_eq!(fs::read(place.path("copy/settings")).expect("is there"), b"a = 1\n");
    let kept = replaced["replaced"].as_str().expect("it is kept");
    assert_eq!(fs::read(Path::new(kept).join("settings")).expect("is there"), b"mine");
    place.run(["restore", "latest", "--to", &place.text("x"), "--path", "/x"]).expect_line(2, "--path is for files");
}
