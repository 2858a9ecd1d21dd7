//! Plans a restore: judges a tree as bytes that anybody may have written, and says what goes where. Touches no file.

use super::tree::{Entry, Kind, damaged, is_in, order, show};
use dedump_core::{Error, Result, StreamRecord};
use std::collections::{BTreeMap, HashMap};

/// What is restored, in the tree's order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Directories, symbolic links and special files, and files that have no bytes.
    pub entries: Vec<Entry>,
    /// Of each content stream, the files whose bytes it has, in the order of their places there.
    pub bundles: BTreeMap<String, Vec<Entry>>,
    /// Hard links: the new path, and that of the file.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Takes the tree's entries one after another.
pub(super) struct Planner {
    /// What is asked for; empty stands for everything.
    wanted: Vec<Vec<u8>>,
    found: Vec<bool>,
    /// The last entry, and whether it is a directory.
    last: Option<(Vec<u8>, bool)>,
    /// What hard links may name: entries that have other names.
    firsts: HashMap<Vec<u8>, First>,
    plan: Plan,
}

/// An entry that may have other names.
enum First {
    /// It is restored under this path.
    Restored(Vec<u8>),
    /// It was not asked for. The first of its other names that is takes its place.
    Left(Box<Entry>),
}

impl Planner {
    /// Creates a planner for what lies at or below these absolute paths; none stands for everything.
    pub fn create(wanted: Vec<Vec<u8>>) -> Planner {
        let found = vec![false; wanted.len()];
        let (firsts, plan) = (HashMap::new(), Plan::default());
        Planner { wanted, found, last: None, firsts, plan }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Error::Damaged`]: it leads outside, is out of order, or is no such thing.
    pub fn take(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.0.clone();
        check_path(&path)?;
        if let Some((last, is_directory)) = &self.last {
            if order(last, &path).is_ge() {
                return Err(damaged(format!("{} is out of order, or there twice", show(&path))));
            }
            // What is below a path stands right behind it.
            if !is_directory && is_in(&path, last) {
                return Err(damaged(format!("{} is in {}, which is no directory", show(&path), show(last))));
            }
        }
        self.last = Some((path, entry.kind == Kind::Directory));
        check_extents(&entry)?;
        check_kind(&entry)?;
        match entry.kind {
            Kind::Directory => self.directory(entry),
            Kind::Hardlink => self.link(entry),
            _ => self.other(entry),
        }
    }

    /// Ends the plan.
    ///
    /// # Errors
    /// [`Error::NotFound`]: a path that was asked for is not there.
    pub fn finish(mut self) -> Result<Plan> {
        if let Some(at) = self.found.iter().position(|found| !found) {
            let hint = " in the snapshot; name a file or directory of its tree by its absolute path".to_owned();
            return Err(Error::NotFound { what: "path", name: show(&self.wanted[at]), hint });
        }
        for files in self.plan.bundles.values_mut() {
            files.sort_by_key(|file| file.offset);
        }
        Ok(self.plan)
    }

    fn is_wanted(&mut self, path: &[u8]) -> bool {
        let mut is_wanted = self.wanted.is_empty();
        for (wanted, found) in self.wanted.iter().zip(&mut self.found) {
            if is_in(path, wanted) {
                (is_wanted, *found) = (true, true);
            }
        }
        is_wanted
    }

    fn directory(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.0.clone();
        let leads_there = self.wanted.iter().any(|wanted| is_in(wanted, &path));
        if self.is_wanted(&path) || leads_there {
            self.plan.entries.push(entry);
        }
        Ok(())
    }

    fn other(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.0.clone();
        let is_wanted = self.is_wanted(&path);
        if entry.linked {
            let first = if is_wanted { First::Restored(path.clone()) } else { First::Left(Box::new(entry.clone())) };
            self.firsts.insert(path, first);
        }
        if is_wanted {
            self.put(entry);
        }
        Ok(())
    }

    fn link(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.0.clone();
        let target = entry.target.expect("it was checked").0;
        let is_wanted = self.is_wanted(&path);
        let Some(first) = self.firsts.get_mut(&target) else {
            let why = format!("{} is a hard link to {}, which is no file before it", show(&path), show(&target));
            return Err(damaged(why));
        };
        match first {
            First::Restored(at) if is_wanted => {
                let at = at.clone();
                self.plan.links.push((path.clone(), at));
            }
            First::Left(left) if is_wanted => {
                let mut other = (**left).clone();
                other.path = entry.path;
                *first = First::Restored(path.clone());
                self.put(other);
            }
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, entry: Entry) {
        match entry.content.clone() {
            Some(content) => self.plan.bundles.entry(content).or_default().push(entry),
            None => self.plan.entries.push(entry),
        }
    }
}

impl Plan {
    /// Checks that every file lies within its stream, and none in another.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn check_streams(&self, stream: impl Fn(&str) -> Option<StreamRecord>) -> Result<()> {
        for (name, files) in &self.bundles {
            let Some(stream) = stream(name) else {
                return Err(damaged(format!("it names the stream {name:?}, which the snapshot does not have")));
            };
            let mut end = 0;
            for file in files {
                let bytes = file.stored_bytes().unwrap_or(u64::MAX);
                let after = file.offset.checked_add(bytes).filter(|after| *after <= stream.bytes);
                match after {
                    Some(after) if file.offset >= end => end = after,
                    _ => return Err(damaged(format!("{} does not lie in {name:?}", show(&file.path.0)))),
                }
            }
        }
        Ok(())
    }

    /// Makes every path a relative one, below `base` if there is one, which becomes the empty path.
    ///
    /// # Errors
    /// [`Error::NotFound`]: there is no such directory.
    pub fn make_relative(&mut self, base: Option<&[u8]>) -> Result<()> {
        if let Some(base) = base {
            let is_base = |entry: &Entry| entry.kind == Kind::Directory && entry.path.0 == base;
            if !self.entries.iter().any(is_base) {
                let hint = " in the snapshot, which could become the target".to_owned();
                return Err(Error::NotFound { what: "directory", name: show(base), hint });
            }
            // What leads there is not wanted; anything else was not asked for.
            self.entries.retain(|entry| is_in(&entry.path.0, base));
        }
        let base = base.unwrap_or_default();
        let files = self.bundles.values_mut().flatten();
        let paths = self.entries.iter_mut().chain(files).map(|entry| &mut entry.path.0);
        for path in paths.chain(self.links.iter_mut().flat_map(|(new, old)| [new, old])) {
            let below = path.strip_prefix(base).unwrap_or_default();
            *path = below.strip_prefix(b"/").unwrap_or(below).to_vec();
        }
        Ok(())
    }

    /// Returns how many files it has, hard links left out.
    pub fn files_n(&self) -> u64 {
        let without_bytes = self.entries.iter().filter(|entry| entry.kind == Kind::File).count();
        (without_bytes + self.bundles.values().map(Vec::len).sum::<usize>()) as u64
    }
}

/// Checks that a path is absolute, and that no part of it leads anywhere but down.
fn check_path(path: &[u8]) -> Result<()> {
    let Some(below) = path.strip_prefix(b"/") else {
        return Err(damaged(format!("{} is no absolute path", show(path))));
    };
    let is_bad = |part: &[u8]| matches!(part, b"" | b"." | b"..");
    if path.contains(&0) || !below.is_empty() && below.split(|byte| *byte == b'/').any(is_bad) {
        return Err(damaged(format!("{} would lead elsewhere", show(path))));
    }
    Ok(())
}

/// Checks that a link leads somewhere, and that a device has its numbers.
fn check_kind(entry: &Entry) -> Result<()> {
    let has_all = match entry.kind {
        Kind::Symlink | Kind::Hardlink => entry.target.is_some(),
        Kind::CharDevice | Kind::BlockDevice => entry.device.is_some(),
        Kind::File | Kind::Directory | Kind::Fifo => true,
    };
    if has_all { Ok(()) } else { Err(damaged(format!("what {} leads to is not known", show(&entry.path.0)))) }
}

/// Checks that extents are in order, and within their file.
fn check_extents(entry: &Entry) -> Result<()> {
    let mut end = 0;
    let is_file = entry.kind == Kind::File;
    for (start, bytes) in entry.extents.iter().flatten() {
        match start.checked_add(*bytes).filter(|after| *start >= end && *after <= entry.size) {
            Some(after) => end = after,
            None => return Err(damaged(format!("the extents of {} are out of order", show(&entry.path.0)))),
        }
    }
    let has_bytes = is_file && entry.stored_bytes().is_some_and(|bytes| bytes > 0);
    if has_bytes != entry.content.is_some() || i64::try_from(entry.size).is_err() {
        return Err(damaged(format!("where the bytes of {} are is not known", show(&entry.path.0))));
    }
    Ok(())
}
