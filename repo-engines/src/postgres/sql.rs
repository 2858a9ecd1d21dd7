//! As much of SQL's grammar as a restore needs: names and texts quoted, a script cut into statements, a statement into words.

/// Returns a name as SQL takes it for sure.
pub(super) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text as SQL takes it for sure, with `standard_conforming_strings` on or off.
pub(super) fn text(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A word of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// A keyword or a name, in lower case.
    Plain(String),
    /// A name that was quoted, without its quotes.
    Quoted(String),
    /// Anything else: a text, a number, a character.
    Other(String),
}

impl Word {
    /// Returns the name that it may be.
    pub(super) fn as_name(&self) -> Option<&str> {
        match self {
            Word::Plain(name) | Word::Quoted(name) => Some(name),
            Word::Other(_) => None,
        }
    }

    /// Returns whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Plain(word) if word == keyword)
    }
}

/// Returns the length of the token that a script begins with; never 0 for what is not empty.
fn token_bytes(script: &str) -> usize {
    let bytes = script.as_bytes();
    let rest_of = |from: usize, end: &str| script[from..].find(end).map_or(script.len(), |at| from + at + end.len());
    match bytes {
        [b'-', b'-', ..] => rest_of(2, "\n"),
        [b'/', b'*', ..] => rest_of(2, "*/"),
        [b'e' | b'E', b'\'', ..] => 1 + quoted_bytes(&script[1..], true),
        [quote @ (b'\'' | b'"'), ..] => {
            debug_assert!(quote.is_ascii());
            quoted_bytes(script, false)
        }
        [b'$', ..] => match script[1..].find('$') {
            // A tag has only letters and digits.
            Some(at) if script[1..=at].chars().all(|c| c.is_alphanumeric() || c == '_') => {
                let tag = &script[..at + 2];
                rest_of(tag.len(), tag)
            }
            _ => 1,
        },
        _ => {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let word = script.find(|c| !is_word(c)).unwrap_or(script.len());
            if word > 0 { word } else { script.chars().next().map_or(0, char::len_utf8) }
        }
    }
}

/// Returns the length of the quoted text that a script begins with. A doubled quote goes on: it is two texts in a row.
fn quoted_bytes(script: &str, has_escapes: bool) -> usize {
    let bytes = script.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\\' if has_escapes => at += 1,
            _ if byte == bytes[0] && bytes.get(at) == Some(&byte) => at += 1,
            _ if byte == bytes[0] => break,
            _ => {}
        }
    }
    at.min(bytes.len())
}

/// Cuts a script into statements, without their semicolons. Commands of psql's own are left out, as are comments in front.
pub(super) fn statements(script: &str) -> Vec<String> {
    let (mut statements, mut statement, mut rest) = (Vec::new(), String::new(), script);
    while !rest.is_empty() {
        if statement.is_empty() && rest.starts_with('\\') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let (token, behind) = rest.split_at(token_bytes(rest));
        rest = behind;
        match token {
            ";" => statements.push(std::mem::take(&mut statement).trim_end().to_owned()),
            _ if statement.is_empty() && (token.trim().is_empty() || token.starts_with("--")) => {}
            _ => statement.push_str(token),
        }
    }
    if !statement.trim().is_empty() {
        statements.push(statement.trim_end().to_owned());
    }
    statements
}

/// Cuts a statement into words; at most so many.
pub(super) fn words(statement: &str, words_max: usize) -> Vec<Word> {
    let (mut words, mut rest) = (Vec::new(), statement);
    while !rest.is_empty() && words.len() < words_max {
        let (token, behind) = rest.split_at(token_bytes(rest));
        rest = behind;
        if token.trim().is_empty() || token.starts_with("--") {
            continue;
        }
        words.push(match token.as_bytes()[0] {
            b'"' if token.len() > 1 => Word::Quoted(token[1..token.len() - 1].replace("\"\"", "\"")),
            first if first.is_ascii_alphabetic() || first == b'_' || first >= 0x80 => {
                if token.contains('\'') {
                    Word::Other(token.to_owned())
                } else {
                    Word::Plain(token.to_lowercase())
                }
            }
            _ => Word::Other(token.to_owned()),
        });
    }
    words
}

/// Returns a table's schema and name as SQL has them.
pub(super) fn of_table(table: &(String, String)) -> String {
    format!("{}.{}", name(&table.0), name(&table.1))
}

/// Reads `SCHEMA.TABLE`, as SQL has it: lower case where a name is not quoted.
pub(super) fn qualified(text: &str) -> Option<(String, String)> {
    match &words(text, 4)[..] {
        [schema, Word::Other(dot), table] if dot == "." => {
            Some((schema.as_name()?.to_owned(), table.as_name()?.to_owned()))
        }
        _ => None,
    }
}

/// Reads a list of names, as the server stores one: `"$user", public`.
pub(super) fn names(list: &str) -> Vec<String> {
    words(list, usize::MAX).iter().filter_map(Word::as_name).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_where_the_server_would() {
        let script = "--\n-- Dump; of\n--\n\\restrict abc\n\nCREATE ROLE \"a;\"\"b\";\nCOMMENT ON ROLE x IS 'it''s; so';\n\
                      ALTER ROLE x SET s TO E'\\';';\nDO $x$ BEGIN; END $x$;\n/* ; */ SELECT $1;\nlast";
        let expected = [
            "CREATE ROLE \"a;\"\"b\"",
            "COMMENT ON ROLE x IS 'it''s; so'",
            "ALTER ROLE x SET s TO E'\\';'",
            "DO $x$ BEGIN; END $x$",
            "/* ; */ SELECT $1",
            "last",
        ];
        assert_eq!(statements(script), expected);
        assert_eq!(statements("SELECT 'open; "), ["SELECT 'open;"]);
        assert_eq!(statements("é; 'ü"), ["é", "'ü"]);
    }

    #[test]
    fn words_are_told_apart() {
        let found = words("ALTER Table \"A \"\"b\" 'text' E'x'", 9);
        let quoted = Word::Quoted("A \"b".to_owned());
        assert!(found[0].is("alter") && found[1].is("table") && found[2] == quoted, "{found:?}");
        assert_eq!(found[3..].iter().filter_map(Word::as_name).count(), 0);
        assert_eq!(qualified("Shop.\"Odd \"\"name\""), Some(("shop".to_owned(), "Odd \"name".to_owned())));
        assert_eq!(
            (qualified("shop"), qualified("a.b.c"), qualified("a.'b'"), qualified("")),
            (None, None, None, None)
        );
        assert_eq!(names("\"$user\", public, \"\""), ["$user", "public", ""]);
        assert_eq!(
            (name("a\"b"), text("it's"), text("a\\'")),
            ("\"a\"\"b\"".into(), "'it''s'".into(), " E'a\\\\'''".into())
        );
    }
}
