//! Gates: what a dump's own bytes say about whether it is whole.
//!
//! An exit status is the first witness, the content the second. Some dump tools end their output with a marker; a dump
//! that begins like theirs and lacks the marker was cut off. Where there is no marker, and where the content is
//! compressed or encrypted already, the user is told.
//!
//! A [`Watch`] sees every byte once, as it passes, and keeps [`EDGE_BYTES`] from either end: its cost per byte is next to
//! nothing and its memory is fixed.

mod archive;
mod expected;
mod format;

pub use expected::Expected;
pub use format::Format;

use archive::{Course, Walk};

/// What is kept of a stream's head and of its tail, in bytes. An end marker must lie within that many bytes of the end.
pub const EDGE_BYTES: usize = 1024;

/// Watches the bytes of one stream pass by.
#[derive(Debug, Default)]
pub struct Watch {
    bytes: u64,
    head: Vec<u8>,
    /// The last bytes: at least the last `EDGE_BYTES`, at most twice as many.
    tail: Vec<u8>,
    walk: Walk,
}

/// What the gates found in a stream that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What the stream looks like.
    pub format: Format,
    /// Whether the content itself proves that nothing is missing at its end.
    pub proven_whole: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Watch {
    /// Takes note of the stream's next bytes.
    pub fn feed(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let room = EDGE_BYTES - self.head.len();
        self.head.extend_from_slice(&piece[..room.min(piece.len())]);
        if piece.len() >= EDGE_BYTES {
            self.tail.clear();
        } else if self.tail.len() + piece.len() > 2 * EDGE_BYTES {
            self.tail.drain(..self.tail.len() - EDGE_BYTES);
        }
        self.tail.extend_from_slice(&piece[piece.len().saturating_sub(EDGE_BYTES)..]);
        self.walk.feed(piece);
    }

    /// Returns how many bytes passed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Judges the stream, which has ended.
    ///
    /// # Errors
    /// One line that says why the stream is not the whole dump that it should be.
    pub fn judge(&self, expected: Expected) -> Result<Judgement, String> {
        let format = Format::of(&self.head);
        expected.check(format)?;
        let mut judgement = Judgement { format, proven_whole: false, warnings: format.warnings() };
        if let Some(marker) = format.end_marker() {
            self.check_end_marker(format, marker)?;
            judgement.proven_whole = true;
        }
        match self.walk.course() {
            Course::Foreign => {}
            Course::Whole => judgement.proven_whole = true,
            Course::Cut(why) => return Err(incomplete(&format!("the {format} {why}"))),
            Course::Lost => judgement.warnings.push(format!(
                "the {format} is of a version that dedump can't follow to its end, so only the exit status says that it \
                 is whole; try it with pg_restore --list"
            )),
        }
        Ok(judgement)
    }

    fn check_end_marker(&self, format: Format, marker: &str) -> Result<(), String> {
        let mut ended = false;
        let tail = &self.tail[self.tail.len().saturating_sub(EDGE_BYTES)..];
        for line in tail.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if format.ends_with_line(line) {
                ended = true;
            } else if format.begins_with_line(line) {
                ended = false; // another dump begins behind the marker
            }
        }
        if ended { Ok(()) } else { Err(incomplete(&format!("it begins as {format} and does not end with {marker:?}"))) }
    }
}

fn incomplete(why: &str) -> String {
    format!("the dump is incomplete: {why}; run it again and look at its messages")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PG_HEAD: &str =
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict x7\n\n-- Dumped from database version 15.18\n";
    const PG_END: &str = "--\n-- PostgreSQL database dump complete\n--\n\n";
    const ALL_HEAD: &str = "--\n-- PostgreSQL database cluster dump\n--\n\nSET default_transaction_read_only = off;\n";
    const ALL_END: &str = "--\n-- PostgreSQL database cluster dump complete\n--\n\n";

    fn judge(parts: &[&str]) -> Result<Judgement, String> {
        let mut watch = Watch::default();
        parts.iter().for_each(|part| watch.feed(part.as_bytes()));
        watch.judge(Expected::Anything)
    }

    #[track_caller]
    fn whole(format: Format, parts: &[&str]) {
        let judgement = judge(parts).expect("a whole dump");
        assert_eq!(judgement, Judgement { format, proven_whole: true, warnings: vec![] });
    }

    #[track_caller]
    fn cut(parts: &[&str]) {
        let why = judge(parts).expect_err("a dump without its end");
        assert!(why.starts_with("the dump is incomplete: it begins as "), "{why}");
    }

    #[test]
    fn pg_dump_text_must_end_with_its_marker() {
        let rows = "1\tone\n".repeat(5000);
        whole(Format::PgDump, &[PG_HEAD, &rows, PG_END]);
        whole(Format::PgDump, &[PG_HEAD, PG_END]);
        whole(Format::PgDump, &[PG_HEAD, &rows, PG_END, "\\unrestrict x7\n\n"]);
        whole(Format::PgDump, &[&PG_HEAD.replace('\n', "\r\n"), &PG_END.replace('\n', "\r\n")]);
        cut(&[PG_HEAD, &rows]);
        cut(&[PG_HEAD, &rows, "--\n-- PostgreSQL database dump comp"]);
        cut(&[PG_HEAD, PG_END, &rows]);
        cut(&[PG_HEAD]);
    }

    #[test]
    fn a_second_dump_behind_the_marker_must_end_as_well() {
        whole(Format::PgDump, &[PG_HEAD, PG_END, PG_HEAD, PG_END]);
        cut(&[PG_HEAD, PG_END, PG_HEAD]);
    }

    #[test]
    fn pg_dumpall_is_not_whole_after_its_first_database() {
        whole(Format::PgDumpAll, &[ALL_HEAD, PG_HEAD, PG_END, PG_HEAD, PG_END, ALL_END]);
        cut(&[ALL_HEAD, PG_HEAD, PG_END]);
        cut(&[ALL_HEAD]);
    }

    #[test]
    fn mysqldump_and_mariadb_dump_must_end_with_their_marker() {
        let head = "-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n--\n-- Host: localhost    Database: app\n";
        let maria = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19  Distrib 10.11.11-MariaDB\n--\n";
        let rows = "INSERT INTO `t` VALUES (1),(2);\n".repeat(100);
        whole(Format::MySqlDump, &[head, &rows, "-- Dump completed on 2025-01-31 12:00:00\n"]);
        whole(Format::MySqlDump, &[maria, &rows, "-- Dump completed\n"]);
        cut(&[head, &rows]);
        cut(&[maria, &rows, "-- Dump comp"]);
        cut(&[head, &rows, "INSERT INTO `t` VALUES ('-- Dump completed');\n"]);
    }

    #[test]
    fn the_end_is_found_however_the_bytes_are_cut_into_pieces() {
        let text = format!("{PG_HEAD}{}{PG_END}", "x\n".repeat(3000));
        for piece_bytes in [1, 7, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 100_000] {
            let mut watch = Watch::default();
            text.as_bytes().chunks(piece_bytes).for_each(|piece| watch.feed(piece));
            assert_eq!(watch.bytes(), text.len() as u64);
            assert!(watch.tail.len() <= 2 * EDGE_BYTES);
            assert!(watch.tail.ends_with(&text.as_bytes()[text.len() - EDGE_BYTES..]), "pieces of {piece_bytes}");
            assert!(watch.judge(Expected::Anything).expect("whole").proven_whole, "pieces of {piece_bytes}");
        }
    }

    #[test]
    fn real_dumps_of_postgresql_15_are_whole() {
        let check = |bytes: &[u8], format: &str, warnings_n: usize| {
            let mut watch = Watch::default();
            watch.feed(bytes);
            let judgement = watch.judge(Expected::Anything).expect("a whole dump");
            assert!(judgement.proven_whole);
            assert_eq!(judgement.format.to_string(), format);
            assert_eq!(judgement.warnings.len(), warnings_n, "{:?}", judgement.warnings);
        };
        check(include_bytes!("../../golden/pg_dump-15.sql"), "pg_dump text", 0);
        check(include_bytes!("../../golden/pg_dumpall-15.sql"), "pg_dumpall text", 0);
        check(include_bytes!("../../golden/pg_dump-15-plain.dump"), "pg_dump archive 1.14", 0);
        check(include_bytes!("../../golden/pg_dump-15-gzip.dump"), "pg_dump archive 1.14 (gzip)", 1);
    }

    #[test]
    fn an_archive_that_was_cut_off_is_incomplete() {
        let archive = include_bytes!("../../golden/pg_dump-15-plain.dump");
        let mut watch = Watch::default();
        watch.feed(&archive[..archive.len() - 1]);
        let why = watch.judge(Expected::Anything).expect_err("a byte is missing");
        assert!(why.starts_with("the dump is incomplete: the pg_dump archive 1.14 ends within its data"), "{why}");
    }

    #[test]
    fn a_stream_of_no_known_format_passes_and_proves_nothing() {
        let judgement = judge(&["id,name\n1,one\n"]).expect("no gate");
        assert_eq!(judgement, Judgement { format: Format::Unknown, proven_whole: false, warnings: vec![] });
    }
}
