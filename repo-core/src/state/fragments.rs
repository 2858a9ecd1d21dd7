//! Writes what packs hold into index fragments.
//!
//! A fragment is what makes a run that is interrupted worth something: the next adopts the packs that it lists. So a backup
//! writes them often at first, and then ever more rarely, so that there are few of them to read: what waits for one is never
//! more than [`FRAGMENT_PACKS_MIN`] packs, or 1 in [`FRAGMENT_PACKS_SHARE`] of what the run has stored before.

use super::repository::Repository;
use crate::edges::store::Created;
use crate::edges::system::random;
use crate::format::fragment;
use crate::format::names::{self, FragmentName, PackKind};
use crate::format::pack::PackContents;
use crate::words::error::{Error, Result};
use crate::words::id::SessionId;
use crate::words::limits::{FRAGMENT_BYTES_TARGET, FRAGMENT_CHUNKS_TARGET, FRAGMENT_PACKS_MIN, FRAGMENT_PACKS_SHARE};
use tokio::sync::mpsc;

/// Packs that wait for the fragment that will list them.
#[derive(Default)]
pub struct Waiting {
    packs: Vec<PackContents>,
    chunks_n: usize,
    bytes: usize,
}

impl Waiting {
    /// Adds a pack; returns the packs of a fragment that is full without it, or with it.
    pub fn push(&mut self, pack: PackContents) -> Option<Vec<PackContents>> {
        let (chunks_n, bytes) = (pack.chunks_n(), fragment::entry_bytes_n(&pack));
        let had_room = self.bytes + bytes <= FRAGMENT_BYTES_TARGET;
        let before = if had_room { None } else { self.take() };
        self.packs.push(pack);
        self.chunks_n += chunks_n;
        self.bytes += bytes;
        if before.is_none() && self.chunks_n >= FRAGMENT_CHUNKS_TARGET { self.take() } else { before }
    }

    /// Takes what there is; `None` if that is nothing.
    pub fn take(&mut self) -> Option<Vec<PackContents>> {
        let packs = std::mem::take(self).packs;
        (!packs.is_empty()).then_some(packs)
    }
}

/// How often a backup writes a fragment.
#[derive(Default)]
struct Pace {
    /// Data packs that fragments list.
    listed_n: usize,
    /// Data packs that wait for one.
    waiting_n: usize,
}

impl Pace {
    /// Notes a pack; returns whether a fragment is due that lists it.
    fn is_due_with(&mut self, pack: &PackContents) -> bool {
        self.waiting_n += usize::from(pack.info.kind == PackKind::Data);
        self.waiting_n >= FRAGMENT_PACKS_MIN.max(self.listed_n / FRAGMENT_PACKS_SHARE)
    }

    /// Notes that a fragment was written.
    fn listed(&mut self) {
        self.listed_n += std::mem::take(&mut self.waiting_n);
    }
}

/// Writes a session's index fragments.
pub struct Fragments<'a> {
    repository: &'a Repository,
    session: SessionId,
    waiting: Waiting,
    written_n: u32,
    written_bytes: u64,
}

impl<'a> Fragments<'a> {
    /// Creates the writer of a session's fragments.
    pub fn create(repository: &'a Repository, session: SessionId) -> Self {
        Fragments { repository, session, waiting: Waiting::default(), written_n: 0, written_bytes: 0 }
    }

    /// Notes the packs that arrive, writes a fragment whenever one is full and one at the end; returns how many fragments it
    /// wrote, and their bytes.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Conflict`].
    pub async fn run(mut self, mut stored: mpsc::UnboundedReceiver<PackContents>) -> Result<(u32, u64)> {
        while let Some(pack) = stored.recv().await {
            self.push(pack).await?;
        }
        self.finish().await
    }

    /// As [`Fragments::run`], of packs that would be stored again if the run were interrupted: fragments are written early. What
    /// was adopted is listed already, and waits until the end.
    ///
    /// # Errors
    /// As [`Fragments::run`].
    pub async fn run_early(
        mut self,
        adopted: Vec<PackContents>,
        mut stored: mpsc::UnboundedReceiver<PackContents>,
    ) -> Result<(u32, u64)> {
        for pack in adopted {
            self.push(pack).await?;
        }
        let mut pace = Pace::default();
        while let Some(pack) = stored.recv().await {
            let is_due = pace.is_due_with(&pack);
            let is_written = self.push(pack).await?;
            if !is_written && is_due {
                self.write_waiting().await?;
            }
            if is_written || is_due {
                pace.listed();
            }
        }
        self.finish().await
    }

    async fn finish(mut self) -> Result<(u32, u64)> {
        self.write_waiting().await?;
        Ok((self.written_n, self.written_bytes))
    }

    /// Returns whether a fragment was written.
    async fn push(&mut self, pack: PackContents) -> Result<bool> {
        match self.waiting.push(pack) {
            Some(packs) => self.write(packs).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn write_waiting(&mut self) -> Result<()> {
        match self.waiting.take() {
            Some(packs) => self.write(packs).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, packs: Vec<PackContents>) -> Result<()> {
        let name = FragmentName { session: self.session, number: self.written_n };
        self.written_bytes += put(self.repository, name, packs).await?;
        self.written_n += 1;
        Ok(())
    }
}

/// Puts a fragment that lists these packs; returns its length.
///
/// # Errors
/// [`Error::Store`], [`Error::Conflict`].
pub async fn put(repository: &Repository, name: FragmentName, packs: Vec<PackContents>) -> Result<u64> {
    let (inner, salt) = (repository.clone(), random()?);
    let bytes = repository.cpu.run(move || fragment::seal(inner.sealer(), name, salt, &packs)).await;
    let (object, bytes) = (names::fragment(name), bytes::Bytes::from(bytes));
    let bytes_n = bytes.len() as u64;
    match repository.store.create(&object, bytes.clone()).await? {
        Created::Yes => {}
        Created::Taken => return Err(Error::Conflict(format!("{object} is taken; try again"))),
    }
    if let Some(cache) = &repository.cache {
        cache.keep(&object, bytes).await;
    }
    Ok(bytes_n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crafts::compress::Encoding;
    use crate::edges::store::Store;
    use crate::format::contents::{BlobEntry, ChunkEntry};
    use crate::format::pack::PackInfo;
    use crate::state::loader::read_fragment;
    use crate::state::repository::{CreateOptions, Credential};
    use crate::words::id::{ChunkId, PackId};

    fn pack(number: u32, chunks_n: usize) -> PackContents {
        let id = *blake3::hash(&number.to_le_bytes()).as_bytes();
        let chunk = ChunkEntry { id: ChunkId(id), plain_bytes: 65_536 };
        let blob = |chunks: Vec<ChunkEntry>| BlobEntry {
            sealed_bytes: 20_000,
            plain_bytes: chunks.len() as u32 * 65_536,
            encoding: Encoding::Zstd,
            depth: 0,
            generation: 0,
            chunks,
            bases: Vec::new(),
            likes: Vec::new(),
        };
        let chunks = vec![chunk; chunks_n];
        let info = PackInfo { id: PackId(id), kind: PackKind::Data, bytes: 32 << 20, epoch: 1, salt: id };
        PackContents { info, blobs: chunks.chunks(16).map(|chunks| blob(chunks.to_vec())).collect() }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn fragments_come_early_and_then_rarer() {
        let secret = Credential::generate_key_file().expect("random");
        let repository = Repository::create(Store::memory(), &secret, CreateOptions::default()).await.expect("creates");
        let session = SessionId([1; 16]);
        let (sender, stored) = mpsc::unbounded_channel();
        (0..100).for_each(|number| sender.send(pack(number, 2)).expect("it listens"));
        drop(sender);
        let adopted = (1000..1500).map(|number| pack(number, 2)).collect();
        let (written_n, _) = Fragments::create(&repository, session).run_early(adopted, stored).await.expect("writes");
        let (mut sizes, mut listed_n) = (Vec::new(), 0);
        for number in 0..written_n {
            let packs =
                read_fragment(&repository, FragmentName { session, number }).await.expect("opens").expect("there");
            // What was adopted comes with the first, and costs none of its own.
            let own_n = packs
                .iter()
                .filter(|pack| !(1000..1500).any(|other| self::pack(other, 0).info.id == pack.info.id))
                .count();
            assert!(own_n <= 8.max(listed_n / 4), "an interruption costs a fifth at most: {own_n} after {listed_n}");
            listed_n += own_n;
            sizes.push(own_n);
        }
        assert_eq!(sizes, [8, 8, 8, 8, 8, 10, 12, 15, 19, 4]);
    }

    /// Counts the fragments of a backup, as [`Fragments::run_early`] writes them, or of a merge.
    fn fragments_n(packs_n: u32, chunks_n: usize, is_backup: bool) -> usize {
        let (mut waiting, mut pace, mut written_n) = (Waiting::default(), Pace::default(), 0);
        let pack = pack(0, chunks_n);
        for _ in 0..packs_n {
            let is_due = pace.is_due_with(&pack) && is_backup;
            let is_full = waiting.push(pack.clone()).is_some();
            if is_full || (is_due && waiting.take().is_some()) {
                pace.listed();
                written_n += 1;
            }
        }
        written_n + usize::from(waiting.take().is_some())
    }

    #[test]
    fn ten_thousand_packs_have_few_fragments() {
        // 32 MiB of dump text, compressed to a third, in chunks of 64 KiB.
        assert_eq!(fragments_n(10_000, 1500, true), 46);
        assert_eq!(fragments_n(10_000, 1500, false), 29);
        assert_eq!(fragments_n(33, 1500, true), 5, "one GiB of new data");
    }
}
