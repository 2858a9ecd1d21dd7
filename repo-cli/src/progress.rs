//! Shows how far the work is: a line that rewrites itself on a terminal, a plain line now and then elsewhere.

use crate::{human, output};
use dedump_core::{Event, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Elsewhere than on a terminal, a line appears this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is going on, and how long it is where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A backup: nobody knows how long a dump will be; the one before it may tell.
    Backup,
    /// A restore of so many bytes.
    Restore(u64),
    /// A copy of planned snapshots.
    Copy,
    /// A run over planned objects: what is done with them.
    Objects(&'static str),
}

/// Counts events, and shows them.
pub struct Meter {
    counts: Counts,
    view: View,
}

#[derive(Default)]
struct Counts {
    /// Bytes read from an engine, or restored, or read of objects.
    bytes: AtomicU64,
    looked: AtomicU64,
    new: AtomicU64,
    sent: AtomicU64,
    objects: AtomicU64,
    objects_planned: AtomicU64,
    bytes_planned: AtomicU64,
}

enum View {
    Silent,
    Bar { bar: ProgressBar, work: Work },
    Lines { started: Instant, last: Mutex<Instant>, work: Work },
}

impl Meter {
    /// Creates a meter that nobody sees.
    pub fn silent() -> Self {
        Meter { counts: Counts::default(), view: View::Silent }
    }

    /// Creates a meter that shows itself on standard error, once it is started.
    pub fn create(work: Work) -> Self {
        let counts = Counts::default();
        if let Work::Restore(bytes) = work {
            counts.bytes_planned.store(bytes, Ordering::Relaxed);
        }
        let now = Instant::now();
        let view = match std::io::stderr().is_terminal() {
            true => View::Bar { bar: bar(work), work },
            false => View::Lines { started: now, last: Mutex::new(now), work },
        };
        Meter { counts, view }
    }

    /// Shows the bar from now on; until then, a terminal may ask for a password.
    pub fn start(&self) {
        if let View::Bar { bar, .. } = &self.view {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            bar.enable_steady_tick(Duration::from_millis(125));
        }
    }

    /// Returns how somebody else's words get to standard error without tearing the bar.
    pub fn passing_on(&self) -> impl Fn(&[u8]) + Send + Sync + 'static {
        let bar = match &self.view {
            View::Bar { bar, .. } => Some(bar.clone()),
            _ => None,
        };
        move |bytes| match &bar {
            Some(bar) => bar.suspend(|| output::stderr_bytes(bytes)),
            None => output::stderr_bytes(bytes),
        }
    }

    fn show(&self) {
        match &self.view {
            View::Silent => {}
            View::Bar { bar, work } => self.counts.draw(bar, *work),
            View::Lines { started, last, work } => {
                let mut last = last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    output::stderr_line(&self.counts.line(*work, started.elapsed()));
                }
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let View::Bar { bar, .. } = &self.view {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Meter {
    fn event(&self, event: Event) {
        let counts = &self.counts;
        let add = |count: &AtomicU64, n: u64| {
            count.fetch_add(n, Ordering::Relaxed);
        };
        match event {
            Event::Read { bytes } | Event::Restored { bytes } => add(&counts.bytes, bytes),
            Event::Stored { bytes } => add(&counts.sent, bytes),
            Event::Looked { bytes, bytes_new } => {
                add(&counts.looked, bytes);
                add(&counts.new, bytes_new);
            }
            Event::Planned { objects_n, bytes } => {
                add(&counts.objects_planned, objects_n);
                add(&counts.bytes_planned, bytes);
            }
            Event::Done { bytes } => {
                add(&counts.objects, 1);
                add(&counts.bytes, bytes);
            }
            _ => return,
        }
        self.show();
    }
}

impl Counts {
    fn get(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    fn draw(&self, bar: &ProgressBar, work: Work) {
        match work {
            Work::Backup => {
                bar.set_position(Self::get(&self.bytes));
                bar.set_message(self.share_new());
            }
            Work::Restore(_) => bar.set_position(Self::get(&self.bytes)),
            Work::Copy => {
                bar.set_position(Self::get(&self.sent));
                bar.set_message(self.copies());
            }
            Work::Objects(_) => {
                bar.set_length(Self::get(&self.objects_planned));
                bar.set_position(Self::get(&self.objects));
            }
        }
    }

    fn line(&self, work: Work, elapsed: Duration) -> String {
        let bytes = Self::get(&self.bytes);
        let (size, rate) = (human::bytes(bytes), human::rate(bytes, elapsed));
        match work {
            Work::Backup => format!("backup: {size} read, {rate}, {}", self.share_new()),
            Work::Restore(total) => {
                format!("restore: {size} of {} ({}), {rate}", human::bytes(total), human::percent(bytes, total))
            }
            Work::Copy => {
                let sent = Self::get(&self.sent);
                format!("copy: {}, {} sent, {}", self.copies(), human::bytes(sent), human::rate(sent, elapsed))
            }
            Work::Objects(what) => {
                let (done, planned) = (Self::get(&self.objects), Self::get(&self.objects_planned));
                format!("{what}: {} of {}", human::count(done), human::count(planned))
            }
        }
    }

    fn copies(&self) -> String {
        let (done, planned) = (Self::get(&self.objects), Self::get(&self.objects_planned));
        format!("{} of {} snapshots", human::count(done), human::count(planned))
    }

    /// How well it deduplicates so far.
    fn share_new(&self) -> String {
        match Self::get(&self.looked) {
            0 => String::new(),
            looked => format!("{} new", human::percent(Self::get(&self.new), looked)),
        }
    }
}

fn bar(work: Work) -> ProgressBar {
    let (bar, template) = match work {
        Work::Backup => (
            ProgressBar::no_length(),
            "{spinner} {elapsed_precise}  {binary_bytes} read  {binary_bytes_per_sec}  {msg}",
        ),
        Work::Restore(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}",
        ),
        Work::Copy => (
            ProgressBar::no_length(),
            "{spinner} {elapsed_precise}  {msg}  {binary_bytes} sent  {binary_bytes_per_sec}",
        ),
        Work::Objects(_) => (ProgressBar::new(0), "{prefix} {wide_bar} {pos} of {len}  ETA {eta}"),
    };
    bar.set_draw_target(ProgressDrawTarget::hidden());
    bar.set_style(ProgressStyle::with_template(template).expect("the templates above are well formed"));
    if let Work::Objects(what) = work {
        bar.set_prefix(what);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_say_how_far_the_work_is() {
        let counts = Counts::default();
        let ten_secs = Duration::from_secs(10);
        counts.bytes.store(100 << 20, Ordering::Relaxed);
        assert_eq!(counts.line(Work::Backup, ten_secs), "backup: 100 MiB read, 10.0 MiB/s, ");
        counts.looked.store(96 << 20, Ordering::Relaxed);
        counts.new.store(12 << 20, Ordering::Relaxed);
        assert_eq!(counts.line(Work::Backup, ten_secs), "backup: 100 MiB read, 10.0 MiB/s, 12.5 % new");
        let restore = counts.line(Work::Restore(400 << 20), ten_secs);
        assert_eq!(restore, "restore: 100 MiB of 400 MiB (25.0 %), 10.0 MiB/s");
        counts.objects_planned.store(1000, Ordering::Relaxed);
        assert_eq!(counts.line(Work::Objects("check"), ten_secs), "check: 0 of 1,000");
    }
}
