//! Text like a dump's: rows that never repeat and that compress, made as fast as it is needed and the same every time.

/// Bytes of a row.
pub const ROW_BYTES: usize = 96;

/// Rows made at once, about 96 KiB.
const BLOCK_ROWS: usize = 1024;

const NAMES: [&[u8; 8]; 16] = [
    b"adelaide",
    b"benjamin",
    b"caroline",
    b"domenico",
    b"eleonora",
    b"fernando",
    b"giuliana",
    b"herminia",
    b"isabella",
    b"jonathan",
    b"kimberly",
    b"leonardo",
    b"margaret",
    b"nicholas",
    b"penelope",
    b"rosalind",
];
const CITIES: [&[u8; 8]; 16] = [
    b"Augsburg",
    b"Bordeaux",
    b"Cagliari",
    b"Dortmund",
    b"Erlangen",
    b"Freiburg",
    b"Grenoble",
    b"Helsinki",
    b"Istanbul",
    b"Klaipeda",
    b"Ljubljan",
    b"Montreal",
    b"Nijmegen",
    b"Oslofjor",
    b"Pamplona",
    b"Tampere1",
];
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The rows of one seed, block by block.
pub struct Text {
    seed: u64,
    row: u64,
    left_bytes: u64,
    block: Vec<u8>,
}

impl Text {
    /// Creates the text of this seed and length. Texts of different seeds share nothing that is worth storing once.
    pub fn new(seed: u64, bytes_n: u64) -> Self {
        Text { seed, row: 0, left_bytes: bytes_n, block: vec![0; BLOCK_ROWS * ROW_BYTES] }
    }

    /// Returns the next block, or `None` at the end.
    pub fn next_block(&mut self) -> Option<&[u8]> {
        if self.left_bytes == 0 {
            return None;
        }
        for row in self.block.chunks_exact_mut(ROW_BYTES) {
            write_row(self.seed, self.row, row);
            self.row += 1;
        }
        let bytes_n = self.left_bytes.min(self.block.len() as u64);
        self.left_bytes -= bytes_n;
        Some(&self.block[..bytes_n as usize])
    }

    /// Returns the whole text.
    pub fn collect(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.left_bytes as usize);
        while let Some(block) = self.next_block() {
            bytes.extend_from_slice(block);
        }
        bytes
    }

    /// Returns the hash of the whole text.
    pub fn hash(mut self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        while let Some(block) = self.next_block() {
            hasher.update(block);
        }
        hasher.finalize()
    }
}

/// A row: its number, a name, a city, 24 random hex digits, a date, an amount.
fn write_row(seed: u64, number: u64, row: &mut [u8]) {
    let (a, b) = (scatter(seed ^ number), scatter(!seed ^ number));
    row.copy_from_slice(
        b"000000000000\t........@example.org\t........\t........................\t2026-..-.. ..:..:00\t.....00\n",
    );
    decimal(number, &mut row[..12]);
    row[13..21].copy_from_slice(NAMES[(a & 15) as usize]);
    row[34..42].copy_from_slice(CITIES[(a >> 4 & 15) as usize]);
    let digits = (u128::from(a >> 8) << 64) | u128::from(b);
    for (at, byte) in row[43..67].iter_mut().enumerate() {
        *byte = HEX[(digits >> (4 * at) & 15) as usize];
    }
    decimal(1 + (b >> 3) % 12, &mut row[73..75]);
    decimal(1 + (b >> 9) % 28, &mut row[76..78]);
    decimal((b >> 17) % 24, &mut row[79..81]);
    decimal((b >> 23) % 60, &mut row[82..84]);
    decimal((b >> 31) % 100_000, &mut row[88..93]);
}

fn decimal(mut number: u64, into: &mut [u8]) {
    for byte in into.iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): one step from `state`.
fn scatter(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_text_is_the_same_every_time_and_has_no_row_twice() {
        let text = Text::new(1, 1_000_000).collect();
        assert_eq!(text.len(), 1_000_000);
        assert_eq!(text, Text::new(1, 1_000_000).collect());
        assert_eq!(blake3::hash(&text), Text::new(1, 1_000_000).hash());
        let other = Text::new(2, 1_000_000).collect();
        let rows: HashSet<_> = text.chunks_exact(ROW_BYTES).chain(other.chunks_exact(ROW_BYTES)).collect();
        assert_eq!(rows.len(), 2 * (1_000_000 / ROW_BYTES));
        assert!(text.is_ascii() && text[ROW_BYTES - 1] == b'\n');
    }
}
