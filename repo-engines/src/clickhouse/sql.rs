//! ClickHouse's SQL: how names and texts are quoted, and a lexer that knows quotes and comments.

/// Returns a name in backquotes.
pub(super) fn name(text: &str) -> String {
    quoted(text, '`')
}

/// Returns a table's whole name.
pub(super) fn table(database: &str, table: &str) -> String {
    format!("{}.{}", name(database), name(table))
}

/// Returns a text in quotes.
pub(super) fn text(text: &str) -> String {
    quoted(text, '\'')
}

fn quoted(text: &str, mark: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => quoted.push_str("\\0"),
            c => {
                if c == mark || c == '\\' {
                    quoted.push('\\');
                }
                quoted.push(c);
            }
        }
    }
    quoted.push(mark);
    quoted
}

/// What a piece of SQL is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or a keyword, as it is meant: without quotes.
    Name { text: String, is_quoted: bool },
    /// A text in quotes, as it is meant.
    Text(String),
    /// A dot, a bracket, anything else of one character.
    Mark(char),
    /// A number.
    Number,
    /// White space and comments.
    Space,
}

/// A piece of SQL, and the bytes that it was written as.
#[derive(Debug, Clone)]
pub(super) struct Piece<'a> {
    pub token: Token,
    pub written: &'a str,
}

/// Takes SQL apart; what is written, put together again, is the SQL.
pub(super) fn pieces(sql: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (token, length) = piece(rest, first);
        pieces.push(Piece { token, written: &rest[..length] });
        rest = &rest[length..];
    }
    pieces
}

fn piece(rest: &str, first: char) -> (Token, usize) {
    let while_ = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    match first {
        c if c.is_whitespace() => (Token::Space, while_(char::is_whitespace)),
        '-' if rest.starts_with("--") => (Token::Space, rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => (Token::Space, rest.find("*/").map_or(rest.len(), |at| at + 2)),
        '\'' => {
            let (text, length) = unquoted(rest, '\'');
            (Token::Text(text), length)
        }
        '`' | '"' => {
            let (text, length) = unquoted(rest, first);
            (Token::Name { text, is_quoted: true }, length)
        }
        '$' => match heredoc(rest) {
            Some((text, length)) => (Token::Text(text), length),
            None => (Token::Mark('$'), 1),
        },
        c if c.is_ascii_digit() => (Token::Number, while_(|c| c.is_ascii_alphanumeric() || c == '_')),
        c if c.is_alphabetic() || c == '_' => {
            let length = while_(|c| c.is_alphanumeric() || c == '_');
            (Token::Name { text: rest[..length].to_owned(), is_quoted: false }, length)
        }
        c => (Token::Mark(c), c.len_utf8()),
    }
}

/// Reads what is in quotes at the beginning; returns how long it was written.
fn unquoted(rest: &str, mark: char) -> (String, usize) {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 'r')) => text.push('\r'),
                Some((_, 't')) => text.push('\t'),
                Some((_, '0')) => text.push('\0'),
                Some((_, c)) => text.push(c),
                None => {}
            },
            // Twice stands for once.
            c if c == mark && chars.peek().is_some_and(|(_, next)| *next == mark) => {
                chars.next();
                text.push(mark);
            }
            c if c == mark => return (text, at + mark.len_utf8()),
            c => text.push(c),
        }
    }
    (text, rest.len())
}

/// Reads `$tag$…$tag$`.
fn heredoc(rest: &str) -> Option<(String, usize)> {
    let end = rest[1..].find('$')? + 2;
    let tag = &rest[..end];
    if !tag[1..end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let length = rest[end..].find(tag)?;
    Some((rest[end..end + length].to_owned(), end + length + tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_taken_apart_and_put_together() {
        let sql = "CREATE TABLE `a\\`b``c`.\"d\" -- 'x\n (x String DEFAULT 'it''s \\' /* no */') /* `y` */ COMMENT $t$a'b$t$ 1e5";
        let pieces = pieces(sql);
        assert_eq!(pieces.iter().map(|piece| piece.written).collect::<String>(), sql);
        let names: Vec<_> = pieces
            .iter()
            .filter_map(|piece| match &piece.token {
                Token::Name { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(names, ["CREATE", "TABLE", "a`b`c", "d", "x", "String", "DEFAULT", "COMMENT"]);
        let texts: Vec<_> = pieces.iter().filter(|piece| matches!(piece.token, Token::Text(_))).collect();
        assert_eq!(texts[0].token, Token::Text("it's ' /* no */".to_owned()));
        assert_eq!(texts[1].token, Token::Text("a'b".to_owned()));
    }

    #[test]
    fn what_is_quoted_is_read_as_it_was() {
        for wanted in ["a`b", "a'b\\", "new\nline\t\0", "ü"] {
            assert_eq!(pieces(&name(wanted))[0].token, Token::Name { text: wanted.to_owned(), is_quoted: true });
            assert_eq!(pieces(&text(wanted))[0].token, Token::Text(wanted.to_owned()));
        }
    }
}
