//! A database put back by the command line: beside what is there, in its place, and never by surprise.

use super::*;
use crate::kit::postgres::Postgres;

fn url(postgres: &Postgres, database: &str) -> String {
    format!("postgres://postgres@/{database}?host={}", postgres.folder().display())
}

#[test]
fn a_database_is_put_back_beside_and_in_the_place_of_what_is_there() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
    let place = Place::new();
    let bin = ["--pg-bin", "/usr/lib/postgresql/15/bin"];
    let run = |words: &[&str]| place.run(words.iter().chain(&bin));
    run(&["backup", &url(&postgres, "app"), "conf=cmd:echo x", "--name", "nightly"]).expect_exit(0);

    let copy = url(&postgres, "copy");
    let planned = run(&["restore", "latest", "--to", &copy, "--dry-run"]).expect_exit(0);
    assert!(planned.out.contains("load everything into a new database, then call it copy"), "{}", planned.out);
    let unknown = "nobody knows yet: no restore from here to there was timed; its dump took ";
    assert!(planned.out.contains(unknown), "{}", planned.out);
    assert!(!postgres.psql("postgres", "SELECT datname FROM pg_database").contains("copy"));
    let restored = run(&["restore", "latest", "--to", &copy]).expect_exit(0);
    assert!(restored.out.contains("1 table with 5,000 rows, as many as were dumped"), "{}", restored.out);
    assert_eq!(postgres.psql("copy", "SELECT count(*) FROM t"), "5000\n");

    // What is there is not touched unless that is asked for, and then not unless somebody said yes.
    postgres.psql("copy", "DELETE FROM t WHERE n > 10");
    run(&["restore", "latest", "--to", &copy]).expect_line(1, "--replace");
    let planned = run(&["restore", "latest", "--to", &copy, "--replace", "--plan"]).expect_exit(0);
    assert!(planned.out.contains(" s, as fast as 1 earlier restore to local\n"), "{}", planned.out);
    assert!(
        planned.out.contains("lost   what was changed there since 2") && planned.out.contains(" s ago\n"),
        "{}",
        planned.out
    );
    run(&["restore", "latest", "--to", &copy, "--replace"]).expect_line(2, "say --yes");
    assert_eq!(postgres.psql("copy", "SELECT count(*) FROM t"), "10\n");
    let replaced = run(&[
        "restore",
        "latest",
        "--source",
        "nightly",
        "--only",
        "app",
        "--to",
        &copy,
        "--replace",
        "--yes",
        "--json",
    ])
    .expect_exit(0);
    let replaced: Value = serde_json::from_str(&replaced.out).expect("JSON");
    assert_eq!(postgres.psql("copy", "SELECT count(*) FROM t"), "5000\n");
    let kept = replaced["kept"].as_str().expect("it is kept");
    assert_eq!(postgres.psql(kept, "SELECT count(*) FROM t"), "10\n");

    // And back again.
    let undone = run(&["restore", "latest", "--source", "nightly", "--to", &copy, "--undo", "--yes"]).expect_exit(0);
    assert!(undone.out.contains(&format!("{kept} is local/copy again")), "{}", undone.out);
    assert_eq!(postgres.psql("copy", "SELECT count(*) FROM t"), "10\n");
    run(&["restore", "latest", "--source", "nightly", "--to", &copy, "--undo", "--yes"])
        .expect_line(1, "safety/local/copy");
    run(&["restore", "latest", "--source", "nightly", "--to", &copy, "--replace", "--yes"]).expect_exit(0);

    // Rows by a condition, into the table that is there.
    postgres.psql("copy", "ALTER TABLE t ADD PRIMARY KEY (n); DELETE FROM t WHERE n BETWEEN 5 AND 20");
    let rows = ["restore", "latest", "--source", "nightly", "--to", &copy, "--table", "public.t", "--where", "n <= 10"];
    run(&rows).expect_line(2, "say --yes");
    run(&[&rows[..], &["--yes"]].concat()).expect_line(1, "--on-conflict");
    let ran = run(&[&rows[..], &["--yes", "--on-conflict", "skip"]].concat()).expect_exit(0);
    assert!(
        ran.out.starts_with("10 of 5,000 rows of public.t are meant: 6 inserted, 0 updated, 4 left"),
        "{}",
        ran.out
    );
    assert_eq!(postgres.psql("copy", "SELECT count(*) FROM t"), "4990\n");

    // The snapshot that was taken of it brings it back, too.
    let safety = replaced["safety_snapshot"].as_str().expect("it was taken");
    run(&["restore", safety, "--to", &url(&postgres, "before")]).expect_exit(0);
    assert_eq!(postgres.psql("before", "SELECT count(*) FROM t"), "10\n");
    place.run(["forget", safety]).expect_exit(1);
}

#[test]
fn what_cannot_be_put_back_is_said() {
    let postgres = Postgres::start();
    let place = Place::new();
    place.run(["backup", "a=cmd:echo x", "b=cmd:echo y", "--name", "n"]).expect_exit(0);
    let to = url(&postgres, "x");
    place.run(["restore", "latest", "--to", &to]).expect_line(1, "has no database in it");
    place.run(["restore", "latest", "--to", &to, "--stream", "a/output"]).expect_line(2, "are for files");
    place
        .run(["restore", "latest", "--to", &place.text("x"), "--replace"])
        .expect_line(2, "--replace is for a database");
    place.run(["restore", "latest", "--to", &place.text("x"), "--only", "c"]).expect_line(1, "no source \"c\"");
    place.run(["restore", "latest", "--to", &place.text("x"), "--only", "b"]).expect_exit(0);
    assert!(place.path("x/b/output").exists() && !place.path("x/a").exists());
}

#[test]
fn another_host_needs_the_repository_and_its_key_and_nothing_else() {
    let (old, new) = (Postgres::start(), Postgres::start());
    old.create_database("app");
    old.psql(
        "app",
        "CREATE ROLE owner; CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n; ALTER TABLE t OWNER TO owner",
    );
    let (place, elsewhere) = (Place::new(), Place::empty());
    let bin = ["--pg-bin", "/usr/lib/postgresql/15/bin"];
    place.run(["backup", &url(&old, "app"), "--jobs", "2"].iter().chain(&bin)).expect_exit(0);
    drop(old);
    // The disk with the repository is carried there; nothing of the old host's is.
    fs::rename(place.path("repo"), elsewhere.path("repo")).expect("moves");
    fs::copy(place.path("key"), elsewhere.path("key")).expect("copies");
    drop(place);
    let to = url(&new, "app");
    let mut command = elsewhere.command(["restore", "latest", "--to", &to].iter().chain(&bin));
    command.env("HOME", elsewhere.path("home")).env_remove("XDG_CACHE_HOME").env_remove("XDG_CONFIG_HOME");
    Ran::of(&mut command).expect_exit(0);
    assert_eq!(new.psql("app", "SELECT count(*) FROM t"), "100\n");
    assert_eq!(new.psql("app", "SELECT relowner::regrole FROM pg_class WHERE relname = 't'"), "owner\n");
}
