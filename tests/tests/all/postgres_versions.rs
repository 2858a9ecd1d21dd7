//! The other versions of PostgreSQL: dumped and put back as 15 is, whole, and into newer ones.

use crate::kit::databases::{
    AWKWARD, assert_same, assert_says, clients, content, databases, dump, dumping, put_back, refused, roles, rows,
    usual,
};
use crate::kit::postgres::Postgres;
use crate::kit::{create, in_time, run};
use dedump_core::{BackupOptions, Error, Store, backup};
use dedump_engines::postgres::{ClientOptions, Place, PostgresEngine, PostgresOptions, PostgresRestoreOptions};

/// What only newer servers have: from this version on.
const NEWS: &[(u32, &str)] = &[
    (14, "CREATE TABLE spans (n nummultirange, t text COMPRESSION pglz); INSERT INTO spans VALUES ('{[1,2),[5,6)}', 't');
        CREATE PROCEDURE twice(a int, OUT b int) BEGIN ATOMIC SELECT a * 2; END;"),
    (15, "CREATE TABLE nulls (n int UNIQUE NULLS NOT DISTINCT); CREATE VIEW invoked WITH (security_invoker) AS TABLE nulls;
        CREATE PUBLICATION few FOR TABLE nulls (n) WHERE (n > 1);"),
    (16, "CREATE TABLE stored (t text STORAGE EXTERNAL); GRANT reader TO \"App owner\" WITH INHERIT FALSE, SET TRUE;"),
    (17, "CREATE TABLE numbered (n int GENERATED ALWAYS AS IDENTITY, k int) PARTITION BY LIST (k);
        CREATE TABLE numbered_1 PARTITION OF numbered FOR VALUES IN (1); INSERT INTO numbered (k) VALUES (1), (1);
        GRANT MAINTAIN ON numbered TO reader;"),
    (18, "CREATE TABLE virtual (n int NOT NULL, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL);
        INSERT INTO virtual VALUES (1), (2); CREATE EXTENSION btree_gist;
        CREATE TABLE stays (room int, at daterange, PRIMARY KEY (room, at WITHOUT OVERLAPS));
        INSERT INTO stays VALUES (1, '[2026-01-01,2026-01-02)');
        ALTER TABLE virtual ADD CONSTRAINT loose CHECK (n > 5) NOT ENFORCED;"),
];

/// Locales that older servers do not have. Those of ICU, which these builds are without, are tried with Debian's 15.
const LOCALES: &[(u32, &str)] = &[
    (17, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
    (18, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'"),
];

/// Returns a server with all that its version has.
fn server(major: u32) -> Postgres {
    let postgres = Postgres::start_version(major);
    postgres.create_database("app");
    postgres.psql("app", AWKWARD);
    postgres.psql(
        "app",
        "CREATE TABLE public.big AS SELECT n AS id, repeat(md5(n::text), 6) AS t FROM generate_series(1, 50000) n",
    );
    for (_, script) in NEWS.iter().filter(|(since, _)| *since <= major) {
        postgres.psql("app", &format!("SET search_path = public; {script}"));
    }
    postgres
}

fn restoring(postgres: &Postgres) -> PostgresRestoreOptions {
    PostgresRestoreOptions { client: clients(postgres), ..usual() }
}

/// Says what locale a database has, in what its server knows of that.
fn locale(postgres: &Postgres, database: &str) -> String {
    let query = format!(
        "SELECT datcollate, datctype, to_jsonb(d) ->> 'datlocprovider', to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale',
            to_jsonb(d) ->> 'daticurules' FROM pg_database d WHERE datname = '{database}'"
    );
    postgres.psql("postgres", &query)
}

fn comes_back(major: u32) {
    let (there, here) = (server(major), Postgres::start_version(major));
    let locales = || LOCALES.iter().filter(|(since, _)| *since <= major);
    for (since, options) in locales() {
        there.psql("postgres", &format!("CREATE DATABASE l{since} TEMPLATE template0 ENCODING 'UTF8' {options}"));
        there.psql(
            &format!("l{since}"),
            "CREATE TABLE words AS SELECT * FROM unnest(ARRAY['ad', 'äb', 'g', 'b', 'z', 'Z']) word",
        );
    }
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let expected = content(&there, "app");
        for jobs in [1, 2] {
            let snapshot = dump(&repository, &there, "app", jobs).await;
            let version = &snapshot.record.facts["server_version"];
            assert!(version.starts_with(&format!("{major}.")), "{version}");
            let options = PostgresRestoreOptions { jobs, ..restoring(&here) };
            let restored = put_back(&repository, &snapshot, &here.url("app"), options.clone()).await.expect("restores");
            let warnings = restored.warnings.iter().filter(|warning| !warning.contains("CVE-2026-18408"));
            assert_eq!(warnings.count(), 0, "{:?}", restored.warnings);
            assert_same(&content(&here, "app"), &expected);
            here.psql("app", "DROP TABLE public.big");
            let options = PostgresRestoreOptions { place: Place::Replace, drop_old: true, ..options };
            put_back(&repository, &snapshot, &here.url("app"), options).await.expect("restores");
            assert_eq!((rows(&here, "app", "big").as_str(), databases(&here).len()), ("50000", 1));
            here.psql("postgres", "DROP DATABASE app");
        }
        assert_eq!(roles(&here), roles(&there));
        for (since, _) in locales() {
            let name = format!("l{since}");
            let snapshot = dump(&repository, &there, &name, 1).await;
            put_back(&repository, &snapshot, &here.url(&name), restoring(&here)).await.expect("restores");
            assert_eq!(locale(&here, &name), locale(&there, &name));
            let sorted = "SELECT string_agg(word, ' ' ORDER BY word) FROM words";
            assert_eq!(here.psql(&name, sorted), there.psql(&name, sorted));
        }
    });
}

#[test]
fn a_database_of_14_comes_back() {
    comes_back(14);
}

#[test]
fn a_database_of_16_comes_back() {
    comes_back(16);
}

#[test]
fn a_database_of_17_comes_back() {
    comes_back(17);
}

#[test]
fn a_database_of_18_comes_back() {
    comes_back(18);
}

#[test]
fn an_old_database_goes_into_a_new_server_and_not_the_other_way_round() {
    let (old, new) = (server(14), Postgres::start_version(18));
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        // By the old server's own tools, and by the new one's.
        for (name, client) in [("by_14", clients(&old)), ("by_18", clients(&new))] {
            let options = PostgresOptions { client, jobs: 2, ..dumping(&old) };
            let engine = PostgresEngine::new(&old.url("app"), options).expect("good options");
            let report = in_time(backup(&repository, &engine, &BackupOptions::new("app", "host"), &())).await;
            let snapshot = report.expect("backs up").snapshot;
            put_back(&repository, &snapshot, &new.url(name), restoring(&new)).await.expect("restores");
            // What the rows and the sequences are; the catalogue is another one.
            let data = |content: String| -> Vec<String> {
                content.lines().take_while(|line| !line.starts_with("relation|")).map(str::to_owned).collect()
            };
            let (found, expected) = (data(content(&new, name)), data(content(&old, "app")));
            assert_eq!(found, expected);
            assert_eq!(expected.len(), 20, "{expected:?}");
        }
        let snapshot = dump(&repository, &new, "by_18", 1).await;
        let why = refused(&repository, &snapshot, &old.url("new"), restoring(&old)).await;
        assert_says(&why, &["pg_restore is of version 14 and the dump was made by version 18", "postgresql-client-18"]);
        let why = refused(&repository, &snapshot, &old.url("new"), restoring(&new)).await;
        assert_says(&why, &["there is still no database new"]);
        assert_eq!(databases(&old), ["app"]);
    });
}

#[test]
fn a_server_newer_than_the_tools_is_told_with_their_package() {
    let (new, old) = (Postgres::start_version(18), Postgres::start());
    new.create_database("app");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let client = ClientOptions { programs: Some(old.programs().to_owned()), ..ClientOptions::default() };
        let options = PostgresOptions { client, ..PostgresOptions::default() };
        let engine = PostgresEngine::new(&new.url("app"), options).expect("good options");
        match in_time(backup(&repository, &engine, &BackupOptions::new("app", "host"), &())).await {
            Err(Error::DumpFailed(why)) => {
                assert_says(
                    &why,
                    &["pg_dump is of version 15 and the server of 18", "postgresql-client-18", "--pg-bin"],
                );
            }
            other => panic!("{other:?}"),
        }
    });
}
