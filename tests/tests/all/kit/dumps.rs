//! Dumps to back up, and how they change from day to day.

use super::random::Random;
use dedump_core::{Engine, Result, Sink, Verdict, async_trait};
use std::collections::BTreeMap;

/// Streams by name.
pub type Streams = BTreeMap<String, Vec<u8>>;

/// Dumps streams from memory.
pub struct StreamsEngine(pub Streams);

#[async_trait]
impl Engine for StreamsEngine {
    fn kind(&self) -> &str {
        "streams"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        for (name, bytes) in &self.0 {
            let mut stream = sink.stream(name).await?;
            stream.write(bytes).await?;
            stream.finish(BTreeMap::new()).await?;
        }
        Ok(Verdict::default())
    }
}

/// Returns a dump of one stream.
pub fn one(name: &str, bytes: Vec<u8>) -> Streams {
    Streams::from([(name.to_owned(), bytes)])
}

/// Changes a stream as a database does: overwrites, inserts, deletes, appends, moves a stretch.
pub fn edit(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) + 1 {
        let at = random.below(bytes.len() + 1);
        let length = random.below(2000).min(bytes.len() - at);
        match random.below(5) {
            0 => {
                let new = random.text(length);
                bytes[at..at + length].copy_from_slice(&new);
            }
            1 => {
                let new = random.text(500);
                bytes.splice(at..at, new);
            }
            2 => {
                bytes.drain(at..at + length);
            }
            3 => {
                let new_n = random.below(20_000);
                bytes.extend(random.text(new_n));
            }
            _ => {
                let moved: Vec<u8> = bytes.drain(at..at + length).collect();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, moved);
            }
        }
    }
}
