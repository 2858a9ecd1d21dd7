//! Databases put back: one, or several of one snapshot, in the order in which applications need them.
//!
//! Every engine has its own [`Way`] and its own [`Plan`]; what is the same for all is here. All plans are made before anything
//! changes, so what one of them refuses leaves all databases as they are.

use super::RestoreArgs;
use super::confirm::confirm;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::progress::{Meter, Work};
use crate::timings::Route;
use crate::{human, output, time};
use dedump_core::{Repository, Snapshot, async_trait, find};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A source in a snapshot.
pub(super) struct Part<'a> {
    pub repository: &'a Repository,
    pub snapshot: &'a Snapshot,
    /// Its folder: `cache/`, or empty.
    pub prefix: String,
}

/// How a kind of database is put back.
#[async_trait(?Send)]
pub(super) trait Way {
    /// Returns when it has its turn: what others are built on comes first.
    fn turn(&self) -> Turn;
    /// Says what an interruption leaves.
    fn stands(&self) -> &'static str;
    /// Returns the folder of its source in a snapshot.
    fn folder(&self, snapshot: &Snapshot, only: Option<&str>) -> Result<String, Failure>;
    /// Works out what is to be done. Nothing changes.
    async fn plan<'a>(&'a self, part: &'a Part<'a>) -> Result<Box<dyn Plan + 'a>, Failure>;
}

/// When a database is put back among several: those that have an application's truth, what is worked out from them, caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    Postgres,
    Mysql,
    Sqlite,
    Mongo,
    ClickHouse,
    Redis,
}

/// What is to be done.
#[async_trait(?Send)]
pub(super) trait Plan {
    fn facts(&self) -> Facts;
    fn to_text(&self) -> String;
    fn to_json(&self) -> Value;
    /// Does it.
    async fn carry_out(&self, meter: &Meter) -> Result<Done, Failure>;
}

/// What the driver knows of a plan.
pub(super) struct Facts {
    /// Where it goes; whoever says yes to a change types that.
    pub place: String,
    /// What that is timed by: the server's host.
    pub host: String,
    /// Bytes to read.
    pub bytes: u64,
    /// Whether something that is there is replaced or changed.
    pub changes: bool,
}

/// What was done.
pub(super) struct Done {
    pub text: String,
    pub json: Value,
    pub bytes: u64,
    pub warnings: Vec<String>,
    pub problems: Vec<String>,
    pub exit: Exit,
}

impl Part<'_> {
    /// Says how long it will take, from earlier restores.
    pub fn takes(&self, host: &str, bytes: u64) -> Option<String> {
        self.route(&self.repository.id().to_string(), host, |route| route.estimate(bytes))
    }

    /// Says so, or that nobody knows, and then how long the dump took.
    pub fn takes_at_least(&self, host: &str, bytes: u64) -> String {
        self.takes(host, bytes).unwrap_or_else(|| {
            let source = self.prefix.split('/').next().unwrap_or_default();
            let dumped = times(self.snapshot, source).map_or_else(String::new, |(started, ended)| {
                format!("; its dump took {}", human::duration(Duration::from_millis(ended.saturating_sub(started))))
            });
            format!("nobody knows yet: no restore from here to there was timed{dumped}")
        })
    }

    fn note(&self, host: &str, bytes: u64, took: Duration) {
        self.route(&self.repository.id().to_string(), host, |route| route.note(bytes, took));
    }

    fn route<T>(&self, repository: &str, host: &str, with: impl FnOnce(Route<'_>) -> T) -> T {
        with(Route { repository, source: &self.snapshot.record.source, to: host })
    }
}

/// Returns when the dump of a source began and ended, in milliseconds since 1970.
fn times(snapshot: &Snapshot, source: &str) -> Option<(u64, u64)> {
    let fact = |key: &str| snapshot.record.facts.get(&format!("{source}.{key}"))?.parse::<u64>().ok();
    Some((fact("started_ms")?, fact("ended_ms")?))
}

/// Puts one database back.
pub(super) fn one(context: &Context, args: &RestoreArgs, way: &dyn Way) -> Outcome {
    let (planned, done) = context.with_repository(way.stands(), async |repository| {
        let snapshot = &find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let prefix = way.folder(snapshot, args.only.as_deref())?;
        let part = Part { repository: &repository, snapshot, prefix };
        let plan = way.plan(&part).await?;
        let facts = plan.facts();
        if args.is_dry() {
            return Ok((Some((plan.to_json(), plan.to_text())), None));
        }
        if facts.changes && !args.database.yes {
            confirm(plan.to_text().trim_end(), &facts.place).await?;
        }
        let meter = context.started_meter(Work::Restore(facts.bytes));
        Ok((None, Some(carry_out(&*plan, &part, &meter).await?)))
    })?;
    if let Some((json, text)) = planned {
        context.print(|| json, || text)?;
    }
    let Some(done) = done else { return Ok(Exit::Done) };
    complain("", &done);
    context.report(|| done.json, || done.text)?;
    Ok(done.exit)
}

/// Puts several sources of one snapshot back, by their names.
pub(super) fn several(context: &Context, args: &RestoreArgs, mut ways: Vec<(String, Box<dyn Way>)>) -> Outcome {
    ways.sort_by_key(|(_, way)| way.turn());
    let stands = "what was restored before stays, the rest is as it was";
    let (report, exit) = context.with_repository(stands, async |repository| {
        let snapshot = &find(&repository, &args.snapshot, &args.filter.filter()).await?;
        let mut parts = Vec::new();
        for (name, way) in &ways {
            let prefix = way.folder(snapshot, Some(name))?;
            parts.push(Part { repository: &repository, snapshot, prefix });
        }
        let mut plans = Vec::new();
        for ((name, way), part) in ways.iter().zip(&parts) {
            let plan = way.plan(part).await.map_err(|failure| Failure {
                message: format!("{name}: {}; no source was restored", failure.message),
                ..failure
            })?;
            plans.push((name.as_str(), plan, part));
        }
        let skew = Skew::of(snapshot, plans.iter().map(|(name, ..)| *name));
        if args.is_dry() {
            let planned = plans.iter().map(|(name, plan, _)| (*name, plan.to_json(), plan.to_text()));
            return Ok((Report::of(snapshot, skew, planned), Exit::Done));
        }
        if plans.iter().any(|(_, plan, _)| plan.facts().changes) && !args.database.yes {
            let planned = plans.iter().map(|(name, plan, _)| (*name, plan.to_json(), plan.to_text()));
            confirm(Report::of(snapshot, skew, planned).text.trim_end(), &snapshot.id.short()).await?;
        }
        let meter = context.started_meter(Work::Restore(plans.iter().map(|(_, plan, _)| plan.facts().bytes).sum()));
        let mut all: Vec<(&str, Done)> = Vec::new();
        for (number, (name, plan, part)) in plans.iter().enumerate() {
            let done = carry_out(&**plan, part, &meter).await.map_err(|failure| {
                let rest: Vec<&str> = plans[number + 1..].iter().map(|(name, ..)| *name).collect();
                broken_off(name, failure, &all, &rest)
            })?;
            complain(name, &done);
            all.push((name, done));
        }
        let exit = all.iter().map(|(_, done)| done.exit).find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done);
        Ok((Report::of(snapshot, skew, all.into_iter().map(|(name, done)| (name, done.json, done.text))), exit))
    })?;
    let Report { json, text } = report;
    match args.is_dry() {
        true => context.print(|| json, || text)?,
        false => context.report(|| json, || text)?,
    }
    Ok(exit)
}

async fn carry_out(plan: &dyn Plan, part: &Part<'_>, meter: &Meter) -> Result<Done, Failure> {
    let started = Instant::now();
    let done = plan.carry_out(meter).await?;
    part.note(&plan.facts().host, done.bytes, started.elapsed());
    Ok(done)
}

fn complain(name: &str, done: &Done) {
    let named = |line: &String| if name.is_empty() { line.clone() } else { format!("{name}: {line}") };
    done.warnings.iter().for_each(|warning| output::warning(&named(warning)));
    done.problems.iter().for_each(|problem| output::error(&named(problem)));
}

/// Says what failed, and what has become of the others.
fn broken_off(name: &str, failure: Failure, done: &[(&str, Done)], rest: &[&str]) -> Failure {
    let done: Vec<&str> = done.iter().map(|(name, _)| *name).collect();
    let said = [(&done[..], "restored before it"), (rest, "not begun")];
    let said = said.iter().filter(|(names, _)| !names.is_empty());
    let said: String = said.map(|(names, what)| format!("; {what}: {}", names.join(", "))).collect();
    Failure { message: format!("{name}: {}{said}", failure.message), ..failure }
}

/// How far apart in time the sources of a restore were dumped.
#[derive(Clone, Copy)]
struct Skew {
    started_ms: u64,
    ended_ms: u64,
}

impl Skew {
    fn of<'a>(snapshot: &Snapshot, names: impl Iterator<Item = &'a str>) -> Option<Skew> {
        let times: Vec<_> = names.filter_map(|name| times(snapshot, name)).collect();
        let started_ms = times.iter().map(|(started, _)| *started).min()?;
        Some(Skew { started_ms, ended_ms: times.iter().map(|(_, ended)| *ended).max()? })
    }

    fn millis(self) -> u64 {
        self.ended_ms.saturating_sub(self.started_ms)
    }
}

/// What is printed of several.
struct Report {
    json: Value,
    text: String,
}

impl Report {
    fn of<'a>(
        snapshot: &Snapshot,
        skew: Option<Skew>,
        parts: impl Iterator<Item = (&'a str, Value, String)>,
    ) -> Report {
        let mut sources = Vec::new();
        let mut text = String::new();
        for (number, (name, mut json, part)) in parts.enumerate() {
            if let Some(fields) = json.as_object_mut() {
                fields.insert("name".to_owned(), name.into());
            }
            sources.push(json);
            text.push_str(&format!("{}. {}\n", number + 1, human::safe(name)));
            part.lines().for_each(|line| text.push_str(&format!("   {line}\n")));
        }
        if let Some(skew) = skew {
            let at = |ms: u64| i64::try_from(ms).map_or_else(|_| String::new(), time::for_people);
            let apart = human::duration(Duration::from_millis(skew.millis()));
            text.push_str(&format!(
                "dumped one after another within {apart}, from {} on; each is of its own moment\n",
                at(skew.started_ms)
            ));
        }
        let skew_ms = skew.map(Skew::millis);
        Report { json: json!({ "snapshot": snapshot.id.to_string(), "skew_ms": skew_ms, "sources": sources }), text }
    }
}
