//! Streams of a snapshot into the client.

use super::rebuild::{Adapt, Rebuild};
use crate::child::Invocation;
use crate::fed::{FedTool, Kept};
use crate::mysql::client::{Client, Tool};
use crate::mysql::errors::explain;
use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, Snapshot, StreamRecord, Target, async_trait, restore,
};

/// What a script prints, at most; a dump prints nothing.
const PRINTED_BYTES_MAX: usize = 1 << 20;
/// Bytes that are handed to the client at once, about.
const HAND_BYTES: usize = 256 * 1024;

/// How streams are fed.
pub(super) struct Feed<'a> {
    pub(super) client: &'a Client,
    /// The database that they go into.
    pub(super) database: &'a str,
    pub(super) adapt: Adapt,
    pub(super) statement_bytes_max: usize,
}

impl Feed<'_> {
    /// Feeds these streams, each to a client of its own.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: a client failed. Those of the repository.
    pub(super) async fn run(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        streams: &[String],
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut pipe = Pipe { feed: self, open: None };
        for stream in streams {
            let options = RestoreOptions { streams: vec![stream.clone()], ..RestoreOptions::default() };
            let of_stream = |error: Error| match explain(error) {
                Error::DumpFailed(why) => Error::DumpFailed(format!("{stream}: {why}")),
                error => error,
            };
            restore(repository, snapshot, &options, &mut pipe, progress).await.map_err(of_stream)?;
        }
        Ok(())
    }
}

struct Pipe<'a> {
    feed: &'a Feed<'a>,
    open: Option<Open>,
}

struct Open {
    tool: FedTool,
    rebuild: Rebuild,
    out: Vec<u8>,
    kept: Kept,
    has_ended: bool,
}

impl Open {
    async fn hand_on(&mut self) -> Result<()> {
        if self.out.is_empty() || self.has_ended {
            self.out.clear();
            return Ok(());
        }
        // One that takes no more has failed; why, its end says.
        self.has_ended = !self.tool.exchange(Some(&self.out), &mut self.kept).await?;
        self.out.clear();
        Ok(())
    }
}

#[async_trait]
impl Target for Pipe<'_> {
    async fn begin(&mut self, _: &StreamRecord) -> Result<()> {
        let Feed { client, database, adapt, statement_bytes_max } = self.feed;
        let invocation: Invocation = client.session(Some(database));
        let mut open = Open {
            tool: FedTool::start(&invocation, client.tool_name(Tool::Client))?,
            rebuild: Rebuild::new(adapt.clone(), *statement_bytes_max),
            out: invocation.input.clone(),
            kept: Kept { bytes: Vec::new(), bytes_max: PRINTED_BYTES_MAX },
            has_ended: false,
        };
        open.hand_on().await?;
        self.open = Some(open);
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let open = self.open.as_mut().expect("a stream has begun");
        open.rebuild.feed(&bytes, &mut open.out);
        if open.out.len() >= HAND_BYTES {
            open.hand_on().await?;
        }
        match open.has_ended {
            false => Ok(()),
            true => self.end().await,
        }
    }

    async fn end(&mut self) -> Result<()> {
        let Open { tool, rebuild, mut out, mut kept, has_ended } = self.open.take().expect("a stream has begun");
        let mut tool = tool;
        rebuild.finish(&mut out);
        if !has_ended && !out.is_empty() {
            tool.exchange(Some(&out), &mut kept).await?;
        }
        match tool.end(&mut kept).await? {
            Ok(()) if has_ended => Err(Error::DumpFailed("the client ended before it had read all".to_owned())),
            Ok(()) => Ok(()),
            Err(ended) => Err(ended.failure()),
        }
    }
}
