//! Chooses how hard to compress: as hard as the store gives time for.
//!
//! A directory takes packs as fast as they are made, so time spent on them is lost. A store that is far away often does not;
//! then packs wait, and processors could make them smaller meanwhile, which is what the store is slow at and what is paid for.

use crate::crafts::compress::{Compression, Effort};
use crate::format::names::PackKind;
use std::time::Duration;

/// From the quickest on; each takes about three times as long as the one before, or half again.
const EFFORTS: [Effort; 3] = [Effort::Quick, Effort::Level(6), Effort::Level(9)];
/// More effort if packs waited for the store so many times as long as they took to make …
const WAITED_MUCH: u32 = 3;
/// … and less if it was less than one part in so many of that.
const WAITED_LITTLE: u32 = 8;

/// How hard the packs of one run are compressed.
#[derive(Debug)]
pub struct Chooser {
    /// Chosen once and for all.
    fixed: Option<Effort>,
    step: usize,
}

impl Chooser {
    /// Creates the chooser for packs of this kind, in a store that is on this machine or far away.
    pub fn create(compression: Compression, kind: PackKind, is_near: bool) -> Self {
        let fixed = match (compression, kind) {
            (Compression::Level(level), _) => Some(Effort::Level(level)),
            // Few, and of ids and sketches, in which there is little to be found.
            (Compression::Auto, PackKind::Meta) => Some(Effort::Level(3)),
            (Compression::Auto, PackKind::Data) => is_near.then_some(Effort::Quick),
        };
        Chooser { fixed, step: 0 }
    }

    /// Returns the effort for what comes next.
    pub fn effort(&self) -> Effort {
        self.fixed.unwrap_or(EFFORTS[self.step])
    }

    /// Learns how long a pack was in the making, and how long it then waited until the store took it.
    pub fn note(&mut self, making: Duration, waiting: Duration) {
        if waiting > making * WAITED_MUCH {
            self.step = (self.step + 1).min(EFFORTS.len() - 1);
        } else if waiting * WAITED_LITTLE < making {
            self.step = self.step.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(4);
    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_store_gets_smaller_packs_and_a_quick_one_gets_them_sooner() {
        let mut chooser = Chooser::create(Compression::Auto, PackKind::Data, false);
        assert_eq!(chooser.effort(), Effort::Quick);
        for expected in [Effort::Level(6), Effort::Level(9), Effort::Level(9)] {
            chooser.note(SHORT, LONG);
            assert_eq!(chooser.effort(), expected);
        }
        chooser.note(SHORT, SHORT);
        assert_eq!(chooser.effort(), Effort::Level(9), "it is about right");
        for expected in [Effort::Level(6), Effort::Quick, Effort::Quick] {
            chooser.note(LONG, Duration::ZERO);
            assert_eq!(chooser.effort(), expected);
        }
    }

    #[test]
    fn what_is_asked_for_is_done_and_a_directory_waits_for_nobody() {
        for (compression, kind, is_near, expected) in [
            (Compression::Level(19), PackKind::Data, false, Effort::Level(19)),
            (Compression::Level(-5), PackKind::Meta, true, Effort::Level(-5)),
            (Compression::Auto, PackKind::Data, true, Effort::Quick),
            (Compression::Auto, PackKind::Meta, false, Effort::Level(3)),
        ] {
            let mut chooser = Chooser::create(compression, kind, is_near);
            chooser.note(SHORT, LONG);
            assert_eq!(chooser.effort(), expected);
        }
    }
}
