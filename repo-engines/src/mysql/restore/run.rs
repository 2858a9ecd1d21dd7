//! Does what was prepared.

use super::feed::Feed;
use super::prepare::{Prepared, accounts};
use super::rebuild::Adapt;
use super::swap::Programs;
use super::target::{self, Hold};
use super::{MysqlRestore, MysqlRestored, STATEMENT_BYTES};
use crate::mysql::dump::{MysqlEngine, MysqlOptions};
use crate::mysql::errors::explain;
use crate::mysql::text;
use crate::safety::Safety;
use crate::stored;
use dedump_core::{Error, Progress, Repository, Result, SnapshotId};

impl MysqlRestore {
    pub(super) async fn apply(
        &self,
        mut prepared: Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
    ) -> Result<MysqlRestored> {
        let snapshot = prepared.contents.snapshot;
        if self.options.verify_first {
            stored::verify(repository, snapshot, prepared.streams.clone(), progress).await?;
        }
        let programs = Programs::read(repository, &prepared, self.options.no_definers).await?;
        let mut restored = MysqlRestored {
            database: prepared.name.clone(),
            bytes: prepared.contents.bytes_of(&prepared.streams),
            streams: prepared.streams.clone(),
            warnings: std::mem::take(&mut prepared.warnings),
            ..MysqlRestored::default()
        };
        if self.options.safety_snapshot && prepared.there.is_some() {
            restored.safety_snapshot =
                Some(self.safety_snapshot(&prepared, repository, progress, &mut restored).await?);
        }
        for left in &prepared.leftovers {
            prepared.client.ask(&format!("DROP DATABASE IF EXISTS {}", text::name(left))).await?;
            restored.warnings.push(format!("the database {left}, which a restore had left unfinished, was dropped"));
        }
        if self.options.users {
            self.make_users(&prepared, repository, &mut restored).await?;
        }
        let own = target::free_name(&prepared.client, &prepared.name, "dedump", &snapshot.id.short()).await?;
        let hold = Hold::take(&prepared.client, &own).await?;
        let done = async {
            Box::pin(self.load(&prepared, &own, &programs, repository, progress, &mut restored)).await?;
            Box::pin(self.publish(&prepared, &own, &programs, &mut restored)).await
        };
        let done = done.await;
        drop(hold);
        match done {
            Ok(()) => {
                let dropped = prepared.client.ask(&format!("DROP DATABASE IF EXISTS {}", text::name(&own))).await;
                if let Err(error) = dropped {
                    restored.warnings.push(format!("the empty database {own} could not be dropped: {error}"));
                }
                Ok(restored)
            }
            Err(error) => Err(self.clear_away(&prepared, &own, error).await),
        }
    }

    /// Drops what was not finished, and says in the error what has become of everything.
    async fn clear_away(&self, prepared: &Prepared<'_>, own: &str, error: Error) -> Error {
        let dropped = prepared.client.ask(&format!("DROP DATABASE IF EXISTS {}", text::name(own))).await;
        let name = &prepared.name;
        let state = match (&prepared.existing, dropped) {
            (Some(_), Ok(_)) => format!("the database {name} is as it was"),
            (None, Ok(_)) => format!("there is still no database {name}"),
            (_, Err(_)) => {
                format!("{name} is as it was, and the unfinished database {own} is dropped by the next restore")
            }
        };
        match explain(error) {
            Error::DumpFailed(why) => Error::Target(format!("{why}; {state}")),
            // The repository's own, which has its own advice; or what says itself what has become of everything.
            error => error,
        }
    }

    /// Loads everything into a database of its own, and compares it with what was dumped.
    async fn load(
        &self,
        prepared: &Prepared<'_>,
        own: &str,
        programs: &Programs,
        repository: &Repository,
        progress: &dyn Progress,
        restored: &mut MysqlRestored,
    ) -> Result<()> {
        let Prepared { contents, client, tables, .. } = prepared;
        let create = format!(
            "CREATE DATABASE {0} {1}; CREATE TABLE {0}.{2} (since TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)",
            text::name(own),
            contents.inventory.create,
            target::MARK
        );
        client.ask(&create).await?;
        let dumped = contents.inventory.database.clone();
        let adapt = match prepared.is_whole {
            true => Adapt { sequences: (dumped, own.to_owned()), others: None },
            false => {
                let names = tables.iter().map(|table| table.name.clone()).collect();
                Adapt { sequences: (dumped, prepared.name.clone()), others: Some((names, prepared.name.clone())) }
            }
        };
        let statement_bytes_max =
            usize::try_from(prepared.server.packet_bytes_max / 2).unwrap_or(STATEMENT_BYTES).min(STATEMENT_BYTES);
        let feed = Feed { client, database: own, adapt, statement_bytes_max };
        feed.run(repository, contents.snapshot, &prepared.streams, progress).await?;
        compare(prepared, own, restored).await?;
        programs.make(client, own, &contents.inventory.database).await
    }

    /// Backs up the database that is there, and has nobody forget that.
    async fn safety_snapshot(
        &self,
        prepared: &Prepared<'_>,
        repository: &Repository,
        progress: &dyn Progress,
        restored: &mut MysqlRestored,
    ) -> Result<SnapshotId> {
        let name = &prepared.name;
        let options = MysqlOptions { client: self.options.client.clone(), users: false, partial: false };
        let engine = MysqlEngine::of(self.url.with_database(name), options);
        let host = self.url.host();
        let safety = Safety {
            what: name,
            source: format!("safety/{host}/{}", text::encode(name)),
            host,
            restored: prepared.contents.snapshot.id,
            by: &self.options.by,
        };
        safety.snapshot(&engine, repository, progress, &mut restored.warnings).await
    }

    /// Makes users and roles that are not there, and grants to them what they had.
    async fn make_users(
        &self,
        prepared: &Prepared<'_>,
        repository: &Repository,
        restored: &mut MysqlRestored,
    ) -> Result<()> {
        let Some(stream) = &prepared.contents.users else {
            restored.warnings.push("the dump has no users; none were made".to_owned());
            return Ok(());
        };
        let script = stored::read_text(repository, prepared.contents.snapshot, stream).await?;
        let there = accounts(&prepared.client).await?;
        for statement in script.lines().filter(|line| !line.is_empty()) {
            let account = account_of(statement).unwrap_or_default();
            // What those may who are there already is not ours to change.
            if there.contains(account) {
                continue;
            }
            match prepared.client.ask(statement).await {
                Ok(_) if !restored.users.iter().any(|made| made == account) => restored.users.push(account.to_owned()),
                Ok(_) => {}
                Err(error) => restored.warnings.push(format!("of the user {account} something was not made: {error}")),
            }
        }
        Ok(())
    }
}

/// Returns whom a statement of `users.sql` is about, as SQL has it.
fn account_of(statement: &str) -> Option<&str> {
    let known = ["CREATE USER IF NOT EXISTS ", "CREATE ROLE IF NOT EXISTS "];
    let rest = match known.iter().find_map(|begin| statement.strip_prefix(begin)) {
        Some(rest) => rest,
        None => {
            let word = if statement.starts_with("GRANT ") { " TO `" } else { " FOR `" };
            let at = statement.rfind(word)?;
            &statement[at + word.len() - 1..]
        }
    };
    let (_, behind) = text::quoted(rest.as_bytes())?;
    let behind = match behind.strip_prefix(b"@") {
        Some(host) => text::quoted(host)?.1,
        None => behind,
    };
    rest.get(..rest.len() - behind.len())
}

/// Compares the rows that were loaded with those that were dumped.
async fn compare(prepared: &Prepared<'_>, own: &str, restored: &mut MysqlRestored) -> Result<()> {
    let query = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND table_type = 'SYSTEM VERSIONED'",
        text::text(own)
    );
    let versioned: Vec<String> =
        prepared.client.ask(&query).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    let mut differences = Vec::new();
    let counted: Vec<_> = prepared.tables.iter().filter_map(|table| Some((&table.name, table.rows?))).collect();
    for tables in counted.chunks(100) {
        let count = |(name, _): &(&String, u64)| {
            let of_all_time = if versioned.contains(name) { " FOR SYSTEM_TIME ALL" } else { "" };
            format!("SELECT COUNT(*) FROM {}.{}{of_all_time};\n", text::name(own), text::name(name))
        };
        let script: String = tables.iter().map(count).collect();
        let rows = prepared.client.ask(&script).await?;
        for ((name, dumped_n), row) in tables.iter().zip(rows) {
            let loaded_n: u64 =
                row.into_iter().next().flatten().and_then(|number| number.parse().ok()).unwrap_or_default();
            if loaded_n != *dumped_n {
                differences.push(format!("table {name} has {loaded_n} rows and had {dumped_n}"));
            }
            restored.tables_n += 1;
            restored.rows_n += loaded_n;
        }
    }
    match differences.is_empty() {
        true => Ok(()),
        false => {
            Err(Error::DumpFailed(format!("what was restored is not what was dumped: {}", differences.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_users_say_whom() {
        let check = |statement: &str, expected: &str| assert_eq!(account_of(statement), Some(expected), "{statement}");
        check("CREATE USER IF NOT EXISTS `a``b`@`%` IDENTIFIED BY PASSWORD '*00';", "`a``b`@`%`");
        check("CREATE ROLE IF NOT EXISTS `r`;", "`r`");
        check("GRANT SELECT ON `x TO y`.* TO `me`@`h` WITH GRANT OPTION;", "`me`@`h`");
        check("GRANT `r` TO `me`@`h`;", "`me`@`h`");
        check("SET DEFAULT ROLE `r` FOR `me`@`h`;", "`me`@`h`");
        assert_eq!(account_of("FLUSH PRIVILEGES;"), None);
    }
}
