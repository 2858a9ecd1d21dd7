//! The main job with a real PostgreSQL: its dumps come back and load, whole; and what its tools say when a dump fails is
//! what the user hears, with nothing stored.

use crate::kit::postgres::{Lock, Postgres};
use crate::kit::watched::Watched;
use crate::kit::{create, get_back, in_time, open, run, secret, snapshots};
use dedump_core::{
    BackupOptions, CreateOptions, Error, Event, Existing, FileTarget, Progress, Quality, ReadData, Repository,
    RestoreOptions, Snapshot, Store, WriterTarget, backup, check, restore,
};
use dedump_engines::{CommandEngine, CommandOptions};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const DAYS_N: usize = 3;

#[test]
fn three_days_of_pg_dump_come_back_into_a_new_database() {
    let postgres = Postgres::start();
    fill(&postgres);
    run(async {
        let root = postgres.folder().join("repository");
        let options = CreateOptions { threads_n: 2, ..CreateOptions::default() };
        let store = Store::create_local(&root).expect("a new folder");
        let repository = Repository::create(store, &secret(), options).await.expect("creates");
        let mut days = Vec::new();
        for day in 1..=DAYS_N {
            change(&postgres, day);
            let archive = dump(&repository, &postgres, "app", "app.dump", &["-Fc", "-Z0", "app"]).await;
            let text = dump(&repository, &postgres, "app-sql", "app.sql", &["-Fp", "app"]).await;
            days.push((content(&postgres, "app"), archive, text));
        }
        assert!(days[0].0 != days[1].0 && days[1].0 != days[2].0, "every day changes something");
        for (n, (_, archive, text)) in days.iter().enumerate().skip(1) {
            assert_eq!(archive.record.parent, Some(days[n - 1].1.id));
            assert_eq!(text.record.parent, Some(days[n - 1].2.id));
        }
        // Few of 200,000 rows and a few hundred documents change, scattered. Where chunks end is another in every
        // repository, by its key: from 9 to 22 % of a dump were seen.
        let later = || days[1..].iter().flat_map(|(_, archive, text)| [archive, text]).map(|dump| &dump.record.totals);
        let bytes_new: u64 = later().map(|totals| totals.bytes_new).sum();
        let bytes: u64 = later().map(|totals| totals.bytes).sum();
        assert!(bytes_new * 100 < bytes * 35, "{bytes_new} new of {bytes}");

        // What follows knows nothing but what lies on the disk.
        drop(repository);
        let repository = open(Store::local(&root).expect("is there")).await.expect("opens");
        for (n, (expected, archive, text)) in days.iter().enumerate() {
            let database = format!("archive_{}", n + 1);
            load_archive(&repository, &postgres, archive, &database).await;
            assert_eq!(content(&postgres, &database), *expected, "day {} from the archive", n + 1);
            let database = format!("text_{}", n + 1);
            load_text(&repository, &postgres, text, &database).await;
            assert_eq!(content(&postgres, &database), *expected, "day {} from the text", n + 1);
        }
        let report = check(&repository, ReadData::All, &()).await.expect("checks");
        assert_eq!(report.findings, []);
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 2 * DAYS_N);
    });
}

/// Fills the database `app`: accounts by pgbench, and documents that are hard to write down.
pub(crate) fn fill(postgres: &Postgres) {
    postgres.create_database("app");
    postgres.run("pgbench", &["-i", "-q", "-s", "2", "app"]);
    postgres.psql(
        "app",
        r#"
        CREATE SCHEMA shop;
        CREATE TABLE shop.documents (
            id bigserial PRIMARY KEY,
            body jsonb NOT NULL,
            note text,
            scan bytea,
            price numeric(12, 2) CHECK (price >= 0),
            labels text[],
            seen timestamptz NOT NULL
        );
        CREATE INDEX ON shop.documents USING gin (body);
        CREATE VIEW shop.dear AS SELECT id, price FROM shop.documents WHERE price > 900;
        CREATE TABLE shop."Odd ""name""" ("select" int, "two words" text, nothing int);
        CREATE TABLE shop.empty (id int);
        CREATE SEQUENCE shop.tickets START 1000 INCREMENT 7;
        CREATE FUNCTION shop.add(day int, documents_n int) RETURNS void LANGUAGE sql AS $$
            INSERT INTO shop.documents (body, note, scan, price, labels, seen)
            SELECT
                jsonb_build_object('n', n, 'day', day, 'title', md5(format('%s of %s', n, day)), 'null', NULL, 'empty', '',
                    'words', (SELECT jsonb_agg(md5(format('%s %s %s', n, day, word))) FROM generate_series(1, n % 20) word)),
                CASE n % 7
                    WHEN 0 THEN NULL
                    WHEN 1 THEN ''
                    WHEN 2 THEN E'it''s "quoted", a back\\slash, a\ttab, \\N and $' || '$'
                    WHEN 3 THEN E'two\nlines\r\n\\.\nand a last one\n'
                    WHEN 4 THEN E'\u00fc\u00f1\u00ed \U0001f4be'
                    WHEN 5 THEN E'\n--\n-- PostgreSQL database dump complete\n--\n\n'
                    ELSE repeat(md5(n::text), 40)
                END,
                CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN ''::bytea ELSE '\x00ff0a5c27'::bytea || sha512(n::text::bytea) END,
                (n * 37 % 100000) / 100.0,
                CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '{}' ELSE ARRAY['a,b', '"c"', NULL, ''] END,
                timestamptz '2026-01-01 00:00:00.123456+00' + day * interval '1 day' + n * interval '1 second'
            FROM generate_series(1, documents_n) n
        $$;
        SELECT shop.add(0, 5000);
        INSERT INTO shop."Odd ""name""" VALUES (1, 'one', NULL), (NULL, NULL, NULL), (-1, '', 0);
        SELECT lo_from_bytea(4242, (SELECT string_agg(sha512(n::text::bytea), '' ORDER BY n) FROM generate_series(1, 5000) n));
        SELECT lo_from_bytea(4243, '');
        "#,
    );
}

/// A day's work on the database: a few accounts everywhere, documents here and there, the large object, the sequence.
fn change(postgres: &Postgres, day: usize) {
    postgres.run("pgbench", &["-n", "-c1", "-t", "10", &format!("--random-seed={day}"), "app"]);
    let script = format!(
        "\\set day {day}
        UPDATE shop.documents SET body = body || jsonb_build_object('changed', :day), note = nullif(note, '')
            WHERE id BETWEEN :day * 500 AND :day * 500 + 60;
        DELETE FROM shop.documents WHERE id BETWEEN :day * 900 AND :day * 900 + 20;
        SELECT shop.add(:day, 150);
        SELECT lo_put(4242, :day * 1000, 'changed');
        SELECT count(nextval('shop.tickets')) FROM generate_series(1, :day * 10);"
    );
    postgres.psql("app", &script);
}

/// Says what is in a database: for every table and view the rows and their checksum, and all there is beside them.
pub(crate) fn content(postgres: &Postgres, database: &str) -> String {
    let content = postgres.psql(
        database,
        r#"
        CREATE TEMPORARY VIEW own AS
            SELECT c.oid, c.oid::regclass::text AS name, c.relkind AS kind FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';
        SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), '''' ORDER BY t::text COLLATE "C")) FROM %s t',
            name, name) FROM own WHERE kind IN ('r', 'p', 'm', 'v') ORDER BY name \gexec
        SELECT format('SELECT %L, last_value, is_called FROM %s', name, name) FROM own WHERE kind = 'S' ORDER BY name \gexec
        SELECT 'large object', oid, length(lo_get(oid)), md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid;
        SELECT own.name, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
            FROM own JOIN pg_attribute ON attrelid = own.oid AND attnum > 0
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE kind <> 'i' ORDER BY own.name, attnum;
        SELECT own.name, conname, pg_get_constraintdef(c.oid) FROM own JOIN pg_constraint c ON conrelid = own.oid
            ORDER BY own.name, conname;
        SELECT pg_get_indexdef(oid) FROM own WHERE kind = 'i' ORDER BY name;
        SELECT oid::regprocedure, md5(prosrc) FROM pg_proc WHERE pronamespace = 'shop'::regnamespace;
        "#,
    );
    assert!(content.contains("pgbench_accounts|200000|") && content.contains("large object|4242|320000|"), "{content}");
    content
}

/// Backs a `pg_dump` up, as the whole and good dump that it must be.
async fn dump(
    repository: &Repository,
    postgres: &Postgres,
    source: &str,
    stream: &str,
    arguments: &[&str],
) -> Snapshot {
    let engine = CommandEngine::new(stream, postgres.argv("pg_dump", arguments), CommandOptions::default());
    let options = BackupOptions::new(source, "host");
    let report = in_time(backup(repository, &engine.expect("a good command"), &options, &())).await.expect("backs up");
    assert_eq!(report.problems, Vec::<String>::new());
    let record = &report.snapshot.record;
    assert_eq!((record.quality, &record.warnings[..]), (Quality::Good, &[][..]), "{:?}", record.reasons);
    let [recorded] = &record.streams[..] else { panic!("{record:?}") };
    assert_eq!(recorded.name, stream);
    assert!(recorded.facts["format"].starts_with("pg_dump "), "{:?}", recorded.facts);
    let totals = &record.totals;
    eprintln!("{source}: {} bytes, {} new, {} added", totals.bytes, totals.bytes_new, totals.bytes_added);
    report.snapshot
}

/// Restores an archive to a file and loads that into a new database.
async fn load_archive(repository: &Repository, postgres: &Postgres, snapshot: &Snapshot, database: &str) {
    let path = postgres.folder().join(format!("{database}.dump"));
    let mut target = FileTarget::file(&path, Existing::Refuse);
    let report = restore(repository, snapshot, &RestoreOptions::default(), &mut target, &()).await.expect("restores");
    assert_eq!((report.streams_n, report.bytes), (1, snapshot.record.totals.bytes));
    postgres.create_database(database);
    postgres.run("pg_restore", &["--exit-on-error", "-d", database, path.to_str().expect("a plain path")]);
}

/// Restores text straight into a `psql` on a new database.
async fn load_text(repository: &Repository, postgres: &Postgres, snapshot: &Snapshot, database: &str) {
    postgres.create_database(database);
    let mut psql = postgres.script(database);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("psql starts");
    let mut target = WriterTarget(psql.stdin.take().expect("stdin is piped"));
    restore(repository, snapshot, &RestoreOptions::default(), &mut target, &()).await.expect("restores");
    drop(target);
    assert!(psql.wait().expect("psql ends").success());
}

/// A database whose dump has a large part before and behind the table `middle`.
fn small_server() -> Postgres {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql(
        "app",
        "CREATE TABLE big AS SELECT n AS id, repeat(md5(n::text), 10) AS filling FROM generate_series(1, 50000) n;
        CREATE TABLE middle AS SELECT n AS id FROM generate_series(1, 100) n;
        CREATE TABLE tail AS SELECT n AS id FROM generate_series(1, 100) n;
        CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;",
    );
    postgres
}

fn pg_dump(postgres: &Postgres, arguments: &[&str]) -> CommandEngine {
    command("app.dump", postgres.argv("pg_dump", arguments))
}

/// Returns the engine of a shell pipeline that begins with `pg_dump`.
fn pipeline(postgres: &Postgres, arguments: &[&str], rest: &str) -> CommandEngine {
    let quoted = |word: &std::ffi::OsString| format!("'{}'", word.to_str().expect("plain words"));
    let line: Vec<_> = postgres.argv("pg_dump", arguments).iter().map(quoted).collect();
    command("app.dump", ["sh", "-c", &format!("{} | {rest}", line.join(" "))].map(Into::into).into())
}

fn command(stream: &str, argv: Vec<std::ffi::OsString>) -> CommandEngine {
    CommandEngine::new(stream, argv, CommandOptions::default()).expect("a good command")
}

/// Counts the bytes that a backup has read.
#[derive(Default)]
struct BytesRead(AtomicU64);

impl Progress for BytesRead {
    fn event(&self, event: Event) {
        if let Event::Read { bytes } = event {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Backs up what must fail as a dump; nothing may be left of it. Returns what the user hears and how much was read.
async fn refused(engine: &CommandEngine) -> (String, u64) {
    let store = Watched::create();
    let repository = create(store.store()).await.expect("creates");
    let read = BytesRead::default();
    let outcome = in_time(backup(&repository, engine, &BackupOptions::new("app", "host"), &read)).await;
    assert_eq!(snapshots(&repository).await.expect("lists").len(), 0);
    let marks: Vec<_> = store.names().await.into_iter().filter(|name| name.starts_with("sess")).collect();
    assert_eq!(marks, Vec::<String>::new());
    let report = check(&repository, ReadData::All, &()).await.expect("checks");
    assert_eq!(report.findings, []);
    match outcome {
        Err(Error::DumpFailed(why)) => (why, read.0.into_inner()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_says(why: &str, words: &[&str]) {
    for words in words {
        assert!(why.contains(words), "{words:?} is not in: {why}");
    }
}

#[test]
fn a_pg_dump_that_loses_its_server_half_way_leaves_no_snapshot() {
    let postgres = small_server();
    let end = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name = 'pg_dump'";
    let end = Mutex::new(postgres.client("psql", &["-XqAt", "-d", "app", "-c", end]));
    let (heard, has_ended) = (Mutex::new(String::new()), std::sync::Arc::new(AtomicBool::new(false)));
    let ended = std::sync::Arc::clone(&has_ended);
    // While this runs nobody reads the dump, and the table is larger than what the pipes hold: it is amid the table.
    let engine = pg_dump(&postgres, &["-v", "-Fc", "-Z0", "app"]).on_stderr(move |piece| {
        let mut heard = heard.lock().expect("nobody panics");
        heard.push_str(&String::from_utf8_lossy(piece));
        if heard.contains("dumping contents of table \"public.big\"") && !ended.swap(true, Ordering::SeqCst) {
            let terminated = crate::kit::postgres::output(&mut end.lock().expect("nobody panics"));
            assert_eq!(terminated, "t\n");
        }
    });
    run(async {
        let (why, _) = refused(&engine).await;
        assert!(has_ended.load(Ordering::SeqCst), "{why}");
        assert_says(&why, &["pg_dump failed with exit status 1; nothing was stored; it said: "]);
        // Its words differ with the moment at which the server went: before the table's COPY began, or amid it.
        assert_says(&why, &["pg_dump: error: "]);
    });
}

#[test]
fn a_pg_dump_that_may_not_read_a_table_leaves_no_snapshot() {
    let postgres = small_server();
    postgres.psql("app", "ALTER TABLE middle ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON middle USING (id < 50);");
    run(async {
        for format in [&["-Fc", "-Z0"][..], &["-Fp"]] {
            let engine = pg_dump(&postgres, &[format, &["-U", "reader", "app"]].concat());
            let (why, bytes_read) = refused(&engine).await;
            assert_says(&why, &["pg_dump failed with exit status 1; nothing was stored; it said: pg_dump: error: "]);
            assert_says(&why, &["query would be affected by row-level security policy for table \"middle\""]);
            assert!(bytes_read > 8_000_000, "the table before was read already: {bytes_read}");
        }
    });
}

#[test]
fn a_pg_dump_that_waits_for_a_lock_in_vain_leaves_no_snapshot() {
    let postgres = small_server();
    let lock = Lock::take(&postgres, "app", "middle");
    let engine = pg_dump(&postgres, &["-Fc", "-Z0", "--lock-wait-timeout=100", "app"]);
    run(async {
        let (why, _) = refused(&engine).await;
        assert_says(
            &why,
            &["pg_dump failed with exit status 1; nothing was stored", "timeout", "LOCK TABLE public.middle"],
        );
        drop(lock);
        let repository = create(Store::memory()).await.expect("creates");
        in_time(backup(&repository, &engine, &BackupOptions::new("app", "host"), &())).await.expect("the lock is gone");
    });
}

#[test]
fn a_pg_dump_of_a_wrong_database_or_server_leaves_no_snapshot() {
    let postgres = Postgres::start();
    run(async {
        let (why, _) = refused(&pg_dump(&postgres, &["-Fc", "-Z0", "ap"])).await;
        assert_says(&why, &["pg_dump failed with exit status 1", "database \"ap\" does not exist"]);
        let (why, _) = refused(&pg_dump(&postgres, &["-p", "5433", "postgres"])).await;
        assert_says(&why, &["pg_dump failed with exit status 1", "No such file or directory", ".s.PGSQL.5433"]);
        let (why, _) = refused(&pg_dump(&postgres, &["--no-such-option"])).await;
        assert_says(&why, &["pg_dump failed with exit status 1", "unrecognized option", "--no-such-option"]);
    });
}

#[test]
fn a_dump_that_a_pipeline_cut_off_is_refused_though_it_exits_well() {
    let postgres = small_server();
    run(async {
        let (why, _) = refused(&pipeline(&postgres, &["-Fp", "app"], "head -c 20000")).await;
        assert_says(&why, &["the dump is incomplete: it begins as pg_dump text and does not end with"]);
        assert_says(&why, &["-- PostgreSQL database dump complete", "nothing was stored"]);
        let (why, _) = refused(&pipeline(&postgres, &["-Fc", "-Z0", "app"], "head -c 9000000")).await;
        assert_says(&why, &["the dump is incomplete: the pg_dump archive 1.14 ends within its data"]);
        let (why, _) = refused(&pipeline(&postgres, &["-Fp", "no_such_database"], "cat")).await;
        assert_says(&why, &["is empty", "--allow-empty", "database \"no_such_database\" does not exist"]);
        let whole = pipeline(&postgres, &["-Fc", "-Z0", "app"], "cat");
        let repository = create(Store::memory()).await.expect("creates");
        in_time(backup(&repository, &whole, &BackupOptions::new("app", "host"), &())).await.expect("a whole dump");
    });
}

#[test]
fn a_compressed_archive_is_kept_with_a_warning_that_names_the_option() {
    let postgres = small_server();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = BackupOptions::new("app", "host");
        let record = async |arguments: &[&str]| {
            let engine = pg_dump(&postgres, arguments);
            in_time(backup(&repository, &engine, &options, &())).await.expect("backs up").snapshot.record
        };
        let compressed = record(&["-Fc", "app"]).await;
        let [warning] = &compressed.warnings[..] else { panic!("{:?}", compressed.warnings) };
        assert_says(warning, &["already compressed (gzip)", "add -Z0 to pg_dump"]);
        assert_eq!(compressed.streams[0].facts["format"], "pg_dump archive 1.14 (gzip)");
        let plain = record(&["-Fc", "-Z0", "app"]).await;
        assert_eq!(plain.warnings, Vec::<String>::new());
        let all = snapshots(&repository).await.expect("lists");
        assert_eq!(all.len(), 2);
        let back = get_back(&repository, &all[0]).await.expect("restores");
        assert!(back["app.dump"].starts_with(b"PGDMP"));
    });
}
