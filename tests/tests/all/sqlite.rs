//! Dumps of SQLite databases: one moment while others write, the same bytes for the same rows, and what is no whole database.

use crate::kit::databases::{assert_same, assert_says};
use crate::kit::sqlite::{AWKWARD, Writer, content, dump, dump_by, make, number, put_back, url};
use crate::kit::{create, run, snapshots};
use dedump_core::{Error, Quality, Repository, Store};
use dedump_engines::sqlite::{SqliteEngine, SqliteOptions, SqliteRestoreOptions};
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// Backs up what can't be; returns what the user hears.
async fn refused(repository: &Repository, path: &Path, options: SqliteOptions) -> String {
    match dump_by(repository, path, options).await {
        Err(Error::DumpFailed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_that_sqlite_has_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        for (number, journal_mode) in ["delete", "wal"].into_iter().enumerate() {
            let (there, here) =
                (folder.path().join(format!("ü {number} %3F.db")), folder.path().join(format!("{number}")));
            make(&there, AWKWARD);
            make(&there, &format!("PRAGMA journal_mode = {journal_mode}"));
            fs::set_permissions(&there, Permissions::from_mode(0o640)).expect("ours");
            let repository = create(Store::memory()).await.expect("creates");
            let encoded = url(&there).replace('%', "%25").replace(' ', "%20");
            let engine = SqliteEngine::new(&encoded, SqliteOptions::default()).expect("good");
            let options = dedump_core::BackupOptions::new("app", "host");
            let snapshot = dedump_core::backup(&repository, &engine, &options, &()).await.expect("backs up").snapshot;
            let facts = &snapshot.record.facts;
            let expected = [
                ("journal_mode", journal_mode),
                ("page_size", "1024"),
                ("user_version", "42"),
                ("encoding", "UTF-16le"),
            ];
            for (name, value) in expected {
                assert_eq!(facts.get(name).map(String::as_str), Some(value), "{name}");
            }
            let restored =
                put_back(&repository, &snapshot, &here, SqliteRestoreOptions::default()).await.expect("restores");
            assert_same(&content(&here), &content(&there));
            assert_eq!(restored.rows_n.to_string(), facts["rows"]);
            assert_eq!(fs::metadata(&here).expect("is there").mode() & 0o777, 0o640);
            assert_eq!(snapshot.record.warnings, Vec::<String>::new());
            let names = fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.file_name());
            let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("dedump")).collect();
            assert_eq!(left, Vec::<std::ffi::OsString>::new());
        }
    });
}

#[test]
fn a_dump_is_of_one_moment_while_others_write() {
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        for journal_mode in ["wal", "delete"] {
            let there = folder.path().join(journal_mode);
            let writer = Writer::start(&there, journal_mode);
            let repository = create(Store::memory()).await.expect("creates");
            for round in 0..3 {
                writer.wait_for(50);
                let before = writer.moves_n();
                let snapshot = dump(&repository, &there).await;
                let after = writer.moves_n() + 1;
                let here = folder.path().join(format!("{journal_mode}-{round}"));
                put_back(&repository, &snapshot, &here, SqliteRestoreOptions::default()).await.expect("restores");
                assert_eq!(number(&here, "SELECT (SELECT n FROM a) + (SELECT n FROM z)"), 1000);
                let moves = number(&here, "SELECT count(*) FROM moves");
                assert_eq!(number(&here, "SELECT n FROM z"), moves);
                assert!((before..=after).contains(&moves.unsigned_abs()), "{moves} of {before} to {after}");
                eprintln!(
                    "{journal_mode}: {} moves during the dump, {} restarts",
                    after - before,
                    snapshot.record.facts["copy_restarts"]
                );
            }
            writer.stop();
        }
    });
}

#[test]
fn a_copy_of_the_file_lacks_what_a_dump_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path().join("live");
    let live = Connection::open(&there).expect("opens");
    live.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n); INSERT INTO t VALUES (7)",
    )
    .expect("writes");
    run(async {
        let copied = folder.path().join("copied");
        fs::copy(&there, &copied).expect("copies");
        let copied =
            Connection::open(&copied).expect("opens").query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(copied.expect_err("the log is not in it").to_string(), "no such table: t");

        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there).await;
        let here = folder.path().join("here");
        put_back(&repository, &snapshot, &here, SqliteRestoreOptions::default()).await.expect("restores");
        assert_eq!(number(&here, "SELECT n FROM t"), 7);
        // Who wrote still can, and has lost nothing.
        live.execute_batch("INSERT INTO t VALUES (8)").expect("writes");
        assert_eq!(number(&there, "SELECT sum(n) FROM t"), 15);
    });
}

#[test]
fn an_unchanged_database_costs_next_to_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path().join("app.db");
    Writer::start(&there, "wal").stop();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let first = dump_by(&repository, &there, SqliteOptions::default()).await.expect("backs up");
        assert!(first.snapshot.record.totals.bytes_added > 4 << 20);
        let stream = |report: &dedump_core::BackupReport| report.snapshot.record.streams[0].hash;
        let reasons = [
            "", // nothing at all
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA journal_mode = DELETE; PRAGMA journal_mode = WAL",
            "BEGIN IMMEDIATE; INSERT INTO moves (t) VALUES ('x'); ROLLBACK",
            "UPDATE a SET n = n",
        ];
        for reason in reasons {
            make(&there, reason);
            let next = dump_by(&repository, &there, SqliteOptions::default()).await.expect("backs up");
            let added = next.snapshot.record.totals.bytes_added;
            eprintln!("{reason:?}: {added} bytes added, the same bytes: {}", stream(&next) == stream(&first));
            assert!(added < 64 << 10, "{reason:?}: {added}");
        }
        let again = dump_by(&repository, &there, SqliteOptions::default()).await.expect("backs up");
        let once_more = dump_by(&repository, &there, SqliteOptions::default()).await.expect("backs up");
        assert_eq!(stream(&again), stream(&once_more));
    });
}

#[test]
fn what_is_no_database_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty"), "").expect("writes");
    fs::write(path("text"), "no database\n".repeat(1000)).expect("writes");
    fs::create_dir(path("folder")).expect("a folder");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for (name, words) in [
            ("gone", &["there is no", "gone; correct the path"][..]),
            ("empty", &["is empty, and no database yet"]),
            ("text", &["is no SQLite database, or an encrypted one"]),
            ("folder", &["is no file"]),
        ] {
            let why = refused(&repository, &path(name), SqliteOptions::default()).await;
            assert_says(&why, words);
            assert_says(&why, &[path(name).to_str().expect("plain")]);
        }
        assert_eq!(snapshots(&repository).await.expect("lists"), []);
    });
}

#[test]
fn a_locked_database_is_waited_for_and_then_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path().join("app.db");
    make(&there, "CREATE TABLE t (n); INSERT INTO t VALUES (1)");
    let holder = Connection::open(&there).expect("opens");
    holder.execute_batch("BEGIN EXCLUSIVE").expect("locks");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = SqliteOptions { lock_wait: Duration::from_millis(100), ..SqliteOptions::default() };
        assert_says(&refused(&repository, &there, options).await, &["is locked by another program"]);
        assert_eq!(snapshots(&repository).await.expect("lists"), []);

        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            holder.execute_batch("ROLLBACK").expect("unlocks");
        });
        dump(&repository, &there).await;
        release.join().expect("it unlocked");
    });
}

/// Writes over the middle of a database's pages, so that its schema can still be read.
fn damage(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("opens");
    let bytes_n = file.metadata().expect("is there").len();
    file.write_all_at(&[0x5a; 40_000], bytes_n / 2 / 4096 * 4096).expect("writes");
}

#[test]
fn a_damaged_database_fails_the_dump_or_makes_it_suspicious() {
    let folder = tempfile::tempdir().expect("a folder");
    let (there, here) = (folder.path().join("app.db"), folder.path().join("here"));
    Writer::start(&there, "delete").stop();
    damage(&there);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let why = refused(&repository, &there, SqliteOptions::default()).await;
        assert_says(&why, &["app.db is damaged: ", "--allow-damaged"]);
        assert_eq!(snapshots(&repository).await.expect("lists"), []);

        let options = SqliteOptions { allow_damaged: true, ..SqliteOptions::default() };
        let snapshot = dump_by(&repository, &there, options).await.expect("backs up").snapshot;
        assert_eq!(snapshot.record.quality, Quality::Suspicious);
        assert_says(&snapshot.record.reasons[0], &["the database is damaged: "]);
        let restored =
            put_back(&repository, &snapshot, &here, SqliteRestoreOptions::default()).await.expect("restores");
        assert_says(&restored.warnings[0], &["the database is damaged, as it was dumped"]);

        // One whose end is missing is too damaged to be copied.
        let bytes_n = fs::metadata(&there).expect("is there").len();
        fs::OpenOptions::new().write(true).open(&there).expect("opens").set_len(bytes_n / 2).expect("cuts");
        let options = SqliteOptions { allow_damaged: true, ..SqliteOptions::default() };
        assert_says(&refused(&repository, &there, options).await, &["app.db is damaged", ".recover"]);
    });
}

#[test]
fn what_only_the_application_can_check_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (there, here) = (folder.path().join("app.db"), folder.path().join("here"));
    let script = "CREATE TABLE names (t TEXT COLLATE NOCASE UNIQUE); INSERT INTO names VALUES ('a'), ('b');
        CREATE TABLE c (p); INSERT INTO c VALUES (5);
        PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'german')";
    make(&there, script);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there).await;
        let warnings = snapshot.record.warnings.join(" / ");
        assert_says(&warnings, &["the table names could not be checked: no such collation sequence: german"]);
        let restored =
            put_back(&repository, &snapshot, &here, SqliteRestoreOptions::default()).await.expect("restores");
        assert_says(&restored.warnings.join(" / "), &["no such collation sequence: german"]);
        assert_eq!(number(&here, "SELECT p FROM c"), 5);
    });
}

#[test]
fn rows_that_refer_to_nothing_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path().join("app.db");
    make(
        &there,
        "PRAGMA foreign_keys = OFF; CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id)); INSERT INTO c VALUES (5), (6)",
    );
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there).await;
        assert_says(
            &snapshot.record.warnings[0],
            &["2 rows refer to rows that are not there, some of them in the table c"],
        );
        assert_eq!(snapshot.record.quality, Quality::Good);
    });
}

#[test]
fn what_a_dead_writer_had_not_finished_is_undone() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path().join("app.db");
    make(&there, "CREATE TABLE t (n, filling); INSERT INTO t VALUES (1, zeroblob(100000))");
    // What a process leaves that dies in the middle of its transaction: pages written, and the journal that undoes it.
    let dies = Connection::open(&there).expect("opens");
    dies.execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE t SET n = 2, filling = randomblob(100000)")
        .expect("writes");
    dies.execute_batch("CREATE TABLE u AS SELECT hex(randomblob(500000)) AS t").expect("writes");
    let left = folder.path().join("left.db");
    fs::copy(&there, &left).expect("copies");
    fs::copy(folder.path().join("app.db-journal"), folder.path().join("left.db-journal")).expect("copies");
    drop(dies);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &left).await;
        let here = folder.path().join("here");
        put_back(&repository, &snapshot, &here, SqliteRestoreOptions::default()).await.expect("restores");
        assert_eq!(number(&here, "SELECT sum(n) FROM t"), 1);
        assert_eq!(number(&here, "SELECT count(*) FROM sqlite_schema"), 1);
    });
}
