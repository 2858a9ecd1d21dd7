//! Does what was prepared.

use super::prepare::Prepared;
use super::server;
use super::{Place, PostgresRestore, PostgresRestored, compare, hints, properties};
use crate::postgres::client::Client;
use crate::postgres::dump::{DumpPart, PostgresEngine, PostgresOptions};
use crate::postgres::session::Session;
use crate::postgres::sql;
use crate::safety::Safety;
use crate::stored;
use dedump_core::{Error, Progress, Repository, Result, SnapshotId};

impl PostgresRestore {
    pub(super) async fn apply(
        &self,
        mut prepared: Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
    ) -> Result<PostgresRestored> {
        let streams = prepared.load.streams(&prepared.contents);
        if self.options.verify_first {
            stored::verify(repository, prepared.contents.snapshot, streams.clone(), progress).await?;
        }
        let mut restored = PostgresRestored {
            database: prepared.name.clone(),
            bytes: prepared.contents.bytes_of(&streams),
            streams,
            warnings: std::mem::take(&mut prepared.warnings),
            ..PostgresRestored::default()
        };
        if self.options.safety_snapshot && prepared.there.is_some() {
            let id = self
                .safety_snapshot(
                    (&prepared.name, prepared.contents.snapshot.id),
                    repository,
                    progress,
                    &mut restored.warnings,
                )
                .await?;
            restored.safety_snapshot = Some(id);
        }
        for left in &prepared.leftovers {
            server::drop_database(&mut prepared.session, &left.name).await?;
            restored
                .warnings
                .push(format!("the database {}, which a restore had left unfinished, was dropped", left.name));
        }
        // Or a text could end for psql elsewhere than for those who looked into it.
        prepared.session.ask("SET standard_conforming_strings = on").await?;
        for statement in prepared.roles.statements.clone() {
            if let Some(why) = prepared.session.attempt(std::slice::from_ref(&statement)).await? {
                let first: String = statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
                self.note(&mut restored, format!("roles: {first}: {why}"))?;
            }
        }
        restored.roles = prepared.roles.created.iter().cloned().collect();
        match self.options.place {
            Place::Existing => self.fill_existing(prepared, repository, progress, restored).await,
            Place::New | Place::Replace => self.fill_new(prepared, repository, progress, restored).await,
        }
    }

    /// Ends the restore for an error, or counts it.
    fn note(&self, restored: &mut PostgresRestored, why: String) -> Result<()> {
        if !self.options.ignore_errors {
            return Err(Error::DumpFailed(why));
        }
        restored.errors_n += 1;
        restored.problems.push(why);
        Ok(())
    }

    /// Backs up the database that is there, and has nobody forget that.
    pub(super) async fn safety_snapshot(
        &self,
        (name, id): (&str, SnapshotId),
        repository: &Repository,
        progress: &dyn Progress,
        warnings: &mut Vec<String>,
    ) -> Result<SnapshotId> {
        let options = PostgresOptions {
            client: self.options.client.clone(),
            jobs: self.options.jobs,
            ..PostgresOptions::default()
        };
        let engine = PostgresEngine::of(self.url.with_database(name), options);
        let host = self.url.host();
        let source = format!("safety/{host}/{name}");
        let safety = Safety { what: name, source, host, restored: id, by: &self.options.by };
        safety.snapshot(&engine, repository, progress, warnings).await
    }

    async fn fill_new(
        &self,
        mut prepared: Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
        mut restored: PostgresRestored,
    ) -> Result<PostgresRestored> {
        let id8 = prepared.contents.snapshot.id.short();
        let own = server::free_name(&mut prepared.session, &prepared.name, "dedump", &id8).await?;
        let like = &prepared.contents.inventory.database;
        prepared.session.ask(&properties::create(&own, like)).await?;
        let mark = sql::text(&server::mark(&prepared.name));
        prepared.session.ask(&format!("COMMENT ON DATABASE {} IS {mark}", sql::name(&own))).await?;
        let client = prepared.client.of_database(&own);
        let done = async {
            self.fill(&mut prepared, &client, repository, progress, &mut restored).await?;
            self.put_properties_on(&mut prepared, &own, &mut restored).await?;
            self.publish(&mut prepared, &own, &mut restored).await
        };
        match done.await {
            Ok(()) => Ok(restored),
            Err(error) => Err(self.clear_away(&prepared, &own, error).await),
        }
    }

    /// Drops what was not finished, and says in the error what has become of everything.
    async fn clear_away(&self, prepared: &Prepared<'_>, own: &str, error: Error) -> Error {
        let dropped = async {
            // The session may have ended with the error.
            let mut session = Session::open_explained(&prepared.client, hints::explain).await?;
            server::drop_own(&mut session, own).await?;
            session.close().await
        };
        let name = &prepared.name;
        let state = match (&prepared.existing, dropped.await) {
            (Some(_), Ok(())) => format!("the database {name} is as it was"),
            (None, Ok(())) => format!("there is still no database {name}"),
            (_, Err(_)) => {
                format!("{name} is as it was, and the unfinished database {own} is dropped by the next restore")
            }
        };
        match hints::explain(error) {
            Error::DumpFailed(why) | Error::Target(why) => Error::Target(format!("{why}; {state}")),
            // The repository's own, which has its own advice.
            error => error,
        }
    }

    async fn fill(
        &self,
        prepared: &mut Prepared<'_>,
        client: &Client,
        repository: &Repository,
        progress: &dyn Progress,
        restored: &mut PostgresRestored,
    ) -> Result<()> {
        if prepared.load.is_timescale {
            // In a session of its own: those that come later load its library from the start.
            let mut session = Session::open_explained(client, hints::explain).await?;
            let extensions = prepared.contents.inventory.database.extensions.as_ref();
            let version = extensions.and_then(|extensions| extensions.get("timescaledb")).cloned().unwrap_or_default();
            session.ask(&format!("CREATE EXTENSION IF NOT EXISTS timescaledb VERSION {}", sql::text(&version))).await?;
            session.close().await?;
        }
        // As long as it is connected, nobody takes the database for one that was left.
        let mut session = Session::open_explained(client, hints::explain).await?;
        let from = (repository, &prepared.contents);
        let fed = prepared.load.run(from, client, &mut session, progress).await?;
        restored.errors_n += fed.errors_n;
        restored.problems.extend(fed.problems);
        self.compare(prepared, &mut session, restored).await?;
        if prepared.load.part != DumpPart::Schema {
            session.ask("ANALYZE").await?;
        }
        session.close().await
    }

    /// Compares what was loaded with what was dumped.
    async fn compare(
        &self,
        prepared: &Prepared<'_>,
        session: &mut Session,
        restored: &mut PostgresRestored,
    ) -> Result<()> {
        let contents = &prepared.contents;
        // What was left out of the dump on purpose, and what an extension does to its own tables, are no errors.
        let is_excused = contents.is_filtered || prepared.load.is_timescale;
        if prepared.load.part != DumpPart::Schema {
            let only = prepared.only.as_ref();
            let is_meant = |table: &(String, String)| {
                only.is_none_or(|(schemas, tables)| schemas.contains(&table.0) || tables.contains(table))
            };
            let (differences, tables_n, rows_n) = compare::rows(session, contents, &is_meant).await?;
            (restored.tables_n, restored.rows_n) = (tables_n, rows_n);
            self.note_differences(restored, &differences, is_excused)?;
        }
        if prepared.only.is_none() && prepared.load.part == DumpPart::All {
            let differences = compare::kinds(session, contents).await?;
            // Another version has other objects for the same: from 18 on, each NOT NULL is a constraint.
            let same_version = contents.server_major == Some(prepared.about.version_num / 10_000);
            self.note_differences(restored, &differences, is_excused || !same_version)?;
        }
        Ok(())
    }

    fn note_differences(
        &self,
        restored: &mut PostgresRestored,
        differences: &[String],
        is_excused: bool,
    ) -> Result<()> {
        if differences.is_empty() {
            return Ok(());
        }
        let what = format!("what was restored is not what was dumped: {}", differences.join(", "));
        if is_excused {
            restored.warnings.push(what);
            return Ok(());
        }
        self.note(restored, what)
    }

    async fn put_properties_on(
        &self,
        prepared: &mut Prepared<'_>,
        own: &str,
        restored: &mut PostgresRestored,
    ) -> Result<()> {
        for statement in properties::put_on(own, &prepared.contents.inventory.database, self.wanted()) {
            if let Some(why) = prepared.session.attempt(std::slice::from_ref(&statement)).await? {
                self.note(restored, format!("{statement}: {why}"))?;
            }
        }
        Ok(())
    }

    /// Loads parts into the database that is there.
    async fn fill_existing(
        &self,
        prepared: Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
        mut restored: PostgresRestored,
    ) -> Result<PostgresRestored> {
        let client = prepared.client.of_database(&prepared.name);
        let mut session = Session::open_explained(&client, hints::explain).await?;
        let fed = prepared.load.run((repository, &prepared.contents), &client, &mut session, progress).await?;
        restored.errors_n += fed.errors_n;
        restored.problems.extend(fed.problems);
        self.compare(&prepared, &mut session, &mut restored).await?;
        session.close().await?;
        Ok(restored)
    }
}
