//! `dedump init`: creates a repository.

use crate::args::tag;
use crate::context::{Context, host_name};
use crate::exit::{Exit, Outcome};
use crate::other::{Other, Purpose};
use crate::secret::{LIKE, SecretFlags};
use crate::{output, runtime, secret};
use clap::Args;
use dedump_core::{Argon2Params, CreateOptions, Repository, Store};
use serde_json::json;
use std::path::PathBuf;

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
    #[command(flatten)]
    like: LikeArgs,
}

const LIKE_HEADING: &str = "A repository that it is to be like";

/// The repository that a new one is to be like.
#[derive(Debug, Clone, Args)]
struct LikeArgs {
    /// Name and cut chunks as this repository does, so that `dedump copy` moves what is stored as it is
    ///
    /// Nothing else is shared: each has keys of its own, and neither's secret opens the other.
    #[arg(long, value_name = "LOCATION", help_heading = LIKE_HEADING)]
    like: Option<String>,
    /// Read its password from this file's only line [env: DEDUMP_LIKE_PASSWORD_FILE]
    ///
    /// Without any of these and of DEDUMP_LIKE_PASSWORD, DEDUMP_LIKE_PASSWORD_FILE, DEDUMP_LIKE_PASSWORD_COMMAND and
    /// DEDUMP_LIKE_KEY_FILE, the secret of the new repository is tried.
    #[arg(long, value_name = "FILE", group = "like_secret", requires = "like", help_heading = LIKE_HEADING)]
    like_password_file: Option<PathBuf>,
    /// Take the password that this command prints [env: DEDUMP_LIKE_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", group = "like_secret", requires = "like", help_heading = LIKE_HEADING)]
    like_password_command: Option<String>,
    /// Open it with this key file [env: DEDUMP_LIKE_KEY_FILE]
    #[arg(long, value_name = "FILE", group = "like_secret", requires = "like", help_heading = LIKE_HEADING)]
    like_key_file: Option<PathBuf>,
    /// Set what its store's provider calls KEY, before the environment, which both share; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag, requires = "like", hide_short_help = true)]
    #[arg(help_heading = LIKE_HEADING)]
    like_store_option: Vec<(String, String)>,
    /// Read such settings from a file, a line each: credentials do not belong on a command line
    #[arg(long, value_name = "FILE", requires = "like", hide_short_help = true, help_heading = LIKE_HEADING)]
    like_store_option_file: Option<PathBuf>,
}

impl LikeArgs {
    fn other(self) -> Option<Other> {
        Some(Other {
            location: self.like?,
            secret: SecretFlags {
                password_file: self.like_password_file,
                password_command: self.like_password_command,
                key_file: self.like_key_file,
            },
            variables: &LIKE,
            settings: self.like_store_option,
            settings_file: self.like_store_option_file,
            purpose: Purpose::Read,
        })
    }
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
    let other = args.like.other().map(|other| other.opening(context, &credential)).transpose()?;
    let mut options = CreateOptions {
        argon2: args.argon2.params(),
        label: args.label,
        host: host_name(),
        threads_n: context.threads_n(),
        ..CreateOptions::default()
    };
    let create = async {
        if let Some(other) = &other {
            options.like = Some(other.open(context).await?);
        }
        let store = Store::create_at(location, &store_options).await?;
        context.count(&store);
        Ok(Repository::create(store, &credential, options).await?)
    };
    let repository = runtime::run(create, None, "run it again in an empty directory")?;
    let (id, location) = (repository.id(), repository.location());
    let here = output::shell_word(location);
    let next = match &other {
        Some(other) => format!("dedump --repo {} copy --to {here}", output::shell_word(other.location())),
        None => format!("dedump --repo {here} backup postgres://USER@HOST/DATABASE"),
    };
    context.report(
        || json!({ "id": id.to_string(), "location": location }),
        || {
            format!(
                "created repository {} at {location}\n\n\
                 Keep the secret safe, and a copy of it elsewhere: nothing opens the repository without it.\n\
                 Next: {next}\n",
                id.short()
            )
        },
    )?;
    Ok(Exit::Done)
}
