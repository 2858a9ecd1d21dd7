//! Names and texts as SQL has them, and names as streams have them.

use dedump_core::{Error, Result};

/// Quotes a name.
pub(super) fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes a text, whatever the session's mode: without backslashes.
pub(super) fn text(text: &str) -> String {
    // A backslash would mean something in some modes and nothing in others.
    match text.contains('\\') {
        false => format!("'{}'", text.replace('\'', "''")),
        true => format!("CONVERT(x'{}' USING utf8mb4)", hex(text)),
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a quoted name at the begin of a text; returns it and what follows.
pub(super) fn quoted(text: &[u8]) -> Option<(String, &[u8])> {
    quoted_by(b'`', text)
}

/// Reads a name in quotes of either kind: under `ANSI_QUOTES`, the server writes the other.
pub(super) fn quoted_anyhow(text: &[u8]) -> Option<(String, &[u8])> {
    quoted_by(b'`', text).or_else(|| quoted_by(b'"', text))
}

fn quoted_by(quote: u8, text: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = text.strip_prefix(&[quote])?;
    let mut found = Vec::new();
    loop {
        let end = memchr::memchr(quote, rest)?;
        found.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(&[quote]) {
            Some(after) => {
                found.push(quote);
                rest = after;
            }
            None => return Some((String::from_utf8(found).ok()?, rest)),
        }
    }
}

/// Returns what a database, a table or a view is called among the streams: letters and digits of any script, `_` and `-` stay,
/// and all else is percent-encoded, so that no character takes more than three bytes and every name fits.
pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for c in name.chars() {
        let stays = c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || !c.is_ascii() && !c.is_control();
        match stays {
            true => encoded.push(c),
            false => encoded.push_str(&crate::percent::encode_bytes(c.to_string().as_bytes())),
        }
    }
    // Which percent-encoding leaves as they are, and a folder can't be called.
    encoded.replace('.', "%2E").replace('~', "%7E")
}

/// Refuses a name that a dump could not be taken apart by.
///
/// # Errors
/// [`Error::DumpFailed`]: it has control characters.
pub(super) fn check_name(kind: &str, name: &str) -> Result<()> {
    match name.chars().any(char::is_control) {
        true => Err(Error::DumpFailed(format!(
            "the {kind} {name:?} has a line break or another control character in its name; rename it"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(
            (name("a`b"), text("it's"), text("a\\")),
            ("`a``b`".into(), "'it''s'".into(), "CONVERT(x'615c' USING utf8mb4)".into())
        );
        assert_eq!(quoted(b"`a``b` rest"), Some(("a`b".to_owned(), &b" rest"[..])));
        assert_eq!(quoted(b"`a``"), None);
        assert_eq!(quoted(b"a"), None);
    }

    #[test]
    fn every_name_fits_a_stream() {
        let check = |name: &str, expected: &str| {
            assert_eq!(encode(name), expected);
            let back = crate::percent::decode(&encode(name)).expect("well-formed");
            assert_eq!(back, name.as_bytes());
        };
        check("orders_2024-x", "orders_2024-x");
        check("a/b.c`d%", "a%2Fb%2Ec%60d%25");
        check("größe", "größe");
        check("..", "%2E%2E");
        for longest in ["表", "/", "x", "~"] {
            assert!(encode(&longest.repeat(64)).len() <= 196, "{longest}");
        }
    }
}
