//! Where an engine's bytes go: a stream of the repository, or, in tests, memory.

use dedump_core::{Result, StreamWriter};
use std::future::Future;

/// Takes bytes that were read straight into its own memory.
pub(crate) trait Intake: Send {
    /// Returns room for the next bytes, never empty.
    fn spare(&mut self) -> &mut [u8];

    /// Takes over the first `bytes_n` bytes of [`spare`](Self::spare).
    fn advance(&mut self, bytes_n: usize) -> impl Future<Output = Result<()>> + Send;
}

impl Intake for StreamWriter {
    fn spare(&mut self) -> &mut [u8] {
        StreamWriter::spare(self)
    }

    fn advance(&mut self, bytes_n: usize) -> impl Future<Output = Result<()>> + Send {
        StreamWriter::advance(self, bytes_n)
    }
}

/// Keeps bytes in memory; refuses them past a limit, as a store that fails would.
#[cfg(test)]
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bytes_max: usize,
    spare: Vec<u8>,
}

#[cfg(test)]
impl Memory {
    pub(crate) fn new() -> Self {
        Memory { bytes: Vec::new(), bytes_max: usize::MAX, spare: vec![0; 64 * 1024] }
    }

    pub(crate) fn refusing_after(bytes_max: usize) -> Self {
        Memory { bytes_max, ..Memory::new() }
    }
}

#[cfg(test)]
impl Intake for Memory {
    fn spare(&mut self) -> &mut [u8] {
        &mut self.spare
    }

    async fn advance(&mut self, bytes_n: usize) -> Result<()> {
        self.bytes.extend_from_slice(&self.spare[..bytes_n]);
        if self.bytes.len() > self.bytes_max {
            return Err(dedump_core::Error::Conflict("the store is full".to_owned()));
        }
        Ok(())
    }
}
