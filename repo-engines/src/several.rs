//! Several sources in one snapshot, each with a verdict of its own.

use dedump_core::{Engine, Error, Result, Sink, Verdict, async_trait, check_stream_name};
use std::time::SystemTime;

/// A source among several: its name, which is the folder of its streams, and its engine.
pub struct Source {
    name: String,
    engine: Box<dyn Engine>,
}

impl Source {
    /// Creates a source.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no stream could lie in a folder of that name.
    pub fn new(name: impl Into<String>, engine: Box<dyn Engine>) -> Result<Self> {
        let name = name.into();
        check_stream_name(&name)?;
        Ok(Source { name, engine })
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Backs up several sources into one snapshot, one after another.
///
/// The streams of each lie in a folder of its name, and its facts begin with it: `app.engine`, `app.started_ms`, `app.ended_ms`
/// and what its engine says. `skew_ms` is the time from the beginning of the first to the end of the last: so far apart may
/// their moments be. A source that fails fails the dump;
/// with [`Several::partial`] it is left out and named among what is missing, unless all fail.
pub struct Several {
    sources: Vec<Source>,
    is_partial: bool,
}

impl Several {
    /// Creates an engine of these sources.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there is none, or two have one name or lie in one another.
    pub fn new(sources: Vec<Source>) -> Result<Self> {
        if sources.is_empty() {
            return Err(Error::Invalid("there is no source to back up".to_owned()));
        }
        for (number, source) in sources.iter().enumerate() {
            let is_in = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
            let clashes = |other: &&Source| is_in(&other.name, &source.name) || is_in(&source.name, &other.name);
            if let Some(other) = sources[..number].iter().find(clashes) {
                return Err(Error::Invalid(format!(
                    "two sources are called {:?} and {:?}; give one another name, as in NAME=SOURCE",
                    other.name, source.name
                )));
            }
        }
        Ok(Several { sources, is_partial: false })
    }

    /// Leaves sources out that fail, instead of failing.
    #[must_use]
    pub fn partial(self, is_partial: bool) -> Self {
        Several { is_partial, ..self }
    }
}

#[async_trait]
impl Engine for Several {
    fn kind(&self) -> &str {
        "several"
    }

    async fn dump(&self, sink: &Sink) -> Result<Verdict> {
        let (mut all, mut good_n) = (Verdict::default(), 0);
        let mut span: Option<(u128, u128)> = None;
        for source in &self.sources {
            let name = &source.name;
            let part = sink.part(name)?;
            let started_ms = now_ms();
            match source.engine.dump(&part).await {
                Ok(verdict) => {
                    add(&mut all, name, verdict);
                    let ended_ms = now_ms();
                    span = Some((span.map_or(started_ms, |(first, _)| first), ended_ms));
                    let times = [("started_ms", started_ms.to_string()), ("ended_ms", ended_ms.to_string())];
                    let facts = times.into_iter().chain([("engine", source.engine.kind().to_owned())]);
                    all.facts.extend(facts.map(|(key, value)| (format!("{name}.{key}"), value)));
                    good_n += 1;
                }
                // Anything else is no source's fault.
                Err(Error::DumpFailed(why)) if self.is_partial => {
                    part.give_up().await?;
                    all.missing.push(format!("source {name} failed: {why}"));
                }
                Err(Error::DumpFailed(why)) => return Err(Error::DumpFailed(format!("source {name}: {why}"))),
                Err(error) => return Err(error),
            }
        }
        if good_n == 0 {
            return Err(Error::DumpFailed(format!("no source could be dumped: {}", all.missing.join("; "))));
        }
        if let Some((started_ms, ended_ms)) = span.filter(|_| good_n > 1) {
            all.facts.insert("skew_ms".to_owned(), ended_ms.saturating_sub(started_ms).to_string());
        }
        Ok(all)
    }
}

fn add(all: &mut Verdict, name: &str, verdict: Verdict) {
    let Verdict { suspicious, missing, warnings, facts } = verdict;
    let named = |line: String| format!("source {name}: {line}");
    all.suspicious.extend(suspicious.into_iter().map(named));
    all.missing.extend(missing.into_iter().map(named));
    all.warnings.extend(warnings.into_iter().map(named));
    all.facts.extend(facts.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
}

/// Returns the time of day in milliseconds since 1970, to be shown and never compared.
fn now_ms() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}
