//! How near dedump comes to what its parts allow on this machine: with a dump that is stored already, with one that is
//! not, and in a restore.
//!
//! The parts are measured alone and in the same rounds as dedump itself, a process at a pipe: what others do on the
//! machine meets both. From the parts follows what each path could reach on all cores; that is its bound. See `bound`
//! for how, and the README for what it leaves out.

mod alone;
mod bound;
mod process;

use self::alone::{Alone, Bench, EFFORTS, Packed};
use self::bound::{Bound, Peer, bound};
use self::process::{Dedump, Paths, Took};
use crate::table::Row;
use crate::text::Text;
use crate::timing::{median, quiet_rounds};
use crate::{Result, Size};
use std::path::Path;

/// The least that an unchanged backup must reach of its bound.
const DUPLICATE_MIN: f64 = 0.6;
/// The least that a first backup must reach of its bound.
const NEW_MIN: f64 = 0.7;
/// The least that a restore must reach of its bound.
const RESTORE_MIN: f64 = 0.5;

/// Rounds whose median counts.
const ROUNDS_N: usize = 5;
/// Rounds in which enough of them must count, so many for each that is wanted.
const PATIENCE: usize = 3;

/// One round: everything once.
struct Round {
    alone: Alone,
    paths: Paths,
}

/// Measures it all, over a text that is made, or over a dump.
///
/// # Errors
/// A part or a process that fails; a dump that can't be read or is empty.
pub fn measure(size: Size, dump: Option<&Path>) -> Result<Vec<Row>> {
    let text = match dump {
        Some(path) => std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        None => Text::new(4, size.choose(1 << 30, 64 << 20)).collect(),
    };
    if text.is_empty() {
        return Err("an empty dump says nothing".into());
    }
    let folder = tempfile::tempdir()?;
    let dedump = Dedump::create(folder.path())?;
    let mut bench = Bench::create(&text, folder.path())?;
    let (rounds, others) =
        quiet_rounds(ROUNDS_N, PATIENCE, || Ok(Round { alone: bench.round()?, paths: dedump.round(&text)? }))?;
    let cores_n = std::thread::available_parallelism()?.get();
    let mut rows = part_rows(&rounds);
    rows.extend((0..EFFORTS.len()).flat_map(|number| effort_rows(&rounds, number)));
    rows.extend(path_rows(&Measured { rounds: &rounds, cores_n, size }));
    rows.push(Row::figure("rounds that counted, and the most that others had of the machine", others));
    Ok(rows)
}

fn part_rows(rounds: &[Round]) -> Vec<Row> {
    let row = |name: &str, secs: fn(&Alone) -> f64| {
        Row::figure(name, show_part(median(rounds.iter().map(|round| secs(&round.alone))), 1.0))
    };
    let pipe_wall = median(rounds.iter().map(|round| round.alone.pipe_wall));
    vec![
        row("reading a pipe, by who reads", |alone| alone.pipe_read),
        row("writing a pipe, by who writes", |alone| alone.pipe_write),
        Row::figure("a pipe by the clock, both at once", format!("{:.0} MB/s", 1e3 / pipe_wall)),
        row("`memcpy`", |alone| alone.copy),
        row("`fastcdc`", |alone| alone.cut),
        row("`blake3`, keyed, chunk by chunk", |alone| alone.hash_chunks),
        row("`blake3`, the whole stream", |alone| alone.hash_stream),
    ]
}

/// Rows of what depends on how well zstd compresses with an effort, by its number in [`EFFORTS`].
fn effort_rows(rounds: &[Round], number: usize) -> Vec<Row> {
    let (effort, _) = EFFORTS[number];
    let of = |figure: fn(&Packed) -> f64| median(rounds.iter().map(|round| figure(&round.alone.packed[number])));
    let share = of(|packed| packed.share);
    let row = |name: &str, secs: fn(&Packed) -> f64, share| {
        Row::figure(format!("{name}, {effort}"), show_part(of(secs), share))
    };
    let wall = format!("{:.0} MB/s, {:.3} s a GB of the text", share * 1e3 / of(|packed| packed.write_wall), {
        of(|packed| packed.write_wall)
    });
    vec![
        Row::figure(format!("`zstd` leaves of the text, {effort}"), format!("{:.1} %", share * 100.0)),
        row("`zstd`, compressing blobs of 1 MiB", |packed| packed.compress, 1.0),
        row("`zstd`, inflating them", |packed| packed.inflate, 1.0),
        row("`chacha20poly1305`, sealing what is left", |packed| packed.seal, share),
        row("`chacha20poly1305`, opening it", |packed| packed.open, share),
        row("`blake3` of it, pack by pack", |packed| packed.name, share),
        row("writing it to a file and `fsync`, processor alone", |packed| packed.write, share),
        Row::figure(format!("writing it to a file and `fsync`, by the clock, {effort}"), wall),
        row("reading it from the page cache", |packed| packed.read, share),
    ]
}

/// What the rounds have measured, and where.
struct Measured<'a> {
    rounds: &'a [Round],
    cores_n: usize,
    size: Size,
}

fn path_rows(measured: &Measured<'_>) -> Vec<Row> {
    let cores_n = measured.cores_n;
    let duplicate = |peer| move |round: &Round| bound(&bound::duplicate(&round.alone, peer), cores_n);
    let new = |number: usize, peer| {
        move |round: &Round| bound(&bound::new(&round.alone, &round.alone.packed[number], peer), cores_n)
    };
    let verified = |number: usize| {
        move |round: &Round| {
            let (alone, packed) = (&round.alone, &round.alone.packed[number]);
            let mut steps = bound::new(alone, packed, Peer::Here);
            steps.extend(bound::verification(alone, packed));
            bound(&steps, cores_n)
        }
    };
    let restore = |number: usize, peer| {
        move |round: &Round| bound(&bound::restore(&round.alone, &round.alone.packed[number], peer), cores_n)
    };
    let [(quick, _), (one, _), (three, _)] = EFFORTS;
    vec![
        measured.bound("bound of an unchanged backup, who writes the pipe included", duplicate(Peer::Here)),
        measured.bound("the same, the pipe written elsewhere", duplicate(Peer::Elsewhere)),
        measured.reached("unchanged backup from a pipe", DUPLICATE_MIN, |paths| paths.duplicate, duplicate(Peer::Here)),
        measured.bound(format!("bound of a first backup, {quick}, who writes included"), new(0, Peer::Here)),
        measured.bound(format!("the same, {one}"), new(1, Peer::Here)),
        measured.bound(format!("the same, {three}"), new(2, Peer::Here)),
        measured.bound(format!("the same, {quick}, the pipe written elsewhere"), new(0, Peer::Elsewhere)),
        measured.bound(format!("the same, {quick}, with packs verified before they are put"), verified(0)),
        measured.bound(format!("the same, {three}, with packs verified before they are put"), verified(2)),
        measured.reached("first backup from a pipe", NEW_MIN, |paths| paths.new, new(0, Peer::Here)),
        measured.bound(format!("bound of a restore, {quick}, who reads the pipe included"), restore(0, Peer::Here)),
        measured.bound(format!("the same, {three}"), restore(2, Peer::Here)),
        measured.bound(format!("the same, {quick}, the pipe read elsewhere"), restore(0, Peer::Elsewhere)),
        measured.reached("restore to a pipe", RESTORE_MIN, |paths| paths.restore, restore(0, Peer::Here)),
    ]
}

impl Measured<'_> {
    /// The row of a bound: that of the round in the middle.
    fn bound(&self, name: impl Into<String>, of: impl Fn(&Round) -> Bound) -> Row {
        let mut bounds: Vec<_> = self.rounds.iter().map(of).collect();
        bounds.sort_by(|a, b| a.secs.total_cmp(&b.secs));
        let Bound { secs, work_secs, limited_by } = bounds[bounds.len() / 2];
        let rate = 1e3 / secs;
        Row::figure(name, format!("{rate:.0} MB/s, by {limited_by}; {work_secs:.2} s of a core a GB"))
    }

    /// The row of what dedump reaches, judged by the median of the rounds' ratios, unless little was measured.
    fn reached(&self, name: &str, least: f64, took: fn(&Paths) -> Took, best: impl Fn(&Round) -> Bound) -> Row {
        let ratio = median(self.rounds.iter().map(|round| best(round).secs / took(&round.paths).wall));
        let of = |figure: fn(&Took) -> f64| median(self.rounds.iter().map(|round| figure(&took(&round.paths))));
        let (rate, work) = (1e3 / of(|took| took.wall), of(|took| took.work));
        let figure = format!("{rate:.0} MB/s, {work:.2} s of a core a GB");
        match self.size {
            Size::Full => Row::at_least(name, figure, ratio, least),
            Size::Small => Row::figure(name, format!("{figure}, {ratio:.2} of the bound")),
        }
    }
}

/// Shows a part that takes so many seconds a GB of the text, of which it meets a share.
fn show_part(secs: f64, share: f64) -> String {
    let of_text = if share < 1.0 { " of the text" } else { "" };
    format!("{:.0} MB/s, {secs:.3} s a GB{of_text}", share * 1e3 / secs)
}
