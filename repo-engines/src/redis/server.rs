//! What a server says of itself.

use super::client::{Connection, Result};
use super::explain::Failure;
use std::collections::BTreeMap;

/// The answer to `INFO`, and what a cluster says of this server.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    info: BTreeMap<String, String>,
    /// In a cluster: how many primaries have slots, and which ones are here.
    pub cluster: Option<(u64, String)>,
}

impl Server {
    /// Asks a server.
    pub async fn ask(connection: &mut Connection) -> Result<Server> {
        let text = connection.ask(&[b"INFO"]).await?.text();
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let info = lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let mut server = Server { info, cluster: None };
        if server.is_cluster() {
            server.cluster = match connection.ask(&[b"CLUSTER", b"NODES"]).await {
                Ok(nodes) => Some(slots(&nodes.text())),
                Err(failure) if failure.is_not_allowed() => Some((0, "unknown".to_owned())),
                Err(failure) => return Err(failure),
            };
        }
        Ok(server)
    }

    /// Returns a field of `INFO`; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    /// Returns the field as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name).parse().ok()
    }

    /// Returns which of the servers that speak Redis' protocol it is, in one word.
    pub fn flavour(&self) -> &'static str {
        if self.info.contains_key("valkey_version") || self.field("server_name") == "valkey" {
            "valkey"
        } else if self.info.contains_key("dragonfly_version") {
            "dragonfly"
        } else if self.field("executable").contains("keydb") {
            "keydb"
        } else {
            "redis"
        }
    }

    /// Returns the version under its own name.
    pub fn version(&self) -> &str {
        match self.field("valkey_version") {
            "" => self.field("redis_version"),
            version => version,
        }
    }

    pub fn is_cluster(&self) -> bool {
        self.field("cluster_enabled") == "1" || self.field("redis_mode") == "cluster"
    }

    pub fn is_sentinel(&self) -> bool {
        self.field("redis_mode") == "sentinel" || self.field("server_mode") == "sentinel"
    }

    pub fn is_replica(&self) -> bool {
        self.field("role") == "slave"
    }

    /// Returns how many keys each database has.
    pub fn keys(&self) -> BTreeMap<u64, u64> {
        let database = |(name, value): (&String, &String)| {
            let number = name.strip_prefix("db")?.parse().ok()?;
            let keys_n = value.split(',').find_map(|field| field.strip_prefix("keys="))?.parse().ok()?;
            Some((number, keys_n))
        };
        self.info.iter().filter_map(database).collect()
    }

    /// Refuses what holds no data, or none yet.
    pub fn check_has_data(&self) -> Result<()> {
        if self.is_sentinel() {
            let why = "it is a Sentinel, which has no data; ask it for the primary (SENTINEL get-master-addr-by-name NAME) and name that";
            return Err(Failure::Broken(why.to_owned()));
        }
        if self.field("loading") == "1" {
            return Err(Failure::refused("LOADING"));
        }
        Ok(())
    }

    /// Returns what is worth recording.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, value: String| {
            if !value.is_empty() {
                facts.insert(name.to_owned(), value);
            }
        };
        fact("server.flavour", self.flavour().to_owned());
        fact("server.version", self.version().to_owned());
        fact("server.run_id", self.field("run_id").to_owned());
        fact("server.mode", self.field("redis_mode").to_owned());
        fact("server.role", if self.is_replica() { "replica" } else { "primary" }.to_owned());
        fact("server.used_memory_bytes", self.field("used_memory").to_owned());
        if let Some((primaries_n, slots)) = &self.cluster {
            fact("cluster.primaries", primaries_n.to_string());
            fact("cluster.slots", slots.clone());
        }
        facts
    }
}

/// Returns how many primaries of a cluster have slots, and which ones the server that was asked has.
fn slots(nodes: &str) -> (u64, String) {
    let (mut primaries_n, mut own) = (0, String::new());
    for line in nodes.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(flags), Some(slots)) = (words.get(2), words.get(8..)) else { continue };
        primaries_n += u64::from(flags.contains("master") && !slots.is_empty());
        if flags.contains("myself") {
            own = slots.join(",");
        }
    }
    (primaries_n, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_this_server() {
        let nodes = "a 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460 5462\nb 127.0.0.1:3@4 master - 0 0 2 connected 5461\n\
                     c 127.0.0.1:5@6 slave a 0 0 1 connected\n";
        assert_eq!(slots(nodes), (2, "0-5460,5462".to_owned()));
    }
}
