//! The deltas: whether each decodes to its chunks, with all that its chain needs.
//!
//! They are taken in the order of the blobs that their chains end in, and so mostly of the streams that they belong to: a
//! base is read and decoded once for all the deltas of all days that go back to it.

use super::packs::DamagedChunks;
use super::{CheckReport, FindingKind, Findings};
use crate::format::names;
use crate::state::assembly::{self, Assembly, Planner, Wanted};
use crate::state::chains::{self, Find, PackFailure};
use crate::state::fetch::Fetcher;
use crate::state::index::{BlobKey, Found};
use crate::words::error::{Error, Result};
use crate::words::limits::CHECK_HELD_BYTES_MAX;
use std::collections::VecDeque;

/// Decodes deltas, each given as its chunks; returns the chunks that are damaged.
pub(super) async fn check(
    fetcher: &Fetcher,
    deltas: Vec<Vec<Wanted>>,
    (findings, report): (&mut Findings, &mut CheckReport),
) -> Result<DamagedChunks> {
    let read_before = fetcher.reader().bytes_read();
    let mut by_root = Vec::with_capacity(deltas.len());
    for delta in deltas {
        let (_, found) = delta[0];
        by_root.push((root(fetcher, found).await?, found.location.place.depth, found.blob_key(), delta));
    }
    by_root.sort_by_key(|(root, depth, key, _)| (*root, *depth, *key));
    let mut chunks: VecDeque<Wanted> = by_root.into_iter().flat_map(|(_, _, _, delta)| delta).collect();

    let mut planner = Planner::holding(CHECK_HELD_BYTES_MAX);
    let (mut assembly, mut damaged) = (Assembly::default(), DamagedChunks::new());
    loop {
        while planner.wants_more() && !chunks.is_empty() {
            planner.plan(fetcher, &mut chunks).await?;
        }
        let Some(window) = planner.take() else { break };
        let wanted: Vec<Wanted> = window.chunks().to_vec();
        let window = assembly::read(fetcher, window).await;
        if assembly.decode_only(fetcher, window).await?.is_ok() {
            continue;
        }
        // Something in this window does not hold: find out what, one delta at a time.
        for delta in wanted.chunk_by(|(_, a), (_, b)| a.blob_key() == b.blob_key()) {
            let mut left = delta.iter().copied().collect();
            let Err(PackFailure { pack, error }) = assembly::fetch_window(fetcher, &mut left).await else { continue };
            let (_, found) = delta[0];
            let cause = match error {
                // What is nowhere is found with the snapshots that need it.
                Error::Missing { .. } => continue,
                error if pack == found.info.id => {
                    findings.add_error(FindingKind::ChainDamaged, &found.blob_name(), error)?;
                    (FindingKind::ChainDamaged, found.blob_name())
                }
                // A base of it: its pack is to blame.
                error => {
                    let name = names::pack(found.info.kind, pack);
                    findings.add_error(FindingKind::PackDamaged, &name, error)?;
                    (FindingKind::PackDamaged, name)
                }
            };
            damaged.extend(delta.iter().map(|(entry, _)| (entry.id, cause.clone())));
        }
    }
    report.bytes_read += fetcher.reader().bytes_read() - read_before;
    Ok(damaged)
}

/// Returns the blob that a chain ends in, following the first base of each; or as far as it can be followed.
async fn root(fetcher: &Fetcher, mut found: Found) -> Result<BlobKey> {
    while found.location.place.depth > 0 {
        let first = match chains::base_entries(fetcher, &found).await {
            Ok(bases) => bases.first().copied(),
            Err(failure) if failure.error.is_damage() => None,
            Err(failure) => return Err(failure.error),
        };
        let Some(first) = first else { break };
        match fetcher.find(&first.id).await {
            // What is not shallower may go in a circle.
            Ok(base) if base.location.place.depth < found.location.place.depth => found = base,
            Err(error) if !error.is_damage() => return Err(error),
            _ => break,
        }
    }
    Ok(found.blob_key())
}
