//! `dedump restore --to NAME=URL --to NAME=URL`: puts several sources of one snapshot back.

use super::RestoreArgs;
use super::clickhouse::{self, ToClickHouse};
use super::database::{self, ToPostgres};
use super::mongodb::{self, ToMongo};
use super::mysql::{self, ToMysql};
use super::redis::{self, Target, ToRedis};
use super::sqlite::{self, ToSqlite};
use super::way::{Way, several};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::sources;
use std::ffi::OsString;
use std::path::Path;

/// Splits `NAME=URL`; `None` if it is none.
pub fn named(to: &Path) -> Option<(&str, &str)> {
    let (name, url) = to.to_str()?.split_once('=')?;
    (!name.is_empty() && !name.contains([':', '/']) && way_of(url).is_some()).then_some((name, url))
}

/// Runs it.
pub fn run(context: &Context, args: &RestoreArgs) -> Outcome {
    if let Some(flag) = alone(args) {
        return Err(Failure::usage(format!("{flag} is for one source; leave it out, or restore that source alone")));
    }
    let mut ways: Vec<(String, Box<dyn Way>)> = Vec::new();
    let urls: Vec<OsString> = args.to.iter().map(|to| to.as_os_str().to_owned()).collect();
    sources::check_passwords(args.database.client(), &urls)?;
    for to in &args.to {
        let (name, url) = named(to).ok_or_else(|| {
            Failure::usage(format!(
                "what is {to:?}? each of several is NAME=URL, with the source's name and the URL of a database"
            ))
        })?;
        if ways.iter().any(|(other, _)| other == name) {
            return Err(Failure::usage(format!("{name} would be restored twice")));
        }
        let make = way_of(url).expect("its name was split off");
        ways.push((name.to_owned(), make(args, url)?));
    }
    several(context, args, ways)
}

/// Makes the way to a URL.
type Make = fn(&RestoreArgs, &str) -> Result<Box<dyn Way>, Failure>;

fn way_of(url: &str) -> Option<Make> {
    let path = Path::new(url);
    if database::url(path).is_some() {
        return Some(|args, url| Ok(Box::new(ToPostgres::new(args, url)?)));
    }
    if sqlite::url(path).is_some() {
        return Some(|args, url| Ok(Box::new(ToSqlite::new(args, url)?)));
    }
    if mongodb::url(path).is_some() {
        return Some(|args, url| Ok(Box::new(ToMongo::new(args, url)?)));
    }
    if mysql::url(path).is_some() {
        return Some(|args, url| Ok(Box::new(ToMysql::new(args, url)?)));
    }
    if clickhouse::url(path).is_some() {
        return Some(|args, url| Ok(Box::new(ToClickHouse::new(args, url)?)));
    }
    match redis::target(path) {
        Some(Target::Server(_)) => Some(|args, url| Ok(Box::new(ToRedis::new(args, url)?))),
        _ => None,
    }
}

/// Returns the first flag that was given and means one source, or no database.
fn alone(args: &RestoreArgs) -> Option<&'static str> {
    let given = [
        ("--stream", !args.streams.is_empty()),
        ("--only", args.only.is_some()),
        ("--force", args.force),
        ("--keep-going", args.keep_going),
    ];
    let first = given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag);
    first.or_else(|| args.database.first_of_one()).or_else(|| args.tree.first_given())
}
