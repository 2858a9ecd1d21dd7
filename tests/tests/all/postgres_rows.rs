//! Rows of large tables as streams of their own: every kind of value comes back, sorted ones cost less, and what is not the rows
//! that the server sent is noticed.

use crate::kit::databases::{assert_same, assert_says, refused, rows, simple, usual};
use crate::kit::postgres::Postgres;
use crate::kit::{create, in_time, run, snapshots};
use dedump_core::{BackupOptions, Error, Repository, Result, Snapshot, Store, backup};
use dedump_engines::postgres::{
    ClientOptions, DumpPart, OnConflict, PostgresEngine, PostgresOptions, PostgresRestore, RowsOptions,
};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// Tables of more than a MiB with all that `COPY` has to write in a way of its own.
const KINDS: &str = r#"
    CREATE SCHEMA "Odd"; CREATE TYPE "Odd".mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN "Odd".price AS numeric CHECK (value >= 0);
    CREATE TABLE "Odd"."All ""kinds""" (
        gone int, "select" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text, b bytea, j jsonb, a text[], f float8, r real, n numeric,
        at timestamptz, i interval, m "Odd".mood, p "Odd".price, x xml, reg regclass, u uuid, bits bit varying, range int4range, c "char",
        twice text GENERATED ALWAYS AS (upper(t)) STORED, last text);
    ALTER TABLE "Odd"."All ""kinds""" DROP COLUMN gone;
    INSERT INTO "Odd"."All ""kinds""" (t, b, j, a, f, r, n, at, i, m, p, x, reg, u, bits, range, c, last)
        SELECT CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'tab\tline\nreturn\rback\\slash \\. \\N' WHEN 3 THEN 'ü' || n ELSE '\.' END,
            sha512(n::text::bytea), jsonb_build_object('n', n, 'null', NULL, 'text', E'a\nb'), ARRAY[NULL, '', 'a,b', '"', n::text],
            CASE n % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE n / 3.0 END::float8, n / 7.0, n::numeric / 3,
            timestamptz '1850-01-01 00:00:00.123456+00' + n * interval '5 days 1 second', n * interval '1 month -3 days 4.5 seconds',
            CASE n % 2 WHEN 0 THEN 'sad' ELSE 'it''s ok' END::"Odd".mood, n, xmlparse(CONTENT '<a>' || n || '</a> text'),
            '"Odd"."All ""kinds"""'::regclass, md5(n::text)::uuid, n::bit(12), int4range(n, NULL), 'c', E'\r\n'
        FROM generate_series(1, 6000) n;
    CREATE TABLE "Odd".parent (a int, late text); CREATE TABLE "Odd".child (b text) INHERITS ("Odd".parent);
    ALTER TABLE "Odd".parent ADD COLUMN added text;
    INSERT INTO "Odd".parent SELECT n, 'late', 'added' FROM generate_series(1, 30000) n;
    INSERT INTO "Odd".child (a, late, b, added) SELECT n, 'l', 'b' || n, 'x' FROM generate_series(1, 30000) n;
    CREATE TABLE "Odd".event (id int, at date, t text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
    CREATE TABLE "Odd".event_old PARTITION OF "Odd".event FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
    INSERT INTO "Odd".event SELECT n, date '2024-01-01' - n % 300, md5(n::text) FROM generate_series(1, 40000) n;
    CREATE TABLE "Odd".mine (id int PRIMARY KEY, t text); ALTER TABLE "Odd".mine ENABLE ROW LEVEL SECURITY;
    ALTER TABLE "Odd".mine FORCE ROW LEVEL SECURITY; CREATE POLICY none ON "Odd".mine USING (false);
    INSERT INTO "Odd".mine SELECT n, md5(n::text) FROM generate_series(1, 30000) n;
    CREATE TABLE small (n int); INSERT INTO small VALUES (1);
    ALTER DATABASE app SET extra_float_digits = 0; ALTER DATABASE app SET datestyle = 'SQL, DMY';
    ALTER DATABASE app SET intervalstyle = 'sql_standard'; ALTER DATABASE app SET bytea_output = 'escape';
"#;

fn options() -> PostgresOptions {
    let client = ClientOptions { programs: Some(PROGRAMS.into()), ..ClientOptions::default() };
    PostgresOptions { client, jobs: 2, order_by_key: true, ..PostgresOptions::default() }
}

async fn try_dump(repository: &Repository, postgres: &Postgres, options: PostgresOptions) -> Result<Snapshot> {
    let engine = PostgresEngine::new(&postgres.url("app"), options).expect("good options");
    let report = in_time(backup(repository, &engine, &BackupOptions::new("app", "host"), &())).await?;
    Ok(report.snapshot)
}

async fn dump(repository: &Repository, postgres: &Postgres, options: PostgresOptions) -> Snapshot {
    try_dump(repository, postgres, options).await.expect("backs up")
}

/// Says what all tables hold, in the order of their keys.
fn content(postgres: &Postgres, database: &str) -> String {
    postgres.psql(
        database,
        r#"SET row_security = off; SET timezone = 'UTC'; SET extra_float_digits = 3; SET datestyle = ISO; SET intervalstyle = postgres;
        SELECT format('SELECT %L, count(*), md5(string_agg(to_jsonb(t)::text, '''')) FROM (SELECT * FROM ONLY %s ORDER BY %s) t', r, r, k)
        FROM (VALUES ('"Odd"."All ""kinds"""', '"select"'), ('"Odd".parent', 'a'), ('"Odd".child', 'a'), ('"Odd".event_old', 'at, id'),
            ('"Odd".mine', 'id'), ('small', 'n')) x(r, k) \gexec
        SELECT max(last), min(last), count(twice) FROM "Odd"."All ""kinds""";
        INSERT INTO "Odd"."All ""kinds""" (t) VALUES ('next') RETURNING "select"; DELETE FROM "Odd"."All ""kinds""" WHERE t = 'next'"#,
    )
}

#[test]
fn values_of_every_kind_come_back_from_streams_of_their_own() {
    let (there, here) = (Postgres::start(), Postgres::start());
    there.create_database("app");
    there.psql("app", KINDS);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, options()).await;
        let tables = snapshot.record.streams.iter().filter(|stream| stream.name.starts_with("tables/"));
        let tables: Vec<_> =
            tables.map(|stream| (stream.name.as_str(), &*stream.facts["rows"], &*stream.facts["order"])).collect();
        assert_eq!(tables.len(), 5, "{tables:?}");
        assert!(tables.contains(&("tables/%22Odd%22.%22All%20%22%22kinds%22%22%22.copy", "6000", "key")), "{tables:?}");
        assert!(tables.contains(&("tables/%22Odd%22.child.copy", "30000", "as it lies")), "{tables:?}");
        let restore = PostgresRestore::new(&here.url("app"), usual()).expect("good options");
        let restored = in_time(restore.run(&repository, &snapshot, "", &())).await.expect("restores");
        assert_same(&content(&here, "app"), &content(&there, "app"));
        assert_eq!(restored.rows_n, 6000 + 3 * 30_000 + 40_000 + 1);

        // And rows of one of them, by a condition.
        here.psql("app", r#"DELETE FROM "Odd"."All ""kinds""" WHERE "select" % 2 = 0"#);
        let table = r#""Odd"."All ""kinds""""#.to_owned();
        let chosen = RowsOptions { table, condition: r#""select" % 2 = 0"#.into(), on_conflict: OnConflict::Fail };
        let put = in_time(restore.rows(&repository, &snapshot, "", &chosen, &())).await.expect("restores");
        assert_eq!((put.read_n, put.inserted_n), (6000, 3000));
        let rows_alone = |text: String| text.lines().next().expect("a line").to_owned();
        assert_eq!(rows_alone(content(&here, "app")), rows_alone(content(&there, "app")));
    });
}

#[test]
fn sorted_rows_cost_nothing_when_they_have_only_moved() {
    let postgres = simple();
    run(async {
        let mut added = Vec::new();
        for order_by_key in [true, false] {
            let repository = create(Store::memory()).await.expect("creates");
            let options = || PostgresOptions { order_by_key, ..options() };
            let first = dump(&repository, &postgres, options()).await;
            // Every row is written anew, elsewhere and in another order, and is what it was.
            let moved = format!(
                "CREATE TEMPORARY TABLE t AS TABLE big; ALTER TABLE part.configs DROP CONSTRAINT configs_big_fkey; TRUNCATE big;
                INSERT INTO big SELECT * FROM t ORDER BY md5(id || '{order_by_key}'); VACUUM big;
                ALTER TABLE part.configs ADD FOREIGN KEY (big) REFERENCES big"
            );
            postgres.psql("app", &moved);
            let second = dump(&repository, &postgres, options()).await;
            let stream = |snapshot: &Snapshot| {
                let mut streams = snapshot.record.streams.iter();
                streams.find(|stream| stream.name == "tables/public.big.copy").expect("is there").hash
            };
            assert_eq!(stream(&first) == stream(&second), order_by_key);
            added.push(second.record.totals.bytes_added);
        }
        eprintln!("added when rows have moved: {} sorted, {} as they lie", added[0], added[1]);
        assert!(added[0] < 64 << 10 && added[1] > 1 << 20, "{added:?}");
    });
}

/// A folder of the client tools whose `psql` does `script` where it is asked for rows; `$PSQL` is the real one.
fn with_copy(script: &str) -> (tempfile::TempDir, PostgresOptions) {
    let folder = tempfile::tempdir().expect("a folder");
    for tool in ["pg_dump", "pg_dumpall"] {
        std::os::unix::fs::symlink(Path::new(PROGRAMS).join(tool), folder.path().join(tool)).expect("links");
    }
    let path = folder.path().join("psql");
    let text = format!(
        "#!/bin/sh\nPSQL={PROGRAMS}/psql\ncase \"$*\" in *TO\\ STDOUT*) {script};; *) exec $PSQL \"$@\";; esac\n"
    );
    std::fs::write(&path, text).expect("writes");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let client = ClientOptions { programs: Some(folder.path().into()), ..ClientOptions::default() };
    (folder, PostgresOptions { client, ..options() })
}

#[test]
fn what_is_not_the_rows_that_the_server_sent_fails_the_dump() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        // It can't have written all into the pipe when it is ended.
        let fifo = postgres.folder().join("rows");
        let end_backend = format!(
            "mkfifo {fifo}; $PSQL \"$@\" > {fifo} & rows=$!; {{ head -c 1000; {PROGRAMS}/psql -qAt -c \"SELECT pg_terminate_backend(pid)
                FROM pg_stat_activity WHERE query LIKE 'COPY%'\" '{url}' >&2; cat; }} < {fifo}; wait $rows; exit $?",
            fifo = fifo.display(),
            url = postgres.url("app")
        );
        for (script, words) in [
            ("$PSQL \"$@\" | sed 's/$/\\r/'", &["table public.big: there are carriage returns", "docker exec -t"][..]),
            ("$PSQL \"$@\" | head -c 1000001", &["table public.big: the last row has no end"]),
            ("$PSQL \"$@\"; exit 3", &["table public.big: psql failed with exit status 3"]),
            (&end_backend, &["table public.big: psql failed with exit status", "connection"]),
            ("exec $PSQL -d postgres://nobody@nowhere.invalid", &["table public.big: psql failed", "nowhere.invalid"]),
        ] {
            let (_tools, options) = with_copy(script);
            match try_dump(&repository, &postgres, options).await {
                Err(Error::DumpFailed(why)) => assert_says(&why, words),
                other => panic!("{script}: {other:?}"),
            }
        }
        assert_eq!(snapshots(&repository).await.expect("lists"), []);
    });
}

#[test]
fn a_table_can_not_be_emptied_while_its_turn_has_not_come() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let script = format!(
            "$PSQL -q -v ON_ERROR_STOP=1 -c \"SET lock_timeout = '100ms'\" -c 'TRUNCATE big CASCADE' '{}' 2>{} ; exec $PSQL \"$@\"",
            postgres.url("app"),
            postgres.folder().join("said").display()
        );
        let (_tools, options) = with_copy(&script);
        let snapshot = dump(&repository, &postgres, options).await;
        let said = std::fs::read_to_string(postgres.folder().join("said")).expect("it was tried");
        assert!(said.contains("canceling statement due to lock timeout"), "{said}");
        let big = snapshot.record.streams.iter().find(|stream| stream.name.starts_with("tables/")).expect("is there");
        assert_eq!((&*big.facts["rows"], &*rows(&postgres, "app", "big")), ("50000", "50000"));
    });
}

#[test]
fn a_crafted_end_of_rows_runs_no_command_and_is_noticed() {
    let (postgres, here) = (simple(), Postgres::start());
    postgres.psql("app", "ALTER TABLE part.configs DROP CONSTRAINT configs_big_fkey");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mark: PathBuf = postgres.folder().join("ran");
        let crafted = postgres.folder().join("crafted");
        let text = format!("1\tone\n\\.\n\\! touch {}\n2\ttwo\n", mark.display());
        std::fs::write(&crafted, text).expect("writes");
        let (_tools, options) = with_copy(&format!("cat {}", crafted.display()));
        let snapshot = dump(&repository, &postgres, options).await;
        let why = refused(&repository, &snapshot, &here.url("app"), usual()).await;
        assert_says(&why, &["public.big has 1 rows instead of 4"]);
        let restore = PostgresRestore::new(&postgres.url("app"), usual()).expect("good options");
        let chosen = RowsOptions { table: "public.big".into(), ..RowsOptions::default() };
        let why =
            in_time(restore.rows(&repository, &snapshot, "", &chosen, &())).await.expect_err("crafted").to_string();
        assert_says(&why, &["the rows end before their stream does"]);
        assert!(!mark.exists(), "a command of the dump was run");
        assert_eq!(rows(&postgres, "app", "big"), "50000");
    });
}

#[test]
fn streams_of_tables_are_for_whole_databases() {
    for (options, words) in [
        (PostgresOptions { tables: vec!["a.b".into()], ..options() }, "--order-by-key out where tables are chosen"),
        (PostgresOptions { exclude_table_data: vec!["a.b".into()], ..options() }, "only pg_dump can tell"),
        (PostgresOptions { part: DumpPart::Schema, jobs: 1, ..options() }, "a schema has no rows"),
    ] {
        let why = PostgresEngine::new("postgres://h/d", options).map(drop).expect_err("it can't be").to_string();
        assert_says(&why, &[words]);
    }
}
