//! Where dumping and restoring by hand fail in silence, this refuses, notices, or does it right.

use crate::kit::databases::{
    assert_same, assert_says, awkward, content, databases, dump, dump_by, dumping, put_back, refused, replacing, roles,
    rows, simple, usual,
};
use crate::kit::postgres::{Postgres, output};
use crate::kit::{create, in_time, run, snapshots};
use dedump_core::{BackupOptions, Error, Existing, FileTarget, RestoreOptions, Store, backup, restore};
use dedump_engines::postgres::{
    AsDumped, DumpPart, Place, PostgresEngine, PostgresOptions, PostgresRestore, PostgresRestoreOptions,
};
use dedump_engines::{CommandEngine, CommandOptions};
use std::path::Path;
use std::process::Command;

/// Runs `pg_restore`, and says whether it found nothing wrong.
fn is_content(postgres: &Postgres, arguments: &[&str]) -> bool {
    postgres.client("pg_restore", arguments).output().expect("it runs").status.success()
}

/// Lists an archive, without a server; says whether that went well.
fn lists_well(postgres: &Postgres, archive: &Path) -> bool {
    let listed =
        Command::new(postgres.programs().join("pg_restore")).arg("--list").arg(archive).output().expect("it runs");
    listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("TABLE DATA public big")
}

#[test]
fn a_dump_that_lists_well_though_it_was_cut_or_changed_is_noticed() {
    let postgres = simple();
    postgres.psql("app", "CREATE TABLE later (n int)");
    let archive = postgres.folder().join("app.dump");
    let path = archive.to_str().expect("a plain path").to_owned();
    output(postgres.client("pg_dump", &["-Fc", "-Z0", "-f", &path, "app"]).env("PGTZ", "UTC"));
    let whole = std::fs::read(&archive).expect("reads");
    let filling = b"c4ca4238a0b923820dcc509a6f75849b";
    let at = whole.windows(filling.len()).position(|window| window == filling).expect("the first row");
    run(async {
        // Cut: by hand it lists well, and is refused here before it is stored.
        std::fs::write(&archive, &whole[..whole.len() - whole.len() / 4]).expect("writes");
        assert!(lists_well(&postgres, &archive), "this is what nobody notices by hand");
        let repository = create(Store::memory()).await.expect("creates");
        let argv = vec!["cat".into(), archive.clone().into_os_string()];
        let engine = CommandEngine::new("app.dump", argv, CommandOptions::default()).expect("a good command");
        let failed = in_time(backup(&repository, &engine, &BackupOptions::new("cut", "host"), &())).await;
        let Err(Error::DumpFailed(why)) = failed else { panic!("{failed:?}") };
        assert_says(&why, &["the dump is incomplete", "nothing was stored"]);
        assert_eq!(snapshots(&repository).await.expect("lists"), []);

        // A flipped bit: by hand it lists and loads well.
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&archive, &flipped).expect("writes");
        postgres.create_database("by_hand");
        assert!(lists_well(&postgres, &archive) && is_content(&postgres, &["-d", "by_hand", &path]));
        assert_eq!(postgres.psql("by_hand", "SELECT count(*) FROM big WHERE id = 1 AND filling LIKE 'b4ca%'"), "1\n");
        // Here every byte is compared before any reaches the database of that name.
        let root = postgres.folder().join("repository");
        let repository = create(Store::create_local(&root).expect("a new folder")).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let pack = largest(&root);
        let mut bytes = std::fs::read(&pack).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&pack, bytes).expect("writes");
        let options = PostgresRestoreOptions { safety_snapshot: false, ..replacing() };
        let error = put_back(&repository, &snapshot, &postgres.url("app"), options).await.expect_err("it is damaged");
        assert!(error.is_damage(), "{error}");
        assert_eq!(databases(&postgres), ["app", "by_hand"]);
        assert_eq!(rows(&postgres, "app", "later"), "0");
    });
}

fn largest(root: &Path) -> std::path::PathBuf {
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
    largest.1
}

#[test]
fn a_dump_that_is_restored_twice_doubles_no_row() {
    let postgres = simple();
    let archive = postgres.folder().join("app.dump");
    let path = archive.to_str().expect("a plain path").to_owned();
    postgres.run("pg_dump", &["-Fc", "-f", &path, "app"]);
    postgres.create_database("by_hand");
    is_content(&postgres, &["-d", "by_hand", &path]);
    is_content(&postgres, &["-d", "by_hand", &path]);
    assert_eq!(rows(&postgres, "by_hand", "part.notes"), "2", "this is what happens by hand");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for jobs in [1, 2] {
            let snapshot = dump(&repository, &postgres, "app", jobs).await;
            let (name, again) = (format!("copy_{jobs}"), PostgresRestoreOptions { drop_old: true, ..replacing() });
            put_back(&repository, &snapshot, &postgres.url(&name), usual()).await.expect("restores");
            let why = refused(&repository, &snapshot, &postgres.url(&name), usual()).await;
            assert_says(&why, &["is not empty", "--replace"]);
            put_back(&repository, &snapshot, &postgres.url(&name), again).await.expect("restores");
            let existing =
                PostgresRestoreOptions { place: Place::Existing, tables: vec!["part.notes".to_owned()], ..usual() };
            let why = refused(&repository, &snapshot, &postgres.url(&name), existing.clone()).await;
            assert_says(&why, &["already exists"]);
            let data = PostgresRestoreOptions { part: DumpPart::Data, ..existing };
            let why = refused(&repository, &snapshot, &postgres.url(&name), data).await;
            assert_says(&why, &["table part.notes has rows"]);
            assert_eq!(rows(&postgres, &name, "part.notes"), "1");
        }
    });
}

#[test]
fn rows_that_a_policy_hides_fail_the_dump() {
    let postgres = simple();
    postgres.psql(
        "app",
        "CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader;
        ALTER TABLE part.notes ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON part.notes USING (t = 'other');",
    );
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for (count_rows, jobs) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
            let options = PostgresOptions { count_rows, jobs, globals: false, ..dumping(&postgres) };
            let engine = PostgresEngine::new(&postgres.url_of("reader", "app"), options).expect("good options");
            let failed = in_time(backup(&repository, &engine, &BackupOptions::new("app", "host"), &())).await;
            let Err(Error::DumpFailed(why)) = failed else { panic!("{failed:?}") };
            assert_says(&why, &["would be affected by row-level security policy for table \"notes\"", "BYPASSRLS"]);
        }
        assert_eq!(snapshots(&repository).await.expect("lists"), []);
        postgres.psql("app", "ALTER ROLE reader BYPASSRLS");
        let options = PostgresOptions { globals: false, ..dumping(&postgres) };
        let engine = PostgresEngine::new(&postgres.url_of("reader", "app"), options).expect("good options");
        let report = in_time(backup(&repository, &engine, &BackupOptions::new("app", "host"), &())).await;
        let snapshot = report.expect("backs up").snapshot;
        put_back(&repository, &snapshot, &postgres.url("copy"), usual()).await.expect("restores");
        assert_eq!(rows(&postgres, "copy", "part.notes"), "1");
    });
}

#[test]
fn a_thousand_tables_come_back() {
    let (there, here) = (Postgres::start(), Postgres::start());
    there.create_database("app");
    there.psql(
        "app",
        "CREATE SCHEMA many;
        SELECT format('CREATE TABLE many.t%s (n serial PRIMARY KEY, t text DEFAULT %L); INSERT INTO many.t%s DEFAULT VALUES',
            n, n, n) FROM generate_series(1, 1000) n \\gexec
        CREATE SCHEMA shop",
    );
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "app", 2).await;
        let restored = put_back(&repository, &snapshot, &here.url("app"), usual()).await.expect("restores");
        assert_eq!((restored.tables_n, restored.rows_n), (1000, 1000));
        let content = |postgres: &Postgres| content(postgres, "app");
        assert!(content(&there).contains("many.t1000|1|"));
        assert_same(&content(&here), &content(&there));
    });
}

#[test]
fn schema_and_data_that_were_dumped_apart_make_the_whole() {
    let (there, here) = (awkward(), Postgres::start());
    // Nothing but a superuser's rights loads rows of tables that need each other, and this is about the rest.
    there.psql("app", "DROP TABLE shop.a, shop.b CASCADE");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let part = async |part| dump_by(&repository, &there, "app", PostgresOptions { part, ..dumping(&there) }).await;
        let (schema, data) = (part(DumpPart::Schema).await, part(DumpPart::Data).await);
        put_back(&repository, &schema, &here.url("app"), usual()).await.expect("restores");
        assert_eq!(rows(&here, "app", "shop.items"), "0");
        let why = refused(&repository, &data, &here.url("new"), usual()).await;
        assert_says(&why, &["the dump has data alone", "--part data", "--into-existing"]);
        let schemas = ["shop", "public", "Odd schema"].map(str::to_owned).to_vec();
        let options = PostgresRestoreOptions {
            place: Place::Existing,
            part: DumpPart::Data,
            schemas,
            safety_snapshot: false,
            ..usual()
        };
        let restored = put_back(&repository, &data, &here.url("app"), options.clone()).await.expect("restores");
        assert_eq!(restored.rows_n, 2000 + 1000 + 1 + 1 + 2 + 2);
        // pg_restore fills no such view from data alone, and large objects, which follow, are in no schema.
        here.psql("app", "REFRESH MATERIALIZED VIEW shop.summary");
        let tables = |content: String| -> Vec<String> {
            content.lines().take_while(|line| !line.starts_with("relation|")).map(str::to_owned).collect()
        };
        assert_eq!(tables(content(&here, "app")), tables(content(&there, "app")));
        let why = refused(&repository, &data, &here.url("app"), options).await;
        assert_says(&why, &["has rows, and data alone would come on top of them"]);
    });
}

#[test]
fn what_was_left_out_of_a_dump_is_told_when_it_comes_back() {
    let (there, here) = (simple(), Postgres::start());
    there.psql("app", "SELECT lo_from_bytea(4242, 'x')");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = PostgresOptions { exclude_table_data: vec!["public.big".to_owned()], ..dumping(&there) };
        // Its rows are gone, and with them what the foreign key of another table leads to.
        there.psql("app", "ALTER TABLE part.configs DROP COLUMN big");
        let snapshot = dump_by(&repository, &there, "app", options).await;
        put_back(&repository, &snapshot, &here.url("without_rows"), usual()).await.expect("restores");
        let counts = |name: &str| (rows(&here, name, "big"), rows(&here, name, "part.configs"));
        assert_eq!(counts("without_rows"), ("0".to_owned(), "100".to_owned()));
        assert_eq!(here.psql("without_rows", "SELECT lo_get(4242)"), "\\x78\n");

        let tables = ["part.notes", "public.b*"].map(str::to_owned).to_vec();
        let options = PostgresOptions { tables, globals: false, ..dumping(&there) };
        let engine = PostgresEngine::new(&there.url("app"), options).expect("good options");
        let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("app", "host") };
        let report = in_time(backup(&repository, &engine, &options, &())).await.expect("backs up");
        let about = report.snapshot.record.warnings.join(" ");
        assert_says(&about, &["1 large objects are not in the dump, since tables were chosen"]);
        here.create_database("one_table");
        here.psql("one_table", "CREATE SCHEMA part");
        let options =
            PostgresRestoreOptions { place: Place::Existing, tables: vec!["part.notes".to_owned()], ..usual() };
        put_back(&repository, &report.snapshot, &here.url("one_table"), options.clone()).await.expect("restores");
        assert_eq!(rows(&here, "one_table", "part.notes"), "1");
        assert_eq!(here.psql("one_table", "SELECT to_regclass('public.big')"), "\n");
        let options = PostgresRestoreOptions { tables: vec!["public.big".to_owned()], ..options };
        put_back(&repository, &report.snapshot, &here.url("one_table"), options.clone()).await.expect("restores");
        assert_eq!(rows(&here, "one_table", "big"), "50000");
        let options = PostgresRestoreOptions { tables: vec!["part.configs".to_owned()], ..options };
        let why = refused(&repository, &report.snapshot, &here.url("one_table"), options).await;
        assert_says(&why, &["the dump has no table part.configs"]);
    });
}

#[test]
fn all_databases_of_a_server_come_back_on_another() {
    let (there, here) = (awkward(), Postgres::start());
    there.create_database("Other one");
    there.psql("Other one", "CREATE TABLE t AS SELECT n FROM generate_series(1, 10) n; CREATE SCHEMA shop");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "*", 2).await;
        for (name, prefix) in [("app", "databases/app/"), ("Other one", "databases/Other%20one/")] {
            let restore = PostgresRestore::new(&here.url(name), usual()).expect("good options");
            in_time(restore.run(&repository, &snapshot, prefix, &())).await.expect("restores");
            assert_same(&content(&here, name), &content(&there, name));
        }
        assert_eq!(roles(&here), roles(&there));
        assert_eq!(databases(&here), ["Other one", "app"]);
    });
}

#[test]
fn what_is_restored_to_files_goes_back_by_hand() {
    let (there, here) = (awkward(), Postgres::start());
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &there, "app", 1).await;
        let folder = here.folder().join("by_hand");
        let mut target = AsDumped::new(FileTarget::directory(&folder, Existing::Refuse));
        restore(&repository, &snapshot, &RestoreOptions::default(), &mut target, &()).await.expect("restores");
        let path = |name: &str| folder.join(name).to_str().expect("a plain path").to_owned();
        // The usual way of PostgreSQL's manual, without anything of ours; the one error is the role that is there.
        let psql = here.client("psql", &["-Xq", "-f", &path("globals.sql"), "postgres"]).output().expect("psql runs");
        let said = String::from_utf8_lossy(&psql.stderr).into_owned();
        assert!(said.lines().count() == 1 && said.contains("role \"postgres\" already exists"), "{said}");
        assert_eq!(roles(&here), roles(&there));
        here.run("pg_restore", &["--exit-on-error", "--create", "-d", "postgres", &path("database.dump")]);
        assert_same(&content(&here, "app"), &content(&there, "app"));
    });
}
