//! Prints a command line without its secrets, so that it can be recorded and shown.
//!
//! What looks like a secret is masked: values named `password`, `token` and the like (`--password=…`, `PGPASSWORD=…`,
//! `password=…` in a connection string or URL), the password in `scheme://user:password@host`, and passwords in the short
//! options of MySQL's, MongoDB's, Redis' and SQL Server's tools. In doubt, too much is masked. It can't know every tool's
//! ways, and other users of the host see the arguments anyway: keep secrets in files such as `~/.pgpass` or `~/.my.cnf`.

use std::ffi::OsString;

const MASK: &str = "***";
/// Parts of a name, in lower case, that make its value a secret.
const SECRET_NAMES: &[&str] =
    &["password", "passwd", "passphrase", "mysql_pwd", "secret", "token", "api_key", "api-key", "apikey", "access_key"];
/// Short options of MySQL's tools that take a value, so that a `p` behind them is no password.
const MYSQL_VALUE_OPTIONS: &[char] = &['u', 'h', 'P', 'S', 'r', 'w', 'D', 'e', 'T', '#', 'W'];

/// Returns the command line as a shell would take it, secrets masked, in one line.
pub fn redact(argv: &[OsString]) -> String {
    let mut tool = Tool::Other;
    let mut mask_next = false;
    let mut is_script = false;
    let mut words = Vec::new();
    for argument in argv {
        let argument = argument.to_string_lossy();
        let masked = if std::mem::take(&mut mask_next) && !argument.starts_with('-') {
            MASK.to_owned()
        } else if argument.contains(char::is_whitespace) && (is_script || !is_assignment_of_secret(&argument)) {
            redact_script(&argument)
        } else {
            redact_word(&argument, &mut tool, &mut mask_next)
        };
        // `sh -c`, `bash -lc`: what comes next is several words, even if it begins like an assignment.
        is_script = argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with('c');
        words.push(quote(&masked));
    }
    words.join(" ")
}

/// Returns text, such as a tool's message, with what looks like a secret masked.
pub(crate) fn redact_text(text: &str) -> String {
    mask_url_passwords(&mask_named_values(text))
}

/// Tools with short options for a password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    MySql,
    Mongo,
    Redis,
    SqlServer,
    Other,
}

impl Tool {
    fn of_word(word: &str) -> Option<Tool> {
        let name = word.rsplit('/').next().unwrap_or(word);
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        match name {
            _ if is(&["mysql", "mariadb", "mydumper", "mariabackup", "xtrabackup"]) => Some(Tool::MySql),
            _ if is(&["mongo"]) => Some(Tool::Mongo),
            _ if is(&["redis-", "valkey-"]) => Some(Tool::Redis),
            _ if is(&["sqlcmd", "bcp"]) => Some(Tool::SqlServer),
            _ => None,
        }
    }
}

/// Masks within one word of a command line; `tool` is the last one that was named, `mask_next` tells of the next word.
fn redact_word(word: &str, tool: &mut Tool, mask_next: &mut bool) -> String {
    if let Some(named) = Tool::of_word(word) {
        *tool = named;
    }
    if let Some(name) = word.strip_prefix("--") {
        // `--password` of PostgreSQL's tools takes no value; what follows is masked nevertheless.
        *mask_next = !name.contains('=') && !name.starts_with("no-") && (is_secret_name(name) || name == "pass");
        if let Some((name, _)) = name.split_once('=')
            && (is_secret_name(name) || name == "pass")
        {
            return format!("--{name}={MASK}");
        }
    } else if is_assignment_of_secret(word) {
        return format!("{}={MASK}", word.split('=').next().unwrap_or_default());
    } else if let Some(options) = word.strip_prefix('-') {
        match tool {
            Tool::MySql => {
                if let Some(at) = mysql_password_at(options) {
                    return format!("-{}{MASK}", &options[..at]);
                }
            }
            Tool::Mongo => *mask_next = options == "p",
            Tool::Redis => *mask_next = options == "a",
            Tool::SqlServer => *mask_next = options == "P",
            Tool::Other => {}
        }
        let letter = match tool {
            Tool::Mongo => "p",
            Tool::SqlServer => "P",
            _ => return redact_text(word),
        };
        if options.len() > 1 && options.starts_with(letter) {
            return format!("-{letter}{MASK}");
        }
    }
    redact_text(word)
}

/// Returns where the password begins in a cluster of MySQL's short options.
fn mysql_password_at(options: &str) -> Option<usize> {
    let p = options.find('p')?;
    let takes_value = options[..p].contains(MYSQL_VALUE_OPTIONS) || options.starts_with('-');
    (!takes_value && p + 1 < options.len()).then_some(p + 1)
}

/// Masks within an argument that holds several words, such as a script for `sh -c`. Quotes hold a word together.
fn redact_script(script: &str) -> String {
    let mut tool = Tool::Other;
    let mut mask_next = false;
    let mut masked = String::new();
    let text = mask_named_values(script);
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let end = if first.is_whitespace() { rest.find(|c: char| !c.is_whitespace()) } else { word_end(rest) };
        let (piece, later) = rest.split_at(end.unwrap_or(rest.len()));
        if first.is_whitespace() {
            masked.push_str(piece);
        } else if std::mem::take(&mut mask_next) && !piece.starts_with('-') {
            masked.push_str(MASK);
        } else {
            masked.push_str(&redact_word(piece, &mut tool, &mut mask_next));
        }
        rest = later;
    }
    mask_url_passwords(&masked)
}

/// Returns where the first word ends: at white space outside of quotes.
fn word_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            None if c.is_whitespace() => return Some(at),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let keeps_a_file = name.ends_with("file") || name.ends_with("path");
    !keeps_a_file && SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Returns whether all of the argument is `NAME=secret` or `--name=secret`.
fn is_assignment_of_secret(argument: &str) -> bool {
    argument.split_once('=').is_some_and(|(name, _)| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && is_secret_name(name)
    })
}

/// Masks the value of every `name = value` whose name is a secret's, wherever it stands.
fn mask_named_values(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, after) = rest.split_at(equals + 1);
        masked.push_str(before);
        rest = after;
        let name = before[..equals].trim_end();
        let before_name = name.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
        if !is_secret_name(&name[before_name.len()..]) {
            continue;
        }
        let value = rest.trim_start();
        masked.push_str(&rest[..rest.len() - value.len()]);
        masked.push_str(MASK);
        rest = &value[value_end(value)..];
    }
    masked + rest
}

/// Returns where a value ends: at its closing quote, or before white space or what separates values.
fn value_end(value: &str) -> usize {
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let mut escaped = false;
    for (at, c) in value.char_indices().skip(quote.iter().len()) {
        match quote {
            _ if escaped => escaped = false,
            _ if c == '\\' => escaped = true,
            Some(quote) if c == quote => return at + 1,
            None if c.is_whitespace() || matches!(c, '&' | ';' | '\'' | '"') => return at,
            _ => {}
        }
    }
    value.len()
}

/// Masks the password of every `scheme://user:password@`; it ends at the last `@` before white space or a quote, since people
/// forget to escape.
fn mask_url_passwords(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        rest = after;
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"')).unwrap_or(rest.len());
        if let Some(host) = rest[..end].rfind('@')
            && let Some(colon) = rest[..host].find(':')
        {
            masked.push_str(&rest[..=colon]);
            masked.push_str(MASK);
            rest = &rest[host..];
        }
    }
    masked + rest
}

/// Quotes a word for a POSIX shell; control characters become escapes in `$'…'`.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+*".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.contains(char::is_control) {
        let escaped: String = word.chars().map(escape_for_dollar_quotes).collect();
        return format!("$'{escaped}'");
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn escape_for_dollar_quotes(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\'' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argv: &[&str], line: &str) {
        assert_eq!(redact(&argv.iter().map(OsString::from).collect::<Vec<_>>()), line);
    }

    #[test]
    fn arguments_are_quoted_as_for_a_shell() {
        check(
            &["pg_dump", "-Fc", "--file=a b", "it's", "", "$HOME", "a\nb\u{1b}"],
            r"pg_dump -Fc '--file=a b' 'it'\''s' '' '$HOME' $'a\nb\u001b'",
        );
        check(&["psql", "-c", "select * from t where a = 1"], "psql -c 'select * from t where a = 1'");
    }

    #[test]
    fn named_values_are_masked() {
        check(&["x", "--password=hunter2", "--user=me"], "x --password=*** --user=me");
        check(&["x", "--password", "hunter2", "db"], "x --password *** db");
        check(&["x", "--pass=hunter2", "--pass", "hunter2"], "x --pass=*** --pass ***");
        check(&["x", "--password=hunter2 with blanks"], "x --password=***");
        check(&["x", "--api-token=hunter2", "--secret-key=hunter2"], "x --api-token=*** --secret-key=***");
        check(
            &["env", "PGPASSWORD=hunter2", "MYSQL_PWD=hunter2", "AWS_SECRET_ACCESS_KEY=hunter2", "LANG=C"],
            "env PGPASSWORD=*** MYSQL_PWD=*** AWS_SECRET_ACCESS_KEY=*** LANG=C",
        );
        check(&["pg_dump", "--no-password", "db"], "pg_dump --no-password db");
        check(
            &["x", "--password-file=/etc/p", "--passwordfile", "/etc/p"],
            "x --password-file=/etc/p --passwordfile /etc/p",
        );
    }

    #[test]
    fn connection_strings_and_urls_are_masked() {
        check(&["pg_dump", "host=db password=hunter2 dbname=app"], "pg_dump 'host=db password=*** dbname=app'");
        check(&["pg_dump", "host=db password = 'hun ter\\'2' user=me"], "pg_dump 'host=db password = *** user=me'");
        check(&["pg_dump", "postgres://me:hunter2@db/app"], "pg_dump postgres://me:***@db/app");
        check(
            &["pg_dump", "--dbname=postgres://me:hun/t@r2@db:5432/app"],
            "pg_dump --dbname=postgres://me:***@db:5432/app",
        );
        check(
            &["pg_dump", "postgresql://db/app?user=me&password=hunter2&x=1"],
            "pg_dump 'postgresql://db/app?user=me&password=***&x=1'",
        );
        check(&["pg_dump", "postgres://me@db:5432/app"], "pg_dump postgres://me@db:5432/app");
    }

    #[test]
    fn short_options_of_known_tools_are_masked() {
        check(&["mysqldump", "-uroot", "-phunter2", "app"], "mysqldump -uroot -p*** app");
        check(&["/usr/bin/mariadb-dump", "-vphunter2", "-p", "app"], "/usr/bin/mariadb-dump -vp*** -p app");
        check(&["mysqldump", "-upeter", "-happ-db"], "mysqldump -upeter -happ-db");
        check(&["docker", "exec", "db", "mysqldump", "-phunter2"], "docker exec db mysqldump -p***");
        check(&["mongodump", "-u", "me", "-p", "hunter2", "--archive"], "mongodump -u me -p *** --archive");
        check(&["redis-cli", "-a", "hunter2", "--rdb", "-"], "redis-cli -a *** --rdb -");
        check(&["sqlcmd", "-Phunter2"], "sqlcmd -P***");
        check(&["pg_dump", "-p5432", "-p", "5432"], "pg_dump -p5432 -p 5432");
    }

    #[test]
    fn scripts_are_masked_within() {
        check(&["sh", "-c", "PGPASSWORD=hunter2 pg_dump app"], "sh -c 'PGPASSWORD=*** pg_dump app'");
        check(&["sh", "-c", "mysqldump -p'hunter 2' app | cat"], "sh -c 'mysqldump -p*** app | cat'");
        check(&["sh", "-c", "mongodump -p hunter2\n"], "sh -c $'mongodump -p ***\\n'");
        check(&["sh", "-c", "pg_dump \"postgres://me:hunter2@db\" >x"], "sh -c 'pg_dump \"postgres://me:***@db\" >x'");
        check(&["sh", "-c", "tool --password 'hunter 2' -x"], "sh -c 'tool --password *** -x'");
    }

    #[test]
    fn no_form_of_a_secret_is_left_over() {
        for form in
            ["--password=S", "PGPASSWORD=S", "password='S'", "postgres://u:S@h", "é=1 password=S", "…password=S"]
        {
            for argument in [form.to_owned(), format!("a {form} b"), format!("\"{form}\""), format!("x;{form}")] {
                let secret = argument.replace("=S", "=hunter2").replace("='S", "='hunter2").replace(":S", ":hunter2");
                let line = redact(&[OsString::from("tool"), OsString::from(&secret)]);
                assert!(!line.contains("hunter2"), "{secret}: {line}");
            }
        }
    }
}
