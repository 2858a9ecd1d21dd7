//! A child process and its whole process group: started, read to the end, reaped; killed if we give up on it.

use crate::gates::Watch;
use crate::intake::Intake;
use crate::redact::redact_text;
use dedump_core::{Error, Result};
#[cfg(target_os = "linux")]
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// Size that is asked for the pipe from the child, in bytes; Linux gives it to anybody. Larger pieces, fewer wake-ups.
pub(crate) const PIPE_BYTES: usize = 1024 * 1024;
/// A shorter piece than this is not worth a read of its own: most tools write 4 KiB at a time, and to wake up for each costs more
/// than to take them in.
const PIECE_BYTES_MIN: usize = 128 * 1024;
/// How long the pipe is left to fill then. A whole pipe in this time is 1 GB/s, and whoever is that fast writes no short pieces.
const FILLING: Duration = Duration::from_millis(1);
/// How much of what the child said last is kept for the error message, in bytes.
const STDERR_KEPT_BYTES: usize = 4 * 1024;
/// How many of its last lines are shown there.
const LAST_LINES_MAX: usize = 10;
/// How long the error output may be held open behind the child's end. What the child itself said is there at once; this is
/// for the last words of others in its group.
const STDERR_GRACE: Duration = Duration::from_secs(1);

/// Is handed what a child writes to its standard error, as it comes.
pub(crate) type Listener = dyn Fn(&[u8]) + Send + Sync;

/// A program, and what it is started with.
#[derive(Default)]
pub(crate) struct Invocation {
    /// The program and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// Environment variables that it gets besides ours; they may hold a secret.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Environment variables of ours that it does not get.
    pub(crate) env_removed: Vec<OsString>,
    /// What it reads from its standard input: nothing, or a line or two.
    pub(crate) input: Vec<u8>,
}

impl Invocation {
    /// Returns the command to start, in a process group of its own.
    pub(crate) fn command(&self) -> Command {
        let (program, arguments) = self.argv.split_first().expect("an engine is not made without a program");
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in &self.env_removed {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be started; says which, and what next.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<(Group, Child)> {
        let child = command.spawn().map_err(|error| cannot_start(&self.argv[0], &error))?;
        let group = Group { leader: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) };
        Ok((group, child))
    }

    /// Runs it to a good end and returns its output, of so many bytes at most.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be started, fails, or prints more.
    pub(crate) async fn capture(&self, bytes_max: usize) -> Result<Vec<u8>> {
        let Running { group, mut child, stdout, mut stderr } = Running::start(self)?;
        let mut group = group;
        let (mut output, mut said) = (Vec::new(), Vec::new());
        let mut stdout = stdout.take(bytes_max as u64 + 1);
        let (read, ()) = tokio::join!(stdout.read_to_end(&mut output), listen(&mut stderr, &mut said, None));
        read.map_err(cannot_read)?;
        let program = program_name(&self.argv);
        if output.len() > bytes_max {
            return Err(Error::DumpFailed(format!("{program} prints more than {bytes_max} bytes")));
        }
        let status =
            child.wait().await.map_err(|error| Error::DumpFailed(format!("cannot wait for {program}: {error}")))?;
        if !status.success() {
            return Err(failed(&format!("{program} {}", describe_failure(status)), &said));
        }
        group.spare();
        Ok(output)
    }
}

/// Says what failed, and what it said last.
pub(crate) fn failed(what: &str, said: &[u8]) -> Error {
    Error::DumpFailed(match last_words(said) {
        Some(words) => format!("{what}; it said: {words}"),
        None => what.to_owned(),
    })
}

/// A child that runs. Dropped before [`Running::read_to_end`] has found a good end, its group is killed.
pub(crate) struct Running {
    // Before the child: the group must be killed while the child, unreaped, still holds its number.
    group: Group,
    child: Child,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

/// How a child ended, and its last words.
pub(crate) struct Ended {
    pub(crate) how: End,
    pub(crate) said: Vec<u8>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It exited, and its output ended.
    Status(ExitStatus),
    /// It exited well, but somebody else still holds its output open.
    OutputHeld,
}

impl Running {
    /// Starts a program in a process group of its own.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be started; says which, and what next.
    pub(crate) fn start(invocation: &Invocation) -> Result<Running> {
        let mut command = invocation.command();
        command.stdin(if invocation.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let (group, mut child) = invocation.spawn(&mut command)?;
        if let Some(stdin) = child.stdin.take() {
            // A line or two fit into the empty pipe. A child that does not want them says so itself.
            let _ = stdin.into_owned_fd().and_then(|pipe| File::from(pipe).write_all(&invocation.input));
        }
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        enlarge_pipe(&stdout);
        Ok(Running { group, child, stdout, stderr })
    }

    /// Moves all of the child's output into the intake, under the watch's eyes, and waits for the child's end; its error
    /// output goes to the listener meanwhile.
    ///
    /// Others may hold the output open when the child has ended: they get `grace` to let go.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the output can't be read. What the intake returned. Either way, the group has been killed.
    pub(crate) async fn read_to_end(
        self,
        intake: &mut impl Intake,
        watch: &mut Watch,
        listener: Option<&Listener>,
        grace: Duration,
    ) -> Result<Ended> {
        let Running { group, mut child, stdout, mut stderr } = self;
        let mut group = group; // declared last, dropped first
        let mut said = Vec::new();
        let how = {
            let listening = std::pin::pin!(listen(&mut stderr, &mut said, listener));
            let pumping = std::pin::pin!(pump(&mut child, stdout, intake, watch, grace));
            match futures::future::select(pumping, listening).await {
                futures::future::Either::Left((how, listening)) => {
                    let how = how?;
                    if how == End::OutputHeld {
                        group.kill();
                    }
                    // Held open by somebody who outlives the child: that is allowed, and what he says is not awaited.
                    timeout(STDERR_GRACE.min(grace), listening).await.unwrap_or(());
                    how
                }
                futures::future::Either::Right(((), pumping)) => pumping.await?,
            }
        };
        if how == End::Status(ExitStatus::default()) {
            group.spare();
        }
        Ok(Ended { how, said })
    }
}

/// Moves the output into the intake and waits for the child's end.
async fn pump(
    child: &mut Child,
    mut stdout: ChildStdout,
    intake: &mut impl Intake,
    watch: &mut Watch,
    grace: Duration,
) -> Result<End> {
    let pipe_bytes = pipe_bytes(&stdout);
    let mut late_bytes = 0;
    let mut all_bytes = 0;
    let mut exited: Option<(ExitStatus, Instant)> = None;
    loop {
        let deadline = exited.map(|(_, deadline)| deadline);
        let spare_bytes = intake.spare().len();
        let read = tokio::select! {
            biased;
            status = child.wait(), if exited.is_none() => {
                let status = status.map_err(|error| Error::DumpFailed(format!("cannot wait for the command: {error}")))?;
                if !status.success() {
                    return Ok(End::Status(status));
                }
                exited = Some((status, Instant::now() + grace));
                continue;
            }
            read = stdout.read(intake.spare()) => read.map_err(cannot_read)?,
            () = until(deadline) => return Ok(End::OutputHeld),
        };
        if read == 0 {
            break;
        }
        watch.feed(&intake.spare()[..read]);
        intake.advance(read).await?;
        all_bytes += read;
        // A pipe that the system has left small, or a short output, would be slowed down.
        let is_large = pipe_bytes >= PIPE_BYTES && all_bytes >= PIPE_BYTES;
        if read < PIECE_BYTES_MIN.min(spare_bytes) && is_large && exited.is_none() {
            tokio::time::sleep(FILLING).await;
        }
        if let Some(deadline) = deadline {
            // What the child itself wrote fits into the pipe; what comes on top is somebody else's.
            late_bytes += read;
            if late_bytes > pipe_bytes && Instant::now() > deadline {
                return Ok(End::OutputHeld);
            }
        }
    }
    match exited {
        Some((status, _)) => Ok(End::Status(status)),
        // It has closed its output and goes on working; its status is worth any wait.
        None => child
            .wait()
            .await
            .map(End::Status)
            .map_err(|error| Error::DumpFailed(format!("cannot wait for the command: {error}"))),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Reads the error output to its end, hands it on, and keeps its last bytes.
pub(crate) async fn listen(stderr: &mut (impl AsyncRead + Unpin), said: &mut Vec<u8>, listener: Option<&Listener>) {
    let mut piece = [0; STDERR_KEPT_BYTES];
    // An error output that can't be read is no reason to fail a dump: the exit status judges it.
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        if let Some(listener) = listener {
            listener(&piece[..read]);
        }
        said.extend_from_slice(&piece[..read]);
        said.drain(..said.len().saturating_sub(STDERR_KEPT_BYTES));
    }
}

/// The process group that a child leads. Killed on drop unless spared.
pub(crate) struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn kill(&mut self) {
        if let Some(leader) = self.leader.take() {
            // It fails if nobody of the group is left, and that is what we want.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }

    /// Lets those who are left of the group live.
    pub(crate) fn spare(&mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Enlarges a pipe where the system allows it; a smaller one is slower, not worse.
#[cfg(target_os = "linux")]
pub(crate) fn enlarge_pipe(pipe: impl AsFd) {
    // Refused for what is no pipe, and for users who have used up their share of pipe memory.
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
}

/// Returns how much a pipe holds at most, in bytes.
#[cfg(target_os = "linux")]
fn pipe_bytes(pipe: impl AsFd) -> usize {
    fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok().and_then(|bytes_n| usize::try_from(bytes_n).ok()).unwrap_or(PIPE_BYTES)
}

/// Leaves a pipe as it is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn enlarge_pipe(_: impl AsFd) {}

/// Returns more than a pipe holds elsewhere.
#[cfg(not(target_os = "linux"))]
fn pipe_bytes(_: impl AsFd) -> usize {
    PIPE_BYTES
}

fn cannot_read(error: io::Error) -> Error {
    Error::DumpFailed(format!("cannot read the command's output: {error}"))
}

fn cannot_start(program: &OsString, error: &io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such program; check its name and PATH, or name it with its full path".to_owned()
        }
        io::ErrorKind::PermissionDenied => "it is not executable; check its path and permissions".to_owned(),
        _ => format!("{error}; try it in a shell"),
    };
    Error::DumpFailed(format!("cannot start {program:?}: {why}"))
}

/// Returns the name of a program, without its folder.
pub(crate) fn program_name(argv: &[OsString]) -> String {
    let program = argv.first().map(Path::new).unwrap_or(Path::new(""));
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

/// Says how a child failed, in one line: `exited with status 1`, `was killed by SIGKILL`.
pub(crate) fn describe_failure(status: ExitStatus) -> String {
    let mut text = match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {number}"),
        },
        (None, None) => format!("failed: {status}"),
    };
    if status.signal() == Some(Signal::SIGKILL as i32) {
        text.push_str(", perhaps for want of memory");
    }
    if status.core_dumped() {
        text.push_str(" and dumped its core");
    }
    text
}

/// Makes one readable line of a child's last words, or nothing if it said nothing.
pub(crate) fn last_words(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    // What begins amid a word was cut there; half a secret could not be told from other words.
    let whole = if said.len() < STDERR_KEPT_BYTES { 0 } else { text.find(char::is_whitespace).unwrap_or(text.len()) };
    let lines: Vec<&str> = text[whole..].split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let last_lines = lines[lines.len().saturating_sub(LAST_LINES_MAX)..].join(" / ");
    let mut words = String::new();
    for c in last_lines.chars() {
        match c {
            '\t' => words.push(' '),
            c if c.is_control() => write!(words, "\\x{:02x}", u32::from(c)).expect("a string takes everything"),
            c => words.push(c),
        }
    }
    if words.is_empty() { None } else { Some(redact_text(&words)) }
}
