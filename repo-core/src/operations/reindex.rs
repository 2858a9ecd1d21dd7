//! Makes the index anew from what the packs say of themselves.
//!
//! A session of its own: reads every pack's trailer, writes fragments, commits a merge that names the fragments it makes
//! superfluous, and deletes those. Fragments of sessions that are undecided are not touched: they may commit yet.

use crate::edges::progress::{Event, Progress};
use crate::edges::system::now_ms;
use crate::format::decision::MergeRecord;
use crate::format::names::{self, FragmentName, MERGES};
use crate::format::pack::PackContents;
use crate::state::census;
use crate::state::fragments::Fragments;
use crate::state::ground::Ground;
use crate::state::loader::{self, Loaded};
use crate::state::repository::Repository;
use crate::state::session::Session;
use crate::state::snapshots;
use crate::words::error::{Error, Result};
use crate::words::id::{PackId, SessionId};
use crate::words::limits::READS_MAX;
use futures::future::try_join;
use futures::{StreamExt, stream};
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use tokio::sync::mpsc;

/// What a reindex did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReindexReport {
    /// Packs whose trailers were read.
    pub packs_n: u64,
    /// Chunks and nodes in them.
    pub chunks_n: u64,
    /// Fragments written.
    pub fragments_n: u32,
    /// Old fragments that no longer count: deleted, or gone before.
    pub fragments_deleted_n: u64,
    /// Packs whose trailers could not be read, with the reason. What the old index says of them, and of packs that are
    /// lost, stays in force.
    pub unreadable: Vec<String>,
}

/// Rebuilds the index from the packs' trailers: one or two requests a pack.
///
/// # Errors
/// [`Error::Store`], [`Error::Conflict`]; the old index stays in force then.
pub async fn reindex(repository: &Repository, host: &str, progress: &dyn Progress) -> Result<ReindexReport> {
    // Whoever doubts the index doubts its copies, too.
    let repository = &repository.without_cache();
    let mut session = Session::start(repository, "reindex", host, "").await?;
    let work = rebuild(repository, session.id(), progress);
    let (mut report, superseded) = match session.refresh_while(&AtomicU64::new(0), work).await {
        Ok(done) => done,
        Err(error) => {
            session.end().await;
            return Err(error);
        }
    };
    let merge = MergeRecord {
        operation: "reindex".to_owned(),
        ended_ms: now_ms(),
        fragments_n: report.fragments_n,
        supersedes: superseded,
        notices: Vec::new(),
    };
    session.commit(MERGES, &merge).await?;
    report.fragments_deleted_n = merge.supersedes.len() as u64;
    for name in &merge.supersedes {
        repository.store.delete(&names::fragment(*name)).await?;
    }
    Ok(report)
}

async fn rebuild(
    repository: &Repository,
    session: SessionId,
    progress: &dyn Progress,
) -> Result<(ReindexReport, Vec<FragmentName>)> {
    // Notices before fragments, as for all who add. Fragments before packs: every pack that they name was put before them, so
    // the listing of packs below has it.
    let condemned = census::condemned(&repository.notices().await?);
    let loaded = loader::load(repository).await?;
    let mut packs = loaded.packs.sorted();
    // What a notice names is about to go. A notice that comes later sees our mark, and its prune waits for us.
    packs.retain(|(kind, id, _)| !condemned.contains(&(*kind, *id)));
    progress.event(Event::Planned { objects_n: packs.len() as u64, bytes: 0 });
    let mut report = ReindexReport::default();
    let mut listed = HashSet::new();
    let (sender, stored) = mpsc::unbounded_channel();
    let reading = async {
        let sender = sender;
        let mut trailers = stream::iter(packs)
            .map(|pack| async move { (pack, loader::read_trailer(repository, pack).await) })
            .buffered(READS_MAX);
        while let Some(((_, id, _), contents)) = trailers.next().await {
            progress.event(Event::Done { bytes: 0 });
            match contents {
                Ok(contents) => {
                    listed.insert(id);
                    report.packs_n += 1;
                    report.chunks_n += contents.blobs.iter().map(|blob| blob.chunks.len() as u64).sum::<u64>();
                    // The writer only goes away with an error of its own, which ends both.
                    let _ = sender.send(contents);
                }
                Err(error @ (Error::Damaged { .. } | Error::Missing { .. } | Error::NewerFormat { .. })) => {
                    report.unreadable.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let ((), (fragments_n, _)) = try_join(reading, Fragments::create(repository, session).run(stored)).await?;
    report.fragments_n = fragments_n;
    // What an old fragment knows of a pack that could not be listed again, or that is lost, nobody else knows.
    let kept: HashSet<FragmentName> = loaded
        .fragments_of
        .iter()
        .filter(|(pack, _)| !listed.contains(*pack))
        .flat_map(|(_, names)| names.iter().copied())
        .chain(loaded.newer.iter().copied())
        .collect();
    // Those that are gone are superseded too: nobody shall go on missing them.
    let gone = snapshots::missing_fragments(repository).await?;
    let decided_anew = repeated(repository, &loaded, &listed).await?;
    let counted = loaded.counted.into_iter().filter(|name| !kept.contains(name));
    let superseded = counted.chain(gone).chain(decided_anew).collect();
    Ok((report, superseded))
}

/// Returns the fragments with a damaged decision that say nothing which was not listed again: whether they count matters no
/// longer. Their session can't commit any more, since the damaged object has the place of its decision.
async fn repeated(repository: &Repository, loaded: &Loaded, listed: &HashSet<PackId>) -> Result<Vec<FragmentName>> {
    let mut repeated = Vec::new();
    for name in &loaded.unknown {
        let is_listed = |pack: &PackContents| {
            listed.contains(&pack.info.id) || loaded.packs.bytes(pack.info.kind, pack.info.id).is_none()
        };
        match loader::read_fragment(repository, *name).await {
            Ok(packs) if packs.iter().flatten().all(is_listed) => repeated.push(*name),
            Ok(_) => {}
            Err(error) if error.is_damage() => repeated.push(*name),
            Err(Error::NewerFormat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(repeated)
}
