//! Makes files below one directory, each by way of open directories and never by way of a link.

use super::dirs::{Dirs, split};
use super::meta::way_to;
use super::plan::Plan;
use super::tree::{Entry, Kind, order, show};
use dedump_core::{Error, Result};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fsetxattr, fstat, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// A tree under way below a directory that nobody else writes to.
pub(super) struct Build {
    dirs: Dirs,
    /// What the system refused, by what it was: how often, and the first time.
    refused: BTreeMap<&'static str, (u64, String)>,
    /// Special files that could not be made.
    skipped: HashSet<Vec<u8>>,
}

impl Build {
    /// Creates it over an empty directory.
    pub fn create(top: OwnedFd) -> Build {
        Build { dirs: Dirs::create(top), refused: BTreeMap::new(), skipped: HashSet::new() }
    }

    /// Makes all directories, also those that only the paths of others name; for now, nobody else may enter them.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub fn directories(&mut self, plan: &Plan) -> Result<()> {
        // Those without an entry are open to all, as what leads to them was not backed up.
        let mut modes: HashMap<Vec<u8>, Mode> = HashMap::new();
        let files = plan.entries.iter().chain(plan.bundles.values().flatten()).map(|entry| &entry.path.0);
        for path in files.chain(plan.links.iter().map(|(path, _)| path)) {
            for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                modes.insert(path[..at].to_vec(), Mode::from_raw_mode(0o755));
            }
        }
        let own = plan.entries.iter().filter(|entry| entry.kind == Kind::Directory && !entry.path.0.is_empty());
        modes.extend(own.map(|entry| (entry.path.0.clone(), Mode::RWXU)));
        let mut sorted: Vec<_> = modes.into_iter().collect();
        sorted.sort_by(|(a, _), (b, _)| order(a, b));
        for (path, mode) in sorted {
            let (above, name) = split(&path);
            let made = self.dirs.open(above).and_then(|directory| {
                mkdirat(directory, name, Mode::RWXU)?;
                // Whatever the umask says.
                chmodat(directory, name, mode, AtFlags::empty())
            });
            made.map_err(|error| cannot("create the directory", &path, error))?;
        }
        Ok(())
    }

    /// Creates a file that was not there.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub fn file(&mut self, path: &[u8]) -> Result<File> {
        let (above, name) = split(path);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.dirs.open(above).and_then(|directory| openat(directory, name, flags, Mode::RUSR | Mode::WUSR));
        made.map(File::from).map_err(|error| cannot("create", path, error))
    }

    /// Ends a file whose content is written: gives it its length and its attributes.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub fn finish_file(&mut self, file: File, entry: &Entry) -> Result<()> {
        if entry.extents.is_some() {
            file.set_len(entry.size)
                .map_err(|error| Error::Target(format!("cannot write {}: {error}", show(&entry.path.0))))?;
        }
        self.attributes(&file, entry);
        Ok(())
    }

    /// Makes what has no content: empty files and those that are all hole, special files, then hard links to those and to
    /// files, symbolic links last of all; and then gives the directories their attributes, those within before those around
    /// them, since whatever is made in a directory changes its times.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub fn finish(&mut self, plan: &Plan) -> Result<()> {
        for entry in &plan.entries {
            match entry.kind {
                Kind::File => {
                    let file = self.file(&entry.path.0)?;
                    self.finish_file(file, entry)?;
                }
                Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => self.special(entry)?,
                Kind::Directory | Kind::Symlink | Kind::Hardlink => {}
            }
        }
        let symlinks: HashSet<&[u8]> =
            plan.entries.iter().filter(|entry| entry.kind == Kind::Symlink).map(|entry| &entry.path.0[..]).collect();
        let (last, first): (Vec<_>, Vec<_>) = plan.links.iter().partition(|(_, old)| symlinks.contains(&old[..]));
        first.into_iter().try_for_each(|(new, old)| self.link(new, old))?;
        plan.entries.iter().filter(|entry| entry.kind == Kind::Symlink).try_for_each(|entry| self.symlink(entry))?;
        last.into_iter().try_for_each(|(new, old)| self.link(new, old))?;
        for entry in plan.entries.iter().rev().filter(|entry| entry.kind == Kind::Directory) {
            // Another handle, since the open ones stay with the path.
            let opened = self
                .dirs
                .open(&entry.path.0)
                .map_err(std::io::Error::from)
                .and_then(|directory| directory.try_clone_to_owned());
            let directory = opened.map_err(|error| cannot_io("open", &entry.path.0, &error))?;
            self.attributes(&directory, entry);
        }
        Ok(())
    }

    /// Returns what could not be done, each kind once.
    pub fn warnings(self) -> Vec<String> {
        let tell = |(what, (times_n, first)): (&str, (u64, String))| format!("{what} ({times_n}), first {first}");
        self.refused.into_iter().map(tell).collect()
    }

    fn link(&mut self, new: &[u8], old: &[u8]) -> Result<()> {
        if self.skipped.contains(old) {
            return Ok(());
        }
        let (old_above, old_name) = split(old);
        let from = self
            .dirs
            .open(old_above)
            .map_err(std::io::Error::from)
            .and_then(|directory| directory.try_clone_to_owned());
        let from = from.map_err(|error| cannot_io("open the directory of", old, &error))?;
        let (above, name) = split(new);
        let linked = self.dirs.open(above).and_then(|to| linkat(&from, old_name, to, name, AtFlags::empty()));
        linked.map_err(|error| cannot("link", new, error))
    }

    fn symlink(&mut self, entry: &Entry) -> Result<()> {
        let (above, name) = split(&entry.path.0);
        let text = &entry.target.as_ref().expect("the plan has checked it").0;
        let made = self.dirs.open(above).and_then(|directory| symlinkat(&text[..], directory, name));
        made.map_err(|error| cannot("create the symbolic link", &entry.path.0, error))?;
        self.attributes_by_name(entry)
    }

    fn special(&mut self, entry: &Entry) -> Result<()> {
        let (above, name) = split(&entry.path.0);
        let file_type = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        // A named pipe has no numbers.
        let (major, minor) = entry.device.unwrap_or((0, 0));
        let made = self
            .dirs
            .open(above)
            .and_then(|directory| mknodat(directory, name, file_type, Mode::RUSR | Mode::WUSR, makedev(major, minor)));
        match made {
            Err(Errno::PERM) => {
                self.refuse("devices that only root may make were left out", &entry.path.0, Errno::PERM);
                self.skipped.insert(entry.path.0.clone());
                Ok(())
            }
            Err(error) => Err(cannot("create", &entry.path.0, error)),
            Ok(()) => self.attributes_by_name(entry),
        }
    }

    /// Sets everything that an open file or directory has besides its content: first the owner, since that takes away rights
    /// and capabilities; then attributes, while the owner may still write; then the mode, the times last.
    fn attributes(&mut self, file: impl AsFd, entry: &Entry) {
        let path = &entry.path.0;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        if let Err(error) = fchown(&file, Some(uid), Some(gid)) {
            // The group alone may be one's own.
            if fchown(&file, None, Some(gid)).is_err() || fstat(&file).map_or(true, |stat| stat.st_uid != entry.uid) {
                self.refuse(OWNERS, path, error);
            }
        }
        for (name, value) in &entry.xattrs {
            if let Err(error) = fsetxattr(&file, &name.0[..], &value.0, XattrFlags::empty()) {
                self.refuse(XATTRS, path, error);
            }
        }
        let mode = fstat(&file).map_or(0, |stat| allowed_mode(entry, stat.st_uid, stat.st_gid));
        if let Err(error) = fchmod(&file, Mode::from_raw_mode(mode)) {
            self.refuse(MODES, path, error);
        }
        if let Err(error) = futimens(&file, &times(entry)) {
            self.refuse(TIMES, path, error);
        }
    }

    /// As [`Build::attributes`], for what can't be opened: links, which are not followed, and special files.
    fn attributes_by_name(&mut self, entry: &Entry) -> Result<()> {
        let (above, name) = split(&entry.path.0);
        let directory =
            self.dirs.open(above).map_err(std::io::Error::from).and_then(|directory| directory.try_clone_to_owned());
        let directory = directory.map_err(|error| cannot_io("open the directory of", &entry.path.0, &error))?;
        let path = &entry.path.0;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Err(error) = chownat(&directory, name, Some(uid), Some(gid), flags) {
            self.refuse(OWNERS, path, error);
        }
        for (attribute, value) in &entry.xattrs {
            let way = way_to(directory.as_fd(), name);
            if let Err(error) = lsetxattr(&way[..], &attribute.0[..], &value.0, XattrFlags::empty()) {
                self.refuse(XATTRS, path, error);
            }
        }
        // A link has no mode of its own. Anything else here was made by us, and is no link.
        if entry.kind != Kind::Symlink {
            let mode = statat(&directory, name, flags).map_or(0, |stat| allowed_mode(entry, stat.st_uid, stat.st_gid));
            if let Err(error) = chmodat(&directory, name, Mode::from_raw_mode(mode), AtFlags::empty()) {
                self.refuse(MODES, path, error);
            }
        }
        if let Err(error) = utimensat(&directory, name, &times(entry), flags) {
            self.refuse(TIMES, path, error);
        }
        Ok(())
    }

    fn refuse(&mut self, what: &'static str, path: &[u8], error: Errno) {
        let (times_n, _) = self.refused.entry(what).or_insert_with(|| (0, format!("{}: {error}", show(path))));
        *times_n += 1;
    }
}

const OWNERS: &str = "owners could not be set, which takes root";
const XATTRS: &str = "extended attributes could not be set";
const MODES: &str = "modes could not be set";
const TIMES: &str = "times could not be set";

/// Returns the mode that a file may have that has this owner and group now: what runs with its owner's rights must not run with
/// those of somebody else.
fn allowed_mode(entry: &Entry, uid: u32, gid: u32) -> u32 {
    let without_user = if uid == entry.uid { 0 } else { 0o4000 };
    let without_group = if gid == entry.gid { 0 } else { 0o2000 };
    entry.mode & !(without_user | without_group)
}

fn times(entry: &Entry) -> Timestamps {
    let (secs, ns) = entry.mtime;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: secs, tv_nsec: ns.into() },
    }
}

fn cannot(action: &str, path: &[u8], error: Errno) -> Error {
    cannot_io(action, path, &error.into())
}

fn cannot_io(action: &str, path: &[u8], error: &std::io::Error) -> Error {
    Error::Target(format!("cannot {action} {}: {error}", show(path)))
}
