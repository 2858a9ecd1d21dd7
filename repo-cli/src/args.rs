//! What the command line may say. Each command's own flags stand in its file.

use crate::commands::{
    backup, check, completions, copy, demo, diff, forget, hold, init, key, man, prune, reindex, restore, sessions,
    show, snapshots, stats,
};
use crate::secret::SecretFlags;
use crate::{exit, time};
use clap::{Args, Parser, Subcommand};
use dedump_core::{Compression, Filter, MaxUnused, StoreOptions};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Backs up database dumps into a deduplicating, encrypted repository.
///
/// Every snapshot is a complete dump, restorable on its own, stored for about the price of what changed since the last
/// one. A dump that failed never becomes a snapshot.
#[derive(Debug, Parser)]
#[command(name = "dedump", version, arg_required_else_help = true)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", exit::HELP), max_term_width = 100, subcommand_help_heading = "Commands")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  dedump demo                                         see it work: no server, no configuration
  export DEDUMP_REPO=/backup/repo
  dedump init                                         make a repository; asks for a password
  dedump backup postgres://me@db1/app                 a whole database, with its roles
  dedump backup --name app.sql -- mariadb-dump --single-transaction app
  dedump snapshots
  dedump restore latest --stream app.dump --to - | pg_restore -d app_new

See `dedump COMMAND --help` for a command's own options, and `dedump --help` for the exit codes.";

/// What every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Where the repository lies: a path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    ///
    /// Buckets are reached with the variables of the providers' own tools: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    /// AWS_REGION, AWS_ENDPOINT_URL (for MinIO, Ceph, R2 and others that speak S3); GOOGLE_APPLICATION_CREDENTIALS;
    /// AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY; without keys, with the machine's own identity.
    #[arg(long, short, global = true, env = "DEDUMP_REPO", hide_env_values = true, value_name = "LOCATION", help_heading = REPOSITORY)]
    pub repo: Option<String>,
    /// Read the password from this file's only line [env: DEDUMP_PASSWORD_FILE]
    ///
    /// The line end behind it is no part of it. Without any of --password-file, --password-command and --key-file the
    /// environment is asked (DEDUMP_PASSWORD, DEDUMP_PASSWORD_FILE, DEDUMP_PASSWORD_COMMAND, DEDUMP_KEY_FILE: one of
    /// them), then the terminal. A dump command that dedump runs does not inherit DEDUMP_PASSWORD.
    #[arg(long, global = true, value_name = "FILE", group = "secret", help_heading = REPOSITORY)]
    pub password_file: Option<PathBuf>,
    /// Take the password that this command prints [env: DEDUMP_PASSWORD_COMMAND]
    ///
    /// It is split into words as a shell would, and run without one: use `sh -c '…'` for pipes and variables.
    #[arg(long, global = true, value_name = "COMMAND", group = "secret", help_heading = REPOSITORY)]
    pub password_command: Option<String>,
    /// Open the repository with this key file instead of a password [env: DEDUMP_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE", group = "secret", help_heading = REPOSITORY)]
    pub key_file: Option<PathBuf>,
    /// Set what the store's provider calls KEY, like endpoint or region, before the environment; may be repeated
    ///
    /// Leave secrets to the environment: everybody on the machine sees a command line. Also here: timeout (how long one
    /// request may take with its body; 5m), connect_timeout (10s), retry_timeout (how long a request that fails is made
    /// again; 3m).
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = tag, hide_short_help = true)]
    #[arg(help_heading = REPOSITORY)]
    pub store_option: Vec<(String, String)>,
    /// Talk to an endpoint that has no TLS
    #[arg(long, global = true, hide_short_help = true, help_heading = REPOSITORY)]
    pub allow_http: bool,
    /// Requests to a remote store that may be under way at once [default: 16]
    #[arg(long, global = true, value_name = "N", hide_short_help = true, help_heading = REPOSITORY)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: Option<u16>,
    /// Send at most this much a second to a remote store, like 10MiB, all connections together
    #[arg(long, global = true, value_name = "RATE", value_parser = rate, hide_short_help = true)]
    #[arg(help_heading = REPOSITORY)]
    pub limit_upload: Option<NonZeroU64>,
    /// Fetch at most this much a second from a remote store, like 10MiB, all connections together
    #[arg(long, global = true, value_name = "RATE", value_parser = rate, hide_short_help = true)]
    #[arg(help_heading = REPOSITORY)]
    pub limit_download: Option<NonZeroU64>,
    /// Put new packs, or meta, into a storage class of the provider's: packs=GLACIER_IR; may be repeated
    ///
    /// PREFIX is packs (the data, nearly all there is) or meta (what restores, checks and prunes read first); the rest stays in
    /// the bucket's own class. Classes that are read at once but cost by the read (STANDARD_IA, GLACIER_IR; NEARLINE, COLDLINE,
    /// ARCHIVE; Cool, Cold) do for both. Those that must be thawed first, hours before (S3's GLACIER and DEEP_ARCHIVE, Azure's
    /// Archive), do for packs alone: backups go on, without deltas against what lies there (--delta always reads it
    /// back, and can't), while restore, check --read-data (and check, where there are deltas) and a prune that stores anew fail
    /// with the name of a pack until it is thawed. Most cold classes are paid for a minimum of days: prune seldom there.
    #[arg(long, global = true, value_name = "PREFIX=CLASS", value_parser = tag, hide_short_help = true)]
    #[arg(help_heading = REPOSITORY)]
    pub storage_class: Vec<(String, String)>,
    /// Read back and compare every object that is written, before it counts
    ///
    /// For a store, or a path to it, that may garble what is sent. S3 itself, and whatever checks its signatures, sees that
    /// by itself; Azure, Google and simpler S3 servers do not.
    #[arg(long, global = true, hide_short_help = true, help_heading = REPOSITORY)]
    pub verify_uploads: bool,
    /// Keep what never changes of the repository in this folder [env: DEDUMP_CACHE_DIR] [default: ~/.cache/dedump for buckets]
    ///
    /// Index, decisions, manifests, and what backups stored lately, for the deltas of the next one; sealed as in the repository.
    /// The default is $XDG_CACHE_HOME/dedump where that is set. A repository on this machine has no cache unless one is named.
    /// The folder may be deleted at any time.
    #[arg(long, global = true, value_name = "DIR", env = "DEDUMP_CACHE_DIR", hide_env = true, help_heading = REPOSITORY)]
    pub cache_dir: Option<PathBuf>,
    /// How much the cache may hold of each repository, in MiB
    #[arg(long, global = true, value_name = "MIB", default_value_t = 2048, hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=1 << 40), help_heading = REPOSITORY)]
    pub cache_size: u64,
    /// Use no cache, whatever the environment says
    #[arg(long, global = true, hide_short_help = true, help_heading = REPOSITORY)]
    pub no_cache: bool,
    /// Print no progress and no report; warnings and errors still
    #[arg(long, short, global = true, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Print one JSON document instead of text
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub json: bool,
    /// Threads for cutting, hashing, compressing and sealing [default: one a core]
    #[arg(long, global = true, value_name = "N", hide_short_help = true, help_heading = OUTPUT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

const REPOSITORY: &str = "Repository";
const OUTPUT: &str = "Output";

impl Global {
    /// Returns where the secret is to be had from, by the flags.
    pub fn secret(&self) -> SecretFlags {
        SecretFlags {
            password_file: self.password_file.clone(),
            password_command: self.password_command.clone(),
            key_file: self.key_file.clone(),
        }
    }
}

impl Global {
    /// Returns how the store is to be reached, by the flags.
    pub fn store_options(&self) -> StoreOptions {
        let mut options = StoreOptions::default();
        options.settings.extend(self.store_option.iter().cloned());
        options.allow_http = self.allow_http;
        if let Some(connections) = self.connections {
            options.connections_max = usize::from(connections);
        }
        options.upload_bytes_per_sec_max = self.limit_upload;
        options.download_bytes_per_sec_max = self.limit_download;
        options.storage_classes.extend(self.storage_class.iter().cloned());
        options.verify_uploads = self.verify_uploads;
        options
    }
}

/// The commands, in the order in which they are needed.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::InitArgs),
    Backup(backup::BackupArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Show(show::ShowArgs),
    Restore(restore::RestoreArgs),
    Copy(copy::CopyArgs),
    Diff(diff::DiffArgs),
    Forget(Box<forget::ForgetArgs>),
    Hold(hold::HoldArgs),
    Release(hold::ReleaseArgs),
    Prune(prune::PruneArgs),
    Sessions(sessions::SessionsArgs),
    Check(check::CheckArgs),
    Reindex(reindex::ReindexArgs),
    Stats(stats::StatsArgs),
    Key(key::KeyArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// After so long without a sign a session looks dead, unless the user says otherwise.
pub const DEAD_AFTER: &str = "3h";

/// Splits a command into words as a shell would.
///
/// # Errors
/// A line that says why it can't be.
pub fn words(text: &str) -> Result<Vec<OsString>, String> {
    let words = shlex::split(text).filter(|words| !words.is_empty());
    words
        .map(|words| words.into_iter().map(OsString::from).collect())
        .ok_or_else(|| "it has no words, or a quote that does not end".to_owned())
}

/// Reads a length of time: `90s`, `30m`, `3h`, `1h 30m`, `2d`, `1w`.
///
/// # Errors
/// A line that says which forms there are.
pub fn duration(text: &str) -> Result<Duration, String> {
    let in_days = || text.parse::<jiff::Span>().ok()?.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok();
    let parsed = text.parse::<jiff::SignedDuration>().ok().or_else(in_days);
    let parsed = parsed.and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "give a length of time like 90s, 30m, 3h or 2d".to_owned())
}

/// Reads a size: `500B`, `10KiB`, `1.5GiB`; `K`, `M`, `G` and `T` stand for KiB and so on. Only zero needs no unit: whoever
/// writes 5 may mean percent, or GiB.
///
/// # Errors
/// A line that says which forms there are.
pub fn size(text: &str) -> Result<u64, String> {
    let digits_n = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_n);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" if number.parse() == Ok(0.0) => 0,
        "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => 64,
    };
    let bytes = number.parse::<f64>().ok().filter(|_| shift < 64).map(|number| number * (1u64 << shift) as f64);
    match bytes {
        Some(bytes) if bytes < 9e18 => Ok(bytes as u64),
        _ => Err("give a size with its unit, like 500MiB or 10GiB".to_owned()),
    }
}

/// Reads a rate, in bytes a second: a size that is not zero.
///
/// # Errors
/// A line that says which forms there are.
pub fn rate(text: &str) -> Result<NonZeroU64, String> {
    let bytes = size(text.strip_suffix("/s").unwrap_or(text)).ok().and_then(NonZeroU64::new);
    bytes.ok_or_else(|| "give bytes a second with their unit, like 500KiB or 10MiB".to_owned())
}

/// Reads how much may stay unused: `5%`, or a size.
///
/// # Errors
/// A line that says which forms there are.
pub fn max_unused(text: &str) -> Result<MaxUnused, String> {
    match text.strip_suffix('%') {
        Some(percent) => match percent.trim().parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxUnused::Percent(percent)),
            _ => Err("give a share from 0% to 100%".to_owned()),
        },
        None => size(text).map(MaxUnused::Bytes).map_err(|_| "give a share like 5% or a size like 10GiB".to_owned()),
    }
}

/// Which snapshots are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST", help_heading = FILTERS)]
    pub host: Option<String>,
    /// Only snapshots of this source
    #[arg(long, value_name = "SOURCE", help_heading = FILTERS)]
    pub source: Option<String>,
    /// Only snapshots with this tag; repeat it to ask for several
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag, help_heading = FILTERS)]
    pub tags: Vec<(String, String)>,
    /// Only snapshots begun before this time: 2026-01-31, "2026-01-31 17:05" (UTC), or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time::parse_ms, help_heading = FILTERS)]
    pub before: Option<i64>,
    /// Only snapshots begun at this time or later
    #[arg(long, value_name = "TIME", value_parser = time::parse_ms, help_heading = FILTERS)]
    pub since: Option<i64>,
}

const FILTERS: &str = "Filters";

impl FilterArgs {
    /// Returns the filter that they make.
    pub fn filter(&self) -> Filter {
        Filter {
            source: self.source.clone(),
            host: self.host.clone(),
            tags: self.tags.iter().cloned().collect(),
            before_ms: self.before,
            since_ms: self.since,
        }
    }
}

/// Reads a tag: `key=value`.
pub fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as key=value".to_owned()),
    }
}

/// Reads how to compress: `auto`, or zstd's level.
pub fn compression(text: &str) -> Result<Compression, String> {
    match text.parse() {
        Ok(level) if (-7..=19).contains(&level) => Ok(Compression::Level(level)),
        _ if text == "auto" => Ok(Compression::Auto),
        _ => Err("write auto, or a number from -7 to 19".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn filters_mean_what_they_say() {
        let cli = Cli::try_parse_from([
            "dedump",
            "snapshots",
            "--host",
            "db1",
            "--tag",
            "env=prod",
            "--tag",
            "note=a=b",
            "--before",
            "2026-01-31",
        ]);
        let Command::Snapshots(args) = cli.expect("it can be").command else { panic!("another command") };
        let filter = args.filter.filter();
        assert_eq!((filter.host.as_deref(), filter.source), (Some("db1"), None));
        assert_eq!(filter.tags.get("env").map(String::as_str), Some("prod"));
        assert_eq!(filter.tags.get("note").map(String::as_str), Some("a=b"));
        assert_eq!((filter.before_ms, filter.since_ms), (Some(1_769_817_600_000), None));
    }

    #[test]
    fn tags_have_a_key_and_a_value() {
        for text in ["", "prod", "=prod"] {
            assert!(tag(text).is_err(), "{text:?}");
        }
        assert_eq!(tag("env="), Ok(("env".to_owned(), String::new())));
    }

    #[test]
    fn sizes_shares_and_lengths_of_time_are_read_or_refused() {
        for (text, bytes) in [("0", 0), ("500B", 500), ("10KiB", 10_240), ("1.5g", 3 << 29), ("2 TiB", 2 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text:?}");
        }
        for text in ["", "5", "GiB", "-1", "1e3", "10XB", "1.2.3", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
        for (text, bytes) in
            [("10MiB", Some(10 << 20)), ("500k/s", Some(512_000)), ("0", None), ("10", None), ("fast", None)]
        {
            assert_eq!(rate(text).ok().map(NonZeroU64::get), bytes, "{text:?}");
        }
        assert_eq!(max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(max_unused("1GiB"), Ok(MaxUnused::Bytes(1 << 30)));
        for text in ["101%", "-1%", "%", "NaN%", "much"] {
            assert!(max_unused(text).is_err(), "{text:?}");
        }
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(48 * 3600)));
        for text in ["", "3", "-1h", "soon"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn two_secrets_are_a_usage_error() {
        let error = Cli::try_parse_from(["dedump", "check", "--key-file", "a", "--password-file", "b"]);
        assert_eq!(error.expect_err("two").exit_code(), exit::Exit::Usage as i32);
    }
}
