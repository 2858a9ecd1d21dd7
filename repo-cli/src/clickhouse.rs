//! What the command line says of servers of ClickHouse.

use crate::client::ClientArgs;
use crate::exit::Failure;
use clap::Args;
use dedump_engines::clickhouse::{ClickHouseOptions, ClientOptions};
use std::path::PathBuf;

/// How such a server is reached.
#[derive(Debug, Args)]
pub struct ClickHouseClientArgs {
    /// Trust the certificates in this PEM file, instead of the system's, for clickhouses://
    #[arg(long, value_name = "FILE", help_heading = CLICKHOUSE)]
    clickhouse_ca: Option<PathBuf>,
    /// Show the server this certificate, a PEM file, for clickhouses://
    #[arg(long, value_name = "FILE", help_heading = CLICKHOUSE, requires = "clickhouse_key")]
    clickhouse_cert: Option<PathBuf>,
    /// The private key of that certificate, a PEM file
    #[arg(long, value_name = "FILE", help_heading = CLICKHOUSE, requires = "clickhouse_cert")]
    clickhouse_key: Option<PathBuf>,
}

/// The heading of these flags.
pub const CLICKHOUSE: &str = "ClickHouse";
/// Schemes of such servers.
pub const SCHEMES: [&str; 4] = ["clickhouse", "clickhouses", "clickhouse+http", "clickhouse+https"];

impl ClickHouseClientArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--clickhouse-ca", self.clickhouse_ca.is_some()),
            ("--clickhouse-cert", self.clickhouse_cert.is_some()),
            ("--clickhouse-key", self.clickhouse_key.is_some()),
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
            ca_file: self.clickhouse_ca.clone(),
            certificate_file: self.clickhouse_cert.clone(),
            key_file: self.clickhouse_key.clone(),
            ..ClientOptions::default()
        })
    }
}

/// How it is backed up.
#[derive(Debug, Args)]
pub struct ClickHouseArgs {
    #[command(flatten)]
    client: ClickHouseClientArgs,
    /// Where a table is written to too fast to be read at one moment, take each of its partitions at a moment of its own; the
    /// snapshot is suspicious then
    #[arg(long, help_heading = CLICKHOUSE)]
    allow_moving: bool,
}

impl ClickHouseArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        if self.allow_moving { Some("--allow-moving") } else { self.client.first_given() }
    }

    /// Returns how servers are backed up.
    ///
    /// # Errors
    /// The password cannot be had.
    pub fn options(
        &self,
        client: &ClientArgs,
        tables: &[String],
        exclude_table_data: &[String],
        access: bool,
    ) -> Result<ClickHouseOptions, Failure> {
        Ok(ClickHouseOptions {
            client: self.client.options(client)?,
            tables: tables.to_vec(),
            exclude_table_data: exclude_table_data.to_vec(),
            access,
            allow_moving: self.allow_moving,
        })
    }
}

/// Returns whether a URL is that of such a server.
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}
