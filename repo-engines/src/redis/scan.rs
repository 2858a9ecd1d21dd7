//! Reads a server key after key, where it lets nobody be a replica.

use super::client::{Connection, Reply, Result, encode};
use super::explain::Failure;
use super::server::Server;
use super::sorting::Scanned;
use tokio::sync::mpsc::Sender;

/// Keys that a `SCAN` is asked for; it may give more or fewer.
const COUNT: &[u8] = b"500";

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
    let mut expiry = Expiry::Absolute;
    loop {
        let mut reply = connection.ask(&[b"SCAN", &cursor, b"COUNT", COUNT]).await?.list().into_iter();
        let (Some(Reply::Bytes(next)), Some(Reply::List(keys))) = (reply.next(), reply.next()) else {
            return Err(Failure::Broken("it answers SCAN with no cursor and keys".to_owned()));
        };
        for key in keys {
            let Reply::Bytes(key) = key else { continue };
            let Some((expires_ms, payload)) = read_key(connection, &key, &mut expiry).await? else { continue };
            if to.send(Scanned::Key { database, key, expires_ms, payload }).await.is_err() {
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

/// Returns when a key expires and its value; `None` if it is gone.
async fn read_key(connection: &mut Connection, key: &[u8], expiry: &mut Expiry) -> Result<Option<(Option<i64>, Vec<u8>)>> {
    loop {
        let ask: &[u8] = match expiry {
            Expiry::Absolute => b"PEXPIRETIME",
            Expiry::Relative => b"PTTL",
        };
        // One way, one answer: both at once.
        connection.send(&[encode(&[ask, key]), encode(&[b"DUMP", key])].concat()).await?;
        let (expires, payload) = (connection.reply().await?, connection.reply().await?);
        let payload = match payload {
            Reply::Bytes(payload) => payload,
            Reply::Nothing => return Ok(None),
            Reply::Error(line) => return Err(Failure::refused(&line)),
            _ => return Err(Failure::Broken("it answers DUMP with no value".to_owned())),
        };
        match expires {
            Reply::Number(-1) => return Ok(Some((None, payload))),
            Reply::Number(-2) => return Ok(None),
            Reply::Number(at) => {
                let at = match expiry {
                    Expiry::Absolute => at,
                    Expiry::Relative => now_ms(connection).await?.saturating_add(at),
                };
                return Ok(Some((Some(at), payload)));
            }
            Reply::Error(line) if matches!(expiry, Expiry::Absolute) && Failure::refused(&line).is_not_allowed() => {
                *expiry = Expiry::Relative;
            }
            Reply::Error(line) => return Err(Failure::refused(&line)),
            _ => return Err(Failure::Broken("it does not say when a key expires".to_owned())),
        }
    }
}

/// Returns the server's time of day.
async fn now_ms(connection: &mut Connection) -> Result<i64> {
    let reply = connection.ask(&[b"TIME"]).await?.list();
    let number = |at: usize| reply.get(at).and_then(|part| part.text().parse::<i64>().ok());
    match (number(0), number(1)) {
        (Some(secs), Some(micros)) => Ok(secs.saturating_mul(1000).saturating_add(micros / 1000)),
        _ => Err(Failure::Broken("it does not say what time it is".to_owned())),
    }
}
