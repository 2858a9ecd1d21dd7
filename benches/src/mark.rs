//! How long a prune takes to see what a year of daily snapshots needs, and with how much memory.
//!
//! The repository is made by real backups of a simulated database: the first two fifths of its pages never change, and all
//! others are new every day, and so are three fifths of the leaves of a day's manifest: as in the PostgreSQL series of
//! `data/make-dumps.py`. Chunks are a hundredth of their usual length, so that ten million of them fit on a disk; a
//! prune never reads them. What it does read, fragments and manifests, has its real size.

use crate::parts;
use crate::table::{Row, mib};
use crate::{Result, Size, secret};
use dedump_core::{
    BackupOptions, ChunkerParams, Compression, CreateOptions, DeltaMode, Engine, OpenOptions, PruneOptions, Repository,
    Sink, Store, Verdict, async_trait, backup, forget, plan_prune,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long the plan may take, mark and index in all.
const SECS_MAX: f64 = 60.0;
/// What its process may take.
const BYTES_MAX: u64 = 1 << 30;
/// Bytes of a page of the simulated database, about a chunk.
const PAGE_BYTES: usize = 640;

/// The word for its parts.
pub const PART: &str = "mark";

/// Makes a repository of a year of days, forgets a day, and asks a prune for its plan.
///
/// # Errors
/// A part that fails.
pub fn measure(size: Size) -> Result<Vec<Row>> {
    let (days_n, pages_n) = size.choose((366u32, 48_800u32), (61, 5_000));
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().ok_or("the path of the temporary folder is no UTF-8")?;
    let part = |name: &str| parts::start(&[PART, name, path, &days_n.to_string(), &pages_n.to_string()]);
    let fill = part("fill")?;
    let plan = part("plan")?;
    let number = |name: &str| plan.number(name).map(|number| number as f64);
    let chunks_n = fill.number("chunks_n")? as f64;
    let measure = format!("plan of a prune, {} snapshots, {:.1} million chunks", days_n - 1, chunks_n / 1e6);
    let secs = |secs: f64| format!("{secs:.1} s");
    let (peak, opened, walked) = (number("peak_bytes")?, number("nodes_n")?, fill.number("nodes_n")? as f64);
    Ok(vec![
        Row::at_most(measure, number("ms")? / 1e3, SECS_MAX, secs),
        Row::at_most("its peak memory", peak, BYTES_MAX as f64, mib),
        Row::figure("nodes it opened, of those that a walk of each snapshot opens", {
            format!("{opened} of {walked}: {:.1} %", opened / walked * 100.0)
        }),
        Row::figure("making that repository", secs(fill.number("ms")? as f64 / 1e3)),
    ])
}

/// Does one part, in a process of its own; returns the lines to report.
///
/// # Errors
/// The part's own, or one that there is not.
pub fn part(args: &[&str]) -> Result<String> {
    let [name, folder, days_n, pages_n] = args else {
        return Err("a part needs a name, a folder and two numbers".into());
    };
    let folder = Path::new(folder).join("repository");
    match *name {
        "fill" => parts::report(fill(&folder, days_n.parse()?, pages_n.parse()?)),
        "plan" => parts::report(plan(&folder)),
        _ => Err(format!("there is no part {name}").into()),
    }
}

/// Backs up every day, and forgets one.
///
/// Every backup loads the index first, and a year of ever larger ones takes half an hour. So all days but the first begin
/// at once, when the index is that of one day, and take turns in dumping.
async fn fill(folder: &Path, days_n: u64, pages_n: u64) -> Result<String> {
    let create = CreateOptions { chunker: short_chunks(), ..CreateOptions::default() };
    let repository = Arc::new(Repository::create(Store::create_local(folder)?, &secret(), create).await?);
    let mut options = BackupOptions::new("app", "bench");
    options.compression = Compression::Level(1);
    options.delta = DeltaMode::Off;
    let turns = Arc::new(Semaphore::new(2));
    let engine = |day| DayEngine { day, pages_n, turns: Arc::clone(&turns) };
    let first = backup(&repository, &engine(0), &options, &()).await?.snapshot;
    let mut others = JoinSet::new();
    for day in 1..days_n {
        let (repository, options, engine) = (Arc::clone(&repository), options.clone(), engine(day));
        others.spawn(async move { backup(&repository, &engine, &options, &()).await });
    }
    let (mut chunks_n, mut newest) = (first.record.totals.chunks_new_n, first.id);
    while let Some(report) = others.join_next().await {
        let snapshot = report??.snapshot;
        chunks_n += snapshot.record.totals.chunks_new_n;
        newest = snapshot.id;
    }
    forget(&repository, newest).await?;
    // The first brings all nodes of its manifest, and every day has as many, give or take one.
    Ok(format!("chunks_n {chunks_n}\nnodes_n {}\n", (days_n - 1) * first.record.totals.nodes_new_n))
}

async fn plan(folder: &Path) -> Result<String> {
    let repository = Repository::open(Store::local(folder)?, &secret(), OpenOptions::default()).await?;
    let plan = plan_prune(&repository, &PruneOptions::new("bench"), &()).await?;
    Ok(format!("nodes_n {}\n", plan.nodes_n))
}

/// Dumps the database as it is on a day.
pub struct DayEngine {
    /// The day, from 0.
    pub day: u64,
    /// Pages of the database.
    pub pages_n: u64,
    /// Whoever has one may dump.
    pub turns: Arc<Semaphore>,
}

#[async_trait]
impl Engine for DayEngine {
    fn kind(&self) -> &str {
        "simulated"
    }

    async fn dump(&self, sink: &Sink) -> dedump_core::Result<Verdict> {
        let _turn = self.turns.acquire().await.expect("nobody closes it");
        let mut stream = sink.stream("app").await?;
        let mut page = [0; PAGE_BYTES];
        for number in 0..self.pages_n {
            let version = if number < self.pages_n * 2 / 5 { 0 } else { self.day };
            write_page(version * self.pages_n + number, &mut page);
            stream.write(&page).await?;
        }
        stream.finish(BTreeMap::new()).await?;
        Ok(Verdict::default())
    }
}

/// Returns parameters for chunks of about a hundredth of their usual length.
pub fn short_chunks() -> ChunkerParams {
    ChunkerParams { min_bytes: 256, avg_bytes: 512, max_bytes: 2048, ..ChunkerParams::default() }
}

/// Writes letters that depend on the seed alone, and that compress to a quarter.
fn write_page(seed: u64, page: &mut [u8; PAGE_BYTES]) {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for letters in page.chunks_mut(32) {
        // Marsaglia, "Xorshift RNGs" (2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for (place, letter) in letters.iter_mut().enumerate() {
            *letter = b"acgt"[(state >> (2 * place)) as usize & 3];
        }
    }
}
