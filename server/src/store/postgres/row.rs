//! The columns of a row.

use std::time::Duration;

use guestpass_core::time::Timestamp;
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

/// A time that may not have come.
pub(super) fn time(row: &Row, column: &str) -> Result<Option<Timestamp>, Unavailable> {
    let millis = value::<Option<i64>>(row, column)?;
    Ok(millis.map(Timestamp::from_millis))
}

/// A duration that may not have been chosen.
pub(super) fn duration(row: &Row, column: &str) -> Result<Option<Duration>, Unavailable> {
    let millis = value::<Option<i64>>(row, column)?.map(u64::try_from);
    let millis = millis.transpose().map_err(|_| malformed(column))?;
    Ok(millis.map(Duration::from_millis))
}

/// A value that this program never wrote.
pub(super) fn malformed(column: &str) -> Unavailable {
    Unavailable(format!("the column {column} holds what was never written"))
}
