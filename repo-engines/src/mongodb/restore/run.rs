//! Does what was prepared.

use super::feed::{Loaded, feed};
use super::prepare::{Prepared, to_target};
use super::{MongoRestore, MongoRestored, Place};
use crate::mongodb::dump::{MongoEngine, MongoOptions};
use crate::safety::Safety;
use dedump_core::{Error, Progress, Repository, Result, SnapshotId};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

impl MongoRestore {
    pub(super) async fn apply(
        &self,
        mut prepared: Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
    ) -> Result<MongoRestored> {
        let mut restored =
            MongoRestored { warnings: std::mem::take(&mut prepared.warnings), ..MongoRestored::default() };
        if self.options.verify_first {
            crate::stored::verify(repository, prepared.snapshot, prepared.streams(), progress).await?;
        }
        if self.options.safety_snapshot {
            let databases: BTreeSet<&String> = prepared.there.iter().map(|(database, _)| database).collect();
            for database in databases {
                let warnings = &mut restored.warnings;
                let id = self.safety_snapshot(database, prepared.snapshot.id, repository, progress, warnings).await?;
                restored.safety_snapshots.push(id);
            }
        }
        let client = self.client.at(self.client.url.of_server());
        let invocation = client.invocation("mongorestore", &self.arguments(&prepared))?;
        let fed = feed(&client, &invocation, &prepared, repository, progress).await;
        let loaded = fed.map_err(|error| self.half_done(error, &restored))?;
        let compared = match self.compare_counts(&prepared, loaded) {
            Ok(()) => self.compare_collections(&prepared).await,
            Err(error) => Err(error),
        };
        compared.map_err(|error| self.half_done(error, &restored))?;
        restored.collections_n =
            prepared.wanted.iter().filter(|stored| !stored.collection.metadata.is_empty()).count() as u64;
        restored.documents_n = loaded.documents_n;
        restored.bytes = prepared.bytes();
        restored.oplog_replayed = prepared.replays_oplog;
        Ok(restored)
    }

    fn arguments(&self, prepared: &Prepared<'_>) -> Vec<String> {
        // The order of documents means something in capped collections, and keeps the next backup small in others. With it, the first
        // error is the last.
        let mut arguments = vec!["--archive".to_owned(), "--maintainInsertionOrder".to_owned()];
        if self.options.place == Place::Replace {
            arguments.push("--drop".to_owned());
        }
        if prepared.replays_oplog {
            arguments.push("--oplogReplay".to_owned());
        }
        if let Some((from, to)) = prepared.renamed.as_ref().filter(|(from, to)| from != to) {
            arguments.push(format!("--nsFrom={}.*", from.replace('*', "\\*")));
            arguments.push(format!("--nsTo={}.*", to.replace('*', "\\*")));
        }
        arguments
    }

    /// Compares what was loaded with what was dumped.
    fn compare_counts(&self, prepared: &Prepared<'_>, loaded: Loaded) -> Result<()> {
        let (mut least_n, mut most_n) = (0, 0);
        for stored in &prepared.wanted {
            let documents_n = stored.data.as_ref().map_or(0, |data| data.documents_n);
            // Users and roles are counted by some versions, and the oplog by none.
            let is_counted = stored.collection.database != "admin" && !stored.collection.database.is_empty();
            least_n += if is_counted { documents_n } else { 0 };
            most_n += if stored.collection.database.is_empty() { 0 } else { documents_n };
        }
        let Loaded { documents_n, failed_n } = loaded;
        if failed_n > 0 {
            return Err(Error::DumpFailed(format!("mongorestore could not restore {failed_n} documents")));
        }
        if !(least_n..=most_n).contains(&documents_n) {
            return Err(Error::DumpFailed(format!(
                "mongorestore says that it has restored {documents_n} documents, and {least_n} were dumped"
            )));
        }
        Ok(())
    }

    /// Compares the collections and indexes that are there with those that were dumped.
    async fn compare_collections(&self, prepared: &Prepared<'_>) -> Result<()> {
        let mut wanted: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
        for collection in prepared.prelude.collections.iter().filter(|one| !one.metadata.is_empty()) {
            if collection.database != "admin" {
                let database = prepared.target(&collection.database);
                wanted.entry(database).or_default().push((&collection.name, indexes_n(&collection.metadata)));
            }
        }
        for (database, collections) in wanted {
            let there = self.look(database).await?.collections;
            for (name, dumped_n) in collections {
                let Some(found) = there.iter().find(|collection| collection.name == name) else {
                    return Err(Error::DumpFailed(format!("{database}.{name} is not there now")));
                };
                let found_n = indexes_n(&found.metadata);
                if found_n < dumped_n {
                    return Err(Error::DumpFailed(format!(
                        "{database}.{name} has {found_n} indexes now, and {dumped_n} were dumped"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Says in an error what has become of everything.
    fn half_done(&self, error: Error, restored: &MongoRestored) -> Error {
        match to_target(error) {
            Error::Target(why) => Error::Target(format!(
                "{why}; collections may be there in part now, and --replace loads them anew{}",
                kept(restored)
            )),
            // The repository's own, which has a kind that programs go by.
            error => error,
        }
    }

    async fn safety_snapshot(
        &self,
        database: &str,
        restored: SnapshotId,
        repository: &Repository,
        progress: &dyn Progress,
        warnings: &mut Vec<String>,
    ) -> Result<SnapshotId> {
        let client = self.client.at(self.client.url.of_database(Some(database)));
        let host = client.url.host();
        let options = MongoOptions { client: self.options.client.clone(), ..MongoOptions::default() };
        let engine = MongoEngine::of(client, options);
        let source = format!("safety/{host}/{database}");
        let safety = Safety { what: database, source, host, restored, by: &self.options.by };
        safety.snapshot(&engine, repository, progress, warnings).await
    }
}

fn kept(restored: &MongoRestored) -> String {
    match &restored.safety_snapshots[..] {
        [] => String::new(),
        ids => {
            let ids = ids.iter().map(SnapshotId::short).collect::<Vec<_>>().join(", ");
            format!("; what was there is in the safety snapshot {ids}")
        }
    }
}

fn indexes_n(metadata: &str) -> usize {
    let metadata: Json = serde_json::from_str(metadata).unwrap_or(Json::Null);
    metadata["indexes"].as_array().map_or(0, Vec::len)
}
