//! A price list of the user's: a line each, `name = number`, and `#` before remarks.

use crate::exit::Failure;
use dedump_core::RestorePlan;
use std::path::Path;

/// What a provider asks for. Whatever the list leaves out costs nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    currency: String,
    per_1000_reads: f64,
    per_1000_lists: f64,
    per_gib_read: f64,
    per_gib_out: f64,
    per_1000_thaws: f64,
    per_gib_thawed: f64,
}

/// What a restore costs, by what it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    pub currency: String,
    pub requests: f64,
    pub retrieval: f64,
    pub traffic: f64,
    pub thawing: f64,
}

impl Cost {
    /// Returns the sum.
    pub fn total(&self) -> f64 {
        self.requests + self.retrieval + self.traffic + self.thawing
    }
}

const NAMES: &str =
    "currency, per_1000_reads, per_1000_lists, per_gib_read, per_gib_out, per_1000_thaws, per_gib_thawed";

impl Prices {
    /// Reads a list.
    ///
    /// # Errors
    /// It can't be read, or says something else.
    pub fn read(path: &Path) -> Result<Prices, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::failed(format!("cannot read the price list {}: {error}", path.display())))?;
        Prices::parse(&text).map_err(|why| Failure::failed(format!("{}: {why}", path.display())))
    }

    fn parse(text: &str) -> Result<Prices, String> {
        let mut prices = Prices::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (name, value) =
                line.split_once('=').ok_or_else(|| format!("line {number} is no price; write name = number"))?;
            let (name, value) = (name.trim(), value.trim());
            if name == "currency" {
                value.clone_into(&mut prices.currency);
                continue;
            }
            let place = match name {
                "per_1000_reads" => &mut prices.per_1000_reads,
                "per_1000_lists" => &mut prices.per_1000_lists,
                "per_gib_read" => &mut prices.per_gib_read,
                "per_gib_out" => &mut prices.per_gib_out,
                "per_1000_thaws" => &mut prices.per_1000_thaws,
                "per_gib_thawed" => &mut prices.per_gib_thawed,
                _ => return Err(format!("line {number}: there is no price {name:?}; there are {NAMES}")),
            };
            let price = value.parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
            *place = price.ok_or_else(|| format!("line {number}: {value:?} is no price; write a number like 0.09"))?;
        }
        Ok(prices)
    }

    /// Returns what a restore costs by this list.
    pub fn cost(&self, plan: &RestorePlan) -> Cost {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let data_bytes: u64 = plan.packs.iter().map(|pack| pack.bytes_read).sum();
        let reads_n: u64 = plan.packs.iter().map(|pack| pack.requests_n).sum::<u64>() + plan.opening.reads_n;
        let frozen = || plan.packs.iter().filter(|pack| pack.is_frozen);
        let frozen_bytes: u64 = frozen().map(|pack| pack.bytes).sum();
        Cost {
            currency: self.currency.clone(),
            requests: reads_n as f64 / 1000.0 * self.per_1000_reads
                + plan.opening.lists_n as f64 / 1000.0 * self.per_1000_lists,
            retrieval: gib(data_bytes) * self.per_gib_read,
            traffic: gib(data_bytes + plan.manifest_bytes) * self.per_gib_out,
            thawing: frozen().count() as f64 / 1000.0 * self.per_1000_thaws + gib(frozen_bytes) * self.per_gib_thawed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_or_refused_by_its_line() {
        let prices =
            Prices::parse("# S3\ncurrency = USD\n\nper_gib_out=0.09 # to the internet\nper_1000_reads = 0.0004\n");
        let expected =
            Prices { currency: "USD".to_owned(), per_gib_out: 0.09, per_1000_reads: 0.0004, ..Prices::default() };
        assert_eq!(prices, Ok(expected));
        for (text, part) in [
            ("per_gib_out", "line 1 is no price"),
            ("\nper_gib = 1", "line 2: there is no price \"per_gib\""),
            ("per_gib_out = cheap", "\"cheap\" is no price"),
            ("per_gib_out = -1", "\"-1\" is no price"),
            ("per_gib_out = NaN", "\"NaN\" is no price"),
        ] {
            let why = Prices::parse(text).expect_err(text);
            assert!(why.contains(part), "{why}");
        }
    }
}
