//! Compresses a blob's plaintext with zstd, or leaves it as it is where that is not smaller.
//!
//! Frames carry no checksum, dictionary id or content size: the seal guards the bytes, and the pack's trailer knows the
//! length.
//!
//! A delta is a frame that refers to a prefix (`ZSTD_CCtx_refPrefix`), plaintext that reader and writer have both. zstd's own
//! tables for a level are too small to remember a prefix of a megabyte, so they are chosen by its length: a day of PostgreSQL
//! dumps in deltas of 1 MiB took 9.6 MiB with such tables and 12.5 MiB without.

use crate::words::error::{Error, Result};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, Strategy, compress_bound, get_error_name};

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

/// How what is stored is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Quickly, and harder while a store that is far away takes less than what is ready for it.
    #[default]
    Auto,
    /// At this level of zstd, from -7 (fastest) to 19 (smallest).
    Level(i32),
}

/// How hard a compressor tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// zstd's quickest search with a larger memory than its own levels give it, and only for long matches: of dumps as text it
    /// makes 1.6 % less than level 3 does, in three quarters of the time (benches/README.md, "Compression").
    Quick,
    /// A level of zstd.
    Level(i32),
}

impl Effort {
    /// Returns the effort, or why it can't be.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a level out of range.
    pub fn checked(self) -> Result<Self> {
        match self {
            Effort::Level(level) if !(-7..=19).contains(&level) => {
                Err(Error::Invalid(format!("compression level {level} can't be: from -7 to 19")))
            }
            effort => Ok(effort),
        }
    }

    fn parameters(self) -> Vec<CParameter> {
        let mut parameters =
            vec![CParameter::ChecksumFlag(false), CParameter::ContentSizeFlag(false), CParameter::DictIdFlag(false)];
        parameters.extend(match self {
            Effort::Level(level) => vec![CParameter::CompressionLevel(level)],
            Effort::Quick => vec![
                CParameter::CompressionLevel(2),
                CParameter::Strategy(Strategy::ZSTD_fast),
                CParameter::WindowLog(21),
                CParameter::HashLog(17),
                CParameter::MinMatch(7),
            ],
        });
        parameters
    }
}

/// Compresses blobs with one effort; keeps its context between them, some MiB.
pub struct Compressor {
    context: CCtx<'static>,
    buffer: Vec<u8>,
}

/// Compresses deltas with one effort; keeps its context between them, some MiB. Prefixes outlive it.
pub struct DeltaCompressor<'a> {
    context: CCtx<'a>,
    level: i32,
    buffer: Vec<u8>,
}

impl<'a> DeltaCompressor<'a> {
    /// Creates a compressor. The quick effort is level 3 here: its own search makes 3 % more of deltas, and saves 6 % of the time.
    ///
    /// # Errors
    /// As [`Compressor::new`].
    pub fn new(effort: Effort) -> Result<Self> {
        let level = match effort.checked()? {
            Effort::Quick => 3,
            Effort::Level(level) => level,
        };
        Ok(DeltaCompressor { context: context()?, level, buffer: Vec::new() })
    }

    /// Returns the frame of a plaintext that refers to a prefix.
    ///
    /// # Errors
    /// [`Error::System`]: zstd failed, which only a lack of memory explains.
    pub fn compress(&mut self, plain: &[u8], prefix: &'a [u8]) -> Result<Vec<u8>> {
        let failed = |code| Error::System(format!("zstd cannot compress a delta: {}", get_error_name(code)));
        let window_log = (plain.len() + prefix.len()).max(1).ilog2().clamp(17, WINDOW_LOG_MAX - 1) + 1;
        let mut parameters = vec![
            CParameter::CompressionLevel(self.level),
            CParameter::ChecksumFlag(false),
            CParameter::ContentSizeFlag(false),
            CParameter::DictIdFlag(false),
            CParameter::WindowLog(window_log),
        ];
        // From level 5 on, zstd searches in other ways, and its tables are large enough.
        if self.level < 5 {
            let hash_log = (window_log - 3).min(HASH_LOG_MAX);
            parameters.extend([
                CParameter::HashLog(hash_log),
                CParameter::ChainLog(hash_log - 1),
                CParameter::MinMatch(DELTA_MATCH_BYTES_MIN),
            ]);
        }
        for parameter in parameters {
            self.context.set_parameter(parameter).map_err(failed)?;
        }
        self.context.ref_prefix(prefix).map_err(failed)?;
        self.buffer.clear();
        self.buffer.reserve(compress_bound(plain.len()));
        self.context.compress2(&mut self.buffer, plain).map_err(failed)?;
        Ok(self.buffer.clone())
    }
}

/// A window covers any prefix and plaintext that limits allow: 32 and 16 MiB.
const WINDOW_LOG_MAX: u32 = 27;
/// 16 MiB of table; what is longer than 4 times as many bytes is remembered in part.
const HASH_LOG_MAX: u32 = 22;

/// What two versions of a row share is long: with 7 bytes at least, deltas are 2 % smaller and 10 % faster than with zstd's 5.
const DELTA_MATCH_BYTES_MIN: u32 = 7;

fn context<'a>() -> Result<CCtx<'a>> {
    CCtx::try_create().ok_or_else(|| Error::System("cannot set up zstd: no memory".to_owned()))
}

impl Compressor {
    /// Creates a compressor.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a level out of range. [`Error::System`]: no memory.
    pub fn new(effort: Effort) -> Result<Self> {
        let mut context = context()?;
        for parameter in effort.checked()?.parameters() {
            let failed = |code| Error::System(format!("cannot set up zstd: {}", get_error_name(code)));
            context.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Compressor { context, buffer: Vec::new() })
    }

    /// Returns the smaller of the plaintext itself and its zstd frame.
    ///
    /// # Errors
    /// [`Error::System`]: zstd failed, which only a lack of memory explains.
    pub fn compress(&mut self, plain: &[u8]) -> Result<(Encoding, Vec<u8>)> {
        self.buffer.clear();
        self.buffer.reserve(compress_bound(plain.len()));
        let failed = |code| Error::System(format!("zstd cannot compress a blob: {}", get_error_name(code)));
        self.context.compress2(&mut self.buffer, plain).map_err(failed)?;
        let (encoding, bytes) = if self.buffer.len() < plain.len() {
            (Encoding::Zstd, &self.buffer[..])
        } else {
            (Encoding::Stored, plain)
        };
        Ok((encoding, bytes.to_vec()))
    }
}

/// Inflates blobs; keeps its context between them. Prefixes outlive it.
pub struct Decompressor<'a>(DCtx<'a>);

impl<'a> Decompressor<'a> {
    /// Creates a decompressor.
    ///
    /// # Errors
    /// [`Error::System`]: no memory.
    pub fn new() -> Result<Self> {
        let system = |error: &str| Error::System(format!("cannot set up zstd: {error}"));
        let mut context = DCtx::try_create().ok_or_else(|| system("no memory"))?;
        let window = DParameter::WindowLogMax(WINDOW_LOG_MAX);
        context.set_parameter(window).map_err(|code| system(get_error_name(code)))?;
        Ok(Decompressor(context))
    }

    /// Returns the plaintext, which is exactly `plain_bytes` long, or what is wrong with the encoded bytes. The prefix is
    /// that of a delta; for other encodings nothing.
    ///
    /// Allocates no more than `plain_bytes`, which the caller has bounded.
    pub fn decompress(
        &mut self,
        encoding: Encoding,
        encoded: &[u8],
        prefix: &'a [u8],
        plain_bytes: usize,
    ) -> Result<Vec<u8>, String> {
        self.decompress_into(Vec::new(), encoding, encoded, prefix, plain_bytes)
    }

    /// As [`Decompressor::decompress`], into a buffer, whose bytes are replaced.
    pub fn decompress_into(
        &mut self,
        mut plain: Vec<u8>,
        encoding: Encoding,
        encoded: &[u8],
        prefix: &'a [u8],
        plain_bytes: usize,
    ) -> Result<Vec<u8>, String> {
        plain.clear();
        plain.reserve_exact(plain_bytes);
        match encoding {
            Encoding::Stored => plain.extend_from_slice(encoded),
            Encoding::Zstd | Encoding::ZstdPrefix => {
                let failed = |code| format!("it does not inflate: {}", get_error_name(code));
                // Also where there is none, so that none is left from before.
                self.0.ref_prefix(prefix).map_err(failed)?;
                self.0.decompress(&mut plain, encoded).map_err(failed)?;
            }
        }
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
        let [first, others @ ..] =
            [Effort::Quick, Effort::Level(3), Effort::Level(-7), Effort::Level(9)].map(|effort| {
                let (encoding, encoded) = Compressor::new(effort).expect("set up").compress(plain).expect("compresses");
                let back = Decompressor::new().expect("set up").decompress(encoding, &encoded, b"", plain.len());
                assert_eq!(back.as_deref(), Ok(plain));
                encoding
            });
        assert_eq!(others, [first; 3]);
        first
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
        let (encoding, encoded) =
            Compressor::new(Effort::Level(3)).expect("set up").compress(&plain).expect("compresses");
        let mut decompressor = Decompressor::new().expect("set up");
        for wrong in [0, 9_999, 10_001] {
            assert!(decompressor.decompress(encoding, &encoded, b"", wrong).is_err(), "{wrong}");
        }
        assert!(decompressor.decompress(Encoding::Stored, b"abc", b"", 4).is_err());
    }

    fn noise(seed: u8, bytes_n: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes_n];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
        noise
    }

    #[test]
    fn a_delta_takes_what_differs_whatever_the_lengths() {
        for (prefix_bytes, level) in
            [(0, 3), (1, 3), (100_000, 3), (600_000, 1), (2_000_000, 3), (20_000_000, 3), (600_000, 9)]
        {
            let prefix = noise(1, prefix_bytes);
            let mut plain = prefix.clone();
            plain.splice(prefix_bytes / 2..prefix_bytes / 2, *b"a row that was not there");
            let frame = DeltaCompressor::new(Effort::Level(level))
                .expect("set up")
                .compress(&plain, &prefix)
                .expect("compresses");
            assert!(frame.len() < 200 + prefix_bytes / 500, "{} at {prefix_bytes}", frame.len());
            let mut decompressor = Decompressor::new().expect("set up");
            let back = decompressor.decompress(Encoding::ZstdPrefix, &frame, &prefix, plain.len());
            assert!(back.as_deref() == Ok(&plain[..]), "{prefix_bytes}");
            // The context is not spoilt for the next one.
            let (encoding, whole) = Compressor::new(Effort::Level(3))
                .expect("set up")
                .compress(b"aaaaaaaaaaaaaaaaaaaaaaaaaaa")
                .expect("compresses");
            assert!(decompressor.decompress(encoding, &whole, b"", 27).is_ok());
        }
    }

    #[test]
    fn a_delta_with_another_prefix_is_an_error_or_other_bytes() {
        let (prefix, other) = (noise(1, 100_000), noise(2, 100_000));
        let frame = DeltaCompressor::new(Effort::Level(3))
            .expect("set up")
            .compress(&prefix.clone(), &prefix)
            .expect("compresses");
        let mut decompressor = Decompressor::new().expect("set up");
        for wrong in [&other[..], &prefix[..prefix.len() - 1], b""] {
            let back = decompressor.decompress(Encoding::ZstdPrefix, &frame, wrong, prefix.len());
            assert!(back.as_deref() != Ok(&prefix[..]), "with {} bytes", wrong.len());
        }
    }
}
