//! The stored bytes of every object, with fixed keys, salts and contents. A difference is a change of the format:
//! `repo-core/FORMAT.md` says what that takes. `DEDUMP_BLESS=1` writes the files anew.

use dedump_core::internals::compress::{Compressor, Decompressor, DeltaCompressor, Effort, Encoding};
use dedump_core::internals::config::ConfigRecord;
use dedump_core::internals::contents::{BaseEntry, BlobEntry, ChunkEntry, NO_LIKE};
use dedump_core::internals::decision::{FenceRecord, MergeRecord, NoticeRecord, TombstoneRecord};
use dedump_core::internals::fragment;
use dedump_core::internals::hold::HoldRecord;
use dedump_core::internals::keys::{Keys, Secret, Secrets};
use dedump_core::internals::names::{FragmentName, PackKind};
use dedump_core::internals::node::{ChildEntry, LeafEntry, Node};
use dedump_core::internals::pack::{self, Delta, EncodedBlob, PackContents, PackInfo, PackWriter};
use dedump_core::internals::record::{self, Record, Sealer};
use dedump_core::internals::session::SessionRecord;
use dedump_core::internals::slot::{self, SlotKind, SlotLabel};
use dedump_core::internals::slot_keys::{Argon2Params, SlotKeys};
use dedump_core::internals::snapshot::{Quality, SnapshotRecord, StreamRecord, Totals};
use dedump_core::{ChunkId, ChunkerParams, PackId, RepositoryId, SessionId};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

const SALT: [u8; 32] = [0x5a; 32];
const REPOSITORY: RepositoryId = RepositoryId([0xd0; 16]);
const SESSION: SessionId = SessionId([0x5e; 16]);
const SESSION_HEX: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

fn keys() -> Keys {
    let secrets = Secrets { naming: Secret([1; 32]), epochs: BTreeMap::from([(1, Secret([2; 32]))]) };
    Keys::derive(secrets).expect("there is an epoch")
}

/// Compares bytes with their golden file.
fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../repo-core/golden").join(name);
    if std::env::var_os("DEDUMP_BLESS").is_some() {
        std::fs::write(&path, bytes).expect("the golden file can be written");
    }
    let stored = std::fs::read(&path).expect("the golden file is there");
    assert!(stored == bytes, "{name} has changed: the format has");
}

/// A record's golden bytes, and that they decode to the same.
fn golden_record<T: Record + PartialEq + Debug>(file: &str, name: &str, value: &T) {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let bytes = record::seal(sealer, name, SALT, value).expect("seals");
    golden(file, &bytes);
    assert_eq!(record::open::<T>(sealer, name, &bytes).expect("opens"), *value);
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("team".to_owned(), "db".to_owned())])
}

#[test]
fn config_bytes() {
    let config = ConfigRecord {
        created_ms: 1_767_225_600_000,
        program: "dedump 0.1.0".to_owned(),
        chunker: ChunkerParams::default(),
    };
    golden_record("config.bin", "config", &config);
}

#[test]
fn session_bytes() {
    let session = SessionRecord {
        operation: "backup".to_owned(),
        host: "db1".to_owned(),
        process: 4711,
        program: "dedump 0.1.0".to_owned(),
        source: "app".to_owned(),
        started_ms: 1_767_225_600_000,
        refreshes_n: 3,
        bytes_done: 1 << 33,
    };
    golden_record("session.bin", &format!("sessions/{SESSION_HEX}"), &session);
}

#[test]
fn snapshot_bytes() {
    let stream = StreamRecord {
        name: "app.dump".to_owned(),
        bytes: 300_000,
        chunks_n: 4,
        hash: [0xb3; 32],
        root: ChunkId([0x0d; 32]),
        root_level: 0,
        chunker: ChunkerParams::default(),
        facts: BTreeMap::from([("rows".to_owned(), "12".to_owned())]),
    };
    let totals = Totals {
        bytes: 300_000,
        chunks_n: 4,
        chunks_new_n: 3,
        bytes_new: 200_000,
        nodes_new_n: 1,
        bytes_added: 70_000,
        bytes_added_meta: 2_000,
        bytes_stored_whole: 40_000,
        chunks_delta_n: 2,
        bytes_delta: 150_000,
        bytes_stored_delta: 20_000,
        bytes_read_back: 160_000,
        depths: vec![1, 2],
    };
    let snapshot = SnapshotRecord {
        started_ms: 1_767_225_600_000,
        ended_ms: 1_767_225_661_000,
        host: "db1".to_owned(),
        source: "app".to_owned(),
        tags: labels(),
        program: "dedump 0.1.0".to_owned(),
        quality: Quality::Suspicious,
        reasons: vec!["it shrank".to_owned()],
        warnings: vec!["it is compressed".to_owned()],
        facts: BTreeMap::from([("engine".to_owned(), "command".to_owned())]),
        parent: Some(SessionId([0x11; 16])),
        origin: None,
        streams: vec![stream],
        fragments_n: 1,
        totals,
    };
    golden_record("snapshot.bin", &format!("snapshots/{SESSION_HEX}"), &snapshot);
}

#[test]
fn decision_bytes() {
    let fence = FenceRecord { by: SESSION, reason: "it looked dead".to_owned(), fenced_ms: 1_767_225_600_000 };
    golden_record("fence.bin", &format!("snapshots/{SESSION_HEX}"), &fence);
    let merge = MergeRecord {
        operation: "reindex".to_owned(),
        ended_ms: 1_767_225_600_000,
        fragments_n: 1,
        supersedes: vec![FragmentName { session: SessionId([0x11; 16]), number: 300 }],
        notices: vec![SessionId([0x12; 16])],
    };
    golden_record("merge.bin", &format!("merges/{SESSION_HEX}"), &merge);
    let notice = NoticeRecord {
        put_ms: 1_767_225_600_000,
        packs: vec![(PackKind::Data, PackId([0x21; 32])), (PackKind::Meta, PackId([0x22; 32]))],
    };
    golden_record("notice.bin", &format!("prune/{SESSION_HEX}"), &notice);
    let tombstone = TombstoneRecord {
        forgotten_ms: 1_767_225_600_000,
        source: "app".to_owned(),
        taken_ms: 1_767_139_200_000,
        fragments_n: 2,
        origin: Some(SessionId([0x13; 16])),
    };
    golden_record("tombstone.bin", &format!("forgotten/{SESSION_HEX}"), &tombstone);
}

#[test]
fn hold_bytes() {
    let hold = HoldRecord {
        reason: "audit 2026".to_owned(),
        since_ms: 1_767_225_600_000,
        until_ms: Some(1_798_761_600_000),
        by: "ana@db1".to_owned(),
    };
    golden_record("hold.bin", &format!("holds/{SESSION_HEX}"), &hold);
}

#[test]
fn key_slot_bytes() {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let label = SlotLabel { label: "ops".to_owned(), created_ms: 1_767_225_600_000, host: "db1".to_owned() };
    let params = Argon2Params { memory_kib: 64, passes: 2, lanes: 1 };
    let passphrase = SlotKeys::from_passphrase(b"correct horse", params, &SALT).expect("derives");
    let key_file = SlotKeys::from_key_file(&Secret([7; 32]), &SALT);
    for (file, kind, slot_keys) in [
        ("slot-passphrase.bin", SlotKind::Passphrase(params), passphrase),
        ("slot-key-file.bin", SlotKind::KeyFile, key_file),
    ] {
        let name = "keys/0123456789abcdef";
        let bytes = slot::seal(sealer, name, (kind, &slot_keys, SALT), (&label, [0x1a; 32])).expect("seals");
        golden(file, &bytes);
        let parsed = slot::parse(name, REPOSITORY, &bytes).expect("parses");
        assert_eq!((parsed.kind, parsed.label(&keys).expect("opens")), (kind, label.clone()));
        let secrets = parsed.unwrap_secrets(&slot_keys).expect("is whole").expect("is ours");
        assert_eq!(secrets, *keys.secrets());
    }
}

fn chunks() -> [&'static [u8]; 3] {
    [&[b'a'; 3000], b"second chunk", b"third chunk"]
}

#[test]
fn pack_bytes() {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    for (file, kind) in [("pack-data.bin", PackKind::Data), ("pack-meta.bin", PackKind::Meta)] {
        let mut writer = PackWriter::create(kind, sealer, SALT, Vec::new());
        let entry = |plain: &[u8]| ChunkEntry { id: kind.chunk_id(&keys, plain), plain_bytes: plain.len() as u32 };
        let [first, second, third] = chunks();
        // A zstd frame is whatever the library makes of it: the golden one is fixed here, so that only the format is.
        let frame = include_bytes!("../../../repo-core/golden/frame.zst").to_vec();
        let (encoding, encoded) = (Encoding::Zstd, frame);
        writer.push(EncodedBlob { encoding, encoded, plain_bytes: 3000, chunks: vec![entry(first)], delta: None });
        let both = [second, third].concat();
        let plain_bytes = both.len() as u32;
        let chunks = vec![entry(second), entry(third)];
        writer.push(EncodedBlob { encoding: Encoding::Stored, encoded: both, plain_bytes, chunks, delta: None });
        if kind == PackKind::Data {
            let frame = include_bytes!("../../../repo-core/golden/frame-delta.zst").to_vec();
            let bases = vec![
                BaseEntry { id: entry(first).id, start: 1000, plain_bytes: 2000 },
                BaseEntry { id: entry(second).id, start: 0, plain_bytes: second.len() as u32 },
            ];
            let delta = Delta { depth: 1, generation: 1, bases, likes: vec![0, NO_LIKE] };
            let chunks = vec![entry(&delta_plain()[..2000]), entry(&delta_plain()[2000..])];
            let (encoding, plain_bytes) = (Encoding::ZstdPrefix, delta_plain().len() as u32);
            writer.push(EncodedBlob { encoding, encoded: frame, plain_bytes, chunks, delta: Some(delta) });
        }
        let (contents, bytes) = writer.finish();
        golden(file, &bytes);
        let delta = |number, _: &BlobEntry, encoded: &[u8]| {
            assert_eq!((number, encoded), (2, &include_bytes!("../../../repo-core/golden/frame-delta.zst")[..]));
            Ok(())
        };
        assert_eq!(pack::verify(sealer, (kind, contents.info.id), &bytes, delta).expect("verifies"), contents);
    }
}

/// What the golden delta stands for, and the prefix that it refers to.
fn delta_plain() -> Vec<u8> {
    [&[b'a'; 2000], &b"second chunk, and a third"[..]].concat()
}

fn delta_prefix() -> Vec<u8> {
    [&chunks()[0][1000..], chunks()[1]].concat()
}

#[test]
fn the_golden_delta_is_what_zstd_still_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../repo-core/golden/frame-delta.zst");
    let (plain, prefix) = (delta_plain(), delta_prefix());
    if std::env::var_os("DEDUMP_BLESS").is_some() {
        let frame =
            DeltaCompressor::new(Effort::Level(3)).expect("set up").compress(&plain, &prefix).expect("compresses");
        std::fs::write(&path, frame).expect("the golden file can be written");
    }
    let frame = std::fs::read(path).expect("the golden file is there");
    let mut inflater = Decompressor::new().expect("set up");
    let back = inflater.decompress(Encoding::ZstdPrefix, &frame, &prefix, plain.len());
    assert_eq!(back.expect("inflates"), plain);
    assert!(frame.len() < 40, "{} bytes: the prefix is not used", frame.len());
}

#[test]
fn the_golden_frame_is_what_zstd_still_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../repo-core/golden/frame.zst");
    if std::env::var_os("DEDUMP_BLESS").is_some() {
        let (_, frame) = Compressor::new(Effort::Level(3)).expect("set up").compress(chunks()[0]).expect("compresses");
        std::fs::write(&path, frame).expect("the golden file can be written");
    }
    let frame = std::fs::read(path).expect("the golden file is there");
    let mut inflater = Decompressor::new().expect("set up");
    assert_eq!(inflater.decompress(Encoding::Zstd, &frame, b"", 3000).expect("inflates"), chunks()[0]);
}

#[test]
fn fragment_bytes() {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let chunk = |byte: u8, plain_bytes: u32| ChunkEntry { id: ChunkId([byte; 32]), plain_bytes };
    let whole = BlobEntry {
        sealed_bytes: 1000,
        plain_bytes: 3000,
        encoding: Encoding::Zstd,
        depth: 0,
        generation: 0,
        chunks: vec![chunk(1, 1000), chunk(2, 2000)],
        bases: vec![],
        likes: vec![],
    };
    let delta = BlobEntry {
        sealed_bytes: 100,
        plain_bytes: 3000,
        encoding: Encoding::ZstdPrefix,
        depth: 1,
        generation: 3,
        chunks: vec![chunk(3, 3000)],
        bases: vec![BaseEntry { id: ChunkId([1; 32]), start: 16, plain_bytes: 900 }],
        likes: vec![0],
    };
    let pack = |kind, id: u8, blobs| PackContents {
        info: PackInfo { id: PackId([id; 32]), kind, bytes: 2048, epoch: 1, salt: [id; 32] },
        blobs,
    };
    let packs = vec![pack(PackKind::Data, 0xda, vec![whole, delta]), pack(PackKind::Meta, 0x3e, vec![])];
    let name = FragmentName { session: SESSION, number: 7 };
    let bytes = fragment::seal(sealer, name, SALT, &packs);
    golden("fragment.bin", &bytes);
    assert_eq!(fragment::open(sealer, name, &bytes).expect("opens"), packs);
    let other = FragmentName { session: SESSION, number: 8 };
    assert!(fragment::open(sealer, other, &bytes).is_err(), "a fragment is bound to its name");
}

#[test]
fn node_bytes() {
    let entries: Vec<LeafEntry> =
        (1..=3u8).map(|byte| LeafEntry { id: ChunkId([byte; 32]), plain_bytes: u32::from(byte) * 1000 }).collect();
    let sketches = vec![[0xa1; 12], [0xa2; 12], [0xa3; 12]];
    let children = vec![
        ChildEntry { id: ChunkId([8; 32]), bytes: 1 << 33, chunks_n: 70_000 },
        ChildEntry { id: ChunkId([9; 32]), bytes: 6000, chunks_n: 3 },
    ];
    for (file, node) in [
        ("node-leaf.bin", Node::Leaf { entries: entries.clone(), sketches: vec![] }),
        ("node-leaf-sketches.bin", Node::Leaf { entries, sketches }),
        ("node-inner.bin", Node::Inner { level: 1, children }),
    ] {
        let bytes = node.encode();
        golden(file, &bytes);
        assert_eq!(Node::decode(&bytes).expect("decodes"), node);
    }
    golden("node-id.bin", &keys().node_id(b"a node").0);
    golden("chunk-id.bin", &keys().chunk_id(b"a chunk").0);
}
