//! Moves snapshots between repositories that name chunks alike.
//!
//! What the other repository lacks of a snapshot is found by names alone. A blob all of whose chunks it lacks is taken out of
//! its seal and sealed again there, encoded as it was; of others the missing chunks are decoded and encoded anew. A delta
//! brings its bases along. It moves only where all of them are, or come to lie, no deeper there than here: so every chain
//! stays as short as it was. Otherwise its chunks are stored whole.
//!
//! Several snapshots share what was loaded of both repositories. All their sessions are announced before anything is looked
//! at: what FORMAT.md ("Deletion") asks of a session holds for each of them, also for chunks that one of them stored before.

use super::{CopyReport, Job, SourceFailure, note, record};
use crate::crafts::compress::Encoding;
use crate::format::names::{PackKind, SNAPSHOTS};
use crate::format::pack::PackContents;
use crate::format::snapshot::Totals;
use crate::state::adoption::adopt;
use crate::state::census::{Census, Needed};
use crate::state::chains::{NO_PACK, PackFailure};
use crate::state::fragments::Fragments;
use crate::state::index::{BlobView, ChunkNumber, Index};
use crate::state::loader;
use crate::state::mark;
use crate::state::packer;
use crate::state::reader::{PackReader, ReadFrom};
use crate::state::repack::{self, How, RepackError, Unit, whole_units};
use crate::state::session::Session;
use crate::state::snapshots::Snapshot;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId, SessionId, SnapshotId};
use crate::words::limits::COPY_SESSIONS_MAX;
use futures::future::try_join;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Copies the first of these snapshots, until one can't be read; that is in the result. Places in the avoided packs are
/// taken last.
///
/// # Errors
/// As [`super::copy`].
pub(super) async fn copy_batch(
    job: &Job<'_>,
    snapshots: &[&Snapshot],
    avoided: &HashSet<PackId>,
    copies: &mut HashMap<SnapshotId, SnapshotId>,
    report: &mut CopyReport,
) -> Result<Option<SourceFailure>> {
    let mut sessions = Vec::new();
    for snapshot in snapshots.iter().take(COPY_SESSIONS_MAX) {
        sessions.push(Session::start(job.to, "copy", &job.options.host, &snapshot.record.source).await?);
    }
    let copied = copy_announced(job, snapshots, &mut sessions, avoided, (copies, report)).await;
    for session in sessions {
        session.end().await;
    }
    match copied {
        Ok(()) => Ok(None),
        Err(RepackError::Source(PackFailure { pack, error })) if error.is_damage() => {
            let pack = (pack != NO_PACK).then_some(pack);
            Ok(Some(SourceFailure { pack, error }))
        }
        Err(error) => Err(error.into_error()),
    }
}

async fn copy_announced(
    job: &Job<'_>,
    snapshots: &[&Snapshot],
    sessions: &mut Vec<Session>,
    avoided: &HashSet<PackId>,
    (copies, report): (&mut HashMap<SnapshotId, SnapshotId>, &mut CopyReport),
) -> Result<(), RepackError> {
    let other = RepackError::Other;
    let mut loaded = loader::load_to_add(job.to).await.map_err(other)?;
    let mut adopted = adopt(job.to, &mut loaded).await.map_err(other)?;
    report.problems.extend(
        loaded
            .problems
            .iter()
            .map(Error::to_string)
            .filter(|problem| !report.problems.contains(problem))
            .collect::<Vec<_>>(),
    );
    let reader = PackReader::create(job.from, ReadFrom::CacheThenStore);
    let census = Census::take(job.from, avoided).await.map_err(other)?;
    let mut mover = Mover {
        job,
        needed: Needed::none(census.index()),
        reader: &reader,
        census: &census,
        there: loaded.index,
        depths: HashMap::new(),
    };
    let bytes_done = AtomicU64::new(0);
    for snapshot in snapshots.iter().take(sessions.len()) {
        let id = sessions[0].id();
        let moved = mover.carry(snapshot, id, std::mem::take(&mut adopted), &bytes_done);
        let (fragments_n, totals) = Session::refresh_all_while(sessions, &bytes_done, moved).await?;
        let record = record(snapshot, snapshot.record.streams.clone(), (fragments_n, totals), copies);
        let id = sessions.remove(0).commit(SNAPSHOTS, &record).await.map_err(other)?;
        note(job, Snapshot { id, record }, copies, report);
    }
    report.bytes_read += reader.bytes_read();
    Ok(())
}

/// Moves what one repository lacks of another's snapshots.
struct Mover<'a> {
    job: &'a Job<'a>,
    reader: &'a PackReader,
    census: &'a Census,
    /// What the snapshots need that were looked at, by the census's index.
    needed: Needed,
    /// What lies in the other repository; and what this run put there, without a place.
    there: Index,
    /// How deep that is, where it is a delta.
    depths: HashMap<ChunkId, u8>,
}

impl Mover<'_> {
    /// Stores what the other repository lacks of a snapshot, and lists it and what was adopted in fragments of the session.
    /// Returns how many those are, and what it cost.
    async fn carry(
        &mut self,
        snapshot: &Snapshot,
        session: SessionId,
        adopted: Vec<PackContents>,
        bytes_done: &AtomicU64,
    ) -> Result<(u32, Totals), RepackError> {
        let streams = snapshot.record.streams.iter();
        let marked = mark::mark(self.reader, self.census.index(), streams, &mut self.needed).await;
        let missing = marked.and_then(|_| self.missing()).map_err(source_failed)?;
        let units = self.units(&missing);
        let windows = repack::windows(self.census, units.clone(), 0);

        let (sender, stored) = mpsc::unbounded_channel();
        for pack in adopted {
            sender.send(pack).expect("its receiver is there");
        }
        let (to, compression) = (self.job.to, self.job.options.compression);
        let repacked = repack::perform((self.reader, self.census), to, windows, compression, self.job.progress, sender);
        let fragments = async { Fragments::create(to, session).run(stored).await.map_err(RepackError::Other) };
        let ((data, meta), (fragments_n, fragment_bytes)) = try_join(repacked, fragments).await?;

        let mut totals = self.take_note(&units);
        totals.bytes = snapshot.record.totals.bytes;
        totals.chunks_n = snapshot.record.totals.chunks_n;
        packer::add_stored(&mut totals, &data, &meta, fragment_bytes);
        bytes_done.fetch_add(totals.bytes, Ordering::Relaxed);
        Ok((fragments_n, totals))
    }

    /// Returns what is needed and not there, and the bases that it needs there.
    fn missing(&self) -> Result<BTreeSet<ChunkNumber>> {
        let index = self.census.index();
        let is_there = |number: ChunkNumber| self.there.knows(&index.chunk(number).id);
        let mut missing: BTreeSet<ChunkNumber> = self.needed.iter().filter(|number| !is_there(*number)).collect();
        let mut pending: Vec<ChunkNumber> = missing.iter().copied().collect();
        let mut visited = HashSet::new();
        while let Some(number) = pending.pop() {
            let blob = index.blob_number(number);
            if index.blob(blob).place.encoding != Encoding::ZstdPrefix || !visited.insert(blob) {
                continue;
            }
            for base in self.census.bases(blob) {
                let base = base.ok_or_else(|| Error::Missing {
                    object: format!("chunk {}", index.chunk(number).id.short()),
                    why: "what it was compressed against is not there; run `dedump check`".to_owned(),
                })?;
                if !is_there(base) && missing.insert(base) {
                    pending.push(base);
                }
            }
        }
        Ok(missing)
    }

    /// Says how missing chunks move: what is stored whole first, then deltas, the shallowest first.
    fn units(&self, missing: &BTreeSet<ChunkNumber>) -> Vec<Unit> {
        let index = self.census.index();
        let mut by_blob: BTreeMap<usize, Vec<ChunkNumber>> = BTreeMap::new();
        for number in missing {
            by_blob.entry(index.blob_number(*number)).or_default().push(*number);
        }
        let (mut data, mut nodes, mut deltas) = (Vec::new(), Vec::new(), Vec::new());
        let mut alone = (Vec::new(), Vec::new());
        for (blob, chunks) in by_blob {
            let view = index.blob(blob);
            let kind = index.pack(view.pack).kind;
            let is_whole = chunks.len() == view.entries.len();
            let as_it_is = |chunks| Unit { kind, how: How::AsItIs(blob), chunks };
            if view.place.depth > 0 && self.bases_serve(blob, &view, missing) {
                let unit = if is_whole { as_it_is(chunks) } else { Unit { kind, how: How::Delta(blob), chunks } };
                deltas.push((view.place.depth, unit));
                continue;
            }
            let (units, alone) = match kind {
                PackKind::Data => (&mut data, &mut alone.0),
                PackKind::Meta => (&mut nodes, &mut alone.1),
            };
            if view.place.depth == 0 && is_whole {
                units.extend(whole_units(self.census, kind, std::mem::take(alone)));
                units.push(as_it_is(chunks));
            } else {
                alone.extend(chunks);
            }
        }
        data.extend(whole_units(self.census, PackKind::Data, alone.0));
        nodes.extend(whole_units(self.census, PackKind::Meta, alone.1));
        deltas.sort_by_key(|(depth, _)| *depth);
        data.extend(deltas.into_iter().map(|(_, unit)| unit));
        data.append(&mut nodes);
        data
    }

    /// Returns whether a delta can be decoded there by chains no longer than here.
    fn bases_serve(&self, blob: usize, view: &BlobView, missing: &BTreeSet<ChunkNumber>) -> bool {
        let index = self.census.index();
        self.census.bases(blob).all(|base| {
            let Some(base) = base else { return false };
            let (id, here) = (index.chunk(base).id, index.blob(index.blob_number(base)).place.depth);
            // What comes along is stored as deep as it is here, or whole.
            let there = if missing.contains(&base) { Some(here) } else { self.depth_there(&id) };
            there.is_some_and(|there| there <= here && here < view.place.depth)
        })
    }

    fn depth_there(&self, id: &ChunkId) -> Option<u8> {
        let put_now = || self.there.knows(id).then(|| self.depths.get(id).copied().unwrap_or(0));
        self.there.depth_of(id).or_else(put_now)
    }

    /// Notes what is there now; returns the totals of it.
    fn take_note(&mut self, units: &[Unit]) -> Totals {
        let (index, mut totals) = (self.census.index(), Totals::default());
        for unit in units {
            let depth = match unit.how {
                How::Whole => 0,
                How::Delta(blob) | How::AsItIs(blob) => index.blob(blob).place.depth,
            };
            for chunk in unit.chunks.iter().map(|number| *index.chunk(*number)) {
                self.there.announce(chunk);
                if depth > 0 {
                    self.depths.insert(chunk.id, depth);
                }
                match unit.kind {
                    PackKind::Data => {
                        totals.chunks_new_n += 1;
                        totals.bytes_new += u64::from(chunk.plain_bytes);
                    }
                    PackKind::Meta => totals.nodes_new_n += 1,
                }
            }
        }
        totals
    }
}

/// What the snapshot is made of can't be found or read; no pack is named.
fn source_failed(error: Error) -> RepackError {
    RepackError::Source(PackFailure { pack: NO_PACK, error })
}
