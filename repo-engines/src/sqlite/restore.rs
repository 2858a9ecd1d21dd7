//! Puts an SQLite database back: beside its place, checked, and then there in one step.

use super::copy::open_unchanging;
use super::dump::blocking;
use super::swap::{self, Staged};
use super::{DATABASE, INTEGRITY, INVENTORY, explain, inspect, url};
use dedump_core::{
    Error, Existing, FileTarget, Progress, Repository, RestoreOptions, Result, Snapshot, StreamRecord, WriterTarget,
    restore,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An inventory has so many bytes at most: it is held in memory.
const INVENTORY_BYTES_MAX: u64 = 256 << 20;

/// How a database is put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqliteRestoreOptions {
    /// Lets a database that is there be replaced, at the very end and in one step. It is kept beside it under another name.
    pub replace: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteRestored {
    /// The file that has the database now.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Tables whose rows were counted and are as many as were dumped.
    pub tables_n: u64,
    /// Those rows.
    pub rows_n: u64,
    /// The database that was there before, under its new name.
    pub kept: Option<PathBuf>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Puts a database back that a [`SqliteEngine`](super::SqliteEngine) has dumped.
#[derive(Debug, Clone)]
pub struct SqliteRestore {
    path: PathBuf,
    options: SqliteRestoreOptions,
}

impl SqliteRestore {
    /// Creates a restore to the file that a URL names: `sqlite:///PATH`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL can't be.
    pub fn new(url: &str, options: SqliteRestoreOptions) -> Result<Self> {
        Ok(SqliteRestore { path: url::parse(url)?, options })
    }

    /// Says where the database goes, and finds what [`SqliteRestore::run`] would refuse. Nothing changes.
    ///
    /// `part_prefix` is the folder of the database in the snapshot: `app/`, or empty.
    ///
    /// # Errors
    /// As [`SqliteRestore::run`], for what is known before anything is read.
    pub fn plan(&self, snapshot: &Snapshot, part_prefix: &str) -> Result<PathBuf> {
        find(snapshot, &format!("{part_prefix}{DATABASE}"))?;
        let target = swap::real_path(&self.path)?;
        swap::check(&target, self.options.replace)?;
        Ok(target)
    }

    /// Puts the database back. It is written to a file beside its place, checked (`PRAGMA integrity_check`, the rows of each
    /// table), and takes its place in one step, without the log of another that may lie there.
    ///
    /// A database that is replaced must not be open anywhere: it is locked meanwhile, by SQLite's own means, and on Linux the
    /// processes that may be looked at are looked at. It is kept as `NAME.before-restore-…`, with all that its log had.
    ///
    /// # Errors
    /// [`Error::Target`]: something is there, or open, or the system's; what was there is as it was. [`Error::NotFound`]: the
    /// snapshot has no such dump. [`Error::Damaged`], [`Error::Missing`], [`Error::Store`]: the repository's.
    pub async fn run(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        part_prefix: &str,
        progress: &dyn Progress,
    ) -> Result<SqliteRestored> {
        let target = self.plan(snapshot, part_prefix)?;
        let name = format!("{part_prefix}{DATABASE}");
        let stream = find(snapshot, &name)?;
        let expected = read_rows(repository, snapshot, &format!("{part_prefix}{INVENTORY}")).await?;
        let staged = Staged::beside(&target)?;
        let options = RestoreOptions { streams: vec![name.clone()], ..RestoreOptions::default() };
        let mut file = FileTarget::file(staged.path(), Existing::Refuse);
        restore(repository, snapshot, &options, &mut file, progress).await?;
        let was_whole = stream.facts.get(INTEGRITY).is_none_or(|integrity| integrity == "ok");
        let mode = stream.facts.get("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let (bytes, replace) = (stream.bytes, self.options.replace);
        let place = target.clone();
        let work = move || {
            let mut restored = SqliteRestored { bytes, ..SqliteRestored::default() };
            judge(staged.path(), &expected, was_whole, &mut restored)?;
            restored.kept = staged.publish(&place, replace, mode, &mut restored.warnings)?;
            Ok(restored)
        };
        Ok(SqliteRestored { path: target, ..blocking(work).await? })
    }
}

fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a StreamRecord> {
    snapshot.record.streams.iter().find(|stream| stream.name == name).ok_or_else(|| Error::NotFound {
        what: "stream",
        name: name.to_owned(),
        hint: format!(" in snapshot {}; it is no dump of an SQLite database", snapshot.id.short()),
    })
}

/// Returns how many rows each table had, as far as they were counted.
async fn read_rows(repository: &Repository, snapshot: &Snapshot, name: &str) -> Result<BTreeMap<String, u64>> {
    if find(snapshot, name)?.bytes > INVENTORY_BYTES_MAX {
        return Err(Error::Target(format!("{name} has more than {INVENTORY_BYTES_MAX} bytes")));
    }
    let mut memory = WriterTarget(Vec::new());
    let options = RestoreOptions { streams: vec![name.to_owned()], ..RestoreOptions::default() };
    restore(repository, snapshot, &options, &mut memory, &()).await?;
    let no_inventory = || Error::Target(format!("{name} is not what dedump writes; use the version that wrote it"));
    let inventory: Value = serde_json::from_slice(&memory.0).map_err(|_| no_inventory())?;
    let tables = inventory["tables"].as_array().ok_or_else(no_inventory)?;
    let row = |table: &Value| Some((table["name"].as_str()?.to_owned(), table["rows"].as_u64()?));
    Ok(tables.iter().filter_map(row).collect())
}

/// Checks what was written beside.
fn judge(path: &Path, expected: &BTreeMap<String, u64>, was_whole: bool, restored: &mut SqliteRestored) -> Result<()> {
    let failed = |error: rusqlite::Error| Error::Target(explain(path, &error));
    let connection = open_unchanging(path).map_err(failed)?;
    let checked = inspect::check(&connection).map_err(failed)?;
    restored.warnings = checked.warnings;
    if !checked.damage.is_empty() {
        let what = format!("the database is damaged, as it was dumped: {}", checked.damage.join(" / "));
        if was_whole {
            return Err(Error::Target(format!("{what}; it was whole then, so nothing was put in place")));
        }
        restored.warnings.push(what);
        return Ok(());
    }
    let rows: BTreeMap<_, _> = inspect::rows(&connection, true).map_err(failed)?.into_iter().collect();
    for (table, expected) in expected {
        match rows.get(table) {
            Some(Some(found)) if found == expected => {
                restored.tables_n += 1;
                restored.rows_n += found;
            }
            found => {
                let found = found.copied().flatten().map_or("none".to_owned(), |found| found.to_string());
                return Err(Error::Target(format!(
                    "{table} has {found} rows instead of {expected}; nothing was put in place"
                )));
            }
        }
    }
    Ok(())
}
