//! A table that is dumped as rows of text, and changes from day to day as tables do.

use super::random::Random;

/// A table. Its rows have numbers, and fields that are random.
pub struct Table {
    random: Random,
    rows: Vec<String>,
    rows_made_n: usize,
}

impl Table {
    /// Creates a table of so many rows, of about 80 bytes each.
    pub fn create(seed: u64, rows_n: usize) -> Self {
        let mut table = Table { random: Random::seeded(seed), rows: Vec::new(), rows_made_n: 0 };
        table.append(rows_n);
        table
    }

    /// Lets a day go by: of every hundred rows one is updated, so that no chunk stays as it was; a few rows are deleted, and
    /// one in a hundred is appended.
    pub fn change(&mut self) {
        for first in (0..self.rows.len()).step_by(100) {
            let at = first + self.random.below(100.min(self.rows.len() - first));
            let number = self.rows[at].split('\t').next().expect("a row has fields").to_owned();
            self.rows[at] = row(&mut self.random, &number);
        }
        for _ in 0..5 {
            let at = self.random.below(self.rows.len());
            self.rows.remove(at);
        }
        self.append(self.rows.len() / 100);
    }

    /// Returns the dump.
    pub fn dump(&self) -> Vec<u8> {
        self.rows.concat().into_bytes()
    }

    /// Returns the dump with its rows in so many blocks, the last block first.
    pub fn dump_backwards(&self, blocks_n: usize) -> Vec<u8> {
        let blocks = self.rows.chunks(self.rows.len().div_ceil(blocks_n));
        blocks.rev().map(<[String]>::concat).collect::<String>().into_bytes()
    }

    fn append(&mut self, rows_n: usize) {
        for _ in 0..rows_n {
            self.rows_made_n += 1;
            let number = format!("{:07}", self.rows_made_n);
            self.rows.push(row(&mut self.random, &number));
        }
    }
}

fn row(random: &mut Random, number: &str) -> String {
    let (amount, user, day) = (random.below(1 << 30), random.below(5000), random.below(28) + 1);
    let token = random.below(usize::MAX);
    format!("{number}\t{amount:010}\tuser{user:04}@example.org\t2026-01-{day:02} 00:00:00\t{token:016x}\n")
}
