//! Measures dedump and prints a table; exits with 1 if a bound is missed.
//!
//! ```sh
//! cargo bench -p dedump-benches -- [pipeline|limit|memory|mark|snapshots|all] [--small]
//! cargo bench -p dedump-benches -- limit --dump FILE
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it measured")]

use dedump_benches::table::{Row, Table};
use dedump_benches::{Result, Size, limit, mark, memory, parts, pipeline, snapshots, timing};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo bench -p dedump-benches -- [pipeline|limit|memory|mark|snapshots|all] [--small]
       cargo bench -p dedump-benches -- limit --dump FILE [--small]";

/// Measures one of the program's parts.
type Measure<'a> = &'a dyn Fn(Size) -> Result<Vec<Row>>;

/// What is measured, and how much of it.
struct Choice<'a> {
    words: Vec<&'a str>,
    size: Size,
    /// Instead of the text that `limit` makes.
    dump: Option<&'a Path>,
}

impl<'a> Choice<'a> {
    fn parse(args: &'a [String]) -> Result<Self> {
        let mut choice = Choice { words: Vec::new(), size: Size::Full, dump: None };
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            match arg {
                "--small" => choice.size = Size::Small,
                "--dump" => choice.dump = Some(Path::new(args.next().ok_or(USAGE)?)),
                flag if flag.starts_with('-') => return Err(USAGE.into()),
                word => choice.words.push(word),
            }
        }
        // The others make a text of their own.
        if choice.dump.is_some() && choice.words != ["limit"] {
            return Err(USAGE.into());
        }
        Ok(choice)
    }
}

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
            snapshots::PART => snapshots::part(rest),
            _ => return Err(USAGE.into()),
        };
        print!("{}", lines?);
        return Ok(true);
    }
    let Choice { words, size, dump } = Choice::parse(&args)?;
    let limit = |size| limit::measure(size, dump);
    let parts: [(&str, Measure<'_>); 5] = [
        ("pipeline", &pipeline::measure),
        ("limit", &limit),
        ("memory", &memory::measure),
        ("mark", &mark::measure),
        ("snapshots", &snapshots::measure),
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
