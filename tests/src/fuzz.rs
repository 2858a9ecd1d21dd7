//! One function a decoder: hostile bytes in, no panic, no allocation without bound, and what decodes encodes to the same.
//!
//! The targets under `fuzz/` call these with libFuzzer's inputs; the test `fuzz_corpus` calls them with every file of
//! `fuzz/corpus` and with small mutations of it, on a stable compiler. A decoder behind a seal gets its input sealed
//! with [`keys`], so that it is the decoder that meets it, not the seal.

use dedump_core::internals::chunker::{Chunker, ChunkerKind, ChunkerParams};
use dedump_core::internals::compress::{Compressor, Decompressor, DeltaCompressor, Effort, Encoding};
use dedump_core::internals::config::ConfigRecord;
use dedump_core::internals::contents::{BaseEntry, BlobEntry, ChunkEntry, NO_LIKE};
use dedump_core::internals::decision::{FenceRecord, MergeRecord, NoticeRecord, TombstoneRecord};
use dedump_core::internals::header::{HEADER_BYTES, Header, ObjectType};
use dedump_core::internals::hold::HoldRecord;
use dedump_core::internals::keys::{Keys, Purpose, Secret, Secrets};
use dedump_core::internals::names::{self, FragmentName, PackKind};
use dedump_core::internals::node::{ChildEntry, LeafEntry, Node};
use dedump_core::internals::pack::{BlobPlace, Delta, EncodedBlob, PackInfo, PackOpener, PackWriter, TAIL_BYTES};
use dedump_core::internals::record::{Record, Sealer};
use dedump_core::internals::seal::{Domain, ObjectCipher, TAG_BYTES};
use dedump_core::internals::session::SessionRecord;
use dedump_core::internals::slot::{SlotKind, SlotLabel};
use dedump_core::internals::slot_keys::{Argon2Params, SlotKeys};
use dedump_core::internals::snapshot::{Quality, SnapshotRecord, StreamRecord, Totals};
use dedump_core::internals::{
    fragment as fragments, pack as packs, record as records, sketch as sketches, slot as slots,
};
use dedump_core::{ChunkId, PackId, RepositoryId, SessionId};
// bincode makes room for a string of the length that the bytes announce, up to this limit, before it reads it.
use dedump_core::limits::RECORD_BYTES_MAX;
use dedump_engines::clickhouse::internals::walk;
use dedump_engines::mongodb::internals::{archive, id_of, one_after_another};
use dedump_engines::mysql::internals::{rebuilt, split};
use dedump_engines::redis::internals::canonical;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A target: what it is called, its body, and the inputs that its corpus starts from.
pub struct Target {
    /// Its name: that of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// What it may allocate at once whatever it reads, in bytes; besides that, a small multiple of its input.
    pub allocation_bytes_max: usize,
    /// Inputs that lead far into the decoder; the odd ones are files of the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 14] = [
    Target { name: "chunker", run: chunker, allocation_bytes_max: ALLOCATION_BYTES, seeds: chunker_seeds },
    Target {
        name: "clickhouse_native",
        run: clickhouse_native,
        allocation_bytes_max: ALLOCATION_BYTES,
        seeds: clickhouse_native_seeds,
    },
    Target { name: "compress", run: compress, allocation_bytes_max: ALLOCATION_BYTES, seeds: compress_seeds },
    Target { name: "fragment", run: fragment, allocation_bytes_max: ALLOCATION_BYTES, seeds: fragment_seeds },
    Target { name: "header", run: header, allocation_bytes_max: ALLOCATION_BYTES, seeds: header_seeds },
    Target {
        name: "mongo_archive",
        run: mongo_archive,
        allocation_bytes_max: ALLOCATION_BYTES,
        seeds: mongo_archive_seeds,
    },
    Target { name: "mysql_dump", run: mysql_dump, allocation_bytes_max: ALLOCATION_BYTES, seeds: mysql_dump_seeds },
    Target { name: "name", run: name, allocation_bytes_max: ALLOCATION_BYTES, seeds: name_seeds },
    Target { name: "node", run: node, allocation_bytes_max: ALLOCATION_BYTES, seeds: node_seeds },
    Target { name: "pack", run: pack, allocation_bytes_max: ALLOCATION_BYTES, seeds: pack_seeds },
    Target { name: "rdb", run: rdb, allocation_bytes_max: ALLOCATION_BYTES, seeds: rdb_seeds },
    Target { name: "record", run: record, allocation_bytes_max: 4 * RECORD_BYTES_MAX, seeds: record_seeds },
    Target { name: "sketch", run: sketch, allocation_bytes_max: ALLOCATION_BYTES, seeds: sketch_seeds },
    Target { name: "slot", run: slot, allocation_bytes_max: 4 * RECORD_BYTES_MAX, seeds: slot_seeds },
];

/// Enough for a chunker, a compressor's buffers and the like.
const ALLOCATION_BYTES: usize = 2 << 20;
const REPOSITORY: RepositoryId = RepositoryId([0x42; 16]);
const FRAGMENT: FragmentName = FragmentName { session: SessionId([0x51; 16]), number: 0 };
const SALT: [u8; 32] = [0x5a; 32];
const OBJECT: &str = "fuzzed";

/// Returns the keys that hostile plaintext is sealed with.
pub fn keys() -> Keys {
    let secrets = Secrets { naming: Secret([1; 32]), epochs: BTreeMap::from([(1, Secret([2; 32]))]) };
    Keys::derive(secrets).expect("there is an epoch")
}

/// Any object's first 64 bytes.
pub fn header(input: &[u8]) {
    if let Ok((header, rest)) = Header::decode(OBJECT, input) {
        assert_eq!([&header.encode()[..], rest].concat(), input, "a header has one form");
    }
}

/// A name in the store.
pub fn name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(parsed) = names::parse_fragment(text) {
        assert_eq!(names::fragment(parsed), text, "a name has one form");
    }
    for prefix in names::PREFIXES {
        if let Some(id) = names::parse::<SessionId>(prefix, text) {
            assert_eq!(names::of_session(prefix, id), text, "a name has one form");
        }
    }
}

/// A manifest node.
pub fn node(input: &[u8]) {
    if let Ok(node) = Node::decode(input) {
        assert_eq!(node.encode(), input, "a node has one form");
        node.totals();
    }
}

/// An index fragment, and with it the list of what a pack holds: the input is its plaintext.
pub fn fragment(input: &[u8]) {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let sealed = seal_whole(&keys, ObjectType::Fragment, Purpose::Index, &names::fragment(FRAGMENT), input);
    if let Ok(packs) = fragments::open(sealer, FRAGMENT, &sealed) {
        let again = fragments::seal(sealer, FRAGMENT, SALT, &packs);
        same(fragments::open(sealer, FRAGMENT, &again), packs);
    }
}

/// What `mongodump` prints: an archive that can be taken apart stays as it is when it is put together again.
pub fn mongo_archive(input: &[u8]) {
    if let Some(id) = id_of(input) {
        assert!(id.len() < input.len());
    }
    if let Ok(archive) = one_after_another(input) {
        same(one_after_another(&archive), archive);
    }
}

/// What `mariadb-dump` prints: it is taken apart, and its rows are put together, alike however it comes.
pub fn mysql_dump(input: &[u8]) {
    assert_eq!(split(input, 7), split(input, usize::MAX), "the pieces show");
    assert!(rebuilt(input, 0, 5) == input, "rows that are not put together stay as they are");
    let together = rebuilt(input, 1000, usize::MAX);
    assert!(rebuilt(input, 1000, 5) == together && together.len() <= input.len(), "the pieces show");
}

/// An RDB off the wire: what can be sorted is an RDB, and sorted it stays as it is.
pub fn rdb(input: &[u8]) {
    let folder = std::env::temp_dir();
    if let Ok(sorted) = canonical(input, &folder) {
        let again = canonical(&sorted, &folder).expect("what was written can be read");
        assert!(again == sorted, "sorted it is another RDB");
    }
}

/// A stream of ClickHouse's Native format, in pieces: how it is cut makes no difference.
pub fn clickhouse_native(input: &[u8]) {
    let whole = walk(input, input.len(), true);
    assert_eq!(walk(input, 7, true).ok(), whole.as_ref().ok().copied(), "in pieces it is something else");
    if let Ok(Some(rows)) = whole {
        assert_eq!(walk(input, 1000, false), Ok(Some(rows)), "nothing in it is the server's alone to tell");
    }
}

/// A small sealed object: the first byte picks its type, the rest is what the codec meets.
pub fn record(input: &[u8]) {
    let Some((pick, payload)) = input.split_first() else { return };
    match pick % 9 {
        0 => record_of::<ConfigRecord>(payload),
        1 => record_of::<SnapshotRecord>(payload),
        2 => record_of::<SessionRecord>(payload),
        3 => record_of::<MergeRecord>(payload),
        4 => record_of::<FenceRecord>(payload),
        5 => record_of::<TombstoneRecord>(payload),
        6 => record_of::<SlotLabel>(payload),
        7 => record_of::<NoticeRecord>(payload),
        _ => record_of::<HoldRecord>(payload),
    }
}

fn record_of<T: Record + Debug + PartialEq>(payload: &[u8]) {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let plain = [&len_u32(payload)[..], payload].concat();
    let sealed = seal_whole(&keys, T::TYPE, Purpose::Record, OBJECT, &plain);
    if let Ok(record) = records::open::<T>(sealer, OBJECT, &sealed) {
        let again = records::seal(sealer, OBJECT, SALT, &record).expect("what was read can be written");
        same(records::open(sealer, OBJECT, &again), record);
    }
    // The length before the payload is hostile too.
    let sealed = seal_whole(&keys, T::TYPE, Purpose::Record, OBJECT, payload);
    if let Ok(record) = records::open::<T>(sealer, OBJECT, &sealed) {
        records::seal(sealer, OBJECT, SALT, &record).expect("what was read can be written");
    }
}

/// A key slot: as it lies in the store, and with the input as the secrets that it wraps. Never runs Argon2id.
pub fn slot(input: &[u8]) {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let slot_keys = SlotKeys::from_key_file(&Secret([7; 32]), &SALT);
    if let Ok(slot) = slots::parse(OBJECT, REPOSITORY, input) {
        // Whether it opens is the seal's affair; that it is tried without a panic is ours.
        let _ = (slot.unwrap_secrets(&slot_keys), slot.label(&keys));
    }
    let mut bytes = whole_header(ObjectType::Slot, 0).encode().to_vec();
    bytes.extend_from_slice(&[2, 0, 0, 0]);
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(slot_keys.commitment());
    let associated = [&bytes[..], OBJECT.as_bytes()].concat();
    bytes.extend_from_slice(&len_u32(&vec![0; input.len() + TAG_BYTES]));
    let start = bytes.len();
    bytes.extend_from_slice(input);
    ObjectCipher::new(&slot_keys.wrap, &SALT, associated).seal_tail_of(Domain::Body, 0, &mut bytes, start);
    let parsed = slots::parse(OBJECT, REPOSITORY, &bytes).expect("the outside is as a slot's is");
    if let Ok(secrets) = parsed.unwrap_secrets(&slot_keys) {
        let secrets = secrets.expect("the keys are the slot's");
        let keys = Keys::derive(secrets).expect("a slot has an epoch");
        let sealer = Sealer { repository: REPOSITORY, keys: &keys };
        let label = SlotLabel { label: String::new(), created_ms: 0, host: String::new() };
        slots::seal(sealer, OBJECT, (SlotKind::KeyFile, &slot_keys, SALT), (&label, SALT)).expect("it can be written");
    }
    // A record in the place of the label.
    record_of::<SlotLabel>(input);
    assert!(slots::parse(OBJECT, sealer.repository, &[]).is_err());
}

/// A pack: the first byte says whether the input is a whole pack, a trailer, a tail, a blob or what goes into one.
pub fn pack(input: &[u8]) {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let Some((pick, input)) = input.split_first() else { return };
    match pick % 5 {
        0 => whole_pack(sealer, input),
        1 => pack_trailer(sealer, input),
        2 => {
            let (opener, cipher) = opener(sealer, input.len() as u64 + 1000);
            if let Ok(trailer_bytes) = opener.open_tail(&sealed_part(&cipher, Domain::Tail, input)) {
                assert!(trailer_bytes < input.len() as u64 + 1000);
            }
        }
        3 => pack_blob(sealer, input),
        _ => pack_round_trip(sealer, input),
    }
}

fn whole_pack(sealer: Sealer<'_>, bytes: &[u8]) {
    let id = PackId(*blake3::hash(bytes).as_bytes());
    for kind in [PackKind::Data, PackKind::Meta] {
        if let Ok(contents) = packs::verify(sealer, (kind, id), bytes, |_, _, _| Ok(())) {
            assert_eq!(contents.info.bytes, bytes.len() as u64);
        }
    }
}

fn pack_trailer(sealer: Sealer<'_>, input: &[u8]) {
    let (length, plain) = input.split_at(input.len().min(4));
    let blobs_bytes = length.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let fixed_bytes = (HEADER_BYTES + plain.len() + TAG_BYTES + TAIL_BYTES) as u64;
    let (opener, cipher) = opener(sealer, fixed_bytes + blobs_bytes);
    if let Ok(contents) = opener.open_trailer(&sealed_part(&cipher, Domain::Trailer, plain)) {
        assert_eq!(contents.blobs.iter().map(|blob| u64::from(blob.sealed_bytes)).sum::<u64>(), blobs_bytes);
    }
}

fn pack_blob(sealer: Sealer<'_>, input: &[u8]) {
    let Some((&[encoding, low, middle], encoded)) = input.split_first_chunk() else { return };
    let Some(encoding) = Encoding::from_number(encoding % 3) else { return };
    let plain_bytes = u32::from_le_bytes([low, middle, 0, 0]);
    let place = BlobPlace { encoding, depth: encoding as u8 / 2, generation: 1, plain_bytes };
    let (opener, cipher) = opener(sealer, 1000);
    let mut inflater = Decompressor::new().expect("memory");
    let sealed = sealed_part(&cipher, Domain::Body, encoded);
    let opened = opener.open_blob(&mut inflater, (0, &place), PREFIX, &sealed, Vec::new());
    if let Ok(plain) = opened {
        assert_eq!(plain.len(), place.plain_bytes as usize, "a blob has the length that was announced");
    }
}

/// Writes the input as one blob of two chunks, one of one, and a delta, and verifies the pack.
fn pack_round_trip(sealer: Sealer<'_>, input: &[u8]) {
    let (id, bytes) = small_pack(sealer, input);
    let mut deltas_n = 0;
    let delta = |_, _: &BlobEntry, _: &[u8]| {
        deltas_n += 1;
        Ok(())
    };
    let contents = packs::verify(sealer, (PackKind::Data, id), &bytes, delta).expect("what was written verifies");
    assert_eq!((contents.blobs.len(), deltas_n), (3, 1));
}

/// What a blob was compressed to: the first 2 bytes say its encoding and length.
pub fn compress(input: &[u8]) {
    let Some((&[encoding, length], encoded)) = input.split_first_chunk() else { return };
    let mut inflater = Decompressor::new().expect("memory");
    let plain_bytes = usize::from(length) * 100;
    if let Some(encoding) = Encoding::from_number(encoding)
        && let Ok(plain) = inflater.decompress(encoding, encoded, PREFIX, plain_bytes)
    {
        assert_eq!(plain.len(), plain_bytes, "the length is the one that was announced");
    }
    let (encoding, again) = Compressor::new(Effort::Level(1)).expect("memory").compress(encoded).expect("memory");
    same(inflater.decompress(encoding, &again, b"", encoded.len()), encoded.to_vec());
    let delta = DeltaCompressor::new(Effort::Level(1)).expect("memory").compress(encoded, PREFIX).expect("memory");
    same(inflater.decompress(Encoding::ZstdPrefix, &delta, PREFIX, encoded.len()), encoded.to_vec());
}

/// What deltas refer to.
const PREFIX: &[u8] = b"INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three');\n";

/// A chunk's sketch: any bytes have one, and it is like itself or says nothing.
pub fn sketch(input: &[u8]) {
    let sketch = sketches::sketch(input);
    let shared = sketches::likeness(&sketch, &sketches::sketch(input));
    assert!(shared == 3 || sketch == [0; sketches::SKETCH_BYTES]);
}

/// The chunker: the first 4 bytes choose its parameters and where the stream is split, the rest is the stream. Its cuts are those
/// of the crate `fastcdc`.
pub fn chunker(input: &[u8]) {
    let Some((&[min, avg, max, split], stream)) = input.split_first_chunk() else { return };
    let params = ChunkerParams {
        kind: ChunkerKind::FastCdc,
        min_bytes: 64 + 2 * u32::from(min),
        avg_bytes: 256 + 32 * u32::from(avg),
        max_bytes: 1024 + 96 * u32::from(max),
        normalization: split % 5,
    };
    let Ok(chunker) = Chunker::new(params, &[9; 32]) else { return };
    let mut whole = Vec::new();
    assert_eq!(chunker.cut(stream, true, &mut whole), stream.len(), "cuts cover the stream");
    let mut plainly = Vec::new();
    chunker.cut_plainly(stream, true, &mut plainly);
    assert_eq!(whole, plainly, "cuts are those that repositories hold");
    assert_eq!(whole.iter().map(|length| *length as usize).sum::<usize>(), stream.len());
    assert!(whole.iter().all(|length| (1..=params.max_bytes).contains(length)), "a chunk is too long: {whole:?}");
    let before_last = whole.len().saturating_sub(1);
    assert!(whole.iter().take(before_last).all(|length| *length >= params.min_bytes), "too short: {whole:?}");

    let (mut pieces, mut start) = (Vec::new(), 0);
    for end in (0..stream.len()).step_by(usize::from(split) * 16 + 1) {
        start += chunker.cut(&stream[start..end.max(start)], false, &mut pieces);
        assert!(end.saturating_sub(start) < params.max_bytes as usize, "what is left is less than the longest chunk");
    }
    chunker.cut(&stream[start..], true, &mut pieces);
    assert_eq!(pieces, whole, "cuts do not depend on how the stream arrives");
}

fn same<T: Debug + PartialEq, E: Debug>(decoded: Result<T, E>, expected: T) {
    assert_eq!(decoded.expect("what was encoded decodes"), expected);
}

fn len_u32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("inputs are small").to_le_bytes()
}

fn whole_header(object_type: ObjectType, epoch: u32) -> Header {
    Header { object_type, epoch, repository: REPOSITORY, salt: SALT }
}

/// Seals an object whose body is one part, bound to its header and name.
fn seal_whole(keys: &Keys, object_type: ObjectType, purpose: Purpose, name: &str, plain: &[u8]) -> Vec<u8> {
    let mut bytes = whole_header(object_type, 1).encode().to_vec();
    let key = keys.purpose(1, purpose).expect("the epoch has keys");
    let cipher = ObjectCipher::new(key, &SALT, [&bytes[..], name.as_bytes()].concat());
    bytes.extend_from_slice(plain);
    cipher.seal_tail_of(Domain::Body, 0, &mut bytes, HEADER_BYTES);
    bytes
}

/// The opener of a data pack of this length, and the cipher that its parts are sealed with.
fn opener(sealer: Sealer<'_>, bytes: u64) -> (PackOpener, ObjectCipher) {
    let info = PackInfo { id: PackId([3; 32]), kind: PackKind::Data, bytes, epoch: 1, salt: SALT };
    let key = sealer.keys.purpose(1, Purpose::Data).expect("the epoch has keys");
    let cipher = ObjectCipher::new(key, &SALT, whole_header(ObjectType::DataPack, 1).encode().to_vec());
    (PackOpener::new(sealer, info).expect("the epoch has keys"), cipher)
}

fn sealed_part(cipher: &ObjectCipher, domain: Domain, plain: &[u8]) -> Vec<u8> {
    let mut bytes = plain.to_vec();
    cipher.seal_tail_of(domain, 0, &mut bytes, 0);
    bytes
}

fn small_pack(sealer: Sealer<'_>, plain: &[u8]) -> (PackId, Vec<u8>) {
    let mut compressor = Compressor::new(Effort::Level(1)).expect("memory");
    let mut writer = PackWriter::create(PackKind::Data, sealer, SALT, Vec::new());
    let (first, second) = plain.split_at(plain.len() / 2);
    for chunks in [vec![first, second], vec![second]] {
        let plain = chunks.concat();
        let (encoding, encoded) = compressor.compress(&plain).expect("memory");
        let entry = |chunk: &&[u8]| ChunkEntry { id: sealer.keys.chunk_id(chunk), plain_bytes: chunk.len() as u32 };
        let chunks = chunks.iter().map(entry).collect();
        writer.push(EncodedBlob { encoding, encoded, plain_bytes: plain.len() as u32, chunks, delta: None });
    }
    // Against the first chunk: what a delta's entry says is not checked against its frame by the pack alone.
    let base = BaseEntry { id: sealer.keys.chunk_id(first), start: 0, plain_bytes: (first.len() as u32).max(1) };
    let delta = Delta { depth: 1, generation: 1, bases: vec![base], likes: vec![0, NO_LIKE] };
    let (same, chunk) = ([second, first].concat(), |plain: &[u8]| ChunkEntry {
        id: sealer.keys.chunk_id(plain),
        plain_bytes: plain.len() as u32,
    });
    let frame = DeltaCompressor::new(Effort::Level(1)).expect("memory").compress(&same, first).expect("memory");
    // A writer would store it whole rather than longer than its plaintext; the seal alone is checked here.
    let encoded = if frame.len() > same.len() { same.clone() } else { frame };
    let (encoding, plain_bytes) = (Encoding::ZstdPrefix, same.len() as u32);
    let chunks = vec![chunk(second), chunk(first)];
    writer.push(EncodedBlob { encoding, encoded, plain_bytes, chunks, delta: Some(delta) });
    let (contents, bytes) = writer.finish();
    (contents.info.id, bytes)
}

/// Bytes that look random and are always the same.
pub fn noise(bytes_n: usize) -> Vec<u8> {
    let mut bytes = vec![0; bytes_n];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

fn sketch_seeds() -> Vec<Vec<u8>> {
    vec![noise(3000), vec![0x2a; 5000], PREFIX.repeat(100), noise(1057)]
}

fn header_seeds() -> Vec<Vec<u8>> {
    let header = |object_type, epoch| whole_header(object_type, epoch).encode().to_vec();
    let newer = {
        let mut bytes = header(ObjectType::Config, 1);
        bytes[8] = 2;
        bytes
    };
    vec![header(ObjectType::Config, 1), [header(ObjectType::DataPack, 7), b"rest".to_vec()].concat(), newer]
}

fn name_seeds() -> Vec<Vec<u8>> {
    let session = SessionId([0xab; 16]);
    [
        names::fragment(FRAGMENT),
        names::of_session(names::SNAPSHOTS, session),
        names::pack(PackKind::Meta, PackId([0x10; 32])),
        format!("{}0", names::fragment(FRAGMENT)),
        names::CONFIG.to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

fn node_seeds() -> Vec<Vec<u8>> {
    let entries: Vec<_> =
        (1..4).map(|n| LeafEntry { id: ChunkId([n; 32]), plain_bytes: u32::from(n) * 1000 }).collect();
    let child = ChildEntry { id: ChunkId([8; 32]), bytes: u64::MAX, chunks_n: u64::MAX };
    vec![
        Node::Leaf { entries: Vec::new(), sketches: Vec::new() }.encode(),
        Node::Leaf { entries: entries.clone(), sketches: Vec::new() }.encode(),
        Node::Leaf { entries, sketches: vec![[7; 12]; 3] }.encode(),
        Node::Inner { level: 1, children: vec![child, child] }.encode(),
    ]
}

fn fragment_seeds() -> Vec<Vec<u8>> {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let (id, bytes) = small_pack(sealer, b"some plaintext, twice: some plaintext");
    let contents =
        packs::verify(sealer, (PackKind::Data, id), &bytes, |_, _, _| Ok(())).expect("what was written verifies");
    let cipher = |bytes: &[u8]| {
        let key = keys.purpose(1, Purpose::Index).expect("the epoch has keys");
        let name = names::fragment(FRAGMENT);
        ObjectCipher::new(key, &SALT, [&bytes[..HEADER_BYTES], name.as_bytes()].concat())
    };
    [&[][..], std::slice::from_ref(&contents), &[contents.clone(), contents.clone()]]
        .map(|packs| {
            let sealed = fragments::seal(sealer, FRAGMENT, SALT, packs);
            cipher(&sealed).open(Domain::Body, 0, &sealed[HEADER_BYTES..]).expect("its own seal")
        })
        .into()
}

fn record_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| text.to_owned();
    let facts = BTreeMap::from([(text("engine"), text("postgres")), (text("version"), text("15.18"))]);
    let chunker = ChunkerParams::default();
    let stream = StreamRecord {
        name: text("app.dump"),
        bytes: 1 << 40,
        chunks_n: 16 << 20,
        hash: [4; 32],
        root: ChunkId([5; 32]),
        root_level: 2,
        chunker,
        facts: facts.clone(),
    };
    let snapshot = SnapshotRecord {
        started_ms: 1_700_000_000_000,
        ended_ms: -1,
        host: text("db1"),
        source: text("postgres:app"),
        tags: facts.clone(),
        program: text("dedump 0.1.0"),
        quality: Quality::Suspicious,
        reasons: vec![text("it shrank")],
        warnings: vec![text("é")],
        facts,
        parent: Some(SessionId([6; 16])),
        origin: None,
        streams: vec![stream.clone(), stream],
        fragments_n: 2,
        totals: Totals::default(),
    };
    let session = SessionRecord {
        operation: text("backup"),
        host: text("db1"),
        process: 4711,
        program: text("dedump 0.1.0"),
        source: text("postgres:app"),
        started_ms: 0,
        refreshes_n: 3,
        bytes_done: u64::MAX,
    };
    let config = ConfigRecord { created_ms: 0, program: text("dedump 0.1.0"), chunker };
    let merge = MergeRecord {
        operation: text("prune"),
        ended_ms: 1,
        fragments_n: 1,
        supersedes: vec![FRAGMENT],
        notices: vec![FRAGMENT.session],
    };
    let notice = NoticeRecord { put_ms: 7, packs: vec![(PackKind::Meta, PackId([8; 32]))] };
    let fence = FenceRecord { by: SessionId([9; 16]), reason: text("it looked dead"), fenced_ms: 2 };
    let tombstone =
        TombstoneRecord { forgotten_ms: 3, source: text("postgres:app"), taken_ms: 4, fragments_n: 5, origin: None };
    let label = SlotLabel { label: text("laptop"), created_ms: 6, host: text("db1") };
    let hold = HoldRecord { reason: text("audit"), since_ms: 7, until_ms: Some(i64::MAX), by: text("ana@db1") };
    vec![
        record_seed(0, &config),
        record_seed(1, &snapshot),
        record_seed(2, &session),
        record_seed(3, &merge),
        record_seed(4, &fence),
        record_seed(5, &tombstone),
        record_seed(6, &label),
        record_seed(7, &notice),
        record_seed(8, &hold),
    ]
}

/// The payload of a record, taken out of its seal again.
fn record_seed<T: Record>(pick: u8, record: &T) -> Vec<u8> {
    let keys = keys();
    let sealed =
        records::seal(Sealer { repository: REPOSITORY, keys: &keys }, OBJECT, SALT, record).expect("it is small");
    let (head, body) = sealed.split_at(HEADER_BYTES);
    let key = keys.purpose(1, Purpose::Record).expect("the epoch has keys");
    let cipher = ObjectCipher::new(key, &SALT, [head, OBJECT.as_bytes()].concat());
    let plain = cipher.open(Domain::Body, 0, body).expect("its own seal");
    let (length, rest) = plain.split_first_chunk().expect("a length");
    [&[pick][..], &rest[..u32::from_le_bytes(*length) as usize]].concat()
}

fn slot_seeds() -> Vec<Vec<u8>> {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let slot_keys = SlotKeys::from_key_file(&Secret([7; 32]), &SALT);
    let label = SlotLabel { label: "laptop".to_owned(), created_ms: 6, host: "db1".to_owned() };
    // The keys of a passphrase would take Argon2id its time; what the decoder sees is the same.
    let slot = |kind| slots::seal(sealer, OBJECT, (kind, &slot_keys, SALT), (&label, SALT)).expect("it is small");
    let secrets = [&[1; 32][..], &2u32.to_le_bytes(), &1u32.to_le_bytes(), &[2; 32], &9u32.to_le_bytes(), &[3; 32]];
    vec![slot(SlotKind::KeyFile), slot(SlotKind::Passphrase(Argon2Params::default())), secrets.concat()]
}

fn pack_seeds() -> Vec<Vec<u8>> {
    let keys = keys();
    let sealer = Sealer { repository: REPOSITORY, keys: &keys };
    let (id, bytes) = small_pack(sealer, b"some plaintext, twice: some plaintext");
    let contents =
        packs::verify(sealer, (PackKind::Data, id), &bytes, |_, _, _| Ok(())).expect("what was written verifies");
    let blobs_bytes: u32 = contents.blobs.iter().map(|blob| blob.sealed_bytes).sum();
    let (opener_cipher, trailer_start) = (opener(sealer, 1000).1, HEADER_BYTES + blobs_bytes as usize);
    let trailer =
        opener_cipher.open(Domain::Trailer, 0, &bytes[trailer_start..bytes.len() - TAIL_BYTES]).expect("its own seal");
    let (_, frame) = Compressor::new(Effort::Level(1)).expect("memory").compress(&[b'a'; 1000]).expect("memory");
    vec![
        [&[0][..], &bytes].concat(),
        [&[1][..], &blobs_bytes.to_le_bytes(), &trailer].concat(),
        [&[2][..], &400u32.to_le_bytes()].concat(),
        [&[3, 0, 4, 0][..], b"four"].concat(),
        [&[3, 1, 0xe8, 3][..], &frame].concat(),
        [&[3, 2, 0xe8, 3][..], &frame].concat(),
        [&[4][..], b"some plaintext"].concat(),
    ]
}

fn compress_seeds() -> Vec<Vec<u8>> {
    let (_, frame) = Compressor::new(Effort::Level(1)).expect("memory").compress(&[b'a'; 1000]).expect("memory");
    vec![[&[1, 10][..], &frame].concat(), [&[0, 1][..], &noise(100)].concat(), [&[2, 10][..], &frame].concat()]
}

fn chunker_seeds() -> Vec<Vec<u8>> {
    let seed = |head: [u8; 4], stream: &[u8]| [&head[..], stream].concat();
    vec![
        seed([0, 0, 0, 0], &noise(4000)),
        seed([0, 0, 0, 1], &noise(4000)),
        seed([255, 255, 255, 23], &noise(3000)),
        seed([0, 0, 0, 12], &[0; 5000]),
        seed([0, 0, 0, 3], b""),
        seed([10, 20, 30, 9], &noise(300).repeat(8)),
    ]
}

/// RDBs with a checksum of zero, which stands for none, so that changed ones are read to their end.
fn mongo_archive_seeds() -> Vec<Vec<u8>> {
    // A number, a text, an array of a text.
    let document: &[u8] = b"\x28\0\0\0\x10_id\0\x07\0\0\0\x02t\0\x02\0\0\0x\0\x04a\0\x0e\0\0\0\x020\0\x02\0\0\0y\0\0\0";
    let two = [document, document].concat();
    vec![
        archive(&[]),
        archive(&[("shop", "orders", "collection", document)]),
        archive(&[
            ("shop", "seen", "view", b""),
            ("shop", "odd name", "collection", &two),
            ("", "oplog", "", document),
        ]),
        archive(&[("shop", "system.buckets.weather", "timeseries", document)]),
        document.to_vec(),
    ]
}

fn mysql_dump_seeds() -> Vec<Vec<u8>> {
    let seed = |parts: &[&str]| parts.concat().into_bytes();
    let head = "-- MariaDB dump 10.19\n--\n/*!40101 SET NAMES utf8mb4 */;\n--\n-- Current Database: `a`\n--\n\nCREATE DATABASE `a`;\n";
    let table = "-- Table structure for table `t`\nCREATE TABLE `t` (\n  `x` int COMMENT '\\'\n-- x'\n);\n-- Dumping data for table `t`\n";
    let rows = "INSERT INTO `t` VALUES (1,'a');\nINSERT INTO `t` VALUES (2,'b');\n";
    let named = "INSERT INTO `t` (`a``) VALUES (`, b) VALUES (1);\nINSERT INTO `t` (`a``) VALUES (`, b) VALUES (2);\n";
    let tail = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\n-- Dump completed\n";
    let position =
        "-- CHANGE MASTER TO MASTER_LOG_FILE='b.1', MASTER_LOG_POS=12;\n-- SET GLOBAL gtid_slave_pos='0-1-8';\n";
    vec![
        seed(&[head, table, rows, tail]),
        seed(&[head, position, table, named, rows, "-- Final view structure for view `v`\nx '\\'' \"y` -- \n", tail]),
        seed(&[rows, "DO 1;\n", rows]),
        seed(&["INSERT  IGNORE INTO `t` VALUES (1);\n"]),
        seed(&["-- WHERE:  x\n-- Sequence structure for `s`\n"]),
    ]
}

fn rdb_seeds() -> Vec<Vec<u8>> {
    let rdb = |header: &str, parts: &[&[u8]]| [header.as_bytes(), &parts.concat(), b"\xff", &[0; 8]].concat();
    let strings = rdb(
        "REDIS0010",
        &[
            b"\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\xfe\x00\xfb\x04\x01",
            b"\x00\x01b\x05hello\x00\xc0\x4d\xc1\x39\x30\x00\x01n\xc2\x01\x00\x01\x00",
            // Packed: twenty times the same letter.
            b"\xfc\x00\x9c\xe7\x9a\xbb\x03\x00\x00\xf8\x05\x00\x01a\xc3\x05\x14\x00a\xe0\x0a\x00",
            b"\xfd\x00\x00\x00\x70\xf9\x07\x00\x40\x02zz\x80\x00\x00\x00\x01x",
        ],
    );
    let tables = rdb(
        "REDIS0011",
        &[
            b"\xfe\x03\x02\x01s\x03\x01c\x01a\xc0\x07\x04\x01h\x02\x01y\x011\x01x\x012",
            b"\x05\x01z\x02\x01m\0\0\0\0\0\0\xf0\x3f\x01a\0\0\0\0\0\0\0\x40\x03\x01o\x02\x01m\x011\x01n\xfe",
            b"\x12\x01l\x02\x02\x0b\x0b\0\0\0\x01\0\x81a\x02\xff\x01\x05plain\x01\x02ll\x01\x01e",
            b"\xfe\x00\x0b\x01i\x0a\x02\0\0\0\x01\0\0\0\x01\0\x10\x01p\x07\x07\0\0\0\0\0\xff",
        ],
    );
    let id = [0_u8; 16];
    let stream = rdb(
        "REDIS0012",
        &[
            b"\x15\x01s\x01\x10",
            &id,
            b"\x07\x07\0\0\0\0\0\xff\x01\x05\x00\x01\x00\x00\x00\x01",
            b"\x01\x05group\x05\x00\x01\x01",
            &id,
            &[0; 8],
            b"\x02\x01\x06reader",
            &[0; 16],
            b"\x01",
            &id,
        ],
    );
    let expiring = rdb(
        "REDIS0012",
        &[
            b"\xf5\x0d#!lua name=b\n\xf5\x0d#!lua name=a\n\xf4\x01\x02\x03",
            b"\x18\x01h\x10\x27\0\0\0\0\0\0\x02\x05\x01b\x011\x00\x01a\x012",
            b"\x19\x01l\x10\x27\0\0\0\0\0\0\x07\x07\0\0\0\0\0\xff",
        ],
    );
    let modules = rdb(
        "REDIS0009",
        &[
            b"\xf7\x81\x01\x02\x03\x04\x05\x06\x07\x08\x02\x01\x02\x05\x05\x02ab\x00",
            b"\x07\x01m\x81\x01\x02\x03\x04\x05\x06\x07\x08\x01\x07\x02\x40\x64\x03\0\0\0\0\x04\0\0\0\0\0\0\0\0\x05\x01x\x00",
            b"\xf7\x09\x02\x02\x00",
        ],
    );
    let valkey =
        rdb("VALKEY080", &[b"\xfe\x00\x16\x01h\x02\x01b\x011\xff\xff\xff\xff\xff\xff\xff\xff\x01a\x012", &[1; 8]]);
    vec![strings, tables, stream, expiring, modules, valkey]
}

/// Blocks as a server of version 26.9 writes them, taken apart into columns.
fn clickhouse_native_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let column = |name: &str, kind: &str, bytes: &[u8]| [text(name), text(kind), bytes.to_vec()].concat();
    let block = |rows: u8, columns: &[Vec<u8>]| [vec![columns.len() as u8, rows], columns.concat()].concat();
    let word = |number: u64| number.to_le_bytes().to_vec();
    let plain = block(
        2,
        &[
            column("n", "UInt32", &[1, 0, 0, 0, 2, 0, 0, 0]),
            column("s", "String", b"\x05hello\x00"),
            column("o", "Nullable(FixedString(2))", b"\x00\x01ab\0\0"),
            column("t", "Tuple(a Decimal(9, 2), `b c` Enum8('x, (' = 1))", &[0; 10]),
        ],
    );
    let arrays = [word(1), word(3), b"\x01a\x01b\x00".to_vec()].concat();
    let words = [word(1), word(0x600), word(2), b"\x00\x01z".to_vec(), word(2), vec![1, 0]].concat();
    let map = [word(1), word(1), b"\x01k".to_vec(), vec![9]].concat();
    let nested = block(
        2,
        &[
            column("a", "Array(String)", &arrays),
            column("l", "LowCardinality(Nullable(String))", &words),
            column("m", "Map(String, UInt8)", &map),
        ],
    );
    let variant = [word(0), vec![0, 255], b"\x01v".to_vec()].concat();
    let dynamic = [word(3), vec![2], text("Int64"), text("Array(String)"), vec![0, 2], word(7)].concat();
    let json =
        [word(3), vec![1], text("p"), word(3), vec![1], text("Bool"), b"\x01y\x02zz".to_vec(), vec![0, 1, 1]].concat();
    let changing = block(
        2,
        &[
            column("v", "Variant(String, UInt64)", &variant),
            column("d", "Dynamic", &dynamic),
            column("j", "JSON(a String)", &json),
        ],
    );
    let exception = b"\r\n__exception__\r\n0123456789abcdef\r\nCode: 241. DB::Exception: no memory\r\n".to_vec();
    let states = block(1, &[column("u", "AggregateFunction(uniq, UInt64)", b"\x00\x01abcdefgh")]);
    vec![
        [plain.clone(), block(0, &[]), plain.clone()].concat(),
        [plain.clone(), plain.clone()].concat(),
        nested,
        changing,
        [plain, exception].concat(),
        states,
    ]
}
