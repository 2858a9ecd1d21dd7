//! What the core asks of a store, asked of each: memory, a directory, and servers that speak the protocols of S3, Azure and
//! Google.

use crate::kit::gcs::Gcs;
use crate::kit::random::Random;
use crate::kit::rows::Table;
use crate::kit::servers::{Azurite, Moto, S3rver, S3s};
use crate::kit::{back_up, create, dumps, get_back, open, run, s3_options, snapshots, store_options};
use dedump_core::internals::Created;
use dedump_core::{
    Bytes, Error, MaxUnused, PruneOptions, PruneOutcome, ReadData, Store, StoreOptions, check, forget, probe_store,
    prune,
};
use futures::future::join_all;
use std::collections::BTreeSet;

const SOME: &str = "packs/00aa";

#[test]
fn memory_conforms() {
    run(conforms(&Store::memory(), &Store::memory()));
}

#[test]
fn a_directory_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = |name: &str| Store::create_local(folder.path().join(name)).expect("creates");
    run(conforms(&store("a"), &store("a-neighbour")));
}

#[test]
fn moto_conforms_and_a_repository_lives_there() {
    let moto = Moto::start();
    moto.create_bucket("backups");
    conforms_and_lives("s3://backups", &s3_options(&moto.endpoint(), "test"));
}

#[test]
fn s3s_conforms_and_a_repository_lives_there() {
    let s3s = S3s::start();
    s3s.create_bucket("backups");
    conforms_and_lives("s3://backups", &s3_options(&s3s.endpoint(), S3s::KEY));
}

#[test]
fn gcs_conforms_and_a_repository_lives_there() {
    let gcs = Gcs::start("backups");
    conforms_and_lives("gs://backups", &store_options(&[("service_account_key", &gcs.service_account())]));
}

#[test]
fn azurite_conforms_and_a_repository_lives_there() {
    let azurite = Azurite::start();
    azurite.create_container("backups");
    let endpoint = azurite.endpoint();
    let settings = [("endpoint", &*endpoint), ("account_name", Azurite::ACCOUNT), ("account_key", Azurite::KEY)];
    conforms_and_lives("az://backups", &store_options(&settings));
}

fn conforms_and_lives(bucket: &str, options: &StoreOptions) {
    let store = |prefix: &str| Store::at(&format!("{bucket}/{prefix}"), options).expect("opens");
    run(async {
        conforms(&store("a"), &store("a-neighbour")).await;
        lives(store("db/app")).await;
    });
}

#[test]
fn a_store_that_ignores_preconditions_is_refused() {
    let s3rver = S3rver::start("backups");
    run(async {
        let options = s3_options(&s3rver.endpoint(), S3rver::KEY);
        let store = |prefix: &str| Store::at(&format!("s3://backups/{prefix}"), &options).expect("opens");
        let refused = |error: Error| {
            let why = error.to_string();
            assert!(matches!(error, Error::UnfitStore { .. }) && why.contains("ignores create-if-absent"), "{why}");
        };
        refused(create(store("new")).await.expect_err("refuses"));
        assert_eq!(store("new").list("").await.expect("lists"), [], "nothing is left there");

        // A repository that came there from elsewhere.
        let memory = Store::memory();
        create(memory.clone()).await.expect("creates");
        let moved = store("moved");
        for object in memory.list("").await.expect("lists") {
            let bytes = memory.get(&object.name, 1 << 20).await.expect("reads").expect("is there");
            moved.overwrite(&object.name, bytes).await.expect("writes");
        }
        let repository = open(moved).await.expect("opens");
        refused(probe_store(&repository).await.expect_err("refuses"));
    });
}

#[test]
fn a_new_repository_is_not_put_where_something_is() {
    let moto = Moto::start();
    moto.create_bucket("backups");
    run(async {
        let options = s3_options(&moto.endpoint(), "test");
        let fresh = Store::create_at("s3://backups/db/", &options).await.expect("nothing is there");
        assert_eq!(fresh.location(), "s3://backups/db");
        create(fresh).await.expect("creates");
        let why = async |location: &str| Store::create_at(location, &options).await.expect_err(location).to_string();
        assert!(
            why("s3://backups/db").await.contains("already holds a repository"),
            "{}",
            why("s3://backups/db").await
        );
        assert!(why("s3://backups").await.contains("is not empty"), "{}", why("s3://backups").await);
        assert!(why("s3://nobody").await.contains("there is no such bucket"), "{}", why("s3://nobody").await);
        let missing = open(Store::at("s3://backups/other", &options).expect("opens")).await.expect_err("is empty");
        assert!(matches!(missing, Error::NotARepository { .. }), "{missing}");
    });
}

#[test]
fn settings_that_cannot_be_are_refused_before_any_request() {
    let why = |location: &str, options: &StoreOptions| match Store::at(location, options) {
        Err(Error::Invalid(why)) => why,
        other => panic!("{location}: {other:?}"),
    };
    let with = |endpoint: &str| s3_options(endpoint, "test");
    let mut no_tls = with("http://127.0.0.1:1");
    no_tls.allow_http = false;
    assert!(why("s3://b/p", &no_tls).contains("--allow-http"));
    assert!(why("s3://b/p", &with("https://account.blob.core.windows.net")).contains("az://CONTAINER/PREFIX"));
    let mut unknown = with("https://127.0.0.1:1");
    unknown.settings.insert("colour".to_owned(), "blue".to_owned());
    assert!(why("s3://b/p", &unknown).contains("\"colour\""));
    for text in ["ftp://host/x", "s3:b", "s3://", "s3://key@b/p"] {
        why(text, &StoreOptions::default());
    }
}

#[test]
fn nobody_there_is_said_in_one_line() {
    run(async {
        let mut options = s3_options("http://127.0.0.1:1", "test");
        options.settings.insert("connect_timeout".to_owned(), "1s".to_owned());
        let store = Store::at("s3://backups/db", &options).expect("opens");
        let why = open(store).await.expect_err("nobody listens").to_string();
        assert!(why.contains("cannot be reached") && !why.contains('\n') && why.len() < 300, "{why}");
    });
}

#[test]
fn a_store_that_checks_preconditions_too_early_is_refused() {
    let s3s = S3s::start();
    s3s.create_bucket("backups");
    run(async {
        let options = s3_options(&s3s.bare_endpoint(), S3s::KEY);
        // It takes two requests at once to see it, and those do not always meet.
        for attempt in 0..20 {
            let store = Store::at(&format!("s3://backups/{attempt}"), &options).expect("opens");
            match create(store).await {
                Err(error @ Error::UnfitStore { .. }) => {
                    return assert!(error.to_string().contains("lets several create"));
                }
                other => drop(other.expect("or it creates")),
            }
        }
        panic!("it was never noticed");
    });
}

/// Holds a store to what FORMAT.md assumes, and beside it another that must notice nothing of it.
async fn conforms(store: &Store, neighbour: &Store) {
    let text = |text: &str| Bytes::from(text.to_owned());
    assert_eq!(store.list("packs").await.expect("lists"), [], "a new one is empty");
    assert_eq!(store.get(SOME, 100).await.expect("reads"), None);
    assert_eq!(store.get_range(SOME, 0..1).await.expect("reads"), None);
    store.delete(SOME).await.expect("deleting what is not there is done");

    assert_eq!(store.create(SOME, text("first")).await.expect("creates"), Created::Yes);
    assert_eq!(store.create(SOME, text("first")).await.expect("finds its own"), Created::Yes);
    assert_eq!(store.create(SOME, text("other")).await.expect("finds another"), Created::Taken);
    assert_eq!(store.create(SOME, text("much longer")).await.expect("finds another"), Created::Taken);
    assert_eq!(store.get(SOME, 5).await.expect("reads"), Some(text("first")));
    assert!(store.get(SOME, 4).await.expect_err("longer than may be").is_damage());
    assert_eq!(store.get_range(SOME, 1..3).await.expect("reads"), Some(text("ir")));
    for (start, end) in [(3, 9), (5, 6), (50, 60)] {
        assert_eq!(store.get_range(SOME, start..end).await.expect("reads"), None, "{start}..{end} goes beyond the end");
    }
    store.create_content_addressed(SOME, text("right")).await.expect("what has that length is the same");
    assert!(store.create_content_addressed(SOME, text("longer")).await.expect_err("another length").is_damage());
    store.overwrite("sessions/1", text("one")).await.expect("writes");
    store.overwrite("sessions/1", text("second")).await.expect("overwrites");
    assert_eq!(store.get("sessions/1", 100).await.expect("reads what was written last"), Some(text("second")));
    store.delete(SOME).await.expect("deletes");
    assert_eq!(store.get(SOME, 100).await.expect("reads"), None);
    assert_eq!(store.list("packs").await.expect("lists"), []);

    one_of_many_creates(store).await;
    lists_all_pages(store).await;
    assert_eq!(neighbour.list("index").await.expect("lists"), [], "a prefix ends with its slash");
    let large = Bytes::from(Random::seeded(3).bytes(9 << 20));
    store.create_content_addressed("packs/large", large.clone()).await.expect("writes");
    assert!(store.get("packs/large", 9 << 20).await.expect("reads") == Some(large));
}

async fn one_of_many_creates(store: &Store) {
    for round in 0..4 {
        let name = format!("merges/{round}");
        let creates = (0..12).map(|writer| store.create(&name, Bytes::from(format!("writer {writer}"))));
        let created = join_all(creates).await.into_iter().map(|created| created.expect("replies"));
        assert_eq!(created.filter(|created| *created == Created::Yes).count(), 1, "{name}");
    }
}

/// More names than a page has; those of other prefixes do not show.
async fn lists_all_pages(store: &Store) {
    let names: BTreeSet<String> = (0..1_050).map(|number| format!("index/{number:04}-0")).collect();
    let many: Vec<_> = names.iter().collect();
    for some in many.chunks(50) {
        join_all(some.iter().map(|name| store.overwrite(name, Bytes::from_static(b"x")))).await;
    }
    let listed = store.list("index").await.expect("lists");
    assert!(listed.iter().all(|object| object.bytes == 1));
    assert_eq!(listed.into_iter().map(|object| object.name).collect::<BTreeSet<_>>(), names);
}

/// Backs up, restores, forgets, prunes and checks in a store.
async fn lives(store: Store) {
    let repository = create(store.clone()).await.expect("creates");
    probe_store(&repository).await.expect("the probe is content");
    let mut rows = Table::create(11, 20_000);
    let mut days = Vec::new();
    for _ in 0..3 {
        let streams = dumps::one("app.sql", rows.dump());
        days.push((back_up(&repository, "app", &streams).await.expect("backs up"), streams));
        rows.change();
    }
    let repository = open(store).await.expect("opens");
    for (snapshot, streams) in &days {
        assert!(get_back(&repository, snapshot).await.expect("restores") == *streams);
    }
    let (first, _) = days.remove(0);
    forget(&repository, first.id).await.expect("forgets");
    let mut options = PruneOptions::new("host");
    options.max_unused = MaxUnused::Percent(0.0);
    let report = prune(&repository, &options, &()).await.expect("prunes");
    assert_eq!(report.outcome, PruneOutcome::Done);
    assert!(report.packs_deleted_n > 0);
    assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    assert_eq!(snapshots(&repository).await.expect("lists").len(), days.len());
    for (snapshot, streams) in &days {
        assert!(get_back(&repository, snapshot).await.expect("restores") == *streams);
    }
}
