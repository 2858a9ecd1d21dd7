//! Sorts more than memory holds: runs in memory, sealed in a temporary file when they are full, and merged.
//!
//! An entry is a key to sort by and a payload. Of a key that is longer than [`KEY_BYTES_MAX`] its beginning and a hash count; a
//! payload that is longer than [`INLINE_BYTES_MAX`] goes to the temporary file at once. So what is held does not grow with
//! what is sorted: a run, [`RUNS_MAX`] frames, and 8 bytes for every run.

mod spill;

pub(crate) use spill::Spill;

use spill::{FRAME_BYTES, Part};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Result};
use std::path::Path;

/// Bytes of a key that count as they are.
const KEY_BYTES_MAX: usize = 1024;
/// A payload that is longer does not stay in memory.
const INLINE_BYTES_MAX: usize = 256 * 1024;
/// Runs that are merged at once, at most.
const RUNS_MAX: usize = 128;

/// What an entry is sorted by.
#[derive(Default)]
pub(crate) struct SortKey {
    bytes: Vec<u8>,
    /// Hashes all of it, if it is long.
    hasher: Option<Box<blake3::Hasher>>,
}

impl SortKey {
    /// Makes it empty.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.hasher = None;
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        let (now, later) = bytes.split_at(bytes.len().min(KEY_BYTES_MAX - self.bytes.len()));
        self.bytes.extend_from_slice(now);
        if !later.is_empty() {
            let start = || Box::new(blake3::Hasher::new_derive_key("dedump 2026 sort key").update(&self.bytes).clone());
            self.hasher.get_or_insert_with(start).update(later);
        }
    }

    fn finish(&mut self) -> &[u8] {
        if let Some(hasher) = self.hasher.take() {
            self.bytes.extend_from_slice(hasher.finalize().as_bytes());
        }
        &self.bytes
    }
}

/// Takes entries in any order and gives them back sorted.
pub(crate) struct Sorter {
    run_bytes_max: usize,
    /// Keys and payloads of the run.
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// Where the payload begins that is being written.
    payload_at: usize,
    /// Where it begins in the file, if it is long.
    long_at: Option<u64>,
    runs: Spill,
    parts: Vec<Part>,
    longs: Spill,
}

/// An entry of the run: its payload and its key are one behind the other.
struct Entry {
    payload_at: usize,
    payload_n: u32,
    key_n: u16,
    is_long: bool,
}

impl Sorter {
    /// Creates a sorter that holds about so many bytes, and has its temporary files in a folder.
    pub fn new(run_bytes_max: usize, folder: &Path) -> Self {
        Sorter {
            run_bytes_max,
            arena: Vec::new(),
            entries: Vec::new(),
            payload_at: 0,
            long_at: None,
            runs: Spill::new(folder),
            parts: Vec::new(),
            longs: Spill::new(folder),
        }
    }

    /// Appends to the payload of the entry that is being written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.arena.extend_from_slice(bytes);
        if self.arena.len() - self.payload_at > INLINE_BYTES_MAX {
            self.long_at.get_or_insert(self.longs.end());
            self.spill_payload()?;
        }
        Ok(())
    }

    /// Ends the entry whose payload was written.
    pub fn end(&mut self, key: &mut SortKey) -> Result<()> {
        let is_long = self.long_at.is_some();
        if let Some(start) = self.long_at {
            self.spill_payload()?;
            self.long_at = None;
            self.arena.extend_from_slice(&start.to_le_bytes());
            self.arena.extend_from_slice(&self.longs.end().to_le_bytes());
        }
        let payload_n = self.arena.len() - self.payload_at;
        let key = key.finish();
        self.arena.extend_from_slice(key);
        self.entries.push(Entry {
            payload_at: self.payload_at,
            payload_n: u32::try_from(payload_n).expect("a longer one is in the file"),
            key_n: u16::try_from(key.len()).expect("a longer one is cut"),
            is_long,
        });
        self.payload_at = self.arena.len();
        let held = self.arena.len() + self.entries.len() * size_of::<Entry>();
        if held >= self.run_bytes_max { self.spill_run() } else { Ok(()) }
    }

    /// Returns the entries in order.
    pub fn sorted(&mut self) -> Result<Sorted<'_>> {
        if self.parts.is_empty() {
            sort(&mut self.entries, &self.arena);
            return Ok(Sorted {
                from: From::Memory { sorter: self, next: 0 },
                key: Vec::new(),
                seen_n: 0,
                is_repeated: false,
            });
        }
        if !self.entries.is_empty() {
            self.spill_run()?;
        }
        self.arena = Vec::new();
        self.entries = Vec::new();
        while self.parts.len() > RUNS_MAX {
            let together: Vec<Part> = self.parts.drain(..RUNS_MAX).collect();
            let merged = merge_runs(&mut self.runs, &together)?;
            // In front: entries of one key stay in the order in which they came.
            self.parts.insert(0, merged);
        }
        let merge = Merge::open(&self.runs, &self.parts)?;
        let from = From::Runs { runs: &self.runs, merge, longs: &self.longs };
        Ok(Sorted { from, key: Vec::new(), seen_n: 0, is_repeated: false })
    }

    /// Forgets all entries.
    pub fn clear(&mut self) -> Result<()> {
        self.arena.clear();
        self.entries.clear();
        (self.payload_at, self.long_at) = (0, None);
        self.parts.clear();
        self.runs.clear()?;
        self.longs.clear()
    }

    /// Writes what there is of a long payload.
    fn spill_payload(&mut self) -> Result<()> {
        for frame in self.arena[self.payload_at..].chunks(FRAME_BYTES) {
            self.longs.append(frame)?;
        }
        self.arena.truncate(self.payload_at);
        Ok(())
    }

    /// Writes the run to its file, sorted.
    fn spill_run(&mut self) -> Result<()> {
        sort(&mut self.entries, &self.arena);
        let mut writer = RunWriter { start: self.runs.end(), frame: Vec::with_capacity(2 * FRAME_BYTES) };
        for entry in &self.entries {
            writer.entry(&mut self.runs, entry.key(&self.arena), entry.payload(&self.arena), entry.is_long)?;
        }
        self.parts.push(writer.finish(&mut self.runs)?);
        self.arena.clear();
        self.entries.clear();
        self.payload_at = 0;
        Ok(())
    }
}

impl Entry {
    fn payload<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.payload_at..self.payload_at + self.payload_n as usize]
    }

    fn key<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.payload_at + self.payload_n as usize..][..usize::from(self.key_n)]
    }
}

/// Sorts by key; what has the same keeps its order.
fn sort(entries: &mut [Entry], arena: &[u8]) {
    entries.sort_by(|a, b| a.key(arena).cmp(b.key(arena)));
}

/// Gives entries one after another.
pub(crate) struct Sorted<'a> {
    from: From<'a>,
    key: Vec<u8>,
    seen_n: u64,
    is_repeated: bool,
}

enum From<'a> {
    Memory { sorter: &'a Sorter, next: usize },
    Runs { runs: &'a Spill, merge: Merge, longs: &'a Spill },
}

impl Sorted<'_> {
    /// Goes to the next entry; returns whether there is one.
    pub fn next(&mut self) -> Result<bool> {
        let key = match &mut self.from {
            From::Memory { sorter, next } => {
                *next += 1;
                sorter.entries.get(*next - 1).map(|entry| entry.key(&sorter.arena))
            }
            From::Runs { runs, merge, .. } => merge.next(runs)?.then(|| &merge.current.key[..]),
        };
        let Some(key) = key else { return Ok(false) };
        self.is_repeated = self.seen_n > 0 && key == self.key;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.seen_n += 1;
        Ok(true)
    }

    /// Returns whether the entry has the key of the one before.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// Returns what the entry is sorted by.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Hands the entry's payload on, in pieces.
    pub fn payload<E: std::convert::From<io::Error>>(
        &self,
        mut take: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (payload, is_long, longs) = match &self.from {
            From::Memory { sorter, next } => {
                let entry = &sorter.entries[*next - 1];
                (entry.payload(&sorter.arena), entry.is_long, &sorter.longs)
            }
            From::Runs { merge, longs, .. } => (&merge.current.payload[..], merge.current.is_long, *longs),
        };
        if !is_long {
            return take(payload);
        }
        let (start, end) = payload.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let (mut at, mut frame) = (number(start), Vec::new());
        while at < number(end) {
            at = longs.read(at, &mut frame)?;
            take(&frame)?;
        }
        Ok(())
    }
}

/// Writes a run: of each entry its key's length, whether its payload is long, the payload's length, key and payload.
struct RunWriter {
    start: u64,
    frame: Vec<u8>,
}

impl RunWriter {
    fn entry(&mut self, runs: &mut Spill, key: &[u8], payload: &[u8], is_long: bool) -> Result<()> {
        self.frame.extend_from_slice(&u16::try_from(key.len()).expect("it is cut").to_le_bytes());
        self.frame.push(is_long.into());
        self.frame.extend_from_slice(&u32::try_from(payload.len()).expect("it is short").to_le_bytes());
        self.frame.extend_from_slice(key);
        self.frame.extend_from_slice(payload);
        let mut written = 0;
        while self.frame.len() - written >= FRAME_BYTES {
            runs.append(&self.frame[written..written + FRAME_BYTES])?;
            written += FRAME_BYTES;
        }
        self.frame.drain(..written);
        Ok(())
    }

    fn finish(self, runs: &mut Spill) -> Result<Part> {
        if !self.frame.is_empty() {
            runs.append(&self.frame)?;
        }
        Ok(Part { start: self.start, end: runs.end() })
    }
}

#[derive(Default)]
struct RunEntry {
    key: Vec<u8>,
    payload: Vec<u8>,
    is_long: bool,
}

/// Reads a run.
struct RunReader {
    left: Part,
    frame: Vec<u8>,
    at: usize,
}

impl RunReader {
    fn next(&mut self, runs: &Spill) -> Result<Option<RunEntry>> {
        if self.at == self.frame.len() && self.left.start == self.left.end {
            return Ok(None);
        }
        let mut head = [0; 7];
        self.take(runs, &mut head)?;
        let [a, b, is_long, payload_n @ ..] = head;
        let mut entry = RunEntry {
            key: vec![0; u16::from_le_bytes([a, b]).into()],
            payload: vec![0; u32::from_le_bytes(payload_n) as usize],
            is_long: is_long == 1,
        };
        self.take(runs, &mut entry.key)?;
        self.take(runs, &mut entry.payload)?;
        Ok(Some(entry))
    }

    fn take(&mut self, runs: &Spill, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            if self.at == self.frame.len() {
                self.left.start = runs.read(self.left.start, &mut self.frame)?;
                self.at = 0;
            }
            let now = into.len().min(self.frame.len() - self.at);
            let (first, rest) = into.split_at_mut(now);
            first.copy_from_slice(&self.frame[self.at..self.at + now]);
            self.at += now;
            into = rest;
        }
        Ok(())
    }
}

/// The first entry of a run: its key, the run, whether its payload is long, and the payload.
type Head = (Vec<u8>, usize, bool, Vec<u8>);

/// Merges runs; of the same key, what came first comes first.
struct Merge {
    readers: Vec<RunReader>,
    heads: BinaryHeap<Reverse<Head>>,
    current: RunEntry,
}

impl Merge {
    fn open(runs: &Spill, parts: &[Part]) -> Result<Merge> {
        let reader = |part: &Part| RunReader { left: *part, frame: Vec::new(), at: 0 };
        let readers: Vec<_> = parts.iter().map(reader).collect();
        let mut merge = Merge { readers, heads: BinaryHeap::new(), current: RunEntry::default() };
        (0..merge.readers.len()).try_for_each(|number| merge.advance(runs, number))?;
        Ok(merge)
    }

    fn advance(&mut self, runs: &Spill, number: usize) -> Result<()> {
        if let Some(RunEntry { key, payload, is_long }) = self.readers[number].next(runs)? {
            self.heads.push(Reverse((key, number, is_long, payload)));
        }
        Ok(())
    }

    fn next(&mut self, runs: &Spill) -> Result<bool> {
        let Some(Reverse((key, number, is_long, payload))) = self.heads.pop() else { return Ok(false) };
        self.current = RunEntry { key, payload, is_long };
        self.advance(runs, number)?;
        Ok(true)
    }
}

fn merge_runs(runs: &mut Spill, parts: &[Part]) -> Result<Part> {
    let mut merge = Merge::open(runs, parts)?;
    let mut writer = RunWriter { start: runs.end(), frame: Vec::with_capacity(2 * FRAME_BYTES) };
    while merge.next(runs)? {
        let RunEntry { key, payload, is_long } = &merge.current;
        writer.entry(runs, key, payload, *is_long)?;
    }
    writer.finish(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorts entries in runs of so many bytes; returns the payloads, in order.
    fn sorted(run_bytes_max: usize, entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sorter = Sorter::new(run_bytes_max, folder.path());
        let mut key = SortKey::default();
        for (text, payload) in entries {
            key.clear();
            text.chunks(7).for_each(|piece| key.extend(piece));
            payload.chunks(1000).for_each(|piece| sorter.append(piece).expect("writes"));
            sorter.end(&mut key).expect("writes");
        }
        let (mut sorted, mut all) = (sorter.sorted().expect("sorts"), Vec::new());
        while sorted.next().expect("reads") {
            let mut payload = Vec::new();
            let read: Result<()> = sorted.payload(|piece| {
                payload.extend_from_slice(piece);
                Ok(())
            });
            read.expect("reads");
            all.push(payload);
        }
        all
    }

    #[test]
    fn entries_come_back_sorted_in_memory_in_files_and_in_many_runs() {
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for number in 0..3000_u32 {
            let key = blake3::hash(&(number % 2900).to_le_bytes()).to_hex().as_bytes()[..12].to_vec();
            entries.push((key, vec![b'0' + (number % 10) as u8; (number % 97) as usize]));
        }
        entries.push((b"5long".to_vec(), vec![b'x'; INLINE_BYTES_MAX + 1]));
        entries.push((b"5longer".to_vec(), vec![b'y'; 3 * INLINE_BYTES_MAX]));
        let mut expected = entries.clone();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let expected: Vec<_> = expected.into_iter().map(|(_, payload)| payload).collect();
        for run_bytes_max in [1, 1000, 50_000, 100 << 20] {
            assert!(sorted(run_bytes_max, &entries) == expected, "in runs of {run_bytes_max}");
        }
    }

    #[test]
    fn long_keys_count_to_their_end() {
        let long = |last: u8| [vec![b'k'; 5000], vec![last]].concat();
        let entries = [(long(1), vec![1]), (long(2), vec![2]), (long(1), vec![3])];
        let all = sorted(100 << 20, &entries);
        assert!(all == [[1], [3], [2]] || all == [[2], [1], [3]], "{all:?}");
    }
}
