//! ClickHouse: what a server has is dumped whole, each table at one moment, and whatever goes wrong is one line.

use crate::kit::clickhouse::ClickHouse;
use crate::kit::{create, get_back, run};
use dedump_core::{BackupOptions, BackupReport, Repository, Result, Snapshot, Store, backup};
use dedump_engines::clickhouse::{ClickHouseEngine, ClickHouseOptions, ClickHouseRestore, ClickHouseRestoreOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) async fn back_up(repository: &Repository, url: &str, options: ClickHouseOptions) -> Result<BackupReport> {
    let engine = ClickHouseEngine::new(url, options)?;
    let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("clickhouse", "host") };
    backup(repository, &engine, &options, &()).await
}

pub(crate) async fn good(repository: &Repository, url: &str) -> Snapshot {
    let report = back_up(repository, url, ClickHouseOptions { access: false, ..ClickHouseOptions::default() }).await;
    let report = report.expect("backs up");
    assert_eq!(report.problems, [""; 0]);
    report.snapshot
}

/// Makes a database with every type that the engine of today has.
pub(crate) fn fill_with_every_type(server: &ClickHouse, database: &str) {
    let columns = "k UInt32, i8 Int8, u16 UInt16, i32 Int32, u64 UInt64, i128 Int128, u256 UInt256, f32 Float32, f64 Float64, \
                   bf BFloat16, b Bool, s String, fs FixedString(5), d Date, d32 Date32, dt DateTime('Europe/Berlin'), \
                   dt64 DateTime64(9, 'Asia/Tokyo'), u UUID, v4 IPv4, v6 IPv6, e8 Enum8('a, b\\'(' = -1, 'c' = 2), \
                   e16 Enum16('x' = 300), de32 Decimal(9, 2), de64 Decimal(18, 4), de128 Decimal(38, 10), de256 Decimal(76, 20), \
                   n Nullable(String), ni Nullable(Int64), lc LowCardinality(String), lcn LowCardinality(Nullable(String)), \
                   a Array(Int32), aa Array(Array(Nullable(String))), alc Array(LowCardinality(String)), \
                   m Map(String, Array(UInt8)), t Tuple(x Int8, `y z` Nullable(String)), ne Nested(p UInt8, q String), \
                   va Variant(String, UInt64, Array(Int8)), dy Dynamic, j JSON, jt JSON(a.b UInt32, max_dynamic_paths=2), \
                   pt Point, po Polygon, iv IntervalDay, saf SimpleAggregateFunction(sum, UInt64), `we``ird \"\\n'name` String, \
                   ti Time, ti64 Time64(3), mat String MATERIALIZED toString(k), al String ALIAS concat(s, '!')";
    server.ask(&format!("CREATE DATABASE {database}"));
    server.ask(&format!(
        "CREATE TABLE {database}.`ev``ery` ({columns}) ENGINE = MergeTree PARTITION BY k % 2 ORDER BY k \
         SETTINGS enable_time_time64_type = 1"
    ));
    let values = "number, -number, number, -number, number * 1000000007, -number * 3, number * number, number / 3, if(number = 7, nan, -number / 7), \
                  number / 2, number % 2, multiIf(number = 0, '', number = 1, 'quote '' and\\nnewline\\0', repeat('x', number % 300)), \
                  leftPad(toString(number % 1000), 5, '0'), toDate('2020-01-01') + number % 1000, toDate32('1900-01-01') + number % 1000, 1600000000 + number, \
                  toDateTime64('2020-01-01 00:00:00', 9, 'Asia/Tokyo') + number / 7, toUUID(concat('00000000-0000-0000-0000-', leftPad(toString(number), 12, '0'))), \
                  toIPv4(concat('10.0.0.', toString(number % 250))), toIPv6('::1'), if(number % 2 = 0, 'c', 'a, b\\'('), 'x', number / 8, number / 16, number / 32, number / 64, \
                  if(number % 3 = 0, NULL, toString(number)), if(number % 3 = 1, NULL, number), concat('w', toString(number % 5)), if(number % 4 = 0, NULL, 'z'), \
                  range(number % 4), [[toString(number), NULL], []], arrayMap(x -> concat('l', toString(x)), range(number % 3)), \
                  map('a', [number % 7], 'b', []), (number % 100, if(number % 2 = 0, NULL, 'y')), [number % 9], [toString(number)], \
                  multiIf(number % 3 = 0, 'text'::Variant(String, UInt64, Array(Int8)), number % 3 = 1, number::UInt64::Variant(String, UInt64, Array(Int8)), NULL), \
                  multiIf(number % 3 = 0, number::Dynamic, number % 3 = 1, [1, 2]::Array(UInt8)::Dynamic, NULL), \
                  concat('{\"a\":', toString(number), ',\"b\":{\"c\":[1,\"x\"]}', if(number % 2 = 0, ',\"d\":\"2020-01-01\"', ''), '}'), \
                  concat('{\"a\":{\"b\":', toString(number), '},\"x\":1,\"y\":\"s\",\"z\":[{\"q\":1}]}'), \
                  (number, -number), [[(0, 0), (number, 0), (0, 1)]], toIntervalDay(number), number, 'odd', toTime('12:34:56'), toTime64('01:02:03.456', 3)";
    server.ask(&format!(
        "INSERT INTO {database}.`ev``ery` SELECT {values} FROM numbers(3000) SETTINGS enable_time_time64_type = 1"
    ));
}

#[test]
fn every_type_is_dumped_in_whole_blocks_and_in_the_same_bytes_again() {
    let server = ClickHouse::start();
    fill_with_every_type(&server, "d1");
    server.run_all(&[
        "CREATE TABLE d1.states (k UInt32, u AggregateFunction(uniq, UInt64)) ENGINE = AggregatingMergeTree ORDER BY k",
        "INSERT INTO d1.states SELECT number % 10, uniqState(number) FROM numbers(1000) GROUP BY number % 10",
        "CREATE TABLE d1.log (a Int32, b Nullable(String)) ENGINE = Log",
        "INSERT INTO d1.log SELECT number, if(number % 2 = 0, NULL, 'b') FROM numbers(100)",
        "CREATE TABLE d1.empty (a Int32) ENGINE = MergeTree ORDER BY a",
    ]);
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let snapshot = good(&repository, &server.database("d1")).await;
        let names: Vec<_> = snapshot.record.streams.iter().map(|stream| stream.name.as_str()).collect();
        let folder = "data/d1/ev%60ery";
        assert_eq!(
            names,
            [
                "schema.jsonl",
                "data/d1/ev%60ery/0/rows.native",
                "data/d1/ev%60ery/1/rows.native",
                "data/d1/log/whole/rows.native",
                "data/d1/states/all/rows.native",
            ]
        );
        let rows = |name: &str| {
            let stream = snapshot.record.streams.iter().find(|stream| stream.name == name).expect("a stream");
            stream.facts["rows"].clone()
        };
        assert_eq!(rows(&format!("{folder}/0/rows.native")), "1500");
        assert_eq!(rows("data/d1/log/whole/rows.native"), "100");
        assert_eq!(rows("data/d1/states/all/rows.native"), "10");
        let first = get_back(&repository, &snapshot).await.expect("comes back");

        // Into another repository, so that nothing is taken over.
        server.ask("OPTIMIZE TABLE d1.`ev``ery` FINAL");
        let repository = create(Store::memory()).await.expect("a repository");
        let again = good(&repository, &server.database("d1")).await;
        assert!(get_back(&repository, &again).await.expect("comes back") == first);
    });
}

#[test]
fn what_did_not_change_is_not_read_and_what_was_merged_adds_next_to_nothing() {
    let server = ClickHouse::start();
    server.run_all(&[
        "CREATE DATABASE d1",
        "CREATE TABLE d1.t (k UInt64, s String, v Float64) ENGINE = MergeTree PARTITION BY k % 4 ORDER BY k",
    ]);
    // Many parts, each with keys from everywhere.
    for seed in 0..8 {
        server.ask(&format!(
            "INSERT INTO d1.t SELECT cityHash64(number, {seed}), hex(cityHash64(number, {seed}, 1)), number / 7 FROM numbers(20000)"
        ));
    }
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let url = server.database("d1");
        let back_up = async || {
            let report = back_up(&repository, &url, ClickHouseOptions::default()).await.expect("backs up");
            assert_eq!(report.problems, [""; 0]);
            let fact = |name: &str| report.snapshot.record.facts[name].clone();
            let counts = (fact("streams.read"), fact("streams.reused"), fact("rows"));
            (counts, report.snapshot.record.totals.bytes_added)
        };
        let (first, bytes) = back_up().await;
        assert_eq!(first, ("4".to_owned(), "0".to_owned(), "160000".to_owned()));
        assert!(bytes > 1_000_000, "{bytes}");
        let (again, _) = back_up().await;
        assert_eq!(again, ("0".to_owned(), "4".to_owned(), "160000".to_owned()));

        server.ask("OPTIMIZE TABLE d1.t FINAL");
        let (merged, added) = back_up().await;
        assert_eq!(merged.0, "4", "every part is new");
        assert!(added < 64 << 10, "{added} bytes are new after a merge that changed nothing");

        // Neither parts nor rows tell of a new column.
        server.ask("ALTER TABLE d1.t ADD COLUMN n UInt8 DEFAULT 7");
        assert_eq!(back_up().await.0.0, "4");
        server.ask("DELETE FROM d1.t WHERE k % 4 = 1 AND v < 100");
        let (deleted, _) = back_up().await;
        assert_eq!((deleted.0.as_str(), deleted.2.parse::<u64>().expect("a number")), ("1", rows_of(&server, "d1.t")));
    });
}

fn rows_of(server: &ClickHouse, table: &str) -> u64 {
    server.ask(&format!("SELECT count() FROM {table}")).parse().expect("a number")
}

#[test]
fn rows_that_were_updated_lightly_are_read_again() {
    let server = ClickHouse::start();
    server.run_all(&[
        "CREATE DATABASE d1",
        "CREATE TABLE d1.t (k UInt64, v UInt8) ENGINE = MergeTree PARTITION BY k % 2 ORDER BY k \
         SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1",
        "INSERT INTO d1.t SELECT number, 1 FROM numbers(100)",
    ]);
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let first = good(&repository, &server.database("d1")).await;
        server.ask("UPDATE d1.t SET v = 2 WHERE k = 50 SETTINGS allow_experimental_lightweight_update = 1, enable_lightweight_update = 1");
        assert_eq!(server.ask("SELECT sum(v) FROM d1.t"), "101");
        let second = good(&repository, &server.database("d1")).await;
        assert_eq!(second.record.facts["streams.read"], "1");
        let bytes = |streams: &crate::kit::dumps::Streams| streams["data/d1/t/0/rows.native"].clone();
        let first = get_back(&repository, &first).await.expect("comes back");
        assert!(bytes(&get_back(&repository, &second).await.expect("comes back")) != bytes(&first));
    });
}

/// Inserts numbers one after another, each into the next of three partitions, until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Writer {
    fn start(server: &Arc<ClickHouse>) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (server, is_over) = (Arc::clone(server), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                server.ask(&format!("INSERT INTO d1.t SELECT {number}, 'xxxxxxxxxxxxxxxxxxxx'"));
                number += 1;
            }
            number
        });
        Writer { stop, thread: Some(thread) }
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it was started").join().expect("it wrote")
    }
}

fn writers_see_one_moment(server: ClickHouse) {
    let server = Arc::new(server);
    server.run_all(&[
        "CREATE DATABASE d1",
        "CREATE TABLE d1.t (n UInt64, s String) ENGINE = MergeTree PARTITION BY n % 3 ORDER BY n",
        "CREATE TABLE d1.got (n UInt64, s String) ENGINE = MergeTree PARTITION BY n % 3 ORDER BY n",
    ]);
    let writer = Writer::start(&server);
    let counts = run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let mut counts = Vec::new();
        while counts.len() < 4 {
            // Not so soon that there is nothing to see.
            while rows_of(&server, "d1.t") < 30 * (counts.len() as u64 + 1) {
                assert!(!writer.has_ended(), "the writer has failed");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let snapshot = good(&repository, &server.database("d1")).await;
            let options =
                ClickHouseRestoreOptions { tables: vec!["d1.t".to_owned()], ..ClickHouseRestoreOptions::default() };
            let to = server.database(&format!("got{}", counts.len()));
            let restore = ClickHouseRestore::new(&to, options).expect("options");
            restore.run(&repository, &snapshot, "", &()).await.expect("restores");
            counts.push(server.ask(&format!("SELECT count(), max(n) + 1 FROM got{}.t", counts.len())));
        }
        counts
    });
    assert!(writer.stop() > 100);
    for count in counts {
        let (rows, next) = count.split_once('\t').expect("two numbers");
        assert_eq!(rows, next, "numbers that were written before others are missing");
        assert_ne!(rows, "0");
    }
}

#[test]
fn a_table_is_of_one_moment_while_it_is_written_to() {
    writers_see_one_moment(ClickHouse::start());
}

#[test]
fn a_table_of_the_old_server_is_of_one_moment_while_it_is_written_to() {
    writers_see_one_moment(ClickHouse::start_debian());
}

#[test]
fn the_old_server_is_dumped_and_put_back_into_itself_and_into_the_engine_of_today() {
    let (old, new) = (ClickHouse::start_debian(), ClickHouse::start());
    old.run_all(&[
        "CREATE DATABASE `o ld`",
        "CREATE TABLE `o ld`.t (k UInt32, s Nullable(String), e Enum8('a b' = 1), f FixedString(3), a Array(Array(String)), \
         d Decimal(18, 3), at DateTime, u UUID, n Nested(a Int8, b String), p Tuple(Int8, String), m String MATERIALIZED toString(k)) \
         ENGINE = ReplacingMergeTree PARTITION BY k % 2 ORDER BY (k, e)",
        "INSERT INTO `o ld`.t (k, s, e, f, a, d, at, u, `n.a`, `n.b`, p) SELECT number, if(number % 3 = 0, NULL, toString(number)), 'a b', \
         'xyz', [['a'], []], number / 8, toDateTime(1600000000 + number), toUUID('00000000-0000-0000-0000-000000000007'), [1, 2], ['x', 'y'], (1, 'z') \
         FROM numbers(1000)",
        "CREATE TABLE `o ld`.l (a Int32, b String) ENGINE = TinyLog",
        "INSERT INTO `o ld`.l VALUES (1, 'quote \\'n\\n'), (2, '')",
        "CREATE MATERIALIZED VIEW `o ld`.mv ENGINE = SummingMergeTree ORDER BY e POPULATE AS SELECT e, count() AS n FROM `o ld`.t GROUP BY e",
        "CREATE VIEW `o ld`.v AS SELECT k FROM `o ld`.t",
    ]);
    run(async {
        let repository = create(Store::memory()).await.expect("a repository");
        let snapshot = good(&repository, &old.database("o%20ld")).await;
        assert_eq!(snapshot.record.facts["server.version"], "18.16.1");
        let again = good(&repository, &old.database("o%20ld")).await;
        // All but the table without parts.
        assert_eq!(again.record.facts["streams.reused"], "3");
        for (server, database) in [(&old, "copy"), (&new, "o%20ld")] {
            let restore = ClickHouseRestore::new(&server.database(database), ClickHouseRestoreOptions::default());
            restore.expect("options").run(&repository, &snapshot, "", &()).await.expect("restores");
            let name = if database == "copy" { "copy" } else { "`o ld`" };
            let check =
                |query: &str, wanted: &str| assert_eq!(server.ask(&query.replace('@', name)), wanted, "{query}");
            check(
                "SELECT count(), sum(k), countIf(isNull(s)), sum(d) > 62437, any(`n.b`), any(m) != '' FROM @.t",
                "1000\t499500\t334\t1\t['x','y']\t1",
            );
            check("SELECT b FROM @.l WHERE a = 1 FORMAT TabSeparatedRaw", "quote 'n");
            check("SELECT sum(n) FROM @.mv", "1000");
            check("SELECT count() FROM @.v", "1000");
        }
        let options = ClickHouseRestoreOptions { replace: true, ..ClickHouseRestoreOptions::default() };
        old.run_all(&["INSERT INTO copy.l VALUES (9, '')", "INSERT INTO copy.t (k, e) VALUES (5, 'a b')"]);
        let restore = ClickHouseRestore::new(&old.database("copy"), options).expect("options");
        let restored = restore.run(&repository, &snapshot, "", &()).await.expect("replaces without EXCHANGE");
        assert_eq!((restored.replaced_n, restored.safety_snapshot.is_some()), (2, true));
        assert_eq!((rows_of(&old, "copy.l"), rows_of(&old, "copy.t")), (2, 1000));
        assert_eq!(old.ask("SELECT sum(n) FROM copy.mv"), "1000");
    });
}
