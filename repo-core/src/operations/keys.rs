//! Adds, lists and removes key slots: who may open a repository.

use crate::crafts::crypto::slot::Argon2Params;
use crate::edges::system::now_ms;
use crate::format::names::{self, KEYS};
use crate::format::slot::{self, SlotKind, SlotLabel};
use crate::state::repository::{self, Credential, Repository};
use crate::words::error::{Error, Result};
use crate::words::id::SlotId;
use crate::words::limits::RECORD_BYTES_MAX;

/// A key slot, as any key of the repository may list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// Its id.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// Whose it is.
    pub label: SlotLabel,
}

/// Gives another passphrase or key file access.
///
/// # Errors
/// [`Error::Invalid`]: an empty passphrase or impossible parameters. [`Error::Store`].
pub async fn add_key(
    repository: &Repository,
    credential: &Credential,
    argon2: Argon2Params,
    label: &str,
    host: &str,
) -> Result<SlotId> {
    let label = SlotLabel { label: label.to_owned(), created_ms: now_ms(), host: host.to_owned() };
    repository::add_slot(repository, credential, argon2, label).await
}

/// Lists the key slots, and those that do not open.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_keys(repository: &Repository) -> Result<(Vec<KeySlot>, Vec<String>)> {
    let (mut slots, mut unreadable) = (Vec::new(), Vec::new());
    for listed in repository.store.list(KEYS).await? {
        let Some(id) = names::parse::<SlotId>(KEYS, &listed.name) else { continue };
        match read_slot(repository, id).await {
            Ok(Some(slot)) => slots.push(slot),
            Ok(None) => {}
            Err(error @ (Error::Damaged { .. } | Error::NewerFormat { .. })) => unreadable.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    slots.sort_by_key(|slot| (slot.label.created_ms, slot.id));
    Ok((slots, unreadable))
}

pub(crate) async fn read_slot(repository: &Repository, id: SlotId) -> Result<Option<KeySlot>> {
    let name = names::slot(id);
    let Some(bytes) = repository.store.get(&name, RECORD_BYTES_MAX).await? else { return Ok(None) };
    let slot = slot::parse(&name, repository.id(), &bytes)?;
    Ok(Some(KeySlot { id, kind: slot.kind, label: slot.label(&repository.keys)? }))
}

/// Takes a key slot away; its passphrase or key file opens the repository no longer. Whoever opened it before may have
/// kept the keys inside: against them, only a new repository helps.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ambiguous`]; [`Error::Invalid`]: it is the last one. [`Error::Store`].
pub async fn remove_key(repository: &Repository, id_prefix: &str) -> Result<SlotId> {
    let ids: Vec<SlotId> =
        repository.store.list(KEYS).await?.iter().filter_map(|listed| names::parse(KEYS, &listed.name)).collect();
    let found: Vec<&SlotId> = ids.iter().filter(|id| id.to_string().starts_with(id_prefix)).collect();
    let id = match found[..] {
        _ if id_prefix.is_empty() => None,
        [id] => Some(*id),
        [] => None,
        _ => {
            return Err(Error::Ambiguous {
                what: "key slot",
                prefix: id_prefix.to_owned(),
                candidates: found.iter().map(|id| id.to_string()).collect(),
            });
        }
    };
    let id = id.ok_or_else(|| Error::NotFound {
        what: "key slot",
        name: id_prefix.to_owned(),
        hint: "; `dedump key list` lists what there is".to_owned(),
    })?;
    let others = async || Ok::<_, Error>(list_keys(repository).await?.0.iter().filter(|slot| slot.id != id).count());
    if others().await? == 0 {
        return Err(Error::Invalid(format!(
            "{id} is the last key slot that is whole, and without one nothing opens the repository; add another first"
        )));
    }
    let name = names::slot(id);
    let bytes = repository.store.get(&name, RECORD_BYTES_MAX).await;
    repository.store.delete(&name).await?;
    // Two hosts may each take away what the other one counts on.
    if let (0, Ok(Some(bytes))) = (others().await?, bytes) {
        repository.store.create(&name, bytes).await?;
        let why = "another key slot went at the same time, so this one stays; see what is left, and try again";
        return Err(Error::Conflict(why.to_owned()));
    }
    Ok(id)
}
