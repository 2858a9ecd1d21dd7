//! MariaDB backed up and put back by the command line: all databases, under another name, in the place of one, one table.

use super::*;
use crate::kit::mysql::Mysql;
use std::os::unix::fs::PermissionsExt;

fn filled() -> Mysql {
    let mysql = Mysql::start(&[]);
    mysql.sql(&format!(
        "CREATE DATABASE app; CREATE DATABASE other; CREATE TABLE other.x (a int); USE app;
        CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_500;
        CREATE TABLE u (id int); CREATE VIEW v AS SELECT id FROM t; CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.s = 'x';
        CREATE USER me@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO me@'%' WITH GRANT OPTION"
    ));
    mysql
}

#[test]
fn databases_are_put_back_beside_and_in_the_place_of_what_is_there() {
    let mysql = filled();
    let place = Place::new();
    place.write("password", format!("{PASSWORD}\n").as_bytes());
    fs::set_permissions(place.path("password"), fs::Permissions::from_mode(0o600)).expect("it is ours");
    let password = ["--db-password-file", &place.text("password")].map(str::to_owned);
    let run = |words: &[&str]| place.run(words.iter().copied().chain(password.iter().map(String::as_str)));
    let url = |database: &str| mysql.url_of("me", database);
    let backed_up = run(&["backup", &format!("main={}", url("*"))]).expect_exit(0);
    assert!(!backed_up.err.contains("warning"), "{}", backed_up.err);
    let shown = place.json(["show", "latest"]);
    let facts = &shown["facts"];
    assert_eq!(
        (facts["main.app.rows"].as_str(), facts["main.flavour"].as_str()),
        (Some("500"), Some("MariaDB")),
        "{shown}"
    );
    assert!(!shown.to_string().contains(PASSWORD));

    let (copy, app) = (url("copy"), url("app"));
    let to_copy = ["restore", "latest", "--only", "main/databases/app", "--to", &copy];
    run(&["restore", "latest", "--to", &copy])
        .expect_line(2, "which one? choose it with --only: main/databases/app, main/databases/other");
    let planned = run(&[&to_copy[..], &["--dry-run"]].concat()).expect_exit(0);
    assert!(
        planned.out.contains("500 rows") && planned.out.contains("1. load everything beside copy"),
        "{}",
        planned.out
    );
    assert_eq!(mysql.databases(), ["app", "other"]);
    let restored = run(&to_copy).expect_exit(0);
    assert!(restored.out.contains("2 tables with 500 rows, as many as were dumped"), "{}", restored.out);
    assert_eq!(mysql.number("SELECT COUNT(*) FROM copy.v"), 500);

    // What is there is not touched unless that is asked for, and then not unless somebody said yes.
    mysql.sql("DELETE FROM app.t WHERE id > 10; DELETE FROM app.u");
    let to_app = ["restore", "latest", "--source", "main", "--only", "main/databases/app", "--to", &app];
    let refused = run(&to_app).expect_exit(1);
    assert!(refused.err.contains("database app is not empty: it has 2 tables, 1 view, 1 trigger"), "{}", refused.err);
    run(&[&to_app[..], &["--replace"]].concat()).expect_line(2, "say --yes");
    assert_eq!(mysql.number("SELECT COUNT(*) FROM app.t"), 10);
    let one =
        run(&[&to_app[..], &["--table", "t", "--replace", "--yes", "--drop-old", "--json"]].concat()).expect_exit(0);
    let one: Value = serde_json::from_str(&one.out).expect("JSON");
    assert_eq!(
        (one["rows"].as_u64(), one["tables"].as_u64(), one["kept"].is_null()),
        (Some(500), Some(1), true),
        "{one}"
    );
    let safety = one["safety_snapshot"].as_str().expect("it was backed up").to_owned();
    let back = run(&["restore", &safety, "--to", &app, "--replace", "--yes", "--no-safety-snapshot"]).expect_exit(0);
    assert!(back.out.contains("before it") && back.out.contains("app_before_"), "{}", back.out);
    assert_eq!(mysql.number("SELECT COUNT(*) FROM app.t"), 10);
    // One stream is plain SQL for any client.
    let sql = place
        .run(["restore", "latest", "--source", "main", "--stream", "main/databases/app/tables/t.sql", "--to", "-"])
        .expect_exit(0);
    assert!(sql.out.contains("CREATE TABLE `t`") && sql.out.matches("\nINSERT INTO `t` VALUES (").count() == 500);
    mysql.sql(&format!("CREATE DATABASE plain; USE plain;\n{}", sql.out));
    assert_eq!(
        mysql
            .sql("CHECKSUM TABLE plain.t, copy.t")
            .lines()
            .map(|line| line.split_once('\t').expect("two").1.to_owned())
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        1
    );
}

#[test]
fn what_fails_is_one_line_without_the_password_and_stores_nothing() {
    let mysql = filled();
    mysql.sql("CREATE USER less@'%' IDENTIFIED BY 's3cret'; GRANT SELECT ON app.* TO less@'%'");
    let place = Place::new();
    let check = |words: &[&str], code: i32, why: &str| {
        let ran = place.run(words);
        assert_eq!(ran.code, Some(code), "{words:?}: {}", ran.err);
        assert!(ran.err.contains(why) && ran.err.trim_end().lines().count() == 1, "{words:?}: {}", ran.err);
        assert!(!ran.err.contains("s3cret") && !ran.err.contains("wr0ng"), "{}", ran.err);
    };
    let less = mysql.url_of("less:s3cret", "app");
    check(
        &["backup", &less],
        1,
        "GRANT SHOW VIEW, TRIGGER, EVENT ON `app`.* TO `less`@`%`; GRANT SELECT ON mysql.proc TO `less`@`%`",
    );
    check(&["backup", &mysql.url_of("less:wr0ng", "app")], 1, "check the user, and the password");
    check(&["backup", "mysql://me:s3cret@127.0.0.1:1/app"], 1, "check the host and the port");
    check(&["backup", &less, "--mysql-bin", "/no/such"], 1, "the Debian package mariadb-client");
    check(&["backup", "mysql://me:s3cret@h/a/b"], 2, "that MySQL URL can't be");
    check(
        &["backup", "mysql://h", "redis://h", "--name", "n", "--db-password-command", "echo x"],
        2,
        "one password for two",
    );
    check(&["backup", "--name", "n", "--mysql-bin", "/x", "--", "true"], 2, "--mysql-bin is for sources");
    check(&["restore", "latest", "--to", "mysql://h/a", "--jobs", "2"], 2, "--jobs is not for MariaDB");
    check(&["restore", "latest", "--to", "mysql://h/a", "--collection", "a.b"], 2, "--collection is not for MariaDB");
    check(&["restore", "latest", "--to", "mysql://h/a", "--drop-old"], 2, "--replace");
    check(
        &["restore", "latest", "--to", "postgres://h/a", "--no-definers"],
        2,
        "--no-definers is for MariaDB and MySQL",
    );
    assert!(!place.run(["snapshots"]).expect_exit(0).out.contains("app"), "nothing is stored");
    // By leave, what it sees is kept, and said to be partial.
    let partial = place.run(["backup", &less, "--partial"]);
    assert_eq!(partial.code, Some(3), "{}", partial.err);
    assert!(place.json(["snapshots"]).to_string().contains("partial"));
}
