//! A run that adds to the repository: announced at its start, decided at its end.
//!
//! FORMAT.md ("Sessions and decisions") has the protocol and its argument. What matters here: the session's mark is put
//! before anything is looked at, what it wrote counts by the decision alone, and the mark is taken away only when we
//! know how it ended.

use super::repository::{PROGRAM, Repository};
use super::snapshots::{self, Decision};
use crate::edges::store::Created;
use crate::edges::system::{now_ms, random};
use crate::format::decision::FenceRecord;
use crate::format::names::{self, SESSIONS};
use crate::format::record::{self, Record};
use crate::format::session::SessionRecord;
use crate::words::error::{Error, Result};
use crate::words::id::SessionId;
use crate::words::limits::SESSION_REFRESH_SECS;
use futures::future::{self, Either};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A session of our own that is not decided yet.
pub struct Session {
    repository: Repository,
    id: SessionId,
    record: SessionRecord,
}

impl Session {
    /// Puts the mark of a new session.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::System`].
    pub async fn start(repository: &Repository, operation: &str, host: &str, source: &str) -> Result<Session> {
        let record = SessionRecord {
            operation: operation.to_owned(),
            host: host.to_owned(),
            process: std::process::id(),
            program: PROGRAM.to_owned(),
            source: source.to_owned(),
            started_ms: now_ms(),
            refreshes_n: 0,
            bytes_done: 0,
        };
        let id = SessionId(random()?);
        let name = names::of_session(SESSIONS, id);
        match repository.store.create(&name, repository.seal(&name, &record)?).await? {
            Created::Yes => Ok(Session { repository: repository.clone(), id, record }),
            Created::Taken => Err(Error::Conflict(format!("{name} is taken; try again"))),
        }
    }

    /// Returns its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns when it began, in milliseconds since 1970 UTC.
    pub fn started_ms(&self) -> i64 {
        self.record.started_ms
    }

    /// Rewrites the mark, so that others see how far it is and that it lives.
    async fn refresh(&mut self, bytes_done: u64) -> Result<()> {
        self.record.refreshes_n += 1;
        self.record.bytes_done = bytes_done;
        let name = names::of_session(SESSIONS, self.id);
        self.repository.store.overwrite(&name, self.repository.seal(&name, &self.record)?).await
    }

    /// Does work, and rewrites the mark now and then meanwhile.
    pub async fn refresh_while<T>(&mut self, bytes_done: &AtomicU64, work: impl Future<Output = T>) -> T {
        let refresh = async {
            loop {
                tokio::time::sleep(Duration::from_secs(SESSION_REFRESH_SECS)).await;
                // A mark that could not be rewritten makes us look older than we are: at worst we are fenced, which the
                // commit finds out. It is no reason to throw away hours of dumping.
                let _ = self.refresh(bytes_done.load(Ordering::Relaxed)).await;
            }
        };
        match future::select(std::pin::pin!(work), std::pin::pin!(refresh)).await {
            Either::Left((output, _)) => output,
            Either::Right((never, _)) => never,
        }
    }

    /// Decides the session: creates its decision under `prefix`, and takes the mark away.
    ///
    /// # Errors
    /// [`Error::Conflict`]: a fence came first. [`Error::Store`]: nobody knows whether it committed, nor whether a late
    /// request still will; the mark stays, and a listing tells in the end.
    pub async fn commit<T: Record>(self, prefix: &str, decision: &T) -> Result<SessionId> {
        let name = names::of_session(prefix, self.id);
        let bytes = match self.seal_and_open::<T>(&name, decision) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.abandon().await;
                return Err(error);
            }
        };
        let error = match self.repository.store.create(&name, bytes.clone()).await {
            Ok(Created::Yes) => return self.committed().await,
            Ok(Created::Taken) => self.taken(prefix).await,
            // On a disk no reply gets lost: what failed may be the sync, and then what is there may not last.
            Err(error) if self.repository.store.is_local() => return Err(error),
            Err(error) => error,
        };
        // A reply may have been lost: what is there decides.
        match self.repository.store.get(&name, bytes.len()).await {
            Ok(Some(there)) if there == bytes => self.committed().await,
            Ok(Some(_)) => {
                self.abandon().await;
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// Seals a decision, and opens it again before anybody relies on it.
    fn seal_and_open<T: Record>(&self, name: &str, decision: &T) -> Result<bytes::Bytes> {
        let bytes = self.repository.seal(name, decision)?;
        record::open::<T>(self.repository.sealer(), name, &bytes)?;
        Ok(bytes)
    }

    async fn committed(self) -> Result<SessionId> {
        // The commit stands. A mark that stays behind is harmless, and is cleaned up by the next prune.
        let _ = self.repository.store.delete(&names::of_session(SESSIONS, self.id)).await;
        Ok(self.id)
    }

    async fn taken(&self, prefix: &str) -> Error {
        match snapshots::read(&self.repository, prefix, self.id).await {
            Ok(Some(Decision::Fence(fence))) => Error::Conflict(format!(
                "session {} was fenced by session {}: {}; nothing was committed, run it again",
                self.id.short(),
                fence.by.short(),
                fence.reason
            )),
            Ok(_) => Error::Conflict(format!("the decision of session {} is taken; run it again", self.id.short())),
            Err(error) => error,
        }
    }

    /// Takes the mark away from a session that never tried to commit.
    pub async fn abandon(self) {
        // The operation has failed already, and reports that; a mark that stays behind is harmless.
        let _ = self.repository.store.delete(&names::of_session(SESSIONS, self.id)).await;
    }
}

/// Puts a fence in the place of a session's decision, so that it never may commit; returns whether that is so now.
///
/// # Errors
/// [`Error::Store`].
pub async fn fence(
    repository: &Repository,
    prefix: &str,
    fenced: SessionId,
    by: SessionId,
    reason: &str,
) -> Result<bool> {
    let name = names::of_session(prefix, fenced);
    let fence = FenceRecord { by, reason: reason.to_owned(), fenced_ms: now_ms() };
    match repository.store.create(&name, repository.seal(&name, &fence)?).await? {
        Created::Yes => Ok(true),
        Created::Taken => Ok(matches!(snapshots::read(repository, prefix, fenced).await?, Some(Decision::Fence(_)))),
    }
}
