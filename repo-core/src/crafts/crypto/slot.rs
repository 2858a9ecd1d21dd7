//! Turns what a user knows or has into the keys of a key slot.
//!
//! A passphrase goes through Argon2id (RFC 9106) with the slot's own parameters and salt; a key file holds 256 random
//! bits, and so needs no slow derivation. Both end in a *wrap key*, which seals the slot's secrets, and a *commitment*,
//! which is stored and compared in constant time before anything is opened: ChaCha20-Poly1305 alone would allow a
//! sealed text that opens under two keys.

use super::keys::Secret;
use crate::words::error::{Error, Result};
use crate::words::limits::{ARGON2_LANES_MAX, ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES_MAX};
use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What Argon2id is run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Params {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Argon2Params {
    /// 64 MiB, 3 passes, 1 lane: the second recommended choice of RFC 9106, about 0.2 s.
    fn default() -> Self {
        Argon2Params { memory_kib: 64 * 1024, passes: 3, lanes: 1 }
    }
}

impl Argon2Params {
    /// Returns the parameters, or `None` if they are out of bounds: a hostile slot must not ask for 4 TiB.
    pub fn checked(self) -> Option<Self> {
        let within = (8..=ARGON2_MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (1..=ARGON2_PASSES_MAX).contains(&self.passes)
            && (1..=ARGON2_LANES_MAX).contains(&self.lanes)
            && self.memory_kib >= 8 * self.lanes;
        within.then_some(self)
    }
}

/// The two keys of a slot.
pub struct SlotKeys {
    /// Seals the slot's secrets.
    pub wrap: Secret,
    commitment: [u8; 32],
}

impl SlotKeys {
    /// Derives the keys of a passphrase slot. Takes the time and memory that `params` ask for.
    ///
    /// # Errors
    /// [`Error::Invalid`]: parameters out of bounds.
    pub fn from_passphrase(passphrase: &[u8], params: Argon2Params, salt: &[u8; 32]) -> Result<Self> {
        let refuse = || Error::Invalid(format!("Argon2id parameters {params:?} are out of bounds"));
        let checked = params.checked().ok_or_else(refuse)?;
        let params = Params::new(checked.memory_kib, checked.passes, checked.lanes, Some(32)).map_err(|_| refuse())?;
        let mut output = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, salt, output.as_mut())
            .map_err(|error| Error::System(format!("Argon2id failed: {error}")))?;
        Ok(Self::from_root(&Secret(*output)))
    }

    /// Derives the keys of a key file slot.
    pub fn from_key_file(key: &Secret, salt: &[u8; 32]) -> Self {
        Self::from_root(&Secret(*blake3::keyed_hash(&key.0, salt).as_bytes()))
    }

    fn from_root(root: &Secret) -> Self {
        SlotKeys {
            wrap: root.derive("dedump format 1: slot wrap key"),
            commitment: root.derive("dedump format 1: slot commitment").0,
        }
    }

    /// Returns what a slot stores to commit to its key.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Compares a stored commitment with these keys', in constant time.
    pub fn commits_to(&self, stored: &[u8; 32]) -> bool {
        self.commitment.ct_eq(stored).into()
    }
}
