//! What goes wrong on the way to a bucket, and what must come of it: nothing, or an error in bounded time that is no damage.

use crate::kit::dumps::{self, Streams};
use crate::kit::proxy::{Canned, Fate, Proxy};
use crate::kit::random::Random;
use crate::kit::rows::Table;
use crate::kit::servers::{Azurite, Moto};
use crate::kit::{back_up, create, get_back, in_time, open, run, secret, snapshots};
use dedump_core::limits::DATA_PACK_BYTES_TARGET;
use dedump_core::{
    BackupOptions, Bytes, ChunkerParams, Compression, CreateOptions, Error, MaxUnused, PruneOptions, PruneOutcome,
    ReadData, Repository, Snapshot, Store, StoreOptions, backup, check, forget, prune,
};
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A bucket behind a path on which things go wrong.
struct Far {
    _moto: Moto,
    endpoint: String,
    proxy: Proxy,
}

impl Far {
    fn start() -> Far {
        let moto = Moto::start();
        moto.create_bucket("backups");
        Far { endpoint: moto.endpoint(), proxy: Proxy::before(&moto.endpoint()), _moto: moto }
    }

    fn store(&self) -> Store {
        self.store_with(|_| ())
    }

    fn store_with(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        at(&self.proxy.endpoint(), change)
    }

    /// The same bucket by a path on which nothing goes wrong.
    fn near(&self) -> Store {
        at(&self.endpoint, |_| ())
    }
}

fn at(endpoint: &str, change: impl FnOnce(&mut StoreOptions)) -> Store {
    let mut options = StoreOptions::default();
    options.allow_http = true;
    for (name, value) in
        [("endpoint", endpoint), ("region", "us-east-1"), ("access_key_id", "test"), ("secret_access_key", "test")]
    {
        options.settings.insert(name.to_owned(), value.to_owned());
    }
    change(&mut options);
    Store::at("s3://backups/db", &options).expect("opens")
}

fn set(options: &mut StoreOptions, name: &str, value: &str) {
    options.settings.insert(name.to_owned(), value.to_owned());
}

fn text(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

/// Backs up days of a table, restores, forgets, prunes and checks: every operation that there is a reason to run at night.
async fn lives(store: Store) {
    let repository = create(store.clone()).await.expect("creates");
    let mut rows = Table::create(11, 5_000);
    let mut days: Vec<(Snapshot, Streams)> = Vec::new();
    for _ in 0..4 {
        let streams = dumps::one("app.sql", rows.dump());
        days.push((back_up(&repository, "app", &streams).await.expect("backs up"), streams));
        rows.change();
    }
    let repository = open(store).await.expect("opens");
    for (snapshot, streams) in &days {
        assert!(get_back(&repository, snapshot).await.expect("restores") == *streams);
    }
    for (snapshot, _) in days.drain(..2) {
        forget(&repository, snapshot.id).await.expect("forgets");
    }
    let mut options = PruneOptions::new("host");
    options.max_unused = MaxUnused::Percent(0.0);
    let report = prune(&repository, &options, &()).await.expect("prunes");
    assert_eq!(report.outcome, PruneOutcome::Done);
    assert!(report.packs_deleted_n > 0);
    is_whole(&repository, &days).await;
}

async fn is_whole(repository: &Repository, days: &[(Snapshot, Streams)]) {
    assert_eq!(check(repository, ReadData::All, &()).await.expect("checks").findings, []);
    assert_eq!(snapshots(repository).await.expect("lists").len(), days.len());
    for (snapshot, streams) in days {
        assert!(get_back(repository, snapshot).await.expect("restores") == *streams);
    }
}

/// Returns how many replies were other than they should be.
fn broken_n(proxy: &Proxy, n: usize) -> usize {
    proxy.seen().len() / n
}

#[test]
fn a_path_that_cuts_every_tenth_reply_breaks_no_operation() {
    let far = Far::start();
    far.proxy.every(10, Fate::CutReply);
    run(lives(far.store()));
    assert!(broken_n(&far.proxy, 10) >= 10, "{} requests are too few to tell", far.proxy.seen().len());
}

#[test]
fn replies_that_get_lost_break_no_operation() {
    let far = Far::start();
    far.proxy.every(7, Fate::LoseReply);
    run(lives(far.store()));
    assert!(broken_n(&far.proxy, 7) >= 10);
}

#[test]
fn refusals_and_broken_connections_now_and_then_break_no_operation() {
    let far = Far::start();
    let refusal = |status| Canned::s3(status, "InternalError", "We encountered an internal error. Please try again.");
    let fates = [
        Fate::Drop,
        refusal("500 Internal Server Error"),
        Fate::CutReply,
        refusal("502 Bad Gateway"),
        Fate::LoseReply,
        Canned::slow_down(),
        Canned::too_many(0),
        Fate::Late(Duration::from_millis(200)),
    ];
    let mut turn = 0;
    far.proxy.rule(move |asked| {
        if !asked.number.is_multiple_of(6) {
            return Fate::Pass;
        }
        turn += 1;
        fates[turn % fates.len()].clone()
    });
    run(lives(far.store()));
    assert!(broken_n(&far.proxy, 6) >= 16);
}

/// Every request of the contract, at its first attempt, meets every way in which a reply can go wrong.
#[test]
fn every_request_outlives_every_way_of_losing_its_reply() {
    let far = Far::start();
    let store = far.store();
    let failing = |fate: Fate| {
        far.proxy.rule(move |asked| if asked.number == 1 { fate.clone() } else { Fate::Pass });
    };
    run(async {
        let body = Bytes::from(Random::seeded(5).bytes(300_000));
        for (round, fate) in [Fate::Drop, Fate::LoseReply, Fate::CutReply].into_iter().enumerate() {
            let (one, other) = (format!("packs/{round}"), format!("sessions/{round}"));
            failing(fate.clone());
            store.create_content_addressed(&one, body.clone()).await.expect("creates");
            failing(fate.clone());
            store.create(&other, text("decision")).await.expect("creates");
            failing(fate.clone());
            store.overwrite(&other, text("mark")).await.expect("overwrites");
            failing(fate.clone());
            assert_eq!(store.get(&one, 300_000).await.expect("reads"), Some(body.clone()));
            failing(fate.clone());
            let part = store.get_range(&one, 1_000..250_000).await.expect("reads");
            assert_eq!(part, Some(body.slice(1_000..250_000)));
            failing(fate.clone());
            assert_eq!(store.list("sessions").await.expect("lists").len(), 1);
            failing(fate.clone());
            store.create_content_addressed(&one, body.clone()).await.expect("finds it");
            failing(fate);
            store.delete(&other).await.expect("deletes");
            assert!(far.proxy.seen().len() > 1, "the first was not enough");
            far.proxy.clear();
            assert_eq!(store.list("sessions").await.expect("lists"), []);
        }
    });
}

#[test]
fn a_store_that_asks_for_fewer_requests_gets_fewer_and_nothing_looks_lost() {
    let far = Far::start();
    run(async {
        let streams = dumps::one("app.sql", Table::create(11, 5_000).dump());
        let repository = create(far.store()).await.expect("creates");
        let snapshot = back_up(&repository, "app", &streams).await.expect("backs up");
        // Says "a second" once, and goes on complaining after that.
        far.proxy.rule(|asked| match asked.number {
            3 => Canned::too_many(1),
            4..=8 => Canned::slow_down(),
            _ => Fate::Pass,
        });
        let repository = open(far.store()).await.expect("opens");
        is_whole(&repository, &[(snapshot, streams)]).await;
    });
    let seen = far.proxy.seen();
    let complaint = seen.iter().position(|seen| seen.status == 429).expect("it complained");
    let silence = seen[complaint + 1].at - seen[complaint].at;
    assert!(silence >= Duration::from_millis(990), "only {silence:?} after Retry-After: 1");
    let pauses: Vec<_> = seen[complaint + 1..complaint + 7].windows(2).map(|two| two[1].at - two[0].at).collect();
    assert!(pauses[4] > pauses[0], "pauses grow: {pauses:?}");
}

/// restic#1600: a store that is too busy to answer is not a store that has lost everything.
#[test]
fn a_store_that_goes_on_complaining_is_an_error_and_no_damage() {
    let far = Far::start();
    run(async {
        let streams = dumps::one("app.sql", Table::create(11, 5_000).dump());
        let repository = create(far.near()).await.expect("creates");
        back_up(&repository, "app", &streams).await.expect("backs up");
        for complaint in [Canned::slow_down(), Canned::too_many(0)] {
            // Each with a client of its own: a client remembers that it was told to slow down.
            let impatient = || far.store_with(|options| set(options, "retry_timeout", "300ms"));
            let opened = async || {
                far.proxy.clear();
                let repository = open(impatient()).await.expect("opens");
                let complaint = complaint.clone();
                far.proxy.rule(move |_| complaint.clone());
                repository
            };
            let outcomes = [
                check(&opened().await, ReadData::All, &()).await.map(drop),
                prune(&opened().await, &PruneOptions::new("host"), &()).await.map(drop),
                back_up(&opened().await, "app", &streams).await.map(drop),
                open(impatient()).await.map(drop),
                impatient().get("packs/00", 100).await.map(drop),
                impatient().get_range("packs/00", 0..1).await.map(drop),
                impatient().create_content_addressed("packs/00", text("x")).await,
                impatient().delete("packs/00").await,
                impatient().list("packs").await.map(drop),
            ];
            for outcome in outcomes {
                let Err(Error::Store { hint: Some(hint), .. }) = outcome else { panic!("{outcome:?}") };
                assert!(hint.contains("fewer requests") || hint.contains("run it again later"), "{hint}");
            }
        }
        far.proxy.clear();
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn a_store_that_accepts_and_never_answers_ends_in_an_error() {
    let far = Far::start();
    let store = far.store_with(|options| {
        set(options, "timeout", "200ms");
        set(options, "retry_timeout", "500ms");
    });
    far.proxy.rule(|_| Fate::Hang);
    run(async {
        let outcomes = async {
            [
                store.get("packs/00", 100).await.map(drop),
                store.get_range("packs/00", 0..1).await.map(drop),
                store.create("packs/00", text("x")).await.map(drop),
                store.create_content_addressed("packs/00", text("x")).await,
                store.overwrite("sessions/00", text("x")).await,
                store.delete("packs/00").await,
                store.list("packs").await.map(drop),
            ]
        };
        for outcome in in_time(outcomes).await {
            let why = outcome.expect_err("nobody answers").to_string();
            assert!(why.contains("cannot be reached") && !why.contains('\n'), "{why}");
        }
    });
}

#[test]
fn limits_hold_for_bodies_in_both_directions() {
    const RATE: u64 = 512 * 1024;
    let far = Far::start();
    let limited = |upload: Option<u64>, download: Option<u64>| {
        far.store_with(|options| {
            options.upload_bytes_per_sec_max = upload.and_then(NonZeroU64::new);
            options.download_bytes_per_sec_max = download.and_then(NonZeroU64::new);
        })
    };
    let body = Bytes::from(Random::seeded(6).bytes(RATE as usize * 3 / 2));
    // What arrives after a second and a half may be late, but not early: one piece goes at once.
    let least = Duration::from_millis(1_350);
    run(async {
        let begun = Instant::now();
        limited(Some(RATE), None).create_content_addressed("packs/0", body.clone()).await.expect("writes");
        assert!(begun.elapsed() >= least, "{:?} up", begun.elapsed());
        let begun = Instant::now();
        let store = limited(Some(1 << 30), Some(RATE));
        assert_eq!(store.get("packs/0", body.len()).await.expect("reads"), Some(body.clone()));
        assert!(begun.elapsed() >= least, "{:?} down", begun.elapsed());
        let begun = Instant::now();
        let parts = [0, body.len() as u64 / 2].map(|from| {
            let store = store.clone();
            async move { store.get_range("packs/0", from..from + RATE * 3 / 4).await.expect("reads").expect("is there") }
        });
        let parts = futures::future::join_all(parts).await;
        assert!(parts.concat() == body, "two halves at once");
        assert!(begun.elapsed() >= least, "{:?} down, clones share it", begun.elapsed());
    });
    // What is limited is sent whole all the same.
    run(lives(limited(Some(64 << 20), Some(64 << 20))));
}

#[test]
fn packs_arrive_in_the_storage_class_that_was_asked_for() {
    let far = Far::start();
    let store = far.store_with(|options| {
        options.storage_classes.insert("packs".to_owned(), "GLACIER".to_owned());
        options.storage_classes.insert("meta".to_owned(), "STANDARD_IA".to_owned());
    });
    run(async {
        let repository = create(store).await.expect("creates");
        let streams = dumps::one("app.sql", Table::create(11, 5_000).dump());
        let snapshot = back_up(&repository, "app", &streams).await.expect("backs up");
        let mut kinds = BTreeSet::new();
        for seen in far.proxy.seen().iter().filter(|seen| seen.asked.method == "PUT") {
            let kind = seen.asked.target.split('/').nth(3).expect("/bucket/db/KIND").to_owned();
            let class = seen.asked.headers.get("x-amz-storage-class").cloned();
            let expected = match kind.as_str() {
                "packs" => Some("GLACIER".to_owned()),
                "meta" => Some("STANDARD_IA".to_owned()),
                _ => None,
            };
            assert_eq!(class, expected, "{}", seen.asked.target);
            kinds.insert(kind);
        }
        assert!(
            kinds.is_superset(&BTreeSet::from(["packs", "meta", "index", "snapshots"].map(str::to_owned))),
            "{kinds:?}"
        );

        let why = get_back(&repository, &snapshot).await.expect_err("it is frozen");
        assert!(!why.is_damage(), "{why}");
        let why = why.to_string();
        assert!(why.contains("packs/") && why.contains("thaw it"), "{why}");
        let report = check(&repository, ReadData::Nothing, &()).await.expect("checks what is not frozen");
        assert_eq!(report.findings, []);
    });
    let listing = listing(&far.endpoint);
    for part in ["<StorageClass>GLACIER</StorageClass>", "<StorageClass>STANDARD_IA</StorageClass>"] {
        assert!(listing.contains(part), "{part} in {listing}");
    }
}

/// Azure, behind a path likewise.
fn azure(proxy: &Proxy, change: impl FnOnce(&mut StoreOptions)) -> Store {
    let mut options = StoreOptions::default();
    options.allow_http = true;
    let endpoint = format!("{}/{}", proxy.endpoint(), Azurite::ACCOUNT);
    for (name, value) in [("endpoint", &*endpoint), ("account_name", Azurite::ACCOUNT), ("account_key", Azurite::KEY)] {
        set(&mut options, name, value);
    }
    change(&mut options);
    Store::at("az://backups/db", &options).expect("opens")
}

#[test]
fn azure_behind_a_bad_path_loses_nothing_and_takes_tiers() {
    let azurite = Azurite::start();
    azurite.create_container("backups");
    let proxy = Proxy::before(&azurite.endpoint());
    let cold = azure(&proxy, |options| {
        options.storage_classes.insert("packs".to_owned(), "Archive".to_owned());
    });
    run(async {
        cold.create_content_addressed("packs/0", text("cold")).await.expect("creates");
        let asked = proxy.seen().pop().expect("a request").asked;
        assert_eq!(asked.headers.get("x-ms-access-tier").map(String::as_str), Some("Archive"));
        let why = cold.get("packs/0", 100).await.expect_err("it is frozen").to_string();
        assert!(why.contains("thaw it"), "{why}");
        cold.delete("packs/0").await.expect("deletes");
    });
    proxy.every(10, Fate::CutReply);
    run(lives(azure(&proxy, |_| ())));
}

/// What the server itself lists.
fn listing(endpoint: &str) -> String {
    use std::io::{Read, Write};
    let host = endpoint.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).expect("it listens");
    let head = format!("GET /backups?list-type=2 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it answers");
    reply
}

/// Turns a bit of the first body, or of each, that goes to a pack.
fn garble(proxy: &Proxy, once: bool) {
    let mut has_flipped = false;
    proxy.rule(move |asked| {
        let flips = asked.method == "PUT" && asked.target.contains("/packs/") && !(once && has_flipped);
        has_flipped |= flips;
        if flips { Fate::FlipBit } else { Fate::Pass }
    });
}

#[test]
fn a_body_that_arrives_garbled_is_found_before_the_commit() {
    let far = Far::start();
    run(async {
        let verified = far.store_with(|options| {
            options.verify_uploads = true;
            set(options, "retry_timeout", "2s");
        });
        let repository = create(verified).await.expect("creates");
        let mut rows = Table::create(11, 5_000);
        let streams = dumps::one("app.sql", rows.dump());
        garble(&far.proxy, true);
        let snapshot = back_up(&repository, "app", &streams).await.expect("what arrived garbled is sent again");
        assert_eq!(far.proxy.puts("/packs/").len(), 2);
        let first = [(snapshot, streams)];
        is_whole(&repository, &first).await;

        rows.change();
        garble(&far.proxy, false);
        let why = back_up(&repository, "app", &dumps::one("app.sql", rows.dump())).await.expect_err("never right");
        assert!(matches!(why, Error::Store { .. }) && why.to_string().contains("reads back otherwise"), "{why}");
        far.proxy.clear();
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 1, "nothing was committed");

        // This server looks at no checksum: without the option a wrong pack would be committed.
        garble(&far.proxy, true);
        let trusting = open(far.store()).await.expect("opens");
        back_up(&trusting, "app", &dumps::one("app.sql", rows.dump())).await.expect("nobody notices");
        far.proxy.clear();
        assert_ne!(check(&trusting, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn every_body_is_signed_and_what_the_server_finds_garbled_is_sent_again() {
    let far = Far::start();
    let mut refused_n = 0;
    far.proxy.rule(move |asked| {
        let refuses = asked.method == "PUT" && asked.target.contains("/packs/") && refused_n < 2;
        refused_n += usize::from(refuses);
        let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
        let refusal = Canned::s3("400 Bad Request", "XAmzContentSHA256Mismatch", message);
        if refuses { refusal } else { Fate::Pass }
    });
    run(async {
        let body = Bytes::from(Random::seeded(7).bytes(100_000));
        far.store().create_content_addressed("packs/0", body.clone()).await.expect("at last");
        assert_eq!(far.near().get("packs/0", 100_000).await.expect("reads"), Some(body));
    });
    let puts: Vec<_> = far.proxy.seen().into_iter().filter(|seen| seen.asked.method == "PUT").collect();
    assert_eq!(puts.iter().map(|seen| seen.status).collect::<Vec<_>>(), [400, 400, 200]);
    for seen in puts {
        let signed = &seen.asked.headers["x-amz-content-sha256"];
        assert!(signed.len() == 64 && signed.bytes().all(|byte| byte.is_ascii_hexdigit()), "{signed}");
    }
}

/// The credentials expire once a first part is listed: the second run sends what is missing, and nothing else.
#[test]
fn a_backup_that_broke_is_gone_on_with_by_the_next() {
    let far = Far::start();
    run(async {
        // So many chunks that a fragment is due before the last pack.
        let chunker = ChunkerParams { min_bytes: 64, avg_bytes: 256, max_bytes: 1024, ..ChunkerParams::default() };
        let options = CreateOptions { chunker, threads_n: 2, ..CreateOptions::default() };
        let repository = Repository::create(far.store(), &secret(), options.clone()).await.expect("creates");
        let streams = dumps::one("app.dump", Random::seeded(8).bytes(90 << 20));
        let engine = dumps::StreamsEngine(streams.clone());
        let backup_to = async |repository: &Repository| {
            let options = BackupOptions { compression: Compression::Level(-7), ..BackupOptions::new("app", "host") };
            backup(repository, &engine, &options, &()).await
        };
        let mut has_listed = false;
        far.proxy.rule(move |asked| {
            let expired = has_listed;
            has_listed |= asked.method == "PUT" && asked.target.contains("/index/");
            if expired { Canned::expired() } else { Fate::Pass }
        });
        let why = backup_to(&repository).await.expect_err("the credentials expire").to_string();
        assert!(why.contains("have expired") && why.contains("not sent twice"), "{why}");
        far.proxy.clear();
        let report = backup_to(&repository).await.expect("backs up");
        let sent: usize = far.proxy.puts("/packs/").iter().map(|(_, bytes)| bytes).sum();
        let fresh = Store::memory();
        backup_to(&Repository::create(fresh.clone(), &secret(), options).await.expect("creates"))
            .await
            .expect("backs up");
        let all: u64 = fresh.list("packs").await.expect("lists").iter().map(|pack| pack.bytes).sum();
        // A fragment lists a full pack at least; what was on its way when it broke is sent again.
        assert!(sent + DATA_PACK_BYTES_TARGET * 9 / 10 <= all as usize, "{sent} bytes of {all} are sent again");
        is_whole(&repository, &[(report.snapshot, streams)]).await;
    });
}
