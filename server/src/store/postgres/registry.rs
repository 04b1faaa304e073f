//! The small tables of clients and keys, whole.

use super::pool::{Parameter, Pool, in_time};
use super::transfer;
use crate::store::Unavailable;
use crate::store::transfer::{InstallationRow, Part, Row, Snapshot, Table};

/// Reads in one transaction, so that all is of that revision.
pub(super) async fn read_tables(pool: &Pool, tables: &[Table]) -> Result<Snapshot, Unavailable> {
    let mut session = pool.session().await?;
    let read = async {
        let transaction = session.look().await?;
        let row = transaction
            .query_one(transfer::INSTALLATION_ROW, &[])
            .await?;
        let mut rows = Vec::new();
        for table in tables {
            rows.push(transaction.query(&transfer::all_rows(*table), &[]).await?);
        }
        Ok((row, rows))
    };
    let read = in_time(read).await;
    let (row, rows) = session.end::<_, Unavailable>(read)?;
    let tables = tables
        .iter()
        .zip(rows)
        .map(|(table, rows)| transfer::values(*table, &rows))
        .collect::<Result<_, _>>()?;
    Ok((transfer::installation(&row)?, tables))
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
    let changed: [Parameter<'_>; 3] = [&check, &row.next_client_number, &row.revision];
    let mut session = pool.session().await?;
    let replaced = async {
        let transaction = session.change().await?;
        if transaction.execute(SQL, &changed).await? == 0 {
            return Ok(false);
        }
        for (table, rows) in tables {
            transfer::replace_part(&transaction, &Part::whole(table, rows)).await?;
        }
        transaction.commit().await?;
        Ok(true)
    };
    let replaced = in_time(replaced).await;
    session.end(replaced)
}
