//! Walks through a `pg_dump -Fc` archive as it streams by, to tell whether it is whole.
//!
//! Such an archive has no end marker, but its table of contents comes first and says which entries have data; then the
//! data follow, one block for each such entry. An archive is whole if the bytes end right behind the last block. The
//! layout is that of `pg_backup_archiver.c` and `pg_backup_custom.c` (PostgreSQL 18), for the format's versions 1.10
//! (PostgreSQL 8.0) to 1.16 (17 and 18):
//!
//! ```text
//! header   "PGDMP", major, minor, revision, int size, offset size, format (1); compression: a byte from 1.15 on, else an int;
//!          7 ints (when); 3 strings (database, server version, pg_dump version)
//! contents an int (how many entries), then each entry: see `entry_fields`
//! data     blocks: 1, int (entry), chunks             a table's rows
//!                  3, int (entry), { int (oid), chunks }, int 0      large objects
//! chunks   { int (length), bytes }, int 0
//! int      sign byte, then `int size` bytes, least significant first
//! string   int (length; negative for none), bytes
//! offset   a byte (3: the entry has no data), then `offset size` bytes
//! ```
//!
//! Memory is fixed: numbers are gathered in a few bytes, everything else is skipped unseen.

/// First bytes of an archive.
pub(super) const MAGIC: &[u8] = b"PGDMP";
const FIXED_BYTES: usize = 11;
const VERSIONS_KNOWN: std::ops::RangeInclusive<u8> = 10..=16;
const FORMAT_CUSTOM: u8 = 1;
/// Widest int that is read; real ones have 4 bytes.
const INT_BYTES_MAX: u8 = 8;
const NO_DATA: u8 = 3;
const BLOCK_ROWS: u8 = 1;
const BLOCK_LARGE_OBJECTS: u8 = 3;

/// Returns the format's minor version and the compression that the header names.
pub(super) fn version_and_compression(head: &[u8]) -> (u8, Option<&'static str>) {
    let version = head.get(6).copied().unwrap_or(0);
    let named = head.get(FIXED_BYTES).copied().unwrap_or(0);
    if version >= 15 {
        let algorithm = match named {
            1 => Some("gzip"),
            2 => Some("lz4"),
            3 => Some("zstd"),
            _ => None,
        };
        return (version, algorithm);
    }
    let int_bytes = usize::from(head.get(8).copied().unwrap_or(0));
    let level = head.get(FIXED_BYTES + 1..FIXED_BYTES + 1 + int_bytes).unwrap_or_default();
    (version, level.iter().any(|&byte| byte != 0).then_some("gzip"))
}

/// Where a walk stands when the bytes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// This is no archive.
    Foreign,
    /// The archive ends where it should.
    Whole,
    /// The archive ends too early; says where.
    Cut(&'static str),
    /// The archive is of an unknown version, or not understood.
    Lost,
}

/// A walk through the bytes of what may be an archive.
#[derive(Debug)]
pub(super) struct Walk {
    place: Place,
    /// What has been gathered of the next number.
    gathered: Vec<u8>,
    /// Bytes to pass over before the next number.
    skip: u64,
    int_bytes: usize,
    offset_bytes: usize,
    version: u8,
    entries_left: u64,
    blocks_left: u64,
}

/// Which number comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Fixed,
    Compression,
    When { ints_left: u8 },
    Names { strings_left: u8 },
    EntriesCount,
    Entry { field: usize },
    Block,
    Rows { begun: bool },
    LargeObject { begun: bool },
    LargeObjectChunk,
    Foreign,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Int,
    Text,
    /// Strings up to one that is none.
    Texts,
    Offset,
}

impl Default for Walk {
    fn default() -> Self {
        Walk {
            place: Place::Fixed,
            gathered: Vec::new(),
            skip: 0,
            int_bytes: 0,
            offset_bytes: 0,
            version: 0,
            entries_left: 0,
            blocks_left: 0,
        }
    }
}

impl Walk {
    /// Walks on through the next bytes.
    pub(super) fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && !matches!(self.place, Place::Foreign | Place::Lost) {
            if self.skip > 0 {
                let passed = self.skip.min(piece.len() as u64);
                piece = &piece[passed as usize..];
                self.skip -= passed;
                continue;
            }
            let wanted = self.number_bytes();
            let (now, later) = piece.split_at(piece.len().min(wanted - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            piece = later;
            if self.gathered.len() == wanted {
                self.place = self.next().unwrap_or(Place::Lost);
                self.gathered.clear();
            }
        }
    }

    /// Returns what the walk has found, the bytes having ended here.
    pub(super) fn course(&self) -> Course {
        match self.place {
            Place::Foreign => Course::Foreign,
            Place::Fixed if !self.gathered.starts_with(MAGIC) => Course::Foreign,
            Place::Lost => Course::Lost,
            Place::Block if self.blocks_left > 0 => Course::Cut("ends before its last table's data"),
            Place::Block => Course::Whole,
            Place::Rows { .. } | Place::LargeObject { .. } | Place::LargeObjectChunk => {
                Course::Cut("ends within its data")
            }
            Place::EntriesCount | Place::Entry { .. } => Course::Cut("ends within its table of contents"),
            Place::Fixed | Place::Compression | Place::When { .. } | Place::Names { .. } => {
                Course::Cut("ends within its header")
            }
        }
    }

    /// Returns how long the next number is; at least 1.
    fn number_bytes(&self) -> usize {
        match self.place {
            Place::Fixed => FIXED_BYTES,
            Place::Compression if self.version >= 15 => 1,
            Place::Block => 1,
            Place::Entry { field } if self.entry_field(field) == Some(Field::Offset) => 1 + self.offset_bytes,
            _ => 1 + self.int_bytes,
        }
    }

    /// Takes the number that was gathered and returns the place behind it; `None` if it can't be.
    fn next(&mut self) -> Option<Place> {
        let place = match self.place {
            Place::Fixed => return self.read_fixed(),
            Place::Compression => Place::When { ints_left: 7 },
            Place::When { ints_left: 1 } => Place::Names { strings_left: 3 },
            Place::When { ints_left } => Place::When { ints_left: ints_left - 1 },
            Place::Names { strings_left } => {
                self.skip_text();
                if strings_left == 1 { Place::EntriesCount } else { Place::Names { strings_left: strings_left - 1 } }
            }
            Place::EntriesCount => {
                self.entries_left = self.int()?;
                self.entry_or_data()
            }
            Place::Entry { field } => self.read_entry_field(field)?,
            Place::Block => {
                self.blocks_left = self.blocks_left.checked_sub(1)?;
                match *self.gathered.first()? {
                    BLOCK_ROWS => Place::Rows { begun: false },
                    BLOCK_LARGE_OBJECTS => Place::LargeObject { begun: false },
                    _ => return None,
                }
            }
            // The block's entry, then lengths.
            Place::Rows { begun: false } => Place::Rows { begun: true },
            Place::Rows { begun: true } => {
                if self.skip_chunk()? {
                    Place::Rows { begun: true }
                } else {
                    Place::Block
                }
            }
            Place::LargeObject { begun: false } => Place::LargeObject { begun: true },
            Place::LargeObject { begun: true } => {
                if self.int()? == 0 {
                    Place::Block
                } else {
                    Place::LargeObjectChunk
                }
            }
            Place::LargeObjectChunk => {
                if self.skip_chunk()? {
                    Place::LargeObjectChunk
                } else {
                    Place::LargeObject { begun: true }
                }
            }
            Place::Foreign | Place::Lost => return None,
        };
        Some(place)
    }

    fn read_fixed(&mut self) -> Option<Place> {
        let [b'P', b'G', b'D', b'M', b'P', major, minor, _, int_bytes, offset_bytes, format] = self.gathered[..] else {
            return Some(Place::Foreign);
        };
        let known = major == 1
            && VERSIONS_KNOWN.contains(&minor)
            && (1..=INT_BYTES_MAX).contains(&int_bytes)
            && (1..=INT_BYTES_MAX).contains(&offset_bytes)
            && format == FORMAT_CUSTOM;
        self.version = minor;
        self.int_bytes = int_bytes.into();
        self.offset_bytes = offset_bytes.into();
        known.then_some(Place::Compression)
    }

    fn read_entry_field(&mut self, field: usize) -> Option<Place> {
        match self.entry_field(field)? {
            Field::Int => {}
            Field::Text => {
                self.skip_text();
            }
            Field::Texts => {
                if self.skip_text() {
                    return Some(Place::Entry { field });
                }
            }
            Field::Offset => {
                if *self.gathered.first()? != NO_DATA {
                    self.blocks_left += 1;
                }
                self.entries_left -= 1;
                return Some(self.entry_or_data());
            }
        }
        Some(Place::Entry { field: field + 1 })
    }

    /// Returns the kind of an entry's field: id, has data, table's oid, oid, tag, kind, section, definition, drop statement,
    /// copy statement, schema, tablespace, access method, relation's kind, owner, with oids, dependencies, offset.
    fn entry_field(&self, field: usize) -> Option<Field> {
        use Field::{Int, Offset, Text, Texts};
        const FIELDS: &[(u8, Field)] = &[
            (0, Int),
            (0, Int),
            (0, Text),
            (0, Text),
            (0, Text),
            (0, Text),
            (11, Int),
            (0, Text),
            (0, Text),
            (0, Text),
            (0, Text),
            (0, Text),
            (14, Text),
            (16, Int),
            (0, Text),
            (0, Text),
            (0, Texts),
            (0, Offset),
        ];
        FIELDS.iter().filter(|(since, _)| *since <= self.version).nth(field).map(|&(_, field)| field)
    }

    fn entry_or_data(&self) -> Place {
        if self.entries_left > 0 { Place::Entry { field: 0 } } else { Place::Block }
    }

    /// Skips a string's bytes and returns whether there is a string.
    fn skip_text(&mut self) -> bool {
        let length = self.int();
        self.skip = length.unwrap_or(0);
        length.is_some()
    }

    /// Skips a chunk's bytes and returns whether there is a chunk, or `None` if its length can't be.
    fn skip_chunk(&mut self) -> Option<bool> {
        self.skip = self.int()?;
        Some(self.skip > 0)
    }

    /// Returns the int that was gathered, or `None` if it is negative.
    fn int(&self) -> Option<u64> {
        let (sign, digits) = self.gathered.split_first()?;
        let value = digits.iter().rev().fold(0u64, |value, &digit| value << 8 | u64::from(digit));
        (*sign == 0 || value == 0).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [&[u8]; 2] =
        [include_bytes!("../../golden/pg_dump-15-plain.dump"), include_bytes!("../../golden/pg_dump-15-gzip.dump")];

    fn course(bytes: &[u8]) -> Course {
        let mut walk = Walk::default();
        walk.feed(bytes);
        walk.course()
    }

    #[test]
    fn a_real_archive_is_whole_however_it_is_cut_into_pieces() {
        for archive in GOLDEN {
            for piece_bytes in [1, 2, 3, 5, 11, 64, 1000, archive.len()] {
                let mut walk = Walk::default();
                archive.chunks(piece_bytes).for_each(|piece| walk.feed(piece));
                assert_eq!(walk.course(), Course::Whole, "pieces of {piece_bytes}");
                assert!(walk.gathered.capacity() < 64);
            }
        }
    }

    #[test]
    fn every_beginning_of_a_real_archive_is_cut() {
        for archive in GOLDEN {
            for end in MAGIC.len()..archive.len() {
                assert!(matches!(course(&archive[..end]), Course::Cut(_)), "{end} of {} bytes", archive.len());
            }
            assert_eq!(course(&archive[..4]), Course::Foreign);
        }
    }

    #[test]
    fn bytes_behind_the_last_block_are_not_understood() {
        assert_eq!(course(&[GOLDEN[0], b"\x01"].concat()), Course::Lost);
    }

    #[test]
    fn foreign_bytes_and_unknown_versions_claim_nothing() {
        assert_eq!(course(b""), Course::Foreign);
        assert_eq!(course(b"-- PostgreSQL database dump"), Course::Foreign);
        assert_eq!(course(b"PGDMP\x01\x0e\x00\x04\x08\x03"), Course::Lost, "a tar's table of contents");
        assert_eq!(course(b"PGDMP\x01\x11\x00\x04\x08\x01rest"), Course::Lost, "version 1.17");
        assert_eq!(course(b"PGDMP\x01\x0e\x00\xff\x08\x01rest"), Course::Lost, "255 bytes to an int");
    }

    #[test]
    fn all_known_versions_are_walked_to_their_end() {
        for version in VERSIONS_KNOWN {
            let archive = archive_of_version(version);
            assert_eq!(course(&archive), Course::Whole, "version 1.{version}");
            for end in MAGIC.len()..archive.len() {
                assert!(matches!(course(&archive[..end]), Course::Cut(_)), "version 1.{version}, {end} bytes");
            }
        }
    }

    #[test]
    fn compression_is_read_from_the_header() {
        let check = |version: u8, rest: &[u8], algorithm: Option<&str>| {
            let head = [b"PGDMP\x01", &[version, 0, 4, 8, 1][..], rest].concat();
            assert_eq!(version_and_compression(&head), (version, algorithm), "{head:?}");
        };
        check(14, &[0, 0, 0, 0, 0], None);
        check(14, &[1, 1, 0, 0, 0], Some("gzip"));
        check(14, &[0, 9, 0, 0, 0], Some("gzip"));
        check(15, &[0, 9, 9, 9, 9], None);
        check(15, &[1], Some("gzip"));
        check(16, &[2], Some("lz4"));
        check(16, &[3], Some("zstd"));
        check(16, &[], None);
    }

    /// Writes an archive with a table, a view and large objects in the layout of this version.
    fn archive_of_version(version: u8) -> Vec<u8> {
        let int = |value: u8| vec![0, value, 0, 0, 0];
        let text = |value: &str| [int(value.len() as u8), value.into()].concat();
        let none = vec![1, 1, 0, 0, 0];
        let mut bytes = [b"PGDMP\x01".to_vec(), vec![version, 0, 4, 8, 1]].concat();
        bytes.extend(if version >= 15 { vec![0] } else { int(0) });
        bytes.extend(int(1).repeat(7));
        bytes.extend([text("app"), text("17.0"), text("17.0"), int(3)].concat());
        for (id, has_data) in [(1, true), (2, false), (3, true)] {
            bytes.extend(
                [int(id), int(has_data.into()), text("1259"), text("16"), text("t"), text("TABLE DATA")].concat(),
            );
            bytes.extend(if version >= 11 { int(3) } else { vec![] });
            bytes.extend([text(""), none.clone(), text("COPY t"), text("public"), none.clone()].concat());
            bytes.extend(if version >= 14 { text("heap") } else { vec![] });
            bytes.extend(if version >= 16 { int(b'r') } else { vec![] });
            bytes.extend([text("owner"), text("false"), text("1"), text("2"), none.clone()].concat());
            bytes.extend([if has_data { 1 } else { NO_DATA }, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes.extend([vec![BLOCK_ROWS], int(1), text("1\n"), text("2\n"), int(0)].concat());
        bytes.extend(
            [vec![BLOCK_LARGE_OBJECTS], int(3), int(77), text("blob"), int(0), int(78), int(0), int(0)].concat(),
        );
        bytes
    }
}
