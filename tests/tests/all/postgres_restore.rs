//! Dumps of PostgreSQL go back into real servers: whole, under their names, and without harm to what was there.

use crate::kit::postgres::{Lock, Postgres};
use crate::kit::{create, in_time, open, run, snapshots};
use dedump_core::{BackupOptions, Error, Filter, Repository, Result, Snapshot, Store, backup, find, list, list_holds};
use dedump_engines::postgres::{
    ClientOptions, DumpPart, Globals, Place, PostgresEngine, PostgresOptions, PostgresRestore, PostgresRestoreOptions,
    PostgresRestored,
};

/// A database that is hard to put back: what depends on what goes in circles, belongs to many, and is hard to write down.
const AWKWARD: &str = r#"
    CREATE ROLE "App owner" LOGIN PASSWORD 'p;w''d' CONNECTION LIMIT 9;
    CREATE ROLE reader; COMMENT ON ROLE reader IS 'reads; only';
    ALTER ROLE reader SET work_mem TO '3MB';
    CREATE ROLE clerk LOGIN; GRANT reader TO clerk;
    ALTER DATABASE app OWNER TO "App owner";
    ALTER DATABASE app SET search_path TO "$user", shop, public;
    ALTER DATABASE app SET statement_timeout TO '77s';
    ALTER ROLE clerk IN DATABASE app SET work_mem TO '5MB';
    ALTER DATABASE app CONNECTION LIMIT 42;
    COMMENT ON DATABASE app IS 'the ''app'''; REVOKE CONNECT ON DATABASE app FROM PUBLIC; GRANT CONNECT, TEMP ON DATABASE app TO reader;
    CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm;
    CREATE SCHEMA shop AUTHORIZATION "App owner"; CREATE SCHEMA "Odd schema";
    GRANT USAGE ON SCHEMA shop TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE "App owner" IN SCHEMA shop GRANT SELECT ON TABLES TO reader;
    CREATE TYPE shop.mood AS ENUM ('sad', 'it''s ok', 'happy');
    CREATE DOMAIN shop.price AS numeric(12, 2) CHECK (VALUE >= 0);
    CREATE TABLE shop.items (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, price shop.price, mood shop.mood, tags hstore,
        gross numeric GENERATED ALWAYS AS (price * 1.2) STORED, body jsonb, scan bytea, seen timestamptz, labels text[]
    );
    ALTER TABLE shop.items OWNER TO "App owner";
    INSERT INTO shop.items (name, price, mood, tags, body, scan, seen, labels) SELECT
        CASE n % 4 WHEN 0 THEN E'two\nlines\t\\.\\N' WHEN 1 THEN '' WHEN 2 THEN E'\U0001f4be ü' ELSE md5(n::text) END,
        CASE n % 3 WHEN 0 THEN NULL ELSE n / 7.0 END, (ARRAY['sad', 'it''s ok', 'happy', NULL])[1 + n % 4]::shop.mood,
        hstore('n', n::text), jsonb_build_object('n', n, 'null', NULL), sha512(n::text::bytea),
        timestamptz '2026-01-01 00:00:00.123456+00' + n * interval '1 second', ARRAY['a,b', NULL, '']
        FROM generate_series(1, 2000) n;
    CREATE INDEX items_trgm ON shop.items USING gin (name gin_trgm_ops);
    CREATE STATISTICS shop.items_stat ON name, mood FROM shop.items;
    -- Foreign keys in a circle.
    CREATE TABLE shop.a (id int PRIMARY KEY, b int); CREATE TABLE shop.b (id int PRIMARY KEY, a int REFERENCES shop.a);
    INSERT INTO shop.a VALUES (1, 1), (2, NULL); INSERT INTO shop.b VALUES (1, 2), (2, 1);
    ALTER TABLE shop.a ADD FOREIGN KEY (b) REFERENCES shop.b DEFERRABLE INITIALLY DEFERRED;
    -- Partitions of partitions, and old inheritance.
    CREATE TABLE shop.events (id int, at date NOT NULL, kind text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE shop.events_2025 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (id);
    CREATE TABLE shop.events_2026_0 PARTITION OF shop.events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE shop.events_2026_1 PARTITION OF shop.events_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO shop.events SELECT n, date '2025-06-01' + n % 500, 'k' || n % 3 FROM generate_series(1, 1000) n;
    CREATE TABLE public.parent (id serial PRIMARY KEY, t text); CREATE TABLE public.child (extra int) INHERITS (public.parent);
    INSERT INTO public.parent (t) VALUES ('p'); INSERT INTO public.child (t, extra) VALUES ('c', 1);
    -- Rows that not everybody sees, triggers, rules, views of views, functions.
    CREATE TABLE public.secrets (owner text, what text); INSERT INTO public.secrets VALUES ('clerk', 'x'), ('other', 'y');
    ALTER TABLE public.secrets ENABLE ROW LEVEL SECURITY; ALTER TABLE public.secrets FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON public.secrets FOR SELECT TO clerk, reader USING (owner = current_user);
    GRANT SELECT (what) ON public.secrets TO reader WITH GRANT OPTION;
    CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.seen := NULL; RETURN NEW; END $f$;
    CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON shop.items FOR EACH ROW EXECUTE FUNCTION shop.touch();
    ALTER TABLE shop.items DISABLE TRIGGER touch;
    CREATE FUNCTION shop.total() RETURNS numeric LANGUAGE sql STABLE AS $f$ SELECT sum(price) FROM shop.items $f$;
    CREATE VIEW shop.dear AS SELECT id, price FROM shop.items WHERE price > 100;
    CREATE VIEW shop.dearest AS SELECT max(price) AS price FROM shop.dear;
    CREATE MATERIALIZED VIEW shop.summary AS SELECT mood, count(*) FROM shop.items GROUP BY mood;
    CREATE UNIQUE INDEX ON shop.summary (mood);
    CREATE RULE no_delete AS ON DELETE TO shop.b DO INSTEAD NOTHING;
    CREATE TABLE "Odd schema"."Odd ""name""" ("select" int, "two words" text); INSERT INTO "Odd schema"."Odd ""name""" VALUES (1, NULL), (2, '');
    CREATE SEQUENCE shop.tickets START 1000 INCREMENT 7; SELECT nextval('shop.tickets'), nextval('shop.tickets');
    CREATE PUBLICATION pub FOR TABLE shop.a;
    SELECT lo_from_bytea(4242, sha512('x')), lo_from_bytea(4243, '');
    ALTER LARGE OBJECT 4242 OWNER TO "App owner"; GRANT SELECT ON LARGE OBJECT 4242 TO reader;
"#;

/// Says all that is in a database, and what it is like itself.
fn content(postgres: &Postgres, database: &str) -> String {
    postgres.psql(
        database,
        r#"
        SET search_path = ''; SET row_security = off;
        CREATE TEMPORARY VIEW own AS
            SELECT c.oid, c.oid::pg_catalog.regclass::text AS name, c.relkind AS kind, c.relowner, c.relacl, c.relrowsecurity,
                c.relforcerowsecurity
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';
        SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), '''' ORDER BY t::text COLLATE "C")) FROM %s t',
            name, name) FROM own WHERE kind IN ('r', 'p', 'm', 'v') ORDER BY name \gexec
        SELECT format('SELECT %L, last_value, is_called FROM %s', name, name) FROM own WHERE kind = 'S' ORDER BY name \gexec
        SELECT 'relation', name, kind, relowner::regrole, relacl, relrowsecurity, relforcerowsecurity FROM own ORDER BY name;
        SELECT 'large object', oid, md5(lo_get(oid)), lomowner::regrole, lomacl FROM pg_largeobject_metadata ORDER BY oid;
        SELECT own.name, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attacl, attislocal,
                pg_get_expr(adbin, adrelid)
            FROM own JOIN pg_attribute ON attrelid = own.oid AND attnum > 0
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE kind <> 'i' ORDER BY own.name, attnum;
        SELECT own.name, conname, pg_get_constraintdef(c.oid), convalidated FROM own JOIN pg_constraint c ON conrelid = own.oid
            ORDER BY own.name, conname;
        SELECT pg_get_indexdef(oid) FROM own WHERE kind IN ('i', 'I') ORDER BY name;
        SELECT own.name, pg_get_partkeydef(own.oid), pg_get_expr(relpartbound, c.oid) FROM own JOIN pg_class c USING (oid)
            WHERE kind IN ('r', 'p') ORDER BY own.name;
        SELECT inhrelid::regclass::text, inhparent::regclass FROM pg_inherits ORDER BY 1;
        SELECT oid::regprocedure::text, md5(prosrc), proowner::regrole, proacl FROM pg_proc
            WHERE pronamespace = 'shop'::regnamespace ORDER BY 1;
        SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1;
        SELECT tablename, rulename, definition FROM pg_rules WHERE schemaname = 'shop' ORDER BY 1, 2;
        SELECT polname, polrelid::regclass, ARRAY(SELECT r::regrole::text FROM unnest(polroles) r ORDER BY 1), pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 1;
        SELECT nspname, nspowner::regrole, nspacl FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1;
        SELECT defaclrole::regrole, defaclnamespace::regnamespace, defaclacl FROM pg_default_acl ORDER BY 1;
        SELECT extname, extversion FROM pg_extension ORDER BY 1;
        SELECT pubname, prrelid::regclass FROM pg_publication JOIN pg_publication_rel ON prpubid = pg_publication.oid;
        SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 1;
        SELECT typname, typtype, enumlabel FROM pg_type LEFT JOIN pg_enum ON enumtypid = pg_type.oid
            WHERE typnamespace = 'shop'::regnamespace AND typtype IN ('e', 'd') ORDER BY 1, enumsortorder;
        SELECT 'database', pg_encoding_to_char(encoding), datcollate, datctype, datdba::regrole, datconnlimit, ARRAY(SELECT unnest(datacl)::text ORDER BY 1),
                shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database();
        SELECT setrole::regrole, setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
            WHERE datname = current_database() ORDER BY 1;
        "#,
    )
}

/// Says what roles a server has.
fn roles(postgres: &Postgres) -> String {
    let query = "SELECT rolname, rolcanlogin, rolconnlimit, rolpassword, shobj_description(oid, 'pg_authid') FROM pg_authid
        WHERE rolname !~ '^pg_' ORDER BY 1;
        SELECT rolname, rolconfig FROM pg_roles ORDER BY 1; SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members
        WHERE roleid > 16000 ORDER BY 1, 2;";
    postgres.psql("postgres", query)
}

fn databases(postgres: &Postgres) -> Vec<String> {
    let query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1";
    postgres.psql("postgres", query).lines().map(str::to_owned).collect()
}

/// Backs up a database of a server, with so many jobs.
pub async fn dump(repository: &Repository, postgres: &Postgres, database: &str, jobs: usize) -> Snapshot {
    let options = PostgresOptions { client: here(), jobs, ..PostgresOptions::default() };
    let engine = PostgresEngine::new(&postgres.url(database), options).expect("good options");
    in_time(backup(repository, &engine, &BackupOptions::new("app", "host"), &())).await.expect("backs up").snapshot
}

/// The client tools as the tests have them.
fn here() -> ClientOptions {
    ClientOptions { programs: Some("/usr/lib/postgresql/15/bin".into()), ..ClientOptions::default() }
}

pub fn usual() -> PostgresRestoreOptions {
    PostgresRestoreOptions { client: here(), by: "tester@host".to_owned(), ..PostgresRestoreOptions::default() }
}

fn replacing() -> PostgresRestoreOptions {
    PostgresRestoreOptions { place: Place::Replace, ..usual() }
}

async fn put_back(
    repository: &Repository,
    snapshot: &Snapshot,
    url: &str,
    options: PostgresRestoreOptions,
) -> Result<PostgresRestored> {
    let restore = PostgresRestore::new(url, options).expect("good options");
    in_time(restore.run(repository, snapshot, "", &())).await
}

/// Puts a dump back that must be refused; returns what the user hears.
pub async fn refused(
    repository: &Repository,
    snapshot: &Snapshot,
    url: &str,
    options: PostgresRestoreOptions,
) -> String {
    match put_back(repository, snapshot, url, options).await {
        Err(Error::Target(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn assert_says(why: &str, words: &[&str]) {
    for words in words {
        assert!(why.contains(words), "{words:?} is not in: {why}");
    }
    assert!(!why.contains('\n'), "more than a line: {why}");
}

#[track_caller]
pub fn assert_same(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

fn awkward() -> Postgres {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", AWKWARD);
    postgres
}

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

/// A server with the database `app`, which has a table with a stream of its own when several jobs dump it.
pub fn simple() -> Postgres {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql(
        "app",
        "CREATE TABLE big AS SELECT n AS id, repeat(md5(n::text), 6) AS filling FROM generate_series(1, 50000) n;
        ALTER TABLE big ADD PRIMARY KEY (id);
        CREATE SCHEMA part; CREATE TYPE part.mood AS ENUM ('a', 'b');
        CREATE TABLE part.configs (id serial PRIMARY KEY, namespace text NOT NULL, key text, value text, mood part.mood,
            big int REFERENCES big, twice text GENERATED ALWAYS AS (key || key) STORED, UNIQUE (namespace, key));
        INSERT INTO part.configs (namespace, key, value, mood, big)
            SELECT CASE n % 2 WHEN 0 THEN 'app' ELSE 'other' END, 'k' || n, 'v' || n, 'a', n FROM generate_series(1, 100) n;
        CREATE INDEX configs_value ON part.configs (value);
        CREATE TABLE part.notes (t text); INSERT INTO part.notes VALUES ('n');",
    );
    postgres
}

pub fn rows(postgres: &Postgres, database: &str, table: &str) -> String {
    postgres.psql(database, &format!("SELECT count(*) FROM {table}")).trim().to_owned()
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
    let name = "postgres_restore::what_a_killed_restore_left_is_named_and_dropped";
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

/// Waits until a server answers yes.
async fn wait_for(postgres: &Postgres, question: &str) {
    in_time(async {
        while postgres.psql("postgres", question) != "t\n" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
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
