//! How an operation tells how far it is.

/// Something that happened. Numbers add up over the events of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A stream began.
    StreamBegun {
        /// Its name.
        name: String,
        /// Its length, where it is known beforehand.
        bytes: Option<u64>,
    },
    /// Bytes of a stream were read from the engine.
    Read {
        /// How many.
        bytes: u64,
    },
    /// Chunks were cut and looked up.
    Looked {
        /// Bytes in them.
        bytes: u64,
        /// Bytes of those that the repository did not have.
        bytes_new: u64,
    },
    /// An object was put into the store.
    Stored {
        /// Its length.
        bytes: u64,
    },
    /// Bytes of a stream were verified and handed to the target.
    Restored {
        /// How many.
        bytes: u64,
    },
    /// A check, reindex or count began, over so many objects.
    Planned {
        /// How many.
        objects_n: u64,
        /// Their length, where it matters.
        bytes: u64,
    },
    /// Sessions are at work that must end first.
    Waiting {
        /// How many.
        sessions_n: u64,
    },
    /// A pack was deleted.
    Deleted,
    /// One of the planned objects was dealt with.
    Done {
        /// Bytes of it that were read.
        bytes: u64,
    },
}

/// Hears of events. Called often, from the operation's own task: it must not block.
pub trait Progress: Send + Sync {
    /// Takes note of an event.
    fn event(&self, event: Event);
}

/// Nobody listens.
impl Progress for () {
    fn event(&self, _: Event) {}
}
