//! The table of results.

use std::fmt;

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    /// What was measured.
    pub measure: String,
    /// What came out, with its unit.
    pub figure: String,
    /// What it must reach, if anything.
    pub bound: Option<Bound>,
}

/// What a figure must reach.
#[derive(Debug)]
pub struct Bound {
    /// The bound, with its unit.
    pub text: String,
    /// The figure in proportion to it, or the ratio that is judged.
    pub ratio: f64,
    /// Whether it holds.
    pub holds: bool,
}

impl Row {
    /// Creates the row of a figure that nothing is asked of.
    pub fn figure(measure: impl Into<String>, figure: impl Into<String>) -> Row {
        Row { measure: measure.into(), figure: figure.into(), bound: None }
    }

    /// Creates the row of a ratio that must be at least so much.
    pub fn at_least(measure: impl Into<String>, figure: impl Into<String>, ratio: f64, least: f64) -> Row {
        let bound = Bound { text: format!("≥ {least}"), ratio, holds: ratio >= least };
        Row { bound: Some(bound), ..Row::figure(measure, figure) }
    }

    /// Creates the row of a figure that must be at most so much; `show` writes it with its unit.
    pub fn at_most(measure: impl Into<String>, figure: f64, most: f64, show: impl Fn(f64) -> String) -> Row {
        let bound = Bound { text: format!("≤ {}", show(most)), ratio: figure / most, holds: figure <= most };
        Row { bound: Some(bound), ..Row::figure(measure, show(figure)) }
    }
}

/// The results, as a table in Markdown.
pub struct Table<'a>(pub &'a [Row]);

impl Table<'_> {
    /// Returns whether every bound holds.
    pub fn holds(&self) -> bool {
        self.0.iter().all(|row| row.bound.as_ref().is_none_or(|bound| bound.holds))
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measure | figure | bound | ratio | holds |\n|---|---|---|---|---|")?;
        for Row { measure, figure, bound } in self.0 {
            match bound {
                None => writeln!(f, "| {measure} | {figure} | | | |")?,
                Some(Bound { text, ratio, holds }) => {
                    let holds = if *holds { "yes" } else { "**no**" };
                    writeln!(f, "| {measure} | {figure} | {text} | {ratio:.2} | {holds} |")?;
                }
            }
        }
        Ok(())
    }
}

/// Writes bytes in MiB.
pub fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// Writes seconds in milliseconds.
pub fn ms(secs: f64) -> String {
    format!("{:.1} ms", secs * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bound_shows_and_counts() {
        let rows = [Row::figure("a", "1 s"), Row::at_least("b", "3 MB/s", 0.6, 0.7), Row::at_most("c", 0.05, 0.1, ms)];
        assert!(!Table(&rows).holds() && Table(&rows[..1]).holds() && Table(&rows[2..]).holds());
        let text = Table(&rows).to_string();
        assert!(text.contains("| b | 3 MB/s | ≥ 0.7 | 0.60 | **no** |\n"), "{text}");
        assert!(text.contains("| c | 50.0 ms | ≤ 100.0 ms | 0.50 | yes |\n"), "{text}");
    }
}
