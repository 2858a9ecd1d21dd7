//! An engine of one's own: several streams, facts, and a verdict that says when something looks odd.
//!
//! ```sh
//! cargo run -p dedump-core --example own_engine
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use dedump_core::{
    BackupOptions, CreateOptions, Credential, Engine, Error, Repository, Result, Sink, Store, Verdict, async_trait,
    backup,
};
use std::collections::BTreeMap;

/// Dumps a price list: a header, and a line an item.
struct PriceList {
    items: Vec<(String, u32)>,
}

#[async_trait]
impl Engine for PriceList {
    fn kind(&self) -> &str {
        "prices"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        // Whatever goes wrong is an error, and then there is no snapshot.
        if self.items.iter().any(|(name, _)| name.is_empty()) {
            return Err(Error::DumpFailed("an item has no name; name it and dump again".to_owned()));
        }
        let mut header = sink.stream("header.txt").await?;
        header.write(b"item\tprice\n").await?;
        header.finish(BTreeMap::new()).await?;

        let mut lines = sink.stream("items.tsv").await?;
        for (name, price) in &self.items {
            lines.write(format!("{name}\t{price}\n").as_bytes()).await?;
        }
        let rows = BTreeMap::from([("rows".to_owned(), self.items.len().to_string())]);
        lines.finish(rows).await?;

        // Complete and odd: the snapshot is kept, and marked suspicious.
        let free = self.items.iter().filter(|(_, price)| *price == 0).count();
        let suspicious = (free > 0).then(|| format!("{free} items cost nothing")).into_iter().collect();
        Ok(Verdict { suspicious, ..Verdict::default() })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let secret = Credential::generate_key_file()?;
    let repository = Repository::create(Store::memory(), &secret, CreateOptions::default()).await?;
    let engine = PriceList { items: vec![("tea".to_owned(), 3), ("water".to_owned(), 0)] };
    let snapshot = backup(&repository, &engine, &BackupOptions::new("prices", "shop"), &()).await?.snapshot;
    println!(
        "snapshot {} is {:?}: {}",
        snapshot.id.short(),
        snapshot.record.quality,
        snapshot.record.reasons.join("; ")
    );
    for stream in &snapshot.record.streams {
        println!("  {} has {} bytes, {:?}", stream.name, stream.bytes, stream.facts);
    }
    Ok(())
}
