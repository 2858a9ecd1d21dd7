//! The Native format: walks a stream of it block by block, as it passes.
//!
//! An exception in the middle of an answer, or an answer that was cut, leaves bytes behind that are no block: so a stream that was
//! walked to its end is known to be whole blocks, and how many rows they have. A type whose values only the server can tell apart
//! ends the walk, if one is expected; the rest passes as it is, and its rows are not known.

mod block;
mod types;

use block::{Stop, read};
pub(crate) use types::Type;

/// A block, at most.
pub(crate) const BLOCK_BYTES_MAX: usize = 1 << 30;
/// What is waited for at least before a block is tried again.
const STEP_BYTES: usize = 64 << 10;
/// Bytes at the end of a stream in which an exception is looked for.
const EXCEPTION_BYTES_MAX: usize = 64 << 10;

/// Walks a stream.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    buffer: Vec<u8>,
    /// How much must be there before the block at the beginning of the buffer is tried again.
    wanted: usize,
    /// Rows of the blocks that have passed; `None` once that can't be known.
    rows: Option<u64>,
    may_be_opaque: bool,
    is_opaque: bool,
    columns: Option<Vec<(String, String)>>,
}

impl Walk {
    /// Begins. Only where it is expected may a column's end be the server's alone to tell: anything could look like that.
    pub(crate) fn new(may_be_opaque: bool) -> Self {
        Walk { rows: Some(0), may_be_opaque, ..Walk::default() }
    }

    /// Takes the next bytes, and returns those that are whole blocks now.
    ///
    /// # Errors
    /// Why the bytes are none.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, String> {
        self.buffer.extend_from_slice(bytes);
        let (mut pieces, mut at) = (Vec::new(), 0);
        while !self.is_opaque && self.buffer.len() > at && self.buffer.len() - at >= self.wanted {
            match read(&self.buffer[at..], self.columns.as_deref()) {
                Ok(block) => {
                    pieces.push(Piece { bytes: self.buffer[at..at + block.bytes].to_vec(), rows: block.rows });
                    at += block.bytes;
                    self.wanted = 0;
                    self.rows = self.rows.map(|rows| rows + block.rows);
                    self.columns.get_or_insert(block.columns);
                }
                Err(Stop::Short) if self.buffer.len() - at > BLOCK_BYTES_MAX => {
                    return Err(format!("a block of more than {BLOCK_BYTES_MAX} bytes"));
                }
                Err(Stop::Short) => {
                    // Twice as much each time, so that no byte is looked at more often than the logarithm of that.
                    self.wanted = STEP_BYTES.max((self.buffer.len() - at) * 2);
                    break;
                }
                Err(Stop::Opaque) if self.may_be_opaque => (self.is_opaque, self.rows) = (true, None),
                Err(Stop::Opaque) => {
                    return Err(self.exception().unwrap_or_else(|| "a type that nobody knows".to_owned()));
                }
                Err(Stop::Bad(what)) => return Err(self.exception().unwrap_or(what)),
            }
        }
        self.buffer.drain(..at);
        if self.is_opaque && !self.buffer.is_empty() {
            pieces.push(Piece { bytes: std::mem::take(&mut self.buffer), rows: 0 });
        }
        Ok(pieces)
    }

    /// Ends the stream. Returns the last blocks, and the rows of all if they are known.
    ///
    /// # Errors
    /// It ends in the middle of a block.
    pub(crate) fn finish(mut self) -> Result<(Vec<Piece>, Option<u64>), String> {
        self.wanted = 0;
        let pieces = self.feed(&[])?;
        if !self.buffer.is_empty() {
            return Err(self.exception().unwrap_or_else(|| "it ends in the middle of a block".to_owned()));
        }
        Ok((pieces, self.rows))
    }

    /// Returns the columns of the first block.
    pub(crate) fn columns(&self) -> Option<&[(String, String)]> {
        self.columns.as_deref()
    }

    /// Returns the exception that stands where a block should be.
    fn exception(&self) -> Option<String> {
        let tail = &self.buffer[self.buffer.len().saturating_sub(EXCEPTION_BYTES_MAX)..];
        let text = String::from_utf8_lossy(tail);
        let at = text.rfind("DB::Exception")?;
        let begin = text[..at].rfind("Code: ").unwrap_or(at);
        Some(format!("the server broke off: {}", text[begin..].chars().take(300).collect::<String>().trim()))
    }
}

/// Bytes that have passed, and the rows in them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: u64,
}
