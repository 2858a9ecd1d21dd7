//! A restore that fails, is refused, or is killed leaves the database that was there as it was, and says so.

use crate::kit::databases::{
    assert_says, awkward, databases, dump, here, put_back, refused, replacing, rows, simple, usual, wait_for,
};
use crate::kit::postgres::Lock;
use crate::kit::{create, in_time, open, run, snapshots};
use dedump_core::{Error, Filter, Store, find};
use dedump_engines::postgres::{ClientOptions, DumpPart, Place, PostgresRestore, PostgresRestoreOptions};

#[test]
fn a_safety_snapshot_that_fails_stops_the_restore() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        postgres.psql("app", "CREATE TABLE later (id int);");
        let _user = Lock::take(&postgres, "app", "later");
        let client = ClientOptions { settings: "-c lock_timeout=100".to_owned(), ..here() };
        let options = PostgresRestoreOptions { disconnect: true, client, ..replacing() };
        let why = refused(&repository, &snapshot, &postgres.url("app"), options).await;
        assert_says(
            &why,
            &["the safety snapshot of app failed, so nothing was restored", "lock timeout", "--no-safety-snapshot"],
        );
        assert_eq!(
            (databases(&postgres), snapshots(&repository).await.expect("lists").len()),
            (vec!["app".to_owned()], 1)
        );
    });
}

#[test]
fn an_error_while_loading_ends_it_and_leaves_everything_as_it_was() {
    let postgres = simple();
    // What the server says when its disk is full, in the database that is being filled and in no other.
    postgres.psql(
        "app",
        "CREATE FUNCTION full(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
            IF current_database() LIKE '%\\_dedump\\_%' AND $1 = 90 THEN
                RAISE 'could not extend file \"base/1/2\": No space left on device' USING ERRCODE = 'disk_full';
            END IF; RETURN true; END $$;
        ALTER TABLE part.configs ADD CHECK (public.full(id));",
    );
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for jobs in [1, 2] {
            let snapshot = dump(&repository, &postgres, "app", jobs).await;
            let content = rows(&postgres, "app", "part.configs");
            let why = refused(&repository, &snapshot, &postgres.url("app"), replacing()).await;
            assert_says(
                &why,
                &[
                    "pg_restore failed with exit status 1; it said: ",
                    "could not extend file",
                    "No space left on device",
                ],
            );
            assert_says(&why, &["make room on the server's disk and restore again", "the database app is as it was"]);
            let why = refused(&repository, &snapshot, &postgres.url("new"), usual()).await;
            assert_says(&why, &["there is still no database new"]);
            assert_eq!(databases(&postgres), ["app"]);
            assert_eq!(rows(&postgres, "app", "part.configs"), content);
        }
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let options = PostgresRestoreOptions { ignore_errors: true, ..usual() };
        let restored = put_back(&repository, &snapshot, &postgres.url("new"), options).await.expect("waved through");
        assert_eq!(restored.errors_n, 2, "{restored:?}");
        assert_says(
            &restored.problems.join(" "),
            &["No space left on device", "part.configs has 0 rows instead of 100"],
        );
    });
}

/// The URL and the repository of the process that is killed.
const KILLED: &str = "DEDUMP_TEST_KILLED";

/// This test is two processes: the one that is killed is this same test, told by its environment.
#[test]
fn what_a_killed_restore_left_is_named_and_dropped() {
    let name = "postgres_restore_failures::what_a_killed_restore_left_is_named_and_dropped";
    if let Ok(told) = std::env::var(KILLED) {
        let (url, root) = told.split_once(' ').expect("a URL and a folder");
        return run(async {
            let repository = open(Store::local(root).expect("is there")).await.expect("opens");
            let snapshot = find(&repository, "latest", &Filter::default()).await.expect("is there");
            let options = PostgresRestoreOptions { safety_snapshot: false, ..replacing() };
            put_back(&repository, &snapshot, url, options).await.map(drop).expect("it is killed before");
        });
    }
    let postgres = simple();
    postgres.psql(
        "app",
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
            WHILE $1 = 90 AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'pause') LOOP PERFORM pg_sleep(0.05); END LOOP;
            RETURN true; END $$;
        ALTER TABLE part.configs ADD CHECK (public.slow(id));",
    );
    run(async {
        let root = postgres.folder().join("repository");
        let repository = create(Store::create_local(&root).expect("a new folder")).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let left = format!("app_dedump_{}", snapshot.id.short());
        postgres.psql("postgres", "CREATE ROLE pause");
        let mut killed = std::process::Command::new(std::env::current_exe().expect("a test is a program"));
        killed
            .args([name, "--exact", "--nocapture"])
            .env(KILLED, format!("{} {}", postgres.url("app"), root.display()));
        let mut killed = killed.stdout(std::process::Stdio::null()).spawn().expect("starts");
        wait_for(&postgres, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await;
        let again = refused(&repository, &snapshot, &postgres.url("app"), replacing()).await;
        assert_says(&again, &["another restore of app is filling the database ", &left, "dedump", "wait for it"]);
        killed.kill().expect("kills");
        killed.wait().expect("it is gone");
        assert_eq!(databases(&postgres), ["app".to_owned(), left.clone()]);
        assert_eq!(rows(&postgres, "app", "part.configs"), "100");
        postgres.psql("postgres", "DROP ROLE pause");
        wait_for(&postgres, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '{left}'")).await;
        let restore = PostgresRestore::new(&postgres.url("app"), replacing()).expect("good options");
        let plan = restore.plan(&repository, &snapshot, "").await.expect("plans");
        assert_eq!(plan.leftovers, std::slice::from_ref(&left));
        let restored = in_time(restore.run(&repository, &snapshot, "", &())).await.expect("restores");
        assert_says(&restored.warnings.join(" "), &[&left, "which a restore had left unfinished, was dropped"]);
        assert_eq!(databases(&postgres), ["app".to_owned(), restored.kept.expect("it stays")]);
    });
}

#[test]
fn a_restore_that_is_dropped_ends_its_tools_and_touches_nothing() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let restore = PostgresRestore::new(&postgres.url("app"), replacing()).expect("good options");
        let mut work = Box::pin(restore.run(&repository, &snapshot, "", &()));
        while !databases(&postgres).iter().any(|name| name.contains("_dedump_")) {
            let soon = tokio::time::timeout(std::time::Duration::from_millis(5), &mut work).await;
            assert!(soon.is_err(), "it ends before it is dropped");
        }
        drop(work);
        wait_for(&postgres, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'dedump'").await;
        assert_eq!(rows(&postgres, "app", "part.configs"), "100");
    });
}

#[test]
fn a_server_that_does_not_play_along_is_told_in_a_line() {
    let postgres = simple();
    let hba = postgres.folder().join("data/pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).expect("the server has one");
    std::fs::write(&hba, format!("local all locked scram-sha-256\n{rules}")).expect("writable");
    let users = "SELECT pg_reload_conf(); CREATE ROLE locked LOGIN PASSWORD 'x'; CREATE ROLE plain LOGIN; CREATE ROLE maker LOGIN CREATEDB;";
    postgres.psql("postgres", users);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let check = async |url: &str, options: PostgresRestoreOptions, words: &[&str]| {
            let why = refused(&repository, &snapshot, url, options).await;
            assert_says(&why, words);
            assert_eq!(databases(&postgres), ["app"]);
        };
        let to = |user: &str| postgres.url_of(user, "new");
        check("postgres://me@127.0.0.1:1/new", usual(), &["Connection refused", "check the host and the port"]).await;
        let no_host = "postgres://me@no-such-host.invalid/new";
        check(no_host, usual(), &["could not translate host name", "check the host's name"]).await;
        check(&to("locked"), usual(), &["no password supplied", "~/.pgpass", "--db-password-file"]).await;
        let client = ClientOptions { password: Some("wrong s3cret".to_owned()), ..here() };
        let wrong = PostgresRestoreOptions { client, ..usual() };
        let words = ["password authentication failed for user \"locked\"", "check the user, and the password"];
        check(&to("locked"), wrong, &words).await;
        check(&to("plain"), usual(), &["user plain may not create databases", "give it CREATEDB"]).await;

        let empty = postgres.folder().join("no_tools");
        std::fs::create_dir(&empty).expect("a new folder");
        let options = |programs: &std::path::Path| {
            let client = ClientOptions { programs: Some(programs.to_owned()), ..ClientOptions::default() };
            PostgresRestoreOptions { client, ..usual() }
        };
        let words = ["cannot start", "pg_restore", "Debian package postgresql-client-15", "--pg-bin"];
        check(&to("postgres"), options(&empty), &words).await;
        let old = postgres.folder().join("old_tools");
        std::fs::create_dir(&old).expect("a new folder");
        let path = old.join("pg_restore");
        std::fs::write(&path, "#!/bin/sh\necho 'pg_restore (PostgreSQL) 14.9'\n").expect("writable");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        let words = ["pg_restore is of version 14 and the dump was made by version 15", "postgresql-client-15"];
        check(&to("postgres"), options(&old), &words).await;

        // Who may create databases may not give what is in them to others.
        let words = ["must be member of role \"postgres\"", "--no-owner", "there is still no database new"];
        check(&to("maker"), usual(), &words).await;
        let options = PostgresRestoreOptions { no_owner: true, no_privileges: true, ..usual() };
        put_back(&repository, &snapshot, &to("maker"), options).await.expect("restores");
        assert_eq!(postgres.psql("new", "SELECT relowner::regrole FROM pg_class WHERE relname = 'big'"), "maker\n");
        // Roles are for those who may create them.
        let roles = awkward();
        let snapshot = dump(&repository, &roles, "app", 1).await;
        let why = refused(&repository, &snapshot, &to("maker").replace("/new", "/more"), usual()).await;
        assert_says(&why, &["roles: CREATE ROLE ", "permission denied to create role", "--globals none"]);
    });
}

#[test]
fn damage_is_found_before_anything_is_touched_if_asked_for() {
    let postgres = simple();
    run(async {
        let root = postgres.folder().join("repository");
        let repository = create(Store::create_local(&root).expect("a new folder")).await.expect("creates");
        // The table has a stream of its own, so the damage is in nothing that is looked at before.
        let snapshot = dump(&repository, &postgres, "app", 2).await;
        postgres.psql("app", "CREATE TABLE later (id int)");
        damage(&root);
        for verify_first in [true, false] {
            let snapshots_n = snapshots(&repository).await.expect("lists").len();
            let options = PostgresRestoreOptions { verify_first, ..replacing() };
            let error =
                put_back(&repository, &snapshot, &postgres.url("app"), options).await.expect_err("it is damaged");
            assert!(error.is_damage(), "{error}");
            assert_eq!(
                (databases(&postgres), rows(&postgres, "app", "later")),
                (vec!["app".to_owned()], "0".to_owned())
            );
            // The safety snapshot comes behind the verification.
            let more_n = snapshots(&repository).await.expect("lists").len() - snapshots_n;
            assert_eq!(more_n, usize::from(!verify_first));
        }
    });
}

/// Changes a byte in the middle of the largest object of a store.
fn damage(root: &std::path::Path) {
    let (mut folders, mut largest) = (vec![root.to_owned()], (0, root.to_owned()));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            match std::fs::metadata(&path).expect("there") {
                metadata if metadata.is_dir() => folders.push(path),
                metadata => largest = largest.max((metadata.len(), path)),
            }
        }
    }
    let mut bytes = std::fs::read(&largest.1).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest.1, bytes).expect("writable");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let check = |options: PostgresRestoreOptions, words: &str| {
        let error = PostgresRestore::new("postgres://db/app", options).expect_err(words);
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(words), "{error}");
    };
    check(PostgresRestoreOptions { jobs: 0, ..usual() }, "0 jobs can't be");
    check(PostgresRestoreOptions { place: Place::Existing, ..usual() }, "name schemas or tables");
    check(PostgresRestoreOptions { part: DumpPart::Data, ..usual() }, "a new one needs the schema too");
    check(PostgresRestoreOptions { drop_old: true, ..usual() }, "goes with --replace");
    check(PostgresRestoreOptions { disconnect: true, ..usual() }, "goes with --replace");
    check(PostgresRestoreOptions { tables: vec!["configs".to_owned()], ..usual() }, "write it as SCHEMA.TABLE");
    check(PostgresRestoreOptions { by: " ".to_owned(), ..usual() }, "who restores");
}
