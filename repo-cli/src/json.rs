//! The JSON of what several commands print. `repo-cli/JSON.md` documents it; it grows, and what is there stays.

use crate::time;
use dedump_core::{Hold, HoldRecord, Quality, Requests, Snapshot, SnapshotId, StreamRecord};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A snapshot, with all that it says, and the hold on it.
pub fn held_snapshot(one: &Snapshot, holds: &BTreeMap<SnapshotId, Hold>) -> Value {
    let mut value = snapshot(one);
    value["hold"] = holds.get(&one.id).map_or(Value::Null, hold);
    value
}

/// A hold, and whether it holds now.
pub fn hold(hold: &Hold) -> Value {
    let holds = hold.holds_at(time::now_ms());
    match hold {
        Hold::Says(HoldRecord { reason, since_ms, until_ms, by }) => json!({
            "holds": holds,
            "reason": reason,
            "since": time::rfc3339(*since_ms),
            "until": until_ms.map(time::rfc3339),
            "by": by,
            "problem": null,
        }),
        Hold::Unreadable(why) => {
            json!({ "holds": holds, "reason": null, "since": null, "until": null, "by": null, "problem": why })
        }
    }
}

/// A snapshot, with all that it says. That nothing holds it is right for one that was just made.
pub fn snapshot(snapshot: &Snapshot) -> Value {
    let record = &snapshot.record;
    json!({
        "id": snapshot.id.to_string(),
        "time": time::rfc3339(record.started_ms),
        "ended": time::rfc3339(record.ended_ms),
        "host": record.host,
        "source": record.source,
        "tags": record.tags,
        "streams": record.streams.iter().map(stream).collect::<Vec<_>>(),
        "quality": quality(record.quality),
        "reasons": record.reasons,
        "warnings": record.warnings,
        "facts": record.facts,
        "parent": record.parent.map(|id| id.to_string()),
        "origin": record.origin.map(|id| id.to_string()),
        "program": record.program,
        "hold": null,
        "bytes": record.totals.bytes,
        "chunks": record.totals.chunks_n,
        "chunks_new": record.totals.chunks_new_n,
        "bytes_new": record.totals.bytes_new,
        "bytes_added": record.totals.bytes_added,
        "bytes_added_meta": record.totals.bytes_added_meta,
        "bytes_stored_whole": record.totals.bytes_stored_whole,
        "chunks_delta": record.totals.chunks_delta_n,
        "bytes_delta": record.totals.bytes_delta,
        "bytes_stored_delta": record.totals.bytes_stored_delta,
        "bytes_read_back": record.totals.bytes_read_back,
        "depths": record.totals.depths,
    })
}

fn stream(stream: &StreamRecord) -> Value {
    json!({
        "name": stream.name,
        "bytes": stream.bytes,
        "chunks": stream.chunks_n,
        "hash": hash(stream),
        "facts": stream.facts,
    })
}

/// A stream's hash in hex, as `b3sum` prints it.
pub fn hash(stream: &StreamRecord) -> String {
    blake3::Hash::from_bytes(stream.hash).to_hex().to_string()
}

/// Requests by their kind, and the bytes that they carried.
pub fn requests(requests: &Requests) -> Value {
    json!({
        "list": requests.lists_n,
        "read": requests.reads_n,
        "head": requests.heads_n,
        "write": requests.writes_n,
        "delete": requests.deletes_n,
        "bytes_read": requests.bytes_read,
        "bytes_written": requests.bytes_written,
    })
}

/// A quality's name.
pub fn quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "good",
        Quality::Suspicious => "suspicious",
        Quality::Partial => "partial",
        _ => "unknown",
    }
}
