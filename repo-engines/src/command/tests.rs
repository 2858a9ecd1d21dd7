//! Commands that end in every way that commands end.

use super::*;
use crate::intake::Memory;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// Longer than any test should take; the children sleep for longer still.
const PATIENCE: Duration = Duration::from_secs(60);

fn engine(argv: &[&str], options: CommandOptions) -> CommandEngine {
    CommandEngine::new("app.dump", argv.iter().map(OsString::from).collect(), options).expect("a good command")
}

fn shell(script: &str) -> CommandEngine {
    engine(&["sh", "-c", script], CommandOptions::default())
}

fn impatient(script: &str) -> CommandEngine {
    engine(
        &["sh", "-c", script],
        CommandOptions { output_grace: Duration::from_millis(200), ..CommandOptions::default() },
    )
}

async fn output(engine: &CommandEngine) -> (Verdict, Vec<u8>) {
    let mut memory = Memory::new();
    let found = tokio::time::timeout(PATIENCE, engine.run(&mut memory)).await.expect("it hangs").expect("a good dump");
    (found.verdict, memory.bytes)
}

async fn failure(engine: &CommandEngine) -> String {
    match tokio::time::timeout(PATIENCE, engine.run(&mut Memory::new())).await.expect("it hangs") {
        Err(Error::DumpFailed(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Takes little at a time, and its time for it.
struct Slow {
    memory: Memory,
    piece_bytes: usize,
}

impl Intake for Slow {
    fn spare(&mut self) -> &mut [u8] {
        &mut self.memory.spare()[..self.piece_bytes]
    }

    async fn advance(&mut self, bytes_n: usize) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.memory.advance(bytes_n).await
    }
}

/// A folder for the numbers of processes that must not be left behind.
struct Pids(tempfile::TempDir);

impl Pids {
    fn new() -> Self {
        Pids(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns a script's beginning that leaves a process in the background and notes its number.
    fn sleeper(&self, redirection: &str) -> String {
        let file = self.file("sleeper");
        format!("sleep 300 {redirection} & echo $! > {0}.new; mv {0}.new {0};", file.display())
    }

    async fn pid(&self, name: &str) -> Pid {
        let started = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(self.file(name)) {
                return Pid::from_raw(text.trim().parse().expect("a number"));
            }
            assert!(started.elapsed() < PATIENCE, "{name} never started");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a process is gone, or a zombie that only its new parent has to reap.
    async fn assert_dies(&self, name: &str) {
        let pid = self.pid(name).await;
        let started = Instant::now();
        while is_alive(pid) {
            assert!(started.elapsed() < Duration::from_secs(20), "{name} lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn is_alive(pid: Pid) -> bool {
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')));
    kill(pid, None).is_ok() && !zombie
}

#[tokio::test]
async fn the_output_of_a_good_command_is_the_stream() {
    let (verdict, bytes) = output(&shell("echo one; echo two")).await;
    assert_eq!(bytes, b"one\ntwo\n");
    assert_eq!(verdict.facts["command"], "sh -c 'echo one; echo two'");
    assert_eq!(verdict.facts["exit_status"], "0");
    verdict.facts["duration_ms"].parse::<u64>().expect("milliseconds");
    assert_eq!(verdict.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let (_, bytes) = output(&engine(&["head", "-c", "20000001", "/dev/zero"], CommandOptions::default())).await;
    assert_eq!(bytes.len(), 20_000_001);
}

#[tokio::test]
async fn a_command_has_no_input() {
    assert_eq!(output(&shell("cat; echo done")).await.1, b"done\n");
}

#[tokio::test]
async fn an_exit_status_fails_the_dump_with_the_last_words() {
    let why = failure(&shell("echo part; printf 'pg_dump: error: \\033[1mno\\n\\n  hint\\n' >&2; exit 3")).await;
    let expected = "sh failed with exit status 3; nothing was stored; it said: pg_dump: error: \\x1b[1mno / hint";
    assert_eq!(why, expected);
}

#[tokio::test]
async fn only_the_last_words_are_kept() {
    let why = failure(&shell("yes early | head -c 120000 >&2; echo late >&2; exit 1")).await;
    assert!(why.ends_with("early / late"), "{why}");
    assert_eq!(why.matches("early").count(), 9);
}

#[tokio::test]
async fn last_words_hold_no_secret() {
    let cut = format!("echo password={} >&2; exit 1", "hunter2".repeat(1000));
    assert_eq!(failure(&shell(&cut)).await, "sh failed with exit status 1; nothing was stored");
    let why = failure(&shell("echo 'cannot reach postgres://me:hunter2@db/app' >&2; exit 1")).await;
    assert!(why.ends_with("it said: cannot reach postgres://me:***@db/app"), "{why}");
}

#[tokio::test]
async fn a_signal_is_named() {
    let why = failure(&shell("echo part; kill -TERM $$")).await;
    assert_eq!(why, "sh was killed by SIGTERM; nothing was stored");
    let why = failure(&shell("echo part; kill -KILL $$")).await;
    assert_eq!(why, "sh was killed by SIGKILL, perhaps for want of memory; nothing was stored");
}

#[tokio::test]
async fn a_command_that_cannot_start_says_which_and_why() {
    let why = failure(&engine(&["dedump-no-such-program"], CommandOptions::default())).await;
    assert!(why.starts_with("cannot start \"dedump-no-such-program\": there is no such program"), "{why}");
    let why = failure(&engine(&["/dev/null"], CommandOptions::default())).await;
    assert!(why.starts_with("cannot start \"/dev/null\": it is not executable"), "{why}");
}

#[test]
fn a_command_without_a_program_or_with_a_bad_stream_is_refused() {
    assert!(matches!(CommandEngine::new("a", vec![], CommandOptions::default()), Err(Error::Invalid(_))));
    assert!(matches!(CommandEngine::new("a", vec!["".into()], CommandOptions::default()), Err(Error::Invalid(_))));
    assert!(matches!(CommandEngine::new("../a", vec!["x".into()], CommandOptions::default()), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn much_error_output_blocks_nothing_and_is_handed_on() {
    let heard = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&heard);
    let script = "echo begin; yes complaint | head -c 3000000 >&2; echo end";
    let engine = shell(script).on_stderr(move |bytes| *counter.lock().expect("nobody panics") += bytes.len());
    assert_eq!(output(&engine).await.1, b"begin\nend\n");
    assert_eq!(*heard.lock().expect("nobody panics"), 3_000_000);
}

#[tokio::test]
async fn empty_output_is_refused_unless_allowed() {
    let why = failure(&shell("true")).await;
    assert!(why.contains("is empty, so nothing was stored; give --allow-empty"), "{why}");
    let allowing = CommandOptions { allow_empty: true, ..CommandOptions::default() };
    let (verdict, bytes) = output(&engine(&["true"], allowing)).await;
    assert_eq!((bytes.len(), verdict.warnings.len()), (0, 1));
}

#[tokio::test]
async fn output_that_lost_its_end_is_refused_in_spite_of_the_exit_status() {
    let why = failure(&shell("printf -- '--\\n-- PostgreSQL database dump\\n--\\n\\n1\\n'; echo oops >&2")).await;
    assert!(why.contains("the dump is incomplete: it begins as pg_dump text"), "{why}");
    assert!(why.ends_with("nothing was stored; it said: oops"), "{why}");
}

#[tokio::test]
async fn a_pg_dump_that_writes_something_else_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pg_dump = folder.path().join("pg_dump");
    std::os::unix::fs::symlink("/bin/echo", &pg_dump).expect("a link");
    let pg_dump = pg_dump.to_str().expect("a plain path");
    let why = failure(&engine(&[pg_dump, "-Fc"], CommandOptions::default())).await;
    assert!(why.contains("the output is not a pg_dump archive, which begins with PGDMP"), "{why}");
    let why = failure(&engine(&[pg_dump, "--version"], CommandOptions::default())).await;
    assert!(why.contains("the output is not pg_dump text"), "{why}");
}

#[tokio::test]
async fn output_held_by_a_background_process_is_refused_and_the_process_killed() {
    let pids = Pids::new();
    let why = failure(&impatient(&format!("{} echo x", pids.sleeper("")))).await;
    assert!(why.starts_with("sh exited, but a background process still holds its output open"), "{why}");
    pids.assert_dies("sleeper").await;
}

#[tokio::test]
async fn a_background_process_that_never_stops_writing_is_refused() {
    // So slow that there is always something to read.
    let mut slow = Slow { memory: Memory::new(), piece_bytes: 64 * 1024 };
    let engine = impatient("yes & echo x");
    let outcome = tokio::time::timeout(PATIENCE, engine.run(&mut slow)).await.expect("it hangs");
    let Err(Error::DumpFailed(why)) = outcome else { panic!("{outcome:?}") };
    assert!(why.starts_with("sh exited, but a background process still holds its output open"), "{why}");
}

#[tokio::test]
async fn a_background_process_that_lets_go_in_time_is_awaited() {
    let pids = Pids::new();
    let go = pids.file("go");
    let (path, released) = (go.display(), go.clone());
    // The background process writes its last line when the shell has long exited and the first line has been read.
    let script = format!(
        "(while [ ! -e {path} ]; do sleep 0.01; done; echo late) & echo $$ > {}; echo early",
        pids.file("shell").display()
    );
    let engine = engine(&["sh", "-c", &script], CommandOptions { output_grace: PATIENCE, ..CommandOptions::default() });
    let release = async {
        pids.assert_dies("shell").await;
        std::fs::write(released, "").expect("a file");
    };
    let ((_, bytes), ()) = tokio::join!(output(&engine), release);
    assert_eq!(bytes, b"early\nlate\n");
}

#[tokio::test]
async fn what_a_dead_command_left_in_the_pipe_is_read_by_a_slow_reader() {
    let options = CommandOptions { output_grace: Duration::ZERO, ..CommandOptions::default() };
    let mut slow = Slow { memory: Memory::new(), piece_bytes: 64 };
    engine(&["head", "-c", "20000", "/dev/zero"], options).run(&mut slow).await.expect("a good dump");
    assert_eq!(slow.memory.bytes.len(), 20_000);
}

#[tokio::test]
async fn error_output_held_by_a_background_process_hangs_nothing_and_spares_it() {
    let pids = Pids::new();
    let (go, answer) = (pids.file("go"), pids.file("answer"));
    let wait = format!(
        "while [ ! -e {} ]; do sleep 0.01; done; echo 1 > {1}.new; mv {1}.new {1}",
        go.display(),
        answer.display()
    );
    assert_eq!(output(&impatient(&format!("({wait}) >/dev/null & echo x"))).await.1, b"x\n");
    std::fs::write(go, "").expect("a file");
    pids.pid("answer").await;
}

#[tokio::test]
async fn a_command_that_closes_its_output_is_awaited() {
    let why = failure(&impatient("echo x; exec >&-; sleep 1; exit 7")).await;
    assert!(why.starts_with("sh failed with exit status 7"), "{why}");
}

#[tokio::test]
async fn a_failed_command_takes_its_group_with_it() {
    let pids = Pids::new();
    let why = failure(&shell(&format!("{} echo x; exit 4", pids.sleeper("")))).await;
    assert!(why.starts_with("sh failed with exit status 4"), "{why}");
    pids.assert_dies("sleeper").await;
}

#[tokio::test]
async fn a_store_that_fails_kills_the_group() {
    let pids = Pids::new();
    let engine = shell(&format!("{} echo x; wait", pids.sleeper("")));
    let outcome = tokio::time::timeout(PATIENCE, engine.run(&mut Memory::refusing_after(0))).await.expect("it hangs");
    assert!(matches!(outcome, Err(Error::Conflict(_))), "{outcome:?}");
    pids.assert_dies("sleeper").await;
}

#[tokio::test]
async fn dropping_the_dump_kills_the_group() {
    let pids = Pids::new();
    let engine = shell(&format!("echo $$ > {}; {} echo x; wait", pids.file("shell").display(), pids.sleeper("")));
    let mut memory = Memory::new();
    tokio::select! {
        outcome = engine.run(&mut memory) => panic!("{outcome:?}"),
        _ = pids.pid("sleeper") => {}
    }
    pids.assert_dies("sleeper").await;
    pids.assert_dies("shell").await;
}

#[test]
fn debug_output_hides_secrets() {
    let text = format!("{:?}", engine(&["x", "--password=hunter2"], CommandOptions::default()));
    assert!(text.contains("--password=***") && !text.contains("hunter2"), "{text}");
}
