//! The most memory that a large backup has, and a restore, and a check that reads all data: each in a process of its own,
//! which this program starts again as, so that none hides behind another's peak.

use crate::parts::{self, Facts};
use crate::table::{Row, mib};
use crate::text::Text;
use crate::timing::mb_per_sec;
use crate::{Result, Size, secret};
use dedump_core::internals::loader;
use dedump_core::{
    BackupOptions, Bytes, CreateOptions, Engine, Filter, OpenOptions, ReadData, Repository, RestoreOptions, Sink,
    Store, StreamRecord, Target, Verdict, async_trait, backup, check, find, limits, restore,
};
use std::collections::BTreeMap;
use std::path::Path;

/// What a process may take besides the index.
const BYTES_MAX: u64 = 300 << 20;
/// What the index may take for each chunk.
const BYTES_PER_CHUNK_MAX: u64 = 48;

/// The word for its parts.
pub const PART: &str = "memory";

/// Measures it all: backs up 10 GiB of text into a directory, restores it, checks it.
///
/// # Errors
/// A part that fails, or a restore that gives back anything else.
pub fn measure(size: Size) -> Result<Vec<Row>> {
    let bytes_n: u64 = size.choose(10 << 30, 512 << 20);
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().ok_or("the path of the temporary folder is no UTF-8")?;
    let part = |name: &str| parts::start(&[PART, name, path, &bytes_n.to_string()]);
    let (backup, restore, check) = (part("backup")?, part("restore")?, part("check")?);
    if restore.text("hash")? != Text::new(3, bytes_n).hash().to_hex().as_str() {
        return Err("the restore gave back something else".into());
    }
    let size_text = size.choose("10 GiB", "0.5 GiB");
    let chunks_n = backup.number("chunks_n")?;
    let bound = (BYTES_MAX + BYTES_PER_CHUNK_MAX * chunks_n) as f64;
    let peak = |facts: &Facts| facts.number("peak_bytes").map(|bytes| bytes as f64);
    let rate = |facts: &Facts| {
        let secs = facts.number("ms")? as f64 / 1e3;
        Result::Ok(format!("{:.0} MB/s", mb_per_sec(bytes_n, secs)))
    };
    let index_bytes = check.number("index_bytes")? as f64 / check.number("index_chunks_n")? as f64;
    let stored = backup.number("bytes_added")? as f64 / bytes_n as f64;
    let sum = |bytes: usize| mib(bytes as f64);
    Ok(vec![
        Row::at_most(format!("peak memory of a backup of {size_text}"), peak(&backup)?, bound, mib),
        Row::at_most(format!("peak memory of a restore of {size_text}"), peak(&restore)?, bound, mib),
        Row::figure(format!("peak memory of `check --read-data` on {size_text}"), mib(peak(&check)?)),
        Row::figure("limits of a backup and of a restore, without the index, by `limits`", {
            format!("{}, {}", sum(limits::BACKUP_BYTES_MAX), sum(limits::RESTORE_BYTES_MAX))
        }),
        index_row(size, index_bytes),
        Row::figure(format!("chunks of {size_text}, and their mean length"), {
            format!("{chunks_n}, {} B", bytes_n / chunks_n.max(1))
        }),
        Row::figure("stored of what was read", format!("{:.1} %", stored * 100.0)),
        Row::figure("backup to a directory, the text being made beside it", rate(&backup)?),
        Row::figure("restore from a directory, every byte hashed once more", rate(&restore)?),
        Row::figure("`check --read-data` in a directory, of the dump's bytes", rate(&check)?),
    ])
}

/// A small index has room to spare, up to a segment; only of a large one the bound means anything.
fn index_row(size: Size, bytes_per_chunk: f64) -> Row {
    let measure = "index in memory, bytes a chunk or node";
    let show = |bytes: f64| format!("{bytes:.1}");
    match size {
        Size::Full => Row::at_most(measure, bytes_per_chunk, BYTES_PER_CHUNK_MAX as f64, show),
        Size::Small => Row::figure(measure, show(bytes_per_chunk)),
    }
}

/// Does one part, in a process of its own; returns the lines to report.
///
/// # Errors
/// The part's own, or one that there is not.
pub fn part(args: &[&str]) -> Result<String> {
    let [name, folder, bytes_n] = args else { return Err("a part needs a name, a folder and a length".into()) };
    let (folder, bytes_n) = (Path::new(folder).join("repository"), bytes_n.parse()?);
    match *name {
        "backup" => parts::report(back_up(&folder, bytes_n)),
        "restore" => parts::report(give_back(&folder)),
        "check" => parts::report(look(&folder)),
        _ => Err(format!("there is no part {name}").into()),
    }
}

async fn back_up(folder: &Path, bytes_n: u64) -> Result<String> {
    let repository = Repository::create(Store::create_local(folder)?, &secret(), CreateOptions::default()).await?;
    let report = backup(&repository, &TextEngine(bytes_n), &BackupOptions::new("text", "bench"), &()).await?;
    let totals = report.snapshot.record.totals;
    if totals.bytes != bytes_n || totals.chunks_new_n != totals.chunks_n {
        return Err("the text repeats, or is not all there".into());
    }
    Ok(format!("chunks_n {}\nbytes_added {}\n", totals.chunks_n, totals.bytes_added))
}

async fn open(folder: &Path) -> Result<Repository> {
    Ok(Repository::open(Store::local(folder)?, &secret(), OpenOptions::default()).await?)
}

async fn give_back(folder: &Path) -> Result<String> {
    let repository = open(folder).await?;
    let snapshot = find(&repository, "latest", &Filter::default()).await?;
    let mut target = HashTarget(Box::default());
    restore(&repository, &snapshot, &RestoreOptions::default(), &mut target, &()).await?;
    Ok(format!("hash {}\n", target.0.finalize().to_hex()))
}

async fn look(folder: &Path) -> Result<String> {
    let repository = open(folder).await?;
    if !check(&repository, ReadData::All, &()).await?.findings.is_empty() {
        return Err("the check found damage in a repository that nobody has touched".into());
    }
    let index = loader::load(&repository).await?.index;
    Ok(format!("index_bytes {}\nindex_chunks_n {}\n", index.memory_bytes(), index.chunks_n()))
}

/// Dumps that much text, a block at a time.
struct TextEngine(u64);

#[async_trait]
impl Engine for TextEngine {
    fn kind(&self) -> &str {
        "text"
    }

    async fn dump(&self, sink: &Sink) -> dedump_core::Result<Verdict> {
        let mut stream = sink.stream("text").await?;
        let mut text = Text::new(3, self.0);
        while let Some(block) = text.next_block() {
            stream.write(block).await?;
        }
        stream.finish(BTreeMap::new()).await?;
        Ok(Verdict::default())
    }
}

/// Hashes what is given back, and keeps none of it.
struct HashTarget(Box<blake3::Hasher>);

#[async_trait]
impl Target for HashTarget {
    async fn begin(&mut self, _: &StreamRecord) -> dedump_core::Result<()> {
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> dedump_core::Result<()> {
        self.0.update(&bytes);
        Ok(())
    }

    async fn end(&mut self) -> dedump_core::Result<()> {
        Ok(())
    }
}
