//! A store that counts what is asked of it, and can stop for good at any call: before it, or after it with the reply lost.

use super::places::Place;
use async_trait::async_trait;
use dedump_core::Bytes;
use dedump_core::Store;
use dedump_core::object_store::path::Path;
use dedump_core::object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What kind of call it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Put,
    Get,
    List,
    Delete,
}

/// A call that reached the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub kind: Kind,
    pub name: String,
}

/// When the store stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Never,
    /// Call number n, from 0, and all later ones fail and do nothing.
    Before(usize),
    /// Call number n does its work and its reply is lost; all later ones fail and do nothing.
    After(usize),
}

/// A promise that a store does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It creates objects that are there.
    CreatesAgain,
    /// It lists nothing.
    ListsNothing,
    /// It keeps on listing what was deleted, and reading it.
    DeletesNothing,
    /// It does not read what was written.
    ReadsNothing,
    /// It reads the first half of what was asked for, and says nothing of the rest.
    CutsShort,
}

/// A store under watch, in memory unless it is said to lie elsewhere. Clones share everything.
#[derive(Clone)]
pub struct Watched {
    place: Place,
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

struct State {
    stop: Stop,
    lie: Option<Lie>,
    has_stopped: bool,
    calls: Vec<Call>,
    meanwhile: Option<(usize, BoxFuture<'static, ()>)>,
}

impl Watched {
    /// Creates an empty store.
    pub fn create() -> Self {
        Self::create_in(Place::memory())
    }

    /// Creates a store in an empty place.
    pub fn create_in(place: Place) -> Self {
        Self::over(place, Stop::Never)
    }

    /// Returns a copy of what is stored, under a watch of its own.
    pub fn fork(&self, stop: Stop) -> Self {
        Self::over(self.place.fork(), stop)
    }

    fn over(place: Place, stop: Stop) -> Self {
        Watched {
            inner: place.store(),
            place,
            state: Arc::new(Mutex::new(State {
                stop,
                lie: None,
                has_stopped: false,
                calls: Vec::new(),
                meanwhile: None,
            })),
        }
    }

    /// From now on it does not keep a promise.
    pub fn lie(&self, lie: Lie) {
        self.state.lock().expect("no call panics").lie = Some(lie);
    }

    fn lies(&self, lie: Lie) -> bool {
        self.state.lock().expect("no call panics").lie == Some(lie)
    }

    /// Returns it as the core takes it.
    pub fn store(&self) -> Store {
        Store::from_object_store(Arc::new(self.clone()), "memory://watched")
    }

    /// Returns the calls so far, and forgets them.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().expect("no call panics").calls)
    }

    /// Returns whether a call was refused, or its reply lost.
    pub fn has_stopped(&self) -> bool {
        self.state.lock().expect("no call panics").has_stopped
    }

    /// Does something else when call number n, from 0 and not counting those before, is about to be made, if that reads or
    /// writes an object.
    pub fn meanwhile(&self, number: usize, what: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state.lock().expect("no call panics");
        state.meanwhile = Some((state.calls.len() + number, Box::pin(what)));
    }

    /// Returns whether that was done.
    pub fn has_met(&self) -> bool {
        self.state.lock().expect("no call panics").meanwhile.is_none()
    }

    async fn meet(&self) {
        let due = {
            let mut state = self.state.lock().expect("no call panics");
            let now = state.calls.len();
            state.meanwhile.take_if(|(number, _)| *number == now)
        };
        if let Some((_, what)) = due {
            what.await;
        }
    }

    /// Returns the names of all objects.
    pub async fn names(&self) -> Vec<String> {
        let listed: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.expect("it lists");
        let mut names: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
        names.sort();
        names
    }

    /// Reads an object past the watch.
    pub async fn read(&self, name: &str) -> Vec<u8> {
        let object = self.inner.get(&Path::from(name)).await.expect("the object is there");
        object.bytes().await.expect("it reads").to_vec()
    }

    /// Writes an object past the watch.
    pub async fn write(&self, name: &str, bytes: Vec<u8>) {
        self.inner.put(&Path::from(name), bytes.into()).await.expect("it writes");
    }

    /// Deletes an object past the watch.
    pub async fn remove(&self, name: &str) {
        self.inner.delete(&Path::from(name)).await.expect("it deletes");
    }

    /// Notes a call; says whether it may be made, and whether its reply is lost.
    fn call(&self, kind: Kind, name: impl fmt::Display) -> Result<Reply> {
        let mut state = self.state.lock().expect("no call panics");
        let number = state.calls.len();
        match state.stop {
            Stop::Before(stop) if number >= stop => {
                state.has_stopped = true;
                return Err(stopped());
            }
            Stop::After(stop) if number > stop => return Err(stopped()),
            Stop::After(stop) => state.has_stopped = number == stop,
            _ => {}
        }
        state.calls.push(Call { kind, name: name.to_string() });
        Ok(if state.stop == Stop::After(number) { Reply::Lost } else { Reply::Comes })
    }
}

/// Leaves half of what was read; behind it comes an error, or nothing.
pub async fn cut_short(result: GetResult, error: Option<Error>) -> Result<GetResult> {
    let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let extensions = result.extensions.clone();
    let bytes = result.bytes().await?;
    let parts: Vec<Result<Bytes>> = [Ok(bytes.slice(..bytes.len() / 2))].into_iter().chain(error.map(Err)).collect();
    let payload = GetResultPayload::Stream(stream::iter(parts).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

enum Reply {
    Comes,
    Lost,
}

impl Reply {
    fn pass<T>(self, result: Result<T>) -> Result<T> {
        match self {
            Reply::Comes => result,
            Reply::Lost => Err(stopped()),
        }
    }
}

fn stopped() -> Error {
    Error::Generic { store: "Watched", source: "the store has stopped".into() }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        self.meet().await;
        if self.lies(Lie::CreatesAgain) {
            opts.mode = PutMode::Overwrite;
        }
        let reply = self.call(Kind::Put, location)?;
        reply.pass(self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the core puts every object in one piece")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.meet().await;
        let reply = self.call(Kind::Get, location)?;
        if self.lies(Lie::ReadsNothing) {
            return Err(Error::NotFound { path: location.to_string(), source: "it lies".into() });
        }
        let result = reply.pass(self.inner.get_opts(location, options).await)?;
        if self.lies(Lie::CutsShort) { cut_short(result, None).await } else { Ok(result) }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let reply = self.call(Kind::Get, location)?;
        reply.pass(self.inner.get_ranges(location, ranges).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let watched = self.clone();
        locations
            .and_then(move |location| {
                let watched = watched.clone();
                async move {
                    let reply = watched.call(Kind::Delete, &location)?;
                    if watched.lies(Lie::DeletesNothing) {
                        return Ok(location);
                    }
                    let deleted = watched.inner.delete(&location).await;
                    reply.pass(deleted.map(|()| location))
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call(Kind::List, prefix.map(Path::to_string).unwrap_or_default()) {
            Ok(Reply::Comes) if self.lies(Lie::ListsNothing) => stream::empty().boxed(),
            Ok(Reply::Comes) => self.inner.list(prefix),
            Ok(Reply::Lost) | Err(_) => stream::iter([Err(stopped())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("the core lists whole prefixes")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("the core copies nothing inside a store")
    }
}
