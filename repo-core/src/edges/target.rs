//! Where restored streams go: files, directories, or anything of the caller's own.
//!
//! A file appears under its name only when its whole stream was verified and synced: until then the bytes are in a
//! `.dedump-partial-…` file beside it, which is removed if the restore fails.

use crate::format::snapshot::StreamRecord;
use crate::words::error::{Error, Result};
use crate::words::id::SlotId;
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Takes restored streams, one after another. Every byte that it is given has been verified.
///
/// The targets of this library write to files and writers where they are, and block meanwhile: whoever reads the other end
/// of a pipe must not share their thread.
#[async_trait]
pub trait Target: Send {
    /// A stream begins.
    ///
    /// # Errors
    /// [`Error::Target`]: it can't be taken; the restore ends.
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()>;

    /// The next bytes of the stream.
    ///
    /// # Errors
    /// [`Error::Target`]: likewise.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// The stream is complete, and hashes to what was backed up. Until now it may be anything but whole.
    ///
    /// # Errors
    /// [`Error::Target`]: likewise.
    async fn end(&mut self) -> Result<()>;
}

/// Writes streams as they come to one writer, such as standard output.
pub struct WriterTarget<W>(pub W);

#[async_trait]
impl<W: Write + Send> Target for WriterTarget<W> {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.0.write_all(&bytes).map_err(|error| Error::Target(format!("cannot write the output: {error}")))
    }

    async fn end(&mut self) -> Result<()> {
        self.0.flush().map_err(|error| Error::Target(format!("cannot write the output: {error}")))
    }
}

/// Whether a restore may replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// What is there stays; the restore fails.
    #[default]
    Refuse,
    /// What is there is replaced, at the end and in one step a file.
    Replace,
}

/// Writes one stream to one file, or each to a file of its name below a directory.
pub struct FileTarget {
    place: Place,
    existing: Existing,
    open: Option<PartialFile>,
}

enum Place {
    File(PathBuf),
    Directory(PathBuf),
}

impl FileTarget {
    /// Creates a target that writes its one stream to this file.
    pub fn file(path: impl Into<PathBuf>, existing: Existing) -> Self {
        FileTarget { place: Place::File(path.into()), existing, open: None }
    }

    /// Creates a target that writes every stream to a file of its name below this directory, which is made if needed.
    pub fn directory(path: impl Into<PathBuf>, existing: Existing) -> Self {
        FileTarget { place: Place::Directory(path.into()), existing, open: None }
    }

    /// Returns where a stream of this name goes.
    pub fn path_of(&self, stream_name: &str) -> PathBuf {
        match &self.place {
            Place::File(path) => path.clone(),
            Place::Directory(path) => path.join(stream_name),
        }
    }

    /// Checks, before anything is read, that these streams may be written.
    ///
    /// # Errors
    /// [`Error::Target`]: something is there already.
    pub fn check(&self, stream_names: &[&str]) -> Result<()> {
        stream_names.iter().try_for_each(|name| check_free(&self.path_of(name), self.existing))
    }
}

#[async_trait]
impl Target for FileTarget {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        crate::edges::source::check_stream_name(&stream.name)?;
        let path = self.path_of(&stream.name);
        check_free(&path, self.existing)?;
        self.open = Some(PartialFile::create(path)?);
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let open = self.open.as_mut().expect("a stream has begun");
        open.file.write_all(&bytes).map_err(|error| cannot("write", &open.partial, &error))
    }

    async fn end(&mut self) -> Result<()> {
        self.open.take().expect("a stream has begun").publish(self.existing)
    }
}

/// A file that is not whole yet. Removed when dropped.
struct PartialFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
}

impl PartialFile {
    fn create(path: PathBuf) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::Target(format!("{} names no file; give the path of a file", path.display())));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|error| cannot("create the directory", parent, &error))?;
        }
        let suffix = SlotId(crate::edges::system::random()?);
        let partial = path.with_file_name(format!(".dedump-partial-{suffix}"));
        let file = create_private(&partial).map_err(|error| cannot("create", &partial, &error))?;
        Ok(PartialFile { file, partial, path })
    }

    fn publish(self, existing: Existing) -> Result<()> {
        self.file.sync_all().map_err(|error| cannot("write", &self.partial, &error))?;
        let published = match existing {
            Existing::Replace => fs::rename(&self.partial, &self.path),
            // A hard link, unlike a rename, never replaces what somebody else put there meanwhile.
            Existing::Refuse => match fs::hard_link(&self.partial, &self.path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    check_free(&self.path, existing)?;
                    fs::rename(&self.partial, &self.path)
                }
                other => other,
            },
        };
        published.map_err(|error| cannot("create", &self.path, &error))?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| cannot("sync the directory", parent, &error))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // Published or given up: in both cases what may be left is only this name.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Creates a file that was not there and that nobody else may read: a dump holds a company's data.
fn create_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn check_free(path: &Path, existing: Existing) -> Result<()> {
    if existing == Existing::Refuse && fs::symlink_metadata(path).is_ok() {
        return Err(Error::Target(format!(
            "{} exists and was left as it is; name another place, or allow it to be replaced with --force",
            path.display()
        )));
    }
    Ok(())
}

fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Target(format!("cannot {action} {}: {error}", path.display()))
}
