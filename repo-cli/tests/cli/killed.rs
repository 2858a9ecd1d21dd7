//! A restore that is killed, as a process: what was there is as it was, and the next one says what was left.

use super::*;
use crate::kit::postgres::Postgres;
use std::process::Child;
use std::time::{Duration, Instant};

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

/// Waits until something is so, while the process still runs.
#[track_caller]
fn wait_until(child: &mut Child, what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended before {what}");
        assert!(begun.elapsed() < Duration::from_secs(60), "never {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn staged(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".dedump")))
        .collect()
}

#[test]
fn files_stay_as_they_were_and_the_next_restore_clears_up() {
    let place = Place::new();
    fs::create_dir(place.path("data")).expect("creates");
    for number in 0..8 {
        fs::write(place.path("data").join(number.to_string()), noise(number, 32 << 20)).expect("writes");
    }
    let (source, base) = (format!("files:{}", place.text("data")), place.text("data"));
    place.run(["backup", &source]).expect_exit(0);
    fs::create_dir(place.path("around")).expect("creates");
    let around = place.path("around");
    let to = format!("files:{}", place.text("around/target"));
    for has_target in [false, true] {
        let mut args = vec!["restore", "latest", "--to", &to, "--base", &base];
        if has_target {
            fs::create_dir(around.join("target")).expect("creates");
            fs::write(around.join("target/mine"), b"mine").expect("writes");
            args.push("--replace");
        }
        let mut child = start(place.command(&args));
        // The first file is whole and others are to come.
        let has_begun = || staged(&around).iter().any(|path| files_below(path).len() > 1);
        wait_until(&mut child, "it had begun", has_begun);
        child.kill().expect("it still runs");
        child.wait().expect("it is gone");
        let left = staged(&around);
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(files_below(&left[0]).len() <= 8);
        assert_eq!(around.join("target").exists(), has_target);
        if has_target {
            assert_eq!(fs::read(around.join("target/mine")).expect("it is there"), b"mine");
        }
        let restored = place.json(&args);
        assert_eq!((restored["files"].as_u64(), staged(&around).len()), (Some(8), 0), "{restored}");
        for number in 0..8 {
            let path = around.join("target").join(number.to_string());
            assert!(fs::read(path).expect("it is there") == noise(number, 32 << 20));
        }
        if has_target {
            let kept = restored["replaced"].as_str().expect("it is kept");
            assert_eq!(fs::read(Path::new(kept).join("mine")).expect("it is there"), b"mine");
        }
        fs::remove_dir_all(around.join("target")).expect("removes");
    }
}

#[test]
fn a_database_stays_as_it_was_and_the_next_restore_names_what_was_left() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    // As long as there is a role of this name, the load waits at a row.
    postgres.psql(
        "app",
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
            WHILE $1 = 90 AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'pause') LOOP PERFORM pg_sleep(0.02); END LOOP;
            RETURN true; END $$;
        CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n; ALTER TABLE t ADD CHECK (slow(n));",
    );
    let place = Place::new();
    let url = format!("postgres://postgres@/app?host={}", postgres.folder().display());
    let bin = ["--pg-bin", "/usr/lib/postgresql/15/bin"];
    place.run(["backup", &url].iter().chain(&bin)).expect_exit(0);
    postgres.psql("app", "INSERT INTO t VALUES (1000); CREATE ROLE pause");
    let replace = [&["restore", "latest", "--source", "app", "--to", &url, "--replace"], &bin[..]].concat();
    let mut child = start(place.command([&replace[..], &["--yes"]].concat()));
    let ask = |question: &str| postgres.psql("postgres", question) == "t\n";
    wait_until(&mut child, "it loads", || {
        ask("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    });
    child.kill().expect("it still runs");
    child.wait().expect("it is gone");

    let names = "SELECT datname FROM pg_database WHERE datname LIKE 'app%' ORDER BY 1";
    let databases = postgres.psql("postgres", names);
    let [name, left] = databases.lines().collect::<Vec<_>>()[..] else { panic!("{databases}") };
    assert!(name == "app" && left.starts_with("app_dedump_"), "{databases}");
    assert_eq!(postgres.psql("app", "SELECT count(*) FROM t"), "101\n");
    // The server goes on with its row until it has something to say.
    postgres.psql("postgres", "DROP ROLE pause");
    while !ask(&format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '{left}'")) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let plan = place.json([&replace[..], &["--dry-run"]].concat());
    assert_eq!(plan["leftovers"], serde_json::json!([left]));
    assert_eq!(postgres.psql("postgres", names), databases, "a dry run drops nothing");
    let ran = place.run([&replace[..], &["--yes"]].concat()).expect_exit(0);
    let words = format!("the database {left}, which a restore had left unfinished, was dropped");
    assert!(ran.err.contains(&words), "{}", ran.err);
    assert_eq!(postgres.psql("app", "SELECT count(*) FROM t"), "100\n");
    let databases = postgres.psql("postgres", names);
    let [_, kept] = databases.lines().collect::<Vec<_>>()[..] else { panic!("{databases}") };
    assert_eq!(postgres.psql(kept, "SELECT count(*) FROM t"), "101\n");
}
