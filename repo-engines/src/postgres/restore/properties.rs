//! What a database itself is like: how it is made, and what is put on it when it is filled.

use super::contents::Properties;
use crate::postgres::sql;

/// Settings that are lists of names; the server stores them as a list, and not as a text.
const LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Returns the statement that makes a database like the one that was dumped, empty.
pub(super) fn create(name: &str, like: &Properties) -> String {
    let mut statement = format!("CREATE DATABASE {} TEMPLATE template0", sql::name(name));
    let mut add = |option: &str, value: Option<&String>| {
        if let Some(value) = value {
            statement.push_str(&format!(" {option} {}", sql::text(value)));
        }
    };
    add("ENCODING", like.encoding.as_ref());
    add("LC_COLLATE", like.collate.as_ref());
    add("LC_CTYPE", like.ctype.as_ref());
    // PostgreSQL 15 and later; `c` is what there was before, and the default.
    match like.locale_provider.as_deref() {
        Some("i") => {
            statement.push_str(" LOCALE_PROVIDER icu");
            if let Some(locale) = &like.locale {
                statement.push_str(&format!(" ICU_LOCALE {}", sql::text(locale)));
            }
            // PostgreSQL 16 and later.
            if let Some(rules) = &like.icu_rules {
                statement.push_str(&format!(" ICU_RULES {}", sql::text(rules)));
            }
        }
        Some("b") => {
            statement.push_str(" LOCALE_PROVIDER builtin");
            if let Some(locale) = &like.locale {
                statement.push_str(&format!(" BUILTIN_LOCALE {}", sql::text(locale)));
            }
        }
        _ => {}
    }
    statement
}

/// Which properties are put on a database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) owner: bool,
    pub(super) privileges: bool,
}

/// Returns the statements that put a database's properties on it, but for its comment. The owner comes last: whoever gives a
/// database away may change nothing of it.
pub(super) fn put_on(name: &str, like: &Properties, wanted: Wanted) -> Vec<String> {
    let database = format!("DATABASE {}", sql::name(name));
    let mut statements = Vec::new();
    if let Some(connections_max) = like.connections_max.filter(|max| *max >= 0) {
        statements.push(format!("ALTER {database} CONNECTION LIMIT {connections_max}"));
    }
    for of_role in like.settings.iter().flatten() {
        let on = match &of_role.role {
            Some(role) if wanted.owner => format!("ALTER ROLE {} IN {database}", sql::name(role)),
            Some(_) => continue,
            None => format!("ALTER {database}"),
        };
        statements.extend(of_role.settings.iter().filter_map(|setting| set(&on, setting)));
    }
    if let (Some(privileges), true) = (&like.privileges, wanted.privileges) {
        // With the owner's own, which are listed too, and are given anew by the new owner.
        statements.push(format!("REVOKE ALL ON {database} FROM PUBLIC"));
        statements.extend(privileges.iter().filter_map(|item| grant(&database, item)).flatten());
    }
    if let (Some(owner), true) = (&like.owner, wanted.owner) {
        statements.push(format!("ALTER {database} OWNER TO {}", sql::name(owner)));
    }
    statements
}

/// Returns the roles that a database's properties name.
pub(super) fn roles(like: &Properties, wanted: Wanted) -> Vec<String> {
    let mut roles = Vec::new();
    if wanted.owner {
        roles.extend(like.owner.clone());
        roles.extend(like.settings.iter().flatten().filter_map(|of_role| of_role.role.clone()));
    }
    if wanted.privileges {
        let of_item = |item: &String| Some(privileges_of(item)?.role).filter(|role| !role.is_empty());
        roles.extend(like.privileges.iter().flatten().filter_map(of_item));
    }
    roles
}

fn set(on: &str, setting: &str) -> Option<String> {
    let (key, value) = setting.split_once('=')?;
    // A setting of an extension has a dot in its name; each side is a name.
    let key_quoted = key.split('.').map(sql::name).collect::<Vec<_>>().join(".");
    let value = match LISTS.contains(&key.to_lowercase().as_str()) {
        true => sql::names(value).iter().map(|name| sql::text(name)).collect::<Vec<_>>().join(", "),
        false => sql::text(value),
    };
    Some(format!("{on} SET {key_quoted} TO {}", if value.is_empty() { "''" } else { &value }))
}

/// `ROLE=PRIVILEGES/GRANTOR`, PostgreSQL manual, "Privileges".
struct Item {
    /// Empty stands for everybody.
    role: String,
    /// A letter each, with a star where it may be passed on.
    letters: String,
}

fn privileges_of(item: &str) -> Option<Item> {
    let (role, rest) = match item.strip_prefix('"') {
        Some(quoted) => {
            let end = (0..quoted.len())
                .filter(|at| quoted.is_char_boundary(*at))
                .find(|at| quoted[*at..].starts_with("\"="))?;
            (quoted[..end].replace("\"\"", "\""), &quoted[end + 2..])
        }
        None => item.split_once('=').map(|(role, rest)| (role.to_owned(), rest))?,
    };
    let (letters, _) = rest.split_once('/')?;
    Some(Item { role, letters: letters.to_owned() })
}

fn grant(database: &str, item: &str) -> Option<Vec<String>> {
    let Item { role, letters } = privileges_of(item)?;
    let role = if role.is_empty() { "PUBLIC".to_owned() } else { sql::name(&role) };
    let mut statements = Vec::new();
    let mut letters = letters.chars().peekable();
    while let Some(letter) = letters.next() {
        let privilege = match letter {
            'C' => "CREATE",
            'T' => "TEMPORARY",
            'c' => "CONNECT",
            _ => continue,
        };
        let option = if letters.next_if_eq(&'*').is_some() { " WITH GRANT OPTION" } else { "" };
        statements.push(format!("GRANT {privilege} ON {database} TO {role}{option}"));
    }
    Some(statements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::restore::contents::RoleSettings;

    #[test]
    fn a_databases_properties_become_statements() {
        let like = Properties {
            owner: Some("o'wner".to_owned()),
            connections_max: Some(7),
            privileges: Some(vec!["=T/x".to_owned(), "\"a=\"\"b\"=C*c/x".to_owned(), "x=CTc/x".to_owned()]),
            settings: Some(vec![
                RoleSettings { role: None, settings: vec!["search_path=\"$user\", public".into(), "a.b=c=d'".into()] },
                RoleSettings { role: Some("x".to_owned()), settings: vec!["work_mem=1MB".into()] },
            ]),
            ..Properties::default()
        };
        let all = Wanted { owner: true, privileges: true };
        let expected = [
            "ALTER DATABASE \"d\" CONNECTION LIMIT 7",
            "ALTER DATABASE \"d\" SET \"search_path\" TO '$user', 'public'",
            "ALTER DATABASE \"d\" SET \"a\".\"b\" TO 'c=d'''",
            "ALTER ROLE \"x\" IN DATABASE \"d\" SET \"work_mem\" TO '1MB'",
            "REVOKE ALL ON DATABASE \"d\" FROM PUBLIC",
            "GRANT TEMPORARY ON DATABASE \"d\" TO PUBLIC",
            "GRANT CREATE ON DATABASE \"d\" TO \"a=\"\"b\" WITH GRANT OPTION",
            "GRANT CONNECT ON DATABASE \"d\" TO \"a=\"\"b\"",
            "GRANT CREATE ON DATABASE \"d\" TO \"x\"",
            "GRANT TEMPORARY ON DATABASE \"d\" TO \"x\"",
            "GRANT CONNECT ON DATABASE \"d\" TO \"x\"",
            "ALTER DATABASE \"d\" OWNER TO \"o'wner\"",
        ];
        assert_eq!(put_on("d", &like, all), expected);
        assert_eq!(roles(&like, all), ["o'wner", "x", "a=\"b", "x"]);
        assert_eq!(put_on("d", &like, Wanted { owner: false, privileges: false })[..], expected[..3]);
        let like = Properties {
            encoding: Some("UTF8".into()),
            locale_provider: Some("i".into()),
            locale: Some("de".into()),
            icu_rules: Some("&a < g".into()),
            ..like
        };
        let expected = "CREATE DATABASE \"d\" TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&a < g'";
        assert_eq!(create("d", &like), expected);
    }
}
