//! The one public error. Variants are named by what the caller can do about them.

use std::fmt;

/// Result of every fallible operation of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says why an operation did not do its work; nothing was committed unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository at this place.
    #[error("{location} is not a dedump repository; create one with `dedump init`, or correct the location")]
    NotARepository {
        /// The store, as the caller named it.
        location: String,
    },
    /// There is already a repository, or something else, at this place.
    #[error("{location} {why}")]
    AlreadyExists {
        /// The store, as the caller named it.
        location: String,
        /// What is there, and what to do next.
        why: String,
    },
    /// An object was written by a newer version of dedump.
    #[error("{object} has format version {version}, and this dedump knows up to {known}; use a newer dedump")]
    NewerFormat {
        /// Name of the object in the store.
        object: String,
        /// Version found.
        version: u16,
        /// Newest version that this library reads.
        known: u16,
    },
    /// No key slot opens with this secret.
    #[error("wrong key: none of the repository's key slots ({slots}) opens with this {secret}")]
    WrongKey {
        /// How many slots were tried.
        slots: usize,
        /// "passphrase" or "key file".
        secret: &'static str,
    },
    /// What was asked for does not exist.
    #[error("no {what} {name:?}{hint}")]
    NotFound {
        /// Kind of thing: "snapshot", "stream", "key slot".
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// What to do next, with its own separator; may be empty.
        hint: String,
    },
    /// A prefix stands for more than one thing.
    #[error("{what} {prefix:?} is ambiguous: it may be {}; give more digits", candidates.join(", "))]
    Ambiguous {
        /// Kind of thing.
        what: &'static str,
        /// The prefix that was given.
        prefix: String,
        /// What it matches, shortened.
        candidates: Vec<String>,
    },
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error("{action} {object}: {}{}", chain(source.as_ref()), hint.as_deref().map(|h| format!("; {h}")).unwrap_or_default())]
    Store {
        /// What was tried: "cannot read", "cannot write".
        action: &'static str,
        /// Name of the object in the store.
        object: String,
        /// What to do next, where it is known.
        hint: Option<String>,
        /// The store's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored object is damaged: what it holds is not what was written.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// Name of the object in the store.
        object: String,
        /// What does not hold.
        why: String,
    },
    /// A stored object that others rely on is gone.
    #[error("{object} is missing: {why}")]
    Missing {
        /// Name of the object: a store name, `chunk 0011aabb` or `node 0011aabb`.
        object: String,
        /// Who needs it, and what to do next.
        why: String,
    },
    /// The dump failed, and so it did not become a snapshot.
    #[error("{0}")]
    DumpFailed(String),
    /// Restored bytes could not be written where the caller wants them.
    #[error("{0}")]
    Target(String),
    /// Somebody else decided otherwise while we worked: nothing was committed, and trying again is safe.
    #[error("{0}")]
    Conflict(String),
    /// Somebody holds the snapshot, so it was not forgotten.
    #[error("snapshot {snapshot} is {why}; release it first, with `dedump release {snapshot}`")]
    Held {
        /// The first digits of its id.
        snapshot: String,
        /// Since when, until when and why.
        why: String,
    },
    /// The system did not give what is needed: random numbers, threads, memory.
    #[error("{0}")]
    System(String),
    /// The store breaks a promise that commit and prune rest on.
    #[error("the store {location} {why}; snapshots could be lost there, so use another store")]
    UnfitStore {
        /// The store.
        location: String,
        /// What it does.
        why: String,
    },
}

/// What kind of failure an [`Error`] is, for exit codes and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It failed; the message says why.
    Failed,
    /// The caller asked for something that can't be: change the request.
    Usage,
    /// Stored data is damaged or missing: run `check`.
    Damage,
    /// The secret opens no key slot.
    WrongKey,
    /// Somebody else came first: try again.
    Conflict,
}

impl Error {
    /// Returns the kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Invalid(_) | Error::Ambiguous { .. } => ErrorKind::Usage,
            Error::Damaged { .. } | Error::Missing { .. } => ErrorKind::Damage,
            Error::WrongKey { .. } => ErrorKind::WrongKey,
            Error::Conflict(_) => ErrorKind::Conflict,
            _ => ErrorKind::Failed,
        }
    }

    /// Returns whether reading an object failed because of its content, rather than because of the store.
    pub fn is_damage(&self) -> bool {
        self.kind() == ErrorKind::Damage
    }

    pub(crate) fn damaged(object: impl fmt::Display, why: impl fmt::Display) -> Self {
        Error::Damaged { object: object.to_string(), why: why.to_string() }
    }
}

/// Prints an error with its causes, each once, in one line.
fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
