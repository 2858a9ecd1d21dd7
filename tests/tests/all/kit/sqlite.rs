//! SQLite databases of the tests: awkward ones, ones that are written to, and what they hold.

use super::in_time;
use dedump_core::{BackupOptions, BackupReport, Repository, Result, Snapshot, backup};
use dedump_engines::sqlite::{SqliteEngine, SqliteOptions, SqliteRestore, SqliteRestoreOptions, SqliteRestored};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// All that SQLite has, and values of every kind.
pub const AWKWARD: &str = r#"
    PRAGMA page_size = 1024; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA encoding = 'UTF-16le';
    PRAGMA user_version = 42; PRAGMA application_id = 252006674;
    CREATE TABLE "odd ""name""" (id INTEGER PRIMARY KEY AUTOINCREMENT, "select" TEXT COLLATE NOCASE, b BLOB, n, r REAL,
        twice TEXT GENERATED ALWAYS AS ("select" || "select") STORED, CHECK (r IS NULL OR r < 1e300));
    WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 3000)
        INSERT INTO "odd ""name""" ("select", b, n, r)
        SELECT CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'zwei' || char(10) || '''"ü🦀' ELSE 'a' || char(0) || 'b' END,
            CASE n % 3 WHEN 0 THEN zeroblob(n) WHEN 1 THEN randomblob(n % 900) END,
            CASE n % 5 WHEN 0 THEN -9223372036854775808 WHEN 1 THEN 'text' WHEN 2 THEN 9e999 WHEN 3 THEN x'00ff' ELSE n END, n / 7.0 FROM s;
    DELETE FROM "odd ""name""" WHERE id % 11 = 0;
    CREATE INDEX partly ON "odd ""name""" (lower("select")) WHERE n > 5;
    CREATE TABLE child (id INT PRIMARY KEY, parent INTEGER REFERENCES "odd ""name""" (id) DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;
    INSERT INTO child SELECT id, id FROM "odd ""name""";
    CREATE TABLE strictly (i INTEGER, a ANY) STRICT; INSERT INTO strictly VALUES (1, '1'), (2, 2);
    CREATE VIEW seen AS SELECT id, "select" FROM "odd ""name""" WHERE b IS NOT NULL;
    CREATE TABLE log (what TEXT);
    CREATE TRIGGER logs AFTER DELETE ON child BEGIN INSERT INTO log VALUES ('deleted ' || OLD.id); END;
    DELETE FROM child WHERE id = 1;
    CREATE VIRTUAL TABLE words USING fts5(t); INSERT INTO words SELECT 'word ' || id FROM child;
    CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1); INSERT INTO boxes VALUES (1, 0, 2), (2, 1, 5);
    ANALYZE;
"#;

/// Makes a database at this path.
pub fn make(path: &Path, script: &str) {
    let database = Connection::open(path).expect("opens");
    database.execute_batch(script).expect("a good script");
}

pub fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// Says all that is in a database: its settings, its schema, and each row of each table with the kinds of its values.
pub fn content(path: &Path) -> String {
    let database = Connection::open(path).expect("opens");
    let ask = |query: &str| {
        let mut statement = database.prepare(query).expect(query);
        let columns_n = statement.column_count();
        let line =
            |row: &rusqlite::Row<'_>| (0..columns_n).map(|n| row.get::<_, Value>(n)).collect::<Result<Vec<_>, _>>();
        let lines = statement.query_map([], line).expect(query);
        lines.map(|line| format!("{:?}\n", line.expect("a row"))).collect::<String>()
    };
    let mut all = String::new();
    for pragma in ["user_version", "application_id", "page_size", "auto_vacuum", "encoding", "journal_mode"] {
        all.push_str(&format!("{pragma}: {}", ask(&format!("PRAGMA {pragma}"))));
    }
    all.push_str(&ask("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"));
    let query = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name";
    let mut statement = database.prepare(query).expect("good");
    let names: Vec<String> =
        statement.query_map([], |row| row.get(0)).expect("good").collect::<Result<_, _>>().expect("names");
    for name in names {
        all.push_str(&format!(
            "{name}\n{}",
            ask(&format!("SELECT * FROM \"{}\" ORDER BY 1", name.replace('"', "\"\"")))
        ));
    }
    all
}

pub fn number(path: &Path, query: &str) -> i64 {
    let database = Connection::open(path).expect("opens");
    database.query_row(query, [], |row| row.get(0)).expect(query)
}

pub async fn dump_by(repository: &Repository, path: &Path, options: SqliteOptions) -> Result<BackupReport> {
    let engine = SqliteEngine::new(&url(path), options).expect("a good URL");
    in_time(backup(repository, &engine, &BackupOptions::new("app", "host"), &())).await
}

pub async fn dump(repository: &Repository, path: &Path) -> Snapshot {
    dump_by(repository, path, SqliteOptions::default()).await.expect("backs up").snapshot
}

pub async fn put_back(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &Path,
    options: SqliteRestoreOptions,
) -> Result<SqliteRestored> {
    let restore = SqliteRestore::new(&url(path), options).expect("a good URL");
    in_time(restore.run(repository, snapshot, "", &())).await
}

/// Somebody who moves money between two accounts without rest: their sum is always 1000, and each transaction adds to `moves`.
pub struct Writer {
    is_done: Arc<AtomicBool>,
    moves: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(path: &Path, journal_mode: &str) -> Writer {
        let database = Connection::open(path).expect("opens");
        database.busy_timeout(std::time::Duration::from_secs(50)).expect("may wait");
        let mode: String =
            database.query_row(&format!("PRAGMA journal_mode = {journal_mode}"), [], |row| row.get(0)).expect("a mode");
        assert_eq!(mode, journal_mode);
        let tables = "PRAGMA synchronous = OFF; CREATE TABLE a (n); CREATE TABLE filling (t); CREATE TABLE moves (n INTEGER PRIMARY KEY, t);
            CREATE TABLE z (n); INSERT INTO a VALUES (1000); INSERT INTO z VALUES (0);
            WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 20000)
            INSERT INTO filling SELECT hex(randomblob(300)) FROM s;";
        database.execute_batch(tables).expect("tables");
        let (is_done, moves) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (done, counter) = (Arc::clone(&is_done), Arc::clone(&moves));
        let thread = std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let step = "BEGIN IMMEDIATE; UPDATE a SET n = n - 1; INSERT INTO moves (t) VALUES (hex(randomblob(200)));
                    UPDATE filling SET t = t || 'x' WHERE rowid = 1 + abs(random()) % 20000; UPDATE z SET n = n + 1; COMMIT";
                database.execute_batch(step).expect("writes");
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Writer { is_done, moves, thread: Some(thread) }
    }

    pub fn moves_n(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// Waits until so many moves more were made.
    pub fn wait_for(&self, more: u64) {
        let wanted = self.moves_n() + more;
        while self.moves_n() < wanted && self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            std::thread::yield_now();
        }
    }

    pub fn stop(mut self) -> u64 {
        self.is_done.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("it wrote");
        self.moves_n()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Relaxed);
    }
}
