//! Servers that are hard to restore to: with a full disk, a standby, with locales of their own.

use crate::kit::databases::{assert_says, clients, databases, dump, put_back, refused, replacing, rows, simple, usual};
use crate::kit::postgres::Postgres;
use crate::kit::{create, run, snapshots};
use dedump_core::Store;
use dedump_engines::postgres::PostgresRestoreOptions;

#[test]
fn a_disk_that_is_full_ends_the_restore_and_the_database_stays() {
    let there = simple();
    // The databases of a new server take 22 MB, each of these 20 more, and what fills it another 20.
    let here = Postgres::start_on_disk(72);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "app", 1).await;
        let several = dump(&repository, &there, "app", 2).await;
        put_back(&repository, &snapshot, &here.url("app"), usual()).await.expect("there is room for one");
        here.psql("app", "CREATE TABLE later AS SELECT 1 AS n");
        here.psql(
            "postgres",
            "CREATE TABLE filling AS SELECT repeat('x', 2000) FROM generate_series(1, 10000); CHECKPOINT",
        );
        for (snapshot, options) in [
            (&snapshot, replacing()),
            (&several, PostgresRestoreOptions { jobs: 2, ..replacing() }),
            (&snapshot, PostgresRestoreOptions { ignore_errors: true, ..replacing() }),
        ] {
            let options = PostgresRestoreOptions { safety_snapshot: false, ..options };
            let why = refused(&repository, snapshot, &here.url("app"), options).await;
            assert_says(&why, &["No space left on device", "make room on the server's disk and restore again"]);
            assert_says(&why, &["the database app is as it was"]);
            assert_eq!(databases(&here), ["app"]);
            assert_eq!((rows(&here, "app", "big"), rows(&here, "app", "later")), ("50000".into(), "1".into()));
        }
        // What was begun is gone from the disk, too: the room that is made is enough.
        here.psql("postgres", "DROP TABLE filling; CHECKPOINT");
        let options = PostgresRestoreOptions { safety_snapshot: false, ..replacing() };
        let restored = put_back(&repository, &snapshot, &here.url("app"), options).await.expect("there is room");
        assert_eq!(rows(&here, &restored.kept.expect("it stays"), "later"), "1");
        assert_eq!(rows(&here, "app", "big"), "50000");
    });
}

#[test]
fn a_standby_is_dumped_and_refused_as_a_target() {
    let primary = simple();
    let standby = primary.start_standby();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &standby, "app", 2).await;
        assert!(snapshot.record.facts["lsn"].contains('/'), "{:?}", snapshot.record.facts);
        for (name, options) in [("new", usual()), ("app", replacing())] {
            let why = refused(&repository, &snapshot, &standby.url(name), options).await;
            assert_says(&why, &["the server is a standby, which takes no changes; restore to the primary"]);
        }
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 1, "no safety snapshot was taken");
        put_back(&repository, &snapshot, &primary.url("new"), usual()).await.expect("restores");
        assert_eq!(rows(&primary, "new", "big"), "50000");
    });
}

#[test]
fn a_database_comes_back_with_its_locale() {
    let (there, here) = (Postgres::start(), Postgres::start());
    let locales = [
        ("icu", "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'"),
        ("libc", "LOCALE 'C.UTF-8'"),
        ("latin", "ENCODING 'LATIN1' LOCALE 'C'"),
    ];
    let about = "SET client_encoding = 'UTF8';
        SELECT pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, daticulocale FROM pg_database
        WHERE datname = current_database(); SELECT string_agg(word, ' ' ORDER BY word) FROM words";
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for (name, options) in locales {
            there.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {options}"));
            let words = "SET client_encoding = 'UTF8';
                CREATE TABLE words AS SELECT * FROM unnest(ARRAY['ad', 'äb', 'af', 'b', 'Z']) word";
            there.psql(name, words);
            let snapshot = dump(&repository, &there, name, 1).await;
            put_back(&repository, &snapshot, &here.url(name), usual()).await.expect("restores");
            assert_eq!(here.psql(name, about), there.psql(name, about));
        }
        // ä is ae in a German phone book.
        assert!(here.psql("icu", about).ends_with("ad äb af b Z\n"), "{}", here.psql("icu", about));
        assert!(here.psql("libc", about).ends_with("Z ad af b äb\n"), "{}", here.psql("libc", about));
    });
}

#[test]
fn time_limits_of_the_database_are_none_for_a_backup() {
    // The longest is still shorter than the dump of so many rows.
    for (postgres, limit) in [
        (Postgres::start(), "statement_timeout = '1ms'"),
        (Postgres::start_version(17), "statement_timeout = '1ms'"),
        (Postgres::start_version(17), "transaction_timeout = '250ms'"),
        (Postgres::start(), "idle_in_transaction_session_timeout = '1ms'"),
    ] {
        postgres.create_database("app");
        postgres.psql(
            "app",
            &format!("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000000) n; ALTER DATABASE app SET {limit}"),
        );
        run(async {
            let repository = create(Store::memory()).await.expect("creates");
            let snapshot = dump(&repository, &postgres, "app", 2).await;
            let options = PostgresRestoreOptions { client: clients(&postgres), ..replacing() };
            put_back(&repository, &snapshot, &postgres.url("app"), options).await.expect("restores");
            let set = postgres.psql("postgres", "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0");
            assert_eq!(set.lines().count(), 2, "the one that was kept has it, too: {set}");
        });
    }
}
