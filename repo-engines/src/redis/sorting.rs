//! The thread that takes an RDB apart and puts it together again, and the channels to it.

use super::rdb::canonical::{Canonical, Repeated, Written};
use super::rdb::input::Input;
use super::rdb::parse::{Parsed, Record, Visit, parse};
use super::rdb::{self, Header, Out, Stop};
use crate::sort::Spill;
use crate::worker::{PIECES_QUEUED_MAX, Pieces, Worker, tell};
use dedump_core::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use tokio::sync::mpsc::{self, Sender};

/// Bytes of a piece.
const PIECE_BYTES: usize = 512 * 1024;
/// Bytes of the checksum and the version that `DUMP` puts behind a value.
pub(super) const FOOTER_BYTES: usize = 10;

/// What the thread tells, in this order; pieces as many as there are.
pub(super) enum Step {
    /// The RDB was read to its end, and its checksum is right. With it the aux fields.
    Parsed(Parsed, BTreeMap<String, String>),
    /// The next bytes of the sorted one.
    Piece(Vec<u8>),
    /// That was all of it.
    Written(Written),
    /// The next bytes of the one that the server sent.
    Original(Vec<u8>),
}

/// A key as `SCAN` and `DUMP` give it.
pub(super) enum Scanned {
    /// What `FUNCTION DUMP` says.
    Functions(Vec<u8>),
    /// A key, when it expires, and what `DUMP` says.
    Key { database: u64, key: Vec<u8>, expires_ms: Option<i64>, payload: Vec<u8> },
}

/// The thread at work.
pub(super) type Sorting = Worker<Step, Stop>;

impl Sorting {
    /// Starts a thread that reads an RDB; the sender is dropped at its end.
    pub fn of_rdb(only: Option<u64>, folder: PathBuf, exact: bool) -> (Sender<Bytes>, Sorting) {
        let (sender, pieces) = mpsc::channel(PIECES_QUEUED_MAX);
        let sorting = Worker::start(move |steps| {
            let original = exact.then(|| Spill::new(&folder));
            let mut input = Input::new(Copied { from: Pieces::new(pieces), original });
            let mut canonical = Canonical::new(Header { is_valkey: false, version: 1 }, only, &folder);
            let parsed = parse(&mut input, &mut canonical)?;
            let original = input.into_source().original;
            write(parsed, &mut canonical, Repeated::Refuse, &steps)?;
            original.map_or(Ok(()), |original| send_all(&original, &steps))
        });
        (sender, sorting)
    }

    /// Starts a thread that takes keys one by one; the sender is dropped at their end.
    pub fn of_payloads(folder: PathBuf) -> (Sender<Scanned>, Sorting) {
        let (sender, mut scanned) = mpsc::channel(PIECES_QUEUED_MAX);
        let sorting = Worker::start(move |steps| {
            let mut canonical = None;
            let mut bytes = 0;
            while let Some(one) = scanned.blocking_recv() {
                bytes += take(one, &mut canonical, &folder)?;
            }
            let (header, mut canonical) = canonical.ok_or_else(|| {
                Stop::Unknown("the server has no key and no DUMP of functions, so its format is not known".to_owned())
            })?;
            write(Parsed { header, crc: None, bytes }, &mut canonical, Repeated::First, &steps)
        });
        (sender, sorting)
    }
}

fn write(parsed: Parsed, canonical: &mut Canonical, repeated: Repeated, steps: &Sender<Step>) -> rdb::Result<()> {
    tell(steps, Step::Parsed(parsed, canonical.aux_fields().clone()))?;
    let mut out = Piecewise { piece: Vec::with_capacity(PIECE_BYTES), steps };
    let written = canonical.write(repeated, &mut out)?;
    let piece = std::mem::take(&mut out.piece);
    tell(steps, Step::Piece(piece))?;
    Ok(tell(steps, Step::Written(written))?)
}

fn send_all(original: &Spill, steps: &Sender<Step>) -> rdb::Result<()> {
    let mut at = 0;
    while at < original.end() {
        let mut piece = Vec::new();
        at = original.read(at, &mut piece)?;
        tell(steps, Step::Original(piece))?;
    }
    Ok(())
}

/// Takes one key, or the functions; returns how many bytes it was.
fn take(one: Scanned, canonical: &mut Option<(Header, Canonical)>, folder: &std::path::Path) -> rdb::Result<u64> {
    let (Scanned::Functions(payload) | Scanned::Key { payload, .. }) = &one;
    let (body, header) = open_payload(payload)?;
    let bytes = payload.len() as u64;
    let (_, canonical) = canonical.get_or_insert_with(|| (header, Canonical::new(header, None, folder)));
    match &one {
        Scanned::Functions(_) => {
            let mut input = Input::new(body);
            while !input.is_at_end()? {
                match input.byte()? {
                    rdb::opcode::FUNCTION => canonical.function(&mut input)?,
                    _ => return Err(input.bad("what FUNCTION DUMP says has something else than functions")),
                }
            }
        }
        Scanned::Key { database, key, expires_ms, .. } => {
            let Some((&kind, value)) = body.split_first() else {
                return Err(Stop::Bad { at: 0, why: "a DUMP has no value".to_owned() });
            };
            let mut stored_key = Vec::new();
            rdb::input::write_short_string(key, &mut stored_key)?;
            let mut input = Input::new(stored_key.chain(value));
            canonical.record(Record { database: *database, expires_ms: *expires_ms, kind }, &mut input)?;
            if !input.is_at_end()? {
                return Err(input.bad("something follows a value that DUMP gave"));
            }
        }
    }
    Ok(bytes)
}

/// Returns what is in a payload of `DUMP`, whose checksum is right, and its format.
pub(super) fn open_payload(payload: &[u8]) -> rdb::Result<(&[u8], Header)> {
    let bad = |why: &str| Stop::Bad { at: payload.len() as u64, why: why.to_owned() };
    let (body, footer) = payload
        .split_last_chunk::<FOOTER_BYTES>()
        .map(|(body, footer)| (body, *footer))
        .ok_or_else(|| bad("a DUMP is too short"))?;
    let [a, b, crc @ ..] = footer;
    let mut sum = rdb::input::new_crc();
    sum.update(body);
    sum.update(&[a, b]);
    if u64::from_le_bytes(crc) != sum.finalize() {
        return Err(bad("a DUMP's checksum is not that of its bytes"));
    }
    let version = u32::from(u16::from_le_bytes([a, b]));
    // Valkey writes its name into files of the formats that are its own.
    Ok((body, Header { is_valkey: version >= 80, version }))
}

/// Keeps a copy of what is read, where one is wanted.
struct Copied {
    from: Pieces,
    original: Option<Spill>,
}

impl Read for Copied {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read_n = self.from.read(into)?;
        if let Some(original) = self.original.as_mut().filter(|_| read_n > 0) {
            original.append(&into[..read_n]).map_err(|stop| io::Error::other(stop.to_string()))?;
        }
        Ok(read_n)
    }
}

/// Sends what is written in pieces.
struct Piecewise<'a> {
    piece: Vec<u8>,
    steps: &'a Sender<Step>,
}

impl Out for Piecewise<'_> {
    fn write(&mut self, bytes: &[u8]) -> rdb::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        Ok(tell(self.steps, Step::Piece(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES))))?)
    }
}
