//! Sources as the command line names them: `NAME=postgres://…`, `cmd:…`.

use crate::clickhouse::{self, ClickHouseArgs};
use crate::client::ClientArgs;
use crate::exit::Failure;
use crate::mongo::{self, MongoArgs};
use crate::mysql::{self, MysqlClientArgs};
use crate::redis::{self, RedisArgs};
use crate::{args, secret};
use clap::{Args, ValueEnum};
use dedump_core::Engine;
use dedump_engines::clickhouse::{ClickHouseEngine, ClickHouseOptions};
use dedump_engines::files::{FilesEngine, FilesOptions};
use dedump_engines::mongodb::{MongoEngine, MongoOptions};
use dedump_engines::mysql::{MysqlEngine, MysqlOptions};
use dedump_engines::postgres::{DumpPart, PostgresEngine, PostgresOptions};
use dedump_engines::redis::{RedisEngine, RedisOptions};
use dedump_engines::sqlite::{SqliteEngine, SqliteOptions};
use dedump_engines::{CommandEngine, CommandOptions, Source};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What hears of the standard error of dump tools.
pub type Listener = Arc<dyn Fn(&[u8]) + Send + Sync>;

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
    /// Dump this table only, or those that match the pattern, as pg_dump has it, or DATABASE.TABLE of ClickHouse; may be repeated
    #[arg(long = "table", value_name = "PATTERN", help_heading = DATABASES)]
    tables: Vec<String>,
    /// Leave the rows of this table out, or of those that match the pattern; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = DATABASES)]
    exclude_table_data: Vec<String>,
    /// Dump no roles, users and tablespaces
    #[arg(long, help_heading = DATABASES)]
    no_globals: bool,
    /// Count no rows
    ///
    /// They are counted beside the dump, in the same moment, so that a restore can be compared with them.
    #[arg(long, help_heading = DATABASES)]
    no_row_counts: bool,
    /// Back up an SQLite database though it is damaged; the snapshot is suspicious then
    #[arg(long, help_heading = DATABASES)]
    allow_damaged: bool,
    /// Wait so many seconds for a lock that another program has on an SQLite database [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = DATABASES)]
    lock_wait: Option<u64>,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    mongo: MongoArgs,
    #[command(flatten)]
    mysql: MysqlClientArgs,
    #[command(flatten)]
    clickhouse: ClickHouseArgs,
}

const SOURCES: &str = "Sources";
const FILES: &str = "Files";
/// The heading of flags about databases.
pub const DATABASES: &str = "Databases";

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
            ("--allow-damaged", self.allow_damaged),
            ("--lock-wait", self.lock_wait.is_some()),
        ];
        let given = given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag);
        given
            .or_else(|| self.client.first_given())
            .or_else(|| self.redis.first_given())
            .or_else(|| self.mongo.first_given())
            .or_else(|| self.mysql.first_given())
            .or_else(|| self.clickhouse.first_given())
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
        check_passwords(&self.client, words)?;
        self.check_meant(words)?;
        let has = |is_one: fn(&str) -> bool| words.iter().any(|word| word.to_str().is_some_and(is_one));
        // What is not needed is not asked for: a password may come from a command.
        let options = Options {
            postgres: if has(is_postgres) { self.postgres()? } else { PostgresOptions::default() },
            files: self.files(),
            redis: if has(is_redis) { self.redis.options(&self.client)? } else { RedisOptions::default() },
            sqlite: self.sqlite(),
            mongo: if has(is_mongo) { self.mongo()? } else { MongoOptions::default() },
            mysql: if has(is_mysql) { self.mysql()? } else { MysqlOptions::default() },
            clickhouse: if has(is_clickhouse) { self.clickhouse()? } else { ClickHouseOptions::default() },
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

    /// Refuses a flag that means nothing for any of these sources: whoever gives it expects something of it.
    fn check_meant(&self, words: &[OsString]) -> Result<(), Failure> {
        let has = |is_one: fn(&str) -> bool| words.iter().any(|word| word.to_str().is_some_and(is_one));
        let (postgres, mysql, mongo) = (has(is_postgres), has(is_mysql), has(is_mongo));
        let (redis, clickhouse, sqlite, files) = (has(is_redis), has(is_clickhouse), has(is_sqlite), has(is_files));
        let of_files = !self.include.is_empty() || !self.exclude.is_empty();
        let of_files = of_files || self.rescan || self.one_file_system || self.databases_as_files;
        let meant = [
            (self.jobs.map(|_| "--jobs"), postgres),
            (self.part.map(|_| "--part"), postgres),
            (self.order_by_key.then_some("--order-by-key"), postgres || mongo),
            ((!self.tables.is_empty()).then_some("--table"), postgres || clickhouse),
            ((!self.exclude_table_data.is_empty()).then_some("--exclude-table-data"), postgres || clickhouse),
            (self.no_globals.then_some("--no-globals"), postgres || mysql || clickhouse),
            (self.no_row_counts.then_some("--no-row-counts"), postgres || sqlite),
            (self.allow_damaged.then_some("--allow-damaged"), sqlite),
            (self.lock_wait.map(|_| "--lock-wait"), sqlite),
            (of_files.then_some("a flag for files"), files),
            (self.redis.first_given(), redis || (mongo && self.redis.first_given() == Some("--spill-dir"))),
            (self.mongo.first_given(), mongo),
            (self.mysql.first_given(), mysql),
            (self.clickhouse.first_given(), clickhouse),
        ];
        match meant.iter().find(|(flag, fits)| flag.is_some() && !fits) {
            Some((Some(flag), _)) => {
                Err(Failure::usage(format!("{flag} means nothing for these sources; leave it out, or see --help")))
            }
            _ => Ok(()),
        }
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

    fn sqlite(&self) -> SqliteOptions {
        let usual = SqliteOptions::default();
        SqliteOptions {
            allow_damaged: self.allow_damaged,
            count_rows: !self.no_row_counts,
            lock_wait: self.lock_wait.map_or(usual.lock_wait, Duration::from_secs),
        }
    }

    fn mongo(&self) -> Result<MongoOptions, Failure> {
        self.mongo.options(&self.client, self.order_by_key, self.redis.spill_dir())
    }

    fn mysql(&self) -> Result<MysqlOptions, Failure> {
        let client = self.mysql.options(&self.client)?;
        Ok(MysqlOptions { client, users: !self.no_globals, partial: self.partial })
    }

    fn clickhouse(&self) -> Result<ClickHouseOptions, Failure> {
        self.clickhouse.options(&self.client, &self.tables, &self.exclude_table_data, !self.no_globals)
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

/// Refuses one password for databases of two kinds: one of them would be shown the other's.
///
/// # Errors
/// There is one.
pub fn check_passwords(client: &ClientArgs, words: &[OsString]) -> Result<(), Failure> {
    let has = |is_one: fn(&str) -> bool| words.iter().any(|word| word.to_str().is_some_and(is_one));
    let kinds: [fn(&str) -> bool; 5] = [is_postgres, is_redis, is_mongo, is_mysql, is_clickhouse];
    if client.has_password() && kinds.into_iter().filter(|is_one| has(*is_one)).count() > 1 {
        return Err(Failure::usage(
            "one password for two kinds of databases? give PostgreSQL's in ~/.pgpass, MariaDB's in ~/.my.cnf, Redis's in REDISCLI_AUTH, ClickHouse's in CLICKHOUSE_PASSWORD, or another in its URL",
        ));
    }
    Ok(())
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
    sqlite: SqliteOptions,
    mongo: MongoOptions,
    mysql: MysqlOptions,
    clickhouse: ClickHouseOptions,
}

fn is_sqlite(word: &str) -> bool {
    split(word).is_some_and(|(_, url, _)| url.starts_with("sqlite:"))
}

fn is_files(word: &str) -> bool {
    split(word).is_some_and(|(_, url, _)| url.starts_with("files:"))
}

fn is_mysql(word: &str) -> bool {
    split(word).is_some_and(|(_, url, _)| mysql::is_url(url))
}

fn is_clickhouse(word: &str) -> bool {
    split(word).is_some_and(|(_, url, _)| clickhouse::is_url(url))
}

fn is_mongo(word: &str) -> bool {
    split(word).is_some_and(|(_, url, _)| mongo::is_url(url))
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
    let known = ["postgres", "postgresql", "mysql", "mariadb", "sqlite", "mongodb", "mongodb+srv", "files", "cmd"];
    let is_known = known.contains(&scheme) || redis::SCHEMES.contains(&scheme) || clickhouse::SCHEMES.contains(&scheme);
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
            "what is {word:?}? a source is postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, redis://HOST, sqlite:///PATH, mongodb://HOST, clickhouse://HOST, files:PATH or cmd:'COMMAND', with NAME= before it if you like; put \
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
        let engine = SqliteEngine::new(url, options.sqlite.clone())?;
        return Ok((name.map_or_else(|| engine.usual_name(), str::to_owned), Box::new(engine)));
    }
    if mongo::is_url(url) {
        let engine = MongoEngine::new(url, options.mongo.clone())?;
        let name = name.map_or_else(|| engine.usual_name(), str::to_owned);
        return Ok(match listener.cloned() {
            Some(listener) => (name, Box::new(engine.on_stderr(move |bytes| listener(bytes)))),
            None => (name, Box::new(engine)),
        });
    }
    if mysql::is_url(url) {
        let engine = MysqlEngine::new(url, options.mysql.clone())?;
        let name = name.map_or_else(|| engine.usual_name(), str::to_owned);
        return Ok(match listener.cloned() {
            Some(listener) => (name, Box::new(engine.on_stderr(move |bytes| listener(bytes)))),
            None => (name, Box::new(engine)),
        });
    }
    if clickhouse::is_url(url) {
        let engine = ClickHouseEngine::new(url, options.clickhouse.clone())?;
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
        check("mongodb+srv://h/shop", Some((None, "mongodb+srv://h/shop", "//h/shop")));
        check("events=clickhouses://h/d", Some((Some("events"), "clickhouses://h/d", "//h/d")));
        check("etc=files:/etc", Some((Some("etc"), "files:/etc", "/etc")));
        check("conf=cmd:cat x", Some((Some("conf"), "cmd:cat x", "cat x")));
        check("mysql://me@h/app", Some((None, "mysql://me@h/app", "//me@h/app")));
        check("db=mariadb://h", Some((Some("db"), "mariadb://h", "//h")));
        for word in ["pg_dump", "-", "oracle://x", "name=", "a:b=cmd:x"] {
            check(word, None);
        }
    }
}
