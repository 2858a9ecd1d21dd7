//! Moves what was loaded to its place, and what was there out of it.

use super::prepare::Prepared;
use super::target;
use super::{MysqlRestore, MysqlRestored};
use crate::mysql::client::Client;
use crate::mysql::dump::dump_programs;
use crate::mysql::inventory::Described;
use crate::mysql::{programs, take, text};
use crate::stored;
use dedump_core::{Error, Repository, Result};

/// How long it is waited for whoever uses a table that is to move, in seconds.
const LOCK_WAIT_SECS: u32 = 5;

/// What is run in a database, as scripts in the order in which they are made.
pub(super) struct Programs {
    scripts: Vec<Script>,
}

struct Script {
    /// What it is, for people.
    what: String,
    text: Vec<u8>,
    is_events: bool,
}

impl Programs {
    /// Reads those of a dump that are to be restored.
    pub(super) async fn read(repository: &Repository, prepared: &Prepared<'_>, no_definers: bool) -> Result<Programs> {
        let contents = &prepared.contents;
        let mut streams = Vec::new();
        if prepared.is_whole {
            // Views may call functions.
            streams.extend(["routines.sql", "views.sql"].iter().filter_map(|name| contents.stream(name)));
        }
        streams.extend(prepared.tables.iter().filter_map(|table| contents.triggers_of(&table.name)));
        if prepared.is_whole {
            streams.extend(contents.stream("events.sql"));
        }
        let mut scripts = Vec::new();
        for stream in streams {
            let text = stored::read_small(repository, contents.snapshot, &stream).await?;
            let text = programs::adapted(&text, no_definers, ("", ""));
            scripts.push(Script { is_events: stream.ends_with("events.sql"), what: stream, text });
        }
        Ok(Programs { scripts })
    }

    /// Takes down those of the database that is there: all, or the triggers of these tables.
    async fn of_existing(
        client: &Client,
        name: &str,
        existing: &Described,
        only: Option<&[String]>,
    ) -> Result<Programs> {
        let mut scripts = Vec::new();
        let mut add = async |what: &str, flags: &[&str], tables: &[String], there_n: u64| {
            if there_n == 0 {
                return Ok(());
            }
            let text = dump_programs(client, name, flags, tables).await?;
            // They are about to be dropped.
            if programs::created_n(&text) < there_n {
                return Err(Error::DumpFailed(format!("{what} of {name} can't all be read, so nothing is replaced")));
            }
            scripts.push(Script { what: what.to_owned(), text, is_events: what == "the events" });
            Ok(())
        };
        let is_whole = only.is_none();
        let is_meant = |table: &&String| only.is_none_or(|only| only.contains(table));
        let tables: Vec<String> = existing.triggers.keys().filter(is_meant).cloned().collect();
        let triggers_n = tables.iter().filter_map(|table| existing.triggers.get(table)).sum();
        let routines_n = if is_whole { existing.routines_n } else { 0 };
        let views_n = if is_whole { existing.views.len() as u64 } else { 0 };
        let events_n = if is_whole { existing.events_n } else { 0 };
        add("the routines", &["--no-create-info", "--skip-triggers", "--routines"], &[], routines_n).await?;
        add("the views", &["--skip-triggers"], &existing.views, views_n).await?;
        add("the triggers", &["--no-create-info", "--triggers"], &tables, triggers_n).await?;
        add("the events", &["--no-create-info", "--skip-triggers", "--events"], &[], events_n).await?;
        Ok(Programs { scripts })
    }

    /// Makes them in a database, but for events; `from` is the one that they were dumped from.
    pub(super) async fn make(&self, client: &Client, database: &str, from: &str) -> Result<()> {
        self.make_some(client, database, from, false).await
    }

    async fn make_all(&self, client: &Client, database: &str, from: &str) -> Result<()> {
        self.make_some(client, database, from, true).await
    }

    async fn make_some(&self, client: &Client, database: &str, from: &str, with_events: bool) -> Result<()> {
        for script in self.scripts.iter().filter(|script| with_events || !script.is_events) {
            let text = programs::adapted(&script.text, false, (from, database));
            let text = String::from_utf8(text)
                .map_err(|_| Error::DumpFailed(format!("{} is no UTF-8, so it can't be handed on", script.what)))?;
            client.run(Some(database), &text).await.map_err(|error| match error {
                Error::DumpFailed(why) => Error::DumpFailed(format!("{}: {why}", script.what)),
                error => error,
            })?;
        }
        Ok(())
    }
}

/// What moves, from one database to another.
struct Moves {
    /// Tables and sequences, each from where to where.
    renames: Vec<(String, String, String)>,
}

impl Moves {
    fn add<'n>(&mut self, names: impl IntoIterator<Item = &'n String>, from: &str, to: &str) {
        self.renames.extend(names.into_iter().map(|name| (name.clone(), from.to_owned(), to.to_owned())));
    }

    fn back(&self) -> Moves {
        Moves {
            renames: self
                .renames
                .iter()
                .rev()
                .map(|(name, from, to)| (name.clone(), to.clone(), from.clone()))
                .collect(),
        }
    }

    /// Moves all of them, or none.
    async fn run(&self, client: &Client) -> Result<()> {
        if self.renames.is_empty() {
            return Ok(());
        }
        let one = |(name, from, to): &(String, String, String)| {
            let name = text::name(name);
            format!("{}.{name} TO {}.{name}", text::name(from), text::name(to))
        };
        let list = self.renames.iter().map(one).collect::<Vec<_>>().join(",\n");
        let session = format!("SET SESSION foreign_key_checks = 0, lock_wait_timeout = {LOCK_WAIT_SECS}");
        client.ask(&format!("{session}; RENAME TABLE {list}")).await.map(drop)
    }
}

impl MysqlRestore {
    /// Moves what was loaded into the database that is wanted.
    pub(super) async fn publish(
        &self,
        prepared: &Prepared<'_>,
        own: &str,
        programs: &Programs,
        restored: &mut MysqlRestored,
    ) -> Result<()> {
        let Prepared { client, name, contents, .. } = prepared;
        let now = target::find(client, name).await?;
        let there = now.as_ref().and_then(target::what_is_there);
        if there.is_some() && prepared.there.is_none() && prepared.is_whole {
            return Err(Error::DumpFailed(format!(
                "somebody else has filled the database {name} meanwhile: it has {}",
                there.unwrap_or_default()
            )));
        }
        let loaded = target::find(client, own).await?.unwrap_or_default();
        if now.is_none() {
            client.ask(&format!("CREATE DATABASE {} {}", text::name(name), contents.inventory.create)).await?;
        }
        let names: Vec<String> = prepared.tables.iter().map(|table| table.name.clone()).collect();
        let only = (!prepared.is_whole).then_some(&names[..]);
        let empty = Described::default();
        let old = now.as_ref().unwrap_or(&empty);
        let old_create = match prepared.is_whole && now.is_some() {
            true => Some(create_of(client, name).await?),
            false => None,
        };
        let old_programs = Programs::of_existing(client, name, old, only).await?;
        let mut moves = Moves { renames: Vec::new() };
        let is_old = |table: &&String| only.is_none_or(|only| only.contains(table));
        let old_tables: Vec<&String> = old.tables.keys().chain(&old.sequences).filter(is_old).collect();
        let mut kept = None;
        if prepared.there.is_some() {
            let before = target::free_name(client, name, "before", &contents.snapshot.id.short()).await?;
            client.ask(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", text::name(&before))).await?;
            moves.add(old_tables.iter().copied(), name, &before);
            kept = Some(before);
        }
        let sequences = loaded.sequences.iter().filter(|_| prepared.is_whole);
        moves.add(names.iter().filter(|table| loaded.tables.contains_key(*table)).chain(sequences), own, name);
        let done = async {
            // A table with triggers does not move to another database; nor do views.
            drop_programs(client, own, Some(&names)).await?;
            drop_programs(client, name, only).await?;
            moves.run(client).await?;
            let finished = async {
                move_defaults(client, own, name).await?;
                // What is created from here on takes the database's character set with it.
                if old_create.is_some() {
                    alter(client, name, &contents.inventory.create).await?;
                }
                programs.make_all(client, name, &contents.inventory.database).await
            };
            if let Err(error) = finished.await {
                drop_programs(client, name, only).await?;
                moves.back().run(client).await?;
                if let Some(old_create) = &old_create {
                    alter(client, name, old_create).await?;
                }
                return Err(error);
            }
            Ok(())
        };
        if let Err(error) = done.await {
            return Err(self.undo(prepared, now.is_none(), (&old_programs, kept.as_deref()), error).await);
        }
        if let Some(before) = kept {
            self.keep(client, (name, &before), &old_programs, restored).await;
        }
        Ok(())
    }

    /// Makes again what was taken down, where the new could not take its place.
    async fn undo(
        &self,
        prepared: &Prepared<'_>,
        is_new: bool,
        (old, kept): (&Programs, Option<&str>),
        error: Error,
    ) -> Error {
        let Prepared { client, name, .. } = prepared;
        let again = async {
            if is_new {
                drop_if_empty(client, name).await?;
            } else {
                let names: Vec<String> = prepared.tables.iter().map(|table| table.name.clone()).collect();
                // Some may be there still, which a script would stumble over.
                drop_programs(client, name, (!prepared.is_whole).then_some(&names[..])).await?;
                old.make_all(client, name, name).await?;
            }
            if let Some(before) = kept {
                drop_if_empty(client, before).await?;
            }
            Ok::<(), Error>(())
        };
        match again.await {
            Ok(()) => error,
            Err(again) => Error::Target(format!(
                "{error}; and {name} was left half way, since what was there could not be made again: {again}; its tables are in {name} or {}, and the safety snapshot has all of it",
                kept.unwrap_or(name)
            )),
        }
    }

    /// Drops what was replaced, or makes it whole where it is now.
    async fn keep(&self, client: &Client, (name, before): (&str, &str), old: &Programs, restored: &mut MysqlRestored) {
        if self.options.drop_old {
            match client.ask(&format!("DROP DATABASE {}", text::name(before))).await {
                Ok(_) => return,
                Err(error) => restored.warnings.push(format!("what was there could not be dropped: {error}")),
            }
        }
        restored.kept = Some(before.to_owned());
        // Events would run there.
        if let Err(error) = old.make(client, before, name).await {
            restored.warnings.push(format!("in {before}, views, triggers or routines are missing: {error}"));
        }
    }
}

/// Returns what stands behind the name where a database is created.
async fn create_of(client: &Client, name: &str) -> Result<String> {
    let [_, statement] = client.ask_one(&format!("SHOW CREATE DATABASE {}", text::name(name))).await?;
    let odd = || Error::DumpFailed(format!("the server does not say how the database {name} was created: {statement}"));
    take::create(statement.as_bytes(), name).ok_or_else(odd)
}

async fn alter(client: &Client, name: &str, create: &str) -> Result<()> {
    match create.is_empty() {
        true => Ok(()),
        false => client.ask(&format!("ALTER DATABASE {} {create}", text::name(name))).await.map(drop),
    }
}

/// Drops a database that was made for tables which have moved back.
async fn drop_if_empty(client: &Client, database: &str) -> Result<()> {
    let Some(found) = target::find(client, database).await? else { return Ok(()) };
    match target::what_is_there(&found) {
        None => client.ask(&format!("DROP DATABASE {}", text::name(database))).await.map(drop),
        Some(there) => Err(Error::DumpFailed(format!("{database} has {there}"))),
    }
}

/// Drops the triggers of these tables; without them all triggers, views, routines and events of a database.
async fn drop_programs(client: &Client, database: &str, only: Option<&[String]>) -> Result<()> {
    let which = text::text(database);
    let mut query = format!(
        "SELECT 'TRIGGER', trigger_name, event_object_table FROM information_schema.triggers WHERE trigger_schema = {which};"
    );
    if only.is_none() {
        query.push_str(&format!(
            "SELECT 'VIEW', table_name, '' FROM information_schema.views WHERE table_schema = {which};
            SELECT routine_type, routine_name, '' FROM information_schema.routines WHERE routine_schema = {which}
                AND routine_type <> 'PACKAGE BODY';
            SELECT 'EVENT', event_name, '' FROM information_schema.events WHERE event_schema = {which};"
        ));
    }
    let mut script = String::new();
    for row in client.ask(&query).await? {
        let [Some(kind), Some(name), Some(table)] = &row[..] else { continue };
        if kind == "TRIGGER" && only.is_some_and(|only| !only.contains(table)) {
            continue;
        }
        script.push_str(&format!("DROP {kind} IF EXISTS {}.{};\n", text::name(database), text::name(name)));
    }
    if script.is_empty() {
        return Ok(());
    }
    client.ask(&script).await.map(drop)
}

/// Has columns take their numbers from the sequences where those are now.
async fn move_defaults(client: &Client, from: &str, to: &str) -> Result<()> {
    let query = format!(
        "SELECT table_name, column_name, column_default FROM information_schema.columns
            WHERE table_schema = {} AND INSTR(column_default, {}) > 0",
        text::text(to),
        text::text(&format!("({}.", text::name(from)))
    );
    let mut script = String::new();
    for row in client.ask(&query).await? {
        let [Some(table), Some(column), Some(default)] = &row[..] else { continue };
        let default = default.replace(&format!("({}.", text::name(from)), &format!("({}.", text::name(to)));
        script.push_str(&format!(
            "ALTER TABLE {}.{} ALTER COLUMN {} SET DEFAULT {default};\n",
            text::name(to),
            text::name(table),
            text::name(column)
        ));
    }
    if script.is_empty() {
        return Ok(());
    }
    client.ask(&script).await.map(drop)
}
