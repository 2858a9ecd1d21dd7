//! Does what was prepared.

use super::feed::{Action, Fed, Selection, feed};
use super::prepare::Prepared;
use super::{OnConflict, Place, RedisRestore, RedisRestored, databases, finish};
use crate::redis::client::Connection;
use crate::redis::dump::{Method, RedisEngine, RedisOptions};
use crate::redis::explain::Failure;
use crate::redis::scan::now_ms;
use crate::redis::server::Server;
use crate::safety::Safety;
use dedump_core::{Error, Progress, Repository, Result, SnapshotId};
use std::time::Duration;

/// How often a restore says that it is still at work.
const ALIVE_EVERY: Duration = Duration::from_secs(60);

impl RedisRestore {
    pub(super) async fn apply(
        &self,
        mut prepared: Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
    ) -> Result<RedisRestored> {
        let mut restored =
            RedisRestored { warnings: std::mem::take(&mut prepared.warnings), ..RedisRestored::default() };
        if self.options.verify_first {
            let read = self.feed(&mut prepared, Action::Read, repository, progress).await;
            read.map_err(|failure| self.nothing_changed(failure))?;
        }
        if self.options.place == Place::Merge(OnConflict::Fail) {
            let looked = self.feed(&mut prepared, Action::Exists, repository, progress).await;
            let there_n = looked.map_err(|failure| self.nothing_changed(failure))?.there_n;
            if there_n > 0 {
                let why = format!("{there_n} of the keys are there already; say whether they stay or are replaced");
                return Err(self.nothing_changed(Failure::Broken(why)));
            }
        }
        if prepared.needs_safety_snapshot(self) {
            let id = self.safety_snapshot(prepared.snapshot.id, repository, progress, &mut restored.warnings).await?;
            restored.safety_snapshot = Some(id);
        }
        for number in prepared.leftovers.clone() {
            let emptied = databases::empty(&mut prepared.connection, number).await;
            emptied.map_err(|failure| self.nothing_changed(failure))?;
            restored.warnings.push(format!("database {number}, which a restore had left unfinished, was emptied"));
        }
        let fed = match self.fill(&mut prepared, repository, progress, &mut restored).await {
            Ok(fed) => fed,
            Err(failure) => return Err(self.clear_away(&prepared, failure, &restored).await),
        };
        self.finish(&mut prepared, fed, repository, &mut restored).await?;
        Ok(restored)
    }

    /// Brings all keys to where they are filled, counts them, and lets databases change places.
    async fn fill(
        &self,
        prepared: &mut Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
        restored: &mut RedisRestored,
    ) -> std::result::Result<Fed, Failure> {
        let evicted_before = prepared.server.number("evicted_keys").unwrap_or(0);
        let pairs: Vec<(u64, u64)> =
            prepared.databases.iter().filter_map(|database| Some((database.spare?, database.to))).collect();
        for (spare, _) in &pairs {
            databases::mark(&mut prepared.connection, *spare).await?;
        }
        let in_place = self.options.place == Place::Replace && pairs.is_empty();
        for number in prepared.databases.iter().map(|database| database.to).filter(|_| in_place) {
            databases::empty(&mut prepared.connection, number).await?;
        }
        let replace = self.options.place == Place::Merge(OnConflict::Replace);
        let action = Action::Restore { replace };
        let fed = if pairs.is_empty() {
            self.feed(prepared, action, repository, progress).await?
        } else {
            let stay = self.stay_alive(pairs.clone());
            tokio::select! {
                fed = self.feed(prepared, action, repository, progress) => fed?,
                failure = stay => return Err(failure),
            }
        };
        restored.bytes = fed.bytes;
        restored.expired_n = fed.expired_n;
        restored.skipped_n = fed.there_n;
        let sent_n: u64 = fed.keys.values().sum();
        restored.keys_n = sent_n - fed.there_n;
        if fed.there_n > 0 && self.options.place != Place::Merge(OnConflict::Skip) {
            let why = format!("{} keys were there before theirs came; somebody else writes to it", fed.there_n);
            return Err(Failure::Broken(why));
        }
        if !matches!(self.options.place, Place::Merge(_)) {
            self.compare(prepared, &fed, evicted_before, &mut restored.warnings).await?;
        }
        let are_wanted = self.options.functions && prepared.is_whole;
        finish::functions(&mut prepared.connection, self.options.place, are_wanted, &fed, restored).await?;
        if !pairs.is_empty() {
            // Who has written to a database meanwhile that was empty must not lose that.
            if self.options.place == Place::Empty {
                for (_, to) in &pairs {
                    if databases::count(&mut prepared.connection, *to).await? > 0 {
                        let why = format!("somebody has written to its database {to} meanwhile");
                        return Err(Failure::Broken(why));
                    }
                }
            }
            databases::swap(&mut prepared.connection, &pairs).await?;
            restored.swapped = true;
        }
        Ok(fed)
    }

    /// Compares how many keys there are with how many were sent.
    async fn compare(
        &self,
        prepared: &mut Prepared<'_>,
        fed: &Fed,
        evicted_before: u64,
        warnings: &mut Vec<String>,
    ) -> std::result::Result<(), Failure> {
        for database in prepared.databases.clone() {
            let filled = database.spare.unwrap_or(database.to);
            let marks_n = if database.spare.is_some() { 2 } else { 0 };
            let there_n = databases::count(&mut prepared.connection, filled).await?.saturating_sub(marks_n);
            let sent_n = fed.keys.get(&filled).copied().unwrap_or(0);
            let evicted_n = Server::ask(&mut prepared.connection).await?.number("evicted_keys").unwrap_or(0);
            if evicted_n > evicted_before {
                prepared.has_evicted = true;
                return Err(Failure::Broken(format!(
                    "it has dropped {} keys for lack of memory; raise maxmemory",
                    evicted_n - evicted_before
                )));
            }
            // Keys go when their time comes; more than were sent nobody explains.
            if there_n > sent_n || sent_n - there_n > fed.expiring_n {
                return Err(Failure::Broken(format!(
                    "database {} should have {sent_n} keys now and has {there_n}",
                    database.to
                )));
            }
            if there_n < sent_n {
                warnings.push(format!("{} keys of database {} have expired meanwhile", sent_n - there_n, database.to));
            }
        }
        Ok(())
    }

    /// Says every now and then that the databases are being filled. Ends only if that can't be said.
    async fn stay_alive(&self, pairs: Vec<(u64, u64)>) -> Failure {
        let work = async {
            let mut connection = Connection::open(&self.url, &self.options.client).await?;
            loop {
                for (spare, _) in &pairs {
                    databases::mark_alive(&mut connection, *spare).await?;
                }
                tokio::time::sleep(ALIVE_EVERY).await;
            }
        };
        let ended: std::result::Result<(), Failure> = work.await;
        ended.expect_err("it goes on for ever")
    }

    async fn feed(
        &self,
        prepared: &mut Prepared<'_>,
        action: Action,
        repository: &Repository,
        progress: &dyn Progress,
    ) -> std::result::Result<Fed, Failure> {
        let selection = Selection {
            databases: prepared.filled(),
            prefixes: self.options.key_prefixes.clone(),
            action,
            now_ms: now_ms(&mut prepared.connection).await?,
        };
        let from = (repository, prepared.snapshot, prepared.stream.name.as_str());
        feed(from, selection, &mut prepared.connection, progress).await
    }

    /// Backs up what is there, and has nobody forget that.
    async fn safety_snapshot(
        &self,
        id: SnapshotId,
        repository: &Repository,
        progress: &dyn Progress,
        warnings: &mut Vec<String>,
    ) -> Result<SnapshotId> {
        let options = RedisOptions {
            client: self.options.client.clone(),
            method: Method::SyncOrScan,
            temporary_folder: self.options.temporary_folder.clone(),
            ..RedisOptions::default()
        };
        let engine = RedisEngine::of(self.url.without_database(), options)?;
        let host = self.url.host();
        let source = format!("safety/{host}");
        let safety = Safety { what: &host, source, host: host.clone(), restored: id, by: &self.options.by };
        safety.snapshot(&engine, repository, progress, warnings).await
    }

    fn nothing_changed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Ours(error) => error,
            failure => Error::Target(format!("{}; nothing was changed", failure.explain(&self.url))),
        }
    }

    /// Empties what was filled aside, and says in the error what has become of everything.
    async fn clear_away(&self, prepared: &Prepared<'_>, failure: Failure, restored: &RedisRestored) -> Error {
        let spares: Vec<u64> = prepared.databases.iter().filter_map(|database| database.spare).collect();
        let emptied = async {
            // The other connection may be what has failed.
            let mut connection = Connection::open(&self.url, &self.options.client).await?;
            for spare in &spares {
                databases::empty(&mut connection, *spare).await?;
            }
            Ok::<(), Failure>(())
        };
        let safety = restored.safety_snapshot.map(|id| format!(", and what it had is snapshot {}", id.short()));
        let state = match (self.options.place, spares.is_empty()) {
            (Place::Merge(_), _) => format!("some keys may be restored{}", safety.unwrap_or_default()),
            (_, true) => format!("the databases are half filled{}", safety.unwrap_or_default()),
            (_, false) => match emptied.await {
                Ok(()) if prepared.has_evicted => "some of those may have been there before".to_owned(),
                Ok(()) => "its databases are as they were".to_owned(),
                Err(_) => {
                    format!("its databases are as they were, and the next restore empties database {}", spares[0])
                }
            },
        };
        match failure {
            // The repository's own, which has its own advice.
            Failure::Ours(error) if !matches!(error, Error::Target(_)) => error,
            failure => Error::Target(format!("{}; {state}", failure.explain(&self.url))),
        }
    }
}
