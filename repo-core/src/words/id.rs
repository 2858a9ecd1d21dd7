//! Identifiers. Each is a newtype over its bytes; `Debug` prints 8 hex digits, `Display` prints all of them.

use std::fmt;
use std::str::FromStr;

/// Says why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} lower-case hex digits")]
pub struct ParseIdError {
    expected: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $bytes;

            /// Returns the first 8 hex digits, for messages.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $bytes];
                decode_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
    };
}

id!(
    /// Names a chunk: the keyed BLAKE3 of its plaintext. Names a manifest node in the same way, under another key.
    ChunkId,
    32
);
id!(
    /// Names a pack: the unkeyed BLAKE3 of its stored bytes, so that anyone can check it without a key.
    PackId,
    32
);
id!(
    /// Names a session, and the snapshot that it commits: 128 random bits.
    SessionId,
    16
);
id!(
    /// Names a repository: 128 random bits, part of every stored object's header.
    RepositoryId,
    16
);
id!(
    /// Names a key slot: 64 random bits.
    SlotId,
    8
);

/// A snapshot has the id of the session that committed it.
pub type SnapshotId = SessionId;

fn decode_hex(text: &str, bytes: &mut [u8]) -> Result<(), ParseIdError> {
    let error = ParseIdError { expected: bytes.len() * 2 };
    let digits = text.as_bytes();
    if digits.len() != bytes.len() * 2 {
        return Err(error);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return Err(error) };
        match (hex_digit(*high), hex_digit(*low)) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return Err(error),
        }
    }
    Ok(())
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text_and_refuse_anything_else() {
        let id = SlotId([0, 1, 0x7f, 0x80, 0xfe, 0xff, 9, 10]);
        assert_eq!(id.to_string(), "00017f80feff090a");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id:?}"), "SlotId(00017f80)");
        for wrong in ["", "00", "00017F80FEFF090A", "00017f80feff090", "00017f80feff090é", "0x017f80feff090a"] {
            assert!(wrong.parse::<SlotId>().is_err(), "{wrong:?}");
        }
    }
}
