//! MariaDB and MySQL, by their own client tools.
//!
//! [`MysqlEngine`] backs databases up, [`MysqlRestore`] puts them back. Of each database it makes these streams, below
//! `databases/NAME/` where all databases are dumped:
//!
//! | stream | what it is |
//! |---|---|
//! | `tables/TABLE.sql` | the table's definition, and its rows, one a line, in the order of its key |
//! | `sequences.sql`, `views.sql` | all sequences; all views |
//! | `triggers/TABLE.sql`, `routines.sql`, `events.sql` | what is run in the database |
//! | `database.json` | what there is, and how many rows each table has |
//! | `users.sql` | beside the databases: users, roles, and what is granted to them |
//!
//! All of them are SQL that any client takes.
//!
//! # The moment
//!
//! The rows of all databases are dumped by one run of `mariadb-dump` or `mysqldump` in one transaction, so they are of one moment
//! as far as their tables are InnoDB's; of others, the user is warned. Its output is taken apart as it passes. A stream a table
//! lets one table be restored without reading the others, and a table that did not change is the same stream again. Triggers,
//! routines and events are in no transaction anyway; they are dumped by runs of their own, since in their bodies anything may
//! stand that looks like the tool's own comments.
//!
//! # What is left out in silence
//!
//! The tool succeeds where an account may not see triggers, routines or tables. So what is granted is compared with what a whole
//! dump needs, and what was dumped with what the server says that there is.
//!
//! # Rows
//!
//! One `INSERT` a row keeps unchanged rows next to changed ones the same bytes; a hundred rows a statement are loaded a
//! hundred times faster. So a restore makes the long statements out of the short ones.

mod client;
mod dump;
mod errors;
mod inventory;
mod privileges;
mod programs;
mod restore;
mod session;
mod split;
mod take;
mod text;
mod url;
mod users;

pub use client::ClientOptions;
pub use dump::{MysqlEngine, MysqlOptions};
pub use restore::{MysqlPlan, MysqlRestore, MysqlRestoreOptions, MysqlRestored, Place, STATEMENT_BYTES};
pub use url::MysqlUrl;

/// Doors for the project's own tests; no part of the public surface, and free to change.
#[doc(hidden)]
pub mod internals {
    use super::split::{Piece, Splitter};

    /// Sections with their bytes, and how many rows there are.
    pub type Sections = (Vec<(String, Vec<u8>)>, u64);

    /// Takes the output of the dump tool apart that comes in pieces of so many bytes; returns each section with its bytes, and
    /// all rows.
    ///
    /// # Errors
    /// Why it is none.
    pub fn split(dump: &[u8], piece_bytes: usize) -> Result<Sections, String> {
        let mut splitter = Splitter::default();
        let (mut sections, mut rows_n) = (vec![(String::new(), Vec::new())], 0);
        for piece in dump.chunks(piece_bytes) {
            splitter.feed(piece, &mut |piece| {
                match piece {
                    Piece::Begin(section, rows) => {
                        rows_n += rows.rows_n;
                        sections.push((format!("{section:?}"), Vec::new()));
                    }
                    Piece::Bytes(bytes) => {
                        sections.last_mut().expect("there is one").1.extend_from_slice(bytes);
                    }
                    Piece::Told(told) => sections.push((format!("{told:?}"), Vec::new())),
                }
                Ok(())
            })?;
        }
        rows_n += splitter.end()?.rows_n;
        Ok((sections, rows_n))
    }

    pub use super::restore::rebuilt;
}
