//! The engine: the RDB off the wire, through the sorter, into the sink.

use super::client::{ClientOptions, Connection};
use super::configuration::{self, Configuration};
use super::explain::{Failure, NEEDED};
use super::rdb::canonical::Written;
use super::rdb::parse::Parsed;
use super::server::Server;
use super::sorting::{Sorting, Step};
use super::url::RedisUrl;
use super::{scan, wire};
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The stream with all data.
pub(super) const DATABASE: &str = "database.rdb";
/// The stream with the server's own bytes.
pub(super) const ORIGINAL: &str = "original.rdb";

/// Backs up a server of Redis or Valkey; see the [module](super).
#[derive(Debug, Clone)]
pub struct RedisEngine {
    url: RedisUrl,
    options: RedisOptions,
}

/// How the data are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// As a replica does: the state of one moment. The user needs `+psync +sync +replconf +ping +info`.
    #[default]
    Sync,
    /// Key after key, with `SCAN` and `DUMP`: no single moment. What is written meanwhile is in the dump or it is not.
    Scan,
    /// As a replica where the server lets us, and key after key where it does not.
    SyncOrScan,
}

/// Options of a [`RedisEngine`].
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// How the server is reached.
    pub client: ClientOptions,
    /// How the data are read.
    pub method: Method,
    /// Stores the server's RDB once more as it is, byte for byte. All of it is new after every restart of the server.
    pub exact: bool,
    /// Stores the settings and the users.
    pub configuration: bool,
    /// Asks for `DEBUG DIGEST` before and after, and records it if nothing was written in between. The server does nothing else
    /// while it computes one, which takes seconds for every few million keys.
    pub digest: bool,
    /// The folder of the temporary files, which may grow as long as the server's RDB unpacked; `None` stands for the system's.
    pub temporary_folder: Option<PathBuf>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            client: ClientOptions::default(),
            method: Method::Sync,
            exact: false,
            configuration: true,
            digest: false,
            temporary_folder: None,
        }
    }
}

impl RedisEngine {
    /// Creates an engine for the server of a URL; with a database's number in it, for that one alone.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL or the options can't be.
    pub fn new(url: &str, options: RedisOptions) -> Result<Self> {
        Self::of(RedisUrl::parse(url)?, options)
    }

    pub(super) fn of(url: RedisUrl, options: RedisOptions) -> Result<Self> {
        if options.exact && (options.method != Method::Sync || url.database().is_some()) {
            let why = "the server's own bytes come with a whole RDB alone; leave out the database's number and SCAN";
            return Err(Error::Invalid(why.to_owned()));
        }
        Ok(RedisEngine { url, options })
    }

    /// Returns where the server is, for people.
    pub fn place(&self) -> String {
        self.url.host()
    }

    fn explain(&self, failure: Failure) -> Error {
        match failure {
            Failure::Ours(error) => error,
            failure => Error::DumpFailed(format!("{}; nothing was stored", failure.explain(&self.url))),
        }
    }

    async fn dump_all(&self, sink: &Sink) -> std::result::Result<Verdict, Failure> {
        let mut connection = Connection::open(&self.url, &self.options.client).await?;
        let server = Server::ask(&mut connection).await?;
        server.check_has_data()?;
        let mut verdict = Verdict { facts: server.facts(), ..Verdict::default() };
        self.note_oddities(&server, &mut verdict);
        let digest = self.digest(&mut connection).await?;
        let read = match self.options.method {
            Method::Sync => self.sync(&server, sink, &mut verdict).await,
            Method::Scan => self.scan(&server, sink, &mut verdict).await,
            Method::SyncOrScan => match self.sync(&server, sink, &mut verdict).await {
                Err(failure) if failure.is_not_allowed() => self.scan(&server, sink, &mut verdict).await,
                other => other,
            },
        };
        read?;
        if self.options.configuration {
            self.configuration(&mut connection, sink, &mut verdict).await?;
        }
        if let Some(digest) = digest {
            match self.digest(&mut connection).await? {
                Some(after) if after == digest => drop(verdict.facts.insert("digest".to_owned(), digest)),
                _ => verdict.warnings.push("no digest was recorded: the server was written to meanwhile".to_owned()),
            }
        }
        Ok(verdict)
    }

    fn note_oddities(&self, server: &Server, verdict: &mut Verdict) {
        if server.is_replica() && server.field("master_link_status") != "up" {
            let why = "the server is a replica that has lost its primary; what it has may be old";
            verdict.suspicious.push(why.to_owned());
        }
        if let Some((primaries_n, slots)) = &server.cluster
            && *primaries_n != 1
        {
            verdict.warnings.push(format!(
                "this is one server of a cluster, with the slots {slots}; each primary is a source of its own, and they share no moment"
            ));
        }
    }

    /// Reads as a replica does.
    async fn sync(&self, server: &Server, sink: &Sink, verdict: &mut Verdict) -> std::result::Result<(), Failure> {
        let mut connection = Connection::open(&self.url, &self.options.client).await?;
        let begun = match wire::begin(&mut connection, server.version()).await {
            Ok(begun) => begun,
            Err(failure) if failure.is_not_allowed() && self.options.method == Method::Sync => {
                return Err(Failure::Broken(format!(
                    "it lets this user not be a replica; grant it {NEEDED}, or read key after key with SCAN, which is no single moment"
                )));
            }
            Err(failure) => return Err(failure),
        };
        let (sender, mut sorting) = Sorting::of_rdb(self.url.database(), self.folder(), self.options.exact);
        let is_taken = wire::pump(&mut connection, &begun, &sender).await;
        drop(sender);
        // The thread's own error comes before what followed from it here.
        if !is_taken? {
            return Err(Failure::Ours(sorting.error("more came after the end of the RDB").await));
        }
        drop(connection);
        verdict.facts.insert("method".to_owned(), begun.command.to_owned());
        if let Some(offset) = begun.offset {
            verdict.facts.insert("replication.offset".to_owned(), offset);
        }
        self.store(server, &mut sorting, sink, verdict).await.map_err(Failure::Ours)
    }

    /// Reads key after key.
    async fn scan(&self, server: &Server, sink: &Sink, verdict: &mut Verdict) -> std::result::Result<(), Failure> {
        let mut connection = Connection::open(&self.url, &self.options.client).await?;
        let (sender, mut sorting) = Sorting::of_payloads(self.folder());
        let is_taken = scan::pump(&mut connection, server, self.url.database(), &sender).await;
        drop(sender);
        if !is_taken? {
            return Err(Failure::Ours(sorting.error("more came after the end of the RDB").await));
        }
        verdict.facts.insert("method".to_owned(), "SCAN".to_owned());
        verdict.warnings.push(
            "the server was read key after key, which is no single moment: what was written meanwhile may be there in part"
                .to_owned(),
        );
        self.store(server, &mut sorting, sink, verdict).await.map_err(Failure::Ours)
    }

    fn folder(&self) -> PathBuf {
        self.options.temporary_folder.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Stores what was sorted.
    async fn store(&self, server: &Server, sorting: &mut Sorting, sink: &Sink, verdict: &mut Verdict) -> Result<()> {
        let mut facts = BTreeMap::new();
        let mut stream = None;
        let mut original = None;
        while let Some(step) = sorting.next().await? {
            match step {
                Step::Parsed(parsed, aux) => {
                    note_rdb(server, &parsed, aux, &mut facts);
                    stream = Some(sink.stream(DATABASE).await?);
                }
                Step::Piece(piece) => stream.as_mut().expect("it was parsed").write(&piece).await?,
                Step::Written(written) => {
                    note_counts(&written, &mut facts);
                    let facts = std::mem::take(&mut facts);
                    stream.take().expect("it was parsed").finish(facts).await?;
                    let keys_n: u64 = written.counts.values().map(|count| count.keys_n).sum();
                    verdict.facts.insert("keys".to_owned(), keys_n.to_string());
                }
                Step::Original(piece) => {
                    if original.is_none() {
                        original = Some(sink.stream(ORIGINAL).await?);
                    }
                    original.as_mut().expect("it was just opened").write(&piece).await?;
                }
            }
        }
        if let Some(original) = original {
            original.finish(BTreeMap::new()).await?;
        }
        Ok(())
    }

    async fn configuration(
        &self,
        connection: &mut Connection,
        sink: &Sink,
        verdict: &mut Verdict,
    ) -> std::result::Result<(), Failure> {
        let (configuration, missing) = Configuration::ask(connection).await?;
        if !missing.is_empty() {
            verdict.warnings.push(format!(
                "the server does not tell {}, so they were not stored; grant it, or leave the configuration out",
                missing.join(" and ")
            ));
        }
        let json = configuration.to_json()?;
        let mut stream = sink.stream(configuration::STREAM).await?;
        stream.write(&json).await?;
        stream.finish(BTreeMap::new()).await?;
        Ok(())
    }

    async fn digest(&self, connection: &mut Connection) -> std::result::Result<Option<String>, Failure> {
        if !self.options.digest {
            return Ok(None);
        }
        match connection.ask(&[b"DEBUG", b"DIGEST"]).await {
            Ok(reply) => Ok(Some(reply.text())),
            Err(failure) if failure.is_not_allowed() => Err(Failure::Broken(
                "it does not allow DEBUG DIGEST; set enable-debug-command, or do without".to_owned(),
            )),
            Err(failure) => Err(failure),
        }
    }
}

#[async_trait]
impl Engine for RedisEngine {
    fn kind(&self) -> &str {
        "redis"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        self.dump_all(sink).await.map_err(|failure| self.explain(failure))
    }
}

/// Records what format the RDB has, and what its aux fields say.
fn note_rdb(server: &Server, parsed: &Parsed, aux: BTreeMap<String, String>, facts: &mut BTreeMap<String, String>) {
    facts.insert("rdb.version".to_owned(), parsed.header.version.to_string());
    facts.insert("rdb.flavour".to_owned(), server.flavour().to_owned());
    facts.insert("rdb.bytes".to_owned(), parsed.bytes.to_string());
    facts.insert("rdb.crc64".to_owned(), parsed.crc.map_or_else(|| "none".to_owned(), |crc| format!("{crc:016x}")));
    for (name, value) in aux {
        facts.insert(format!("aux.{name}"), value);
    }
}

fn note_counts(written: &Written, facts: &mut BTreeMap<String, String>) {
    for (database, count) in &written.counts {
        facts.insert(format!("keys.{database}"), count.keys_n.to_string());
        facts.insert(format!("expires.{database}"), count.expires_n.to_string());
    }
    facts.insert("functions".to_owned(), written.functions_n.to_string());
}
