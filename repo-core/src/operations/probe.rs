//! Finds out whether the store keeps what a repository rests on.

use crate::state::probe::probe;
use crate::state::repository::Repository;
use crate::words::error::Result;

/// Probes a repository's store: create-if-absent under a race, read-after-write, list-after-write. It writes a few small
/// objects and deletes them again. [`Repository::create`] does it, too.
///
/// # Errors
/// [`Error::UnfitStore`](crate::Error::UnfitStore): it does not keep one of these. [`Error::Store`](crate::Error::Store).
pub async fn probe_store(repository: &Repository) -> Result<()> {
    probe(&repository.store).await
}
