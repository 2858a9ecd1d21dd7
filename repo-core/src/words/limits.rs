//! Every bound of the library, in one place. Queues, windows, buffers and what a stored object may claim about itself.
//!
//! Peak memory of a backup is the sum of [`BACKUP_BYTES_MAX`]'s parts plus the index (at most 48 bytes a chunk);
//! of a restore, [`RESTORE_BYTES_MAX`] plus the index.

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;

/// Plaintext that is compressed together in one blob, at most, in bytes; a single larger chunk makes a blob alone.
pub const BLOB_PLAIN_BYTES_TARGET: usize = MIB;
/// Plaintext of one blob that a reader accepts, at most: the largest chunk that chunker parameters may allow.
pub const BLOB_PLAIN_BYTES_MAX: usize = CHUNK_BYTES_MAX;
/// Chunks in one blob, at most.
pub const BLOB_CHUNKS_MAX: usize = 4096;
/// Bases of one blob, at most.
pub const BLOB_BASES_MAX: usize = 64;
/// Length of the chain of blobs that must be decoded to decode one, at most (0 = stored whole).
pub const DELTA_DEPTH_MAX: u8 = 8;
/// Generation of a blob, at most: a chunk that would be beyond it is stored whole again.
pub const DELTA_GENERATION_MAX: u32 = 65_535;
/// Plaintext of one delta, at most, in bytes; a single larger chunk makes a delta alone.
pub const DELTA_PLAIN_BYTES_TARGET: usize = 512 * KIB;
/// New chunks in a row whose older selves are guessed by their place alone, at most.
pub const DELTA_GUESSES_MAX: usize = 64;
/// Plaintext of blobs that a backup keeps for the bases of later deltas, at most.
pub const DELTA_BASES_CACHED_BYTES_MAX: usize = 8 * MIB;
/// A delta must save this part of its plaintext, at least, compared with compressing it alone: 1 in so many bytes.
pub const DELTA_GAIN_SHARE_MIN: usize = 1024;
/// What is compressed alone to guess whether a delta is worth it, in bytes.
pub const DELTA_SAMPLE_BYTES: usize = 16 * KIB;
/// A chunk that is so much longer or shorter than its older self, in bytes, was probably cut elsewhere: what lay beside that is
/// wanted for it, too.
pub const DELTA_SHIFT_BYTES_MIN: u32 = KIB as u32;
/// Prefix of one delta, at most, in bytes, unless the older self of a single larger chunk makes it longer.
pub const DELTA_PREFIX_BYTES_TARGET: usize = 2 * MIB;
/// Prefix of one delta that a reader accepts, at most, in bytes.
pub const DELTA_PREFIX_BYTES_MAX: usize = 2 * CHUNK_BYTES_MAX;

/// Largest chunk that a chunker's parameters may allow, in bytes.
pub const CHUNK_BYTES_MAX: usize = 16 * MIB;

/// A data pack is full when the next blob would take it past this many bytes.
pub const DATA_PACK_BYTES_TARGET: usize = 32 * MIB;
/// Likewise in a directory or in memory, where a pack more costs nothing, and one that waits costs memory.
pub const DATA_PACK_BYTES_TARGET_NEAR: usize = 12 * MIB;
/// A meta pack is full when the next blob would take it past this many bytes.
pub const META_PACK_BYTES_TARGET: usize = 4 * MIB;
/// Largest pack that a reader accepts, in bytes.
pub const PACK_BYTES_MAX: usize = 256 * MIB;
/// A pack's length is padded to a multiple of at most this many bytes (see FORMAT.md, "Padding").
pub const PAD_BYTES_MAX: u64 = 64 * KIB as u64;
/// What is read from a pack's end to find its trailer in one request, in bytes.
pub const PACK_TAIL_READ_BYTES: u64 = 128 * KIB as u64;

/// An index fragment is written when it lists this many chunks, at most.
pub const FRAGMENT_CHUNKS_TARGET: usize = 512 * 1024;
/// An index fragment is full when the next pack would take it past this many bytes.
pub const FRAGMENT_BYTES_TARGET: usize = 48 * MIB;
/// A backup writes an index fragment when so many new data packs wait for it, at least …
pub const FRAGMENT_PACKS_MIN: usize = 8;
/// … and 1 in so many of those that it has stored before: what an interruption costs is 256 MiB, or a fifth of what was sent.
pub const FRAGMENT_PACKS_SHARE: usize = 4;
/// A fragment with less than 1 in so many of the chunks that it could list is small.
pub const FRAGMENT_SMALL_SHARE: usize = 4;
/// Small fragments that a prune leaves as they are.
pub const FRAGMENTS_SMALL_MAX: usize = 32;
/// Index fragments on their way from the store or the cache at once, at most, in bytes, unless one alone is larger; decoded,
/// they take about as much again.
pub const FRAGMENT_READS_BYTES_MAX: u64 = 96 * MIB as u64;
/// Largest index fragment that a reader accepts, in bytes.
pub const FRAGMENT_BYTES_MAX: usize = 64 * MIB;
/// Largest small object (config, key slot, snapshot, session, fence, merge, tombstone, hold) that a reader accepts, in bytes.
pub const RECORD_BYTES_MAX: usize = 16 * MIB;

/// Entries of a manifest node, at least, unless it is the last of its level.
pub const NODE_ENTRIES_MIN: usize = 64;
/// A node ends after an entry whose id is 0 modulo this number, so nodes have about `min + this` entries.
pub const NODE_ENTRIES_MEAN: u64 = 256;
/// Entries of a manifest node, at most.
pub const NODE_ENTRIES_MAX: usize = 1024;
/// Levels of a manifest tree, at most (leaves are level 0): 64^8 chunks are enough for anybody.
pub const NODE_LEVEL_MAX: u8 = 8;

/// Streams of one snapshot, at most.
pub const STREAMS_MAX: usize = 100_000;
/// Streams of one dump that are open at the same time, at most: each holds a window.
pub const STREAMS_OPEN_MAX: usize = 16;
/// Length of a stream's name, at most, in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 1024;
/// Length of each part of a stream's name between slashes, at most, in bytes: what file systems take.
pub const STREAM_NAME_PART_BYTES_MAX: usize = 200;
/// Length of a tag's key or value, a source's or a host's name, at most, in bytes.
pub const LABEL_BYTES_MAX: usize = 1024;

/// Bytes of one window: what goes to the processor in one piece.
pub const WINDOW_BYTES: usize = MIB;
/// Windows that wait between two stages of a backup, at most.
pub const WINDOWS_QUEUED_MAX: usize = 1;
/// Blobs that are being compressed, or wait to be sealed, at most; two for each thread of the pool, within these.
pub const BLOBS_ENCODED_MAX: usize = 16;
/// See [`BLOBS_ENCODED_MAX`].
pub const BLOBS_ENCODED_MIN: usize = 4;
/// Blobs that wait between two stages of a backup, at most.
pub const BLOBS_QUEUED_MAX: usize = 1;
/// Blobs whose bases are read side by side, at most.
pub const BLOBS_PER_WINDOW: usize = 4;
/// Packs on their way to the store at once, at most, for each kind of pack.
pub const UPLOADS_MAX: usize = 2;
/// Likewise to a directory or to memory.
pub const UPLOADS_MAX_NEAR: usize = 1;
/// Index fragments, small objects or pack trailers on their way from the store at once, at most.
pub const READS_MAX: usize = 16;
/// Requests to a remote store that are under way at once, unless the caller says otherwise.
pub const STORE_CONNECTIONS: usize = 16;
/// Seconds that a request to a remote store may take with its body: the longest pack passes at 7 Mbit/s.
pub const STORE_REQUEST_SECS_MAX: u64 = 300;
/// Seconds in which a connection to a remote store must stand.
pub const STORE_CONNECT_SECS_MAX: u64 = 10;
/// Seconds after the first attempt at a request to a remote store after which no other begins, unless the caller says
/// otherwise. A signature must not be much older than that when it arrives.
pub const STORE_RETRY_SECS_MAX: u64 = 180;
/// Times that the client repeats a request by itself, at most, with pauses from 0.1 s to 15 s.
pub const STORE_REPEATS_MAX: usize = 10;
/// Attempts at what the client does not repeat by itself, at most; the pauses between them grow fourfold.
pub const STORE_ATTEMPTS_MAX: u32 = 5;
/// Pause before another attempt, in milliseconds, at least and at most; half of it is chance.
pub const STORE_PAUSE_MS_MIN: u64 = 100;
/// See [`STORE_PAUSE_MS_MIN`].
pub const STORE_PAUSE_MS_MAX: u64 = 15_000;
/// Seconds of silence that a store may ask for with one reply.
pub const STORE_SLOW_DOWN_SECS_MAX: u64 = 60;
/// Largest object that every provider takes in one request: Azure's 5,000 MiB is the smallest such bound.
pub const STORE_PUT_BYTES_MAX: u64 = 5_000 * MIB as u64;
/// Bytes of a disk that a prune leaves free when it chooses what to store anew: for fragments, and for the backups of others.
pub const PRUNE_SPARE_BYTES: u64 = 16 * MIB as u64;
/// Memory of a backup without the index, at most, with chunks of at most 256 KiB: windows (one being filled a stream, and
/// those queued, cut, hashed, looked up), blobs (gathered, queued, compressed, and with them their bases), blobs kept for
/// the bases of later ones, packs (open, verified, on their way; of both kinds), and what waits for an index fragment. With deltas, besides the index, 16 bytes
/// a chunk of the parent's stream, and 28 more once a place had to be searched for.
pub const BACKUP_BYTES_MAX: usize = (STREAMS_OPEN_MAX + 5 + 2 * WINDOWS_QUEUED_MAX) * (WINDOW_BYTES + 256 * KIB)
    + (2 + 3 * BLOBS_QUEUED_MAX + BLOBS_PER_WINDOW + 2 * BLOBS_ENCODED_MAX) * MIB
    + (BLOBS_PER_WINDOW + BLOBS_QUEUED_MAX + BLOBS_ENCODED_MAX) * DELTA_PREFIX_BYTES_TARGET
    + DELTA_BASES_CACHED_BYTES_MAX
    + 2 * BUFFERS_KEPT_BYTES_MAX
    + 2 * DELTA_CHAIN_BYTES_TARGET
    + DELTA_ENTRIES_CACHED_MAX * 48
    + META_PACKS_HELD_MAX * META_PACK_BYTES_TARGET
    + 3 * FRAGMENT_BYTES_TARGET
    + (2 + UPLOADS_MAX) * (DATA_PACK_BYTES_TARGET + META_PACK_BYTES_TARGET);

/// Plaintext of all blobs that one window of a restore decodes, at most, unless one chain alone is longer.
pub const RESTORE_WINDOW_BYTES: usize = 16 * MIB;
/// Windows of a restore that are fetched ahead of the one being decoded, at most.
pub const RESTORE_WINDOWS_AHEAD: usize = 2;
/// Likewise from a store that is far away: a reply takes a while whatever its length, so more of them must be on their way.
pub const RESTORE_WINDOWS_AHEAD_FAR: usize = RESTORE_WINDOWS_PLANNED;
/// Bytes of packs that a restore holds for windows that are not decoded yet, at most, unless one window alone needs more.
pub const RESTORE_AHEAD_BYTES_MAX: usize = 64 * MIB;
/// Plaintext buffers that are kept for the next use, at most, in bytes.
pub const BUFFERS_KEPT_BYTES_MAX: usize = 4 * MIB;
/// Two ranges of one pack are read in one request if at most this many bytes lie between them.
pub const COALESCE_GAP_BYTES: u64 = 128 * KIB as u64;
/// One ranged read of a restore, at most, in bytes, unless one blob alone is larger.
pub const COALESCED_BYTES_MAX: u64 = 8 * MIB as u64;
/// Windows of a restore that are planned ahead, at most, so that it is known which bases later ones need.
pub const RESTORE_WINDOWS_PLANNED: usize = 24;
/// Plaintext of bases that a restore holds for later windows, at most.
pub const RESTORE_HELD_BYTES_MAX: usize = 112 * MIB;
/// Memory of a restore without the index, at most: what is read ahead, the windows that are decoded, wait and are written, bases
/// that are held, and entries of deltas.
pub const RESTORE_BYTES_MAX: usize = RESTORE_AHEAD_BYTES_MAX
    + 3 * RESTORE_WINDOW_BYTES
    + RESTORE_HELD_BYTES_MAX
    + BUFFERS_KEPT_BYTES_MAX
    + META_PACKS_HELD_MAX * META_PACK_BYTES_TARGET
    + DELTA_ENTRIES_CACHED_MAX * 48;
/// Chunks and bases in the entries of deltas that a reader keeps, at most, but for those of one pack; about 48 bytes each.
pub const DELTA_ENTRIES_CACHED_MAX: usize = 1536 * KIB;
/// Plaintext that a backup decodes at once for the bases of deltas, at most, unless one delta alone needs more.
pub const DELTA_READ_BYTES_TARGET: usize = 8 * MIB;
/// Plaintext that must be decoded to decode one delta, at most, as far as a writer can tell.
pub const DELTA_CHAIN_BYTES_TARGET: usize = 64 * MIB;
/// Plaintext that must be decoded to decode one delta that a reader accepts, at most.
pub const DELTA_CHAIN_BYTES_MAX: usize = 256 * MIB;

/// Memory that a key slot's Argon2id may ask for, at most, in KiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 4 * MIB as u32;
/// Passes that a key slot's Argon2id may ask for, at most.
pub const ARGON2_PASSES_MAX: u32 = 64;
/// Lanes that a key slot's Argon2id may ask for, at most.
pub const ARGON2_LANES_MAX: u32 = 64;
/// Key epochs of a repository, at most.
pub const EPOCHS_MAX: usize = 1024;

/// Snapshots that a copy announces at once, at most: they share what it loads of both repositories.
pub const COPY_SESSIONS_MAX: usize = 16;
/// A session rewrites its mark this often, in seconds, so that others see it alive.
pub const SESSION_REFRESH_SECS: u64 = 60;
/// A session whose mark was not rewritten for so long, in seconds, looks dead, unless the caller says otherwise. To fence one
/// that lives loses nothing but its work.
pub const SESSION_DEAD_AFTER_SECS: u64 = 3 * 3600;
/// What was being written in a directory when its writer was killed is deleted by a prune once nobody wrote to it for so long,
/// in seconds.
pub const STAGED_AGE_SECS_MIN: u64 = 24 * 3600;
/// A snapshot whose time is further ahead of the clock than this, in seconds, is in the future: retention keeps it, and lets
/// it take no other's place. What is less are clocks that differ a little. So with sessions' marks.
pub const CLOCK_AHEAD_SECS_MAX: u64 = 300;
/// A backup whose size is below this share of the previous one of its source, in per cent, is suspicious.
pub const SHRUNK_PERCENT: u64 = 50;

const _: () = assert!(BLOB_PLAIN_BYTES_TARGET <= BLOB_PLAIN_BYTES_MAX);
const _: () = assert!(DATA_PACK_BYTES_TARGET + 2 * CHUNK_BYTES_MAX < PACK_BYTES_MAX);
// Whatever is stored goes up in one request, never in parts: that is what makes create-if-absent one step.
const _: () = assert!(PACK_BYTES_MAX as u64 <= STORE_PUT_BYTES_MAX);
const _: () = assert!(FRAGMENT_BYTES_MAX <= PACK_BYTES_MAX && RECORD_BYTES_MAX <= PACK_BYTES_MAX);
const _: () = assert!(NODE_ENTRIES_MIN < NODE_ENTRIES_MAX);
const _: () = assert!(NODE_ENTRIES_MEAN.is_power_of_two());
/// Blobs of manifest nodes that a reader keeps decoded, at most.
pub const NODE_BLOBS_CACHED_MAX: usize = 16;
/// Meta packs that a reader holds whole, at most, where there is a local cache to keep them.
pub const META_PACKS_HELD_MAX: usize = 8;
/// Packs that a check reads and holds at once, at most.
pub const CHECK_PACKS_MAX: usize = 2;
/// Plaintext of bases that a check holds for later deltas, at most: it takes them in the order of their bases, and needs less
/// than a restore.
pub const CHECK_HELD_BYTES_MAX: usize = 80 * MIB;
