//! The commands, one a file: its flags, its one call, its report.

pub mod backup;
pub mod check;
pub mod completions;
pub mod copy;
pub mod demo;
pub mod diff;
pub mod forget;
pub mod hold;
pub mod init;
pub mod key;
pub mod man;
pub mod prune;
pub mod reindex;
pub mod restore;
pub mod sessions;
pub mod show;
pub mod snapshots;
pub mod stats;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::exit::Outcome;

/// Runs the command that the user asked for.
///
/// # Errors
/// Whatever it says.
pub fn run(cli: Cli) -> Outcome {
    let context = Context::new(cli.global);
    match cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Backup(args) => backup::run(&context, args),
        Command::Snapshots(args) => snapshots::run(&context, &args),
        Command::Show(args) => show::run(&context, &args),
        Command::Restore(args) => restore::run(&context, args),
        Command::Copy(args) => copy::run(&context, args),
        Command::Diff(args) => diff::run(&context, &args),
        Command::Forget(args) => forget::run(&context, &args),
        Command::Hold(args) => hold::run(&context, &args),
        Command::Release(args) => hold::release(&context, &args),
        Command::Prune(args) => prune::run(&context, &args),
        Command::Sessions(args) => sessions::run(&context, &args),
        Command::Check(args) => check::run(&context, &args),
        Command::Reindex(args) => reindex::run(&context, &args),
        Command::Stats(args) => stats::run(&context, &args),
        Command::Key(args) => key::run(&context, args),
        Command::Demo(args) => demo::run(&context, args),
        Command::Completions(args) => completions::run(&context, &args),
        Command::Man(args) => man::run(&context, &args),
    }
}
