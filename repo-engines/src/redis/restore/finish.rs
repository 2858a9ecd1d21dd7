//! What comes after the keys: functions, users, the comparison of digests, and the server's own disk.

use super::feed::Fed;
use super::prepare::{Prepared, find_stream};
use super::{OnConflict, Place, RedisRestore, RedisRestored, databases};
use crate::redis::client::{Connection, Reply};
use crate::redis::configuration::{self, Configuration};
use crate::redis::explain::Failure;
use crate::redis::server::Server;
use dedump_core::{Error, Repository, RestoreOptions, Result, WriterTarget, restore};
use std::time::Duration;

/// Length of a configuration that is read, at most.
const CONFIGURATION_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often a server is asked whether it has saved.
const POLL: Duration = Duration::from_millis(100);
/// For how long a save may take, in polls: six hours.
const POLLS_MAX: u32 = 6 * 3600 * 10;

impl RedisRestore {
    pub(super) async fn finish(
        &self,
        prepared: &mut Prepared<'_>,
        fed: Fed,
        repository: &Repository,
        restored: &mut RedisRestored,
    ) -> Result<()> {
        // The keys are there, whatever comes now.
        let after = |failure: Failure| match failure {
            Failure::Ours(error) => error,
            failure => Error::Target(format!("all keys were restored, but then: {}", failure.explain(&self.url))),
        };
        for spare in prepared.databases.iter().filter(|one| one.keys_there_n > 0).filter_map(|one| one.spare) {
            databases::empty(&mut prepared.connection, spare).await.map_err(after)?;
        }
        if fed.modules_n > 0 {
            restored
                .warnings
                .push(format!("what {} modules have stored beside keys comes back with a file only", fed.modules_n));
        }
        if self.options.users {
            self.users(prepared, repository, restored).await?;
        }
        self.compare_digest(prepared, restored).await.map_err(after)?;
        if self.options.save {
            save(&mut prepared.connection).await.map_err(after)?;
        } else if prepared.server.field("aof_enabled") == "0" {
            restored.warnings.push(
                "the server writes no append-only file: until its next save, what was restored is in its memory alone"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Compares the server's digest with the one that was recorded, if the server has what was backed up and nothing else.
    async fn compare_digest(
        &self,
        prepared: &mut Prepared<'_>,
        restored: &mut RedisRestored,
    ) -> std::result::Result<(), Failure> {
        let Some(recorded) = prepared.snapshot.record.facts.get(&format!("{}digest", prepared.prefix)) else {
            return Ok(());
        };
        let is_same_set = prepared.is_whole
            && !matches!(self.options.place, Place::Merge(_))
            && prepared.databases.iter().all(|database| database.from == database.to)
            && restored.expired_n == 0;
        let now = Server::ask(&mut prepared.connection).await?.keys();
        if !is_same_set || !now.keys().eq(prepared.databases.iter().map(|database| &database.to)) {
            return Ok(());
        }
        match connection_digest(&mut prepared.connection).await? {
            Some(digest) if digest == *recorded => restored.digest_compared = true,
            Some(digest) => {
                return Err(Failure::Broken(format!(
                    "its digest is {digest} and was {recorded}; either somebody else writes to it, or a key is not what it was"
                )));
            }
            None => {}
        }
        Ok(())
    }

    /// Makes users as they were.
    async fn users(
        &self,
        prepared: &mut Prepared<'_>,
        repository: &Repository,
        restored: &mut RedisRestored,
    ) -> Result<()> {
        let stream = find_stream(prepared.snapshot, &prepared.prefix, configuration::STREAM)?;
        let object = || format!("stream {:?}", stream.name);
        if stream.bytes > CONFIGURATION_BYTES_MAX {
            return Err(Error::Damaged { object: object(), why: "it is too long for a configuration".to_owned() });
        }
        let options = RestoreOptions { streams: vec![stream.name.clone()], ..RestoreOptions::default() };
        let mut target = WriterTarget(Vec::new());
        restore(repository, prepared.snapshot, &options, &mut target, &()).await?;
        let configuration: Configuration = serde_json::from_slice(&target.0)
            .map_err(|error| Error::Damaged { object: object(), why: error.to_string() })?;
        let own = self.url.user().unwrap_or("default");
        for line in &configuration.users {
            let words = acl_words(line);
            let [user, name, rules @ ..] = &words[..] else { continue };
            if user != "user" || name == own {
                continue;
            }
            let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", name.as_bytes(), b"reset"];
            command.extend(rules.iter().map(String::as_bytes));
            match prepared.connection.ask(&command).await {
                Ok(_) => restored.users.push(name.clone()),
                Err(failure) => {
                    restored.warnings.push(format!("the user {name:?} was not made: {}", failure.explain(&self.url)));
                }
            }
        }
        Ok(())
    }
}

/// Puts functions back. Whatever is wrong with them shows before anything changes.
pub(super) async fn functions(
    connection: &mut Connection,
    place: Place,
    are_wanted: bool,
    fed: &Fed,
    restored: &mut RedisRestored,
) -> std::result::Result<(), Failure> {
    if fed.functions_n == 0 || !are_wanted {
        if fed.functions_n > 0 {
            restored.warnings.push(format!("{} libraries of functions were not restored", fed.functions_n));
        }
        return Ok(());
    }
    let policy: &[u8] = match place {
        Place::Replace => b"FLUSH",
        Place::Merge(OnConflict::Replace) => b"REPLACE",
        Place::Empty | Place::Merge(_) => b"APPEND",
    };
    match connection.ask(&[b"FUNCTION", b"RESTORE", &fed.functions, policy]).await {
        Ok(_) => {
            restored.functions_n = fed.functions_n;
            Ok(())
        }
        Err(Failure::Refused(_, why)) if why.contains("already exists") && place == Place::Merge(OnConflict::Skip) => {
            restored.warnings.push(format!("functions were not restored: {why}"));
            Ok(())
        }
        Err(Failure::Refused(code, why)) => {
            Err(Failure::Broken(format!("it does not take the functions: {code} {why}; leave them out, or replace")))
        }
        Err(failure) => Err(failure),
    }
}

async fn connection_digest(connection: &mut Connection) -> std::result::Result<Option<String>, Failure> {
    match connection.ask(&[b"DEBUG", b"DIGEST"]).await {
        Ok(reply) => Ok(Some(reply.text())),
        Err(failure) if failure.is_not_allowed() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Has the server save its data, and waits until it has: `LASTSAVE` alone says what was before.
async fn save(connection: &mut Connection) -> std::result::Result<(), Failure> {
    let mut has_asked = false;
    for _ in 0..POLLS_MAX {
        let server = Server::ask(connection).await?;
        if server.field("rdb_bgsave_in_progress") == "0" {
            if has_asked {
                return match server.field("rdb_last_bgsave_status") {
                    "ok" => Ok(()),
                    _ => Err(Failure::Broken("it could not save; look for the reason in its log".to_owned())),
                };
            }
            match connection.try_ask(&[b"BGSAVE"]).await? {
                // One that has just begun may lack the last keys: the next one is ours.
                Reply::Error(line) if line.contains("in progress") => {}
                Reply::Error(line) => return Err(Failure::refused(&line)),
                _ => has_asked = true,
            }
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::Broken("it is still saving after six hours".to_owned()))
}

/// Takes a line of `ACL LIST` apart: what is in brackets is one word.
fn acl_words(line: &str) -> Vec<String> {
    let (mut words, mut depth) = (Vec::<String>::new(), 0);
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(last) if depth > 0 => *last = format!("{last} {word}"),
            _ => words.push(word.to_owned()),
        }
        depth += word.matches('(').count();
        depth -= word.matches(')').count().min(depth);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_a_user_are_one_word() {
        let words = acl_words("user a on #00ff ~x* (~y* +get) -@all +set");
        assert_eq!(words, ["user", "a", "on", "#00ff", "~x*", "(~y* +get)", "-@all", "+set"]);
    }
}
