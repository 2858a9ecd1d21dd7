//! Puts an RDB into an order that is the same for the same data, and writes it again as one that any server reads.
//!
//! ```text
//! header │ modules, before │ functions │ database, sizes, records by key … │ modules, after │ end │ checksum
//! ```
//!
//! Strings are stored unpacked: a small change of a value then is a small change of what is stored, and zstd packs better than
//! LZF. What says nothing about the data is left out: aux fields (kept aside), how long ago a key was used, the old checksum.

use super::input::{Input, new_crc, write_length};
use super::parse::{Record, Visit};
use super::{Header, Out, Result, Stop, opcode, value};
use crate::sort::{SortKey, Sorter};
use crc_fast::Digest;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// What is held of records while they are sorted, about.
const RECORDS_BYTES: usize = 48 * 1024 * 1024;
/// What is held of one value's members while they are sorted, about.
const MEMBERS_BYTES: usize = 8 * 1024 * 1024;
/// What is held of functions, and of what modules store beside keys, about.
const OTHERS_BYTES: usize = 1024 * 1024;
/// Aux fields of an RDB, at most; servers write about a dozen.
const AUX_FIELDS_MAX: usize = 1000;
/// What aux fields begin with that are no remark on the RDB, but data.
const KEYDB_MEMBER_EXPIRES: &[u8] = b"keydb-subexpire";
/// The module's part that comes before all keys.
const MODULE_AUX_BEFORE: u64 = 1;

/// Takes an RDB apart, and makes the same one of the same data.
pub(in crate::redis) struct Canonical {
    header: Header,
    /// The only database that counts.
    only: Option<u64>,
    aux: BTreeMap<String, String>,
    records: Sorter,
    members: Sorter,
    functions: Sorter,
    functions_n: u64,
    modules: Sorter,
    /// Records of each database.
    counts: BTreeMap<u64, Count>,
    key: SortKey,
}

/// Records of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::redis) struct Count {
    pub keys_n: u64,
    pub expires_n: u64,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::redis) struct Written {
    pub counts: BTreeMap<u64, Count>,
    pub functions_n: u64,
}

impl Canonical {
    /// Creates one for all databases or one of them, with temporary files in a folder.
    pub fn new(header: Header, only: Option<u64>, folder: &Path) -> Self {
        Canonical {
            header,
            only,
            aux: BTreeMap::new(),
            records: Sorter::new(RECORDS_BYTES, folder),
            members: Sorter::new(MEMBERS_BYTES, folder),
            functions: Sorter::new(OTHERS_BYTES, folder),
            functions_n: 0,
            modules: Sorter::new(OTHERS_BYTES, folder),
            counts: BTreeMap::new(),
            key: SortKey::default(),
        }
    }

    /// Returns the aux fields that were read.
    pub fn aux_fields(&self) -> &BTreeMap<String, String> {
        &self.aux
    }

    /// Writes everything in order. Of records that were given twice the first is written if `repeated` allows it.
    pub fn write(&mut self, repeated: Repeated, out: &mut dyn Out) -> Result<Written> {
        let mut out = Summed { out, crc: new_crc() };
        out.write(&self.header.bytes())?;
        let mut modules = self.modules.sorted()?;
        let mut has_module = modules.next()?;
        while has_module && modules.key().first() == Some(&0) {
            modules.payload(|piece| out.write(piece))?;
            has_module = modules.next()?;
        }
        let mut functions = self.functions.sorted()?;
        while functions.next()? {
            functions.payload(|piece| out.write(piece))?;
        }
        let mut counts = BTreeMap::<u64, Count>::new();
        let mut records = self.records.sorted()?;
        while records.next()? {
            let database = database_of(records.key());
            if records.is_repeated() {
                match repeated {
                    Repeated::First => continue,
                    Repeated::Refuse => return Err(Stop::Bad { at: 0, why: "it has a key twice".to_owned() }),
                }
            }
            let count = match counts.entry(database) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    out.write(&[opcode::SELECT_DB])?;
                    write_length(database, &mut out)?;
                    let sizes = self.counts.get(&database).copied().unwrap_or_default();
                    out.write(&[opcode::RESIZE_DB])?;
                    write_length(sizes.keys_n, &mut out)?;
                    write_length(sizes.expires_n, &mut out)?;
                    entry.insert(Count { keys_n: 0, ..sizes })
                }
            };
            records.payload(|piece| out.write(piece))?;
            count.keys_n += 1;
        }
        while has_module {
            modules.payload(|piece| out.write(piece))?;
            has_module = modules.next()?;
        }
        out.write(&[opcode::EOF])?;
        if self.header.has_checksum() {
            let crc = out.crc.finalize();
            out.write(&crc.to_le_bytes())?;
        }
        Ok(Written { counts, functions_n: self.functions_n })
    }
}

/// Returns the database that a record's key to sort by begins with.
fn database_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |database| u64::from_be_bytes(*database))
}

/// What is done with a record that was given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) enum Repeated {
    /// It can't be.
    Refuse,
    /// The first one counts.
    First,
}

impl<R: Read> Visit<R> for Canonical {
    fn header(&mut self, header: Header) -> Result<()> {
        self.header = header;
        Ok(())
    }

    fn aux(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<()> {
        if self.aux.len() >= AUX_FIELDS_MAX {
            return Err(Stop::Bad { at: 0, why: format!("it has more than {AUX_FIELDS_MAX} aux fields") });
        }
        if name.starts_with(KEYDB_MEMBER_EXPIRES) {
            let what = "KeyDB lets members of this server's sets expire, in fields that no other server reads; dump it with its own tools";
            return Err(Stop::Unknown(what.to_owned()));
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.aux.insert(text(&name), text(&value));
        Ok(())
    }

    fn function(&mut self, input: &mut Input<R>) -> Result<()> {
        self.key.clear();
        self.functions.write(&[opcode::FUNCTION])?;
        input.copy_key(&mut self.functions, &mut self.key)?;
        self.functions_n += 1;
        Ok(self.functions.end(&mut self.key)?)
    }

    fn module_aux(&mut self, id: u64, when: u64, input: &mut Input<R>) -> Result<()> {
        self.key.clear();
        self.key.extend(&[u8::from(when != MODULE_AUX_BEFORE)]);
        self.key.extend(&id.to_be_bytes());
        self.modules.write(&[opcode::MODULE_AUX])?;
        write_length(id, &mut self.modules)?;
        // The number that follows is one without a sign.
        write_length(2, &mut self.modules)?;
        write_length(when, &mut self.modules)?;
        value::module(input, &mut self.modules)?;
        Ok(self.modules.end(&mut self.key)?)
    }

    fn record(&mut self, record: Record, input: &mut Input<R>) -> Result<()> {
        if self.only.is_some_and(|only| only != record.database) {
            input.copy_string(&mut super::Nowhere)?;
            return value::copy(input, self.header, record.kind, &mut super::Nowhere, None);
        }
        self.key.clear();
        self.key.extend(&record.database.to_be_bytes());
        if let Some(expires_ms) = record.expires_ms {
            self.records.write(&[opcode::EXPIRE_MS])?;
            self.records.write(&expires_ms.to_le_bytes())?;
        }
        self.records.write(&[record.kind])?;
        input.copy_key(&mut self.records, &mut self.key)?;
        value::copy(input, self.header, record.kind, &mut self.records, Some(&mut self.members))?;
        let count = self.counts.entry(record.database).or_default();
        count.keys_n += 1;
        count.expires_n += u64::from(record.expires_ms.is_some());
        Ok(self.records.end(&mut self.key)?)
    }
}

/// Sums up what it hands on.
struct Summed<'a> {
    out: &'a mut dyn Out,
    crc: Digest,
}

impl Out for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.out.write(bytes)
    }
}
