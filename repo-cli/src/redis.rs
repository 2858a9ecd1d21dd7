//! What the command line says of servers of Redis and Valkey.

use crate::client::ClientArgs;
use crate::exit::Failure;
use clap::{Args, ValueEnum};
use dedump_engines::redis::{ClientOptions, Method, RedisOptions};
use std::path::PathBuf;

/// How such a server is reached.
#[derive(Debug, Args)]
pub struct RedisClientArgs {
    /// Trust the certificates in this PEM file, instead of the system's, for rediss://
    #[arg(long, value_name = "FILE", help_heading = REDIS)]
    redis_ca: Option<PathBuf>,
    /// Show the server this certificate, a PEM file, for rediss://
    #[arg(long, value_name = "FILE", help_heading = REDIS, requires = "redis_key")]
    redis_cert: Option<PathBuf>,
    /// The private key of that certificate, a PEM file
    #[arg(long, value_name = "FILE", help_heading = REDIS, requires = "redis_cert")]
    redis_key: Option<PathBuf>,
    /// The folder of temporary files, sealed, which may get as large as the data unpacked [default: the system's]
    #[arg(long, value_name = "DIR", help_heading = REDIS)]
    spill_dir: Option<PathBuf>,
}

impl RedisClientArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--redis-ca", self.redis_ca.is_some()),
            ("--redis-cert", self.redis_cert.is_some()),
            ("--redis-key", self.redis_key.is_some()),
            ("--spill-dir", self.spill_dir.is_some()),
        ];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag)
    }

    /// Returns how the server is reached.
    ///
    /// # Errors
    /// The password cannot be had.
    pub fn options(&self, client: &ClientArgs) -> Result<ClientOptions, Failure> {
        Ok(ClientOptions {
            password: client.password()?,
            ca_file: self.redis_ca.clone(),
            certificate_file: self.redis_cert.clone(),
            key_file: self.redis_key.clone(),
            ..ClientOptions::default()
        })
    }

    /// Returns the folder of temporary files.
    pub fn spill_dir(&self) -> Option<PathBuf> {
        self.spill_dir.clone()
    }
}

/// How it is backed up.
#[derive(Debug, Args)]
pub struct RedisArgs {
    #[command(flatten)]
    client: RedisClientArgs,
    /// How to read: as a replica does, which shows one moment (sync); key after key, which does not (scan); or key after key only
    /// where the server allows no replica (any)
    #[arg(long, value_name = "HOW", help_heading = REDIS, value_enum, hide_possible_values = true)]
    redis_read: Option<Read>,
    /// Store the server's RDB byte for byte besides; all of it is new after every restart of the server
    #[arg(long, help_heading = REDIS)]
    exact_rdb: bool,
    /// Store neither settings nor users
    #[arg(long, help_heading = REDIS)]
    no_settings: bool,
    /// Record DEBUG DIGEST, for a restore to compare; the server does nothing else while it computes one
    #[arg(long, help_heading = REDIS)]
    digest: bool,
}

/// The heading of these flags.
pub const REDIS: &str = "Redis and Valkey";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Read {
    Sync,
    Scan,
    Any,
}

impl RedisArgs {
    /// Returns the folder of temporary files.
    pub fn spill_dir(&self) -> Option<PathBuf> {
        self.client.spill_dir()
    }

    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--redis-read", self.redis_read.is_some()),
            ("--exact-rdb", self.exact_rdb),
            ("--no-settings", self.no_settings),
            ("--digest", self.digest),
        ];
        given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag).or_else(|| self.client.first_given())
    }

    /// Returns how servers are backed up.
    ///
    /// # Errors
    /// The password cannot be had.
    pub fn options(&self, client: &ClientArgs) -> Result<RedisOptions, Failure> {
        Ok(RedisOptions {
            client: self.client.options(client)?,
            method: match self.redis_read {
                None | Some(Read::Sync) => Method::Sync,
                Some(Read::Scan) => Method::Scan,
                Some(Read::Any) => Method::SyncOrScan,
            },
            exact: self.exact_rdb,
            configuration: !self.no_settings,
            digest: self.digest,
            temporary_folder: self.client.spill_dir(),
        })
    }
}

/// Schemes of such servers.
pub const SCHEMES: [&str; 5] = ["redis", "rediss", "valkey", "valkeys", "redis+unix"];

/// Returns whether a URL is that of such a server.
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}
