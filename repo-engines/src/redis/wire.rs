//! Takes a server's RDB off the wire, as a replica does, and no more than that.
//!
//! ```text
//! REPLCONF version, capa eof capa psync2 ─▶ REPLCONF rdb-only 1 ─▶ PSYNC ? -1 ─▶ +FULLRESYNC id offset ─▶ \n … ─▶ $LENGTH or $EOF:MARK
//! ```
//!
//! What a server does not know or does not allow of this is left out, down to `SYNC` alone. While it forks and saves it sends
//! empty lines. The commands that would follow the RDB are never read: the connection ends with it.

use super::client::{Connection, Result};
use super::explain::Failure;
use dedump_core::Bytes;
use tokio::sync::mpsc::Sender;

/// Length of the mark at the end of an RDB whose length the server did not know.
const MARK_BYTES: usize = 40;
/// Bytes that are handed on together.
const PIECE_BYTES: usize = 256 * 1024;
/// Lines without a word that come before the RDB, at most: one a second for a day.
const KEEP_ALIVES_MAX: u64 = 86_400;

/// An RDB that is about to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begun {
    framing: Framing,
    /// The command that the server took.
    pub command: &'static str,
    /// Where in the history of writes the RDB stands, if the server said so.
    pub offset: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Framing {
    /// So many bytes.
    Length(u64),
    /// Everything up to these bytes.
    Mark(Vec<u8>),
}

/// Asks a server of this version for the RDB.
pub(super) async fn begin(connection: &mut Connection, version: &str) -> Result<Begun> {
    // All are offers: a server that does not take them sends its RDB all the same. Valkey writes an old format for those who
    // do not say how new they are, and gives up where that has no way to say what a key is.
    connection.try_ask(&[b"REPLCONF", b"version", version.as_bytes()]).await?;
    connection.try_ask(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]).await?;
    connection.try_ask(&[b"REPLCONF", b"rdb-only", b"1"]).await?;
    connection.send(&super::client::encode(&[b"PSYNC", b"?", b"-1"])).await?;
    let line = word(connection).await?;
    let (command, offset, first) = match line.strip_prefix('+') {
        Some(answer) if answer.starts_with("FULLRESYNC") => ("PSYNC", answer.split(' ').nth(2), None),
        Some(_) => return Err(Failure::Broken(format!("it answers PSYNC with {line:?}"))),
        None => {
            let failure = Failure::refused(line.strip_prefix('-').unwrap_or(&line));
            if !failure.is_not_allowed() {
                return Err(failure);
            }
            connection.send(&super::client::encode(&[b"SYNC"])).await?;
            ("SYNC", None, Some(word(connection).await?))
        }
    };
    let offset = offset.map(str::to_owned);
    let line = match first {
        Some(line) => line,
        None => word(connection).await?,
    };
    Ok(Begun { framing: framing(&line)?, command, offset })
}

fn framing(line: &str) -> Result<Framing> {
    if let Some(error) = line.strip_prefix('-') {
        return Err(Failure::refused(error));
    }
    let after = line.strip_prefix('$');
    let mark = after.and_then(|after| after.strip_prefix("EOF:")).filter(|mark| mark.len() == MARK_BYTES);
    match (mark, after.and_then(|after| after.parse().ok())) {
        (Some(mark), _) => Ok(Framing::Mark(mark.as_bytes().to_vec())),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) => Err(Failure::Broken("it sends something else where its RDB should begin".to_owned())),
    }
}

/// Returns the next line that says something.
async fn word(connection: &mut Connection) -> Result<String> {
    for _ in 0..KEEP_ALIVES_MAX {
        let line = connection.line().await?;
        if !line.is_empty() {
            return Ok(line);
        }
    }
    Err(Failure::Broken("it keeps the connection open for a day and sends no RDB".to_owned()))
}

/// Hands the RDB on to its end. Returns whether anybody took it: not if the one who reads it has given up.
pub(super) async fn pump(connection: &mut Connection, begun: &Begun, to: &Sender<Bytes>) -> Result<bool> {
    let mut tail = Tail { piece: Vec::with_capacity(PIECE_BYTES + MARK_BYTES), bytes: 0 };
    loop {
        let wanted = match &begun.framing {
            Framing::Length(length) if tail.bytes == *length => break,
            Framing::Length(length) => usize::try_from(length - tail.bytes).unwrap_or(PIECE_BYTES).min(PIECE_BYTES),
            Framing::Mark(mark) if tail.piece.ends_with(mark) => {
                tail.piece.truncate(tail.piece.len() - MARK_BYTES);
                break;
            }
            Framing::Mark(_) => PIECE_BYTES,
        };
        let piece = match connection.piece(wanted).await {
            Ok(piece) => piece,
            Err(Failure::Broken(why)) => {
                let of = match &begun.framing {
                    Framing::Length(length) => format!(" of {length}"),
                    Framing::Mark(_) => String::new(),
                };
                return Err(Failure::Broken(format!(
                    "{why} after {}{of} bytes of its RDB; look into its log, and at client-output-buffer-limit there",
                    tail.bytes
                )));
            }
            Err(failure) => return Err(failure),
        };
        tail.bytes += piece.len() as u64;
        tail.piece.extend_from_slice(piece);
        // What may be the beginning of the mark stays.
        if tail.piece.len() >= PIECE_BYTES && !tail.send(MARK_BYTES, to).await {
            return Ok(false);
        }
    }
    Ok(tail.send(0, to).await)
}

/// What was read and not handed on.
struct Tail {
    piece: Vec<u8>,
    /// Bytes that were read in all.
    bytes: u64,
}

impl Tail {
    /// Hands on all but the last bytes.
    async fn send(&mut self, kept: usize, to: &Sender<Bytes>) -> bool {
        let kept = self.piece.split_off(self.piece.len() - kept.min(self.piece.len()));
        let piece = std::mem::replace(&mut self.piece, kept);
        self.piece.reserve(PIECE_BYTES);
        to.send(Bytes::from(piece)).await.is_ok()
    }
}
