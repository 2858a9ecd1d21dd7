//! What was dumped of MongoDB, put back by `mongorestore`, and what that would not have said. The tools are stand-ins.

use crate::kit::databases::assert_says;
use crate::kit::mongo::{Mongo, document, insertion};
use crate::kit::{create, in_time, run, snapshots};
use crate::mongodb::awkward;
use dedump_core::{Error, Repository, Snapshot, Store};
use dedump_engines::mongodb::{ClientOptions, MongoOptions, MongoRestoreOptions, Place};
use serde_json::json;

/// A repository, and the backup of a server.
async fn backed_up(mongo: &Mongo, url: &str) -> (Repository, Snapshot) {
    let repository = create(Store::memory()).await.expect("creates");
    let snapshot = mongo.dump(&repository, url, MongoOptions::default()).await.expect("backs up");
    (repository, snapshot)
}

async fn refused(
    mongo: &Mongo,
    (repository, snapshot): &(Repository, Snapshot),
    url: &str,
    options: MongoRestoreOptions,
) -> String {
    match in_time(mongo.put_back(repository, snapshot, url, options)).await {
        Err(Error::Target(why) | Error::Invalid(why)) => why,
        Err(error @ Error::NotFound { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn replacing() -> MongoRestoreOptions {
    MongoRestoreOptions { place: Place::Replace, ..MongoRestoreOptions::default() }
}

#[test]
fn all_collections_come_back_in_another_server() {
    let mongo = Mongo::new();
    let (there, here) = (awkward(&mongo, "a"), mongo.server("b"));
    run(async {
        let (repository, snapshot) = backed_up(&mongo, "mongodb://a").await;
        let options = MongoRestoreOptions { verify_first: true, ..MongoRestoreOptions::default() };
        let restored = mongo.put_back(&repository, &snapshot, "mongodb://b", options).await.expect("restores");
        let mut expected = there.content();
        expected.retain(|name, _| !name.starts_with("admin/"));
        assert_eq!(here.content(), expected);
        assert_eq!((restored.collections_n, restored.documents_n), (8, 519));
        assert_eq!(restored.safety_snapshots, []);
        // What is restored costs nothing to back up again.
        let again = mongo.dump(&repository, "mongodb://b", MongoOptions::default()).await.expect("backs up");
        assert!(again.record.totals.bytes_added < 64 << 10);
    });
}

#[test]
fn users_come_back_on_demand() {
    let mongo = Mongo::new();
    let (there, here) = (awkward(&mongo, "a"), mongo.server("b"));
    run(async {
        let (repository, snapshot) = backed_up(&mongo, "mongodb://a").await;
        let options = || MongoRestoreOptions { users: true, ..MongoRestoreOptions::default() };
        mongo.put_back(&repository, &snapshot, "mongodb://b", options()).await.expect("restores");
        assert_eq!(here.content(), there.content());
        let one = backed_up(&mongo, "mongodb://a/shop").await;
        let why = refused(&mongo, &one, "mongodb://b", options()).await;
        assert_says(&why, &["no collection of users"]);
    });
}

#[test]
fn a_database_comes_back_under_another_name_and_a_collection_alone() {
    let mongo = Mongo::new();
    let (there, here) = (awkward(&mongo, "a"), mongo.server("b"));
    here.make("copy", "other", &[document(1, "stays")]);
    run(async {
        let all = backed_up(&mongo, "mongodb://a").await;
        let (repository, snapshot) = &all;
        let of_shop =
            || MongoRestoreOptions { from_database: Some("shop".to_owned()), ..MongoRestoreOptions::default() };
        mongo.put_back(repository, snapshot, "mongodb://b/copy", of_shop()).await.expect("restores");
        let shop = there
            .content()
            .into_iter()
            .filter_map(|(name, bytes)| Some((format!("copy/{}", name.strip_prefix("shop/")?), bytes)));
        let mut found = here.content();
        assert!(found.remove("copy/other.bson").is_some() && found.remove("copy/other.metadata.json").is_some());
        assert_eq!(found, shop.collect());

        let one = MongoRestoreOptions { collections: vec!["café.a.b".to_owned()], ..MongoRestoreOptions::default() };
        mongo.put_back(repository, snapshot, "mongodb://b", one).await.expect("restores");
        assert_eq!(here.content().keys().filter(|name| !name.starts_with("copy")).count(), 2);

        let why = refused(&mongo, &all, "mongodb://b/copy", MongoRestoreOptions::default()).await;
        assert_says(&why, &["which database is to become \"copy\"? the backup has café, shop"]);
        let none = MongoRestoreOptions { from_database: Some("none".to_owned()), ..MongoRestoreOptions::default() };
        assert_says(&refused(&mongo, &all, "mongodb://b", none).await, &["no database \"none\"", "admin, café, shop"]);
        let none = MongoRestoreOptions { collections: vec!["shop.none".to_owned()], ..MongoRestoreOptions::default() };
        assert_says(&refused(&mongo, &all, "mongodb://b", none).await, &["no collection \"shop.none\""]);
    });
}

#[test]
fn what_is_there_is_replaced_on_demand_alone_and_kept_in_a_snapshot() {
    let mongo = Mongo::new();
    let (there, here) = (awkward(&mongo, "a"), mongo.server("b"));
    here.make("shop", "orders", &[document(7, "newer")]);
    here.make("shop", "beside", &[document(8, "stays")]);
    let before = here.content();
    run(async {
        let backup = backed_up(&mongo, "mongodb://a/shop").await;
        let (repository, snapshot) = &backup;
        let why = refused(&mongo, &backup, "mongodb://b/shop", MongoRestoreOptions::default()).await;
        assert_says(&why, &["b has shop.orders already"]);
        assert_eq!(here.content(), before);

        let restore = mongo.restore("mongodb://b/shop", replacing()).expect("good");
        let plan = restore.plan(repository, snapshot, "").await.expect("plans");
        assert!(plan.safety_snapshot && here.content() == before);
        let there_already: Vec<_> =
            plan.collections.iter().filter(|one| one.is_there).map(|one| one.to.as_str()).collect();
        assert_eq!(there_already, ["shop.orders"]);

        let restored = mongo.put_back(repository, snapshot, "mongodb://b/shop", replacing()).await.expect("restores");
        let mut found = here.content();
        let orders = there.content()["shop/orders.bson"].clone();
        assert_eq!(found["shop/orders.bson"], orders);
        assert_eq!(found.remove("shop/beside.bson"), Some(document(8, "stays")));
        // And back.
        let [id] = restored.safety_snapshots[..] else { panic!("{restored:?}") };
        let all = snapshots(repository).await.expect("lists");
        let safety = all.iter().find(|one| one.id == id).expect("is listed");
        assert_eq!(safety.record.source, "safety/b/shop");
        mongo.put_back(repository, safety, "mongodb://b/shop", replacing()).await.expect("restores");
        assert_eq!(here.content()["shop/orders.bson"], document(7, "newer"));
    });
}

#[test]
fn what_mongorestore_does_not_say_is_found_out() {
    let mongo = Mongo::new();
    let here = {
        awkward(&mongo, "a");
        mongo.server("b")
    };
    run(async {
        let backup = backed_up(&mongo, "mongodb://a/shop").await;
        let cases = [
            (json!({ "loses_document": "orders" }), "it has restored 517 documents, and 518 were dumped"),
            (json!({ "loses_index": true }), "has 1 indexes now, and 2 were dumped"),
            (json!({ "says_nothing": true }), "does not say what it has restored"),
            (json!({ "somebody_writes": "orders" }), "E11000 duplicate key"),
            (json!({ "die_in": "orders" }), "mongorestore failed with exit status 1"),
        ];
        for (fault, expected) in cases {
            here.set(json!({ "fault": fault }));
            let why = refused(&mongo, &backup, "mongodb://b/shop", replacing()).await;
            assert_says(&why, &[expected, "collections may be there in part now, and --replace loads them anew"]);
        }
        let (repository, _) = &backup;
        // The first found nothing there, the others what was there in part.
        assert!(
            snapshots(repository)
                .await
                .expect("lists")
                .iter()
                .filter(|one| one.record.source.starts_with("safety/"))
                .count()
                >= 3
        );
    });
}

#[test]
fn the_oplog_is_replayed_with_all_and_not_with_a_part() {
    let mongo = Mongo::new();
    let (there, here) = (awkward(&mongo, "a"), mongo.server("b"));
    let part = mongo.server("c");
    there.set(json!({ "oplog": true }));
    there.write_oplog(&[insertion("shop.orders", &document(900, "late"))]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = MongoOptions { oplog: true, ..MongoOptions::default() };
        let snapshot = mongo.dump(&repository, "mongodb://a", options).await.expect("backs up");
        let all = mongo.put_back(&repository, &snapshot, "mongodb://b", MongoRestoreOptions::default()).await;
        let all = all.expect("restores");
        assert!(all.oplog_replayed);
        assert!(here.content()["shop/orders.bson"].ends_with(&document(900, "late")));
        let of_shop = MongoRestoreOptions { from_database: Some("shop".to_owned()), ..MongoRestoreOptions::default() };
        let some = mongo.put_back(&repository, &snapshot, "mongodb://c", of_shop).await.expect("restores");
        assert!(!some.oplog_replayed && some.warnings[0].contains("no single moment"), "{some:?}");
        assert_eq!(part.content()["shop/orders.bson"], there.content()["shop/orders.bson"]);
    });
}

#[test]
fn what_speaks_against_a_restore_is_one_line_and_changes_nothing() {
    let mongo = Mongo::new();
    awkward(&mongo, "a");
    let here = mongo.server("b");
    here.set(json!({ "users": {
        "admin.me": { "password": "s3cret", "tools": ["mongodump", "mongorestore"] },
        "admin.reader": { "password": "s3cret", "tools": ["mongodump"] },
    }}));
    run(async {
        let backup = backed_up(&mongo, "mongodb://a/shop").await;
        let nowhere = ClientOptions { programs: Some("/no/such/folder".into()), ..ClientOptions::default() };
        let nowhere = MongoRestoreOptions { client: nowhere, ..MongoRestoreOptions::default() };
        let usual = MongoRestoreOptions::default;
        let cases: Vec<(&str, MongoRestoreOptions, &[&str])> = vec![
            ("mongodb://none/shop", usual(), &["no MongoDB answers at none"]),
            ("mongodb://me:wr0ng@b/shop", usual(), &["does not take this user and password"]),
            ("mongodb://reader:s3cret@b/shop?authSource=admin", usual(), &["grant it the role restore"]),
            (
                "mongodb://me:s3cret@b/shop?authSource=admin",
                nowhere,
                &["no such program", "install MongoDB's database tools"],
            ),
        ];
        for (url, options, expected) in cases {
            let why = refused(&mongo, &backup, url, options).await;
            assert_says(&why, expected);
            assert!(!why.contains("s3cret"), "{why}");
            assert_eq!(here.content().len(), 0);
        }
        mongo
            .put_back(&backup.0, &backup.1, "mongodb://me:s3cret@b/shop?authSource=admin", usual())
            .await
            .expect("restores");
        assert!(!mongo.calls().contains("s3cret"));
    });
}
