//! Puts a backup back as a file, and says how a server comes to load it.

use super::prepare::find_stream;
use super::procedure;
use crate::redis::dump::{DATABASE, ORIGINAL};
use dedump_core::{Error, Existing, FileTarget, Progress, Repository, RestoreOptions, Result, Snapshot, restore};
use std::path::{Path, PathBuf};

/// Programs that are servers of this kind.
const SERVERS: [&str; 5] = ["redis-server", "valkey-server", "keydb-server", "redis-sentinel", "dragonfly"];

/// How a backup is put back as a file.
#[derive(Debug, Clone, Default)]
pub struct RedisFileOptions {
    /// Whether a file that is there is replaced.
    pub existing: Existing,
    /// Gives the bytes that the server had sent, from a backup that has them.
    pub original: bool,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisFileRestored {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What to do with it, step by step, for people.
    pub procedure: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Writes the RDB of a snapshot to a file, and says how a server comes to load it. `part_prefix` is the folder of the server in
/// the snapshot: `cache/`, or empty.
///
/// # Errors
/// [`Error::Target`]: the file can't be written, or a server runs in its folder, which would write over it when it ends.
/// [`Error::NotFound`]: the snapshot has no such backup. [`Error::Damaged`], [`Error::Missing`], [`Error::Store`]: the
/// repository's.
pub async fn restore_file(
    repository: &Repository,
    snapshot: &Snapshot,
    part_prefix: &str,
    path: &Path,
    options: &RedisFileOptions,
    progress: &dyn Progress,
) -> Result<RedisFileRestored> {
    let about = find_stream(snapshot, part_prefix, DATABASE)?;
    let stream = if options.original { find_stream(snapshot, part_prefix, ORIGINAL)? } else { about };
    let path = std::path::absolute(path).map_err(|error| Error::Target(format!("{}: {error}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    if let Some((program, id)) = server_in(folder) {
        return Err(Error::Target(format!(
            "{program} runs in {} (process {id}) and writes over its RDB when it ends; end it with SHUTDOWN NOSAVE first, or name another folder",
            folder.display()
        )));
    }
    let mut warnings = Vec::new();
    if has_append_only_file(folder) {
        warnings.push(format!(
            "{} has an append-only file, which a server with `appendonly yes` loads instead of this one; follow the steps",
            folder.display()
        ));
    }
    let mut target = FileTarget::file(&path, options.existing);
    target.check(&[&stream.name])?;
    let wanted = RestoreOptions { streams: vec![stream.name.clone()], ..RestoreOptions::default() };
    restore(repository, snapshot, &wanted, &mut target, progress).await?;
    let procedure = procedure::text(&path, about);
    Ok(RedisFileRestored { path, bytes: stream.bytes, procedure, warnings })
}

/// Returns a server that runs in a folder, as far as the system tells us of other users' processes.
fn server_in(folder: &Path) -> Option<(String, u32)> {
    let folder = folder.canonicalize().ok()?;
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
        let runs_here = || std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
        (SERVERS.contains(&name.as_str()) && runs_here()).then_some((name, id))
    })
}

/// Returns whether a server has left an append-only file in a folder.
fn has_append_only_file(folder: &Path) -> bool {
    ["appendonlydir", "appendonly.aof"].iter().any(|name| folder.join(name).exists())
}
