//! What the command line says of servers of MongoDB.

use crate::client::ClientArgs;
use crate::exit::Failure;
use clap::Args;
use dedump_engines::mongodb::{ClientOptions, MongoOptions};
use std::path::PathBuf;

/// How such a server is reached.
#[derive(Debug, Args)]
pub struct MongoClientArgs {
    /// The folder of MongoDB's database tools, mongodump and mongorestore [default: PATH]
    #[arg(long, value_name = "DIR", help_heading = MONGO)]
    mongo_bin: Option<PathBuf>,
}

impl MongoClientArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        self.mongo_bin.is_some().then_some("--mongo-bin")
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
            programs: self.mongo_bin.clone(),
            env_removed: shared.env_removed,
        })
    }
}

/// How it is backed up.
#[derive(Debug, Args)]
pub struct MongoArgs {
    #[command(flatten)]
    client: MongoClientArgs,
    /// Dump what is written meanwhile too, so that a restore shows one moment; takes a replica set, and all databases
    #[arg(long, help_heading = MONGO)]
    oplog: bool,
}

/// The heading of these flags.
pub const MONGO: &str = "MongoDB";

impl MongoArgs {
    /// Returns the first flag that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        if self.oplog { Some("--oplog") } else { self.client.first_given() }
    }

    /// Returns how servers are backed up.
    ///
    /// # Errors
    /// As [`MongoClientArgs::options`].
    pub fn options(
        &self,
        client: &ClientArgs,
        order_by_id: bool,
        temporary_folder: Option<PathBuf>,
    ) -> Result<MongoOptions, Failure> {
        Ok(MongoOptions { client: self.client.options(client)?, oplog: self.oplog, order_by_id, temporary_folder })
    }
}

/// Returns whether a URL is that of such a server.
pub fn is_url(text: &str) -> bool {
    ["mongodb://", "mongodb+srv://"].iter().any(|scheme| text.starts_with(scheme))
}
