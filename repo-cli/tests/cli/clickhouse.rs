//! A server of ClickHouse backed up and put back by the command line.

use super::*;
use crate::kit::clickhouse::{ClickHouse, PASSWORD, USER};

fn fill(server: &ClickHouse) {
    server.run_all(&[
        "CREATE DATABASE shop",
        "CREATE TABLE shop.orders (id UInt32, item String) ENGINE = MergeTree PARTITION BY id % 2 ORDER BY id",
        "CREATE TABLE shop.totals (item String, n UInt64) ENGINE = SummingMergeTree ORDER BY item",
        "CREATE MATERIALIZED VIEW shop.counts TO shop.totals AS SELECT item, count() AS n FROM shop.orders GROUP BY item",
        "INSERT INTO shop.orders SELECT number, concat('i', toString(number % 3)) FROM numbers(300)",
    ]);
}

#[test]
fn tables_are_put_back_renamed_and_replaced() {
    let server = ClickHouse::start();
    fill(&server);
    let place = Place::new();
    let shop = server.database("shop");
    place.run(["backup", &shop, "conf=cmd:echo x", "--name", "nightly"]).expect_exit(0);

    let copy = server.database("copy");
    let planned = place.run(["restore", "latest", "--to", &copy, "--dry-run"]).expect_exit(0);
    assert!(planned.out.contains("shop.orders with 300 rows to copy.orders"), "{}", planned.out);
    assert_eq!(server.ask("SELECT count() FROM system.databases WHERE name = 'copy'"), "0");
    let restored = place.run(["restore", "latest", "--to", &copy]).expect_exit(0);
    assert!(restored.out.contains("restored  2 tables with 303 rows, counted"), "{}", restored.out);
    assert_eq!(server.ask("SELECT sum(n) FROM copy.totals"), "300");

    // What is there is not touched unless that is asked for, and then not unless somebody said yes.
    server.ask("INSERT INTO shop.orders VALUES (1000, 'new')");
    place.run(["restore", "latest", "--to", &shop]).expect_line(1, "is there already and was left as it is");
    place.run(["restore", "latest", "--to", &shop, "--replace"]).expect_line(2, "say --yes");
    assert_eq!(server.ask("SELECT count() FROM shop.orders"), "301");
    let words = ["restore", "latest", "--source", "nightly", "--to", &shop, "--replace", "--yes", "--json"];
    let report: serde_json::Value = serde_json::from_str(&place.run(words).expect_exit(0).out).expect("JSON");
    assert_eq!((&report["tables"], &report["replaced"], &report["rows"]), (&2.into(), &2.into(), &303.into()));
    assert_eq!(server.ask("SELECT count() FROM shop.orders"), "300");
    let id = report["safety_snapshot"].as_str().expect("it was made");
    place.run(["restore", id, "--to", &shop, "--replace", "--yes", "--table", "shop.orders"]).expect_exit(0);
    assert_eq!(server.ask("SELECT count() FROM shop.orders"), "301");

    // A partition of a table; flags of others.
    server.ask("ALTER TABLE shop.orders DELETE WHERE 1 SETTINGS mutations_sync = 2");
    let partition = ["--table", "shop.orders", "--partition", "1", "--source", "nightly"];
    let words =
        [&["restore", "latest", "--to", &shop, "--replace", "--yes", "--no-safety-snapshot"][..], &partition].concat();
    place.run(words).expect_exit(0);
    assert_eq!(server.ask("SELECT count(), min(id % 2) FROM shop.orders"), "150\t1");
    place.run(["restore", "latest", "--to", &shop, "--schema", "x"]).expect_line(2, "--schema is not for ClickHouse");
    place
        .run(["restore", "latest", "--to", "out", "--unreplicated"])
        .expect_line(2, "--unreplicated is for ClickHouse");
}

#[test]
fn a_password_comes_from_where_it_is_kept_and_is_never_shown() {
    let server = ClickHouse::start();
    fill(&server);
    let place = Place::new();
    let url = format!("clickhouse://{USER}@127.0.0.1:{}/shop", server.port);
    let file = place.write("password", format!("{PASSWORD}\n").as_bytes());
    place.run(["backup", &url]).expect_line(1, "does not take this user and password");
    place.run(["backup", &url, "--db-password-file", &file]).expect_exit(0);
    Ran::of(place.command(["backup", &url]).env("CLICKHOUSE_PASSWORD", PASSWORD)).expect_exit(0);
    let both = ["backup", &url, "postgres:///app", "--db-password-file", &file];
    place.run(both).expect_line(2, "one password for two kinds of databases?");
    let shown = place.run(["show", "latest", "--json"]).expect_exit(0);
    assert!(!shown.out.contains("s3cret") && !server.requests().contains("s3cret"));
    let wrong = url.replace(USER, "keeper:s3cret-wrong");
    let refused = place.run(["backup", &wrong]).expect_exit(1);
    assert!(!refused.err.contains("s3cret"), "{}", refused.err);
}
