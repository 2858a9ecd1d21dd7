//! What a restore would do, for people.

use super::prepare::Prepared;
use super::{Place, PostgresRestore};
use crate::postgres::dump::DumpPart;
use dedump_core::SnapshotId;
use std::fmt;

/// What a restore would do, and what would be lost by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresPlan {
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
    /// Rows that were counted, if they were.
    pub rows_n: u64,
    /// Roles that will be created.
    pub roles: Vec<String>,
    /// Bytes of the database that is there.
    pub existing_bytes: Option<u64>,
    /// What is in it: what will be replaced or changed.
    pub existing: Option<String>,
    /// What unfinished restores have left, and will be dropped.
    pub leftovers: Vec<String>,
    /// What will be done, in order, a line each.
    pub steps: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Prepared<'_> {
    pub(super) fn plan(self, restore: &PostgresRestore) -> PostgresPlan {
        let options = &restore.options;
        let streams = self.load.streams(&self.contents);
        let name = &self.name;
        let mut steps = Vec::new();
        if options.verify_first {
            steps.push("read and verify all that is needed".to_owned());
        }
        if options.safety_snapshot && self.there.is_some() {
            steps.push(format!("back up {name} as safety/{}/{name}", restore.url.host()));
        }
        steps.extend(self.leftovers.iter().map(|left| format!("drop {}, which a restore left unfinished", left.name)));
        if !self.roles.created.is_empty() {
            steps.push(format!("create the roles {}", Vec::from_iter(self.roles.created.clone()).join(", ")));
        }
        match (options.place, &self.existing, &self.there) {
            (Place::Existing, ..) if options.part == DumpPart::Data => steps.push(format!("load data into {name}")),
            (Place::Existing, ..) => steps.push(format!("load parts into {name}")),
            (_, None, _) => steps.push(format!("load everything into a new database, then call it {name}")),
            (_, Some(_), None) => steps
                .push(format!("load everything into a new database that takes the place of {name}, which is empty")),
            (_, Some(_), Some(_)) => {
                let fate = if options.drop_old { "is dropped" } else { "stays under another name" };
                steps.push(format!("load everything into a new database that takes the place of {name}, which {fate}"));
            }
        }
        PostgresPlan {
            snapshot: self.contents.snapshot.id,
            time: self.contents.time.clone(),
            host: restore.url.host(),
            database: self.name.clone(),
            dumped: self.contents.inventory.database.name.clone(),
            bytes: self.contents.bytes_of(&streams),
            streams,
            rows_n: self.contents.inventory.tables.iter().filter_map(|table| table.rows).sum(),
            roles: self.roles.created.into_iter().collect(),
            existing_bytes: self.existing.as_ref().map(|found| found.bytes),
            existing: self.there,
            leftovers: self.leftovers.into_iter().map(|left| left.name).collect(),
            steps,
            warnings: self.warnings,
        }
    }
}

impl fmt::Display for PostgresPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.as_deref().unwrap_or("an unknown time");
        writeln!(f, "what:  {} as of {time}, from snapshot {}", self.dumped, self.snapshot.short())?;
        writeln!(f, "size:  {} bytes in {} streams, {} rows", self.bytes, self.streams.len(), self.rows_n)?;
        writeln!(f, "to:    {} on {}", self.database, self.host)?;
        if let Some(existing) = &self.existing {
            let bytes = self.existing_bytes.unwrap_or_default();
            writeln!(f, "there: {bytes} bytes, {existing}")?;
            writeln!(f, "lost:  whatever was changed there since {time}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {step}", number + 1)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}
