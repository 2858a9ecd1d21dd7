//! A real SQLite database that lives like one of a small shop: the same in every run, to the last bit.

use crate::exit::Failure;
use rusqlite::backup::Backup;
use rusqlite::{Connection, Transaction, params};
use std::path::Path;

/// Rows for each MiB of the first day's database.
const USERS_PER_MIB: i64 = 630;
const ORDERS_PER_MIB: i64 = 2530;
const EVENTS_PER_MIB: i64 = 5060;
const DOCUMENTS_PER_MIB: i64 = 420;

const SCHEMA: &str = "
    PRAGMA page_size = 4096;
    PRAGMA journal_mode = MEMORY;
    PRAGMA synchronous = OFF;
    CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, balance INTEGER, seen_day INTEGER);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, user INTEGER, item TEXT, cents INTEGER, state TEXT, day INTEGER);
    CREATE INDEX orders_user ON orders (user);
    CREATE TABLE events (id INTEGER PRIMARY KEY, day INTEGER, user INTEGER, kind TEXT, detail TEXT);
    CREATE TABLE documents (id INTEGER PRIMARY KEY, owner INTEGER, title TEXT, body TEXT, version INTEGER);
";

const WORDS: &[&str] = &[
    "account", "amber", "arrival", "basket", "bridge", "carrier", "cedar", "change", "clause", "coast", "copper",
    "credit", "customer", "delivery", "draft", "early", "engine", "escrow", "export", "family", "garden", "grain",
    "harbour", "invoice", "island", "journal", "kitchen", "ledger", "lemon", "linen", "margin", "market", "meadow",
    "method", "morning", "notice", "number", "orchard", "order", "paper", "parcel", "pattern", "payment", "pepper",
    "period", "quarter", "quiet", "receipt", "refund", "report", "return", "river", "saffron", "season", "shelf",
    "silver", "station", "stock", "summer", "supply", "tariff", "timber", "transit", "trust", "turbine", "update",
    "valley", "vendor", "village", "voucher", "warrant", "weather", "window", "winter", "written", "yellow",
];

/// The database, open.
pub struct Database {
    connection: Connection,
    random: Random,
}

impl Database {
    /// Creates the database as it is on the first day, of about so many MiB.
    ///
    /// # Errors
    /// SQLite's.
    pub fn create(path: &Path, mib: u32) -> Result<Self, Failure> {
        Self::try_create(path, i64::from(mib)).map_err(failed)
    }

    /// Lives through one day: about 1 % of the rows change, some are deleted, 1 to 2 % are added.
    ///
    /// # Errors
    /// SQLite's.
    pub fn live(&mut self, day: u32) -> Result<(), Failure> {
        self.try_live(day).map_err(failed)
    }

    /// Dumps the database: a full copy to a new file, through SQLite's online backup.
    ///
    /// # Errors
    /// SQLite's.
    pub fn dump(&self, path: &Path) -> Result<(), Failure> {
        let copy = || {
            let mut copy = Connection::open(path)?;
            Backup::new(&self.connection, &mut copy)?.run_to_completion(4096, std::time::Duration::ZERO, None)
        };
        copy().map_err(failed)
    }

    fn try_create(path: &Path, mib: i64) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        let mut random = Random(0x6465_6475_6d70);
        let transaction = connection.transaction()?;
        let mut rows = Rows { transaction: &transaction, random: &mut random, day: 1 };
        rows.add_users(USERS_PER_MIB * mib)?;
        rows.add_orders(ORDERS_PER_MIB * mib)?;
        rows.add_events(EVENTS_PER_MIB * mib)?;
        rows.add_documents(DOCUMENTS_PER_MIB * mib)?;
        transaction.commit()?;
        Ok(Database { connection, random })
    }

    fn try_live(&mut self, day: u32) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut rows = Rows { transaction: &transaction, random: &mut self.random, day: i64::from(day) };
        rows.change()?;
        rows.delete()?;
        for (table, add) in Rows::TABLES {
            // 1.0 to 2.0 %.
            let permille = 10 + rows.random.below(11);
            let count = rows.count(table)? * permille / 1000;
            add(&mut rows, count)?;
        }
        transaction.commit()
    }
}

/// What happens to rows within one day.
struct Rows<'a> {
    transaction: &'a Transaction<'a>,
    random: &'a mut Random,
    day: i64,
}

type Add = fn(&mut Rows<'_>, i64) -> rusqlite::Result<()>;

impl Rows<'_> {
    const TABLES: [(&'static str, Add); 4] = [
        ("users", |rows, n| rows.add_users(n)),
        ("orders", |rows, n| rows.add_orders(n)),
        ("events", |rows, n| rows.add_events(n)),
        ("documents", |rows, n| rows.add_documents(n)),
    ];

    fn add_users(&mut self, n: i64) -> rusqlite::Result<()> {
        let mut insert =
            self.transaction.prepare("INSERT INTO users (email, name, balance, seen_day) VALUES (?, ?, ?, ?)")?;
        for _ in 0..n {
            let name = self.random.text(2);
            let email = format!("{}.{:x}@example.org", name.replace(' ', "."), self.random.below(1 << 40));
            insert.execute(params![email, name, self.random.below(100_000), self.day])?;
        }
        Ok(())
    }

    fn add_orders(&mut self, n: i64) -> rusqlite::Result<()> {
        let users = self.highest("users")?;
        let mut insert = self
            .transaction
            .prepare("INSERT INTO orders (user, item, cents, state, day) VALUES (?, ?, ?, 'new', ?)")?;
        for _ in 0..n {
            let (user, item) = (1 + self.random.below(users), self.random.text(3));
            insert.execute(params![user, item, self.random.below(50_000), self.day])?;
        }
        Ok(())
    }

    fn add_events(&mut self, n: i64) -> rusqlite::Result<()> {
        let users = self.highest("users")?;
        let mut insert =
            self.transaction.prepare("INSERT INTO events (day, user, kind, detail) VALUES (?, ?, ?, ?)")?;
        for _ in 0..n {
            let (user, kind) = (1 + self.random.below(users), self.random.word());
            let detail = format!("{} {:08x}", self.random.text(3), self.random.below(1 << 32));
            insert.execute(params![self.day, user, kind, detail])?;
        }
        Ok(())
    }

    fn add_documents(&mut self, n: i64) -> rusqlite::Result<()> {
        let users = self.highest("users")?;
        let mut insert =
            self.transaction.prepare("INSERT INTO documents (owner, title, body, version) VALUES (?, ?, ?, 1)")?;
        for _ in 0..n {
            let (owner, title) = (1 + self.random.below(users), self.random.text(4));
            let words = 80 + self.random.below(160);
            insert.execute(params![owner, title, self.random.text(words)])?;
        }
        Ok(())
    }

    /// Changes about 1 % of the users, orders and documents. Orders change while they are young, and so do most documents;
    /// any user may come back. Events are never changed.
    fn change(&mut self) -> rusqlite::Result<()> {
        let mut user = self.transaction.prepare("UPDATE users SET balance = balance + ?, seen_day = ? WHERE id = ?")?;
        let highest = self.highest("users")?;
        for _ in 0..highest / 100 {
            user.execute(params![self.random.below(1000), self.day, 1 + self.random.below(highest)])?;
        }
        let mut order = self.transaction.prepare("UPDATE orders SET state = ? WHERE id = ?")?;
        let highest = self.highest("orders")?;
        for _ in 0..highest / 100 {
            order.execute(params![["paid", "sent", "back"][self.random.below(3) as usize], self.recent(highest)])?;
        }
        let mut document =
            self.transaction.prepare("UPDATE documents SET body = body || ?, version = version + 1 WHERE id = ?")?;
        let highest = self.highest("documents")?;
        for _ in 0..highest / 100 {
            let id = if self.random.below(5) == 0 { 1 + self.random.below(highest) } else { self.recent(highest) };
            document.execute(params![format!(" {}", self.random.text(6)), id])?;
        }
        Ok(())
    }

    /// Deletes some of the oldest events, and a few documents.
    fn delete(&mut self) -> rusqlite::Result<()> {
        self.transaction.execute(
            "DELETE FROM events WHERE id < (SELECT min(id) + (SELECT count(*) FROM events) / 200 FROM events)",
            [],
        )?;
        let highest = self.highest("documents")?;
        let mut document = self.transaction.prepare("DELETE FROM documents WHERE id = ?")?;
        for _ in 0..1 + highest / 2000 {
            document.execute([self.recent(highest)])?;
        }
        Ok(())
    }

    /// Draws one of the newest tenth.
    fn recent(&mut self, highest: i64) -> i64 {
        highest - self.random.below(1 + highest / 10)
    }

    fn highest(&self, table: &str) -> rusqlite::Result<i64> {
        self.transaction.query_one(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))
    }

    fn count(&self, table: &str) -> rusqlite::Result<i64> {
        self.transaction.query_one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
    }
}

/// SplitMix64: numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws from 0 to `bound` - 1; 0 if there is nothing to draw from.
    fn below(&mut self, bound: i64) -> i64 {
        (self.next() % bound.unsigned_abs().max(1)) as i64
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as i64) as usize]
    }

    fn text(&mut self, words: i64) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

fn failed(error: rusqlite::Error) -> Failure {
    Failure::failed(format!("the demonstration's database failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_the_same_in_every_run() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let hash_of = |name: &str| {
            let mut database = Database::create(&directory.path().join(name), 1).expect("it can be made");
            database.live(2).expect("it lives");
            let dump = directory.path().join(format!("{name}.dump"));
            database.dump(&dump).expect("it can be dumped");
            blake3::hash(&std::fs::read(&dump).expect("the dump is there"))
        };
        assert_eq!(hash_of("one"), hash_of("two"));
    }
}
