//! `dedump completions`: a shell's completions.

use crate::args::Cli;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

/// Print a shell's completions
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dedump completions bash > ~/.local/share/bash-completion/completions/dedump
  dedump completions zsh > ~/.zfunc/_dedump
  dedump completions fish > ~/.config/fish/completions/dedump.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Runs it.
pub fn run(context: &Context, args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dedump", &mut script);
    if context.json() {
        let script = String::from_utf8_lossy(&script);
        output::print_json(&json!({ "shell": args.shell.to_string(), "script": script }))?;
    } else {
        output::print_bytes(&script)?;
    }
    Ok(Exit::Done)
}
