//! What a restore promises: verified bytes or an error, whole files or none, and nothing replaced unasked.

use crate::kit::dumps::{self, Streams};
use crate::kit::random::Random;
use crate::kit::watched::Watched;
use crate::kit::{back_up, create, open, run, snapshots};
use dedump_core::internals::keys::{Keys, Secret};
use dedump_core::internals::record::{self, Sealer};
use dedump_core::internals::slot;
use dedump_core::internals::slot_keys::SlotKeys;
use dedump_core::{
    Bytes, Error, Existing, FileTarget, Repository, RestoreOptions, Result, Snapshot, SnapshotRecord, Store,
    StreamRecord, Target, async_trait, restore,
};
use std::fs;

/// Takes what it is given and notes whether a stream was ended.
#[derive(Default)]
struct Noted {
    bytes: Vec<u8>,
    ended_n: usize,
}

#[async_trait]
impl Target for Noted {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        self.ended_n += 1;
        Ok(())
    }
}

/// The keys of a test repository, as only somebody with its key file can have them.
pub async fn keys_of(store: &Watched, repository: &Repository) -> Keys {
    let names = store.names().await;
    let name = names.iter().find(|name| name.starts_with("keys/")).expect("there is a slot");
    let bytes = store.read(name).await;
    let parsed = slot::parse(name, repository.id(), &bytes).expect("parses");
    let slot_keys = SlotKeys::from_key_file(&Secret([7; 32]), parsed.salt());
    Keys::derive(parsed.unwrap_secrets(&slot_keys).expect("is whole").expect("is ours")).expect("has an epoch")
}

/// Replaces a snapshot by one that says something else.
async fn forge(store: &Watched, repository: &Repository, snapshot: &Snapshot, change: impl Fn(&mut SnapshotRecord)) {
    let keys = keys_of(store, repository).await;
    let mut record = snapshot.record.clone();
    change(&mut record);
    let name = format!("snapshots/{}", snapshot.id);
    let sealer = Sealer { repository: repository.id(), keys: &keys };
    store.write(&name, record::seal(sealer, &name, [3; 32], &record).expect("seals")).await;
}

#[test]
fn a_snapshot_that_lies_about_a_stream_is_found_out_before_its_end() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(1);
        let streams = Streams::from([("a".to_owned(), random.text(500_000)), ("b".to_owned(), random.text(500_000))]);
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let lies: [fn(&mut SnapshotRecord); 4] = [
            |record| record.streams[0].hash[0] ^= 1,
            |record| record.streams[0].bytes += 1,
            |record| record.streams[0].root = record.streams[1].root,
            |record| record.streams[0].root_level += 1,
        ];
        for (number, lie) in lies.iter().enumerate() {
            forge(&store, &repository, &snapshot, lie).await;
            let forged = snapshots(&repository).await.expect("lists").remove(0);
            let (mut target, options) = (Noted::default(), RestoreOptions::default());
            let error = restore(&repository, &forged, &options, &mut target, &()).await.expect_err("is found out");
            assert!(error.is_damage(), "lie {number}: {error}");
            // What a node does not bear out is found at the node already, before anything is written.
            let object = if [1, 3].contains(&number) { "node " } else { "stream " };
            assert!(error.to_string().starts_with(object) || number == 2, "lie {number}: {error}");
            assert_eq!(target.ended_n, 0, "lie {number}");
            let options = RestoreOptions { keep_going: true, ..RestoreOptions::default() };
            let report = restore(&repository, &forged, &options, &mut target, &()).await.expect("goes on");
            assert_eq!((report.streams_n, report.failed.len(), target.ended_n), (1, 1, 1), "lie {number}");
        }
    });
}

#[test]
fn files_are_whole_or_not_there_and_replaced_only_on_request() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(2);
        let streams = Streams::from([
            ("a".to_owned(), random.text(3_000_000)),
            ("dir/b".to_owned(), random.text(100_000)),
            ("empty".to_owned(), Vec::new()),
        ]);
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let to = folder.path().join("new/place");
        let all = RestoreOptions::default();
        let mut target = FileTarget::directory(&to, Existing::Refuse);
        let report = restore(&repository, &snapshot, &all, &mut target, &()).await.expect("restores");
        assert_eq!((report.streams_n, report.bytes), (3, 3_100_000));
        for (name, bytes) in &streams {
            assert!(fs::read(to.join(name)).expect("is there") == *bytes, "{name}");
        }
        assert_eq!(files(&to), ["a", "dir", "empty"]);

        fs::write(to.join("a"), "precious").expect("writes");
        let one = RestoreOptions { streams: vec!["a".to_owned()], ..RestoreOptions::default() };
        assert!(matches!(target.check(&["a"]), Err(Error::Target(_))));
        let error = restore(&repository, &snapshot, &one, &mut target, &()).await.expect_err("refuses");
        assert!(matches!(error, Error::Target(_)), "{error}");
        assert_eq!(fs::read(to.join("a")).expect("is there"), b"precious");
        let mut target = FileTarget::file(to.join("a"), Existing::Replace);
        restore(&repository, &snapshot, &one, &mut target, &()).await.expect("replaces");
        assert!(fs::read(to.join("a")).expect("is there") == streams["a"]);

        // A stream that turns out damaged at its end replaces nothing and leaves nothing behind.
        forge(&store, &repository, &snapshot, |record| record.streams[0].hash[0] ^= 1).await;
        let forged = snapshots(&repository).await.expect("lists").remove(0);
        fs::write(to.join("a"), "precious").expect("writes");
        let mut target = FileTarget::file(to.join("a"), Existing::Replace);
        restore(&repository, &forged, &one, &mut target, &()).await.expect_err("is damaged");
        drop(target);
        assert_eq!(fs::read(to.join("a")).expect("is there"), b"precious");
        assert_eq!(files(&to), ["a", "dir", "empty"]);
    });
}

fn files(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("is there")
        .map(|entry| entry.expect("reads").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_target_that_fails_ends_the_restore_with_its_own_error() {
    struct Full;

    #[async_trait]
    impl Target for Full {
        async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
            Ok(())
        }

        async fn write(&mut self, _: Bytes) -> Result<()> {
            Err(Error::Target("the disk is full".to_owned()))
        }

        async fn end(&mut self) -> Result<()> {
            Ok(())
        }
    }

    run(async {
        let store = Store::memory();
        let repository = create(store.clone()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(3).bytes(60_000_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let repository = open(store).await.expect("opens");
        let options = RestoreOptions::default();
        let error = restore(&repository, &snapshot, &options, &mut Full, &()).await.expect_err("fails");
        assert_eq!(error.to_string(), "the disk is full");
    });
}
