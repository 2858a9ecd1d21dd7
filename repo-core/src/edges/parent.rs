//! What an engine may know of the snapshot that its backup follows.

use crate::format::snapshot::StreamRecord;
use crate::words::error::{Error, Result};
use async_trait::async_trait;
use std::sync::Arc;

/// The streams of the snapshot before, below one part of it; see [`Sink::parent`](crate::edges::source::Sink::parent).
pub struct ParentStreams {
    before: Arc<dyn Before>,
    prefix: String,
}

/// Reads the snapshot before, on the engine's behalf.
#[async_trait]
pub(crate) trait Before: Send + Sync {
    /// Returns its streams.
    fn streams(&self) -> &[StreamRecord];

    /// Returns the stream of this whole name.
    fn stream(&self, name: &str) -> Option<&StreamRecord>;

    /// Returns whether everything that a stream of it needs is there, for this backup to rely on.
    async fn holds(&self, stream: &StreamRecord) -> Result<bool>;

    /// Returns the bytes of a stream of it, verified.
    async fn read(&self, stream: &StreamRecord) -> Result<Vec<u8>>;
}

impl ParentStreams {
    pub(crate) fn new(before: Arc<dyn Before>, prefix: &str) -> Self {
        ParentStreams { before, prefix: prefix.to_owned() }
    }

    /// Returns the streams' records, each with its name below the part.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &StreamRecord)> {
        let below = |stream: &StreamRecord| stream.name.starts_with(&self.prefix);
        let streams = self.before.streams().iter().filter(move |stream| below(stream));
        streams.map(|stream| (&stream.name[self.prefix.len()..], stream))
    }

    /// Returns what is recorded of the stream of this name below the part.
    pub fn stream(&self, name: &str) -> Option<&StreamRecord> {
        self.before.stream(&format!("{}{name}", self.prefix))
    }

    /// Returns the bytes of the stream of this name, verified; they are held in memory, so a longer stream is refused.
    ///
    /// # Errors
    /// [`Error::NotFound`]: there is none. [`Error::Invalid`]: it is longer than `bytes_max`. [`Error::Damaged`],
    /// [`Error::Missing`]: it can't be read any more. [`Error::Store`].
    pub async fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>> {
        let stream = self.stream(name).ok_or_else(|| Error::NotFound {
            what: "stream",
            name: name.to_owned(),
            hint: " in the snapshot before".to_owned(),
        })?;
        if stream.bytes > bytes_max {
            let bytes = stream.bytes;
            return Err(Error::Invalid(format!(
                "stream {name:?} has {bytes} bytes, more than {bytes_max}; restore it"
            )));
        }
        self.before.read(stream).await
    }
}
