//! The only file that writes to standard output and standard error.
//!
//! A result is printed in one piece when it is complete. Nobody reading it any more (`dedump snapshots | head`) is no
//! failure: what the command did stands, and so does its exit code.

// The lints keep prints out of everything else.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use crate::exit::Failure;
use std::io::{ErrorKind, Write, stderr, stdout};

/// Prints a command's result to standard output.
///
/// # Errors
/// It cannot be written, for another reason than that nobody reads it.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints one JSON document to standard output.
///
/// # Errors
/// Like [`print()`].
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Prints bytes to standard output.
///
/// # Errors
/// Like [`print()`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says what went wrong, in one line on standard error.
pub fn error(message: &str) {
    if !message.is_empty() {
        complain(message);
    }
}

/// Warns, in one line on standard error.
pub fn warning(message: &str) {
    complain(&format!("warning: {message}"));
}

/// Passes a line on to standard error as it is.
pub fn stderr_line(line: &str) {
    stderr_bytes(format!("{line}\n").as_bytes());
}

/// Passes bytes on to standard error, such as what a child says.
pub fn stderr_bytes(bytes: &[u8]) {
    // Nobody is left to tell that standard error is gone.
    let _ = stderr().write_all(bytes);
}

/// Prints clap's help, version or usage error, and ends the process: 0, or 2 for an error, which becomes one line.
pub fn end_with_clap(clap: &clap::Error) -> ! {
    match clap.use_stderr() && clap.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        true => error(&one_line(&clap.render().to_string())),
        // Help that nobody reads is no failure.
        false => drop(clap.print()),
    }
    std::process::exit(clap.exit_code());
}

/// Makes one line of clap's complaint and its tips, without the usage that it repeats.
fn one_line(complaint: &str) -> String {
    let told = complaint
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let mut line = told.filter(|part| !part.is_empty()).fold(String::new(), |line, part| {
        let glue = if line.is_empty() {
            ""
        } else if line.ends_with(':') {
            " "
        } else {
            "; "
        };
        line + glue + part
    });
    line = line.trim_start_matches("error: ").to_owned();
    format!("{line}; --help says more")
}

fn complain(message: &str) {
    // A message of several lines would look like several messages.
    let line = message.lines().map(str::trim_end).collect::<Vec<_>>().join(" | ");
    stderr_line(&format!("dedump: {}", crate::human::safe(&line)));
}

/// A table with a header, its columns as wide as they must be.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

/// What a wrapped column needs beside the others, and how far it is indented where it has to go below them.
const ROOM_MIN: usize = 36;
const INDENT: usize = 8;

impl Table {
    /// Creates a table; a header that starts with `>` makes a column of numbers.
    pub fn new(headers: &[&str]) -> Self {
        let right = headers.iter().map(|header| header.starts_with('>')).collect();
        let headers = headers.iter().map(|header| header.trim_start_matches('>').to_owned()).collect();
        Table { rows: vec![headers], right }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| crate::human::safe(&cell)).collect());
    }

    /// Returns the table as text, the last column wrapped at its commas where a line would be wider than this.
    pub fn render_within(&self, width: usize) -> String {
        let lasts = self.rows.iter().map(|row| row.last().map_or(0, |cell| cell.chars().count()));
        let mut text = String::new();
        for (line, last) in self.render().lines().zip(lasts) {
            let column = line.chars().count() - last;
            let (start, last) = line.split_at(line.char_indices().nth(column).map_or(line.len(), |(at, _)| at));
            text.push_str(start);
            // Where there is hardly any room beside it, it goes below.
            let indent = if column + ROOM_MIN > width { INDENT } else { column };
            let mut at = column;
            for part in last.split_inclusive(", ") {
                let part_n = part.chars().count();
                if at + part.trim_end().chars().count() > width && (at > indent) {
                    text.truncate(text.trim_end().len());
                    text.push('\n');
                    text.push_str(&" ".repeat(indent));
                    at = indent;
                }
                text.push_str(part);
                at += part_n;
            }
            text.push('\n');
        }
        text
    }

    /// Returns the table as text.
    pub fn render(&self) -> String {
        let width_of = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(width_of).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, &width), &right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Returns how wide the terminal on standard output is, if it is one.
pub fn width() -> Option<usize> {
    terminal_size::terminal_size_of(stdout()).map(|(width, _)| usize::from(width.0))
}

/// Facts, one a line, their names in a column: `name   value`.
pub fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {}\n", crate::human::safe(value))).collect()
}

/// Returns a word as a shell takes it, to copy and paste.
pub fn shell_word(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_of_the_parser_becomes_one_line() {
        let complaint = "error: unexpected argument '-F' found\n\n  tip: to pass '-F' as a value, use '-- -F'\n\n\
                         Usage: dedump backup\n\nFor more information, try '--help'.\n";
        let line = "unexpected argument '-F' found; tip: to pass '-F' as a value, use '-- -F'; --help says more";
        assert_eq!(one_line(complaint), line);
        let complaint = "error: the following required arguments were not provided:\n  --name <NAME>\n\nUsage: x\n";
        let line = "the following required arguments were not provided: --name <NAME>; --help says more";
        assert_eq!(one_line(complaint), line);
    }

    #[test]
    fn tables_align_words_left_and_numbers_right() {
        let mut table = Table::new(&["ID", ">SIZE", "TAG"]);
        table.row(["a".to_owned(), "1 B".to_owned(), "ü\u{1b}[1m".to_owned()]);
        table.row(["longer".to_owned(), "100 B".to_owned(), String::new()]);
        assert_eq!(table.render_within(80), table.render());
        assert_eq!(table.render(), "ID       SIZE  TAG\na         1 B  ü\u{fffd}[1m\nlonger  100 B\n");
    }

    #[test]
    fn the_last_column_wraps_at_its_commas() {
        let mut table = Table::new(&["ID", "RULES"]);
        table.row(["ab, c".to_owned(), "last 1 of 3, daily 2026-11-20 (1 of 7), within 90d".to_owned()]);
        table.row(["d".to_owned(), String::new()]);
        let beside = "ID     RULES\nab, c  last 1 of 3, daily 2026-11-20 (1 of 7),\n       within 90d\nd\n";
        assert_eq!(table.render_within(50), beside);
        let below = "ID     RULES\nab, c  last 1 of 3,\n        daily 2026-11-20 (1 of 7),\n        within 90d\nd\n";
        assert_eq!(table.render_within(35), below);
        assert_eq!(table.render_within(1000), table.render());
    }
}
