//! Randomness from a seed: the same on every machine.

/// A stream of random numbers, from BLAKE3.
pub struct Random(blake3::OutputReader);

impl Random {
    /// Creates the stream of a seed, and prints the seed so that a failure can be repeated.
    pub fn seeded(seed: u64) -> Self {
        eprintln!("seed {seed}");
        Random(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % end as u64) as usize
    }

    /// Returns random bytes, which do not compress.
    pub fn bytes(&mut self, bytes_n: usize) -> Vec<u8> {
        let mut bytes = vec![0; bytes_n];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Returns lines of text, which compress about three times.
    pub fn text(&mut self, bytes_n: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes_n + 100);
        while text.len() < bytes_n {
            let (id, word) = (self.below(1 << 30), self.below(2000));
            text.extend_from_slice(format!("{id}\tuser{word}@example.org\t2026-01-01 00:00:00\tactive\n").as_bytes());
        }
        text.truncate(bytes_n);
        text
    }
}
