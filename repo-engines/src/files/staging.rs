//! The directory beside the target that a restore is built in, and how it takes the target's place.
//!
//! It is called `.dedump-restoring-…` and locked while its restore is at work. A restore that was killed leaves it, unlocked; the
//! next one to the same target removes it.

use super::tree::show;
use dedump_core::{Error, Result};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, mkdirat, open, openat, renameat, renameat_with,
    statat, syncfs,
};
use rustix::io::Errno;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names that are tried for it, at most.
const ATTEMPTS_MAX: u32 = 100;
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that is being built. Removed when dropped, unless it was published.
pub(super) struct Staging {
    parent: OwnedFd,
    parent_path: PathBuf,
    name: PathBuf,
    target: PathBuf,
    directory: OwnedFd,
    is_published: bool,
    /// What is left of others.
    pub warnings: Vec<String>,
}

impl Staging {
    /// Creates the directory for a target, after what killed restores to it left was removed.
    ///
    /// # Errors
    /// [`Error::Target`]: something is at the target that must not be replaced; the system's.
    pub fn create(target: &Path, replace: bool) -> Result<Staging> {
        let target = std::path::absolute(target).map_err(|error| cannot("find", target, error))?;
        let target: PathBuf = target.components().collect();
        let (Some(parent_path), Some(target_name)) = (target.parent(), target.file_name()) else {
            return Err(Error::Target(format!("{} can't be restored to; name a directory in it", target.display())));
        };
        check_target(&target, replace)?;
        fs::create_dir_all(parent_path).map_err(|error| cannot("create", parent_path, error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent =
            open(parent_path, flags, Mode::empty()).map_err(|error| cannot("open", parent_path, error.into()))?;
        let prefix = format!(".dedump-restoring-{}-", &blake3::hash(target_name.as_bytes()).to_hex()[..16]);
        let warnings = sweep(parent_path, &prefix)?;
        for attempt in 0..ATTEMPTS_MAX {
            let name = PathBuf::from(format!("{prefix}{}-{attempt}", std::process::id()));
            match mkdirat(&parent, &name, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                made => made.map_err(|error| cannot("create a directory in", parent_path, error.into()))?,
            }
            // Another restore may have taken it for left over before it was locked.
            let Ok(directory) = openat(&parent, &name, FLAGS, Mode::empty()) else { continue };
            let locked = flock(&directory, FlockOperation::NonBlockingLockExclusive);
            let is_same = || {
                let there = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                Some(there.st_ino == fstat(&directory).ok()?.st_ino)
            };
            if locked.is_ok() && is_same() == Some(true) {
                let parent_path = parent_path.to_owned();
                return Ok(Staging { parent, parent_path, name, target, directory, is_published: false, warnings });
            }
        }
        Err(Error::Target(format!(
            "no directory can be made in {}; look for what is in the way",
            parent_path.display()
        )))
    }

    /// Returns another handle of the directory.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub fn open(&self) -> Result<OwnedFd> {
        self.directory.try_clone().map_err(|error| cannot("open", &self.path(), error))
    }

    fn path(&self) -> PathBuf {
        self.parent_path.join(&self.name)
    }

    /// Puts the directory in the target's place in one step, once all of it is on the disk. Returns where what was there is now.
    ///
    /// # Errors
    /// [`Error::Target`]: it can't be done, and the target is as it was.
    pub fn publish(mut self, replace: bool) -> Result<Option<PathBuf>> {
        syncfs(&self.directory).map_err(|error| cannot("write", &self.path(), error.into()))?;
        let there = check_target(&self.target, replace)?;
        let old = match there {
            There::Nothing => self.rename_to_nothing().map(|()| None),
            // A rename takes the place of a directory only while that is empty.
            There::Empty => self.rename().map(|()| None),
            There::Full => self.exchange().map(Some),
        };
        let old = old.map_err(|error| match error {
            Errno::BUSY | Errno::XDEV => Error::Target(format!(
                "{} is a place where a file system is mounted, which can't be replaced; restore to a new directory in it",
                self.target.display()
            )),
            error => cannot("replace", &self.target, error.into()),
        })?;
        self.is_published = true;
        rustix::fs::fsync(&self.parent).map_err(|error| cannot("sync", &self.parent_path, error.into()))?;
        Ok(old)
    }

    fn target_name(&self) -> &[u8] {
        self.target.file_name().map(OsStrExt::as_bytes).unwrap_or_default()
    }

    fn rename(&self) -> rustix::io::Result<()> {
        renameat(&self.parent, &self.name, &self.parent, self.target_name())
    }

    fn rename_to_nothing(&self) -> rustix::io::Result<()> {
        match renameat_with(&self.parent, &self.name, &self.parent, self.target_name(), RenameFlags::NOREPLACE) {
            // The file system can't; nothing was there a moment ago.
            Err(Errno::INVAL | Errno::NOSYS) => self.rename(),
            other => other,
        }
    }

    /// Changes places with what is at the target, which then has a name that no later restore takes for left over. The
    /// directory gets that name first, so whoever is killed in between leaves the target as it was or whole.
    fn exchange(&mut self) -> rustix::io::Result<PathBuf> {
        let secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let suffix = format!(".before-restore-{secs}-{}", std::process::id());
        // Names have 255 bytes at most.
        let kept = &self.target_name()[..self.target_name().len().min(255 - suffix.len())];
        let aside = PathBuf::from(std::ffi::OsString::from_vec([kept, suffix.as_bytes()].concat()));
        renameat_with(&self.parent, &self.name, &self.parent, &aside, RenameFlags::NOREPLACE)?;
        self.name = aside.clone();
        match renameat_with(&self.parent, &aside, &self.parent, self.target_name(), RenameFlags::EXCHANGE) {
            // The file system can't do it in one step.
            Err(Errno::INVAL | Errno::NOSYS) => self.exchange_in_steps(&aside)?,
            exchanged => exchanged?,
        }
        Ok(self.parent_path.join(aside))
    }

    fn exchange_in_steps(&self, aside: &Path) -> rustix::io::Result<()> {
        let mut between = aside.to_owned().into_os_string();
        between.push(".new");
        renameat(&self.parent, aside, &self.parent, &between)?;
        renameat(&self.parent, self.target_name(), &self.parent, aside)?;
        renameat(&self.parent, &between, &self.parent, self.target_name())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_published {
            // If it can't be removed now, the next restore to the same target does, or names it.
            let _ = fs::remove_dir_all(self.path());
        }
    }
}

/// What is at the target.
enum There {
    Nothing,
    Empty,
    Full,
}

fn check_target(target: &Path, replace: bool) -> Result<There> {
    let metadata = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(There::Nothing),
        metadata => metadata.map_err(|error| cannot("look at", target, error))?,
    };
    if !metadata.is_dir() {
        return Err(Error::Target(format!("{} is there and is no directory; name another place", target.display())));
    }
    let mut names = fs::read_dir(target).map_err(|error| cannot("look into", target, error))?;
    match names.next() {
        None => Ok(There::Empty),
        Some(_) if replace => Ok(There::Full),
        Some(_) => Err(Error::Target(format!(
            "{} is not empty, and was left as it is; name another place, or allow it to be replaced",
            target.display()
        ))),
    }
}

/// Removes what restores that were killed left; returns what is left of it.
fn sweep(parent: &Path, prefix: &str) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for entry in fs::read_dir(parent).map_err(|error| cannot("look into", parent, error))? {
        let entry = entry.map_err(|error| cannot("look into", parent, error))?;
        if !entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let name = show(path.as_os_str().as_bytes());
        let removed = match open(&path, FLAGS, Mode::empty()) {
            Ok(left) if flock(&left, FlockOperation::NonBlockingLockExclusive).is_err() => {
                warnings.push(format!("another restore to the same place is at work in {name}"));
                continue;
            }
            Ok(_left) => fs::remove_dir_all(&path),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = removed {
            warnings.push(format!("{name} was left by a restore that was interrupted, and can't be removed: {error}"));
        }
    }
    Ok(warnings)
}

fn cannot(action: &str, path: &Path, error: std::io::Error) -> Error {
    Error::Target(format!("cannot {action} {}: {error}", path.display()))
}
