//! Looks at the dump, the tools and the server, and refuses what can't be, before anything changes.

use super::contents::{Contents, TableName};
use super::globals::{self, Globals, Roles};
use super::load::{self, Load};
use super::properties::{self, Wanted};
use super::server::{self, About, Found};
use super::{Place, PostgresRestore, hints, selection};
use crate::postgres::client::{Client, parse_version};
use crate::postgres::dump::{DumpPart, MINORS_SAFE};
use crate::postgres::inventory;
use crate::postgres::session::Session;
use crate::postgres::sql;
use crate::stored::read_text;
use dedump_core::{Error, Repository, Result, Snapshot};
use std::collections::BTreeSet;

/// Everything that is known before a restore begins.
pub(super) struct Prepared<'a> {
    pub(super) contents: Contents<'a>,
    /// A session with the maintenance database, and its client with the right tools.
    pub(super) client: Client,
    pub(super) session: Session,
    pub(super) about: About,
    /// The name that the database is to have.
    pub(super) name: String,
    pub(super) existing: Option<Found>,
    /// What is in it; `None`: nothing.
    pub(super) there: Option<String>,
    pub(super) leftovers: Vec<Found>,
    pub(super) roles: Roles,
    pub(super) load: Load,
    /// Tables whose rows are compared; `None` stands for all.
    pub(super) only: Option<(Vec<String>, Vec<TableName>)>,
    pub(super) warnings: Vec<String>,
}

impl PostgresRestore {
    pub(super) async fn prepare<'a>(
        &self,
        repository: &Repository,
        snapshot: &'a Snapshot,
        prefix: &str,
    ) -> Result<Prepared<'a>> {
        let contents = Contents::read(repository, snapshot, prefix).await?;
        let name = self.url.database().unwrap_or(&contents.inventory.database.name).to_owned();
        if contents.part == "data" && self.options.part != DumpPart::Data {
            return refuse(
                "the dump has data alone; restore it with --part data --into-existing into a database that has its tables",
            );
        }
        let mut client = self.client(self.maintenance(&name));
        let mut warnings = Vec::new();
        client.choose_for_restore(contents.dump_major.unwrap_or_default()).await?;
        warn_of_old_psql(&client, &mut warnings).await?;
        let mut session = Session::open_explained(&client, hints::explain).await?;
        let about = server::about(&mut session).await?;
        let existing = server::find(&mut session, &name).await?;
        let leftovers = server::leftovers(&mut session, &name).await?;
        self.check_server(&about, &name, &leftovers)?;
        let there = match &existing {
            Some(found) => self.look_into(found, &client.of_database(&name)).await?,
            None => None,
        };
        self.check_place(&name, existing.as_ref(), there.as_deref())?;
        let (load, only) = self.select((repository, &contents), &client, &mut warnings).await?;
        if self.options.place == Place::Existing && load.part == DumpPart::Data {
            check_empty(&client.of_database(&name), &contents, only.as_ref()).await?;
        }
        check_extensions(&contents, &mut session).await?;
        let mut prepared = Prepared {
            contents,
            client,
            session,
            about,
            name,
            existing,
            there,
            leftovers,
            roles: Roles::default(),
            load,
            only,
            warnings,
        };
        prepared.roles = self.roles(repository, &mut prepared).await?;
        Ok(prepared)
    }

    fn check_server(&self, about: &About, name: &str, leftovers: &[Found]) -> Result<()> {
        if about.is_standby {
            return refuse("the server is a standby, which takes no changes; restore to the primary");
        }
        if !about.creates_databases && self.options.place != Place::Existing {
            return Err(Error::DumpFailed(format!(
                "user {} may not create databases; give it CREATEDB, or restore as another user",
                about.user
            )));
        }
        if let Some(busy) = leftovers.iter().find(|found| !found.connected.is_empty()) {
            return Err(Error::DumpFailed(format!(
                "another restore of {name} is filling the database {}: {}; wait for it, or end it",
                busy.name,
                server::who(&busy.connected)
            )));
        }
        Ok(())
    }

    /// Says what is in the database that is there.
    async fn look_into(&self, found: &Found, client: &Client) -> Result<Option<String>> {
        if !found.takes_connections {
            return Err(Error::DumpFailed(format!(
                "database {0} takes no connections; if a restore was killed, run ALTER DATABASE {0} ALLOW_CONNECTIONS true",
                sql::name(&found.name)
            )));
        }
        server::what_is_there(client, hints::explain).await
    }

    fn check_place(&self, name: &str, existing: Option<&Found>, there: Option<&str>) -> Result<()> {
        let options = &self.options;
        let Some(found) = existing else {
            return match options.place {
                Place::Existing => {
                    Err(Error::DumpFailed(format!("there is no database {name}; leave --into-existing out to make it")))
                }
                _ => Ok(()),
            };
        };
        if options.place == Place::Existing {
            return Ok(());
        }
        if found.is_template {
            return Err(Error::DumpFailed(format!("database {name} is a template; restore under another name")));
        }
        if let (Some(there), Place::New) = (there, options.place) {
            return Err(Error::DumpFailed(format!(
                "database {name} is not empty: it has {there}; restore under another name, or let the restored one take its place \
                 with --replace"
            )));
        }
        if !found.connected.is_empty() && !options.disconnect {
            return Err(Error::DumpFailed(format!(
                "database {name} is in use by {}; stop them, or disconnect them with --disconnect",
                server::who(&found.connected)
            )));
        }
        Ok(())
    }

    /// Chooses what is loaded.
    async fn select(
        &self,
        (repository, contents): (&Repository, &Contents<'_>),
        client: &Client,
        warnings: &mut Vec<String>,
    ) -> Result<(Load, Option<(Vec<String>, Vec<TableName>)>)> {
        let options = &self.options;
        let is_timescale = contents.has_extension("timescaledb") && options.place != Place::Existing;
        let mut load = Load {
            part: if contents.part == "schema" { DumpPart::Schema } else { options.part },
            no_owner: options.no_owner,
            no_privileges: options.no_privileges,
            no_tablespaces: options.no_tablespaces,
            ignore_errors: options.ignore_errors,
            single_transaction: options.place == Place::Existing,
            jobs: if is_timescale { 1 } else { options.jobs },
            disable_triggers: options.disable_triggers,
            list: None,
            has_data: true,
            tables: contents.tables.clone().into_iter().collect(),
            is_timescale,
        };
        if is_timescale && options.jobs > 1 {
            warnings.push(
                "a dump with TimescaleDB is restored by one job, since more would mix up its catalogue".to_owned(),
            );
        }
        if options.schemas.is_empty() && options.tables.is_empty() {
            return Ok((load, None));
        }
        let tables: Vec<TableName> = options.tables.iter().filter_map(|table| sql::qualified(table)).collect();
        let list = load::print((repository, contents), client, None, &["--list", "--verbose"]).await?;
        let with_needs = options.place != Place::Existing;
        let mut selection = selection::choose(&list, &options.schemas, &tables, with_needs);
        let has_stream = |missing: &String| {
            tables.iter().any(|table| {
                contents.tables.contains_key(table) && *missing == format!("table {}.{}", table.0, table.1)
            })
        };
        selection.not_found.retain(|missing| !has_stream(missing));
        if let Some(missing) = selection.not_found.first() {
            return Err(Error::DumpFailed(format!(
                "the dump has no {missing}; names are as SQL has them, quoted where needed"
            )));
        }
        for key in &selection.left_out {
            warnings.push(format!("the foreign key {key:?} leads to a table that is not restored, and is left out"));
        }
        let is_chosen = |table: &TableName| options.schemas.contains(&table.0) || selection.tables.contains(table);
        load.tables.retain(|(table, _)| is_chosen(table));
        load.has_data = selection.has_data;
        load.list = Some(selection.list);
        Ok((load, Some((options.schemas.clone(), selection.tables))))
    }

    /// Chooses the roles to create, and refuses a dump whose roles would not be there.
    async fn roles(&self, repository: &Repository, prepared: &mut Prepared<'_>) -> Result<Roles> {
        let Prepared { contents, session, load, client, warnings, .. } = prepared;
        let query = "SELECT to_json(rolname) FROM pg_roles";
        let there: Result<BTreeSet<String>> =
            session.ask(query).await?.iter().map(|line| inventory::parse(line)).collect();
        let there = there?;
        let mut roles = Roles::default();
        match (&contents.globals, self.options.globals) {
            (_, Globals::None) => {}
            (Some(stream), which) => {
                let dump = read_text(repository, contents.snapshot, stream).await?;
                roles = globals::choose(which, &dump, &there)?;
            }
            (None, _) => warnings.push("the dump has no roles; those that it needs must be there".to_owned()),
        }
        if load.part == DumpPart::Data {
            return Ok(Roles::default());
        }
        let mut arguments = vec!["--file=-", "--schema-only"];
        arguments.extend(load.no_owner.then_some("--no-owner"));
        arguments.extend(load.no_privileges.then_some("--no-privileges"));
        let script = load::print((repository, contents), client, load.list.as_deref(), &arguments).await?;
        let mut needed = globals::needed(&script);
        if self.options.place != Place::Existing {
            needed.extend(properties::roles(&contents.inventory.database, self.wanted()));
        }
        let missing: Vec<String> =
            needed.into_iter().filter(|role| !there.contains(role) && !roles.created.contains(role)).collect();
        if missing.is_empty() {
            return Ok(roles);
        }
        let why = format!(
            "the dump needs roles that {} does not have: {}; create them, restore them with --globals missing, or leave owners and \
             privileges out with --no-owner --no-privileges",
            self.url.host(),
            missing.join(", ")
        );
        if self.options.ignore_errors {
            warnings.push(why);
            return Ok(roles);
        }
        Err(Error::DumpFailed(why))
    }

    /// Returns which of a database's properties are put on it.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted { owner: !self.options.no_owner, privileges: !self.options.no_privileges }
    }
}

fn refuse<T>(why: &str) -> Result<T> {
    Err(Error::DumpFailed(why.to_owned()))
}

/// Refuses tables that have rows: data alone would come on top of them.
async fn check_empty(
    client: &Client,
    contents: &Contents<'_>,
    only: Option<&(Vec<String>, Vec<TableName>)>,
) -> Result<()> {
    let mut session = Session::open_explained(client, hints::explain).await?;
    for table in &contents.inventory.tables {
        let Some(name) = sql::qualified(&table.name) else { continue };
        if only.is_some_and(|(schemas, tables)| !schemas.contains(&name.0) && !tables.contains(&name)) {
            continue;
        }
        if session.ask_one(&format!("SELECT to_regclass({}) IS NULL", sql::text(&table.name))).await? == "t" {
            return Err(Error::DumpFailed(format!("there is no table {}; restore it without --part data", table.name)));
        }
        if session.ask_one(&format!("SELECT EXISTS (SELECT FROM {})", table.name)).await? == "t" {
            return Err(Error::DumpFailed(format!(
                "table {} has rows, and data alone would come on top of them; empty it, or restore rows with --on-conflict",
                table.name
            )));
        }
    }
    session.close().await
}

/// Refuses a dump whose extensions the server can't have; TimescaleDB's must be the same version.
async fn check_extensions(contents: &Contents<'_>, session: &mut Session) -> Result<()> {
    for (name, version) in contents.inventory.database.extensions.iter().flatten() {
        let query = format!(
            "SELECT COALESCE(json_agg(version), '[]') FROM pg_available_extension_versions WHERE name = {}",
            sql::text(name)
        );
        let available: Vec<String> = inventory::parse(&session.ask_one(&query).await?)?;
        if available.is_empty() {
            return Err(Error::DumpFailed(format!(
                "the dump needs the extension {name} {version}, which the server does not have; install its package there"
            )));
        }
        if name == "timescaledb" && !available.contains(version) {
            return Err(Error::DumpFailed(format!(
                "the dump needs TimescaleDB {version}, and the server has {}; install that version there, and update it after the restore",
                available.join(", ")
            )));
        }
    }
    Ok(())
}

async fn warn_of_old_psql(client: &Client, warnings: &mut Vec<String>) -> Result<()> {
    let Some((major, minor)) = parse_version(&client.version_text("psql").await?) else { return Ok(()) };
    if let Some((_, safe)) = MINORS_SAFE.iter().find(|(of, safe)| *of == major && minor < *safe) {
        warnings.push(format!(
            "psql is {major}.{minor}, which a crafted dump can misuse (CVE-2026-18408); bring it up to {major}.{safe}"
        ));
    }
    Ok(())
}
