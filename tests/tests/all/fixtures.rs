//! Repositories that earlier versions of dedump wrote: this one must read them, for ever.
//!
//! `DEDUMP_BLESS=1` makes the ones of the current format anew, which is right only while format 1 may still change.

use crate::kit::dumps::{self, Streams};
use crate::kit::random::Random;
use crate::kit::{back_up, create, get_back, open, run, secret, snapshots};
use dedump_core::{
    Argon2Params, Credential, Error, Hold, HoldOptions, OpenOptions, ReadData, Repository, Store, add_key, check,
    forget, hold, list_holds, reindex,
};
use std::fs;
use std::path::{Path, PathBuf};

const PASSPHRASE: &str = "a passphrase for fixtures";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1")
}

/// The dumps of three days; the first is forgotten in the fixture.
fn days() -> Vec<Streams> {
    let mut random = Random::seeded(20_260_101);
    let mut streams = Streams::from([("app.sql".to_owned(), random.text(400_000)), ("empty".to_owned(), Vec::new())]);
    let mut days = Vec::new();
    for _ in 0..3 {
        days.push(streams.clone());
        dumps::edit(&mut random, streams.get_mut("app.sql").expect("is there"));
        streams.insert("globals.sql".to_owned(), random.bytes(30_000));
    }
    days
}

fn a_hold() -> HoldOptions {
    HoldOptions { reason: "audit".to_owned(), until_ms: None, by: "ops@host".to_owned() }
}

async fn make(path: &Path) {
    let store = Store::create_local(path).expect("creates");
    let repository = create(store).await.expect("creates");
    let cheap = Argon2Params { memory_kib: 64, passes: 1, lanes: 1 };
    add_key(&repository, &Credential::passphrase(PASSPHRASE), cheap, "passphrase", "host").await.expect("adds");
    for (number, streams) in days().iter().enumerate() {
        let snapshot = back_up(&repository, "app", streams).await.expect("backs up");
        match number {
            0 => drop(forget(&repository, snapshot.id).await.expect("forgets")),
            1 => {
                hold(&repository, snapshot.id, &a_hold()).await.expect("holds");
                drop(reindex(&repository, "host", &()).await.expect("reindexes"));
            }
            _ => {}
        }
    }
}

#[test]
fn a_repository_of_format_1_opens_checks_and_restores() {
    run(async {
        if std::env::var_os("DEDUMP_BLESS").is_some() {
            if folder().exists() {
                fs::remove_dir_all(folder()).expect("the old one can go");
            }
            make(&folder()).await;
        }
        let directory = tempfile::tempdir().expect("a temporary folder");
        let copy = directory.path().join("repository");
        copy_folder(&folder(), &copy);
        for credential in [secret(), Credential::passphrase(PASSPHRASE)] {
            let store = Store::local(&copy).expect("is there");
            Repository::open(store, &credential, OpenOptions::default()).await.expect("opens");
        }
        let repository = open(Store::local(&copy).expect("is there")).await.expect("opens");
        let report = check(&repository, ReadData::All, &()).await.expect("checks");
        assert_eq!((report.findings, report.notes), (vec![], vec![]));
        let standing = snapshots(&repository).await.expect("lists");
        assert_eq!(standing.len(), 2);
        for (snapshot, streams) in standing.iter().zip(&days()[1..]) {
            assert!(get_back(&repository, snapshot).await.expect("restores") == *streams);
        }
        let holds = list_holds(&repository).await.expect("lists");
        assert!(matches!(&holds[&standing[0].id], Hold::Says(hold) if hold.reason == "audit" && hold.by == "ops@host"));
        assert!(matches!(forget(&repository, standing[0].id).await, Err(Error::Held { .. })));
        // Today's version still cuts and names chunks as that one did.
        let again = back_up(&repository, "app", &days()[2]).await.expect("backs up");
        assert_eq!((again.record.totals.chunks_new_n, again.record.totals.nodes_new_n), (0, 0));
    });
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("the fixture is there") {
        let entry = entry.expect("reads");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copies");
        }
    }
}
