//! Where an engine's bytes go: a stream of the repository, or, in tests, memory.

use dedump_core::{Result, Room, StreamWriter};
use std::future::Future;
#[cfg(test)]
use std::io;

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

/// Lends room to whoever reads on another thread.
pub(crate) trait Lender: Intake {
    /// See [`Room`].
    type Room: Lent;

    /// Returns room that is empty.
    fn lend(&self) -> Self::Room;

    /// Appends what it holds.
    fn put(&mut self, room: Self::Room) -> impl Future<Output = Result<()>> + Send;
}

/// Room that was lent.
pub(crate) trait Lent: Send + 'static {
    /// Returns what is not filled yet.
    fn spare(&mut self) -> &mut [u8];

    /// Notes that so many bytes of it are.
    fn advance(&mut self, bytes_n: usize);

    /// Returns what is filled.
    fn bytes(&self) -> &[u8];
}

impl Lender for StreamWriter {
    type Room = Room;

    fn lend(&self) -> Room {
        StreamWriter::lend(self)
    }

    fn put(&mut self, room: Room) -> impl Future<Output = Result<()>> + Send {
        StreamWriter::put(self, room)
    }
}

impl Lent for Room {
    fn spare(&mut self) -> &mut [u8] {
        Room::spare(self)
    }

    fn advance(&mut self, bytes_n: usize) {
        Room::advance(self, bytes_n);
    }

    fn bytes(&self) -> &[u8] {
        Room::bytes(self)
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

#[cfg(test)]
impl Lender for Memory {
    type Room = io::Cursor<Vec<u8>>;

    fn lend(&self) -> Self::Room {
        io::Cursor::new(vec![0; 64 * 1024])
    }

    async fn put(&mut self, room: Self::Room) -> Result<()> {
        for bytes in room.bytes().chunks(self.spare.len()) {
            self.spare[..bytes.len()].copy_from_slice(bytes);
            self.advance(bytes.len()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Lent for io::Cursor<Vec<u8>> {
    fn spare(&mut self) -> &mut [u8] {
        let filled = self.position() as usize;
        &mut self.get_mut()[filled..]
    }

    fn advance(&mut self, bytes_n: usize) {
        self.set_position(self.position() + bytes_n as u64);
    }

    fn bytes(&self) -> &[u8] {
        &self.get_ref()[..self.position() as usize]
    }
}
