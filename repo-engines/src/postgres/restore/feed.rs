//! Streams of a snapshot into the standard input of a client tool, without blocking the runtime's threads.
//!
//! A tool that ends early has either failed, and then what it said is the error; or it has all that it wants, such as an
//! archive's table of contents, and then nothing more is read for it.

use crate::child::Invocation;
use crate::fed::{FedTool, Taker};
use crate::postgres::copy;
use crate::postgres::created;
use dedump_core::{
    Bytes, Error, Progress, Repository, RestoreOptions, Result, Snapshot, StreamRecord, Target, async_trait, restore,
};

/// Ends a restore whose tool has all that it wants; nobody sees it.
const ENOUGH: &str = "the tool has all that it wants";

/// How much of a stream its tool must read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// What it wants; the rest is not read from the repository.
    Part,
    /// Everything, so that the stream was verified whole when it ends.
    Whole,
}

/// What is fed, and how.
pub(super) struct Feed<'a> {
    /// How the tool for a stream is started.
    pub(super) invocation: &'a (dyn Fn(&StreamRecord) -> Result<Invocation> + Send + Sync),
    /// Where its output goes.
    pub(super) taker: &'a mut (dyn Taker + Send),
    pub(super) need: Need,
    /// Whether errors are counted that `pg_restore` has gone on after.
    pub(super) counts_errors: bool,
}

/// What tools said that were fed.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// Errors that `pg_restore` has gone on after.
    pub(super) errors_n: u64,
    /// Its last words about them.
    pub(super) problems: Vec<String>,
}

impl Feed<'_> {
    /// Feeds these streams, one after another, each to a tool of its own.
    ///
    /// # Errors
    /// [`Error::DumpFailed`]: a tool failed. Those of the repository.
    pub(super) async fn run(
        self,
        repository: &Repository,
        snapshot: &Snapshot,
        streams: &[String],
        progress: &dyn Progress,
    ) -> Result<Fed> {
        let need = self.need;
        let mut pipe = Pipe { feed: self, tool: None, fed: Fed::default(), has_enough: false };
        for stream in streams {
            let options = RestoreOptions { streams: vec![stream.clone()], ..RestoreOptions::default() };
            match restore(repository, snapshot, &options, &mut pipe, progress).await {
                Err(Error::Target(why)) if why == ENOUGH && need == Need::Part && pipe.has_enough => {}
                outcome => drop(outcome?),
            }
        }
        Ok(pipe.fed)
    }
}

struct Pipe<'a> {
    feed: Feed<'a>,
    tool: Option<Tool>,
    fed: Fed,
    has_enough: bool,
}

/// A tool that runs, and the head of the stream that it is fed.
struct Tool {
    fed: FedTool,
    /// The moment to put back into the first bytes of an archive.
    moment: Option<String>,
    head: Vec<u8>,
}

impl Tool {
    fn start(invocation: &Invocation, stream: &StreamRecord) -> Result<Tool> {
        // What it is called, whatever it is that runs it.
        let name = if stream.name.ends_with(copy::SUFFIX) { "psql" } else { "pg_restore" };
        Ok(Tool {
            fed: FedTool::start(invocation, name)?,
            moment: stream.facts.get(created::FACT).cloned(),
            // What the tool is told before the stream: a password, a list.
            head: invocation.input.clone(),
        })
    }

    /// Closes its input and waits for its end.
    async fn end(self, taker: &mut dyn Taker, counts_errors: bool) -> Result<Fed> {
        let Err(ended) = self.fed.end(taker).await? else { return Ok(Fed::default()) };
        match ignored_errors(&ended.said) {
            Some(errors_n) if counts_errors && ended.status.code() == Some(1) => {
                let problems = vec![ended.failure().to_string()];
                ended.spare();
                Ok(Fed { errors_n, problems })
            }
            _ => Err(ended.failure()),
        }
    }
}

/// Reads how many errors `pg_restore` says that it has gone on after.
fn ignored_errors(said: &[u8]) -> Option<u64> {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().rev().find_map(|line| line.split_once("errors ignored on restore: "))?;
    line.1.trim().parse().ok()
}

impl Pipe<'_> {
    /// Hands bytes to the tool. It may have enough.
    async fn hand_on(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(tool) = &mut self.tool else { return Ok(()) };
        if tool.fed.exchange(Some(bytes), self.feed.taker).await? {
            return Ok(());
        }
        // It takes no more: it has failed and says why, or has all that it wants.
        self.end_tool().await?;
        self.has_enough = true;
        match self.feed.need {
            Need::Part => Err(Error::Target(ENOUGH.to_owned())),
            Need::Whole => Ok(()),
        }
    }

    async fn end_tool(&mut self) -> Result<()> {
        let Some(tool) = self.tool.take() else { return Ok(()) };
        let fed = tool.end(self.feed.taker, self.feed.counts_errors).await?;
        self.fed.errors_n += fed.errors_n;
        self.fed.problems.extend(fed.problems);
        Ok(())
    }

    /// Hands on the head of an archive, with its own moment.
    async fn hand_on_head(&mut self) -> Result<()> {
        let Some(tool) = &mut self.tool else { return Ok(()) };
        let Some(moment) = tool.moment.take() else { return Ok(()) };
        let mut head = std::mem::take(&mut tool.head);
        created::put_back(&mut head, &moment);
        self.hand_on(&head).await
    }
}

#[async_trait]
impl Target for Pipe<'_> {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        self.has_enough = false;
        let mut tool = Tool::start(&(self.feed.invocation)(stream)?, stream)?;
        let before = std::mem::take(&mut tool.head);
        self.tool = Some(tool);
        if before.is_empty() { Ok(()) } else { self.hand_on(&before).await }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.tool {
            Some(tool) if tool.moment.is_some() => {
                tool.head.extend_from_slice(&bytes);
                if tool.head.len() < created::HEAD_BYTES {
                    return Ok(());
                }
                self.hand_on_head().await
            }
            _ => self.hand_on(&bytes).await,
        }
    }

    async fn end(&mut self) -> Result<()> {
        // Of what is shorter than any archive's head.
        self.hand_on_head().await?;
        self.end_tool().await
    }
}
