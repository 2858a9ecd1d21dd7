//! The archive, made anew, into `mongorestore`.

use super::prepare::Prepared;
use crate::child::{self, Invocation, describe_failure};
use crate::mongodb::archive::{TERMINATOR, new_crc, write_header, write_prelude};
use crate::mongodb::client::{Client, NOT_FOUND, PACKAGE};
use crc_fast::Digest;
use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, StreamRecord, Target, async_trait, restore,
};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

/// Ends a restore whose tool has ended; nobody sees it.
const CLOSED: &str = "mongorestore takes no more";
/// Bytes of a line of its own that are looked at.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// What `mongorestore` says that it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loaded {
    pub documents_n: u64,
    pub failed_n: u64,
}

/// Feeds everything that is wanted.
///
/// # Errors
/// [`Error::DumpFailed`]: it failed, and says why. Those of the repository.
pub(super) async fn feed(
    client: &Client,
    invocation: &Invocation,
    prepared: &Prepared<'_>,
    repository: &Repository,
    progress: &dyn Progress,
) -> Result<Loaded> {
    let mut command = invocation.command();
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let (mut group, mut child) = invocation.spawn(&mut command)?;
    let stdin = child.stdin.take().expect("stdin is piped");
    child::enlarge_pipe(&stdin);
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let summary = Arc::new(Summary::default());
    let mut said = Vec::new();
    let taking = Arc::clone(&summary);
    let listener = move |piece: &[u8]| taking.take(piece);
    let listening = child::listen(&mut stderr, &mut said, Some(&listener));
    let feeding = async {
        let fed = write_archive(stdin, &invocation.input, prepared, repository, progress).await;
        (fed, child.wait().await)
    };
    let ((fed, status), ()) = tokio::join!(feeding, listening);
    let status = status.map_err(|error| Error::DumpFailed(format!("cannot wait for mongorestore: {error}")))?;
    if status.code() == Some(NOT_FOUND) {
        return Err(Error::DumpFailed(format!("there is no mongorestore; {PACKAGE}")));
    }
    match fed {
        Err(Error::Target(why)) if why == CLOSED => {}
        fed => fed?,
    }
    if !status.success() {
        return Err(client.explain("mongorestore", &describe_failure(status), &said));
    }
    group.spare();
    summary.last().ok_or_else(|| {
        Error::DumpFailed("mongorestore has ended well and does not say what it has restored".to_owned())
    })
}

async fn write_archive(
    stdin: ChildStdin,
    first: &[u8],
    prepared: &Prepared<'_>,
    repository: &Repository,
    progress: &dyn Progress,
) -> Result<()> {
    let mut pipe = Pipe { stdin, crc: new_crc() };
    pipe.hand_on(first).await?;
    pipe.hand_on(&write_prelude(&prepared.prelude)).await?;
    for stored in &prepared.wanted {
        let Some(data) = &stored.data else { continue };
        let database = &stored.collection.database;
        pipe.crc = new_crc();
        pipe.hand_on(&write_header(database, &data.namespace, None)).await?;
        let options = RestoreOptions { streams: vec![data.stream.clone()], ..RestoreOptions::default() };
        restore(repository, prepared.snapshot, &options, &mut pipe, progress).await?;
        pipe.hand_on(&TERMINATOR).await?;
        let crc = pipe.crc.finalize();
        pipe.hand_on(&write_header(database, &data.namespace, Some(crc))).await?;
        pipe.hand_on(&TERMINATOR).await?;
    }
    // Dropped, it ends the tool's input.
    Ok(())
}

struct Pipe {
    stdin: ChildStdin,
    crc: Digest,
}

impl Pipe {
    async fn hand_on(&mut self, bytes: &[u8]) -> Result<()> {
        // Why it takes no more, it says itself.
        self.stdin.write_all(bytes).await.map_err(|_| Error::Target(CLOSED.to_owned()))
    }
}

#[async_trait]
impl Target for Pipe {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.crc.update(&bytes);
        self.hand_on(&bytes).await
    }

    async fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Looks for the line in which the tool says what it has done.
#[derive(Default)]
struct Summary {
    found: Mutex<(Vec<u8>, Option<Loaded>)>,
}

impl Summary {
    fn take(&self, piece: &[u8]) {
        let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (line, loaded) = &mut *found;
        for byte in piece {
            if *byte != b'\n' {
                if line.len() < LINE_BYTES_MAX {
                    line.push(*byte);
                }
                continue;
            }
            if let Some(said) = read_summary(&String::from_utf8_lossy(line)) {
                *loaded = Some(said);
            }
            line.clear();
        }
    }

    fn last(&self) -> Option<Loaded> {
        self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}

/// Reads `TIME 12 document(s) restored successfully. 0 document(s) failed to restore.`
fn read_summary(line: &str) -> Option<Loaded> {
    let (before, after) = line.split_once(" document(s) restored successfully. ")?;
    let number = |text: &str| text.rsplit(char::is_whitespace).next()?.parse().ok();
    Some(Loaded { documents_n: number(before)?, failed_n: number(after.split_once(" document(s) failed")?.0)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_has_done_is_read_from_what_it_says() {
        let summary = Summary::default();
        summary.take(b"2026-01-01T00:00:00.000+0000\tpreparing\n2026-01-01T00:00:00.000+0000\t12 docu");
        assert_eq!(summary.last(), None);
        summary.take(b"ment(s) restored successfully. 3 document(s) failed to restore.\n");
        assert_eq!(summary.last(), Some(Loaded { documents_n: 12, failed_n: 3 }));
        assert_eq!(read_summary("finished restoring a.b (3 documents, 0 failures)"), None);
    }
}
