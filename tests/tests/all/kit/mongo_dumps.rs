//! How the tests dump and restore what the stand-ins of MongoDB have.

use super::mongo::Mongo;
use dedump_core::{BackupOptions, Repository, Result, Snapshot, backup};
use dedump_engines::mongodb::{
    ClientOptions, MongoEngine, MongoOptions, MongoRestore, MongoRestoreOptions, MongoRestored,
};

impl Mongo {
    pub fn engine(&self, url: &str, options: MongoOptions) -> Result<MongoEngine> {
        let programs = options.client.programs.clone().or(Some(self.programs()));
        MongoEngine::new(url, MongoOptions { client: ClientOptions { programs, ..options.client.clone() }, ..options })
    }

    /// Backs a server up, or a database of it.
    pub async fn dump(&self, repository: &Repository, url: &str, options: MongoOptions) -> Result<Snapshot> {
        let engine = self.engine(url, options)?;
        Ok(backup(repository, &engine, &BackupOptions::new("mongo", "host"), &()).await?.snapshot)
    }

    pub fn restore(&self, url: &str, options: MongoRestoreOptions) -> Result<MongoRestore> {
        let programs = options.client.programs.clone().or(Some(self.programs()));
        let client = ClientOptions { programs, ..options.client.clone() };
        MongoRestore::new(url, MongoRestoreOptions { client, ..options })
    }

    /// Puts a backup back.
    pub async fn put_back(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        url: &str,
        options: MongoRestoreOptions,
    ) -> Result<MongoRestored> {
        self.restore(url, options)?.run(repository, snapshot, "", &()).await
    }
}
