//! The packs: which are gone, and, for those that are read, which of their chunks are not what they were.

use super::{CheckReport, FindingKind, Findings, ReadData};
use crate::crafts::compress::Decompressor;
use crate::edges::progress::{Event, Progress};
use crate::format::contents::BlobEntry;
use crate::format::names::{self, PackKind};
use crate::format::node::LeafEntry;
use crate::format::pack::{self, BlobPlace, PackContents, PackOpener};
use crate::format::record::Sealer;
use crate::state::assembly::Wanted;
use crate::state::fetch::Fetcher;
use crate::state::index::{Found, Index, Location, PacksListed};
use crate::state::repository::Repository;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use crate::words::limits::{CHECK_PACKS_MAX, PACK_BYTES_MAX};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{HashMap, HashSet};

/// A finding, by which it is known.
pub(super) type Cause = (FindingKind, String);

/// Chunks and nodes that are damaged where the index finds them, with what is to blame.
pub(super) type DamagedChunks = HashMap<ChunkId, Cause>;

pub(super) fn check_choice(choice: ReadData) -> Result<()> {
    let why = match choice {
        ReadData::Share { percent, .. } if !(percent > 0.0 && percent <= 100.0) => {
            format!("a share of {percent} % can't be read: above 0 and up to 100")
        }
        ReadData::Part { part, parts_n } if part == 0 || part > parts_n => {
            format!("part {part} of {parts_n} can't be read: from 1 to the number of parts")
        }
        _ => return Ok(()),
    };
    Err(Error::Invalid(why))
}

fn is_chosen(choice: ReadData, id: &PackId) -> bool {
    let number = |bytes: &[u8; 32]| {
        let [a, b, c, d, e, f, g, h, ..] = *bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    };
    match choice {
        ReadData::Nothing => false,
        ReadData::All => true,
        ReadData::Share { percent, seed } => {
            let hash = blake3::Hasher::new().update(&seed.to_le_bytes()).update(&id.0).finalize();
            (number(hash.as_bytes()) as f64) < percent / 100.0 * 2f64.powi(64)
        }
        ReadData::Part { part, parts_n } => number(&id.0) % u64::from(parts_n) == u64::from(part - 1),
    }
}

pub(super) async fn check(
    fetcher: &Fetcher,
    packs: &PacksListed,
    choice: ReadData,
    progress: &dyn Progress,
    (findings, report): (&mut Findings, &mut CheckReport),
) -> Result<DamagedChunks> {
    let chosen: Vec<_> = packs.sorted().into_iter().filter(|(_, id, _)| is_chosen(choice, id)).collect();
    let bytes = chosen.iter().map(|(_, _, bytes)| bytes).sum();
    progress.event(Event::Planned { objects_n: chosen.len() as u64, bytes });
    let (mut damaged, mut damaged_packs, mut delta_packs) = (DamagedChunks::new(), HashSet::new(), Vec::new());
    let mut reads = stream::iter(chosen)
        .map(|(kind, id, bytes)| async move { Ok::<_, Error>((kind, id, bytes, read(fetcher, kind, id).await?)) })
        .buffered(CHECK_PACKS_MAX);
    while let Some((kind, id, bytes, outcome)) = reads.try_next().await? {
        progress.event(Event::Done { bytes });
        report.packs_read_n += 1;
        report.bytes_read += bytes;
        match outcome {
            Ok(has_deltas) => delta_packs.extend(has_deltas.then_some(id)),
            Err((error, chunks)) => {
                let name = names::pack(kind, id);
                findings.add_error(FindingKind::PackDamaged, &name, error)?;
                damaged_packs.insert(id);
                damaged.extend(chunks.into_iter().map(|chunk| (chunk, (FindingKind::PackDamaged, name.clone()))));
            }
        }
    }
    drop(reads);
    let deltas = deltas_of(fetcher, &delta_packs);
    // A chunk that also lies in a pack that is whole is read from there, and so not hurt.
    fetcher.avoid_all(damaged_packs.iter().copied()).await?;
    damaged.retain(|chunk, _| {
        let place = |index: &Index| index.locate(chunk).map(|place| index.pack(place.pack).id);
        fetcher.with_index(place).is_none_or(|pack| damaged_packs.contains(&pack))
    });
    damaged.extend(super::deltas::check(fetcher, deltas, (findings, report)).await?);
    Ok(damaged)
}

/// Returns the deltas in these packs, each as its chunks.
fn deltas_of(fetcher: &Fetcher, packs: &[PackId]) -> Vec<Vec<Wanted>> {
    let deltas = |index: &Index| {
        let blobs = packs.iter().filter_map(|id| index.pack_number(id)).flat_map(|number| index.blobs_of(number));
        let wanted = |(id, found): (ChunkId, Found)| (LeafEntry { id, plain_bytes: found.location.plain_bytes }, found);
        let blobs = blobs.map(|blob| blob.into_iter().map(wanted).collect::<Vec<_>>());
        blobs.filter(|blob| blob.first().is_some_and(|(_, found)| found.location.place.depth > 0)).collect()
    };
    fetcher.with_index(deltas)
}

/// Whether the pack has deltas; or what is wrong with it, and the chunks that are hurt.
type Outcome = Result<bool, (Error, Vec<ChunkId>)>;

/// Reads and verifies one pack. Where it is damaged, finds out which chunks are.
async fn read(fetcher: &Fetcher, kind: PackKind, id: PackId) -> Result<Outcome> {
    let repository = fetcher.repository();
    let name = names::pack(kind, id);
    let indexed = fetcher.with_index(|index| index.pack_number(&id).map(|number| index.blobs_of(number)));
    let bytes = match repository.store.get(&name, PACK_BYTES_MAX).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let why = "it was listed a moment ago".to_owned();
            return Ok(Err((Error::Missing { object: name, why }, chunks_of(indexed))));
        }
        Err(error) if error.is_damage() => return Ok(Err((error, chunks_of(indexed)))),
        Err(error) => return Err(error),
    };
    let inner = repository.clone();
    Ok(repository.cpu.run(move || verify(&inner, (kind, id), &bytes, indexed)).await)
}

/// The blobs of a pack with their chunks, if the index knows it.
type Indexed = Option<Vec<Vec<(ChunkId, Found)>>>;

fn chunks_of(indexed: Indexed) -> Vec<ChunkId> {
    indexed.into_iter().flatten().flatten().map(|(id, _)| id).collect()
}

fn verify(repository: &Repository, (kind, id): (PackKind, PackId), bytes: &Bytes, indexed: Indexed) -> Outcome {
    let sealer = Sealer { repository: repository.id(), keys: &repository.keys };
    let mut has_deltas = false;
    // Their seals hold; whether they decode is checked later, with what they need.
    let delta = |_, _: &BlobEntry, _: &[u8]| {
        has_deltas = true;
        Ok(())
    };
    let error = match pack::verify(sealer, (kind, id), bytes, delta) {
        Ok(contents) if indexed.as_ref().is_none_or(|indexed| is_as_indexed(&contents, indexed)) => {
            return Ok(has_deltas);
        }
        Ok(_) => Error::damaged(names::pack(kind, id), "the index says that it holds something else"),
        Err(error) => error,
    };
    let Some(blobs) = indexed else { return Err((error, Vec::new())) };
    let is_damaged = |blob: &Vec<(ChunkId, Found)>| !blob_is_whole(sealer, kind, bytes, blob);
    let damaged = blobs.into_iter().filter(is_damaged).flatten().map(|(id, _)| id).collect();
    Err((error, damaged))
}

/// Returns whether the index says of a pack what the pack says of itself.
fn is_as_indexed(contents: &PackContents, indexed: &[Vec<(ChunkId, Found)>]) -> bool {
    contents.blobs.len() == indexed.len()
        && contents.blobs.iter().zip(indexed).all(|(blob, indexed)| {
            let is_place = |location: &Location| {
                location.place == BlobPlace::from(blob) && location.sealed_bytes == blob.sealed_bytes
            };
            blob.chunks.iter().map(|chunk| chunk.id).eq(indexed.iter().map(|(id, _)| *id))
                && indexed.first().is_none_or(|(_, found)| is_place(&found.location))
        })
}

/// Returns whether a blob is what it was; of a delta, whether its seal holds.
fn blob_is_whole(sealer: Sealer<'_>, kind: PackKind, bytes: &Bytes, chunks: &[(ChunkId, Found)]) -> bool {
    let Some((_, Found { info, location, .. })) = chunks.first() else { return true };
    let Ok(opener) = PackOpener::new(sealer, *info) else { return false };
    let (range, number) = (location.range(), location.blob as usize);
    let Some(sealed) = bytes.get(range.start as usize..range.end as usize) else { return false };
    if location.place.depth > 0 {
        return opener.open_seal(number, sealed).is_ok();
    }
    let Ok(mut inflater) = Decompressor::new() else { return false };
    let Ok(plain) = opener.open_blob(&mut inflater, (number, &location.place), b"", sealed, Vec::new()) else {
        return false;
    };
    chunks.iter().all(|(id, Found { location, .. })| {
        let start = location.start as usize;
        plain
            .get(start..start + location.plain_bytes as usize)
            .is_some_and(|chunk| kind.chunk_id(sealer.keys, chunk) == *id)
    })
}
