//! The order in which what is needed of condemned packs is stored anew, so that it restores fast.
//!
//! Chunks that are stored whole are laid out as the newest snapshots have them, so that those are read in few and long
//! requests. Of a delta the needed chunks are compressed again, against the same bases: so no chunk is ever deeper than it
//! was, and what is compressed against it stays as deep.

use crate::format::names::PackKind;
use crate::format::node::LeafEntry;
use crate::state::census::Census;
use crate::state::index::ChunkNumber;
use crate::state::mark;
use crate::state::reader::PackReader;
use crate::state::repack::{How, Unit, whole_units};
use crate::state::snapshots::Snapshot;
use crate::words::error::Result;
use std::collections::{BTreeMap, HashSet};

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
            let leaf = |entries: Vec<LeafEntry>| {
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
    units.extend(deltas.into_iter().map(|(blob, chunks)| Unit { kind: PackKind::Data, how: How::Delta(blob), chunks }));
    let nodes = chunks.iter().copied().filter(|number| kind_of(*number) == PackKind::Meta);
    units.extend(whole_units(census, PackKind::Meta, nodes.collect()));
    Ok(units)
}
