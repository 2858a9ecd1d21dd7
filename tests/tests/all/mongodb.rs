//! Dumps of MongoDB: what `mongodump`'s archive has in it, in a stable order, and what is no whole archive. The tools are stand-ins.

use crate::kit::databases::assert_says;
use crate::kit::mongo::{Mongo, Server, document, insertion};
use crate::kit::{create, get_back, in_time, run, snapshots};
use dedump_core::{Error, Repository, Store};
use dedump_engines::mongodb::{ClientOptions, MongoOptions};
use serde_json::json;
use std::time::Duration;

/// A server with all kinds of collections.
pub fn awkward(mongo: &Mongo, host: &str) -> Server {
    let server = mongo.server(host);
    let documents = |n: i32, seed: &str| -> Vec<_> {
        (0..n)
            .map(|id| document(id, &format!("{seed} {id} ü\"'\n\\ {}", "x".repeat(id.unsigned_abs() as usize % 50))))
            .collect()
    };
    server.make("shop", "orders", &documents(500, "order"));
    server.make("shop", "odd name/ü$%2F", &documents(3, "odd"));
    server.make("shop", &"long".repeat(50), &documents(2, "long"));
    server.make("shop", "empty", &[]);
    server.make_with("shop", "log", "collection", json!({ "capped": true, "size": 4096 }), &documents(9, "log"));
    server.make_with("shop", "seen", "view", json!({ "viewOn": "orders", "pipeline": [] }), &[]);
    server.make_with(
        "shop",
        "weather",
        "timeseries",
        json!({ "timeseries": { "timeField": "at" } }),
        &documents(4, "bucket"),
    );
    server.make("café", "a.b", &documents(1, "other"));
    server.make("admin", "system.users", &documents(1, "user"));
    server.make("admin", "system.version", &documents(1, "version"));
    server
}

/// Backs up what can't be; returns what the user hears.
async fn refused(mongo: &Mongo, repository: &Repository, url: &str, options: MongoOptions) -> String {
    match in_time(mongo.dump(repository, url, options)).await {
        Err(Error::DumpFailed(why) | Error::Invalid(why)) => {
            assert_eq!(snapshots(repository).await.expect("lists").len(), 0, "a snapshot in spite of: {why}");
            why
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_collection_is_a_stream_as_the_tool_would_lay_it_into_a_folder() {
    let mongo = Mongo::new();
    let server = awkward(&mongo, "a");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = mongo.dump(&repository, "mongodb://a", MongoOptions::default()).await.expect("backs up");
        let streams = get_back(&repository, &snapshot).await.expect("restores");
        let content = server.content();
        for (name, bytes) in &content {
            if !name.contains("longlong") {
                assert_eq!(streams.get(name.as_str()), Some(bytes), "{name}");
            }
        }
        let versions: serde_json::Value = serde_json::from_slice(&streams["prelude.json"]).expect("JSON");
        assert_eq!(versions, json!({ "ServerVersion": "7.0.5", "ToolVersion": "100.9.4" }));
        // The view and the empty collection have no documents in the folder, and an end in the archive.
        assert_eq!(streams["shop/seen.bson"].len() + streams["shop/empty.bson"].len(), 0);
        assert_eq!(streams.len(), 1 + content.len() + 2);
        let facts = &snapshot.record.facts;
        let expected = [("server.version", "7.0.5"), ("collections", "10"), ("documents", "521"), ("moment", "none")];
        for (name, value) in expected {
            assert_eq!(facts.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(snapshot.record.warnings[0].contains("no single moment"), "{:?}", snapshot.record.warnings);
        let weather = snapshot.record.streams.iter().find(|stream| stream.name.contains("buckets")).expect("is there");
        assert_eq!(weather.facts["collection"], "weather");
        assert_eq!(weather.facts["documents"], "4");
    });
}

#[test]
fn collections_that_come_in_turns_give_the_same_streams() {
    let mongo = Mongo::new();
    let server = awkward(&mongo, "a");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let first = mongo.dump(&repository, "mongodb://a", MongoOptions::default()).await.expect("backs up");
        server.set(json!({ "in_turns": true }));
        let second = mongo.dump(&repository, "mongodb://a", MongoOptions::default()).await.expect("backs up");
        let of = |snapshot: &dedump_core::Snapshot| {
            let mut all: Vec<_> = snapshot
                .record
                .streams
                .iter()
                .map(|stream| (stream.name.clone(), stream.hash, stream.facts.clone()))
                .collect();
            all.sort();
            all
        };
        assert!(of(&first) == of(&second));
        assert!(mongo.calls().contains("--numParallelCollections=1"));
    });
}

#[test]
fn an_unchanged_server_costs_next_to_nothing_and_one_that_was_synchronised_anew_too_if_sorted() {
    let mongo = Mongo::new();
    let server = mongo.server("a");
    // Texts that do not compress away.
    let mut documents: Vec<_> = (0..4000).map(|id: i32| document(id, &blake3_text(id))).collect();
    server.make("shop", "orders", &documents);
    let sorted = || MongoOptions { order_by_id: true, ..MongoOptions::default() };
    run(async {
        let plain = create(Store::memory()).await.expect("creates");
        let by_id = create(Store::memory()).await.expect("creates");
        let added = async |repository: &Repository, options| {
            mongo.dump(repository, "mongodb://a/shop", options).await.expect("backs up").record.totals.bytes_added
        };
        assert!(added(&plain, MongoOptions::default()).await > 300 << 10);
        assert!(added(&by_id, sorted()).await > 300 << 10);
        let again = added(&plain, MongoOptions::default()).await;
        assert!(again < 64 << 10, "{again}");
        // Another member has them in another order.
        documents.sort_by_key(|document| blake3::hash(document).to_hex().to_string());
        server.make("shop", "orders", &documents);
        let (shuffled, same) = (added(&plain, MongoOptions::default()).await, added(&by_id, sorted()).await);
        eprintln!("unchanged: {again}; in another order: {shuffled}, and sorted: {same} bytes");
        // Deltas find again much of what only lies elsewhere.
        assert!(shuffled > 40 << 10 && same < 4 << 10, "{shuffled} {same}");
        let newest = snapshots(&by_id).await.expect("lists").pop().expect("is there");
        let streams = get_back(&by_id, &newest).await.expect("restores");
        documents.sort();
        assert!(streams["shop/orders.bson"].len() == documents.concat().len());
        let in_order: Vec<u8> = (0..4000).flat_map(|id: i32| document(id, &blake3_text(id))).collect();
        assert!(by_number(&streams["shop/orders.bson"]) == by_number(&in_order));
    });
}

/// Documents, whatever their order.
fn by_number(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(length) = bytes.first_chunk() {
        let (document, rest) = bytes.split_at(u32::from_le_bytes(*length) as usize);
        all.push(document.to_vec());
        bytes = rest;
    }
    all.sort();
    all
}

fn blake3_text(seed: i32) -> String {
    let mut bytes = [0; 100];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_capped_collection_is_never_sorted() {
    let mongo = Mongo::new();
    let server = mongo.server("a");
    let backwards: Vec<_> = (0..9).rev().map(|id| document(id, "x")).collect();
    server.make_with("shop", "log", "collection", json!({ "capped": true }), &backwards);
    server.make("shop", "free", &backwards);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = MongoOptions { order_by_id: true, ..MongoOptions::default() };
        let snapshot = mongo.dump(&repository, "mongodb://a/shop", options).await.expect("backs up");
        let streams = get_back(&repository, &snapshot).await.expect("restores");
        assert_eq!(streams["shop/log.bson"], backwards.concat());
        let forwards: Vec<_> = backwards.iter().rev().cloned().collect();
        assert_eq!(streams["shop/free.bson"], forwards.concat());
    });
}

#[test]
fn what_is_no_whole_archive_is_stored_by_nobody() {
    let mongo = Mongo::new();
    let server = awkward(&mongo, "a");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let cases = [
            (json!({ "cut_at": 30_000 }), "ends in the middle"),
            (json!({ "cut_at": 2 }), "ends in the middle, after 2 bytes"),
            (json!({ "cut_at": 0 }), "mongodump wrote nothing"),
            // Nothing looks unfinished there, but for the collections that were announced and did not come.
            (json!({ "ends_after": "log" }), "ends in the middle"),
            (json!({ "flip_at": 1 }), "does not begin as an archive"),
            (json!({ "flip_at": 20_000 }), "is damaged"),
            (json!({ "die_at": 30_000 }), "mongodump failed with exit status 1; it said:"),
            (json!({ "fails_at_the_end": true }), "its oplog has run over"),
        ];
        for (fault, expected) in cases {
            server.set(json!({ "fault": fault }));
            let why = refused(&mongo, &repository, "mongodb://a", MongoOptions::default()).await;
            assert_says(&why, &[expected, "; nothing was stored"]);
        }
        // Wherever it is cut: also right behind a collection, where nothing looks unfinished.
        for cut_at in (2_500..12_000).step_by(473) {
            server.set(json!({ "fault": { "cut_at": cut_at } }));
            refused(&mongo, &repository, "mongodb://a", MongoOptions::default()).await;
        }
        server.set(json!({ "fault": { "hang_at": 30_000 } }));
        let hanging = mongo.dump(&repository, "mongodb://a", MongoOptions::default());
        assert!(tokio::time::timeout(Duration::from_secs(2), hanging).await.is_err(), "it went on");
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 0);
    });
}

#[test]
fn what_speaks_against_a_dump_is_one_line() {
    let mongo = Mongo::new();
    let server = awkward(&mongo, "a");
    server.set(json!({ "users": {
        "admin.me": { "password": "s3cret", "tools": ["mongodump"] },
        "admin.clerk": { "password": "s3cret", "tools": [] },
    }}));
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let oplog = || MongoOptions { oplog: true, ..MongoOptions::default() };
        let with = |client| MongoOptions { client, ..MongoOptions::default() };
        let nowhere = || with(ClientOptions { programs: Some("/no/such/folder".into()), ..ClientOptions::default() });
        let via = |words: &[&str]| {
            with(ClientOptions { via: words.iter().map(Into::into).collect(), ..ClientOptions::default() })
        };
        let usual = MongoOptions::default;
        let cases: Vec<(&str, MongoOptions, &[&str])> = vec![
            ("mongodb://b/shop", usual(), &["no MongoDB answers at b", "check host, port and TLS"]),
            (
                "mongodb://me:wr0ng-s3cret@a/shop?authSource=admin",
                usual(),
                &["at a does not take this user and password"],
            ),
            ("mongodb://me:s3cret@a/shop", usual(), &["does not take this user and password", "authSource"]),
            ("mongodb://clerk:s3cret@a", usual(), &["grant it the role backup", "not authorized"]),
            ("mongodb://me:s3cret@a/none?authSource=admin", usual(), &["mongodb://me@a/none has no collections"]),
            ("mongodb://me:s3cret@a", oplog(), &["has no oplog", "no member of a replica set"]),
            ("mongodb://me:s3cret@a/shop", oplog(), &["the oplog is that of all databases"]),
            ("mongodb://me:s3cret@a", nowhere(), &["no such program", "install MongoDB's database tools"]),
            ("mongodb://me:s3cret@a", via(&["/no/such/program"]), &["cannot start", "there is no such program"]),
        ];
        for (url, options, expected) in cases {
            let why = refused(&mongo, &repository, url, options).await;
            assert_says(&why, expected);
            assert!(!why.contains("s3cret"), "{why}");
        }
    });
}

#[test]
fn the_password_is_seen_by_the_tool_alone() {
    let mongo = Mongo::new();
    let server = awkward(&mongo, "a");
    server.set(json!({ "users": { "admin.me": { "password": "s3 cr/e@t$HOME", "tools": ["mongodump"] } } }));
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let encoded = "s3%20cr%2Fe%40t%24HOME";
        let in_url = format!("mongodb://me:{encoded}@a");
        let snapshot = mongo.dump(&repository, &in_url, MongoOptions::default()).await.expect("backs up");
        let password = Some("s3 cr/e@t$HOME".to_owned());
        let client = ClientOptions { password, ..ClientOptions::default() };
        let beside = MongoOptions { client, ..MongoOptions::default() };
        assert!(!format!("{beside:?}").contains("cr/e"), "{beside:?}");
        mongo.dump(&repository, "mongodb://me@a", beside.clone()).await.expect("backs up");
        // Elsewhere, where the environment does not go.
        let via = ["env", "-i", "PATH=/usr/bin:/bin"].map(Into::into).to_vec();
        let client = ClientOptions { via, ..beside.client };
        mongo
            .dump(&repository, "mongodb://me@a", MongoOptions { client, ..MongoOptions::default() })
            .await
            .expect("backs up");
        let calls = mongo.calls();
        assert_eq!(calls.lines().count(), 6);
        for part in ["s3 cr", "s3%20", "cr%2Fe"] {
            assert!(!calls.contains(part), "in the arguments or the environment: {part}");
            assert!(!format!("{:?}", snapshot.record).contains(part), "in the snapshot: {part}");
        }
    });
}

#[test]
fn with_the_oplog_what_was_written_meanwhile_is_there() {
    let mongo = Mongo::new();
    let server = awkward(&mongo, "a");
    server.set(json!({ "oplog": true }));
    server.write_oplog(&[insertion("shop.orders", &document(900, "late"))]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = MongoOptions { oplog: true, ..MongoOptions::default() };
        let snapshot = mongo.dump(&repository, "mongodb://a", options).await.expect("backs up");
        assert_eq!(snapshot.record.facts["moment"], "oplog");
        assert_eq!(snapshot.record.warnings, Vec::<String>::new());
        let streams = get_back(&repository, &snapshot).await.expect("restores");
        assert_eq!(streams["oplog.bson"], insertion("shop.orders", &document(900, "late")));
    });
}
