//! A session with the server, held open by a `psql` that is told one statement after another.
//!
//! psql comes with every client package and goes wherever `--via` leads, so no second way to the server is needed. Answers are
//! read line by line; whoever asks makes a row one line, such as by JSON.

use super::client::{Client, MARK_SETTING};
use crate::child::{self, Group};
use dedump_core::{Error, Result};
use std::ffi::OsString;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// Ends every answer.
const END: &str = "-- end of answer --";
/// Begins what the server said of a statement that failed.
const FAILED: &str = "-- failed --";
/// An answer has so many lines at most; more would be held in memory.
const LINES_MAX: usize = 1_000_000;

/// What to do where the tools are missing, as long as the server's version is not known.
const NO_TOOLS: &str =
    "install the Debian package postgresql-client of the server's version, or name the folder with --pg-bin";

/// A session. Dropped before its end, it is killed with whatever it was doing.
pub(crate) struct Session {
    // Before the child: see `child::Running`.
    group: Group,
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
    explain: fn(Error) -> Error,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the server can't be reached, or what is reached is a pooler that hands sessions around.
    pub(crate) async fn open(client: &Client) -> Result<Session> {
        Session::open_explained(client, explain).await
    }

    /// As [`Session::open`]; what is to be done about an error, `explain` adds.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) async fn open_explained(client: &Client, explain: fn(Error) -> Error) -> Result<Session> {
        let arguments =
            ["-X", "-q", "-A", "-t", "--no-password", "-v", "ON_ERROR_STOP=1", "-f", "-"].map(OsString::from);
        let invocation = client.invocation("psql", "-d", &arguments)?;
        let mut command = invocation.command();
        command.stdin(Stdio::piped());
        let (group, mut child) = invocation.spawn(&mut command).map_err(explain)?;
        let mut session = Session {
            group,
            stdin: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("stdout is piped")).lines(),
            stderr: child.stderr.take().expect("stderr is piped"),
            child,
            explain,
        };
        session.tell(&String::from_utf8_lossy(&invocation.input)).await?;
        session.ask("SET client_min_messages = error").await?;
        // Of PostgreSQL 17 and later; older ones would not connect with it among their settings.
        let no_limit = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";
        session.ask(no_limit).await?;
        let mark = session.ask(&format!("SELECT current_setting('{MARK_SETTING}', true)")).await?;
        if mark != ["1"] {
            return Err(Error::DumpFailed(
                "what answers is a connection pooler that keeps our settings from the server, so a dump through it could not \
                 hold one moment; connect to the server itself"
                    .to_owned(),
            ));
        }
        Ok(session)
    }

    /// Runs a statement and returns the lines that it prints.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it failed, and the session has ended; or the session had ended.
    pub(crate) async fn ask(&mut self, statement: &str) -> Result<Vec<String>> {
        self.tell(&format!("{statement}\n;\n\\echo {END}\n")).await?;
        self.answer().await
    }

    /// Tries statements that may fail; the session goes on either way. Returns what the server said of the first that failed;
    /// those behind it are sent all the same, and even if this process is killed meanwhile.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the session has ended.
    pub(crate) async fn attempt(&mut self, statements: &[String]) -> Result<Option<String>> {
        let said = format!("\\if :ERROR\n\\echo {FAILED} :LAST_ERROR_MESSAGE\n\\endif");
        let each = |statement: &String| format!("{statement}\n;\n{said}\n");
        let script: String = statements.iter().map(each).collect();
        self.tell(&format!("\\set ON_ERROR_STOP off\n{script}\\set ON_ERROR_STOP on\n\\echo {END}\n")).await?;
        let lines = self.answer().await?;
        let mut failed = lines.iter().skip_while(|line| !line.starts_with(FAILED));
        let Some(first) = failed.next() else { return Ok(None) };
        let more = failed.take_while(|line| !line.starts_with(FAILED)).map(|line| format!(" / {line}"));
        Ok(Some(format!("{}{}", first[FAILED.len()..].trim(), more.collect::<String>())))
    }

    /// Writes to psql's input as it is: rows of a `COPY`, a script. The answer comes with the next [`Session::ask`].
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: the session has ended.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { return Err(self.failure().await) };
        match stdin.write_all(bytes).await {
            Ok(()) => Ok(()),
            // It has ended: why, it said on its way.
            Err(_) => Err(self.failure().await),
        }
    }

    async fn answer(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            match self.answers.next_line().await {
                Ok(Some(line)) if line == END => return Ok(lines),
                Ok(Some(line)) if lines.len() < LINES_MAX => lines.push(line),
                Ok(Some(_)) => {
                    return Err(Error::DumpFailed(format!("the server answers with more than {LINES_MAX} rows")));
                }
                Ok(None) => return Err(self.failure().await),
                Err(error) => return Err(Error::DumpFailed(format!("cannot read what psql answers: {error}"))),
            }
        }
    }

    /// As [`Session::ask`], for what has one line.
    ///
    /// # Errors
    /// Likewise; or it has another number of lines.
    pub(crate) async fn ask_one(&mut self, statement: &str) -> Result<String> {
        let mut lines = self.ask(statement).await?;
        match (lines.pop(), lines.is_empty()) {
            (Some(line), true) => Ok(line),
            _ => Err(Error::DumpFailed(format!("the server does not answer with one line: {statement}"))),
        }
    }

    /// Ends the session well.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it did not end well.
    pub(crate) async fn close(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status =
            self.child.wait().await.map_err(|error| Error::DumpFailed(format!("cannot wait for psql: {error}")))?;
        if !status.success() {
            return Err(self.failure().await);
        }
        self.group.spare();
        Ok(())
    }

    async fn tell(&mut self, text: &str) -> Result<()> {
        self.write(text.as_bytes()).await
    }

    async fn failure(&mut self) -> Error {
        let mut said = Vec::new();
        child::listen(&mut self.stderr, &mut said, None).await;
        let how = self.child.wait().await.map_or_else(|error| error.to_string(), child::describe_failure);
        (self.explain)(child::failed(&format!("psql {how}"), &said))
    }
}

/// Adds what to do to what PostgreSQL's tools say, where it is known.
pub(crate) fn explain(error: Error) -> Error {
    const KNOWN: &[(&str, &str)] = &[
        ("no password supplied", "put the password into ~/.pgpass, or give --db-password-file"),
        ("password authentication failed", "check the user, and the password in ~/.pgpass or --db-password-file"),
        ("unsupported startup parameter", "this is PgBouncer or a pooler like it; connect to the server itself"),
        ("could not translate host name", "check the host's name in the URL"),
        ("No such file or directory", "check the host and the port in the URL, and that the server runs"),
        ("Connection refused", "check the host and the port in the URL, and that the server runs"),
        ("there is no such program", NO_TOOLS),
        ("permission denied for", "grant it, or the role pg_read_all_data, to the user who backs up"),
        (
            "server version mismatch",
            "install the client package of the server's version, or name its folder with --pg-bin",
        ),
        ("would be affected by row-level security", "dump as a user with BYPASSRLS, or rows would be missing"),
    ];
    hinted(error, KNOWN)
}

/// Adds what to do to an error that has known words.
pub(crate) fn hinted(error: Error, known: &[(&str, &str)]) -> Error {
    let Error::DumpFailed(why) = error else { return error };
    // What was explained once comes by again on its way up.
    let hint = known.iter().find(|(said, _)| why.contains(said)).filter(|(_, hint)| !why.contains(hint));
    Error::DumpFailed(match hint {
        Some((_, hint)) => format!("{why}; {hint}"),
        None => why,
    })
}
