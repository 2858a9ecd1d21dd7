//! One block of the Native format (ClickHouse's manual, "Native"; `NativeWriter.cpp` of version 26.9, without a client's revision).
//!
//! | field | what it is |
//! |---|---|
//! | columns, rows | two numbers of variable length (LEB128) |
//! | for each column | its name and its type's name, each with its length before it; what its type writes before values; values |
//!
//! Nothing is decoded but what says where a column ends: lengths, offsets, dictionaries. So the bytes stay as the server wrote them.

use super::types::{DEPTH_MAX, Type};

/// Columns of a block, and types in a `Dynamic`, at most.
const COLUMNS_MAX: u64 = 100_000;
/// Rows of a block, at most.
const ROWS_MAX: u64 = 1 << 40;
/// The versions in which a `Dynamic` and a JSON say themselves what follows ("flattened").
const FLATTENED: u64 = 3;
/// In what precedes a dictionary's keys: they are in this block, and no other place.
const LOCAL_KEYS: u64 = 1 << 9;
const GLOBAL_KEYS: u64 = 1 << 8;

/// A block that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its length.
    pub(crate) bytes: usize,
    pub(crate) rows: u64,
    /// The names of its columns and of their types.
    pub(crate) columns: Vec<(String, String)>,
}

/// Why bytes are no block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The block goes on behind them.
    Short,
    /// It has a type whose values only the server can tell apart.
    Opaque,
    Bad(String),
}

type Result<T> = std::result::Result<T, Stop>;

/// Reads the block that the bytes begin with. If its columns are known, one of others is none.
pub(crate) fn read(bytes: &[u8], known: Option<&[(String, String)]>) -> Result<Block> {
    let mut input = Input { bytes, at: 0 };
    let columns_n = input.number()?;
    let rows = input.number()?;
    if columns_n == 0 || columns_n > COLUMNS_MAX || rows > ROWS_MAX {
        return Err(bad(format!("a block of {columns_n} columns and {rows} rows")));
    }
    let mut columns = Vec::new();
    if known.is_some_and(|known| known.len() as u64 != columns_n) {
        return Err(bad("its columns change on the way".to_owned()));
    }
    for at in 0..columns_n {
        let name = input.text()?;
        let type_name = input.text()?;
        // Before the type is looked at: what is no block could be taken for one with a type that nobody knows.
        let known = known.and_then(|known| known.get(usize::try_from(at).ok()?));
        if known.is_some_and(|known| (&known.0, &known.1) != (&name, &type_name)) {
            return Err(bad("its columns change on the way".to_owned()));
        }
        let kind = Type::parse(&type_name).map_err(Stop::Bad)?;
        if rows > 0 {
            let plan = input.prefix(&kind, 0)?;
            input.values(&plan, rows)?;
        }
        columns.push((name, type_name));
    }
    Ok(Block { bytes: input.at, rows, columns })
}

/// What a column consists of, once its prefix was read.
enum Plan {
    Fixed(u64),
    Text,
    Nullable(Box<Plan>),
    Array(Box<Plan>),
    Tuple(Vec<Plan>),
    LowCardinality(Box<Plan>),
    /// A byte that says which one it is before each value.
    Variant(Vec<Plan>),
    /// Likewise, a number whose width depends on how many there are; the last stands for none.
    Dynamic(Vec<Plan>),
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| bad(format!("a length of {length} bytes")))?;
        let end = self.at.checked_add(length).ok_or_else(|| bad(format!("a length of {length} bytes")))?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(bad("a number without an end".to_owned()))
    }

    fn word(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("they are eight")))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.number()?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| bad("a column's name that is no UTF-8".to_owned()))
    }

    /// Reads what a column has before its values.
    fn prefix(&mut self, kind: &Type, depth: usize) -> Result<Plan> {
        if depth > DEPTH_MAX {
            return Err(bad("types lie too deep in one another".to_owned()));
        }
        let depth = depth + 1;
        Ok(match kind {
            Type::Opaque => return Err(Stop::Opaque),
            Type::Fixed(bytes) => Plan::Fixed(*bytes),
            Type::Text => Plan::Text,
            Type::Nullable(inner) => Plan::Nullable(Box::new(self.prefix(inner, depth)?)),
            Type::Array(inner) => Plan::Array(Box::new(self.prefix(inner, depth)?)),
            Type::Tuple(inner) => Plan::Tuple(self.prefixes(inner, depth)?),
            Type::LowCardinality(inner) => {
                self.expect_word(1, "dictionaries")?;
                Plan::LowCardinality(Box::new(self.prefix(inner, depth)?))
            }
            Type::Variant(inner) => {
                self.expect_word(0, "a Variant")?;
                Plan::Variant(self.prefixes(inner, depth)?)
            }
            Type::Dynamic => self.dynamic(depth)?,
            Type::Json(typed) => {
                self.expect_word(FLATTENED, "a JSON")?;
                let paths_n = self.count()?;
                for _ in 0..paths_n {
                    let length = self.number()?;
                    self.take(length)?;
                }
                let mut plans = self.prefixes(typed, depth)?;
                for _ in 0..paths_n {
                    plans.push(self.dynamic(depth)?);
                }
                Plan::Tuple(plans)
            }
        })
    }

    fn prefixes(&mut self, kinds: &[Type], depth: usize) -> Result<Vec<Plan>> {
        kinds.iter().map(|kind| self.prefix(kind, depth)).collect()
    }

    fn dynamic(&mut self, depth: usize) -> Result<Plan> {
        self.expect_word(FLATTENED, "a Dynamic")?;
        let types_n = self.count()?;
        let mut kinds = Vec::new();
        for _ in 0..types_n {
            kinds.push(Type::parse(&self.text()?).map_err(Stop::Bad)?);
        }
        Ok(Plan::Dynamic(self.prefixes(&kinds, depth)?))
    }

    fn count(&mut self) -> Result<u64> {
        match self.number()? {
            count if count <= COLUMNS_MAX => Ok(count),
            count => Err(bad(format!("{count} types in one column"))),
        }
    }

    fn expect_word(&mut self, wanted: u64, of: &str) -> Result<()> {
        match self.word()? {
            word if word == wanted => Ok(()),
            word => Err(bad(format!("version {word} of {of}, where {wanted} was asked for"))),
        }
    }

    /// Reads so many values.
    fn values(&mut self, plan: &Plan, rows: u64) -> Result<()> {
        match plan {
            Plan::Fixed(bytes) => {
                let length = bytes.checked_mul(rows).ok_or_else(|| bad(format!("{rows} values")))?;
                self.take(length)?;
            }
            Plan::Text => {
                for _ in 0..rows {
                    let length = self.number()?;
                    self.take(length)?;
                }
            }
            Plan::Nullable(inner) => {
                self.take(rows)?;
                self.values(inner, rows)?;
            }
            Plan::Array(inner) => {
                let length = rows.checked_mul(8).ok_or_else(|| bad(format!("{rows} arrays")))?;
                let offsets = self.take(length)?;
                // Each array's end among the values of all; the last one's is their number.
                let mut end = 0;
                for offset in offsets.chunks_exact(8) {
                    let next = u64::from_le_bytes(offset.try_into().expect("they are eight"));
                    if next < end {
                        return Err(bad("an array that ends before it begins".to_owned()));
                    }
                    end = next;
                }
                self.values(inner, end)?;
            }
            Plan::Tuple(plans) => {
                for plan in plans {
                    self.values(plan, rows)?;
                }
            }
            // In an array that is empty, not even its head is written.
            Plan::LowCardinality(_) if rows == 0 => {}
            Plan::LowCardinality(keys) => self.dictionary(keys, rows)?,
            Plan::Variant(plans) => self.choices(plans, 1, u64::from(u8::MAX), rows)?,
            Plan::Dynamic(plans) => {
                let none = plans.len() as u64;
                let width = match none {
                    0..=0xff => 1,
                    0x100..=0xffff => 2,
                    _ => 4,
                };
                self.choices(plans, width, none, rows)?;
            }
        }
        Ok(())
    }

    fn dictionary(&mut self, keys: &Plan, rows: u64) -> Result<()> {
        let head = self.word()?;
        if head & GLOBAL_KEYS != 0 || head & LOCAL_KEYS == 0 {
            return Err(bad("a dictionary that is not in its block".to_owned()));
        }
        let width = match head & 0xff {
            kind @ 0..=3 => 1 << kind,
            kind => return Err(bad(format!("a dictionary with numbers of kind {kind}"))),
        };
        let keys_n = self.word()?;
        self.values(keys, keys_n)?;
        let numbers_n = self.word()?;
        if numbers_n != rows {
            return Err(bad(format!("{numbers_n} numbers into a dictionary for {rows} values")));
        }
        self.values(&Plan::Fixed(width), rows)
    }

    /// Reads which type each value has, and then the values of each type.
    fn choices(&mut self, plans: &[Plan], width: usize, none: u64, rows: u64) -> Result<()> {
        let length = rows.checked_mul(width as u64).ok_or_else(|| bad(format!("{rows} values")))?;
        let mut counts = vec![0_u64; plans.len()];
        for choice in self.take(length)?.chunks_exact(width) {
            let choice = choice.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            match usize::try_from(choice).ok().and_then(|choice| counts.get_mut(choice)) {
                Some(count) => *count += 1,
                None if choice == none => {}
                None => return Err(bad(format!("a value of type {choice} out of {}", plans.len()))),
            }
        }
        plans.iter().zip(counts).try_for_each(|(plan, count)| self.values(plan, count))
    }
}

fn bad(what: String) -> Stop {
    Stop::Bad(what)
}
