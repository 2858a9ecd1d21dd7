//! What an account may see. It is told nothing of what it may not: triggers, routines and whole tables are missing from what the
//! tool dumps, and the tool succeeds all the same. So what it was granted is compared with what a whole dump needs.

use super::client::{Flavour, Version};
use super::text;
use std::collections::BTreeSet;

/// What `SHOW GRANTS` says of an account.
#[derive(Debug, Default)]
pub(super) struct Grants {
    grants: Vec<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    /// Taken away again, as MySQL can for single databases.
    is_revoke: bool,
    privileges: BTreeSet<String>,
    on: On,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum On {
    Everything,
    /// A pattern of databases' names, as `LIKE` has it.
    Databases(String),
    /// One table.
    Table(String, String),
}

/// What an account lacks for a whole dump of a database.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) select: bool,
    pub(super) views: bool,
    pub(super) triggers: bool,
    pub(super) events: bool,
    pub(super) routines: bool,
}

impl Grants {
    /// Reads lines of `SHOW GRANTS`. Lines that are not understood grant nothing.
    pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Grants {
        Grants { grants: lines.filter_map(grant).collect() }
    }

    /// Returns whether the account has a privilege everywhere.
    pub(super) fn has_everywhere(&self, privileges: &[&str]) -> bool {
        self.grants.iter().any(|grant| !grant.is_revoke && grant.on == On::Everything && grant.has(privileges))
    }

    /// Returns whether the account is told of every database.
    pub(super) fn sees_all_databases(&self) -> bool {
        self.has_everywhere(&["SHOW DATABASES", "SELECT"])
    }

    /// Returns whether the account has one of the privileges on all of a database.
    fn has_on(&self, database: &str, privileges: &[&str]) -> bool {
        let is_of = |grant: &&Grant| match &grant.on {
            On::Databases(pattern) => is_like(database, pattern),
            _ => false,
        };
        if self.grants.iter().filter(|grant| !grant.is_revoke).filter(is_of).any(|grant| grant.has(privileges)) {
            return true;
        }
        let is_revoked =
            self.grants.iter().filter(|grant| grant.is_revoke).filter(is_of).any(|grant| grant.has(privileges));
        !is_revoked && self.has_everywhere(privileges)
    }

    fn has_on_table(&self, database: &str, table: &str, privileges: &[&str]) -> bool {
        let is_of = |grant: &&Grant| grant.on == On::Table(database.to_owned(), table.to_owned());
        self.has_on(database, privileges) || self.grants.iter().filter(is_of).any(|grant| grant.has(privileges))
    }

    /// Returns what the account lacks to see all of a database of a server of this version.
    pub(super) fn lacking(&self, database: &str, server: Flavour, version: Version) -> Lacking {
        let has = |privileges: &[&str]| self.has_on(database, privileges);
        let sees_routines = match server {
            Flavour::MariaDb => {
                // Before there was such a privilege, all privileges on a database did not show others' routines.
                version >= (11, 3, 0) && has(&["SHOW CREATE ROUTINE"])
                    || self.has_on_table("mysql", "proc", &["SELECT"])
            }
            Flavour::MySql => {
                self.has_everywhere(&["SHOW_ROUTINE", "SELECT"]) || self.has_on_table("mysql", "proc", &["SELECT"])
            }
        };
        Lacking {
            select: !has(&["SELECT"]),
            views: !has(&["SHOW VIEW"]),
            triggers: !has(&["TRIGGER"]),
            events: !has(&["EVENT"]),
            routines: !sees_routines,
        }
    }
}

impl Grant {
    fn has(&self, privileges: &[&str]) -> bool {
        self.privileges.contains("ALL PRIVILEGES") || privileges.iter().any(|one| self.privileges.contains(*one))
    }
}

impl Lacking {
    /// Returns whether nothing is lacking.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Lacking::default()
    }

    /// Returns what is to be granted, for people.
    pub(super) fn statements(&self, database: &str, user: &str, server: Flavour) -> String {
        let named =
            [(self.select, "SELECT"), (self.views, "SHOW VIEW"), (self.triggers, "TRIGGER"), (self.events, "EVENT")];
        let named: Vec<&str> = named.iter().filter(|(lacks, _)| *lacks).map(|(_, name)| *name).collect();
        let mut statements = Vec::new();
        if !named.is_empty() {
            statements.push(format!("GRANT {} ON {}.* TO {user}", named.join(", "), text::name(database)));
        }
        if self.routines {
            statements.push(match server {
                Flavour::MariaDb => format!("GRANT SELECT ON mysql.proc TO {user}"),
                Flavour::MySql => format!("GRANT SHOW_ROUTINE ON *.* TO {user}"),
            });
        }
        statements.join("; ")
    }
}

/// Reads a line: `` GRANT SELECT, SHOW VIEW ON `app`.* TO … ``.
fn grant(line: &str) -> Option<Grant> {
    let (is_revoke, rest) = match line.strip_prefix("GRANT ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("REVOKE ")?),
    };
    // A role is granted without ON; what it has stands in lines of its own.
    let (privileges, rest) = rest.split_once(" ON ")?;
    // Those of single columns show nothing of a whole table.
    let privileges = without_columns(privileges).split(',').map(|one| one.trim().to_uppercase()).collect();
    let on = if rest.starts_with("*.*") {
        On::Everything
    } else {
        let (database, rest) = text::quoted(rest.as_bytes())?;
        match rest.strip_prefix(b".")? {
            rest if rest.starts_with(b"*") => On::Databases(database),
            rest => On::Table(unescaped(&database), text::quoted(rest)?.0),
        }
    };
    Some(Grant { is_revoke, privileges, on })
}

/// Takes privileges out that hold for columns: `` SELECT (`a`, `b`) ``.
fn without_columns(privileges: &str) -> String {
    let (mut kept, mut depth, mut one) = (Vec::new(), 0, String::new());
    let mut of_columns = false;
    for c in privileges.chars().chain([',']) {
        match c {
            '(' => (depth, of_columns) = (depth + 1, true),
            ')' => depth -= 1,
            ',' if depth == 0 => {
                if !std::mem::take(&mut of_columns) {
                    kept.push(one.clone());
                }
                one.clear();
            }
            c if depth == 0 => one.push(c),
            _ => {}
        }
    }
    kept.join(",")
}

fn unescaped(pattern: &str) -> String {
    pattern.replace("\\_", "_").replace("\\%", "%")
}

/// Returns whether a name matches a pattern of `LIKE`'s.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut pattern_rest = pattern.chars();
    match pattern_rest.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = pattern_rest.as_str();
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| is_like(&name[at..], rest))
        }
        Some(c) => {
            let wanted = if c == '\\' { pattern_rest.next() } else { Some(c) };
            let mut name = name.chars();
            let found = name.next();
            let is_any = c == '_' && found.is_some();
            (is_any || found.is_some() && found == wanted) && is_like(name.as_str(), pattern_rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(lines: &[&str], server: Flavour) -> Lacking {
        Grants::parse(lines.iter().copied()).lacking("app_x", server, (10, 11, 19))
    }

    #[test]
    fn what_is_granted_is_told_from_what_is_not() {
        let whole = "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON `app\\_x`.* TO `me`@`%`";
        let proc = "GRANT SELECT ON `mysql`.`proc` TO `me`@`%`";
        assert!(lacking(&[whole, proc], Flavour::MariaDb).is_nothing());
        let routines = Lacking { routines: true, ..Lacking::default() };
        assert_eq!(lacking(&[whole], Flavour::MariaDb), routines);
        assert!(
            lacking(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], Flavour::MariaDb)
                .is_nothing()
        );
        assert!(lacking(&["GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO `me`@`%`"], Flavour::MySql).is_nothing());
        let all = Lacking { select: true, views: true, triggers: true, events: true, routines: true };
        for nothing in [
            "GRANT USAGE ON *.* TO `me`@`%` IDENTIFIED BY PASSWORD '*00'",
            "GRANT ALL PRIVILEGES ON `appyx`.* TO `me`@`%`",
            "GRANT ALL PRIVILEGES ON `app`.* TO `me`@`%`",
            "GRANT ALL PRIVILEGES ON `app\\_x`.`t` TO `me`@`%`",
            "GRANT SELECT (`a`, `b`), INSERT (`c`) ON `app\\_x`.* TO `me`@`%`",
            "GRANT `a role` TO `me`@`%`",
        ] {
            assert_eq!(lacking(&[nothing], Flavour::MariaDb), all, "{nothing}");
        }
        let of_database = ["GRANT ALL PRIVILEGES ON `app%`.* TO `me`@`%`"];
        assert_eq!(lacking(&of_database, Flavour::MariaDb), routines);
        let newer = Grants::parse(of_database.into_iter()).lacking("app_x", Flavour::MariaDb, (11, 4, 2));
        assert!(newer.is_nothing());
    }

    #[test]
    fn what_mysql_takes_away_is_lacking() {
        let lines = ["GRANT ALL PRIVILEGES ON *.* TO `me`@`%`", "REVOKE TRIGGER ON `app_x`.* FROM `me`@`%`"];
        assert_eq!(lacking(&lines, Flavour::MySql), Lacking { triggers: true, ..Lacking::default() });
        let other = ["GRANT ALL PRIVILEGES ON *.* TO `me`@`%`", "REVOKE TRIGGER ON `other`.* FROM `me`@`%`"];
        assert!(lacking(&other, Flavour::MySql).is_nothing());
    }

    #[test]
    fn what_lacks_is_named() {
        let lacks = Lacking { triggers: true, routines: true, ..Lacking::default() };
        assert_eq!(
            lacks.statements("app", "`me`@`%`", Flavour::MariaDb),
            "GRANT TRIGGER ON `app`.* TO `me`@`%`; GRANT SELECT ON mysql.proc TO `me`@`%`"
        );
        assert_eq!(
            lacks.statements("app", "m", Flavour::MySql),
            "GRANT TRIGGER ON `app`.* TO m; GRANT SHOW_ROUTINE ON *.* TO m"
        );
    }

    #[test]
    fn patterns_are_those_of_like() {
        for (name, pattern, expected) in [
            ("app", "app", true),
            ("app", "a%", true),
            ("app", "%p%", true),
            ("app", "a_p", true),
            ("a_p", "a\\_p", true),
            ("app", "a\\_p", false),
            ("app", "ap", false),
            ("ap", "app", false),
            ("", "%", true),
        ] {
            assert_eq!(is_like(name, pattern), expected, "{name} like {pattern}");
        }
    }
}
