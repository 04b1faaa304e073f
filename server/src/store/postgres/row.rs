//! Reading the columns of a row by name.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::store::Unavailable;

/// Reads a column.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, Unavailable> {
    row.try_get(column).map_err(|_| malformed(column))
}

/// Reads a column of bytes of fixed length.
pub(super) fn bytes<const N: usize>(row: &Row, column: &str) -> Result<[u8; N], Unavailable> {
    value::<&[u8]>(row, column)?
        .try_into()
        .map_err(|_| malformed(column))
}

/// Returns the error for a column with a value that this program never writes.
pub(super) fn malformed(column: &str) -> Unavailable {
    Unavailable(format!("the column {column} holds what was never written"))
}
