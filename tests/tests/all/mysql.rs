//! MariaDB, backed up: whole, of one moment, the same bytes again, and never less than all without a word.

use crate::kit::mysql::{AWKWARD, Mysql, assert_says, back_up, content, good, put_back, tools, usual};
use crate::kit::{create, get_back, in_time, run, snapshots};
use dedump_core::{Quality, Repository, Store};
use dedump_engines::mysql::{ClientOptions, MysqlOptions};
use std::time::Duration;

/// Backs up what can't be; returns what the user hears. Nothing is stored.
async fn refused(repository: &Repository, url: &str, options: MysqlOptions) -> String {
    let before = snapshots(repository).await.expect("lists").len();
    let error = in_time(back_up(repository, url, options)).await.expect_err("it can't be backed up").to_string();
    assert!(!error.contains('\n'), "{error:?}");
    assert_eq!(snapshots(repository).await.expect("lists").len(), before, "{error}");
    error
}

fn with_client(client: ClientOptions) -> MysqlOptions {
    MysqlOptions { client, ..MysqlOptions::default() }
}

#[test]
fn a_database_full_of_traps_comes_back_as_it_was() {
    let mysql = Mysql::start(&[]);
    mysql.sql(AWKWARD);
    let target = Mysql::start(&[]);
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let report = back_up(&repository, &mysql.url("app"), MysqlOptions::default()).await.expect("backs up");
        let before = content(&mysql, "app");
        assert!(before.contains("-- Table structure for table `types`\\nDECLARE"), "the traps are set: {before}");
        let facts = &report.snapshot.record.facts;
        assert_eq!((facts["tables"].as_str(), facts["rows"].as_str()), ("9", "1021"));
        assert!(facts["binlog_position"].parse::<u64>().expect("a number") > 300 && facts["gtid"].starts_with("0-1-"));
        let restored = put_back(&repository, &report.snapshot, &target.url("app"), usual()).await.expect("restores");
        similar(&content(&target, "app"), &before);
        assert_eq!((restored.tables_n, restored.rows_n, restored.kept), (9, 1021, None));
        assert_eq!(target.databases(), ["app"], "nothing is left of what was loaded beside");
        // And what was put back is what was there: the same bytes again.
        let again = good(&repository, &target, "app").await;
        let (first, second) = (get_back(&repository, &report.snapshot).await, get_back(&repository, &again).await);
        let (mut first, mut second) = (first.expect("reads"), second.expect("reads"));
        // Users and, where a sequence goes on, its next number are the server's.
        first.remove("users.sql");
        second.remove("users.sql");
        assert_eq!(first.len(), second.len());
        for (name, bytes) in &first {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            similar(&text(&second[name]), &text(bytes));
        }
    });
}

#[track_caller]
fn similar(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn all_databases_are_of_one_moment_while_others_write() {
    let mysql = Mysql::start(&[]);
    mysql.sql(
        "CREATE DATABASE a; CREATE DATABASE `z``/.`; CREATE TABLE a.t (id int PRIMARY KEY, n bigint); CREATE TABLE `z``/.`.t LIKE a.t; USE a;
        INSERT INTO a.t SELECT seq, 0 FROM seq_1_to_20000; INSERT INTO `z``/.`.t SELECT seq, 0 FROM seq_1_to_20000;
        CREATE TABLE a.zzz (n int);
DELIMITER //
CREATE PROCEDURE a.writing() BEGIN DECLARE i int DEFAULT 0; WHILE i < 1000000 DO
            START TRANSACTION; UPDATE a.t SET n = n + 1 WHERE id = 1 + i % 20000; UPDATE `z``/.`.t SET n = n + 1 WHERE id = 20000 - i % 20000;
            INSERT INTO a.zzz VALUES (i); COMMIT; SET i = i + 1; END WHILE; END//",
    );
    let mut writer = mysql.client().args(["-e", "CALL a.writing()"]).spawn().expect("mariadb starts");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        in_time(async {
            while mysql.number("SELECT COUNT(*) FROM a.zzz") < 100 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let snapshot = good(&repository, &mysql, "*").await;
        let then = mysql.number("SELECT COUNT(*) FROM a.zzz");
        let streams = get_back(&repository, &snapshot).await.expect("reads");
        let sum = |stream: &str| -> u64 {
            let text = String::from_utf8(streams[stream].clone()).expect("text");
            let rows = text.lines().filter_map(|line| line.strip_prefix("INSERT INTO `t` VALUES ("));
            rows.filter_map(|row| row.split_once(',')?.1.strip_suffix(");")?.parse::<u64>().ok()).sum()
        };
        let (a, z) = (sum("databases/a/tables/t.sql"), sum("databases/z%60%2F%2E/tables/t.sql"));
        let written = String::from_utf8(streams["databases/a/tables/zzz.sql"].clone()).expect("text");
        let written = written.lines().filter(|line| line.starts_with("INSERT INTO")).count() as u64;
        assert!(a >= 100 && a < then, "{a} of {then}: it wrote all the time");
        assert_eq!((a, z), (written, written));
        let facts = &snapshot.record.facts;
        assert_eq!(
            (facts["a.rows"].as_str(), facts["z%60%2F%2E.rows"].as_str()),
            (format!("{}", 20000 + written).as_str(), "20000")
        );
        assert!(
            String::from_utf8_lossy(&streams["users.sql"])
                .contains("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`")
        );
    });
    writer.kill().expect("it is ours");
    writer.wait().expect("it ends");
}

#[test]
fn an_unchanged_server_adds_next_to_nothing_also_after_a_restart() {
    let mut mysql = Mysql::start(&[]);
    mysql.sql(AWKWARD);
    mysql.sql("USE app; CREATE TABLE app.big AS SELECT seq AS id, REPEAT(MD5(seq), 6) AS filling FROM seq_1_to_20000; ALTER TABLE app.big ADD PRIMARY KEY (id)");
    let repository = run(create(Store::memory())).expect("creates");
    let first = run(good(&repository, &mysql, "*"));
    mysql.restart();
    mysql.sql("CREATE DATABASE other; DROP DATABASE other");
    run(async {
        let report = back_up(&repository, &mysql.url("*"), MysqlOptions::default()).await.expect("backs up");
        assert!(report.snapshot.record.totals.bytes_added < 64 * 1024, "{:?}", report.snapshot.record.totals);
        let (first, second) = (get_back(&repository, &first).await, get_back(&repository, &report.snapshot).await);
        let (first, second) = (first.expect("reads"), second.expect("reads"));
        for (name, bytes) in &first {
            assert!(second.get(name) == Some(bytes), "{name} differs");
        }
        mysql.sql("UPDATE app.big SET filling = 'x' WHERE id = 10000");
        let report = back_up(&repository, &mysql.url("*"), MysqlOptions::default()).await.expect("backs up");
        assert!(report.snapshot.record.totals.bytes_added < 256 * 1024, "{:?}", report.snapshot.record.totals);
    });
}

#[test]
fn what_an_account_may_not_see_is_never_left_out_in_silence() {
    let mysql = Mysql::start(&[]);
    mysql.sql(AWKWARD);
    mysql.sql(
        "CREATE USER me@'%' IDENTIFIED BY 'pw'; GRANT SELECT, EXECUTE ON app.* TO me@'%';
        CREATE USER byrole@'%'; CREATE ROLE saver; GRANT SELECT, EXECUTE, SHOW VIEW, TRIGGER, EVENT ON app.* TO saver; GRANT SELECT ON mysql.proc TO saver;
        GRANT saver TO byrole@'%'; SET DEFAULT ROLE saver FOR byrole@'%'; CREATE USER one@'%'; GRANT SELECT ON app.types TO one@'%'",
    );
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let url = mysql.url_of("me:pw", "app");
        let why = refused(&repository, &url, MysqlOptions::default()).await;
        assert_says(
            &why,
            &[
                "`me`@`%`",
                "GRANT SHOW VIEW, TRIGGER, EVENT ON `app`.* TO `me`@`%`; GRANT SELECT ON mysql.proc TO `me`@`%`",
                "--partial",
            ],
        );
        let report = back_up(&repository, &url, MysqlOptions { partial: true, ..MysqlOptions::default() })
            .await
            .expect("backs up");
        assert_eq!(report.snapshot.record.quality, Quality::Partial);
        assert_says(&report.snapshot.record.reasons.join("\n"), &["what it does not see is not in the dump"]);
        let names: Vec<&str> = report.snapshot.record.streams.iter().map(|stream| stream.name.as_str()).collect();
        assert!(names.contains(&"tables/types.sql") && names.contains(&"sequences.sql"), "{names:?}");
        assert!(
            names.iter().all(|name| !name.starts_with("triggers/")
                && !name.starts_with("views")
                && !name.starts_with("routines"))
        );
        mysql.sql("GRANT SHOW VIEW, TRIGGER, EVENT ON app.* TO me@'%'");
        let why = refused(&repository, &url, MysqlOptions::default()).await;
        assert_says(&why, &["; GRANT SELECT ON mysql.proc TO `me`@`%`; or"]);
        let why = refused(&repository, &mysql.url_of("one", "app"), MysqlOptions::default()).await;
        assert_says(&why, &["GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON `app`.* TO `one`@`%`"]);
        // Of all databases, it sees one; that there are no others nobody says.
        mysql.sql("CREATE DATABASE hidden; GRANT SELECT ON mysql.proc TO me@'%'");
        let why = refused(&repository, &mysql.url_of("me:pw", "*"), MysqlOptions::default()).await;
        assert_says(&why, &["`me`@`%`", "GRANT SHOW DATABASES ON *.* TO `me`@`%`"]);
        for url in [url, mysql.url_of("byrole", "app")] {
            let report = back_up(&repository, &url, MysqlOptions::default()).await.expect("backs up");
            let streams = get_back(&repository, &report.snapshot).await.expect("reads");
            for stream in ["triggers/nokey.sql", "routines.sql", "events.sql", "views.sql"] {
                assert!(streams.contains_key(stream), "{stream}");
            }
            assert_says(&report.snapshot.record.warnings.join("\n"), &["GRANT SELECT ON mysql.* TO"]);
        }
    });
}

#[test]
fn bad_input_is_one_clear_line_each_and_stores_nothing() {
    let mysql = Mysql::start(&[]);
    mysql.sql("CREATE DATABASE app; CREATE TABLE app.t (a int); CREATE USER me@'%' IDENTIFIED BY 's3cret'; GRANT ALL ON *.* TO me@'%'");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let usual = MysqlOptions::default;
        let check = async |url: &str, options: MysqlOptions, words: &[&str]| {
            let why = refused(&repository, url, options).await;
            assert_says(&why, words);
            assert!(!why.contains("s3cret") && !why.contains("wr0ng"), "{why}");
        };
        check(&mysql.url_of("me:wr0ng", "app"), usual(), &["1045", "check the user, and the password"]).await;
        check(&mysql.url_of("me", "app"), usual(), &["using password: NO", "--db-password-file"]).await;
        check(&mysql.url("nothere"), usual(), &["there is no database nothere", "check the name"]).await;
        check("mysql://me:s3cret@127.0.0.1:1/app", usual(), &["Can't connect", "check the host and the port"]).await;
        check(
            "mysql://me:s3cret@no-such-host.invalid/app",
            usual(),
            &["no-such-host.invalid", "check the host's name"],
        )
        .await;
        check(
            "mysql://me:s3cret@/app?socket=/no/socket",
            usual(),
            &["/no/socket", "check the host and the port or socket"],
        )
        .await;
        let nowhere = ClientOptions { programs: Some("/no/folder".into()), ..ClientOptions::default() };
        check(&mysql.url("app"), with_client(nowhere), &["mariadb-dump", "the Debian package mariadb-client"]).await;
        let via = ClientOptions {
            via: ["sh", "-c", "exec no-such-tool"].map(Into::into).to_vec(),
            ..ClientOptions::default()
        };
        check(&mysql.url("app"), with_client(via), &["the Debian package mariadb-client"]).await;
        let wrong = ClientOptions { password: Some("a\nb".into()), ..ClientOptions::default() };
        check(&mysql.url("app"), with_client(wrong), &["line end"]).await;
        mysql.sql("CREATE DATABASE odd; CREATE TABLE odd.`line\nbreak` (a int)");
        check(&mysql.url("odd"), usual(), &["line\\nbreak", "rename it"]).await;
    });
}

#[test]
fn a_dump_that_breaks_off_stores_nothing() {
    let mut mysql = Mysql::start(&[]);
    mysql.sql("CREATE DATABASE app; USE app; CREATE TABLE app.t AS SELECT seq AS id, REPEAT('x', 500) AS s FROM seq_1_to_200000; CREATE FUNCTION app.f() RETURNS int DETERMINISTIC RETURN 1");
    let pid = mysql.pid().to_string();
    let url = mysql.url("app");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        // Tools that end well, and have not written all.
        for of in ["--databases", "--routines"] {
            let cut = format!(
                "case \"$*\" in *{of}*) /usr/bin/mariadb-dump \"$@\" | sed '$d';; *) exec /usr/bin/mariadb-dump \"$@\";; esac"
            );
            let (_folder, client) = tools(&[("mariadb-dump", &cut)]);
            assert_says(&refused(&repository, &url, with_client(client)).await, &["-- Dump completed"]);
        }
        let skip = "case \"$*\" in *--databases*) exec /usr/bin/mariadb-dump \"$@\" --no-data;; *) exec /usr/bin/mariadb-dump \"$@\";; esac";
        let (_folder, client) = tools(&[("mariadb-dump", &skip.replace("\"$@\" --no-data", "--no-data \"$@\""))]);
        assert_says(
            &refused(&repository, &url, with_client(client)).await,
            &["the rows of table t", "is not in the dump"],
        );
        let (_folder, client) = tools(&[("mariadb-dump", "exec /usr/bin/mariadb-dump --ignore-table=app.t \"$@\"")]);
        assert_says(&refused(&repository, &url, with_client(client)).await, &["table t is not in the dump"]);
        let (_folder, client) = tools(&[("mariadb-dump", "exec /usr/bin/mariadb-dump --where=id=1 \"$@\"")]);
        assert_says(&refused(&repository, &url, with_client(client)).await, &["leaves rows out"]);
        let (_folder, client) = tools(&[("mariadb-dump", "exec /usr/bin/mariadb-dump --insert-ignore \"$@\"")]);
        assert_says(&refused(&repository, &url, with_client(client)).await, &["not written as INSERT INTO"]);
        let silent = "case \"$*\" in *--routines*) /usr/bin/mariadb-dump \"$@\" | grep -v '^CREATE';; *) exec /usr/bin/mariadb-dump \"$@\";; esac";
        let (_folder, client) = tools(&[("mariadb-dump", silent)]);
        assert_says(&refused(&repository, &url, with_client(client)).await, &["routines.sql has fewer than the 1"]);
        // And the server is gone amid the rows.
        let kill = format!(
            "case \"$*\" in *--databases*) /usr/bin/mariadb-dump \"$@\" | {{ head -c 3000000; kill -9 {pid}; cat; }}; exit 2;; *) exec /usr/bin/mariadb-dump \"$@\";; esac"
        );
        let (_folder, client) = tools(&[("mariadb-dump", &kill)]);
        let why = refused(&repository, &url, with_client(client)).await;
        assert_says(&why, &["Lost connection", "the server ended"]);
    });
    mysql.stop();
}

#[test]
fn a_password_is_in_no_argument_and_no_environment() {
    let mysql = Mysql::start(&[]);
    let password = "it's \"s3cret\" \\ # $(x) `x` %;=[] ü\t!";
    let quoted = password.replace('\\', "\\\\").replace('\'', "''");
    mysql.sql(&format!("CREATE DATABASE app; CREATE TABLE app.t (a int); CREATE USER me@'%' IDENTIFIED BY '{quoted}'; GRANT ALL ON *.* TO me@'%' WITH GRANT OPTION"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let seen = folder.path().join("seen");
    let spy = |name: &str| {
        format!("{{ tr '\\0' '\\n' </proc/$$/cmdline; env; }} >>{}; exec /usr/bin/{name} \"$@\"", seen.display())
    };
    let (_tools, client) = tools(&[("mariadb", &spy("mariadb")), ("mariadb-dump", &spy("mariadb-dump"))]);
    // What the user's own file says, which would win over an extra one.
    std::fs::write(folder.path().join(".my.cnf"), "[client]\npassword=wrong\n").expect("writes");
    let home = format!("HOME={}", folder.path().display());
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let options = |via: &[&str]| {
            with_client(ClientOptions {
                password: Some(password.to_owned()),
                via: via.iter().map(Into::into).collect(),
                ..client.clone()
            })
        };
        for via in [&["env", &home][..], &["sh", "-c", "exec \"$@\"", "elsewhere", "env", &home][..]] {
            let report = back_up(&repository, &mysql.url_of("me", "app"), options(via)).await.expect("backs up");
            assert!(!format!("{:?}", report.snapshot.record).contains("s3cret"));
        }
        let seen = std::fs::read_to_string(&seen).expect("it was written");
        assert!(seen.contains("--defaults-file=/dev/fd/3") && !seen.contains("s3cret"), "{seen}");
        // Without one from us, the user's own file serves.
        std::fs::write(
            folder.path().join(".my.cnf"),
            format!("[client]\npassword=\"{}\"\n", password.replace('\\', "\\\\").replace('"', "\\\"")),
        )
        .expect("writes");
        let own = ClientOptions { via: ["env", &home].map(Into::into).to_vec(), ..client.clone() };
        back_up(&repository, &mysql.url_of("me", "app"), with_client(own)).await.expect("backs up");
    });
}

#[test]
fn what_is_of_no_moment_or_not_exact_is_told() {
    let mysql = Mysql::start(&[]);
    mysql.sql("CREATE DATABASE app; CREATE TABLE app.old (a int PRIMARY KEY) ENGINE = MyISAM; INSERT INTO app.old VALUES (3), (1), (2); CREATE TABLE app.fl (f float, d double); CREATE USER x@'some.host.invalid'; FLUSH PRIVILEGES");
    run(async {
        let repository = create(Store::memory()).await.expect("creates");
        let report = back_up(&repository, &mysql.url("app"), MysqlOptions::default()).await.expect("backs up");
        assert_says(
            &report.snapshot.record.warnings.join("\n"),
            &["app.old (MyISAM)", "app.fl.f;", "`x`@`some.host.invalid` ("],
        );
        let streams = get_back(&repository, &report.snapshot).await.expect("reads");
        let text = String::from_utf8_lossy(&streams["tables/old.sql"]).into_owned();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("INSERT")).collect();
        let expected = [1, 2, 3].map(|a| format!("INSERT INTO `old` VALUES ({a});"));
        assert_eq!(rows, expected, "in the order of the key, not in the one that they lie in");
    });
}
