//! What is measured of dedump, and how. The program `numbers` runs it: see README.md beside this crate's manifest.
//!
//! Machines differ and are seldom idle, so what is judged are ratios of figures that one run measured in turn, each
//! several times, and their medians; memory; and one short command's time.

pub mod limit;
pub mod mark;
pub mod memory;
pub mod parts;
pub mod pipeline;
pub mod program;
pub mod snapshots;
pub mod table;
pub mod text;
pub mod timing;

/// What a measurement returns: anything that goes wrong ends the whole run.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// All that the project's numbers are about; some minutes.
    Full,
    /// A fraction of it, in about a minute: to see that the harness works, and roughly where things stand.
    Small,
}

impl Size {
    /// Returns the first for [`Size::Full`], the second for [`Size::Small`].
    pub fn choose<T>(self, full: T, small: T) -> T {
        match self {
            Size::Full => full,
            Size::Small => small,
        }
    }
}

/// Opens the repositories of these measurements: the same key file for all, as nobody's data is in them.
pub fn secret() -> dedump_core::Credential {
    dedump_core::Credential::from_key_file_text(&key_file_text()).expect("the text is that of a key file")
}

/// Returns the text of the key file of [`secret`].
pub fn key_file_text() -> String {
    format!("dedump-key-1:{}\n", "5a".repeat(32))
}
