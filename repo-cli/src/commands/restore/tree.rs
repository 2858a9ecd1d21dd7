//! `dedump restore --to files:DIR`: gives a tree of files back.

use super::{RestoreArgs, to_files};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::Work;
use crate::{human, output};
use clap::Args;
use dedump_core::{Error, Snapshot, find};
use dedump_engines::files::{FilesRestoreOptions, FilesRestored, restore};
use serde_json::json;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How files are given back.
#[derive(Debug, Args)]
pub struct TreeArgs {
    /// Restore this file or directory alone, by the path that it had; may be repeated
    #[arg(long = "path", value_name = "PATH", help_heading = FILES)]
    paths: Vec<PathBuf>,
    /// The directory, by the path that it had, that becomes the target itself [default: the target holds whole paths]
    #[arg(long, value_name = "PATH", help_heading = FILES)]
    base: Option<PathBuf>,
}

const FILES: &str = "Files";
const STANDS: &str = "what was there is as it was";

impl TreeArgs {
    /// Returns the first flag that was given and means nothing where no files are given back.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [("--path", !self.paths.is_empty()), ("--base", self.base.is_some())];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag)
    }
}

/// Returns the directory, if files are to be given back.
pub fn directory(to: &Path) -> Option<PathBuf> {
    let path = to.as_os_str().as_bytes().strip_prefix(b"files:")?;
    Some(std::ffi::OsString::from_vec(path.to_vec()).into())
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs, target: &Path) -> Outcome {
    if target.as_os_str().is_empty() {
        return Err(Failure::usage("which directory? say --to files:DIR"));
    }
    if !args.streams.is_empty() || args.keep_going || args.force {
        return Err(Failure::usage("--stream, --force and --keep-going are for streams; files take --replace"));
    }
    let options = FilesRestoreOptions {
        paths: args.tree.paths.clone(),
        base: args.tree.base.clone(),
        replace: args.database.is_to_replace(),
    };
    let started = Instant::now();
    let (snapshot, restored) = context.with_repository(STANDS, async |repository| {
        let snapshot = find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let part = part(&snapshot, args.only.as_deref())?;
        let of_part = |name: &str| part.is_empty() || name.starts_with(&format!("{part}/"));
        let bytes =
            snapshot.record.streams.iter().filter(|stream| of_part(&stream.name)).map(|stream| stream.bytes).sum();
        let meter = context.started_meter(Work::Restore(bytes));
        // The library says what is there; how to replace it is this program's to say.
        let say_how = |error: Error| match error.to_string() {
            message if message.ends_with("allow it to be replaced") => {
                Failure::failed(format!("{message} (--replace)"))
            }
            _ => error.into(),
        };
        let restoring = Instant::now();
        let restored = restore(&repository, &snapshot, &part, target, &options, &meter).await.map_err(say_how)?;
        to_files(&repository.id().to_string(), &snapshot).note(restored.bytes, restoring.elapsed());
        Ok((snapshot, restored))
    })?;
    restored.warnings.iter().for_each(|warning| output::warning(warning));
    context.report(
        || to_json(&snapshot, target, &restored),
        || to_text(&snapshot, target, &restored, started.elapsed()),
    )?;
    Ok(Exit::Done)
}

/// Returns the source that has files.
fn part(snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure> {
    let streams = &snapshot.record.streams;
    let is_tree = |name: &str| name == "tree" || name.ends_with("/tree");
    let all: Vec<&str> = streams
        .iter()
        .filter(|stream| is_tree(&stream.name))
        .map(|stream| stream.name.trim_end_matches("tree").trim_end_matches('/'))
        .collect();
    let meant: Vec<&&str> =
        all.iter().filter(|part| only.is_none_or(|only| only.trim_end_matches('/') == **part)).collect();
    match meant[..] {
        [part] => Ok((*part).to_owned()),
        [] => Err(Failure::failed(format!(
            "snapshot {} has no such files in it{}{}",
            snapshot.id.short(),
            if all.is_empty() { "" } else { "; there are " },
            all.join(", ")
        ))),
        _ => Err(Failure::usage(format!("the files of which source? choose one with --only: {}", all.join(", ")))),
    }
}

fn to_json(snapshot: &Snapshot, target: &Path, restored: &FilesRestored) -> serde_json::Value {
    json!({
        "snapshot": snapshot.id.to_string(),
        "path": target.display().to_string(),
        "files": restored.files_n,
        "bytes": restored.bytes,
        "bytes_read": restored.bytes_read,
        "replaced": restored.replaced.as_ref().map(|path| path.display().to_string()),
        "warnings": restored.warnings,
    })
}

fn to_text(snapshot: &Snapshot, target: &Path, restored: &FilesRestored, took: Duration) -> String {
    let mut text = format!(
        "restored {}, {}, from snapshot {} to {} in {}\n",
        human::counted(restored.files_n, "file"),
        human::bytes(restored.bytes),
        snapshot.id.short(),
        human::safe(&target.display().to_string()),
        human::duration(took)
    );
    if let Some(replaced) = &restored.replaced {
        text.push_str(&format!("what was there is {} now\n", human::safe(&replaced.display().to_string())));
    }
    text
}
