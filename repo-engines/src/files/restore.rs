//! Gives trees of files back.

use super::build::Build;
use super::plan::{Plan, Planner};
use super::staging::Staging;
use super::tree::{self, Entry, Kind, LINE_BYTES_MAX, TREE, damaged};
use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, Snapshot, StreamRecord, Target, async_trait,
};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How files are restored. The default restores everything, each at its absolute path below the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesRestoreOptions {
    /// Absolute paths as they were backed up: these, with all that is in them, and no others. None stands for everything.
    pub paths: Vec<PathBuf>,
    /// The directory that becomes the target itself, by its absolute path as it was backed up; nothing beside it is restored.
    pub base: Option<PathBuf>,
    /// Lets what is in the target be replaced, in one step and at the very end. What was there is kept beside it.
    pub replace: bool,
}

/// What a restore of files did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesRestored {
    /// Files that were given back, other names of the same file left out.
    pub files_n: u64,
    /// Their bytes, holes included.
    pub bytes: u64,
    /// Bytes of packs that were read for them.
    pub bytes_read: u64,
    /// Where what was in the target before is now.
    pub replaced: Option<PathBuf>,
    /// What could not be set as it was, and what is left of others' restores.
    pub warnings: Vec<String>,
}

/// Restores files of a snapshot to a directory, which must not be there or be empty, unless it is to be replaced.
///
/// `part` is what the snapshot's [`FilesEngine`](super::FilesEngine) had of the dump; empty if that was all of it.
///
/// Everything is built in a directory beside the target, `.dedump-restoring-…`, which takes the target's place at the end, in one
/// step, when every chunk and every stream was verified and all is on the disk. A restore that fails, or whose future is
/// dropped, removes it; what a killed one left, the next one to the same target removes. What the tree says is believed only as far as it
/// stays within: a name or a link that leads outside is damage, and nothing is restored.
///
/// Owners are set by their numbers. What only root may do is tried, and told once where it is refused; without its owner, a
/// file is never set-user-id. Of the streams with content only those are read that have a wanted file. Writes where it is, and
/// blocks meanwhile, as all targets do.
///
/// # Errors
/// [`Error::NotFound`]: no such part, path or base. [`Error::Damaged`], [`Error::Missing`]: what is stored is not what was backed
/// up. [`Error::Target`]: the system's; then the target is as it was. [`Error::Store`].
pub async fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    part: &str,
    target: &Path,
    options: &FilesRestoreOptions,
    progress: &dyn Progress,
) -> Result<FilesRestored> {
    let prefix = if part.is_empty() { String::new() } else { format!("{part}/") };
    let base = options.base.as_deref().map(absolute).transpose()?;
    let mut wanted = options.paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
    match &base {
        Some(base) if wanted.is_empty() => wanted.push(base.clone()),
        Some(base) => {
            if let Some(outside) = wanted.iter().find(|path| !tree::is_in(path, base)) {
                let (path, base) = (tree::show(outside), tree::show(base));
                return Err(Error::Invalid(format!("{path} is not in {base}, which is to become the target")));
            }
        }
        None => {}
    }
    let mut reader = TreeReader { line: Vec::new(), has_header: false, planner: Planner::create(wanted) };
    let streams = |names| RestoreOptions { streams: names, ..RestoreOptions::default() };
    let one = streams(vec![format!("{prefix}{TREE}")]);
    let mut bytes_read = dedump_core::restore(repository, snapshot, &one, &mut reader, progress).await?.bytes_read;
    let mut plan = reader.planner.finish()?;
    let find =
        |name: &str| snapshot.record.streams.iter().find(|stream| stream.name == format!("{prefix}{name}")).cloned();
    plan.check_streams(find)?;
    plan.make_relative(base.as_deref())?;

    let staging = Staging::create(target, options.replace)?;
    let mut build = Build::create(staging.open()?);
    build.directories(&plan)?;
    let names: Vec<String> = plan.bundles.keys().map(|name| format!("{prefix}{name}")).collect();
    // No name at all would stand for every stream.
    if !names.is_empty() {
        let bundles =
            plan.bundles.iter().map(|(name, files)| (format!("{prefix}{name}"), files.clone().into())).collect();
        let mut content = Content { build: &mut build, bundles, files: VecDeque::new(), at: 0, open: None };
        bytes_read +=
            dedump_core::restore(repository, snapshot, &streams(names), &mut content, progress).await?.bytes_read;
    }
    build.finish(&plan)?;
    let mut warnings = staging.warnings.clone();
    warnings.extend(build.warnings());
    let replaced = staging.publish(options.replace)?;
    Ok(FilesRestored { files_n: plan.files_n(), bytes: plan_bytes(&plan), bytes_read, replaced, warnings })
}

fn plan_bytes(plan: &Plan) -> u64 {
    plan.entries.iter().chain(plan.bundles.values().flatten()).map(|entry| entry.size).sum()
}

/// Returns a path as trees have it.
fn absolute(path: &Path) -> Result<Vec<u8>> {
    if !path.is_absolute() {
        return Err(Error::Invalid(format!(
            "{} is not absolute; name files by the paths that they had when they were backed up",
            path.display()
        )));
    }
    let path: PathBuf = path.components().collect();
    Ok(path.as_os_str().as_bytes().to_vec())
}

/// Hands the tree's lines to the planner.
struct TreeReader {
    line: Vec<u8>,
    has_header: bool,
    planner: Planner,
}

#[async_trait]
impl Target for TreeReader {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                return Err(damaged(format!("a line of it has more than {LINE_BYTES_MAX} bytes")));
            }
            self.line.extend_from_slice(piece);
            if !piece.ends_with(b"\n") {
                continue;
            }
            if self.has_header {
                self.planner.take(tree::read_entry(&self.line)?)?;
            } else {
                tree::read_header(&self.line)?;
                self.has_header = true;
            }
            self.line.clear();
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        if self.has_header && self.line.is_empty() { Ok(()) } else { Err(damaged("it ends in the middle of a line")) }
    }
}

/// Cuts bundles into files.
struct Content<'a> {
    build: &'a mut Build,
    bundles: BTreeMap<String, VecDeque<Entry>>,
    /// Files of this bundle that are to come.
    files: VecDeque<Entry>,
    /// Bytes of this bundle so far.
    at: u64,
    open: Option<OpenFile>,
}

struct OpenFile {
    file: File,
    entry: Entry,
    /// Where in the file bytes are still to be written, and how many.
    left: VecDeque<(u64, u64)>,
}

impl Content<'_> {
    /// Returns the file that the next byte belongs to; or how many bytes belong to none.
    fn next(&mut self) -> Result<std::result::Result<&mut OpenFile, u64>> {
        if self.open.is_none() {
            match self.files.front() {
                None => return Ok(Err(u64::MAX)),
                Some(entry) if entry.offset > self.at => return Ok(Err(entry.offset - self.at)),
                Some(_) => {}
            }
            let entry = self.files.pop_front().expect("it was looked at");
            let left = entry.extents.clone().unwrap_or_else(|| vec![(0, entry.size)]);
            let left = left.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
            self.open = Some(OpenFile { file: self.build.file(&entry.path.0)?, entry, left });
        }
        Ok(Ok(self.open.as_mut().expect("it was just opened")))
    }
}

#[async_trait]
impl Target for Content<'_> {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        self.files = self.bundles.remove(&stream.name).unwrap_or_default();
        self.at = 0;
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            let taken = match self.next()? {
                Err(nobodys) => bytes.len().min(usize::try_from(nobodys).unwrap_or(usize::MAX)),
                Ok(open) => {
                    let (start, left) = open.left.front_mut().expect("a file with bytes is done when they are");
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    open.file.write_all_at(&bytes[..taken], *start).map_err(|error| {
                        Error::Target(format!("cannot write {}: {error}", tree::show(&open.entry.path.0)))
                    })?;
                    (*start, *left) = (*start + taken as u64, *left - taken as u64);
                    if *left == 0 {
                        open.left.pop_front();
                    }
                    if open.left.is_empty() {
                        let OpenFile { file, entry, .. } = self.open.take().expect("it is open");
                        debug_assert!(entry.kind == Kind::File);
                        self.build.finish_file(file, &entry)?;
                    }
                    taken
                }
            };
            self.at += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        match (&self.open, self.files.front()) {
            (None, None) => Ok(()),
            _ => Err(damaged("it names bytes that its streams do not have")),
        }
    }
}
