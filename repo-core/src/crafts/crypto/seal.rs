//! Seals bytes with ChaCha20-Poly1305 (RFC 8439) under a key of the object's own.
//!
//! An object's key is derived from its purpose's key and the object's random 256-bit salt, so no key seals two objects,
//! and nonces are plain counters within one object: no nonce is ever random, and none can repeat.

use super::keys::Secret;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use zeroize::Zeroize;

/// Bytes that a seal adds.
pub const TAG_BYTES: usize = 16;

/// What a nonce counts within one object: parts of different domains never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Domain {
    /// The n-th blob of a pack; the body of any other object (n = 0).
    Body = 0,
    /// The trailer of a pack.
    Trailer = 1,
    /// The tail of a pack.
    Tail = 2,
}

/// Seals and opens the parts of one object.
pub struct ObjectCipher {
    cipher: ChaCha20Poly1305,
    associated: Vec<u8>,
}

impl ObjectCipher {
    /// Creates the cipher of the object with this salt; `associated` binds every part to the object and its place.
    pub fn new(purpose_key: &Secret, salt: &[u8; 32], associated: Vec<u8>) -> Self {
        let key = Secret(*blake3::keyed_hash(&purpose_key.0, salt).as_bytes());
        let mut cipher_key = Key::from(key.0);
        let cipher = ChaCha20Poly1305::new(&cipher_key);
        cipher_key.as_mut_slice().zeroize();
        ObjectCipher { cipher, associated }
    }

    /// Encrypts `bytes` from `start` to the end in place and appends the tag.
    pub fn seal_tail_of(&self, domain: Domain, counter: u64, bytes: &mut Vec<u8>, start: usize) {
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce(domain, counter), &self.associated, (&mut bytes[start..]).into())
            .expect("a part of an object is far below the cipher's limit of 256 GiB");
        bytes.extend_from_slice(&tag);
    }

    /// Returns the plaintext of a sealed part, or `None` if it is not what was sealed at this place of this object.
    pub fn open(&self, domain: Domain, counter: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        let (cipher_text, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let mut bytes = cipher_text.to_vec();
        self.cipher
            .decrypt_inout_detached(
                &nonce(domain, counter),
                &self.associated,
                bytes.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .ok()?;
        Some(bytes)
    }
}

/// The counter (8 bytes) and the domain (4 bytes), little-endian.
fn nonce(domain: Domain, counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&counter.to_le_bytes());
    nonce[8..].copy_from_slice(&(domain as u32).to_le_bytes());
    Nonce::from(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(salt: u8, associated: &[u8]) -> ObjectCipher {
        ObjectCipher::new(&Secret([1; 32]), &[salt; 32], associated.to_vec())
    }

    #[test]
    fn a_sealed_part_opens_only_at_its_own_place() {
        let mut bytes = b"head, secret".to_vec();
        cipher(1, b"a").seal_tail_of(Domain::Body, 3, &mut bytes, 6);
        let sealed = &bytes[6..];
        assert_eq!(&bytes[..6], b"head, ");
        assert_eq!(cipher(1, b"a").open(Domain::Body, 3, sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(cipher(1, b"a").open(Domain::Body, 4, sealed), None, "another counter");
        assert_eq!(cipher(1, b"a").open(Domain::Trailer, 3, sealed), None, "another domain");
        assert_eq!(cipher(2, b"a").open(Domain::Body, 3, sealed), None, "another salt");
        assert_eq!(cipher(1, b"b").open(Domain::Body, 3, sealed), None, "other associated data");
        for flipped in 0..sealed.len() {
            let mut wrong = sealed.to_vec();
            wrong[flipped] ^= 1;
            assert_eq!(cipher(1, b"a").open(Domain::Body, 3, &wrong), None, "bit in byte {flipped}");
        }
        assert_eq!(cipher(1, b"a").open(Domain::Body, 3, &sealed[1..]), None);
        assert_eq!(cipher(1, b"a").open(Domain::Body, 3, b"short"), None);
    }
}
