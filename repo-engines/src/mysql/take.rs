//! Puts what is taken apart into streams.

use super::inventory::Described;
use super::programs;
use super::split::{Piece, Rows, Section, Splitter, Told};
use super::text;
use crate::intake::Intake;
use dedump_core::{Error, Result, Sink, StreamWriter};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Room for what is read at once, in bytes.
const ROOM_BYTES: usize = 1 << 20;
/// Definitions of views and sequences of one database, at most: they are held in memory.
const TEXT_BYTES_MAX: usize = 256 << 20;
/// What the tool sets before anything else, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What was dumped of one database.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// What stands behind the database's name where it is created.
    pub(super) create: String,
    /// Tables, with their rows where those were dumped.
    pub(super) tables: BTreeMap<String, Option<Rows>>,
    pub(super) views: BTreeSet<String>,
    pub(super) sequences: BTreeSet<String>,
    pub(super) view_text: Vec<u8>,
    pub(super) sequence_text: Vec<u8>,
}

impl Taken {
    /// Returns what the server has and the dump has not.
    pub(super) fn missing(&self, described: &Described, views: &[String]) -> Option<String> {
        for (name, table) in &described.tables {
            match self.tables.get(name) {
                None => return Some(format!("table {name}")),
                Some(None) if table.has_rows => return Some(format!("the rows of table {name}")),
                Some(_) => {}
            }
        }
        let view = views.iter().find(|name| !self.views.contains(*name)).map(|name| format!("view {name}"));
        let sequence = described.sequences.iter().find(|name| !self.sequences.contains(*name));
        view.or_else(|| sequence.map(|name| format!("sequence {name}")))
    }
}

/// Takes the tool's output.
pub(super) struct Take<'a> {
    sink: &'a Sink,
    /// Whether each database has a folder of its own.
    has_folders: bool,
    splitter: Splitter,
    room: Vec<u8>,
    /// What the tool sets first; each stream begins with it.
    head: Vec<u8>,
    databases: BTreeMap<String, Taken>,
    database: Option<String>,
    now: Now,
    told: BTreeMap<&'static str, String>,
    is_complete: bool,
}

/// What becomes of the bytes that come.
enum Now {
    Head,
    /// The statements between two sections of a database.
    Database(Vec<u8>),
    Table(String, Box<StreamWriter>),
    Sequences,
    Views,
    Nothing,
}

enum Action {
    Begin(Section, Rows),
    Bytes(Range<usize>),
    Told(Told),
}

impl<'a> Take<'a> {
    pub(super) fn new(sink: &'a Sink, has_folders: bool) -> Take<'a> {
        Take {
            sink,
            has_folders,
            splitter: Splitter::default(),
            room: vec![0; ROOM_BYTES],
            head: Vec::new(),
            databases: BTreeMap::new(),
            database: None,
            now: Now::Head,
            told: BTreeMap::new(),
            is_complete: false,
        }
    }

    /// Ends the output; returns what was dumped of each database, what each of their streams begins with, and facts.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it is not whole.
    pub(super) async fn finish(mut self) -> Result<(BTreeMap<String, Taken>, BTreeMap<&'static str, String>)> {
        let rows = self.splitter.end().map_err(failed)?;
        if !self.is_complete {
            return Err(failed("the dump does not end with \"-- Dump completed\", so it is not whole".to_owned()));
        }
        self.count(rows);
        self.close().await?;
        let head = self.head;
        for taken in self.databases.values_mut() {
            for text in [&mut taken.view_text, &mut taken.sequence_text] {
                if !text.is_empty() {
                    text.splice(0..0, head.iter().copied());
                }
            }
        }
        Ok((self.databases, self.told))
    }

    async fn act(&mut self, action: Action, bytes: &[u8]) -> Result<()> {
        match action {
            Action::Begin(section, rows) => self.turn(section, rows).await,
            Action::Bytes(range) => self.put(&bytes[range]).await,
            Action::Told(told) => self.tell(told),
        }
    }

    fn tell(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Position(file, position) => {
                self.told.insert("binlog_file", file);
                self.told.insert("binlog_position", position);
            }
            Told::Gtid(gtid) => drop(self.told.insert("gtid", gtid)),
            Told::Completed => self.is_complete = true,
            Told::Where => {
                return Err(failed(
                    "an option file of the tool's has a \"where\", which leaves rows out; take it out there".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// A section begins.
    async fn turn(&mut self, section: Section, rows: Rows) -> Result<()> {
        if matches!(self.now, Now::Head) {
            self.head = head(&self.head);
        }
        self.count(rows);
        if let Section::Rows(name) = &section {
            // They follow the definition, in its stream.
            return match (&self.now, self.database.as_ref().and_then(|database| self.databases.get_mut(database))) {
                (Now::Table(table, _), Some(taken)) if table == name => {
                    taken.tables.insert(name.clone(), Some(Rows::default()));
                    Ok(())
                }
                _ => Err(failed(format!("rows of table {name} come without its definition"))),
            };
        }
        self.close().await?;
        match section {
            Section::Database(name) => {
                self.databases.entry(name.clone()).or_default();
                self.database = Some(name);
                self.now = Now::Database(Vec::new());
            }
            Section::Table(name) => self.table(name).await?,
            Section::Sequence(name) => {
                self.known()?.sequences.insert(name);
                self.now = Now::Sequences;
            }
            Section::ViewStandIn(_) => {
                self.known()?;
                self.now = Now::Views;
            }
            Section::View(name) => {
                self.known()?.views.insert(name);
                self.now = Now::Views;
            }
            Section::Rows(_) | Section::Tail => self.now = Now::Nothing,
        }
        Ok(())
    }

    async fn table(&mut self, name: String) -> Result<()> {
        let taken = self.known()?;
        if taken.tables.insert(name.clone(), None).is_some() {
            return Err(failed(format!("table {name} is in the dump twice")));
        }
        let stream = format!("{}tables/{}.sql", self.folder(), text::encode(&name));
        let mut writer = self.sink.stream(&stream).await?;
        writer.write(&self.head).await?;
        self.now = Now::Table(name, Box::new(writer));
        Ok(())
    }

    /// Returns the folder of the database among the streams.
    fn folder(&self) -> String {
        match (&self.database, self.has_folders) {
            (Some(name), true) => format!("databases/{}/", text::encode(name)),
            _ => String::new(),
        }
    }

    /// Notes the rows of the section that ends.
    fn count(&mut self, rows: Rows) {
        let database = self.database.as_ref().and_then(|name| self.databases.get_mut(name));
        if let (Now::Table(name, _), Some(taken)) = (&self.now, database)
            && let Some(Some(counted)) = taken.tables.get_mut(name)
        {
            *counted = rows;
        }
    }

    fn known(&mut self) -> Result<&mut Taken> {
        let database = self.database.as_ref().and_then(|name| self.databases.get_mut(name));
        database.ok_or_else(|| failed("the dump begins with no database".to_owned()))
    }

    /// Ends what is open.
    async fn close(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.now, Now::Nothing) {
            Now::Table(name, writer) => {
                let rows = self.known()?.tables.get(&name).copied().flatten();
                let facts =
                    [("format", Some("mysqldump text".to_owned())), ("rows", rows.map(|rows| rows.rows_n.to_string()))];
                let facts = facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
                writer.finish(facts.collect()).await
            }
            Now::Database(text) => {
                let name = self.database.clone().unwrap_or_default();
                if let Some(create) = create(&text, &name) {
                    self.known()?.create = create;
                }
                Ok(())
            }
            Now::Head | Now::Sequences | Now::Views | Now::Nothing => Ok(()),
        }
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let (text, bytes_max) = match &mut self.now {
            Now::Table(_, writer) => return writer.write(bytes).await,
            Now::Nothing => return Ok(()),
            Now::Head => (&mut self.head, HEAD_BYTES_MAX),
            Now::Database(text) => (text, HEAD_BYTES_MAX),
            Now::Sequences => (&mut self.known()?.sequence_text, TEXT_BYTES_MAX),
            Now::Views => (&mut self.known()?.view_text, TEXT_BYTES_MAX),
        };
        text.extend_from_slice(bytes);
        match text.len() > bytes_max {
            true => Err(failed(format!("definitions in the dump have more than {bytes_max} bytes"))),
            false => Ok(()),
        }
    }
}

/// Reads what stands behind the name where a database is created.
pub(super) fn create(text: &[u8], name: &str) -> Option<String> {
    let lines = text.split(|&byte| byte == b'\n');
    let line = lines.filter_map(|line| line.strip_prefix(b"CREATE DATABASE ")).next()?;
    let at = memchr::memchr(b'`', line)?;
    let (found, rest) = text::quoted(&line[at..])?;
    let rest = String::from_utf8_lossy(rest.strip_suffix(b";").unwrap_or(rest)).trim().to_owned();
    (found == name).then_some(rest)
}

impl Intake for Take<'_> {
    fn spare(&mut self) -> &mut [u8] {
        &mut self.room
    }

    async fn advance(&mut self, bytes_n: usize) -> Result<()> {
        let room = std::mem::take(&mut self.room);
        let (mut actions, mut bytes) = (Vec::<Action>::new(), Vec::with_capacity(bytes_n + 64));
        let split = self.splitter.feed(&room[..bytes_n], &mut |piece| {
            match piece {
                Piece::Begin(section, rows) => actions.push(Action::Begin(section, rows)),
                Piece::Told(told) => actions.push(Action::Told(told)),
                Piece::Bytes(piece) => {
                    let begin = bytes.len();
                    bytes.extend_from_slice(piece);
                    match actions.last_mut() {
                        Some(Action::Bytes(range)) => range.end = bytes.len(),
                        _ => actions.push(Action::Bytes(begin..bytes.len())),
                    }
                }
            }
            Ok(())
        });
        self.room = room;
        split.map_err(failed)?;
        for action in actions {
            self.act(action, &bytes).await?;
        }
        Ok(())
    }
}

/// Leaves out of the head what no other client takes.
fn head(head: &[u8]) -> Vec<u8> {
    let lines = head.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !programs::is_sandbox(line) && !line.trim_ascii().is_empty()).flatten().copied().collect()
}

fn failed(why: String) -> Error {
    Error::DumpFailed(format!("{why}; nothing was stored"))
}
