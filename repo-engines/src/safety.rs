//! The snapshot of what is there, before a restore changes it.

use dedump_core::{BackupOptions, Engine, Error, HoldOptions, Progress, Repository, Result, SnapshotId, backup, hold};

/// What is about to be changed, and by whom.
pub(crate) struct Safety<'a> {
    /// What it is called, for people.
    pub(crate) what: &'a str,
    /// What its safety snapshots are called.
    pub(crate) source: String,
    /// The host that it is on.
    pub(crate) host: String,
    /// The snapshot that is restored.
    pub(crate) restored: SnapshotId,
    /// Who restores, as `user@host`.
    pub(crate) by: &'a str,
}

impl Safety<'_> {
    /// Backs it up, and has nobody forget that.
    ///
    /// # Errors
    /// [`Error::Target`]: the backup failed.
    pub(crate) async fn snapshot(
        self,
        engine: &dyn Engine,
        repository: &Repository,
        progress: &dyn Progress,
        warnings: &mut Vec<String>,
    ) -> Result<SnapshotId> {
        let mut options = BackupOptions::new(self.source, self.host);
        options.tags.insert("safety".to_owned(), self.restored.to_string());
        let failed = |error: Error| {
            Error::Target(format!(
                "the safety snapshot of {} failed, so nothing was restored: {error}; to do without one, give --no-safety-snapshot",
                self.what
            ))
        };
        let report = backup(repository, engine, &options, progress).await.map_err(failed)?;
        warnings.extend(report.problems);
        let reason = format!("what {} was before snapshot {} was restored", self.what, self.restored.short());
        let options = HoldOptions { reason, until_ms: None, by: self.by.to_owned() };
        hold(repository, report.snapshot.id, &options).await?;
        Ok(report.snapshot.id)
    }
}
