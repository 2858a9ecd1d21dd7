//! PostgreSQL's client tools: which one to run, where, and how it gets the password.
//!
//! A password goes into the tool's environment. Where the tools run elsewhere (`kubectl exec -i pod --`), the environment does
//! not go along: a shell there reads the password from the first line of its input. It is in no argument either way.

use super::url::PostgresUrl;
use crate::child::Invocation;
use dedump_core::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// How the client tools are run.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// A command that runs another elsewhere, such as `kubectl exec -i pod --`; empty stands for here.
    pub via: Vec<OsString>,
    /// The password, if the URL has none and libpq's own ways (`.pgpass`, a service file, `PGPASSWORD`) are not to be used.
    pub password: Option<String>,
    /// The folder of the client tools; without it, `PATH` and then the folders of Debian's packages are searched.
    pub programs: Option<PathBuf>,
    /// Environment variables that the tools do not inherit: those that hold secrets which are none of their business.
    pub env_removed: Vec<OsString>,
    /// Server settings for the sessions, as `PGOPTIONS` has them: `-c NAME=VALUE`.
    pub settings: String,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the password nor a command that may have one.
        f.debug_struct("ClientOptions").field("programs", &self.programs).finish_non_exhaustive()
    }
}

/// The tools for one database.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) url: PostgresUrl,
    options: ClientOptions,
    /// The folder that the tools are in, once that is known.
    folder: Option<PathBuf>,
}

/// Reads the password from the first line of the input, and then becomes the tool.
const READ_PASSWORD: &str = "IFS= read -r PGPASSWORD && export PGPASSWORD && exec \"$@\"";
/// Where the packages of Debian, and of PostgreSQL for it, put the tools of each version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";
/// Major versions that may be met.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=30;
/// Tells a session that our settings reached the server: one behind a pooler may be another's.
pub(super) const MARK_SETTING: &str = "dedump.session";

impl Client {
    pub(crate) fn new(url: PostgresUrl, options: ClientOptions) -> Client {
        let folder = options.programs.clone();
        Client { url, options, folder }
    }

    /// Returns the tools for another database of the same server.
    pub(crate) fn of_database(&self, name: &str) -> Client {
        Client { url: self.url.with_database(name), ..self.clone() }
    }

    /// Returns how to run a tool on the database. `flag` comes before the connection string.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the password can't be handed on.
    pub(crate) fn invocation(&self, tool: &str, flag: &str, arguments: &[OsString]) -> Result<Invocation> {
        self.wrapped(&[], tool, flag, arguments)
    }

    /// As [`Client::invocation`]; the tool is run by a command that is given here, which has the tool's input before it.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) fn wrapped(
        &self,
        wrapper: &[OsString],
        tool: &str,
        flag: &str,
        arguments: &[OsString],
    ) -> Result<Invocation> {
        let password = self.options.password.as_deref().or(self.url.password());
        if password.is_some_and(|password| password.contains(['\n', '\0'])) {
            return Err(Error::Invalid("the database's password has a line end in it; no tool takes that".to_owned()));
        }
        // What limits the time of an application's queries, also by the database's own settings, is not meant for a backup.
        let settings = format!(
            "-c {MARK_SETTING}=1 -c idle_in_transaction_session_timeout=0 -c statement_timeout=0 {}",
            self.options.settings
        );
        let env = [("PGOPTIONS", settings.trim_end()), ("PGAPPNAME", "dedump"), ("PGCLIENTENCODING", "UTF8")];
        let program = match &self.folder {
            Some(folder) => folder.join(tool).into_os_string(),
            None => tool.into(),
        };
        let tail = wrapper.iter().cloned().chain([program, flag.into(), self.url.without_password().into()]);
        let tail = tail.chain(arguments.iter().cloned());
        let mut invocation = Invocation { env_removed: self.options.env_removed.clone(), ..Invocation::default() };
        if self.options.via.is_empty() {
            invocation.argv = tail.collect();
            invocation.env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
            invocation.env.extend(password.map(|password| ("PGPASSWORD".into(), password.into())));
            return Ok(invocation);
        }
        invocation.argv = self.options.via.clone();
        invocation.argv.push("env".into());
        invocation.argv.extend(env.iter().map(|(name, value)| format!("{name}={value}").into()));
        if let Some(password) = password {
            invocation.argv.extend(["sh", "-c", READ_PASSWORD, "sh"].map(OsString::from));
            invocation.input = format!("{password}\n").into_bytes();
        }
        invocation.argv.extend(tail);
        Ok(invocation)
    }

    /// Returns whether the tools run elsewhere.
    pub(crate) fn is_elsewhere(&self) -> bool {
        !self.options.via.is_empty()
    }

    /// Chooses tools that are at least as new as the server, if those of `PATH` are not and others are there.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: there are none; names the package.
    pub(crate) async fn choose(&mut self, server_major: u32) -> Result<u32> {
        let found = match self.version("pg_dump").await {
            Ok(major) if major >= server_major => return Ok(major),
            found => found,
        };
        let what = format!("and the server of {server_major}, which it refuses");
        self.look_for("pg_dump", found, server_major, &what)
    }

    /// Chooses a `pg_restore` that reads what a `pg_dump` of this version wrote.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: there is none; names the package.
    pub(crate) async fn choose_for_restore(&mut self, dump_major: u32) -> Result<u32> {
        let found = match self.version("pg_restore").await {
            Ok(major) if major >= dump_major => return Ok(major),
            found => found,
        };
        let what = format!("and the dump was made by version {dump_major}, which it can't read");
        self.look_for("pg_restore", found, dump_major, &what)
    }

    fn look_for(&mut self, tool: &str, found: Result<u32>, major_min: u32, what: &str) -> Result<u32> {
        let package =
            format!("install the Debian package postgresql-client-{major_min}, or name the folder with --pg-bin");
        let too_old = |major| Error::DumpFailed(format!("{tool} is of version {major} {what}; {package}"));
        let searches = !self.is_elsewhere() && self.options.programs.is_none();
        for major in VERSIONS.filter(|major| searches && *major >= major_min) {
            let folder = PathBuf::from(format!("{DEBIAN_FOLDER}/{major}/bin"));
            if folder.join(tool).exists() {
                self.folder = Some(folder);
                return Ok(major);
            }
        }
        Err(match found {
            Ok(major) => too_old(major),
            Err(error) => Error::DumpFailed(format!("{error}; {package}")),
        })
    }

    /// Returns the major version of a tool.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be run, or says nothing that is a version.
    pub(crate) async fn version(&self, tool: &str) -> Result<u32> {
        let text = self.version_text(tool).await?;
        parse_version(&text)
            .map(|(major, _)| major)
            .ok_or_else(|| Error::DumpFailed(format!("{tool} --version says {text:?}")))
    }

    /// Returns what a tool says of its version.
    ///
    /// # Errors
    /// As [`Client::version`].
    pub(crate) async fn version_text(&self, tool: &str) -> Result<String> {
        let mut invocation = self.invocation(tool, "--version", &[])?;
        // It is the only tool that is run without a database.
        invocation.argv.pop();
        Ok(String::from_utf8_lossy(&invocation.capture(4096).await?).trim().to_owned())
    }
}

/// Reads `pg_dump (PostgreSQL) 15.18 (Debian …)`.
pub(crate) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let (major, rest) = number.split_once(|c: char| !c.is_ascii_digit()).unwrap_or((number, ""));
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(argv: &[OsString]) -> Vec<String> {
        argv.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_password_is_in_the_environment_here_and_in_the_input_elsewhere() {
        let url = PostgresUrl::parse("postgres://me:s3cret@db/app").expect("good");
        let here = Client::new(url.clone(), ClientOptions::default());
        let here = here.invocation("psql", "-d", &["-X".into()]).expect("good");
        assert_eq!(words(&here.argv), ["psql", "-d", "postgres://me@db/app", "-X"]);
        assert!(here.env.contains(&("PGPASSWORD".into(), "s3cret".into())) && here.input.is_empty());

        let via = ["kubectl", "exec", "-i", "pod", "--"].map(OsString::from).to_vec();
        let options = ClientOptions { via, ..ClientOptions::default() };
        let there = Client::new(url, options).invocation("psql", "-d", &[]).expect("good");
        let argv = words(&there.argv);
        assert_eq!(argv[..6], ["kubectl", "exec", "-i", "pod", "--", "env"]);
        assert_eq!(argv[argv.len() - 3..], ["psql", "-d", "postgres://me@db/app"]);
        assert!(argv.iter().all(|word| !word.contains("s3cret")), "{argv:?}");
        assert_eq!(there.input, b"s3cret\n");
        assert!(there.env.is_empty());
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some((15, 18)));
        assert_eq!(parse_version("psql (PostgreSQL) 18beta1"), Some((18, 0)));
        assert_eq!(parse_version("no number"), None);
    }
}
