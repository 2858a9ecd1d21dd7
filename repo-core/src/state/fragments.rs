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
        let (mut listed_n, mut waiting_n) = (0, 0);
        while let Some(pack) = stored.recv().await {
            waiting_n += usize::from(pack.info.kind == PackKind::Data);
            let is_due = waiting_n >= FRAGMENT_PACKS_MIN.max(listed_n / FRAGMENT_PACKS_SHARE);
            let is_written = self.push(pack).await?;
            if !is_written && is_due {
                self.write_waiting().await?;
            }
            if is_written || is_due {
                listed_n += std::mem::take(&mut waiting_n);
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
