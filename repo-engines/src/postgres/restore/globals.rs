//! Roles: those of `globals.sql`, those that are missing on the server, and those that a dump needs.

use crate::postgres::sql::{self, Word};
use dedump_core::{Error, Result};
use std::collections::BTreeSet;

/// Which roles and tablespaces are created before the database is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Globals {
    /// Roles that the server does not have, with their settings and memberships. Roles that it has stay as they are.
    #[default]
    Missing,
    /// Everything is run that was dumped, also for roles that are there: their passwords and settings change.
    All,
    /// None.
    None,
}

/// The statements that are to be run, and the roles that they create.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) created: BTreeSet<String>,
    pub(super) statements: Vec<String>,
}

/// Chooses among the statements of `globals.sql`, for a server that has these roles.
///
/// # Errors
/// [`Error::DumpFailed`]: psql would take something for a command of its own, which no such dump has.
pub(super) fn choose(globals: Globals, dump: &str, there: &BTreeSet<String>) -> Result<Roles> {
    let statements = sql::statements(dump);
    let is_command = |statement: &&String| sql::words(statement, usize::MAX).contains(&Word::Other("\\".to_owned()));
    if let Some(statement) = statements.iter().find(is_command) {
        let begin: String = statement.chars().take(40).collect();
        return Err(Error::DumpFailed(format!(
            "the dump's roles hold a command for psql, so somebody has crafted them: {begin:?}; leave them out with --globals none"
        )));
    }
    let created = |statement: &String| match &sql::words(statement, 3)[..] {
        [create, role, name] if create.is("create") && role.is("role") => name.as_name().map(str::to_owned),
        _ => None,
    };
    let created: BTreeSet<String> =
        statements.iter().filter_map(created).filter(|role| !there.contains(role)).collect();
    Ok(match globals {
        Globals::None => Roles::default(),
        Globals::All => {
            // To create what is there is the one thing that can't be done.
            let is_done = |statement: &&String| match &sql::words(statement, 3)[..] {
                [create, role, name] if create.is("create") && role.is("role") => {
                    name.as_name().is_some_and(|name| there.contains(name))
                }
                _ => false,
            };
            let statements = statements.iter().filter(|statement| !is_done(statement)).cloned().collect();
            Roles { created, statements }
        }
        Globals::Missing => {
            let about = statements.into_iter().filter(|statement| is_about(statement, &created));
            let is_known = |role: &str| there.contains(role) || created.contains(role);
            let statements = about.map(|statement| without_unknown_grantor(statement, &is_known)).collect();
            Roles { created, statements }
        }
    })
}

/// Who granted a membership may be missing here, such as the other server's first user: then it is granted by who restores.
fn without_unknown_grantor(statement: String, is_known: &dyn Fn(&str) -> bool) -> String {
    let Some(at) = statement.rfind(" GRANTED BY ").filter(|_| statement.starts_with("GRANT ")) else {
        return statement;
    };
    match sql::words(&statement[at..], 3).last().and_then(Word::as_name) {
        Some(role) if !is_known(role) => statement[..at].to_owned(),
        _ => statement,
    }
}

/// Returns whether a statement makes, changes, describes or enrols one of these roles.
fn is_about(statement: &str, roles: &BTreeSet<String>) -> bool {
    let words = sql::words(statement, 4);
    let name_at = |at: usize| words.get(at).and_then(Word::as_name).is_some_and(|name| roles.contains(name));
    let begins = |keywords: &[&str]| keywords.iter().zip(&words).all(|(keyword, word)| word.is(keyword));
    match words.len() {
        3.. if begins(&["create", "role"]) || begins(&["alter", "role"]) => name_at(2),
        4.. if begins(&["comment", "on", "role"]) => name_at(3),
        4.. if begins(&["grant"]) && words[2].is("to") => name_at(1) || name_at(3),
        _ => false,
    }
}

/// Returns the roles that a script of `pg_restore` names: owners, those who are granted something, those of policies.
pub(super) fn needed(script: &str) -> BTreeSet<String> {
    let mut roles = BTreeSet::new();
    for statement in sql::statements(script) {
        // The names are at the end of what may be long.
        let words = sql::words(&statement, usize::MAX);
        let [first, ..] = &words[..] else { continue };
        let name_behind = |keywords: &[&str]| {
            let at =
                words.windows(keywords.len()).rposition(|few| few.iter().zip(keywords).all(|(word, key)| word.is(key)));
            at.and_then(|at| words.get(at + keywords.len())).and_then(Word::as_name).map(str::to_owned)
        };
        if first.is("alter") {
            roles.extend(name_behind(&["owner", "to"]));
            roles.extend(name_behind(&["for", "role"]));
        }
        if first.is("grant") || words.iter().any(|word| word.is("grant")) && first.is("alter") {
            roles.extend(
                name_behind(&["to"]).filter(|_| !words.windows(2).any(|two| two[0].is("owner") && two[1].is("to"))),
            );
        } else if first.is("revoke") || words.iter().any(|word| word.is("revoke")) && first.is("alter") {
            roles.extend(name_behind(&["from"]));
        } else if first.is("create") && words.get(1).is_some_and(|word| word.is("policy")) {
            let end = words.iter().position(|word| word.is("using") || word.is("with")).unwrap_or(words.len());
            if let Some(to) = words[..end].iter().position(|word| word.is("to")) {
                roles.extend(words[to + 1..end].iter().filter_map(Word::as_name).map(str::to_owned));
            }
        }
    }
    for no_role in ["public", "current_user", "session_user", "current_role", "pg_database_owner"] {
        roles.remove(no_role);
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "CREATE ROLE a;\nALTER ROLE a WITH LOGIN PASSWORD 'x;y';\nCREATE ROLE \"B c\";\nALTER ROLE \"B c\" SET work_mem TO '1MB';\n\
        COMMENT ON ROLE a IS 'it''s a';\nCOMMENT ON ROLE \"B c\" IS 'no';\nGRANT a TO \"B c\" GRANTED BY postgres;\nGRANT b TO c;\nCREATE TABLESPACE t OWNER a LOCATION '/t';\n";

    fn set(roles: &[&str]) -> BTreeSet<String> {
        roles.iter().map(|role| (*role).to_owned()).collect()
    }

    #[test]
    fn only_missing_roles_are_made_and_nothing_of_others_changes() {
        let roles = choose(Globals::Missing, DUMP, &set(&["B c"])).expect("no command");
        assert_eq!(roles.created, set(&["a"]));
        let expected = [
            "CREATE ROLE a",
            "ALTER ROLE a WITH LOGIN PASSWORD 'x;y'",
            "COMMENT ON ROLE a IS 'it''s a'",
            "GRANT a TO \"B c\"",
        ];
        assert_eq!(roles.statements, expected);
        assert_eq!(choose(Globals::All, DUMP, &set(&["B c"])).expect("no command").statements.len(), 8);
        assert!(choose(Globals::None, DUMP, &set(&[])).expect("no command").statements.is_empty());
    }

    #[test]
    fn a_command_for_psql_is_refused() {
        for crafted in ["CREATE ROLE a \\! touch x\n;", "CREATE ROLE a;\nALTER ROLE a\n\\! touch x\n;"] {
            let error = choose(Globals::All, crafted, &set(&[])).expect_err("crafted").to_string();
            assert!(error.contains("a command for psql"), "{error}");
        }
        choose(Globals::All, "\\restrict a\nALTER ROLE a PASSWORD E'\\!x';", &set(&[])).expect("a text is no command");
    }

    #[test]
    fn the_roles_that_a_dump_needs_are_found() {
        let script = "ALTER TABLE shop.a OWNER TO owner_a;\nALTER TABLE a ALTER COLUMN owner SET DEFAULT 1;\n\
            GRANT SELECT,INSERT ON TABLE a TO \"Reader 1\" WITH GRANT OPTION;\nREVOKE ALL ON SCHEMA public FROM gone;\nGRANT ALL ON SCHEMA public TO PUBLIC;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE boss IN SCHEMA shop GRANT SELECT ON TABLES TO clerk;\n\
            CREATE POLICY p ON a FOR SELECT TO x, \"Y\" USING ((n = 'TO z'::text));\nCREATE POLICY q ON a USING (true);\n\
            CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$GRANT ALL ON a TO nobody;$$;";
        assert_eq!(needed(script), set(&["owner_a", "Reader 1", "gone", "boss", "clerk", "x", "Y"]));
    }
}
