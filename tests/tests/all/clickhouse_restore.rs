//! ClickHouse put back: beside, under other names, in place of what is there; counted, and never half.

use crate::clickhouse::{fill_with_every_type, good};
use crate::kit::clickhouse::ClickHouse;
use crate::kit::dumps::Streams;
use crate::kit::{create, get_back, run, snapshots};
use dedump_core::{Repository, Result, Snapshot, Store};
use dedump_engines::clickhouse::{ClickHouseRestore, ClickHouseRestoreOptions, ClickHouseRestored};

async fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    url: &str,
    options: ClickHouseRestoreOptions,
) -> Result<ClickHouseRestored> {
    ClickHouseRestore::new(url, options)?.run(repository, snapshot, "", &()).await
}

fn replace() -> ClickHouseRestoreOptions {
    ClickHouseRestoreOptions { replace: true, ..ClickHouseRestoreOptions::default() }
}

/// Makes a database of things that need one another, with names whose order is none to make them in.
pub(crate) fn fill_with_views(server: &ClickHouse, database: &str) {
    let sql = [
        "CREATE DATABASE @",
        "CREATE TABLE @.events (k UInt32, user String, at DateTime) ENGINE = MergeTree PARTITION BY k % 3 ORDER BY k",
        "CREATE TABLE @.totals (user String, n UInt64) ENGINE = SummingMergeTree ORDER BY user",
        "CREATE MATERIALIZED VIEW @.a_to_totals TO @.totals AS SELECT user, count() AS n FROM @.events GROUP BY user",
        "CREATE MATERIALIZED VIEW @.b_inner ENGINE = SummingMergeTree ORDER BY user AS SELECT user, count() AS n FROM @.events GROUP BY user",
        "CREATE MATERIALIZED VIEW @.a_chain ENGINE = MergeTree ORDER BY user AS SELECT user, n FROM @.totals",
        "CREATE TABLE @.names (id UInt64, name String) ENGINE = MergeTree ORDER BY id",
        "INSERT INTO @.names VALUES (1, 'one'), (2, 'two')",
        "CREATE DICTIONARY @.z_dict (id UInt64, name String) PRIMARY KEY id SOURCE(CLICKHOUSE(DB '@' TABLE 'names')) LAYOUT(FLAT()) LIFETIME(0)",
        "CREATE TABLE @.a_defaults (id UInt64, name String DEFAULT dictGet('@.z_dict', 'name', id)) ENGINE = MergeTree ORDER BY id",
        "INSERT INTO @.a_defaults (id) VALUES (1), (2)",
        "CREATE VIEW @.z_view AS SELECT k FROM @.events WHERE user != '@.events'",
        "CREATE VIEW @.a_view AS SELECT k, dictGetOrDefault('@.z_dict', 'name', toUInt64(k), 'none') AS name FROM @.z_view",
        "CREATE TABLE @.buffer AS @.events ENGINE = Buffer(@, events, 1, 10, 100, 10000, 1000000, 10000000, 100000000)",
        "CREATE TABLE @.merged AS @.events ENGINE = Merge(@, '^events$')",
        "CREATE TABLE @.plain (a UInt8) ENGINE = Log",
        "INSERT INTO @.plain VALUES (1), (1), (2)",
        "INSERT INTO @.events SELECT number, concat('u', toString(number % 7)), 1600000000 + number FROM numbers(3000)",
    ];
    for line in sql {
        server.ask(&line.replace('@', database));
    }
}

/// Compares streams, and shows where two begin to differ.
fn expect_same(found: &Streams, wanted: &Streams) {
    assert!(found.keys().eq(wanted.keys()), "{:?} instead of {:?}", found.keys(), wanted.keys());
    for (name, bytes) in wanted {
        let found = &found[name];
        let at = found.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(found.len().min(bytes.len()));
        let near = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(200)..bytes.len().min(at + 200)]).into_owned()
        };
        assert!(found == bytes, "{name} differs at {at}:\n{}\n{}", near(found), near(bytes));
    }
}

#[test]
fn every_type_comes_back_under_its_own_name_and_another() {
    let (server, other) = (ClickHouse::start(), ClickHouse::start());
    fill_with_every_type(&server, "d1");
    server.run_all(&[
        "CREATE TABLE d1.states (k UInt32, u AggregateFunction(uniq, UInt64)) ENGINE = AggregatingMergeTree ORDER BY k",
        "INSERT INTO d1.states SELECT number % 10, uniqState(number) FROM numbers(1000) GROUP BY number % 10",
    ]);
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let snapshot = good(&repository, &server.database("d1")).await;
        let wanted = get_back(&repository, &snapshot).await.expect("comes back");
        let restored = restore(&repository, &snapshot, &other.url(), ClickHouseRestoreOptions::default()).await;
        let restored = restored.expect("restores");
        assert_eq!((restored.tables_n, restored.rows, restored.warnings.as_slice()), (2, 3010, &[][..]));
        let repository = create(Store::memory()).await.expect("a repository");
        let again = good(&repository, &other.database("d1")).await;
        let mut found = get_back(&repository, &again).await.expect("comes back");
        // A set of hashes is the same in another order.
        let states = "data/d1/states/all/rows.native";
        found.insert(states.to_owned(), wanted[states].clone());
        expect_same(&found, &wanted);
        assert_eq!(other.ask("SELECT finalizeAggregation(u) FROM d1.states WHERE k = 3"), "100");

        let restored =
            restore(&repository, &again, &server.database("n`ew"), ClickHouseRestoreOptions::default()).await;
        restored.expect("restores under another name");
        let repository = create(Store::memory()).await.expect("a repository");
        let renamed = good(&repository, &server.database("n%60ew")).await;
        let renamed = get_back(&repository, &renamed).await.expect("comes back");
        for (name, bytes) in wanted.iter().filter(|(name, _)| name.starts_with("data/")) {
            assert!(name.contains("states") || renamed[&name.replacen("d1", "n%60ew", 1)] == *bytes, "{name}");
        }
    });
}

#[test]
fn what_takes_rows_is_not_filled_twice_and_everything_works_again() {
    let (server, other) = (ClickHouse::start(), ClickHouse::start());
    fill_with_views(&server, "shop");
    server.ask("CREATE FUNCTION twice AS (x) -> x * 2");
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let report =
            crate::clickhouse::back_up(&repository, &server.url(), Default::default()).await.expect("backs up");
        let snapshot = report.snapshot;
        let restored = restore(&repository, &snapshot, &other.url(), ClickHouseRestoreOptions::default()).await;
        let restored = restored.expect("restores");
        assert_eq!(restored.warnings, [""; 0]);
        let check = |query: &str, wanted: &str| assert_eq!(other.ask(query), wanted, "{query}");
        check("SELECT count() FROM shop.events", "3000");
        for table in ["totals", "b_inner", "a_chain"] {
            let column = if table == "events" { "count()" } else { "sum(n)" };
            check(&format!("SELECT {column} FROM shop.{table}"), "3000");
        }
        check("SELECT name FROM shop.a_view WHERE k IN (1, 5) ORDER BY k", "one\nnone");
        check("SELECT groupArray(name) FROM (SELECT name FROM shop.a_defaults ORDER BY id)", "['one','two']");
        check("SELECT count(), sum(a) FROM shop.plain", "3\t4");
        check("SELECT count() FROM shop.merged", "3000");
        check("SELECT twice(4)", "8");
        // They take what comes now.
        other.ask("INSERT INTO shop.events VALUES (1, 'new', 1)");
        for table in ["totals", "b_inner", "a_chain"] {
            check(&format!("SELECT sum(n) FROM shop.{table}"), "3001");
        }
    });
}

#[test]
fn another_database_looks_at_its_own_tables() {
    let server = ClickHouse::start();
    fill_with_views(&server, "shop");
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let options = dedump_engines::clickhouse::ClickHouseOptions::default();
        let report =
            crate::clickhouse::back_up(&repository, &server.database("shop"), options).await.expect("backs up");
        let url = server.database("copy");
        restore(&repository, &report.snapshot, &url, ClickHouseRestoreOptions::default()).await.expect("restores");
        server.run_all(&[
            "TRUNCATE TABLE copy.events",
            "ALTER TABLE copy.names UPDATE name = 'uno' WHERE id = 1 SETTINGS mutations_sync = 2",
        ]);
        server.ask("SYSTEM RELOAD DICTIONARY copy.z_dict");
        server.ask("INSERT INTO copy.events VALUES (1, 'new', 1)");
        let check = |query: &str, wanted: &str| assert_eq!(server.ask(query), wanted, "{query}");
        check("SELECT * FROM copy.a_view", "1\tuno");
        check("SELECT count() FROM copy.merged", "1");
        check("SELECT sum(n) FROM copy.totals", "3001");
        check("SELECT sum(n) FROM shop.totals", "3000");
        server.ask("INSERT INTO copy.buffer VALUES (2, 'buffered', 1)");
        server.ask("OPTIMIZE TABLE copy.buffer");
        check("SELECT count() FROM copy.events", "2");
        check("SELECT count() FROM shop.events", "3000");
        let left = "SELECT count() FROM system.tables WHERE database = 'copy' AND create_table_query LIKE '%shop%'";
        // The view's text is only a text.
        check(left, "1");
    });
}

#[test]
fn what_is_there_is_replaced_only_when_asked_and_then_kept_in_a_snapshot() {
    let server = ClickHouse::start();
    fill_with_views(&server, "shop");
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let url = server.database("shop");
        let report = crate::clickhouse::back_up(&repository, &url, Default::default()).await.expect("backs up");
        server.run_all(&["TRUNCATE TABLE shop.names", "INSERT INTO shop.events VALUES (7, 'later', 1)"]);
        let refused = restore(&repository, &report.snapshot, &url, ClickHouseRestoreOptions::default()).await;
        let message = refused.expect_err("something is there").to_string();
        assert!(message.contains("shop.") && message.contains("is there already and was left as it is"), "{message}");
        assert_eq!(server.ask("SELECT count() FROM shop.events"), "3001");

        let plan =
            ClickHouseRestore::new(&url, replace()).expect("options").plan(&repository, &report.snapshot, "").await;
        let plan = plan.expect("a plan");
        let table = plan.tables.iter().find(|table| table.to == "shop.events").expect("it is planned");
        assert_eq!((table.rows, table.rows_there, table.partitions_n), (Some(3000), Some(3001), 3));
        assert!(plan.safety_snapshot && table.replaces);

        let restored = restore(&repository, &report.snapshot, &url, replace()).await.expect("replaces");
        assert_eq!(restored.replaced_n, 5, "{restored:?}");
        let check = |query: &str, wanted: &str| assert_eq!(server.ask(query), wanted, "{query}");
        check("SELECT count() FROM shop.events", "3000");
        check("SELECT count() FROM shop.names", "2");
        for table in ["totals", "b_inner", "a_chain"] {
            check(&format!("SELECT sum(n) FROM shop.{table}"), "3000");
        }
        server.ask("INSERT INTO shop.events VALUES (8, 'new', 1)");
        check("SELECT sum(n) FROM shop.totals", "3001");
        check("SELECT count() FROM system.tables WHERE name LIKE '\\_\\_dedump%'", "0");

        // What was there is in the snapshot, held, and comes back from it.
        let id = restored.safety_snapshot.expect("it was made");
        let all = snapshots(&repository).await.expect("a list");
        let safety = all.iter().find(|snapshot| snapshot.id == id).expect("it is there");
        restore(&repository, safety, &url, replace()).await.expect("goes back");
        check("SELECT count() FROM shop.events", "3001");
        check("SELECT count() FROM shop.names", "0");
    });
}

#[test]
fn a_table_or_a_partition_alone_comes_back() {
    let server = ClickHouse::start();
    fill_with_views(&server, "shop");
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let url = server.database("shop");
        let report = crate::clickhouse::back_up(&repository, &url, Default::default()).await.expect("backs up");
        let snapshot = report.snapshot;
        server.ask("ALTER TABLE shop.events DELETE WHERE k % 3 = 1 SETTINGS mutations_sync = 2");
        server.ask("INSERT INTO shop.events VALUES (3, 'stays', 1)");
        let only = |partitions: &[&str], replace| ClickHouseRestoreOptions {
            tables: vec!["shop.events".to_owned()],
            partitions: partitions.iter().map(|id| (*id).to_owned()).collect(),
            replace,
            safety_snapshot: false,
            ..ClickHouseRestoreOptions::default()
        };
        restore(&repository, &snapshot, &url, only(&["1"], true)).await.expect("replaces a partition");
        let counts = "SELECT groupArray(c) FROM (SELECT count() AS c FROM shop.events GROUP BY k % 3 ORDER BY k % 3)";
        assert_eq!(server.ask(counts), "[1001,1000,1000]");
        let elsewhere = server.database("elsewhere");
        restore(&repository, &snapshot, &elsewhere, only(&["0", "2"], false)).await.expect("two partitions elsewhere");
        assert_eq!(server.ask("SELECT count(), min(k), max(k) FROM elsewhere.events"), "2000\t0\t2999");
        assert_eq!(server.ask("SHOW TABLES FROM elsewhere"), "events");
        let missing = restore(&repository, &snapshot, &elsewhere, only(&["9"], true)).await.expect_err("there is none");
        assert!(missing.to_string().contains("the backup lacks one of these partitions"), "{missing}");
    });
}
