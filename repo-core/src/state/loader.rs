//! Reads the index out of its fragments, or, where those fail, out of the packs' trailers.

use super::index::{Index, PacksListed};
use super::repository::Repository;
use super::snapshots::{Decisions, Standing};
use crate::format::fragment;
use crate::format::header::HEADER_BYTES;
use crate::format::names::{self, FragmentName, INDEX, META, PACKS, PackKind};
use crate::format::pack::{self, PackContents, PackOpener, TAIL_BYTES};
use crate::words::error::{Error, Result};
use crate::words::id::PackId;
use crate::words::limits::{FRAGMENT_BYTES_MAX, PACK_TAIL_READ_BYTES, READS_MAX};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeSet, HashMap, HashSet};

/// An index, and what was found on the way.
pub struct Loaded {
    /// What counted fragments say of packs that are there.
    pub index: Index,
    /// The packs that are there.
    pub packs: PacksListed,
    /// Fragments that were listed and count.
    pub counted: BTreeSet<FragmentName>,
    /// The counted fragments that name each pack, whether or not it is there.
    pub fragments_of: HashMap<PackId, Vec<FragmentName>>,
    /// Counted fragments that only a newer version reads.
    pub newer: Vec<FragmentName>,
    /// Fragments that were listed and do not count.
    pub uncounted: BTreeSet<FragmentName>,
    /// Packs that a counted fragment names, and that are not there or have another length; and what they held.
    pub lost: Index,
    /// Whether a delta has a base that the index does not know.
    pub is_dangling: bool,
    /// Fragments and decisions that do not open.
    pub problems: Vec<Error>,
}

/// Loads the index. Fragments are listed before decisions: a session that commits in between is seen whole or not at
/// all. Packs are listed last, so that an index never hides a pack that is gone.
///
/// # Errors
/// [`Error::Store`]. Damage is in the result.
pub async fn load(repository: &Repository) -> Result<Loaded> {
    load_avoiding(repository, &HashSet::new()).await
}

/// As [`load`]; of a chunk that lies in several packs, a place in the avoided ones is taken last.
///
/// # Errors
/// As [`load`].
pub async fn load_avoiding(repository: &Repository, avoided: &HashSet<PackId>) -> Result<Loaded> {
    let (loaded, gone) = load_once(repository, avoided).await?;
    // A fragment that was listed and is gone was superseded meanwhile: what superseded it is there by now.
    if gone { load_once(repository, avoided).await.map(|(loaded, _)| loaded) } else { Ok(loaded) }
}

/// As [`load`], for a run that adds chunks: where packs or fragments are gone, chunks of deltas that nobody can decode any
/// more are left out, as they must be stored again.
///
/// # Errors
/// As [`load`].
pub async fn load_readable(repository: &Repository) -> Result<Loaded> {
    let mut loaded = load(repository).await?;
    if !loaded.is_dangling {
        return Ok(loaded);
    }
    let mut packs = Vec::new();
    for name in &loaded.counted {
        match read_fragment(repository, *name).await {
            Ok(contents) => packs.extend(contents.into_iter().flatten()),
            // It was noted when it was read first.
            Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    packs.retain(|pack| loaded.packs.bytes(pack.info.kind, pack.info.id) == Some(pack.info.bytes));
    drop_unreadable(&mut packs);
    loaded.index = Index::default();
    packs.iter().for_each(|pack| loaded.index.add(pack));
    Ok(loaded)
}

/// Takes the chunks out of every delta that can't be decoded: from the blobs that are stored whole, only those are added
/// whose bases are there already, again and again until no more are.
fn drop_unreadable(packs: &mut [PackContents]) {
    let mut readable = HashSet::new();
    loop {
        let before_n = readable.len();
        for blob in packs.iter().flat_map(|pack| &pack.blobs) {
            if blob.bases.iter().all(|base| readable.contains(&base.id)) {
                readable.extend(blob.chunks.iter().map(|chunk| chunk.id));
            }
        }
        if readable.len() == before_n {
            break;
        }
    }
    for blob in packs.iter_mut().flat_map(|pack| &mut pack.blobs) {
        if !blob.bases.iter().all(|base| readable.contains(&base.id)) {
            blob.chunks.clear();
        }
    }
}

/// Returns what a fragment says of a pack's blobs, from whichever fragment that lists it; `None` if none does.
///
/// # Errors
/// [`Error::Store`].
pub async fn listed_blobs(repository: &Repository, pack: PackId) -> Result<Option<PackContents>> {
    for object in repository.store.list(INDEX).await? {
        let Some(name) = names::parse_fragment(&object.name) else { continue };
        match read_fragment(repository, name).await {
            Ok(contents) => {
                let found = contents.into_iter().flatten().find(|contents| contents.info.id == pack);
                if found.is_some() {
                    return Ok(found);
                }
            }
            Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn load_once(repository: &Repository, avoided: &HashSet<PackId>) -> Result<(Loaded, bool)> {
    let mut problems = Vec::new();
    let listed = repository.store.list(INDEX).await?;
    let decisions = Decisions::list(repository).await?;
    let names: BTreeSet<FragmentName> =
        listed.iter().filter_map(|object| names::parse_fragment(&object.name)).collect();
    let (counted, uncounted) = split_by_standing(repository, &decisions, names, &mut problems).await?;
    let packs = list_packs(repository).await?;

    let mut loaded = Loaded {
        index: Index::default(),
        packs,
        counted,
        fragments_of: HashMap::new(),
        newer: Vec::new(),
        uncounted,
        lost: Index::default(),
        is_dangling: false,
        problems,
    };
    // Bases that were not known yet when the delta came that names them.
    let mut awaited = HashSet::new();
    let (mut gone, mut postponed) = (false, Vec::new());
    let names: Vec<_> = loaded.counted.iter().copied().collect();
    let mut reads = stream::iter(names)
        .map(|name| async move { (name, read_fragment(repository, name).await) })
        .buffered(READS_MAX);
    while let Some((name, fragment)) = reads.next().await {
        match fragment {
            Ok(Some(contents)) => {
                let (later, now): (Vec<_>, Vec<_>) =
                    contents.into_iter().partition(|pack| avoided.contains(&pack.info.id));
                let bases = now.iter().flat_map(|pack| &pack.blobs).flat_map(|blob| &blob.bases).map(|base| base.id);
                awaited.extend(bases.filter(|id| !loaded.index.knows(id)));
                add_present(&mut loaded, name, now);
                postponed.push((name, later));
            }
            Ok(None) => gone = true,
            Err(error @ Error::Damaged { .. }) => loaded.problems.push(error),
            Err(error @ Error::NewerFormat { .. }) => {
                loaded.newer.push(name);
                loaded.problems.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    postponed
        .into_iter()
        .for_each(|(name, packs)| add_present_with(&mut loaded, name, packs, Index::add_as_last_resort));
    loaded.is_dangling = awaited.iter().any(|id| !loaded.index.knows(id));
    Ok((loaded, gone))
}

async fn split_by_standing(
    repository: &Repository,
    decisions: &Decisions,
    names: BTreeSet<FragmentName>,
    problems: &mut Vec<Error>,
) -> Result<(BTreeSet<FragmentName>, BTreeSet<FragmentName>)> {
    let sessions: BTreeSet<_> = names.iter().map(|name| name.session).collect();
    let mut standings = stream::iter(sessions)
        .map(|id| async move { Ok::<_, Error>((id, decisions.standing(repository, id).await?)) })
        .buffer_unordered(READS_MAX);
    let mut counting = BTreeSet::new();
    while let Some((id, standing)) = standings.try_next().await? {
        match standing {
            Standing::Counts => {
                counting.insert(id);
            }
            Standing::DoesNotCount => {}
            Standing::Unknown(error) => problems.push(error),
        }
    }
    Ok(names.into_iter().partition(|name| counting.contains(&name.session)))
}

/// Adds packs that are there to the index, and others to what is lost.
fn add_present(loaded: &mut Loaded, name: FragmentName, packs: Vec<PackContents>) {
    add_present_with(loaded, name, packs, Index::add);
}

fn add_present_with(
    loaded: &mut Loaded,
    name: FragmentName,
    packs: Vec<PackContents>,
    add: impl Fn(&mut Index, &PackContents),
) {
    for pack in packs {
        let info = &pack.info;
        loaded.fragments_of.entry(info.id).or_default().push(name);
        if loaded.packs.bytes(info.kind, info.id) == Some(info.bytes) {
            add(&mut loaded.index, &pack);
        } else {
            loaded.lost.add(&pack);
        }
    }
}

/// Reads a fragment, whether or not it counts; `None` if it is gone.
///
/// # Errors
/// [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Store`].
pub async fn read_fragment(repository: &Repository, name: FragmentName) -> Result<Option<Vec<PackContents>>> {
    let Some(bytes) = repository.store.get(&names::fragment(name), FRAGMENT_BYTES_MAX).await? else { return Ok(None) };
    let keys = repository.keys.clone();
    let id = repository.id();
    let sealer = move || fragment::open(crate::format::record::Sealer { repository: id, keys: &keys }, name, &bytes);
    repository.cpu.run(sealer).await.map(Some)
}

/// Lists the packs that are there.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_packs(repository: &Repository) -> Result<PacksListed> {
    let mut packs = PacksListed::default();
    for (kind, prefix) in [(PackKind::Data, PACKS), (PackKind::Meta, META)] {
        PacksListed::collect(kind, prefix, &repository.store.list(prefix).await?, &mut packs);
    }
    Ok(packs)
}

/// Reads what a pack holds from its own trailer: one request for the end of the pack and one for its header, or one in
/// all if the pack is small.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Store`].
pub async fn read_trailer(
    repository: &Repository,
    (kind, id, pack_bytes): (PackKind, PackId, u64),
) -> Result<PackContents> {
    let name = names::pack(kind, id);
    let read = async |range: std::ops::Range<u64>| {
        repository
            .store
            .get_range(&name, range)
            .await?
            .ok_or_else(|| Error::Missing { object: name.clone(), why: "it was listed a moment ago".to_owned() })
    };
    if pack_bytes < (HEADER_BYTES + TAIL_BYTES) as u64 {
        return Err(Error::damaged(name, format!("it has only {pack_bytes} bytes")));
    }
    let end_bytes = pack_bytes.min(PACK_TAIL_READ_BYTES);
    let mut end = read(pack_bytes - end_bytes..pack_bytes).await?;
    let head = if end_bytes == pack_bytes { end.clone() } else { read(0..HEADER_BYTES as u64).await? };
    let info = pack::info_from_header(kind, id, pack_bytes, repository.id(), &head)?;
    let opener = PackOpener::new(repository.sealer(), info)?;
    let trailer_bytes = opener.open_tail(&end[end.len() - TAIL_BYTES..])?;
    if trailer_bytes + TAIL_BYTES as u64 > end_bytes {
        end = read(pack_bytes - TAIL_BYTES as u64 - trailer_bytes..pack_bytes).await?;
    }
    let trailer_end = end.len() - TAIL_BYTES;
    opener.open_trailer(&end[trailer_end - trailer_bytes as usize..trailer_end])
}
