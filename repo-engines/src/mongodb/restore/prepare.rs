//! Looks at the backup and at the server, and refuses what can't be. Changes nothing.

use super::{MongoRestore, Place};
use crate::OUTPUT_GRACE;
use crate::child::{End, Running, describe_failure};
use crate::gates::Watch;
use crate::mongodb::archive::{Collection, Prelude};
use crate::mongodb::client::{Client, NOT_FOUND, PACKAGE};
use crate::mongodb::demux::{Demux, Step};
use crate::mongodb::dump::Forward;
use crate::mongodb::{PRELUDE, names};
use crate::stored::read_small;
use dedump_core::{Error, Repository, Result, Snapshot, StreamRecord};
use std::collections::{BTreeMap, BTreeSet};

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MongoPlan {
    /// Where it goes, for people.
    pub place: String,
    /// Bytes of all documents.
    pub bytes: u64,
    /// The collections and views, in order.
    pub collections: Vec<PlannedCollection>,
    /// Whether what was written while the dump ran is replayed.
    pub replays_oplog: bool,
    /// Whether databases are backed up first.
    pub safety_snapshot: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A collection of the backup, and the one that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCollection {
    /// Its name in the backup, as `shop.orders`.
    pub from: String,
    /// Its name in the server.
    pub to: String,
    /// Documents that it had.
    pub documents_n: u64,
    /// Whether there is one of that name, which is dropped.
    pub is_there: bool,
}

/// A collection as it was stored.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub collection: Collection,
    /// The stream with its documents, the name that they come under, their number and their bytes.
    pub data: Option<Data>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    pub stream: String,
    pub namespace: String,
    pub documents_n: u64,
    pub bytes: u64,
}

/// What is known before anything changes.
pub(super) struct Prepared<'a> {
    pub snapshot: &'a Snapshot,
    pub prelude: Prelude,
    /// What is restored, by database and name.
    pub wanted: Vec<Stored>,
    /// The only database, and the name that it gets.
    pub renamed: Option<(String, String)>,
    /// Collections of the server that have a name which is wanted.
    pub there: BTreeSet<(String, String)>,
    pub replays_oplog: bool,
    pub warnings: Vec<String>,
}

impl Prepared<'_> {
    /// Returns the name that a database gets.
    pub fn target<'b>(&'b self, database: &'b str) -> &'b str {
        match &self.renamed {
            Some((from, to)) if from == database => to,
            _ => database,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.wanted.iter().filter_map(|stored| stored.data.as_ref()).map(|data| data.bytes).sum()
    }

    pub fn streams(&self) -> Vec<String> {
        self.wanted.iter().filter_map(|stored| Some(stored.data.as_ref()?.stream.clone())).collect()
    }

    pub fn plan(&self, of: &MongoRestore) -> MongoPlan {
        let collections = self.wanted.iter().filter(|stored| !stored.collection.metadata.is_empty());
        let planned = collections.map(|Stored { collection, data }| {
            let to = self.target(&collection.database);
            PlannedCollection {
                from: format!("{}.{}", collection.database, collection.name),
                to: format!("{to}.{}", collection.name),
                documents_n: data.as_ref().map_or(0, |data| data.documents_n),
                is_there: self.there.contains(&(to.to_owned(), collection.name.clone())),
            }
        });
        MongoPlan {
            place: of.place(),
            bytes: self.bytes(),
            collections: planned.collect(),
            replays_oplog: self.replays_oplog,
            safety_snapshot: of.options.safety_snapshot && !self.there.is_empty(),
            warnings: self.warnings.clone(),
        }
    }
}

impl MongoRestore {
    pub(super) async fn prepare<'a>(
        &self,
        repository: &Repository,
        snapshot: &'a Snapshot,
        part_prefix: &str,
    ) -> Result<Prepared<'a>> {
        let versions = snapshot.record.streams.iter().find(|stream| stream.name == format!("{part_prefix}{PRELUDE}"));
        let Some(versions) = versions else {
            let hint = format!("; snapshot {} has none there", snapshot.id.short());
            return Err(Error::NotFound { what: "backup of MongoDB", name: part_prefix.to_owned(), hint });
        };
        let versions = read_small(repository, snapshot, &versions.name).await?;
        let versions: serde_json::Value = serde_json::from_slice(&versions).unwrap_or_default();
        let version = |name: &str| versions[name].as_str().unwrap_or_default().to_owned();
        let mut stored = stored(&snapshot.record.streams, part_prefix);
        let has_oplog = stored.contains_key(&(String::new(), "oplog".to_owned()));
        let oplog = stored.remove(&(String::new(), "oplog".to_owned()));
        let databases: BTreeSet<String> = stored.keys().map(|(database, _)| database.clone()).collect();
        let mut wanted: Vec<Stored> = stored.into_values().filter(|stored| self.wants(&stored.collection)).collect();
        self.check_selection(&wanted, &databases, snapshot)?;
        let renamed = self.renamed(&wanted)?;
        let is_whole = self.options.collections.is_empty()
            && self.options.from_database.is_none()
            && renamed.as_ref().is_none_or(|(from, to)| from == to);
        let mut warnings = Vec::new();
        if has_oplog && is_whole {
            wanted.extend(oplog);
        } else if has_oplog {
            warnings.push(
                "a part is restored, to which the oplog is not applied: its collections are of no single moment"
                    .to_owned(),
            );
        }
        for stored in &mut wanted {
            let stream =
                format!("{part_prefix}{}", names::metadata(&stored.collection.database, &stored.collection.name));
            if snapshot.record.streams.iter().any(|record| record.name == stream) {
                let metadata = read_small(repository, snapshot, &stream).await?;
                stored.collection.metadata = String::from_utf8_lossy(&metadata).into_owned();
            }
        }
        let prelude = Prelude {
            server_version: version("ServerVersion"),
            tool_version: version("ToolVersion"),
            collections: wanted.iter().map(|stored| stored.collection.clone()).collect(),
        };
        self.client.version("mongorestore").await.map_err(to_target)?;
        let replays_oplog = has_oplog && is_whole;
        let mut prepared =
            Prepared { snapshot, prelude, wanted, renamed, there: BTreeSet::new(), replays_oplog, warnings };
        self.look_at_target(&mut prepared).await?;
        Ok(prepared)
    }

    /// Returns whether a collection is to be restored.
    fn wants(&self, collection: &Collection) -> bool {
        let Collection { database, name, .. } = collection;
        let is_of_users = database == "admin" && name.starts_with("system.");
        let is_named =
            || self.options.collections.is_empty() || self.options.collections.contains(&format!("{database}.{name}"));
        match &self.options.from_database {
            _ if is_of_users => self.options.users,
            _ if database == "config" => false,
            Some(wanted) if wanted != database => false,
            _ => is_named(),
        }
    }

    fn check_selection(&self, wanted: &[Stored], databases: &BTreeSet<String>, snapshot: &Snapshot) -> Result<()> {
        let there = databases.iter().cloned().collect::<Vec<_>>().join(", ");
        let missing = |what, name: &str| {
            let hint = format!("; snapshot {} has the databases {there}", snapshot.id.short());
            Err(Error::NotFound { what, name: name.to_owned(), hint })
        };
        if let Some(name) = self.options.from_database.as_ref().filter(|name| !databases.contains(*name)) {
            return missing("database", name);
        }
        let is_found = |name: &String| {
            wanted
                .iter()
                .any(|Stored { collection, .. }| *name == format!("{}.{}", collection.database, collection.name))
        };
        if let Some(name) = self.options.collections.iter().find(|name| !is_found(name)) {
            return missing("collection", name);
        }
        if self.options.users && !wanted.iter().any(|stored| stored.collection.name == "system.users") {
            return missing("collection of users", "admin.system.users");
        }
        if wanted.is_empty() {
            return missing("collection", "any but those of the server itself");
        }
        Ok(())
    }

    /// Returns the database that gets the name in the URL, if there is one in it.
    fn renamed(&self, wanted: &[Stored]) -> Result<Option<(String, String)>> {
        let Some(to) = self.client.url.database() else { return Ok(None) };
        let from: BTreeSet<&str> = wanted.iter().map(|stored| stored.collection.database.as_str()).collect();
        match from.iter().copied().collect::<Vec<_>>()[..] {
            [from] => Ok(Some((from.to_owned(), to.to_owned()))),
            _ => Err(Error::Invalid(format!(
                "which database is to become {to:?}? the backup has {}; say which, or leave it out of the URL",
                from.into_iter().collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Finds the collections that are there, and refuses them unless they are to be replaced.
    async fn look_at_target(&self, prepared: &mut Prepared<'_>) -> Result<()> {
        let wanted: BTreeSet<(String, String)> = prepared
            .prelude
            .collections
            .iter()
            .filter(|collection| !collection.metadata.is_empty() && collection.database != "admin")
            .map(|collection| (prepared.target(&collection.database).to_owned(), collection.name.clone()))
            .collect();
        for database in wanted.iter().map(|(database, _)| database).collect::<BTreeSet<_>>() {
            let found = self.look(database).await?.collections;
            let found = found.into_iter().map(|collection| (collection.database, collection.name));
            prepared.there.extend(found.filter(|name| wanted.contains(name)));
        }
        if self.options.place == Place::New
            && let Some((database, name)) = prepared.there.first()
        {
            return Err(Error::Target(format!(
                "{} has {database}.{name} already{}; replace them, or restore under the name of another database",
                self.client.url.host(),
                match prepared.there.len() {
                    1 => String::new(),
                    n => format!(", and {} more of these collections", n - 1),
                }
            )));
        }
        Ok(())
    }

    /// Returns what `mongodump` says of a database before its documents, and ends it then.
    pub(super) async fn look(&self, database: &str) -> Result<Prelude> {
        let client = self.client.at(self.client.url.of_database(Some(database)));
        let (sender, mut demux) = Demux::of_archive(None);
        let reading = read_archive(&client, sender);
        let first = async {
            match demux.next().await? {
                Some(Step::Prelude(prelude)) => Ok(prelude),
                _ => Err(Error::DumpFailed("mongodump says nothing".to_owned())),
            }
        };
        // Whoever is ready first: with the prelude, the tool is dropped, and killed by that.
        let (reading, first) = (std::pin::pin!(reading), std::pin::pin!(first));
        match futures::future::select(first, reading).await {
            futures::future::Either::Left((first, reading)) => match first {
                Ok(prelude) => Ok(prelude),
                Err(error) => Err(to_target(reading.await.err().unwrap_or(error))),
            },
            futures::future::Either::Right((read, first)) => {
                read.map_err(to_target)?;
                first.await.map_err(to_target)
            }
        }
    }
}

/// Has `mongodump` write an archive for the thread.
async fn read_archive(client: &Client, sender: tokio::sync::mpsc::Sender<dedump_core::Bytes>) -> Result<()> {
    let invocation =
        client.invocation("mongodump", &["--archive".to_owned(), "--numParallelCollections=1".to_owned()])?;
    let running = Running::start(&invocation)?;
    let mut intake = Forward { sender, spare: vec![0; 64 * 1024] };
    let ended = running.read_to_end(&mut intake, &mut Watch::default(), None, OUTPUT_GRACE).await?;
    match ended.how {
        End::Status(status) if status.success() => Ok(()),
        End::Status(status) if status.code() == Some(NOT_FOUND) => {
            Err(Error::DumpFailed(format!("there is no mongodump, to look at what is there; {PACKAGE}")))
        }
        End::Status(status) => Err(client.explain("mongodump", &describe_failure(status), &ended.said)),
        End::OutputHeld => Err(Error::DumpFailed("mongodump's output is held open".to_owned())),
    }
}

/// Makes what a tool said an error of the place that is restored to.
pub(super) fn to_target(error: Error) -> Error {
    match error {
        Error::DumpFailed(why) => Error::Target(why),
        error => error,
    }
}

/// Returns what a backup has, by database and collection.
fn stored(streams: &[StreamRecord], part_prefix: &str) -> BTreeMap<(String, String), Stored> {
    let mut all: BTreeMap<(String, String), Stored> = BTreeMap::new();
    for stream in streams {
        let Some(name) = stream.name.strip_prefix(part_prefix) else { continue };
        let fact = |name: &str| stream.facts.get(name).cloned();
        let (Some(database), Some(collection), Some(kind)) = (fact("database"), fact("collection"), fact("type"))
        else {
            continue;
        };
        let stored = all.entry((database.clone(), collection.clone())).or_default();
        stored.collection = Collection { database, name: collection, metadata: String::new(), kind };
        if name.ends_with(".bson") {
            stored.data = Some(Data {
                stream: stream.name.clone(),
                namespace: fact("namespace").unwrap_or_else(|| stored.collection.name.clone()),
                documents_n: fact("documents").and_then(|n| n.parse().ok()).unwrap_or(0),
                bytes: stream.bytes,
            });
        }
    }
    all
}
