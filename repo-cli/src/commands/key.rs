//! `dedump key`: who may open the repository.

use super::init::Argon2Args;
use crate::context::{Context, host_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Table;
use crate::secret::SecretFlags;
use crate::{output, secret, time};
use clap::{Args, Subcommand};
use dedump_core::{Credential, KeySlot, SlotKind, add_key, list_keys, remove_key};
use serde_json::json;
use std::path::PathBuf;

/// Say who may open the repository: passwords and key files
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Write a new key file, which nobody else may read
    ///
    /// It opens nothing yet: give it to `dedump init --key-file`, or to `dedump key add --new-key-file`.
    Generate {
        /// The file to write; it must not exist
        file: PathBuf,
    },
    /// Let another password or key file open the repository
    ///
    /// Without one of the --new-… options, the terminal is asked for a new password.
    Add(AddArgs),
    /// List the keys
    List,
    /// Let a password or key file open the repository no longer
    ///
    /// Whoever opened it before may have kept the keys inside: against them, only a new repository helps.
    Remove {
        /// The first digits of the key's id, as `dedump key list` prints it
        id: String,
    },
}

#[derive(Debug, Args)]
struct AddArgs {
    /// Read the new password from this file's only line
    #[arg(long, value_name = "FILE", group = "new_secret")]
    new_password_file: Option<PathBuf>,
    /// Take the new password that this command prints
    #[arg(long, value_name = "COMMAND", group = "new_secret")]
    new_password_command: Option<String>,
    /// Let this key file open the repository
    #[arg(long, value_name = "FILE", group = "new_secret")]
    new_key_file: Option<PathBuf>,
    /// Name of the key, for `dedump key list`
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    #[command(flatten)]
    argon2: Argon2Args,
}

/// Runs it.
pub fn run(context: &Context, args: KeyArgs) -> Outcome {
    match args.command {
        KeyCommand::Generate { file } => generate(context, file),
        KeyCommand::Add(args) => add(context, args),
        KeyCommand::List => list(context),
        KeyCommand::Remove { id } => remove(context, &id),
    }
}

fn generate(context: &Context, file: PathBuf) -> Outcome {
    let text = Credential::generate_key_file()?.to_key_file_text().expect("a key file has a text");
    secret::create_key_file(&file, &text)?;
    let path = file.display().to_string();
    context.report(
        || json!({ "file": path }),
        || format!("wrote {path}; keep a copy of it elsewhere: nothing opens the repository without its keys\n"),
    )?;
    Ok(Exit::Done)
}

fn add(context: &Context, args: AddArgs) -> Outcome {
    let flags = SecretFlags {
        password_file: args.new_password_file,
        password_command: args.new_password_command,
        key_file: args.new_key_file,
    };
    let params = args.argon2.params();
    let opening = context.opening()?;
    let credential = secret::another(flags)?;
    let id = context.with_opening(opening, "the key may be there; `dedump key list` tells", async |repository| {
        Ok(add_key(&repository, &credential, params, &args.label, &host_name()).await?)
    })?;
    context.report(|| json!({ "id": id.to_string() }), || format!("added key {}\n", id.short()))?;
    Ok(Exit::Done)
}

fn list(context: &Context) -> Outcome {
    let (slots, unreadable) =
        context.with_repository("nothing was changed", async |repository| Ok(list_keys(&repository).await?))?;
    unreadable.iter().for_each(|problem| output::warning(&format!("{problem}; `dedump check` says more")));
    context.print(|| slots.iter().map(to_json).collect(), || to_text(&slots))?;
    Ok(if unreadable.is_empty() { Exit::Done } else { Exit::Damage })
}

fn remove(context: &Context, id: &str) -> Outcome {
    if id.is_empty() {
        return Err(Failure::usage("which key? `dedump key list` lists them"));
    }
    let id = context.with_repository("the key may be gone; `dedump key list` tells", async |repository| {
        Ok(remove_key(&repository, id).await?)
    })?;
    context.report(|| json!({ "id": id.to_string() }), || format!("removed key {}\n", id.short()))?;
    Ok(Exit::Done)
}

fn kind(slot: &KeySlot) -> &'static str {
    match slot.kind {
        SlotKind::Passphrase(_) => "password",
        SlotKind::KeyFile => "key file",
    }
}

fn to_json(slot: &KeySlot) -> serde_json::Value {
    json!({
        "id": slot.id.to_string(),
        "kind": kind(slot).replace(' ', "-"),
        "label": slot.label.label,
        "host": slot.label.host,
        "created": time::rfc3339(slot.label.created_ms),
    })
}

fn to_text(slots: &[KeySlot]) -> String {
    let mut table = Table::new(&["ID", "KIND", "CREATED", "HOST", "LABEL"]);
    for slot in slots {
        table.row([
            slot.id.short(),
            kind(slot).to_owned(),
            time::for_people(slot.label.created_ms),
            slot.label.host.clone(),
            slot.label.label.clone(),
        ]);
    }
    table.render()
}
