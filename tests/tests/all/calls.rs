//! How much is asked of the store, by counting.

use crate::kit::dumps;
use crate::kit::random::Random;
use crate::kit::watched::{Kind, Watched};
use crate::kit::{back_up, create, get_back, run};

#[test]
fn an_unchanged_second_backup_uploads_nothing_but_its_session_and_snapshot() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        let streams = dumps::one("a", Random::seeded(1).text(8_000_000));
        back_up(&repository, "s", &streams).await.expect("backs up");
        store.take_calls();
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let calls = store.take_calls();
        let puts: Vec<&str> =
            calls.iter().filter(|call| call.kind == Kind::Put).map(|call| call.name.as_str()).collect();
        assert_eq!(puts, [format!("sessions/{}", snapshot.id), format!("snapshots/{}", snapshot.id)]);
        assert!(calls.len() <= 20, "{} calls: {calls:?}", calls.len());
        assert_eq!(snapshot.record.totals.bytes_added, 0);
    });
}

#[test]
fn a_first_backup_puts_a_pack_of_each_kind_a_fragment_and_a_snapshot() {
    run(async {
        let store = Watched::create();
        let repository = create(store.store()).await.expect("creates");
        store.take_calls();
        let streams = dumps::one("a", Random::seeded(2).text(8_000_000));
        let snapshot = back_up(&repository, "s", &streams).await.expect("backs up");
        let puts: Vec<String> = store
            .take_calls()
            .into_iter()
            .filter(|call| call.kind == Kind::Put)
            .map(|call| call.name.split('/').next().expect("a prefix").to_owned())
            .collect();
        assert_eq!(puts.first().map(String::as_str), Some("sessions"), "announced before anything else");
        assert_eq!(puts.last().map(String::as_str), Some("snapshots"), "committed after everything else");
        let mut between = puts[1..puts.len() - 1].to_vec();
        between.sort();
        assert_eq!(between, ["index", "meta", "packs"]);
        assert_eq!(puts[puts.len() - 2], "index", "packs before the index");

        store.take_calls();
        get_back(&repository, &snapshot).await.expect("restores");
        let calls = store.take_calls();
        let pack_reads = calls.iter().filter(|call| call.name.starts_with("packs/")).count();
        assert!(pack_reads <= 3, "blobs that lie together are read together: {calls:?}");
    });
}
