//! `keys/<slot id>`: the repository's secrets, wrapped for one passphrase or key file.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 64 | header: epoch 0; the salt is the derivation's |
//! | 64 | 1 | kind: 1 = passphrase, 2 = key file |
//! | 65 | 3 | zero |
//! | 68 | 4 | Argon2id memory, in KiB (0 for a key file, like the next two) |
//! | 72 | 4 | Argon2id passes |
//! | 76 | 4 | Argon2id lanes |
//! | 80 | 32 | commitment |
//! | 112 | 4 | length *w* of the wrapped secrets |
//! | 116 | w | naming secret (32), number of epochs (4), each epoch's number (4) and master secret (32); and a tag |
//! | 116+w | … | a record of type 11: the label, sealed by the repository's keys, so that any key may list all slots |
//!
//! Associated data of the wrapped secrets: bytes 0 to 112, then the slot's name. The label's record is sealed for the name
//! `keys/<slot id> label <hex of the BLAKE3 of bytes 0 to 116+w>`, so that whoever can read the label sees damage anywhere
//! in the slot, also to what only its own passphrase or key file opens.

use super::bytes::{Cursor, len_u32};
use super::header::{HEADER_BYTES, Header, ObjectType};
use super::record::{self, Record, Sealer};
use crate::crafts::crypto::keys::{Keys, Secret, Secrets};
use crate::crafts::crypto::seal::{Domain, ObjectCipher};
use crate::crafts::crypto::slot::{Argon2Params, SlotKeys};
use crate::words::error::{Error, Result};
use crate::words::id::RepositoryId;
use crate::words::limits::{EPOCHS_MAX, RECORD_BYTES_MAX};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const COMMITTED_BYTES: usize = 112;
const EPOCH_ENTRY_BYTES: usize = 36;

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A passphrase, through Argon2id with these parameters.
    Passphrase(Argon2Params),
    /// A key file.
    KeyFile,
}

impl SlotKind {
    /// Returns a measure of what it costs to try the slot: memory times passes.
    pub fn cost(self) -> u64 {
        match self {
            SlotKind::Passphrase(params) => u64::from(params.memory_kib) * u64::from(params.passes),
            SlotKind::KeyFile => 0,
        }
    }
}

/// Whose slot it is. Readable with any key of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLabel {
    /// The name that the user gave it.
    pub label: String,
    /// When it was made, in milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// The host that it was made on.
    pub host: String,
}

impl Record for SlotLabel {
    const TYPE: ObjectType = ObjectType::SlotLabel;
}

/// A slot as it lies in the store; nothing of it is proven yet.
pub struct Slot<'a> {
    name: &'a str,
    header: Header,
    /// What opens it.
    pub kind: SlotKind,
    committed: &'a [u8],
    commitment: [u8; 32],
    wrapped: &'a [u8],
    label_name: String,
    label: &'a [u8],
}

/// Encodes a new slot. `salt` must be the one that `slot_keys` were derived with.
///
/// # Errors
/// [`Error::Invalid`]: a label that is too long.
pub fn seal(
    sealer: Sealer<'_>,
    name: &str,
    (kind, slot_keys, salt): (SlotKind, &SlotKeys, [u8; 32]),
    (label, label_salt): (&SlotLabel, [u8; 32]),
) -> Result<Vec<u8>> {
    let header = Header { object_type: ObjectType::Slot, epoch: 0, repository: sealer.repository, salt };
    let mut bytes = header.encode().to_vec();
    let (number, params) = match kind {
        SlotKind::Passphrase(params) => (1, params),
        SlotKind::KeyFile => (2, Argon2Params { memory_kib: 0, passes: 0, lanes: 0 }),
    };
    bytes.extend_from_slice(&[number, 0, 0, 0]);
    for value in [params.memory_kib, params.passes, params.lanes] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.extend_from_slice(slot_keys.commitment());
    let cipher = cipher(slot_keys, &header, &bytes, name);
    let mut wrapped = Zeroizing::new(encode_secrets(sealer.keys.secrets()));
    cipher.seal_tail_of(Domain::Body, 0, &mut wrapped, 0);
    bytes.extend_from_slice(&len_u32(wrapped.len()).to_le_bytes());
    bytes.extend_from_slice(&wrapped);
    let label = record::seal(sealer, &label_name(name, &bytes), label_salt, label)?;
    bytes.extend_from_slice(&label);
    Ok(bytes)
}

/// Splits a stored slot into its parts.
///
/// # Errors
/// [`Error::Damaged`], [`Error::NewerFormat`].
pub fn parse<'a>(name: &'a str, repository: RepositoryId, bytes: &'a [u8]) -> Result<Slot<'a>> {
    let damaged = |why: String| Error::damaged(name, why);
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(damaged(format!("it has {} bytes, more than {RECORD_BYTES_MAX}", bytes.len())));
    }
    let (header, rest) = Header::decode(name, bytes)?;
    header.expect(name, ObjectType::Slot, repository)?;
    let mut cursor = Cursor::new(rest);
    let number = cursor.u8().map_err(damaged)?;
    cursor.zeros(3).map_err(damaged)?;
    let mut value = || cursor.u32().map_err(damaged);
    let params = Argon2Params { memory_kib: value()?, passes: value()?, lanes: value()? };
    let kind = match (number, params.checked()) {
        (1, Some(params)) => SlotKind::Passphrase(params),
        (2, None) if params == (Argon2Params { memory_kib: 0, passes: 0, lanes: 0 }) => SlotKind::KeyFile,
        _ => return Err(damaged(format!("a slot of kind {number} with {params:?} can't be"))),
    };
    let commitment = cursor.array().map_err(damaged)?;
    let wrapped_bytes = cursor.count(1).map_err(damaged)?;
    let wrapped = cursor.take(wrapped_bytes).map_err(damaged)?;
    let label = cursor.take(cursor.rest_bytes_n()).map_err(damaged)?;
    let committed = bytes.get(..COMMITTED_BYTES).unwrap_or_default();
    let label_name = label_name(name, &bytes[..bytes.len() - label.len()]);
    Ok(Slot { name, header, kind, committed, commitment, wrapped, label_name, label })
}

impl Slot<'_> {
    /// Returns the salt that the slot's keys must be derived with.
    pub fn salt(&self) -> &[u8; 32] {
        &self.header.salt
    }

    /// Unwraps the secrets; `None` if these keys are not the slot's.
    ///
    /// # Errors
    /// [`Error::Damaged`]: the keys are the slot's, and what it holds is not what was sealed.
    pub fn unwrap_secrets(&self, slot_keys: &SlotKeys) -> Result<Option<Secrets>> {
        if !slot_keys.commits_to(&self.commitment) {
            return Ok(None);
        }
        let damaged = |why: &str| Error::damaged(self.name, why);
        let plain = cipher(slot_keys, &self.header, self.committed, self.name)
            .open(Domain::Body, 0, self.wrapped)
            .ok_or_else(|| damaged("its seal is broken"))?;
        decode_secrets(&Zeroizing::new(plain)).map(Some).map_err(|why| damaged(&why))
    }

    /// Opens the label.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn label(&self, keys: &Keys) -> Result<SlotLabel> {
        record::open(Sealer { repository: self.header.repository, keys }, &self.label_name, self.label)
    }
}

fn label_name(name: &str, bytes_before: &[u8]) -> String {
    format!("{name} label {}", blake3::hash(bytes_before).to_hex())
}

fn cipher(slot_keys: &SlotKeys, header: &Header, committed: &[u8], name: &str) -> ObjectCipher {
    debug_assert_eq!(committed.len(), COMMITTED_BYTES);
    debug_assert_eq!(committed.get(..HEADER_BYTES), Some(&header.encode()[..]));
    let mut associated = committed.to_vec();
    associated.extend_from_slice(name.as_bytes());
    ObjectCipher::new(&slot_keys.wrap, &header.salt, associated)
}

fn encode_secrets(secrets: &Secrets) -> Vec<u8> {
    // Room for the tag too: a vector that grows would leave a copy of the secrets behind.
    let mut bytes = Vec::with_capacity(36 + secrets.epochs.len() * EPOCH_ENTRY_BYTES + 16);
    bytes.extend_from_slice(&secrets.naming.0);
    bytes.extend_from_slice(&len_u32(secrets.epochs.len()).to_le_bytes());
    for (epoch, master) in &secrets.epochs {
        bytes.extend_from_slice(&epoch.to_le_bytes());
        bytes.extend_from_slice(&master.0);
    }
    bytes
}

fn decode_secrets(plain: &[u8]) -> Result<Secrets, String> {
    let mut cursor = Cursor::new(plain);
    let naming = Secret(cursor.array()?);
    let epochs_n = cursor.count(EPOCH_ENTRY_BYTES)?;
    if !(1..=EPOCHS_MAX).contains(&epochs_n) {
        return Err(format!("{epochs_n} key epochs can't be"));
    }
    let mut secrets = Secrets { naming, epochs: Default::default() };
    for _ in 0..epochs_n {
        secrets.epochs.insert(cursor.u32()?, Secret(cursor.array()?));
    }
    cursor.end()?;
    Ok(secrets)
}
