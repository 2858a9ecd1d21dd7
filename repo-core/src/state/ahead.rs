//! Reads ahead, bounded by number and by bytes.

use crate::words::limits::READS_MAX;
use futures::FutureExt;
use futures::stream::{self, FuturesOrdered, Stream, StreamExt};

/// Runs jobs side by side and gives their results in order: [`READS_MAX`] of them at once, at most, and as many bytes as are
/// allowed, unless one alone has more. Results that wait for their turn count, too.
pub fn ahead<F: Future>(jobs: Vec<(u64, F)>, bytes_max: u64) -> impl Stream<Item = F::Output> {
    let state = (jobs.into_iter().peekable(), FuturesOrdered::new(), 0);
    stream::unfold(state, move |(mut jobs, mut running, mut bytes)| async move {
        let fits = |bytes: u64, running_n: usize, more: u64| {
            running_n == 0 || (running_n < READS_MAX && bytes + more <= bytes_max)
        };
        while let Some((job_bytes, job)) = jobs.next_if(|(more, _)| fits(bytes, running.len(), *more)) {
            bytes += job_bytes;
            running.push_back(job.map(move |output| (job_bytes, output)));
        }
        let (job_bytes, output) = running.next().await?;
        Some((output, (jobs, running, bytes - job_bytes)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn no_more_is_under_way_than_is_allowed_and_results_keep_their_order() {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let (now, most) = (&now, &most);
        let job = |number: u64, bytes: u64| async move {
            let at_once = now.fetch_add(bytes, Ordering::Relaxed) + bytes;
            most.fetch_max(at_once, Ordering::Relaxed);
            // Later ones are done first, and wait for their turn.
            for _ in number..20 {
                tokio::task::yield_now().await;
            }
            (number, bytes)
        };
        let lengths = |number: u64| if number == 7 { 50 } else { 1 + number % 3 };
        let jobs = (0..20).map(|number| (lengths(number), job(number, lengths(number)))).collect();
        let mut results = Box::pin(ahead(jobs, 10));
        for expected in 0..20 {
            let (number, bytes) = results.next().await.expect("one each");
            assert_eq!(number, expected);
            now.fetch_sub(bytes, Ordering::Relaxed);
        }
        assert!(results.next().await.is_none());
        assert_eq!(most.load(Ordering::Relaxed), 50, "one that is larger goes alone");
    }
}
