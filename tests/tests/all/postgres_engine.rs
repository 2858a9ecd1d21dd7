//! The PostgreSQL engine against a real server: what it stores is the whole database of one moment, and what goes wrong is said.

use crate::kit::postgres::{Postgres, output};
use crate::kit::{create, in_time, run};
use crate::postgres::{content, fill};
use dedump_core::{
    BackupOptions, BackupReport, Engine, Error, Existing, FileTarget, Quality, Repository, RestoreOptions, Snapshot,
    Store, backup, restore,
};
use dedump_engines::postgres::{AsDumped, ClientOptions, DumpPart, PostgresEngine, PostgresOptions};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

pub(crate) fn url(postgres: &Postgres, database: &str) -> String {
    format!("postgres://postgres@/{database}?host={}", postgres.folder().display())
}

pub(crate) fn options() -> PostgresOptions {
    let client = ClientOptions { programs: Some(PROGRAMS.into()), ..ClientOptions::default() };
    PostgresOptions { client, ..PostgresOptions::default() }
}

fn jobs(jobs: usize) -> PostgresOptions {
    PostgresOptions { jobs, ..options() }
}

pub(crate) async fn store(repository: &Repository, engine: &dyn Engine) -> Result<BackupReport, Error> {
    // Parts of a database are smaller than all of it.
    let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("app", "host") };
    in_time(backup(repository, engine, &options, &())).await
}

pub(crate) async fn dump(
    repository: &Repository,
    postgres: &Postgres,
    database: &str,
    options: PostgresOptions,
) -> Snapshot {
    let engine = PostgresEngine::new(&url(postgres, database), options).expect("a good source");
    let report = store(repository, &engine).await.expect("backs up");
    assert_eq!(report.snapshot.record.quality, Quality::Good);
    report.snapshot
}

pub(crate) async fn failure(repository: &Repository, url: &str, options: PostgresOptions) -> String {
    let engine = PostgresEngine::new(url, options).expect("a good source");
    match store(repository, &engine).await {
        Err(Error::DumpFailed(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Writes the streams of a snapshot as the tools wrote them.
async fn restore_files(repository: &Repository, snapshot: &Snapshot, folder: &Path) {
    let mut target = AsDumped::new(FileTarget::directory(folder, Existing::Refuse));
    restore(repository, snapshot, &RestoreOptions::default(), &mut target, &()).await.expect("restores");
}

pub(crate) fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.record.streams.iter().map(|stream| stream.name.as_str()).collect()
}

/// What is hard about a schema, besides what `fill` has: owners and grants, partitions, inheritance, identity and generated
/// columns, keys in circles, policies, domains, views that hold rows, many tables.
fn complicate(postgres: &Postgres) {
    postgres.psql(
        "app",
        r#"
        CREATE ROLE "the owner" LOGIN PASSWORD 'it''s secret';
        CREATE ROLE reader NOLOGIN;
        GRANT reader TO "the owner";
        CREATE SCHEMA hard AUTHORIZATION "the owner";
        SET ROLE "the owner";
        CREATE DOMAIN hard.price AS numeric(10, 2) CHECK (value >= 0);
        CREATE TYPE hard.mood AS ENUM ('sad', 'it''s ok', 'happy');
        CREATE TABLE hard.event (
            id int GENERATED ALWAYS AS IDENTITY, at date NOT NULL, mood hard.mood, price hard.price,
            twice numeric GENERATED ALWAYS AS (price * 2) STORED, PRIMARY KEY (id, at)
        ) PARTITION BY RANGE (at);
        CREATE TABLE hard.event_2025 PARTITION OF hard.event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE hard.event_rest PARTITION OF hard.event DEFAULT;
        INSERT INTO hard.event (at, mood, price)
            SELECT date '2024-06-01' + n, (ARRAY['sad', 'it''s ok', NULL]::hard.mood[])[1 + n % 3], n / 3.0
            FROM generate_series(1, 900) n;
        CREATE TABLE hard.parent (a int, note text);
        CREATE TABLE hard.child (b bytea) INHERITS (hard.parent);
        INSERT INTO hard.parent VALUES (1, NULL), (2, '');
        INSERT INTO hard.child VALUES (3, E'tab\tand\nline\\', '\x00ff');
        CREATE TABLE hard.hen (id int PRIMARY KEY, egg int);
        CREATE TABLE hard.egg (id int PRIMARY KEY, hen int REFERENCES hard.hen DEFERRABLE INITIALLY DEFERRED);
        ALTER TABLE hard.hen ADD FOREIGN KEY (egg) REFERENCES hard.egg DEFERRABLE INITIALLY DEFERRED;
        BEGIN; INSERT INTO hard.hen VALUES (1, 2); INSERT INTO hard.egg VALUES (2, 1); COMMIT;
        CREATE TABLE hard.mine (who text, what text);
        ALTER TABLE hard.mine ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON hard.mine USING (who = current_user);
        INSERT INTO hard.mine VALUES ('the owner', 'seen'), ('other', 'hidden');
        GRANT SELECT ON hard.mine TO reader;
        CREATE MATERIALIZED VIEW hard.sums AS SELECT mood, sum(price) AS price FROM hard.event GROUP BY mood;
        CREATE FUNCTION hard.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := ''touched''; RETURN NEW; END';
        CREATE TRIGGER touch BEFORE INSERT ON hard.parent FOR EACH ROW EXECUTE FUNCTION hard.touch();
        RESET ROLE;
        CREATE SCHEMA many;
        SELECT format('CREATE TABLE many.t%s AS SELECT %s AS n', n, n) FROM generate_series(1, 1000) n \gexec
        COMMENT ON DATABASE app IS 'it''s the app';
        ALTER DATABASE app SET work_mem = '5MB';
        "#,
    );
}

/// Loads what was restored into a new database of the same server, the roles being there.
fn load(postgres: &Postgres, folder: &Path, database: &str) {
    postgres.create_database(database);
    let path = |name: &str| folder.join(name).to_str().expect("a plain path").to_owned();
    let restore = |section: &str, file: &str| {
        postgres.run("pg_restore", &["--exit-on-error", &format!("--section={section}"), "-d", database, &path(file)]);
    };
    restore("pre-data", "database.dump");
    restore("data", "database.dump");
    let tables = std::fs::read_dir(folder.join("tables")).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    for table in tables {
        let name = table.expect("an entry").file_name();
        let table = name.to_str().and_then(|name| name.strip_suffix(".copy")).expect("a plain name");
        let copy = format!("\\copy {table} FROM '{}'", path(&format!("tables/{table}.copy")));
        postgres.run("psql", &["-q", "-d", database, "-c", &copy]);
    }
    restore("post-data", "database.dump");
}

#[test]
fn a_database_comes_back_from_one_stream_and_from_several() {
    let postgres = Postgres::start();
    fill(&postgres);
    complicate(&postgres);
    let expected = content(&postgres, "app");
    assert!(expected.contains("hard.sums|3|") && expected.contains("many.t1000|1|"), "{expected}");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for (database, jobs_n) in [("one", 1), ("several", 3)] {
            let snapshot = dump(&repository, &postgres, "app", jobs(jobs_n)).await;
            let tables_n = names(&snapshot).iter().filter(|name| name.starts_with("tables/")).count();
            assert_eq!(tables_n, if jobs_n == 1 { 0 } else { 1 }, "{:?}", names(&snapshot));
            let folder = postgres.folder().join(format!("restored-{jobs_n}"));
            restore_files(&repository, &snapshot, &folder).await;
            load(&postgres, &folder, database);
            assert_eq!(content(&postgres, database), expected, "{jobs_n} jobs");

            let facts = &snapshot.record.facts;
            assert_eq!((facts["engine"].as_str(), facts["database"].as_str()), ("postgres", "app"));
            let inventory = std::fs::read_to_string(folder.join("inventory.json")).expect("is there");
            let inventory: serde_json::Value = serde_json::from_str(&inventory).expect("JSON");
            let table = |name: &str| {
                let tables = inventory["tables"].as_array().expect("tables");
                tables.iter().find(|table| table["name"] == name).expect(name)["rows"].clone()
            };
            assert_eq!(table("public.pgbench_accounts"), 200_000);
            assert_eq!((table("hard.parent"), table("hard.child")), (2.into(), 1.into()));
            assert_eq!(table(r#"shop."Odd ""name""""#), 3);
            assert_eq!(inventory["objects"]["large_objects"], 2);
            assert_eq!(inventory["objects"]["policies"], 1);
            assert_eq!(inventory["database"]["comment"], "it's the app");
            let globals = std::fs::read_to_string(folder.join("globals.sql")).expect("is there");
            assert!(globals.contains("CREATE ROLE \"the owner\"") && globals.contains("SCRAM-SHA-256$"), "{globals}");
            assert!(!globals.contains("dedumpPutsARandomToken"), "the token is another one in what is restored");
        }
    });
}

#[test]
fn an_unchanged_database_adds_next_to_nothing() {
    let postgres = Postgres::start();
    fill(&postgres);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for jobs_n in [1, 3] {
            let first = dump(&repository, &postgres, "app", jobs(jobs_n)).await;
            // The header of an archive has the second of the dump in it.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let second = dump(&repository, &postgres, "app", jobs(jobs_n)).await;
            let added = second.record.totals.bytes_added;
            eprintln!("{jobs_n} jobs: {} then {added}", first.record.totals.bytes_added);
            assert!(added < 64 << 10, "{added}");
            let hashes = |snapshot: &Snapshot| -> Vec<_> {
                snapshot.record.streams.iter().map(|stream| (stream.name.clone(), stream.hash)).collect()
            };
            assert_eq!(hashes(&first), hashes(&second));
        }
    });
}

#[test]
fn a_dump_under_load_is_of_one_moment() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.run("pgbench", &["-i", "-q", "-s", "3", "app"]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut load_on = postgres.client("pgbench", &["-n", "-c2", "-T", "30", "app"]);
        let mut load_on = load_on.stdout(std::process::Stdio::null()).spawn().expect("pgbench starts");
        while postgres.psql("app", "SELECT count(*) > 50 FROM pgbench_history").trim() != "t" {}
        let snapshot = dump(&repository, &postgres, "app", jobs(2)).await;
        let since = postgres.psql("app", "SELECT count(*) FROM pgbench_history");
        load_on.kill().expect("it still runs");
        load_on.wait().expect("it ends");
        let folder = postgres.folder().join("restored");
        restore_files(&repository, &snapshot, &folder).await;
        load(&postgres, &folder, "again");
        let sums = postgres.psql(
            "again",
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
                (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history)",
        );
        let sums: Vec<&str> = sums.trim().split('|').collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
        let inventory = std::fs::read_to_string(folder.join("inventory.json")).expect("is there");
        let rows = postgres.psql("again", "SELECT count(*) FROM pgbench_history");
        assert!(
            inventory.contains(&format!(r#""name":"public.pgbench_history","rows":{}}}"#, rows.trim())),
            "{inventory}"
        );
        assert!(
            since.trim().parse::<u64>().expect("n") > rows.trim().parse::<u64>().expect("n"),
            "it went on meanwhile"
        );
    });
}

#[test]
fn all_databases_and_parts_of_one_are_dumped() {
    let postgres = Postgres::start();
    fill(&postgres);
    postgres.create_database("odd/name ü");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let all = dump(&repository, &postgres, "*", options()).await;
        let expected = ["globals.sql", "databases/app/database.dump", "databases/app/inventory.json"];
        assert_eq!(names(&all)[..3], expected);
        assert!(names(&all).contains(&"databases/odd%2Fname%20%C3%BC/database.dump"), "{:?}", names(&all));
        assert!(names(&all).contains(&"databases/postgres/database.dump"));
        assert_eq!(all.record.facts["odd%2Fname%20%C3%BC.database"], "odd/name ü");

        let with = |part, tables: &[&str], left_out: &[&str]| PostgresOptions {
            part,
            tables: tables.iter().map(|&table| table.into()).collect(),
            exclude_table_data: left_out.iter().map(|&table| table.into()).collect(),
            ..options()
        };
        for (options, has_schema, has_rows, warnings_n) in [
            (with(DumpPart::Schema, &[], &[]), true, false, 0),
            (with(DumpPart::Data, &[], &[]), false, true, 0),
            (with(DumpPart::All, &["shop.documents"], &[]), true, true, 1),
            (with(DumpPart::All, &[], &["shop.doc*"]), true, false, 0),
        ] {
            let case = format!("{options:?}");
            let snapshot = dump(&repository, &postgres, "app", options).await;
            let folder = tempfile::tempdir().expect("a folder");
            restore_files(&repository, &snapshot, folder.path()).await;
            let archive = folder.path().join("database.dump");
            let text = output(Command::new(Path::new(PROGRAMS).join("pg_restore")).args(["-f", "-"]).arg(archive));
            assert_eq!(text.contains("CREATE TABLE shop.documents"), has_schema, "{case}");
            assert_eq!(text.contains("it's \"quoted\""), has_rows, "{case}");
            let about_large_objects = |warning: &&String| warning.contains("2 large objects are not in the dump");
            assert_eq!(snapshot.record.warnings.iter().filter(about_large_objects).count(), warnings_n, "{case}");
        }
    });
}
