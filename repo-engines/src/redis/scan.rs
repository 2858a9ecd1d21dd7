//! Reads a server key after key, where it lets nobody be a replica.

use super::client::{Connection, Reply, Result, encode};
use super::explain::Failure;
use super::server::Server;
use super::sorting::Scanned;
use tokio::sync::mpsc::Sender;

/// Keys that a `SCAN` is asked for; it may give more or fewer.
const COUNT: &[u8] = b"500";
/// Keys that are asked for together: the server holds their values until we have read them.
const KEYS_AT_ONCE: usize = 50;

/// Hands on every key that there is from the beginning to the end. Returns whether anybody took them.
pub(super) async fn pump(
    connection: &mut Connection,
    server: &Server,
    only: Option<u64>,
    to: &Sender<Scanned>,
) -> Result<bool> {
    match connection.ask(&[b"FUNCTION", b"DUMP"]).await {
        Ok(Reply::Bytes(payload)) => {
            if to.send(Scanned::Functions(payload)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(_) => return Err(Failure::Broken("it answers FUNCTION DUMP with no functions".to_owned())),
        // Servers before 7.0 have none.
        Err(failure) if failure.is_not_allowed() => {}
        Err(failure) => return Err(failure),
    }
    for database in server.keys().into_keys().filter(|database| only.is_none_or(|only| only == *database)) {
        // A cluster has one database, and no SELECT.
        if database != 0 || !server.is_cluster() {
            connection.ask(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        if !pump_database(connection, database, to).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn pump_database(connection: &mut Connection, database: u64, to: &Sender<Scanned>) -> Result<bool> {
    let mut cursor = b"0".to_vec();
    let expiry = expiry(connection).await?;
    loop {
        let mut reply = connection.ask(&[b"SCAN", &cursor, b"COUNT", COUNT]).await?.list().into_iter();
        let (Some(Reply::Bytes(next)), Some(Reply::List(keys))) = (reply.next(), reply.next()) else {
            return Err(Failure::Broken("it answers SCAN with no cursor and keys".to_owned()));
        };
        let keys: Vec<Vec<u8>> = keys.into_iter().filter_map(Reply::bytes).collect();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            if !pump_keys(connection, database, keys, &expiry, to).await? {
                return Ok(false);
            }
        }
        if next == b"0" {
            return Ok(true);
        }
        cursor = next;
    }
}

/// How a server says when a key expires.
enum Expiry {
    /// By `PEXPIRETIME`.
    Absolute,
    /// By `PTTL`, before 7.0.
    Relative,
}

async fn expiry(connection: &mut Connection) -> Result<Expiry> {
    match connection.ask(&[b"PEXPIRETIME", b""]).await {
        Ok(_) => Ok(Expiry::Absolute),
        Err(failure) if failure.is_not_allowed() => Ok(Expiry::Relative),
        Err(failure) => Err(failure),
    }
}

/// Hands on these keys, without those that are gone.
async fn pump_keys(
    connection: &mut Connection,
    database: u64,
    keys: &[Vec<u8>],
    expiry: &Expiry,
    to: &Sender<Scanned>,
) -> Result<bool> {
    let (ask, now): (&[u8], _) = match expiry {
        Expiry::Absolute => (b"PEXPIRETIME", 0),
        Expiry::Relative => (b"PTTL", now_ms(connection).await?),
    };
    // When it expires and what it is, one way there and back for all of them.
    let commands: Vec<u8> =
        keys.iter().flat_map(|key| [encode(&[ask, key]), encode(&[b"DUMP", key])].concat()).collect();
    connection.send(&commands).await?;
    for key in keys {
        let expires_ms = match connection.reply().await? {
            Reply::Number(-2 | -1) => None,
            Reply::Number(at) => Some(now.saturating_add(at)),
            Reply::Error(line) => return Err(Failure::refused(&line)),
            _ => return Err(Failure::Broken("it does not say when a key expires".to_owned())),
        };
        let payload = match connection.reply().await? {
            Reply::Bytes(payload) => payload,
            Reply::Nothing => continue,
            Reply::Error(line) => return Err(Failure::refused(&line)),
            _ => return Err(Failure::Broken("it answers DUMP with no value".to_owned())),
        };
        if to.send(Scanned::Key { database, key: key.clone(), expires_ms, payload }).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the server's time of day.
pub(super) async fn now_ms(connection: &mut Connection) -> Result<i64> {
    let reply = connection.ask(&[b"TIME"]).await?.list();
    let number = |at: usize| reply.get(at).and_then(|part| part.text().parse::<i64>().ok());
    match (number(0), number(1)) {
        (Some(secs), Some(micros)) => Ok(secs.saturating_mul(1000).saturating_add(micros / 1000)),
        _ => Err(Failure::Broken("it does not say what time it is".to_owned())),
    }
}
