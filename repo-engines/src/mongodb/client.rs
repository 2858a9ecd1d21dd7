//! MongoDB's database tools: how they are run, and how they get the URL with the password.
//!
//! The URL goes in as the first line of the tool's input. A shell reads it and hands it on as `--config`, through a pipe that is
//! `/dev/fd/3`, before it becomes the tool: it is in no argument, in no file and in no environment, here and elsewhere.

use super::url::MongoUrl;
use crate::child::{Invocation, failed, last_words};
use dedump_core::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// How the tools are run.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// A command that runs another elsewhere, such as `kubectl exec -i pod --`; empty stands for here.
    pub via: Vec<OsString>,
    /// The password, if the URL has none.
    pub password: Option<String>,
    /// The folder of the tools; without it, `PATH` is searched.
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

/// Reads the URL from the first line of the input, and becomes the tool. What is in a variable is not looked into again.
const READ_CONFIG: &str = "IFS= read -r config && exec \"$@\" 3<<END\n$config\nEND\n";
/// A shell's exit code where there is no such program.
pub(super) const NOT_FOUND: i32 = 127;
pub(super) const PACKAGE: &str =
    "install MongoDB's database tools (mongodb-database-tools, not in Debian), or name their folder with --mongo-bin";

/// The tools for one server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub url: MongoUrl,
    options: ClientOptions,
}

impl Client {
    pub fn new(url: MongoUrl, options: ClientOptions) -> Client {
        Client { url, options }
    }

    /// Returns the tools for another URL.
    pub fn at(&self, url: MongoUrl) -> Client {
        Client { url, ..self.clone() }
    }

    /// Returns how to run a tool.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the password can't be handed on.
    pub fn invocation(&self, tool: &str, arguments: &[String]) -> Result<Invocation> {
        let url = self.url.with_password(self.options.password.as_deref())?;
        let config = serde_json::json!({ "uri": url });
        let mut invocation = self.bare(&["sh", "-c", READ_CONFIG, "sh"], tool, &["--config=/dev/fd/3"]);
        invocation.argv.extend(arguments.iter().map(OsString::from));
        // JSON is YAML, which is what the tools read.
        invocation.input = format!("{config}\n").into_bytes();
        Ok(invocation)
    }

    fn bare(&self, before: &[&str], tool: &str, arguments: &[&str]) -> Invocation {
        let program = match &self.options.programs {
            Some(folder) => folder.join(tool).into_os_string(),
            None => tool.into(),
        };
        let mut argv = self.options.via.clone();
        argv.extend(before.iter().map(OsString::from));
        argv.push(program);
        argv.extend(arguments.iter().map(OsString::from));
        Invocation { argv, env_removed: self.options.env_removed.clone(), ..Invocation::default() }
    }

    /// Returns the version of a tool.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: it can't be run; says what to install.
    pub async fn version(&self, tool: &str) -> Result<String> {
        let invocation = self.bare(&[], tool, &["--version"]);
        let said = invocation.capture(4096).await.map_err(|error| Error::DumpFailed(format!("{error}; {PACKAGE}")))?;
        let said = String::from_utf8_lossy(&said);
        let version = said.lines().find_map(|line| line.split_once("version:")).map(|(_, version)| version.trim());
        version
            .map(str::to_owned)
            .ok_or_else(|| Error::DumpFailed(format!("{tool} --version says no version; {PACKAGE}")))
    }

    /// Says in one line why a tool failed, and what to do.
    pub fn explain(&self, tool: &str, how: &str, said: &[u8]) -> Error {
        let words = last_words(said).unwrap_or_default();
        let at = self.url.host();
        let has = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
        let why = if has(&["AuthenticationFailed", "auth error", "Authentication failed"]) {
            format!("MongoDB at {at} does not take this user and password; correct them, or add authSource to the URL")
        } else if has(&["not authorized", "Unauthorized", "requires authentication"]) {
            let role = if tool == "mongodump" { "backup" } else { "restore, and backup to look at what is there" };
            format!("MongoDB at {at} does not let this user do that; grant it the role {role}: {words}")
        } else if has(&["server selection", "no reachable servers", "connection refused", "no such host"]) {
            format!("no MongoDB answers at {at}; check host, port and TLS: {words}")
        } else if has(&["oplog overflow"]) {
            format!("so much was written to MongoDB at {at} meanwhile that its oplog has run over; enlarge it: {words}")
        } else if has(&["error finding oplog", "error getting oplog", "can't use --oplog", "error determining oplog"]) {
            format!("MongoDB at {at} has no oplog, since it is no member of a replica set; do without: {words}")
        } else {
            return failed(&format!("{tool} {how}"), said);
        };
        Error::DumpFailed(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_url_comes_through_a_pipe_and_is_in_no_argument() {
        let url = MongoUrl::parse("mongodb://me:s3%22cret%24HOME%5C@db/shop").expect("good");
        let client = Client::new(url, ClientOptions::default());
        let mut invocation = client.invocation("cat", &[]).expect("good");
        assert!(invocation.argv.iter().all(|word| !word.to_string_lossy().contains("cret")), "{:?}", invocation.argv);
        // What reads its configuration, and then its input.
        let at = invocation.argv.iter().position(|word| word == "--config=/dev/fd/3").expect("it is there");
        invocation.argv[at] = "/dev/fd/3".into();
        invocation.argv.push("-".into());
        let mut child = Command::new(&invocation.argv[0])
            .args(&invocation.argv[1..])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, &[&invocation.input[..], b"the archive"].concat()).expect("writes");
        drop(stdin);
        let output = child.wait_with_output().expect("ends");
        let expected = format!("{}the archive", String::from_utf8_lossy(&invocation.input));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert!(expected.contains("s3%22cret%24HOME%5C"));
    }
}
