//! Cuts a stream into chunks at places that its content chooses, so that an insertion moves no cut far away.
//!
//! FastCDC as of Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems"
//! (IEEE TPDS 2020), by the `fastcdc` crate (`v2020`), with a gear table of the repository's own: its 256 words are a
//! keyed BLAKE3 stream. The key makes cuts differ between repositories. It does not hide what is stored from somebody
//! who can see many chunk lengths ("Breaking and Fixing Content-Defined Chunking", eprint 2025/558); what hides lengths
//! is that none leaves the sealed packs.
//!
//! Cut points are stored facts: a change of them would store every stream anew. Golden vectors hold them.

mod scan;

use self::scan::{Gear, Rule};
use crate::words::error::{Error, Result};
use crate::words::limits::CHUNK_BYTES_MAX;
use fastcdc::v2020::{self, Normalization};

/// Which algorithm cuts a stream, by its number in stored objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[non_exhaustive]
pub enum ChunkerKind {
    /// FastCDC (2020) with a keyed gear table: number 1.
    FastCdc,
}

impl From<ChunkerKind> for u8 {
    fn from(kind: ChunkerKind) -> u8 {
        match kind {
            ChunkerKind::FastCdc => 1,
        }
    }
}

impl TryFrom<u8> for ChunkerKind {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1 => Ok(ChunkerKind::FastCdc),
            _ => Err(format!("there is no chunker {number}")),
        }
    }
}

/// How a stream is cut. Stored with every stream; equal parameters cut equal bytes equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChunkerParams {
    /// The algorithm.
    pub kind: ChunkerKind,
    /// No cut before this many bytes. Even, 64 B to 1 MiB.
    pub min_bytes: u32,
    /// The length around which chunks gather, in bytes. Even, 256 B to 4 MiB; the mean is about 1.3 times this.
    pub avg_bytes: u32,
    /// A cut at the latest after this many bytes. Even, 1 KiB to 16 MiB.
    pub max_bytes: u32,
    /// How strongly lengths gather around the average: 0 to 3.
    pub normalization: u8,
}

impl Default for ChunkerParams {
    fn default() -> Self {
        ChunkerParams {
            kind: ChunkerKind::FastCdc,
            min_bytes: 16 * 1024,
            avg_bytes: 64 * 1024,
            max_bytes: 256 * 1024,
            normalization: 1,
        }
    }
}

impl ChunkerParams {
    /// Returns the parameters, or why they can't be.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a length is out of its range, odd, or not in the order min ≤ avg ≤ max.
    pub fn checked(self) -> Result<Self> {
        let ChunkerParams { min_bytes: min, avg_bytes: avg, max_bytes: max, normalization, .. } = self;
        let in_range = |value: u32, low: usize, high: usize| (low..=high).contains(&(value as usize));
        if !in_range(min, v2020::MINIMUM_MIN, v2020::MINIMUM_MAX)
            || !in_range(avg, v2020::AVERAGE_MIN, v2020::AVERAGE_MAX)
            || !in_range(max, v2020::MAXIMUM_MIN, v2020::MAXIMUM_MAX.min(CHUNK_BYTES_MAX))
            || min > avg
            || avg > max
            || [min, avg, max].iter().any(|bytes| bytes % 2 == 1)
            || normalization > 3
        {
            return Err(Error::Invalid(format!(
                "chunker parameters min={min} avg={avg} max={max} normalization={normalization} can't be: even, \
                 min <= avg <= max, within 64 B..1 MiB, 256 B..4 MiB, 1 KiB..16 MiB, normalization 0..3"
            )));
        }
        Ok(self)
    }
}

/// Cuts streams of one repository. Cheap to keep, about 4 KiB.
pub struct Chunker {
    params: ChunkerParams,
    gear: Box<Gear>,
    rule: Rule,
}

impl Chunker {
    /// Creates the chunker of these parameters, its gear table drawn from `gear_key`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: see [`ChunkerParams::checked`].
    pub fn new(params: ChunkerParams, gear_key: &[u8; 32]) -> Result<Self> {
        let params = params.checked()?;
        let level = match params.normalization {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            2 => Normalization::Level2,
            _ => Normalization::Level3,
        };
        let (mask_small, mask_large) = v2020::select_masks(params.avg_bytes as usize, level);
        let mut stream = blake3::Hasher::new_keyed(gear_key).finalize_xof();
        let words: [u64; 256] = std::array::from_fn(|_| {
            let mut word = [0; 8];
            stream.fill(&mut word);
            u64::from_le_bytes(word)
        });
        let shifted = words.map(|word| word << 1);
        let rule = Rule {
            min_bytes: params.min_bytes as usize,
            avg_bytes: params.avg_bytes as usize,
            max_bytes: params.max_bytes as usize,
            mask_small,
            mask_large,
        };
        Ok(Chunker { params, gear: Box::new(Gear { words, shifted }), rule })
    }

    /// Returns the parameters.
    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// Cuts `bytes`, which start at a cut, and appends the chunks' lengths; returns how many bytes they cover.
    ///
    /// With `at_end` the last chunk ends where the bytes do. Without, what could still become part of a longer chunk is
    /// left for the next call, which must bring it again: always less than the longest chunk.
    pub fn cut(&self, bytes: &[u8], at_end: bool, lengths: &mut Vec<u32>) -> usize {
        self.cut_by(bytes, at_end, lengths, |rest| scan::first_cut(&self.gear, self.rule, rest))
    }

    /// As [`Chunker::cut`], by the crate `fastcdc` itself, whose cuts are the ones that repositories hold; slower.
    pub fn cut_plainly(&self, bytes: &[u8], at_end: bool, lengths: &mut Vec<u32>) -> usize {
        let Rule { min_bytes, avg_bytes, max_bytes, mask_small, mask_large } = self.rule;
        let (shifted_small, shifted_large) = (mask_small << 1, mask_large << 1);
        let Gear { words, shifted } = &*self.gear;
        self.cut_by(bytes, at_end, lengths, |rest| {
            #[rustfmt::skip]
            let (_, length) = v2020::cut_gear(
                rest, min_bytes, avg_bytes, max_bytes, mask_small, mask_large, shifted_small, shifted_large, words, shifted,
            );
            length
        })
    }

    fn cut_by(&self, bytes: &[u8], at_end: bool, lengths: &mut Vec<u32>, first_cut: impl Fn(&[u8]) -> usize) -> usize {
        let longest = self.params.max_bytes as usize;
        let mut covered = 0;
        while let Some(rest) = bytes.get(covered..)
            && !rest.is_empty()
            && (at_end || rest.len() >= longest)
        {
            let length = first_cut(rest);
            assert!((1..=longest.min(rest.len())).contains(&length), "a cut is inside what is cut");
            lengths.push(length as u32);
            covered += length;
        }
        covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A fixed stream: the BLAKE3 output of a fixed input.
    fn sample(bytes_n: usize) -> Vec<u8> {
        let mut bytes = vec![0; bytes_n];
        blake3::Hasher::new().update(b"cut points").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cut_all(params: ChunkerParams, bytes: &[u8]) -> Vec<u32> {
        let mut lengths = Vec::new();
        let covered = Chunker::new(params, &[7; 32]).expect("valid").cut(bytes, true, &mut lengths);
        assert_eq!(covered, bytes.len());
        lengths
    }

    #[test]
    fn cut_points_are_the_ones_that_repositories_hold() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/cuts.txt");
        let lengths = cut_all(ChunkerParams::default(), &sample(4 << 20));
        let text: String = lengths.iter().map(|length| format!("{length}\n")).collect();
        if std::env::var_os("DEDUMP_BLESS").is_some() {
            std::fs::write(path, &text).expect("the golden file can be written");
        }
        assert_eq!(text, std::fs::read_to_string(path).expect("the golden file is there"));
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_stream_arrives() {
        let bytes = sample(1 << 20);
        let whole = cut_all(ChunkerParams::default(), &bytes);
        let chunker = Chunker::new(ChunkerParams::default(), &[7; 32]).expect("valid");
        for step in [1 << 12, 100_003, 300_000] {
            let (mut lengths, mut start) = (Vec::new(), 0);
            for end in (step..bytes.len()).step_by(step) {
                start += chunker.cut(&bytes[start..end], false, &mut lengths);
            }
            chunker.cut(&bytes[start..], true, &mut lengths);
            assert_eq!(lengths, whole, "in steps of {step}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn cuts_are_those_of_the_crate(
            (min, avg, max) in (32_u32..20_000, 0_u32..40_000, 0_u32..200_000),
            normalization in 0_u8..=3,
            seed in any::<[u8; 32]>(),
            bytes_n in 0_usize..400_000,
            alphabet in 1_u8..=255,
            at_end in any::<bool>(),
        ) {
            let (min_bytes, avg_bytes) = (2 * min, (2 * (min + avg)).max(256));
            let max_bytes = (avg_bytes + 2 * max).max(1024);
            let kind = ChunkerKind::FastCdc;
            let params = ChunkerParams { kind, min_bytes, avg_bytes, max_bytes, normalization };
            let chunker = Chunker::new(params, &seed).expect("valid");
            let mut bytes = vec![0; bytes_n];
            blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut bytes);
            bytes.iter_mut().for_each(|byte| *byte %= alphabet);
            let (mut plainly, mut lengths) = (Vec::new(), Vec::new());
            let covered = chunker.cut_plainly(&bytes, at_end, &mut plainly);
            prop_assert_eq!(chunker.cut(&bytes, at_end, &mut lengths), covered);
            prop_assert_eq!(lengths, plainly);
        }
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let bytes = sample(1 << 20);
        let mut lengths = Vec::new();
        Chunker::new(ChunkerParams::default(), &[8; 32]).expect("valid").cut(&bytes, true, &mut lengths);
        assert_ne!(lengths, cut_all(ChunkerParams::default(), &bytes));
    }

    #[test]
    fn parameters_that_cannot_be_are_refused() {
        let good = ChunkerParams::default();
        for bad in [
            ChunkerParams { min_bytes: 0, ..good },
            ChunkerParams { min_bytes: 16_385, ..good },
            ChunkerParams { avg_bytes: 1024, ..good },
            ChunkerParams { max_bytes: u32::MAX, ..good },
            ChunkerParams { normalization: 4, ..good },
        ] {
            assert!(bad.checked().is_err(), "{bad:?}");
        }
    }
}
