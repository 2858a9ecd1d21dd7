//! Whether what was restored is what was dumped, by the numbers that were taken when it was.

use super::contents::{Contents, TableName};
use crate::postgres::inventory;
use crate::postgres::session::Session;
use crate::postgres::sql;
use dedump_core::Result;

/// Compares the rows of each table with those that were counted in the dump's moment. Returns differences, and how many rows
/// and tables were counted. Nothing but the tables that are meant is looked at.
pub(super) async fn rows(
    session: &mut Session,
    contents: &Contents<'_>,
    is_meant: &(dyn Fn(&TableName) -> bool + Sync),
) -> Result<(Vec<String>, u64, u64)> {
    session.ask("SET row_security = off").await?;
    let (mut differences, mut rows_n, mut tables_n) = (Vec::new(), 0, 0);
    for table in &contents.inventory.tables {
        let is_meant = sql::qualified(&table.name).is_some_and(|name| is_meant(&name));
        let (Some(expected), true) = (table.rows, is_meant) else { continue };
        let counted = session.ask_one(&format!("SELECT count(*) FROM ONLY {}", table.name)).await?;
        let counted: u64 = inventory::parse(&counted)?;
        if counted != expected {
            differences.push(format!("{} has {counted} rows instead of {expected}", table.name));
        }
        rows_n += counted;
        tables_n += 1;
    }
    Ok((differences, tables_n, rows_n))
}

/// Compares how many objects of each kind there are. Returns differences.
pub(super) async fn kinds(session: &mut Session, contents: &Contents<'_>) -> Result<Vec<String>> {
    let counted = inventory::kinds(session).await?;
    let differs = |(kind, expected): (&String, &u64)| {
        // A kind that this version does not count is none that differs.
        let counted = counted.get(kind)?;
        let words = kind.replace('_', " ");
        (counted != expected).then(|| format!("there are {counted} {words} instead of {expected}"))
    };
    Ok(contents.inventory.objects.iter().filter_map(differs).collect())
}
