//! ClickHouse: what a server has is dumped whole, each table at one moment, and whatever goes wrong is one line.

use crate::kit::clickhouse::ClickHouse;
use crate::kit::{create, get_back, run};
use dedump_core::{BackupOptions, BackupReport, Repository, Result, Snapshot, Store, backup};
use dedump_engines::clickhouse::{ClickHouseEngine, ClickHouseOptions};

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
