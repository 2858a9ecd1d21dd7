//! The demonstration: a database lives, is backed up every day, and comes back bit for bit.

mod database;
mod report;

use crate::commands::demo::DemoArgs;
use crate::context::{Context, host_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::{runtime, secret};
use database::Database;
use dedump_core::{
    BackupOptions, CheckReport, CreateOptions, Credential, Existing, FileTarget, Filter, ReadData, ReaderEngine,
    Repository, RestoreOptions, Store, backup, check, find, restore,
};
use report::Voice;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The stream's name.
const STREAM: &str = "app.sqlite";

/// One day's row in the table.
struct Day {
    day: u32,
    dump_bytes: u64,
    chunks_n: u64,
    chunks_new_n: u64,
    bytes_added: u64,
}

/// A day that was restored.
struct Restored {
    day: u32,
    bytes: u64,
    identical: bool,
}

/// Where everything lies.
struct Places {
    directory: PathBuf,
    repository: PathBuf,
    key_file: PathBuf,
}

/// Everything that happened.
struct Story {
    places: Places,
    days: Vec<Day>,
    check: CheckReport,
    restored: Vec<Restored>,
}

/// Runs the demonstration.
pub fn run(context: &Context, args: &DemoArgs) -> Outcome {
    let voice = Voice::of(context);
    let places = places(args.dir.as_deref())?;
    let stands = format!("what there is so far lies in {}", places.directory.display());
    let story = runtime::run(tell(context, args, places, &voice), None, &stands)?;
    voice.end(&story)?;
    let is_good = story.check.findings.is_empty() && story.restored.iter().all(|restored| restored.identical);
    Ok(if is_good { Exit::Done } else { Exit::Damage })
}

fn places(directory: Option<&Path>) -> Result<Places, Failure> {
    let failed =
        |path: &Path, error: std::io::Error| Failure::failed(format!("cannot create {}: {error}", path.display()));
    let directory = match directory {
        None => {
            let parent = std::env::temp_dir();
            let made =
                tempfile::Builder::new().prefix("dedump-demo-").tempdir().map_err(|error| failed(&parent, error))?;
            // It stays: the user is invited to look around.
            made.keep()
        }
        Some(directory) => {
            fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
            if fs::read_dir(directory).map_err(|error| failed(directory, error))?.next().is_some() {
                let directory = directory.display();
                return Err(Failure::failed(format!("{directory} is not empty; name an empty or new directory")));
            }
            directory.to_owned()
        }
    };
    Ok(Places { repository: directory.join("repository"), key_file: directory.join("demo.key"), directory })
}

async fn tell(context: &Context, args: &DemoArgs, places: Places, voice: &Voice) -> Result<Story, Failure> {
    let repository = create_repository(context, &places).await?;
    voice.begin(&places)?;
    let mut database = Database::create(&places.directory.join("live.sqlite"), args.size)?;
    let mut days = Vec::new();
    let mut stored = 0;
    for day in 1..=args.days {
        if day > 1 {
            database.live(day)?;
        }
        let row = dump_and_back_up(&repository, &database, &places, day).await?;
        stored += row.bytes_added;
        days.push(row);
        voice.day(&days, stored)?;
        // The first and the last day's dumps are kept, to be compared.
        if day > 1 && day < args.days {
            remove(&dump_path(&places, day))?;
        }
    }
    voice.checking()?;
    let check = check(&repository, ReadData::All, &()).await?;
    voice.checked(&check)?;
    let mut restored = Vec::new();
    for day in if args.days > 1 { vec![1, args.days] } else { vec![1] } {
        restored.push(restore_and_compare(&repository, &places, day).await?);
        voice.restored(&restored)?;
    }
    Ok(Story { places, days, check, restored })
}

async fn create_repository(context: &Context, places: &Places) -> Result<Repository, Failure> {
    let credential = Credential::generate_key_file()?;
    let text = credential.to_key_file_text().expect("a key file has a text");
    secret::create_key_file(&places.key_file, &text)?;
    let options = CreateOptions {
        label: "demo".to_owned(),
        host: host_name(),
        threads_n: context.threads_n(),
        ..CreateOptions::default()
    };
    Ok(Repository::create(Store::create_local(&places.repository)?, &credential, options).await?)
}

async fn dump_and_back_up(
    repository: &Repository,
    database: &Database,
    places: &Places,
    day: u32,
) -> Result<Day, Failure> {
    let path = dump_path(places, day);
    database.dump(&path)?;
    let file = tokio::fs::File::open(&path).await.map_err(|error| cannot("read", &path, &error))?;
    let mut options = BackupOptions::new("app", host_name());
    options.tags = BTreeMap::from([("day".to_owned(), day.to_string())]);
    let report = backup(repository, &ReaderEngine::new(STREAM, file), &options, &()).await?;
    let totals = report.snapshot.record.totals;
    Ok(Day {
        day,
        dump_bytes: totals.bytes,
        chunks_n: totals.chunks_n,
        chunks_new_n: totals.chunks_new_n,
        bytes_added: totals.bytes_added,
    })
}

async fn restore_and_compare(repository: &Repository, places: &Places, day: u32) -> Result<Restored, Failure> {
    let tags = BTreeMap::from([("day".to_owned(), day.to_string())]);
    let snapshot = find(repository, "latest", &Filter { tags, ..Filter::default() }).await?;
    let path = places.directory.join(format!("restored-day-{day}.sqlite"));
    let mut target = FileTarget::file(&path, Existing::Refuse);
    let report = restore(repository, &snapshot, &RestoreOptions::default(), &mut target, &()).await?;
    let original = dump_path(places, day);
    let identical = is_same(&original, &path)?;
    if identical {
        remove(&path)?;
        remove(&original)?;
    }
    Ok(Restored { day, bytes: report.bytes, identical })
}

fn dump_path(places: &Places, day: u32) -> PathBuf {
    places.directory.join(format!("dump-day-{day}.sqlite"))
}

/// Compares two files byte for byte.
fn is_same(one: &Path, other: &Path) -> Result<bool, Failure> {
    let open = |path: &Path| File::open(path).map(BufReader::new).map_err(|error| cannot("read", path, &error));
    let (mut left, mut right) = (open(one)?, open(other)?);
    let (mut left_bytes, mut right_bytes) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let left_n = fill(&mut left, &mut left_bytes).map_err(|error| cannot("read", one, &error))?;
        let right_n = fill(&mut right, &mut right_bytes).map_err(|error| cannot("read", other, &error))?;
        if left_bytes[..left_n] != right_bytes[..right_n] {
            return Ok(false);
        }
        if left_n == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the reader ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn remove(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|error| cannot("remove", path, &error))
}

fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_only_if_every_byte_is() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).expect("it can be written");
            path
        };
        let mut bytes = vec![7; (1 << 20) + 5];
        let one = write("one", &bytes);
        assert!(is_same(&one, &write("same", &bytes)).expect("both can be read"));
        assert!(!is_same(&one, &write("shorter", &bytes[..1 << 20])).expect("both can be read"));
        bytes[(1 << 20) + 4] = 8;
        assert!(!is_same(&one, &write("other", &bytes)).expect("both can be read"));
    }
}
