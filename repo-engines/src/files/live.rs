//! Directories that belong to a running database: their files change together, so a copy of them taken one by one is no backup.
//!
//! Recognised by what lies in them:
//!
//! - PostgreSQL: `PG_VERSION` and `postmaster.pid`. The latter goes when the server stops, so a stopped one may be copied.
//! - Redis, Valkey: `appendonlydir`, `appendonly.aof`, or `dump.rdb`. The last is replaced in one step and so whole by itself, but as
//!   old as the server's last save, which is not what its owner expects of a backup of today.
//! - MySQL, MariaDB: `ibdata1`; MongoDB: `WiredTiger`. These stay when the server stops, so
//!   [`FilesOptions::databases`](super::FilesOptions::databases) is for those who stopped it.

/// A database's name, what lies in its directory (all of a group), and the source to use.
const KNOWN: [(&str, &[&[u8]], &str); 6] = [
    ("PostgreSQL", &[b"PG_VERSION", b"postmaster.pid"], "postgres://…"),
    ("Redis", &[b"appendonlydir"], "redis://…"),
    ("Redis", &[b"appendonly.aof"], "redis://…"),
    ("Redis", &[b"dump.rdb"], "redis://…"),
    ("MySQL", &[b"ibdata1"], "mysql://…"),
    ("MongoDB", &[b"WiredTiger", b"WiredTiger.wt"], "mongodb://…"),
];

/// Returns whose directory it is that has these sorted names, and which source to use instead.
pub(super) fn recognise<N: AsRef<[u8]>>(names: &[N]) -> Option<(&'static str, &'static str)> {
    let has = |name: &&[u8]| names.binary_search_by(|other| other.as_ref().cmp(name)).is_ok();
    KNOWN.iter().find(|(_, all, _)| all.iter().all(has)).map(|(database, _, source)| (*database, *source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_recognised_by_what_lies_in_their_directory() {
        let source = |names: &[&str]| recognise(names).map(|(_, source)| source);
        assert_eq!(source(&["PG_VERSION", "base", "postmaster.pid"]), Some("postgres://…"));
        assert_eq!(source(&["PG_VERSION", "base"]), None, "it is stopped");
        assert_eq!(source(&["dump.rdb"]), Some("redis://…"));
        assert_eq!(source(&["appendonlydir", "x"]), Some("redis://…"));
        assert_eq!(source(&["ib_logfile0", "ibdata1"]), Some("mysql://…"));
        assert_eq!(source(&["WiredTiger", "WiredTiger.wt"]), Some("mongodb://…"));
        assert_eq!(source(&["a", "dump.rdb.gz", "ibdata2"]), None);
    }
}
