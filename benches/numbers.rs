//! Measures dedump and prints a table; exits with 1 if a bound is missed.
//!
//! ```sh
//! cargo bench -p dedump-benches -- [pipeline|memory|mark|snapshots|all] [--small]
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it measured")]

use dedump_benches::table::Table;
use dedump_benches::{Result, Size, mark, memory, parts, pipeline, snapshots, timing};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo bench -p dedump-benches -- [pipeline|memory|mark|snapshots|all] [--small]";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("numbers: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether all bounds hold.
fn run() -> Result<bool> {
    // cargo adds --bench to what the user says.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [parts::PART, which, rest @ ..] = &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let lines = match *which {
            memory::PART => memory::part(rest),
            mark::PART => mark::part(rest),
            _ => return Err(USAGE.into()),
        };
        print!("{}", lines?);
        return Ok(true);
    }
    let (flags, words): (Vec<_>, Vec<_>) = args.iter().map(String::as_str).partition(|arg| arg.starts_with('-'));
    let size = match flags[..] {
        [] => Size::Full,
        ["--small"] => Size::Small,
        _ => return Err(USAGE.into()),
    };
    let parts = [
        ("pipeline", pipeline::measure as fn(Size) -> Result<_>),
        ("memory", memory::measure),
        ("mark", mark::measure),
        ("snapshots", snapshots::measure),
    ];
    let chosen: Vec<_> = match words[..] {
        [] | ["all"] => parts.to_vec(),
        [word] => parts.into_iter().filter(|(name, _)| *name == word).collect(),
        _ => Vec::new(),
    };
    if chosen.is_empty() {
        return Err(USAGE.into());
    }
    println!("{}; load {} at the start\n", timing::machine(), timing::load());
    if cfg!(debug_assertions) {
        println!("Built for debugging: these figures say nothing.\n");
    }
    let mut rows = Vec::new();
    for (name, measure) in chosen {
        eprintln!("measuring {name} …");
        rows.extend(measure(size)?);
    }
    let table = Table(&rows);
    println!("{table}");
    Ok(table.holds())
}
