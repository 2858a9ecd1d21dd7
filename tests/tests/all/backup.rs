//! What a backup promises: the same bytes back, nothing of a failed dump, several streams, a bounded and clean end.

use crate::kit::dumps::{self, Streams, StreamsEngine};
use crate::kit::random::Random;
use crate::kit::watched::Watched;
use crate::kit::{back_up, create, get_back, open, run, secret, snapshots};
use dedump_core::{
    BackupOptions, Change, CreateOptions, Credential, Engine, Error, Filter, Quality, ReadData, Repository, Result,
    Sink, Store, Verdict, async_trait, backup, check, diff, find, reindex,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn every_length_comes_back() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut random = Random::seeded(1);
        for bytes_n in [0, 1, 4095, 16 << 10, 256 << 10, (256 << 10) + 1, 4 << 20, (4 << 20) + 1, 23 << 20] {
            let streams = dumps::one("a", random.bytes(bytes_n));
            let snapshot = back_up(&repository, "lengths", &streams).await.expect("backs up");
            assert_eq!(snapshot.record.totals.bytes, bytes_n as u64);
            assert!(get_back(&repository, &snapshot).await.expect("restores") == streams, "{bytes_n} bytes");
        }
    });
}

#[test]
fn streams_written_side_by_side_do_not_mix() {
    struct Braided(Vec<u8>, Vec<u8>);

    #[async_trait]
    impl Engine for Braided {
        fn kind(&self) -> &str {
            "braided"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            let (mut a, mut b) = (sink.stream("a").await?, sink.stream("b").await?);
            for (left, right) in self.0.chunks(100_000).zip(self.1.chunks(70_000)) {
                a.write(left).await?;
                b.write(right).await?;
            }
            a.finish(BTreeMap::new()).await?;
            b.finish(BTreeMap::from([("rows".to_owned(), "7".to_owned())])).await?;
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut random = Random::seeded(2);
        let engine = Braided(random.text(10_000_000), random.text(7_000_000));
        let options = BackupOptions::new("braided", "host");
        let snapshot = backup(&repository, &engine, &options, &()).await.expect("backs up").snapshot;
        let expected = Streams::from([("a".to_owned(), engine.0), ("b".to_owned(), engine.1)]);
        assert!(get_back(&repository, &snapshot).await.expect("restores") == expected);
        assert_eq!(snapshot.record.streams[1].facts["rows"], "7");
    });
}

#[test]
fn streams_beyond_a_bound_are_refused_and_finished_ones_make_room() {
    struct Many(usize);

    #[async_trait]
    impl Engine for Many {
        fn kind(&self) -> &str {
            "many"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            for round in 0..2 {
                let mut open = Vec::new();
                for number in 0..self.0 {
                    open.push(sink.stream(&format!("{round}-{number}")).await?);
                }
                for stream in open {
                    stream.finish(BTreeMap::new()).await?;
                }
            }
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = BackupOptions::new("s", "h");
        let most = dedump_core::limits::STREAMS_OPEN_MAX;
        let snapshot = backup(&repository, &Many(most), &options, &()).await.expect("backs up").snapshot;
        assert_eq!(snapshot.record.streams.len(), 2 * most);
        let error = backup(&repository, &Many(most + 1), &options, &()).await.expect_err("is refused");
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    });
}

#[test]
fn progress_adds_up_to_the_dump() {
    use dedump_core::{Event, Progress};
    use std::sync::Mutex;

    #[derive(Default)]
    struct Sums(Mutex<[u64; 4]>);

    impl Progress for Sums {
        fn event(&self, event: Event) {
            let mut sums = self.0.lock().expect("nothing panics while it is held");
            match event {
                Event::Read { bytes } => sums[0] += bytes,
                Event::Looked { bytes, bytes_new } => {
                    sums[1] += bytes;
                    sums[2] += bytes_new;
                }
                Event::Stored { bytes } => sums[3] += bytes,
                _ => {}
            }
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let engine = StreamsEngine(dumps::one("a", Random::seeded(6).text(9_000_000)));
        let sums = Sums::default();
        let report = backup(&repository, &engine, &BackupOptions::new("s", "h"), &sums).await.expect("backs up");
        let [read, looked, new, stored] = *sums.0.lock().expect("nothing panics while it is held");
        assert_eq!((read, looked, new), (9_000_000, 9_000_000, report.snapshot.record.totals.bytes_new));
        assert!(stored > 0 && stored <= report.snapshot.record.totals.bytes_added);
    });
}

/// Writes a stream, and then ends as it is told to.
struct Ending(fn() -> Result<Verdict>);

#[async_trait]
impl Engine for Ending {
    fn kind(&self) -> &str {
        "ending"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let mut stream = sink.stream("a").await?;
        stream.write(&[1; 5_000_000]).await?;
        stream.finish(BTreeMap::new()).await?;
        (self.0)()
    }
}

#[test]
fn a_failed_dump_leaves_no_snapshot_and_no_session() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let engine = Ending(|| Err(Error::DumpFailed("pg_dump exited with 1".to_owned())));
        let error = backup(&repository, &engine, &BackupOptions::new("s", "h"), &()).await.expect_err("fails");
        assert_eq!(error.to_string(), "pg_dump exited with 1");
        assert_eq!(snapshots(&repository).await.expect("lists"), []);
        let left: Vec<_> = store.names().await.into_iter().filter(|name| name.starts_with("sess")).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn an_odd_or_partial_dump_is_kept_and_says_so() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let odd = || Ok(Verdict { suspicious: vec!["odd".to_owned()], ..Verdict::default() });
        let part = || Ok(Verdict { missing: vec!["table x".to_owned()], ..Verdict::default() });
        for (end, quality, reason) in
            [(odd as fn() -> _, Quality::Suspicious, "odd"), (part, Quality::Partial, "table x")]
        {
            let options = BackupOptions::new("s", "h");
            let snapshot = backup(&repository, &Ending(end), &options, &()).await.expect("backs up").snapshot;
            assert_eq!((snapshot.record.quality, &snapshot.record.reasons[..]), (quality, &[reason.to_owned()][..]));
        }
    });
}

#[test]
fn a_stream_that_is_not_finished_fails_the_backup() {
    struct Unfinished;

    #[async_trait]
    impl Engine for Unfinished {
        fn kind(&self) -> &str {
            "unfinished"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            sink.stream("a").await?.write(b"half").await?;
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let error = backup(&repository, &Unfinished, &BackupOptions::new("s", "h"), &()).await.expect_err("fails");
        assert!(matches!(error, Error::DumpFailed(_)), "{error}");
        let error = back_up(&repository, "s", &Streams::new()).await.expect_err("no stream at all");
        assert!(matches!(error, Error::DumpFailed(_)), "{error}");
    });
}

#[test]
fn a_dropped_backup_commits_nothing_and_drops_its_engine() {
    struct Endless(Arc<AtomicBool>);
    struct Flag(Arc<AtomicBool>);

    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[async_trait]
    impl Engine for Endless {
        fn kind(&self) -> &str {
            "endless"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            let _flag = Flag(Arc::clone(&self.0));
            let mut stream = sink.stream("a").await?;
            loop {
                stream.write(&[7; 1 << 20]).await?;
            }
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let dropped = Arc::new(AtomicBool::new(false));
        let (engine, options) = (Endless(Arc::clone(&dropped)), BackupOptions::new("s", "h"));
        let cancelled =
            tokio::time::timeout(std::time::Duration::from_millis(300), backup(&repository, &engine, &options, &()));
        assert!(cancelled.await.is_err(), "it never ends by itself");
        assert!(dropped.load(Ordering::SeqCst), "the engine's future is gone with the backup's");
        assert_eq!(snapshots(&repository).await.expect("lists"), []);
        let report = check(&repository, ReadData::All, &()).await.expect("checks");
        assert_eq!(report.findings, []);
    });
}

#[test]
fn a_dump_that_shrank_below_half_is_suspicious() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut random = Random::seeded(3);
        let mut quality = Vec::new();
        for bytes_n in [1_000_000, 500_000, 249_999, 200_000] {
            let streams = dumps::one("a", random.text(bytes_n));
            quality.push(back_up(&repository, "s", &streams).await.expect("backs up").record.quality);
        }
        assert_eq!(quality, [Quality::Good, Quality::Good, Quality::Suspicious, Quality::Good]);
        let other = back_up(&repository, "other", &dumps::one("a", vec![1])).await.expect("backs up");
        assert_eq!((other.record.quality, other.record.parent), (Quality::Good, None));
    });
}

#[test]
fn a_snapshot_is_found_by_prefix_latest_and_filters() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut ids = Vec::new();
        for (source, tag) in [("a", "x"), ("b", "y"), ("a", "y")] {
            let mut options = BackupOptions::new(source, "host");
            options.tags.insert("env".to_owned(), tag.to_owned());
            let engine = StreamsEngine(dumps::one("a", vec![1, 2, 3]));
            ids.push(backup(&repository, &engine, &options, &()).await.expect("backs up").snapshot.id);
        }
        let by = |source: Option<&str>, tag: Option<&str>| Filter {
            source: source.map(str::to_owned),
            tags: tag.map(|tag| ("env".to_owned(), tag.to_owned())).into_iter().collect(),
            ..Filter::default()
        };
        let find = async |name: &str, filter: Filter| find(&repository, name, &filter).await.map(|found| found.id);
        assert_eq!(find("latest", by(None, None)).await.ok(), Some(ids[2]));
        assert_eq!(find("latest", by(Some("b"), None)).await.ok(), Some(ids[1]));
        assert_eq!(find("latest", by(Some("a"), Some("x"))).await.ok(), Some(ids[0]));
        assert_eq!(find(&ids[1].to_string(), by(None, None)).await.ok(), Some(ids[1]));
        assert!(matches!(find("latest", by(Some("c"), None)).await, Err(Error::NotFound { .. })));
        assert!(matches!(find("LATEST", by(None, None)).await, Err(Error::Invalid(_))));
        assert!(matches!(find("", by(None, None)).await, Err(Error::Invalid(_))));
        let mut first_digits: Vec<char> = ids.iter().filter_map(|id| id.to_string().chars().next()).collect();
        first_digits.sort_unstable();
        for digit in "0123456789abcdef".chars() {
            let matches_n = first_digits.iter().filter(|first| **first == digit).count();
            let found = find(&digit.to_string(), by(None, None)).await;
            match matches_n {
                0 => assert!(matches!(found, Err(Error::NotFound { .. })), "{found:?}"),
                1 => assert!(found.is_ok(), "{found:?}"),
                _ => assert!(matches!(found, Err(Error::Ambiguous { .. })), "{found:?}"),
            }
        }
    });
}

#[test]
fn a_diff_opens_only_what_differs() {
    run(async {
        let options = CreateOptions { chunker: crate::model::small_chunks(), ..CreateOptions::default() };
        let repository = Repository::create(Store::memory(), &secret(), options).await.expect("creates");
        let mut random = Random::seeded(4);
        let mut streams = dumps::one("big", random.text(4_000_000));
        streams.insert("same".to_owned(), random.text(100_000));
        let before = back_up(&repository, "s", &streams).await.expect("backs up");
        let big = streams.get_mut("big").expect("is there");
        big[2_000_000..2_000_010].copy_from_slice(b"0123456789");
        let after = back_up(&repository, "s", &streams).await.expect("backs up");
        let report = diff(&repository, &before, &after, &()).await.expect("compares");
        let [big, same] = &report.streams[..] else { panic!("{report:?}") };
        assert_eq!((same.change, same.bytes_added, same.bytes_removed), (Change::Same, 0, 0));
        assert_eq!(big.change, Change::Changed);
        assert!((10..10_000).contains(&big.bytes_added), "{big:?}");
        assert_eq!(big.bytes_added, big.bytes_removed);
        assert!((2..=12).contains(&report.nodes_opened_n), "{} nodes", report.nodes_opened_n);
    });
}

#[test]
fn a_repository_opens_with_each_of_its_keys_and_no_other() {
    use dedump_core::{Argon2Params, OpenOptions, add_key, list_keys, remove_key};
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let cheap = Argon2Params { memory_kib: 8, passes: 1, lanes: 1 };
        let passphrase = Credential::passphrase("open sesame");
        let added = add_key(&repository, &passphrase, cheap, "ops", "host").await.expect("adds");
        let open_with = async |credential: &Credential| {
            Repository::open(store.store(), credential, OpenOptions::default()).await.map(|opened| opened.id())
        };
        assert_eq!(open_with(&passphrase).await.ok(), Some(repository.id()));
        assert_eq!(open_with(&secret()).await.ok(), Some(repository.id()));
        for wrong in [Credential::passphrase("open sesam"), Credential::generate_key_file().expect("random")] {
            assert!(matches!(open_with(&wrong).await, Err(Error::WrongKey { slots: 2, .. })));
        }
        let (slots, unreadable) = list_keys(&repository).await.expect("lists");
        assert_eq!((slots.len(), &unreadable[..]), (2, &[][..]));
        assert!(slots.iter().any(|slot| slot.id == added && slot.label.label == "ops"));
        assert_eq!(remove_key(&repository, &added.to_string()[..6]).await.ok(), Some(added));
        assert!(matches!(open_with(&passphrase).await, Err(Error::WrongKey { .. })));
        assert!(matches!(remove_key(&repository, "").await, Err(Error::NotFound { .. })));
        let last = slots.iter().find(|slot| slot.id != added).expect("the first").id.to_string();
        assert!(matches!(remove_key(&repository, &last).await, Err(Error::Invalid(_))));
        assert!(matches!(create(store.store()).await, Err(Error::AlreadyExists { .. })));
        assert!(matches!(open(Store::memory()).await, Err(Error::NotARepository { .. })));
    });
}

#[test]
fn a_reindex_finds_everything_again() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let mut random = Random::seeded(5);
        let streams = dumps::one("a", random.text(3_000_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        for name in store.names().await.iter().filter(|name| name.starts_with("index/")) {
            store.remove(name).await;
        }
        assert!(get_back(&repository, &snapshot).await.expect("restores by the trailers") == streams);
        let report = reindex(&repository, "host", &()).await.expect("reindexes");
        assert_eq!((report.fragments_n, report.fragments_deleted_n, report.unreadable.len()), (1, 1, 0));
        assert_eq!(check(&repository, ReadData::Nothing, &()).await.expect("checks").findings, [], "nothing is missed");
        let again = back_up(&repository, "s", &streams).await.expect("backs up");
        assert_eq!(again.record.totals.chunks_new_n, 0, "the index knows all chunks again");
        let report = reindex(&repository, "host", &()).await.expect("reindexes");
        assert_eq!((report.fragments_n, report.fragments_deleted_n), (1, 1));
        assert!(get_back(&repository, &again).await.expect("restores") == streams);
    });
}

#[test]
fn a_reader_serves_one_backup() {
    use dedump_core::ReaderEngine;
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let engine = ReaderEngine::new("a", &b"all of it"[..]);
        let options = BackupOptions::new("s", "h");
        backup(&repository, &engine, &options, &()).await.expect("backs up");
        let error = backup(&repository, &engine, &options, &()).await.expect_err("nothing is left to read");
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 1);
    });
}

#[test]
fn a_write_that_is_cancelled_halfway_fails_the_backup() {
    struct Impatient;

    #[async_trait]
    impl Engine for Impatient {
        fn kind(&self) -> &str {
            "impatient"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            let mut stream = sink.stream("a").await?;
            let piece = Random::seeded(7).bytes(64 << 20);
            // Polled once and dropped: with so much to write the queue is full sooner or later.
            for _ in 0..4 {
                if futures::FutureExt::now_or_never(stream.write(&piece)).is_none() {
                    break;
                }
            }
            stream.write(b"the rest").await?;
            stream.finish(BTreeMap::new()).await?;
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let error = backup(&repository, &Impatient, &BackupOptions::new("s", "h"), &()).await.expect_err("fails");
        assert!(error.to_string().contains("cancelled"), "{error}");
        assert_eq!(snapshots(&repository).await.expect("lists"), []);
    });
}

#[test]
fn a_writer_that_outlives_the_verdict_fails_the_backup() {
    use dedump_core::StreamWriter;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Hoarder(Mutex<Option<StreamWriter>>);

    #[async_trait]
    impl Engine for Hoarder {
        fn kind(&self) -> &str {
            "hoarder"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            let mut stream = sink.stream("a").await?;
            stream.write(b"half").await?;
            *self.0.lock().expect("nothing panics while it is held") = Some(stream);
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let engine = Hoarder::default();
        let error = backup(&repository, &engine, &BackupOptions::new("s", "h"), &()).await.expect_err("fails");
        assert!(matches!(error, Error::DumpFailed(_)), "{error}");
        let mut kept = engine.0.lock().expect("nothing panics while it is held").take().expect("it was kept");
        assert!(kept.write(&[0; 5 << 20]).await.is_err(), "nobody takes what comes after the verdict");
    });
}

#[test]
fn a_snapshot_of_very_many_streams_opens_again() {
    struct Crowd(usize);

    #[async_trait]
    impl Engine for Crowd {
        fn kind(&self) -> &str {
            "crowd"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            for number in 0..self.0 {
                let stream = sink.stream(&format!("schema/a-table-with-quite-a-long-name-{number:06}")).await?;
                let facts = ["rows", "format"].map(|key| (key.to_owned(), "123456789".to_owned()));
                stream.finish(facts.into()).await?;
            }
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = BackupOptions::new("s", "h");
        let snapshot = backup(&repository, &Crowd(90_000), &options, &()).await.expect("backs up").snapshot;
        let found = find(&repository, "latest", &Filter::default()).await.expect("opens");
        assert!(found == snapshot);
    });
}

#[test]
fn latest_is_not_guessed_while_a_snapshot_does_not_open() {
    use dedump_core::{find_id, forget};
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let first = back_up(&repository, "s", &dumps::one("a", vec![1; 1000])).await.expect("backs up");
        let second = back_up(&repository, "s", &dumps::one("a", vec![2; 1000])).await.expect("backs up");
        let name = format!("snapshots/{}", second.id);
        let mut bytes = store.read(&name).await;
        bytes[100] ^= 1;
        store.write(&name, bytes).await;
        let latest = find(&repository, "latest", &Filter::default()).await;
        assert!(latest.as_ref().is_err_and(Error::is_damage), "{latest:?}");
        let found = find(&repository, &first.id.to_string(), &Filter::default()).await.expect("by its id");
        assert_eq!(found.id, first.id);
        // It can be forgotten all the same, and then all is well again.
        let id = find_id(&repository, &second.id.to_string()[..8]).await.expect("is found");
        assert_eq!(id, second.id);
        forget(&repository, id).await.expect("forgets");
        let latest = find(&repository, "latest", &Filter::default()).await.expect("is the first");
        assert_eq!(latest.id, first.id);
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
        assert!(forget(&repository, first.id).await.is_ok());
        assert!(forget(&repository, first.id).await.is_ok(), "twice is once");
        let never = forget(&repository, dedump_core::SessionId([1; 16])).await;
        assert!(matches!(never, Err(Error::NotFound { .. })), "{never:?}");
    });
}

#[test]
fn a_part_that_is_given_up_is_as_if_it_had_never_begun() {
    struct Parts;

    #[async_trait]
    impl Engine for Parts {
        fn kind(&self) -> &str {
            "parts"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            let bytes = Random::seeded(7).bytes(9 << 20);
            let kept = sink.part("kept")?;
            let mut whole = kept.stream("a").await?;
            whole.write(&bytes).await?;

            let bad = sink.part("bad")?;
            for name in ["whole", "under/whole"] {
                let mut stream = bad.stream(name).await?;
                stream.write(&bytes).await?;
                stream.finish(BTreeMap::new()).await?;
            }
            let mut half = bad.stream("half").await?;
            half.write(&bytes[..5 << 20]).await?;
            bad.give_up().await?;
            // It has not heard of it.
            half.write(&bytes).await?;
            half.finish(BTreeMap::new()).await?;

            // The name is free again, and room for as many open streams as before is there.
            let mut again = sink.part("bad")?.stream("half").await?;
            again.write(b"second try").await?;
            again.finish(BTreeMap::new()).await?;
            whole.write(&bytes[..1000]).await?;
            whole.finish(BTreeMap::new()).await?;
            Ok(Verdict::default())
        }
    }

    run(async {
        let store = Store::memory();
        let repository = create(store).await.expect("creates");
        let report = backup(&repository, &Parts, &BackupOptions::new("parts", "db1"), &()).await.expect("backs up");
        let streams = &report.snapshot.record.streams;
        let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(names, ["kept/a", "bad/half"]);
        let bytes = Random::seeded(7).bytes(9 << 20);
        let whole = [&bytes[..], &bytes[..1000]].concat();
        let back = get_back(&repository, &report.snapshot).await.expect("restores");
        assert!(back["kept/a"] == whole);
        assert_eq!(back["bad/half"], b"second try");
        let found = check(&repository, ReadData::All, &()).await.expect("checks");
        assert_eq!(found.findings, []);
    });
}
