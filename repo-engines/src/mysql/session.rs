//! Questions to the server, each by a run of the client that ends with the answer.
//!
//! The client comes with every package of the dump tool and goes wherever `--via` leads, so no second way to the server is
//! needed. No moment has to be held between two questions: the dump tool holds its own.

use super::client::{Client, Tool};
use super::errors::explain;
use crate::fed::{FedTool, Kept};
use dedump_core::{Error, Result};

/// An answer, at most: it is held in memory.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A row of an answer.
pub(super) type Row = Vec<Field>;
/// A field of it; `None` stands for NULL.
pub(super) type Field = Option<String>;

impl Client {
    /// Runs statements and returns the rows that they give, of all of them one after another.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: one of them failed; those before it are done.
    pub(super) async fn ask(&self, statements: &str) -> Result<Vec<Row>> {
        let bytes = self.run(None, statements).await?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::DumpFailed("the server answers with what is no UTF-8".to_owned()))?;
        Ok(text.split_terminator('\n').map(|line| line.split('\t').map(field).collect()).collect())
    }

    /// Runs a script in a database and returns what it prints.
    ///
    /// # Errors
    /// Likewise.
    pub(super) async fn run(&self, database: Option<&str>, script: &str) -> Result<Vec<u8>> {
        let invocation = self.session(database);
        let mut kept = Kept { bytes: Vec::new(), bytes_max: ANSWER_BYTES_MAX };
        let mut tool = FedTool::start(&invocation, self.tool_name(Tool::Client)).map_err(explain)?;
        // It may end early; why, its end says.
        let script = [&invocation.input, script.as_bytes(), b"\n"].concat();
        tool.exchange(Some(&script), &mut kept).await?;
        match tool.end(&mut kept).await? {
            Ok(()) => Ok(kept.bytes),
            Err(ended) => Err(explain(ended.failure())),
        }
    }

    /// Runs a statement and returns the one row that it gives.
    ///
    /// # Errors
    /// Likewise; or it gives another number of rows, or of fields.
    pub(super) async fn ask_one<const N: usize>(&self, statement: &str) -> Result<[String; N]> {
        let odd = || Error::DumpFailed(format!("the server does not answer with one row of {N}: {statement}"));
        let mut rows = self.ask(statement).await?;
        let row = rows.pop().filter(|_| rows.is_empty()).ok_or_else(odd)?;
        let row: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        row.try_into().map_err(|_| odd())
    }
}

/// Reads a field as `--batch` prints it.
fn field(text: &str) -> Field {
    if text == "NULL" {
        return None;
    }
    let mut field = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => field.push('\n'),
                Some('t') => field.push('\t'),
                Some('0') => field.push('\0'),
                Some(other) => field.push(other),
                None => field.push('\\'),
            },
            c => field.push(c),
        }
    }
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were() {
        assert_eq!(field(r"a\tb\nc\\n\0"), Some("a\tb\nc\\n\0".to_owned()));
        assert_eq!(field("NULL"), None);
        assert_eq!(field(""), Some(String::new()));
    }
}
