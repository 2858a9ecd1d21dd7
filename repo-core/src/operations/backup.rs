//! Backs up what an engine dumps. Commits last, and only what the engine vouches for.

use super::pipeline::{self, Outcome, Plan};
use super::reuse::Reusable;
use crate::crafts::buffers::Buffers;
use crate::crafts::chunker::{Chunker, ChunkerParams};
use crate::crafts::compress::{Compression, Effort};
use crate::edges::parent::Before;
use crate::edges::progress::Progress;
use crate::edges::source::{Engine, Sink, Verdict};
use crate::edges::system::now_ms;
use crate::format::names::SNAPSHOTS;
use crate::format::snapshot::{Quality, SnapshotRecord};
use crate::state::adoption::adopt;
use crate::state::fetch::Fetcher;
use crate::state::loader;
use crate::state::reader::{PackReader, ReadFrom};
use crate::state::repository::{PROGRAM, Repository};
use crate::state::session::Session;
use crate::state::snapshots::{self, Snapshot};
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use crate::words::limits::{LABEL_BYTES_MAX, SHRUNK_PERCENT};
use futures::future;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// What is dumped: the snapshots of one source follow one another.
    pub source: String,
    /// The host that is backed up.
    pub host: String,
    /// Labels for the snapshot.
    pub tags: BTreeMap<String, String>,
    /// How streams are cut; `None` stands for the repository's own parameters, which is what deduplicates.
    pub chunker: Option<ChunkerParams>,
    /// How chunks are compressed.
    pub compression: Compression,
    /// Whether new chunks are compressed against like chunks of the parent.
    pub delta: DeltaMode,
    /// The snapshot against which that is done; `None` stands for the newest of the same source, on the same host if there
    /// is one.
    pub parent: Option<SnapshotId>,
    /// A backup smaller than this share of the one before, in per cent, is kept and marked suspicious; 0 asks nothing.
    pub shrunk_percent: u64,
}

impl BackupOptions {
    /// Returns the options for this source on this host, the rest at safe defaults.
    pub fn new(source: impl Into<String>, host: impl Into<String>) -> Self {
        BackupOptions {
            source: source.into(),
            host: host.into(),
            tags: BTreeMap::new(),
            chunker: None,
            compression: Compression::Auto,
            delta: DeltaMode::Auto,
            parent: None,
            shrunk_percent: SHRUNK_PERCENT,
        }
    }
}

/// When new chunks are compressed against like chunks of the snapshot before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeltaMode {
    /// Where those can be read back cheaply: from a store on the local disk, or from the local cache.
    #[default]
    Auto,
    /// Always, and they are fetched from the store if need be.
    Always,
    /// Never.
    Off,
}

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The snapshot that was committed.
    pub snapshot: Snapshot,
    /// What was wrong in the repository and did not hinder the backup; `check` says more.
    pub problems: Vec<String>,
}

/// Dumps the engine's streams into the repository and commits them as one snapshot.
///
/// Must run inside a tokio runtime with its timer on. Dropping the future cancels: the engine's future is dropped with it,
/// and nothing is committed, unless the commit was already on its way to the store. What was uploaded and listed before is
/// used by the next backup; the rest stays until a `reindex` makes it usable or a prune removes it.
/// Memory is bounded by [`limits::BACKUP_BYTES_MAX`](crate::words::limits::BACKUP_BYTES_MAX) plus the index.
///
/// # Errors
/// [`Error::DumpFailed`]: the engine's own verdict. [`Error::Store`]: the store failed while the dump ran.
/// [`Error::Conflict`]: another process took this one for dead. [`Error::Invalid`]: impossible options. In every case
/// nothing was committed, but for one: an [`Error::Store`] about `snapshots/…` means that the commit itself went
/// unanswered, and a listing tells whether it stands.
pub async fn backup(
    repository: &Repository,
    engine: &dyn Engine,
    options: &BackupOptions,
    progress: &dyn Progress,
) -> Result<BackupReport> {
    check_options(options)?;
    let make = |started_ms, dumped| Ok(record(engine, options, started_ms, dumped));
    run(repository, engine, ("backup", options), progress, make).await
}

/// What an engine dumped, stored and not committed.
pub(super) struct Dumped {
    pub verdict: Verdict,
    pub outcome: Outcome,
    pub parent: Option<Snapshot>,
    problems: Vec<String>,
}

/// Dumps in a session of this operation, and commits what `make` makes of its beginning and of what was dumped.
///
/// # Errors
/// As [`backup`]; those of `make`.
pub(super) async fn run(
    repository: &Repository,
    engine: &dyn Engine,
    (operation, options): (&str, &BackupOptions),
    progress: &dyn Progress,
    make: impl FnOnce(i64, Dumped) -> Result<SnapshotRecord>,
) -> Result<BackupReport> {
    let params = options.chunker.unwrap_or(repository.config().chunker);
    let chunker = Arc::new(Chunker::new(params, &repository.keys.gear().0)?);
    let mut session = Session::start(repository, operation, &options.host, &options.source).await?;
    let id = session.id();
    let bytes_done = AtomicU64::new(0);
    let work = dump(repository, engine, options, progress, (id, chunker, &bytes_done));
    let made = session.refresh_while(&bytes_done, work).await.and_then(|mut dumped| {
        let problems = std::mem::take(&mut dumped.problems);
        Ok((make(session.started_ms(), dumped)?, problems))
    });
    match made {
        Ok((record, mut problems)) => {
            session.commit(SNAPSHOTS, &record).await?;
            problems.extend(repository.cache.as_ref().and_then(|cache| cache.cache().take_problem()));
            Ok(BackupReport { snapshot: Snapshot { id, record }, problems })
        }
        Err(error) => {
            session.end().await;
            Err(error)
        }
    }
}

async fn dump(
    repository: &Repository,
    engine: &dyn Engine,
    options: &BackupOptions,
    progress: &dyn Progress,
    (session, chunker, bytes_done): (SnapshotId, Arc<Chunker>, &AtomicU64),
) -> Result<Dumped> {
    let snapshots = snapshots::load(repository).await?;
    let mut loaded = loader::load_to_add(repository).await?;
    let adopted = adopt(repository, &mut loaded).await?;
    let mut problems: Vec<String> = snapshots.unreadable.iter().map(|(_, error)| error.to_string()).collect();
    problems.extend(loaded.problems.iter().map(Error::to_string));
    let lost_n = loaded.lost.packs().len();
    if lost_n > 0 {
        problems.push(format!("packs are missing ({lost_n}); what they held is stored again where this backup has it"));
    }
    let parent = parent(&snapshots.standing, options)?.cloned();
    let read_from = read_from(repository, options.delta);
    let reader = PackReader::create(repository, read_from.unwrap_or(ReadFrom::Store));
    let fetcher = Fetcher::create_fixed(reader, loaded.index);

    let reusable = parent.as_ref().map(|parent| Arc::new(Reusable::create(&fetcher, parent, chunker.params())));
    let before = reusable.clone().map(|reusable| reusable as Arc<dyn Before>);
    let (sink, pieces) = Sink::create(chunker.params().max_bytes as usize, before);
    let plan = Plan {
        repository,
        fetcher: &fetcher,
        parent: parent.as_ref().filter(|_| read_from.is_some()),
        with_sketches: options.delta != DeltaMode::Off,
        progress,
        chunker,
        compression: options.compression,
        buffers: Buffers::default(),
        session,
        adopted,
        bytes_done,
    };
    let engine = async move {
        let verdict = engine.dump(&sink).await?;
        // Nothing comes after the verdict: a writer that the engine kept is a stream that was not finished.
        sink.close().await?;
        Ok(verdict)
    };
    let (verdict, mut outcome) = future::try_join(engine, pipeline::run(plan, pieces)).await?;
    if outcome.streams.is_empty() {
        return Err(Error::DumpFailed("the dump has no streams; nothing was stored".to_owned()));
    }
    problems.append(&mut outcome.problems);
    outcome.bytes_read_back = fetcher.reader().bytes_read();
    if let Some(reusable) = reusable {
        outcome.bytes_read_back += reusable.bytes_read();
        problems.append(&mut reusable.take_problems());
    }
    Ok(Dumped { verdict, outcome, parent, problems })
}

/// Where bases are read from; `None` if there are to be none.
fn read_from(repository: &Repository, mode: DeltaMode) -> Option<ReadFrom> {
    match (mode, &repository.cache) {
        (DeltaMode::Off, _) => None,
        (DeltaMode::Always, _) => Some(ReadFrom::CacheThenStore),
        (DeltaMode::Auto, _) if repository.store.is_near() => Some(ReadFrom::CacheThenStore),
        (DeltaMode::Auto, Some(_)) => Some(ReadFrom::Cache),
        (DeltaMode::Auto, None) => None,
    }
}

/// The snapshot that was asked for; or the newest of the same source on the same host, or else of the same source.
fn parent<'a>(standing: &'a [Snapshot], options: &BackupOptions) -> Result<Option<&'a Snapshot>> {
    if let Some(id) = options.parent {
        let found = standing.iter().find(|snapshot| snapshot.id == id);
        return found.map(Some).ok_or_else(|| Error::NotFound {
            what: "snapshot",
            name: id.to_string(),
            hint: "; see `dedump snapshots`".to_owned(),
        });
    }
    let same_source = || standing.iter().rev().filter(|snapshot| snapshot.record.source == options.source);
    Ok(same_source().find(|snapshot| snapshot.record.host == options.host).or_else(|| same_source().next()))
}

fn record(engine: &dyn Engine, options: &BackupOptions, started_ms: i64, dumped: Dumped) -> SnapshotRecord {
    let Dumped { verdict, outcome, parent, .. } = dumped;
    let totals = outcome.totals();
    let mut suspicious = verdict.suspicious;
    suspicious.extend(shrunk(totals.bytes, parent.as_ref(), options.shrunk_percent));
    let quality = match (verdict.missing.is_empty(), suspicious.is_empty()) {
        (false, _) => Quality::Partial,
        (true, false) => Quality::Suspicious,
        (true, true) => Quality::Good,
    };
    let mut facts = verdict.facts;
    facts.insert("engine".to_owned(), engine.kind().to_owned());
    SnapshotRecord {
        started_ms,
        ended_ms: now_ms(),
        host: options.host.clone(),
        source: options.source.clone(),
        tags: options.tags.clone(),
        program: PROGRAM.to_owned(),
        quality,
        reasons: verdict.missing.into_iter().chain(suspicious).collect(),
        warnings: verdict.warnings,
        facts,
        parent: parent.map(|snapshot| snapshot.id),
        origin: None,
        totals,
        streams: outcome.streams,
        fragments_n: outcome.fragments_n,
    }
}

fn shrunk(bytes: u64, parent: Option<&Snapshot>, percent: u64) -> Option<String> {
    let parent = parent?;
    let before = parent.record.totals.bytes;
    let is_shrunk = u128::from(bytes) * 100 < u128::from(before) * u128::from(percent);
    is_shrunk.then(|| {
        format!(
            "it has {bytes} bytes, less than {percent} % of the {before} of the snapshot before, {}",
            parent.id.short()
        )
    })
}

fn check_options(options: &BackupOptions) -> Result<()> {
    let labels = options.tags.iter().flat_map(|(key, value)| [("tag", key), ("tag", value)]);
    let named = [("source", &options.source), ("host", &options.host)];
    for (what, text) in named.into_iter().chain(labels) {
        if text.len() > LABEL_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "{what} {text:?} can't be: at most {LABEL_BYTES_MAX} bytes, without control characters"
            )));
        }
    }
    if options.source.is_empty() || options.tags.keys().any(String::is_empty) {
        return Err(Error::Invalid("a source or a tag's key is empty; give it a name".to_owned()));
    }
    match options.compression {
        Compression::Level(level) => Effort::Level(level).checked().map(|_| ()),
        Compression::Auto => Ok(()),
    }
}
