//! What a path could reach: the work of its parts, spread over all cores, or the one part that cannot be spread.

use super::alone::{Alone, Packed};

/// One thing that a path does for each GB (10^9 bytes) of the dump.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    name: &'static str,
    /// Seconds of a core.
    work_secs: f64,
    /// Seconds that no second core shortens.
    serial_secs: f64,
}

impl Step {
    /// What many cores can do side by side.
    fn spread(name: &'static str, work_secs: f64) -> Step {
        Step { name, work_secs, serial_secs: 0.0 }
    }

    /// What one thread must do from the stream's beginning to its end.
    fn serial(name: &'static str, work_secs: f64) -> Step {
        Step { name, work_secs, serial_secs: work_secs }
    }
}

/// Who is at the other end of the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, whose work takes a share of its cores.
    Here,
    /// Somebody whose work costs this machine nothing.
    Elsewhere,
}

/// The best that a path can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Seconds a GB.
    pub secs: f64,
    /// Seconds of a core a GB, all steps together.
    pub work_secs: f64,
    /// What it is that takes so long.
    pub limited_by: &'static str,
}

/// Returns the bound of a path of these steps on so many cores.
pub fn bound(steps: &[Step], cores_n: usize) -> Bound {
    let work_secs: f64 = steps.iter().map(|step| step.work_secs).sum();
    let spread = (work_secs / cores_n as f64, "all cores");
    let serial = steps.iter().map(|step| (step.serial_secs, step.name));
    let (secs, limited_by) = serial.fold(spread, |most, step| if step.0 > most.0 { step } else { most });
    Bound { secs, work_secs, limited_by }
}

/// The path of a dump that is stored already.
pub fn duplicate(alone: &Alone, peer: Peer) -> Vec<Step> {
    let mut steps = vec![
        Step::serial("reading the pipe", alone.pipe_read),
        Step::spread("copying", alone.copy),
        Step::serial("cutting", alone.cut),
        Step::spread("hashing chunks", alone.hash_chunks),
        Step::serial("hashing the stream", alone.hash_stream),
    ];
    if peer == Peer::Here {
        steps.push(Step::serial("writing the pipe", alone.pipe_write));
    }
    steps
}

/// The path of a dump of which nothing is stored.
pub fn new(alone: &Alone, packed: &Packed, peer: Peer) -> Vec<Step> {
    let mut steps = duplicate(alone, peer);
    steps.extend([
        Step::spread("compressing", packed.compress),
        Step::spread("sealing", packed.seal),
        Step::spread("naming packs", packed.name),
        // The disk's own time, which no core shortens, may be longer than what the cores spend on it.
        Step { name: "writing to the disk", work_secs: packed.write, serial_secs: packed.write_wall },
    ]);
    steps
}

/// What it takes to open every pack again before it is put, and to hash all that is in it.
pub fn verification(alone: &Alone, packed: &Packed) -> Vec<Step> {
    vec![
        Step::spread("naming packs again", packed.name),
        Step::spread("opening", packed.open),
        Step::spread("inflating", packed.inflate),
        Step::spread("hashing chunks again", alone.hash_chunks),
    ]
}

/// The path of a dump that is given back.
pub fn restore(alone: &Alone, packed: &Packed, peer: Peer) -> Vec<Step> {
    let mut steps = vec![
        Step::spread("reading packs", packed.read),
        Step::spread("opening", packed.open),
        Step::spread("inflating", packed.inflate),
        Step::spread("hashing chunks", alone.hash_chunks),
        Step::serial("hashing the stream", alone.hash_stream),
        Step::serial("writing the pipe", alone.pipe_write),
    ];
    if peer == Peer::Here {
        steps.push(Step::serial("reading the pipe", alone.pipe_read));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_spread_until_one_step_is_slower_than_all_cores() {
        let steps = [Step::spread("a", 3.0), Step::serial("b", 2.0), Step::serial("c", 1.0)];
        let on = |cores_n| bound(&steps, cores_n);
        assert_eq!(on(1), Bound { secs: 6.0, work_secs: 6.0, limited_by: "all cores" });
        assert_eq!(on(2), Bound { secs: 3.0, work_secs: 6.0, limited_by: "all cores" });
        assert_eq!(on(4), Bound { secs: 2.0, work_secs: 6.0, limited_by: "b" });
    }

    #[test]
    fn a_disk_may_be_what_limits() {
        let disk = Step { name: "disk", work_secs: 0.1, serial_secs: 5.0 };
        assert_eq!(bound(&[Step::spread("a", 1.0), disk], 2).limited_by, "disk");
    }

    #[test]
    fn who_is_elsewhere_costs_no_work() {
        let packed = Packed { write: 1.0, open: 1.0, inflate: 1.0, ..Packed::default() };
        let alone = Alone { pipe_read: 0.25, pipe_write: 0.5, cut: 1.0, ..Alone::default() };
        let work = |steps: &[Step]| bound(steps, 1).work_secs;
        assert_eq!(work(&duplicate(&alone, Peer::Here)) - work(&duplicate(&alone, Peer::Elsewhere)), 0.5);
        assert_eq!(work(&new(&alone, &packed, Peer::Here)), 2.75);
        assert_eq!(work(&restore(&alone, &packed, Peer::Elsewhere)), 2.5);
        assert_eq!(work(&restore(&alone, &packed, Peer::Here)), 2.75);
    }
}
