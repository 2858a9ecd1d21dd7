//! Looks at the dump, the tools and the server, and refuses what can't be, before anything changes.

use super::contents::Contents;
use super::target;
use super::{MysqlRestore, Place};
use crate::mysql::client::{Client, parse_version};
use crate::mysql::inventory::{self, Described, DumpedTable, OWN, Server};
use crate::mysql::privileges::Lacking;
use crate::mysql::text;
use dedump_core::{Error, Repository, Result, Snapshot};
use std::collections::BTreeSet;

/// Everything that is known before a restore begins.
pub(super) struct Prepared<'a> {
    pub(super) contents: Contents<'a>,
    pub(super) client: Client,
    pub(super) server: Server,
    /// The name that the database is to have.
    pub(super) name: String,
    pub(super) existing: Option<Described>,
    /// What is in it that will be replaced or changed; `None`: nothing.
    pub(super) there: Option<String>,
    /// Databases that unfinished restores have left.
    pub(super) leftovers: Vec<String>,
    /// The tables that are restored.
    pub(super) tables: Vec<DumpedTable>,
    /// Whether everything is, not only tables.
    pub(super) is_whole: bool,
    /// The streams with their definitions and rows.
    pub(super) streams: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl MysqlRestore {
    pub(super) async fn prepare<'a>(
        &self,
        repository: &Repository,
        snapshot: &'a Snapshot,
        prefix: &str,
    ) -> Result<Prepared<'a>> {
        let contents = Contents::read(repository, snapshot, prefix).await?;
        let name = self.url.database().unwrap_or(&contents.inventory.database).to_owned();
        text::check_name("database", &name)?;
        if OWN.split(',').any(|own| own.trim_matches('\'').eq_ignore_ascii_case(&name)) {
            return Err(Error::DumpFailed(format!("{name} is the server's own; restore under another name")));
        }
        let tables = contents.tables(&self.options.tables)?;
        let is_whole = self.options.tables.is_empty();
        let client = Client::find(self.url.clone(), self.options.client.clone()).await?;
        let server = inventory::server(&client).await?;
        if server.is_read_only {
            return refuse("the server is read-only, as replicas are; restore to its primary".to_owned());
        }
        let existing = target::find(&client, &name).await?;
        let leftovers = target::leftovers(&client, &name).await?;
        if let Some((busy, _)) = leftovers.iter().find(|(_, is_busy)| *is_busy) {
            return refuse(format!("another restore of {name} is filling the database {busy}; wait for it, or end it"));
        }
        let mut streams: Vec<String> = contents.stream("sequences.sql").filter(|_| is_whole).into_iter().collect();
        for table in &tables {
            streams.push(contents.stream_of(&table.name)?);
        }
        let mut prepared = Prepared {
            contents,
            client,
            server,
            name,
            there: None,
            existing,
            leftovers: leftovers.into_iter().map(|(left, _)| left).collect(),
            tables,
            is_whole,
            streams,
            warnings: Vec::new(),
        };
        prepared.there = prepared.find_there();
        self.check_place(&prepared)?;
        prepared.check_privileges()?;
        prepared.check_foreign_keys().await?;
        prepared.check_rows()?;
        self.check_definers(&mut prepared).await?;
        prepared.warn().await?;
        Ok(prepared)
    }

    fn check_place(&self, prepared: &Prepared<'_>) -> Result<()> {
        let (name, Some(there)) = (&prepared.name, &prepared.there) else { return Ok(()) };
        if self.options.place == Place::Replace {
            return Ok(());
        }
        refuse(match prepared.is_whole {
            true => format!(
                "database {name} is not empty: it has {there}; restore under another name, or let the restored one take its place with --replace"
            ),
            false => format!(
                "database {name} has {there}; restore into another database, or let the restored ones take their place with --replace"
            ),
        })
    }

    /// Refuses definers that this user may not give, and tells of those that are not there.
    async fn check_definers(&self, prepared: &mut Prepared<'_>) -> Result<()> {
        let Prepared { contents, client, server, warnings, is_whole, .. } = prepared;
        let definers = &contents.inventory.definers;
        if self.options.no_definers || definers.is_empty() || !*is_whole && contents.inventory.triggers.is_empty() {
            return Ok(());
        }
        let others: Vec<&String> = definers.iter().filter(|definer| **definer != server.user).collect();
        let may_give = server.grants.has_everywhere(&["SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"]);
        if !others.is_empty() && !may_give {
            return refuse(format!(
                "the dump has what is run as {}, and the user {} may give that to nobody else; GRANT SET USER ON *.* TO {}, or leave definers out with --no-definers",
                some(&others),
                server.user,
                server.user
            ));
        }
        let Ok(there) = accounts(client).await else {
            warnings
                .push(format!("whether the users are there that something is run as is not known: {}", some(&others)));
            return Ok(());
        };
        let missing: Vec<&String> = others.into_iter().filter(|definer| !there.contains(*definer)).collect();
        let are_made = self.options.users && contents.users.is_some();
        if !missing.is_empty() && !are_made {
            warnings.push(format!(
                "what is run as a user who is not there fails when it is used: {}; create them, restore them with --mysql-users, or leave definers out with --no-definers",
                some(&missing)
            ));
        }
        Ok(())
    }
}

impl Prepared<'_> {
    /// Says what is there that will be replaced.
    fn find_there(&self) -> Option<String> {
        let existing = self.existing.as_ref()?;
        if self.is_whole {
            return target::what_is_there(existing);
        }
        let of_name = |table: &&DumpedTable| {
            existing.tables.contains_key(&table.name)
                || existing.views.contains(&table.name)
                || existing.sequences.contains(&table.name)
        };
        let there: Vec<&str> = self.tables.iter().filter(of_name).map(|table| table.name.as_str()).collect();
        if there.is_empty() { None } else { Some(format!("table {}", there.join(", "))) }
    }

    /// Refuses to replace what this user does not see all of: it would stay, or be lost.
    fn check_privileges(&self) -> Result<()> {
        let Prepared { server, name, .. } = self;
        let version = parse_version(&server.version).unwrap_or_default();
        let mut lacking = server.grants.lacking(name, server.flavour, version);
        if !self.is_whole {
            // Of a table, only its triggers come and go with it.
            lacking = Lacking { select: lacking.select, triggers: lacking.triggers, ..Lacking::default() };
        }
        if self.there.is_none() || lacking.is_nothing() {
            return Ok(());
        }
        refuse(format!(
            "the user {} may not see all of database {name}, so nothing of it can be replaced; {}",
            server.user,
            lacking.statements(name, &server.user, server.flavour)
        ))
    }

    /// Refuses to replace tables to which others lead: those would follow the old ones.
    async fn check_foreign_keys(&self) -> Result<()> {
        if self.there.is_none() {
            return Ok(());
        }
        let query = format!(
            "SELECT constraint_schema, table_name, referenced_table_name FROM information_schema.referential_constraints
                WHERE unique_constraint_schema = {}",
            text::text(&self.name)
        );
        for row in self.client.ask(&query).await? {
            let [Some(database), Some(table), Some(to)] = &row[..] else { continue };
            let is_own = database.eq_ignore_ascii_case(&self.name);
            let moves = |name: &String| self.is_whole || self.tables.iter().any(|table| table.name == *name);
            if moves(to) && !(is_own && moves(table)) {
                return refuse(format!(
                    "a foreign key of {database}.{table} leads to {to}, and would follow the old table; restore {table} too, or into another database"
                ));
            }
        }
        Ok(())
    }

    /// Refuses rows that the server would not take.
    fn check_rows(&self) -> Result<()> {
        let bytes_max = self.server.packet_bytes_max;
        match self.tables.iter().find(|table| table.row_bytes_max + 1024 > bytes_max) {
            None => Ok(()),
            Some(table) => refuse(format!(
                "a row of table {} has {} bytes as text, and the server takes {bytes_max}; SET GLOBAL max_allowed_packet = 1073741824 there first",
                table.name, table.row_bytes_max
            )),
        }
    }

    async fn warn(&mut self) -> Result<()> {
        let inventory = &self.contents.inventory;
        if inventory.flavour != self.server.flavour.name() {
            self.warnings.push(format!(
                "the dump is of {}, and the server is {}: definitions that the other does not know fail",
                inventory.flavour,
                self.server.flavour.name()
            ));
        }
        if self.is_whole && inventory.objects.get("events").is_some_and(|events_n| *events_n > 0) {
            let [scheduler] = self.client.ask_one("SELECT @@global.event_scheduler").await?;
            if scheduler != "ON" {
                self.warnings.push("the server runs no events; SET GLOBAL event_scheduler = ON for that".to_owned());
            }
        }
        let programs_n: u64 =
            ["views", "triggers", "routines", "events"].iter().filter_map(|kind| inventory.objects.get(*kind)).sum();
        if inventory.database != self.name && programs_n > 0 && self.is_whole {
            self.warnings.push(format!(
                "what triggers, routines and events do in {} by its name they go on doing there",
                inventory.database
            ));
        }
        Ok(())
    }
}

/// Returns the accounts of a server, as SQL has them.
///
/// # Errors
/// [`Error::DumpFailed`]: the user may not see them.
pub(super) async fn accounts(client: &Client) -> Result<BTreeSet<String>> {
    let rows = client.ask("SELECT user, host FROM mysql.user").await?;
    let accounts = rows.into_iter().filter_map(|row| {
        let mut fields = row.into_iter();
        let (user, host) = (fields.next()??, fields.next()?.unwrap_or_default());
        // A role has no host.
        Some(if host.is_empty() { text::name(&user) } else { format!("{}@{}", text::name(&user), text::name(&host)) })
    });
    Ok(accounts.collect())
}

fn some(names: &[&String]) -> String {
    let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    format!("{}{more}", names.iter().take(5).map(|name| name.as_str()).collect::<Vec<_>>().join(", "))
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::DumpFailed(why))
}
