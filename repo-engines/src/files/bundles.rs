//! Which files share a stream `content/…`, what that stream is called, and how it is known that none of them has changed.
//!
//! Files go into bundles in the tree's order. A file begins a new bundle where a hash of its path says so, mostly the sooner the
//! larger it is, so that a file that comes or goes changes one bundle and no other. A large file is a bundle of its own. A bundle
//! is called by the hash of its first file's path. When there are many bundles they get larger, so that a snapshot's record
//! stays small: each [`LEVEL_BUNDLES_N`] of them, twice as large.

use super::meta::State;

/// Bundles of each level.
const LEVEL_BUNDLES_N: u64 = 1024;
/// Files of a bundle on the first level, on average, if they are small.
const FILES_MEAN: u64 = 256;
/// Bytes of a bundle on the first level, on average, if its files are not small; a file of as many is alone.
const BYTES_MEAN: u64 = 16 * 1024 * 1024;

/// The fact of a bundle's stream that says which states its files were in. It is not there if that would not be safe.
pub(super) const STATES: &str = "states";

/// Where bundles are cut.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    bundles_n: u64,
}

impl Cutter {
    /// Notes that a bundle is complete.
    pub fn count(&mut self) {
        self.bundles_n += 1;
    }

    /// Returns whether a file of so many bytes is a bundle of its own.
    pub fn is_large(&self, bytes: u64) -> bool {
        bytes >= BYTES_MEAN << self.level()
    }

    /// Returns whether a small file begins a new bundle.
    pub fn cuts(&self, path: &[u8], bytes: u64) -> bool {
        let [a, b, c, d, ..] = *blake3::hash(path).as_bytes();
        let chance = u64::from(u32::from_le_bytes([a, b, c, d]));
        // 1 in `FILES_MEAN`, and more by its share of `BYTES_MEAN`; both less with every level.
        let (files, share) = (FILES_MEAN << self.level(), BYTES_MEAN << self.level());
        let limit =
            (1 << 32) / files + u64::try_from((u128::from(bytes) << 32) / u128::from(share)).unwrap_or(u64::MAX);
        chance < limit
    }

    fn level(&self) -> u32 {
        // 16 levels are more bundles than a snapshot may have streams … and never that many: 2^24 files a bundle.
        (self.bundles_n / LEVEL_BUNDLES_N).min(16) as u32
    }
}

/// Returns the name of the stream of the bundle that begins with this file.
pub(super) fn name(first_path: &[u8]) -> String {
    format!("content/{}", &blake3::hash(first_path).to_hex()[..32])
}

/// Returns what tells these files in these states from all others.
pub(super) fn states<'a>(files: impl Iterator<Item = (&'a [u8], State)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (path, state) in files {
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path).update(&state.to_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts a run of paths; returns each bundle's name with its files.
    fn bundles(paths: impl Iterator<Item = (String, u64)>) -> Vec<Vec<String>> {
        let (mut cutter, mut bundles) = (Cutter::default(), vec![Vec::new()]);
        for (path, bytes) in paths {
            let last: &mut Vec<String> = bundles.last_mut().expect("there is one");
            if cutter.cuts(path.as_bytes(), bytes) && !last.is_empty() {
                cutter.count();
                bundles.push(vec![path]);
            } else {
                last.push(path);
            }
        }
        bundles
    }

    fn paths(bytes: u64) -> impl Iterator<Item = (String, u64)> {
        (0..100_000).map(move |number| (format!("/data/{number:06}"), bytes))
    }

    #[test]
    fn a_new_file_changes_one_bundle() {
        let before = bundles(paths(1000));
        assert!((300..500).contains(&before.len()), "{}", before.len());
        for at in [0, 50_000, 99_999] {
            let new = (format!("/data/{at:06}-new"), 1000);
            let after = bundles(paths(1000).take(at + 1).chain([new]).chain(paths(1000).skip(at + 1)));
            let changed = after.iter().filter(|bundle| !before.contains(bundle)).count();
            assert!((1..=2).contains(&changed), "{changed}");
        }
    }

    #[test]
    fn bundles_of_larger_files_have_fewer_and_there_are_never_too_many() {
        let many = bundles(paths(1024 * 1024)).len();
        assert!((2_000..4_000).contains(&many), "100 GB in {many}");
        let cutter = Cutter::default();
        assert!(cutter.is_large(BYTES_MEAN) && !cutter.is_large(BYTES_MEAN - 1));
        let later = Cutter { bundles_n: LEVEL_BUNDLES_N };
        assert!(!later.is_large(BYTES_MEAN) && later.is_large(2 * BYTES_MEAN));
    }
}
