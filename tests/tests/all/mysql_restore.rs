//! MariaDB, put back: elsewhere, in the place of what is there, one table, and never half without a word.

use crate::kit::mysql::{AWKWARD, Mysql, assert_says, back_up, content, good, put_back, tools, usual};
use crate::kit::{create, in_time, run, snapshots};
use dedump_core::{Error, Repository, Snapshot, Store, list_holds};
use dedump_engines::mysql::{MysqlOptions, MysqlRestore, MysqlRestoreOptions, Place};

/// Puts back what must be refused; returns what the user hears.
async fn refused(repository: &Repository, snapshot: &Snapshot, url: &str, options: MysqlRestoreOptions) -> String {
    match in_time(put_back(repository, snapshot, url, options)).await {
        Err(Error::Target(why)) => {
            assert!(!why.contains('\n'), "{why:?}");
            why
        }
        other => panic!("{other:?}"),
    }
}

fn replacing() -> MysqlRestoreOptions {
    MysqlRestoreOptions { place: Place::Replace, ..usual() }
}

fn only(tables: &[&str], options: MysqlRestoreOptions) -> MysqlRestoreOptions {
    MysqlRestoreOptions { tables: tables.iter().map(|table| (*table).to_owned()).collect(), ..options }
}

#[track_caller]
fn similar(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn another_name_leaves_the_first_alone_and_says_what_is_missing() {
    let mysql = Mysql::start(&[]);
    mysql.sql(AWKWARD);
    let target = Mysql::start(&[]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &mysql, "app").await;
        let before = content(&mysql, "app");
        let url = mysql.url("c`py / 2");
        let restore = MysqlRestore::new(&url.replace('`', "%60").replace(" / ", "%20%2F%20"), usual()).expect("good");
        let plan = restore.plan(&repository, &snapshot, "").await.expect("plans");
        assert_eq!((plan.database.as_str(), plan.dumped.as_str(), plan.rows_n), ("c`py / 2", "app", 1021));
        assert_says(&plan.warnings.join("\n"), &["`gone`@`%`; create them", "in app by its name"]);
        assert!(!plan.warnings.join("\n").contains("clerk"), "who is there");
        assert_eq!(mysql.databases(), ["app"], "a plan changes nothing");
        restore.run(&repository, &snapshot, "", &()).await.expect("restores");
        similar(&content(&mysql, "c`py / 2"), &before);
        similar(&content(&mysql, "app"), &before);
        mysql.sql("INSERT INTO `c``py / 2`.numbered (s) VALUES ('c')");
        assert_eq!(mysql.databases(), ["app", "c`py / 2"]);

        // Elsewhere, with the users, or without anybody.
        let with_users = MysqlRestoreOptions { users: true, ..usual() };
        let restored = put_back(&repository, &snapshot, &target.url("one"), with_users).await.expect("restores");
        assert_eq!(restored.users, ["`reader`", "`clerk`@`%`"]);
        assert_eq!(
            target.sql("SHOW GRANTS FOR clerk@'%'; SHOW GRANTS FOR reader"),
            mysql.sql("SHOW GRANTS FOR clerk@'%'; SHOW GRANTS FOR reader")
        );
        similar(&content(&target, "one"), &before);
        let nobody = MysqlRestoreOptions { no_definers: true, ..usual() };
        let restored = put_back(&repository, &snapshot, &target.url("two"), nobody).await.expect("restores");
        assert!(!restored.warnings.join("\n").contains("not there"), "{:?}", restored.warnings);
        let found = content(&target, "two");
        assert!(!found.contains("clerk@%") && !found.contains("gone@%"), "{found}");
        let expected = before.replace("clerk@%", "root@127.0.0.1").replace("gone@%", "root@127.0.0.1");
        similar(
            &found.replace("root@localhost", "root@127.0.0.1").replace("`root`@`localhost`", "`root`@`127.0.0.1`"),
            &expected.replace("root@localhost", "root@127.0.0.1").replace("`root`@`localhost`", "`root`@`127.0.0.1`"),
        );
    });
}

#[test]
fn what_is_there_is_replaced_only_on_demand_and_not_lost() {
    let mysql = Mysql::start(&["--event-scheduler=OFF"]);
    mysql.sql(AWKWARD);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &mysql, "app").await;
        let before = content(&mysql, "app");
        mysql.sql(
            "USE app; DROP TABLE empty; CREATE TABLE fresh (id int PRIMARY KEY, parent int REFERENCES parents (id)); INSERT INTO fresh VALUES (1, 1);
            DELETE FROM types WHERE id > 3; CREATE VIEW newer AS SELECT * FROM fresh; DROP FUNCTION twice; DROP VIEW v_function; CREATE FUNCTION twice() RETURNS text DETERMINISTIC RETURN 'changed';
            CREATE TRIGGER tr BEFORE INSERT ON fresh FOR EACH ROW SET NEW.id = NEW.id + 1; ALTER DATABASE app CHARACTER SET latin1",
        );
        let changed = content(&mysql, "app");
        let why = refused(&repository, &snapshot, &mysql.url("app"), usual()).await;
        assert_says(
            &why,
            &["database app is not empty: it has 9 tables, 3 views, 1 sequence, 4 triggers", "--replace"],
        );
        similar(&content(&mysql, "app"), &changed);
        let restored = put_back(&repository, &snapshot, &mysql.url("app"), replacing()).await.expect("restores");
        similar(&content(&mysql, "app"), &before);
        let kept = format!("app_before_{}", snapshot.id.short());
        assert_eq!(
            (restored.kept.as_deref(), mysql.databases()),
            (Some(kept.as_str()), vec!["app".to_owned(), kept.clone()])
        );
        assert_eq!(
            mysql.sql(&format!(
                "SELECT id FROM `{kept}`.newer; SELECT `{kept}`.twice(); SELECT COUNT(*) FROM `{kept}`.types"
            )),
            "1\nchanged\n4\n"
        );
        let none = format!("SELECT COUNT(*) FROM information_schema.events WHERE event_schema = '{kept}'");
        assert_eq!(mysql.number(&none), 0, "events would run there");
        // What was there can be had back whole.
        let safety = restored.safety_snapshot.expect("a safety snapshot");
        assert_eq!(list_holds(&repository).await.expect("lists").len(), 1);
        let all = snapshots(&repository).await.expect("lists");
        let safety = all.iter().find(|one| one.id == safety).expect("it is there");
        let dropping = MysqlRestoreOptions { drop_old: true, ..replacing() };
        let back = put_back(&repository, safety, &mysql.url("app"), dropping).await.expect("restores");
        assert_eq!(back.kept, None);
        similar(&content(&mysql, "app"), &changed);
        assert_eq!(mysql.databases(), ["app".to_owned(), kept]);
    });
}

#[test]
fn one_table_comes_with_its_triggers_and_leads_to_what_is_there() {
    let mysql = Mysql::start(&[]);
    mysql.sql(AWKWARD);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &mysql, "app").await;
        let before = content(&mysql, "app");
        let url = mysql.url("app");
        let why = refused(&repository, &snapshot, &url, only(&["no such"], usual())).await;
        assert_says(&why, &["the dump has no table no such; it has children"]);
        let why = refused(&repository, &snapshot, &url, only(&["nokey"], usual())).await;
        assert_says(&why, &["database app has table nokey", "--replace"]);
        let why = refused(&repository, &snapshot, &url, only(&["parents"], replacing())).await;
        assert_says(&why, &["app.children leads to parents", "restore children too"]);
        mysql.sql("USE app; SET foreign_key_checks = 0; DELETE FROM nokey; DROP TRIGGER second; DELETE FROM children; INSERT INTO children VALUES (9, 1); UPDATE types SET s = 'new'");
        let restored = put_back(&repository, &snapshot, &url, only(&["nokey"], replacing())).await.expect("restores");
        assert_eq!((restored.tables_n, restored.rows_n, restored.streams), (1, 3, vec!["tables/nokey.sql".to_owned()]));
        put_back(&repository, &snapshot, &url, only(&["children", "parents"], replacing())).await.expect("restores");
        put_back(&repository, &snapshot, &url, only(&["types"], replacing())).await.expect("restores");
        // `empty` has what the trigger wrote, and nothing else differs.
        mysql.sql("DELETE FROM app.empty");
        similar(&content(&mysql, "app"), &before);
        // Elsewhere, a foreign key leads to the table that is there.
        mysql.sql("CREATE DATABASE other; CREATE TABLE other.parents (id int PRIMARY KEY); INSERT INTO other.parents VALUES (1), (2), (3)");
        put_back(&repository, &snapshot, &mysql.url("other"), only(&["children"], usual())).await.expect("restores");
        mysql.sql("INSERT INTO other.children VALUES (5, 3)");
        let dangling = mysql.client().args(["-e", "INSERT INTO other.children VALUES (6, 4)"]).status().expect("runs");
        assert!(!dangling.success(), "the foreign key holds");
        let references = "SELECT unique_constraint_schema FROM information_schema.referential_constraints WHERE constraint_schema = 'other'";
        assert_eq!(mysql.sql(references), "other\n");
    });
}

#[test]
fn a_restore_that_fails_leaves_what_was_there() {
    let mysql = Mysql::start(&[]);
    mysql.sql(AWKWARD);
    let target = Mysql::start(&["--max-allowed-packet=16M"]);
    target.sql(AWKWARD);
    target.sql("DELETE FROM app.types WHERE id = 1");
    let changed = content(&target, "app");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &mysql, "app").await;
        let url = target.url("app");
        let check = async |snapshot: &Snapshot, url: &str, options: MysqlRestoreOptions, words: &[&str]| {
            assert_says(&refused(&repository, snapshot, url, options).await, words);
            similar(&content(&target, "app"), &changed);
            assert_eq!(target.databases(), ["app"]);
        };
        // Somebody holds a table that is to be replaced.
        let mut user = target
            .client()
            .args(["-e", "BEGIN; SELECT COUNT(*) FROM app.types; SELECT SLEEP(60)"])
            .spawn()
            .expect("starts");
        in_time(async {
            while target.number("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'")
                == 0
            {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        check(
            &snapshot,
            &url,
            replacing(),
            &["Lock wait timeout", "end that transaction", "the database app is as it was"],
        )
        .await;
        user.kill().expect("it is ours");
        user.wait().expect("it ends");
        // A view calls a function that the dump is lacking.
        mysql.sql("CREATE USER half@'%'; GRANT SELECT, EXECUTE, SHOW VIEW, TRIGGER, EVENT ON app.* TO half@'%'");
        let partial = MysqlOptions { partial: true, ..MysqlOptions::default() };
        let half = back_up(&repository, &mysql.url_of("half", "app"), partial).await.expect("backs up").snapshot;
        check(&half, &url, replacing(), &["views.sql: ", "the database app is as it was"]).await;
        check(&half, &target.url("copy"), usual(), &["views.sql: ", "there is still no database copy"]).await;
        mysql.sql(
            "CREATE DATABASE wide; CREATE TABLE wide.t (l longblob); INSERT INTO wide.t VALUES (REPEAT('x', 9000000))",
        );
        let wide = good(&repository, &mysql, "wide").await;
        check(&wide, &target.url("wide"), usual(), &["a row of table t has 18000", "SET GLOBAL max_allowed_packet"])
            .await;
        target.sql("CREATE USER me@'%'; GRANT ALL ON `app%`.* TO me@'%'; GRANT SELECT ON mysql.proc TO me@'%'");
        // What comes last fails, when the tables are in their place: they go back.
        target.sql(
            "SET GLOBAL log_bin_trust_function_creators = ON; CREATE USER less@'%'; GRANT ALL ON `app%`.* TO less@'%'; REVOKE EVENT ON `app%`.* FROM less@'%'",
        );
        let nobody = MysqlRestoreOptions { no_definers: true, ..usual() };
        check(&snapshot, &target.url_of("less", "app2"), nobody, &["events.sql: ", "there is still no database app2"])
            .await;
        let blind = MysqlRestoreOptions { no_definers: true, safety_snapshot: false, ..replacing() };
        let why = ["GRANT EVENT ON `app`.* TO `less`@`%`; GRANT SELECT ON mysql.proc", "can be replaced"];
        check(&snapshot, &target.url_of("less", "app"), blind, &why).await;
        target.sql("SET GLOBAL log_bin_trust_function_creators = OFF");
        let me = target.url_of("me", "app");
        check(&snapshot, &me, replacing(), &["`me`@`%` may give that to nobody else", "--no-definers"]).await;
        let careless = MysqlRestoreOptions { safety_snapshot: false, no_definers: true, ..replacing() };
        check(&snapshot, &me, careless.clone(), &["SET GLOBAL log_bin_trust_function_creators = ON"]).await;
        target.sql("SET GLOBAL log_bin_trust_function_creators = ON");
        let done = put_back(&repository, &snapshot, &me, careless).await.expect("restores");
        assert_eq!(done.safety_snapshot, None);
        target.sql("SET GLOBAL read_only = ON");
        let why = refused(&repository, &snapshot, &target.url("copy"), usual()).await;
        assert_says(&why, &["read-only", "restore to its primary"]);
        let why = refused(&repository, &snapshot, &target.url("mysql"), replacing()).await;
        assert_says(&why, &["mysql is the server's own"]);
    });
}

#[test]
fn what_a_killed_restore_has_left_the_next_one_drops() {
    let mysql = Mysql::start(&[]);
    mysql.sql(
        "CREATE DATABASE app; USE app; CREATE TABLE t AS SELECT seq AS id, REPEAT('x', 200) AS s FROM seq_1_to_200000",
    );
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &mysql, "app").await;
        let url = mysql.url("copy");
        let own = format!("copy_dedump_{}", snapshot.id.short());
        {
            let restoring = std::pin::pin!(put_back(&repository, &snapshot, &url, usual()));
            let begun = async {
                while !mysql.databases().contains(&own) {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            let begun = std::pin::pin!(begun);
            match futures::future::select(restoring, begun).await {
                futures::future::Either::Left(_) => panic!("it was too fast"),
                futures::future::Either::Right(((), _)) => {
                    // While one works, another one keeps away. It ends with this block.
                    let why = refused(&repository, &snapshot, &url, usual()).await;
                    assert_says(&why, &["another restore of copy is filling the database", &own]);
                }
            }
        }
        // Its sessions end when the server sees that their clients are gone.
        in_time(async {
            while mysql.number("SELECT COUNT(*) FROM information_schema.processlist WHERE command <> 'Daemon'") > 1 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(mysql.databases(), ["app", &own]);
        let restored = put_back(&repository, &snapshot, &url, usual()).await.expect("restores");
        assert_says(
            &restored.warnings.join("\n"),
            &[&format!("the database {own}, which a restore had left unfinished, was dropped")],
        );
        assert_eq!(mysql.databases(), ["app", "copy"]);
        assert_eq!(mysql.number("SELECT COUNT(*) FROM copy.t"), 200_000);
    });
}

#[test]
fn rows_that_are_not_as_many_as_were_dumped_fail_the_restore() {
    let mysql = Mysql::start(&[]);
    mysql.sql("CREATE DATABASE app; CREATE TABLE app.t (id int PRIMARY KEY); INSERT INTO app.t VALUES (1), (2), (3)");
    // A client that loses a row on its way.
    let loses = "case \"$*\" in *--database=*_dedump_*) grep -v '^(2),' | /usr/bin/mariadb \"$@\";; *) exec /usr/bin/mariadb \"$@\";; esac";
    let (_folder, client) = tools(&[("mariadb", loses)]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let snapshot = good(&repository, &mysql, "app").await;
        mysql.sql("DELETE FROM app.t WHERE id = 1");
        let options = MysqlRestoreOptions { client, ..replacing() };
        let why = refused(&repository, &snapshot, &mysql.url("app"), options).await;
        assert_says(&why, &["table t has 2 rows and had 3", "the database app is as it was"]);
        assert_eq!((mysql.databases(), mysql.number("SELECT SUM(id) FROM app.t")), (vec!["app".to_owned()], 5));
    });
}
