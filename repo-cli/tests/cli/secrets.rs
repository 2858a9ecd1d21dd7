//! The password of a database: however it is given, it is in no command line, no output, no snapshot and no error.

use super::*;
use crate::kit::postgres::Postgres;
use std::os::unix::fs::PermissionsExt;

const SECRET: &str = "s3cret-0f-the-d4tabase";

/// A server that asks a user for the password.
fn server() -> Postgres {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres
        .psql("app", &format!("CREATE ROLE me LOGIN SUPERUSER PASSWORD '{SECRET}'; CREATE TABLE t AS SELECT 1 AS n"));
    let hba = postgres.folder().join("data/pg_hba.conf");
    fs::write(hba, "local all postgres trust\nlocal all all scram-sha-256\n").expect("writes");
    postgres.psql("app", "SELECT pg_reload_conf()");
    postgres
}

/// A way to give a password: what it is called, the URL of a database, flags, a variable.
type Way<'a> = (&'a str, &'a dyn Fn(&str) -> String, &'a [&'a str], [(&'a str, String); 1]);

const OTHER_SECRET: &str = "s3cret-0f-a-rep0sitory";

/// Puts tools into a folder that write down every process of the machine that has the password in its command line, what they
/// are called with themselves, and their environment.
fn watching_tools(place: &Place) {
    private(place, "secret", SECRET);
    fs::create_dir(place.path("tools")).expect("creates");
    for tool in ["psql", "pg_dump", "pg_dumpall", "pg_restore"] {
        let script = format!(
            "#!/bin/sh\nfor process in $(grep -alFf {0} /proc/[0-9]*/cmdline 2>/dev/null); do\n\
             tr '\\0' ' ' <$process; echo; done >>{1} 2>/dev/null\necho {tool} \"$@\" >>{1}\nenv >>{2}\n\
             exec /usr/lib/postgresql/15/bin/{tool} \"$@\"\n",
            place.text("secret"),
            place.text("cmdlines"),
            place.text("environments")
        );
        let path = place.write(&format!("tools/{tool}"), script.as_bytes());
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
}

fn private(place: &Place, name: &str, text: &str) -> String {
    let path = place.write(name, text.as_bytes());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    path
}

#[test]
fn a_databases_password_shows_up_nowhere_however_it_is_given() {
    let (postgres, place) = (server(), Place::new());
    watching_tools(&place);
    let folder = postgres.folder().display().to_string();
    let url = |database: &str| format!("postgres://me@/{database}?host={folder}");
    let file = private(&place, "password", &format!("{SECRET}\n"));
    let pgpass = private(&place, "pgpass", &format!("*:*:*:me:{SECRET}\n"));
    let service = format!("[main]\nhost={folder}\nuser=me\npassword={SECRET}\n");
    let service = private(&place, "service", &service);
    let command = format!("cat {file}");
    let none: &[&str] = &[];
    let (bad_file, no_env) = (private(&place, "wrong", "another-s3cret"), [("PGAPPNAME", "x".to_owned())]);
    let with_password = |database: &str| url(database).replace("me@", &format!("me:{SECRET}@"));
    let as_parameter = |database: &str| format!("{}&password={SECRET}", url(database));
    let by_service = |database: &str| format!("postgres:///{database}?service=main");
    let plain: &dyn Fn(&str) -> String = &url;
    let ways: [Way<'_>; 7] = [
        ("a URL", &with_password, none, no_env.clone()),
        ("a parameter", &as_parameter, none, no_env.clone()),
        ("PGPASSWORD", plain, none, [("PGPASSWORD", SECRET.to_owned())]),
        ("a password file of PostgreSQL's", plain, none, [("PGPASSFILE", pgpass)]),
        ("a service file", &by_service, none, [("PGSERVICEFILE", service)]),
        ("--db-password-file", plain, &["--db-password-file", &file], no_env.clone()),
        ("--db-password-command", plain, &["--db-password-command", &command], no_env.clone()),
    ];
    let tools = ["--pg-bin", &place.text("tools")];
    let mut said = String::new();
    for (number, (way, url, flags, [(name, value)])) in ways.iter().enumerate() {
        let mut run = |args: &[&str], code: i32| {
            let ran = Ran::of(
                place.command([args, flags, &tools].concat()).env(name, value).env("DEDUMP_TO_PASSWORD", OTHER_SECRET),
            );
            let ran = ran.expect_exit(code);
            assert!(!ran.out.contains(SECRET) && !ran.err.contains(SECRET), "{way}: {} {}", ran.out, ran.err);
            said += &ran.out;
        };
        let copy = format!("copy_{number}");
        run(&["backup", &url("app"), "--json"], 0);
        run(&["restore", "latest", "--source", "app", "--to", &url(&copy), "--dry-run", "--json"], 0);
        run(&["restore", "latest", "--source", "app", "--to", &url(&copy)], 0);
        run(&["restore", "latest", "--source", "app", "--to", &url(&copy), "--replace", "--yes", "--json"], 0);
        // What fails at the server, and what fails before.
        run(&["backup", &url("no-such-database")], 1);
        run(&["restore", "latest", "--source", "app", "--to", &url(&copy)], 1);
        assert_eq!(postgres.psql(&copy, "SELECT count(*) FROM t"), "1\n", "{way}");
    }
    assert!(said.contains("\"snapshot\""), "{said}");
    for args in [&["snapshots", "--json"][..], &["show", "latest"], &["show", "latest", "--json"]] {
        assert!(!place.run(args).expect_exit(0).out.contains(SECRET), "{args:?}");
    }

    // Command lines: of all processes, whenever a tool was started. A URL is on our own, where the user has put it.
    let cmdlines = fs::read_to_string(place.path("cmdlines")).expect("the tools ran");
    let own = env!("CARGO_BIN_EXE_dedump");
    let (ours, others): (Vec<_>, Vec<_>) =
        cmdlines.lines().filter(|line| line.contains(SECRET)).partition(|line| line.starts_with(own));
    assert!(ours.len() > 10 && cmdlines.contains("\npg_dump -d postgres://me@/app"), "it looks: {cmdlines}");
    assert_eq!(others, Vec::<&str>::new());
    // The repository's own secret is none of the tools' business.
    let environments = fs::read_to_string(place.path("environments")).expect("the tools ran");
    assert!(environments.contains(&format!("PGPASSWORD={SECRET}")) && !environments.contains(OTHER_SECRET));

    // What is stored, decoded.
    for (number, snapshot) in place.json(["snapshots"]).as_array().expect("an array").iter().enumerate() {
        let to = place.text(&format!("decoded/{number}"));
        place.run(["restore", snapshot["id"].as_str().expect("an id"), "--to", &to]).expect_exit(0);
    }
    let decoded = files_below(&place.path("decoded"));
    assert!(decoded.len() > 20, "{decoded:?}");
    for file in decoded.iter().chain(&files_below(&place.path("repo"))) {
        let bytes = fs::read(file).expect("readable");
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{}", file.display());
    }

    // A wrong one is refused without being told, either.
    for (url, flags) in
        [(url("app"), vec!["--db-password-file", &bad_file]), (url("app").replace("me@", "me:another-s3cret@"), vec![])]
    {
        for args in [vec!["backup", &url], vec!["restore", "latest", "--to", &url]] {
            let ran = place.run([&args[..], &flags, &tools].concat()).expect_line(1, "password authentication failed");
            assert!(!ran.err.contains("another-s3cret"), "{}", ran.err);
        }
    }
}
