//! Work that is done in processes of its own, as which this program starts itself again: so that the peak memory of one
//! piece does not hide behind another's.

use crate::Result;
use crate::timing::peak_bytes;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The word by which this program knows that it is to do one part and report.
pub const PART: &str = "part";

/// What a part reports: names and values, a line each; besides what is its own, `ms` and `peak_bytes`.
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Returns the value of a name.
    ///
    /// # Errors
    /// The part did not report it.
    pub fn text(&self, name: &str) -> Result<&str> {
        Ok(self.0.get(name).ok_or_else(|| format!("a part did not report {name}"))?)
    }

    /// Returns the number of a name.
    ///
    /// # Errors
    /// The part did not report it, or it is no number.
    pub fn number(&self, name: &str) -> Result<u64> {
        Ok(self.text(name)?.parse()?)
    }
}

/// Starts a part and waits for its report.
///
/// # Errors
/// The part failed.
pub fn start(args: &[&str]) -> Result<Facts> {
    let output = Command::new(std::env::current_exe()?).arg(PART).args(args).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the part {} ended with {}", args.join(" "), output.status).into());
    }
    let lines = String::from_utf8(output.stdout)?;
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    Ok(Facts(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
}

/// Does a part's work in this process, and returns the lines to report.
///
/// # Errors
/// The work's own.
pub fn report(work: impl Future<Output = Result<String>>) -> Result<String> {
    // As the command line has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let start = Instant::now();
    let lines = runtime.block_on(work)?;
    Ok(format!("{lines}ms {}\npeak_bytes {}\n", start.elapsed().as_millis(), peak_bytes()?))
}
