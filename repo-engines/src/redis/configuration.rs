//! A server's settings and its users, as JSON. Passwords are left out; users have the hashes of theirs, as the server gives them.

use super::client::{Connection, Reply, Result};
use dedump_core::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) const STREAM: &str = "configuration.json";

/// What can be stored of a server beside its data.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Configuration {
    /// What `CONFIG GET *` says.
    pub settings: BTreeMap<String, String>,
    /// Settings that are set, and are secrets.
    pub left_out: Vec<String>,
    /// What `ACL LIST` says.
    pub users: Vec<String>,
}

impl Configuration {
    /// Asks a server; returns besides what it does not tell.
    pub async fn ask(connection: &mut Connection) -> Result<(Configuration, Vec<String>)> {
        let (mut configuration, mut missing) = (Configuration::default(), Vec::new());
        match connection.ask(&[b"CONFIG", b"GET", b"*"]).await {
            Ok(reply) => configuration.take_settings(reply),
            Err(failure) if failure.is_not_allowed() => missing.push("the settings (+config|get)".to_owned()),
            Err(failure) => return Err(failure),
        }
        match connection.ask(&[b"ACL", b"LIST"]).await {
            Ok(reply) => configuration.users = reply.list().iter().map(Reply::text).collect(),
            Err(failure) if failure.is_not_allowed() => missing.push("the users (+acl|list)".to_owned()),
            Err(failure) => return Err(failure),
        }
        configuration.users.sort();
        Ok((configuration, missing))
    }

    fn take_settings(&mut self, reply: Reply) {
        let entries = reply.list();
        for pair in entries.chunks_exact(2) {
            let (name, value) = (pair[0].text(), pair[1].text());
            if !is_secret(&name) {
                self.settings.insert(name, value);
            } else if !value.is_empty() {
                self.left_out.push(name);
            }
        }
        self.left_out.sort();
    }

    pub fn to_json(&self) -> dedump_core::Result<Vec<u8>> {
        let cannot = |error| Error::System(format!("the configuration can't be written as JSON: {error}"));
        let mut json = serde_json::to_vec_pretty(self).map_err(cannot)?;
        json.push(b'\n');
        Ok(json)
    }
}

/// Returns whether a setting's value is a password.
fn is_secret(name: &str) -> bool {
    ["pass", "auth", "password", "secret"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_left_out() {
        let of = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
        let mut configuration = Configuration::default();
        let list = ["maxmemory", "0", "requirepass", "s3cret", "masterauth", "", "tls-key-file-pass", "s3cret"];
        configuration.take_settings(Reply::List(list.iter().map(|text| of(text)).collect()));
        assert_eq!(configuration.left_out, ["requirepass", "tls-key-file-pass"]);
        let json = String::from_utf8(configuration.to_json().expect("JSON")).expect("text");
        assert!(json.contains("maxmemory") && !json.contains("s3cret"), "{json}");
    }
}
