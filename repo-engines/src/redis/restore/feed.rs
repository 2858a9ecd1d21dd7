//! From the repository to the server: an RDB's stream, read on a thread of its own, as commands.

use crate::redis::client::{Connection, Reply, encode};
use crate::redis::explain::Failure;
use crate::redis::rdb::input::{Input, new_crc};
use crate::redis::rdb::parse::{Record, Visit, parse};
use crate::redis::rdb::{self, Header, Nowhere, Out, Stop, opcode, value};
use crate::redis::restore::VALUE_BYTES_MAX;
use crate::worker::Pieces;
use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, Snapshot, StreamRecord, Target, async_trait, restore,
};
use std::collections::BTreeMap;
use std::io::{self, Read};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Pieces that wait for the thread, at most.
const PIECES_QUEUED_MAX: usize = 8;
/// Bytes of commands that are sent together, about.
const BATCH_BYTES: usize = 1024 * 1024;
/// Commands that are sent together, at most.
const BATCH_COMMANDS_MAX: usize = 1000;

/// What is made of a stream.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    /// The databases that are wanted, each with the number that it gets.
    pub databases: BTreeMap<u64, u64>,
    /// What keys begin with; none stands for all.
    pub prefixes: Vec<Vec<u8>>,
    pub action: Action,
    /// Keys whose time is not after this are left out.
    pub now_ms: i64,
}

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It is only read.
    Read,
    /// The server is asked whether it has it.
    Exists,
    /// It is put back, in place of one that is there or not.
    Restore { replace: bool },
}

/// Commands, and what each is for.
#[derive(Default)]
pub(super) struct Batch {
    commands: Vec<u8>,
    keys: Vec<Option<Vec<u8>>>,
}

/// What a stream had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fed {
    /// Keys of each database that were sent, by the number that it gets.
    pub keys: BTreeMap<u64, u64>,
    /// Those of them that will expire.
    pub expiring_n: u64,
    pub expired_n: u64,
    pub bytes: u64,
    /// Keys that the server had already.
    pub there_n: u64,
    /// The functions, as `FUNCTION RESTORE` takes them; empty if there are none.
    pub functions: Vec<u8>,
    pub functions_n: u64,
    /// What modules have stored beside keys.
    pub modules_n: u64,
}

/// Reads a stream of a snapshot and does what is wanted with its keys.
pub(super) async fn feed(
    (repository, snapshot, stream): (&Repository, &Snapshot, &str),
    selection: Selection,
    connection: &mut Connection,
    progress: &dyn Progress,
) -> std::result::Result<Fed, Failure> {
    let (sender, pieces) = mpsc::channel(PIECES_QUEUED_MAX);
    let (batch_sender, batches) = mpsc::channel(1);
    let action = selection.action;
    let thread = tokio::task::spawn_blocking(move || read(pieces, selection, batch_sender));
    let options = RestoreOptions { streams: vec![stream.to_owned()], ..RestoreOptions::default() };
    let read = async {
        // Goes with this block: the thread then sees the end.
        let mut target = ToThread { sender };
        restore(repository, snapshot, &options, &mut target, progress).await
    };
    let (restored, sent) = tokio::join!(read, send(batches, action, connection));
    let fed = thread.await.map_err(|error| Error::System(format!("the thread that reads the RDB died: {error}")))?;
    // What the server says explains why nobody listened; after it, damage in the repository why the RDB was cut off.
    let there_n = sent?;
    match (restored, fed) {
        (_, Err(stop @ (Stop::Bad { .. } | Stop::Unknown(_)))) => Err(Failure::Ours(damaged(stream, &stop))),
        (Err(error), _) => Err(Failure::Ours(error)),
        (Ok(_), Err(stop)) => Err(Failure::Ours(damaged(stream, &stop))),
        (Ok(_), Ok(fed)) => Ok(Fed { there_n, ..fed }),
    }
}

fn damaged(stream: &str, stop: &Stop) -> Error {
    match stop {
        Stop::Unknown(what) => Error::Target(what.clone()),
        stop => Error::Damaged { object: format!("stream {stream:?}"), why: stop.to_string() },
    }
}

/// Sends commands and reads what the server says to each; returns how many keys were there already.
async fn send(
    mut batches: Receiver<Batch>,
    action: Action,
    connection: &mut Connection,
) -> std::result::Result<u64, Failure> {
    let mut there_n = 0;
    while let Some(batch) = batches.recv().await {
        connection.send(&batch.commands).await?;
        for key in &batch.keys {
            match (connection.reply().await?, action) {
                (Reply::Number(there), Action::Exists) => there_n += u64::from(there > 0),
                (Reply::Error(line), Action::Restore { .. }) if line.starts_with("BUSYKEY") => there_n += 1,
                (Reply::Error(line), _) => return Err(refused(key.as_deref(), &line)),
                _ => {}
            }
        }
    }
    Ok(there_n)
}

fn refused(key: Option<&[u8]>, line: &str) -> Failure {
    let Some(key) = key else { return Failure::refused(line) };
    let key: String = String::from_utf8_lossy(key).chars().take(60).collect();
    let hint = if line.contains("version or checksum") {
        "; it reads older formats only, so restore to a newer server"
    } else if line.contains("Bad data format") {
        "; it lacks the module that wrote it, or has another version of that"
    } else if line.starts_with("OOM") {
        "; raise maxmemory"
    } else {
        ""
    };
    Failure::Broken(format!("it does not take the key {key:?}: {line}{hint}"))
}

/// Hands the stream to the thread.
struct ToThread {
    sender: Sender<Bytes>,
}

#[async_trait]
impl Target for ToThread {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.sender.send(bytes).await.map_err(|_| Error::Target("the RDB was not read to its end".to_owned()))
    }

    async fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

fn read(pieces: Receiver<Bytes>, selection: Selection, batches: Sender<Batch>) -> rdb::Result<Fed> {
    let mut input = Input::new(Pieces::new(pieces));
    let header = Header { is_valkey: false, version: 1 };
    let mut reader =
        Reader { header, selection, batches, batch: Batch::default(), selected: None, fed: Fed::default() };
    parse(&mut input, &mut reader)?;
    reader.flush()?;
    if reader.fed.functions_n > 0 {
        seal(&mut reader.fed.functions, reader.header);
    }
    Ok(reader.fed)
}

/// Makes commands of records.
struct Reader {
    header: Header,
    selection: Selection,
    batches: Sender<Batch>,
    batch: Batch,
    /// The database that the commands before have selected.
    selected: Option<u64>,
    fed: Fed,
}

impl Reader {
    fn flush(&mut self) -> rdb::Result<()> {
        if self.batch.keys.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.batches.blocking_send(batch).map_err(|_| Stop::Io(io::Error::other("the restore was given up")))
    }

    fn push(&mut self, key: Option<Vec<u8>>, command: &[&[u8]]) -> rdb::Result<()> {
        self.batch.commands.extend_from_slice(&encode(command));
        self.batch.keys.push(key);
        let is_full = self.batch.commands.len() >= BATCH_BYTES || self.batch.keys.len() >= BATCH_COMMANDS_MAX;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn is_wanted(&self, key: &[u8]) -> bool {
        self.selection.prefixes.is_empty() || self.selection.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    fn send(&mut self, to: u64, key: Vec<u8>, expires_ms: Option<i64>, payload: &[u8]) -> rdb::Result<()> {
        if self.selected != Some(to) {
            self.push(None, &[b"SELECT", to.to_string().as_bytes()])?;
            self.selected = Some(to);
        }
        match self.selection.action {
            Action::Read => Ok(()),
            Action::Exists => self.push(Some(key.clone()), &[b"EXISTS", &key]),
            Action::Restore { replace } => {
                let expires = expires_ms.unwrap_or(0).to_string();
                let mut command: Vec<&[u8]> = vec![b"RESTORE", &key, expires.as_bytes(), payload, b"ABSTTL"];
                if replace {
                    command.push(b"REPLACE");
                }
                self.push(Some(key.clone()), &command)
            }
        }
    }
}

impl<R: Read> Visit<R> for Reader {
    fn header(&mut self, header: Header) -> rdb::Result<()> {
        self.header = header;
        Ok(())
    }

    fn aux(&mut self, _: Vec<u8>, _: Vec<u8>) -> rdb::Result<()> {
        Ok(())
    }

    fn function(&mut self, input: &mut Input<R>) -> rdb::Result<()> {
        self.fed.functions_n += 1;
        self.fed.functions.push(opcode::FUNCTION);
        input.copy_string(&mut Held { bytes: &mut self.fed.functions, what: "the functions" })
    }

    fn module_aux(&mut self, _: u64, _: u64, input: &mut Input<R>) -> rdb::Result<()> {
        self.fed.modules_n += 1;
        value::module(input, &mut Nowhere)
    }

    fn record(&mut self, record: Record, input: &mut Input<R>) -> rdb::Result<()> {
        let to = self.selection.databases.get(&record.database).copied();
        let mut key = Vec::new();
        input.text(&mut Held { bytes: &mut key, what: "a key" })?;
        let to = to.filter(|_| self.is_wanted(&key));
        let is_expired = record.expires_ms.is_some_and(|at| at <= self.selection.now_ms);
        let Some(to) = to.filter(|_| !is_expired) else {
            self.fed.expired_n += u64::from(is_expired && to.is_some());
            return value::copy(input, self.header, record.kind, &mut Nowhere, None);
        };
        let mut payload = Vec::new();
        if matches!(self.selection.action, Action::Restore { .. }) {
            payload.push(record.kind);
            value::copy(input, self.header, record.kind, &mut Held { bytes: &mut payload, what: "a value" }, None)?;
            seal(&mut payload, self.header);
        } else {
            value::copy(input, self.header, record.kind, &mut Nowhere, None)?;
        }
        *self.fed.keys.entry(to).or_default() += 1;
        self.fed.expiring_n += u64::from(record.expires_ms.is_some());
        self.fed.bytes += payload.len() as u64;
        self.send(to, key, record.expires_ms, &payload)
    }
}

/// Appends what `DUMP` has behind a value: the format's version and the checksum.
fn seal(payload: &mut Vec<u8>, header: Header) {
    let version = u16::try_from(header.version).unwrap_or(u16::MAX);
    payload.extend_from_slice(&version.to_le_bytes());
    let mut crc = new_crc();
    crc.update(payload);
    payload.extend_from_slice(&crc.finalize().to_le_bytes());
}

/// Holds bytes, up to what servers take.
struct Held<'a> {
    bytes: &'a mut Vec<u8>,
    what: &'static str,
}

impl Out for Held<'_> {
    fn write(&mut self, bytes: &[u8]) -> rdb::Result<()> {
        if self.bytes.len() + bytes.len() > VALUE_BYTES_MAX {
            return Err(Stop::Unknown(format!(
                "{} is longer than the {VALUE_BYTES_MAX} bytes that RESTORE takes; restore to a file, and start a server with it",
                self.what
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
