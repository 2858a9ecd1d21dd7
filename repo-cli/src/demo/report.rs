//! What the demonstration says: a table that grows as the days go by, or one JSON document at the end.

use super::{Day, Places, Restored, Story};
use crate::context::Context;
use crate::exit::Failure;
use crate::{human, output};
use dedump_core::CheckReport;
use serde_json::json;

/// Who speaks, and whether.
pub struct Voice {
    text: bool,
    json: bool,
}

impl Voice {
    /// Creates the voice that the flags ask for.
    pub fn of(context: &Context) -> Self {
        Voice { text: !context.json() && !context.quiet(), json: context.json() }
    }

    pub fn begin(&self, places: &Places) -> Result<(), Failure> {
        self.say(|| {
            format!(
                "A SQLite database lives in {}. Each day about 1 % of its rows change (most of them recent ones),\n\
                 some are deleted, and it grows by 1 to 2 %. Each evening a full copy of it is backed up.\n\n\
                 {:>3}  {:>9}  {:>18}  {:>10}  {:>12}  {:>5}\n",
                places.directory.display(),
                "DAY",
                "DUMP",
                "NEW CHUNKS",
                "ADDED",
                "TOTAL STORED",
                "RATIO"
            )
        })
    }

    pub fn day(&self, days: &[Day], stored: u64) -> Result<(), Failure> {
        let (Some(day), dumped) = (days.last(), days.iter().map(|day| day.dump_bytes).sum()) else { return Ok(()) };
        self.say(|| {
            format!(
                "{:>3}  {:>9}  {:>18}  {:>10}  {:>12}  {:>5}\n",
                day.day,
                human::bytes(day.dump_bytes),
                format!("{} of {}", human::count(day.chunks_new_n), human::count(day.chunks_n)),
                human::bytes(day.bytes_added),
                human::bytes(stored),
                human::ratio(dumped, stored)
            )
        })
    }

    pub fn checking(&self) -> Result<(), Failure> {
        self.say(|| "\nRatio: all dumps so far, by what is stored for them.\n\n".to_owned())
    }

    pub fn checked(&self, check: &CheckReport) -> Result<(), Failure> {
        self.say(|| match check.findings.len() {
            0 => format!(
                "check   read all {} of {}: no damage\n",
                human::bytes(check.bytes_read),
                human::counted(check.packs_read_n, "pack")
            ),
            found => format!("check   {} of damage\n", human::counted(found as u64, "finding")),
        })
    }

    pub fn restored(&self, restored: &[Restored]) -> Result<(), Failure> {
        let Some(restored) = restored.last() else { return Ok(()) };
        self.say(|| {
            let verdict =
                if restored.identical { "identical to the original, bit for bit" } else { "DIFFERS FROM THE ORIGINAL" };
            format!("restore day {:<3} {}: {verdict}\n", restored.day, human::bytes(restored.bytes))
        })
    }

    pub fn end(&self, story: &Story) -> Result<(), Failure> {
        if self.json {
            return output::print_json(&to_json(story));
        }
        self.say(|| what_next(&story.places))
    }

    fn say(&self, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.text { output::print(&text()) } else { Ok(()) }
    }
}

fn what_next(places: &Places) -> String {
    let word = |path: &std::path::Path| output::shell_word(&path.display().to_string());
    let with = format!(
        "{} --repo {} --key-file {}",
        output::shell_word(&program()),
        word(&places.repository),
        word(&places.key_file)
    );
    let restored = word(&places.directory.join("restored"));
    format!(
        "\nThe repository is {}, its key file {}. Try next:\n\n  \
         {with} snapshots\n  \
         {with} show latest\n  \
         {with} restore latest --tag day=1 --to {restored}\n  \
         {with} stats\n  \
         rm -r {}\n",
        places.repository.display(),
        places.key_file.display(),
        word(&places.directory)
    )
}

/// How the user can start dedump again.
fn program() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    if typed.contains('/') { typed } else { "dedump".to_owned() }
}

fn to_json(story: &Story) -> serde_json::Value {
    let (mut dumped, mut stored) = (0, 0);
    let mut day = |day: &Day| {
        dumped += day.dump_bytes;
        stored += day.bytes_added;
        json!({
            "day": day.day,
            "bytes": day.dump_bytes,
            "chunks": day.chunks_n,
            "chunks_new": day.chunks_new_n,
            "bytes_added": day.bytes_added,
            "bytes_stored": stored,
            "ratio": dumped as f64 / stored.max(1) as f64,
        })
    };
    json!({
        "directory": story.places.directory.display().to_string(),
        "repository": story.places.repository.display().to_string(),
        "key_file": story.places.key_file.display().to_string(),
        "days": story.days.iter().map(&mut day).collect::<Vec<_>>(),
        "findings": story.check.findings.len(),
        "bytes_read": story.check.bytes_read,
        "restored": story
            .restored
            .iter()
            .map(|restored| json!({ "day": restored.day, "bytes": restored.bytes, "identical": restored.identical }))
            .collect::<Vec<_>>(),
    })
}
