//! Fills an empty database: by one `pg_restore`, or by several side by side where large tables have streams of their own.

use super::contents::{Contents, TableName, TableStream};
use super::feed::{Fed, Feed, Need};
use crate::child::Invocation;
use crate::fed::Kept;
use crate::postgres::client::Client;
use crate::postgres::copy;
use crate::postgres::dump::DumpPart;
use crate::postgres::session::Session;
use crate::postgres::sql;
use dedump_core::{Error, Progress, Repository, Result, StreamRecord};
use futures::{StreamExt, TryStreamExt, stream};
use std::ffi::OsString;

/// Reads a list for `pg_restore --use-list` of so many bytes from the front of its input, into a file that is gone at once.
const READ_LIST: &str =
    "l=$(mktemp) && dd bs=1 count=\"$0\" of=\"$l\" 2>/dev/null && exec 3<\"$l\" && rm -f \"$l\" && exec \"$@\"";
/// What `pg_restore` says of an archive, or makes of it without data, at most.
const TEXT_BYTES_MAX: usize = 256 << 20;

/// How a database is filled.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    pub(super) part: DumpPart,
    pub(super) no_owner: bool,
    pub(super) no_privileges: bool,
    pub(super) no_tablespaces: bool,
    pub(super) ignore_errors: bool,
    /// All of one `pg_restore` or nothing.
    pub(super) single_transaction: bool,
    pub(super) jobs: usize,
    pub(super) disable_triggers: bool,
    /// Only these entries; `None` stands for all.
    pub(super) list: Option<String>,
    /// Whether `database.dump` has data that are wanted.
    pub(super) has_data: bool,
    /// Streams of tables that are wanted.
    pub(super) tables: Vec<(TableName, TableStream)>,
    /// Whether the extension TimescaleDB is prepared before and after.
    pub(super) is_timescale: bool,
}

impl Load {
    /// Returns the streams that are read.
    pub(super) fn streams(&self, contents: &Contents<'_>) -> Vec<String> {
        let mut streams = Vec::new();
        if self.reads_database() {
            streams.push(contents.database.clone());
        }
        if self.part != DumpPart::Schema {
            streams.extend(self.tables.iter().map(|(_, stream)| stream.name.clone()));
        }
        streams
    }

    /// Returns whether `database.dump` has anything that is wanted.
    fn reads_database(&self) -> bool {
        self.part != DumpPart::Data || self.has_data
    }

    /// Returns how `pg_restore` is run on an archive. `section`: `pre-data`, `data`, `post-data`, or empty for all of them.
    fn invocation(&self, client: &Client, section: &str, list: Option<&str>) -> Result<Invocation> {
        let mut arguments: Vec<OsString> = vec!["--no-password".into()];
        let mut flag = |is_set: bool, flag: &str| {
            if is_set {
                arguments.push(flag.into());
            }
        };
        flag(!self.ignore_errors, "--exit-on-error");
        flag(self.no_owner, "--no-owner");
        flag(self.no_privileges, "--no-privileges");
        flag(self.no_tablespaces, "--no-tablespaces");
        flag(self.disable_triggers, "--disable-triggers");
        flag(self.single_transaction && !self.ignore_errors, "--single-transaction");
        match section {
            "" => {
                flag(self.part == DumpPart::Schema, "--schema-only");
                flag(self.part == DumpPart::Data, "--data-only");
            }
            section => arguments.push(format!("--section={section}").into()),
        }
        with_list(client, "-d", arguments, list)
    }

    /// Loads everything that is wanted into the database of `client`.
    ///
    /// # Errors
    /// [`dedump_core::Error::DumpFailed`]: `pg_restore` fails. Those of the repository.
    pub(super) async fn run(
        &self,
        (repository, contents): (&Repository, &Contents<'_>),
        client: &Client,
        session: &mut Session,
        progress: &dyn Progress,
    ) -> Result<Fed> {
        if self.is_timescale {
            session.ask("SELECT timescaledb_pre_restore()").await?;
        }
        let from = (repository, contents, progress);
        let database = std::slice::from_ref(&contents.database);
        let list = self.list.as_deref();
        let mut fed = Fed::default();
        let mut add = |more: Fed| {
            fed.errors_n += more.errors_n;
            fed.problems.extend(more.problems);
        };
        if self.tables.is_empty() || self.part == DumpPart::Schema {
            let need = if list.is_none() && self.part != DumpPart::Schema { Need::Whole } else { Need::Part };
            add(self.feed(from, database, need, &|_| self.invocation(client, "", list)).await?);
        } else {
            if self.part == DumpPart::All {
                add(self.feed(from, database, Need::Part, &|_| self.invocation(client, "pre-data", list)).await?);
            }
            self.lanes(from, client).await?.into_iter().for_each(&mut add);
            if self.part == DumpPart::All {
                add(self.feed(from, database, Need::Part, &|_| self.invocation(client, "post-data", list)).await?);
            }
        }
        if self.is_timescale {
            session.ask("SELECT timescaledb_post_restore()").await?;
        }
        Ok(fed)
    }

    /// Loads data, `jobs` streams at once, each lane one after another.
    async fn lanes(&self, from: (&Repository, &Contents<'_>, &dyn Progress), client: &Client) -> Result<Vec<Fed>> {
        let contents = from.1;
        let mut lanes: Vec<Option<(TableName, TableStream)>> = self.tables.iter().cloned().map(Some).collect();
        if self.has_data {
            lanes.push(None);
        }
        let stream = |lane: &Option<(TableName, TableStream)>| match lane {
            Some((_, stream)) => stream.name.clone(),
            None => contents.database.clone(),
        };
        lanes.sort_by_key(|lane| std::cmp::Reverse(contents.bytes_of(&[stream(lane)])));
        let load = |lane: Option<(TableName, TableStream)>| async {
            match lane {
                Some(table) => self.load_table(from, client, table).await,
                None => {
                    let list = self.list.as_deref();
                    let need = if list.is_some() { Need::Part } else { Need::Whole };
                    let streams = [contents.database.clone()];
                    self.feed(from, &streams, need, &|_| self.invocation(client, "data", list)).await
                }
            }
        };
        stream::iter(lanes.into_iter().map(load)).buffer_unordered(self.jobs.max(1)).try_collect().await
    }

    /// Loads the rows of one table, all or none.
    async fn load_table(
        &self,
        from: (&Repository, &Contents<'_>, &dyn Progress),
        client: &Client,
        (table, stream): (TableName, TableStream),
    ) -> Result<Fed> {
        let name = sql::of_table(&table);
        let invocation = |_: &StreamRecord| copy::into(client, &name, &stream.columns, self.disable_triggers);
        match self.feed(from, std::slice::from_ref(&stream.name), Need::Whole, &invocation).await {
            Err(Error::DumpFailed(why)) if self.ignore_errors => {
                Ok(Fed { errors_n: 1, problems: vec![format!("table {name}: {why}")] })
            }
            Err(Error::DumpFailed(why)) => Err(Error::DumpFailed(format!("table {name}: {why}"))),
            outcome => outcome,
        }
    }

    async fn feed(
        &self,
        (repository, contents, progress): (&Repository, &Contents<'_>, &dyn Progress),
        streams: &[String],
        need: Need,
        invocation: &(dyn Fn(&StreamRecord) -> Result<Invocation> + Send + Sync),
    ) -> Result<Fed> {
        let mut nothing = Kept { bytes: Vec::new(), bytes_max: TEXT_BYTES_MAX };
        let feed = Feed { invocation, taker: &mut nothing, need, counts_errors: self.ignore_errors };
        feed.run(repository, contents.snapshot, streams, progress).await
    }
}

/// Returns `pg_restore` with a list in front of its input, if there is one.
pub(super) fn with_list(
    client: &Client,
    flag: &str,
    mut arguments: Vec<OsString>,
    list: Option<&str>,
) -> Result<Invocation> {
    let Some(list) = list else { return client.invocation("pg_restore", flag, &arguments) };
    arguments.push("--use-list=/dev/fd/3".into());
    let wrapper = ["sh", "-c", READ_LIST, &list.len().to_string()].map(OsString::from);
    let mut invocation = client.wrapped(&wrapper, "pg_restore", flag, &arguments)?;
    invocation.input.extend_from_slice(list.as_bytes());
    Ok(invocation)
}

/// Returns a `pg_restore` that prints, and works on no database.
pub(super) fn to_output(client: &Client, list: Option<&str>, arguments: &[&str]) -> Result<Invocation> {
    let mut invocation = with_list(client, "-d", arguments.iter().map(OsString::from).collect(), list)?;
    let at = invocation.argv.iter().position(|word| word == "-d").expect("it was just put there");
    invocation.argv.drain(at..at + 2);
    Ok(invocation)
}

/// Returns what `pg_restore` prints of an archive's table of contents.
///
/// # Errors
/// As [`Load::run`].
pub(super) async fn print(
    (repository, contents): (&Repository, &Contents<'_>),
    client: &Client,
    list: Option<&str>,
    arguments: &[&str],
) -> Result<String> {
    let invocation = |_: &StreamRecord| to_output(client, list, arguments);
    let mut kept = Kept { bytes: Vec::new(), bytes_max: TEXT_BYTES_MAX };
    let feed = Feed { invocation: &invocation, taker: &mut kept, need: Need::Part, counts_errors: false };
    feed.run(repository, contents.snapshot, std::slice::from_ref(&contents.database), &()).await?;
    Ok(String::from_utf8_lossy(&kept.bytes).into_owned())
}
