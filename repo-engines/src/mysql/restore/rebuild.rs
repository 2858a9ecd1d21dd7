//! Makes long statements of the rows that were dumped one a statement, and adapts definitions to where they go.

use crate::mysql::text;

/// How definitions are adapted.
#[derive(Debug, Clone, Default)]
pub(super) struct Adapt {
    /// The database that was dumped, and the one that its sequences are in now.
    pub(super) sequences: (String, String),
    /// Of tables that are restored alone: their names, and the database that has the others, to which foreign keys lead.
    pub(super) others: Option<(Vec<String>, String)>,
}

/// Rebuilds a table's stream as it passes.
pub(super) struct Rebuild {
    adapt: Adapt,
    statement_bytes_max: usize,
    /// A line that has not come to its end yet.
    held: Vec<u8>,
    /// What the statement that is open begins with, up to its first row; empty: none is open.
    front: Vec<u8>,
    statement_bytes: usize,
}

const ROW: &[u8] = b"INSERT INTO `";
const ROW_END: &[u8] = b");\n";

impl Rebuild {
    /// Creates one that makes statements of so many bytes at most, but for rows that are longer alone.
    pub(super) fn new(adapt: Adapt, statement_bytes_max: usize) -> Rebuild {
        Rebuild { adapt, statement_bytes_max, held: Vec::new(), front: Vec::new(), statement_bytes: 0 }
    }

    /// Takes the next bytes, and appends what becomes of them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(at + 1);
            bytes = rest;
            if self.held.is_empty() {
                self.line(line, out);
            } else {
                self.held.extend_from_slice(line);
                let held = std::mem::take(&mut self.held);
                self.line(&held, out);
                // Its room serves for the next one.
                self.held = held;
                self.held.clear();
            }
        }
        self.held.extend_from_slice(bytes);
    }

    /// Ends the stream.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) {
        self.close(out);
        out.extend_from_slice(&self.held);
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let row = line.strip_suffix(ROW_END).filter(|line| line.starts_with(ROW));
        let Some(row) = row else {
            self.close(out);
            self.definition(line, out);
            return;
        };
        let is_same = !self.front.is_empty() && row.starts_with(&self.front);
        let row_bytes = row.len() + 1 - if is_same { self.front.len() } else { 0 };
        if is_same && self.statement_bytes + row_bytes + 2 <= self.statement_bytes_max {
            out.extend_from_slice(b",\n");
            out.extend_from_slice(&row[self.front.len()..]);
            out.push(b')');
            self.statement_bytes += row_bytes + 2;
            return;
        }
        self.close(out);
        let Some(front_bytes) = front(row) else {
            // Not as the tool writes it: as it is, then.
            out.extend_from_slice(line);
            return;
        };
        self.front.extend_from_slice(&row[..front_bytes]);
        out.extend_from_slice(row);
        out.push(b')');
        self.statement_bytes = row.len() + 1;
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if !self.front.is_empty() {
            out.extend_from_slice(b";\n");
            self.front.clear();
        }
    }

    fn definition(&mut self, line: &[u8], out: &mut Vec<u8>) {
        match self.adapt.line(line) {
            Some(adapted) => out.extend_from_slice(&adapted),
            None => out.extend_from_slice(line),
        }
    }
}

/// Returns the length of what stands before the first row: `` INSERT INTO `t` (`a`) VALUES ``.
fn front(row: &[u8]) -> Option<usize> {
    let (_, rest) = text::quoted(row.strip_prefix(b"INSERT INTO ")?)?;
    let mut rest = rest;
    if let Some(columns) = rest.strip_prefix(b" (") {
        rest = columns;
        loop {
            rest = match rest.first()? {
                b'`' => text::quoted(rest)?.1,
                b')' => break,
                _ => &rest[1..],
            };
        }
        rest = &rest[1..];
    }
    let rest = rest.strip_prefix(b" VALUES ")?;
    Some(row.len() - rest.len())
}

impl Adapt {
    /// Returns a line of a definition as it must be where it goes, if it must be another.
    fn line(&self, line: &[u8]) -> Option<Vec<u8>> {
        if line.starts_with(b"  `") {
            let (from, to) = &self.sequences;
            let replaced = |function: &str| {
                let find = format!(" DEFAULT {function}({}.", text::name(from));
                let at = memchr::memmem::find(line, find.as_bytes())?;
                let put = format!(" DEFAULT {function}({}.", text::name(to));
                Some([&line[..at], put.as_bytes(), &line[at + find.len()..]].concat())
            };
            return replaced("nextval").or_else(|| replaced("lastval"));
        }
        let (tables, others) = self.others.as_ref()?;
        if !line.starts_with(b"  CONSTRAINT `") {
            return None;
        }
        let find = b") REFERENCES ";
        let at = memchr::memmem::find(line, find)? + find.len();
        let (table, rest) = text::quoted(&line[at..])?;
        // One with a dot leads to another database already.
        if rest.starts_with(b".") || tables.contains(&table) {
            return None;
        }
        Some([&line[..at], format!("{}.", text::name(others)).as_bytes(), &line[at..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rebuilt(stream: &str, adapt: Adapt, bytes_max: usize, piece_bytes: usize) -> String {
        let mut rebuild = Rebuild::new(adapt, bytes_max);
        let mut out = Vec::new();
        stream.as_bytes().chunks(piece_bytes).for_each(|piece| rebuild.feed(piece, &mut out));
        rebuild.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    const ROWS: &str = "SET x;\nINSERT INTO `a``b` VALUES (1,'VALUES (');\nINSERT INTO `a``b` VALUES (2,'b;\\n');\n\
        INSERT INTO `a``b` (`c) VALUES (`, d) VALUES (3);\nINSERT INTO `a``b` (`c) VALUES (`, d) VALUES (4);\nDO 1;\n";

    #[test]
    fn rows_become_long_statements() {
        let expected = "SET x;\nINSERT INTO `a``b` VALUES (1,'VALUES ('),\n(2,'b;\\n');\n\
            INSERT INTO `a``b` (`c) VALUES (`, d) VALUES (3),\n(4);\nDO 1;\n";
        for piece_bytes in 1..=ROWS.len() {
            assert_eq!(rebuilt(ROWS, Adapt::default(), 1 << 20, piece_bytes), expected, "{piece_bytes}");
        }
        assert_eq!(rebuilt(ROWS, Adapt::default(), 0, 5), ROWS);
    }

    #[test]
    fn no_statement_is_longer_than_it_may_be() {
        let row = |number: usize| format!("INSERT INTO `t` VALUES ({number});\n");
        let stream: String = (0..1000).map(row).collect();
        let out = rebuilt(&stream, Adapt::default(), 100, 64);
        let statements: Vec<&str> = out.split_inclusive(";\n").collect();
        assert!(statements.iter().all(|statement| statement.len() <= 102), "{statements:?}");
        assert!(statements.len() < 150, "{}", statements.len());
        assert_eq!(out.matches('(').count(), 1000);
    }

    #[test]
    fn definitions_are_adapted() {
        let adapt = Adapt {
            sequences: ("app".to_owned(), "new".to_owned()),
            others: Some((vec!["own".to_owned()], "copy".to_owned())),
        };
        let check = |line: &str, expected: &str| assert_eq!(rebuilt(line, adapt.clone(), 0, 9), expected);
        check("  `a` int DEFAULT nextval(`app`.`s`),\n", "  `a` int DEFAULT nextval(`new`.`s`),\n");
        check("  `a` int DEFAULT nextval(`other`.`s`),\n", "  `a` int DEFAULT nextval(`other`.`s`),\n");
        let key =
            |table: &str| format!("  CONSTRAINT `k` FOREIGN KEY (`x`) REFERENCES {table} (`id`) ON DELETE CASCADE\n");
        check(&key("`t`"), &key("`copy`.`t`"));
        check(&key("`own`"), &key("`own`"));
        check(&key("`z`.`t`"), &key("`z`.`t`"));
    }
}
