//! Says what a restore will read, before anything but the index and the manifests is read.

use super::restore::{RestoreOptions, select};
use crate::edges::progress::{Event, Progress};
use crate::edges::store::Requests;
use crate::format::names::{self, PackKind};
use crate::format::node::LeafEntry;
use crate::state::census::Census;
use crate::state::index::ChunkNumber;
use crate::state::mark;
use crate::state::reader::{PackReader, ReadFrom};
use crate::state::repack;
use crate::state::repository::Repository;
use crate::state::snapshots::Snapshot;
use crate::words::error::Result;
use crate::words::limits::{READS_MAX, RESTORE_WINDOWS_PLANNED};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashSet;

/// A pack that a restore reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedPack {
    /// Name of the object in the store.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Bytes that are read of it.
    pub bytes_read: u64,
    /// Requests that this takes.
    pub requests_n: u64,
    /// Whether it lies in cold storage and must be thawed before it can be read.
    pub is_frozen: bool,
}

/// What a restore will read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestorePlan {
    /// Streams that will be given back.
    pub streams_n: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The data packs, by name. What is read of them is about this: what serves twice is mostly kept in between.
    pub packs: Vec<PlannedPack>,
    /// What opening the index and reading the manifests took for the plan, and will take again: listings, and reads of small
    /// objects.
    pub opening: Requests,
    /// Bytes of manifests among that.
    pub manifest_bytes: u64,
}

/// Plans the restore of streams of a snapshot. Every pack that is needed is asked for a byte, if the store is not this
/// machine's: so it is known which ones must be thawed first.
///
/// # Errors
/// [`Error::NotFound`]: no stream of that name. [`Error::Damaged`], [`Error::Missing`]: a node or a chunk that is needed.
/// [`Error::Store`].
///
/// [`Error::NotFound`]: crate::Error::NotFound
/// [`Error::Damaged`]: crate::Error::Damaged
/// [`Error::Missing`]: crate::Error::Missing
/// [`Error::Store`]: crate::Error::Store
pub async fn plan_restore(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<RestorePlan> {
    let streams = select(snapshot, &options.streams)?;
    let before = repository.store.requests();
    let census = Census::take(repository, &HashSet::new()).await?;
    let reader = PackReader::create(repository, ReadFrom::CacheThenStore);
    let mut chunks: Vec<ChunkNumber> = Vec::new();
    for stream in &streams {
        let mut missing = None;
        let leaf = |entries: Vec<LeafEntry>| {
            for entry in entries {
                match mark::find(census.index(), &entry.id, "chunk") {
                    Ok(number) => chunks.push(number),
                    Err(error) => drop(missing.get_or_insert(error)),
                }
            }
        };
        mark::leaves(&reader, census.index(), stream, leaf).await?;
        if let Some(error) = missing {
            return Err(error);
        }
    }
    let units = repack::whole_units(&census, PackKind::Data, chunks);
    let windows = repack::windows(&census, units, RESTORE_WINDOWS_PLANNED);
    let mut plan = RestorePlan {
        streams_n: streams.len() as u64,
        bytes: streams.iter().map(|stream| stream.bytes).sum(),
        packs: Vec::new(),
        opening: repository.store.requests().since(&before),
        manifest_bytes: reader.bytes_read(),
    };
    for ((kind, id), cost) in repack::cost(&census, &windows) {
        plan.packs.push(PlannedPack {
            name: names::pack(kind, id),
            bytes: census.loaded.packs.bytes(kind, id).unwrap_or_default(),
            bytes_read: cost.bytes,
            requests_n: cost.requests_n,
            is_frozen: false,
        });
    }
    if !repository.store.is_near() {
        note_frozen(repository, &mut plan.packs, progress).await?;
    }
    Ok(plan)
}

async fn note_frozen(repository: &Repository, packs: &mut [PlannedPack], progress: &dyn Progress) -> Result<()> {
    progress.event(Event::Planned { objects_n: packs.len() as u64, bytes: 0 });
    let names: Vec<String> = packs.iter().map(|pack| pack.name.clone()).collect();
    let asked = stream::iter(names).map(|name| async move { repository.store.is_frozen(&name).await });
    let mut asked = asked.buffered(READS_MAX).boxed();
    for pack in packs {
        pack.is_frozen = asked.try_next().await?.expect("one for each");
        progress.event(Event::Done { bytes: 0 });
    }
    Ok(())
}
