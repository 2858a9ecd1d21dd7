//! Dumps by commands and from standard input, through to the repository: one that failed in any way never becomes a
//! snapshot, a stream is always read to its end, and nothing is left running.

use crate::kit::random::Random;
use crate::kit::watched::{Stop, Watched};
use crate::kit::{create, get_back, in_time, open, run, snapshots};
use dedump_core::limits::{DATA_PACK_BYTES_TARGET, MIB};
use dedump_core::{BackupOptions, Engine, Error, Quality, ReadData, Repository, Result, Snapshot, backup, check};
use dedump_engines::{CommandEngine, CommandOptions, StdinEngine, StdinOptions};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

fn command(argv: &[&str], options: CommandOptions) -> CommandEngine {
    CommandEngine::new("app.dump", argv.iter().map(Into::into).collect(), options).expect("a good command")
}

fn shell(script: &str) -> CommandEngine {
    command(&["sh", "-c", script], CommandOptions::default())
}

fn input(bytes: &[u8]) -> StdinEngine<&[u8]> {
    StdinEngine::with_reader("app.dump", bytes, StdinOptions::default()).expect("a good name")
}

async fn try_backup(repository: &Repository, engine: &dyn Engine) -> Result<Snapshot> {
    let options = BackupOptions::new("app", "host");
    let report = in_time(backup(repository, engine, &options, &())).await;
    report.map(|report| report.snapshot)
}

/// Backs up what must succeed, and returns the snapshot with the bytes that it gives back.
async fn stored(repository: &Repository, engine: &dyn Engine) -> (Snapshot, Vec<u8>) {
    let snapshot = try_backup(repository, engine).await.expect("backs up");
    let mut streams = get_back(repository, &snapshot).await.expect("restores");
    (snapshot, streams.remove("app.dump").expect("the stream has this name"))
}

/// Backs up what must fail as a dump, beside a good snapshot: that stays alone, and nothing else is left. Returns what
/// the user hears.
async fn refused(engine: &dyn Engine) -> String {
    let store = Watched::create();
    let repository = create(store.store()).await.expect("creates");
    let (good, bytes) = stored(&repository, &shell("echo good")).await;
    let outcome = try_backup(&repository, engine).await;
    assert_eq!(snapshots(&repository).await.expect("lists"), std::slice::from_ref(&good));
    let streams = get_back(&repository, &good).await.expect("restores");
    assert_eq!(streams["app.dump"], bytes);
    let marks: Vec<_> = store.names().await.into_iter().filter(|name| name.starts_with("sess")).collect();
    assert_eq!(marks, Vec::<String>::new());
    let report = check(&repository, ReadData::All, &()).await.expect("checks");
    assert_eq!(report.findings, []);
    match outcome {
        Err(Error::DumpFailed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_says(why: &str, words: &[&str]) {
    for words in words {
        assert!(why.contains(words), "{words:?} is not in: {why}");
    }
}

/// A named pipe that processes hold open for as long as they live, with all that they start.
struct Leash {
    folder: tempfile::TempDir,
    pipe: File,
}

impl Leash {
    fn create() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("leash");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo of coreutils starts");
        assert!(made.success());
        let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("the pipe is there");
        Leash { folder, pipe }
    }

    /// Returns a script whose shell holds the leash, and says so.
    fn hold(&self, script: &str) -> String {
        format!("exec 9>'{}'; echo held >&9; {script}", self.folder.path().join("leash").display())
    }

    /// Waits until nobody holds it any more. Returns whether somebody did.
    fn assert_let_go(mut self) -> bool {
        let started = Instant::now();
        let mut said = Vec::new();
        loop {
            match self.pipe.read_to_end(&mut said) {
                Ok(_) => return !said.is_empty(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert!(started.elapsed() < Duration::from_secs(20), "somebody lives on");
            // A process that was killed takes a moment to be gone.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

// ---- A dump that failed ----

#[test]
fn a_command_with_an_exit_status_leaves_no_snapshot() {
    run(async {
        let why = refused(&shell("echo half; echo 'disk on fire' >&2; exit 3")).await;
        assert_eq!(why, "sh failed with exit status 3; nothing was stored; it said: disk on fire");
        // After packs are stored already.
        let why = refused(&shell("head -c 40000000 /dev/urandom; exit 1")).await;
        assert_eq!(why, "sh failed with exit status 1; nothing was stored");
        // After the end of its output.
        let why = refused(&shell("echo all; exec >&-; exit 7")).await;
        assert_eq!(why, "sh failed with exit status 7; nothing was stored");
    });
}

#[test]
fn a_command_that_dies_of_a_signal_leaves_no_snapshot() {
    run(async {
        let why = refused(&shell("echo half; kill -TERM $$")).await;
        assert_eq!(why, "sh was killed by SIGTERM; nothing was stored");
        let why = refused(&shell("echo half; kill -KILL $$")).await;
        assert_says(&why, &["sh was killed by SIGKILL", "want of memory", "nothing was stored"]);
    });
}

#[test]
fn output_that_is_held_open_behind_the_command_leaves_no_snapshot_and_nobody() {
    run(async {
        let leash = Leash::create();
        let options = CommandOptions { output_grace: Duration::from_millis(200), ..CommandOptions::default() };
        let engine = command(&["sh", "-c", &leash.hold("sleep 300 & echo half")], options);
        assert_says(&refused(&engine).await, &["background process still holds its output open", "nothing was stored"]);
        assert!(leash.assert_let_go());
    });
}

#[test]
fn a_command_that_is_not_there_leaves_no_snapshot() {
    run(async {
        let why = refused(&command(&["dedump-no-such-program"], CommandOptions::default())).await;
        assert_says(&why, &["cannot start \"dedump-no-such-program\"", "there is no such program", "PATH"]);
    });
}

#[test]
fn empty_output_leaves_no_snapshot_unless_it_is_allowed() {
    run(async {
        let why = refused(&shell("echo 'nothing to do' >&2")).await;
        assert_says(&why, &["\"app.dump\" is empty, so nothing was stored", "--allow-empty", "it said: nothing to do"]);
        let repository = create(Watched::create().store()).await.expect("creates");
        let allowing = CommandOptions { allow_empty: true, ..CommandOptions::default() };
        let (snapshot, bytes) = stored(&repository, &command(&["true"], allowing)).await;
        assert_eq!((bytes.len(), snapshot.record.quality), (0, Quality::Good));
        assert_says(&snapshot.record.warnings.join("; "), &["\"app.dump\" is empty", "--allow-empty"]);
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 1);
    });
}

#[test]
fn much_error_output_hinders_nothing_and_its_end_is_told() {
    run(async {
        let repository = create(Watched::create().store()).await.expect("creates");
        let script = "echo begin; yes complaint | head -c 3000000 >&2; echo end";
        let (snapshot, bytes) = stored(&repository, &shell(script)).await;
        assert_eq!(bytes, b"begin\nend\n");
        assert_eq!(snapshot.record.facts["exit_status"], "0");
        let why = refused(&shell(&format!("{script}; echo 'last word' >&2; exit 1"))).await;
        assert_says(&why, &["sh failed with exit status 1", "complaint / last word"]);
        assert!(why.len() < 5000, "{} bytes", why.len());
    });
}

// ---- A backup that failed elsewhere ----

/// Backs up what `script` writes into a store that stops before call 0, 1, 2 …, until two commands have run, and so two
/// packs in turn were refused. Each time it is the store that is to blame, and the command is gone with all that it
/// started.
async fn stop_the_store(script: &str) {
    let base = Watched::create();
    create(base.store()).await.expect("creates");
    let (mut started_n, mut calls_n) = (0, 0);
    while started_n < 2 {
        let store = base.fork(Stop::Before(calls_n));
        calls_n += 1;
        let Ok(repository) = open(store.store()).await else { continue };
        let leash = Leash::create();
        let error = try_backup(&repository, &shell(&leash.hold(script))).await.expect_err("the store stops");
        assert!(matches!(error, Error::Store { .. }), "before call {calls_n}: {error:?}");
        assert_says(&error.to_string(), &["cannot ", "the store has stopped"]);
        assert!(store.has_stopped());
        started_n += usize::from(leash.assert_let_go());
        let after = open(store.fork(Stop::Never).store()).await.expect("opens");
        assert_eq!(snapshots(&after).await.expect("lists").len(), 0);
        assert_eq!(check(&after, ReadData::All, &()).await.expect("checks").findings, []);
    }
}

#[test]
fn a_store_that_fails_under_an_endless_dump_is_named_and_ends_it() {
    run(stop_the_store("sleep 300 & cat /dev/urandom"));
}

#[test]
fn a_store_that_fails_under_a_dump_that_pauses_is_named_and_ends_it() {
    // Enough for two packs and what is on its way; then nothing comes that would tell the command or its reader.
    let bytes_n = 2 * DATA_PACK_BYTES_TARGET + 24 * MIB;
    run(stop_the_store(&format!("sleep 300 & head -c {bytes_n} /dev/urandom; sleep 300")));
}

#[test]
fn a_store_that_fails_at_the_commit_is_named_and_no_snapshot_is_there() {
    run(async {
        let base = Watched::create();
        create(base.store()).await.expect("creates");
        let counted = base.fork(Stop::Never);
        try_backup(&open(counted.store()).await.expect("opens"), &shell("echo all")).await.expect("backs up");
        let calls = counted.take_calls();
        let commit = calls.iter().position(|call| call.name.starts_with("snapshots/")).expect("it commits");
        let store = base.fork(Stop::Before(commit));
        let error = try_backup(&open(store.store()).await.expect("opens"), &shell("echo all")).await;
        assert!(matches!(error, Err(Error::Store { .. })), "{error:?}");
        let repository = open(store.fork(Stop::Never).store()).await.expect("opens");
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 0);
    });
}

#[test]
fn a_dropped_backup_ends_its_command() {
    run(async {
        let repository = create(Watched::create().store()).await.expect("creates");
        for script in ["sleep 300 & cat /dev/urandom", "sleep 300 & echo half; sleep 300"] {
            let leash = Leash::create();
            let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
            let engine = shell(&leash.hold(&format!("echo begun >&2; {script}"))).on_stderr(move |_| {
                // Nobody listens once the backup is dropped.
                let _ = sender.send(());
            });
            tokio::select! {
                outcome = try_backup(&repository, &engine) => panic!("{outcome:?}"),
                begun = heard.recv() => assert!(begun.is_some()),
            }
            assert!(leash.assert_let_go());
            assert_eq!(snapshots(&repository).await.expect("lists").len(), 0);
        }
        assert_eq!(check(&repository, ReadData::All, &()).await.expect("checks").findings, []);
    });
}

// ---- Whole streams ----

#[test]
fn a_dump_of_the_same_name_length_and_time_is_read_again() {
    run(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("database");
        let repository = create(Watched::create().store()).await.expect("creates");
        let mut random = Random::seeded(1);
        let (first, second) = (random.text(3_000_000), random.text(3_000_000));
        let argv = ["cat", path.to_str().expect("a plain path")];
        let mut days = Vec::new();
        for bytes in [&first, &second, &first] {
            write_at(&path, bytes, SystemTime::UNIX_EPOCH);
            let (snapshot, back) = stored(&repository, &command(&argv, CommandOptions::default())).await;
            assert!(back == *bytes);
            days.push(snapshot);
            // And so is standard input.
            assert!(stored(&repository, &input(bytes)).await.1 == *bytes);
        }
        let again = get_back(&repository, &days[0]).await.expect("restores");
        assert!(again["app.dump"] == first, "the first day is still what it was");
        assert_eq!(days[2].record.totals.chunks_new_n, 0);
        assert_eq!(snapshots(&repository).await.expect("lists").len(), 6);
    });
}

fn write_at(path: &Path, bytes: &[u8], time: SystemTime) {
    std::fs::write(path, bytes).expect("the folder takes a file");
    File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a file of ours");
}

#[test]
fn an_unchanged_dump_is_read_to_its_end_all_the_same() {
    run(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ends: PathBuf = folder.path().join("ends");
        let script = format!("head -c 20000000 /dev/zero; echo end >> '{}'", ends.display());
        let repository = create(Watched::create().store()).await.expect("creates");
        for runs_n in 1..=3 {
            let (snapshot, bytes) = stored(&repository, &shell(&script)).await;
            assert_eq!((bytes.len(), snapshot.record.totals.bytes), (20_000_000, 20_000_000));
            assert_eq!(std::fs::read_to_string(&ends).expect("it ended").lines().count(), runs_n);
        }
    });
}

// ---- Standard input ----

#[test]
fn standard_input_is_stored_to_its_end_with_a_word_of_warning() {
    run(async {
        let repository = create(Watched::create().store()).await.expect("creates");
        let bytes = Random::seeded(2).text(9_000_000);
        let (snapshot, back) = stored(&repository, &input(&bytes)).await;
        assert!(back == bytes);
        let [warning] = &snapshot.record.warnings[..] else { panic!("{:?}", snapshot.record.warnings) };
        assert_says(warning, &["\"app.dump\" is whole is unknown", "no exit status", "dedump backup -- COMMAND"]);
        assert_eq!(snapshot.record.facts["engine"], "stdin");
    });
}

#[test]
fn standard_input_that_is_empty_or_lost_its_end_leaves_no_snapshot() {
    run(async {
        assert_says(&refused(&input(b"")).await, &["is empty, so nothing was stored", "--allow-empty"]);
        let cut = format!("--\n-- PostgreSQL database dump\n--\n\n{}", "1\tone\n".repeat(1_000_000));
        let why = refused(&input(cut.as_bytes())).await;
        assert_says(&why, &["the dump is incomplete", "does not end with \"-- PostgreSQL database dump complete\""]);
    });
}

#[test]
fn standard_input_that_cannot_be_read_on_leaves_no_snapshot() {
    /// Gives so many pieces, and then fails.
    struct Breaks(Arc<AtomicUsize>);

    impl tokio::io::AsyncRead for Breaks {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            out: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if self.0.fetch_sub(1, Ordering::SeqCst) == 0 {
                return std::task::Poll::Ready(Err(io::Error::other("cable pulled")));
            }
            let bytes_n = out.remaining();
            out.initialize_unfilled().fill(b'x');
            out.advance(bytes_n);
            std::task::Poll::Ready(Ok(()))
        }
    }

    run(async {
        for pieces_n in [0, 1, 9] {
            let reader = Breaks(Arc::new(AtomicUsize::new(pieces_n)));
            let engine = StdinEngine::with_reader("app.dump", reader, StdinOptions::default()).expect("a good name");
            assert_says(&refused(&engine).await, &["cannot read the input: cable pulled", "nothing was stored"]);
        }
    });
}
