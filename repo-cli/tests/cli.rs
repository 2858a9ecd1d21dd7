//! The command line from outside: the built binary, its exit codes, and what it prints where.

#[path = "cli/bucket.rs"]
mod bucket;
#[path = "cli/clickhouse.rs"]
mod clickhouse;
#[path = "cli/copy.rs"]
mod copy;
#[path = "cli/database.rs"]
mod database;
#[path = "cli/disk.rs"]
mod disk;
#[path = "cli/forget.rs"]
mod forget;
#[path = "cli/hosts.rs"]
mod hosts;
#[path = "cli/killed.rs"]
mod killed;
#[path = "cli/mongodb.rs"]
mod mongodb;
#[path = "cli/mysql.rs"]
mod mysql;
#[path = "cli/network.rs"]
mod network;
#[path = "cli/prune.rs"]
mod prune;
#[path = "cli/redis.rs"]
mod redis;
#[path = "cli/secrets.rs"]
mod secrets;
#[path = "cli/several.rs"]
mod several;
#[path = "cli/sources.rs"]
mod sources;
#[path = "cli/sqlite.rs"]
mod sqlite;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/unfit.rs"]
mod unfit;

/// Of the kit of the integration tests.
#[path = "../../tests/tests/all/kit"]
mod kit {
    pub mod clickhouse;
    pub mod front;
    #[allow(dead_code)] // the integration tests use the rest
    pub mod mongo;
    #[allow(dead_code, clippy::print_stderr)] // likewise, and see what the server said
    pub mod mysql;
    #[allow(dead_code, clippy::print_stderr)] // the integration tests use the rest, and see what the server said
    pub mod postgres;
    pub mod proxy;
    #[allow(dead_code, clippy::print_stderr)] // likewise
    pub mod redis;
    pub mod servers;
}

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A password that no output may ever hold.
const PASSWORD: &str = "correct horse 4711";
/// Argon2 parameters that cost nothing.
const CHEAP: [&str; 4] = ["--argon2-memory", "1", "--argon2-passes", "1"];

/// A temporary folder with a repository in it, opened by a key file.
struct Place {
    directory: TempDir,
}

impl Place {
    fn empty() -> Place {
        let place = Place { directory: TempDir::new().expect("a temporary folder") };
        place.run(["key", "generate", &place.text("key")]).expect_exit(0);
        place
    }

    fn new() -> Place {
        let place = Place::empty();
        place.run(["init"]).expect_exit(0);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).expect("it can be written");
        self.text(name)
    }

    /// The binary, with nothing of the caller's own environment, opening this repository by its key file.
    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.bare(args);
        command.env("DEDUMP_KEY_FILE", self.path("key"));
        command
    }

    /// Likewise, without a secret.
    fn bare<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dedump"));
        for name in ["PASSWORD", "PASSWORD_FILE", "PASSWORD_COMMAND", "KEY_FILE"] {
            for whose in ["", "TO_", "LIKE_"] {
                command.env_remove(format!("DEDUMP_{whose}{name}"));
            }
        }
        command
            .env("DEDUMP_REPO", self.path("repo"))
            .env("XDG_STATE_HOME", self.path("state"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(&mut self.command(args))
    }

    fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let ran = Ran::of(self.command(["--json"]).args(args));
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error} in {:?}, {:?}", ran.out, ran.err))
    }

    /// Backs up these bytes as `name`, through a pipe; returns the snapshot's id.
    fn back_up(&self, name: &str, bytes: &[u8]) -> String {
        let mut child = self
            .command(["backup", "--json", "--allow-shrink", "--name", name, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("a pipe").write_all(bytes).expect("it reads all");
        let output = child.wait_with_output().expect("it ends");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report["snapshot"]["id"].as_str().expect("an id").to_owned()
    }

    fn data_packs(&self) -> Vec<PathBuf> {
        files_below(&self.path("repo/packs"))
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// How a run ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(command: &mut Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    #[track_caller]
    fn expect_exit(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// Expects a failure that is one line on standard error, with this in it.
    #[track_caller]
    fn expect_line(self, code: i32, part: &str) -> Ran {
        let ran = self.expect_exit(code);
        assert_eq!(ran.err.lines().count(), 1, "one line: {}", ran.err);
        assert!(ran.err.starts_with("dedump: ") && ran.err.contains(part), "{part:?} in {:?}", ran.err);
        ran
    }
}

/// Bytes that do not compress and differ by seed.
fn noise(seed: u8, bytes_n: usize) -> Vec<u8> {
    let mut bytes = vec![0; bytes_n];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn what_goes_in_comes_out_by_every_way() {
    let place = Place::new();
    let bytes = noise(1, 500_000);
    let input = place.write("input", &bytes);
    place.run(["backup", "--name", "db/app.dump", "--tag", "env=prod", "--", "cat", &input]).expect_exit(0);
    place.back_up("db/app.dump", &bytes);

    let to_stdout = place.command(["restore", "latest", "--to", "-"]).output().expect("it runs");
    assert!(to_stdout.stdout == bytes, "through standard output");
    for (args, file) in [
        (vec!["--stream", "db/app.dump", "--to", "one.dump"], "one.dump"),
        (vec!["--stream", "db/app.dump", "--to", "below/"], "below/db/app.dump"),
        (vec!["--tag", "env=prod", "--to", "whole"], "whole/db/app.dump"),
    ] {
        let mut command = place.command(["restore", "latest"]);
        Ran::of(command.args(args).current_dir(place.directory.path())).expect_exit(0);
        assert!(fs::read(place.path(file)).expect("restored") == bytes, "{file}");
    }
}

#[test]
fn snapshots_are_listed_shown_compared_and_forgotten() {
    let place = Place::new();
    let first = place.back_up("app.dump", &noise(1, 300_000));
    let second = place.back_up("app.dump", &noise(2, 200_000));

    let table = place.run(["snapshots"]).expect_exit(0).out;
    assert!(table.contains(&first[..8]) && table.contains(&second[..8]) && table.contains("2 snapshots"), "{table}");
    let shown = place.run(["show", &first]).expect_exit(0).out;
    assert!(shown.contains(&first) && shown.contains("300,000"), "{shown}");
    let diff = place.json(["diff", &first, "latest"]);
    assert_eq!(diff["streams"][0]["change"], "changed");
    assert_eq!(diff["streams"][0]["bytes_after"], 200_000);

    place.run(["forget", "--dry-run", &first]).expect_exit(0);
    assert_eq!(place.json(["snapshots"]).as_array().map(Vec::len), Some(2));
    let forgot = place.run(["forget", &first]).expect_exit(0).out;
    assert!(forgot.contains("dedump prune"), "{forgot}");
    let left = place.json(["snapshots"]);
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    assert_eq!(left[0]["id"], second.as_str());
}

#[test]
fn a_snapshot_that_cannot_be_read_is_named_and_the_others_are_listed() {
    let place = Place::new();
    let (broken, whole) = (place.back_up("a", b"x"), place.back_up("b", b"y"));
    fs::write(place.path(&format!("repo/snapshots/{broken}")), b"junk").expect("it can be written");
    let listed = place.run(["snapshots"]).expect_exit(4);
    assert!(listed.out.contains(&whole[..8]) && listed.out.contains("1 snapshot\n"), "{}", listed.out);
    assert!(listed.err.contains(&broken) && listed.err.contains("dedump check"), "{}", listed.err);
}

#[test]
fn filters_choose_snapshots() {
    let place = Place::new();
    for (host, source, tier) in [("db1", "app", "1"), ("db1", "web", "2"), ("db2", "app", "1")] {
        let tag = format!("tier={tier}");
        let args = ["backup", "--name", "x", "--host", host, "--source", source, "--tag", &tag, "--", "echo", source];
        place.run(args).expect_exit(0);
    }
    for (args, n) in [
        (vec![], 3),
        (vec!["--host", "db1"], 2),
        (vec!["--source", "app"], 2),
        (vec!["--host", "db2", "--source", "web"], 0),
        (vec!["--tag", "tier=1"], 2),
        (vec!["--tag", "tier=1", "--tag", "tier=2"], 1),
        (vec!["--before", "2000-01-01"], 0),
        (vec!["--since", "2000-01-01"], 3),
    ] {
        let mut all = vec!["snapshots"];
        all.extend(&args);
        assert_eq!(place.json(all).as_array().map(Vec::len), Some(n), "{args:?}");
    }
    assert_eq!(place.json(["show", "latest", "--host", "db1"])["source"], "web");
}

#[test]
fn json_has_the_documented_shapes() {
    let place = Place::empty();
    let created = place.json(["init"]);
    assert_eq!(created["id"].as_str().map(str::len), Some(32));
    let bytes = noise(1, 100_000);
    let input = place.write("input", &bytes);
    let report = place.json(["backup", "--name", "a.dump", "--tag", "env=prod", "--", "cat", &input]);
    let snapshots = place.json(["snapshots"]);
    let snapshot = &snapshots[0];
    assert_eq!(report["snapshot"], *snapshot);
    assert_eq!(snapshot["tags"]["env"], "prod");
    assert_eq!((&snapshot["source"], &snapshot["quality"]), (&"a.dump".into(), &"good".into()));
    assert_eq!(snapshot["streams"][0]["name"], "a.dump");
    assert_eq!(snapshot["streams"][0]["bytes"], 100_000);
    assert_eq!(snapshot["streams"][0]["hash"], blake3::hash(&bytes).to_hex().as_str());
    assert!(snapshot["time"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 24), "{snapshot}");
    for key in
        ["host", "reasons", "warnings", "facts", "parent", "chunks", "chunks_new", "bytes_new", "bytes_added", "ended"]
    {
        assert!(snapshot.get(key).is_some(), "{key}");
    }
    assert_eq!(place.json(["check", "--read-data"])["findings"], Value::Array(Vec::new()));
    assert_eq!(place.json(["stats"])["bytes"], 100_000);
    assert_eq!(place.json(["key", "list"])[0]["kind"], "key-file");
    assert_eq!(place.json(["reindex"])["unreadable"], Value::Array(Vec::new()));
    let restored = place.json(["restore", "latest", "--to", &place.text("out")]);
    assert_eq!(restored["streams"][0]["path"], place.text("out/a.dump"));
    assert_eq!(place.json(["forget", "latest"])["snapshots"][0]["id"], snapshot["id"]);
    assert!(place.json(["completions", "bash"])["script"].is_string());
    assert!(place.json(["man"])["page"].is_string());
}

#[test]
fn a_dump_that_failed_leaves_no_snapshot_and_exits_1() {
    let place = Place::new();
    let failed = place.run(["backup", "--name", "x", "--", "sh", "-c", "echo half; echo why >&2; exit 7"]);
    let failed = failed.expect_exit(1);
    assert!(failed.err.contains("exit status 7") && failed.err.contains("why"), "{}", failed.err);
    place.run(["backup", "--name", "x", "--", "true"]).expect_line(1, "--allow-empty");
    place.run(["backup", "--name", "x", "--", "/no/such/program"]).expect_line(1, "/no/such/program");
    assert_eq!(place.json(["snapshots"]), Value::Array(Vec::new()));
    place.run(["backup", "--name", "x", "--allow-empty", "--", "true"]).expect_exit(0);
}

#[test]
fn a_dump_that_shrank_is_kept_and_exits_3() {
    let place = Place::new();
    place.run(["backup", "--name", "x", "--", "seq", "100000"]).expect_exit(0);
    let shrunk = place.run(["backup", "--name", "x", "--", "seq", "100"]).expect_exit(3);
    assert!(shrunk.err.contains("suspicious") && shrunk.err.contains("50 %"), "{}", shrunk.err);
    assert_eq!(place.json(["show", "latest"])["quality"], "suspicious");
    place.run(["backup", "--name", "x", "--allow-shrink", "--", "seq", "10"]).expect_exit(0);
}

#[test]
fn usage_errors_are_one_line_and_exit_2() {
    let place = Place::new();
    place.back_up("app.dump", b"x");
    for (args, part) in [
        (vec!["backup", "--name", "x"], "dedump backup postgres://USER@HOST/DATABASE"),
        (vec!["backup", "--name", "x", "pg_dump", "app"], "put -- before"),
        (vec!["backup", "--name", "/abs", "--", "true"], "/abs"),
        (vec!["backup", "--name", "a/../b", "--", "true"], ".."),
        (vec!["backup", "--name", "a\nb", "--", "true"], "control character"),
        (vec!["backup", "--", "true"], "--name"),
        (vec!["backup", "--name", "x", "--tag", "prod", "--", "true"], "key=value"),
        (vec!["snapshots", "--before", "yesterday"], "2026-01-31"),
        (vec!["check", "--read-data=0%"], "10%"),
        (vec!["snapshotz"], "snapshots"),
        (vec!["restore", "latest"], "--to"),
        (vec!["restore", "nothex", "--to", "-"], "latest"),
        (vec!["--repo", "ftp://host/x", "check"], "s3://, gs:// or az://"),
        (vec!["--repo", "s3://key:secret@bucket/x", "check"], "s3://BUCKET/PREFIX"),
        (vec!["--repo", "s3://b/x", "--store-option", "endpoint=http://127.0.0.1:1", "check"], "--allow-http"),
        (vec!["--repo", "s3://b/x", "--store-option", "colour=blue", "check"], "endpoint, region"),
        (vec!["--store-option", "endpoint", "check"], "key=value"),
        (vec!["--connections", "0", "check"], "1..=256"),
    ] {
        place.run(args).expect_line(2, part);
    }
    Ran::of(place.bare(["check"]).env_remove("DEDUMP_REPO")).expect_line(2, "--repo");
    Ran::of(&mut place.bare(["check"])).expect_line(2, "--password-file");
}

#[test]
fn what_does_not_exist_is_named_and_exits_1() {
    let place = Place::new();
    place.back_up("app.dump", b"x");
    place.run(["restore", "0123456789abcdef", "--to", "-"]).expect_line(1, "0123456789abcdef");
    place.run(["restore", "latest", "--stream", "nope", "--to", "-"]).expect_line(1, "it has app.dump");
    place.run(["--repo", &place.text("nowhere"), "check"]).expect_line(1, "dedump init");
    place.run(["--key-file", &place.text("nokey"), "init"]).expect_line(1, "dedump key generate");
    place.run(["init"]).expect_line(1, "already holds a repository");
    place.run(["key", "generate", &place.text("key")]).expect_line(1, "left as it is");
}

#[test]
fn an_ambiguous_prefix_exits_2_and_names_the_candidates() {
    let place = Place::new();
    // Seventeen ids have sixteen first digits.
    let ids: Vec<String> = (0..17).map(|n| place.back_up(&format!("s{n}"), b"x")).collect();
    let first = |id: &String| id[..1].to_owned();
    let shared = ids.iter().map(first).find(|digit| ids.iter().filter(|id| first(id) == *digit).count() > 1);
    let shared = shared.expect("two of them share it");
    let candidate = ids.iter().find(|id| id.starts_with(&shared)).expect("there it is");
    place.run(["show", &shared]).expect_line(2, &candidate[..12]);
}

#[test]
fn a_newer_repository_is_named_as_such() {
    let place = Place::new();
    let config = place.path("repo/config");
    let mut bytes = fs::read(&config).expect("it is there");
    bytes[8] += 1;
    fs::write(&config, bytes).expect("it can be written");
    place.run(["snapshots"]).expect_line(1, "use a newer dedump");
}

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let place = Place::new();
    place.back_up("app.dump", b"new");
    let file = place.write("file", b"old");
    place.run(["restore", "latest", "--stream", "app.dump", "--to", &file]).expect_line(1, "--force");
    assert_eq!(fs::read(&file).expect("it is there"), b"old");
    place.run(["restore", "latest", "--stream", "app.dump", "--to", &file, "--force"]).expect_exit(0);
    assert_eq!(fs::read(&file).expect("it is there"), b"new");
}

#[test]
fn a_store_that_was_probed_is_said_to_keep_its_promises() {
    let place = Place::new();
    let said =
        |place: &Place, args: &[&str]| place.run(args).expect_exit(0).out.contains("what commits and prunes rest on");
    assert!(said(&place, &["check", "--store"]));
    assert!(!said(&place, &["check"]));
}

#[test]
fn damage_is_found_named_and_exits_4() {
    let place = Place::new();
    place.back_up("app.dump", &noise(1, 300_000));
    let packs = place.data_packs();
    let pack = packs.first().expect("a pack");
    let mut bytes = fs::read(pack).expect("it can be read");
    bytes[5000] ^= 1;
    fs::write(pack, bytes).expect("it can be written");

    place.run(["check"]).expect_exit(0);
    let found = place.run(["check", "--read-data"]).expect_exit(4).out;
    assert!(found.contains("pack-damaged") && found.contains("what to do"), "{found}");
    assert!(!place.json(["check", "--read-data"])["findings"].as_array().expect("an array").is_empty());
    place.run(["restore", "latest", "--to", &place.text("out")]).expect_exit(4);
    assert!(!place.path("out/app.dump").exists(), "nothing half-written");
    place.run(["restore", "latest", "--to", &place.text("out"), "--keep-going"]).expect_exit(4);
}

#[test]
fn a_wrong_key_exits_5() {
    let place = Place::new();
    place.run(["key", "generate", &place.text("other")]).expect_exit(0);
    place.run(["--key-file", &place.text("other"), "snapshots"]).expect_line(5, "wrong key");
    Ran::of(place.bare(["snapshots"]).env("DEDUMP_PASSWORD", "wrong")).expect_line(5, "wrong key");
}

#[test]
fn keys_come_and_go() {
    let place = Place::new();
    let file = place.write("new", format!("{PASSWORD}\n").as_bytes());
    let id =
        place.json(["key", "add", "--label", "me", "--new-password-file", &file].iter().chain(&CHEAP))["id"].clone();
    let with_password = |args: &[&str]| Ran::of(place.bare(args).env("DEDUMP_PASSWORD", PASSWORD));
    with_password(&["snapshots"]).expect_exit(0);
    let command = format!("printf '%s\\n' '{PASSWORD}'");
    Ran::of(place.bare(["snapshots"]).env("DEDUMP_PASSWORD_COMMAND", command)).expect_exit(0);

    let keys = place.json(["key", "list"]);
    let old =
        keys.as_array().expect("an array").iter().find(|key| key["id"] != id).expect("the first key")["id"].clone();
    assert!(keys.as_array().is_some_and(|keys| keys.iter().any(|key| key["label"] == "me")), "{keys}");
    with_password(&["key", "remove", old.as_str().expect("an id")]).expect_exit(0);
    place.run(["snapshots"]).expect_line(5, "wrong key");
    with_password(&["key", "remove", id.as_str().expect("an id")]).expect_line(2, "last key");
}

#[test]
fn a_secret_shows_up_nowhere() {
    let place = Place::empty();
    let with_password = |args: &[&str]| Ran::of(place.bare(args).env("DEDUMP_PASSWORD", PASSWORD));
    let init: Vec<&str> = ["init"].into_iter().chain(CHEAP).collect();
    // What `ps` would show of dedump itself becomes the dump.
    let look = "tr '\\0' ' ' < /proc/$PPID/cmdline";
    for args in [
        &init[..],
        &["backup", "--name", "ps", "--", "sh", "-c", look],
        &["backup", "--name", "env", "--", "env"],
        &["restore", "latest", "--source", "env", "--to", "-"],
        &["restore", "latest", "--source", "ps", "--to", "-"],
        &["show"],
        &["show", "--json"],
        &["check", "--read-data"],
        &["key", "list"],
    ] {
        let ran = with_password(args).expect_exit(0);
        assert!(!ran.out.contains(PASSWORD) && !ran.err.contains(PASSWORD), "{args:?}: {} {}", ran.out, ran.err);
        if args[0] == "restore" && args.contains(&"ps") {
            assert!(ran.out.contains("backup --name ps"), "the test looks at the right process: {}", ran.out);
        }
    }
}

#[test]
fn a_secret_that_others_may_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    assert_eq!(place.run(["snapshots"]).expect_exit(0).err, "");
    fs::set_permissions(place.path("key"), fs::Permissions::from_mode(0o644)).expect("it is ours");
    let warned = place.run(["snapshots"]).expect_exit(0);
    assert!(warned.err.contains("warning") && warned.err.contains("chmod 600"), "{}", warned.err);
}

/// Waits until a process is gone, or dead and not yet buried: it was killed just now, by somebody who did not wait.
#[track_caller]
fn wait_for_death(process: &str) {
    for _ in 0..1000 {
        match fs::read(format!("/proc/{process}/cmdline")) {
            Ok(words) if !words.is_empty() => std::thread::sleep(std::time::Duration::from_millis(5)),
            _ => return,
        }
    }
    panic!("the dump command {process} is still alive");
}

#[test]
fn an_interrupted_backup_commits_nothing_and_leaves_no_child() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let place = Place::new();
        let mut child = place
            .command(["backup", "--name", "x", "--", "sh", "-c", "echo data; echo $$ >&2; exec sleep 1000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut grandchild = String::new();
        stderr.read_line(&mut grandchild).expect("it says its number");
        // The shell's own kill: the program of that name is not on every machine.
        let kill = format!("kill {signal} {}", child.id());
        let killed = Command::new("sh").args(["-c", &kill]).status().expect("the shell runs");
        assert!(killed.success());
        assert_eq!(child.wait().expect("it ends").code(), Some(code));
        let mut said = String::new();
        stderr.read_line(&mut said).expect("it says why");
        assert_eq!(said, "dedump: interrupted; nothing was committed\n");
        wait_for_death(grandchild.trim());
        assert_eq!(place.json(["snapshots"]), Value::Array(Vec::new()));
        // Or the next prunes would wait for it.
        assert_eq!(place.json(["sessions"]), Value::Array(Vec::new()));
    }
}

#[test]
fn nobody_reading_the_output_is_no_panic() {
    let place = Place::new();
    place.back_up("app.dump", &noise(1, 2_000_000));
    for (args, code) in [(vec!["snapshots"], 0), (vec!["restore", "latest", "--to", "-"], 141)] {
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn output_that_takes_no_more_is_an_error_with_its_reason() {
    let place = Place::new();
    place.back_up("app.dump", &noise(1, 2_000_000));
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut restore = place.command(["restore", "latest", "--to", "-"]);
    let output = restore.stdout(full).stderr(Stdio::piped()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("dedump: cannot write the output: No space left on device"), "{said}");
}

#[test]
fn the_demonstration_runs_and_everything_comes_back() {
    let place = Place::empty();
    let told = place.json(["demo", "--days", "3", "--size", "1", "--dir", &place.text("demo")]);
    assert_eq!(told["days"].as_array().map(Vec::len), Some(3));
    assert_eq!(told["findings"], 0);
    assert!(told["restored"].as_array().is_some_and(|days| days.iter().all(|day| day["identical"] == true)), "{told}");
    let repository = told["repository"].as_str().expect("a path");
    let key_file = told["key_file"].as_str().expect("a path");
    let left = Ran::of(&mut place.bare(["--repo", repository, "--key-file", key_file, "snapshots"])).expect_exit(0);
    assert!(left.out.contains("3 snapshots"), "{}", left.out);
    place.run(["demo", "--dir", &place.text("demo")]).expect_line(1, "not empty");
}

#[test]
fn manual_pages_and_completions_are_made() {
    let place = Place::empty();
    place.run(["man", "--out", &place.text("man")]).expect_exit(0);
    let pages = files_below(&place.path("man"));
    for name in ["dedump.1", "dedump-backup.1", "dedump-key-add.1"] {
        assert!(pages.contains(&place.path("man").join(name)), "{name} in {pages:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(["completions", shell]).expect_exit(0).out.contains("snapshots"), "{shell}");
    }
}
