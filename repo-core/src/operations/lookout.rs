//! Tells damage from what a prune deletes while others look.
//!
//! Whoever reads everything meets deletions: what it found a moment ago is gone, though nothing is lost. A prune deletes only
//! after it has put its merge, and while a notice is there that names the packs. So where no notice was there when the look
//! began and no merge came since, nobody deleted anything, and what is missing is missing. Otherwise it is worth another look.

use crate::format::names::{MERGES, PRUNE};
use crate::state::repository::Repository;
use crate::state::snapshots;
use crate::words::error::Result;
use crate::words::id::SessionId;
use std::collections::BTreeSet;

/// How often to look, at most.
const LOOKS_MAX: usize = 4;

/// What there was of prunes when the look began.
pub(super) struct Lookout<'a> {
    repository: &'a Repository,
    notices: BTreeSet<SessionId>,
    merges: BTreeSet<SessionId>,
    looks_n: usize,
}

impl<'a> Lookout<'a> {
    /// Notes what is there, before the first look.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub(super) async fn begin(repository: &'a Repository) -> Result<Lookout<'a>> {
        // In this order: whoever merges before the first listing still has its notice in the second, if it deletes after it.
        let merges = snapshots::list_ids(repository, MERGES).await?;
        let notices = snapshots::list_ids(repository, PRUNE).await?;
        Ok(Lookout { repository, notices, merges, looks_n: 1 })
    }

    /// Returns whether to look again, since what is missing may have been deleted meanwhile; then the next look begins.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub(super) async fn is_disturbed(&mut self) -> Result<bool> {
        if self.looks_n == LOOKS_MAX {
            return Ok(false);
        }
        let now = Lookout::begin(self.repository).await?;
        let is_disturbed = !self.notices.is_empty() || self.merges != now.merges;
        *self = Lookout { looks_n: self.looks_n + 1, ..now };
        Ok(is_disturbed)
    }
}
