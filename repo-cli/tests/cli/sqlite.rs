//! An SQLite database backed up and put back by the command line.

use super::*;
use rusqlite::Connection;

#[test]
fn a_database_file_is_put_back_beside_and_in_the_place_of_what_is_there() {
    let place = Place::new();
    let file = place.path("app.db");
    let database = Connection::open(&file).expect("opens");
    database
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n); INSERT INTO t VALUES (1), (2), (3)")
        .expect("runs");
    // It is open, and its log has rows that the file has not.
    let url = format!("sqlite://{}", file.display());
    place.run(["backup", &url, "conf=cmd:echo x", "--name", "nightly"]).expect_exit(0);
    let count = |path: &Path| -> i64 {
        let copy = Connection::open(path).expect("opens");
        copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("counts")
    };
    let (copy, to_copy) = (place.path("copy.db"), format!("sqlite://{}", place.path("copy.db").display()));
    let planned = place.run(["restore", "latest", "--to", &to_copy, "--dry-run"]).expect_exit(0);
    assert!(planned.out.contains("copy.db") && !copy.exists(), "{}", planned.out);
    let restored = place.run(["restore", "latest", "--to", &to_copy]).expect_exit(0);
    assert!(restored.out.contains("1 table with 3 rows, as many as were dumped"), "{}", restored.out);
    assert_eq!(count(&copy), 3);

    place.run(["restore", "latest", "--to", &to_copy]).expect_line(1, "--replace");
    let only = |name: &str, to: &str| place.run(["restore", "latest", "--only", name, "--to", to]);
    only("other", &to_copy).expect_line(1, "there are app.db");
    only("app.db", "redis://127.0.0.1:1").expect_line(1, "nothing in it that `dedump backup redis://…` has backed up");
    Connection::open(&copy).expect("opens").execute_batch("DELETE FROM t WHERE n > 1").expect("runs");
    let replaced = place.json(["restore", "latest", "--to", &to_copy, "--replace"]);
    let kept = replaced["kept"].as_str().expect("it is kept");
    assert_eq!((count(&copy), count(Path::new(kept))), (3, 1));
    // The one that was backed up is open.
    place.run(["restore", "latest", "--to", &url, "--replace"]).expect_line(1, "app.db");
    drop(database);
    place.run(["restore", "latest", "--to", &url, "--replace", "--yes"]).expect_line(2, "--yes is not for SQLite");
    place.run(["restore", "latest", "--to", &url, "--replace"]).expect_exit(0);
    let other = Connection::open(&file).expect("opens");
    other
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE")
        .expect("locks");
    place.run(["backup", &url, "--lock-wait", "0"]).expect_line(1, "is locked by another program");
    drop(other);
    let mut bytes = fs::read(&file).expect("reads");
    bytes[4096..4200].fill(0xff);
    fs::write(&file, bytes).expect("writes");
    place.run(["backup", &url]).expect_line(1, "--allow-damaged");
    place.run(["backup", &url, "--allow-damaged", "--allow-shrink"]).expect_exit(3);
    place.run(["backup", "sqlite:///no/such.db"]).expect_line(1, "/no/such.db");
}

#[test]
fn what_a_killed_copy_has_left_goes_with_the_next_and_nothing_else_does() {
    let place = Place::new();
    let file = place.path("app.db");
    Connection::open(&file).expect("opens").execute_batch("CREATE TABLE t (n)").expect("runs");
    let temporary = place.path("temporary");
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let make = |name: &str, time: Option<std::time::SystemTime>| {
        let folder = temporary.join(name);
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join("copy"), b"pages").expect("writable");
        let opened = fs::File::open(&folder).expect("ours");
        time.into_iter().for_each(|time| opened.set_modified(time).expect("ours"));
        opened
    };
    drop(make("dedump-sqlite-left", Some(hour_ago)));
    drop(make("dedump-sqlite-young", None));
    drop(make("somebody-elses", Some(hour_ago)));
    let working = make("dedump-sqlite-working", Some(hour_ago));
    working.lock().expect("ours");
    let url = format!("sqlite://{}", file.display());
    Ran::of(place.command(["backup", &url]).env("TMPDIR", &temporary)).expect_exit(0);
    let mut left: Vec<_> =
        fs::read_dir(&temporary).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    left.sort();
    assert_eq!(left, ["dedump-sqlite-working", "dedump-sqlite-young", "somebody-elses"]);
}
