//! The small tables of clients and keys, whole.

use rusqlite::{Connection, Transaction, params};

use super::transfer;
use crate::store::transfer::{InstallationRow, Row, Snapshot, Table};

pub(super) fn revision(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("select revision from installation")?
        .query_row([], |row| row.get(0))
}

/// Reads in one transaction, so that all is of that revision.
pub(super) fn read_tables(connection: &Connection, tables: &[Table]) -> rusqlite::Result<Snapshot> {
    let transaction = connection.unchecked_transaction()?;
    let row = transfer::installation_row(&transaction)?;
    let tables = tables
        .iter()
        .map(|table| transfer::rows(&transaction, *table, None, usize::MAX >> 1))
        .collect::<Result<_, _>>()?;
    Ok((row, tables))
}

pub(super) fn replace_tables(
    transaction: &Transaction<'_>,
    row: &InstallationRow,
    tables: &[(Table, Vec<Row>)],
) -> rusqlite::Result<bool> {
    const SQL: &str = "
        update installation set revision = revision + 1, master_key_check = ?, next_client_number = ?
         where revision = ? and not unfinished_copy";
    let changed = params![row.master_key_check, row.next_client_number, row.revision];
    if transaction.execute(SQL, changed)? == 0 {
        return Ok(false);
    }
    for (table, rows) in tables {
        transaction.execute(&format!("delete from {}", table.name()), [])?;
        transfer::insert(transaction, *table, rows)?;
    }
    Ok(true)
}
