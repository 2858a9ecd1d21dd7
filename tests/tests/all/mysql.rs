//! MariaDB, backed up: whole, of one moment, the same bytes again, and never less than all without a word.

use crate::kit::mysql::{AWKWARD, Mysql, back_up, content, good, put_back, usual};
use crate::kit::{create, get_back, run, snapshots};
use dedump_core::Store;
use dedump_engines::mysql::MysqlOptions;

#[test]
fn a_database_full_of_traps_comes_back_as_it_was() {
    let mysql = Mysql::start(&[]);
    mysql.sql(AWKWARD);
    let target = Mysql::start(&[]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &mysql, "app").await;
        let before = content(&mysql, "app");
        let restored = put_back(&repository, &snapshot, &target.url("app"), usual()).await.expect("restores");
        similar(&content(&target, "app"), &before);
        assert!(restored.tables_n >= 12, "{restored:?}");
        assert_eq!(target.databases(), ["app"], "nothing is left of what was loaded beside");
    });
}

#[track_caller]
fn similar(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}
