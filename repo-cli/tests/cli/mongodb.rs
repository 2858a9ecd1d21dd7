//! Collections of MongoDB backed up and put back by the command line; the tools are stand-ins.

use super::*;
use crate::kit::mongo::{Mongo, document};
use serde_json::json;

#[test]
fn collections_are_put_back_beside_and_in_the_place_of_what_is_there() {
    let mongo = Mongo::new();
    let (there, here) = (mongo.server("a"), mongo.server("b"));
    let orders: Vec<_> = (0..50).map(|id| document(id, "order")).collect();
    there.make("shop", "orders", &orders);
    there.make("shop", "odd name", &[document(1, "x")]);
    there.set(json!({ "users": { "shop.me": { "password": PASSWORD, "tools": ["mongodump"] } } }));
    let place = Place::new();
    fs::write(place.path("password"), format!("{PASSWORD}\n")).expect("writable");
    let (bin, password_file) = (mongo.programs().display().to_string(), place.text("password"));
    let run = |words: &[&str]| place.run(words.iter().copied().chain(["--mongo-bin", &bin]));
    let backed_up = run(&["backup", "mongodb://me@a/shop", "--db-password-file", &password_file]).expect_exit(0);
    assert!(backed_up.err.contains("no single moment"), "{}", backed_up.err);
    let shown = place.json(["show", "latest"]);
    assert_eq!((shown["source"].as_str(), shown["facts"]["shop.documents"].as_str()), (Some("shop"), Some("51")));
    assert!(!mongo.calls().contains(PASSWORD) && !shown.to_string().contains(PASSWORD));

    let planned = run(&["restore", "latest", "--to", "mongodb://b/copy", "--dry-run"]).expect_exit(0);
    assert!(planned.out.contains("shop.orders with 50 documents to copy.orders\n"), "{}", planned.out);
    assert_eq!(here.content().len(), 0);
    let restored = run(&["restore", "latest", "--to", "mongodb://b/copy"]).expect_exit(0);
    assert!(restored.out.contains("2 collections with 51 documents"), "{}", restored.out);
    assert_eq!(here.content()["copy/orders.bson"], orders.concat());

    here.make("copy", "orders", &[document(7, "newer")]);
    run(&["restore", "latest", "--to", "mongodb://b/copy"]).expect_line(1, "b has copy.odd name already, and 1 more");
    let one = ["restore", "latest", "--to", "mongodb://b/copy", "--collection", "shop.orders"];
    run(&one).expect_line(1, "b has copy.orders already");
    let replace: Vec<&str> = one.into_iter().chain(["--replace"]).collect();
    run(&replace).expect_line(2, "mongodb://b/copy would be replaced or changed");
    let replace: Vec<&str> = replace.into_iter().chain(["--yes", "--json"]).collect();
    let replaced: Value = serde_json::from_str(&run(&replace).expect_exit(0).out).expect("JSON");
    assert_eq!(replaced["documents"], 50, "{replaced}");
    let safety = replaced["safety_snapshots"][0].as_str().expect("it was backed up");
    run(&["restore", safety, "--to", "mongodb://b/copy", "--replace", "--yes", "--no-safety-snapshot"]).expect_exit(0);
    assert_eq!(here.content()["copy/orders.bson"], document(7, "newer"));
    // As files, it is a dump that the tool reads.
    let to = place.text("files");
    run_plain(&place, &["restore", "latest", "--source", "shop", "--to", &to]);
    assert_eq!(fs::read(place.path("files/shop/shop/orders.bson")).expect("is there"), orders.concat());
}

fn run_plain(place: &Place, words: &[&str]) {
    place.run(words).expect_exit(0);
}

#[test]
fn what_means_nothing_for_mongodb_is_refused() {
    let place = Place::new();
    for (words, why) in [
        (&["backup", "mongodb://h/shop", "--oplog"][..], "the oplog is that of all databases"),
        (&["backup", "mongodb://me:s3cret@/x"], "it names no host"),
        (&["backup", "mongodb://h/shop", "--mongo-bin", "/no/such"], "install MongoDB's database tools"),
        (
            &["backup", "redis://h", "mongodb://h", "--name", "n", "--db-password-command", "echo x"],
            "one password for two",
        ),
        (&["restore", "latest", "--to", "mongodb://h", "--jobs", "2"], "--jobs is not for MongoDB"),
        (&["restore", "latest", "--to", "mongodb://h", "--key-prefix", "x"], "--key-prefix is not for MongoDB"),
        (&["restore", "latest", "--to", "redis://h", "--collection", "a.b"], "--collection is for MongoDB"),
        (&["restore", "latest", "--to", "mongodb://h", "--collection", "a"], "a collection is named as shop.orders"),
    ] {
        let ran = place.run(words);
        assert!(ran.err.contains(why) && ran.err.lines().count() == 1, "{words:?}: {}", ran.err);
        assert!(!ran.err.contains("s3cret"), "{}", ran.err);
    }
}
