//! A repository in memory, as the test of a program that embeds the library would use one.
//!
//! ```sh
//! cargo run -p dedump-core --example memory_repository
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use dedump_core::{
    BackupOptions, CreateOptions, Credential, ReadData, ReaderEngine, Repository, Result, Store, backup, check, forget,
};

#[tokio::main]
async fn main() -> Result<()> {
    let secret = Credential::generate_key_file()?;
    let repository = Repository::create(Store::memory(), &secret, CreateOptions::default()).await?;
    let options = BackupOptions::new("settings", "test");

    // The same dump twice: the second one stores nothing of it again.
    let dump = b"max_connections = 100\n".repeat(100_000);
    let first = backup(&repository, &ReaderEngine::new("settings.conf", &dump[..]), &options, &()).await?.snapshot;
    let second = backup(&repository, &ReaderEngine::new("settings.conf", &dump[..]), &options, &()).await?.snapshot;
    assert_eq!(second.record.totals.chunks_new_n, 0);
    println!("first added {} bytes, second {}", first.record.totals.bytes_added, second.record.totals.bytes_added);

    // The second one stays whole when the first is forgotten.
    forget(&repository, first.id).await?;
    let report = check(&repository, ReadData::All, &()).await?;
    assert!(report.findings.is_empty());
    assert_eq!(report.snapshots_n, 1);
    println!("checked {} chunks: all well", report.chunks_n);
    Ok(())
}
