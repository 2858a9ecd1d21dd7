//! Redis and Valkey: what a server has comes back, in the same bytes for the same data, and whatever goes wrong is one line.

use crate::kit::redis::Redis;
use crate::kit::{create, get_back, run};
use dedump_core::{BackupOptions, BackupReport, Repository, Result, Snapshot, Store, backup};
use dedump_engines::redis::{RedisEngine, RedisOptions};

/// Fills a server with values of every type, in every encoding that it has.
fn fill_with_every_type(redis: &Redis) {
    let mut client = redis.client();
    for command in [
        "SET text hello",
        "SET number 12345",
        "SET long-number 123456789012345",
        "SET 77 a-key-that-is-a-number",
        "SETBIT bits 100 1",
        "PFADD loglog a b c",
        "RPUSH list a b c 1 2 3",
        "SADD numbers 1 2 3 70000",
        "SADD small-set a b c",
        "ZADD small-zset 1 a 2.5 b -inf c",
        "HSET small-hash a 1 b 2",
        "SET expires soon PXAT 4102444800000",
        "HSET expiring-hash a 1",
        "PEXPIREAT expiring-hash 4102444800000",
        "XADD stream 1-1 a 1",
        "XADD stream 2-1 b 2 c 3",
        "XADD stream 3-1 b 2 c 3",
        "XDEL stream 1-1",
        "XGROUP CREATE stream group 0",
        "XREADGROUP GROUP group reader COUNT 1 STREAMS stream >",
        "XGROUP CREATE stream empty-group $",
        "GEOADD places 13.361389 38.115556 Palermo",
        "SELECT 3",
        "SET text another",
        "SELECT 15",
        "SADD only-here x",
    ] {
        client.call(command);
    }
    client.call("SELECT 0");
    let big = |n: usize| "0123456789abcdef".repeat(n).into_bytes();
    client.run(&[b"SET", b"packed", &big(1000)]);
    client.run(&[b"SET", b"\xff\x00binary\r\n", b"\xfe\r\n\x00"]);
    let long_value = big(10);
    for number in 0..3000_u32 {
        let name = format!("member-{number}");
        client.run(&[b"SADD", b"big-set", name.as_bytes()]);
        client.run(&[b"HSET", b"big-hash", name.as_bytes(), &long_value]);
        client.run(&[b"ZADD", b"big-zset", number.to_string().as_bytes(), name.as_bytes()]);
        client.run(&[b"RPUSH", b"big-list", name.as_bytes(), &long_value]);
    }
    client.run(&[b"RPUSH", b"plain-nodes", &big(1000), b"small", &big(2000)]);
    client.run(&[b"FUNCTION", b"LOAD", b"#!lua name=lib\nredis.register_function('f', function() return 1 end)"]);
    client.run(&[b"FUNCTION", b"LOAD", b"#!lua name=other\nredis.register_function('g', function() return 2 end)"]);
}

async fn back_up(repository: &Repository, url: &str, options: RedisOptions) -> Result<BackupReport> {
    let engine = RedisEngine::new(url, options)?;
    let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("redis", "host") };
    backup(repository, &engine, &options, &()).await
}

async fn good(repository: &Repository, redis: &Redis) -> Snapshot {
    let report = back_up(repository, &redis.url(), RedisOptions::default()).await.expect("backs up");
    assert_eq!(report.problems, [""; 0]);
    report.snapshot
}

/// Returns the RDB that a snapshot has.
async fn rdb(repository: &Repository, snapshot: &Snapshot) -> Vec<u8> {
    get_back(repository, snapshot).await.expect("comes back").remove("database.rdb").expect("the stream")
}

/// Starts a server of the same kind that loads an RDB.
fn start_with(rdb: &[u8], settings: &[&str]) -> Redis {
    let mut redis = Redis::start(settings);
    redis.stop();
    std::fs::write(redis.folder().join("dump.rdb"), rdb).expect("writes");
    redis.start_again(&[]);
    redis
}

const DEBUG: &str = "enable-debug-command yes";

#[test]
fn every_type_comes_back_in_an_rdb_that_a_server_loads() {
    let redis = Redis::start(&[DEBUG]);
    fill_with_every_type(&redis);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let stored = rdb(&repository, &snapshot).await;
        let again = start_with(&stored, &[DEBUG]);
        assert_eq!(again.call("DEBUG DIGEST"), redis.call("DEBUG DIGEST"));
        assert_eq!(again.call("FUNCTION DUMP"), redis.call("FUNCTION DUMP"));
        let facts = &snapshot.record.streams.iter().find(|stream| stream.name == "database.rdb").expect("there").facts;
        assert_eq!((facts["keys.0"].as_str(), facts["keys.3"].as_str(), facts["expires.0"].as_str()), ("23", "1", "2"));
        assert_eq!((facts["rdb.version"].as_str(), facts["rdb.flavour"].as_str()), ("10", "redis"));
    });
}
