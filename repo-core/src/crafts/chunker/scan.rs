//! Looks for FastCDC's cut points in several places at once.
//!
//! The gear hash of a place is `Σ gear[byte k before it] << k`, and the masks look at its lower 48 bits alone; so whether a
//! place is a cut depends on the 48 bytes up to it and on nothing before. One byte after the other, each step waits for the one
//! before; three places apart from one another need not. The cuts are those of the crate `fastcdc`, bit by bit: tests and the
//! fuzz target `chunker` compare the two.

/// Places that are looked at side by side. With more of them than three a processor runs out of registers.
const LANES_N: usize = 3;
/// Bytes from one such place to the next; even.
const LANE_BYTES: usize = 512;
/// Bytes after which the hash does not know any more what was before them.
const MEMORY_BYTES: usize = 64;

/// The words that bytes stand for, and those shifted left by one, so that two bytes are taken in one step.
pub(super) struct Gear {
    pub words: [u64; 256],
    pub shifted: [u64; 256],
}

/// How long chunks are, and where hashes allow a cut: before the average and after it.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub min_bytes: usize,
    pub avg_bytes: usize,
    pub max_bytes: usize,
    pub mask_small: u64,
    pub mask_large: u64,
}

/// Returns the length of the first chunk of `bytes`.
pub(super) fn first_cut(gear: &Gear, rule: Rule, bytes: &[u8]) -> usize {
    let end = bytes.len().min(rule.max_bytes);
    if end <= rule.min_bytes {
        return end;
    }
    // Places are taken in pairs: of an odd number the last one is not looked at.
    let average = rule.avg_bytes.min(end) & !1;
    let found = gear.find(bytes, rule.mask_small, 0, rule.min_bytes, average);
    let found = found.or_else(|hash| gear.find(bytes, rule.mask_large, hash, average.max(rule.min_bytes), end & !1));
    found.unwrap_or(end)
}

impl Gear {
    /// Returns the first place from `from` to before `to` that the mask lets through, or the hash behind the last one.
    fn find(&self, bytes: &[u8], mask: u64, mut hash: u64, mut from: usize, to: usize) -> Result<usize, u64> {
        while from + LANES_N * LANE_BYTES <= to {
            match self.last_hash(bytes, mask, hash, from) {
                Some(last) => hash = last,
                // Once a chunk; looking for it again costs less than keeping account of it.
                None => break,
            }
            from += LANES_N * LANE_BYTES;
        }
        for (at, byte) in bytes.get(from..to).unwrap_or_default().iter().enumerate() {
            hash = self.step(hash, *byte);
            if hash & mask == 0 {
                return Ok(from + at);
            }
        }
        Err(hash)
    }

    /// Returns the hash behind the last place of all lanes, or nothing if the mask lets one through.
    fn last_hash(&self, bytes: &[u8], mask: u64, hash: u64, from: usize) -> Option<u64> {
        let lanes = bytes.get(from..from + LANES_N * LANE_BYTES)?;
        let (a, rest) = lanes.split_first_chunk::<LANE_BYTES>()?;
        let (b, rest) = rest.split_first_chunk::<LANE_BYTES>()?;
        let (c, _) = rest.split_first_chunk::<LANE_BYTES>()?;
        let before = |lane: &[u8; LANE_BYTES]| {
            lane[LANE_BYTES - MEMORY_BYTES..].iter().fold(0, |hash, byte| self.step(hash, *byte))
        };
        let (mut in_a, mut in_b, mut in_c) = (hash, before(a), before(b));
        let mask_shifted = mask << 1;
        for at in (0..LANE_BYTES).step_by(2) {
            in_a = (in_a << 2).wrapping_add(self.shifted[usize::from(a[at])]);
            in_b = (in_b << 2).wrapping_add(self.shifted[usize::from(b[at])]);
            in_c = (in_c << 2).wrapping_add(self.shifted[usize::from(c[at])]);
            if in_a & mask_shifted == 0 || in_b & mask_shifted == 0 || in_c & mask_shifted == 0 {
                return None;
            }
            in_a = in_a.wrapping_add(self.words[usize::from(a[at + 1])]);
            in_b = in_b.wrapping_add(self.words[usize::from(b[at + 1])]);
            in_c = in_c.wrapping_add(self.words[usize::from(c[at + 1])]);
            if in_a & mask == 0 || in_b & mask == 0 || in_c & mask == 0 {
                return None;
            }
        }
        Some(in_c)
    }

    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.words[usize::from(byte)])
    }
}
