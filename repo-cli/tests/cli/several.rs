//! Several databases in one snapshot, put back by one command, in an order that applications can live with.

use super::*;
use crate::kit::clickhouse::ClickHouse;
use crate::kit::mongo::{Mongo, document};
use crate::kit::postgres::Postgres;
use crate::kit::redis::Redis;
use serde_json::json;

/// A platform: a database, documents, what is worked out of them, a cache.
struct Platform {
    postgres: Postgres,
    mongo: Mongo,
    events: ClickHouse,
    cache: Redis,
    place: Place,
}

/// Fast to dump: nobody is waited for who might want the same RDB.
const SETTINGS: [&str; 2] = ["repl-diskless-sync-delay 0", "save \"\""];

impl Platform {
    fn backed_up() -> Platform {
        let platform = Platform {
            postgres: Postgres::start(),
            mongo: Mongo::new(),
            events: ClickHouse::start(),
            cache: Redis::start(&SETTINGS),
            place: Place::new(),
        };
        platform.postgres.create_database("app");
        platform.postgres.psql("app", "CREATE TABLE t AS SELECT n FROM generate_series(1, 500) n");
        platform.mongo.server("a").make("shop", "orders", &[document(1, "x"), document(2, "y")]);
        platform.events.run_all(&[
            "CREATE DATABASE events",
            "CREATE TABLE events.clicks (n UInt32) ENGINE = MergeTree ORDER BY n",
            "INSERT INTO events.clicks SELECT number FROM numbers(300)",
        ]);
        platform.cache.call("MSET user:1 one user:2 two");
        let sources = [
            format!("cache={}", platform.cache.url()),
            format!("events={}", platform.events.database("events")),
            format!("main={}", platform.url("app")),
            "docs=mongodb://a/shop".to_owned(),
        ];
        let words = ["backup", "--name", "nightly"].into_iter().chain(sources.iter().map(String::as_str));
        platform.run(&words.collect::<Vec<_>>()).expect_exit(0);
        platform
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.postgres.folder().display())
    }

    fn run(&self, words: &[&str]) -> Ran {
        let bin = self.mongo.programs().display().to_string();
        let of_tools = ["--pg-bin", "/usr/lib/postgresql/15/bin", "--mongo-bin", &bin];
        self.place.run(words.iter().copied().chain(of_tools))
    }

    /// Restores everything, to a database of this name and to these servers.
    fn restore(&self, database: &str, cache: &Redis, flags: &[&str]) -> Ran {
        let to = [
            format!("cache={}", cache.url()),
            format!("events={}", self.events.database(database)),
            format!("main={}", self.url(database)),
            "docs=mongodb://b/shop".to_owned(),
        ];
        let mut words = vec!["restore", "latest", "--source", "nightly"];
        to.iter().for_each(|to| words.extend(["--to", to]));
        words.extend(flags);
        self.run(&words)
    }

    fn databases(&self) -> String {
        self.postgres.psql("postgres", "SELECT datname FROM pg_database")
    }
}

#[test]
fn a_platform_comes_back_with_one_command_in_order() {
    let platform = Platform::backed_up();
    let (documents, cache) = (platform.mongo.server("b"), Redis::start(&SETTINGS));
    let planned = platform.restore("copy", &cache, &["--dry-run"]).expect_exit(0);
    let place_of = |text: &str| planned.out.find(text).unwrap_or_else(|| panic!("no {text:?} in {}", planned.out));
    let places = ["1. main\n", "2. docs\n", "3. events\n", "4. cache\n"].map(place_of);
    assert!(places.is_sorted(), "{}", planned.out);
    assert!(planned.out.contains("each is of its own moment"), "{}", planned.out);
    assert_eq!((cache.call("DBSIZE").as_str(), documents.content().len()), ("0", 0));
    assert!(!platform.databases().contains("copy"));

    let restored = platform.restore("copy", &cache, &["--json"]).expect_exit(0);
    let restored: Value = serde_json::from_str(&restored.out).expect("JSON");
    let names: Vec<&str> =
        restored["sources"].as_array().expect("sources").iter().filter_map(|source| source["name"].as_str()).collect();
    assert_eq!(names, ["main", "docs", "events", "cache"]);
    let facts = &platform.place.json(["show", "latest"])["facts"];
    let ms = |name: &str| facts[name].as_str().expect("a fact").parse::<u64>().expect("a number");
    assert_eq!(restored["skew_ms"].as_u64(), Some(ms("docs.ended_ms") - ms("cache.started_ms")));
    assert_eq!(restored["skew_ms"].as_u64(), Some(ms("skew_ms")));
    assert_eq!(platform.postgres.psql("copy", "SELECT count(*) FROM t"), "500\n");
    assert_eq!(platform.events.ask("SELECT count() FROM copy.clicks"), "300");
    assert_eq!((cache.call("GET user:2").as_str(), documents.content().len()), ("two", 2));
}

#[test]
fn what_one_database_refuses_is_done_to_none_and_what_fails_is_told_with_the_rest() {
    let platform = Platform::backed_up();
    let (documents, cache) = (platform.mongo.server("b"), Redis::start(&SETTINGS));
    // The last in order refuses: the first is not begun.
    cache.call("SET user:2 newer");
    let refused = platform.restore("copy", &cache, &[]);
    refused.expect_line(1, "cache: ").expect_line(1, "; no source was restored");
    assert!(!platform.databases().contains("copy") && documents.content().is_empty());
    // What is there is replaced only if somebody says yes to all of it.
    platform.restore("copy", &cache, &["--replace"]).expect_line(2, "would be replaced or changed");
    assert!(!platform.databases().contains("copy"));
    // In the middle.
    documents.set(json!({ "fault": { "die_in": "orders" } }));
    let failed = platform.restore("copy", &cache, &["--replace", "--yes"]);
    let failed = failed.expect_exit(1);
    let said = ["docs: mongorestore failed", "; restored before it: main; not begun: events, cache"];
    assert!(said.iter().all(|part| failed.err.contains(part)), "{}", failed.err);
    assert_eq!(platform.postgres.psql("copy", "SELECT count(*) FROM t"), "500\n");
    assert_eq!(cache.call("GET user:2"), "newer");
    documents.set(json!({}));
    platform.restore("copy", &cache, &["--replace", "--yes"]).expect_exit(0);
    assert_eq!((cache.call("GET user:2").as_str(), documents.content().len()), ("two", 2));
}

#[test]
fn what_can_not_be_several_is_refused() {
    let place = Place::new();
    for (words, why) in [
        (&["--to", "a=redis://h", "--to", "a=redis://i"][..], "a would be restored twice"),
        (&["--to", "a=redis://h", "--to", "redis://i"], "each of several is NAME=URL"),
        (&["--to", "a=redis://h", "--to", "dir/"], "each of several is NAME=URL"),
        (&["--to", "a=redis://h", "--to", "b=postgres://h/d", "--table", "t"], "--table is for one source"),
        (&["--to", "a=redis://h", "--to", "b=postgres://h/d", "--only", "a"], "--only is for one source"),
        (
            &["--to", "a=redis://h", "--to", "b=postgres://h/d", "--db-password-command", "echo x"],
            "one password for two",
        ),
    ] {
        place.run(["restore", "latest"].iter().chain(words)).expect_line(2, why);
    }
}
