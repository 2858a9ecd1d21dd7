//! Walks the roots, and decides what is stored: the engine's side that looks at names. Runs on a thread of its own.

use super::FilesOptions;
use super::bundles::Cutter;
use super::dirs::Dirs;
use super::live;
use super::meta::{self, Owners, State};
use super::patterns::Patterns;
use super::report::{Report, Trouble};
use super::store::{Before, Candidate, Outlet, Sender, open_file};
use super::tree::{self, Entry, Header, Kind, Raw, show};
use dedump_core::{Error, Result, Verdict};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, fstat, open, readlinkat, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Entries that wait for a bundle to be complete, at most.
const PENDING_MAX: usize = 65_536;

/// A walk under way.
pub(super) struct Scan {
    options: FilesOptions,
    include: Patterns,
    exclude: Patterns,
    outlet: Outlet,
    owners: Owners,
    report: Report,
    cutter: Cutter,
    /// Small files of the bundle that is open, and by which numbers their entries wait.
    bundle: Vec<Candidate>,
    /// Entries that are not written yet, since files before them or among them wait; `None` for those that were lost.
    pending: Vec<Option<Entry>>,
    /// The first path of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    frames: Vec<Frame>,
}

/// A directory under way.
struct Frame {
    path: Vec<u8>,
    names: std::vec::IntoIter<CString>,
    /// Whether an include pattern names it, or one above it; or there is none.
    is_included: bool,
    /// Its entry, if nothing in it was included so far.
    entry: Option<Entry>,
}

/// One of the roots, open.
struct Root {
    path: Vec<u8>,
    device: u64,
    dirs: Dirs,
}

impl Scan {
    /// Creates a walk that sends what it finds to `outlet`.
    pub fn create(options: FilesOptions, before: Before, sender: Sender) -> Result<Scan> {
        let (include, exclude) = (Patterns::create(&options.include)?, Patterns::create(&options.exclude)?);
        Ok(Scan {
            include,
            exclude,
            report: Report::create(options.partial),
            outlet: Outlet::create(sender, before, options.rescan),
            options,
            owners: Owners::default(),
            cutter: Cutter::default(),
            bundle: Vec::new(),
            pending: Vec::new(),
            links: HashMap::new(),
            frames: Vec::new(),
        })
    }

    /// Walks everything; returns the verdict and the facts of the tree.
    pub fn run(mut self, roots: &[PathBuf]) -> Result<(Verdict, BTreeMap<String, String>)> {
        let roots = super::absolute(roots)?;
        let named = roots.iter().map(|root| Raw(root.clone())).collect();
        self.outlet.line(&Header { dedump_tree: tree::VERSION, roots: named })?;
        for path in roots {
            self.root(path)?;
        }
        self.outlet.finish()?;
        let facts = BTreeMap::from([
            ("holes".to_owned(), self.outlet.with_holes_n.to_string()),
            ("version".to_owned(), tree::VERSION.to_string()),
        ]);
        Ok((self.report.verdict(), facts))
    }

    fn root(&mut self, path: Vec<u8>) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cannot = |error: Errno| {
            Error::DumpFailed(format!("cannot read {}: {error}; correct the path; nothing was stored", show(&path)))
        };
        let is_named = |is_directory| self.include.is_empty() || self.include.names(&path, is_directory);
        match open(&path[..], flags, Mode::empty()) {
            Ok(fd) => {
                let is_included = is_named(true);
                let stat = fstat(&fd).map_err(cannot)?;
                let mut root = Root { device: stat.st_dev, dirs: Dirs::create(fd), path: path.clone() };
                let mut entry = self.owners.entry(path.clone(), Kind::Directory, &stat);
                entry.xattrs = meta::xattrs(root.dirs.top(), b".").map_err(cannot)?;
                self.directory(&mut root, path, entry, is_included)?;
                while !self.frames.is_empty() {
                    self.step(&mut root)?;
                }
                self.close(&mut root)
            }
            Err(Errno::NOTDIR) => {
                let is_included = is_named(false);
                let (above, name) = super::dirs::split(&path);
                let above = if above.is_empty() { b"/" } else { above };
                let fd = open(above, flags, Mode::empty()).map_err(cannot)?;
                let mut root = Root { device: 0, dirs: Dirs::create(fd), path: above.to_vec() };
                let stat = statat(root.dirs.top(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(cannot)?;
                self.other(&mut root, path.clone(), &stat, is_included)?;
                self.close(&mut root)
            }
            Err(error) => Err(cannot(error)),
        }
    }

    /// Looks at the next name of the innermost directory.
    fn step(&mut self, root: &mut Root) -> Result<()> {
        let frame = self.frames.last_mut().expect("it is asked only while there is one");
        let Some(name) = frame.names.next() else {
            self.frames.pop();
            return Ok(());
        };
        let (path, is_included) = (tree::join(&frame.path, name.to_bytes()), frame.is_included);
        let above = frame.path.clone();
        let look = root.dirs.open(below(&above, &root.path)).and_then(|directory| stat_of(directory, &name));
        let stat = match look {
            Ok(stat) => stat,
            Err(error) => return self.report.trouble(&path, Trouble::of(error)),
        };
        let is_directory = meta::kind_of(&stat) == Some(Kind::Directory);
        if self.exclude.names(&path, is_directory) {
            self.report.excluded_n += 1;
            return Ok(());
        }
        let is_included = is_included || self.include.names(&path, is_directory);
        if !is_directory {
            return self.other(root, path, &stat, is_included);
        }
        let mut entry = self.owners.entry(path.clone(), Kind::Directory, &stat);
        match root.dirs.open(below(&above, &root.path)).and_then(|fd| meta::xattrs(fd, name.to_bytes())) {
            Ok(xattrs) => entry.xattrs = xattrs,
            Err(error) => self.report.trouble(&path, Trouble::of(error))?,
        }
        if self.options.one_file_system && stat.st_dev != root.device {
            self.report.elsewhere_n += 1;
            return if is_included { self.emit(root, entry) } else { Ok(()) };
        }
        self.directory(root, path, entry, is_included)
    }

    /// Enters a directory, whose entry this is.
    fn directory(&mut self, root: &mut Root, path: Vec<u8>, entry: Entry, is_included: bool) -> Result<()> {
        let names = match root.dirs.open(below(&path, &root.path)).and_then(names_in) {
            Ok(names) => names,
            Err(error) => {
                self.report.trouble(&path, Trouble::of(error))?;
                Vec::new()
            }
        };
        if let Some((database, source)) = live::recognise(&names.iter().map(|name| name.to_bytes()).collect::<Vec<_>>())
        {
            self.report.database(&path, database, source, self.options.databases)?;
        }
        self.report.directories_n += 1;
        let mut frame = Frame { path, names: names.into_iter(), is_included, entry: Some(entry) };
        if is_included {
            let entry = frame.entry.take().expect("it was just put there");
            self.emit(root, entry)?;
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Takes what is no directory.
    fn other(&mut self, root: &mut Root, path: Vec<u8>, stat: &Stat, is_included: bool) -> Result<()> {
        if !is_included {
            return Ok(());
        }
        let Some(kind) = meta::kind_of(stat) else {
            self.report.sockets_n += 1;
            return Ok(());
        };
        let (above, name) = super::dirs::split(&path);
        let (above, name) = (above.to_vec(), name.to_vec());
        let mut entry = self.owners.entry(path.clone(), kind, stat);
        let looked = root.dirs.open(below(&above, &root.path)).and_then(|directory| {
            entry.xattrs = meta::xattrs(directory, &name)?;
            if kind == Kind::Symlink {
                entry.target = Some(Raw(readlinkat(directory, &name[..], Vec::new())?.into_bytes()));
            }
            Ok(())
        });
        if let Err(error) = looked {
            return self.report.trouble(&path, Trouble::of(error));
        }
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let target = Some(Raw(first.clone()));
                self.report.hard_links_n += 1;
                let other = Entry {
                    kind: Kind::Hardlink,
                    target,
                    size: 0,
                    linked: false,
                    device: None,
                    xattrs: Vec::new(),
                    ..entry
                };
                return self.emit(root, other);
            }
            self.links.insert(key, path);
        }
        match kind {
            Kind::File => self.file(root, entry, stat),
            Kind::Symlink => {
                self.report.symlinks_n += 1;
                self.emit(root, entry)
            }
            _ => {
                self.report.special_n += 1;
                self.emit(root, entry)
            }
        }
    }

    fn file(&mut self, root: &mut Root, entry: Entry, stat: &Stat) -> Result<()> {
        self.report.files_n += 1;
        let (path, bytes) = (entry.path.0.clone(), entry.size);
        if bytes > 0 && !self.cutter.is_large(bytes) && self.cutter.cuts(&path, bytes) {
            self.close(root)?;
        }
        let candidate = Candidate {
            entry: self.emit_later(entry),
            path,
            state: State::of(stat),
            may_have_holes: meta::may_have_holes(stat),
        };
        if bytes == 0 {
            return self.write_what_is_ready();
        }
        if !self.cutter.is_large(bytes) {
            self.bundle.push(candidate);
            return Ok(());
        }
        self.store(root, vec![candidate])?;
        self.write_what_is_ready()
    }

    /// Stores the bundle that is open.
    fn close(&mut self, root: &mut Root) -> Result<()> {
        let files = std::mem::take(&mut self.bundle);
        if !files.is_empty() {
            self.store(root, files)?;
        }
        self.write_what_is_ready()
    }

    fn store(&mut self, root: &mut Root, files: Vec<Candidate>) -> Result<()> {
        self.cutter.count();
        let prefix = root.path.clone();
        let mut open = |path: &[u8]| {
            let (above, name) = super::dirs::split(path);
            open_file(root.dirs.open(below(above, &prefix))?, name)
        };
        self.outlet.store(files, &mut self.pending, &mut self.report, &mut self.owners, &mut open)
    }

    /// Writes an entry, when what is before it is written.
    fn emit(&mut self, root: &mut Root, entry: Entry) -> Result<()> {
        self.emit_later(entry);
        if self.pending.len() >= PENDING_MAX {
            return self.close(root);
        }
        self.write_what_is_ready()
    }

    /// Puts an entry behind those that wait, and before it the directories that lead to it; returns its number there.
    fn emit_later(&mut self, entry: Entry) -> usize {
        let above = self.frames.iter_mut().filter_map(|frame| frame.entry.take());
        self.pending.extend(above.map(Some));
        self.pending.push(Some(entry));
        self.pending.len() - 1
    }

    fn write_what_is_ready(&mut self) -> Result<()> {
        if !self.bundle.is_empty() {
            return Ok(());
        }
        for entry in std::mem::take(&mut self.pending).into_iter().flatten() {
            let is_lost = |target: &Raw| self.report.is_lost(&target.0);
            if entry.kind == Kind::Hardlink && entry.target.as_ref().is_some_and(is_lost) {
                self.report.trouble(&entry.path.0, Trouble::Vanished)?;
                continue;
            }
            self.outlet.line(&entry)?;
        }
        Ok(())
    }
}

/// Returns what a path has below another, which it begins with.
fn below<'a>(path: &'a [u8], root: &[u8]) -> &'a [u8] {
    path.get(root.len()..).unwrap_or_default()
}

fn stat_of(directory: std::os::fd::BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Stat> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Returns the sorted names in an open directory.
fn names_in(directory: std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let own: OwnedFd =
        rustix::fs::openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(own)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
