//! Gives the finished database its name, in one transaction, and takes that back.

use super::prepare::Prepared;
use super::server::{self, Rename};
use super::{PostgresRestore, PostgresRestored, hints};
use crate::postgres::session::Session;
use crate::postgres::sql;
use dedump_core::{Error, Result};

impl PostgresRestore {
    /// Gives the finished database its name; the one that has it gets another, or is dropped.
    pub(super) async fn publish(
        &self,
        prepared: &mut Prepared<'_>,
        own: &str,
        restored: &mut PostgresRestored,
    ) -> Result<()> {
        let name = prepared.name.as_str();
        let id8 = prepared.contents.snapshot.id.short();
        let session = &mut prepared.session;
        let old = server::find(session, name).await?;
        if old.as_ref().map(|old| old.oid) != prepared.existing.as_ref().map(|old| old.oid) {
            return Err(Error::DumpFailed(format!("somebody else has made, or dropped, a database {name} meanwhile")));
        }
        let comment = prepared.contents.inventory.database.comment.as_ref();
        let comment = comment.map_or_else(|| "NULL".to_owned(), |comment| sql::text(comment));
        let besides = vec![format!("COMMENT ON DATABASE {} IS {comment}", sql::name(name))];
        let new = (own.to_owned(), name.to_owned());
        let Some(old) = old else {
            return server::rename(session, &Rename { names: vec![new], besides, disconnect: None }).await;
        };
        if !old.connected.is_empty() && !self.options.disconnect {
            return Err(in_use(name, &old.connected));
        }
        let kept = server::free_name(session, name, "before", &id8).await?;
        let names = vec![(name.to_owned(), kept.clone()), new];
        let disconnect = self.options.disconnect.then_some((name, kept.as_str()));
        if let Err(error) = server::rename(session, &Rename { names, besides, disconnect }).await {
            let connected = server::find(session, name).await?.map(|found| found.connected).unwrap_or_default();
            return Err(if connected.is_empty() { error } else { in_use(name, &connected) });
        }
        // Nothing may fail any more: the restored database has its name.
        if self.options.drop_old || prepared.there.is_none() {
            match self.drop_old(prepared, &kept).await {
                Ok(()) => return Ok(()),
                Err(error) => restored.warnings.push(format!("the old database could not be dropped: {error}")),
            }
        }
        restored.kept = Some(kept);
        Ok(())
    }

    /// Drops the old database; one that was empty only if it still is.
    async fn drop_old(&self, prepared: &mut Prepared<'_>, kept: &str) -> Result<()> {
        if !self.options.drop_old {
            let there = server::what_is_there(&prepared.client.of_database(kept), hints::explain).await?;
            if let Some(there) = there {
                return Err(Error::Target(format!("it has {there} now")));
            }
        }
        let drop = format!("DROP DATABASE {}", sql::name(kept));
        match prepared.session.attempt(&[drop]).await? {
            None => Ok(()),
            Some(why) => Err(Error::Target(why)),
        }
    }

    /// Puts a database back in its place that a restore has replaced and kept, `NAME_before_ID8`. Returns the name that the
    /// restored one has now.
    ///
    /// # Errors
    /// [`Error::Target`]: there is no such database, or it is in use; nothing has changed.
    pub async fn undo(&self, kept: &str) -> Result<String> {
        self.swap_back(kept).await.map_err(hints::of_target)
    }

    async fn swap_back(&self, kept: &str) -> Result<String> {
        let Some(name) = self.url.database() else {
            return Err(Error::Invalid("the URL names no database to put back".to_owned()));
        };
        if !kept.starts_with(&format!("{name}_before_")) {
            return Err(Error::Invalid(format!(
                "{kept} is not what a restore of {name} has kept; that is called {name}_before_…"
            )));
        }
        let mut session = Session::open_explained(&self.client(self.maintenance(name)), hints::explain).await?;
        let Some(old) = server::find(&mut session, kept).await? else {
            return Err(Error::DumpFailed(format!(
                "there is no database {kept} any more; restore the safety snapshot, which has the source safety/{}/{name}",
                self.url.host()
            )));
        };
        if !old.connected.is_empty() {
            return Err(in_use(kept, &old.connected));
        }
        let new = server::find(&mut session, name).await?;
        let id8 = kept.rsplit("_before_").next().unwrap_or_default().to_owned();
        let undone = server::free_name(&mut session, name, "undone", &id8).await?;
        let mut names = vec![(kept.to_owned(), name.to_owned())];
        let mut disconnect = None;
        if let Some(new) = new {
            if !new.connected.is_empty() && !self.options.disconnect {
                return Err(in_use(name, &new.connected));
            }
            names.insert(0, (name.to_owned(), undone.clone()));
            disconnect = self.options.disconnect.then_some((name, undone.as_str()));
        }
        server::rename(&mut session, &Rename { names, besides: Vec::new(), disconnect }).await?;
        session.close().await?;
        Ok(undone)
    }
}

fn in_use(name: &str, connected: &[String]) -> Error {
    Error::DumpFailed(format!(
        "database {name} is in use by {}; stop them, or disconnect them with --disconnect",
        server::who(connected)
    ))
}
