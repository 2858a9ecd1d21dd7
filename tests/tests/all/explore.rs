//! All interleavings of commit, prune, reading, forgetting and adoption, over the core's own functions.

use dedump_core::internals::ground::Rule;
use dedump_tests::explore::engine::explore;
use dedump_tests::explore::scenario::{self, Scenario, Weakening, named};

/// Scenarios of up to so many states are explored whole; of larger ones, that many.
const STATES_MAX: usize = 600_000;

fn expect_safe(scenario: &Scenario, states_max: usize) -> usize {
    let found = explore(scenario, states_max);
    if let Some(violation) = found.violation {
        panic!("{}: {}\n{}", scenario.name, violation.what, violation.run.join("\n"));
    }
    // A search that finds no quiet end does not ask what is left behind.
    assert!(!found.is_complete || found.quiet_n > 0, "{}: nobody ever ends", scenario.name);
    found.states_n
}

#[test]
fn no_interleaving_loses_what_a_snapshot_needs() {
    let states_n: usize = scenario::all().iter().map(|scenario| expect_safe(scenario, STATES_MAX)).sum();
    assert!(states_n >= 4_000_000, "only {states_n} states");
}

#[test]
fn all_of_two_prunes_at_once_is_explored() {
    for name in ["two-prunes", "two-prunes-reader"] {
        let found = explore(&named(name).expect("a scenario"), 10_000_000);
        assert!(found.is_complete && found.violation.is_none() && found.states_n > 400_000, "{name}: {found:?}");
    }
}

#[test]
fn histories_that_are_joined_go_on_alike() {
    let mut twins_n = 0;
    for scenario in scenario::all() {
        let found = explore(&Scenario { checks_joins: true, ..scenario }, 150_000);
        twins_n += found.twins_n;
    }
    assert!(twins_n > 10_000, "only {twins_n} steps were compared");
}

/// Where a rule is left out, and is noticed first: a scenario, and part of what is said.
const NOTICED: [(Weakening, &str, &str); 27] = [
    (Weakening::NoticesAfterIndex, "adoption", "can't be decoded"),
    (Weakening::WriterIgnoresNotices, "backup", "can't be decoded"),
    (Weakening::DeltasOfCondemned, "backup-delta", "can't be decoded"),
    (Weakening::NoMark, "backup", "can't be decoded"),
    (Weakening::MarkAfterReading, "backup", "can't be decoded"),
    (Weakening::CommitPlainly, "backup", "can't be decoded"),
    (Weakening::MergePlainly, "two-prunes-kept", "can't be decoded"),
    (Weakening::SessionsBeforeNotice, "backup", "can't be decoded"),
    (Weakening::NoFence, "backup", "can't be decoded"),
    (Weakening::SnapshotsBeforeSessions, "backup", "can't be decoded"),
    (Weakening::PacksBeforeFragments, "two-prunes", "missed something"),
    (Weakening::NoticeBeforePacks, "adoption", "can't be decoded"),
    (Weakening::PacksBeforeNotices, "two-prunes", "missed something"),
    (Weakening::PruneDeafToOthers, "two-prunes", "can't be decoded"),
    (Weakening::NoRescue, "backup", "can't be decoded"),
    (Weakening::HidesUnreadable, "backup-kept", "can't be decoded"),
    (Weakening::MergesInPart, "merge", "can't be decoded"),
    (Weakening::DeletesBeforeCommit, "backup", "can't be decoded"),
    (Weakening::UncommittedCount, "backup-kept", "can't be decoded"),
    (Weakening::FencedCount, "backup-kept", "can't be decoded"),
    (Weakening::NoTombstone, "forget", "can't be decoded"),
    (Weakening::TombstoneLast, "forget", "can't be decoded"),
    (Weakening::MarkOfDoubtTaken, "faults", "can't be decoded"),
    (Weakening::AdoptionOfCondemned, "adoption", "can't be decoded"),
    (Weakening::Without(Rule::BasesAreNeeded), "backup-delta", "missed something"),
    (Weakening::Without(Rule::RescuedNoDeeper), "backup-delta", "can't be decoded"),
    (Weakening::Without(Rule::GarbageWasThereBefore), "backup", "can't be decoded"),
];

#[test]
fn every_rule_that_is_left_out_is_noticed() {
    for (weakening, name, what) in NOTICED {
        let scenario = named(name).expect("a scenario");
        let found = explore(&scenario.weakened(weakening), 3_000_000);
        let violation = found.violation.unwrap_or_else(|| panic!("{weakening:?} is not noticed in {name}"));
        assert!(violation.what.contains(what), "{weakening:?} in {name}: {}", violation.what);
        assert!(violation.run.len() > 5, "{weakening:?}: a run is shown");
    }
    let rest: Vec<_> =
        Weakening::ALL.iter().filter(|weakening| NOTICED.iter().all(|(noticed, ..)| noticed != *weakening)).collect();
    assert_eq!(rest, [&Weakening::DecisionsBeforeMarks], "each has its row, or the test below");
}

/// The order of these two listings does not matter: a session whose mark goes in between has committed, and the snapshots
/// are listed after that, or it never will. It is kept since it fences fewer.
#[test]
fn marks_and_decisions_may_be_listed_in_any_order() {
    for name in ["backup", "backup-delta", "backup-kept", "polite-two", "faults", "forget"] {
        expect_safe(&named(name).expect("a scenario").weakened(Weakening::DecisionsBeforeMarks), STATES_MAX);
    }
}
