//! The engine: `mongodump`'s archive, taken apart into a stream for every collection.

use super::archive::{Collection, Prelude};
use super::client::{Client, ClientOptions, NOT_FOUND, PACKAGE};
use super::demux::{Counted, Demux, Step};
use super::url::MongoUrl;
use super::{PRELUDE, names};
use crate::OUTPUT_GRACE;
use crate::child::{End, Listener, Running, describe_failure};
use crate::gates::Watch;
use crate::intake::Intake;
use dedump_core::{Bytes, Engine, Error, Result, Sink, StreamWriter, Verdict, async_trait};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Bytes that are read at once.
const READ_BYTES: usize = 512 * 1024;

/// Backs up a server of MongoDB, or one of its databases; see the [module](super).
#[derive(Clone)]
pub struct MongoEngine {
    client: Client,
    options: MongoOptions,
    listener: Option<Arc<Listener>>,
}

/// Options of a [`MongoEngine`].
#[derive(Debug, Clone, Default)]
pub struct MongoOptions {
    /// How the tools are run.
    pub client: ClientOptions,
    /// Dumps what was written meanwhile too, so that a restore shows the moment in which the dump ended. Takes a member of a
    /// replica set, and all databases.
    pub oplog: bool,
    /// Puts documents into the order of their `_id`: a member that was synchronised anew has them in another order, and gives the
    /// same bytes then. Capped collections stay as they are.
    pub order_by_id: bool,
    /// The folder of the temporary files for that, which may grow as long as the largest collection; `None` stands for the system's.
    pub temporary_folder: Option<PathBuf>,
}

impl MongoEngine {
    /// Creates an engine for the server of a URL; with a database in it, for that one alone.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: MongoOptions) -> Result<Self> {
        let url = MongoUrl::parse(url)?;
        if options.oplog && url.database().is_some() {
            let why = "the oplog is that of all databases; leave the database out of the URL, or the oplog";
            return Err(Error::Invalid(why.to_owned()));
        }
        // Refuses here what would be refused later.
        url.with_password(options.client.password.as_deref())?;
        Ok(Self::of(Client::new(url, options.client.clone()), options))
    }

    pub(super) fn of(client: Client, options: MongoOptions) -> Self {
        MongoEngine { client, options, listener: None }
    }

    /// Returns what the source is called if nobody says: the database's name.
    pub fn usual_name(&self) -> String {
        self.client.url.database().unwrap_or("mongodb").to_owned()
    }

    /// Has somebody listen to what `mongodump` says.
    pub fn on_stderr(self, listener: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        MongoEngine { listener: Some(Arc::new(listener)), ..self }
    }

    fn arguments(&self) -> Vec<String> {
        // One collection after another: what comes in turns hangs on chance.
        let mut arguments = vec!["--archive".to_owned(), "--numParallelCollections=1".to_owned()];
        if self.options.oplog {
            arguments.push("--oplog".to_owned());
        }
        arguments
    }

    /// Moves the archive to the thread.
    async fn pump(&self, sender: Sender<Bytes>) -> Result<()> {
        let invocation = self.client.invocation("mongodump", &self.arguments())?;
        let running = Running::start(&invocation)?;
        let mut intake = Forward { sender, spare: vec![0; READ_BYTES] };
        let listener = self.listener.as_deref();
        let ended = running.read_to_end(&mut intake, &mut Watch::default(), listener, OUTPUT_GRACE).await?;
        let nothing = |error: Error| Error::DumpFailed(format!("{error}; nothing was stored"));
        match ended.how {
            End::Status(status) if status.success() => Ok(()),
            End::Status(status) if status.code() == Some(NOT_FOUND) => {
                Err(nothing(Error::DumpFailed(format!("there is no mongodump; {PACKAGE}"))))
            }
            End::Status(status) => {
                Err(nothing(self.client.explain("mongodump", &describe_failure(status), &ended.said)))
            }
            End::OutputHeld => Err(nothing(Error::DumpFailed(
                "mongodump has ended, and another program still holds its output open".to_owned(),
            ))),
        }
    }

    /// Stores what the thread tells.
    async fn store(&self, mut demux: Demux, sink: &Sink, verdict: &mut Verdict) -> Result<()> {
        let mut prelude = Prelude::default();
        let mut open: BTreeMap<usize, (StreamWriter, BTreeMap<String, String>)> = BTreeMap::new();
        let mut documents_n = 0;
        while let Some(step) = demux.next().await? {
            match step {
                Step::Prelude(first) => {
                    store_prelude(&first, sink).await?;
                    prelude = first;
                }
                Step::Begin(number, name) => {
                    let collection = &prelude.collections[number];
                    let mut facts = facts_of(collection);
                    facts.insert("namespace".to_owned(), name.clone());
                    let stream = sink.stream(&names::data(&collection.database, &name)).await?;
                    open.insert(number, (stream, facts));
                }
                Step::Piece(number, piece) => {
                    let (stream, _) = open.get_mut(&number).expect("it has begun");
                    stream.write(&piece).await?;
                }
                Step::End(number, counted) => {
                    let (stream, mut facts) = open.remove(&number).expect("it has begun");
                    documents_n += counted.documents_n;
                    note_counted(&counted, &mut facts);
                    stream.finish(facts).await?;
                }
            }
        }
        let collections_n = prelude.collections.iter().filter(|collection| !collection.metadata.is_empty()).count();
        if collections_n == 0 {
            let what = self.client.url.without_password();
            return Err(Error::DumpFailed(format!(
                "{what} has no collections, or there is no such database; nothing was stored"
            )));
        }
        for (name, value) in [
            ("server.version", prelude.server_version),
            ("tool.version", prelude.tool_version),
            ("collections", collections_n.to_string()),
            ("documents", documents_n.to_string()),
            ("moment", if self.options.oplog { "oplog" } else { "none" }.to_owned()),
        ] {
            verdict.facts.insert(name.to_owned(), value);
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for MongoEngine {
    fn kind(&self) -> &str {
        "mongodb"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        // Says what to install, which the shell that starts the tool does not.
        let version = self.client.version("mongodump").await;
        version.map_err(|error| Error::DumpFailed(format!("{error}; nothing was stored")))?;
        let folder = || self.options.temporary_folder.clone().unwrap_or_else(std::env::temp_dir);
        let (sender, demux) = Demux::of_archive(self.options.order_by_id.then(folder));
        let (pumped, stored) = tokio::join!(self.pump(sender), self.store(demux, sink, &mut verdict));
        match (pumped, stored) {
            (Ok(()), stored) => stored?,
            // The thread had enough, and says why.
            (Err(Error::Conflict(_)), Err(stopped)) => return Err(stopped),
            (Err(failed), _) => return Err(failed),
        }
        if !self.options.oplog {
            verdict.warnings.push(
                "the collections were read one after another, which is no single moment; on a replica set --oplog makes it one"
                    .to_owned(),
            );
        }
        Ok(verdict)
    }
}

/// Stores what is said of all collections, as `mongodump --out` lays it into folders.
async fn store_prelude(prelude: &Prelude, sink: &Sink) -> Result<()> {
    let versions = json!({ "ServerVersion": prelude.server_version, "ToolVersion": prelude.tool_version });
    let mut stream = sink.stream(PRELUDE).await?;
    stream.write(format!("{versions}\n").as_bytes()).await?;
    stream.finish(BTreeMap::new()).await?;
    for collection in prelude.collections.iter().filter(|collection| !collection.metadata.is_empty()) {
        let mut stream = sink.stream(&names::metadata(&collection.database, &collection.name)).await?;
        stream.write(collection.metadata.as_bytes()).await?;
        stream.finish(facts_of(collection)).await?;
    }
    Ok(())
}

fn facts_of(collection: &Collection) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("database".to_owned(), collection.database.clone()),
        ("collection".to_owned(), collection.name.clone()),
        ("type".to_owned(), collection.kind.clone()),
    ])
}

fn note_counted(counted: &Counted, facts: &mut BTreeMap<String, String>) {
    facts.insert("documents".to_owned(), counted.documents_n.to_string());
    facts.insert("crc64".to_owned(), format!("{:016x}", counted.crc));
    facts.insert("order".to_owned(), if counted.is_sorted { "_id" } else { "natural" }.to_owned());
}

/// Hands on what was read.
pub(super) struct Forward {
    pub sender: Sender<Bytes>,
    pub spare: Vec<u8>,
}

impl Intake for Forward {
    fn spare(&mut self) -> &mut [u8] {
        &mut self.spare
    }

    async fn advance(&mut self, bytes_n: usize) -> Result<()> {
        let piece = Bytes::copy_from_slice(&self.spare[..bytes_n]);
        // Its own error is the one to tell.
        self.sender.send(piece).await.map_err(|_| Error::Conflict("the archive is not read any more".to_owned()))
    }
}
