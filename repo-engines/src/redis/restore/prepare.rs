//! Looks at the backup and at the server, and refuses what can't be. Changes nothing.

use super::databases::{self, Found};
use super::{Place, RedisRestore};
use crate::redis::client::{Connection, Reply};
use crate::redis::dump::DATABASE;
use crate::redis::explain::Failure;
use crate::redis::server::Server;
use crate::redis::sorting::open_payload;
use dedump_core::{Error, Snapshot, StreamRecord};
use std::collections::BTreeMap;

/// The formats that Valkey leaves to others, and does not read.
const FOREIGN_TO_VALKEY: std::ops::RangeInclusive<u32> = 12..=79;
/// Valkey's own formats begin here.
const VALKEY_FIRST: u32 = 80;

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisPlan {
    /// Where it goes, for people.
    pub place: String,
    /// The stream that is read.
    pub stream: String,
    /// Its length.
    pub bytes: u64,
    /// The databases, as they were and as they are.
    pub databases: Vec<PlannedDatabase>,
    /// Whether databases are filled aside, and change places with the wanted ones at the end.
    pub swaps: bool,
    /// Whether what is there is backed up first.
    pub safety_snapshot: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A database of the backup, and the one it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedDatabase {
    /// Its number in the backup.
    pub from: u64,
    /// Its number in the server.
    pub to: u64,
    /// Keys that it had when it was backed up, whatever their prefix.
    pub keys_n: u64,
    /// Keys that are there.
    pub keys_there_n: u64,
    /// The number under which it is filled first.
    pub spare: Option<u64>,
}

/// What is known before anything changes.
pub(super) struct Prepared<'a> {
    pub snapshot: &'a Snapshot,
    pub stream: &'a StreamRecord,
    /// The folder of the backup in the snapshot.
    pub prefix: String,
    pub connection: Connection,
    pub server: Server,
    pub databases: Vec<PlannedDatabase>,
    /// Databases that restores which were killed have left.
    pub leftovers: Vec<u64>,
    /// Whether all keys of the backup are restored.
    pub is_whole: bool,
    /// Whether the server has dropped keys meanwhile, of which some may have been there before.
    pub has_evicted: bool,
    pub warnings: Vec<String>,
}

impl Prepared<'_> {
    pub fn plan(&self, of: &RedisRestore) -> RedisPlan {
        RedisPlan {
            place: of.place(),
            stream: self.stream.name.clone(),
            bytes: self.stream.bytes,
            databases: self.databases.clone(),
            swaps: self.swaps(),
            safety_snapshot: self.needs_safety_snapshot(of),
            warnings: self.warnings.clone(),
        }
    }

    pub fn swaps(&self) -> bool {
        self.databases.iter().any(|database| database.spare.is_some())
    }

    pub fn needs_safety_snapshot(&self, of: &RedisRestore) -> bool {
        of.options.safety_snapshot && self.databases.iter().any(|database| database.keys_there_n > 0)
    }

    /// Returns which database goes where it is filled.
    pub fn filled(&self) -> BTreeMap<u64, u64> {
        self.databases.iter().map(|database| (database.from, database.spare.unwrap_or(database.to))).collect()
    }
}

impl RedisRestore {
    pub(super) async fn prepare<'a>(
        &self,
        snapshot: &'a Snapshot,
        part_prefix: &str,
    ) -> std::result::Result<Prepared<'a>, Failure> {
        let stream = find_stream(snapshot, part_prefix, DATABASE)?;
        let mut databases = self.select(stream)?;
        let mut connection = Connection::open(&self.url, &self.options.client).await?;
        let server = Server::ask(&mut connection).await?;
        check_server(&server)?;
        let mut warnings = Vec::new();
        check_format(stream, &server, target_version(&mut connection, &server).await?, &mut warnings)?;
        let Found { keys, leftovers, spares } =
            databases::look(&mut connection, &server, databases.iter().map(|database| database.to)).await?;
        for database in &mut databases {
            database.keys_there_n = keys.get(&database.to).copied().unwrap_or(0);
        }
        self.check_place(&databases)?;
        check_memory(stream, &server)?;
        if databases.is_empty() {
            warnings.push("the backup has no keys, so none are replaced either".to_owned());
        }
        if !matches!(self.options.place, Place::Merge(_)) {
            if spares.len() >= databases.len() {
                databases.iter_mut().zip(spares).for_each(|(database, spare)| database.spare = Some(spare));
            } else {
                warnings.push(
                    "the server has no free database to fill first, or no SWAPDB, so what is there goes before all keys are back"
                        .to_owned(),
                );
            }
        }
        for (number, keys_n) in keys.iter().filter(|(number, _)| databases.iter().all(|one| one.to != **number)) {
            if self.options.place == Place::Replace && !leftovers.contains(number) {
                warnings
                    .push(format!("database {number} has {keys_n} keys and is not in the backup; it stays as it is"));
            }
        }
        let is_whole = self.options.key_prefixes.is_empty() && self.options.from_database.is_none();
        let prefix = part_prefix.to_owned();
        let has_evicted = false;
        Ok(Prepared {
            snapshot,
            stream,
            prefix,
            connection,
            server,
            databases,
            leftovers,
            is_whole,
            has_evicted,
            warnings,
        })
    }

    /// Returns the databases of the backup that are wanted, and where they go.
    fn select(&self, stream: &StreamRecord) -> std::result::Result<Vec<PlannedDatabase>, Error> {
        let invalid = |why: String| Err(Error::Invalid(why));
        let had = stream.facts.iter().filter_map(|(name, keys_n)| {
            Some((name.strip_prefix("keys.")?.parse::<u64>().ok()?, keys_n.parse::<u64>().ok()?))
        });
        let had: BTreeMap<u64, u64> = had.collect();
        let list = || had.keys().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let from = self.options.from_database;
        if let Some(from) = from.filter(|from| !had.contains_key(from)) {
            return invalid(format!("the backup has no keys of database {from}; it has those of {}", list()));
        }
        let to = self.options.to_database.or(self.url.database());
        let wanted: Vec<_> = had.iter().filter(|(number, _)| from.is_none_or(|from| from == **number)).collect();
        if to.is_some() && wanted.len() > 1 {
            return invalid(format!("the backup has the databases {}; say which one goes to one number", list()));
        }
        let planned = |(from, keys_n): (&u64, &u64)| PlannedDatabase {
            from: *from,
            to: to.unwrap_or(*from),
            keys_n: *keys_n,
            keys_there_n: 0,
            spare: None,
        };
        Ok(wanted.into_iter().map(planned).collect())
    }

    fn check_place(&self, databases: &[PlannedDatabase]) -> std::result::Result<(), Failure> {
        if self.options.place != Place::Empty {
            return Ok(());
        }
        match databases.iter().find(|database| database.keys_there_n > 0) {
            None => Ok(()),
            Some(PlannedDatabase { to, keys_there_n, .. }) => Err(Failure::Broken(format!(
                "its database {to} has {keys_there_n} keys and was left as it is; name another database, replace it, or merge"
            ))),
        }
    }
}

/// Returns the stream of this name in the part of a snapshot.
pub(super) fn find_stream<'a>(snapshot: &'a Snapshot, prefix: &str, name: &str) -> Result<&'a StreamRecord, Error> {
    let wanted = format!("{prefix}{name}");
    snapshot.record.streams.iter().find(|stream| stream.name == wanted).ok_or_else(|| Error::NotFound {
        what: "stream",
        name: wanted,
        hint: format!(" in snapshot {}; it has no backup of Redis there", snapshot.id.short()),
    })
}

fn check_server(server: &Server) -> Result<(), Failure> {
    let refuse = |why: &str| Err(Failure::Broken(why.to_owned()));
    server.check_has_data()?;
    if server.is_replica() {
        return refuse("it is a replica, which takes its data from its primary; restore to the primary");
    }
    if server.is_cluster() {
        return refuse(
            "it is part of a cluster, where each key has its own server; restore to a file for each primary, or to a server of its own",
        );
    }
    Ok(())
}

/// Refuses a server that would drop keys for lack of memory: its own, or the first ones that are put back.
fn check_memory(stream: &StreamRecord, server: &Server) -> Result<(), Failure> {
    let (used, max) = (server.number("used_memory").unwrap_or(0), server.number("maxmemory").unwrap_or(0));
    let free = max.saturating_sub(used);
    if max == 0 || server.field("maxmemory_policy") == "noeviction" || free > stream.bytes {
        return Ok(());
    }
    Err(Failure::Broken(format!(
        "it drops keys when its memory is full, has {free} bytes of that free, and the backup has {}; raise maxmemory, or set maxmemory-policy to noeviction",
        stream.bytes
    )))
}

/// Refuses a server that can't read the backup's format.
fn check_format(
    stream: &StreamRecord,
    server: &Server,
    target: Option<u32>,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let fact = |name: &str| stream.facts.get(name).map_or("", String::as_str);
    let Ok(version) = fact("rdb.version").parse::<u32>() else {
        let object = format!("stream {:?}", stream.name);
        return Err(Error::Damaged { object, why: "it does not say which format it has".to_owned() }.into());
    };
    let Some(target) = target else {
        warnings
            .push("which format the server reads is not known; it refuses the first key if that is older".to_owned());
        return Ok(());
    };
    if version > target || target >= VALKEY_FIRST && FOREIGN_TO_VALKEY.contains(&version) {
        return Err(Failure::Broken(format!(
            "it is {} {} and reads RDB version {target}; the backup is of {} and has version {version}; restore to a server that reads it",
            server.flavour(),
            server.version(),
            fact("rdb.flavour"),
        )));
    }
    Ok(())
}

/// Returns the newest format that a server reads. Nothing is written to find that out.
async fn target_version(connection: &mut Connection, server: &Server) -> Result<Option<u32>, Failure> {
    // Functions, even if there are none, come with the version; servers before 7.0 have neither.
    match connection.ask(&[b"FUNCTION", b"DUMP"]).await {
        Ok(Reply::Bytes(payload)) => Ok(open_payload(&payload).ok().map(|(_, header)| header.version)),
        Ok(_) => Ok(None),
        Err(failure) if failure.is_not_allowed() => {
            let mut numbers = server.field("redis_version").split('.').map(|number| number.parse::<u32>().unwrap_or(0));
            Ok(match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
                (5 | 6, _) => Some(9),
                (4, _) => Some(8),
                (3, 2) => Some(7),
                _ => None,
            })
        }
        Err(failure) => Err(failure),
    }
}
