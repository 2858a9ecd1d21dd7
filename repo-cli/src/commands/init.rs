//! `dedump init`: creates a repository.

use crate::context::{Context, host_name};
use crate::exit::{Exit, Outcome};
use crate::{output, runtime, secret};
use clap::Args;
use dedump_core::{Argon2Params, CreateOptions, Repository, Store};
use serde_json::json;

/// Create a repository
///
/// The place must be empty or new. The secret given here is the first to open it; `dedump key add` adds others. Whoever
/// loses them all has lost the repository.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name of the first key, for `dedump key list`
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    #[command(flatten)]
    argon2: Argon2Args,
}

/// What a password costs to try.
#[derive(Debug, Clone, Copy, Args)]
pub struct Argon2Args {
    /// Memory that trying a password takes, in MiB
    #[arg(long, value_name = "MIB", default_value_t = Argon2Params::default().memory_kib / 1024)]
    #[arg(hide_short_help = true, value_parser = clap::value_parser!(u32).range(1..=4096))]
    argon2_memory: u32,
    /// Passes over that memory
    #[arg(long, value_name = "N", default_value_t = Argon2Params::default().passes)]
    #[arg(hide_short_help = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    argon2_passes: u32,
}

impl Argon2Args {
    /// Returns the parameters that they make.
    pub fn params(self) -> Argon2Params {
        Argon2Params { memory_kib: self.argon2_memory * 1024, passes: self.argon2_passes, ..Argon2Params::default() }
    }
}

/// Runs it.
pub fn run(context: &Context, args: InitArgs) -> Outcome {
    let location = context.location()?;
    // The secret first: without one, no directory is made either.
    let credential = secret::first(context.secret())?;
    // A bad location or setting is told before a directory is made.
    let store_options = context.store_options();
    let options = CreateOptions {
        argon2: args.argon2.params(),
        label: args.label,
        host: host_name(),
        threads_n: context.threads_n(),
        ..CreateOptions::default()
    };
    let create = async {
        let store = Store::create_at(location, &store_options).await?;
        context.count(&store);
        Ok(Repository::create(store, &credential, options).await?)
    };
    let repository = runtime::run(create, None, "run it again in an empty directory")?;
    let (id, location) = (repository.id(), repository.location());
    context.report(
        || json!({ "id": id.to_string(), "location": location }),
        || {
            format!(
                "created repository {} at {location}\n\n\
                 Keep the secret safe, and a copy of it elsewhere: nothing opens the repository without it.\n\
                 Next: dedump --repo {} backup --name app.dump -- pg_dump -Fc -Z0 app\n",
                id.short(),
                output::shell_word(location)
            )
        },
    )?;
    Ok(Exit::Done)
}
