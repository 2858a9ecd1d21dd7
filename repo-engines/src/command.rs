//! The engine for commands: what a child process writes to its standard output becomes one stream.

use crate::child::{self, End, Ended, Invocation, Listener, Running};
use crate::content::{self, Found};
use crate::gates::{Expected, Watch};
use crate::intake::Intake;
use crate::redact::redact;
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait, check_stream_name};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

/// How long others may hold a command's output open when the command itself has exited.
pub const OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// Backs up what a command writes to its standard output.
///
/// The command is started by the engine itself, without a shell, without input and in a process group of its own. The dump
/// is good only if
///
/// - the command exits with status 0 (and is not killed by a signal),
/// - its output ends: a process left behind in the background that still holds the output could go on writing,
/// - the output is not empty, unless [`CommandOptions::allow_empty`],
/// - and the output's own form does not speak against it (see [`gates`](crate::gates)).
///
/// Dropping the future of [`Engine::dump`] kills the whole process group. So does every failure.
///
/// A shell's exit status is that of its last command only: `sh -c "pg_dump app | sed …"` succeeds though `pg_dump` fails.
/// Give the dump tool itself where possible, else use `bash -o pipefail -c`.
///
/// It must run inside a tokio runtime with I/O and time enabled.
pub struct CommandEngine {
    stream: String,
    argv: Vec<OsString>,
    options: CommandOptions,
    listener: Option<Box<Listener>>,
}

/// Options of a [`CommandEngine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOptions {
    /// Whether no output at all is a good dump. Then, and only then, the other demands on the content fall as well.
    pub allow_empty: bool,
    /// How long others may hold the output open when the command has exited; [`OUTPUT_GRACE`] by default.
    pub output_grace: Duration,
    /// Environment variables that the command does not inherit: those that hold secrets which are none of its business.
    pub env_removed: Vec<OsString>,
}

impl Default for CommandOptions {
    fn default() -> Self {
        CommandOptions { allow_empty: false, output_grace: OUTPUT_GRACE, env_removed: Vec::new() }
    }
}

impl CommandEngine {
    /// Creates an engine that runs `argv`, the program first, and names its output `stream`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there is no program, or there can't be such a stream.
    pub fn new(stream: impl Into<String>, argv: Vec<OsString>, options: CommandOptions) -> Result<Self> {
        let stream = stream.into();
        check_stream_name(&stream)?;
        if argv.first().is_none_or(|program| program.is_empty()) {
            return Err(Error::Invalid("there is no command to run; give one behind --".to_owned()));
        }
        Ok(CommandEngine { stream, argv, options, listener: None })
    }

    /// Hands the command's standard error to `listener`, piece by piece, as it comes. Without a listener it is not shown.
    #[must_use]
    pub fn on_stderr(self, listener: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        CommandEngine { listener: Some(Box::new(listener)), ..self }
    }

    async fn run(&self, intake: &mut impl Intake) -> Result<Found> {
        let CommandOptions { allow_empty, output_grace, env_removed } = self.options.clone();
        let invocation = Invocation { argv: self.argv.clone(), env_removed, ..Invocation::default() };
        let expected = Expected::of_argv(&self.argv);
        let run = Run { stream: &self.stream, expected, allow_empty, grace: output_grace };
        run.take(&invocation, intake, self.listener.as_deref()).await
    }
}

/// How a program's output is taken and judged.
pub(crate) struct Run<'a> {
    pub(crate) stream: &'a str,
    pub(crate) expected: Expected,
    pub(crate) allow_empty: bool,
    pub(crate) grace: Duration,
}

impl Run<'_> {
    /// Runs a program to a good end, its output into the intake.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be started, fails, or its output is not what it should be. What the intake returned.
    pub(crate) async fn take(
        &self,
        invocation: &Invocation,
        intake: &mut impl Intake,
        listener: Option<&Listener>,
    ) -> Result<Found> {
        let running = Running::start(invocation)?;
        let started = std::time::Instant::now();
        let mut watch = Watch::default();
        let ended = running.read_to_end(intake, &mut watch, listener, self.grace).await?;
        judge_end(&child::program_name(&invocation.argv), &ended)?;
        let mut found = content::judge(self.stream, &watch, self.expected, self.allow_empty)
            .map_err(|error| with_last_words(error, &ended.said))?;
        found.verdict.facts.extend(BTreeMap::from([
            ("command".to_owned(), redact(&invocation.argv)),
            ("exit_status".to_owned(), "0".to_owned()),
            ("duration_ms".to_owned(), started.elapsed().as_millis().to_string()),
        ]));
        Ok(found)
    }
}

/// Judges how a program ended.
///
/// # Errors
/// [`Error::DumpFailed`]: not well.
pub(crate) fn judge_end(program: &str, ended: &Ended) -> Result<()> {
    let why = match ended.how {
        End::Status(status) if status.success() => return Ok(()),
        End::Status(status) => format!("{program} {}; nothing was stored", child::describe_failure(status)),
        End::OutputHeld => format!(
            "{program} exited, but a background process still holds its output open, so it is unknown whether the dump \
             is whole; it was killed and nothing was stored; let the command wait for all that it starts"
        ),
    };
    Err(child::failed(&why, &ended.said))
}

/// Adds what the command said last to the error that it caused.
fn with_last_words(error: Error, said: &[u8]) -> Error {
    match (error, child::last_words(said)) {
        (Error::DumpFailed(why), Some(words)) => Error::DumpFailed(format!("{why}; it said: {words}")),
        (error, _) => error,
    }
}

#[async_trait]
impl Engine for CommandEngine {
    fn kind(&self) -> &str {
        "command"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let mut stream = sink.stream(&self.stream).await?;
        let found = self.run(&mut stream).await?;
        stream.finish(found.stream_facts).await?;
        Ok(found.verdict)
    }
}

impl fmt::Debug for CommandEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the arguments as they are: they may hold a secret.
        let command = redact(&self.argv);
        f.debug_struct("CommandEngine").field("stream", &self.stream).field("command", &command).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
