//! What the command line says of servers of MariaDB and MySQL.

use crate::client::ClientArgs;
use crate::exit::Failure;
use clap::Args;
use dedump_engines::mysql::ClientOptions;
use std::path::PathBuf;

/// How such a server is reached.
#[derive(Debug, Args)]
pub struct MysqlClientArgs {
    /// The folder of the client tools: mariadb-dump and mariadb, or mysqldump and mysql [default: PATH]
    #[arg(long, value_name = "DIR", help_heading = MYSQL)]
    mysql_bin: Option<PathBuf>,
}

impl MysqlClientArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        self.mysql_bin.is_some().then_some("--mysql-bin")
    }

    /// Returns how the tools are run.
    ///
    /// # Errors
    /// `--via` can't be, or the password cannot be had.
    pub fn options(&self, client: &ClientArgs) -> Result<ClientOptions, Failure> {
        let shared = client.options()?;
        Ok(ClientOptions {
            via: shared.via,
            password: shared.password,
            programs: self.mysql_bin.clone(),
            env_removed: shared.env_removed,
        })
    }
}

/// The heading of these flags.
pub const MYSQL: &str = "MariaDB and MySQL";

/// Returns whether a URL is that of such a server.
pub fn is_url(text: &str) -> bool {
    ["mysql://", "mariadb://"].iter().any(|scheme| text.starts_with(scheme))
}
