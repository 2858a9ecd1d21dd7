//! `dedump sessions`: who is at work.

use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::Table;
use crate::{args, human, time};
use clap::Args;
use dedump_core::{SessionInfo, list_sessions};
use serde_json::json;
use std::time::Duration;

/// List who is at work in the repository, and who looks dead
#[derive(Debug, Args)]
#[command(after_help = "\
Nobody is locked out by a session. A prune waits for those that are at work and may rely on what it is going to delete; one
that looks dead is fenced: should it wake, it can't commit, and says so.")]
pub struct SessionsArgs {
    /// A session that gave no sign for so long looks dead
    #[arg(long, value_name = "DURATION", value_parser = args::duration, default_value = args::DEAD_AFTER)]
    dead_after: Duration,
}

/// Runs it.
pub fn run(context: &Context, args: &SessionsArgs) -> Outcome {
    let sessions = context.with_repository("nothing was changed", async |repository| {
        Ok(list_sessions(&repository, args.dead_after).await?)
    })?;
    context.print(|| sessions.iter().map(to_json).collect(), || to_text(&sessions))?;
    Ok(Exit::Done)
}

fn standing(session: &SessionInfo) -> &'static str {
    match (session.is_decided, session.looks_dead) {
        (true, _) => "ended",
        (false, true) => "looks dead",
        (false, false) => "at work",
    }
}

fn to_json(session: &SessionInfo) -> serde_json::Value {
    let record = session.record.as_ref();
    json!({
        "id": session.id.to_string(),
        "standing": standing(session),
        "operation": record.map(|record| &record.operation),
        "source": record.map(|record| &record.source),
        "host": record.map(|record| &record.host),
        "process": record.map(|record| record.process),
        "program": record.map(|record| &record.program),
        "started": record.map(|record| time::rfc3339(record.started_ms)),
        "bytes_done": record.map(|record| record.bytes_done),
        "last_sign": time::rfc3339(session.modified_ms),
    })
}

fn to_text(sessions: &[SessionInfo]) -> String {
    if sessions.is_empty() {
        return "nobody is at work\n".to_owned();
    }
    let mut table = Table::new(&["session", "is", "doing", "source", "host", "since", ">done", "last sign"]);
    for session in sessions {
        let of = |read: fn(&dedump_core::SessionRecord) -> String| session.record.as_ref().map_or("?".to_owned(), read);
        table.row([
            session.id.short(),
            standing(session).to_owned(),
            of(|record| record.operation.clone()),
            of(|record| record.source.clone()),
            of(|record| format!("{} ({})", record.host, record.process)),
            of(|record| time::for_people(record.started_ms)),
            of(|record| human::bytes(record.bytes_done)),
            time::for_people(session.modified_ms),
        ]);
    }
    table.render()
}
