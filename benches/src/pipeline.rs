//! How near a backup of a stream that is already stored comes to its parts alone: cutting it, and hashing it.
//!
//! Such a backup copies the stream into windows, cuts it, names every chunk by its keyed hash, hashes the stream as a
//! whole and looks every chunk up; nothing is compressed, sealed or written. It is the common case, and nothing in it
//! hides behind a slow disk.
//!
//! One stream can only be cut from its beginning to its end, so `fastcdc` alone is one thread. What two threads cut of two
//! streams is compared with two backups side by side.
//!
//! All figures are measured in turn, in rounds of a second or so. A round during which other processes had more than
//! a few per cent of the machine does not count: it would compare one thread, which finds a free core, with several.

use crate::table::Row;
use crate::text::Text;
use crate::timing::{mb_per_sec, median, quiet_rounds, secs};
use crate::{Result, Size, secret};
use dedump_core::{
    BackupOptions, ChunkerParams, CreateOptions, ReadData, ReaderEngine, Repository, RestoreOptions, Snapshot, Store,
    WriterTarget, backup, check, restore,
};
use fastcdc::v2020::{FastCDC, Normalization};
use std::hint::black_box;
use tokio::runtime::Runtime;

/// The least that a duplicate stream must reach of the slower of its parts.
const RATIO_MIN: f64 = 0.7;

/// Rounds in which enough of them must count, so many for each that is wanted.
const PATIENCE: usize = 10;

/// One round: every figure once, in MB/s, all measured within seconds of each other.
#[derive(Debug, Default, Clone, Copy)]
struct Round {
    cut_one: f64,
    cut_all: f64,
    hash_chunks_one: f64,
    hash_chunks_all: f64,
    hash_stream: f64,
    copy: f64,
    backup_one: f64,
    backup_two: f64,
}

/// A stream, and a repository in memory that holds it.
struct Stored {
    bytes: Vec<u8>,
    repository: Repository,
    snapshot: Snapshot,
    first_secs: f64,
}

/// Measures it all.
///
/// # Errors
/// A backup, restore or check that fails or is not what it should be.
pub fn measure(size: Size) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bytes_n = size.choose(512 << 20, 128 << 20);
    let streams = [store(&runtime, Text::new(1, bytes_n))?, store(&runtime, Text::new(2, bytes_n))?];
    let (rounds, others) = quiet_rounds(size.choose(15, 5), PATIENCE, || round(&runtime, &streams))?;
    let mut rows = rows(&rounds);
    rows.push(Row::figure("rounds that counted, and the most that others had of the machine", others));
    rows.extend(other_figures(&runtime, &streams[0])?);
    Ok(rows)
}

fn store(runtime: &Runtime, text: Text) -> Result<Stored> {
    let bytes = text.collect();
    let repository = runtime.block_on(Repository::create(Store::memory(), &secret(), CreateOptions::default()))?;
    let (first_secs, snapshot) = secs(|| back_up(runtime, &repository, &bytes));
    Ok(Stored { repository, snapshot: snapshot?, first_secs, bytes })
}

fn back_up(runtime: &Runtime, repository: &Repository, bytes: &[u8]) -> Result<Snapshot> {
    let engine = ReaderEngine::new("stream", bytes);
    Ok(runtime.block_on(backup(repository, &engine, &BackupOptions::new("stream", "bench"), &()))?.snapshot)
}

fn back_up_again(runtime: &Runtime, stored: &Stored) -> Result<()> {
    let snapshot = back_up(runtime, &stored.repository, &stored.bytes)?;
    let (before, now) = (&stored.snapshot.record.streams[0], &snapshot.record.streams[0]);
    if snapshot.record.totals.chunks_new_n != 0 || now.hash != before.hash || now.root != before.root {
        return Err("a second backup of the same bytes is not what the first one was".into());
    }
    Ok(())
}

fn round(runtime: &Runtime, streams: &[Stored; 2]) -> Result<Round> {
    let [one, two] = streams;
    let threads_n = std::thread::available_parallelism()?.get();
    let (bytes, bytes_n) = (&one.bytes[..], one.bytes.len() as u64);
    let (cut_secs, lengths) = secs(|| cut(bytes));
    let chunks = chunks(bytes, &lengths);
    let (cut_all_secs, _) = secs(|| on_threads(streams.iter().map(|stored| || cut(&stored.bytes))));
    let (hash_one_secs, ()) = secs(|| hash(&chunks));
    let (hash_all_secs, _) =
        secs(|| on_threads(chunks.chunks(chunks.len().div_ceil(threads_n)).map(|part| || hash(part))));
    let (hash_stream_secs, _) = secs(|| black_box(blake3::hash(bytes)));
    let (copy_secs, ()) = secs(|| copy(bytes));
    let (backup_secs, done) = secs(|| back_up_again(runtime, one));
    done?;
    let (backup_two_secs, done) =
        secs(|| on_threads([one, two].into_iter().map(|stored| || back_up_again(runtime, stored))));
    done.into_iter().collect::<Result<()>>()?;
    Ok(Round {
        cut_one: mb_per_sec(bytes_n, cut_secs),
        cut_all: mb_per_sec(2 * bytes_n, cut_all_secs),
        hash_chunks_one: mb_per_sec(bytes_n, hash_one_secs),
        hash_chunks_all: mb_per_sec(bytes_n, hash_all_secs),
        hash_stream: mb_per_sec(bytes_n, hash_stream_secs),
        copy: mb_per_sec(bytes_n, copy_secs),
        backup_one: mb_per_sec(bytes_n, backup_secs),
        backup_two: mb_per_sec(2 * bytes_n, backup_two_secs),
    })
}

/// Does all of these at the same time, each on a thread of its own.
fn on_threads<T: Send>(works: impl Iterator<Item = impl FnOnce() -> T + Send>) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = works.map(|work| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a measurement does not panic")).collect()
    })
}

/// The crate `fastcdc` as it comes, with the parameters that repositories have.
pub(crate) fn cut(bytes: &[u8]) -> Vec<usize> {
    let ChunkerParams { min_bytes, avg_bytes, max_bytes, .. } = ChunkerParams::default();
    let [min, avg, max] = [min_bytes, avg_bytes, max_bytes].map(|bytes| bytes as usize);
    FastCDC::with_level(bytes, min, avg, max, Normalization::Level1).map(|chunk| chunk.length).collect()
}

/// Takes a text apart into chunks of these lengths.
pub(crate) fn chunks<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut take = |length: &usize| {
        let (chunk, rest) = bytes.split_at(*length);
        bytes = rest;
        chunk
    };
    lengths.iter().map(&mut take).collect()
}

/// Names chunks as a repository does: by a keyed hash of each.
pub(crate) fn hash(chunks: &[&[u8]]) {
    for chunk in chunks {
        black_box(blake3::keyed_hash(&[7; 32], chunk));
    }
}

/// Copies a stream through one window's worth of memory, as reading it does.
pub(crate) fn copy(bytes: &[u8]) {
    let mut window = vec![0; 4 << 20];
    for part in bytes.chunks(window.len()) {
        window[..part.len()].copy_from_slice(part);
        black_box(&mut window);
    }
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let show = |figure: fn(&Round) -> f64| format!("{:.0} MB/s", of(figure));
    let one = of(|round| round.backup_one / round.cut_one.min(round.hash_chunks_all));
    let two = of(|round| round.backup_two / round.cut_all.min(round.hash_chunks_all));
    // What each step would take of a core's time if the steps did not disturb each other.
    let steps = [
        ("copy", of(|round| round.copy)),
        ("cut", of(|round| round.cut_one)),
        ("hash of chunks", of(|round| round.hash_chunks_one)),
        ("hash of the stream", of(|round| round.hash_stream)),
    ];
    let all: f64 = steps.iter().map(|(_, rate)| 1.0 / rate).sum();
    // Two threads that do nothing but these steps, and never wait, reach this share of two that only cut.
    let ceiling = 1.0 / steps[1].1 / all;
    let shares: Vec<_> = steps.iter().map(|(name, rate)| format!("{name} {:.0} %", 100.0 / rate / all)).collect();
    vec![
        Row::figure("`fastcdc` alone, one stream (one thread)", show(|round| round.cut_one)),
        Row::figure("`fastcdc` alone, two streams (two threads)", show(|round| round.cut_all)),
        Row::figure("`blake3` alone, chunks, one thread", show(|round| round.hash_chunks_one)),
        Row::figure("`blake3` alone, chunks, all cores", show(|round| round.hash_chunks_all)),
        Row::figure("`blake3` alone, whole stream, one thread", show(|round| round.hash_stream)),
        Row::at_least("duplicate stream, of the slower part alone", show(|round| round.backup_one), one, RATIO_MIN),
        Row::figure(
            "two duplicate streams side by side, of the slower part on two threads",
            format!("{}, {two:.2} of at most {ceiling:.2}", show(|round| round.backup_two)),
        ),
        Row::figure("steps of a duplicate stream, by their times alone", shares.join(", ")),
    ]
}

/// What else a repository in memory does, for later comparison.
fn other_figures(runtime: &Runtime, stored: &Stored) -> Result<Vec<Row>> {
    let bytes_n = stored.bytes.len() as u64;
    let (mut restore_secs, mut check_secs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut target = WriterTarget(std::io::sink());
        let (secs_n, done) = secs(|| {
            let options = RestoreOptions::default();
            runtime.block_on(restore(&stored.repository, &stored.snapshot, &options, &mut target, &()))
        });
        done?;
        restore_secs.push(secs_n);
        let (secs_n, report) = secs(|| runtime.block_on(check(&stored.repository, ReadData::All, &())));
        if !report?.findings.is_empty() {
            return Err("a check found damage in a repository that nobody has touched".into());
        }
        check_secs.push(secs_n);
    }
    let rate = |secs: f64| format!("{:.0} MB/s", mb_per_sec(bytes_n, secs));
    let added = stored.snapshot.record.totals.bytes_added as f64 / bytes_n as f64;
    Ok(vec![
        Row::figure("first backup, in memory", rate(stored.first_secs)),
        Row::figure("stored of what was read, first backup", format!("{:.1} %", 100.0 * added)),
        Row::figure("restore, from memory", rate(median(restore_secs))),
        Row::figure("`check --read-data`, in memory, of the dump's bytes", rate(median(check_secs))),
    ])
}
