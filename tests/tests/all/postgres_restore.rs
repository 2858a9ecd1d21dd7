//! Dumps of PostgreSQL go back into real servers: whole, under their names, and without harm to what was there.

use crate::kit::databases::{
    assert_same, assert_says, awkward, content, databases, dump, put_back, refused, replacing, roles, rows, simple,
    usual,
};
use crate::kit::postgres::{Lock, Postgres};
use crate::kit::{create, in_time, run, snapshots};
use dedump_core::{Filter, Store, list, list_holds};
use dedump_engines::postgres::{ClientOptions, Globals, PostgresRestore, PostgresRestoreOptions};

#[test]
fn a_dump_comes_back_whole_on_another_server() {
    let (there, here) = (awkward(), Postgres::start());
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "app", 1).await;
        let restored = put_back(&repository, &snapshot, &here.url("app"), usual()).await.expect("restores");
        assert_same(&content(&here, "app"), &content(&there, "app"));
        assert_eq!(roles(&here), roles(&there));
        assert_eq!(databases(&here), ["app"]);
        assert_eq!((restored.database.as_str(), restored.kept, restored.safety_snapshot), ("app", None, None));
        assert_eq!(restored.roles, ["App owner", "clerk", "reader"]);
        let rows_n = 2000 + 2 + 2 + 1000 + 1 + 1 + 2 + 2;
        assert_eq!((restored.rows_n, restored.errors_n), (rows_n, 0));
        let [warning] = &restored.warnings[..] else { panic!("{:?}", restored.warnings) };
        assert_says(warning, &["psql is 15.", "CVE-2026-18408", "bring it up to 15.19"]);
        let analyzed = here.psql("app", "SELECT reltuples FROM pg_class WHERE oid = 'shop.items'::regclass");
        assert_eq!(analyzed, "2000\n");
    });
}

#[test]
fn several_streams_are_loaded_side_by_side() {
    let (there, here) = (awkward(), Postgres::start());
    there.psql("app", "CREATE TABLE shop.\"Big one\" AS SELECT n AS id, repeat(md5(n::text), 6) AS t FROM generate_series(1, 50000) n;
        CREATE TABLE shop.big AS SELECT n AS id, repeat(md5(n::text), 6) AS t FROM generate_series(1, 50000) n;
        ALTER TABLE shop.big ADD PRIMARY KEY (id); ALTER TABLE shop.\"Big one\" ADD FOREIGN KEY (id) REFERENCES shop.big;");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "app", 3).await;
        let names: Vec<_> = snapshot.record.streams.iter().map(|stream| stream.name.as_str()).collect();
        assert!(
            names.contains(&"tables/shop.%22Big%20one%22.copy") && names.contains(&"tables/shop.big.copy"),
            "{names:?}"
        );
        for (name, jobs) in [("app", 3), ("one_job", 1)] {
            let options = PostgresRestoreOptions { jobs, ..usual() };
            let restored = put_back(&repository, &snapshot, &here.url(name), options).await.expect("restores");
            assert_eq!(restored.rows_n, 103_010);
            // The same, but for the name in the lines on the database itself.
            assert_same(&content(&here, name), &content(&there, "app"));
        }
    });
}

#[test]
fn a_database_that_is_not_empty_is_refused_and_an_empty_one_is_taken() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let before = postgres.psql("app", "SELECT oid FROM pg_database WHERE datname = 'app'");
        let why = refused(&repository, &snapshot, &postgres.url("app"), usual()).await;
        assert_says(
            &why,
            &["database app is not empty: it has ", "3 tables", "1 schemas", "--replace", "another name"],
        );
        for (number, object) in [
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE SCHEMA s",
            "CREATE TYPE t AS (a int)",
            "SELECT lo_create(0)",
            "CREATE EXTENSION hstore",
            "CREATE SEQUENCE s",
            "CREATE PUBLICATION p",
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("has_{number}");
            postgres.create_database(&name);
            postgres.psql(&name, object);
            let why = refused(&repository, &snapshot, &postgres.url(&name), usual()).await;
            assert_says(&why, &["is not empty"]);
        }
        postgres
            .psql("postgres", "ALTER DATABASE has_0 IS_TEMPLATE true; ALTER DATABASE has_1 ALLOW_CONNECTIONS false");
        let why = refused(&repository, &snapshot, &postgres.url("has_0"), replacing()).await;
        assert_says(&why, &["database has_0 is a template", "another name"]);
        let why = refused(&repository, &snapshot, &postgres.url("has_1"), replacing()).await;
        assert_says(&why, &["takes no connections", "ALTER DATABASE \"has_1\" ALLOW_CONNECTIONS true"]);
        postgres.create_database("empty");
        let restored = put_back(&repository, &snapshot, &postgres.url("empty"), usual()).await.expect("restores");
        assert_eq!((restored.kept, restored.safety_snapshot), (None, None));
        assert_eq!(rows(&postgres, "empty", "big"), "50000");
        assert_eq!(postgres.psql("app", "SELECT oid FROM pg_database WHERE datname = 'app'"), before);
        assert!(databases(&postgres).iter().all(|name| !name.contains("_before_") && !name.contains("_dedump_")));
    });
}

#[test]
fn a_database_is_replaced_kept_and_put_back() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        postgres.psql("app", "DELETE FROM part.configs WHERE id > 10; CREATE TABLE later (id int);");
        let restored = put_back(&repository, &snapshot, &postgres.url("app"), replacing()).await.expect("restores");
        assert_eq!(rows(&postgres, "app", "part.configs"), "100");
        let kept = restored.kept.expect("it stays");
        assert_eq!(kept, format!("app_before_{}", snapshot.id.short()));
        assert_eq!(
            (rows(&postgres, &kept, "part.configs"), rows(&postgres, &kept, "later")),
            ("10".into(), "0".into())
        );
        // What was there is in the repository too, held, and says which restore it was made for.
        let safety = restored.safety_snapshot.expect("it is the default");
        let filter = Filter { tags: [("safety".to_owned(), snapshot.id.to_string())].into(), ..Filter::default() };
        let found = list(&repository, &filter).await.expect("lists").snapshots;
        assert_eq!(found.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), [safety]);
        assert!(found[0].record.source.starts_with("safety/") && found[0].record.source.ends_with("/app"));
        assert!(list_holds(&repository).await.expect("lists").contains_key(&safety));
        assert!(found[0].record.totals.bytes_added * 10 < snapshot.record.totals.bytes_added);

        // Back by name, then again by the safety snapshot.
        let restore = PostgresRestore::new(&postgres.url("app"), usual()).expect("good options");
        let undone = in_time(restore.undo(&kept)).await.expect("puts back");
        assert_eq!(undone, format!("app_undone_{}", snapshot.id.short()));
        assert_eq!(
            (rows(&postgres, "app", "later"), rows(&postgres, &undone, "part.configs")),
            ("0".into(), "100".into())
        );
        let why = restore.undo(&kept).await.expect_err("gone").to_string();
        assert_says(&why, &["no database app_before_", "safety/"]);
        let why = restore.undo("other").await.expect_err("another's").to_string();
        assert_says(&why, &["other is not what a restore of app has kept"]);
        let options = PostgresRestoreOptions { drop_old: true, safety_snapshot: false, ..replacing() };
        let restored = put_back(&repository, &found[0], &postgres.url("app"), options).await.expect("restores");
        assert_eq!((restored.kept, restored.safety_snapshot), (None, None));
        assert_eq!(rows(&postgres, "app", "part.configs"), "10");
        assert_eq!(databases(&postgres), ["app".to_owned(), undone]);
    });
}

#[test]
fn a_database_in_use_is_refused_with_names_or_its_users_are_disconnected() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        postgres.psql("app", "CREATE TABLE later (id int);");
        let user = Lock::take(&postgres, "app", "later");
        let why = refused(&repository, &snapshot, &postgres.url("app"), replacing()).await;
        assert_says(&why, &["database app is in use by postgres (psql, from this host, process ", "--disconnect"]);
        assert_eq!(
            (databases(&postgres), snapshots(&repository).await.expect("lists").len()),
            (vec!["app".to_owned()], 1)
        );
        let options = PostgresRestoreOptions { disconnect: true, safety_snapshot: false, ..replacing() };
        let restored = put_back(&repository, &snapshot, &postgres.url("app"), options).await.expect("restores");
        drop(user);
        assert_eq!(rows(&postgres, &restored.kept.expect("it stays"), "later"), "0");
        assert_eq!(postgres.psql("app", "SELECT count(*) FROM pg_database WHERE NOT datallowconn"), "1\n");
    });
}

#[test]
fn a_missing_role_is_an_error_before_anything_is_loaded() {
    let (there, here) = (awkward(), Postgres::start());
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "app", 1).await;
        let none = PostgresRestoreOptions { globals: Globals::None, ..usual() };
        let why = refused(&repository, &snapshot, &here.url("app"), none.clone()).await;
        assert_says(
            &why,
            &["needs roles that ", " does not have: App owner, clerk, reader;", "--globals missing", "--no-owner"],
        );
        assert_eq!(databases(&here), Vec::<String>::new());
        // Waved through, and counted: a role for each of its statements.
        let options = PostgresRestoreOptions { ignore_errors: true, ..none.clone() };
        let restored = put_back(&repository, &snapshot, &here.url("app"), options).await.expect("restores");
        assert!(restored.errors_n > 5 && restored.rows_n == 3010, "{restored:?}");
        assert_says(&restored.problems.join(" "), &["role \"App owner\" does not exist"]);
        // Without owners and privileges only the policy's are left.
        here.psql("postgres", "CREATE ROLE clerk; CREATE ROLE reader");
        let options = PostgresRestoreOptions { no_owner: true, no_privileges: true, ..none };
        let restored = put_back(&repository, &snapshot, &here.url("mine"), options).await.expect("restores");
        assert_eq!((restored.errors_n, restored.roles.len()), (0, 0));
        assert_eq!(here.psql("mine", "SELECT DISTINCT relowner::regrole FROM pg_class"), "postgres\n");
        // Those that are there stay as they are, unless all is asked for.
        put_back(&repository, &snapshot, &here.url("second"), usual()).await.expect("restores");
        assert_eq!(here.psql("mine", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'clerk'"), "f\n");
        let options = PostgresRestoreOptions { globals: Globals::All, ..usual() };
        put_back(&repository, &snapshot, &here.url("third"), options).await.expect("restores");
        assert_eq!(roles(&here), roles(&there));
    });
}

#[test]
fn a_plan_says_what_from_when_how_large_and_what_is_lost_and_changes_nothing() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 2).await;
        let restore = PostgresRestore::new(&postgres.url("app"), replacing()).expect("good options");
        let plan = restore.plan(&repository, &snapshot, "").await.expect("plans");
        assert_eq!((plan.rows_n, plan.streams.len(), plan.time.is_some()), (50_101, 2, true));
        assert!(plan.bytes > 9_000_000 && plan.existing_bytes.is_some_and(|bytes| bytes > 9_000_000));
        let text = plan.to_string();
        for words in [
            "what:  app as of 20",
            &snapshot.id.short(),
            "50101 rows",
            "to:    app on ",
            "lost:  whatever was changed there since",
            "back up app as safety/",
            "takes the place of app, which stays under another name",
            "warning: psql is 15.",
        ] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        assert_eq!(
            (databases(&postgres), snapshots(&repository).await.expect("lists").len()),
            (vec!["app".to_owned()], 1)
        );
        let new = PostgresRestore::new(&postgres.url("other"), usual()).expect("good options");
        let plan = new.plan(&repository, &snapshot, "").await.expect("plans");
        assert_eq!((plan.existing_bytes, plan.steps.len()), (None, 1));
        let why = new.plan(&repository, &snapshot, "app/").await.expect_err("no such folder").to_string();
        assert_says(&why, &["no PostgreSQL dump \"app\""]);
    });
}

const STAND_IN: &str = "
    CREATE TABLE @extschema@.hook_calls (n serial, hook text, tables_n bigint);
    CREATE FUNCTION @extschema@.note(hook text) RETURNS void LANGUAGE sql AS $$
        INSERT INTO @extschema@.hook_calls (hook, tables_n)
        SELECT $1, count(*) FROM pg_class WHERE relkind = 'r' AND relname IN ('metrics', 'configs') $$;
    CREATE FUNCTION @extschema@.timescaledb_pre_restore() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
        PERFORM @extschema@.note('pre');
        EXECUTE format('ALTER DATABASE %I SET timescaledb.restoring = ''on''', current_database()); RETURN true; END $$;
    CREATE FUNCTION @extschema@.timescaledb_post_restore() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
        PERFORM @extschema@.note('post');
        EXECUTE format('ALTER DATABASE %I RESET timescaledb.restoring', current_database()); RETURN true; END $$;";

#[test]
fn timescaledb_is_prepared_before_and_after_and_must_be_the_same_version() {
    let old = Postgres::start_with_extension("timescaledb", &["2.17.0", "2.18.0"], STAND_IN);
    let new = Postgres::start_with_extension("timescaledb", &["2.18.0"], STAND_IN);
    let plain = Postgres::start();
    old.create_database("app");
    let script = "CREATE EXTENSION timescaledb VERSION '2.17.0';
        CREATE TABLE metrics AS SELECT n AS id, repeat(md5(n::text), 6) AS t FROM generate_series(1, 50000) n;
        CREATE TABLE configs AS SELECT 1 AS id;";
    old.psql("app", script);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &old, "app", 2).await;
        let options = PostgresRestoreOptions { jobs: 4, ..usual() };
        let restored = put_back(&repository, &snapshot, &old.url("other"), options).await.expect("restores");
        assert_says(&restored.warnings.join(" "), &["restored by one job"]);
        assert_eq!(old.psql("other", "SELECT hook, tables_n FROM hook_calls ORDER BY n"), "pre|0\npost|2\n");
        let version = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'";
        assert_eq!(old.psql("other", version), "2.17.0\n");
        assert_eq!(old.psql("other", "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0"), "0\n");
        assert_eq!(rows(&old, "other", "metrics"), "50000");
        let why = refused(&repository, &snapshot, &new.url("app"), usual()).await;
        assert_says(&why, &["needs TimescaleDB 2.17.0, and the server has 2.18.0", "install that version"]);
        let why = refused(&repository, &snapshot, &plain.url("app"), usual()).await;
        assert_says(
            &why,
            &["needs the extension timescaledb 2.17.0, which the server does not have", "install its package"],
        );
    });
}

#[test]
fn one_of_all_databases_comes_back() {
    let (there, here) = (simple(), Postgres::start());
    there.create_database("Other one");
    there.psql("Other one", "CREATE ROLE other; CREATE TABLE t AS SELECT 1 AS n; ALTER TABLE t OWNER TO other");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "*", 1).await;
        let restore = PostgresRestore::new(&here.url(""), usual()).expect("good options");
        let restored =
            in_time(restore.run(&repository, &snapshot, "databases/Other%20one/", &())).await.expect("restores");
        assert_eq!((restored.database.as_str(), restored.rows_n), ("Other one", 1));
        assert_eq!(restored.roles, ["other"]);
        assert_eq!(here.psql("Other one", "SELECT relowner::regrole FROM pg_class WHERE relname = 't'"), "other\n");
        let why = restore.run(&repository, &snapshot, "", &()).await.expect_err("which one").to_string();
        assert_says(&why, &["there is one in databases/Other%20one/, databases/app/"]);
    });
}

#[test]
fn a_restore_can_be_spawned() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let restore = PostgresRestore::new(&postgres.url("new"), usual()).expect("good options");
        let work = tokio::spawn(async move { restore.run(&repository, &snapshot, "", &()).await });
        in_time(work).await.expect("no panic").expect("restores");
    });
}

#[test]
fn the_tools_may_run_elsewhere_and_get_password_list_and_archive_by_their_input() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 2).await;
        let path = "PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin";
        let via = ["env", "-i", path].map(std::ffi::OsString::from).to_vec();
        let client = ClientOptions { via, password: Some("s3cret".to_owned()), ..ClientOptions::default() };
        for (name, tables) in [("all", vec![]), ("part", vec!["part.configs".to_owned()])] {
            let options = PostgresRestoreOptions { client: client.clone(), tables, ..usual() };
            put_back(&repository, &snapshot, &postgres.url(name), options).await.expect("restores");
            assert_eq!(rows(&postgres, name, "part.configs"), "100");
        }
        assert_eq!(rows(&postgres, "all", "big"), "50000");
    });
}

#[test]
fn an_archive_gets_its_own_moment_back() {
    let postgres = simple();
    let tools = postgres.folder().join("tools");
    std::fs::create_dir(&tools).expect("a new folder");
    let real = "/usr/lib/postgresql/15/bin";
    std::os::unix::fs::symlink(format!("{real}/psql"), tools.join("psql")).expect("links");
    let seen = tools.join("seen.dump");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {real}/pg_restore --version\ntee {} | {real}/pg_restore \"$@\"\n",
        seen.display()
    );
    std::fs::write(tools.join("pg_restore"), script).expect("writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(tools.join("pg_restore"), mode).expect("ours");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let client = ClientOptions { programs: Some(tools.clone()), ..ClientOptions::default() };
        let options = PostgresRestoreOptions { client, ..usual() };
        put_back(&repository, &snapshot, &postgres.url("new"), options).await.expect("restores");
        let list = postgres.run("pg_restore", &["-l", seen.to_str().expect("a plain path")]);
        let year = postgres.psql("postgres", "SELECT extract(year FROM now())");
        assert!(list.contains(&format!("Archive created at {}-", year.trim())), "{}", &list[..200]);
    });
}
