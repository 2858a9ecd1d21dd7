//! The table of states, and hashing for numbers.

use std::hash::{BuildHasherDefault, Hasher};

/// All states in the order in which they were found, each with the one that it was found from, and a table to find them.
pub struct States {
    width: usize,
    words: Vec<u32>,
    /// For each state, the one that it was found from.
    pub parents: Vec<u32>,
    table: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl States {
    /// Creates the table, with address space for so many states of so many words.
    pub fn create(width: usize, states_max: usize) -> States {
        // Address space is free; memory is taken as it is filled.
        let capacity = states_max + 4096;
        States {
            width,
            words: Vec::with_capacity(capacity * width),
            parents: Vec::with_capacity(capacity),
            table: vec![EMPTY; 1 << 16],
        }
    }

    /// Returns how many there are.
    pub fn n(&self) -> usize {
        self.parents.len()
    }

    /// Returns a state by its number.
    pub fn get(&self, at: usize) -> &[u32] {
        &self.words[at * self.width..(at + 1) * self.width]
    }

    /// Adds a state, unless it is there; returns whether it was not.
    pub fn insert(&mut self, state: &[u32], parent: u32) -> bool {
        if (self.n() + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut slot = hash_of(state) as usize & mask;
        loop {
            match self.table[slot] {
                EMPTY => break,
                at if self.get(at as usize) == state => return false,
                _ => slot = (slot + 1) & mask,
            }
        }
        self.table[slot] = u32::try_from(self.n()).expect("fewer than 2^32 states");
        self.words.extend_from_slice(state);
        self.parents.push(parent);
        true
    }

    fn grow(&mut self) {
        let slots_n = self.table.len() * 2;
        self.table = Vec::new();
        self.table = vec![EMPTY; slots_n];
        let mask = slots_n - 1;
        for at in 0..self.n() {
            let mut slot = hash_of(self.get(at)) as usize & mask;
            while self.table[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = at as u32;
        }
    }
}

fn hash_of(state: &[u32]) -> u64 {
    let mix = |hash: u64, word: &u32| (hash ^ u64::from(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let hash = state.iter().fold(0x2545_f491_4f6c_dd1d, mix);
    hash ^ hash >> 32
}

/// Hashes pairs of numbers.
#[derive(Default)]
pub struct QuickHasher(u64);

/// The hasher of tables whose keys are numbers.
pub type Quick = BuildHasherDefault<QuickHasher>;

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, word: u32) {
        self.0 = (self.0.rotate_left(23) ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
