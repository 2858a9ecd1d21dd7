//! Files and directories.
//!
//! [`FilesEngine`] backs up trees of files, and [`restore`] gives them back. Of a part it makes these streams:
//!
//! - `tree`: what there is, one JSON object a line, sorted by path, with owner, mode, times, links, extended attributes (access
//!   control lists are such) and holes; and where each file's bytes are. It can be read without dedump.
//! - `content/…`: the bytes, many small files in one stream, a large file in its own.
//!
//! # What is read
//!
//! A stream whose files all have the path, size, mtime, ctime and inode that they had is taken over from the snapshot before and
//! not read, unless [`FilesOptions::rescan`] asks for it. So that a file that changes twice within a tick of the clock is not
//! missed, what had just changed when it was read is read again. What this can't see: writes through a memory map that the
//! kernel has not written back yet, a file system of another machine whose clock is behind, and a clock that was set back.
//! Whoever can't rely on these times asks for a rescan, always or now and then.
//!
//! Nothing is locked. A file that changes while it is read is named, and the snapshot is suspicious; one that vanishes or that
//! can't be read fails the backup, or is named where [`FilesOptions::partial`] allows it. For a state of one moment, take a snapshot of the
//! file system, or stop what writes. Directories of databases are refused: they have engines of their own.
//!
//! Symbolic links are backed up and never followed, but for a root that is one to a directory. Sockets are left out and counted.
//!
//! Linux: reads attributes by way of `/proc/self/fd`.

mod build;
mod bundles;
mod dirs;
mod live;
mod meta;
mod patterns;
mod plan;
mod report;
mod restore;
mod scan;
mod staging;
mod store;
mod tree;

pub use restore::{FilesRestoreOptions, FilesRestored, restore};

use self::bundles::STATES;
use self::patterns::Patterns;
use self::scan::Scan;
use self::store::{Before, Event};
use self::tree::{Entry, Extents, TREE, is_in, show};
use dedump_core::{Engine, Error, ParentStreams, Result, Sink, StreamWriter, Verdict, async_trait};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, PathBuf};
use tokio::sync::mpsc;

/// Pieces that wait for the sink, at most.
const PIECES_QUEUED_MAX: usize = 4;
/// Length of the tree of the snapshot before, at most, that is read to know where files have holes; if it is longer, those
/// files are read again.
const TREE_BEFORE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Backs up files and directories.
#[derive(Debug, Clone)]
pub struct FilesEngine {
    roots: Vec<PathBuf>,
    options: FilesOptions,
}

/// Options of a [`FilesEngine`].
///
/// A **pattern** is a glob as `.gitignore` and restic have them: `*` and `?` stand for anything but a slash, `**` for any
/// directories, `[ab]` and `{a,b}` for one of several, and a backslash takes a meaning away. One that begins with a slash is an absolute path; any
/// other matches in every directory: `*.log`, `cache/tmp`. With a slash at its end it matches directories alone. What matches a
/// directory counts for all that is in it. There are no exceptions with `!`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesOptions {
    /// Patterns of what is backed up, with the directories that lead there; none stands for everything.
    pub include: Vec<String>,
    /// Patterns of what is not, whatever `include` says.
    pub exclude: Vec<String>,
    /// Reads every file, whether or not it looks unchanged.
    pub rescan: bool,
    /// Does not go into directories on which another file system is mounted; they are backed up empty.
    pub one_file_system: bool,
    /// Goes on without what vanishes or can't be read, names it, and makes the snapshot partial.
    pub partial: bool,
    /// Takes directories of databases as they are, with a warning: for those whose server is stopped.
    pub databases: bool,
}

impl FilesEngine {
    /// Creates an engine that backs up these files and directories, each with all that is in it, under their absolute paths.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no root, or one in another; a pattern that is none. Whether they exist shows in the dump.
    pub fn new(roots: Vec<PathBuf>, options: FilesOptions) -> Result<Self> {
        Patterns::create(&options.include)?;
        Patterns::create(&options.exclude)?;
        absolute(&roots)?;
        Ok(FilesEngine { roots, options })
    }
}

#[async_trait]
impl Engine for FilesEngine {
    fn kind(&self) -> &str {
        "files"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let (before, warning) = before(sink.parent()).await?;
        let (sender, mut events) = mpsc::channel(PIECES_QUEUED_MAX);
        let scan = Scan::create(self.options.clone(), before, sender)?;
        let roots = self.roots.clone();
        // Goes with this future: what it sends then finds nobody.
        let walk = tokio::task::spawn_blocking(move || scan.run(&roots));
        let mut tree = sink.stream(TREE).await?;
        let mut content: Option<StreamWriter> = None;
        while let Some(event) = events.recv().await {
            match event {
                Event::Tree(lines) => tree.write(&lines).await?,
                Event::Begin(name) => content = Some(sink.stream(&name).await?),
                Event::Bytes(bytes) => content.as_mut().expect("a bundle has begun").write(&bytes).await?,
                Event::End(facts) => content.take().expect("a bundle has begun").finish(facts).await?,
                Event::Reuse(name, reply) => {
                    let could = sink.reuse(&name).await?;
                    // Only a walk that has ended does not hear it, and says why below.
                    let _ = reply.send(could);
                }
            }
        }
        let walked = walk.await.map_err(|error| Error::System(format!("the thread that reads files died: {error}")))?;
        let (mut verdict, facts) = walked?;
        tree.finish(facts).await?;
        verdict.warnings.extend(warning);
        Ok(verdict)
    }
}

/// Gathers what the snapshot before says of its bundles; and what kept it from being read.
async fn before(parent: Option<ParentStreams>) -> Result<(Before, Option<String>)> {
    let Some(parent) = parent else { return Ok((Before::default(), None)) };
    let mut bundles = HashMap::new();
    for (name, stream) in parent.streams() {
        if let Some(states) = stream.facts.get(STATES) {
            bundles.insert(name.to_owned(), (states.clone(), stream.bytes));
        }
    }
    let holes = parent.stream(TREE).map(|tree| tree.facts.get("holes").cloned().unwrap_or_default());
    let (extents, warning) = match holes.as_deref() {
        None => (None, None),
        Some("0") => (Some(HashMap::new()), None),
        Some(_) if parent.stream(TREE).is_some_and(|tree| tree.bytes > TREE_BEFORE_BYTES_MAX) => (None, None),
        Some(_) => match parent.read(TREE, TREE_BEFORE_BYTES_MAX).await.and_then(|tree| extents_in(&tree)) {
            Ok(extents) => (Some(extents), None),
            Err(error) if error.is_damage() || matches!(error, Error::NewerFormat { .. }) => {
                (None, Some(format!("files with holes were read again: {error}")))
            }
            Err(error) => return Err(error),
        },
    };
    Ok((Before { bundles, extents }, warning))
}

/// Returns the extents of all files in a tree that have holes.
fn extents_in(tree: &[u8]) -> Result<HashMap<Vec<u8>, Extents>> {
    let mut lines = tree.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    tree::read_header(lines.next().unwrap_or_default())?;
    let mut all = HashMap::new();
    for line in lines {
        let Entry { path, extents, .. } = tree::read_entry(line)?;
        if let Some(extents) = extents {
            all.insert(path.0, extents);
        }
    }
    Ok(all)
}

/// Returns the roots' absolute paths, sorted as the tree is.
fn absolute(roots: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut paths = Vec::with_capacity(roots.len());
    for root in roots {
        let cannot = |error: std::io::Error| Error::Invalid(format!("{} can't be a root: {error}", root.display()));
        let mut path = std::path::absolute(root).map_err(cannot)?;
        if path.components().any(|part| part == Component::ParentDir) {
            path = path.canonicalize().map_err(cannot)?;
        }
        // Without `.`, doubled slashes, and one at the end.
        let path: PathBuf = path.components().collect();
        paths.push(path.as_os_str().as_bytes().to_vec());
    }
    paths.sort_by(|a, b| tree::order(a, b));
    if paths.is_empty() {
        return Err(Error::Invalid("there is nothing to back up; name a file or a directory".to_owned()));
    }
    match paths.windows(2).find(|pair| is_in(&pair[1], &pair[0])) {
        None => Ok(paths),
        Some(pair) => Err(Error::Invalid(format!(
            "{} lies in {}, which is backed up too; name one",
            show(&pair[1]),
            show(&pair[0])
        ))),
    }
}
