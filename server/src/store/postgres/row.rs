//! The columns of a row.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::store::Unavailable;

/// A column's value.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, Unavailable> {
    row.try_get(column).map_err(|_| malformed(column))
}

/// The value of a column of fixed length.
pub(super) fn bytes<const N: usize>(row: &Row, column: &str) -> Result<[u8; N], Unavailable> {
    let bytes = value::<&[u8]>(row, column)?;
    bytes.try_into().map_err(|_| malformed(column))
}

/// A value that this program never wrote.
pub(super) fn malformed(column: &str) -> Unavailable {
    Unavailable(format!("the column {column} holds what was never written"))
}
