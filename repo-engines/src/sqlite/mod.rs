//! SQLite, by its online backup: a database file is copied in one moment while others write to it.
//!
//! A database is named by a URL with its absolute path, `sqlite:///var/lib/app/app.db`. The copy lies in a folder of
//! the temporary directory (`TMPDIR`) that only this user may enter, takes as much room as the database, and has no name any
//! more once it is whole; it is checked before anything of it is stored.

mod copy;
mod dump;
mod inspect;
mod restore;
mod swap;
mod url;

pub use dump::{SqliteEngine, SqliteOptions};
pub use restore::{SqliteRestore, SqliteRestoreOptions, SqliteRestored};

use rusqlite::ErrorCode;
use std::path::Path;

/// The stream that has the database.
const DATABASE: &str = "database.sqlite";
/// The stream that says what is in it.
const INVENTORY: &str = "inventory.json";
/// The fact that tells whether the database was found whole.
const INTEGRITY: &str = "integrity";
/// What may lie beside a database and belongs to it.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Says why SQLite failed on a file, and what to do, in one line.
fn explain(path: &Path, error: &rusqlite::Error) -> String {
    let name = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            format!("{name} is no SQLite database, or an encrypted one; back it up as a file, or name another")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("{name} is locked by another program; try again when that is done, or stop it")
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            format!("{name} is damaged: {error}; repair it, for instance with `sqlite3 FILE .recover`")
        }
        Some(ErrorCode::DiskFull) => {
            format!("there is no room for a copy of {name}; set TMPDIR to a folder that has it")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => format!(
            "{name} can't be opened: {error}; it must be readable, and in WAL mode its folder writable where no -wal file is"
        ),
        _ => format!("{name}: {error}"),
    }
}
