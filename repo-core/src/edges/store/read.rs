//! Reading: whole objects, parts of them, and what there is.

use super::failure::{self, cut_short, failed, is_missing};
use super::{Store, path};
use crate::words::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};
use std::ops::Range;

/// An object and its length, as a listing gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Name of the object in the store.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, in milliseconds since 1970 UTC, by the store's clock.
    pub modified_ms: i64,
}

/// What came of asking for an object.
enum Got {
    Whole(Bytes),
    /// It has this many bytes, more than there may be; they were not read.
    TooLong(u64),
}

impl Store {
    /// Reads a whole object of at most `bytes_max` bytes; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`], also where its bytes end before they should; [`Error::Damaged`] if it is longer.
    pub async fn get(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>> {
        let mut attempts = self.attempts();
        loop {
            match self.try_to_get(name, bytes_max).await {
                Ok(Got::Whole(bytes)) => return Ok(Some(bytes)),
                Ok(Got::TooLong(bytes_n)) => {
                    return Err(Error::damaged(name, format!("it has {bytes_n} bytes, more than {bytes_max}")));
                }
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) if attempts.again(&error, true).await => {}
                Err(error) => return Err(failed("cannot read", name, error)),
            }
        }
    }

    async fn try_to_get(&self, name: &str, bytes_max: usize) -> object_store::Result<Got> {
        self.requests.read();
        let result = self.inner.get(&path(name)).await?;
        let bytes_n = result.meta.size;
        if bytes_n > bytes_max as u64 {
            return Ok(Got::TooLong(bytes_n));
        }
        let bytes = self.collect(result).await?;
        // Taken for the object, it would look damaged.
        if bytes.len() as u64 == bytes_n { Ok(Got::Whole(bytes)) } else { Err(cut_short(bytes.len(), bytes_n)) }
    }

    /// Reads a part of an object; `None` if there is no object of that name or it is shorter.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let mut attempts = self.attempts();
        let error = loop {
            match self.try_to_get_range(name, range.clone()).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) if attempts.again(&error, true).await => {}
                Err(error) => break error,
            }
        };
        // Stores differ in how they refuse a range beyond the end: ask for the length before believing in a failure.
        match self.head(name).await {
            Ok(meta) if meta.size < range.end => Ok(None),
            _ => Err(failed("cannot read", name, error)),
        }
    }

    /// Asks for an object's length alone, once.
    pub(super) async fn head(&self, name: &str) -> object_store::Result<ObjectMeta> {
        self.requests.head();
        self.inner.head(&path(name)).await
    }

    /// Returns whether an object lies in cold storage and can't be read before it is thawed. Reads a byte of it.
    ///
    /// # Errors
    /// [`Error::Store`]. That it is not there is no error.
    pub(crate) async fn is_frozen(&self, name: &str) -> Result<bool> {
        let mut attempts = self.attempts();
        loop {
            match self.try_to_get_range(name, 0..1).await {
                Ok(_) => return Ok(false),
                Err(error) if is_missing(&error) => return Ok(false),
                Err(error) if failure::is_frozen(&error) => return Ok(true),
                Err(error) if attempts.again(&error, true).await => {}
                Err(error) => return Err(failed("cannot read", name, error)),
            }
        }
    }

    async fn try_to_get_range(&self, name: &str, range: Range<u64>) -> object_store::Result<Bytes> {
        self.requests.read();
        let bytes_n = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let bytes = self.collect(self.inner.get_opts(&path(name), options).await?).await?;
        if bytes.len() as u64 == bytes_n { Ok(bytes) } else { Err(cut_short(bytes.len(), bytes_n)) }
    }

    /// Reads a body, at the store's pace if it has one.
    async fn collect(&self, result: GetResult) -> object_store::Result<Bytes> {
        let Some(pace) = &self.treatment.download else {
            let bytes = result.bytes().await?;
            self.requests.got(bytes.len());
            return Ok(bytes);
        };
        let mut bytes = BytesMut::with_capacity((result.range.end - result.range.start) as usize);
        let mut body = result.into_stream();
        while let Some(piece) = body.try_next().await? {
            pace.take(piece.len()).await;
            self.requests.got(piece.len());
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Lists the objects below a prefix, sorted by name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut attempts = self.attempts();
        let mut listed = loop {
            match self.try_to_list(prefix).await {
                Ok(listed) => break listed,
                // From the beginning: not every store lists in an order that could be gone on with.
                Err(error) if attempts.again(&error, true).await => {}
                Err(error) => return Err(failed("cannot list", prefix, error)),
            }
        };
        self.requests.list(listed.len());
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    async fn try_to_list(&self, prefix: &str) -> object_store::Result<Vec<Listed>> {
        let listed = self.inner.list(Some(&path(prefix))).map_ok(|meta| Listed {
            name: meta.location.to_string(),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        });
        listed.boxed().try_collect().await
    }
}
