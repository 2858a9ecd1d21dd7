//! What every engine of a single stream asks of its content.

use crate::gates::{Expected, Watch};
use dedump_core::{Error, Result, Verdict};
use std::collections::BTreeMap;

/// A dump that passed.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) verdict: Verdict,
    pub(crate) stream_facts: BTreeMap<String, String>,
    /// Whether the content itself proves that nothing is missing at its end.
    pub(crate) proven_whole: bool,
}

/// Judges a stream that has ended.
///
/// # Errors
/// [`Error::DumpFailed`]: it is empty, or its content says that it is not whole.
pub(crate) fn judge(stream: &str, watch: &Watch, expected: Expected, allow_empty: bool) -> Result<Found> {
    if watch.bytes() == 0 {
        if !allow_empty {
            return Err(Error::DumpFailed(format!(
                "the dump {stream:?} is empty, so nothing was stored; give --allow-empty if that is right"
            )));
        }
        let warnings = vec![format!("the dump {stream:?} is empty, which --allow-empty allows")];
        let verdict = Verdict { warnings, ..Verdict::default() };
        return Ok(Found { verdict, stream_facts: BTreeMap::new(), proven_whole: true });
    }
    let judgement = watch
        .judge(expected)
        .map_err(|why| Error::DumpFailed(format!("stream {stream:?}: {why}; nothing was stored")))?;
    let stream_facts = BTreeMap::from([("format".to_owned(), judgement.format.to_string())]);
    let verdict = Verdict { warnings: judgement.warnings, ..Verdict::default() };
    Ok(Found { verdict, stream_facts, proven_whole: judgement.proven_whole })
}
