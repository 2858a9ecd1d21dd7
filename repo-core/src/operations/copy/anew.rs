//! Restores a snapshot in one repository and backs it up in another at the same time.

use super::{CopyReport, Job, SourceFailure, note, record};
use crate::edges::source::{Engine, Sink, StreamWriter, Verdict};
use crate::edges::target::Target;
use crate::format::snapshot::StreamRecord;
use crate::operations::backup::{BackupOptions, Dumped, run};
use crate::operations::restore::{RestoreOptions, restore};
use crate::state::repository::Repository;
use crate::state::snapshots::Snapshot;
use crate::words::error::{Error, Result};
use crate::words::id::SnapshotId;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Copies one snapshot; what kept it from being read is in the result.
///
/// # Errors
/// As [`super::copy`].
pub(super) async fn copy_one(
    job: &Job<'_>,
    snapshot: &Snapshot,
    copies: &mut HashMap<SnapshotId, SnapshotId>,
    report: &mut CopyReport,
) -> Result<Option<SourceFailure>> {
    let mut options = BackupOptions::new(snapshot.record.source.clone(), job.options.host.clone());
    options.compression = job.options.compression;
    options.parent = snapshot.record.parent.and_then(|parent| copies.get(&parent).copied());
    let engine =
        Reading { from: job.from, snapshot, bytes_read: AtomicU64::new(0), is_damaged: AtomicBool::new(false) };
    let make = |_: i64, dumped: Dumped| {
        let before = &snapshot.record.streams;
        let is_same = |(old, new): (&StreamRecord, &StreamRecord)| old.name == new.name && old.hash == new.hash;
        if before.len() != dumped.outcome.streams.len() || !before.iter().zip(&dumped.outcome.streams).all(is_same) {
            return Err(Error::System(format!(
                "snapshot {} arrived as something else; nothing was committed; test this machine's memory",
                snapshot.id.short()
            )));
        }
        let (fragments_n, totals) = (dumped.outcome.fragments_n, dumped.outcome.totals());
        Ok(record(snapshot, dumped.outcome.streams, (fragments_n, totals), copies))
    };
    let done = run(job.to, &engine, ("copy", &options), job.progress, make).await;
    report.bytes_read += engine.bytes_read.load(Ordering::Relaxed);
    match done {
        Ok(copied) => {
            report.problems.extend(copied.problems);
            note(job, copied.snapshot, copies, report);
            Ok(None)
        }
        Err(error) if engine.is_damaged.load(Ordering::Relaxed) => Ok(Some(SourceFailure { pack: None, error })),
        Err(error) => Err(error),
    }
}

/// An engine whose dump is a snapshot.
struct Reading<'a> {
    from: &'a Repository,
    snapshot: &'a Snapshot,
    bytes_read: AtomicU64,
    /// Whether it failed because what is stored is damaged or missing.
    is_damaged: AtomicBool,
}

#[async_trait]
impl Engine for Reading<'_> {
    fn kind(&self) -> &str {
        "copy"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let mut target = SinkTarget { sink, open: None };
        let read = restore(self.from, self.snapshot, &RestoreOptions::default(), &mut target, &()).await;
        self.is_damaged.store(read.as_ref().err().is_some_and(Error::is_damage), Ordering::Relaxed);
        self.bytes_read.store(read?.bytes_read, Ordering::Relaxed);
        Ok(Verdict::default())
    }
}

/// Writes what is restored into a backup.
struct SinkTarget<'a> {
    sink: &'a Sink,
    open: Option<(StreamWriter, BTreeMap<String, String>)>,
}

#[async_trait]
impl Target for SinkTarget<'_> {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        self.open = Some((self.sink.stream(&stream.name).await?, stream.facts.clone()));
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let (writer, _) = self.open.as_mut().expect("a stream begins before it goes on");
        writer.write(&bytes).await
    }

    async fn end(&mut self) -> Result<()> {
        let (writer, facts) = self.open.take().expect("a stream begins before it ends");
        writer.finish(facts).await
    }
}
