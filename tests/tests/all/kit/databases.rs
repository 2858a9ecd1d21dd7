//! Databases that are hard to put back, what is in them, and how the tests dump and restore them.

use super::in_time;
use super::postgres::Postgres;
use dedump_core::{BackupOptions, Error, Repository, Result, Snapshot, backup};
use dedump_engines::postgres::{
    ClientOptions, Place, PostgresEngine, PostgresOptions, PostgresRestore, PostgresRestoreOptions, PostgresRestored,
};

/// A database that is hard to put back: what depends on what goes in circles, belongs to many, and is hard to write down.
pub const AWKWARD: &str = r#"
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
pub fn content(postgres: &Postgres, database: &str) -> String {
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
        SELECT pubname, prrelid::regclass FROM pg_publication JOIN pg_publication_rel ON prpubid = pg_publication.oid ORDER BY 1;
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
pub fn roles(postgres: &Postgres) -> String {
    let query = "SELECT rolname, rolcanlogin, rolconnlimit, rolpassword, shobj_description(oid, 'pg_authid') FROM pg_authid
        WHERE rolname !~ '^pg_' ORDER BY 1;
        SELECT rolname, rolconfig FROM pg_roles ORDER BY 1; SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members
        WHERE roleid > 16000 ORDER BY 1, 2;";
    postgres.psql("postgres", query)
}

pub fn databases(postgres: &Postgres) -> Vec<String> {
    let query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1";
    postgres.psql("postgres", query).lines().map(str::to_owned).collect()
}

/// Backs up a database of a server, with so many jobs.
pub async fn dump(repository: &Repository, postgres: &Postgres, database: &str, jobs: usize) -> Snapshot {
    dump_by(repository, postgres, database, PostgresOptions { jobs, ..dumping(postgres) }).await
}

/// Backs up a database of a server, with these options.
pub async fn dump_by(
    repository: &Repository,
    postgres: &Postgres,
    database: &str,
    options: PostgresOptions,
) -> Snapshot {
    let engine = PostgresEngine::new(&postgres.url(database), options).expect("good options");
    // Parts of a database are smaller than all of it.
    let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("app", "host") };
    in_time(backup(repository, &engine, &options, &())).await.expect("backs up").snapshot
}

/// The client tools as the tests have them.
pub fn here() -> ClientOptions {
    ClientOptions { programs: Some("/usr/lib/postgresql/15/bin".into()), ..ClientOptions::default() }
}

/// The client tools of a server's own version.
pub fn clients(postgres: &Postgres) -> ClientOptions {
    ClientOptions { programs: Some(postgres.programs().to_owned()), ..ClientOptions::default() }
}

/// A dump with all that is the default.
pub fn dumping(postgres: &Postgres) -> PostgresOptions {
    PostgresOptions { client: clients(postgres), ..PostgresOptions::default() }
}

pub fn usual() -> PostgresRestoreOptions {
    PostgresRestoreOptions { client: here(), by: "tester@host".to_owned(), ..PostgresRestoreOptions::default() }
}

pub fn replacing() -> PostgresRestoreOptions {
    PostgresRestoreOptions { place: Place::Replace, ..usual() }
}

pub async fn put_back(
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

pub fn awkward() -> Postgres {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", AWKWARD);
    postgres
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

/// Waits until a server answers yes.
pub async fn wait_for(postgres: &Postgres, question: &str) {
    in_time(async {
        while postgres.psql("postgres", question) != "t\n" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
