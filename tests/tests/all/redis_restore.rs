//! Redis and Valkey, put back: into servers and as files, whole and in part, and never half without a word.

use crate::kit::redis::Redis;
use crate::kit::{create, get_back, run, snapshots};
use crate::redis::{DEBUG, assert_says, back_up, fill_with_every_type, functions, good, rdb};
use dedump_core::{Existing, Repository, Result, Snapshot, Store, list_holds};
use dedump_engines::redis::{
    OnConflict, Place, RedisFileOptions, RedisOptions, RedisRestore, RedisRestoreOptions, RedisRestored, restore_file,
};
use std::time::Duration;

/// What `fill_with_every_type` makes, in three databases.
const KEYS_N: u64 = 24;

async fn put_back(
    repository: &Repository,
    snapshot: &Snapshot,
    redis: &Redis,
    options: RedisRestoreOptions,
) -> Result<RedisRestored> {
    RedisRestore::new(&redis.url(), options)?.run(repository, snapshot, "", &()).await
}

async fn refused(repository: &Repository, snapshot: &Snapshot, redis: &Redis, options: RedisRestoreOptions) -> String {
    let error = put_back(repository, snapshot, redis, options).await.expect_err("it can't be put back").to_string();
    assert!(!error.contains('\n'), "{error:?}");
    error
}

fn into(place: Place) -> RedisRestoreOptions {
    RedisRestoreOptions { place, ..RedisRestoreOptions::default() }
}

/// Backs a server up with its digest.
async fn with_digest(repository: &Repository, redis: &Redis) -> Snapshot {
    let options = RedisOptions { digest: true, ..RedisOptions::default() };
    back_up(repository, &redis.url(), options).await.expect("backs up").snapshot
}

#[test]
fn everything_comes_back_in_an_empty_server_at_once() {
    let redis = Redis::start(&[DEBUG]);
    fill_with_every_type(&redis);
    let target = Redis::start(&[DEBUG]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = with_digest(&repository, &redis).await;
        let options = RedisRestoreOptions { verify_first: true, ..into(Place::Empty) };
        let restore = RedisRestore::new(&target.url(), options).expect("good options");
        let plan = restore.plan(&repository, &snapshot, "").await.expect("plans");
        assert_eq!((plan.swaps, plan.safety_snapshot, plan.databases.len()), (true, false, 3));
        assert_eq!(target.call("INFO keyspace").trim(), "# Keyspace", "a plan changes nothing");
        let restored = restore.run(&repository, &snapshot, "", &()).await.expect("restores");
        assert_eq!((restored.keys_n, restored.expired_n, restored.functions_n), (KEYS_N, 0, 2));
        assert!(restored.swapped && restored.digest_compared && restored.safety_snapshot.is_none());
        assert_says(&restored.warnings.join("\n"), &["no append-only file"]);
        assert_eq!(target.call("DEBUG DIGEST"), redis.call("DEBUG DIGEST"));
        assert_eq!(functions(&target), functions(&redis));
        assert_eq!(target.call("PEXPIRETIME expires"), "4102444800000");
        assert_eq!(target.call("XPENDING stream group"), redis.call("XPENDING stream group"));
        // And what was put back is what was there: the same bytes again.
        let again = good(&repository, &target).await;
        assert!(rdb(&repository, &again).await == rdb(&repository, &snapshot).await);
    });
}

#[test]
fn what_is_there_is_replaced_only_on_demand_at_once_and_not_lost() {
    let redis = Redis::start(&[]);
    fill_with_every_type(&redis);
    let target = Redis::start(&[]);
    for command in ["SET old 1", "SET text old", "SET third 1"] {
        target.call(command);
    }
    target.client_of(7).call("SET other 1");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let why = refused(&repository, &snapshot, &target, into(Place::Empty)).await;
        assert_says(&why, &["its database 0 has 3 keys", "left as it is"]);
        assert_eq!((target.call("GET text").as_str(), target.call("DBSIZE").as_str()), ("old", "3"));
        let restored = put_back(&repository, &snapshot, &target, into(Place::Replace)).await.expect("restores");
        assert!(restored.swapped);
        assert_says(&restored.warnings.join("\n"), &["database 7 has 1 keys", "stays as it is"]);
        assert_eq!((target.call("EXISTS old"), target.call("GET text")), ("0".to_owned(), "hello".to_owned()));
        assert_eq!(target.call("DBSIZE"), redis.call("DBSIZE"));
        assert_eq!(target.client_of(7).call("GET other"), "1");
        let keyspace = target.call("INFO keyspace");
        let databases: Vec<_> =
            keyspace.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        assert_eq!(databases, ["db0", "db3", "db7", "db15"], "nothing is left of what was filled aside");
        let safety = restored.safety_snapshot.expect("a safety snapshot");
        assert_eq!(list_holds(&repository).await.expect("lists").len(), 1);
        let all = snapshots(&repository).await.expect("lists");
        let safety = all.iter().find(|one| one.id == safety).expect("it is there");
        let back = put_back(&repository, safety, &target, into(Place::Replace)).await.expect("restores");
        assert_eq!((back.keys_n, target.call("GET text").as_str()), (4, "old"));
    });
}

#[test]
fn some_keys_go_into_another_database_beside_those_that_are_there() {
    let redis = Redis::start(&[]);
    fill_with_every_type(&redis);
    let target = Redis::start(&[]);
    target.client_of(5).call("SET small-set mine");
    let merge = |on_conflict| RedisRestoreOptions {
        key_prefixes: vec![b"small-".to_vec(), b"77".to_vec()],
        from_database: Some(0),
        to_database: Some(5),
        ..into(Place::Merge(on_conflict))
    };
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let why = refused(&repository, &snapshot, &target, merge(OnConflict::Fail)).await;
        assert_says(&why, &["1 of the keys are there already", "nothing was changed"]);
        assert_eq!(target.client_of(5).call("DBSIZE"), "1");
        let skipped = put_back(&repository, &snapshot, &target, merge(OnConflict::Skip)).await.expect("restores");
        assert_eq!((skipped.keys_n, skipped.skipped_n, skipped.functions_n), (3, 1, 0));
        assert_eq!(target.client_of(5).call("GET small-set"), "mine");
        assert_eq!(target.client_of(5).call("GET 77"), "a-key-that-is-a-number");
        let replaced = put_back(&repository, &snapshot, &target, merge(OnConflict::Replace)).await.expect("restores");
        assert_eq!((replaced.keys_n, replaced.skipped_n), (4, 0));
        assert_eq!(target.client_of(5).call("SCARD small-set"), "3");
        assert_eq!((target.client_of(5).call("DBSIZE").as_str(), target.call("DBSIZE").as_str()), ("4", "0"));
        let everything = RedisRestoreOptions { to_database: Some(1), ..into(Place::Empty) };
        assert_says(&refused(&repository, &snapshot, &target, everything).await, &["databases 0, 3, 15", "which one"]);
        let none = RedisRestoreOptions { from_database: Some(9), ..into(Place::Empty) };
        assert_says(&refused(&repository, &snapshot, &target, none).await, &["no keys of database 9"]);
        let beyond = RedisRestoreOptions { from_database: Some(3), to_database: Some(99), ..into(Place::Empty) };
        assert_says(&refused(&repository, &snapshot, &target, beyond).await, &["no database 99"]);
    });
}

#[test]
fn servers_that_would_lose_or_refuse_it_are_refused_first() {
    let redis = Redis::start(&[]);
    redis.call("SET a 1");
    let valkey = Redis::start_valkey(&[]);
    valkey.call("SET a 1");
    let replica = Redis::start(&[&format!("replicaof 127.0.0.1 {}", redis.port)]);
    let cluster = Redis::start(&["cluster-enabled yes"]);
    let empty = Redis::start(&[]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let old = good(&repository, &redis).await;
        let new = good(&repository, &valkey).await;
        let why = refused(&repository, &new, &empty, into(Place::Empty)).await;
        assert_says(&why, &["redis 7.0", "reads RDB version 10", "of valkey and has version 80"]);
        assert_says(
            &refused(&repository, &old, &replica, into(Place::Replace)).await,
            &["replica", "restore to the primary"],
        );
        assert_says(&refused(&repository, &old, &cluster, into(Place::Empty)).await, &["part of a cluster", "file"]);
        assert_eq!(empty.call("DBSIZE"), "0");
        let valkey = Redis::start_valkey(&[]);
        let restored = put_back(&repository, &old, &valkey, into(Place::Empty)).await.expect("older is no reason");
        assert_eq!((restored.keys_n, valkey.call("GET a").as_str()), (1, "1"));
    });
}

#[test]
fn a_restore_that_fails_leaves_the_server_as_it_was() {
    let redis = Redis::start(&[]);
    fill_with_every_type(&redis);
    redis.client().run(&[b"SET", b"zzz-last", &vec![b'x'; 1_000_000]]);
    let small = Redis::start(&["maxmemory 3mb", "maxmemory-policy noeviction"]);
    let evicting = Redis::start(&["maxmemory 2mb", "maxmemory-policy allkeys-lru"]);
    let with_functions = Redis::start(&[]);
    with_functions.client().run(&[
        b"FUNCTION",
        b"LOAD",
        b"#!lua name=lib\nredis.register_function('h', function() return 3 end)",
    ]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let why = refused(&repository, &snapshot, &with_functions, into(Place::Empty)).await;
        assert_says(&why, &["does not take the functions", "already exists", "its databases are as they were"]);
        assert_eq!(with_functions.call("INFO keyspace").lines().count(), 1, "nothing is left");
        small.call("SET mine 1");
        let why = refused(&repository, &snapshot, &small, into(Place::Replace)).await;
        assert_says(&why, &["OOM", "raise maxmemory", "its databases are as they were"]);
        let why = refused(&repository, &snapshot, &evicting, into(Place::Replace)).await;
        assert_says(&why, &["it drops keys when its memory is full", "raise maxmemory"]);
        assert_eq!(evicting.call("DBSIZE"), "0");
        assert_eq!((small.call("GET mine").as_str(), small.call("DBSIZE").as_str()), ("1", "1"));
        assert_eq!(small.call("INFO keyspace").lines().count(), 2, "nothing is left");
    });
}

#[test]
fn keys_that_a_full_server_drops_are_noticed() {
    let redis = Redis::start(&[DEBUG]);
    redis.call("DEBUG POPULATE 40000 key 20");
    // Enough for the bytes, not for what the server makes of them.
    let target = Redis::start(&["maxmemory 4mb", "maxmemory-policy allkeys-random"]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let why = refused(&repository, &snapshot, &target, into(Place::Empty)).await;
        assert_says(&why, &["it has dropped", "for lack of memory", "may have been there before"]);
        assert_eq!(target.call("DBSIZE"), "0");
    });
}

#[test]
fn a_damaged_repository_is_noticed_before_anything_appears() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::start(&[]);
    fill_with_every_type(&redis);
    let target = Redis::start(&[]);
    target.call("SET mine 1");
    run(async {
        let repository = create(Store::local(folder.path()).expect("a store")).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let mut files = Vec::new();
        list_files(folder.path(), &mut files);
        let largest = files.into_iter().max_by_key(|path| path.metadata().expect("a file").len()).expect("a pack");
        let mut bytes = std::fs::read(&largest).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::set_permissions(&largest, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
        std::fs::write(&largest, bytes).expect("writes");
        for verify_first in [true, false] {
            let options = RedisRestoreOptions { verify_first, ..into(Place::Replace) };
            let why = refused(&repository, &snapshot, &target, options).await;
            assert_says(&why, &["damaged"]);
            assert_eq!((target.call("GET mine").as_str(), target.call("DBSIZE").as_str()), ("1", "1"));
            assert_eq!(target.call("INFO keyspace").lines().count(), 2, "nothing is left");
        }
        assert_eq!(
            snapshots(&repository).await.expect("lists").len(),
            2,
            "a safety snapshot comes after what was verified first"
        );
    });
}

fn list_files(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { list_files(&path, files) } else { files.push(path) }
    }
}

#[test]
fn valkey_takes_back_what_only_valkey_has() {
    let valkey = Redis::start_valkey(&[DEBUG]);
    fill_with_every_type(&valkey);
    valkey.call("HPEXPIREAT small-hash 4102444800000 FIELDS 1 a");
    let target = Redis::start_valkey(&[DEBUG]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = with_digest(&repository, &valkey).await;
        let restored = put_back(&repository, &snapshot, &target, into(Place::Empty)).await.expect("restores");
        assert!(restored.swapped && restored.digest_compared && restored.keys_n == KEYS_N);
        assert_eq!(target.call("HPEXPIRETIME small-hash FIELDS 1 a"), "4102444800000");
        let again = good(&repository, &target).await;
        assert!(rdb(&repository, &again).await == rdb(&repository, &snapshot).await);
    });
}

#[test]
fn what_a_killed_restore_left_is_emptied_by_the_next_and_not_while_it_works() {
    let redis = Redis::start(&[]);
    redis.call("SET a 1");
    let target = Redis::start(&[]);
    let mut left = target.client_of(15);
    left.call("SET dedump:restoring x");
    left.call("SET dedump:restoring:alive 1");
    left.call("SET half 1");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let why = refused(&repository, &snapshot, &target, into(Place::Empty)).await;
        assert_says(&why, &["another restore fills its database 15"]);
        left.call("DEL dedump:restoring:alive");
        let restored = put_back(&repository, &snapshot, &target, into(Place::Empty)).await.expect("restores");
        assert_says(&restored.warnings.join("\n"), &["database 15", "unfinished, was emptied"]);
        assert_eq!((target.call("GET a").as_str(), left.call("DBSIZE").as_str()), ("1", "0"));
    });
}

#[test]
fn a_server_without_a_free_database_is_filled_in_place_and_that_is_said() {
    let redis = Redis::start(&[]);
    redis.call("SET a 1");
    let target = Redis::start(&["databases 1"]);
    target.call("SET old 1");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let restored = put_back(&repository, &snapshot, &target, into(Place::Replace)).await.expect("restores");
        assert!(!restored.swapped && restored.safety_snapshot.is_some());
        assert_says(&restored.warnings.join("\n"), &["no free database", "before all keys are back"]);
        assert_eq!((target.call("GET a").as_str(), target.call("DBSIZE").as_str()), ("1", "1"));
    });
}

#[test]
fn keys_whose_time_has_come_are_left_out_and_counted() {
    let redis = Redis::start(&[]);
    redis.call("SET stays 1");
    redis.call("SET goes 1 PX 700");
    let target = Redis::start(&[]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        while redis.call("EXISTS goes") == "1" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let restored = put_back(&repository, &snapshot, &target, into(Place::Empty)).await.expect("restores");
        assert_eq!((restored.keys_n, restored.expired_n, target.call("DBSIZE").as_str()), (1, 1, "1"));
    });
}

#[test]
fn users_come_back_but_for_the_one_who_restores() {
    let redis = Redis::start(&["user app on >s3cret ~app:* &* -@all +get (~x* +set)"]);
    let target = Redis::start(&[]);
    redis.call("SET app:1 x");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let options = RedisRestoreOptions { users: true, ..into(Place::Empty) };
        let restored = put_back(&repository, &snapshot, &target, options).await.expect("restores");
        assert_eq!(restored.users, ["app"]);
        let mut client = target.client();
        assert_eq!(client.call("AUTH app s3cret"), "OK");
        assert_eq!(client.call("GET app:1"), "x");
        // What is the default anyway.
        let users = |redis: &Redis| redis.call("ACL LIST").replace(" sanitize-payload", "");
        assert_eq!(users(&target), users(&redis));
    });
}

#[test]
fn a_file_is_not_put_under_a_running_server_that_would_write_over_it() {
    let mut redis = Redis::start(&["save 3600 1"]);
    redis.call("SET a 1");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let path = redis.folder().join("dump.rdb");
        // The trap: who copies it there all the same loses it when the server is stopped.
        let stored = rdb(&repository, &snapshot).await;
        redis.call("SET b 2");
        std::fs::write(&path, &stored).expect("writes");
        let options = RedisFileOptions { existing: Existing::Replace, ..RedisFileOptions::default() };
        let error = restore_file(&repository, &snapshot, "", &path, &options, &()).await.expect_err("it runs there");
        assert_says(&error.to_string(), &["redis-server runs in", "SHUTDOWN NOSAVE first"]);
        redis.terminate();
        assert!(std::fs::read(&path).expect("reads") != stored, "the server has not written over it: no trap");
        let file = restore_file(&repository, &snapshot, "", &path, &options, &()).await.expect("nobody runs there");
        assert_eq!((file.bytes, file.warnings.len()), (stored.len() as u64, 0));
        redis.start_again(&[]);
        assert_eq!((redis.call("DBSIZE").as_str(), redis.call("GET a").as_str()), ("1", "1"));
    });
}

#[test]
fn the_procedure_brings_a_server_with_an_append_only_file_to_load_it() {
    let redis = Redis::start(&[]);
    redis.call("MSET a 1 b 2 c 3");
    let mut target = Redis::start(&["appendonly yes", "save 3600 1"]);
    target.call("SET old 1");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        let path = target.folder().join("dump.rdb");
        // Step 1, word by word.
        target.call("CONFIG GET save");
        target.client().run(&[b"CONFIG", b"SET", b"save", b""]);
        target.call("CONFIG SET appendonly no");
        target.shut_down();
        let options = RedisFileOptions { existing: Existing::Replace, ..RedisFileOptions::default() };
        let file = restore_file(&repository, &snapshot, "", &path, &options, &()).await.expect("restores");
        assert_says(&file.warnings.join("\n"), &["append-only file", "loads instead"]);
        let steps = [
            "CONFIG SET save \"\"",
            "SHUTDOWN NOSAVE",
            "--appendonly no",
            "DBSIZE      # 3",
            "CONFIG SET appendonly yes",
        ];
        assert_says(&file.procedure, &steps);
        // The trap: with its append-only file the server ignores the RDB.
        target.start_again(&[]);
        assert_eq!((target.call("EXISTS a").as_str(), target.call("EXISTS old").as_str()), ("0", "1"), "no trap");
        target.client().run(&[b"CONFIG", b"SET", b"save", b""]);
        target.shut_down();
        restore_file(&repository, &snapshot, "", &path, &options, &()).await.expect("restores");
        // Steps 3 to 5.
        target.start_again(&["appendonly no"]);
        assert_eq!((target.call("DBSIZE").as_str(), target.call("GET c").as_str()), ("3", "3"));
        target.call("CONFIG SET appendonly yes");
        let is_written =
            |info: &str| info.contains("aof_rewrite_in_progress:0") && info.contains("aof_last_bgrewrite_status:ok");
        while !is_written(&target.call("INFO persistence")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        target.start_again(&["appendonly yes"]);
        assert_eq!((target.call("DBSIZE").as_str(), target.call("GET c").as_str()), ("3", "3"));
    });
}

#[test]
fn the_server_has_saved_when_a_restore_says_so() {
    let redis = Redis::start(&[]);
    for number in 0..50 {
        redis.call(&format!("SET key-{number} x"));
    }
    let mut target = Redis::start(&["rdb-key-save-delay 10000"]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &redis).await;
        // The trap: LASTSAVE answers at once, and the save has only begun.
        target.call("SET before 1");
        target.call("BGSAVE");
        target.call("LASTSAVE");
        assert!(target.call("INFO persistence").contains("rdb_bgsave_in_progress:1"), "no trap");
        target.call("DEL before");
        let options = RedisRestoreOptions { save: true, ..into(Place::Empty) };
        put_back(&repository, &snapshot, &target, options).await.expect("restores");
        target.stop();
        target.start_again(&[]);
        assert_eq!((target.call("DBSIZE").as_str(), target.call("GET key-49").as_str()), ("50", "x"));
    });
}

#[test]
fn original_bytes_are_given_only_where_they_are() {
    let redis = Redis::start(&[]);
    redis.call("SET a 1");
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let original = RedisFileOptions { original: true, ..RedisFileOptions::default() };
        let path = folder.path().join("x.rdb");
        let without = good(&repository, &redis).await;
        let error = restore_file(&repository, &without, "", &path, &original, &()).await.expect_err("it has none");
        assert_says(&error.to_string(), &["no stream \"original.rdb\""]);
        let options = RedisOptions { exact: true, ..RedisOptions::default() };
        let exact = back_up(&repository, &redis.url(), options).await.expect("backs up").snapshot;
        restore_file(&repository, &exact, "", &path, &original, &()).await.expect("restores");
        let written = std::fs::read(&path).expect("reads");
        assert!(written == get_back(&repository, &exact).await.expect("comes back")["original.rdb"]);
        let twice = restore_file(&repository, &exact, "", &path, &original, &()).await.expect_err("it is there");
        assert_says(&twice.to_string(), &["exists and was left as it is"]);
    });
}
