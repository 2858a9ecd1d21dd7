//! Stores anew what is needed of condemned packs, in an order that restores fast.
//!
//! Chunks that are stored whole are laid out as the newest snapshots have them, so that those are read in few and long
//! requests. Of a delta the needed chunks are compressed again, against the same bases: so no chunk is ever deeper than it
//! was, and what is compressed against it stays as deep.

use super::mark;
use crate::edges::progress::Progress;
use crate::format::contents::ChunkEntry;
use crate::format::names::PackKind;
use crate::format::pack::{Delta, PackContents};
use crate::format::record::Sealer;
use crate::state::bases::Bases;
use crate::state::census::Census;
use crate::state::chains::{self, Blobs, Chains, Find, Job, PackFailure};
use crate::state::fetch::cut;
use crate::state::index::{BlobKey, ChunkNumber, Found};
use crate::state::packer::{Packer, Run};
use crate::state::reader::PackReader;
use crate::state::snapshots::Snapshot;
use crate::words::error::{Error, Result};
use crate::words::id::ChunkId;
use crate::words::limits::{BLOB_CHUNKS_MAX, BLOB_PLAIN_BYTES_TARGET, BLOBS_PER_WINDOW, RESTORE_WINDOW_BYTES};
use futures::future::try_join;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Chunks that will make one blob.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    kind: PackKind,
    /// The blob that they are a delta's in; nothing for those that are stored whole.
    delta: Option<usize>,
    chunks: Vec<ChunkNumber>,
}

/// Orders chunks into blobs: data before nodes, those of the newest snapshots first and as these have them.
///
/// # Errors
/// As [`mark::mark`].
pub(super) async fn lay_out(
    reader: &PackReader,
    census: &Census,
    snapshots: &[Snapshot],
    chunks: &[ChunkNumber],
) -> Result<Vec<Unit>> {
    let index = census.index();
    let kind_of = |number: ChunkNumber| index.pack(index.blob(index.blob_number(number)).pack).kind;
    let is_delta = |number: ChunkNumber| index.blob(index.blob_number(number)).place.depth > 0;
    let mut whole: HashSet<ChunkNumber> =
        chunks.iter().copied().filter(|number| !is_delta(*number) && kind_of(*number) == PackKind::Data).collect();
    let mut ordered = Vec::with_capacity(whole.len());
    let mut sources = HashSet::new();
    for snapshot in snapshots.iter().rev() {
        if whole.is_empty() || !sources.insert((&snapshot.record.source, &snapshot.record.host)) {
            continue;
        }
        for stream in &snapshot.record.streams {
            let leaf = |entries: Vec<crate::format::node::LeafEntry>| {
                let numbers = entries.iter().filter_map(|entry| index.number_of(&entry.id));
                ordered.extend(numbers.filter(|number| whole.remove(number)));
            };
            mark::leaves(reader, index, stream, leaf).await?;
        }
    }
    ordered.extend(chunks.iter().copied().filter(|number| whole.contains(number)));
    let mut units = whole_units(census, PackKind::Data, ordered);
    let mut deltas: BTreeMap<usize, Vec<ChunkNumber>> = BTreeMap::new();
    for number in chunks.iter().copied().filter(|number| is_delta(*number)) {
        deltas.entry(index.blob_number(number)).or_default().push(number);
    }
    units.extend(deltas.into_iter().map(|(blob, chunks)| Unit { kind: PackKind::Data, delta: Some(blob), chunks }));
    let nodes = chunks.iter().copied().filter(|number| kind_of(*number) == PackKind::Meta);
    units.extend(whole_units(census, PackKind::Meta, nodes.collect()));
    Ok(units)
}

fn whole_units(census: &Census, kind: PackKind, chunks: Vec<ChunkNumber>) -> Vec<Unit> {
    let (mut units, mut unit, mut bytes) = (Vec::new(), Vec::new(), 0);
    for number in chunks {
        let more = census.index().chunk(number).plain_bytes as usize;
        if !unit.is_empty() && (bytes + more > BLOB_PLAIN_BYTES_TARGET || unit.len() == BLOB_CHUNKS_MAX) {
            units.push(Unit { kind, delta: None, chunks: std::mem::take(&mut unit) });
            bytes = 0;
        }
        bytes += more;
        unit.push(number);
    }
    if !unit.is_empty() {
        units.push(Unit { kind, delta: None, chunks: unit });
    }
    units
}

/// Units that are read together, and every blob that is needed for them.
pub(super) struct Window {
    units: Vec<Unit>,
    blobs: HashSet<usize>,
}

/// Groups units so that the blobs that each group needs fit into a window; one alone may be more.
pub(super) fn windows(census: &Census, units: Vec<Unit>) -> Vec<Window> {
    let index = census.index();
    let (mut windows, mut bytes): (Vec<Window>, usize) = (Vec::new(), 0);
    for unit in units {
        let is_first_of_kind = windows.last().is_none_or(|window| window.units[0].kind != unit.kind);
        let known = if is_first_of_kind { None } else { windows.last() };
        let mut more: HashSet<usize> = HashSet::new();
        let mut pending: Vec<usize> = unit.chunks.iter().map(|number| index.blob_number(*number)).collect();
        while let Some(blob) = pending.pop() {
            if known.is_none_or(|window| !window.blobs.contains(&blob)) && more.insert(blob) {
                pending.extend(census.bases(blob).flatten().map(|base| index.blob_number(base)));
            }
        }
        let plain_bytes = |blobs: &HashSet<usize>| -> usize {
            blobs.iter().map(|blob| index.blob(*blob).place.plain_bytes as usize).sum()
        };
        let more_bytes = plain_bytes(&more);
        match windows.last_mut() {
            Some(window) if !is_first_of_kind && bytes + more_bytes <= RESTORE_WINDOW_BYTES => {
                bytes += more_bytes;
                window.units.push(unit);
                window.blobs.extend(more);
            }
            _ => {
                let blobs = closure(census, &unit);
                bytes = plain_bytes(&blobs);
                windows.push(Window { units: vec![unit], blobs });
            }
        }
    }
    windows
}

fn closure(census: &Census, unit: &Unit) -> HashSet<usize> {
    let index = census.index();
    let mut blobs = HashSet::new();
    let mut pending: Vec<usize> = unit.chunks.iter().map(|number| index.blob_number(*number)).collect();
    while let Some(blob) = pending.pop() {
        if blobs.insert(blob) {
            pending.extend(census.bases(blob).flatten().map(|base| index.blob_number(base)));
        }
    }
    blobs
}

/// What reading these windows takes: requests, and bytes.
pub(super) fn cost(census: &Census, windows: &[Window]) -> (u64, u64) {
    let index = census.index();
    let mut trailers = HashSet::new();
    let (mut requests_n, mut bytes_n) = (0, 0);
    for window in windows {
        let found = window.blobs.iter().map(|blob| found(census, *blob));
        let (reads_n, bytes) = chains::cost(found.collect());
        requests_n += reads_n;
        bytes_n += bytes;
        for blob in window.blobs.iter().filter(|blob| index.blob(**blob).place.depth > 0) {
            trailers.insert(index.blob(*blob).pack);
        }
    }
    (requests_n + trailers.len() as u64, bytes_n)
}

fn found(census: &Census, blob: usize) -> Found {
    let index = census.index();
    index.find_blob(blob)
}

/// Finds chunks in a census.
struct Finder<'a> {
    census: &'a Census,
    chains: Chains,
    reader: &'a PackReader,
}

impl Find for Finder<'_> {
    async fn find(&self, id: &ChunkId) -> Result<Found> {
        let number = mark::find(self.census.index(), id, "chunk")?;
        Ok(self.census.index().find_numbered(number).expect("it has a number"))
    }

    fn chains(&self) -> (&Chains, &PackReader) {
        (&self.chains, self.reader)
    }
}

/// Reads windows, and packs their units anew; returns what the new packs hold.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`]: what is needed can't be read. [`Error::Store`].
pub(super) async fn perform(
    reader: &PackReader,
    census: &Census,
    windows: Vec<Window>,
    level: i32,
    progress: &dyn Progress,
) -> Result<Vec<PackContents>> {
    let mut contents = Vec::new();
    let (data, meta): (Vec<_>, Vec<_>) = windows.into_iter().partition(|window| window.units[0].kind == PackKind::Data);
    for (kind, windows) in [(PackKind::Data, data), (PackKind::Meta, meta)] {
        if windows.is_empty() {
            continue;
        }
        let (sender, batches) = mpsc::channel(1);
        let (stored_sender, mut stored) = mpsc::unbounded_channel();
        let finder = Finder { census, chains: Chains::default(), reader };
        let read = async {
            let sender = sender;
            for window in windows {
                let mut runs = read_window(&finder, window, kind).await?;
                while !runs.is_empty() {
                    let rest = runs.split_off(runs.len().min(BLOBS_PER_WINDOW));
                    // The packer only goes away with an error of its own, which ends both.
                    if sender.send(std::mem::replace(&mut runs, rest)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let packer = Packer { repository: reader.repository(), progress, kind, level };
        try_join(read, packer.run(batches, stored_sender)).await?;
        while let Some(pack) = stored.recv().await {
            contents.push(pack);
        }
    }
    Ok(contents)
}

/// The blob of a delta, and the chunks that are wanted, with their places.
type WantedUnit = (Option<usize>, Vec<(ChunkEntry, Found)>);

async fn read_window(finder: &Finder<'_>, window: Window, kind: PackKind) -> Result<Vec<Run>> {
    let (census, reader) = (finder.census, finder.reader);
    let unwrap = |failure: PackFailure| failure.error;
    let mut jobs: BTreeMap<BlobKey, Job> = BTreeMap::new();
    let mut deltas = HashMap::new();
    for blob in &window.blobs {
        chains::close(finder, found(census, *blob), &mut |_| false, &mut jobs).await.map_err(unwrap)?;
    }
    for blob in window.units.iter().filter_map(|unit| unit.delta) {
        let found = found(census, blob);
        let entry = finder.chains.entry(reader, &found, Clone::clone).await.map_err(unwrap)?;
        deltas.insert(blob, (entry, jobs[&found.blob_key()].prefix.clone()));
    }
    let sealed = chains::read_jobs(reader, jobs.into_values().collect()).await.map_err(unwrap)?;
    let wanted: Vec<WantedUnit> = window
        .units
        .into_iter()
        .map(|unit| {
            let index = census.index();
            let chunk =
                |number: ChunkNumber| (*index.chunk(number), index.find_numbered(number).expect("it is placed"));
            (unit.delta, unit.chunks.into_iter().map(chunk).collect())
        })
        .collect();
    let repository = reader.repository();
    let (id, keys) = (repository.id(), Arc::clone(&repository.keys));
    let work = move || -> Result<Vec<Run>> {
        let mut blobs = Blobs::default();
        chains::decode_jobs(Sealer { repository: id, keys: &keys }, sealed, &mut blobs)
            .map_err(|failure| failure.error)?;
        let run = |(delta, chunks): WantedUnit| {
            let mut run = Run::default();
            for (entry, found) in &chunks {
                let damaged = |why| Error::damaged(format!("chunk {}", entry.id.short()), why);
                let chunk = blobs.get(&found.blob_key()).and_then(|blob| cut(blob, &found.location));
                let chunk = chunk.ok_or_else(|| damaged("it is cut off"))?;
                if kind.chunk_id(&keys, &chunk) != entry.id {
                    return Err(damaged("it does not hash to its id"));
                }
                run.plain.extend_from_slice(&chunk);
                run.chunks.push(*entry);
            }
            if let Some((entry, parts)) = delta.map(|blob| &deltas[&blob]) {
                let like = |(chunk, _): &(ChunkEntry, Found)| {
                    let place = entry.chunks.iter().position(|other| other.id == chunk.id);
                    place.map_or(crate::format::contents::NO_LIKE, |place| entry.likes[place])
                };
                let likes = chunks.iter().map(like).collect();
                let (depth, generation, bases) = (entry.depth, entry.generation, entry.bases.clone());
                let prefix = chains::prefix(parts, &blobs)
                    .ok_or_else(|| Error::damaged("a delta", "its bases do not reach as far as it says"))?;
                run.bases = Some(Bases { delta: Delta { depth, generation, bases, likes }, prefix, whole: (0, 0) });
            }
            Ok(run)
        };
        wanted.into_iter().map(run).collect()
    };
    repository.cpu.run(work).await
}
