//! Redis and Valkey: what a server has comes back, in the same bytes for the same data, and whatever goes wrong is one line.

use crate::kit::random::Random;
use crate::kit::redis::{Fake, Redis, Says, usual};
use crate::kit::servers::free_port;
use crate::kit::{create, get_back, run, snapshots};
use dedump_core::{BackupOptions, BackupReport, Repository, Result, Snapshot, Store, backup};
use dedump_engines::redis::{ClientOptions, Method, RedisEngine, RedisOptions, internals};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Fills a server with values of every type, in every encoding that it has.
pub(crate) fn fill_with_every_type(redis: &Redis) {
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

pub(crate) async fn back_up(repository: &Repository, url: &str, options: RedisOptions) -> Result<BackupReport> {
    let engine = RedisEngine::new(url, options)?;
    let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("redis", "host") };
    backup(repository, &engine, &options, &()).await
}

pub(crate) async fn good(repository: &Repository, redis: &Redis) -> Snapshot {
    let report = back_up(repository, &redis.url(), RedisOptions::default()).await.expect("backs up");
    assert_eq!(report.problems, [""; 0]);
    report.snapshot
}

/// Returns the RDB that a snapshot has.
pub(crate) async fn rdb(repository: &Repository, snapshot: &Snapshot) -> Vec<u8> {
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

pub(crate) const DEBUG: &str = "enable-debug-command yes";

/// Returns a server's functions, in an order that does not hang on its seed.
pub(crate) fn functions(redis: &Redis) -> Vec<String> {
    let mut lines: Vec<_> = redis.call("FUNCTION LIST WITHCODE").lines().map(str::to_owned).collect();
    lines.sort();
    assert!(lines.len() > 10, "{lines:?}");
    lines
}

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
        assert_eq!(functions(&again), functions(&redis));
        let facts = &snapshot.record.streams.iter().find(|stream| stream.name == "database.rdb").expect("there").facts;
        assert_eq!((facts["keys.0"].as_str(), facts["keys.3"].as_str(), facts["expires.0"].as_str()), ("22", "1", "2"));
        assert_eq!((facts["rdb.version"].as_str(), facts["rdb.flavour"].as_str()), ("10", "redis"));
    });
}

/// Fills a server with strings and hashes of about so many bytes, the values different in every round.
fn fill_with_bulk(redis: &Redis, numbers: impl Iterator<Item = u32>, round: u32) {
    let text = |number: u32| {
        let mut noise = blake3::Hasher::new().update(&[number, round].map(u32::to_le_bytes).concat()).finalize_xof();
        let mut below = |end: u64| {
            let mut bytes = [0; 8];
            noise.fill(&mut bytes);
            u64::from_le_bytes(bytes) % end
        };
        // Like what applications keep: half of it is words that repeat, half is not.
        let mut text = format!("{{\"id\":{number},\"name\":\"customer {}\",\"notes\":\"", below(1000));
        while text.len() < 480 {
            text.push_str(["lorem ", "ipsum ", "dolor ", "sit "][below(4) as usize]);
            text.push_str(&format!("{:x} ", below(1 << 60)));
        }
        text + "\"}"
    };
    let commands: Vec<(u32, String, String)> = numbers
        .map(|number| (number, format!("session:{:08x}", number.wrapping_mul(2_654_435_761)), text(number)))
        .collect();
    redis.client().run_all(commands.iter().map(|(number, key, value)| match number % 4 {
        0 => vec![&b"HSET"[..], key.as_bytes(), b"data", value.as_bytes(), b"kind", b"x"],
        _ => vec![&b"SET"[..], key.as_bytes(), value.as_bytes()],
    }));
}

#[test]
fn both_framings_give_the_same_and_so_does_a_restart() {
    let mut redis = Redis::start(&["repl-diskless-sync yes", "hash-max-listpack-entries 100"]);
    fill_with_every_type(&redis);
    fill_with_bulk(&redis, 0..20_000, 0);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let first = good(&repository, &redis).await;
        redis.call("CONFIG SET repl-diskless-sync no");
        let on_disk = good(&repository, &redis).await;
        let stored = rdb(&repository, &first).await;
        assert!(rdb(&repository, &on_disk).await == stored, "the framing shows");
        redis.call("SAVE");
        redis.start_again(&[]);
        let restarted = good(&repository, &redis).await;
        assert_ne!(first.record.facts["server.run_id"], restarted.record.facts["server.run_id"]);
        assert!(rdb(&repository, &restarted).await == stored, "the restart shows");
        let added = restarted.record.totals.bytes_added;
        assert!(added < 64 * 1024, "an unchanged server of {} bytes added {added}", stored.len());
    });
}

/// The figures of README: `DEDUMP_REDIS_KEYS=650000` makes an RDB of about 300 MB.
#[test]
fn one_per_cent_of_updates_adds_little() {
    let keys_n: u32 = std::env::var("DEDUMP_REDIS_KEYS").map_or(30_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(&[]);
    fill_with_bulk(&redis, 0..keys_n, 0);
    run(async {
        let repository = create(Store::local(folder.path()).expect("a store")).await.expect("creates");
        let first = good(&repository, &redis).await;
        fill_with_bulk(&redis, (0..keys_n).filter(|number| number % 100 == 42), 1);
        let begun = std::time::Instant::now();
        let second = good(&repository, &redis).await;
        let facts = |snapshot: &Snapshot| {
            snapshot.record.streams.iter().find(|one| one.name == "database.rdb").expect("there").facts.clone()
        };
        let rdb_bytes: u64 = facts(&second)["rdb.bytes"].parse().expect("a number");
        let (whole, added) = (first.record.totals.bytes_added, second.record.totals.bytes_added);
        eprintln!(
            "{keys_n} keys, RDB {rdb_bytes} bytes: first {whole} ({:.1} %), 1 % of the keys updated {added} ({:.2} %), in {:.1} s",
            100.0 * whole as f64 / rdb_bytes as f64,
            100.0 * added as f64 / rdb_bytes as f64,
            begun.elapsed().as_secs_f64()
        );
        assert_eq!(facts(&first)["keys.0"], keys_n.to_string());
        assert!(added * 100 <= rdb_bytes * 3, "1 % of updates added {added} of {rdb_bytes}");
    });
}

#[test]
fn the_exact_bytes_come_back_where_they_were_asked_for() {
    let redis = Redis::start(&[]);
    fill_with_every_type(&redis);
    let path = redis.folder().join("as-sent.rdb");
    assert!(redis.cli().arg("--rdb").arg(&path).output().expect("redis-cli runs").status.success());
    let sent = std::fs::read(path).expect("redis-cli has written it");
    let framings = [
        [format!("\n\n${}\r\n", sent.len()).as_bytes(), &sent].concat(),
        [format!("\n$EOF:{}\r\n", "m".repeat(40)).as_bytes(), &sent, "m".repeat(40).as_bytes()].concat(),
        // What was written meanwhile follows, and is nobody's.
        [format!("${}\r\n", sent.len()).as_bytes(), &sent, b"*1\r\n$4\r\nPING\r\n"].concat(),
    ];
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for framing in framings {
            let fake = Fake::with_rdb(framing);
            let options = RedisOptions { exact: true, ..RedisOptions::default() };
            let report = back_up(&repository, &fake.url(), options).await.expect("backs up");
            let streams = get_back(&repository, &report.snapshot).await.expect("comes back");
            assert!(streams["original.rdb"] == sent, "the bytes differ");
            assert_eq!(report.snapshot.record.facts["replication.offset"], "7");
        }
        let without = back_up(&repository, &redis.url(), RedisOptions::default()).await.expect("backs up");
        let names: Vec<_> = without.snapshot.record.streams.iter().map(|stream| stream.name.clone()).collect();
        assert_eq!(names, ["database.rdb", "configuration.json"]);
    });
}

/// Has somebody stop, however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_is_of_one_moment_while_writers_run() {
    let redis = Redis::start(&["rdb-key-save-delay 20"]);
    fill_with_bulk(&redis, 0..5_000, 0);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut client = redis.client();
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let text = number.to_string();
                client.run(&[b"MSET", b"a-first", text.as_bytes(), b"z-last", text.as_bytes()]);
                written.store(number, Ordering::Relaxed);
            }
        });
        run(async {
            let repository = create(Store::memory()).await.expect("creates");
            while written.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            let before = written.load(Ordering::Relaxed);
            let snapshot = good(&repository, &redis).await;
            let after = written.load(Ordering::Relaxed);
            assert!(after > before + 100, "nobody wrote meanwhile: {before}, {after}");
            let again = start_with(&rdb(&repository, &snapshot).await, &[]);
            let (first, last) = (again.call("GET a-first"), again.call("GET z-last"));
            assert_eq!(first, last);
            let moment: u64 = first.parse().expect("a number");
            assert!((before..=after).contains(&moment), "{before} {moment} {after}");
        });
    });
}

/// Backs a server up, which must fail, and leave nothing; returns the line.
async fn refused(url: &str, options: RedisOptions) -> String {
    let repository = create(Store::memory()).await.expect("creates");
    let error = back_up(&repository, url, options).await.expect_err("it can't be backed up").to_string();
    assert!(!error.contains('\n') && !error.contains("s3cret"), "{error:?}");
    assert_eq!(snapshots(&repository).await.expect("lists").len(), 0);
    error
}

#[track_caller]
pub(crate) fn assert_says(error: &str, words: &[&str]) {
    assert!(words.iter().all(|word| error.contains(word)), "{error}\nlacks one of {words:?}");
}

#[test]
fn who_may_not_is_told_what_is_missing() {
    let redis = Redis::start(&[
        "requirepass s3cret",
        "user reader on >pw ~* &* +@all -sync -psync",
        "user blind on >pw ~* +psync +sync +replconf",
        "user old on >pw ~* +sync +ping +info",
    ]);
    let at = |user: &str| redis.url().replace("redis://", &format!("redis://{user}@"));
    run(async {
        let none = RedisOptions::default;
        assert_says(&refused(&redis.url(), none()).await, &["wants a password", "REDISCLI_AUTH"]);
        assert_says(&refused(&at(":wrong-s3cret"), none()).await, &["does not take this", "password"]);
        assert_says(&refused(&at("reader"), none()).await, &["a password for the user reader is missing"]);
        assert_says(&refused(&at("reader:pw"), none()).await, &["+psync +sync", "SCAN", "no single moment"]);
        assert_says(&refused(&at("blind:pw"), none()).await, &["does not let this user", "info", "+info"]);
        let digest = RedisOptions { digest: true, ..none() };
        assert_says(&refused(&at(":s3cret"), digest).await, &["DEBUG DIGEST", "enable-debug-command"]);
        let old =
            back_up(&create(Store::memory()).await.expect("creates"), &at("old:pw"), none()).await.expect("backs up");
        assert_eq!(old.snapshot.record.facts["method"], "SYNC");
        assert_says(&format!("{old:?}"), &["does not tell the settings (+config|get) and the users (+acl|list)"]);
        let password = ClientOptions { password: Some("s3cret".to_owned()), ..ClientOptions::default() };
        let repository = create(Store::memory()).await.expect("creates");
        let options = RedisOptions { client: password, ..none() };
        let report = back_up(&repository, &redis.url(), options).await.expect("backs up");
        let shown = format!("{report:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        let streams = get_back(&repository, &report.snapshot).await.expect("comes back");
        let configuration = String::from_utf8_lossy(&streams["configuration.json"]).into_owned();
        assert!(configuration.contains("requirepass") && configuration.contains("user reader"), "{configuration}");
        assert!(!configuration.contains("s3cret"), "{configuration}");
    });
}

#[test]
fn what_is_no_server_with_data_is_one_clear_line() {
    let hub = Redis::start(&[]);
    let mut replica = Redis::start(&[&format!("replicaof 127.0.0.1 {}", free_port())]);
    let mut loading = Redis::start(&[]);
    fill_with_bulk(&loading, 0..2000, 0);
    loading.call("SAVE");
    run(async {
        let none = RedisOptions::default;
        let nobody = format!("redis://:s3cret@127.0.0.1:{}", free_port());
        assert_says(&refused(&nobody, none()).await, &["can't be reached", "is it up"]);
        assert_says(
            &refused("redis://:s3cret@no-such-host.invalid", none()).await,
            &["no-such-host.invalid", "can't be reached"],
        );
        let soon = || ClientOptions { timeout_secs: 1, ..ClientOptions::default() };
        let plain = refused(&hub.url().replace("redis:", "rediss:"), RedisOptions { client: soon(), ..none() }).await;
        assert_says(&plain, &["does not answer within 1 seconds", "a port for TLS?"]);
        assert_says(&refused(&replica.url(), none()).await, &["replica without its primary"]);
        replica.stop();
        let sentinel = Redis::start_sentinel(hub.port);
        assert_says(&refused(&sentinel.url(), none()).await, &["Sentinel", "get-master-addr-by-name"]);
        let web = Fake::start(|_| Says::Last(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
        assert_says(&refused(&web.url(), none()).await, &["answers what no Redis does", "HTTP/1.1"]);
        let silent = Fake::start(|command| if command.starts_with("PSYNC") { Says::Nothing } else { usual(command) });
        assert_says(
            &refused(&silent.url(), RedisOptions { client: soon(), ..none() }).await,
            &["silent for 1 seconds"],
        );
        loading.start_slowly(&["key-load-delay 5000", "loading-process-events-interval-bytes 1024"]);
        assert_says(&refused(&loading.url(), none()).await, &["still loading"]);
    });
}

#[test]
fn tls_and_sockets_lead_to_the_same_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let openssl = |arguments: &str| {
        let made = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output();
        assert!(made.expect("openssl is there").status.success(), "openssl {arguments}");
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca");
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=redis");
    std::fs::write(file("names"), "subjectAltName=IP:127.0.0.1\n").expect("writes");
    openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out own.pem -days 2 -extfile names");
    let port = free_port();
    let of = |name: &str| file(name).display().to_string();
    let settings = [
        format!("tls-port {port}"),
        format!("tls-cert-file {}", of("own.pem")),
        format!("tls-key-file {}", of("key.pem")),
        format!("tls-ca-cert-file {}", of("ca.pem")),
    ];
    let redis = Redis::start(&settings.each_ref().map(String::as_str));
    redis.call("SET a 1");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let url = format!("rediss://127.0.0.1:{port}");
        let client = ClientOptions { ca_file: Some(file("ca.pem")), ..ClientOptions::default() };
        let options = RedisOptions { client: client.clone(), ..RedisOptions::default() };
        assert_says(&refused(&url, options.clone()).await, &["the server wants a certificate of ours"]);
        let own = (Some(file("own.pem")), Some(file("key.pem")));
        let client = ClientOptions { certificate_file: own.0, key_file: own.1, ..client };
        let options = RedisOptions { client, ..options };
        let over_tls = back_up(&repository, &url, options).await.expect("backs up").snapshot;
        assert_says(&refused(&url, RedisOptions::default()).await, &["TLS failed", "certificate"]);
        let socket = format!("unix://{}", redis.socket().display());
        let by_socket = back_up(&repository, &socket, RedisOptions::default()).await.expect("backs up").snapshot;
        assert!(rdb(&repository, &over_tls).await == rdb(&repository, &by_socket).await);
    });
}

#[test]
fn a_stream_that_is_cut_off_or_changed_leaves_nothing() {
    let redis = Redis::start(&[]);
    fill_with_every_type(&redis);
    let path = redis.folder().join("as-sent.rdb");
    assert!(redis.cli().arg("--rdb").arg(&path).output().expect("redis-cli runs").status.success());
    let sent = std::fs::read(path).expect("redis-cli has written it");
    let mut changed = sent.clone();
    changed[sent.len() / 2] ^= 0x10;
    let long = |bytes: &[u8], length: usize| [format!("${length}\r\n").as_bytes(), bytes].concat();
    run(async {
        let of = |bytes: Vec<u8>| async move { refused(&Fake::with_rdb(bytes).url(), RedisOptions::default()).await };
        let cut = of(long(&sent[..sent.len() / 2], sent.len())).await;
        assert_says(&cut, &["ended the connection", &format!("of {} bytes", sent.len()), "client-output-buffer-limit"]);
        let changed = of(long(&changed, sent.len())).await;
        assert_says(&changed, &["the RDB is damaged", "nothing was stored"]);
        let more = of(long(&[&sent[..], b"more"].concat(), sent.len() + 4)).await;
        assert_says(&more, &["nothing was stored"]);
        let shorter = of(long(&sent[..sent.len() - 1], sent.len() - 1)).await;
        assert_says(&shorter, &["ends in the middle", "nothing was stored"]);
        assert_says(&of(b"-ERR no fork\r\n".to_vec()).await, &["ERR no fork"]);
        assert_says(&of(b"$12x\r\n".to_vec()).await, &["where its RDB should begin"]);
        let newer = [&sent[..9], &[0xfa, 1, b'a', 1, b'b', 99, 1, b'k']].concat();
        assert_says(&of(long(&newer, newer.len())).await, &["type 99", "newer dedump"]);
    });
}

#[test]
fn a_server_that_dies_while_it_sends_leaves_nothing() {
    let mut redis = Redis::start(&["rdb-key-save-delay 1000"]);
    fill_with_bulk(&redis, 0..20_000, 0);
    run(async {
        let url = redis.url();
        let backup = tokio::spawn(async move { refused(&url, RedisOptions::default()).await });
        let is_sending = || {
            redis.call("INFO replication").contains("state=send_bulk")
                || redis.call("INFO persistence").contains("rdb_bgsave_in_progress:1")
        };
        while !is_sending() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        redis.stop();
        assert_says(&backup.await.expect("no panic"), &["ended the connection", "nothing was stored"]);
    });
}

#[test]
fn where_nobody_may_be_a_replica_keys_are_read_one_by_one_if_that_is_allowed() {
    let redis = Redis::start(&[DEBUG, "user reader on >pw ~* &* +@all -sync -psync"]);
    fill_with_every_type(&redis);
    let url = redis.url().replace("redis://", "redis://reader:pw@");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let as_replica = rdb(&repository, &good(&repository, &redis).await).await;
        for method in [Method::Scan, Method::SyncOrScan] {
            let options = RedisOptions { method, ..RedisOptions::default() };
            let report = back_up(&repository, &url, options).await.expect("backs up");
            let record = &report.snapshot.record;
            assert_eq!(record.facts["method"], "SCAN");
            assert!(format!("{record:?}").contains("no single moment"), "{record:?}");
            let stored = rdb(&repository, &report.snapshot).await;
            assert!(stored == as_replica, "keys read one by one are other bytes");
            let again = start_with(&stored, &[DEBUG]);
            assert_eq!(again.call("DEBUG DIGEST"), redis.call("DEBUG DIGEST"));
        }
    });
}

#[test]
fn one_database_is_backed_up_where_the_url_names_it() {
    let redis = Redis::start(&[]);
    fill_with_every_type(&redis);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let url = format!("{}/3", redis.url());
        let report = back_up(&repository, &url, RedisOptions::default()).await.expect("backs up");
        let again = start_with(&rdb(&repository, &report.snapshot).await, &[]);
        assert_eq!((again.call("DBSIZE").as_str(), again.client_of(3).call("GET text").as_str()), ("0", "another"));
        let scan = RedisOptions { method: Method::Scan, ..RedisOptions::default() };
        let scanned = back_up(&repository, &url, scan).await.expect("backs up");
        assert_eq!(scanned.snapshot.record.facts["keys"], "1");
    });
}

#[test]
fn a_server_of_a_cluster_says_which_slots_it_has() {
    let redis = Redis::start(&["cluster-enabled yes"]);
    redis.call("CLUSTER ADDSLOTSRANGE 0 100 200 16383");
    while !redis.call("CLUSTER NODES").contains("200-16383") {
        std::thread::yield_now();
    }
    redis.call("CONFIG SET cluster-require-full-coverage no");
    while !redis.call("CLUSTER INFO").contains("cluster_state:ok") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    redis.call("SET bar 1");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        for method in [Method::Sync, Method::Scan] {
            let options = RedisOptions { method, ..RedisOptions::default() };
            let facts = back_up(&repository, &redis.url(), options).await.expect("backs up").snapshot.record.facts;
            let of = |name: &str| facts[name].as_str();
            assert_eq!((of("cluster.slots"), of("cluster.primaries"), of("keys")), ("0-100,200-16383", "1", "1"));
        }
    });
}

#[test]
fn valkey_and_its_own_types_are_backed_up_in_one_form() {
    let mut valkey = Redis::start_valkey(&["enable-debug-command yes"]);
    fill_with_every_type(&valkey);
    valkey.call("HPEXPIREAT small-hash 4102444800000 FIELDS 1 a");
    valkey.call("HPEXPIREAT big-hash 4102444800000 FIELDS 2 member-5 member-6");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let first = good(&repository, &valkey).await;
        let stored = rdb(&repository, &first).await;
        assert!(stored.starts_with(b"VALKEY080"));
        let digest = valkey.call("DEBUG DIGEST");
        std::fs::write(valkey.folder().join("dump.rdb"), &stored).expect("writes");
        valkey.start_again(&[]);
        assert_eq!(valkey.call("DEBUG DIGEST"), digest);
        assert_eq!(valkey.call("HPEXPIRETIME big-hash FIELDS 1 member-6"), "4102444800000");
        let second = good(&repository, &valkey).await;
        assert!(rdb(&repository, &second).await == stored, "the restart shows");
        assert_eq!(first.record.facts["server.flavour"], "valkey");
    });
}

#[test]
fn values_longer_than_memory_is_meant_to_hold_come_back() {
    let redis = Redis::start(&[DEBUG]);
    let mut client = redis.client();
    let mut random = Random::seeded(7);
    let long: Vec<u8> = random.bytes(3_000_000);
    client.run(&[b"SET", b"long", &long]);
    client.run(&[b"HSET", b"hash", &long[..600_000], &long[..900_000], b"short", b"x"]);
    client.run(&[b"SET", &long[..400_000], b"a long key"]);
    client.run(&[b"SET", &long[..400_001], b"a longer key"]);
    client.call("DEBUG POPULATE 60000 many 1000");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let again = start_with(&rdb(&repository, &snapshot).await, &[DEBUG]);
        assert_eq!(again.call("DEBUG DIGEST"), redis.call("DEBUG DIGEST"));
        let nowhere = RedisOptions { temporary_folder: Some("/no/such/folder".into()), ..RedisOptions::default() };
        assert_says(&refused(&redis.url(), nowhere).await, &["/no/such/folder", "name a folder with room"]);
    });
}

#[test]
fn what_keydb_adds_to_an_rdb_is_left_out_or_refused_and_never_lost() {
    let rdb = |field: &[u8]| {
        let expires = [&[0xfc][..], &4_102_444_800_000_u64.to_le_bytes()].concat();
        let aux = [&[0xfa, field.len() as u8], field, &[1, b'1']].concat();
        [b"REDIS0009\xfe\x00", &expires[..], &aux, b"\x00\x01k\x01v\xff", &[0; 8]].concat()
    };
    let folder = std::env::temp_dir();
    let kept = internals::canonical(&rdb(b"mvcc-tstamp"), &folder).expect("a remark");
    assert!(kept.ends_with(
        &[&4_102_444_800_000_u64.to_le_bytes()[..], b"\x00\x01k\x01v\xff", &kept[kept.len() - 8..]].concat()
    ));
    let why = internals::canonical(&rdb(b"keydb-subexpire-key"), &folder).expect_err("data");
    assert_says(&why, &["KeyDB", "its own tools"]);
}
