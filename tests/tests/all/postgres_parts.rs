//! Parts of a dump of PostgreSQL go back: schemas, tables, rows; and only what they need is read.

use crate::kit::databases::{assert_same, assert_says, dump, refused, rows, simple, usual};
use crate::kit::postgres::Postgres;
use crate::kit::{create, in_time, run};
use dedump_core::{Event, Progress, Repository, Result, Snapshot, Store};
use dedump_engines::postgres::{
    DumpPart, OnConflict, Place, PostgresRestore, PostgresRestoreOptions, PostgresRestored, RowsOptions, RowsRestored,
};
use std::sync::Mutex;

/// Notes which streams are read.
#[derive(Default)]
struct Streams(Mutex<Vec<String>>);

impl Streams {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics"))
    }
}

impl Progress for Streams {
    fn event(&self, event: Event) {
        if let Event::StreamBegun { name, .. } = event {
            self.0.lock().expect("nobody panics").push(name);
        }
    }
}

async fn part(
    repository: &Repository,
    snapshot: &Snapshot,
    url: &str,
    options: PostgresRestoreOptions,
) -> (Result<PostgresRestored>, Vec<String>) {
    let streams = Streams::default();
    let restore = PostgresRestore::new(url, options).expect("good options");
    let restored = in_time(restore.run(repository, snapshot, "", &streams)).await;
    (restored, streams.take())
}

/// Says what the table `part.configs` is like, but for its foreign key.
fn shape(postgres: &Postgres, database: &str) -> String {
    let query = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid = 'part.configs'::regclass AND contype <> 'f' ORDER BY 1;
        SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'part.configs'::regclass ORDER BY 1;
        SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM part.configs t;
        SELECT last_value FROM part.configs_id_seq; SELECT pg_get_serial_sequence('part.configs', 'id')";
    postgres.psql(database, query)
}

fn tables(place: Place, tables: &[&str]) -> PostgresRestoreOptions {
    let tables = tables.iter().map(|table| (*table).to_owned()).collect();
    PostgresRestoreOptions { place, tables, safety_snapshot: false, ..usual() }
}

#[test]
fn a_table_or_a_schema_comes_back_with_all_that_belongs_to_it() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let before = shape(&postgres, "app");
        for jobs in [1, 2] {
            let snapshot = dump(&repository, &postgres, "app", jobs).await;
            let name = format!("table_{jobs}");
            let options = tables(Place::New, &["part.configs"]);
            let (restored, read) = part(&repository, &snapshot, &postgres.url(&name), options).await;
            let restored = restored.expect("restores");
            let words = "foreign key \"part configs configs_big_fkey\" leads to a table that is not restored";
            assert_says(&restored.warnings.join(" "), &[words]);
            assert_eq!((read, restored.rows_n, restored.tables_n), (vec!["database.dump".to_owned()], 100, 1));
            assert_same(&shape(&postgres, &name), &before);
            assert_eq!(postgres.psql(&name, "SELECT to_regclass('part.notes'), to_regclass('public.big')"), "|\n");

            let name = format!("schema_{jobs}");
            let options = PostgresRestoreOptions { schemas: vec!["part".to_owned()], ..usual() };
            let (restored, read) = part(&repository, &snapshot, &postgres.url(&name), options).await;
            assert_eq!((restored.expect("restores").rows_n, read), (101, vec!["database.dump".to_owned()]));
            assert_same(&shape(&postgres, &name), &before);
            let why = refused(&repository, &snapshot, &postgres.url("x"), tables(Place::New, &["part.config"])).await;
            assert_says(&why, &["the dump has no table part.config"]);
        }
        let snapshot = dump(&repository, &postgres, "app", 2).await;
        let (restored, read) =
            part(&repository, &snapshot, &postgres.url("big"), tables(Place::New, &["public.big"])).await;
        assert_eq!(restored.expect("restores").rows_n, 50_000);
        assert_eq!(read, ["database.dump", "tables/public.big.copy", "database.dump"]);
        assert_eq!(postgres.psql("big", "SELECT indisvalid FROM pg_index WHERE indrelid = 'big'::regclass"), "t\n");
        let options = PostgresRestoreOptions { part: DumpPart::Schema, ..usual() };
        let (restored, read) = part(&repository, &snapshot, &postgres.url("schema_only"), options).await;
        assert_eq!((restored.expect("restores").rows_n, read), (0, vec!["database.dump".to_owned()]));
        let counts = (rows(&postgres, "schema_only", "big"), rows(&postgres, "schema_only", "part.configs"));
        assert_eq!(counts, ("0".to_owned(), "0".to_owned()));
    });
}

#[test]
fn a_table_goes_back_into_a_database_that_has_lost_it_and_never_twice() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 2).await;
        let before = shape(&postgres, "app");
        postgres.psql("app", "DROP TABLE part.configs");
        let options = tables(Place::Existing, &["part.configs"]);
        let (restored, _) = part(&repository, &snapshot, &postgres.url("app"), options.clone()).await;
        restored.expect("restores");
        assert_same(&shape(&postgres, "app"), &before);
        let why = refused(&repository, &snapshot, &postgres.url("app"), options.clone()).await;
        assert_says(&why, &["pg_restore failed", "already exists"]);
        assert_same(&shape(&postgres, "app"), &before);
        let data = PostgresRestoreOptions { part: DumpPart::Data, ..options.clone() };
        let why = refused(&repository, &snapshot, &postgres.url("app"), data.clone()).await;
        assert_says(&why, &["table part.configs has rows, and data alone would come on top of them", "--on-conflict"]);
        postgres.psql("app", "TRUNCATE part.configs");
        let (restored, _) = part(&repository, &snapshot, &postgres.url("app"), data.clone()).await;
        assert_eq!(restored.expect("restores").rows_n, 100);
        assert_same(&shape(&postgres, "app"), &before);
        postgres.psql("app", "DROP TABLE part.configs");
        let why = refused(&repository, &snapshot, &postgres.url("app"), data).await;
        assert_says(&why, &["there is no table part.configs", "without --part data"]);
        let why = refused(&repository, &snapshot, &postgres.url("nowhere"), options).await;
        assert_says(&why, &["there is no database nowhere"]);
    });
}

#[test]
fn data_alone_go_into_a_database_that_has_its_tables() {
    let (there, here) = (simple(), Postgres::start());
    there.psql(
        "app",
        "ALTER TABLE big ADD last int; ALTER TABLE big ADD FOREIGN KEY (last) REFERENCES part.configs;
        UPDATE big SET last = 1 + id % 100",
    );
    let content = |postgres: &Postgres, database: &str| {
        let sums = "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM big t;
            SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM part.configs t; SELECT last_value FROM part.configs_id_seq";
        postgres.psql(database, sums)
    };
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for jobs in [1, 2] {
            let snapshot = dump(&repository, &there, "app", jobs).await;
            let database = format!("app_{jobs}");
            let url = here.url(&database);
            let schema = PostgresRestoreOptions { part: DumpPart::Schema, ..usual() };
            part(&repository, &snapshot, &url, schema).await.0.expect("restores");

            // The keys lead in a circle, so no order of the tables would do.
            let data = |disable_triggers| PostgresRestoreOptions {
                part: DumpPart::Data,
                place: Place::Existing,
                disable_triggers,
                safety_snapshot: false,
                ..usual()
            };
            let why = refused(&repository, &snapshot, &url, data(false)).await;
            assert_says(&why, &["violates foreign key constraint", "--disable-triggers"]);
            assert_eq!((rows(&here, &database, "big"), rows(&here, &database, "part.notes")), ("0".into(), "0".into()));
            let restored = part(&repository, &snapshot, &url, data(true)).await.0.expect("restores");
            assert_same(&content(&here, &database), &content(&there, "app"));
            assert_eq!(restored.rows_n, 50_000 + 100 + 1);
            let why = refused(&repository, &snapshot, &url, data(true)).await;
            assert_says(&why, &["has rows, and data alone would come on top of them"]);
        }
    });
}

#[test]
fn rows_come_back_by_a_condition() {
    let postgres = simple();
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 2).await;
        let options = PostgresRestoreOptions { safety_snapshot: false, ..usual() };
        let restore = PostgresRestore::new(&postgres.url("app"), options).expect("good options");
        let streams = Streams::default();
        let put = async |table: &str, condition: &str, on_conflict| {
            let options = RowsOptions { table: table.to_owned(), condition: condition.to_owned(), on_conflict };
            in_time(restore.rows(&repository, &snapshot, "", &options, &streams)).await
        };
        let content =
            || postgres.psql("app", "SELECT count(*), md5(string_agg(t::text, '' ORDER BY id)) FROM part.configs t");
        let counts = |r: &RowsRestored| (r.read_n, r.matching_n, r.inserted_n, r.updated_n, r.skipped_n);
        let whole = content();
        let app = "configs.namespace = 'app' -- of the application";

        postgres.psql(
            "app",
            "DELETE FROM part.configs WHERE id <= 20; UPDATE part.configs SET value = 'new' WHERE id = 22",
        );
        let damaged = content();
        let why = put("part.configs", app, OnConflict::Fail).await.expect_err("some are there").to_string();
        assert_says(&why, &["duplicate key value", "--on-conflict"]);
        assert_eq!(content(), damaged);
        let restored = put("part.configs", app, OnConflict::Skip).await.expect("restores");
        assert_eq!(counts(&restored), (100, 50, 10, 0, 40));
        assert_eq!(postgres.psql("app", "SELECT value FROM part.configs WHERE id = 22"), "new\n");
        let restored = put("part.configs", "", OnConflict::Update).await.expect("restores");
        assert_eq!((counts(&restored), content()), ((100, 100, 10, 90, 0), whole.clone()));
        postgres.psql("app", "DELETE FROM part.configs WHERE id <= 20");
        let restored = put("part.configs", "id <= 20", OnConflict::Fail).await.expect("restores");
        assert_eq!((counts(&restored), content()), ((100, 20, 20, 0, 0), whole.clone()));
        let why = put("part.notes", "", OnConflict::Update).await.expect_err("no key").to_string();
        assert_says(&why, &["has no primary key", "--on-conflict skip"]);

        streams.take();
        postgres.psql("app", "UPDATE big SET filling = '' WHERE id = 7");
        let restored = put("public.big", "id = 7", OnConflict::Update).await.expect("restores");
        assert_eq!(counts(&restored), (50_000, 1, 0, 1, 0));
        assert_eq!(streams.take(), ["tables/public.big.copy"]);
        assert_eq!(postgres.psql("app", "SELECT length(filling) FROM big WHERE id = 7"), "192\n");

        // What can't be is told before anything is read, and psql runs no command of its own.
        let mark = postgres.folder().join("ran");
        let command = format!("true\n\\! touch {}\n", mark.display());
        for (table, condition, words) in [
            ("part.configs", "nothing = 1", "column \"nothing\" does not exist"),
            ("part.configs", command.as_str(), "syntax error"),
            ("part.gone", "", "has no table part.gone"),
            ("configs", "", "write it as SCHEMA.TABLE"),
        ] {
            let why = put(table, condition, OnConflict::Skip).await.expect_err("it can't be").to_string();
            assert!(why.contains(words), "{words:?} is not in {why}");
        }
        assert!(!mark.exists() && streams.take().is_empty());
        assert_eq!(content(), whole);
    });
}

#[test]
fn rows_with_all_that_copy_writes_in_its_own_way_come_back_and_the_database_is_backed_up_before() {
    let postgres = simple();
    postgres.psql(
        "app",
        r#"CREATE TABLE part."Odd ""one""" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "two words" text, twice text
            GENERATED ALWAYS AS ("two words" || 'x') STORED);
        INSERT INTO part."Odd ""one""" ("two words") VALUES (E'\\.'), (E'two\nlines\n\\.\n\\! touch /nowhere\n'), (NULL), (''), (E'\\N'),
            (E'a\ttab'), (repeat('x', 3000000)), (E'\U0001f4be');"#,
    );
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = dump(&repository, &postgres, "app", 1).await;
        let content = || {
            postgres
                .psql("app", "SELECT id, md5(\"two words\"), twice IS NULL FROM part.\"Odd \"\"one\"\"\" ORDER BY id")
        };
        let before = content();
        postgres.psql("app", "DELETE FROM part.\"Odd \"\"one\"\"\"");
        let restore = PostgresRestore::new(&postgres.url("app"), usual()).expect("good options");
        let options = RowsOptions { table: "part.\"Odd \"\"one\"\"\"".to_owned(), ..RowsOptions::default() };
        let restored = in_time(restore.rows(&repository, &snapshot, "", &options, &())).await.expect("restores");
        assert_eq!((restored.read_n, restored.inserted_n), (8, 8));
        assert_eq!(content(), before);
        assert!(restored.safety_snapshot.is_some());
    });
}
