//! How long restores took on this machine, so that a plan can say how long the next one will take.
//!
//! A line of JSON for each, in the user's state folder. Nothing rests on it: where it can't be read or written, a plan knows less.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

/// So many are kept.
const TIMINGS_MAX: usize = 256;
/// So many of the newest count.
const NEWEST_N: usize = 5;

/// A restore that went well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The repository's id.
    pub repository: String,
    /// The source that was restored.
    pub source: String,
    /// Where to: a server's host, or `files`.
    pub to: String,
    /// Its bytes.
    pub bytes: u64,
    /// How long it took.
    pub millis: u64,
}

/// Where a restore of a source goes.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The repository's id.
    pub repository: &'a str,
    /// The source that is restored.
    pub source: &'a str,
    /// Where to: a server's host, or `files`.
    pub to: &'a str,
}

impl Route<'_> {
    /// Notes how long a restore took.
    pub fn note(&self, bytes: u64, took: Duration) {
        let Some(path) = path(|name| std::env::var_os(name)) else { return };
        let timing = Timing {
            repository: self.repository.to_owned(),
            source: self.source.to_owned(),
            to: self.to.to_owned(),
            bytes,
            millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        let mut timings = read(&path);
        timings.push(timing);
        // The restore is none the worse for it.
        let _ = write(&path, &timings[timings.len().saturating_sub(TIMINGS_MAX)..]);
    }

    /// Says how long a restore of so many bytes will take, from earlier ones, if there are any.
    pub fn estimate(&self, bytes: u64) -> Option<String> {
        let path = path(|name| std::env::var_os(name))?;
        let (duration, timings_n) = self.expect(&read(&path), bytes)?;
        let (as_those, to) = (crate::human::counted(timings_n, "earlier restore"), crate::human::safe(self.to));
        Some(format!("about {}, as fast as {as_those} to {to}", crate::human::duration(duration)))
    }

    /// Of the same source if there are such, else of others; by the mean speed of the newest.
    fn expect(&self, timings: &[Timing], bytes: u64) -> Option<(Duration, u64)> {
        let is_there = |timing: &&Timing| timing.repository == self.repository && timing.to == self.to;
        let is_same = |timing: &&Timing| timing.source == self.source;
        let newest = |timings: Vec<&Timing>| {
            let newest = &timings[timings.len().saturating_sub(NEWEST_N)..];
            let sum = |of: fn(&Timing) -> u64| newest.iter().map(|timing| of(timing)).sum::<u64>();
            let (all_bytes, all_millis) = (sum(|timing| timing.bytes), sum(|timing| timing.millis));
            let secs = all_millis as f64 / 1000.0 * bytes as f64 / all_bytes as f64;
            Duration::try_from_secs_f64(secs).ok().map(|duration| (duration, newest.len() as u64))
        };
        newest(timings.iter().filter(is_there).filter(is_same).collect())
            .or_else(|| newest(timings.iter().filter(is_there).collect()))
    }
}

/// Returns the file, by the XDG Base Directory Specification 0.8.
fn path(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // A path that is not absolute is to be ignored.
    let folder = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("dedump/restores.jsonl"))
}

/// Lines that are not understood are another version's.
fn read(path: &PathBuf) -> Vec<Timing> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn write(path: &PathBuf, timings: &[Timing]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let lines: Vec<String> = timings.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    // Two that write at once may lose a line, and no more.
    let new = folder.join(format!("restores.{}", std::process::id()));
    fs::write(&new, lines.join("\n") + "\n")?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(source: &str, to: &str, bytes: u64, millis: u64) -> Timing {
        Timing { repository: "r".into(), source: source.into(), to: to.into(), bytes, millis }
    }

    #[test]
    fn the_newest_of_the_same_source_say_how_long_it_takes() {
        let route = Route { repository: "r", source: "app", to: "db1" };
        assert_eq!(route.expect(&[], 100), None);
        let mut timings = vec![timing("app", "db1", 1, 1_000_000); 3];
        timings.extend(vec![timing("app", "db1", 1000, 2000); 5]);
        timings.extend([timing("other", "db1", 1, 9), timing("app", "db2", 1, 9)]);
        assert_eq!(route.expect(&timings, 500), Some((Duration::from_secs(1), 5)));
        let another = Route { source: "new", ..route };
        assert_eq!(another.expect(&timings[7..9], 2000).map(|(_, timings_n)| timings_n), Some(2));
        assert_eq!(Route { to: "db3", ..route }.expect(&timings, 500), None);
        assert_eq!(Route { repository: "s", ..route }.expect(&timings, 500), None);
        assert_eq!(route.expect(&[timing("app", "db1", 0, 5)], 500), None, "nothing has no speed");
    }

    #[test]
    fn timings_are_kept_in_the_state_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = path(|name| (name == "XDG_STATE_HOME").then(|| folder.path().into())).expect("there is one");
        assert!(read(&file).is_empty());
        let timings = vec![timing("app", "db1", 1, 2), timing("app", "db2", 3, 4)];
        write(&file, &timings).expect("writes");
        assert_eq!(read(&file), timings);
        assert_eq!(
            path(|name| (name == "HOME").then(|| "/h".into())),
            Some("/h/.local/state/dedump/restores.jsonl".into())
        );
        assert_eq!(path(|_| None), None);
    }
}
