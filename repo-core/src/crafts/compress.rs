//! Compresses a blob's plaintext with zstd, or leaves it as it is where that is not smaller.
//!
//! Frames carry no checksum, dictionary id or content size: the seal guards the bytes, and the pack's trailer knows the
//! length.

use crate::words::error::{Error, Result};
use zstd::bulk;
use zstd::zstd_safe::{CParameter, DParameter};

/// How a blob's plaintext became what is sealed, by its number in stored objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Encoding {
    /// As it is.
    Stored = 0,
    /// A zstd frame.
    Zstd = 1,
    /// A zstd frame whose prefix is the plaintext of the blob's bases.
    ZstdPrefix = 2,
}

impl Encoding {
    /// Returns the encoding of this number, or `None` for one that this version does not know.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Encoding::Stored),
            1 => Some(Encoding::Zstd),
            2 => Some(Encoding::ZstdPrefix),
            _ => None,
        }
    }
}

/// Compresses blobs at one level; keeps its context between them, some MiB.
pub struct Compressor(bulk::Compressor<'static>);

impl Compressor {
    /// Creates a compressor of this zstd level, from -7 (fastest) to 19 (smallest).
    ///
    /// # Errors
    /// [`Error::Invalid`]: a level out of range. [`Error::System`]: no memory.
    pub fn new(level: i32) -> Result<Self> {
        if !(-7..=19).contains(&level) {
            return Err(Error::Invalid(format!("compression level {level} can't be: from -7 to 19")));
        }
        let system = |error| Error::System(format!("cannot set up zstd: {error}"));
        let mut inner = bulk::Compressor::new(level).map_err(system)?;
        for parameter in
            [CParameter::ChecksumFlag(false), CParameter::ContentSizeFlag(false), CParameter::DictIdFlag(false)]
        {
            inner.set_parameter(parameter).map_err(system)?;
        }
        Ok(Compressor(inner))
    }

    /// Returns the smaller of the plaintext itself and its zstd frame.
    ///
    /// # Errors
    /// [`Error::System`]: zstd failed, which only a lack of memory explains.
    pub fn compress(&mut self, plain: &[u8]) -> Result<(Encoding, Vec<u8>)> {
        let frame =
            self.0.compress(plain).map_err(|error| Error::System(format!("zstd cannot compress a blob: {error}")))?;
        if frame.len() < plain.len() { Ok((Encoding::Zstd, frame)) } else { Ok((Encoding::Stored, plain.to_vec())) }
    }
}

/// Inflates blobs; keeps its context between them.
pub struct Decompressor(bulk::Decompressor<'static>);

impl Decompressor {
    /// Creates a decompressor.
    ///
    /// # Errors
    /// [`Error::System`]: no memory.
    pub fn new() -> Result<Self> {
        let system = |error| Error::System(format!("cannot set up zstd: {error}"));
        let mut inner = bulk::Decompressor::new().map_err(system)?;
        inner.set_parameter(DParameter::WindowLogMax(27)).map_err(system)?;
        Ok(Decompressor(inner))
    }

    /// Returns the plaintext, which is exactly `plain_bytes` long, or what is wrong with the encoded bytes.
    ///
    /// Allocates no more than `plain_bytes`, which the caller has bounded.
    pub fn decompress(&mut self, encoding: Encoding, encoded: &[u8], plain_bytes: usize) -> Result<Vec<u8>, String> {
        let plain = match encoding {
            Encoding::Stored => encoded.to_vec(),
            Encoding::Zstd => {
                self.0.decompress(encoded, plain_bytes).map_err(|error| format!("it does not inflate: {error}"))?
            }
            Encoding::ZstdPrefix => {
                return Err("it is delta-compressed, which this version does not read".to_owned());
            }
        };
        if plain.len() != plain_bytes {
            return Err(format!("it inflates to {} bytes instead of {plain_bytes}", plain.len()));
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(plain: &[u8]) -> Encoding {
        let (encoding, encoded) = Compressor::new(3).expect("set up").compress(plain).expect("compresses");
        let back = Decompressor::new().expect("set up").decompress(encoding, &encoded, plain.len());
        assert_eq!(back.as_deref(), Ok(plain));
        encoding
    }

    #[test]
    fn the_smaller_of_frame_and_plaintext_is_kept() {
        assert_eq!(round_trip(&[b'a'; 10_000]), Encoding::Zstd);
        let mut noise = vec![0; 10_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(round_trip(&noise), Encoding::Stored);
        assert_eq!(round_trip(b""), Encoding::Stored);
    }

    #[test]
    fn a_wrong_length_is_an_error_in_both_directions() {
        let plain = vec![b'a'; 10_000];
        let (encoding, encoded) = Compressor::new(3).expect("set up").compress(&plain).expect("compresses");
        let mut decompressor = Decompressor::new().expect("set up");
        for wrong in [0, 9_999, 10_001] {
            assert!(decompressor.decompress(encoding, &encoded, wrong).is_err(), "{wrong}");
        }
        assert!(decompressor.decompress(Encoding::Stored, b"abc", 4).is_err());
    }
}
