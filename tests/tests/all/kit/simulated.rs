//! A store whose clients get no reply before the test gives it: every request goes to the test, which decides what comes next,
//! what gets lost, what arrives late, and what time it is there.

use super::watched::cut_short;
use async_trait::async_trait;
use dedump_core::Store;
use dedump_core::object_store::memory::InMemory;
use dedump_core::object_store::path::Path;
use dedump_core::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures::channel::{mpsc, oneshot};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asks of the store.
#[derive(Debug, Clone)]
pub enum Request {
    Put(Path, PutPayload, PutOptions),
    Get(Path, GetOptions),
    Delete(Path),
    List(Option<Path>),
}

impl Request {
    /// Returns what kind of request it is, to which folder.
    pub fn kind(&self) -> (u8, String) {
        let folder = |path: &Path| path.as_ref().split('/').next().unwrap_or_default().to_owned();
        match self {
            Request::Put(path, ..) => (0, folder(path)),
            Request::Get(path, _) => (1, folder(path)),
            Request::Delete(path) => (2, folder(path)),
            Request::List(prefix) => (3, prefix.as_ref().map(folder).unwrap_or_default()),
        }
    }
}

/// What it gets.
pub enum Reply {
    Done,
    Got(GetResult),
    Listed(Vec<ObjectMeta>),
}

/// A request that waits for its turn.
pub struct Pending {
    /// Which client asks.
    pub client: usize,
    pub request: Request,
    reply: oneshot::Sender<Result<Reply>>,
}

impl Pending {
    /// Gives the reply, if the client still waits for it.
    pub fn answer(self, reply: Result<Reply>) {
        // A client that was dropped hears nothing any more.
        let _ = self.reply.send(reply);
    }
}

/// What reaches the test.
pub enum Event {
    Asked(Pending),
    /// The client has ended, or panicked.
    Ended(usize),
}

/// What is stored, and the store's own clock. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    inner: Arc<InMemory>,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Debug, Default)]
struct Clock {
    now_secs: u64,
    written_secs: BTreeMap<Path, u64>,
    packs_deleted_n: usize,
}

impl Simulated {
    /// Returns what is stored as the core takes it, past the test; its times are this machine's.
    pub fn plain(&self) -> Store {
        Store::from_object_store(self.inner.clone(), "memory://plain")
    }

    /// Returns a copy of what is stored now.
    pub fn copy(&self) -> Store {
        Store::from_object_store(Arc::new(self.inner.fork()), "memory://copy")
    }

    /// Returns the store as a client sees it.
    pub fn of_client(&self, client: usize, events: mpsc::UnboundedSender<Event>) -> Store {
        Store::from_object_store(Arc::new(Client { client, events }), "memory://simulated")
    }

    /// Lets time go by in the store.
    pub fn wait(&self, secs: u64) {
        self.clock.lock().expect("nobody panics with it").now_secs += secs;
    }

    /// Returns how many packs were deleted so far.
    pub fn packs_deleted_n(&self) -> usize {
        self.clock.lock().expect("nobody panics with it").packs_deleted_n
    }

    /// Returns the names of the objects below a prefix.
    pub async fn names(&self, prefix: &str) -> Vec<String> {
        let listed: Vec<ObjectMeta> =
            self.inner.list(Some(&Path::from(prefix))).try_collect().await.expect("memory lists");
        let mut names: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
        names.sort();
        names
    }

    /// Does what is asked for.
    pub async fn perform(&self, request: Request) -> Result<Reply> {
        match request {
            Request::Put(path, payload, options) => {
                self.inner.put_opts(&path, payload, options).await?;
                let mut clock = self.clock.lock().expect("nobody panics with it");
                let now_secs = clock.now_secs;
                clock.written_secs.insert(path, now_secs);
                Ok(Reply::Done)
            }
            Request::Get(path, options) => self.inner.get_opts(&path, options).await.map(Reply::Got),
            Request::Delete(path) => {
                if ["packs/", "meta/"].iter().any(|packs| path.as_ref().starts_with(packs)) {
                    self.clock.lock().expect("nobody panics with it").packs_deleted_n += 1;
                }
                self.inner.delete(&path).await.map(|()| Reply::Done)
            }
            Request::List(prefix) => {
                let mut listed: Vec<ObjectMeta> = self.inner.list(prefix.as_ref()).try_collect().await?;
                let clock = self.clock.lock().expect("nobody panics with it");
                for meta in &mut listed {
                    let written_secs = clock.written_secs.get(&meta.location).copied().unwrap_or_default();
                    meta.last_modified = Default::default();
                    meta.last_modified += Duration::from_secs(written_secs);
                }
                Ok(Reply::Listed(listed))
            }
        }
    }
}

/// The error of a request that was not performed, or whose reply got lost.
pub fn unavailable() -> Error {
    Error::Generic { store: "Simulated", source: "503 service unavailable".into() }
}

/// Cuts off what was read in the middle; it ends there, or with an error.
pub async fn cut_off(reply: Reply, with_error: bool) -> Result<Reply> {
    match reply {
        Reply::Got(result) => cut_short(result, with_error.then(unavailable)).await.map(Reply::Got),
        other => Ok(other),
    }
}

/// The store as one client sees it.
#[derive(Debug)]
struct Client {
    client: usize,
    events: mpsc::UnboundedSender<Event>,
}

impl Client {
    fn ask(&self, request: Request) -> impl Future<Output = Result<Reply>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        // Where nobody listens any more, nobody answers either.
        let _ = self.events.unbounded_send(Event::Asked(Pending { client: self.client, request, reply }));
        async move { answer.await.unwrap_or_else(|_| Err(unavailable())) }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.client)
    }
}

#[async_trait]
impl ObjectStore for Client {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.ask(Request::Put(location.clone(), payload, options)).await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the core puts every object in one piece")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.ask(Request::Get(location.clone(), options)).await? {
            Reply::Got(result) => Ok(result),
            _ => unreachable!("a read is answered by what was read"),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let client = Client { client: self.client, events: self.events.clone() };
        locations
            .and_then(move |location| {
                let deleted = client.ask(Request::Delete(location.clone()));
                async move { deleted.await.map(|_| location) }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.ask(Request::List(prefix.cloned()));
        let listed = async move {
            match listed.await? {
                Reply::Listed(listed) => Ok::<_, Error>(stream::iter(listed.into_iter().map(Ok))),
                _ => unreachable!("a listing is answered by a listing"),
            }
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("the core lists whole prefixes")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("the core copies nothing inside a store")
    }
}
