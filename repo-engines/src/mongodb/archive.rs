//! The archive that `mongodump --archive` writes and `mongorestore --archive` reads: taken apart, and put together again.
//!
//! ```text
//! magic number · header · a document for every collection · terminator · ( header · documents · terminator )*
//! ```
//!
//! Documents of several collections may come in turns. The last block of each says that it is, and has the CRC-64 of all its
//! documents. Layout: "The mongodump archive format specification" of MongoDB's database tools, version 0.1.

use super::bson::{self, Value, Writer};
use crc_fast::{CrcAlgorithm, Digest};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

const MAGIC: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();
pub(super) const TERMINATOR: [u8; 4] = [0xFF; 4];
const VERSION: &str = "0.1";
/// A document has so many bytes at most: more than a server sends.
const DOCUMENT_BYTES_MAX: usize = 48_000_000;
/// Collections of an archive, at most: each becomes two streams.
const COLLECTIONS_MAX: usize = 49_000;
/// Bytes of what is said of all collections, at most.
const METADATA_BYTES_MAX: usize = 256 << 20;
/// Collections whose documents come in turns, at most.
pub(super) const OPEN_MAX: usize = 8;

/// Why reading an archive ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The bytes are not what an archive has there.
    Bad { at: u64, why: String },
    /// They end in the middle.
    Ended { at: u64 },
    /// There are none.
    Empty,
    /// The source, the sink or a temporary file failed.
    Io(io::Error),
}

pub(super) type Result<T> = std::result::Result<T, Stop>;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Bad { at, why } => write!(f, "the archive is damaged at byte {at}: {why}"),
            Stop::Ended { at } => write!(f, "the archive ends in the middle, after {at} bytes"),
            Stop::Empty => write!(f, "mongodump wrote nothing; is there such a collection?"),
            Stop::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

/// What the archive says before its documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prelude {
    pub server_version: String,
    pub tool_version: String,
    pub collections: Vec<Collection>,
}

/// A collection, as the prelude has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Collection {
    /// Empty for the oplog.
    pub database: String,
    pub name: String,
    /// Options and indexes, as extended JSON; empty for what has none.
    pub metadata: String,
    /// `collection`, `view`, `timeseries`, or nothing.
    pub kind: String,
}

impl Collection {
    /// Returns under which name the documents come: those of a time series lie in a collection of their own, before version 8.3.
    fn names_of_documents(&self) -> Vec<String> {
        match self.kind.as_str() {
            "timeseries" => vec![format!("system.buckets.{}", self.name), self.name.clone()],
            _ => vec![self.name.clone()],
        }
    }
}

/// Is told what an archive has in it. Collections go by their place in the prelude.
pub(super) trait Visit {
    /// Takes what comes first.
    fn prelude(&mut self, prelude: Prelude) -> Result<()>;
    /// Takes the name under which a collection's documents come, before its first one, or its end.
    fn begin(&mut self, collection: usize, name: &str) -> Result<()>;
    /// Takes a document.
    fn document(&mut self, collection: usize, document: &[u8]) -> Result<()>;
    /// Takes the end of a collection, whose checksum is right.
    fn end(&mut self, collection: usize, crc: u64) -> Result<()>;
}

/// Reads an archive to its end.
///
/// # Errors
/// It is none, or not whole, or a checksum is wrong; what the visitor returned.
pub(super) fn parse(source: impl Read, visit: &mut impl Visit) -> Result<()> {
    let mut input = Input { source, at: 0, document: Vec::new() };
    let prelude = input.prelude()?;
    let mut states = States::new(&prelude);
    visit.prelude(prelude)?;
    while let Some(header) = input.header()? {
        let namespace = (header.database, header.name);
        let collection = states
            .find(&namespace)
            .ok_or_else(|| input.bad(format!("{}.{} was not announced", namespace.0, namespace.1)))?;
        states.open(collection, &namespace.1, visit).map_err(|why| why.unwrap_or_else(|why| input.bad(why)))?;
        while input.document_or_terminator()? {
            if header.ends_with.is_some() {
                return Err(input.bad("documents come behind the end of their collection"));
            }
            states.crc(collection).update(&input.document);
            visit.document(collection, &input.document)?;
        }
        if let Some(crc) = header.ends_with {
            let read = states.close(collection);
            if read != crc {
                return Err(
                    input.bad(format!("the checksum of {}.{} is not that of its documents", namespace.0, namespace.1))
                );
            }
            visit.end(collection, crc)?;
        }
    }
    match states.unfinished() {
        Some(_) => Err(Stop::Ended { at: input.at }),
        None => Ok(()),
    }
}

/// What has come of each collection so far.
struct States {
    places: BTreeMap<(String, String), usize>,
    states: Vec<State>,
    open_n: usize,
}

enum State {
    Announced,
    Open(Box<Digest>),
    Closed,
}

impl States {
    fn new(prelude: &Prelude) -> Self {
        let mut places = BTreeMap::new();
        for (place, collection) in prelude.collections.iter().enumerate() {
            for name in collection.names_of_documents() {
                places.insert((collection.database.clone(), name), place);
            }
        }
        let states = prelude.collections.iter().map(|_| State::Announced).collect();
        States { places, states, open_n: 0 }
    }

    fn find(&self, namespace: &(String, String)) -> Option<usize> {
        self.places.get(namespace).copied()
    }

    /// Takes a block's header. The error is the visitor's, or why it can't be.
    fn open(
        &mut self,
        collection: usize,
        name: &str,
        visit: &mut impl Visit,
    ) -> std::result::Result<(), std::result::Result<Stop, &'static str>> {
        match self.states[collection] {
            State::Open(_) => Ok(()),
            State::Closed => Err(Err("a collection goes on behind its end")),
            State::Announced if self.open_n == OPEN_MAX => Err(Err("too many collections come in turns")),
            State::Announced => {
                self.states[collection] = State::Open(Box::new(new_crc()));
                self.open_n += 1;
                visit.begin(collection, name).map_err(Ok)
            }
        }
    }

    fn crc(&mut self, collection: usize) -> &mut Digest {
        match &mut self.states[collection] {
            State::Open(crc) => crc,
            _ => unreachable!("a block is read after its header has opened it"),
        }
    }

    fn close(&mut self, collection: usize) -> u64 {
        let crc = self.crc(collection).finalize();
        self.states[collection] = State::Closed;
        self.open_n -= 1;
        crc
    }

    fn unfinished(&self) -> Option<usize> {
        self.states.iter().position(|state| !matches!(state, State::Closed))
    }
}

/// Returns a checksum of nothing.
pub(super) fn new_crc() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Xz)
}

/// A block's header.
struct Header {
    database: String,
    name: String,
    /// The checksum, in the last block of a collection.
    ends_with: Option<u64>,
}

struct Input<R> {
    source: R,
    at: u64,
    document: Vec<u8>,
}

impl<R: Read> Input<R> {
    fn bad(&self, why: impl Into<String>) -> Stop {
        Stop::Bad { at: self.at, why: why.into() }
    }

    fn prelude(&mut self) -> Result<Prelude> {
        let Some(magic) = self.four()? else { return Err(Stop::Empty) };
        if magic != MAGIC {
            return Err(self.bad("it does not begin as an archive of mongodump does"));
        }
        if !self.document_or_terminator()? {
            return Err(self.bad("it has no header"));
        }
        let version = text(&self.document, "version").unwrap_or_default();
        if version != VERSION {
            let why = format!("it is of version {version:?}, and {VERSION} is known; upgrade dedump");
            return Err(self.bad(why));
        }
        let mut prelude = Prelude {
            server_version: text(&self.document, "server_version").unwrap_or_default(),
            tool_version: text(&self.document, "tool_version").unwrap_or_default(),
            collections: Vec::new(),
        };
        let mut bytes_n = 0;
        while self.document_or_terminator()? {
            bytes_n += self.document.len();
            if prelude.collections.len() == COLLECTIONS_MAX || bytes_n > METADATA_BYTES_MAX {
                let why = format!("it has more than {COLLECTIONS_MAX} collections; back up databases one by one");
                return Err(self.bad(why));
            }
            let part = |name| text(&self.document, name);
            let (Some(database), Some(name)) = (part("db"), part("collection")) else {
                return Err(self.bad("a collection has no name"));
            };
            let (metadata, kind) = (part("metadata").unwrap_or_default(), part("type").unwrap_or_default());
            prelude.collections.push(Collection { database, name, metadata, kind });
        }
        Ok(prelude)
    }

    /// Reads the header of the next block; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let Some(length) = self.four()? else { return Ok(None) };
        if length == TERMINATOR {
            return Err(self.bad("a block has no header"));
        }
        self.rest_of_document(length)?;
        let (Some(database), Some(name)) = (text(&self.document, "db"), text(&self.document, "collection")) else {
            return Err(self.bad("a block does not say whose it is"));
        };
        let is_end = bson::find(&self.document, "EOF").is_some_and(|element| element.value() == Value::Bool(true));
        let crc = match bson::find(&self.document, "CRC").map(|element| element.value()) {
            Some(Value::Int64(crc)) => crc.cast_unsigned(),
            _ if is_end => return Err(self.bad("the end of a collection has no checksum")),
            _ => 0,
        };
        Ok(Some(Header { database, name, ends_with: is_end.then_some(crc) }))
    }

    /// Reads a document; returns whether there was one, and not the block's end.
    fn document_or_terminator(&mut self) -> Result<bool> {
        match self.four()? {
            None => Err(Stop::Ended { at: self.at }),
            Some(TERMINATOR) => Ok(false),
            Some(length) => self.rest_of_document(length).map(|()| true),
        }
    }

    fn rest_of_document(&mut self, length: [u8; 4]) -> Result<()> {
        let bytes_n = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        if !(bson::LENGTH_MIN..=DOCUMENT_BYTES_MAX).contains(&bytes_n) {
            return Err(self.bad("a document can't be that long"));
        }
        self.document.clear();
        self.document.extend_from_slice(&length);
        // Grows as bytes come, not as they are announced.
        let read_n = (&mut self.source).take(bytes_n as u64 - 4).read_to_end(&mut self.document)?;
        self.at += read_n as u64;
        if self.document.len() < bytes_n {
            return Err(Stop::Ended { at: self.at });
        }
        if self.document.last() != Some(&0) {
            return Err(self.bad("a document does not end as documents do"));
        }
        Ok(())
    }

    /// Reads four bytes; `None` at the end.
    fn four(&mut self) -> Result<Option<[u8; 4]>> {
        let mut four = [0; 4];
        let mut filled = 0;
        while filled < four.len() {
            match self.source.read(&mut four[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Stop::Ended { at: self.at }),
                Ok(read_n) => (filled, self.at) = (filled + read_n, self.at + read_n as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(four))
    }
}

fn text(document: &[u8], name: &str) -> Option<String> {
    match bson::find(document, name)?.value() {
        Value::Text(text) => Some(text.to_owned()),
        _ => None,
    }
}

/// Returns what an archive of these collections begins with.
pub(super) fn write_prelude(prelude: &Prelude) -> Vec<u8> {
    let header = Writer::default()
        .int32("concurrent_collections", 1)
        .text("version", VERSION)
        .text("server_version", &prelude.server_version)
        .text("tool_version", &prelude.tool_version);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(header.finish());
    for collection in &prelude.collections {
        let document = Writer::default()
            .text("db", &collection.database)
            .text("collection", &collection.name)
            .text("metadata", &collection.metadata)
            .int32("size", 0)
            .text("type", &collection.kind);
        bytes.extend(document.finish());
    }
    bytes.extend(TERMINATOR);
    bytes
}

/// Returns the header of a block; with a checksum, of the last one of a collection.
pub(super) fn write_header(database: &str, name: &str, ends_with: Option<u64>) -> Vec<u8> {
    let header = Writer::default().text("db", database).text("collection", name);
    header.bool("EOF", ends_with.is_some()).int64("CRC", ends_with.unwrap_or(0).cast_signed()).finish()
}
