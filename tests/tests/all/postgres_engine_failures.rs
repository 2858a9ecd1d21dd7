//! The PostgreSQL engine when something goes wrong: it is said in a line, nothing is stored, and no secret is told.

use crate::kit::databases::{assert_says, refused, usual};
use crate::kit::postgres::{Lock, Pooler, Postgres};
use crate::kit::{create, in_time, run};
use crate::postgres_engine::{PROGRAMS, dump, failure, names, options, store, url};
use dedump_core::{Engine, Quality, Store};
use dedump_engines::postgres::{ClientOptions, PostgresEngine, PostgresOptions};
use dedump_engines::{CommandEngine, CommandOptions, Several, Source};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn a_source_that_fails_fails_all_or_is_left_out() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    let sources = || {
        let postgres = PostgresEngine::new(&url(&postgres, "app"), options()).expect("a good source");
        let script = "echo half; echo 'the disk is gone' >&2; exit 3";
        let argv = ["sh", "-c", script].map(Into::into).to_vec();
        let broken = CommandEngine::new("output", argv, CommandOptions::default()).expect("a good command");
        let source = |name: &str, engine: Box<dyn Engine>| Source::new(name, engine).expect("a good name");
        vec![source("broken", Box::new(broken)), source("app", Box::new(postgres))]
    };
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let all = Several::new(sources()).expect("two names");
        let why = store(&repository, &all).await.expect_err("one failed").to_string();
        assert!(
            why.contains("source broken: sh failed with exit status 3") && why.contains("the disk is gone"),
            "{why}"
        );

        let report = store(&repository, &all.partial(true)).await.expect("one is left");
        let record = &report.snapshot.record;
        assert_eq!(record.quality, Quality::Partial);
        assert!(
            record.reasons[0].starts_with("source broken failed: sh failed with exit status 3"),
            "{:?}",
            record.reasons
        );
        assert_eq!(names(&report.snapshot), ["app/globals.sql", "app/database.dump", "app/inventory.json"]);
        assert_eq!((record.facts["app.engine"].as_str(), record.facts["app.database"].as_str()), ("postgres", "app"));
        let ms = |key: &str| record.facts[key].parse::<u64>().expect("milliseconds");
        assert!(ms("app.started_ms") <= ms("app.ended_ms"));

        let clash = Several::new(sources().into_iter().chain(sources()).collect()).map(drop).expect_err("twice");
        assert!(clash.to_string().contains("two sources are called \"broken\" and \"broken\""), "{clash}");
    });
}

/// A folder with tools of a name and what they do; the rest are the real ones.
fn with_tool(name: &str, script: &str) -> (tempfile::TempDir, PostgresOptions) {
    let folder = tempfile::tempdir().expect("a folder");
    for tool in ["psql", "pg_dump", "pg_dumpall"] {
        let path = folder.path().join(tool);
        if tool == name {
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("it is ours");
        } else {
            std::os::unix::fs::symlink(Path::new(PROGRAMS).join(tool), &path).expect("links");
        }
    }
    let client = ClientOptions { programs: Some(folder.path().into()), ..ClientOptions::default() };
    (folder, PostgresOptions { client, ..options() })
}

#[test]
fn what_goes_wrong_is_said_in_a_line_and_nothing_is_stored() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE ROLE weak LOGIN; CREATE TABLE t (n int); INSERT INTO t VALUES (1);");
    let here = url(&postgres, "app");
    let real = |name: &str| format!("{PROGRAMS}/{name}");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let check = async |url: &str, options: PostgresOptions, expected: &[&str]| {
            let why = failure(&repository, url, options).await;
            eprintln!("{why}");
            for part in expected {
                assert!(why.contains(part), "{part:?} is not in: {why}");
            }
            assert!(!why.contains('\n') && !why.contains("s3cret"), "{why}");
        };
        let nowhere = "postgres://me:s3cret@localhost:1/app";
        check(
            nowhere,
            options(),
            &["psql failed with exit status 2", "Connection refused", "check the host and the port"],
        )
        .await;
        check(&url(&postgres, "nope"), options(), &["database \"nope\" does not exist"]).await;
        let weak = here.replace("postgres@", "weak@");
        check(
            &weak,
            PostgresOptions { count_rows: false, ..options() },
            &["permission denied for", "pg_read_all_data"],
        )
        .await;
        check(&weak, options(), &["permission denied for", "pg_read_all_data"]).await;

        let missing = ClientOptions { programs: Some("/no/such/folder".into()), ..ClientOptions::default() };
        check(
            &here,
            PostgresOptions { client: missing, ..options() },
            &["/no/such/folder/psql", "there is no such program", "Debian package postgresql-client", "--pg-bin"],
        )
        .await;
        let (_folder, old) = with_tool("pg_dump", "echo 'pg_dump (PostgreSQL) 14.5'");
        check(&here, old, &["pg_dump is of version 14 and the server of 15", "postgresql-client-15"]).await;

        // The dump stops in the middle, with a good status and with a bad one; or a terminal changes its bytes.
        let version = "case \"$*\" in --version) exec REAL --version;; esac\n";
        let tool =
            |script: &str| with_tool("pg_dump", &(version.to_owned() + script).replace("REAL", &real("pg_dump")));
        let (_folder, cut) = tool("REAL \"$@\" | head -c 900");
        check(&here, cut, &["database.dump", "incomplete"]).await;
        let (_folder, dies) = tool("REAL \"$@\" | head -c 900; echo 'lost connection' >&2; exit 1");
        check(&here, dies, &["pg_dump failed with exit status 1", "lost connection"]).await;
        let (_folder, terminal) = tool("REAL \"$@\" | sed 's/$/\\r/'");
        let why = failure(&repository, &here, terminal).await;
        assert!(why.contains("incomplete") || why.contains("follow"), "{why}");
        assert_eq!(crate::kit::snapshots(&repository).await.expect("lists"), []);
    });
}

#[test]
fn a_pooler_in_between_is_refused() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for (ignored, expected) in [
            ("extra_float_digits", "this is PgBouncer or a pooler like it"),
            ("options,extra_float_digits", "a connection pooler that keeps our settings from the server"),
        ] {
            let (_pooler, port) = Pooler::start(&postgres, ignored);
            let why = failure(&repository, &format!("{}&port={port}", url(&postgres, "app")), options()).await;
            assert!(why.contains(expected) && why.contains("connect to the server itself"), "{why}");
        }
        let (_pooler, port) = Pooler::start(&postgres, "options,extra_float_digits");
        let snapshot = dump(&repository, &postgres, "app", options()).await;
        let to = format!("{}&port={port}", url(&postgres, "copy"));
        let why = refused(&repository, &snapshot, &to, usual()).await;
        assert_says(&why, &["a connection pooler that keeps our settings", "connect to the server itself"]);
    });
}

#[test]
fn a_password_goes_to_the_tools_and_nowhere_else() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE ROLE me LOGIN SUPERUSER PASSWORD 's3cret word'");
    let hba: PathBuf = postgres.folder().join("data/pg_hba.conf");
    std::fs::write(&hba, "local all postgres trust\nlocal all all scram-sha-256\n").expect("writes");
    postgres.psql("app", "SELECT pg_reload_conf()");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let me = url(&postgres, "app").replace("postgres@", "me@");
        let why = failure(&repository, &me, options()).await;
        assert!(why.contains("no password supplied") && why.contains("--db-password-file"), "{why}");
        let wrong = me.replace("me@", "me:wr0ng@");
        let why = failure(&repository, &wrong, options()).await;
        assert!(why.contains("password authentication failed") && !why.contains("wr0ng"), "{why}");

        // Elsewhere, as far as the tools can tell: a shell with another environment, that writes down what it is told.
        let log = postgres.folder().join("arguments");
        let script =
            format!("printf '%s\\n' \"$@\" >>{}; exec env -i PATH={PROGRAMS}:/usr/bin:/bin \"$@\"", log.display());
        let via = ["sh", "-c", &script, "sh"].map(Into::into).to_vec();
        let given = ClientOptions { password: Some("s3cret word".to_owned()), ..options().client };
        let there = ClientOptions { via, programs: None, ..given.clone() };
        for (url, client) in
            [(me.replace("me@", "me:s3cret%20word@"), options().client), (me.clone(), given), (me.clone(), there)]
        {
            let engine = PostgresEngine::new(&url, PostgresOptions { client, ..options() }).expect("a good source");
            let report = store(&repository, &engine).await.expect("backs up");
            assert!(!format!("{report:?}").contains("s3cret"), "{report:?}");
        }
        let arguments = std::fs::read_to_string(&log).expect("it was run");
        assert!(arguments.contains("pg_dump") && !arguments.contains("s3cret"), "{arguments}");
    });
}

#[test]
fn a_dropped_dump_leaves_no_tool_behind() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE TABLE t (n int)");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let lock = Lock::take(&postgres, "app", "t");
        let engine = PostgresEngine::new(&url(&postgres, "app"), PostgresOptions { count_rows: false, ..options() });
        let engine = engine.expect("a good source");
        let sessions = || {
            let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('dedump', 'pg_dump')";
            postgres.psql("postgres", query).trim().parse::<u32>().expect("a number")
        };
        {
            let work = store(&repository, &engine);
            let waits = async {
                while sessions() == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                done = work => panic!("the lock holds it up: {done:?}"),
                () = waits => {}
            }
        }
        drop(lock);
        in_time(async {
            while sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    });
}
