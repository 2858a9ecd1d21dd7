//! Clocks, medians, and what the system says of a process.

use crate::Result;
use std::time::Instant;

/// Does something and returns how long it took, in seconds, with its result.
pub fn secs<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

/// Returns the median; of an even number of figures the upper one of the middle.
///
/// # Panics
/// Of no figures at all.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Returns a rate in MB/s (10^6 bytes).
pub fn mb_per_sec(bytes: u64, secs: f64) -> f64 {
    bytes as f64 / secs / 1e6
}

/// Returns the most memory that this process ever had resident, in bytes: `VmHWM`, which Linux keeps.
///
/// # Errors
/// The system does not say.
pub fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Returns the machine's processor, as it calls itself, and how many cores this process may use.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "unknown processor".to_owned());
    let family = field("cpu family").map(|family| format!(", family {family}")).unwrap_or_default();
    let cores_n = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}{family}, {cores_n} cores")
}

/// Returns the load of the last minute, so that a reader sees how idle the machine was.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}
