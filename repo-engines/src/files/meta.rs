//! What the system says of a file: its numbers, its owners' names, its extended attributes, its holes.

use super::tree::{Entry, Extents, Kind, Raw};
use rustix::fs::{FileType, SeekFrom, Stat, lgetxattr, llistxattr, major, minor, seek};
use rustix::io::{Errno, Result};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells one state of a file from every later one: its length, both its times, and its number in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub size: u64,
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
    pub inode: u64,
}

impl State {
    pub fn of(stat: &Stat) -> State {
        State {
            size: size_of(stat),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
            inode: stat.st_ino,
        }
    }

    /// Returns whether any change after `now` shows in the state. Not if it was changed within the last tick of the file
    /// system's clock: another change in that tick would leave the times as they are (git calls that racy).
    ///
    /// Kernels stamp files with a clock that ticks up to every 10 ms; the times of some file systems go by the second or by
    /// two, and then they have no fraction. What changed just before it was read is so read once more.
    pub fn is_settled(&self, now: (i64, u32)) -> bool {
        let tick_ns: i128 = if self.ctime.1 == 0 { 2_100_000_000 } else { 100_000_000 };
        nanoseconds(self.ctime) + tick_ns < nanoseconds(now)
    }

    /// Returns it as bytes, for a hash.
    pub fn to_bytes(self) -> [u8; 40] {
        let numbers = [
            self.size.to_le_bytes(),
            self.mtime.0.to_le_bytes(),
            self.ctime.0.to_le_bytes(),
            self.inode.to_le_bytes(),
            (u64::from(self.mtime.1) << 32 | u64::from(self.ctime.1)).to_le_bytes(),
        ];
        let mut bytes = [0; 40];
        bytes.chunks_mut(8).zip(numbers).for_each(|(into, number)| into.copy_from_slice(&number));
        bytes
    }
}

/// Returns the time of day, as files are stamped with it.
pub(super) fn now() -> (i64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

fn nanoseconds((secs, ns): (i64, u32)) -> i128 {
    i128::from(secs) * 1_000_000_000 + i128::from(ns)
}

/// Returns a file's length.
pub(super) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Returns whether a file has less room on the disk than its length asks for, so that it may have holes.
pub(super) fn may_have_holes(stat: &Stat) -> bool {
    (stat.st_blocks as u64).saturating_mul(512) < size_of(stat)
}

/// Returns what the entry of such a file is; `None` for a socket, which is nothing without its process.
pub(super) fn kind_of(stat: &Stat) -> Option<Kind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        _ => None,
    }
}

/// Makes entries; knows the names of users and groups that it came across.
#[derive(Default)]
pub(super) struct Owners {
    users: HashMap<u32, Option<Raw>>,
    groups: HashMap<u32, Option<Raw>>,
}

impl Owners {
    /// Returns the entry of a file, without what only reading tells.
    pub fn entry(&mut self, path: Vec<u8>, kind: Kind, stat: &Stat) -> Entry {
        // A name that cannot be looked up is one that the host does not have: the number is what counts.
        let user = |uid: &u32| nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(*uid)).ok().flatten();
        let group = |gid: &u32| nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(*gid)).ok().flatten();
        let raw = |name: String| Raw(name.into_bytes());
        let user = self.users.entry(stat.st_uid).or_insert_with_key(|uid| user(uid).map(|user| raw(user.name)));
        let group = self.groups.entry(stat.st_gid).or_insert_with_key(|gid| group(gid).map(|group| raw(group.name)));
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        Entry {
            path: Raw(path),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: user.clone(),
            group: group.clone(),
            mtime: State::of(stat).mtime,
            size: if kind == Kind::File { size_of(stat) } else { 0 },
            target: None,
            linked: kind != Kind::Directory && stat.st_nlink > 1,
            device: is_device.then(|| (major(stat.st_rdev), minor(stat.st_rdev))),
            xattrs: Vec::new(),
            extents: None,
            content: None,
            offset: 0,
        }
    }
}

/// Returns the path of what is called `name` in an open directory, for calls that take no directory. It goes by way of what is
/// open, so nobody can lead it elsewhere; the name itself is not followed by the calls below.
pub(super) fn way_to(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat()
}

/// Returns the extended attributes of what is called `name` in an open directory, sorted.
///
/// # Errors
/// The system's; a file system without such attributes has none.
pub(super) fn xattrs(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<(Raw, Raw)>> {
    let path = way_to(directory, name);
    let names = match grown(1024, |buffer| llistxattr(&path[..], buffer)) {
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match grown(1024, |buffer| lgetxattr(&path[..], name, buffer)) {
            Ok(value) => found.push((Raw(name.to_vec()), Raw(value))),
            // It was taken away meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// Calls for bytes with room that grows until they fit.
fn grown(first: usize, mut call: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; first];
    loop {
        match call(&mut buffer) {
            // The kernel gives 64 KiB at most.
            Err(Errno::RANGE) if buffer.len() < 1024 * 1024 => buffer = vec![0; buffer.len() * 8],
            Err(error) => return Err(error),
            Ok(bytes_n) => {
                buffer.truncate(bytes_n);
                return Ok(buffer);
            }
        }
    }
}

/// Returns where an open file has bytes, as offsets and lengths; `None` if it has no hole.
///
/// # Errors
/// The system's; a file system that knows no holes has none.
pub(super) fn extents(file: impl AsFd, size: u64) -> Result<Option<Extents>> {
    let (mut extents, mut at) = (Vec::new(), 0);
    while at < size {
        let start = match seek(&file, SeekFrom::Data(at)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
            start => start?.min(size),
        };
        let end = seek(&file, SeekFrom::Hole(start))?.min(size);
        if end <= start {
            break;
        }
        extents.push((start, end - start));
        at = end;
    }
    Ok((extents != [(0, size)]).then_some(extents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_last_tick_is_not_settled() {
        let state = |ctime| State { size: 0, mtime: (0, 0), ctime, inode: 1 };
        assert!(!state((100, 5)).is_settled((100, 5)));
        assert!(!state((100, 5)).is_settled((100, 100_000_000)));
        assert!(state((100, 5)).is_settled((100, 100_000_006)));
        assert!(!state((100, 0)).is_settled((102, 0)), "times by the second");
        assert!(state((100, 0)).is_settled((103, 0)));
        assert!(!state((200, 5)).is_settled((100, 0)), "the file system's clock is ahead");
    }
}
