//! The small tables of clients and keys, whole.

use super::pool::{Deadline, Parameter, Pool};
use super::transfer;
use crate::store::Unavailable;
use crate::store::transfer::{InstallationRow, Part, Row, Snapshot, Table};

pub(super) async fn read_tables(pool: &Pool, tables: &[Table]) -> Result<Snapshot, Unavailable> {
    pool.snapshot(Deadline::Transaction, async |transaction| {
        let row = transaction
            .query_one(transfer::INSTALLATION_ROW, &[])
            .await?;
        let mut all = Vec::new();
        for table in tables {
            let rows = transaction.query(&transfer::all_rows(*table), &[]).await?;
            all.push(transfer::values(*table, &rows)?);
        }
        Ok((transfer::installation(&row)?, all))
    })
    .await
}

pub(super) async fn replace_tables(
    pool: &Pool,
    row: &InstallationRow,
    tables: Vec<(Table, Vec<Row>)>,
) -> Result<bool, Unavailable> {
    // First, so that of two changes at once one waits for the other, and then finds another revision.
    const SQL: &str = "
        update installation set revision = revision + 1, master_key_check = $1, next_client_number = $2
         where revision = $3 and not unfinished_copy";
    let check = row.master_key_check.as_ref().map(|check| &check[..]);
    pool.change(Deadline::Transaction, async |transaction| {
        let changed: [Parameter<'_>; 3] = [&check, &row.next_client_number, &row.revision];
        if transaction.execute(SQL, &changed).await? == 0 {
            return Ok(false);
        }
        for (table, rows) in tables {
            transfer::replace_part(transaction, &Part::whole(table, rows)).await?;
        }
        Ok(true)
    })
    .await
}
