//! The packs: which are gone, and, for those that are read, which of their chunks are not what they were.

use super::{CheckReport, FindingKind, Findings, ReadData};
use crate::crafts::compress::Decompressor;
use crate::edges::progress::{Event, Progress};
use crate::format::names::{self, PackKind};
use crate::format::pack::{self, PackInfo, PackOpener};
use crate::format::record::Sealer;
use crate::state::fetch::Fetcher;
use crate::state::index::{Index, Location, PacksListed};
use crate::state::repository::Repository;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId};
use crate::words::limits::{CHECK_PACKS_MAX, PACK_BYTES_MAX};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;

/// Chunks and nodes that are damaged where the index finds them, with the pack.
pub(super) type DamagedChunks = HashMap<ChunkId, String>;

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
    let (mut damaged, mut damaged_packs) = (DamagedChunks::new(), Vec::new());
    let mut reads = stream::iter(chosen)
        .map(|(kind, id, bytes)| async move { Ok::<_, Error>((kind, id, bytes, read(fetcher, kind, id).await?)) })
        .buffered(CHECK_PACKS_MAX);
    while let Some((kind, id, bytes, outcome)) = reads.try_next().await? {
        progress.event(Event::Done { bytes });
        report.packs_read_n += 1;
        report.bytes_read += bytes;
        let Err((error, chunks)) = outcome else { continue };
        let name = names::pack(kind, id);
        findings.add_error(FindingKind::PackDamaged, &name, error)?;
        damaged_packs.push(id);
        damaged.extend(chunks.into_iter().map(|chunk| (chunk, name.clone())));
    }
    // A chunk that also lies in a pack that is whole is read from there, and so not hurt.
    fetcher.avoid_all(damaged_packs.iter().copied()).await?;
    damaged.retain(|chunk, _| {
        let place = |index: &Index| index.locate(chunk).map(|place| index.pack(place.pack).id);
        fetcher.with_index(place).is_none_or(|pack| damaged_packs.contains(&pack))
    });
    Ok(damaged)
}

type Outcome = Result<(), (Error, Vec<ChunkId>)>;

/// Reads and verifies one pack. Where it is damaged, finds out which chunks are.
async fn read(fetcher: &Fetcher, kind: PackKind, id: PackId) -> Result<Outcome> {
    let repository = fetcher.repository();
    let name = names::pack(kind, id);
    let indexed =
        fetcher.with_index(|index| index.pack_number(&id).map(|number| (*index.pack(number), index.blobs_of(number))));
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

type Indexed = Option<(PackInfo, Vec<Vec<(ChunkId, Location)>>)>;

fn chunks_of(indexed: Indexed) -> Vec<ChunkId> {
    indexed.into_iter().flat_map(|(_, blobs)| blobs).flatten().map(|(id, _)| id).collect()
}

fn verify(repository: &Repository, (kind, id): (PackKind, PackId), bytes: &Bytes, indexed: Indexed) -> Outcome {
    let sealer = Sealer { repository: repository.id(), keys: &repository.keys };
    let error = match pack::verify(sealer, kind, id, bytes) {
        Ok(contents) => {
            // The index must say of the pack what the pack says of itself.
            let ids = contents.blobs.iter().flat_map(|blob| &blob.chunks).map(|chunk| chunk.id);
            match &indexed {
                Some((_, blobs)) if !ids.eq(blobs.iter().flatten().map(|(id, _)| *id)) => {
                    Error::damaged(names::pack(kind, id), "the index says that it holds something else")
                }
                _ => return Ok(()),
            }
        }
        Err(error) => error,
    };
    let Some((info, blobs)) = indexed else { return Err((error, Vec::new())) };
    let Ok(opener) = PackOpener::new(sealer, info) else { return Err((error, chunks_of(Some((info, blobs))))) };
    let is_damaged = |blob: &Vec<(ChunkId, Location)>| !blob_is_whole(repository, &opener, kind, bytes, blob);
    let damaged = blobs.into_iter().filter(is_damaged).flatten().map(|(id, _)| id).collect();
    Err((error, damaged))
}

fn blob_is_whole(
    repository: &Repository,
    opener: &PackOpener,
    kind: PackKind,
    bytes: &Bytes,
    chunks: &[(ChunkId, Location)],
) -> bool {
    let Some((_, location)) = chunks.first() else { return true };
    let range = location.range();
    let Some(sealed) = bytes.get(range.start as usize..range.end as usize) else { return false };
    let Ok(mut inflater) = Decompressor::new() else { return false };
    let Ok(plain) = opener.open_blob(&mut inflater, location.blob as usize, &location.place, sealed) else {
        return false;
    };
    chunks.iter().all(|(id, location)| {
        let start = location.start as usize;
        plain
            .get(start..start + location.plain_bytes as usize)
            .is_some_and(|chunk| kind.chunk_id(&repository.keys, chunk) == *id)
    })
}
