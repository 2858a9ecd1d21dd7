//! Streams of a snapshot: small ones read whole, others verified.

use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, Snapshot, StreamRecord, Target, async_trait, restore,
};

/// Keeps a small stream in memory.
struct Memory(Vec<u8>);

/// Such a stream has so many bytes at most.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

#[async_trait]
impl Target for Memory {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        if stream.bytes > MEMORY_BYTES_MAX {
            return Err(Error::Target(format!("{} has more than {MEMORY_BYTES_MAX} bytes", stream.name)));
        }
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.0.extend_from_slice(&bytes);
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Returns a small stream.
///
/// # Errors
/// Those of the repository.
pub(crate) async fn read_small(repository: &Repository, snapshot: &Snapshot, stream: &str) -> Result<Vec<u8>> {
    let mut memory = Memory(Vec::new());
    let options = RestoreOptions { streams: vec![stream.to_owned()], ..RestoreOptions::default() };
    restore(repository, snapshot, &options, &mut memory, &()).await?;
    Ok(memory.0)
}

/// Returns a small stream that is text.
///
/// # Errors
/// Those of the repository; [`Error::Target`]: it is none.
pub(crate) async fn read_text(repository: &Repository, snapshot: &Snapshot, stream: &str) -> Result<String> {
    let bytes = read_small(repository, snapshot, stream).await?;
    String::from_utf8(bytes).map_err(|_| Error::Target(format!("{stream} is no UTF-8")))
}

/// Throws streams away.
struct Nowhere;

#[async_trait]
impl Target for Nowhere {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Reads, decodes and verifies streams, and throws them away.
///
/// # Errors
/// Those of the repository.
pub(crate) async fn verify(
    repository: &Repository,
    snapshot: &Snapshot,
    streams: Vec<String>,
    progress: &dyn Progress,
) -> Result<()> {
    let options = RestoreOptions { streams, ..RestoreOptions::default() };
    restore(repository, snapshot, &options, &mut Nowhere, progress).await.map(drop)
}
