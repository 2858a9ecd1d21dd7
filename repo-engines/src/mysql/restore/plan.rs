//! What a restore would do, for people.

use super::prepare::Prepared;
use super::{MysqlRestore, Place};
use dedump_core::SnapshotId;
use std::fmt;

/// What a restore would do, and what would be lost by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MysqlPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The moment that the dump shows, in UTC; what was done later is not in it.
    pub time: Option<String>,
    /// The host to restore to.
    pub host: String,
    /// The database that will have the dump.
    pub database: String,
    /// The name of the database that was dumped.
    pub dumped: String,
    /// Streams that will be read.
    pub streams: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that were dumped.
    pub rows_n: u64,
    /// What is there: what will be replaced.
    pub existing: Option<String>,
    /// What unfinished restores have left, and will be dropped.
    pub leftovers: Vec<String>,
    /// What will be done, in order, a line each.
    pub steps: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Prepared<'_> {
    pub(super) fn plan(self, restore: &MysqlRestore) -> MysqlPlan {
        let options = &restore.options;
        let name = &self.name;
        let mut steps = Vec::new();
        if options.verify_first {
            steps.push("read and verify all that is needed".to_owned());
        }
        if options.safety_snapshot && self.there.is_some() {
            steps.push(format!("back up {name} as safety/{}/{name}", restore.url.host()));
        }
        steps.extend(self.leftovers.iter().map(|left| format!("drop {left}, which a restore left unfinished")));
        if options.users && self.contents.users.is_some() {
            steps.push("make users that are not there".to_owned());
        }
        let what = if self.is_whole { "everything".to_owned() } else { format!("{} tables", self.tables.len()) };
        steps.push(match (&self.there, options.place, options.drop_old) {
            (Some(_), Place::Replace, true) => {
                format!("load {what} beside {name}, then in the place of what is there, which is dropped")
            }
            (Some(_), Place::Replace, false) => {
                format!(
                    "load {what} beside {name}, then in the place of what is there, which stays in another database"
                )
            }
            _ => format!("load {what} beside {name}, then move it there"),
        });
        MysqlPlan {
            snapshot: self.contents.snapshot.id,
            time: self.contents.time.clone(),
            host: restore.url.host(),
            database: self.name.clone(),
            dumped: self.contents.inventory.database.clone(),
            bytes: self.contents.bytes_of(&self.streams),
            streams: self.streams,
            rows_n: self.tables.iter().filter_map(|table| table.rows).sum(),
            existing: self.there,
            leftovers: self.leftovers,
            steps,
            warnings: self.warnings,
        }
    }
}

impl fmt::Display for MysqlPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.as_deref().unwrap_or("an unknown time");
        writeln!(f, "what:  {} as of {time}, from snapshot {}", self.dumped, self.snapshot.short())?;
        writeln!(f, "size:  {} bytes in {} streams, {} rows", self.bytes, self.streams.len(), self.rows_n)?;
        writeln!(f, "to:    {} on {}", self.database, self.host)?;
        if let Some(existing) = &self.existing {
            writeln!(f, "there: {existing}")?;
            writeln!(f, "lost:  whatever was changed there since {time}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {step}", number + 1)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}
