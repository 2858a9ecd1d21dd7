//! Where a test's store may lie, and copies of what is stored there: in memory, in directories, or in buckets of an S3 server.

use super::servers::S3s;
use dedump_core::object_store::aws::AmazonS3Builder;
use dedump_core::object_store::local::LocalFileSystem;
use dedump_core::object_store::memory::InMemory;
use dedump_core::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests under way at once, when a place is copied.
const COPIES: usize = 16;

/// Where a store lies. Clones share it.
#[derive(Clone)]
pub enum Place {
    Memory(Arc<InMemory>),
    /// All copies are directories of one.
    Directory(Arc<Copies<tempfile::TempDir>>, usize),
    /// All copies are buckets of one server, which walks through all of a bucket for each listing.
    Bucket(Arc<Copies<S3s>>, usize),
}

/// What many copies lie in, and how many there are.
pub struct Copies<T> {
    inside: T,
    number: AtomicUsize,
}

impl<T> Copies<T> {
    fn of(inside: T) -> Arc<Self> {
        Arc::new(Copies { inside, number: AtomicUsize::new(1) })
    }

    fn next(&self) -> usize {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

impl Place {
    /// Returns an empty place in memory.
    pub fn memory() -> Place {
        Place::Memory(Arc::new(InMemory::new()))
    }

    /// Returns an empty directory.
    pub fn directory() -> Place {
        Place::Directory(Copies::of(tempfile::tempdir().expect("a temporary folder")), 0).made()
    }

    /// Returns an empty bucket, at a server that it starts.
    pub fn s3() -> Place {
        Place::Bucket(Copies::of(S3s::start()), 0).made()
    }

    /// Returns the store that lies there.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        match self {
            Place::Memory(memory) => Arc::clone(memory) as Arc<dyn ObjectStore>,
            Place::Directory(copies, number) => {
                let path = copies.inside.path().join(number.to_string());
                Arc::new(LocalFileSystem::new_with_prefix(path).expect("it was made"))
            }
            Place::Bucket(copies, number) => {
                let client = AmazonS3Builder::new()
                    .with_endpoint(copies.inside.endpoint())
                    .with_allow_http(true)
                    .with_region("us-east-1")
                    .with_bucket_name(bucket(*number))
                    .with_access_key_id(S3s::KEY)
                    .with_secret_access_key(S3s::KEY);
                Arc::new(client.build().expect("settings that can be"))
            }
        }
    }

    /// Returns a copy of it. Of a bucket, a test calls this on a runtime of several threads.
    pub fn fork(&self) -> Place {
        match self {
            Place::Memory(memory) => Place::Memory(Arc::new(memory.fork())),
            Place::Directory(copies, _) => {
                let copy = Place::Directory(Arc::clone(copies), copies.next()).made();
                copy.fill_from(self);
                copy
            }
            Place::Bucket(copies, _) => {
                let copy = Place::Bucket(Arc::clone(copies), copies.next()).made();
                copy.fill_from(self);
                copy
            }
        }
    }

    fn made(self) -> Place {
        match &self {
            Place::Memory(_) => {}
            Place::Directory(copies, number) => {
                std::fs::create_dir(copies.inside.path().join(number.to_string())).expect("it can be made");
            }
            Place::Bucket(copies, number) => copies.inside.create_bucket(&bucket(*number)),
        }
        self
    }

    fn fill_from(&self, other: &Place) {
        let (from, to) = (other.store(), self.store());
        let copied = async {
            let objects: Vec<ObjectMeta> = from.list(None).try_collect().await?;
            let copies = objects.iter().map(|object| async {
                let bytes = from.get(&object.location).await?.bytes().await?;
                to.put(&object.location, bytes.into()).await
            });
            futures::stream::iter(copies).buffer_unordered(COPIES).try_for_each(|_| async { Ok(()) }).await
        };
        let runtime = tokio::runtime::Handle::current();
        let copied: dedump_core::object_store::Result<()> = tokio::task::block_in_place(|| runtime.block_on(copied));
        copied.expect("what is there can be copied");
    }
}

fn bucket(number: usize) -> String {
    format!("copy-{number}")
}
