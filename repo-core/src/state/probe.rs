//! Finds out whether a store keeps the promises that commit and prune rest on.
//!
//! A store that breaks one only now and then may pass; one that does not have it at all, such as a gateway that ignores
//! preconditions, does not.

use crate::edges::store::{Created, Store};
use crate::edges::system::random;
use crate::format::names::{self, PROBE};
use crate::words::error::{Error, Result};
use crate::words::id::SessionId;
use bytes::Bytes;
use futures::future::join_all;

/// Requests that race for one name.
const RACERS: u8 = 8;
/// Races, each for another name.
const RACES: usize = 4;

/// Writes, reads, lists and deletes a few small objects under `probe/`, some of them at the same time.
///
/// # Errors
/// [`Error::UnfitStore`]: it does not keep create-if-absent, read-after-write or list-after-write, or is a directory without
/// hard links. [`Error::Store`].
pub async fn probe(store: &Store) -> Result<()> {
    store.check_links().await?;
    for _ in 0..RACES {
        let name = names::of_session(PROBE, SessionId(random()?));
        let outcome = race(store, &name).await;
        // Also after a failure, which is what is reported.
        let deleted = store.delete(&name).await;
        outcome?;
        deleted?;
        if store.get(&name, 64).await?.is_some() {
            return Err(unfit(store, "still reads an object that was deleted"));
        }
        if is_listed(store, &name).await? {
            return Err(unfit(store, "still lists an object that was deleted"));
        }
    }
    Ok(())
}

async fn race(store: &Store, name: &str) -> Result<()> {
    let body = |racer: u8| Bytes::from(vec![racer; 16 + usize::from(racer)]);
    let racers = (0..RACERS).map(|racer| async move { (racer, store.create(name, body(racer)).await) });
    let mut winners = Vec::new();
    for (racer, created) in join_all(racers).await {
        if created? == Created::Yes {
            winners.push(racer);
        }
    }
    let [winner] = winners[..] else {
        let why = "lets several create one object: it ignores create-if-absent, by which a backup commits";
        return Err(unfit(store, why));
    };
    let there = store.get(name, 64).await?;
    if there.as_deref() != Some(&body(winner)[..]) {
        return Err(unfit(store, "does not read back what was written a moment ago"));
    }
    if !is_listed(store, name).await? {
        return Err(unfit(store, "does not list what was written a moment ago"));
    }
    if store.create(name, body(RACERS)).await? == Created::Yes {
        return Err(unfit(store, "lets an object be created anew that is there"));
    }
    Ok(())
}

async fn is_listed(store: &Store, name: &str) -> Result<bool> {
    Ok(store.list(PROBE).await?.iter().any(|object| object.name == name))
}

fn unfit(store: &Store, why: &str) -> Error {
    Error::UnfitStore { location: store.location().to_owned(), why: why.to_owned() }
}
