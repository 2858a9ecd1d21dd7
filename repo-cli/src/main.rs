//! `dedump`, the command line: flags become options, options one call into the libraries, and its report becomes text.

mod args;
mod clickhouse;
mod client;
mod commands;
mod context;
mod demo;
mod exit;
mod human;
mod json;
mod memory;
mod mongo;
mod mysql;
mod other;
mod output;
mod progress;
mod redis;
mod runtime;
mod secret;
mod sources;
mod time;
mod timings;

use clap::Parser;

fn main() {
    memory::set_up();
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => output::end_with_clap(&error),
    };
    let exit = commands::run(cli).unwrap_or_else(|failure| {
        output::error(&failure.message);
        failure.exit
    });
    std::process::exit(exit as i32);
}
