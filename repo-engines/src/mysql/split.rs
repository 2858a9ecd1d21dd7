//! Takes the dump tool's output apart, as it passes: which table, view or sequence each line belongs to.
//!
//! The tool dumps all databases in one transaction into one output. It says in comments what comes next, and a comment is only
//! one at the begin of a line that is not amid a quoted text: so the lines of definitions are read for their quotes. Rows are
//! never read: the tool escapes line ends in them, so that each is one line. Bodies of triggers, routines and events, in which
//! anything may stand, are not in this output: the tool dumps them by runs of their own.

/// What a part of the output is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Section {
    /// A database begins, or goes on.
    Database(String),
    /// The definition of a table; its rows follow.
    Table(String),
    /// The rows of the table that has just been defined.
    Rows(String),
    Sequence(String),
    /// A stand-in for a view, until all that the view needs is there.
    ViewStandIn(String),
    View(String),
    /// What sets the session back at the end.
    Tail,
}

/// What is found, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A section begins; the one before it had these rows.
    Begin(Section, Rows),
    /// Bytes of the section, or of the head before the first one.
    Bytes(&'a [u8]),
    /// A line that tells something of the whole dump.
    Told(Told),
}

/// Rows that have passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) rows_n: u64,
    /// Length of the longest one, as the statement that it is.
    pub(super) bytes_max: u64,
}

/// Takes what is found.
pub(super) type Found<'f> = dyn FnMut(Piece<'_>) -> Result<(), String> + Send + 'f;

/// What a dump tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// The binary log's file and position.
    Position(String, String),
    Gtid(String),
    /// A condition that leaves rows out.
    Where,
    Completed,
}

/// A line that may be a comment is held until its end; none of the tool's is longer.
const COMMENT_BYTES_MAX: usize = 16 * 1024;
const ROW: &[u8] = b"INSERT INTO `";

/// Reads the output as it comes.
#[derive(Default)]
pub(super) struct Splitter {
    /// The begin of a line, held until it is known what it is.
    held: Vec<u8>,
    line: Line,
    /// The quote that is open at this place of a definition.
    quote: Option<u8>,
    /// The next byte is escaped.
    is_escaped: bool,
    has_begun: bool,
    /// Rows of this section, and the bytes of the one that is being read.
    rows: Rows,
    row_bytes: u64,
}

/// What the line is that is being read.
#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Line {
    /// Not known yet: at its begin.
    #[default]
    Unknown,
    Row,
    Definition,
}

impl Splitter {
    /// Takes the next bytes; hands what is found to `found`.
    ///
    /// # Errors
    /// Why this is no output of the tool's that can be taken apart.
    pub(super) fn feed(&mut self, mut bytes: &[u8], found: &mut Found<'_>) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.line == Line::Unknown {
                bytes = self.begin_of_line(bytes, found)?;
                continue;
            }
            let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let (piece, rest) = bytes.split_at(end);
            self.pass(piece, found)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the output; returns the rows of its last section.
    ///
    /// # Errors
    /// It ends amid a line.
    pub(super) fn end(&mut self) -> Result<Rows, String> {
        match self.line == Line::Unknown && self.held.is_empty() && self.quote.is_none() {
            true => Ok(std::mem::take(&mut self.rows)),
            false => Err("the dump ends amid a line".to_owned()),
        }
    }

    /// Holds the begin of a line until it is known what it is; returns what is left.
    fn begin_of_line<'a>(&mut self, bytes: &'a [u8], found: &mut Found<'_>) -> Result<&'a [u8], String> {
        if self.quote.is_some() {
            self.line = Line::Definition;
            return Ok(bytes);
        }
        let is_comment = |held: &[u8]| held.starts_with(b"-- ") || held == b"--\n";
        let wanted = if is_comment(&self.held) { COMMENT_BYTES_MAX } else { ROW.len() };
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let (taken, rest) = bytes.split_at(end.min(wanted - self.held.len()));
        self.held.extend_from_slice(taken);
        let is_whole = self.held.ends_with(b"\n");
        if is_comment(&self.held) {
            if is_whole {
                let line = std::mem::take(&mut self.held);
                self.comment(&line[..line.len() - 1], found)?;
            } else if self.held.len() == COMMENT_BYTES_MAX {
                return Err("a comment in the dump is longer than any of the tool's".to_owned());
            }
            return Ok(rest);
        }
        if !is_whole && self.held.len() < ROW.len() {
            return Ok(rest);
        }
        let held = std::mem::take(&mut self.held);
        self.row_bytes = 0;
        self.line = if held == ROW { Line::Row } else { Line::Definition };
        let other_rows = [&b"REPLACE "[..], b"INSERT"].iter().any(|begin| held.starts_with(begin));
        if self.line == Line::Definition && other_rows {
            return Err(
                "rows are not written as INSERT INTO; an option file of the tool's changes that, so take it out there"
                    .to_owned(),
            );
        }
        if self.has_begun && held.starts_with(b"/*!40103 SET") {
            self.begin(Section::Tail, found)?;
        }
        self.pass(&held, found)?;
        Ok(rest)
    }

    /// Passes a piece of a line on.
    fn pass(&mut self, piece: &[u8], found: &mut Found<'_>) -> Result<(), String> {
        if self.line == Line::Row {
            self.row_bytes += piece.len() as u64;
        } else {
            self.read_quotes(piece);
        }
        if piece.ends_with(b"\n") {
            if self.line == Line::Row {
                self.rows.rows_n += 1;
                self.rows.bytes_max = self.rows.bytes_max.max(self.row_bytes);
            }
            self.line = Line::Unknown;
        }
        found(Piece::Bytes(piece))
    }

    fn read_quotes(&mut self, piece: &[u8]) {
        for &byte in piece {
            match self.quote {
                _ if self.is_escaped => self.is_escaped = false,
                Some(b'\'' | b'"') if byte == b'\\' => self.is_escaped = true,
                // A doubled quote closes it and opens it again.
                Some(quote) if byte == quote => self.quote = None,
                None if matches!(byte, b'\'' | b'"' | b'`') => self.quote = Some(byte),
                _ => {}
            }
        }
    }

    fn begin(&mut self, section: Section, found: &mut Found<'_>) -> Result<(), String> {
        self.has_begun = true;
        found(Piece::Begin(section, std::mem::take(&mut self.rows)))
    }

    /// Reads a comment. All of them are left out: what they tell that matters is known elsewhere.
    fn comment(&mut self, line: &[u8], found: &mut Found<'_>) -> Result<(), String> {
        type Make = fn(String) -> Section;
        const SECTIONS: [(&[u8], Make); 8] = [
            (b"-- Current Database: ", Section::Database),
            (b"-- Table structure for table ", Section::Table),
            (b"-- Dumping data for table ", Section::Rows),
            (b"-- Sequence structure for ", Section::Sequence),
            (b"-- Temporary table structure for view ", Section::ViewStandIn),
            (b"-- Temporary view structure for view ", Section::ViewStandIn),
            (b"-- Final view structure for view ", Section::View),
            (b"-- View structure for view ", Section::View),
        ];
        for (begin, make) in SECTIONS {
            let Some(rest) = line.strip_prefix(begin) else { continue };
            let name = super::text::quoted(rest).filter(|(_, rest)| rest.is_empty());
            let (name, _) = name.ok_or_else(|| format!("what is {:?} in the dump?", String::from_utf8_lossy(line)))?;
            return self.begin(make(name), found);
        }
        if line.starts_with(b"-- WHERE:") {
            return found(Piece::Told(Told::Where));
        }
        if line == b"-- Dump completed" || line.starts_with(b"-- Dump completed on ") {
            return found(Piece::Told(Told::Completed));
        }
        let text = String::from_utf8_lossy(line);
        let between = |after: &str| Some(text.split_once(after)?.1.split_once('\'')?.0.to_owned());
        if let Some((_, position)) = text.split_once("_LOG_POS=") {
            let file = between("_LOG_FILE='").unwrap_or_default();
            let position = position.chars().take_while(char::is_ascii_digit).collect();
            return found(Piece::Told(Told::Position(file, position)));
        }
        match between("gtid_slave_pos='") {
            Some(gtid) => found(Piece::Told(Told::Gtid(gtid))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each section as text, with its rows; and what was told.
    type Parts = (Vec<(String, String, u64)>, Vec<Told>);

    /// Takes a dump apart that comes in pieces of this many bytes.
    fn split(dump: &[u8], bytes_n: usize) -> Result<Parts, String> {
        let mut splitter = Splitter::default();
        let (mut sections, mut told) = (vec![("head".to_owned(), String::new(), 0)], Vec::new());
        for piece in dump.chunks(bytes_n) {
            splitter.feed(piece, &mut |piece| {
                match piece {
                    Piece::Begin(section, rows) => {
                        sections.last_mut().expect("one").2 = rows.rows_n;
                        sections.push((format!("{section:?}"), String::new(), 0));
                    }
                    Piece::Bytes(bytes) => {
                        sections.last_mut().expect("one").1.push_str(&String::from_utf8_lossy(bytes));
                    }
                    Piece::Told(what) => told.push(what),
                }
                Ok(())
            })?;
        }
        splitter.end()?;
        Ok((sections, told))
    }

    const DUMP: &str = "-- MariaDB dump 10.19\n--\n/*!40101 SET NAMES utf8mb4 */;\n\n--\n\
        -- CHANGE MASTER TO MASTER_LOG_FILE='bin.000002', MASTER_LOG_POS=1563;\n--\n-- Current Database: `a``b`\n--\n\n\
        CREATE DATABASE `a``b`;\n--\n-- Table structure for table `t`\n--\n\nCREATE TABLE `t` (\n  `x` int COMMENT 'it''s \\'\n\
        -- Dump completed\n-- Current Database: `x`\n'\n);\n\n--\n-- Dumping data for table `t`\n--\n-- ORDER BY:  `x`\n\n\
        INSERT INTO `t` VALUES (1,'-- \\' `');\nINSERT INTO `t` VALUES (2,'\"');\n\n--\n-- Final view structure for view `v`\n--\n\
        CREATE VIEW `v` AS select '`' AS `x`;\n-- SET GLOBAL gtid_slave_pos='0-1-8';\n/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\n-- Dump completed\n";

    #[test]
    fn a_dump_is_taken_apart_however_it_comes() {
        let (whole, told) = split(DUMP.as_bytes(), usize::MAX).expect("good");
        let names: Vec<&str> = whole.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["head", "Database(\"a`b\")", "Table(\"t\")", "Rows(\"t\")", "View(\"v\")", "Tail"]);
        let gtid = Told::Gtid("0-1-8".to_owned());
        let position = Told::Position("bin.000002".to_owned(), "1563".to_owned());
        assert_eq!(told, [position, gtid, Told::Completed]);
        assert!(whole[2].1.contains("-- Dump completed\n-- Current Database: `x`\n'\n);"), "{:?}", whole[2]);
        assert_eq!(whole[3].1, "\nINSERT INTO `t` VALUES (1,'-- \\' `');\nINSERT INTO `t` VALUES (2,'\"');\n\n");
        assert_eq!(whole[3].2, 2, "rows");
        for bytes_n in 1..DUMP.len() {
            assert_eq!(split(DUMP.as_bytes(), bytes_n), Ok((whole.clone(), told.clone())), "{bytes_n}");
        }
    }

    #[test]
    fn what_mysqls_own_tool_writes_is_taken_apart_too() {
        let dump = "-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n--\n-- Host: h    Database: app\n-- Server version\t8.0.36\n\n\
            /*!50503 SET NAMES utf8mb4 */;\n--\n-- Position to start replication or point-in-time recovery from\n--\n\n\
            -- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000004', SOURCE_LOG_POS=157;\n\n--\n-- Current Database: `app`\n--\n\n\
            CREATE DATABASE /*!32312 IF NOT EXISTS*/ `app` /*!40100 DEFAULT CHARACTER SET utf8mb4 */ /*!80016 DEFAULT ENCRYPTION='N' */;\n\n\
            USE `app`;\n\n--\n-- Table structure for table `t`\n--\n\n/*!50503 SET character_set_client = utf8mb4 */;\nCREATE TABLE `t` (\n  `id` int\n);\n\n\
            --\n-- Dumping data for table `t`\n--\n-- ORDER BY:  `id`\n\nINSERT INTO `t` (`id`) VALUES (1);\n\n\
            --\n-- Temporary view structure for view `v`\n--\n\n/*!50001 CREATE VIEW `v` AS SELECT \n 1 AS `id`*/;\n\n\
            --\n-- Final view structure for view `v`\n--\n\n/*!50001 VIEW `v` AS select 1 AS `id` */;\n\
            /*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\n-- Dump completed\n";
        let (sections, told) = split(dump.as_bytes(), 11).expect("good");
        let names: Vec<&str> = sections.iter().map(|(name, ..)| name.as_str()).collect();
        let expected =
            ["head", "Database(\"app\")", "Table(\"t\")", "Rows(\"t\")", "ViewStandIn(\"v\")", "View(\"v\")", "Tail"];
        assert_eq!(names, expected);
        assert_eq!(sections[3].2, 1);
        assert_eq!(told, [Told::Position("binlog.000004".to_owned(), "157".to_owned()), Told::Completed]);
    }

    #[test]
    fn what_is_no_dump_of_ours_is_refused() {
        for bad in [
            "INSERT  IGNORE INTO `t` VALUES (1);\n",
            "REPLACE INTO `t` VALUES (1);\n",
            "-- Current Database: `x\n",
            "-- Table structure for table t\n",
            "CREATE TABLE `t` (a int COMMENT 'x\n",
            "CREATE TABLE",
        ] {
            assert!(split(bad.as_bytes(), 7).is_err(), "{bad}");
        }
        let long = format!("-- {}", "x".repeat(COMMENT_BYTES_MAX));
        assert!(split(long.as_bytes(), 100).is_err());
    }
}
