//! Where a test's store may lie, and copies of what is stored there: in memory, in directories, or in buckets of an S3 server.

use super::servers::{S3s, copy_files};
use dedump_core::object_store::ObjectStore;
use dedump_core::object_store::aws::AmazonS3Builder;
use dedump_core::object_store::local::LocalFileSystem;
use dedump_core::object_store::memory::InMemory;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a store lies. Clones share it.
#[derive(Clone)]
pub enum Place {
    Memory(Arc<InMemory>),
    /// All copies are directories in one.
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
        let copies = Copies::of(tempfile::tempdir().expect("a temporary folder"));
        std::fs::create_dir(directory(&copies, 0)).expect("it can be made");
        Place::Directory(copies, 0)
    }

    /// Returns an empty bucket, at a server that it starts.
    pub fn s3() -> Place {
        let server = S3s::start();
        server.create_bucket(&bucket(0));
        Place::Bucket(Copies::of(server), 0)
    }

    /// Returns the store that lies there.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        match self {
            Place::Memory(memory) => Arc::clone(memory) as Arc<dyn ObjectStore>,
            Place::Directory(copies, number) => {
                Arc::new(LocalFileSystem::new_with_prefix(directory(copies, *number)).expect("it was made"))
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

    /// Returns a copy of it.
    pub fn fork(&self) -> Place {
        match self {
            Place::Memory(memory) => Place::Memory(Arc::new(memory.fork())),
            Place::Directory(copies, number) => {
                let next = copies.next();
                copy_files(&directory(copies, *number), &directory(copies, next));
                Place::Directory(Arc::clone(copies), next)
            }
            Place::Bucket(copies, number) => {
                let next = copies.next();
                copies.inside.copy_bucket(&bucket(*number), &bucket(next));
                Place::Bucket(Arc::clone(copies), next)
            }
        }
    }
}

fn directory(copies: &Copies<tempfile::TempDir>, number: usize) -> PathBuf {
    copies.inside.path().join(number.to_string())
}

fn bucket(number: usize) -> String {
    format!("copy-{number}")
}
