//! Databases that are filled aside, and how they change places with others.
//!
//! One that is being filled has two keys besides: [`MARK`], and [`ALIVE`], which goes away by itself when nobody sets it anew.

use crate::redis::client::{Connection, Reply};
use crate::redis::explain::Failure;
use crate::redis::server::Server;
use std::collections::BTreeMap;

/// Says that a restore fills a database.
pub(super) const MARK: &[u8] = b"dedump:restoring";
/// Says that it is at work.
pub(super) const ALIVE: &[u8] = b"dedump:restoring:alive";
/// For how long one is taken to be at work that does not say so anew, in seconds.
const ALIVE_SECS: &[u8] = b"180";
/// Databases of a server, if it does not say how many it has.
const DATABASES_DEFAULT: u64 = 16;
/// Free databases that are looked for among so many, at most.
const DATABASES_MAX: u64 = 1024;

type Result<T> = std::result::Result<T, Failure>;

/// What a server has.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Keys of each database that has any.
    pub keys: BTreeMap<u64, u64>,
    /// Databases that restores which were killed have left.
    pub leftovers: Vec<u64>,
    /// Databases that may be filled aside, if there are enough of them.
    pub spares: Vec<u64>,
}

/// Looks at a server's databases. Those that are wanted must be there.
pub(super) async fn look(
    connection: &mut Connection,
    server: &Server,
    wanted: impl Iterator<Item = u64>,
) -> Result<Found> {
    let wanted: Vec<u64> = wanted.collect();
    let databases_n = match connection.try_ask(&[b"CONFIG", b"GET", b"databases"]).await? {
        Reply::List(pair) => pair.get(1).and_then(|number| number.text().parse().ok()),
        _ => None,
    };
    let databases_n = databases_n.unwrap_or(DATABASES_DEFAULT).min(DATABASES_MAX);
    let mut found = Found { keys: server.keys(), ..Found::default() };
    for number in &wanted {
        select(connection, *number).await.map_err(|_| {
            Failure::Broken(format!("it has no database {number}; name another one, or raise `databases` there"))
        })?;
    }
    for number in found.keys.keys().copied().filter(|number| !wanted.contains(number)) {
        select(connection, number).await?;
        let there = |reply: Reply| reply != Reply::Number(0);
        if !there(connection.ask(&[b"EXISTS", MARK]).await?) {
            continue;
        }
        if there(connection.ask(&[b"EXISTS", ALIVE]).await?) {
            return Err(Failure::Broken(format!(
                "another restore fills its database {number}; wait for that, or three minutes if it was killed"
            )));
        }
        found.leftovers.push(number);
    }
    let can_swap = matches!(connection.try_ask(&[b"COMMAND", b"INFO", b"SWAPDB"]).await?,
        Reply::List(entries) if matches!(entries.first(), Some(Reply::List(about)) if !about.is_empty()));
    if can_swap {
        let is_free = |number: &u64| !wanted.contains(number) && !found.keys.contains_key(number);
        found.spares = (0..databases_n).rev().filter(is_free).take(wanted.len()).collect();
    }
    select(connection, 0).await?;
    Ok(found)
}

/// Selects a database.
pub(super) async fn select(connection: &mut Connection, number: u64) -> Result<()> {
    connection.ask(&[b"SELECT", number.to_string().as_bytes()]).await.map(drop)
}

/// Says that a database is still being filled, if it is marked: it never gets a key of ours after that was taken away.
pub(super) async fn mark_alive(connection: &mut Connection, number: u64) -> Result<()> {
    select(connection, number).await?;
    connection.ask(&[b"SET", ALIVE, b"1", b"EX", ALIVE_SECS, b"XX"]).await.map(drop)
}

/// Marks a database that is about to be filled.
pub(super) async fn mark(connection: &mut Connection, number: u64) -> Result<()> {
    select(connection, number).await?;
    connection.ask(&[b"SET", MARK, b"a dedump restore fills this database"]).await?;
    connection.ask(&[b"SET", ALIVE, b"1", b"EX", ALIVE_SECS]).await.map(drop)
}

/// Empties a database; the server frees the memory beside its other work.
pub(super) async fn empty(connection: &mut Connection, number: u64) -> Result<()> {
    select(connection, number).await?;
    connection.ask(&[b"FLUSHDB", b"ASYNC"]).await.map(drop)
}

/// Returns how many keys a database has.
pub(super) async fn count(connection: &mut Connection, number: u64) -> Result<u64> {
    select(connection, number).await?;
    match connection.ask(&[b"DBSIZE"]).await? {
        Reply::Number(keys_n) => Ok(u64::try_from(keys_n).unwrap_or(0)),
        _ => Err(Failure::Broken("it does not say how many keys it has".to_owned())),
    }
}

/// Takes the marks away and lets databases change places, all in one step.
pub(super) async fn swap(connection: &mut Connection, pairs: &[(u64, u64)]) -> Result<()> {
    connection.ask(&[b"MULTI"]).await?;
    for (spare, to) in pairs {
        let (spare, to) = (spare.to_string(), to.to_string());
        connection.ask(&[b"SELECT", spare.as_bytes()]).await?;
        connection.ask(&[b"DEL", MARK, ALIVE]).await?;
        connection.ask(&[b"SWAPDB", spare.as_bytes(), to.as_bytes()]).await?;
    }
    let replies = connection.ask(&[b"EXEC"]).await?.list();
    match replies.into_iter().find(|reply| matches!(reply, Reply::Error(_))) {
        Some(error) => Err(Failure::refused(&error.text())),
        None => Ok(()),
    }
}
