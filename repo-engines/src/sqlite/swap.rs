//! Gives a restored file the name of a database that nobody may have open meanwhile.
//!
//! A log (`-wal`, `-journal`) of another database beside it would be worked into the new one and ruin it. So the old database is
//! locked, its log is worked into it, the companions are removed, and only then the new one takes the name.

use super::{COMPANIONS, explain, inspect};
use dedump_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a lock is waited for: those who have the database open have it for longer.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A file that is written beside its place. Removed when dropped.
pub(super) struct Staged(PathBuf);

/// Returns the path with its links followed, as SQLite follows them: the companions lie beside the file itself.
///
/// # Errors
/// [`Error::Target`].
pub(super) fn real_path(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(path.to_owned()),
        real => real.map_err(|error| cannot("follow the link", path, &error)),
    }
}

/// Checks that a database may be put at this path.
///
/// # Errors
/// [`Error::Target`]: it may not.
pub(super) fn check(target: &Path, replace: bool) -> Result<()> {
    let name = target.display();
    match fs::symlink_metadata(target) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(Error::Target(format!("{name} is there and is no file; name another place")));
        }
        Ok(_) if !replace => {
            return Err(Error::Target(format!(
                "{name} exists and was left as it is; name another place, or allow it to be replaced with --replace"
            )));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("look at", target, &error)),
        _ => {}
    }
    let users = users(target);
    match users.is_empty() {
        true => Ok(()),
        false => {
            Err(Error::Target(format!("{name} is open in {}; stop what uses it, and try again", users.join(", "))))
        }
    }
}

impl Staged {
    /// Chooses a name beside a target, and makes its folder.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub(super) fn beside(target: &Path) -> Result<Staged> {
        let folder = folder(target);
        fs::create_dir_all(folder).map_err(|error| cannot("create the directory", folder, &error))?;
        Ok(Staged(folder.join(format!(".dedump-restoring-{}-{}.sqlite", std::process::id(), now_nanos()))))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the file the target's name. Returns where what was there is now.
    ///
    /// # Errors
    /// [`Error::Target`]: what was there is in use, or it can't be done; it is as it was.
    pub(super) fn publish(
        self,
        target: &Path,
        replace: bool,
        mode: Option<u32>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<PathBuf>> {
        check(target, replace)?;
        let old = fs::metadata(target).ok();
        let lock = match old {
            Some(_) => lock(target, warnings)?,
            None => None,
        };
        let mode = old.as_ref().map(|old| old.mode() & 0o777).or(mode).unwrap_or(0o600);
        fs::set_permissions(&self.0, Permissions::from_mode(mode))
            .map_err(|error| cannot("set the mode of", &self.0, &error))?;
        if let Some(old) = &old
            && let Err(error) = std::os::unix::fs::chown(&self.0, Some(old.uid()), Some(old.gid()))
        {
            warnings.push(format!("{} does not belong to who had it before: {error}", target.display()));
        }
        let kept = match old {
            Some(_) => Some(self.replace(target, lock.is_some(), warnings)?),
            None => {
                remove_companions(target, warnings)?;
                self.rename_to_nothing(target)?;
                None
            }
        };
        let folder = folder(target);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| cannot("sync the directory", folder, &error))?;
        // Until here nobody could begin to use the old one.
        drop(lock);
        Ok(kept)
    }

    /// `is_complete`: the old file has all that its log had.
    fn replace(&self, target: &Path, is_complete: bool, warnings: &mut Vec<String>) -> Result<PathBuf> {
        let seconds = now_nanos() / 1_000_000_000;
        let kept = with_suffix(target, &format!(".before-restore-{seconds}-{}", std::process::id()));
        // A second name first, so that there is a database under the first at every moment.
        let linked = fs::hard_link(target, &kept);
        if is_complete {
            remove_companions(target, &mut Vec::new())?;
        } else {
            move_companions(target, &kept)?;
        }
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(cannot("keep the old one as", &kept, &error));
            }
            Err(_) => {
                fs::rename(target, &kept).map_err(|error| cannot("rename", target, &error))?;
                warnings
                    .push(format!("{} was missing for a moment: this file system has no hard links", target.display()));
            }
        }
        fs::rename(&self.0, target).map_err(|error| cannot("replace", target, &error))?;
        Ok(kept)
    }

    fn rename_to_nothing(&self, target: &Path) -> Result<()> {
        let renamed = match renameat_with(CWD, &self.0, CWD, target, RenameFlags::NOREPLACE) {
            // The file system can't; nothing was there a moment ago.
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&self.0, target),
            renamed => renamed.map_err(std::io::Error::from),
        };
        renamed.map_err(|error| cannot("create", target, &error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Published or given up: what may be left is only this name.
        let _ = fs::remove_file(&self.0);
    }
}

/// Locks a database against everybody and works its log into it; `None`: it is too damaged for that.
fn lock(target: &Path, warnings: &mut Vec<String>) -> Result<Option<Connection>> {
    let locked = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(target, flags)?;
        connection.busy_timeout(LOCK_WAIT)?;
        // What it would remove when it is closed may be the new one's by then.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // In WAL mode, this needs that nobody else has the database open, whether they use it or not.
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")?;
        let (busy, _): (i64, i64) =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((connection, busy == 0))
    };
    match locked() {
        Ok((connection, true)) => Ok(Some(connection)),
        Ok((_, false)) => {
            Err(Error::Target(format!("{} is in use; stop what uses it, and try again", target.display())))
        }
        Err(error) if inspect::is_damage(&error) => {
            warnings.push(format!(
                "what was at {} could not be locked, for it is no whole database: {error}",
                target.display()
            ));
            Ok(None)
        }
        Err(error) => Err(Error::Target(explain(target, &error))),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn remove_companions(target: &Path, warnings: &mut Vec<String>) -> Result<()> {
    for suffix in COMPANIONS {
        let path = with_suffix(target, suffix);
        match fs::remove_file(&path) {
            Ok(()) => warnings.push(format!("{} of a database that is gone was removed", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("remove", &path, &error)),
        }
    }
    Ok(())
}

fn move_companions(target: &Path, kept: &Path) -> Result<()> {
    for suffix in COMPANIONS {
        let path = with_suffix(target, suffix);
        match fs::rename(&path, with_suffix(kept, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("rename", &path, &error)),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the processes that have a database or its companions open, as far as this user may see.
fn users(target: &Path) -> Vec<String> {
    let files = [""].iter().chain(&COMPANIONS).filter_map(|suffix| fs::metadata(with_suffix(target, suffix)).ok());
    let files: Vec<_> = files.map(|metadata| (metadata.dev(), metadata.ino())).collect();
    let mut users = Vec::new();
    // Elsewhere than on Linux there is no such folder; what can't be read is another user's.
    let Ok(processes) = fs::read_dir("/proc") else { return users };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(number) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        let is_one = |metadata: fs::Metadata| files.contains(&(metadata.dev(), metadata.ino()));
        if open.flatten().any(|file| fs::metadata(file.path()).is_ok_and(is_one)) {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            users.push(format!("process {number} ({})", program.trim()));
        }
    }
    users
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn now_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Target(format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlites_own_locks_are_enough_where_processes_can_not_be_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.db");
        let user = Connection::open(&path).expect("opens");
        for script in [
            // It reads, in a mode in which idle ones hold no lock.
            "CREATE TABLE t (n); INSERT INTO t VALUES (1); BEGIN; SELECT * FROM t",
            // It is idle.
            "COMMIT; PRAGMA journal_mode = WAL; INSERT INTO t VALUES (2)",
        ] {
            user.execute_batch(script).expect("a good script");
            let why = lock(&path, &mut Vec::new()).map(drop).expect_err(script).to_string();
            assert!(why.contains("locked by another program"), "{why}");
        }
        drop(user);
        let lock = lock(&path, &mut Vec::new()).expect("nobody has it open").expect("it is whole");
        let other = Connection::open(&path).expect("opens lazily");
        other.busy_timeout(Duration::ZERO).expect("may be set");
        other.query_row("SELECT n FROM t", [], |_| Ok(())).expect_err("it is locked");
        drop(lock);
        other.query_row("SELECT n FROM t", [], |_| Ok(())).expect("it is free");
    }
}
