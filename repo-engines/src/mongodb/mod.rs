//! MongoDB, by its database tools: `mongodump` and `mongorestore`, whose archives are taken apart and put together here.
//!
//! [`MongoEngine`] backs a server or a database up, [`MongoRestore`] puts the backup back. The streams are called and laid out as
//! `mongodump --out` does it in folders, so what is restored to files is a dump that `mongorestore --dir` takes:
//!
//! - `prelude.json`: the versions of server and tool.
//! - `DATABASE/COLLECTION.metadata.json`: options and indexes of a collection.
//! - `DATABASE/COLLECTION.bson`: its documents, one after another.
//! - `oplog.bson`, with [`MongoOptions::oplog`] alone: what was written while the dump ran.
//!
//! # What makes sure that a dump is whole
//!
//! `mongodump` must end well. Its archive must have the end of every collection that it announced, and every collection's
//! CRC-64 must be that of its documents, which is computed while they pass. Nothing is written before or behind that.
//!
//! # The moment
//!
//! Collections are read one after another, while others write: that is no single moment, and the snapshot says so. On a member
//! of a replica set [`MongoOptions::oplog`] dumps what was written meanwhile, and a restore replays it. Of a sharded cluster not even
//! that is a moment.
//!
//! # The order
//!
//! One collection after another, documents as the server gives them. That order stays on a server, and is another one on
//! each member of a replica set; [`MongoOptions::order_by_id`] sorts them.
//!
//! # Driven against
//!
//! No server of MongoDB can be had where this project's tests run, so they drive stand-ins of both tools that are written from the
//! specification of the archive. Layouts and messages: `mongo-tools` 100.x.

mod archive;
mod bson;
mod client;
mod demux;
mod dump;
mod names;
mod restore;
mod url;

pub use client::ClientOptions;
pub use dump::{MongoEngine, MongoOptions};
pub use restore::{MongoPlan, MongoRestore, MongoRestoreOptions, MongoRestored, Place, PlannedCollection};
pub use url::MongoUrl;

/// The stream that has the versions.
const PRELUDE: &str = "prelude.json";

/// Doors for the project's own tests; no part of the public surface, and free to change.
#[doc(hidden)]
pub mod internals {
    use super::archive::{Collection, Prelude, Result, TERMINATOR, Visit, new_crc, parse, write_header, write_prelude};
    use std::collections::BTreeMap;

    /// Keeps the documents of each collection.
    #[derive(Default)]
    struct Kept {
        prelude: Prelude,
        documents: BTreeMap<usize, (String, Vec<u8>)>,
    }

    impl Visit for Kept {
        fn prelude(&mut self, prelude: Prelude) -> Result<()> {
            self.prelude = prelude;
            Ok(())
        }

        fn begin(&mut self, collection: usize, name: &str) -> Result<()> {
            self.documents.insert(collection, (name.to_owned(), Vec::new()));
            Ok(())
        }

        fn document(&mut self, collection: usize, document: &[u8]) -> Result<()> {
            self.documents.get_mut(&collection).expect("it has begun").1.extend_from_slice(document);
            Ok(())
        }

        fn end(&mut self, _: usize, _: u64) -> Result<()> {
            Ok(())
        }
    }

    /// Takes an archive apart and puts it together again, one collection after another.
    ///
    /// # Errors
    /// Why the bytes are no archive.
    pub fn one_after_another(archive: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let mut kept = Kept::default();
        parse(archive, &mut kept).map_err(|stop| stop.to_string())?;
        let all = kept
            .documents
            .into_iter()
            .map(|(number, (name, documents))| (kept.prelude.collections[number].database.clone(), name, documents));
        Ok(write(&kept.prelude, all))
    }

    /// Makes an archive of collections: their database, name, kind and documents.
    pub fn archive(collections: &[(&str, &str, &str, &[u8])]) -> Vec<u8> {
        let announced = collections.iter().map(|(database, name, kind, _)| Collection {
            database: (*database).to_owned(),
            name: (*name).to_owned(),
            metadata: "{}".to_owned(),
            kind: (*kind).to_owned(),
        });
        let (server_version, tool_version) = ("7.0.5".to_owned(), "100.9.4".to_owned());
        let prelude = Prelude { server_version, tool_version, collections: announced.collect() };
        let all = collections
            .iter()
            .map(|(database, name, _, documents)| ((*database).to_owned(), (*name).to_owned(), documents.to_vec()));
        write(&prelude, all)
    }

    /// Returns what a document is called, if it has a name and is well-formed to there.
    pub fn id_of(document: &[u8]) -> Option<&[u8]> {
        super::bson::find(document, "_id").map(|element| element.bytes)
    }

    fn write(prelude: &Prelude, collections: impl Iterator<Item = (String, String, Vec<u8>)>) -> Vec<u8> {
        let mut bytes = write_prelude(prelude);
        for (database, name, documents) in collections {
            let mut crc = new_crc();
            crc.update(&documents);
            bytes.extend(write_header(&database, &name, None));
            bytes.extend_from_slice(&documents);
            bytes.extend(TERMINATOR);
            bytes.extend(write_header(&database, &name, Some(crc.finalize())));
            bytes.extend(TERMINATOR);
        }
        bytes
    }
}
