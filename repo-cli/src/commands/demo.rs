//! `dedump demo`: its flags; what it does stands in `crate::demo`.

use crate::context::Context;
use crate::demo;
use crate::exit::Outcome;
use clap::Args;
use std::path::PathBuf;

/// See it work: no server, no configuration
///
/// Makes a real SQLite database in a temporary folder, lets it live for some days, and backs it up at the end of each into
/// a new repository. Then checks the repository with all its data, restores the first and the last day, and compares them
/// bit for bit with the originals. The exit code is 4 if anything differs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where: an empty or new directory [default: a new one in the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// For how many days the database lives
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=365))]
    pub days: u32,
    /// About how large the database is on the first day, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_240))]
    pub size: u32,
}

/// Runs it.
pub fn run(context: &Context, args: DemoArgs) -> Outcome {
    demo::run(context, &args)
}
