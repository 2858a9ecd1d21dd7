//! Parts of a dump: which entries of an archive's table of contents a schema or a table is made of.
//!
//! `pg_restore --table` leaves a table's indexes, keys and triggers out, and `--schema` the schema itself. So the entries are
//! chosen here, by what `pg_restore --list --verbose` says of them and their dependencies, and are given with `--use-list`.

use super::contents::TableName;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of entries that have more than one word, or that matter here; the longer ones first.
const KINDS: &[&str] = &[
    "MATERIALIZED VIEW DATA",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH TEMPLATE",
    "TEXT SEARCH PARSER",
    "PUBLICATION TABLES IN SCHEMA",
    "FOREIGN DATA WRAPPER",
    "SEQUENCE OWNED BY",
    "PUBLICATION TABLE",
    "CHECK CONSTRAINT",
    "MATERIALIZED VIEW",
    "STATISTICS DATA",
    "OPERATOR FAMILY",
    "OPERATOR CLASS",
    "SECURITY LABEL",
    "FK CONSTRAINT",
    "ACCESS METHOD",
    "EVENT TRIGGER",
    "FOREIGN TABLE",
    "FOREIGN SERVER",
    "BLOB METADATA",
    "ROW SECURITY",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "USER MAPPING",
    "SEQUENCE SET",
    "DEFAULT ACL",
    "SHELL TYPE",
    "TABLE DATA",
];
/// Kinds that belong to the table that they depend on.
const SATELLITES: &[&str] = &[
    "ACL",
    "CHECK CONSTRAINT",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "MATERIALIZED VIEW DATA",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "STATISTICS DATA",
    "TABLE ATTACH",
    "TABLE DATA",
    "TRIGGER",
];
/// Kinds with rows or columns.
const RELATIONS: &[&str] = &["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"];

/// An entry of a table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: u32,
    line: String,
    kind: String,
    /// Schema, name and owner, as the list has them.
    rest: String,
    needs: Vec<u32>,
}

impl Entry {
    fn is_of_schema(&self, schema: &str) -> bool {
        let is_in = self.rest.strip_prefix(schema).is_some_and(|rest| rest.starts_with(' '));
        let is_it = self.rest.strip_prefix("- ").and_then(|rest| rest.strip_prefix(schema));
        is_in || self.kind == "SCHEMA" && is_it.is_some_and(|rest| rest.starts_with(' '))
    }

    fn is_table(&self, (schema, table): &TableName) -> bool {
        // The data of a table have its name, and where rows were dumped alone, there is nothing else.
        (RELATIONS.contains(&self.kind.as_str()) || self.kind == "TABLE DATA")
            && self.rest.starts_with(&format!("{schema} {table} "))
    }
}

/// What is chosen of a dump.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The list for `pg_restore --use-list`.
    pub(super) list: String,
    /// Names that nothing was found for.
    pub(super) not_found: Vec<String>,
    /// Tables, quoted for people, whose foreign keys lead out of what is chosen and are left out.
    pub(super) left_out: Vec<String>,
    /// The tables that are chosen, with partitions.
    pub(super) tables: Vec<TableName>,
    /// Whether rows or other data are chosen that `database.dump` has.
    pub(super) has_data: bool,
}

/// Chooses schemas and tables, with all that belongs to them; `with_needs`: also what they cannot be made without.
pub(super) fn choose(list: &str, schemas: &[String], tables: &[TableName], with_needs: bool) -> Selection {
    let entries = parse(list);
    let by_id: BTreeMap<u32, &Entry> = entries.iter().map(|entry| (entry.id, entry)).collect();
    let mut selection = Selection::default();
    let mut chosen = BTreeSet::new();
    for schema in schemas {
        let found: Vec<u32> = entries.iter().filter(|entry| entry.is_of_schema(schema)).map(|entry| entry.id).collect();
        if found.is_empty() {
            selection.not_found.push(format!("schema {schema}"));
        }
        chosen.extend(found);
    }
    for table in tables {
        let found: Vec<u32> = entries.iter().filter(|entry| entry.is_table(table)).map(|entry| entry.id).collect();
        if found.is_empty() {
            selection.not_found.push(format!("table {}.{}", table.0, table.1));
        }
        chosen.extend(found);
    }
    add_satellites(&entries, &by_id, &mut chosen);
    leave_out_foreign_keys(&by_id, &mut chosen, &mut selection);
    let is_table = |entry: &&Entry| entry.kind == "TABLE" || entry.kind == "TABLE DATA";
    // Names with a space in them are told by what was asked for.
    let own = |entry: &Entry| {
        let asked = tables.iter().find(|table| entry.is_table(table)).cloned();
        asked.or_else(|| {
            entry.rest.split_once(' ').and_then(|(schema, rest)| Some((schema, rest.rsplit_once(' ')?.0))).map(owned)
        })
    };
    selection.tables =
        entries.iter().filter(is_table).filter(|entry| chosen.contains(&entry.id)).filter_map(own).collect();
    selection.tables.extend(tables.iter().cloned());
    if with_needs {
        add_needs(&by_id, &mut chosen);
    }
    for entry in entries.iter().filter(|entry| chosen.contains(&entry.id)) {
        selection.list.push_str(&entry.line);
        selection.list.push('\n');
        selection.has_data |= matches!(entry.kind.as_str(), "TABLE DATA" | "SEQUENCE SET");
    }
    selection
}

/// Returns a list that has nothing but the rows of a table, if the archive has them.
pub(super) fn rows_of(list: &str, table: &TableName) -> Option<String> {
    let entries = parse(list);
    let entry = entries.iter().find(|entry| entry.kind == "TABLE DATA" && entry.is_table(table))?;
    Some(format!("{}\n", entry.line))
}

fn owned((schema, table): (&str, &str)) -> TableName {
    (schema.to_owned(), table.to_owned())
}

/// Adds what belongs to what is chosen, to partitions of it too.
fn add_satellites(entries: &[Entry], by_id: &BTreeMap<u32, &Entry>, chosen: &mut BTreeSet<u32>) {
    let is = |id: &u32, kind: &str| by_id.get(id).is_some_and(|entry| entry.kind == kind);
    loop {
        let before = chosen.len();
        for entry in entries {
            let belongs = SATELLITES.contains(&entry.kind.as_str()) && entry.needs.iter().any(|id| chosen.contains(id));
            // A sequence belongs to the table whose column is made of it, and not to one that only mentions it.
            let own_kind =
                entry.kind != "SEQUENCE" || entry.needs.iter().any(|id| chosen.contains(id) && is(id, "TABLE"));
            if belongs && own_kind {
                chosen.insert(entry.id);
            }
            if !chosen.contains(&entry.id) {
                continue;
            }
            match entry.kind.as_str() {
                "TABLE ATTACH" => chosen.extend(entry.needs.iter().filter(|id| is(id, "TABLE"))),
                "DEFAULT" | "SEQUENCE OWNED BY" => chosen.extend(entry.needs.iter().filter(|id| is(id, "SEQUENCE"))),
                _ => {}
            }
        }
        if chosen.len() == before {
            break;
        }
    }
}

/// Leaves foreign keys out that lead to tables which are not chosen.
fn leave_out_foreign_keys(by_id: &BTreeMap<u32, &Entry>, chosen: &mut BTreeSet<u32>, selection: &mut Selection) {
    let is_whole = |entry: &Entry| entry.needs.iter().all(|id| chosen.contains(id) || !by_id.contains_key(id));
    let keys = chosen.iter().filter_map(|id| by_id.get(id)).filter(|entry| entry.kind == "FK CONSTRAINT");
    let leads_out: Vec<&Entry> = keys.filter(|entry| !is_whole(entry)).copied().collect();
    for entry in leads_out {
        chosen.remove(&entry.id);
        // The owner is of no interest.
        let words: Vec<_> = entry.rest.split(' ').collect();
        selection.left_out.push(words[..words.len().saturating_sub(1)].join(" "));
    }
}

/// Adds what the chosen entries depend on; of other tables, what they are and not what is in them.
fn add_needs(by_id: &BTreeMap<u32, &Entry>, chosen: &mut BTreeSet<u32>) {
    let mut todo: Vec<u32> = chosen.iter().copied().collect();
    while let Some(id) = todo.pop() {
        for need in by_id.get(&id).map(|entry| entry.needs.as_slice()).unwrap_or_default() {
            if by_id.contains_key(need) && chosen.insert(*need) {
                todo.push(*need);
            }
        }
        // A schema is no dependency in the list, since every entry names its own.
        let schema = by_id.get(&id).and_then(|entry| entry.rest.split(' ').next()).filter(|name| *name != "-");
        let is_schema = |entry: &&&Entry| entry.kind == "SCHEMA" && schema.is_some_and(|name| entry.is_of_schema(name));
        let schemas: Vec<u32> = by_id.values().filter(is_schema).map(|entry| entry.id).collect();
        todo.extend(schemas.into_iter().filter(|id| chosen.insert(*id)));
    }
}

/// Reads `pg_restore --list --verbose`.
fn parse(list: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in list.lines() {
        if let Some(needs) = line.strip_prefix(";\tdepends on:") {
            if let Some(entry) = entries.last_mut() {
                entry.needs.extend(needs.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            }
            continue;
        }
        let Some((id, rest)) = line.split_once("; ") else { continue };
        let Ok(id) = id.parse() else { continue };
        // Two numbers of the catalogue.
        let Some(rest) = rest.splitn(3, ' ').nth(2) else { continue };
        let longer = KINDS.iter().find(|kind| rest.strip_prefix(**kind).is_some_and(|rest| rest.starts_with(' ')));
        let kind = longer.copied().unwrap_or_else(|| rest.split(' ').next().unwrap_or_default());
        let rest = rest[kind.len()..].trim_start().to_owned();
        entries.push(Entry { id, line: line.to_owned(), kind: kind.to_owned(), rest, needs: Vec::new() });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = ";\n; Selected TOC Entries:\n;\n6; 2615 1 SCHEMA - shop me\n7; 2615 2 SCHEMA - shop2 me\n\
        10; 1247 3 TYPE shop mood me\n20; 1259 4 TABLE shop items me\n;\tdepends on: 10\n21; 1259 5 SEQUENCE shop items_id_seq me\n\
        22; 0 0 SEQUENCE OWNED BY shop items_id_seq me\n;\tdepends on: 21\n23; 2604 6 DEFAULT shop items id me\n;\tdepends on: 21 20\n\
        30; 1259 7 TABLE shop2 orders me\n40; 0 4 TABLE DATA shop items me\n;\tdepends on: 20\n41; 0 7 TABLE DATA shop2 orders me\n;\tdepends on: 30\n\
        42; 0 0 SEQUENCE SET shop items_id_seq me\n;\tdepends on: 21\n50; 2606 8 CONSTRAINT shop items items_pkey me\n;\tdepends on: 20\n\
        51; 1259 9 INDEX shop odd me\n;\tdepends on: 20\n60; 2606 10 FK CONSTRAINT shop2 orders orders_fkey me\n;\tdepends on: 30 20 50\n";

    fn ids(selection: &Selection) -> Vec<u32> {
        selection
            .list
            .lines()
            .map(|line| line.split(';').next().unwrap_or_default().parse().expect("a number"))
            .collect()
    }

    fn table(schema: &str, name: &str) -> TableName {
        (schema.to_owned(), name.to_owned())
    }

    #[test]
    fn a_table_comes_with_all_that_belongs_to_it() {
        let chosen = choose(LIST, &[], &[table("shop", "items")], false);
        assert_eq!(ids(&chosen), [20, 21, 22, 23, 40, 42, 50, 51]);
        assert!(chosen.has_data && chosen.not_found.is_empty());
        let chosen = choose(LIST, &[], &[table("shop", "items")], true);
        assert_eq!(ids(&chosen), [6, 10, 20, 21, 22, 23, 40, 42, 50, 51]);
    }

    #[test]
    fn a_foreign_key_that_leads_out_is_left_out_and_told() {
        let chosen = choose(LIST, &["shop2".to_owned()], &[], false);
        assert_eq!((ids(&chosen), chosen.left_out), (vec![7, 30, 41], vec!["shop2 orders orders_fkey".to_owned()]));
        let both = choose(LIST, &["shop2".to_owned(), "shop".to_owned()], &[], false);
        assert_eq!((ids(&both).len(), both.left_out.len()), (14, 0));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let chosen = choose(LIST, &["sho".to_owned()], &[table("shop", "item")], true);
        assert_eq!(chosen.not_found, ["schema sho", "table shop.item"]);
    }
}
