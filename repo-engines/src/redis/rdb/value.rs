//! Steps through one value, whatever its type, and copies it: strings unpacked, members of sets and hashes sorted if wanted.
//!
//! The server writes the members of a hash table in an order that hangs on a seed that it draws at every start, so they are
//! sorted. Every other order is the value's own and stays: lists, sorted sets, streams, and whatever is in one string
//! (listpacks, ziplists, sets of integers).

use super::input::{Input, write_length};
use super::{Header, Out, Result, Stop};
use crate::sort::{SortKey, Sorter};
use std::io::Read;

/// Types of values.
pub(in crate::redis) mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const MODULE_PRE_GA: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    /// Valkey's alone; unfinished versions of Redis 7.4 had another of that number.
    pub const VALKEY_HASH_2: u8 = 22;
    pub const HASH_EXPIRES: u8 = 24;
    pub const HASH_LISTPACK_EXPIRES: u8 = 25;
}

/// Copies a value of a type. Members of hash tables are sorted by way of `members`, or stay as they are without.
pub(in crate::redis) fn copy<R: Read>(
    input: &mut Input<R>,
    header: Header,
    of: u8,
    out: &mut dyn Out,
    members: Option<&mut Sorter>,
) -> Result<()> {
    match of {
        kind::STRING
        | kind::HASH_ZIPMAP
        | kind::LIST_ZIPLIST
        | kind::SET_INTSET
        | kind::ZSET_ZIPLIST
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::ZSET_LISTPACK
        | kind::SET_LISTPACK => input.copy_string(out),
        kind::LIST | kind::LIST_QUICKLIST => repeat(input, out, |input, out| input.copy_string(out)),
        kind::LIST_QUICKLIST_2 => repeat(input, out, |input, out| {
            input.copy_length(out)?;
            input.copy_string(out)
        }),
        kind::ZSET => repeat(input, out, |input, out| {
            input.copy_string(out)?;
            copy_score(input, out)
        }),
        kind::ZSET_2 => repeat(input, out, |input, out| {
            input.copy_string(out)?;
            input.copy(8, out)
        }),
        kind::SET => table(input, out, members, Table::default()),
        kind::HASH => table(input, out, members, Table { has_value: true, ..Table::default() }),
        kind::VALKEY_HASH_2 if header.is_valkey => {
            table(input, out, members, Table { has_value: true, tail: 8, ..Table::default() })
        }
        kind::HASH_EXPIRES => {
            input.copy(8, out)?;
            table(input, out, members, Table { has_value: true, has_expiry: true, ..Table::default() })
        }
        kind::HASH_LISTPACK_EXPIRES => {
            input.copy(8, out)?;
            input.copy_string(out)
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => stream(input, of, out),
        kind::MODULE_2 => {
            input.copy_length(out)?;
            module(input, out)
        }
        kind::MODULE_PRE_GA => Err(Stop::Unknown(
            "a value of a module was written by a Redis before 4.0, and nobody can tell where it ends; leave such keys out"
                .to_owned(),
        )),
        _ => Err(Stop::Unknown(format!(
            "at byte {} there is a value or a mark of type {of}, which this dedump does not know in RDB version {}; use a newer dedump",
            input.position(),
            header.version
        ))),
    }
}

/// What an entry of a hash table has.
#[derive(Default)]
struct Table {
    /// When it expires, as a length before it.
    has_expiry: bool,
    has_value: bool,
    /// Bytes behind it.
    tail: u64,
}

/// Copies a hash table's entries.
fn table<R: Read>(input: &mut Input<R>, out: &mut dyn Out, members: Option<&mut Sorter>, of: Table) -> Result<()> {
    let entries_n = input.copy_length(out)?;
    let one = |input: &mut Input<R>, out: &mut dyn Out, key: Option<&mut SortKey>| {
        if of.has_expiry {
            input.copy_length(out)?;
        }
        match key {
            Some(key) => input.copy_key(out, key)?,
            None => input.copy_string(out)?,
        }
        if of.has_value {
            input.copy_string(out)?;
        }
        input.copy(of.tail, out)
    };
    let Some(members) = members else {
        return (0..entries_n).try_for_each(|_| one(input, out, None));
    };
    let mut key = SortKey::default();
    for _ in 0..entries_n {
        key.clear();
        one(input, members, Some(&mut key))?;
        members.end(&mut key)?;
    }
    let mut sorted = members.sorted()?;
    while sorted.next()? {
        if sorted.is_repeated() {
            return Err(input.bad("a set or a hash has a member twice"));
        }
        sorted.payload(|piece| out.write(piece))?;
    }
    Ok(members.clear()?)
}

fn repeat<R: Read>(
    input: &mut Input<R>,
    out: &mut dyn Out,
    mut one: impl FnMut(&mut Input<R>, &mut dyn Out) -> Result<()>,
) -> Result<()> {
    let entries_n = input.copy_length(out)?;
    (0..entries_n).try_for_each(|_| one(input, out))
}

/// Copies a score as old servers wrote it: as text, or a mark for what is no number.
fn copy_score<R: Read>(input: &mut Input<R>, out: &mut dyn Out) -> Result<()> {
    let length = input.byte()?;
    out.write(&[length])?;
    if length < 253 { input.copy(length.into(), out) } else { Ok(()) }
}

fn stream<R: Read>(input: &mut Input<R>, of: u8, out: &mut dyn Out) -> Result<()> {
    repeat(input, out, |input, out| {
        input.copy_string(out)?;
        input.copy_string(out)
    })?;
    // Entries and the last id; then the first one, the last that was deleted, and how many were ever added.
    let numbers_n = if of == kind::STREAM { 3 } else { 8 };
    (0..numbers_n).try_for_each(|_| input.copy_length(out).map(drop))?;
    repeat(input, out, |input, out| {
        input.copy_string(out)?;
        // The last id that was delivered; and how many entries were read.
        let numbers_n = if of == kind::STREAM { 2 } else { 3 };
        (0..numbers_n).try_for_each(|_| input.copy_length(out).map(drop))?;
        // Entries that are pending: id, time, how often.
        repeat(input, out, |input, out| {
            input.copy(16 + 8, out)?;
            input.copy_length(out).map(drop)
        })?;
        repeat(input, out, |input, out| {
            input.copy_string(out)?;
            // When it was last seen, and when it last got something.
            input.copy(if of == kind::STREAM_3 { 16 } else { 8 }, out)?;
            repeat(input, out, |input, out| input.copy(16, out))
        })
    })
}

/// Copies a module's value, of which only the module knows what it means, but everybody where it ends.
pub(in crate::redis) fn module<R: Read>(input: &mut Input<R>, out: &mut dyn Out) -> Result<()> {
    loop {
        let part = input.length()?;
        write_length(part, out)?;
        match part {
            0 => return Ok(()),
            1 | 2 => drop(input.copy_length(out)?),
            3 => input.copy(4, out)?,
            4 => input.copy(8, out)?,
            5 => input.copy_string(out)?,
            _ => return Err(input.bad(format!("a module's value has a part of the unknown kind {part}"))),
        }
    }
}
