//! Streams of the snapshot before that an engine takes over unread: whole, or not at all.

use crate::kit::dumps::{self, Streams};
use crate::kit::random::Random;
use crate::kit::watched::{Kind, Watched};
use crate::kit::{back_up, create, get_back, run};
use dedump_core::{
    BackupOptions, DeltaMode, Engine, Error, Event, MaxUnused, Progress, PruneOptions, PruneOutcome, Quality, ReadData,
    Repository, Result, Sink, Snapshot, Store, Verdict, async_trait, backup, check, forget, prune,
};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes over what it can of these streams, below a part, and writes the rest.
struct Reusing {
    part: &'static str,
    streams: Streams,
    written: Mutex<Vec<String>>,
}

impl Reusing {
    fn new(part: &'static str, streams: &Streams) -> Self {
        Reusing { part, streams: streams.clone(), written: Mutex::default() }
    }

    fn written(&self) -> Vec<String> {
        self.written.lock().expect("nothing panics while it is held").clone()
    }
}

#[async_trait]
impl Engine for Reusing {
    fn kind(&self) -> &str {
        "reusing"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let sink = sink.part(self.part)?;
        for (name, bytes) in &self.streams {
            if sink.reuse(name).await? {
                continue;
            }
            self.written.lock().expect("nothing panics while it is held").push(name.clone());
            let mut stream = sink.stream(name).await?;
            stream.write(bytes).await?;
            stream.finish(BTreeMap::from([("length".to_owned(), bytes.len().to_string())])).await?;
        }
        Ok(Verdict::default())
    }
}

fn two(seed: u64) -> Streams {
    let mut random = Random::seeded(seed);
    Streams::from([("x".to_owned(), random.text(3_000_000)), ("y".to_owned(), random.text(3_000_000))])
}

async fn run_engine(repository: &Repository, engine: &Reusing) -> Snapshot {
    backup(repository, engine, &BackupOptions::new("s", "host"), &()).await.expect("backs up").snapshot
}

fn below(part: &str, streams: &Streams) -> Streams {
    streams.iter().map(|(name, bytes)| (format!("{part}/{name}"), bytes.clone())).collect()
}

#[derive(Default)]
struct Sums(AtomicU64, AtomicU64);

impl Progress for Sums {
    fn event(&self, event: Event) {
        match event {
            Event::Read { bytes } => self.0.fetch_add(bytes, Ordering::Relaxed),
            Event::Looked { bytes, .. } => self.1.fetch_add(bytes, Ordering::Relaxed),
            _ => 0,
        };
    }
}

#[test]
fn a_stream_is_taken_over_and_no_byte_of_it_is_read() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = two(1);
        let engine = Reusing::new("part", &streams);
        let first = run_engine(&repository, &engine).await;
        assert_eq!(engine.written(), ["x", "y"], "there was nothing before");

        for delta in [DeltaMode::Off, DeltaMode::Auto, DeltaMode::Always] {
            store.take_calls();
            let (engine, sums) = (Reusing::new("part", &streams), Sums::default());
            let options = BackupOptions { delta, ..BackupOptions::new("s", "host") };
            let second = backup(&repository, &engine, &options, &sums).await.expect("backs up").snapshot;
            assert!(engine.written().is_empty(), "{delta:?}");
            assert_eq!(second.record.streams, first.record.streams);
            assert_eq!(
                (sums.0.into_inner(), sums.1.into_inner()),
                (0, 6_000_000),
                "bytes from the engine, and taken over"
            );
            let totals = second.record.totals;
            assert_eq!((totals.bytes, totals.chunks_n), (6_000_000, first.record.totals.chunks_n));
            assert_eq!((totals.chunks_new_n, totals.nodes_new_n, totals.bytes_new), (0, 0, 0));
            assert_eq!(second.record.quality, Quality::Good);
            let data_reads = store.take_calls().into_iter().filter(|call| call.kind == Kind::Get);
            assert_eq!(data_reads.filter(|call| call.name.starts_with("packs/")).count(), 0, "{delta:?}");
            let puts_packs = store.names().await.into_iter().filter(|name| name.starts_with("packs/")).count();
            assert_eq!(puts_packs, 1, "the first one's");
        }
        let last = run_engine(&repository, &Reusing::new("part", &streams)).await;
        forget(&repository, first.id).await.expect("forgets");
        assert!(get_back(&repository, &last).await.expect("restores") == below("part", &streams));
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn what_no_parent_has_is_not_taken_over() {
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let streams = two(2);
        run_engine(&repository, &Reusing::new("part", &streams)).await;
        let elsewhere = Reusing::new("other", &streams);
        run_engine(&repository, &elsewhere).await;
        assert_eq!(elsewhere.written(), ["x", "y"], "a part sees its own streams alone");

        let recut = Reusing::new("other", &streams);
        let mut options = BackupOptions::new("s", "host");
        let mut params = repository.config().chunker;
        params.max_bytes *= 2;
        options.chunker = Some(params);
        backup(&repository, &recut, &options, &()).await.expect("backs up");
        assert_eq!(recut.written(), ["x", "y"], "they were cut in another way");
    });
}

#[test]
fn what_lost_a_pack_is_written_again() {
    for lost in ["packs/", "meta/"] {
        run(async {
            let store = Watched::create();
            let repository = create(store.store()).await.expect("creates");
            let streams = two(3);
            run_engine(&repository, &Reusing::new("part", &streams)).await;
            let names = store.names().await;
            let pack = names.iter().find(|name| name.starts_with(lost)).expect("there is one");
            store.remove(pack).await;
            let engine = Reusing::new("part", &streams);
            let second = run_engine(&repository, &engine).await;
            assert_eq!(engine.written(), ["x", "y"], "{lost}");
            assert!(get_back(&repository, &second).await.expect("restores") == below("part", &streams));
            let third = Reusing::new("part", &streams);
            run_engine(&repository, &third).await;
            assert!(third.written().is_empty(), "healed");
        });
    }
}

#[test]
fn what_a_prune_condemned_is_not_relied_on() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let both = two(4);
        // What is left has nodes of its own, and chunks that lie beside those that nobody needs any more.
        let longer = [&both["x"][..], &Random::seeded(7).text(2_000_000)].concat();
        let one = Streams::from([("x".to_owned(), longer)]);
        let old = run_engine(&repository, &Reusing::new("part", &both)).await;
        let kept = back_up(&repository, "s", &below("part", &one)).await.expect("backs up");
        forget(&repository, old.id).await.expect("forgets");

        // The prune condemns the pack that has both, of which one is needed, and waits for another's mark.
        store.write("sessions/0123456789abcdef0123456789abcdef", b"whoever".to_vec()).await;
        let mut options = PruneOptions::new("host");
        options.max_unused = MaxUnused::Percent(0.0);
        let report = prune(&repository, &options, &()).await.expect("prunes");
        assert!(matches!(report.outcome, PruneOutcome::Waiting(_)), "{report:?}");

        let engine = Reusing::new("part", &one);
        let again = run_engine(&repository, &engine).await;
        assert_eq!(engine.written(), ["x"]);
        let totals = &again.record.totals;
        assert!(
            totals.bytes_new > 2_500_000 && totals.nodes_new_n == 0,
            "chunks are stored anew, nodes are there: {totals:?}"
        );

        forget(&repository, kept.id).await.expect("forgets");
        options.dead_after = std::time::Duration::ZERO;
        let report = prune(&repository, &options, &()).await.expect("prunes");
        assert_eq!(report.outcome, PruneOutcome::Done);
        assert!(get_back(&repository, &again).await.expect("restores") == below("part", &one));
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

#[test]
fn a_part_that_is_given_up_gives_up_what_it_took_over() {
    struct Changing;

    #[async_trait]
    impl Engine for Changing {
        fn kind(&self) -> &str {
            "changing"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            assert!(sink.reuse("a").await?, "it is there");
            let twice = sink.reuse("a").await.expect_err("a name is taken once");
            assert!(matches!(twice, Error::Invalid(_)), "{twice}");
            let part = sink.part("part")?;
            assert!(part.reuse("x").await?, "it is there");
            part.give_up().await?;
            let part = sink.part("part")?;
            let mut stream = part.stream("x").await?;
            stream.write(b"other").await?;
            stream.finish(BTreeMap::new()).await?;
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let mut random = Random::seeded(5);
        let before =
            Streams::from([("a".to_owned(), random.text(100_000)), ("part/x".to_owned(), random.text(100_000))]);
        back_up(&repository, "s", &before).await.expect("backs up");
        let options = BackupOptions { shrunk_percent: 0, ..BackupOptions::new("s", "host") };
        let snapshot = backup(&repository, &Changing, &options, &()).await.expect("backs up").snapshot;
        let expected = Streams::from([("a".to_owned(), before["a"].clone()), ("part/x".to_owned(), b"other".to_vec())]);
        assert!(get_back(&repository, &snapshot).await.expect("restores") == expected);
    });
}

#[test]
fn an_engine_reads_what_its_parent_has_below_its_part() {
    struct Looking;

    #[async_trait]
    impl Engine for Looking {
        fn kind(&self) -> &str {
            "looking"
        }

        async fn dump(&self, sink: &Sink) -> Result<Verdict> {
            let parent = sink.part("part")?.parent().expect("there is one");
            let names: Vec<&str> = parent.streams().map(|(name, _)| name).collect();
            assert_eq!(names, ["x", "y"]);
            assert!(parent.read("x", 3_000_000).await? == two(6)["x"]);
            assert!(matches!(parent.read("x", 2_999_999).await, Err(Error::Invalid(_))));
            assert!(matches!(parent.read("z", 3_000_000).await, Err(Error::NotFound { .. })));
            assert_eq!(parent.stream("x").expect("there is one").facts["length"], "3000000");
            sink.stream("a").await?.finish(BTreeMap::new()).await?;
            Ok(Verdict::default())
        }
    }

    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        run_engine(&repository, &Reusing::new("part", &two(6))).await;
        backup(&repository, &Looking, &BackupOptions::new("s", "host"), &()).await.expect("backs up");
        let none = dumps::one("a", Vec::new());
        back_up(&repository, "first of its kind", &none).await.expect("backs up");
    });
}
