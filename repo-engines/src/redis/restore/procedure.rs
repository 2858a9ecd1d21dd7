//! How a server comes to load an RDB file: an order in which nothing is lost.

use dedump_core::StreamRecord;
use std::fmt::Write;
use std::path::Path;

/// Returns the steps for a file of this stream.
pub(super) fn text(path: &Path, about: &StreamRecord) -> String {
    let fact = |name: &str| about.facts.get(name).map_or("?", String::as_str);
    let mut counts = String::new();
    for (name, keys_n) in &about.facts {
        if let Some(database) = name.strip_prefix("keys.") {
            // Writing to a string never fails.
            let _ = write!(counts, "\n       redis-cli -n {database} DBSIZE      # {keys_n}, less what has expired");
        }
    }
    format!(
        "This RDB has format {} of {}. Give it to a server that reads that format, in this order:
    1. If a server runs on the data folder, note its settings, and end it so that it saves nothing more. A server that is
       just stopped or restarted writes what it has over the file.
       redis-cli CONFIG GET save
       redis-cli CONFIG GET appendonly
       redis-cli CONFIG SET save \"\"
       redis-cli CONFIG SET appendonly no
       redis-cli SHUTDOWN NOSAVE
    2. Put the file where the server looks for it (its `dir` and `dbfilename`), as the server's own user's.
       install -o redis -g redis -m 0640 {} /var/lib/redis/dump.rdb
    3. Start it with `appendonly no`, in its configuration or on its command line: with `appendonly yes` it loads its
       append-only file instead, and has no keys.
       redis-server /etc/redis/redis.conf --appendonly no
    4. Compare how many keys it has.{counts}
    5. If it is to have an append-only file, have it write one, and wait until INFO persistence says
       aof_rewrite_in_progress:0 and aof_last_bgrewrite_status:ok.
       redis-cli CONFIG SET appendonly yes
    6. Put the settings back that were noted, and only now stop or restart it.
",
        fact("rdb.version"),
        fact("rdb.flavour"),
        path.display(),
    )
}
