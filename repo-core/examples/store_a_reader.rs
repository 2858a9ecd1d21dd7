//! Stores what a reader gives, and gets it back.
//!
//! ```sh
//! pg_dump app | cargo run --release -p dedump-core --example store_a_reader -- /tmp/repository
//! ```

#![allow(clippy::print_stderr, reason = "an example shows what it did")]

use dedump_core::{
    BackupOptions, CreateOptions, Credential, Filter, OpenOptions, ReaderEngine, Repository, RestoreOptions, Result,
    Store, WriterTarget, backup, find, restore,
};

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "example-repository".to_owned());
    let secret = Credential::passphrase("correct horse battery staple");

    // Create it the first time, open it from then on.
    let repository = match Store::create_local(&path) {
        Ok(store) => Repository::create(store, &secret, CreateOptions::default()).await?,
        Err(_) => Repository::open(Store::local(&path)?, &secret, OpenOptions::default()).await?,
    };

    let engine = ReaderEngine::new("app.sql", tokio::io::stdin());
    let report = backup(&repository, &engine, &BackupOptions::new("app", "db1"), &()).await?;
    let totals = report.snapshot.record.totals;
    eprintln!("snapshot {}: {} bytes, {} added", report.snapshot.id.short(), totals.bytes, totals.bytes_added);

    let latest = find(&repository, "latest", &Filter::default()).await?;
    let mut output = WriterTarget(std::io::stdout());
    restore(&repository, &latest, &RestoreOptions::default(), &mut output, &()).await?;
    Ok(())
}
