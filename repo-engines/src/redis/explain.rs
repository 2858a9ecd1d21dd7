//! Turns what a server answers, or what keeps it from answering, into one line that says what to do.

use super::url::RedisUrl;
use dedump_core::Error;

/// What a user needs whom a backup is made as.
pub(super) const NEEDED: &str = "+psync +sync +replconf +ping +info";

/// Why a server did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can't be reached, or ended the connection, or answers what is no answer.
    Broken(String),
    /// It answered with an error: its code, `ERR` or `NOPERM`, and the rest of the line.
    Refused(String, String),
    /// Something of ours failed.
    Ours(Error),
}

impl Failure {
    /// Takes an error's line apart.
    pub fn refused(line: &str) -> Self {
        let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
        Failure::Refused(code.to_owned(), rest.to_owned())
    }

    /// Returns whether the user may not, or the server does not have the command.
    pub fn is_not_allowed(&self) -> bool {
        match self {
            Failure::Refused(code, rest) => {
                let rest = rest.to_lowercase();
                code == "NOPERM"
                    || ["unknown command", "not allowed", "disabled", "not supported", "unknown subcommand"]
                        .iter()
                        .any(|word| rest.contains(word))
            }
            _ => false,
        }
    }

    /// Returns the line for people: what was done at which server, and what to do next.
    pub fn explain(&self, url: &RedisUrl) -> String {
        let host = url.host();
        match self {
            Failure::Broken(why) => format!("Redis at {host}: {why}"),
            Failure::Ours(error) => error.to_string(),
            Failure::Refused(code, rest) => match code.as_str() {
                "NOAUTH" => format!(
                    "Redis at {host} wants a password; put it into the URL, into REDISCLI_AUTH, or give it as an option"
                ),
                "WRONGPASS" => format!("Redis at {host} does not take this user and password; correct them"),
                "ERR" if rest.contains("invalid password") => {
                    format!("Redis at {host} does not take this password; correct it")
                }
                "ERR" if rest.contains("without any password configured") => {
                    format!("Redis at {host} has no password; leave it out")
                }
                "LOADING" => format!("Redis at {host} is still loading its data; try again when it has started"),
                "MASTERDOWN" | "NOMASTERLINK" => format!(
                    "Redis at {host} is a replica without its primary, so nobody knows how old its data are; back up the primary"
                ),
                "DENIED" => format!(
                    "Redis at {host} is in protected mode and takes no connections from elsewhere; set a password there"
                ),
                "ERR" if rest.contains("max number of clients") => {
                    format!("Redis at {host} has as many clients as it takes; raise maxclients, or try again")
                }
                "NOPERM" => format!(
                    "Redis at {host} does not let this user do that ({}); grant it: ACL SETUSER NAME {NEEDED}",
                    short(rest)
                ),
                "MISCONF" | "READONLY" | "OOM" | "BUSY" | "NOREPLICAS" => {
                    format!("Redis at {host} takes no writes now: {code} {}", short(rest))
                }
                _ => format!("Redis at {host} answers: {code} {}", short(rest)),
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ours(error)
    }
}

/// Returns the beginning of a line that somebody else wrote.
fn short(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}
