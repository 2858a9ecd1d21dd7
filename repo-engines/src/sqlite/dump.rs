//! The engine for SQLite.

use super::copy::{self, Copied, Stop};
use super::inspect::{self, Checked};
use super::{DATABASE, INTEGRITY, INVENTORY, explain, url};
use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the copy that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// How an SQLite database is dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Whether a damaged database is stored all the same; the snapshot is suspicious then.
    pub allow_damaged: bool,
    /// Whether the rows of each table are counted, so that a restore can compare them.
    pub count_rows: bool,
    /// How long a lock that another program has is waited for.
    pub lock_wait: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions { allow_damaged: false, count_rows: true, lock_wait: Duration::from_secs(60) }
    }
}

/// Backs up an SQLite database, while others may write to it.
///
/// | stream | what it is |
/// |---|---|
/// | `database.sqlite` | the database file as it would be with its log worked in: an SQLite database by itself |
/// | `inventory.json` | what it is like, how many objects of each kind it has, and the rows of each table |
///
/// What is stored is of one moment, and `PRAGMA integrity_check` found nothing wrong with it.
#[derive(Debug, Clone)]
pub struct SqliteEngine {
    path: PathBuf,
    options: SqliteOptions,
}

/// A copy that is ready to be stored.
struct Ready {
    file: File,
    inventory: Vec<u8>,
    stream_facts: BTreeMap<String, String>,
    verdict: Verdict,
}

impl SqliteEngine {
    /// Creates an engine for the database file that a URL names: `sqlite:///PATH`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the URL can't be.
    pub fn new(url: &str, options: SqliteOptions) -> Result<Self> {
        Ok(SqliteEngine { path: url::parse(url)?, options })
    }

    /// Returns what a source of this URL is called if nobody says: the file's name.
    pub fn usual_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn prepare(&self, stop: &Stop) -> Result<Ready> {
        let path = &self.path;
        let copied = copy::copy(path, self.options.lock_wait, stop)?;
        stop.watch(&copied.connection);
        check_size(&copied)?;
        let checked = inspect::check(&copied.connection).map_err(|error| Error::DumpFailed(explain(path, &error)))?;
        if !checked.damage.is_empty() && !self.options.allow_damaged {
            return Err(Error::DumpFailed(format!(
                "{} is damaged: {}; repair it, or store it as it is with --allow-damaged",
                path.display(),
                checked.damage.join(" / ")
            )));
        }
        self.describe(copied, checked).map_err(|error| Error::DumpFailed(explain(path, &error)))
    }

    fn describe(&self, copied: Copied, checked: Checked) -> rusqlite::Result<Ready> {
        let Copied { file, connection, journal_mode, restarts_n } = copied;
        let properties = inspect::properties(&connection)?;
        let is_whole = checked.damage.is_empty();
        // Of a damaged one, what can still be told.
        let objects =
            inspect::objects(&connection).or_else(|error| if is_whole { Err(error) } else { Ok(json_map()) })?;
        let rows = inspect::rows(&connection, self.options.count_rows)
            .or_else(|error| if is_whole { Err(error) } else { Ok(Vec::new()) })?;
        let lines: Vec<_> = rows.iter().map(|(name, rows)| json!({ "name": name, "rows": rows }).to_string()).collect();
        let inventory = format!(
            "{{\"database\":{},\n\"objects\":{},\n\"tables\":[\n{}\n]}}\n",
            json!(properties),
            json!(objects),
            lines.join(",\n")
        );
        let mut verdict = Verdict { warnings: checked.warnings, ..Verdict::default() };
        if !is_whole {
            verdict.suspicious.push(format!("the database is damaged: {}", checked.damage.join(" / ")));
        }
        verdict.facts = properties.into_iter().map(|(name, value)| (name, text(&value))).collect();
        let counted: Option<u64> = rows.iter().map(|(_, rows)| *rows).sum();
        let facts = [
            ("path", self.path.display().to_string()),
            ("journal_mode", journal_mode),
            ("sqlite_version", rusqlite::version().to_owned()),
            ("tables", rows.len().to_string()),
            ("copy_restarts", restarts_n.to_string()),
        ];
        let facts = facts.into_iter().chain(counted.map(|rows| ("rows", rows.to_string())));
        verdict.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        let mut stream_facts = BTreeMap::from([
            ("format".to_owned(), "SQLite 3".to_owned()),
            (INTEGRITY.to_owned(), if is_whole { "ok" } else { "damaged" }.to_owned()),
        ]);
        stream_facts.extend(mode_of(&self.path).map(|mode| ("mode".to_owned(), format!("{mode:o}"))));
        Ok(Ready { file, inventory: inventory.into_bytes(), stream_facts, verdict })
    }
}

/// Checks that what reads the copy sees all of it: else its check would say nothing of what is stored.
fn check_size(copied: &Copied) -> Result<()> {
    let cannot = |why: String| Error::DumpFailed(format!("the copy can't be checked: {why}"));
    let pragma = |name: &str| copied.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let sizes = pragma("page_size").and_then(|size| Ok((size, pragma("page_count")?)));
    let (page_size, page_count) = sizes.map_err(|error| cannot(error.to_string()))?;
    let bytes_n = copied.file.metadata().map_err(|error| cannot(error.to_string()))?.len();
    match i128::from(page_size) * i128::from(page_count) == i128::from(bytes_n) {
        true => Ok(()),
        false => Err(cannot(format!("it has {bytes_n} bytes, which are no {page_count} pages of {page_size}"))),
    }
}

fn json_map() -> serde_json::Map<String, serde_json::Value> {
    serde_json::Map::new()
}

fn mode_of(path: &Path) -> Option<u32> {
    // It may be gone by now; the dump is not the worse for it.
    std::fs::metadata(path).ok().map(|metadata| metadata.mode() & 0o777)
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Stops the thread when nobody waits for it any more.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[async_trait]
impl Engine for SqliteEngine {
    fn kind(&self) -> &str {
        "sqlite"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let (engine, stop) = (self.clone(), Stop::default());
        let _stop_on_drop = StopOnDrop(stop.clone());
        let Ready { mut file, inventory, stream_facts, verdict } = blocking(move || engine.prepare(&stop)).await?;
        let mut stream = sink.stream(DATABASE).await?;
        let mut at = 0;
        loop {
            let read = blocking(move || {
                let mut piece = vec![0; PIECE_BYTES];
                let read = file.read_at(&mut piece, at);
                let read_n = read.map_err(|error| Error::DumpFailed(format!("cannot read the copy: {error}")))?;
                piece.truncate(read_n);
                Ok((file, piece))
            });
            let (again, piece) = read.await?;
            if piece.is_empty() {
                break;
            }
            stream.write(&piece).await?;
            at += piece.len() as u64;
            file = again;
        }
        stream.finish(stream_facts).await?;
        let mut stream = sink.stream(INVENTORY).await?;
        stream.write(&inventory).await?;
        stream.finish(BTreeMap::new()).await?;
        Ok(verdict)
    }
}

/// Runs what blocks on a thread for such work.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::System(format!("the thread that works on the database died: {error}")))?
}
