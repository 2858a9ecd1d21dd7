//! SQLite databases put back in the place of others: never over one that is in use, never beside a stale log, always whole.

use crate::kit::databases::assert_says;
use crate::kit::sqlite::{dump, make, number, put_back};
use crate::kit::{create, run};
use dedump_core::{Error, Repository, Snapshot, Store};
use dedump_engines::sqlite::SqliteRestoreOptions;
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const REPLACE: SqliteRestoreOptions = SqliteRestoreOptions { replace: true };

async fn refused(repository: &Repository, snapshot: &Snapshot, path: &Path, options: SqliteRestoreOptions) -> String {
    match put_back(repository, snapshot, path, options).await {
        Err(Error::Target(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A dump of a database whose table `t` has the number 1, and a place where another may be.
async fn prepared(folder: &Path) -> (Repository, Snapshot, PathBuf) {
    let source = folder.join("source");
    fs::create_dir(&source).expect("a folder");
    make(&source.join("app.db"), "CREATE TABLE t (n); INSERT INTO t VALUES (1)");
    let repository = create(Store::memory()).await.expect("creates");
    let snapshot = dump(&repository, &source.join("app.db")).await;
    let place = folder.join("place");
    fs::create_dir(&place).expect("a folder");
    (repository, snapshot, place.join("app.db"))
}

#[test]
fn a_database_that_is_there_is_only_replaced_by_leave_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        let (repository, snapshot, target) = prepared(folder.path()).await;
        make(&target, "CREATE TABLE t (n); INSERT INTO t VALUES (2)");
        fs::set_permissions(&target, Permissions::from_mode(0o604)).expect("ours");
        let why = refused(&repository, &snapshot, &target, SqliteRestoreOptions::default()).await;
        assert_says(&why, &["app.db exists and was left as it is", "--replace"]);
        assert_eq!(number(&target, "SELECT n FROM t"), 2);

        // By a link: the file itself is replaced, and the link stays.
        let link = folder.path().join("link.db");
        symlink(&target, &link).expect("links");
        let restored = put_back(&repository, &snapshot, &link, REPLACE).await.expect("restores");
        assert_eq!(number(&target, "SELECT n FROM t"), 1);
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        assert_eq!(fs::metadata(&target).expect("is there").mode() & 0o777, 0o604);
        let kept = restored.kept.expect("it is kept");
        assert_eq!(number(&kept, "SELECT n FROM t"), 2);
        assert_eq!(names(target.parent().expect("a folder")).len(), 2);
        assert_eq!(restored.warnings, Vec::<String>::new());
    });
}

#[test]
fn a_log_of_another_database_does_not_get_into_the_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        let (repository, snapshot, target) = prepared(folder.path()).await;
        // One that has all of its rows in the log still, as its dead program left it.
        let live = folder.path().join("live");
        let program = Connection::open(&live).expect("opens");
        program
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n); INSERT INTO t VALUES (2)")
            .expect("writes");
        let log = folder.path().join("place/app.db-wal");
        fs::copy(&live, &target).expect("copies");
        fs::copy(folder.path().join("live-wal"), &log).expect("copies");
        let restored = put_back(&repository, &snapshot, &target, REPLACE).await.expect("restores");
        assert_eq!(number(&target, "SELECT sum(n) FROM t"), 1);
        assert_eq!(number(&restored.kept.expect("it is kept"), "SELECT n FROM t"), 2);

        // And where only the log is left.
        fs::remove_file(&target).expect("is there");
        for suffix in ["-wal", "-shm"] {
            fs::copy(folder.path().join(format!("live{suffix}")), folder.path().join(format!("place/app.db{suffix}")))
                .expect("copies");
        }
        let restored =
            put_back(&repository, &snapshot, &target, SqliteRestoreOptions::default()).await.expect("restores");
        assert_says(
            &restored.warnings.join(" / "),
            &["app.db-wal of a database that is gone was removed", "app.db-shm"],
        );
        assert_eq!(number(&target, "SELECT sum(n) FROM t"), 1);
    });
}

#[test]
fn a_database_in_use_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        let (repository, snapshot, target) = prepared(folder.path()).await;
        for journal_mode in ["delete", "wal"] {
            let user = Connection::open(&target).expect("opens");
            let script = format!(
                "PRAGMA journal_mode = {journal_mode}; CREATE TABLE IF NOT EXISTS t (n); INSERT INTO t VALUES (2)"
            );
            user.execute_batch(&script).expect("writes");
            // It does nothing now, and holds no lock.
            let why = refused(&repository, &snapshot, &target, REPLACE).await;
            assert_says(&why, &["app.db is open in process", &std::process::id().to_string(), "stop what uses it"]);
            user.execute_batch("INSERT INTO t VALUES (3)").expect("it can go on");
            assert!(names(target.parent().expect("a folder")).iter().all(|name| name.starts_with("app.db")));
        }
        assert_eq!(number(&target, "SELECT sum(n) FROM t"), 10);
        put_back(&repository, &snapshot, &target, REPLACE).await.expect("nobody has it open now");
    });
}

#[test]
fn a_file_that_is_no_database_is_replaced_and_kept_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        let (repository, snapshot, target) = prepared(folder.path()).await;
        let ruins = "ruins of a database\n".repeat(500);
        fs::write(&target, &ruins).expect("writes");
        fs::write(target.with_file_name("app.db-wal"), "its log").expect("writes");
        let restored = put_back(&repository, &snapshot, &target, REPLACE).await.expect("restores");
        assert_says(&restored.warnings[0], &["could not be locked, for it is no whole database"]);
        let kept = restored.kept.expect("it is kept");
        assert_eq!(fs::read_to_string(&kept).expect("text"), ruins);
        let log = PathBuf::from(format!("{}-wal", kept.display()));
        assert_eq!(fs::read_to_string(log).expect("text"), "its log");
        assert_eq!(number(&target, "SELECT sum(n) FROM t"), 1);
    });
}

#[test]
fn a_snapshot_of_something_else_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        let (repository, _, target) = prepared(folder.path()).await;
        let other = crate::kit::back_up(&repository, "other", &[("a.txt".to_owned(), b"x".to_vec())].into())
            .await
            .expect("backs up");
        match put_back(&repository, &other, &target, SqliteRestoreOptions::default()).await {
            Err(error @ Error::NotFound { .. }) => {
                assert_says(&error.to_string(), &["it is no dump of an SQLite database"])
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(names(target.parent().expect("a folder")), Vec::<String>::new());
    });
}
