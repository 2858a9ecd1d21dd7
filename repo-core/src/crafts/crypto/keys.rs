//! Secrets and the keys derived from them.
//!
//! A repository has one *naming secret*, from which chunk ids, node ids and cut points come, and one *master secret* a
//! key epoch, from which everything that seals comes. They are apart so that a second repository can share the first
//! (and so exchange sealed blobs without decoding them) and nothing of the second.
//! Derivation is BLAKE3's `derive_key` with one context string a purpose.

use crate::words::id::ChunkId;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes, wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Derives the key of one purpose, which `context` names for all time.
    pub fn derive(&self, context: &str) -> Secret {
        Secret(blake3::derive_key(context, &self.0))
    }
}

/// What a key slot holds: everything from which a repository's keys are derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// Names chunks and nodes, and draws the gear table. Never changes in a repository's life.
    pub naming: Secret,
    /// Seals; by key epoch. New objects use the highest.
    pub epochs: BTreeMap<u32, Secret>,
}

/// What an object is sealed as; each has its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Data packs.
    Data,
    /// Meta packs: manifest nodes.
    Meta,
    /// Index fragments.
    Index,
    /// Small objects: config, snapshot, session, merge, fence, tombstone, and the label of a key slot.
    Record,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Purpose::Data => "dedump format 1: data packs",
            Purpose::Meta => "dedump format 1: meta packs",
            Purpose::Index => "dedump format 1: index fragments",
            Purpose::Record => "dedump format 1: records",
        }
    }
}

/// The derived keys of a repository.
pub struct Keys {
    chunk_id: Secret,
    node_id: Secret,
    gear: Secret,
    epochs: BTreeMap<u32, [Secret; 4]>,
    newest: u32,
    secrets: Secrets,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(epochs: {:?})", self.epochs.keys())
    }
}

impl Keys {
    /// Derives all keys; `None` if there is no epoch.
    pub fn derive(secrets: Secrets) -> Option<Keys> {
        let newest = *secrets.epochs.last_key_value()?.0;
        let purposes = [Purpose::Data, Purpose::Meta, Purpose::Index, Purpose::Record];
        let epochs = secrets
            .epochs
            .iter()
            .map(|(epoch, master)| (*epoch, purposes.map(|purpose| master.derive(purpose.context()))))
            .collect();
        Some(Keys {
            chunk_id: secrets.naming.derive("dedump format 1: chunk ids"),
            node_id: secrets.naming.derive("dedump format 1: node ids"),
            gear: secrets.naming.derive("dedump format 1: gear table"),
            epochs,
            newest,
            secrets,
        })
    }

    /// Returns the epoch under which new objects are sealed.
    pub fn newest_epoch(&self) -> u32 {
        self.newest
    }

    /// Returns what a new key slot must hold.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Returns the key of a purpose in an epoch, or `None` if the epoch is unknown.
    pub fn purpose(&self, epoch: u32, purpose: Purpose) -> Option<&Secret> {
        let [data, meta, index, record] = self.epochs.get(&epoch)?;
        Some(match purpose {
            Purpose::Data => data,
            Purpose::Meta => meta,
            Purpose::Index => index,
            Purpose::Record => record,
        })
    }

    /// Returns whether chunks and nodes have the same names by these keys and by others.
    pub fn names_alike(&self, other: &Keys) -> bool {
        self.secrets.naming == other.secrets.naming
    }

    /// Names a chunk by its plaintext.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.chunk_id.0, plain).as_bytes())
    }

    /// Names a manifest node by its plaintext.
    pub fn node_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.node_id.0, plain).as_bytes())
    }

    /// Returns the key from which the gear table is drawn.
    pub fn gear(&self) -> &Secret {
        &self.gear
    }
}
