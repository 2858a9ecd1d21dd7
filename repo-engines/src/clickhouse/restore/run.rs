//! Does what was prepared.

use super::load::{Filled, Result, create_settings, drop_sql, inner_of, of, random};
use super::prepare::{Prepared, lines};
use super::{ASIDE, ClickHouseRestore, ClickHouseRestored};
use crate::clickhouse::access::{self, Statement};
use crate::clickhouse::dump::{ClickHouseEngine, ClickHouseOptions};
use crate::clickhouse::explain::Failure;
use crate::clickhouse::schema::{Kind, Object, Rows};
use crate::clickhouse::sql;
use crate::safety::Safety;
use crate::stored;
use dedump_core::{Error, Progress, Repository, SnapshotId};

impl ClickHouseRestore {
    pub(super) async fn apply(
        &self,
        mut prepared: Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
    ) -> dedump_core::Result<ClickHouseRestored> {
        let mut restored =
            ClickHouseRestored { warnings: std::mem::take(&mut prepared.warnings), ..ClickHouseRestored::default() };
        if self.options.verify_first {
            let streams = prepared.streams.values().flatten().map(|stream| stream.name.clone()).collect::<Vec<_>>();
            // Of none, all would be read.
            if !streams.is_empty() {
                stored::verify(repository, prepared.snapshot, streams, progress).await?;
            }
        }
        if prepared.needs_safety_snapshot(self) {
            let id = self.safety_snapshot(&prepared, repository, progress, &mut restored.warnings).await?;
            restored.safety_snapshot = Some(id);
        }
        let mut made = Vec::new();
        if let Err(failure) = self.load(&prepared, &mut made, repository, progress, &mut restored).await {
            return Err(self.clear_away(&prepared, &made, failure).await);
        }
        // From here on, what is there changes.
        let ended = async {
            self.swap(&prepared, &made, &mut restored).await?;
            self.follow(&prepared, repository, progress, &mut restored).await
        };
        if let Err(failure) = ended.await {
            let safety = restored.safety_snapshot.map(|id| format!(", and what it had is snapshot {}", id.short()));
            let state = format!("the tables are restored, what comes after them is not{}", safety.unwrap_or_default());
            return Err(match failure {
                Failure::Ours(error) if !matches!(error, Error::Target(_)) => error,
                failure => Error::Target(format!("{}; {state}", failure.explain(&self.url))),
            });
        }
        if self.options.access {
            self.access(&prepared, repository, &mut restored).await.map_err(|failure| self.explain(failure))?;
        }
        Ok(restored)
    }

    /// Makes databases, functions and tables, and fills these. Nothing that was there changes.
    async fn load(
        &self,
        prepared: &Prepared<'_>,
        made: &mut Vec<Filled>,
        repository: &Repository,
        progress: &dyn Progress,
        restored: &mut ClickHouseRestored,
    ) -> Result<()> {
        let client = &prepared.client;
        let settings = create_settings(client).await?;
        for object in &prepared.firsts {
            match object.kind {
                Kind::Database => drop(client.ask(&prepared.names.create_database(object)).await?),
                _ => self.function(prepared, object, restored).await?,
            }
        }
        for object in &prepared.order.before {
            let (database, name) = prepared.target(object);
            let stays = prepared.there(object).is_none() && (is_bound(object, self) || object.engine == "Dictionary");
            let at = (database, if stays { name } else { format!("{ASIDE}{name}") });
            made.push(self.make(prepared, object, at, &settings).await?);
        }
        let (rows, bytes) = self.fill(prepared, made, repository, progress, &mut restored.warnings).await?;
        (restored.rows, restored.bytes) = (rows, bytes);
        restored.tables_n = made.iter().filter(|one| one.object.rows() != Rows::None).count() as u64;
        Ok(())
    }

    /// Makes a function, if there is none of that name.
    async fn function(
        &self,
        prepared: &Prepared<'_>,
        object: &Object,
        restored: &mut ClickHouseRestored,
    ) -> Result<()> {
        let client = &prepared.client;
        let query = format!(
            "SELECT count() FROM system.functions WHERE name = {} FORMAT TabSeparated",
            sql::text(&object.name)
        );
        let is_there = client.ask(&query).await?.trim() != "0";
        if is_there && !self.options.replace {
            restored.warnings.push(format!("the function {} is there already and stays as it is", object.name));
            return Ok(());
        }
        let create = match is_there {
            true => object.create.replacen("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1),
            false => object.create.clone(),
        };
        client.ask(&create).await.map_err(|failure| of(object, failure))?;
        restored.others_n += 1;
        Ok(())
    }

    /// Lets the tables that were filled aside take their names.
    async fn swap(&self, prepared: &Prepared<'_>, made: &[Filled], restored: &mut ClickHouseRestored) -> Result<()> {
        let client = &prepared.client;
        for one in made {
            let to = prepared.target(&one.object);
            let has_rows = one.object.rows() != Rows::None;
            restored.others_n += u64::from(!has_rows);
            if one.at == to {
                continue;
            }
            let (aside, name) = (sql::table(&one.at.0, &one.at.1), sql::table(&to.0, &to.1));
            if prepared.there(&one.object).is_none() {
                client.ask(&format!("RENAME TABLE {aside} TO {name}")).await?;
                continue;
            }
            restored.replaced_n += u64::from(has_rows);
            if !self.options.partitions.is_empty() {
                for partition in &self.options.partitions {
                    let id = sql::text(partition);
                    client.ask(&format!("ALTER TABLE {name} REPLACE PARTITION ID {id} FROM {aside}")).await?;
                }
            } else {
                self.exchange(prepared, one, &to).await?;
            }
            client.ask(&drop_sql(client, &one.object, &one.at, true)).await?;
        }
        Ok(())
    }

    /// Lets two tables change names; afterwards the old one stands aside.
    async fn exchange(&self, prepared: &Prepared<'_>, one: &Filled, to: &(String, String)) -> Result<()> {
        let client = &prepared.client;
        let (aside, name) = (sql::table(&one.at.0, &one.at.1), sql::table(&to.0, &to.1));
        let kind = if one.object.engine == "Dictionary" { "DICTIONARIES" } else { "TABLES" };
        match client.ask(&format!("EXCHANGE {kind} {aside} AND {name}")).await {
            Ok(_) => Ok(()),
            // Databases of old kinds have no exchange, but they rename several tables in one go.
            Err(Failure::Refused(..)) => {
                let third = sql::table(&one.at.0, &format!("{}-old", one.at.1));
                let rename = format!("RENAME TABLE {name} TO {third}, {aside} TO {name}, {third} TO {aside}");
                client.ask(&rename).await.map(drop)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Makes what comes after the rows: views, dictionaries, what takes rows, what fetches them.
    async fn follow(
        &self,
        prepared: &Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
        restored: &mut ClickHouseRestored,
    ) -> Result<()> {
        let client = &prepared.client;
        let settings = create_settings(client).await?;
        for object in prepared.order.after.iter().rev().filter(|object| prepared.there(object).is_some()) {
            client.ask(&drop_sql(client, object, &prepared.target(object), true)).await?;
        }
        for object in &prepared.order.after {
            let at = prepared.target(object);
            let create = prepared.names.create(object, (&at.0, &at.1), false);
            client.ask_with(&create, &settings).await.map_err(|failure| of(object, failure))?;
            if object.has_inner {
                // Before what takes rows from this one is made.
                let at = inner_of(client, &at).await?;
                let filled = [Filled { object: object.clone(), at, has_stopped: false }];
                let (rows, bytes) = self.fill(prepared, &filled, repository, progress, &mut restored.warnings).await?;
                restored.rows += rows;
                restored.bytes += bytes;
                restored.tables_n += 1;
            } else {
                restored.others_n += 1;
            }
        }
        for object in prepared.order.before.iter().filter(|object| object.engine == "Dictionary") {
            let (database, name) = prepared.target(object);
            // It may have been loaded while its table was empty.
            if let Err(failure) =
                client.ask(&format!("SYSTEM RELOAD DICTIONARY {}", sql::table(&database, &name))).await
            {
                restored.warnings.push(format!(
                    "{} could not be loaded: {}",
                    object.shown(),
                    failure.explain(&self.url)
                ));
            }
        }
        Ok(())
    }

    /// Backs up what is there, and has nobody forget that.
    async fn safety_snapshot(
        &self,
        prepared: &Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
        warnings: &mut Vec<String>,
    ) -> dedump_core::Result<SnapshotId> {
        let there = prepared.objects().filter_map(|object| prepared.there(object));
        let options = ClickHouseOptions {
            client: self.options.client.clone(),
            tables: there.map(|there| globset::escape(&format!("{}.{}", there.database, there.name))).collect(),
            access: false,
            allow_moving: true,
            ..ClickHouseOptions::default()
        };
        let engine = ClickHouseEngine::of(self.url.without_database(), options)?;
        let host = self.url.host();
        let (source, restored) = (format!("safety/{host}"), prepared.snapshot.id);
        let safety = Safety { what: &host, source, host: host.clone(), restored, by: &self.options.by };
        safety.snapshot(&engine, repository, progress, warnings).await
    }

    /// Drops what was made, and says in the error what has become of everything.
    async fn clear_away(&self, prepared: &Prepared<'_>, made: &[Filled], failure: Failure) -> Error {
        let mut is_clear = true;
        for one in made.iter().rev() {
            is_clear &= prepared.client.ask(&drop_sql(&prepared.client, &one.object, &one.at, true)).await.is_ok();
        }
        let state = match is_clear {
            true => "what was there is as it was".to_owned(),
            false => format!(
                "what was there is as it was, and tables called {ASIDE}… are left over, which the next restore drops"
            ),
        };
        match failure {
            // The repository's own, which has its own advice.
            Failure::Ours(error) if !matches!(error, Error::Target(_)) => error,
            failure => Error::Target(format!("{}; {state}", failure.explain(&self.url))),
        }
    }

    /// Makes users, roles and whatever else says who may what. Those who are there stay.
    async fn access(
        &self,
        prepared: &Prepared<'_>,
        repository: &Repository,
        restored: &mut ClickHouseRestored,
    ) -> Result<()> {
        let statements: Vec<Statement> = lines(repository, prepared.snapshot, &prepared.prefix, access::STREAM).await?;
        let mut locked_n = 0_u64;
        for statement in statements {
            let mut create = statement.create.clone();
            if statement.lacks_password {
                create = locked(&create, &format!("{}{}", random()?, random()?));
                locked_n += 1;
            }
            for kind in ["USER", "ROLE", "ROW POLICY", "QUOTA", "SETTINGS PROFILE"] {
                let begin = format!("CREATE {kind} ");
                if create.starts_with(&begin) {
                    create = create.replacen(&begin, &format!("CREATE {kind} IF NOT EXISTS "), 1);
                }
            }
            match prepared.client.ask(&create).await {
                Ok(_) => restored.access_n += 1,
                Err(Failure::Refused(_, words)) => {
                    let what: String =
                        statement.create.split(" IDENTIFIED").next().unwrap_or("").chars().take(80).collect();
                    restored.warnings.push(format!("{what:?} was not carried out: {words}"));
                }
                Err(failure) => return Err(failure),
            }
        }
        if locked_n > 0 {
            restored.warnings.push(format!(
                "{locked_n} users have passwords that nobody knows, since the backup lacks theirs; ALTER USER … IDENTIFIED BY gives them new ones"
            ));
        }
        Ok(())
    }
}

/// Returns whether a table has to be made under the name that it keeps: its path in Keeper may hang on that.
fn is_bound(object: &Object, of: &ClickHouseRestore) -> bool {
    object.engine.starts_with("Replicated") && !of.options.unreplicated
}

/// Gives a user a password that nobody knows, in place of the one that the server kept back: never none.
fn locked(create: &str, hash: &str) -> String {
    let Some((before, after)) = create.split_once(" IDENTIFIED WITH ") else { return create.to_owned() };
    let rest = after.find(' ').map_or("", |at| &after[at..]);
    format!("{before} IDENTIFIED WITH sha256_hash BY '{}'{rest}", hash.to_uppercase())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_user_without_a_password_is_locked() {
        let made = super::locked("CREATE USER a IDENTIFIED WITH sha256_password HOST LOCAL", "ab");
        assert_eq!(made, "CREATE USER a IDENTIFIED WITH sha256_hash BY 'AB' HOST LOCAL");
    }
}
