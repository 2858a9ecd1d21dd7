//! What a stream looks like, told from its first bytes.

use super::archive;
use std::fmt;

/// What a stream looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `pg_dump`, plain text.
    PgDump,
    /// `pg_dumpall`, plain text.
    PgDumpAll,
    /// `mysqldump` or `mariadb-dump`.
    MySqlDump,
    /// `pg_dump -Fc`.
    PgArchive {
        /// The archive format's minor version, 14 for 1.14; the major one is always 1.
        version: u8,
        /// Its compression: "gzip", "lz4" or "zstd".
        compression: Option<&'static str>,
    },
    /// Something compressed, by this program.
    Compressed(&'static str),
    /// Something encrypted, by this program.
    Encrypted(&'static str),
    /// None of these.
    Unknown,
}

const PG_DUMP_BEGIN: &[u8] = b"-- PostgreSQL database dump";
const PG_DUMP_END: &str = "-- PostgreSQL database dump complete";
const PG_DUMPALL_BEGIN: &[u8] = b"-- PostgreSQL database cluster dump";
const PG_DUMPALL_END: &str = "-- PostgreSQL database cluster dump complete";
const MYSQL_BEGIN: &[&[u8]] = &[b"-- MySQL dump ", b"-- MariaDB dump "];
const MYSQL_END: &str = "-- Dump completed";

/// First bytes, the program that writes them, and whether it encrypts.
const MAGIC: &[(&[u8], &str, bool)] = &[
    (b"\x1f\x8b", "gzip", false),
    (b"\x28\xb5\x2f\xfd", "zstd", false),
    (b"\xfd7zXZ\0", "xz", false),
    (b"BZh", "bzip2", false),
    (b"\x04\x22\x4d\x18", "lz4", false),
    (b"PK\x03\x04", "zip", false),
    (b"Salted__", "openssl", true),
    (b"age-encryption.org/v1", "age", true),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "age", true),
    (b"-----BEGIN PGP MESSAGE-----", "gpg", true),
];

/// A marker must stand in the first lines: text that merely quotes a dump is no dump.
const HEAD_LINES_MAX: usize = 8;

impl Format {
    /// Tells a stream's format from its head: its first [`EDGE_BYTES`](super::EDGE_BYTES), or all of it if it is shorter.
    pub fn of(head: &[u8]) -> Format {
        if head.starts_with(archive::MAGIC) {
            let (version, compression) = archive::version_and_compression(head);
            return Format::PgArchive { version, compression };
        }
        for &(magic, program, encrypts) in MAGIC {
            if head.starts_with(magic) {
                return if encrypts { Format::Encrypted(program) } else { Format::Compressed(program) };
            }
        }
        if is_gpg_binary(head) {
            return Format::Encrypted("gpg");
        }
        let lines = head.split(|&byte| byte == b'\n').take(HEAD_LINES_MAX);
        lines
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .find_map(Format::of_first_line)
            .unwrap_or(Format::Unknown)
    }

    fn of_first_line(line: &[u8]) -> Option<Format> {
        [Format::PgDump, Format::PgDumpAll, Format::MySqlDump].into_iter().find(|format| format.begins_with_line(line))
    }

    /// Returns whether this line stands at a dump's begin.
    pub(super) fn begins_with_line(self, line: &[u8]) -> bool {
        match self {
            Format::PgDump => line == PG_DUMP_BEGIN,
            Format::PgDumpAll => line == PG_DUMPALL_BEGIN,
            Format::MySqlDump => MYSQL_BEGIN.iter().any(|begin| line.starts_with(begin)),
            _ => false,
        }
    }

    /// Returns whether this line stands at a whole dump's end.
    pub(super) fn ends_with_line(self, line: &[u8]) -> bool {
        match self {
            Format::PgDump => line == PG_DUMP_END.as_bytes(),
            Format::PgDumpAll => line == PG_DUMPALL_END.as_bytes(),
            Format::MySqlDump => {
                line.strip_prefix(MYSQL_END.as_bytes()).is_some_and(|date| date.is_empty() || date.starts_with(b" on "))
            }
            _ => false,
        }
    }

    /// Returns what a whole dump ends with, where the format has such a thing.
    pub(super) fn end_marker(self) -> Option<&'static str> {
        match self {
            Format::PgDump => Some(PG_DUMP_END),
            Format::PgDumpAll => Some(PG_DUMPALL_END),
            Format::MySqlDump => Some(MYSQL_END),
            _ => None,
        }
    }

    /// Returns what the user should know of a dump in this format.
    pub(super) fn warnings(self) -> Vec<String> {
        let warning = match self {
            Format::PgArchive { compression: Some(algorithm), .. } => format!(
                "the archive is already compressed ({algorithm}), so that hardly anything of it can be deduplicated; add -Z0 \
                 to pg_dump: dedump compresses itself"
            ),
            Format::Compressed(program) => format!(
                "the dump is already compressed ({program}), so that hardly anything of it can be deduplicated; leave \
                 {program} away: dedump compresses itself"
            ),
            Format::Encrypted(program) => format!(
                "the dump is already encrypted ({program}), so that nothing of it can be deduplicated or compressed; leave \
                 {program} away: dedump encrypts itself"
            ),
            _ => return Vec::new(),
        };
        vec![warning]
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::PgDump => write!(f, "pg_dump text"),
            Format::PgDumpAll => write!(f, "pg_dumpall text"),
            Format::MySqlDump => write!(f, "mysqldump text"),
            Format::PgArchive { version, compression: None } => write!(f, "pg_dump archive 1.{version}"),
            Format::PgArchive { version, compression: Some(algorithm) } => {
                write!(f, "pg_dump archive 1.{version} ({algorithm})")
            }
            Format::Compressed(program) | Format::Encrypted(program) => write!(f, "{program}"),
            Format::Unknown => write!(f, "unknown"),
        }
    }
}

/// Recognises OpenPGP's packets 1 and 3 (a session key, public-key or symmetric) by tag, plausible length and version
/// (RFC 9580, §4.2 and §5).
fn is_gpg_binary(head: &[u8]) -> bool {
    // Symmetric (3), then public-key (1), with old and new length encodings.
    matches!(*head, [0x8c, 1..=200, 4..=6, ..] | [0xc3, 1..=191, 4..=6, ..])
        || matches!(*head, [0x84, _, 3 | 6, ..] | [0x85, 0..=8, _, 3 | 6, ..])
        || matches!(*head, [0xc1, 1..=191, 3 | 6, ..] | [0xc1, 192..=223, _, 3 | 6, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_from_their_first_bytes() {
        let check = |head: &[u8], name: &str| assert_eq!(Format::of(head).to_string(), name, "{head:?}");
        check(b"", "unknown");
        check(b"\x1f\x8b\x08\0", "gzip");
        check(b"\x28\xb5\x2f\xfd\x04", "zstd");
        check(b"\xfd7zXZ\0\0", "xz");
        check(b"BZh91AY", "bzip2");
        check(b"\x04\x22\x4d\x18\x64", "lz4");
        check(b"PK\x03\x04\x14", "zip");
        check(b"Salted__12345678", "openssl");
        check(b"age-encryption.org/v1\n-> X25519", "age");
        check(b"-----BEGIN PGP MESSAGE-----\n", "gpg");
        check(b"\x8c\x0d\x04\x09\x03\x08", "gpg");
        check(b"\x85\x01\x0c\x03\x12", "gpg");
        check(b"--\n-- PostgreSQL database dump\n--\n", "pg_dump text");
        check(b"--\n-- PostgreSQL database cluster dump\n--\n", "pg_dumpall text");
        check(b"-- MySQL dump 10.13  Distrib 8.0.36\n", "mysqldump text");
        check(b"-- mysql> select 1\n", "unknown");
        check(b"-- PostgreSQL database dumps, explained\n", "unknown");
        check("é".as_bytes(), "unknown");
    }

    #[test]
    fn compressed_and_encrypted_input_is_named_with_the_way_out() {
        let check = |format: Format, parts: [&str; 2]| {
            let warnings = format.warnings().join("\n");
            assert!(parts.iter().all(|part| warnings.contains(part)), "{format:?}: {warnings}");
        };
        check(Format::PgArchive { version: 14, compression: Some("gzip") }, ["(gzip)", "add -Z0 to pg_dump"]);
        check(Format::Compressed("zstd"), ["(zstd)", "leave zstd away"]);
        check(Format::Encrypted("age"), ["(age)", "leave age away"]);
        assert!(Format::PgArchive { version: 14, compression: None }.warnings().is_empty());
    }
}
