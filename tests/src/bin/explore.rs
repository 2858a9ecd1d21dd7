//! Explores the interleavings of commit, prune, reading, forgetting and adoption at length. See the module `explore` of the
//! library for what that means.
//!
//! ```text
//! cargo run --release -p dedump-tests --bin explore -- [--scenario NAME] [--states N] [--seconds N] [--mutants]
//! ```
//!
//! `--scenario` names one; without it all are explored, in the order of their tables. `--states` (10,000,000) ends a scenario
//! there, `--seconds` begins none later. `--mutants` leaves out one rule at a time and shows which scenario notices first.
//! There is no seed: the search is exhaustive, in the same order each time. A state takes about 40 bytes.

#![allow(clippy::print_stdout)] // it is a command, and this is its output

use dedump_tests::explore::engine::{self, Found};
use dedump_tests::explore::scenario::{self, Scenario, Weakening};
use std::process::ExitCode;
use std::time::Instant;

struct Options {
    scenario: Option<String>,
    states_max: usize,
    seconds_max: u64,
    with_mutants: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(what) => {
            println!("{what}\nusage: explore [--scenario NAME] [--states N] [--seconds N] [--mutants]");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let is_chosen = |found: &Scenario| options.scenario.as_ref().is_none_or(|name| name == found.name);
    let chosen: Vec<Scenario> = scenario::all().into_iter().filter(is_chosen).collect();
    if options.with_mutants {
        Weakening::ALL.iter().for_each(|weakening| show_mutant(*weakening, &chosen, options.states_max));
        return ExitCode::SUCCESS;
    }
    let (mut states_n, mut is_sound) = (0, true);
    for scenario in chosen {
        if begun.elapsed().as_secs() < options.seconds_max {
            let found = show(&scenario, options.states_max);
            states_n += found.states_n;
            is_sound &= found.violation.is_none();
        }
    }
    println!("{states_n} states in {:.1} s", begun.elapsed().as_secs_f64());
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Result<Options, String> {
    let mut options = Options { scenario: None, states_max: 10_000_000, seconds_max: u64::MAX, with_mutants: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        let number = |text: String| text.replace([',', '_'], "").parse().map_err(|_| format!("{text} is no number"));
        match argument.as_str() {
            "--scenario" => options.scenario = Some(value()?),
            "--states" => options.states_max = number(value()?)? as usize,
            "--seconds" => options.seconds_max = number(value()?)?,
            "--mutants" => options.with_mutants = true,
            _ => return Err(format!("{argument} is unknown")),
        }
    }
    Ok(options)
}

fn show(scenario: &Scenario, states_max: usize) -> Found {
    let begun = Instant::now();
    let found = engine::explore(scenario, states_max);
    println!(
        "{:<20} {:>11} states, {:>12} transitions, {:>7} stores, {:>8} histories, {:>6} quiet, {} in {:.1} s",
        scenario.name,
        found.states_n,
        found.transitions_n,
        found.stores_n,
        found.histories_n,
        found.quiet_n,
        if found.is_complete { "all" } else { "cut" },
        begun.elapsed().as_secs_f64(),
    );
    if let Some(violation) = &found.violation {
        println!("VIOLATION: {}", violation.what);
        violation.run.iter().for_each(|step| println!("  {step}"));
    }
    found
}

fn show_mutant(weakening: Weakening, scenarios: &[Scenario], states_max: usize) {
    for scenario in scenarios {
        let found = engine::explore(&scenario.weakened(weakening), states_max);
        if let Some(violation) = found.violation {
            let steps_n = violation.run.len() - 1;
            println!(
                "{weakening:?}: {} after {} states, {steps_n} steps: {}",
                scenario.name, found.states_n, violation.what
            );
            return;
        }
    }
    println!("{weakening:?}: NOT CAUGHT");
}
