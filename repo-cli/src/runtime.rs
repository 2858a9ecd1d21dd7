//! Runs one operation to its end, or until the user or the system asks us to stop.

use crate::exit::{Exit, Failure};
use dedump_core::Store;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long an interrupted process takes to clear up.
const CLEAR_UP_SECS_MAX: u64 = 5;

/// Runs `work` on a store. Ctrl-C or SIGTERM drops it, which cancels it cleanly: `stands` says what that means. A second one
/// ends the process at once.
///
/// # Errors
/// Those of `work`; an interruption.
pub fn run<T>(
    work: impl Future<Output = Result<T, Failure>>,
    store: Option<Store>,
    stands: &str,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the system gave no threads: {error}")))?;
    let result = runtime.block_on(async {
        let signals = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let (sender, stop) = oneshot::channel();
        // A task of its own: `work` may be stuck in a write that nobody reads.
        tokio::spawn(watch(signals, sender));
        tokio::select! {
            result = work => result,
            Ok(exit) = stop => {
                if let Some(store) = store {
                    // What stays is in nobody's way for ever: it looks dead after a while.
                    let _ = tokio::time::timeout(Duration::from_secs(CLEAR_UP_SECS_MAX), store.clear_up()).await;
                }
                Err(Failure { exit, message: format!("interrupted; {stands}") })
            }
        }
    });
    // A thread that waits for standard input must not keep us.
    runtime.shutdown_background();
    result
}

async fn watch((mut interrupt, mut terminate): (Signal, Signal), first: oneshot::Sender<Exit>) {
    let mut first = Some(first);
    loop {
        let exit = tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        };
        // Refused by an operation that has ended meanwhile.
        if first.take().is_none_or(|first| first.send(exit).is_err()) {
            std::process::exit(exit as i32);
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}
