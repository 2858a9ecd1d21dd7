//! How a database is reached: its tools, and its password.

use crate::exit::Failure;
use crate::sources::DATABASES;
use crate::{args, secret};
use clap::Args;
use dedump_engines::postgres::ClientOptions;
use std::env::VarError;
use std::path::PathBuf;

/// How a database's tools are run.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// Run the database's tools elsewhere, by a command such as "kubectl exec -i POD --" or "docker exec -i CONTAINER"
    ///
    /// It is split into words as a shell would, and must hand words on as they are (ssh does not). It must not allocate a terminal
    /// (no -t): that changes bytes. The password goes in through standard input.
    #[arg(long, value_name = "COMMAND", help_heading = DATABASES)]
    via: Option<String>,
    /// Read the database's password from this file's only line
    ///
    /// Without it, the engines' own ways serve: ~/.pgpass, a service file, PGPASSWORD; ~/.my.cnf, MYSQL_PWD; REDISCLI_AUTH;
    /// CLICKHOUSE_PASSWORD. A password in a URL works and is
    /// not stored, but other users of this machine see command lines.
    #[arg(long, value_name = "FILE", help_heading = DATABASES)]
    db_password_file: Option<PathBuf>,
    /// Take the database's password from what this command prints
    #[arg(long, value_name = "COMMAND", help_heading = DATABASES, conflicts_with = "db_password_file")]
    db_password_command: Option<String>,
    /// The folder of PostgreSQL's client tools [default: PATH, then /usr/lib/postgresql/VERSION/bin]
    #[arg(long, value_name = "DIR", help_heading = DATABASES)]
    pg_bin: Option<PathBuf>,
}

impl ClientArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--via", self.via.is_some()),
            ("--db-password-file", self.db_password_file.is_some()),
            ("--db-password-command", self.db_password_command.is_some()),
            ("--pg-bin", self.pg_bin.is_some()),
        ];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag)
    }

    /// Returns the first flag that was given and is about PostgreSQL's tools.
    pub fn first_of_postgres(&self) -> Option<&'static str> {
        [("--via", self.via.is_some()), ("--pg-bin", self.pg_bin.is_some())]
            .iter()
            .find(|(_, is_given)| *is_given)
            .map(|(flag, _)| *flag)
    }

    /// Returns whether a flag gives a password.
    pub fn has_password(&self) -> bool {
        self.db_password_file.is_some() || self.db_password_command.is_some()
    }

    /// Returns the password that a flag gives.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn password(&self) -> Result<Option<String>, Failure> {
        secret::of_database(self.db_password_file.as_deref(), self.db_password_command.as_deref())
    }

    /// Returns how the tools are to be run.
    ///
    /// # Errors
    /// `--via` can't be, or the password cannot be had.
    pub fn options(&self) -> Result<ClientOptions, Failure> {
        let via = match &self.via {
            None => Vec::new(),
            Some(text) => args::words(text).map_err(|why| Failure::usage(format!("--via: {why}")))?,
        };
        if let Some(flag) = via.iter().map(|word| word.to_string_lossy()).find(|word| asks_for_terminal(word)) {
            return Err(Failure::usage(format!(
                "--via: leave {flag} out; a terminal changes bytes, and -i alone is needed"
            )));
        }
        Ok(ClientOptions {
            via,
            password: self.password()?,
            programs: self.pg_bin.clone(),
            env_removed: secret::PASSWORD_VARIABLES.map(Into::into).to_vec(),
            settings: match std::env::var("PGOPTIONS") {
                Ok(settings) => settings,
                Err(VarError::NotPresent) => String::new(),
                Err(VarError::NotUnicode(_)) => return Err(Failure::usage("PGOPTIONS is not UTF-8; mend or unset it")),
            },
        })
    }
}

/// Returns whether a word is the flag by which kubectl, docker and ssh allocate a terminal: `-t`, `-it`, `-tt`, `--tty`.
fn asks_for_terminal(word: &str) -> bool {
    let letters = word.strip_prefix('-').unwrap_or_default();
    let is_short = letters.contains('t') && letters.chars().all(|letter| "it".contains(letter));
    is_short || word == "--tty" || word.strip_prefix("--tty=").is_some_and(|value| value != "false")
}
