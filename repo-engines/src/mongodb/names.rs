//! How streams are called: as the files are that `mongodump --out` writes, so that `mongorestore --dir` takes them.

use crate::percent;

/// Bytes of a collection's encoded name, at most, before it is shortened: a file's name has an ending too.
const NAME_BYTES_MAX: usize = 170;
/// Bytes that are kept of a longer one.
const KEPT_BYTES: usize = 130;

/// Returns the name of the stream with a collection's documents.
pub(super) fn data(database: &str, collection: &str) -> String {
    format!("{}.bson", place(database, collection))
}

/// Returns the name of the stream with its options and indexes.
pub(super) fn metadata(database: &str, collection: &str) -> String {
    format!("{}.metadata.json", place(database, collection))
}

fn place(database: &str, collection: &str) -> String {
    let mut name = percent::encode(collection);
    if name.len() > NAME_BYTES_MAX {
        // As the tools do, an encoded dollar sign and a hash; the whole name is a fact of the stream.
        let hash = blake3::hash(collection.as_bytes()).to_hex();
        name.truncate(KEPT_BYTES);
        name = format!("{}%24{}", name.trim_end_matches(['%', '.']), &hash[..27]);
    }
    match database {
        "" => name,
        // The tools leave it as it is, and no slash or dot is allowed in it.
        database if database.contains(char::is_control) => format!("{}/{name}", percent::encode(database)),
        database => format!("{database}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        assert_eq!(data("shop", "orders"), "shop/orders.bson");
        assert_eq!(metadata("shop", "a b/ä"), "shop/a%20b%2F%C3%A4.metadata.json");
        assert_eq!(data("", "oplog"), "oplog.bson");
        assert_eq!(data("café", "a"), "café/a.bson");
        let long = data("shop", &"ä".repeat(120));
        assert!(long.len() < 200 && long != data("shop", &format!("{}b", "ä".repeat(119))), "{long}");
        assert!(!long.contains("%%"), "{long}");
    }
}
