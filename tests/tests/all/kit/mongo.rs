//! Servers of MongoDB that are folders, and stand-ins of its tools that know them; see `mongo_tools.py`.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder with the stand-ins, and with servers.
pub struct Mongo {
    folder: tempfile::TempDir,
}

/// A server, which is a folder.
pub struct Server {
    root: PathBuf,
}

impl Mongo {
    pub fn new() -> Mongo {
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests/all/kit/mongo_tools.py"));
        for tool in ["mongodump", "mongorestore"] {
            let path = folder.path().join("bin").join(tool);
            fs::create_dir_all(folder.path().join("bin")).expect("writable");
            let (script, servers) = (script.display(), folder.path().display());
            fs::write(&path, format!("#!/bin/sh\nexec python3 '{script}' '{servers}' {tool} \"$@\"\n"))
                .expect("writable");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("ours");
        }
        Mongo { folder }
    }

    /// Makes a server.
    pub fn server(&self, host: &str) -> Server {
        let root = self.folder.path().join(host);
        fs::create_dir(&root).expect("writable");
        let server = Server { root };
        server.set(json!({}));
        server
    }

    pub fn programs(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// Returns what tools were started with: arguments and environment.
    pub fn calls(&self) -> String {
        fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default()
    }
}

impl Server {
    /// Changes what the server is, besides its version: `users`, `oplog`, `in_turns`, `fault`.
    pub fn set(&self, mut settings: Value) {
        settings["version"] = "7.0.5".into();
        fs::write(self.root.join("server.json"), settings.to_string()).expect("writable");
    }

    /// Makes a collection, with an index besides that of `_id`.
    pub fn make(&self, database: &str, name: &str, documents: &[Vec<u8>]) {
        self.make_with(database, name, "collection", json!({}), documents);
    }

    pub fn make_with(&self, database: &str, name: &str, kind: &str, options: Value, documents: &[Vec<u8>]) {
        let folder = self.root.join(database);
        fs::create_dir_all(&folder).expect("writable");
        let indexes =
            json!([{ "v": 2, "key": { "_id": 1 }, "name": "_id_" }, { "v": 2, "key": { "t": 1 }, "name": "t_1" }]);
        let metadata =
            json!({ "indexes": indexes, "uuid": "00", "collectionName": name, "type": kind, "options": options });
        fs::write(folder.join(format!("{}.metadata.json", quoted(name))), metadata.to_string()).expect("writable");
        let data_name = if kind == "timeseries" { format!("system.buckets.{name}") } else { name.to_owned() };
        if kind != "view" {
            fs::write(folder.join(format!("{}.bson", quoted(&data_name))), documents.concat()).expect("writable");
        }
    }

    /// Writes what a restore has to replay.
    pub fn write_oplog(&self, entries: &[Vec<u8>]) {
        fs::write(self.root.join("oplog.bson"), entries.concat()).expect("writable");
    }

    /// Returns all files of all databases.
    pub fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for database in fs::read_dir(&self.root).expect("a folder").flatten().filter(|entry| entry.path().is_dir()) {
            for file in fs::read_dir(database.path()).expect("a folder").flatten() {
                let name = Path::new(&database.file_name()).join(file.file_name());
                let bytes = fs::read(file.path()).expect("readable");
                // A view has no documents, and a file of none is none.
                if !bytes.is_empty() {
                    all.insert(name.to_string_lossy().into_owned(), bytes);
                }
            }
        }
        all
    }
}

fn quoted(name: &str) -> String {
    let keep = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    name.bytes().map(|byte| if keep(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Returns a document with a number for `_id` and a text.
pub fn document(id: i32, text: &str) -> Vec<u8> {
    let length = i32::try_from(text.len() + 1).expect("short").to_le_bytes();
    whole(&[b"\x10_id\0", &id.to_le_bytes()[..], b"\x02t\0", &length, text.as_bytes(), &[0]].concat())
}

/// Returns an entry of the oplog that inserts a document.
pub fn insertion(namespace: &str, document: &[u8]) -> Vec<u8> {
    let length = i32::try_from(namespace.len() + 1).expect("short").to_le_bytes();
    whole(&[b"\x02op\0\x02\0\0\0i\0\x02ns\0", &length[..], namespace.as_bytes(), b"\0\x03o\0", document].concat())
}

fn whole(elements: &[u8]) -> Vec<u8> {
    let length = i32::try_from(elements.len() + 5).expect("short").to_le_bytes();
    [&length[..], elements, &[0]].concat()
}
