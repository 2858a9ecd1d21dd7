//! Who takes part, in which store, with which faults: the tables that are explored.

use super::store::{Decision, Request, Store};
use super::world::*;
use dedump_core::internals::ground::Rule;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a process is for.
#[derive(Debug, Clone)]
pub enum Role {
    /// Backs up.
    Writer(WriterPlan),
    /// Prunes.
    Prune,
    /// Restores any snapshot.
    Reader,
    /// Forgets a snapshot.
    Forget(Sid),
}

/// What is backed up.
#[derive(Debug, Clone, Default)]
pub struct WriterPlan {
    /// The chunks of the dump.
    pub wants: Vec<Chunk>,
    /// Which chunk may be stored as a delta of which.
    pub deltas: Vec<(Chunk, Chunk)>,
    /// Whether each chunk gets a pack of its own.
    pub splits: bool,
}

/// One rule left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakening {
    /// All rules hold.
    None,
    /// A writer lists notices after the index.
    NoticesAfterIndex,
    /// A writer does not look at notices.
    WriterIgnoresNotices,
    /// A writer relies on deltas that need condemned packs.
    DeltasOfCondemned,
    /// A writer puts no mark.
    NoMark,
    /// A writer puts its mark after it has looked.
    MarkAfterReading,
    /// A writer's decision takes the place of a fence.
    CommitPlainly,
    /// A prune's decision takes the place of a fence.
    MergePlainly,
    /// A prune lists sessions, then puts its notice.
    SessionsBeforeNotice,
    /// A prune lists decisions, then marks.
    DecisionsBeforeMarks,
    /// A prune does not fence.
    NoFence,
    /// A prune lists snapshots, then sessions, and not again.
    SnapshotsBeforeSessions,
    /// A prune deletes packs, then fragments.
    PacksBeforeFragments,
    /// A prune deletes its notice, then packs.
    NoticeBeforePacks,
    /// A prune lists packs, then notices.
    PacksBeforeNotices,
    /// A prune does not look at others' notices.
    PruneDeafToOthers,
    /// A prune stores nothing anew.
    NoRescue,
    /// A prune's fragments hide deltas that nobody could decode any more.
    HidesUnreadable,
    /// A prune's fragments leave out a pack of those that they stand for.
    MergesInPart,
    /// A prune deletes, then commits.
    DeletesBeforeCommit,
    /// Fragments count whose session is not decided.
    UncommittedCount,
    /// Fragments count whose session was fenced.
    FencedCount,
    /// A snapshot is deleted without a tombstone.
    NoTombstone,
    /// A snapshot is deleted, then its tombstone is put.
    TombstoneLast,
    /// The mark of a session whose decision may still take effect is taken away.
    MarkOfDoubtTaken,
    /// An adopter takes packs that notices name.
    AdoptionOfCondemned,
    /// One of the rules within the core's functions.
    Without(Rule),
}

impl Weakening {
    /// Every weakening there is.
    pub const ALL: [Weakening; 28] = [
        Weakening::NoticesAfterIndex,
        Weakening::WriterIgnoresNotices,
        Weakening::DeltasOfCondemned,
        Weakening::NoMark,
        Weakening::MarkAfterReading,
        Weakening::CommitPlainly,
        Weakening::MergePlainly,
        Weakening::SessionsBeforeNotice,
        Weakening::DecisionsBeforeMarks,
        Weakening::NoFence,
        Weakening::SnapshotsBeforeSessions,
        Weakening::PacksBeforeFragments,
        Weakening::NoticeBeforePacks,
        Weakening::PacksBeforeNotices,
        Weakening::PruneDeafToOthers,
        Weakening::NoRescue,
        Weakening::HidesUnreadable,
        Weakening::MergesInPart,
        Weakening::DeletesBeforeCommit,
        Weakening::UncommittedCount,
        Weakening::FencedCount,
        Weakening::NoTombstone,
        Weakening::TombstoneLast,
        Weakening::MarkOfDoubtTaken,
        Weakening::AdoptionOfCondemned,
        Weakening::Without(Rule::BasesAreNeeded),
        Weakening::Without(Rule::RescuedNoDeeper),
        Weakening::Without(Rule::GarbageWasThereBefore),
    ];
}

/// Who takes part in what.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What is there at first.
    pub initial: Store,
    /// The processes; the n-th has session n + 1.
    pub roles: Vec<Role>,
    /// Whether sessions may look dead that are at work. Else only dead ones do, and a process may die.
    pub is_rude: bool,
    /// How many processes may die, where that is a step.
    pub deaths_max: u8,
    /// How many requests may go wrong.
    pub faults_max: u8,
    /// Whether writers adopt what was interrupted.
    pub adopts: bool,
    /// How many packs a prune condemns at most.
    pub condemn_max: u8,
    /// Whether rescue may store deltas whole.
    pub may_unfold: bool,
    /// Whether joined histories are checked to go on alike.
    pub checks_joins: bool,
    /// Whether prunes may merge fragments.
    pub merges: bool,
    /// Whether prunes condemn all that is wasteful, and nothing else.
    pub is_cleaning: bool,
    /// The rule that is left out.
    pub weakening: Weakening,
}

impl Scenario {
    /// Returns whether a session is a backup's.
    pub fn is_writer(&self, session: Sid) -> bool {
        matches!(self.role(session), Some(Role::Writer(_)))
    }

    /// Returns whether a process has a session.
    pub fn has_session(&self, session: Sid) -> bool {
        matches!(self.role(session), Some(Role::Writer(_) | Role::Prune))
    }

    fn role(&self, session: Sid) -> Option<&Role> {
        self.roles.get(usize::from(session).checked_sub(1)?)
    }

    /// Returns whether anybody forgets.
    pub fn forgets(&self) -> bool {
        self.roles.iter().any(|role| matches!(role, Role::Forget(_)))
    }

    /// Returns the tombstones that are there at first.
    pub fn tombstones(&self) -> BTreeSet<Sid> {
        self.initial.tombstones.clone()
    }

    /// Returns whether a request may go wrong, if any may.
    pub fn may_fail(&self, request: &Request) -> bool {
        request.good_reply().is_some() && !matches!(request, Request::DeleteMark)
    }

    /// Returns the scenario with prunes after all others that take everybody else for dead.
    pub fn cleaner(&self) -> Scenario {
        let mut cleaner = self.clone();
        cleaner.roles.extend([Role::Prune, Role::Prune, Role::Prune]);
        (cleaner.is_cleaning, cleaner.is_rude, cleaner.weakening) = (true, true, Weakening::None);
        cleaner
    }

    /// Returns the scenario with a rule left out.
    pub fn weakened(&self, weakening: Weakening) -> Scenario {
        Scenario { weakening, ..self.clone() }
    }
}

const X: Chunk = 0;
const Y: Chunk = 1;
const Z: Chunk = 2;

/// Returns a store with these packs in one fragment of session 0, which committed these chunks.
fn store(packs: &[&[Blob]], chunks: &[Chunk]) -> Store {
    let mut store = Store::default();
    let packs: Vec<_> =
        (0u8..).zip(packs).map(|(number, blobs)| Arc::new(Pack { key: (0, number), blobs: blobs.to_vec() })).collect();
    store.packs = packs.iter().map(|pack| (pack.key, pack.clone())).collect();
    store.fragments.insert((0, 0), Arc::new(packs));
    store.decisions.insert(0, Arc::new(Decision::Snapshot(chunks.iter().copied().collect())));
    store
}

/// As [`store`], and the snapshot was forgotten.
fn forgotten(packs: &[&[Blob]], chunks: &[Chunk]) -> Store {
    let mut store = store(packs, chunks);
    store.decisions.clear();
    store.tombstones.insert(0);
    store
}

/// The session of a run that was interrupted before the first process began.
const INTERRUPTED: Sid = 14;

/// The session of another snapshot that was there before.
const OTHER: Sid = 13;

/// Adds what a run left behind that wrote these blobs and a fragment, and never committed.
fn interrupted(mut store: Store, blobs: &[Blob]) -> Store {
    let pack = Arc::new(Pack { key: (INTERRUPTED, 0), blobs: blobs.to_vec() });
    store.packs.insert(pack.key, pack.clone());
    store.fragments.insert((INTERRUPTED, 0), Arc::new(vec![pack]));
    store.marks.insert(INTERRUPTED);
    store
}

fn writer(wants: &[Chunk], deltas: &[(Chunk, Chunk)]) -> Role {
    Role::Writer(WriterPlan { wants: wants.to_vec(), deltas: deltas.to_vec(), splits: false })
}

fn rude(name: &'static str, initial: Store, roles: Vec<Role>) -> Scenario {
    Scenario {
        name,
        initial,
        roles,
        is_rude: true,
        deaths_max: 0,
        faults_max: 0,
        adopts: false,
        condemn_max: 1,
        may_unfold: false,
        checks_joins: false,
        merges: false,
        is_cleaning: false,
        weakening: Weakening::None,
    }
}

/// Returns all scenarios, small ones first.
pub fn all() -> Vec<Scenario> {
    // X whole in one pack, Y against it in another; nobody needs either any more, but the next backup may.
    let left = || forgotten(&[&[whole(X)], &[delta(Y, 1, &[X])]], &[X, Y]);
    // The same, and a snapshot needs Y, and so X.
    let kept = || store(&[&[whole(X)], &[delta(Y, 1, &[X])]], &[Y]);
    // A chain of three in two packs.
    let chain = || store(&[&[whole(X), delta(Z, 2, &[Y])], &[delta(Y, 1, &[X])]], &[Z]);
    let single = || forgotten(&[&[whole(X)]], &[X]);
    // Two snapshots, each with a fragment of its own: Y is a delta against what the other lists.
    let two = || {
        let mut store = store(&[&[whole(X)]], &[X]);
        let pack = Arc::new(Pack { key: (OTHER, 0), blobs: vec![delta(Y, 1, &[X])] });
        store.packs.insert(pack.key, pack.clone());
        store.fragments.insert((OTHER, 0), Arc::new(vec![pack]));
        store.decisions.insert(OTHER, Arc::new(Decision::Snapshot([Y].into())));
        store
    };
    let merging = |scenario| Scenario { merges: true, ..scenario };
    let (x, y) = (|| writer(&[X], &[]), || writer(&[Y], &[(Y, X)]));
    let polite = |name, initial, roles| Scenario { is_rude: false, deaths_max: 1, ..rude(name, initial, roles) };
    vec![
        rude("backup", single(), vec![x(), Role::Prune]),
        rude("backup-delta", left(), vec![y(), Role::Prune]),
        rude("backup-kept", kept(), vec![writer(&[Y, Z], &[(Z, Y)]), Role::Prune]),
        Scenario {
            condemn_max: 3,
            may_unfold: true,
            ..rude("backup-chain", chain(), vec![writer(&[X, Y], &[]), Role::Prune])
        },
        polite("polite", left(), vec![y(), Role::Prune]),
        polite("polite-two", left(), vec![y(), x(), Role::Prune]),
        Scenario { faults_max: 1, ..rude("faults", left(), vec![y(), Role::Prune]) },
        Scenario { faults_max: 2, ..rude("faults-two", left(), vec![y(), Role::Prune]) },
        Scenario {
            adopts: true,
            ..rude("adoption", single(), vec![writer(&[X, Z], &[(Z, X)]), writer(&[Z], &[]), Role::Prune])
        },
        Scenario {
            adopts: true,
            ..rude("adoption-delta", left(), vec![writer(&[Y, Z], &[(Z, Y)]), writer(&[X, Z], &[]), Role::Prune])
        },
        Scenario {
            adopts: true,
            condemn_max: 2,
            ..rude(
                "adoption-left",
                interrupted(single(), &[delta(Y, 1, &[X])]),
                vec![writer(&[Y], &[]), writer(&[X, Y], &[]), Role::Prune],
            )
        },
        Scenario { condemn_max: 2, ..rude("two-backups", left(), vec![y(), x(), Role::Prune]) },
        Scenario { condemn_max: 2, ..rude("forget", kept(), vec![Role::Forget(0), y(), Role::Prune]) },
        rude("forget-reader", kept(), vec![Role::Forget(0), Role::Prune, Role::Reader]),
        rude("reader", kept(), vec![y(), Role::Prune, Role::Reader]),
        rude("two-prunes", single(), vec![x(), Role::Prune, Role::Prune]),
        rude("two-prunes-delta", left(), vec![y(), Role::Prune, Role::Prune]),
        rude("two-prunes-kept", kept(), vec![Role::Prune, Role::Prune]),
        Scenario { faults_max: 1, ..rude("two-prunes-faults", kept(), vec![Role::Prune, Role::Prune]) },
        rude("two-prunes-reader", kept(), vec![Role::Prune, Role::Prune, Role::Reader]),
        merging(rude("merge", two(), vec![writer(&[X, Y, Z], &[(Z, Y)]), Role::Prune])),
        merging(rude("merge-two", two(), vec![x(), Role::Prune, Role::Prune])),
        merging(Scenario { faults_max: 1, ..rude("merge-faults", two(), vec![Role::Prune, Role::Prune]) }),
        merging(rude("merge-reader", two(), vec![x(), Role::Prune, Role::Reader])),
        merging(Scenario {
            adopts: true,
            ..rude("merge-adoption", two(), vec![writer(&[X, Z], &[]), writer(&[Z], &[]), Role::Prune])
        }),
        rude("two-by-two", single(), vec![x(), x(), Role::Prune, Role::Prune]),
        rude("two-by-two-reader", single(), vec![x(), x(), Role::Prune, Role::Prune, Role::Reader]),
        rude("two-by-two-delta", left(), vec![y(), x(), Role::Prune, Role::Prune, Role::Reader]),
    ]
}

/// Returns the scenario of this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
