//! Stores files: takes bundles over that have not changed, and reads the others.

use super::bundles::{self, STATES};
use super::meta::{self, Owners, State};
use super::report::{Report, Trouble};
use super::tree::{self, Entry, Extents, Kind};
use dedump_core::{Error, Result};
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;
use tokio::sync::{mpsc, oneshot};

/// Bytes that go to the engine's future in one piece.
const PIECE_BYTES: usize = 1024 * 1024;

/// What the walk tells the engine's future, which alone talks to the sink.
pub(super) enum Event {
    /// Lines of the tree.
    Tree(Vec<u8>),
    /// A bundle begins that has to be read.
    Begin(String),
    /// Bytes of it.
    Bytes(Vec<u8>),
    /// It is complete.
    End(BTreeMap<String, String>),
    /// Take the bundle of this name over, and say whether that could be done.
    Reuse(String, oneshot::Sender<bool>),
}

pub(super) type Sender = mpsc::Sender<Event>;

/// What the snapshot before says.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Each bundle's states and length.
    pub bundles: HashMap<String, (String, u64)>,
    /// The extents of files that had holes; `None` if that is not known.
    pub extents: Option<HashMap<Vec<u8>, Extents>>,
}

/// A file that is to be stored.
pub(super) struct Candidate {
    /// The number of its entry among those that wait.
    pub entry: usize,
    pub path: Vec<u8>,
    pub state: State,
    pub may_have_holes: bool,
}

/// Opens a file of the walk by its path.
pub(super) type Open<'a> = &'a mut dyn FnMut(&[u8]) -> rustix::io::Result<File>;

/// Where the walk's findings go.
pub(super) struct Outlet {
    sender: Sender,
    before: Before,
    rescan: bool,
    lines: Vec<u8>,
    piece: Vec<u8>,
    /// Bytes of the bundle so far.
    offset: u64,
    /// Files with holes that were stored.
    pub with_holes_n: u64,
}

/// A file that was read.
struct Done {
    state: State,
    /// Whether any later change will show in its state.
    is_settled: bool,
}

impl Outlet {
    pub fn create(sender: Sender, before: Before, rescan: bool) -> Outlet {
        Outlet { sender, before, rescan, lines: Vec::new(), piece: Vec::new(), offset: 0, with_holes_n: 0 }
    }

    /// Writes a line of the tree.
    pub fn line(&mut self, line: &impl Serialize) -> Result<()> {
        tree::write_line(line, &mut self.lines)?;
        if self.lines.len() >= PIECE_BYTES { self.finish() } else { Ok(()) }
    }

    /// Sends the lines that wait.
    pub fn finish(&mut self) -> Result<()> {
        let lines = std::mem::take(&mut self.lines);
        self.send(Event::Tree(lines))
    }

    /// Stores a bundle, and enters where each file's bytes are; the entries of files that cannot be read are taken out.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: a file cannot be read, and that was not allowed. [`Error::Conflict`]: the backup has failed.
    pub fn store(
        &mut self,
        files: Vec<Candidate>,
        entries: &mut [Option<Entry>],
        report: &mut Report,
        owners: &mut Owners,
        open: Open<'_>,
    ) -> Result<()> {
        let name = bundles::name(&files.first().expect("a bundle has a file").path);
        if !self.rescan
            && let Some(extents) = self.unchanged(&name, &files)
            && self.ask(&name)?
        {
            self.offset = 0;
            for (file, extents) in files.iter().zip(extents) {
                let entry = entries[file.entry].as_mut().expect("it waits");
                entry.extents = extents;
                self.enter(entry, &name, self.offset);
                self.offset += entry.stored_bytes().expect("it was counted when they were compared");
                report.bytes += entry.size;
                report.files_reused_n += 1;
            }
            return Ok(());
        }
        self.send(Event::Begin(name.clone()))?;
        self.offset = 0;
        let (mut states, mut is_settled) = (Vec::with_capacity(files.len()), true);
        for file in &files {
            let entry = entries[file.entry].as_mut().expect("it waits");
            let start = self.offset;
            let done = match open(&file.path) {
                Ok(opened) => self.read(opened, entry, owners, report)?,
                Err(error) => Err(Trouble::of(error)),
            };
            match done {
                Ok(done) => {
                    states.push((&file.path[..], done.state));
                    is_settled &= done.is_settled;
                    self.enter(entry, &name, start);
                    report.bytes += entry.size;
                    report.files_read_n += 1;
                }
                Err(trouble) => {
                    report.trouble(&file.path, trouble)?;
                    entries[file.entry] = None;
                    is_settled = false;
                }
            }
        }
        self.flush()?;
        let states = is_settled.then(|| (STATES.to_owned(), bundles::states(states.into_iter())));
        self.send(Event::End(states.into_iter().collect()))
    }

    /// Enters where a file's bytes are.
    fn enter(&mut self, entry: &mut Entry, bundle: &str, offset: u64) {
        self.with_holes_n += u64::from(entry.extents.is_some());
        let is_stored = entry.stored_bytes().is_some_and(|bytes| bytes > 0);
        (entry.content, entry.offset) = if is_stored { (Some(bundle.to_owned()), offset) } else { (None, 0) };
    }

    /// If the bundle of this name held the same files in the same states: returns the extents of each.
    fn unchanged(&self, name: &str, files: &[Candidate]) -> Option<Vec<Option<Extents>>> {
        let (states, bytes) = self.before.bundles.get(name)?;
        if *states != bundles::states(files.iter().map(|file| (&file.path[..], file.state))) {
            return None;
        }
        let (mut all, mut sum) = (Vec::with_capacity(files.len()), 0u64);
        for file in files {
            let extents = match &self.before.extents {
                Some(known) => known.get(&file.path).cloned(),
                None if file.may_have_holes => return None,
                None => None,
            };
            let stored = extents.as_ref().map(|extents| extents.iter().map(|(_, bytes)| bytes).sum());
            sum = sum.checked_add(stored.unwrap_or(file.state.size))?;
            all.push(extents);
        }
        // They lie one behind the other, with nothing else between them.
        (sum == *bytes).then_some(all)
    }

    fn ask(&mut self, name: &str) -> Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.send(Event::Reuse(name.to_owned(), reply))?;
        answer.blocking_recv().map_err(|_| gone())
    }

    /// Reads an open file into the bundle, and brings its entry up to date: what was opened is what counts.
    fn read(
        &mut self,
        mut file: File,
        entry: &mut Entry,
        owners: &mut Owners,
        report: &mut Report,
    ) -> Result<std::result::Result<Done, Trouble>> {
        let now = meta::now();
        let before = match fstat(&file) {
            Ok(stat) if meta::kind_of(&stat) == Some(Kind::File) => stat,
            Ok(_) => return Ok(Err(Trouble::Vanished)),
            Err(error) => return Ok(Err(Trouble::of(error))),
        };
        let (xattrs, linked, state) = (std::mem::take(&mut entry.xattrs), entry.linked, State::of(&before));
        *entry = Entry { xattrs, linked, ..owners.entry(std::mem::take(&mut entry.path.0), Kind::File, &before) };
        let holes = if meta::may_have_holes(&before) { meta::extents(&file, state.size) } else { Ok(None) };
        let mut extents = match holes {
            Ok(extents) => extents,
            Err(error) => return Ok(Err(Trouble::of(error))),
        };
        let mut is_short = false;
        match &mut extents {
            None => match self.read_range(&mut file, 0, state.size)? {
                Ok(bytes) => {
                    is_short = bytes < state.size;
                    entry.size = bytes;
                }
                Err(trouble) => return Ok(Err(trouble)),
            },
            Some(extents) => {
                for (start, length) in extents.iter_mut() {
                    match self.read_range(&mut file, *start, *length)? {
                        Ok(bytes) => {
                            is_short |= bytes < *length;
                            *length = bytes;
                        }
                        Err(trouble) => return Ok(Err(trouble)),
                    }
                }
                extents.retain(|(_, length)| *length > 0);
            }
        }
        entry.extents = extents;
        let has_changed = match fstat(&file) {
            Ok(after) => is_short || State::of(&after) != state,
            Err(error) => return Ok(Err(Trouble::of(error))),
        };
        if has_changed {
            report.changed(&entry.path.0);
        }
        Ok(Ok(Done { state, is_settled: !has_changed && state.is_settled(now) }))
    }

    /// Reads a range of a file; returns how much of it there is.
    fn read_range(&mut self, file: &mut File, start: u64, length: u64) -> Result<std::result::Result<u64, Trouble>> {
        if let Err(error) = file.seek(SeekFrom::Start(start)) {
            return Ok(Err(trouble(&error)));
        }
        let mut left = length;
        while left > 0 {
            let filled = self.piece.len();
            let room = left.min((PIECE_BYTES - filled) as u64) as usize;
            self.piece.resize(filled + room, 0);
            let read = loop {
                match file.read(&mut self.piece[filled..]) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.piece.truncate(filled + read.as_ref().map_or(0, |bytes| *bytes));
            match read {
                Ok(0) => break,
                Ok(bytes) => {
                    left -= bytes as u64;
                    self.offset += bytes as u64;
                }
                Err(error) => return Ok(Err(trouble(&error))),
            }
            if self.piece.len() == PIECE_BYTES {
                self.flush()?;
            }
        }
        Ok(Ok(length - left))
    }

    fn flush(&mut self) -> Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.send(Event::Bytes(piece))
    }

    fn send(&self, event: Event) -> Result<()> {
        self.sender.blocking_send(event).map_err(|_| gone())
    }
}

/// Opens a file in an open directory; never a link, and never waiting for whoever is at the other end of a pipe.
pub(super) fn open_file(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Leaving the time of the last access alone is for a file's owner.
    let opened = match openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(directory, name, flags, Mode::empty()),
        opened => opened,
    };
    opened.map(File::from)
}

fn trouble(error: &std::io::Error) -> Trouble {
    Trouble::Unreadable(Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// The engine's future is gone, with an error of its own.
fn gone() -> Error {
    Error::Conflict("the backup has failed elsewhere".to_owned())
}
