//! Writes what packs hold into index fragments.

use super::repository::Repository;
use crate::edges::store::Created;
use crate::edges::system::random;
use crate::format::fragment;
use crate::format::names::{self, FragmentName};
use crate::format::pack::PackContents;
use crate::words::error::{Error, Result};
use crate::words::id::SessionId;
use crate::words::limits::FRAGMENT_CHUNKS_TARGET;
use tokio::sync::mpsc;

/// Writes a session's index fragments.
pub struct Fragments<'a> {
    repository: &'a Repository,
    session: SessionId,
    pending: Vec<PackContents>,
    pending_chunks_n: usize,
    written_n: u32,
    written_bytes: u64,
}

impl<'a> Fragments<'a> {
    /// Creates the writer of a session's fragments.
    pub fn create(repository: &'a Repository, session: SessionId) -> Self {
        Fragments { repository, session, pending: Vec::new(), pending_chunks_n: 0, written_n: 0, written_bytes: 0 }
    }

    /// Notes the packs that arrive, writes a fragment whenever enough has come together and one at the end; returns how
    /// many fragments it wrote, and their bytes.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Conflict`].
    pub async fn run(mut self, mut stored: mpsc::UnboundedReceiver<PackContents>) -> Result<(u32, u64)> {
        while let Some(pack) = stored.recv().await {
            self.pending_chunks_n += pack.blobs.iter().map(|blob| blob.chunks.len()).sum::<usize>();
            self.pending.push(pack);
            if self.pending_chunks_n >= FRAGMENT_CHUNKS_TARGET {
                self.write().await?;
            }
        }
        if !self.pending.is_empty() {
            self.write().await?;
        }
        Ok((self.written_n, self.written_bytes))
    }

    async fn write(&mut self) -> Result<()> {
        let packs = std::mem::take(&mut self.pending);
        self.pending_chunks_n = 0;
        let name = FragmentName { session: self.session, number: self.written_n };
        let (repository, salt) = (self.repository.clone(), random()?);
        let bytes = self.repository.cpu.run(move || fragment::seal(repository.sealer(), name, salt, &packs)).await;
        self.written_bytes += bytes.len() as u64;
        match self.repository.store.create(&names::fragment(name), bytes.into()).await? {
            Created::Yes => self.written_n += 1,
            Created::Taken => return Err(Error::Conflict(format!("{} is taken; try again", names::fragment(name)))),
        }
        Ok(())
    }
}
