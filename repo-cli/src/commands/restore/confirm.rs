//! Asks before something that is there is replaced or changed.

use crate::exit::Failure;
use crate::output;
use std::io::{self, IsTerminal};

/// Asks for the name of what will be replaced or changed.
pub(super) async fn confirm(what: &str, expected: &str) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::usage(format!(
            "{expected} would be replaced or changed, and there is no terminal to ask on; look at it with --dry-run, and say --yes"
        )));
    }
    output::stderr_line(what);
    output::stderr_bytes(format!("type {expected} to go on: ").as_bytes());
    let (sender, answer) = tokio::sync::oneshot::channel();
    // A thread of its own: one of the runtime's would be waited for after Ctrl-C.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).map(|_| line);
        // What can't be read is not what was asked for; and nobody waits any more if it was interrupted.
        let _ = sender.send(read.unwrap_or_default());
    });
    match answer.await {
        Ok(line) if line.trim() == expected => Ok(()),
        _ => Err(Failure::failed(format!("that is not {expected}; nothing was changed"))),
    }
}
