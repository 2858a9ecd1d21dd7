//! Clocks, medians, and what the system says of a process.

use crate::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Does something and returns how long it took, in seconds, with its result.
pub fn secs<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

/// Does something and returns how much of a processor's time this thread took for it, in seconds, with its result.
///
/// # Errors
/// The system does not say.
pub fn thread_secs<T>(work: impl FnOnce() -> T) -> Result<(f64, T)> {
    let now = || Result::Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?).as_secs_f64());
    let start = now()?;
    let result = work();
    Ok((now()? - start, result))
}

/// Returns how much of processors' time all children took that have ended and were waited for, in seconds.
///
/// # Errors
/// The system does not say.
pub fn children_secs() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// Returns the most memory that any child ever had resident that has ended and was waited for, in bytes.
///
/// # Errors
/// The system does not say.
pub fn children_peak_bytes() -> Result<u64> {
    Ok(u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())? * 1024)
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

/// Processor time that has been spent since the machine started, in ticks of the system's clock.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    all: u64,
    idle: u64,
    /// This process' and that of its children that have ended.
    own: u64,
}

impl Ticks {
    /// Reads them.
    ///
    /// # Errors
    /// The system does not say.
    pub fn now() -> Result<Ticks> {
        let numbers = |text: &str| text.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect::<Vec<u64>>();
        let stat = std::fs::read_to_string("/proc/stat")?;
        let system = numbers(stat.lines().next().unwrap_or_default());
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let process = numbers(stat.rsplit(')').next().unwrap_or_default());
        // proc_stat(5), proc_pid_stat(5): behind the first word, and behind the name with its state.
        match (&system[..], &process[..]) {
            (
                [_, _, _, _, idle, waiting, ..],
                [_, _, _, _, _, _, _, _, _, _, _, user, kernel, children_user, children_kernel, ..],
            ) => Ok(Ticks {
                all: system.iter().take(9).sum(),
                idle: idle + waiting,
                own: user + kernel + children_user + children_kernel,
            }),
            _ => Err("/proc/stat is not as expected".into()),
        }
    }

    /// Returns the share of the machine that went to others since then, from 0 to 1.
    pub fn share_of_others(self, now: Ticks) -> f64 {
        let [all, idle, own] = [now.all - self.all, now.idle - self.idle, now.own - self.own];
        all.saturating_sub(idle + own) as f64 / all.max(1) as f64
    }
}

/// The share of the machine that others may have during a round that counts.
const OTHERS_MAX: f64 = 0.03;

/// Measures until so many rounds were quiet, or takes the quietest when patience ends: after so many rounds for each
/// that is wanted. Says how quiet they were.
///
/// # Errors
/// Those of a round.
pub fn quiet_rounds<T>(
    wanted_n: usize,
    patience: usize,
    mut round: impl FnMut() -> Result<T>,
) -> Result<(Vec<T>, String)> {
    let mut rounds = Vec::new();
    let mut quiet_n = 0;
    while quiet_n < wanted_n && rounds.len() < wanted_n * patience {
        let before = Ticks::now()?;
        let measured = round()?;
        let others = before.share_of_others(Ticks::now()?);
        quiet_n += usize::from(others <= OTHERS_MAX);
        rounds.push((others, measured));
    }
    let rounds_n = rounds.len();
    rounds.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    rounds.truncate(wanted_n);
    let most = rounds.last().map_or(1.0, |(others, _)| *others);
    let text = format!("{} of {rounds_n}, {:.1} %", rounds.len(), most * 100.0);
    Ok((rounds.into_iter().map(|(_, measured)| measured).collect(), text))
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
