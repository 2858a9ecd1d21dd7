//! The small objects: key slots, sessions, decisions, fragments; and what lies around.

use super::{FindingKind, Findings};
use crate::format::names::{self, FragmentName, HOLDS, INDEX, KEYS, META, PACKS, PRUNE, SESSIONS, SNAPSHOTS};
use crate::format::session::SessionRecord;
use crate::operations::keys;
use crate::state::ground::Ground;
use crate::state::holds::{self, Hold};
use crate::state::loader::{self, Loaded};
use crate::state::repository::Repository;
use crate::state::snapshots::{self, Decisions, Expected, Snapshots};
use crate::words::error::{Error, Result};
use crate::words::id::{PackId, SessionId, SlotId};
use std::collections::{BTreeSet, HashSet};

pub(super) async fn check(
    repository: &Repository,
    snapshots: &Snapshots,
    loaded: &Loaded,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) -> Result<()> {
    for (id, error) in &snapshots.unreadable {
        findings.add(FindingKind::SnapshotDamaged, names::of_session(SNAPSHOTS, *id), why(error));
    }
    check_slots(repository, findings).await?;
    let expected = snapshots::expected_fragments(repository, &snapshots.standing).await?;
    let missing = missing_fragments(repository, &expected).await?;
    check_decisions(expected, findings)?;
    check_fragments(loaded, &missing, findings);
    check_sessions(repository, findings, notes).await?;
    check_notices(repository, loaded, findings, notes).await?;
    check_holds(repository, snapshots, findings, notes).await?;
    note_duplicates(loaded, notes);
    note_foreign_objects(repository, notes).await?;
    note_orphans(loaded, notes);
    Ok(())
}

fn why(error: &Error) -> String {
    match error {
        Error::Damaged { why, .. } | Error::Missing { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

async fn check_slots(repository: &Repository, findings: &mut Findings) -> Result<()> {
    for listed in repository.store.list(KEYS).await? {
        let Some(id) = names::parse::<SlotId>(KEYS, &listed.name) else { continue };
        match keys::read_slot(repository, id).await {
            Ok(_) => {}
            Err(error) => findings.add_error(FindingKind::SlotDamaged, &listed.name, error)?,
        }
    }
    Ok(())
}

/// Names the decisions that do not open.
fn check_decisions(expected: Expected, findings: &mut Findings) -> Result<()> {
    for (name, error) in expected.unreadable {
        findings.add_error(FindingKind::DecisionDamaged, &name, error)?;
    }
    Ok(())
}

/// Returns the fragments that were written and are gone. Looks twice: a reindex that commits between two listings moves
/// what is expected.
async fn missing_fragments(repository: &Repository, expected: &Expected) -> Result<BTreeSet<FragmentName>> {
    let first = snapshots::missing_of(repository, expected).await?;
    if first.is_empty() {
        return Ok(first);
    }
    let second = snapshots::missing_fragments(repository).await?;
    Ok(first.intersection(&second).copied().collect())
}

fn check_fragments(loaded: &Loaded, missing: &BTreeSet<FragmentName>, findings: &mut Findings) {
    for problem in &loaded.problems {
        if let Error::Damaged { object, why } = problem
            && names::parse_fragment(object).is_some()
        {
            findings.add(FindingKind::FragmentDamaged, object, why);
        } else if let newer @ Error::NewerFormat { object, .. } = problem {
            findings.add(FindingKind::FragmentDamaged, object, newer.to_string());
        }
    }
    for name in missing {
        let why = "its session wrote it, and it is not there; what it listed is read from the packs instead";
        findings.add(FindingKind::FragmentMissing, names::fragment(*name), why);
    }
}

async fn check_sessions(repository: &Repository, findings: &mut Findings, notes: &mut Vec<String>) -> Result<()> {
    for id in snapshots::list_ids(repository, SESSIONS).await? {
        let name = names::of_session(SESSIONS, id);
        match repository.read::<SessionRecord>(&name).await {
            Ok(None) => {}
            Ok(Some(session)) => notes.push(format!(
                "session {}: {} by process {} on {} is under way or was interrupted",
                id.short(),
                session.operation,
                session.process,
                session.host
            )),
            Err(error) => findings.add_error(FindingKind::SessionDamaged, &name, error)?,
        }
    }
    Ok(())
}

/// Names the notices that do not open, and says what the others wait for.
async fn check_notices(
    repository: &Repository,
    loaded: &Loaded,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) -> Result<()> {
    for (id, packs) in repository.notices().await? {
        match packs {
            Ok(packs) => {
                let left_n = packs.iter().filter(|(kind, id)| loaded.packs.bytes(*kind, *id).is_some()).count();
                notes.push(format!(
                    "prune {} condemned {} packs, of which {left_n} are there; the next `dedump prune` goes on with it",
                    id.short(),
                    packs.len()
                ));
            }
            Err(error) => findings.add_error(FindingKind::NoticeDamaged, &names::of_session(PRUNE, id), error)?,
        }
    }
    Ok(())
}

/// Says how much lies in several packs: two backups at once store what both have, and a prune takes it away.
fn note_duplicates(loaded: &Loaded, notes: &mut Vec<String>) {
    let doubled_n = loaded.index.entries_n() - loaded.index.chunks_n();
    if doubled_n > 0 {
        notes.push(format!("{doubled_n} chunks and nodes are stored more than once; a prune frees their space"));
    }
}

/// Names the holds that do not open, and those whose snapshot is gone.
async fn check_holds(
    repository: &Repository,
    snapshots: &Snapshots,
    findings: &mut Findings,
    notes: &mut Vec<String>,
) -> Result<()> {
    for (id, hold) in holds::load(repository).await? {
        let stands = snapshots.standing.iter().any(|snapshot| snapshot.id == id)
            || snapshots.unreadable.iter().any(|(unreadable, _)| *unreadable == id);
        match hold {
            Hold::Unreadable(why) => findings.add(FindingKind::HoldDamaged, names::of_session(HOLDS, id), why),
            // One of a snapshot that was committed since the listing stands, too: it was held after that.
            Hold::Says(_) if !stands && snapshots::is_forgotten(repository, id).await? => notes.push(format!(
                "snapshot {} is {hold}, and was forgotten all the same, before the hold or while it was put; `dedump \
                 release {id}` takes the hold away",
                id.short()
            )),
            Hold::Says(_) => {}
        }
    }
    Ok(())
}

/// Looks at fragments whose sessions have no decision: runs under way, interrupted ones, or decisions that are lost.
pub(super) async fn check_undecided(
    repository: &Repository,
    uncounted: &BTreeSet<FragmentName>,
    needed: &HashSet<PackId>,
    (findings, notes): (&mut Findings, &mut Vec<String>),
) -> Result<()> {
    let running = snapshots::list_ids(repository, SESSIONS).await?;
    let decided = Decisions::list(repository).await?;
    let mut interrupted = BTreeSet::new();
    for name in uncounted.iter().filter(|name| !decided.is_decided(name.session)) {
        let packs = match loader::read_fragment(repository, *name).await {
            Ok(packs) => packs.unwrap_or_default(),
            Err(Error::Damaged { .. } | Error::NewerFormat { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if packs.iter().any(|pack| needed.contains(&pack.info.id)) {
            let object = names::of_session(SNAPSHOTS, name.session);
            let why =
                "snapshots need packs of its session, and neither it nor a merge or tombstone of that id is there";
            findings.add(FindingKind::DecisionMissing, object, why);
        } else if !running.contains(&name.session) {
            interrupted.insert(name.session);
        }
    }
    for id in interrupted {
        notes.push(format!("session {} was interrupted; a prune removes what nobody uses", id.short()));
    }
    Ok(())
}

async fn note_foreign_objects(repository: &Repository, notes: &mut Vec<String>) -> Result<()> {
    for prefix in names::PREFIXES {
        for listed in repository.store.list(prefix).await? {
            let name = &listed.name;
            let is_ours = match prefix {
                KEYS => names::parse::<SlotId>(prefix, name).is_some(),
                PACKS | META => names::parse::<PackId>(prefix, name).is_some(),
                INDEX => names::parse_fragment(name).is_some(),
                _ => names::parse::<SessionId>(prefix, name).is_some(),
            };
            if !is_ours {
                notes.push(format!("{name} is no object of dedump, and is left alone"));
            }
        }
    }
    Ok(())
}

fn note_orphans(loaded: &Loaded, notes: &mut Vec<String>) {
    let orphans: Vec<u64> = loaded
        .packs
        .sorted()
        .into_iter()
        .filter(|(_, id, _)| !loaded.index.has_pack(id) && !loaded.lost.has_pack(id))
        .map(|(_, _, bytes)| bytes)
        .collect();
    if !orphans.is_empty() {
        notes.push(format!(
            "packs that belong to no finished run: {}, with {} bytes; a prune removes what nobody uses",
            orphans.len(),
            orphans.iter().sum::<u64>()
        ));
    }
}
