//! Sketches: a few bytes that tell like chunks from others.
//!
//! Super-features after Broder ("Identifying and Filtering Near-Duplicate Documents", CPM 2000), taken over sampled
//! windows as in Odess (Zou et al., "The Dynamic Sketch", ACM Transactions on Storage 2023): where a few neighbouring
//! bytes say so, about one place in 128, the 32 bytes from there on make a feature value; twelve linear permutations of it
//! are followed, the greatest value of each over the chunk is a feature, and four features make a super-feature. Two chunks
//! of which 1 % differs share a super-feature almost always, two that have nothing to do with one another almost never.
//!
//! The sampling must not cost what it saves: it is a weighted sum of five bytes, so that compilers turn it into vector
//! instructions (about 4 GB/s a core; a multiplication a byte reached 1.4).

/// What tells like chunks apart from others: three super-features of 4 bytes, little-endian. All zero: nothing is known.
pub type Sketch = [u8; SKETCH_BYTES];

/// Length of a sketch.
pub const SKETCH_BYTES: usize = 4 * SUPER_FEATURES_N;

const SUPER_FEATURES_N: usize = 3;
const FEATURES_N: usize = 4 * SUPER_FEATURES_N;
/// Length of the window whose bytes make a feature value.
const WINDOW_BYTES: usize = 32;
/// Places that are looked at in one go.
const STRIDE: usize = 1024;
/// Bytes that decide about a place.
const DECIDERS_N: usize = 5;
/// A place is sampled if the sum of its deciders, in these bits, is [`SAMPLE`]; not 0, which long runs of zeros have.
const SAMPLE_MASK: u8 = 0x7f;
const SAMPLE: u8 = 0x2a;

/// Odd multipliers and offsets of the permutations: words of the fractional part of the golden ratio, hashed.
const PERMUTATIONS: [(u32, u32); FEATURES_N] = permutations();

const fn permutations() -> [(u32, u32); FEATURES_N] {
    let mut made = [(0, 0); FEATURES_N];
    let (mut state, mut number) = (0u64, 0);
    while number < FEATURES_N {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = mix(state);
        made[number] = ((word >> 32) as u32 | 1, word as u32);
        number += 1;
    }
    made
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Returns the sketch of a chunk; all zero for one of less than about 1 KiB, or without a single sample.
pub fn sketch(chunk: &[u8]) -> Sketch {
    let (mut features, mut is_sampled, mut last) = ([0u32; FEATURES_N], false, 0);
    let mut rest = chunk;
    while let Some(stride) = rest.first_chunk::<{ STRIDE + WINDOW_BYTES }>() {
        for at in samples(stride) {
            let value = window_value(stride, at);
            // A long run of equal bytes gives the same value again and again.
            if is_sampled && value == last {
                continue;
            }
            (is_sampled, last) = (true, value);
            for (feature, (multiplier, offset)) in features.iter_mut().zip(PERMUTATIONS) {
                let permuted = value.wrapping_mul(multiplier).wrapping_add(offset);
                *feature = (*feature).max(permuted ^ (permuted >> 15));
            }
        }
        rest = &rest[STRIDE..];
    }
    let mut sketch = [0; SKETCH_BYTES];
    if is_sampled {
        for (super_feature, features) in sketch.chunks_exact_mut(4).zip(features.chunks_exact(4)) {
            let mixed = features.iter().fold(0, |mixed, feature| mix(mixed ^ u64::from(*feature)));
            super_feature.copy_from_slice(&((mixed >> 32) as u32).to_le_bytes());
        }
    }
    sketch
}

/// Returns the places of a stride that are sampled.
fn samples(stride: &[u8; STRIDE + WINDOW_BYTES]) -> impl Iterator<Item = usize> {
    let mut chosen = [0u8; STRIDE];
    let deciders: &[u8; STRIDE + DECIDERS_N] = stride.first_chunk().expect("a window is longer than the deciders");
    for (at, chosen) in chosen.iter_mut().enumerate() {
        let sum = deciders[at]
            .wrapping_add(deciders[at + 1].wrapping_mul(3))
            .wrapping_add(deciders[at + 2].wrapping_mul(5))
            .wrapping_add(deciders[at + 3].wrapping_mul(9))
            .wrapping_add(deciders[at + 4].wrapping_mul(17));
        *chosen = u8::from(sum & SAMPLE_MASK == SAMPLE);
    }
    (0..STRIDE / 64).flat_map(move |block| {
        // A bit a place: that is 16 questions to ask, of which half are answered with yes, instead of 128.
        let mut flags =
            (0..8).fold(0, |flags, group| flags | bits(word(&chosen, block * 64 + group * 8)) << (group * 8));
        std::iter::from_fn(move || {
            let at = (flags != 0).then(|| block * 64 + flags.trailing_zeros() as usize);
            flags &= flags.wrapping_sub(1);
            at
        })
    })
}

/// Returns the lowest bit of each of eight bytes that are 0 or 1.
fn bits(bytes: u64) -> u64 {
    bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

fn window_value(bytes: &[u8], at: usize) -> u32 {
    let mixed = (0..WINDOW_BYTES / 8).fold(0u64, |mixed, number| {
        (mixed.rotate_left(23) ^ word(bytes, at + number * 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (mixed >> 32) as u32
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes are there"))
}

/// Returns the super-features, by number; those that say nothing are `None`.
pub fn super_features(sketch: &Sketch) -> [Option<u32>; SUPER_FEATURES_N] {
    let mut features = sketch.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let is_known = *sketch != [0; SKETCH_BYTES];
    std::array::from_fn(|_| features.next().filter(|_| is_known))
}

/// Returns how many super-features two sketches share: 0 if they are not alike, or if nothing is known of one.
pub fn likeness(a: &Sketch, b: &Sketch) -> u32 {
    let (a, b) = (super_features(a), super_features(b));
    a.iter().zip(b).map(|(a, b)| u32::from(a.is_some() && *a == b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of text that differ in every field.
    fn rows(seed: u64, rows_n: u64) -> Vec<u8> {
        let row = |number: u64| {
            let word = mix(seed ^ mix(number));
            format!("{number}\t{:08x}\tuser{}@example.com\t{word:016x}{:016x}\n", word >> 32, word % 9973, mix(word))
        };
        (0..rows_n).flat_map(|number| row(number).into_bytes()).collect()
    }

    #[test]
    fn a_chunk_is_like_itself_after_a_few_changes() {
        let before = rows(1, 900);
        let mut unlike_n = 0;
        for seed in 0..100 {
            let mut after = before.clone();
            for change in 0..9 {
                let at = mix(seed * 100 + change) as usize % (after.len() - 8);
                after[at..at + 8].copy_from_slice(&format!("{:08x}", mix(change ^ seed) as u32).into_bytes());
            }
            // A row is gone, too, so everything behind it has moved.
            after.drain(20_000..20_070);
            unlike_n += usize::from(likeness(&sketch(&before), &sketch(&after)) == 0);
        }
        assert!(unlike_n <= 2, "{unlike_n} of 100");
    }

    #[test]
    fn chunks_that_have_nothing_to_do_with_one_another_are_not_alike() {
        let sketches: Vec<Sketch> = (0..200).map(|seed| sketch(&rows(seed, 900))).collect();
        let alike =
            |number: usize| sketches[..number].iter().filter(|other| likeness(other, &sketches[number]) > 0).count();
        assert_eq!((0..sketches.len()).map(alike).sum::<usize>(), 0);
    }

    #[test]
    fn what_is_too_short_or_too_even_says_nothing() {
        for nothing in [&b""[..], &[7; 1000], &[0; 100_000]] {
            assert_eq!(sketch(nothing), [0; SKETCH_BYTES]);
        }
        assert_eq!(likeness(&[0; SKETCH_BYTES], &[0; SKETCH_BYTES]), 0);
        assert_eq!(likeness(&sketch(&rows(1, 900)), &[0; SKETCH_BYTES]), 0);
    }

    #[test]
    fn sketches_do_not_change_between_releases() {
        let expected = [116, 184, 221, 133, 236, 10, 156, 157, 186, 45, 83, 97];
        assert_eq!(sketch(&rows(7, 900)), expected, "or unchanged leaves would be stored again");
    }
}
