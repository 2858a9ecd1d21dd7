//! The only door to rayon: work for the processor, in windows of some MiB, never a chunk at a time.

use crate::words::error::{Error, Result};
use futures::channel::oneshot;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// A pool of threads of the repository's own.
#[derive(Clone)]
pub struct Cpu(Arc<rayon::ThreadPool>);

impl Cpu {
    /// Creates a pool of so many threads; 0 stands for one a core.
    ///
    /// # Errors
    /// [`Error::System`]: the system gives no threads.
    pub fn create(threads_n: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads_n)
            .thread_name(|number| format!("dedump-cpu-{number}"))
            .build()
            .map_err(|error| Error::System(format!("cannot start threads: {error}")))?;
        Ok(Cpu(Arc::new(pool)))
    }

    /// Returns how many threads the pool has.
    pub fn threads_n(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs a window of work on the pool. If the caller goes away, the work ends on its own and its result is dropped;
    /// if the work panics, the caller does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(move || {
            // A closed channel means that the caller went away.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        });
        match receiver.await.expect("the work always answers") {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Does the same to each item, side by side; the results keep the items' order. Only for work inside [`Cpu::run`].
pub fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    items.into_par_iter().map(work).collect()
}

/// Does two things side by side. Only for work inside [`Cpu::run`].
pub fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    rayon::join(a, b)
}
