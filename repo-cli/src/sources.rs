//! Sources as the command line names them: `NAME=postgres://…`, `cmd:…`.

use crate::exit::Failure;
use crate::redis::{self, RedisArgs};
use crate::{args, secret};
use clap::{Args, ValueEnum};
use dedump_core::Engine;
use dedump_engines::files::{FilesEngine, FilesOptions};
use dedump_engines::postgres::{ClientOptions, DumpPart, PostgresEngine, PostgresOptions};
use dedump_engines::redis::{RedisEngine, RedisOptions};
use dedump_engines::sqlite::{SqliteEngine, SqliteOptions};
use dedump_engines::{CommandEngine, CommandOptions, Source};
use std::env::VarError;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// What hears of the standard error of dump tools.
pub type Listener = Arc<dyn Fn(&[u8]) + Send + Sync>;

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
    /// Without it, the engines' own ways serve: ~/.pgpass, a service file, PGPASSWORD; REDISCLI_AUTH. A password in a URL works and is
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

/// Which sources, and how databases among them are dumped.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Keep the other sources when one fails, and the other files when one can't be read; the snapshot is partial then, and the
    /// exit code 3
    #[arg(long, help_heading = SOURCES)]
    partial: bool,
    /// Back up this source alone, by its name; may be repeated
    #[arg(long, value_name = "SOURCE", help_heading = SOURCES)]
    only: Vec<String>,
    /// Leave this source out, by its name; may be repeated
    #[arg(long, value_name = "SOURCE", help_heading = SOURCES, conflicts_with = "only")]
    skip: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
    /// Back up only what matches the pattern, as .gitignore has it; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = FILES)]
    include: Vec<String>,
    /// Leave out what matches the pattern, like *.log, cache/ or /etc/ssl; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = FILES)]
    exclude: Vec<String>,
    /// Read every file, also those whose size, times and inode are as they were
    #[arg(long, help_heading = FILES)]
    rescan: bool,
    /// Do not go into directories on which another file system is mounted
    #[arg(long, help_heading = FILES)]
    one_file_system: bool,
    /// Take directories of databases as files: for those whose server is stopped
    #[arg(long, help_heading = FILES)]
    databases_as_files: bool,
    /// Streams to dump side by side; more than one gives every table from 8 MiB on a stream of its own
    #[arg(long, value_name = "N", help_heading = DATABASES)]
    jobs: Option<usize>,
    /// Dump rows in the order of the primary key, for tables that are rewritten more than they grow; every table from 1 MiB on is a
    /// stream of its own then
    #[arg(long, help_heading = DATABASES)]
    order_by_key: bool,
    /// Dump only the schema, or only the data
    #[arg(long, value_name = "PART", help_heading = DATABASES, value_enum)]
    part: Option<Part>,
    /// Dump this table only, or those that match the pattern, as pg_dump has it; may be repeated
    #[arg(long = "table", value_name = "PATTERN", help_heading = DATABASES)]
    tables: Vec<String>,
    /// Leave the rows of this table out, or of those that match the pattern; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = DATABASES)]
    exclude_table_data: Vec<String>,
    /// Dump no roles and tablespaces
    #[arg(long, help_heading = DATABASES)]
    no_globals: bool,
    /// Count no rows
    ///
    /// They are counted beside the dump, in the same moment, so that a restore can be compared with them.
    #[arg(long, help_heading = DATABASES)]
    no_row_counts: bool,
    #[command(flatten)]
    redis: RedisArgs,
}

const SOURCES: &str = "Sources";
const FILES: &str = "Files";
const DATABASES: &str = "Databases";

/// A part of a database.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Part {
    /// What there is, without rows.
    Schema,
    /// Rows alone.
    Data,
}

/// Returns the part that a flag asks for: all without one.
pub fn part_of(flag: Option<Part>) -> DumpPart {
    match flag {
        None => DumpPart::All,
        Some(Part::Schema) => DumpPart::Schema,
        Some(Part::Data) => DumpPart::Data,
    }
}

impl SourceArgs {
    /// Returns the first flag that was given and means nothing for a command or standard input.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--partial", self.partial),
            ("--only", !self.only.is_empty()),
            ("--skip", !self.skip.is_empty()),
            ("--include", !self.include.is_empty()),
            ("--exclude", !self.exclude.is_empty()),
            ("--rescan", self.rescan),
            ("--one-file-system", self.one_file_system),
            ("--databases-as-files", self.databases_as_files),
            ("--jobs", self.jobs.is_some()),
            ("--order-by-key", self.order_by_key),
            ("--part", self.part.is_some()),
            ("--table", !self.tables.is_empty()),
            ("--exclude-table-data", !self.exclude_table_data.is_empty()),
            ("--no-globals", self.no_globals),
            ("--no-row-counts", self.no_row_counts),
        ];
        let given = given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag);
        given.or_else(|| self.client.first_given()).or_else(|| self.redis.first_given())
    }

    /// Returns whether sources that fail are left out.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Returns what tells a part of a source from all of it, in what the snapshots are called.
    pub fn suffix(&self) -> &'static str {
        match self.part {
            _ if !self.tables.is_empty() => "-tables",
            Some(Part::Schema) => "-schema",
            Some(Part::Data) => "-data",
            None => "",
        }
    }

    /// Returns the sources that are to be backed up.
    ///
    /// # Errors
    /// One of them can't be, or `--only` and `--skip` leave none.
    pub fn sources(
        &self,
        words: &[OsString],
        allow_empty: bool,
        listener: Option<&Listener>,
    ) -> Result<Vec<Source>, Failure> {
        self.check_passwords(words)?;
        let has = |is_one: fn(&str) -> bool| words.iter().any(|word| word.to_str().is_some_and(is_one));
        // What is not needed is not asked for: a password may come from a command.
        let options = Options {
            postgres: if has(is_postgres) { self.postgres()? } else { PostgresOptions::default() },
            files: self.files(),
            redis: if has(is_redis) { self.redis.options(&self.client)? } else { RedisOptions::default() },
            count_rows: !self.no_row_counts,
        };
        let mut sources = Vec::with_capacity(words.len());
        for word in words {
            let word = word.to_str().ok_or_else(|| Failure::usage(format!("what is {word:?}? a source is UTF-8")))?;
            let (name, engine) = source(word, &options, allow_empty, listener)?;
            sources.push(Source::new(name, engine)?);
        }
        for name in self.only.iter().chain(&self.skip) {
            if sources.iter().all(|source| source.name() != name) {
                let there = sources.iter().map(Source::name).collect::<Vec<_>>().join(", ");
                return Err(Failure::usage(format!("no source is called {name:?}; there are {there}")));
            }
        }
        let is_wanted = |source: &Source| {
            let has = |names: &[String]| names.iter().any(|name| name == source.name());
            (self.only.is_empty() || has(&self.only)) && !has(&self.skip)
        };
        sources.retain(is_wanted);
        if sources.is_empty() {
            return Err(Failure::usage("--skip leaves no source to back up"));
        }
        Ok(sources)
    }

    /// Refuses one password for databases of two kinds: one of them would be shown the other's.
    fn check_passwords(&self, words: &[OsString]) -> Result<(), Failure> {
        let has = |is_one: fn(&str) -> bool| words.iter().any(|word| word.to_str().is_some_and(is_one));
        let has_flag = self.client.db_password_file.is_some() || self.client.db_password_command.is_some();
        if has_flag && has(is_postgres) && has(is_redis) {
            return Err(Failure::usage(
                "one password for two kinds of databases? give PostgreSQL's in ~/.pgpass, or Redis's in REDISCLI_AUTH",
            ));
        }
        Ok(())
    }

    fn files(&self) -> FilesOptions {
        FilesOptions {
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            rescan: self.rescan,
            one_file_system: self.one_file_system,
            partial: self.partial,
            databases: self.databases_as_files,
        }
    }

    fn postgres(&self) -> Result<PostgresOptions, Failure> {
        Ok(PostgresOptions {
            client: self.client.options()?,
            part: part_of(self.part),
            jobs: self.jobs.unwrap_or(1),
            order_by_key: self.order_by_key,
            tables: self.tables.clone(),
            exclude_table_data: self.exclude_table_data.clone(),
            globals: !self.no_globals && self.tables.is_empty(),
            count_rows: !self.no_row_counts,
        })
    }
}

/// Returns whether a word names a source, by its scheme.
pub fn is_source(word: &OsString) -> bool {
    word.to_str().is_some_and(|word| split(word).is_some())
}

/// What the flags say of each kind of source.
struct Options {
    postgres: PostgresOptions,
    files: FilesOptions,
    redis: RedisOptions,
    count_rows: bool,
}

fn is_redis(word: &str) -> bool {
    split(word).is_some_and(|(_, url, _)| redis::is_url(url))
}

fn is_postgres(word: &str) -> bool {
    split(word).is_some_and(|(_, url, _)| url.starts_with("postgres"))
}

/// Splits `NAME=SCHEME:REST`, where the name may be missing; `None` where there is no such scheme.
fn split(word: &str) -> Option<(Option<&str>, &str, &str)> {
    let (name, rest) = match word.split_once('=') {
        Some((name, rest)) if !name.contains(':') => (Some(name), rest),
        _ => (None, word),
    };
    let (scheme, after) = rest.split_once(':')?;
    let is_known =
        ["postgres", "postgresql", "sqlite", "files", "cmd"].contains(&scheme) || redis::SCHEMES.contains(&scheme);
    is_known.then_some((name, rest, after))
}

fn source(
    word: &str,
    options: &Options,
    allow_empty: bool,
    listener: Option<&Listener>,
) -> Result<(String, Box<dyn Engine>), Failure> {
    let unknown = || {
        Failure::usage(format!(
            "what is {word:?}? a source is postgres://USER@HOST/DATABASE, redis://HOST, sqlite:///PATH, files:PATH or cmd:'COMMAND', with NAME= before it if you like; put \
             -- before a command"
        ))
    };
    let (name, url, after) = split(word).ok_or_else(unknown)?;
    if url.starts_with("files:") {
        let root = std::path::absolute(after).map_err(|error| {
            Failure::usage(format!("{word:?} can't be: {error}; name a file or a directory, as in files:/etc/app"))
        })?;
        let usual = root.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned());
        let engine = FilesEngine::new(vec![root], options.files.clone())?;
        return Ok((name.map_or(usual, str::to_owned), Box::new(engine)));
    }
    if redis::is_url(url) {
        let engine = RedisEngine::new(url, options.redis.clone())?;
        return Ok((name.unwrap_or("redis").to_owned(), Box::new(engine)));
    }
    if url.starts_with("sqlite:") {
        let sqlite = SqliteOptions { count_rows: options.count_rows, ..SqliteOptions::default() };
        let engine = SqliteEngine::new(url, sqlite)?;
        return Ok((name.map_or_else(|| engine.usual_name(), str::to_owned), Box::new(engine)));
    }
    if !url.starts_with("cmd:") {
        let engine = PostgresEngine::new(url, options.postgres.clone())?;
        let name = name.map_or_else(|| engine.usual_name(), str::to_owned);
        return Ok(match listener.cloned() {
            Some(listener) => (name, Box::new(engine.on_stderr(move |bytes| listener(bytes)))),
            None => (name, Box::new(engine)),
        });
    }
    let argv = args::words(after).map_err(|why| Failure::usage(format!("{word:?}: {why}")))?;
    let program = argv.first().map(PathBuf::from).and_then(|program| Some(program.file_name()?.to_str()?.to_owned()));
    let nameless = || Failure::usage(format!("what is {word:?} called? put a name before it, as in NAME={word}"));
    let name = name.map(str::to_owned).or(program).ok_or_else(nameless)?;
    let env_removed = secret::PASSWORD_VARIABLES.map(Into::into).to_vec();
    let engine =
        CommandEngine::new("output", argv, CommandOptions { allow_empty, env_removed, ..CommandOptions::default() })?;
    Ok(match listener.cloned() {
        Some(listener) => (name, Box::new(engine.on_stderr(move |bytes| listener(bytes)))),
        None => (name, Box::new(engine)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_source_by_its_scheme() {
        let check = |word: &str, expected| assert_eq!(split(word), expected, "{word}");
        check(
            "postgres://me@db/app?sslmode=require",
            Some((None, "postgres://me@db/app?sslmode=require", "//me@db/app?sslmode=require")),
        );
        check("main=postgresql:///app", Some((Some("main"), "postgresql:///app", "///app")));
        check("cmd:env A=b printenv A", Some((None, "cmd:env A=b printenv A", "env A=b printenv A")));
        check("cache=redis://h:1/2", Some((Some("cache"), "redis://h:1/2", "//h:1/2")));
        check("etc=files:/etc", Some((Some("etc"), "files:/etc", "/etc")));
        check("conf=cmd:cat x", Some((Some("conf"), "cmd:cat x", "cat x")));
        for word in ["pg_dump", "-", "mysql://x", "name=", "a:b=cmd:x"] {
            check(word, None);
        }
    }
}
