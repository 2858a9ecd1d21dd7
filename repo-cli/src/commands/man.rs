//! `dedump man`: the manual pages.

use crate::args::Cli;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use serde_json::json;
use std::path::PathBuf;

/// Print the manual page, or write all of them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dedump man | man -l -
  dedump man --out /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write a page for every command into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs it.
pub fn run(context: &Context, args: &ManArgs) -> Outcome {
    let mut command = Cli::command();
    command.build();
    match &args.out {
        None => print(context, command)?,
        Some(directory) => {
            let written = write_all(&command, directory)?;
            let names: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
            context.report(
                || json!({ "files": names }),
                || format!("wrote {} pages to {}\n", names.len(), directory.display()),
            )?;
        }
    }
    Ok(Exit::Done)
}

fn print(context: &Context, command: Command) -> Result<(), Failure> {
    let page = page(command)?;
    match context.json() {
        true => output::print_json(&json!({ "page": String::from_utf8_lossy(&page) })),
        false => output::print_bytes(&page),
    }
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(|error| Failure::failed(format!("cannot make the page: {error}")))?;
    Ok(page)
}

fn write_all(root: &Command, directory: &PathBuf) -> Result<Vec<PathBuf>, Failure> {
    let failed =
        |path: &PathBuf, error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let mut written = Vec::new();
    let mut pending = vec![root.clone()];
    while let Some(command) = pending.pop() {
        pending.extend(command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned());
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let path = directory.join(format!("{name}.1"));
        std::fs::write(&path, page(command)?).map_err(|error| failed(&path, error))?;
        written.push(path);
    }
    written.sort();
    Ok(written)
}
