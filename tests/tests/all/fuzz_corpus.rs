//! Replays the fuzz targets' corpus on a stable compiler, as it is and slightly changed.
//!
//! `DEDUMP_BLESS=1` writes the corpus' `seed-*` files anew, as after a change of a stored format.

use crate::allocation::largest_of;
use crate::sources::{expect_none, root, rust};
use dedump_tests::fuzz::{TARGETS, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;

/// What a decoder may allocate at once for every byte of its input, besides what its target allows.
const ALLOCATION_PER_BYTE: usize = 64;
/// Places in an input at which it is cut off, or a byte changed.
const PLACES_N: usize = 400;
/// Random changes of each input.
const RANDOM_N: u64 = 2000;

#[test]
fn every_target_has_a_corpus_a_fuzz_file_and_a_binary() {
    let manifest = crate::sources::read("fuzz/Cargo.toml");
    let files: BTreeSet<_> = rust("fuzz/fuzz_targets/").into_iter().map(|source| source.path).collect();
    let expected: BTreeSet<_> = TARGETS.iter().map(|target| format!("fuzz/fuzz_targets/{}.rs", target.name)).collect();
    assert_eq!(files, expected, "a file below fuzz/fuzz_targets for every target of tests/src/fuzz.rs, and no other");
    for target in &TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "fuzz/Cargo.toml lacks {}", target.name);
        assert!(corpus(target).len() >= 4, "fuzz/corpus/{} has fewer than 4 inputs", target.name);
    }
}

#[test]
fn seeds_are_what_the_formats_are_today() {
    let mut complaints = Vec::new();
    for target in &TARGETS {
        let folder = root().join("fuzz/corpus").join(target.name);
        let wanted: BTreeMap<_, _> =
            (target.seeds)().into_iter().enumerate().map(|(number, seed)| (format!("seed-{number}"), seed)).collect();
        if std::env::var_os("DEDUMP_BLESS").is_some() {
            std::fs::create_dir_all(&folder).expect("writable");
            for (name, _) in corpus(target).iter().filter(|(name, _)| name.starts_with("seed-")) {
                std::fs::remove_file(folder.join(name)).expect("writable");
            }
            for (name, seed) in &wanted {
                std::fs::write(folder.join(name), seed).expect("writable");
            }
        }
        let mut found = corpus(target);
        found.retain(|name, _| name.starts_with("seed-"));
        if found != wanted {
            complaints.push(format!("fuzz/corpus/{}: seeds are out of date; run with DEDUMP_BLESS=1", target.name));
        }
    }
    expect_none(&complaints);
}

#[test]
fn replay_chunker() {
    replay("chunker");
}

#[test]
fn replay_clickhouse_native() {
    replay("clickhouse_native");
}

#[test]
fn replay_compress() {
    replay("compress");
}

#[test]
fn replay_fragment() {
    replay("fragment");
}

#[test]
fn replay_sketch() {
    replay("sketch");
}

#[test]
fn replay_header() {
    replay("header");
}

#[test]
fn replay_mongo_archive() {
    replay("mongo_archive");
}

#[test]
fn replay_mysql_dump() {
    replay("mysql_dump");
}

#[test]
fn replay_name() {
    replay("name");
}

#[test]
fn replay_node() {
    replay("node");
}

#[test]
fn replay_pack() {
    replay("pack");
}

#[test]
fn replay_rdb() {
    replay("rdb");
}

#[test]
fn replay_record() {
    replay("record");
}

#[test]
fn replay_slot() {
    replay("slot");
}

#[test]
fn every_target_is_replayed() {
    let here = include_str!("fuzz_corpus.rs");
    for target in &TARGETS {
        assert!(here.contains(&format!("fn replay_{}()", target.name)), "no replay of {}", target.name);
    }
}

#[test]
#[should_panic(expected = "allocated 3000000 bytes")]
fn a_decoder_that_believes_a_length_fails() {
    let believes = |_: &[u8]| drop(std::hint::black_box(Vec::<u8>::with_capacity(3_000_000)));
    let target = Target { name: "bad", run: believes, allocation_bytes_max: 2_000_000, seeds: Vec::new };
    run(&target, "seed", b"1");
}

fn corpus(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let folder = root().join("fuzz/corpus").join(target.name);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(_) => panic!("fuzz/corpus/{} is missing: seeds come with DEDUMP_BLESS=1", target.name),
    };
    entries
        .map(|entry| {
            let entry = entry.expect("readable");
            (entry.file_name().into_string().expect("UTF-8"), std::fs::read(entry.path()).expect("readable"))
        })
        .collect()
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    for (file, input) in corpus(target) {
        run(target, &file, &input);
        let step = (input.len() / PLACES_N).max(1);
        for place in (0..input.len()).step_by(step) {
            run(target, &format!("{file}, cut off at {place}"), &input[..place]);
            for change in [0x01, 0x80, 0xff] {
                let mut changed = input.clone();
                changed[place] ^= change;
                run(target, &format!("{file}, byte {place} xor {change:#04x}"), &changed);
            }
        }
        for place in (0..input.len().saturating_sub(4)).step_by(step) {
            let mut changed = input.clone();
            changed[place..place + 4].fill(0xff);
            run(target, &format!("{file}, 4 bytes at {place} set to 0xff"), &changed);
        }
        for seed in 0..RANDOM_N {
            run(target, &format!("{file}, changed by seed {seed}"), &changed_by(seed, &input));
        }
    }
}

/// Copies, drops, repeats and overwrites pieces of the input, as `seed` says.
fn changed_by(seed: u64, input: &[u8]) -> Vec<u8> {
    // SplitMix64, by Sebastiano Vigna: the numbers need to be many, not good.
    let mut state = seed;
    let mut below = |bound: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % (bound as u64).max(1)) as usize
    };
    let mut bytes = input.to_vec();
    for _ in 0..=below(4) {
        let start = below(bytes.len() + 1);
        let end = start + below((bytes.len() - start + 1).min(64));
        let piece = bytes[start..end].to_vec();
        match below(5) {
            0 => drop(bytes.drain(start..end)),
            1 => drop(bytes.splice(start..start, piece.repeat(1 + below(4)))),
            2 => bytes[start..end].fill(below(256) as u8),
            3 => bytes[start..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1)),
            _ => {
                let to = below(bytes.len() - piece.len() + 1);
                bytes[to..to + piece.len()].copy_from_slice(&piece);
            }
        }
    }
    bytes
}

fn run(target: &Target, what: &str, input: &[u8]) {
    let largest = largest_of(|| {
        let panicked = catch_unwind(|| (target.run)(input)).is_err();
        assert!(!panicked, "{} panicked, as said above, with {what}: {input:02x?}", target.name);
    });
    let bound = target.allocation_bytes_max + ALLOCATION_PER_BYTE * input.len();
    assert!(largest <= bound, "{} with {what}: allocated {largest} bytes at once", target.name);
}
