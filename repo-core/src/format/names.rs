//! Where objects lie in the store.

use crate::words::id::{PackId, SessionId, SlotId};

/// The repository's parameters.
pub const CONFIG: &str = "config";
/// Key slots.
pub const KEYS: &str = "keys";
/// Packs of chunks.
pub const PACKS: &str = "packs";
/// Packs of manifest nodes.
pub const META: &str = "meta";
/// Index fragments, named by the session that wrote them.
pub const INDEX: &str = "index";
/// Runs under way.
pub const SESSIONS: &str = "sessions";
/// Decisions of backups: snapshots and fences.
pub const SNAPSHOTS: &str = "snapshots";
/// Decisions of other runs: merges and fences.
pub const MERGES: &str = "merges";
/// Tombstones of forgotten snapshots.
pub const FORGOTTEN: &str = "forgotten";
/// Notices of prunes: packs that will be deleted.
pub const PRUNE: &str = "prune";
/// Holds on snapshots.
pub const HOLDS: &str = "holds";
/// What a probe of the store writes and deletes again.
pub const PROBE: &str = "probe";

/// Every prefix under which a repository keeps objects.
pub const PREFIXES: [&str; 10] = [KEYS, PACKS, META, INDEX, SESSIONS, SNAPSHOTS, MERGES, FORGOTTEN, PRUNE, HOLDS];

/// Which kind of pack: data and manifest nodes lie apart, so that data can go to cold storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum PackKind {
    /// Chunks of streams, under `packs/`.
    Data,
    /// Manifest nodes, under `meta/`.
    Meta,
}

/// One index fragment: the n-th of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct FragmentName {
    /// Whose decision makes it count.
    pub session: SessionId,
    /// Its number, from 0.
    pub number: u32,
}

/// Name of a pack.
pub fn pack(kind: PackKind, id: PackId) -> String {
    match kind {
        PackKind::Data => format!("{PACKS}/{id}"),
        PackKind::Meta => format!("{META}/{id}"),
    }
}

/// Name of a key slot.
pub fn slot(id: SlotId) -> String {
    format!("{KEYS}/{id}")
}

/// Name of an index fragment.
pub fn fragment(name: FragmentName) -> String {
    format!("{INDEX}/{}-{}", name.session, name.number)
}

/// Name of the object that a session has under this prefix.
pub fn of_session(prefix: &str, id: SessionId) -> String {
    format!("{prefix}/{id}")
}

/// Reads the id out of `prefix/id`; `None` for anything else.
pub fn parse<T: std::str::FromStr>(prefix: &str, name: &str) -> Option<T> {
    name.strip_prefix(prefix)?.strip_prefix('/')?.parse().ok()
}

/// Reads a fragment's name; `None` for anything else.
pub fn parse_fragment(name: &str) -> Option<FragmentName> {
    let (session, number) = name.strip_prefix(INDEX)?.strip_prefix('/')?.split_once('-')?;
    let parsed = FragmentName { session: session.parse().ok()?, number: number.parse().ok()? };
    (fragment(parsed) == name).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        let name = FragmentName { session: SessionId([0xab; 16]), number: 12 };
        assert_eq!(fragment(name), format!("index/{}-12", "ab".repeat(16)));
        assert_eq!(parse_fragment(&fragment(name)), Some(name));
        assert_eq!(parse_fragment(&format!("index/{}-012", "ab".repeat(16))), None);
        assert_eq!(parse::<SessionId>(SNAPSHOTS, &of_session(SNAPSHOTS, name.session)), Some(name.session));
        assert_eq!(parse::<SessionId>(SNAPSHOTS, &of_session(MERGES, name.session)), None);
        assert_eq!(parse::<SessionId>(SNAPSHOTS, "snapshots/readme"), None);
    }
}
