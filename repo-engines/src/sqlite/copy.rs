//! Copies a database that others write to, into a file that has no name any more when it is read.
//!
//! In WAL mode a read transaction holds one moment, and nobody waits for it. In rollback mode it would keep writers out, so the
//! copy goes without it, in steps, and begins anew when somebody has written in between; after some such times it holds the
//! lock, and the writers wait until it is done. (SQLite's documentation, "SQLite Backup API".)

use super::{COMPANIONS, explain};
use crate::percent;
use dedump_core::{Error, Result};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Pages that are copied at a time; in between, others may write and the copy may be stopped.
const STEP_PAGES: i32 = 512;
/// How often a copy begins anew before it keeps writers out.
const RESTARTS_MAX: u32 = 3;

/// What the name of a copy's folder begins with.
const PREFIX: &str = "dedump-sqlite-";
/// A folder that is younger is nobody's to remove.
const YOUNG: Duration = Duration::from_secs(60);

/// A copy of a database, of one moment.
pub(super) struct Copied {
    /// The copy itself, without a name.
    pub(super) file: File,
    /// Reads the copy.
    pub(super) connection: Connection,
    /// `wal`, or how else the source keeps its journal.
    pub(super) journal_mode: String,
    /// How often the copy began anew.
    pub(super) restarts_n: u32,
}

/// Stops the work of a thread that nobody waits for any more.
#[derive(Default, Clone)]
pub(super) struct Stop {
    is_stopped: Arc<AtomicBool>,
    query: Arc<Mutex<Option<InterruptHandle>>>,
}

impl Stop {
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(query) = &*self.query.lock().unwrap_or_else(PoisonError::into_inner) {
            query.interrupt();
        }
    }

    /// Lets what this connection is asked be stopped.
    pub(super) fn watch(&self, connection: &Connection) {
        *self.query.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
    }

    fn check(&self) -> Result<()> {
        match self.is_stopped.load(Ordering::Relaxed) {
            true => Err(Error::DumpFailed("it was stopped".to_owned())),
            false => Ok(()),
        }
    }
}

/// Copies the database at a path. Waits so long for a lock that another program has.
///
/// # Errors
/// [`Error::DumpFailed`]: it can't be read, or is none.
pub(super) fn copy(path: &Path, lock_wait: Duration, stop: &Stop) -> Result<Copied> {
    check_file(path)?;
    let failed = |error: rusqlite::Error| Error::DumpFailed(explain(path, &error));
    let (source, journal_mode) = open(path, lock_wait).map_err(failed)?;
    let (folder, mut copy) = temporary()?;
    let mut holds_moment = journal_mode == "wal";
    let mut restarts_n = 0;
    if holds_moment {
        begin(&source).map_err(failed)?;
    }
    let backup = Backup::new(&source, &mut copy).map_err(failed)?;
    let mut remaining = i32::MAX;
    loop {
        stop.check()?;
        match backup.step(STEP_PAGES).map_err(failed)? {
            StepResult::Done => break,
            StepResult::Busy | StepResult::Locked => {
                let seconds = lock_wait.as_secs();
                return Err(Error::DumpFailed(format!(
                    "{} was locked by another program for more than {seconds} seconds; try again when that is done",
                    path.display()
                )));
            }
            _ => {}
        }
        let now = backup.progress().remaining;
        if now >= remaining {
            restarts_n += 1;
            if restarts_n >= RESTARTS_MAX && !holds_moment {
                begin(&source).map_err(failed)?;
                holds_moment = true;
            }
        }
        remaining = now;
    }
    drop(backup);
    drop(copy);
    let (file, connection) = without_name(folder)?;
    Ok(Copied { file, connection, journal_mode, restarts_n })
}

fn begin(source: &Connection) -> rusqlite::Result<()> {
    source.execute_batch("BEGIN")?;
    // Only the first read takes the moment.
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn check_file(path: &Path) -> Result<()> {
    let name = path.display();
    // Nothing opens the file but SQLite: to close it would give up locks that this process has on it.
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::DumpFailed(format!("there is no {name}; correct the path")),
        _ => Error::DumpFailed(format!("cannot look at {name}: {error}")),
    })?;
    if !metadata.is_file() {
        return Err(Error::DumpFailed(format!("{name} is no file; name the database's own file")));
    }
    let mut log = path.as_os_str().to_owned();
    log.push(COMPANIONS[0]);
    // All of a new database may still be in its log.
    if metadata.len() == 0 && fs::metadata(log).map_or(0, |log| log.len()) == 0 {
        return Err(Error::DumpFailed(format!("{name} is empty, and no database yet; correct the path")));
    }
    Ok(())
}

/// Opens the source to read it, and says how it keeps its journal.
fn open(path: &Path, lock_wait: Duration) -> rusqlite::Result<(Connection, String)> {
    let open = |flags| -> rusqlite::Result<(Connection, String)> {
        let source = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        source.busy_timeout(lock_wait)?;
        source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let journal_mode = source.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        Ok((source, journal_mode))
    };
    match open(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // A writer died. Whoever comes next undoes what it had not finished, and must be able to write for that.
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen)) => {
            open(OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|_| error)
        }
        opened => opened,
    }
}

/// The copy's name in its folder.
const COPY: &str = "copy";

/// Creates a folder that only this user may enter, with an empty database. Folders that killed ones have left go.
fn temporary() -> Result<(Folder, Connection)> {
    sweep(&std::env::temp_dir());
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().map_err(|error| cannot_copy(&error))?;
    let opened = File::open(folder.path()).map_err(|error| cannot_copy(&error))?;
    opened.lock().map_err(|error| cannot_copy(&error))?;
    let folder = Folder { folder, _locked: opened };
    let path = folder.folder.path().join(COPY);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    drop(file.map_err(|error| cannot_copy(&error))?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(&path, flags).map_err(|error| cannot_copy(&error))?;
    copy.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        .map_err(|error| cannot_copy(&error))?;
    Ok((folder, copy))
}

/// A folder for a copy, which is locked for as long as somebody works in it.
struct Folder {
    folder: TempDir,
    _locked: File,
}

/// Removes the folders of ours in which nobody works any more: their owner was killed. What can't be removed stays.
fn sweep(temporary: &Path) {
    let Ok(entries) = fs::read_dir(temporary) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())) {
        // A link leads elsewhere, and a young folder may be about to be locked.
        let is_left = |entry: &fs::DirEntry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
            let age = metadata.modified().ok()?.elapsed().ok()?;
            (metadata.uid() == nix::unistd::geteuid().as_raw() && age > YOUNG).then_some(())
        };
        if is_left(&entry).is_some()
            && let Ok(opened) = File::open(entry.path())
            && opened.try_lock().is_ok()
        {
            // Another sweep may be faster.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Opens the copy, and takes its name: it goes when the last who has it open does, whatever happens.
fn without_name(folder: Folder) -> Result<(File, Connection)> {
    let path = folder.folder.path().join(COPY);
    let file = File::open(&path).map_err(|error| cannot_copy(&error))?;
    // Only now: what is opened as unchanging is as large as it was then.
    let connection = open_unchanging(&path).map_err(|error| cannot_copy(&error))?;
    folder.folder.close().map_err(|error| cannot_copy(&error))?;
    Ok((file, connection))
}

fn cannot_copy(why: &dyn std::fmt::Display) -> Error {
    let folder = std::env::temp_dir();
    Error::DumpFailed(format!("cannot make a copy in {}: {why}; set TMPDIR to another folder", folder.display()))
}

/// Opens a database that nobody else has, without regard to a log beside it.
pub(super) fn open_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let segments: Vec<_> = path.as_os_str().as_bytes().split(|byte| *byte == b'/').map(percent::encode_bytes).collect();
    let uri = format!("file:{}?immutable=1", segments.join("/"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    // It may be a stranger's: nothing in its schema is trusted.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}
