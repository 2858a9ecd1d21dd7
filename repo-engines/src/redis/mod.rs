//! Redis and Valkey, over their own protocol: no file of the server's is needed.
//!
//! [`RedisEngine`] backs a server up, [`RedisRestore`] puts the backup back. Of a server it makes these streams:
//!
//! - `database.rdb`: all databases, or the one that the URL names. A valid RDB file, which any server of the same or a newer
//!   format reads without dedump.
//! - `configuration.json`: the settings and the access control lists, without passwords.
//! - `original.rdb`, with [`RedisOptions::exact`] alone: the RDB as the server sent it, byte for byte.
//!
//! # The moment
//!
//! The server is asked for what it gives a replica: it forks, and the RDB is what it had in that one moment, whoever writes
//! meanwhile. It is read to its end at the speed of the network, sorted by way of a sealed temporary file, and its CRC-64 is
//! checked; only then anything is stored. So a slow repository never makes the server keep what it has to send.
//!
//! Where the server does not let anybody be a replica, as in most clouds, [`Method::Scan`] asks for key after key. That is no
//! single moment, and it says so.
//!
//! # The order
//!
//! A server writes its keys in an order that hangs on a seed which it draws at every start, so two RDBs of the same data have
//! nothing in common. `database.rdb` is sorted: databases by number, functions by code, records by key, members of hash tables too;
//! strings are unpacked. Aux fields and the checksum that differ from run to run are facts of the stream. How long ago a key was used
//! (`IDLE`, `FREQ`) is left out.
//!
//! `original.rdb` is the whole RDB once more, and not a permutation of the first: to make the server's bytes anew from
//! the sorted ones, every LZF string would have to be packed exactly as that version of the server has packed it. After every restart of
//! the server all of it is new, so it is for those who need those bytes.

mod client;
mod configuration;
mod dump;
mod explain;
mod rdb;
mod restore;
mod scan;
mod server;
mod sorting;
mod url;
mod wire;

pub use client::ClientOptions;
pub use dump::{Method, RedisEngine, RedisOptions};
pub use restore::{
    OnConflict, Place, PlannedDatabase, RedisFileOptions, RedisFileRestored, RedisPlan, RedisRestore,
    RedisRestoreOptions, RedisRestored, VALUE_BYTES_MAX, restore_file,
};
pub use url::RedisUrl;

/// Doors for the project's own tests; no part of the public surface, and free to change.
#[doc(hidden)]
pub mod internals {
    use super::rdb::canonical::{Canonical, Repeated};
    use super::rdb::{Header, input::Input, parse};
    use std::path::Path;

    /// Puts an RDB into its stored order.
    ///
    /// # Errors
    /// Why the bytes are no RDB.
    pub fn canonical(rdb: &[u8], folder: &Path) -> Result<Vec<u8>, String> {
        let mut canonical = Canonical::new(Header { is_valkey: false, version: 1 }, None, folder);
        parse::parse(&mut Input::new(rdb), &mut canonical).map_err(|stop| stop.to_string())?;
        let mut sorted = Vec::new();
        canonical.write(Repeated::Refuse, &mut sorted).map_err(|stop| stop.to_string())?;
        Ok(sorted)
    }
}
