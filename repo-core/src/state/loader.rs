//! Reads the index out of its fragments, or, where those fail, out of the packs' trailers.

use super::ahead::ahead;
use super::ground::{FragmentsListed, Ground, Notice, Rule};
use super::index::{Index, PacksListed};
use super::repository::Repository;
use crate::format::contents::BlobEntry;
use crate::format::fragment;
use crate::format::header::HEADER_BYTES;
use crate::format::names::{self, FragmentName, INDEX, META, PACKS, PackKind};
use crate::format::pack::{self, PackContents, PackOpener, TAIL_BYTES};
use crate::format::record::Sealer;
use crate::words::error::{Error, Result};
use crate::words::id::{ChunkId, PackId, SessionId};
use crate::words::limits::{FRAGMENT_BYTES_MAX, FRAGMENT_READS_BYTES_MAX, PACK_TAIL_READ_BYTES};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::try_join;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::pin;

/// An index, and what was found on the way.
pub struct Loaded {
    /// What counted fragments say of packs that are there.
    pub index: Index,
    /// Chunks and nodes that each of those lists that opened.
    pub chunks_n_of: BTreeMap<FragmentName, u64>,
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
    /// Those of them of which nobody can tell, since the decision is damaged.
    pub unknown: BTreeSet<FragmentName>,
    /// Packs that a counted fragment names, and that are not there or have another length; and what they held.
    pub lost: Index,
    /// Whether a delta has a base that the index does not know, or one that is as deep as itself.
    pub is_dangling: bool,
    /// For a run that adds chunks: the packs that notices name; `None` if that was not asked, or a notice does not open.
    pub condemned: Option<HashSet<PackId>>,
    /// Fragments, decisions and notices that do not open.
    pub problems: Vec<Error>,
}

/// Which sessions committed.
#[derive(Debug, Default)]
pub struct Standings {
    /// Those that did.
    pub counting: BTreeSet<SessionId>,
    /// Decisions that do not open, so nobody can tell.
    pub problems: Vec<Error>,
    /// Whose decision is damaged.
    pub unknown: BTreeSet<SessionId>,
}

/// How a pack's places compare with others of the same chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// The shallowest place is taken.
    Equal,
    /// As before, but of places of the same depth the others are taken.
    Behind,
    /// Any other place is taken.
    Last,
    /// It is as if the pack were not there.
    Never,
}

/// Loads the index. Fragments are listed before decisions: a session that commits in between is seen whole or not at
/// all. Packs are listed last, so that an index never hides a pack that is gone.
///
/// # Errors
/// [`Error::Store`]. Damage is in the result.
pub async fn load(ground: &impl Ground) -> Result<Loaded> {
    load_avoiding(ground, &HashSet::new()).await
}

/// As [`load`], for those who only read, and find out by reading whether a pack is there: nobody lists the packs, which takes a
/// request for every thousand. Whoever finds one gone loads the index again, with the listing.
///
/// # Errors
/// As [`load`].
pub async fn load_to_read(ground: &impl Ground) -> Result<Loaded> {
    load(&Presuming(ground)).await
}

/// A ground on which every pack is presumed to be there.
struct Presuming<'a, G>(&'a G);

impl<G: Ground> Ground for Presuming<'_, G> {
    fn keeps(&self, rule: Rule) -> bool {
        self.0.keeps(rule)
    }

    async fn notices(&self) -> Result<Vec<Notice>> {
        self.0.notices().await
    }

    async fn fragment_names(&self) -> Result<FragmentsListed> {
        self.0.fragment_names().await
    }

    async fn standings(&self, sessions: BTreeSet<SessionId>) -> Result<Standings> {
        self.0.standings(sessions).await
    }

    async fn packs(&self) -> Result<PacksListed> {
        Ok(PacksListed::presumed())
    }

    async fn fragment(&self, name: FragmentName) -> Result<Option<Vec<PackContents>>> {
        self.0.fragment(name).await
    }
}

/// As [`load`], but with everything where fragments say that it is, also what nobody could decode: for those who look for
/// damage.
///
/// # Errors
/// As [`load`].
pub async fn load_as_listed(ground: &impl Ground) -> Result<Loaded> {
    load_ranked(ground, |_| Rank::Equal).await.map(|(loaded, ())| loaded)
}

/// As [`load`]; of a chunk that lies in several packs, a place in the avoided ones is taken last.
///
/// # Errors
/// As [`load`].
pub async fn load_avoiding(ground: &impl Ground, avoided: &HashSet<PackId>) -> Result<Loaded> {
    let rank = |id: &PackId| if avoided.contains(id) { Rank::Last } else { Rank::Equal };
    let (mut loaded, ()) = load_ranked(ground, rank).await?;
    if loaded.is_dangling {
        let mut packs = read_counted(ground, &loaded, rank).await?;
        loaded.index = Index::default();
        let unreadable = split_off_unreadable(&mut packs);
        for pack in packs.iter().filter(|pack| rank(&pack.info.id) == Rank::Equal) {
            loaded.index.add(pack);
        }
        for pack in &packs {
            loaded.index.add_as_last_resort(pack);
        }
        // Whoever looks for their chunks shall hear what is wrong with them.
        unreadable.iter().for_each(|pack| loaded.index.add_more_as_last_resort(pack));
    }
    Ok(loaded)
}

/// As [`load`], for a run that adds chunks, whose session's mark is there already. What lies in packs that a notice names,
/// and deltas that nobody could decode without those, are left out: they must be stored again.
///
/// Notices are listed before fragments. A prune whose notice comes later sees our mark, and waits for us or fences us.
///
/// # Errors
/// As [`load`].
pub async fn load_to_add(ground: &impl Ground) -> Result<Loaded> {
    let (mut condemned, mut problems) = (HashSet::new(), Vec::new());
    for (_, notice) in ground.notices().await? {
        match notice {
            Ok(packs) => condemned.extend(packs.into_iter().map(|(_, id)| id)),
            Err(error) => problems.push(error),
        }
    }
    // A notice that does not open may name any pack.
    let nothing_is_sure = !problems.is_empty();
    let rank = |id: &PackId| if nothing_is_sure || condemned.contains(id) { Rank::Never } else { Rank::Equal };
    let (mut loaded, ()) = load_ranked(ground, rank).await?;
    if loaded.is_dangling {
        let mut packs = read_counted(ground, &loaded, rank).await?;
        split_off_unreadable(&mut packs);
        loaded.index = Index::default();
        for pack in &packs {
            loaded.index.add(pack);
        }
    }
    loaded.problems.append(&mut problems);
    loaded.condemned = (!nothing_is_sure).then_some(condemned);
    Ok(loaded)
}

/// Hears of every pack that is added to an index.
pub trait Listener: Default + Send {
    /// A pack was added, and its blobs are the index's last.
    fn hear(&mut self, index: &Index, pack: &PackContents);
}

impl Listener for () {
    fn hear(&mut self, _: &Index, _: &PackContents) {}
}

/// As [`load`], with a rank for every pack.
///
/// # Errors
/// As [`load`].
pub async fn load_ranked<L: Listener>(ground: &impl Ground, rank: impl Fn(&PackId) -> Rank) -> Result<(Loaded, L)> {
    let (loaded, gone) = load_once(ground, &rank).await?;
    // A fragment that was listed and is gone was superseded meanwhile: what superseded it is there by now.
    if gone { load_once(ground, &rank).await.map(|(loaded, _)| loaded) } else { Ok(loaded) }
}

/// Reads what counted fragments say of packs that are there, and that are not ranked out.
async fn read_counted(
    ground: &impl Ground,
    loaded: &Loaded,
    rank: impl Fn(&PackId) -> Rank,
) -> Result<Vec<PackContents>> {
    let mut packs = Vec::new();
    for name in &loaded.counted {
        match ground.fragment(*name).await {
            Ok(contents) => packs.extend(contents.into_iter().flatten()),
            // It was noted when it was read first.
            Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    packs.retain(|PackContents { info, .. }| rank(&info.id) != Rank::Never && loaded.packs.has(info));
    Ok(packs)
}

/// Hides every delta that can't be decoded, or not by way of shallower ones alone; returns the packs that have such, with
/// everything else hidden.
///
/// Blobs that are stored whole can be decoded; a delta can if all its bases lie in shallower blobs that can. So no way of
/// decoding goes in a circle, whatever was stored twice, dropped and stored again.
fn split_off_unreadable(packs: &mut [PackContents]) -> Vec<PackContents> {
    let mut by_depth: BTreeMap<u8, Vec<(usize, usize)>> = BTreeMap::new();
    for (pack, contents) in packs.iter().enumerate() {
        for (blob, entry) in contents.blobs.iter().enumerate() {
            by_depth.entry(entry.depth).or_default().push((pack, blob));
        }
    }
    let (mut readable, mut unreadable) = (HashSet::new(), BTreeMap::<usize, PackContents>::new());
    for same_depth in by_depth.into_values() {
        let (good, bad): (Vec<_>, Vec<_>) = same_depth
            .into_iter()
            .partition(|(pack, blob)| packs[*pack].blobs[*blob].bases.iter().all(|base| readable.contains(&base.id)));
        readable
            .extend(good.iter().flat_map(|(pack, blob)| packs[*pack].blobs[*blob].chunks.iter().map(|chunk| chunk.id)));
        for (pack, blob) in bad {
            let contents = &mut packs[pack];
            let split = unreadable.entry(pack).or_insert_with(|| PackContents {
                info: contents.info,
                blobs: contents.blobs.iter().map(BlobEntry::hidden).collect(),
            });
            let hidden = contents.blobs[blob].hidden();
            split.blobs[blob] = std::mem::replace(&mut contents.blobs[blob], hidden);
        }
    }
    unreadable.into_values().collect()
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

async fn load_once<L: Listener>(ground: &impl Ground, rank: impl Fn(&PackId) -> Rank) -> Result<((Loaded, L), bool)> {
    let listed = ground.fragment_names().await?;
    let Standings { counting, problems, unknown } =
        ground.standings(listed.keys().map(|name| name.session).collect()).await?;
    let (counted, uncounted): (BTreeSet<_>, BTreeSet<_>) =
        listed.keys().copied().partition(|name: &FragmentName| counting.contains(&name.session));
    let packs = ground.packs().await?;

    let mut loaded = Loaded {
        index: Index::default(),
        packs,
        counted,
        chunks_n_of: BTreeMap::new(),
        unknown: uncounted.iter().copied().filter(|name| unknown.contains(&name.session)).collect(),
        fragments_of: HashMap::new(),
        newer: Vec::new(),
        uncounted,
        lost: Index::default(),
        is_dangling: false,
        condemned: None,
        problems,
    };
    // Bases that were not known, or not shallow enough, when the delta came that names them; and how deep they may be.
    let mut awaited: HashMap<ChunkId, u8> = HashMap::new();
    let (mut gone, mut postponed, mut listener) = (false, Vec::new(), L::default());
    let read = |name: FragmentName| (listed[&name], async move { (name, ground.fragment(name).await) });
    let mut reads = pin!(ahead(loaded.counted.iter().copied().map(read).collect(), FRAGMENT_READS_BYTES_MAX));
    while let Some((name, fragment)) = reads.next().await {
        match fragment {
            Ok(Some(contents)) => {
                let chunks_n = contents.iter().map(|pack| pack.chunks_n() as u64).sum();
                loaded.chunks_n_of.insert(name, chunks_n);
                for pack in contents {
                    let info = &pack.info;
                    loaded.fragments_of.entry(info.id).or_default().push(name);
                    if !loaded.packs.has(info) {
                        loaded.lost.add(&pack);
                        continue;
                    }
                    match rank(&info.id) {
                        Rank::Never => continue,
                        Rank::Behind | Rank::Last => {
                            postponed.push(pack);
                            continue;
                        }
                        Rank::Equal => {
                            if loaded.index.add(&pack) {
                                note_awaited(&loaded.index, &pack, &mut awaited);
                                listener.hear(&loaded.index, &pack);
                            }
                        }
                    }
                }
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
    for pack in postponed {
        let is_new = match rank(&pack.info.id) {
            Rank::Last => loaded.index.add_as_last_resort(&pack),
            _ => loaded.index.add(&pack),
        };
        if is_new {
            note_awaited(&loaded.index, &pack, &mut awaited);
            listener.hear(&loaded.index, &pack);
        }
    }
    let is_shallow = |(id, below): (&ChunkId, &u8)| loaded.index.depth_of(id).is_some_and(|depth| depth < *below);
    loaded.is_dangling = !awaited.iter().all(is_shallow);
    Ok(((loaded, listener), gone))
}

fn note_awaited(index: &Index, pack: &PackContents, awaited: &mut HashMap<ChunkId, u8>) {
    for blob in &pack.blobs {
        for base in blob.bases.iter().filter(|base| index.depth_of(&base.id).is_none_or(|depth| depth >= blob.depth)) {
            let below = awaited.entry(base.id).or_insert(blob.depth);
            *below = blob.depth.min(*below);
        }
    }
}

/// Reads a fragment, whether or not it counts: from the cache, if it is there and opens; `None` if it is gone.
///
/// # Errors
/// [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Store`].
pub async fn read_fragment(repository: &Repository, name: FragmentName) -> Result<Option<Vec<PackContents>>> {
    let object = names::fragment(name);
    let open = async |bytes: Bytes| {
        let (id, keys) = (repository.id(), repository.keys.clone());
        repository.cpu.run(move || fragment::open(Sealer { repository: id, keys: &keys }, name, &bytes)).await
    };
    if let Some(cache) = &repository.cache
        && let Some(bytes) = cache.get(&object, FRAGMENT_BYTES_MAX).await
    {
        match open(bytes).await {
            Ok(contents) => return Ok(Some(contents)),
            // Whatever is wrong is wrong with the copy; the store's own may be whole.
            Err(_) => cache.forget(&object).await,
        }
    }
    let Some(bytes) = repository.store.get(&object, FRAGMENT_BYTES_MAX).await? else { return Ok(None) };
    let contents = open(bytes.clone()).await?;
    if let Some(cache) = &repository.cache {
        cache.keep(&object, bytes).await;
    }
    Ok(Some(contents))
}

/// Lists the packs that are there.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_packs(repository: &Repository) -> Result<PacksListed> {
    let mut packs = PacksListed::default();
    // Neither is before the other in any order that matters.
    let (data, meta) = try_join(repository.store.list(PACKS), repository.store.list(META)).await?;
    for (kind, prefix, listed) in [(PackKind::Data, PACKS, data), (PackKind::Meta, META, meta)] {
        if let Some(cache) = &repository.cache {
            cache.drop_gone(prefix, listed.iter().map(|object| object.name.as_str())).await;
        }
        PacksListed::collect(kind, prefix, &listed, &mut packs);
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
