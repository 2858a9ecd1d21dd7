//! What is asked on a terminal, a real one: `script` of bsdutils makes it.

use super::*;
use crate::kit::postgres::Postgres;
use std::io::Read;

const BIN: [&str; 2] = ["--pg-bin", "/usr/lib/postgresql/15/bin"];

fn url(postgres: &Postgres, database: &str) -> String {
    format!("postgres://postgres@/{database}?host={}", postgres.folder().display())
}

/// Runs it on a terminal, and types a line when it has asked. Returns its exit code and all that the terminal shows.
fn on_terminal(place: &Place, args: &[&str], question: &str, answer: &str) -> (Option<i32>, String) {
    let mut command = place.command(args);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let quoted = words.map(|word| format!("'{}'", word.to_str().expect("plain words"))).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("SHELL", "/bin/sh").args(["--quiet", "--return", "--command", &quoted, "/dev/null"]);
    command.stdin(Stdio::null());
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script of bsdutils starts");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    let mut has_answered = question.is_empty();
    loop {
        match stdout.read(&mut buffer).expect("it writes") {
            0 => break,
            bytes_n => shown.extend_from_slice(&buffer[..bytes_n]),
        }
        if !has_answered && String::from_utf8_lossy(&shown).contains(question) {
            stdin.write_all(answer.as_bytes()).expect("it reads");
            has_answered = true;
        }
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(has_answered, "it never asked: {shown}");
    (child.wait().expect("it ends").code(), shown)
}

#[test]
fn what_would_be_lost_must_be_typed_before_it_is_replaced() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE TABLE t AS SELECT n FROM generate_series(1, 500) n");
    let place = Place::new();
    place.run(["backup", &url(&postgres, "app")].iter().chain(&BIN)).expect_exit(0);
    postgres.psql("app", "DELETE FROM t WHERE n > 10");
    let to = url(&postgres, "app");
    let count = || postgres.psql("app", "SELECT count(*) FROM t");
    let replace = [&["restore", "latest", "--to", &to, "--replace"], &BIN[..]].concat();
    let question = "type local/app to go on: ";
    // A dry run refuses what the run would refuse.
    place.run(["restore", "latest", "--to", &to, "--dry-run"].iter().chain(&BIN)).expect_line(1, "--replace");

    for wrong in ["yes\n", "app\n", "local/App\n", "\n", "\u{4}"] {
        let (code, shown) = on_terminal(&place, &replace, question, wrong);
        assert_eq!(code, Some(1), "{wrong:?}: {shown}");
        assert!(shown.contains("that is not local/app; nothing was changed"), "{shown}");
        // It says what would be lost before it asks.
        assert!(shown.find("what was changed there since") < shown.find(question), "{shown}");
    }
    let (code, shown) = on_terminal(&place, &replace, question, "\u{3}");
    assert_eq!(code, Some(130), "{shown}");
    assert_eq!(count(), "10\n");
    assert_eq!(place.json(["snapshots"]).as_array().map(Vec::len), Some(1), "not even a safety snapshot was taken");
    assert_eq!(postgres.psql("app", "SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'"), "1\n");

    let rows = ["--table", "public.t", "--where", "n = 11", "--on-conflict", "skip"];
    let rows = [&["restore", "latest", "--to", &to], &rows[..], &BIN[..]].concat();
    postgres.psql("app", "ALTER TABLE t ADD PRIMARY KEY (n)");
    assert_eq!(on_terminal(&place, &rows, question, "no\n").0, Some(1));
    assert_eq!(count(), "10\n");
    assert_eq!(on_terminal(&place, &rows, question, "local/app\n").0, Some(0));
    assert_eq!(count(), "11\n");

    let first =
        place.json(["snapshots"]).as_array().expect("an array").iter().find(|one| one["source"] == "app").expect("it")
            ["id"]
            .clone();
    let first = first.as_str().expect("an id");
    let replace = [&["restore", first, "--to", &to, "--replace"], &BIN[..]].concat();
    let (code, shown) = on_terminal(&place, &replace, question, "local/app\n");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(count(), "500\n");
    let undo = [&["restore", first, "--to", &to, "--undo"], &BIN[..]].concat();
    assert_eq!(on_terminal(&place, &undo, "to go on: ", "never\n").0, Some(1));
    assert_eq!(count(), "500\n");
    assert_eq!(on_terminal(&place, &undo, "to go on: ", "local/app\n").0, Some(0));
    assert_eq!(count(), "11\n");

    // Without a terminal nobody can be asked; and with --yes nobody is.
    place.run(&replace).expect_line(2, "there is no terminal to ask on");
    assert_eq!(count(), "11\n");
    let yes = [&replace[..], &["--yes"]].concat();
    assert_eq!(on_terminal(&place, &yes, "", "").0, Some(0));
    assert_eq!(count(), "500\n");
}

#[test]
fn tools_that_run_elsewhere_get_no_terminal() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE TABLE t AS SELECT n FROM generate_series(1, 500) n");
    let place = Place::new();
    let log = place.text("log");
    let script = "for fd in 0 1 2; do if test -t $fd; then echo $fd is a terminal; fi; done >>LOG; echo ran $* >>LOG; exec \"$@\"";
    place.write("elsewhere", script.replace("LOG", &log).as_bytes());
    let via = format!("sh {}", place.text("elsewhere"));
    let flags = [&["--via", &via], &BIN[..]].concat();
    let run = |args: &[&str]| {
        let (code, shown) = on_terminal(&place, &[args, &flags].concat(), "", "");
        assert_eq!(code, Some(0), "{shown}");
        let said = fs::read_to_string(&log).expect("it ran");
        fs::remove_file(&log).expect("it is ours");
        assert!(!said.contains("is a terminal"), "{said}");
        said
    };
    assert!(run(&["backup", &url(&postgres, "app")]).contains("pg_dump"));
    assert!(run(&["restore", "latest", "--to", &url(&postgres, "copy")]).contains("pg_restore"));
    assert_eq!(postgres.psql("copy", "SELECT count(*) FROM t"), "500\n");
    // The test's own terminal is one.
    place.write("look", b"if test -t 0 && test -t 1 && test -t 2; then exit 7; fi");
    let look = format!("cmd:sh {}", place.text("look"));
    assert!(on_terminal(&place, &["backup", &look], "", "").1.contains("dedump: "), "its tools have none either");
    for bad in [
        "docker exec -it db",
        "docker exec -ti db",
        "kubectl exec -i --tty pod --",
        "kubectl exec --tty=true pod --",
        "ssh -tt db",
    ] {
        let args = ["backup", "postgres://db/app", "--via", bad];
        place.run(args).expect_line(2, "a terminal changes bytes");
    }
}
