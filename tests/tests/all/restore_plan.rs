//! What the plan of a restore says, against what the restore then does.

use crate::kit::dumps;
use crate::kit::rows::Table;
use crate::kit::watched::{Kind, Watched};
use crate::kit::{back_up_as, create, get_back, open, run, snapshots};
use dedump_core::{DeltaMode, RestoreOptions, plan_restore};
use std::collections::BTreeSet;

#[test]
fn a_plan_names_the_packs_that_the_restore_reads() {
    run(async {
        let watched = Watched::create();
        let repository = create(watched.store()).await.expect("creates");
        let mut rows = Table::create(3, 300_000);
        for _ in 0..4 {
            back_up_as(&repository, DeltaMode::Always, &dumps::one("t", rows.dump())).await.expect("backs up");
            rows.change();
        }
        for snapshot in snapshots(&repository).await.expect("lists") {
            let fresh = open(watched.store()).await.expect("opens");
            watched.take_calls();
            let plan = plan_restore(&fresh, &snapshot, &RestoreOptions::default(), &()).await.expect("plans");
            let asked = watched.take_calls().iter().filter(|call| call.name.starts_with("packs/")).count();
            assert_eq!(asked, plan.packs.len(), "each pack is asked once, and nothing else is read of them");

            get_back(&fresh, &snapshot).await.expect("restores");
            let calls = watched.take_calls();
            let reads: Vec<_> =
                calls.iter().filter(|call| call.kind == Kind::Get && call.name.starts_with("packs/")).collect();
            let read: BTreeSet<_> = reads.iter().map(|call| call.name.clone()).collect();
            assert_eq!(read, plan.packs.iter().map(|pack| pack.name.clone()).collect());
            let (reads_n, planned_n) = (reads.len() as u64, plan.packs.iter().map(|pack| pack.requests_n).sum::<u64>());
            assert!(reads_n <= planned_n && planned_n <= reads_n + reads_n / 4 + 2, "{planned_n}, and then {reads_n}");
            assert!(plan.packs.iter().all(|pack| pack.bytes_read <= pack.bytes && !pack.is_frozen), "{:?}", plan.packs);
            assert_eq!((plan.streams_n, plan.bytes), (1, snapshot.record.totals.bytes));
        }
    });
}
