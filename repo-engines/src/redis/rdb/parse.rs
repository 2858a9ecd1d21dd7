//! Reads an RDB from its first byte to its checksum.

use super::input::Input;
use super::{Header, Result, Stop, opcode};
use std::io::Read;

/// Databases of a server, at most; Redis counts them in an `int`, and nobody has as many as this.
const DATABASES_MAX: u64 = 1 << 24;

/// What comes before a record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) struct Record {
    /// The number of the database.
    pub database: u64,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// The type of its value.
    pub kind: u8,
}

/// Takes what an RDB has. Whoever is handed the input has to read what is theirs, and no more.
pub(in crate::redis) trait Visit<R: Read> {
    /// The first bytes.
    fn header(&mut self, header: Header) -> Result<()>;

    /// A field that says something about the RDB.
    fn aux(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<()>;

    /// A library of functions; a string follows.
    fn function(&mut self, input: &mut Input<R>) -> Result<()>;

    /// What a module stores beside the keys; its parts follow. Some comes before all keys.
    fn module_aux(&mut self, id: u64, when: u64, input: &mut Input<R>) -> Result<()>;

    /// A record; its key and its value follow.
    fn record(&mut self, record: Record, input: &mut Input<R>) -> Result<()>;
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) struct Parsed {
    pub header: Header,
    /// The checksum; `None` if the server writes none.
    pub crc: Option<u64>,
    pub bytes: u64,
}

/// Reads an RDB to its end, at which nothing may follow.
pub(in crate::redis) fn parse<R: Read>(input: &mut Input<R>, visit: &mut impl Visit<R>) -> Result<Parsed> {
    let header = read_header(input)?;
    visit.header(header)?;
    let (mut database, mut expires_ms) = (0, None);
    loop {
        let at_record = expires_ms.is_some();
        match input.byte()? {
            opcode::EOF if !at_record => break,
            opcode::SELECT_DB if !at_record => {
                database = input.length()?;
                if database >= DATABASES_MAX {
                    return Err(input.bad(format!("it names database {database}")));
                }
            }
            // How long tables are going to be, and which slots follow.
            opcode::RESIZE_DB if !at_record => (0..2).try_for_each(|_| input.length().map(drop))?,
            opcode::SLOT_INFO if !at_record => (0..3).try_for_each(|_| input.length().map(drop))?,
            // KeyDB has some between when a key expires and the key.
            opcode::AUX => visit.aux(input.small_string()?, input.small_string()?)?,
            opcode::FUNCTION if !at_record => visit.function(input)?,
            opcode::FUNCTION_PRE_GA if !at_record => {
                let what = "it has functions of a release candidate of Redis 7.0, which no server reads";
                return Err(Stop::Unknown(what.to_owned()));
            }
            opcode::MODULE_AUX if !at_record => {
                let (id, _, when) = (input.length()?, input.length()?, input.length()?);
                visit.module_aux(id, when, input)?;
            }
            opcode::EXPIRE_MS if !at_record => expires_ms = Some(i64::from_le_bytes(input.exact()?)),
            opcode::EXPIRE_SECS if !at_record => {
                expires_ms = Some(i64::from(i32::from_le_bytes(input.exact()?)) * 1000);
            }
            // When it was last used: it changes without anything being written, so it is left out.
            opcode::IDLE => drop(input.length()?),
            opcode::FREQ => drop(input.byte()?),
            kind => visit.record(Record { database, expires_ms: expires_ms.take(), kind }, input)?,
        }
    }
    let crc = check_crc(input, header)?;
    if !input.is_at_end()? {
        return Err(input.bad("something follows its end"));
    }
    Ok(Parsed { header, crc, bytes: input.position() })
}

fn read_header<R: Read>(input: &mut Input<R>) -> Result<Header> {
    let bytes = input.exact::<9>()?;
    let (is_valkey, digits) = match bytes.strip_prefix(b"REDIS") {
        Some(digits) => (false, digits),
        None => (true, bytes.strip_prefix(b"VALKEY").unwrap_or_default()),
    };
    let version = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match version.and_then(|digits| digits.parse().ok()) {
        Some(version) if version > 0 => Ok(Header { is_valkey, version }),
        _ => Err(Stop::Bad { at: 0, why: "it does not begin with REDIS and a version".to_owned() }),
    }
}

fn check_crc<R: Read>(input: &mut Input<R>, header: Header) -> Result<Option<u64>> {
    if !header.has_checksum() {
        return Ok(None);
    }
    let computed = input.crc();
    match u64::from_le_bytes(input.exact()?) {
        0 => Ok(None),
        stored if stored == computed => Ok(Some(stored)),
        _ => Err(input.bad("its checksum is not that of its bytes")),
    }
}
