//! A run that adds to the repository: announced at its start, decided at its end.
//!
//! FORMAT.md ("Sessions and decisions") has the protocol and its argument. What matters here: the session's mark is put
//! before anything is looked at, what it wrote counts by the decision alone, and the mark is taken away only when we
//! know how it ended.

use super::repository::{PROGRAM, Repository};
use super::snapshots::{self, Decision, Decisions};
use crate::edges::store::Created;
use crate::edges::system::{now_ms, random};
use crate::format::decision::FenceRecord;
use crate::format::names::{self, MERGES, SESSIONS, SNAPSHOTS};
use crate::format::record::{self, Record};
use crate::format::session::SessionRecord;
use crate::words::error::{Error, Result};
use crate::words::id::SessionId;
use crate::words::limits::{CLOCK_AHEAD_SECS_MAX, SESSION_REFRESH_SECS};
use bytes::Bytes;
use futures::future::{self, Either};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A session of our own that is not decided yet.
///
/// Dropped before it ended, as when its run is cancelled, it leaves its mark for [`Store::clear_up`] to take away; but not
/// where its decision was asked for and nobody knows of what came of it.
///
/// [`Store::clear_up`]: crate::Store::clear_up
pub struct Session {
    repository: Repository,
    id: SessionId,
    record: SessionRecord,
    in_doubt: Arc<AtomicBool>,
    has_mark: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.has_mark && !self.in_doubt.load(Ordering::Relaxed) {
            self.repository.store.leave_behind(names::of_session(SESSIONS, self.id));
        }
    }
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
            Created::Yes => {
                let (repository, in_doubt) = (repository.clone(), Arc::default());
                Ok(Session { repository, id, record, in_doubt, has_mark: true })
            }
            Created::Taken => Err(Error::Conflict(format!("{name} is taken; try again"))),
        }
    }

    /// Returns its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns whether its decision was asked for and nobody knows what came of it: then the mark must stay. Whoever decides
    /// by other means than [`Session::commit`] says so here.
    pub fn in_doubt(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.in_doubt)
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
        first_of(work, refresh).await
    }

    /// As [`Session::refresh_while`], for several sessions at once.
    pub async fn refresh_all_while<T>(
        sessions: &mut [Session],
        bytes_done: &AtomicU64,
        work: impl Future<Output = T>,
    ) -> T {
        let refresh = async {
            loop {
                tokio::time::sleep(Duration::from_secs(SESSION_REFRESH_SECS)).await;
                for session in &mut *sessions {
                    // As above.
                    let _ = session.refresh(bytes_done.load(Ordering::Relaxed)).await;
                }
            }
        };
        first_of(work, refresh).await
    }

    /// Decides the session: creates its decision under `prefix`, and takes the mark away.
    ///
    /// # Errors
    /// [`Error::Conflict`]: a fence came first. [`Error::Store`]: nobody knows whether it committed, nor whether a late
    /// request still will; the mark stays, and a listing tells in the end.
    pub async fn commit<T: Record>(self, prefix: &str, decision: &T) -> Result<SessionId> {
        self.in_doubt.store(true, Ordering::Relaxed);
        let id = self.id;
        let decided = decide(&self.repository, id, prefix, decision).await;
        let is_final = decided.as_ref().err().is_none_or(|undecided| undecided.is_final);
        self.in_doubt.store(!is_final, Ordering::Relaxed);
        self.end().await;
        decided.map(|()| id).map_err(|undecided| undecided.error)
    }

    /// Takes the mark away, unless its decision is in doubt.
    pub async fn end(mut self) {
        if self.in_doubt.load(Ordering::Relaxed) {
            return;
        }
        // What counts has happened already, and is reported; a mark that stays behind is harmless: the next prune takes it
        // away.
        let _ = self.repository.store.delete(&names::of_session(SESSIONS, self.id)).await;
        self.has_mark = false;
    }
}

/// Waits for the work; the other never ends.
async fn first_of<T>(work: impl Future<Output = T>, endless: impl Future<Output = T>) -> T {
    match future::select(std::pin::pin!(work), std::pin::pin!(endless)).await {
        Either::Left((output, _)) | Either::Right((output, _)) => output,
    }
}

/// Why a session did not commit.
pub struct Undecided {
    /// What went wrong.
    pub error: Error,
    /// Whether it never will: else a request may still be on its way, and the mark must stay.
    pub is_final: bool,
}

impl From<Error> for Undecided {
    fn from(error: Error) -> Undecided {
        Undecided { error, is_final: true }
    }
}

/// Creates a session's decision under `prefix`.
///
/// # Errors
/// [`Error::Conflict`]: a fence came first. [`Error::Store`]: nobody knows whether it committed.
pub async fn decide<T: Record>(
    repository: &Repository,
    id: SessionId,
    prefix: &str,
    decision: &T,
) -> Result<(), Undecided> {
    let name = names::of_session(prefix, id);
    let bytes = repository.seal(&name, decision)?;
    // Opened again before anybody relies on it.
    record::open::<T>(repository.sealer(), &name, &bytes)?;
    decide_on(&Sealed { repository, id, prefix, name: name.clone(), bytes: bytes.clone() }).await?;
    if let Some(cache) = &repository.cache {
        cache.keep(&name, bytes).await;
    }
    Ok(())
}

/// The steps that a decision takes in the store: a repository takes them in its own, the exploration of all interleavings
/// in another.
pub trait DecisionGround {
    /// Creates the decision, unless one is there.
    fn create(&self) -> impl Future<Output = Result<Created>> + Send;
    /// Returns what to say of the decision that was there first.
    fn taken(&self) -> impl Future<Output = Error> + Send;
    /// Returns whether the decision that is there is ours; `None` if there is none.
    fn is_ours(&self) -> impl Future<Output = Result<Option<bool>>> + Send;
    /// Returns whether a request may take effect whose reply is an error.
    fn may_lose_replies(&self) -> bool;
}

/// Creates a decision on a ground, and finds out whether it was created where the reply says nothing of it.
///
/// # Errors
/// Why the decision was not created or is not known to be, and whether it never can be.
pub async fn decide_on(ground: &impl DecisionGround) -> Result<(), Undecided> {
    let error = match ground.create().await {
        Ok(Created::Yes) => return Ok(()),
        Ok(Created::Taken) => ground.taken().await,
        // On a disk no reply gets lost: what failed may be the sync, and then what is there may not last.
        Err(error) if !ground.may_lose_replies() => return Err(Undecided { error, is_final: false }),
        Err(error) => error,
    };
    // A reply may have been lost: what is there decides.
    match ground.is_ours().await {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false)) => Err(Undecided { error, is_final: true }),
        _ => Err(Undecided { error, is_final: false }),
    }
}

/// A decision that is about to be created.
struct Sealed<'a> {
    repository: &'a Repository,
    id: SessionId,
    prefix: &'a str,
    name: String,
    bytes: Bytes,
}

impl DecisionGround for Sealed<'_> {
    async fn create(&self) -> Result<Created> {
        self.repository.store.create(&self.name, self.bytes.clone()).await
    }

    async fn taken(&self) -> Error {
        taken(self.repository, self.id, self.prefix).await
    }

    async fn is_ours(&self) -> Result<Option<bool>> {
        let there = self.repository.store.get(&self.name, self.bytes.len()).await?;
        Ok(there.map(|there| there == self.bytes))
    }

    fn may_lose_replies(&self) -> bool {
        !self.repository.store.is_local()
    }
}

async fn taken(repository: &Repository, id: SessionId, prefix: &str) -> Error {
    match snapshots::read(repository, prefix, id).await {
        Ok(Some(Decision::Fence(fence))) => Error::Conflict(format!(
            "session {} was fenced by session {}: {}; nothing was committed, run it again",
            id.short(),
            fence.by.short(),
            fence.reason
        )),
        Ok(_) => Error::Conflict(format!("the decision of session {} is taken; run it again", id.short())),
        Err(error) => error,
    }
}

/// The mark of a session that is not decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The session.
    pub id: SessionId,
    /// When it was written last, in milliseconds since 1970 UTC, by the store's clock.
    pub modified_ms: i64,
}

/// Returns whether nobody has rewritten a mark for so long. Whoever lives rewrites it, so one that is far ahead of the clock is
/// as dead: the clock was set back since. A little ahead is whoever came after the time that is compared with.
pub fn looks_dead(modified_ms: i64, now_ms: i64, dead_after: Duration) -> bool {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let ahead_max = dead_after.max(Duration::from_secs(CLOCK_AHEAD_SECS_MAX));
    let age_ms = now_ms.saturating_sub(modified_ms);
    age_ms > ms(dead_after) || age_ms < -ms(ahead_max)
}

/// Lists the marks, and then which of them are not decided.
///
/// # Errors
/// [`Error::Store`].
pub async fn undecided(repository: &Repository) -> Result<Vec<Mark>> {
    let listed = repository.store.list(SESSIONS).await?;
    let decisions = Decisions::list(repository).await?;
    let mark = |object: &crate::edges::store::Listed| {
        let id = names::parse(SESSIONS, &object.name)?;
        Some(Mark { id, modified_ms: object.modified_ms })
    };
    Ok(listed.iter().filter_map(mark).filter(|mark| !decisions.is_decided(mark.id)).collect())
}

/// Deletes the marks of other sessions that are decided, and ends the forgetting of snapshots that was broken off.
///
/// # Errors
/// [`Error::Store`].
pub async fn sweep(repository: &Repository, me: SessionId) -> Result<()> {
    let marks = snapshots::list_ids(repository, SESSIONS).await?;
    let decisions = Decisions::list(repository).await?;
    for id in marks.into_iter().filter(|id| *id != me && decisions.is_decided(*id)) {
        repository.store.delete(&names::of_session(SESSIONS, id)).await?;
    }
    for id in decisions.left_over() {
        // As `forget` does it: never without a tombstone that opens. A late fence may stand in that place, and stays.
        let is_snapshot = matches!(snapshots::read(repository, SNAPSHOTS, id).await?, Some(Decision::Snapshot(_)));
        if is_snapshot && snapshots::is_forgotten(repository, id).await? {
            repository.store.delete(&names::of_session(SNAPSHOTS, id)).await?;
        }
    }
    Ok(())
}

/// Reads what a session's mark says; `None` if it is gone, or does not open.
///
/// # Errors
/// [`Error::Store`].
pub async fn read(repository: &Repository, id: SessionId) -> Result<Option<SessionRecord>> {
    match repository.read(&names::of_session(SESSIONS, id)).await {
        Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => Ok(None),
        read => read,
    }
}

/// Sees to it that a session never may commit, unless it has; whatever it is, where its mark does not tell.
///
/// # Errors
/// [`Error::Store`].
pub async fn fence_any(repository: &Repository, fenced: SessionId, by: SessionId, reason: &str) -> Result<()> {
    let prefixes: &[&str] = match read(repository, fenced).await? {
        Some(mark) if ["backup", "copy"].contains(&mark.operation.as_str()) => &[SNAPSHOTS],
        Some(mark) if ["prune", "reindex"].contains(&mark.operation.as_str()) => &[MERGES],
        // Also of what only a newer version does.
        _ => &[SNAPSHOTS, MERGES],
    };
    for prefix in prefixes {
        // One that has committed there can't commit elsewhere: a fence would only say the opposite of its decision.
        if !fence(repository, prefix, fenced, by, reason).await? {
            break;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_looks_dead_and_who_came_later_does_not() {
        let (now_ms, hour) = (1_700_000_000_000, Duration::from_secs(3600));
        for (ahead_secs, after_an_hour, at_once) in [
            (0, false, false),
            (-1, false, true),
            (-3_600, false, true),
            (-3_601, true, true),
            // Whoever began, or rewrote its mark, after the prune that asks.
            (90, false, false),
            (3_601, true, true),
            (i64::MIN / 1000, true, true),
            (i64::MAX / 2000, true, true),
        ] {
            let modified_ms = ahead_secs.saturating_mul(1000).saturating_add(now_ms);
            assert_eq!(looks_dead(modified_ms, now_ms, hour), after_an_hour, "{ahead_secs} s");
            assert_eq!(looks_dead(modified_ms, now_ms, Duration::ZERO), at_once, "{ahead_secs} s");
            assert!(!looks_dead(now_ms - 1000, now_ms, Duration::MAX));
        }
    }
}
