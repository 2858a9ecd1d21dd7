//! The client tools of MariaDB and MySQL: which ones there are, where they run, and how they get the password.
//!
//! A password goes into an option file that is no file: a shell reads it from the first line of its input, and opens for the tool
//! a pipe with the option file's text, which the tool finds as `/dev/fd/3`. So it is in no argument, no environment and on no
//! disk, here as well as where `--via` leads. The tool is told `--defaults-file`, not `--defaults-extra-file`: what is in the
//! user's own `~/.my.cnf` would win over the latter. Without a password from us, the tools read their option files as ever.

use super::url::MysqlUrl;
use crate::child::Invocation;
use dedump_core::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// How the client tools are run.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// A command that runs another elsewhere, such as `kubectl exec -i pod --`; empty stands for here.
    pub via: Vec<OsString>,
    /// The password, if the URL has none and the tools' own ways (`~/.my.cnf`, `MYSQL_PWD`) are not to be used.
    pub password: Option<String>,
    /// The folder of the client tools; without it, `PATH` is searched.
    pub programs: Option<PathBuf>,
    /// Environment variables that the tools do not inherit: those that hold secrets which are none of their business.
    pub env_removed: Vec<OsString>,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the password nor a command that may have one.
        f.debug_struct("ClientOptions").field("programs", &self.programs).finish_non_exhaustive()
    }
}

/// Whose tools, or whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    /// Tells it from what a tool or a server says of its version.
    pub(super) fn of(version: &str) -> Flavour {
        if version.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Flavour::MariaDb => "MariaDB",
            Flavour::MySql => "MySQL",
        }
    }
}

/// A version: `10.11.19`.
pub(super) type Version = (u32, u32, u32);

/// A tool of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Dump,
    Client,
}

/// The tools for one server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) url: MysqlUrl,
    pub(super) options: ClientOptions,
    pub(super) flavour: Flavour,
    /// What the dump tool says of its version.
    pub(super) version: String,
    /// Whether the tools are called by their old names.
    is_old_name: bool,
    /// What the tools say that they understand.
    dump_help: String,
    client_help: String,
}

/// Reads a line of an option file, and becomes the tool, which finds it in `/dev/fd/3`.
const READ_PASSWORD: &str = "IFS= read -r line && exec 3<<END && exec \"$@\"\n[client]\n$line\nEND\n";
const OPTION_FILE: &str = "--defaults-file=/dev/fd/3";
const NO_TOOLS: &str =
    "install the Debian package mariadb-client, or name the folder of mariadb-dump or mysqldump with --mysql-bin";
/// What a tool says of itself, at most.
const HELP_BYTES_MAX: usize = 1 << 20;

impl Client {
    /// Finds the tools.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: there are none; names the package. [`Error::Invalid`]: the password can't be handed on.
    pub(super) async fn find(url: MysqlUrl, options: ClientOptions) -> Result<Client> {
        let password = options.password.as_deref().or(url.password());
        if password.is_some_and(|password| password.contains(['\n', '\r', '\0'])) {
            return Err(Error::Invalid("the database's password has a line end in it; no tool takes that".to_owned()));
        }
        let mut client = Client {
            url,
            options,
            flavour: Flavour::MariaDb,
            version: String::new(),
            is_old_name: false,
            dump_help: String::new(),
            client_help: String::new(),
        };
        if let Err(error) = client.look().await {
            client.is_old_name = true;
            client.look().await.map_err(|_| match error {
                Error::DumpFailed(why) => Error::DumpFailed(format!("{why}; {NO_TOOLS}")),
                error => error,
            })?;
        }
        Ok(client)
    }

    /// Changes to MySQL's own tools for a server of MySQL's, if they are there: MariaDB's do not know all of it.
    ///
    /// # Errors
    /// None so far.
    pub(super) async fn choose(&mut self, server: Flavour) -> Result<()> {
        if server == Flavour::MariaDb || self.flavour == Flavour::MySql || self.is_old_name {
            return Ok(());
        }
        let mut other = Client { is_old_name: true, ..self.clone() };
        if other.look().await.is_ok() && other.flavour == Flavour::MySql {
            *self = other;
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        let say = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        self.version = say(self.about(Tool::Dump, "--version").capture(HELP_BYTES_MAX).await?);
        self.flavour = Flavour::of(&self.version);
        self.dump_help = say(self.about(Tool::Dump, "--help").capture(HELP_BYTES_MAX).await?);
        self.client_help = say(self.about(Tool::Client, "--help").capture(HELP_BYTES_MAX).await?);
        Ok(())
    }

    /// Returns whether a tool knows an option.
    pub(super) fn knows(&self, tool: Tool, option: &str) -> bool {
        let help = if tool == Tool::Dump { &self.dump_help } else { &self.client_help };
        help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '[')).any(|word| word == option)
    }

    /// Returns what a tool is called, for people.
    pub(super) fn tool_name(&self, tool: Tool) -> &'static str {
        match (tool, self.is_old_name) {
            (Tool::Dump, false) => "mariadb-dump",
            (Tool::Client, false) => "mariadb",
            (Tool::Dump, true) => "mysqldump",
            (Tool::Client, true) => "mysql",
        }
    }

    fn program(&self, tool: Tool) -> OsString {
        match &self.options.programs {
            Some(folder) => folder.join(self.tool_name(tool)).into_os_string(),
            None => self.tool_name(tool).into(),
        }
    }

    fn about(&self, tool: Tool, flag: &str) -> Invocation {
        let argv = self.options.via.iter().cloned().chain([self.program(tool), "--no-defaults".into(), flag.into()]);
        Invocation { argv: argv.collect(), env_removed: self.env_removed(), ..Invocation::default() }
    }

    fn env_removed(&self) -> Vec<OsString> {
        self.options.env_removed.clone()
    }

    /// Returns how to run a tool on the server; `input` of the invocation goes before anything else that it is told.
    pub(super) fn invocation(&self, tool: Tool, arguments: &[OsString]) -> Invocation {
        let password = self.options.password.as_deref().or(self.url.password());
        let mut invocation = Invocation { env_removed: self.env_removed(), ..Invocation::default() };
        invocation.argv = self.options.via.clone();
        if let Some(password) = password {
            invocation.argv.extend(["sh", "-c", READ_PASSWORD, "sh"].map(OsString::from));
            invocation.input = format!("password={}\n", as_option(password)).into_bytes();
        }
        invocation.argv.push(self.program(tool));
        invocation.argv.extend(password.map(|_| OPTION_FILE.into()));
        invocation.argv.extend(self.url.arguments(self.flavour));
        invocation.argv.push("--default-character-set=utf8mb4".into());
        invocation.argv.push("--max-allowed-packet=1G".into());
        invocation.argv.extend(arguments.iter().cloned());
        invocation
    }

    /// Returns how to run the client on a database, or on none.
    pub(super) fn session(&self, database: Option<&str>) -> Invocation {
        // It ends at the first error, and it keeps the comments in what is created, which older ones leave out.
        let usual = ["--batch", "--skip-column-names", "--quick", "--skip-force", "--unbuffered", "--comments"];
        let mut arguments: Vec<OsString> = usual.map(OsString::from).to_vec();
        arguments.extend(self.knows(Tool::Client, "--skip-reconnect").then_some("--skip-reconnect".into()));
        // A dump from a hostile server can't have the client run commands then.
        arguments.extend(self.knows(Tool::Client, "--sandbox").then_some("--sandbox".into()));
        arguments.extend(database.map(|database| format!("--database={database}").into()));
        self.invocation(Tool::Client, &arguments)
    }
}

/// Writes a value as an option file has it. What could end it, or begin a comment, is escaped or stands in quotes.
fn as_option(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t");
    format!("\"{escaped}\"")
}

/// Reads the version out of what a tool or a server says: `10.11.19-MariaDB`, `mysqldump  Ver 8.0.36 for Linux`.
pub(super) fn parse_version(text: &str) -> Option<Version> {
    let text = text.split_once("Distrib ").or_else(|| text.split_once("from ")).map_or(text, |(_, rest)| rest);
    // What MariaDB's servers say to old clients.
    let text = text.strip_prefix("5.5.5-").unwrap_or(text);
    let number = text
        .split([' ', ',', '-'])
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.').map(|part| part.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let check = |text, version, flavour| {
            assert_eq!((parse_version(text), Flavour::of(text)), (Some(version), flavour), "{text}");
        };
        check(
            "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)",
            (10, 11, 19),
            Flavour::MariaDb,
        );
        check("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)", (11, 4, 2), Flavour::MariaDb);
        check("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", (8, 0, 36), Flavour::MySql);
        check("5.5.5-10.11.19-MariaDB-0+deb12u1-log", (10, 11, 19), Flavour::MariaDb);
        check("5.6.24-log", (5, 6, 24), Flavour::MySql);
        check("8.4.0", (8, 4, 0), Flavour::MySql);
        assert_eq!(parse_version("no number"), None);
    }

    #[test]
    fn an_option_file_keeps_a_password_together() {
        assert_eq!(as_option(r#"a"b\c # 'd"#), r#""a\"b\\c # 'd""#);
    }
}
