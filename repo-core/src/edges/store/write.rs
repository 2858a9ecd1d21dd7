//! Writing: creating, overwriting, deleting.
//!
//! An object goes up in one request, whatever its length: that is what makes create-if-absent one step, and the largest is far
//! below what providers take in one ([`STORE_PUT_BYTES_MAX`](crate::words::limits::STORE_PUT_BYTES_MAX), held there). In
//! parts it would be visible only at the last request, too, but those of a run that was killed would stay, unseen and paid for.
//!
//! Whether what arrives is what was sent is for the store to see: S3's requests are signed with the SHA-256 of their body, and
//! a server that checks signatures refuses another body, which is then sent again. Azure and Google check nothing that the
//! client sends, and not everything that speaks S3 looks at the signature of a body. There `verify_uploads` reads back.

use super::failure::{failed, is_missing};
use super::wire::Body;
use super::{Store, path};
use crate::words::error::{Error, Result};
use bytes::Bytes;
use object_store::{Attribute, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
#[cfg(target_os = "linux")]
use std::io::ErrorKind;

/// How a create-if-absent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there now, with these bytes, by our doing.
    Yes,
    /// An object of that name was there before, with other bytes.
    Taken,
}

impl Store {
    /// Creates an object unless there is one of that name. A reply that got lost and was asked for again looks like
    /// somebody else's object, so what is there is read back: equal bytes are ours.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created> {
        let mut attempts = self.attempts();
        loop {
            match self.try_to_put(name, &bytes, PutMode::Create).await {
                Ok(()) => return self.verify(name, &bytes).await.map(|()| Created::Yes),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    match self.get(name, bytes.len().max(1)).await {
                        Ok(Some(there)) if there == bytes => return Ok(Created::Yes),
                        // Two requests met, and the store refused both.
                        Ok(None) if attempts.pause().await => {}
                        Err(error) if !error.is_damage() => return Err(error),
                        _ => return Ok(Created::Taken),
                    }
                }
                Err(error) if attempts.again(&error, false).await => {}
                Err(error) => return Err(failed("cannot write", name, error)),
            }
        }
    }

    /// Creates an object named by its content. If one is there, and as long, it is the same.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Damaged`] if one is there with another length.
    pub async fn create_content_addressed(&self, name: &str, bytes: Bytes) -> Result<()> {
        let mut attempts = self.attempts();
        loop {
            match self.try_to_put(name, &bytes, PutMode::Create).await {
                Ok(()) => return self.verify(name, &bytes).await,
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    match self.head(name).await {
                        Ok(there) if there.size == bytes.len() as u64 => return self.verify(name, &bytes).await,
                        Ok(there) => {
                            let why = format!("it has {} bytes, and {} belong there", there.size, bytes.len());
                            return Err(Error::damaged(name, why));
                        }
                        Err(error) if is_missing(&error) && attempts.pause().await => {}
                        Err(error) if attempts.again(&error, true).await => {}
                        Err(error) => return Err(failed("cannot read", name, error)),
                    }
                }
                Err(error) if attempts.again(&error, false).await => {}
                Err(error) => return Err(failed("cannot write", name, error)),
            }
        }
    }

    /// Writes an object whether or not there is one: only for a session's own mark, and for holds.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn overwrite(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.put(name, &bytes).await?;
        self.verify(name, &bytes).await
    }

    async fn put(&self, name: &str, bytes: &Bytes) -> Result<()> {
        let mut attempts = self.attempts();
        loop {
            match self.try_to_put(name, bytes, PutMode::Overwrite).await {
                Ok(()) => return Ok(()),
                Err(error) if attempts.again(&error, true).await => {}
                Err(error) => return Err(failed("cannot write", name, error)),
            }
        }
    }

    async fn try_to_put(&self, name: &str, bytes: &Bytes, mode: PutMode) -> object_store::Result<()> {
        self.requests.write(bytes.len());
        #[cfg(target_os = "linux")]
        if mode == PutMode::Create
            && let Some(created) = self.put_direct(name, bytes).await
        {
            return created.map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => {
                    object_store::Error::AlreadyExists { path: name.to_owned(), source: Box::new(error) }
                }
                _ => object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) },
            });
        }
        let mut options = PutOptions { mode, ..PutOptions::default() };
        if let Some(class) = self.treatment.options.class_of(name) {
            options.attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        options.extensions.insert(Body(bytes.clone()));
        self.inner.put_opts(&path(name), PutPayload::from_bytes(bytes.clone()), options).await.map(drop)
    }

    /// Reads back what was written, if that was asked for; what arrived garbled is written again.
    ///
    /// The object is this run's own, or one whose name is of its content: to write it again takes nobody's place.
    async fn verify(&self, name: &str, bytes: &Bytes) -> Result<()> {
        if !self.treatment.options.verify_uploads {
            return Ok(());
        }
        let mut attempts = self.attempts();
        loop {
            match self.get(name, bytes.len().max(1)).await {
                Ok(Some(there)) if there == *bytes => return Ok(()),
                Err(error) if !error.is_damage() => return Err(error),
                _ if attempts.pause().await => self.put(name, bytes).await?,
                _ => {
                    let why = "it reads back otherwise than it was written, several times in a row".into();
                    let hint = "look for what sits between here and the store, or use another".to_owned();
                    let object = name.to_owned();
                    return Err(Error::Store { action: "cannot write", object, hint: Some(hint), source: why });
                }
            }
        }
    }

    /// Deletes an object; it may be gone already.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        let mut attempts = self.attempts();
        loop {
            self.requests.delete();
            match self.inner.delete(&path(name)).await {
                Ok(()) => return Ok(()),
                Err(error) if is_missing(&error) => return Ok(()),
                Err(error) if attempts.again(&error, false).await => {}
                Err(error) => return Err(failed("cannot delete", name, error)),
            }
        }
    }
}
