//! Gives definitions other names: in their SQL, by a lexer, where a table is meant and nowhere else.

use crate::clickhouse::schema::{Kind, Object};
use crate::clickhouse::sql::{self, Piece, Token};
use std::collections::{BTreeMap, BTreeSet};

/// Where a table keeps its parts' names if the path that it had would not be its own any more.
const OWN_PATH: &str = "'/clickhouse/tables/{uuid}/{shard}', '{replica}'";

/// Which names change, and which tables are known by them.
#[derive(Debug, Default)]
pub(super) struct Names {
    databases: BTreeMap<String, String>,
    known: BTreeSet<(String, String)>,
    /// Whether replicated tables become such as need no Keeper.
    pub unreplicated: bool,
}

impl Names {
    pub fn new(objects: &[Object], databases: BTreeMap<String, String>, unreplicated: bool) -> Self {
        let known = objects.iter().filter(|object| object.kind == Kind::Table).map(Object::key).collect();
        Names { databases, known, unreplicated }
    }

    /// Returns what a database is called now.
    pub fn database(&self, name: &str) -> String {
        self.databases.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// Returns the known tables that a definition names, itself left out.
    pub fn named(&self, object: &Object) -> BTreeSet<(String, String)> {
        let mut found: BTreeSet<_> = self.places(object).into_iter().map(|place| place.table).collect();
        found.remove(&object.key());
        found
    }

    /// Returns the statement that makes the object under another name; all that it names comes with the names of today.
    pub fn create(&self, object: &Object, to: (&str, &str), is_aside: bool) -> String {
        let pieces = sql::pieces(&object.create);
        let mut written: Vec<String> = pieces.iter().map(|piece| piece.written.to_owned()).collect();
        for place in self.places(object) {
            let database = self.database(&place.table.0);
            written[place.at] = match &pieces[place.at].token {
                Token::Text(_) if place.is_whole => sql::text(&format!("{database}.{}", place.table.1)),
                Token::Text(_) => sql::text(&database),
                _ => sql::name(&database),
            };
        }
        for at in self.databases_alone(object, &pieces) {
            if let Token::Text(text) | Token::Name { text, .. } = &pieces[at].token {
                written[at] = sql::text(&self.database(text));
            }
        }
        // The first name is its own.
        if let Some((first, last)) = own_name(object, &pieces) {
            written[first] = if object.kind == Kind::Table { sql::table(to.0, to.1) } else { sql::name(to.1) };
            written[first + 1..=last].iter_mut().for_each(String::clear);
        }
        if self.unreplicated || is_aside || (to.0, to.1) != (&object.database, &object.name) {
            self.own_path(&pieces, &mut written);
        }
        written.concat()
    }

    /// Returns the statement that makes a database.
    pub fn create_database(&self, object: &Object) -> String {
        let name = sql::name(&self.database(&object.name));
        let pieces = sql::pieces(&object.create);
        let engine = words(&pieces).windows(2).find(|pair| is_word(&pieces[pair[0]], "ENGINE")).map(|pair| pair[0]);
        let rest: String =
            engine.map_or_else(String::new, |at| pieces[at..].iter().map(|piece| piece.written).collect());
        let is_usual = ["Atomic", "Ordinary", "Overlay"].iter().any(|usual| rest.contains(usual));
        let is_replicated = rest.contains("Replicated(") && self.unreplicated;
        // Of the usual ones each version has its own.
        match is_usual || is_replicated || rest.is_empty() {
            true => format!("CREATE DATABASE IF NOT EXISTS {name}"),
            false => format!("CREATE DATABASE IF NOT EXISTS {name} {rest}"),
        }
    }

    /// Finds where tables that are known are named.
    fn places(&self, object: &Object) -> Vec<Place> {
        let pieces = sql::pieces(&object.create);
        let words = words(&pieces);
        let mut places = Vec::new();
        let own_end = own_name(object, &pieces).map_or(0, |(_, last)| last);
        for (number, at) in words.iter().copied().enumerate().filter(|(_, at)| *at > own_end) {
            let is_after_dot = number > 0 && pieces[words[number - 1]].token == Token::Mark('.');
            let next = |n: usize| words.get(number + n).map(|at| &pieces[*at].token);
            match &pieces[at].token {
                Token::Name { text: database, .. } if !is_after_dot && next(1) == Some(&Token::Mark('.')) => {
                    if let Some(Token::Name { text: table, .. }) = next(2) {
                        self.push(&mut places, at, (database, table), false);
                    }
                }
                Token::Text(text) if number >= 2 && next_is_call(&pieces, &words, number) => {
                    if let Some((database, table)) = text.split_once('.') {
                        self.push(&mut places, at, (database, table), true);
                    }
                }
                _ => {}
            }
        }
        self.push_engine(&mut places, &pieces, &words);
        places
    }

    fn push(&self, places: &mut Vec<Place>, at: usize, (database, table): (&str, &str), is_whole: bool) {
        let table = (database.to_owned(), table.to_owned());
        if self.known.contains(&table) {
            places.push(Place { at, table, is_whole });
        }
    }

    /// Finds the table in `Buffer(database, table)`, `Distributed(cluster, database, table)`, and `DB 'x' TABLE 'y'` of a dictionary.
    fn push_engine(&self, places: &mut Vec<Place>, pieces: &[Piece<'_>], words: &[usize]) {
        for (number, at) in words.iter().enumerate() {
            let Token::Name { text, .. } = &pieces[*at].token else { continue };
            let skipped = match text.as_str() {
                "Buffer" | "Alias" => 2,
                "Distributed" => 4,
                _ => continue,
            };
            let value = |n: usize| {
                let at = *words.get(number + n)?;
                match &pieces[at].token {
                    Token::Text(text) | Token::Name { text, .. } => Some((at, text.as_str())),
                    _ => None,
                }
            };
            if let (Some((at, database)), Some((_, table))) = (value(skipped), value(skipped + 2)) {
                self.push(places, at, (database, table), false);
            }
        }
        let after = |word: &str| {
            let pair = words.windows(2).find(|pair| is_word(&pieces[pair[0]], word))?;
            match &pieces[pair[1]].token {
                Token::Text(text) | Token::Name { text, .. } => Some((pair[1], text.as_str())),
                _ => None,
            }
        };
        if let (Some((at, database)), Some((_, table))) = (after("DB"), after("TABLE")) {
            self.push(places, at, (database, table), false);
        }
    }

    /// Finds where a database is named without a table: `Merge(database, …)`.
    fn databases_alone(&self, object: &Object, pieces: &[Piece<'_>]) -> Vec<usize> {
        let words = words(pieces);
        let is_merge = |triple: &&[usize]| {
            is_word(&pieces[triple[0]], "Merge")
                && pieces[triple[1]].token == Token::Mark('(')
                && object.engine == "Merge"
        };
        let found = words.windows(3).filter(is_merge).map(|triple| triple[2]);
        let is_changed = |at: &usize| match &pieces[*at].token {
            Token::Text(text) | Token::Name { text, .. } => self.databases.contains_key(text),
            _ => false,
        };
        found.filter(is_changed).collect()
    }

    /// Gives a replicated table a path of its own, or makes it one that is not replicated.
    fn own_path(&self, pieces: &[Piece<'_>], written: &mut [String]) {
        let words = words(pieces);
        let is_engine = |at: &usize| match &pieces[*at].token {
            Token::Name { text, is_quoted: false } => text.starts_with("Replicated") && text.ends_with("MergeTree"),
            _ => false,
        };
        let is_after_engine = |number: usize| {
            number >= 2
                && is_word(&pieces[words[number - 2]], "ENGINE")
                && pieces[words[number - 1]].token == Token::Mark('=')
        };
        let Some(number) = (0..words.len()).find(|number| is_engine(&words[*number]) && is_after_engine(*number))
        else {
            return;
        };
        if self.unreplicated {
            written[words[number]] = written[words[number]].replacen("Replicated", "", 1);
        }
        // ( 'path' , 'replica' , …
        let tokens: Vec<&Token> = words[number + 1..].iter().take(5).map(|at| &pieces[*at].token).collect();
        let [Token::Mark('('), Token::Text(_), Token::Mark(','), Token::Text(_), after] = tokens[..] else { return };
        let at = |n: usize| words[number + n];
        (at(2)..=at(4)).for_each(|at| written[at].clear());
        if !self.unreplicated {
            written[at(2)] = OWN_PATH.to_owned();
        } else if *after == Token::Mark(',') {
            written[at(5)].clear();
        }
    }
}

/// Where a table is named.
struct Place {
    /// The piece with the database's name.
    at: usize,
    table: (String, String),
    /// Whether the piece has the table's name as well.
    is_whole: bool,
}

/// Returns which pieces are no white space.
fn words(pieces: &[Piece<'_>]) -> Vec<usize> {
    (0..pieces.len()).filter(|at| pieces[*at].token != Token::Space).collect()
}

fn is_word(piece: &Piece<'_>, word: &str) -> bool {
    matches!(&piece.token, Token::Name { text, is_quoted: false } if text.eq_ignore_ascii_case(word))
}

/// Returns the first and the last piece of the object's own name.
fn own_name(object: &Object, pieces: &[Piece<'_>]) -> Option<(usize, usize)> {
    let words = words(pieces);
    if object.kind == Kind::Table {
        let is_own = |triple: &&[usize]| pieces[triple[1]].token == Token::Mark('.');
        return words.windows(3).find(is_own).map(|triple| (triple[0], triple[2]));
    }
    let is_name = |at: &&usize| matches!(&pieces[**at].token, Token::Name { text, .. } if *text == object.name);
    words.iter().skip(1).find(is_name).map(|at| (*at, *at))
}

/// Returns whether a text is the first thing that a function of dictionaries or of `Join` tables is given.
fn next_is_call(pieces: &[Piece<'_>], words: &[usize], number: usize) -> bool {
    let Token::Name { text, .. } = &pieces[words[number - 2]].token else { return false };
    let text = text.to_lowercase();
    let is_one = text.starts_with("dict") || text.starts_with("joinget");
    is_one && pieces[words[number - 1]].token == Token::Mark('(')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, engine: &str, create: &str) -> Object {
        let line =
            serde_json::json!({ "kind": "table", "database": "d", "name": name, "engine": engine, "create": create });
        serde_json::from_value(line).expect("an object")
    }

    #[test]
    fn names_change_where_a_table_is_meant_and_nowhere_else() {
        let others = ["t", "u", "dict"].map(|name| object(name, "MergeTree", ""));
        let names = Names::new(&others, BTreeMap::from([("d".to_owned(), "e f".to_owned())]), false);
        let check = |engine: &str, create: &str, wanted: &str| {
            assert_eq!(names.create(&object("v", engine, create), ("e f", "v"), false), wanted);
        };
        check(
            "View",
            "CREATE VIEW d.v AS SELECT d.a, 'd.t', dictGet('d.dict', 'x', a), `d`.`t`.b /* d.t */ FROM d.t AS d JOIN x.t ON 1",
            "CREATE VIEW `e f`.`v` AS SELECT d.a, 'd.t', dictGet('e f.dict', 'x', a), `e f`.`t`.b /* d.t */ FROM `e f`.t AS d JOIN x.t ON 1",
        );
        check(
            "Distributed",
            "CREATE TABLE d.v (a Int8) ENGINE = Distributed('d', 'd', 't', rand())",
            "CREATE TABLE `e f`.`v` (a Int8) ENGINE = Distributed('d', 'e f', 't', rand())",
        );
        check(
            "Dictionary",
            "CREATE DICTIONARY d.v (`a` UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(DB 'd' TABLE 't')) LAYOUT(FLAT())",
            "CREATE DICTIONARY `e f`.`v` (`a` UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(DB 'e f' TABLE 't')) LAYOUT(FLAT())",
        );
        check(
            "Merge",
            "CREATE TABLE d.v (a Int8) ENGINE = Merge('d', '^t')",
            "CREATE TABLE `e f`.`v` (a Int8) ENGINE = Merge('e f', '^t')",
        );
    }

    #[test]
    fn a_replicated_table_gets_a_path_of_its_own_or_none() {
        let sql = "CREATE TABLE d.t (a Int8) ENGINE = ReplicatedReplacingMergeTree('/x/{shard}/t', '{replica}', a) ORDER BY a";
        let table = object("t", "ReplicatedReplacingMergeTree", sql);
        let names = Names::new(std::slice::from_ref(&table), BTreeMap::new(), false);
        assert_eq!(names.create(&table, ("d", "t"), false), sql.replacen("d.t", "`d`.`t`", 1));
        let aside = names.create(&table, ("d", "t2"), true);
        assert!(
            aside.contains("ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', a)"),
            "{aside}"
        );
        let names = Names { unreplicated: true, ..names };
        let plain = names.create(&table, ("d", "t"), false);
        assert!(plain.contains("ENGINE = ReplacingMergeTree( a) ORDER BY a"), "{plain}");
    }
}
