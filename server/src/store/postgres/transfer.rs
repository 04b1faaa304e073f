//! Copying a whole installation as rows, and importing guests without grants. The statements of a copy are generated
//! from the tables' columns.

use deadpool_postgres::Transaction;
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;
use tokio_postgres::types::ToSql;

use super::grants::{self, PROFILE_COLUMNS};
use super::pool::{Deadline, Parameter, Pool, TransactionError};
use super::row::{bytes, malformed, value};
use crate::store::Unavailable;
use crate::store::transfer::{Column, InstallationRow, Key, Kind, Part, Row, Table, Value, names};

pub(super) const INSTALLATION_ROW: &str = "
    select installation_id, master_key_check, revision, next_client_number, issuer, unfinished_copy from installation";

pub(super) async fn installation_row(pool: &Pool) -> Result<InstallationRow, Unavailable> {
    let rows = pool.read(INSTALLATION_ROW, &[]).await?;
    installation(rows.first().ok_or_else(|| malformed("installation_id"))?)
}

pub(super) fn installation(row: &tokio_postgres::Row) -> Result<InstallationRow, Unavailable> {
    let check = value::<Option<&[u8]>>(row, "master_key_check")?.map(TryInto::try_into);
    Ok(InstallationRow {
        id: bytes(row, "installation_id")?,
        master_key_check: check
            .transpose()
            .map_err(|_| malformed("master_key_check"))?,
        revision: value(row, "revision")?,
        next_client_number: value(row, "next_client_number")?,
        issuer: value(row, "issuer")?,
        unfinished_copy: value(row, "unfinished_copy")?,
    })
}

pub(super) async fn keep_issuer(
    pool: &Pool,
    from: Option<&str>,
    issuer: &str,
) -> Result<bool, Unavailable> {
    const SQL: &str = "
        update installation set issuer = $2 where issuer is not distinct from $1::text";
    let done = pool.run(SQL, &[&from, &issuer]).await?;
    Ok(done.written == 1)
}

pub(super) async fn count(pool: &Pool, table: Table) -> Result<u64, Unavailable> {
    let sql = format!("select count(*) from {}", table.name());
    pool.snapshot(Deadline::None, async |transaction| {
        let count: i64 = transaction.query_one(&sql, &[]).await?.try_get(0)?;
        u64::try_from(count).map_err(|_| TransactionError::Aborted(malformed("count")))
    })
    .await
}

pub(super) async fn rows(
    pool: &Pool,
    table: Table,
    after: Option<Key>,
    limit: usize,
) -> Result<Vec<Row>, Unavailable> {
    let (columns, key) = (names(table.columns()), key(table));
    let behind = after.as_ref().map_or(String::new(), |after| {
        format!("where ({key}) > ({})", placeholders(1, after.len()))
    });
    let sql = format!(
        "select {columns} from {} {behind} order by {key} limit {limit}",
        table.name()
    );
    let after = after.unwrap_or_default();
    let parameters: Vec<_> = after.iter().map(parameter).collect();
    values(table, &pool.read(&sql, &parameters).await?)
}

/// Selects a whole table, for [`values`] to read.
pub(super) fn all_rows(table: Table) -> String {
    format!("select {} from {}", names(table.columns()), table.name())
}

pub(super) fn values(table: Table, rows: &[tokio_postgres::Row]) -> Result<Vec<Row>, Unavailable> {
    let values = |row| table.columns().iter().map(move |column| read(row, column));
    rows.iter().map(|row| values(row).collect()).collect()
}

/// Begins a copy into a store without clients, keys and guests, or resumes the copy of the same installation. Returns
/// `false` if the store holds anything else.
pub(super) async fn begin_copy(pool: &Pool, row: &InstallationRow) -> Result<bool, Unavailable> {
    const SQL: &str = "
        update installation
           set installation_id = $1, master_key_check = $2, revision = $3, next_client_number = $4, issuer = $5,
               unfinished_copy = true
         where case when unfinished_copy then installation_id = $1
                    else revision = 0 and not exists (select 1 from profiles) end";
    let check = row.master_key_check.as_ref().map(|check| &check[..]);
    let (id, next) = (&row.id[..], row.next_client_number);
    let parameters: [Parameter<'_>; 5] = [&id, &check, &row.revision, &next, &row.issuer];
    let done = pool.run(SQL, &parameters).await?;
    Ok(done.written == 1)
}

pub(super) async fn replace(pool: &Pool, part: &Part) -> Result<bool, Unavailable> {
    // The lock makes the end of the copy wait for this part.
    const UNFINISHED: &str = "select true from installation where unfinished_copy for update";
    pool.change(Deadline::None, async |transaction| {
        if transaction.query_opt(UNFINISHED, &[]).await?.is_none() {
            return Ok(false);
        }
        replace_part(transaction, part).await?;
        Ok(true)
    })
    .await
}

pub(super) async fn replace_part(
    transaction: &Transaction<'_>,
    part: &Part,
) -> Result<(), TransactionError<Unavailable>> {
    delete(transaction, part).await?;
    insert(transaction, part).await
}

async fn delete(
    transaction: &Transaction<'_>,
    part: &Part,
) -> Result<(), TransactionError<Unavailable>> {
    let key = key(part.table);
    let (mut conditions, mut parameters) = (vec!["true".to_owned()], Vec::new());
    for (than, bound) in [(">", &part.after), ("<=", &part.up_to)] {
        if let Some(bound) = bound {
            let placeholders = placeholders(parameters.len() + 1, bound.len());
            conditions.push(format!("({key}) {than} ({placeholders})"));
            parameters.extend(bound.iter().map(parameter));
        }
    }
    let (table, conditions) = (part.table.name(), conditions.join(" and "));
    let sql = format!("delete from {table} where {conditions}");
    transaction.execute(&sql, &parameters).await?;
    Ok(())
}

/// Inserts all rows with one statement: its parameters are arrays, one for each column.
async fn insert(
    transaction: &Transaction<'_>,
    part: &Part,
) -> Result<(), TransactionError<Unavailable>> {
    let columns = part.table.columns();
    let arrays = columns.iter().enumerate().map(|(at, column)| {
        let kind = match column.kind {
            Kind::Integer => "bigint",
            Kind::Small => "smallint",
            Kind::Flag => "boolean",
            Kind::Text => "text",
            Kind::Bytes => "bytea",
        };
        format!("${}::{kind}[]", at + 1)
    });
    let sql = format!(
        "insert into {table} ({names}) select {names} from unnest({arrays}) as part ({names})",
        table = part.table.name(),
        names = names(columns),
        arrays = arrays.collect::<Vec<_>>().join(", ")
    );
    let values: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| array(&part.rows, at, column))
        .collect();
    let values: Vec<_> = values
        .iter()
        .map(|values| &**values as Parameter<'_>)
        .collect();
    transaction.execute(&sql, &values).await?;
    Ok(())
}

pub(super) async fn finish_copy(pool: &Pool) -> Result<bool, Unavailable> {
    const SQL: &str = "update installation set unfinished_copy = false where unfinished_copy";
    let done = pool.run(SQL, &[]).await?;
    Ok(done.written == 1)
}

pub(super) async fn known_profiles(
    pool: &Pool,
    ids: &[ProfileId],
) -> Result<Vec<Profile>, Unavailable> {
    let sql = format!("select {PROFILE_COLUMNS} from profiles where profile_id = any($1)");
    let ids: Vec<_> = ids.iter().map(|id| id.as_i64()).collect();
    let rows = pool.read(&sql, &[&ids]).await?;
    rows.iter().map(grants::profile).collect()
}

pub(super) async fn insert_profiles(pool: &Pool, profiles: &[Profile]) -> Result<(), Unavailable> {
    const SQL: &str = "
        insert into profiles (profile_id, network_id, client_number, created_at, customer, linked_at, version, seen_at)
        select profile_id, network_id, client_number, created_at, customer, linked_at,
               case when customer is not null then 1 end, seen_at
          from unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[])
               as wanted (profile_id, network_id, client_number, created_at, customer, linked_at, seen_at)
        on conflict do nothing";
    let links = || profiles.iter().map(|profile| profile.link.as_ref());
    let customers = links().map(|link| link.map(|link| link.customer.as_str()));
    let linked_at = links().map(|link| link.map(|link| link.at.as_millis()));
    let of = |value: fn(&Profile) -> i64| profiles.iter().map(value).collect::<Vec<_>>();
    let network_ids = profiles
        .iter()
        .map(|profile| &profile.network_id.as_bytes()[..]);
    let seen_at = profiles
        .iter()
        .map(|profile| profile.seen_at.map(Timestamp::as_millis));
    let row: [Parameter<'_>; 7] = [
        &of(|profile| profile.id.as_i64()),
        &network_ids.collect::<Vec<_>>(),
        &of(|profile| profile.client.0),
        &of(|profile| profile.created_at.as_millis()),
        &customers.collect::<Vec<_>>(),
        &linked_at.collect::<Vec<_>>(),
        &seen_at.collect::<Vec<_>>(),
    ];
    pool.run(SQL, &row).await?;
    Ok(())
}

/// Lists the columns of the key. Text is ordered byte by byte, as in the other backends, whatever the database's
/// collation.
fn key(table: Table) -> String {
    table
        .key()
        .iter()
        .map(|column| match column.kind {
            Kind::Text => format!("{} collate \"C\"", column.name),
            _ => column.name.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// Lists `count` placeholders, from `$first` on.
fn placeholders(first: usize, count: usize) -> String {
    (first..first + count)
        .map(|number| format!("${number}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Converts a value of a key, which is never null.
fn parameter(value: &Value) -> Parameter<'_> {
    match value {
        Value::Null => &None::<i64>,
        Value::Integer(number) => number,
        Value::Flag(flag) => flag,
        Value::Text(text) => text,
        Value::Bytes(bytes) => bytes,
    }
}

fn read(row: &tokio_postgres::Row, column: &Column) -> Result<Value, Unavailable> {
    let name = column.name;
    let found = match column.kind {
        Kind::Integer => value::<Option<_>>(row, name)?.map(Value::Integer),
        Kind::Small => value::<Option<i16>>(row, name)?.map(|small| Value::Integer(small.into())),
        Kind::Flag => value::<Option<_>>(row, name)?.map(Value::Flag),
        Kind::Text => value::<Option<_>>(row, name)?.map(Value::Text),
        Kind::Bytes => value::<Option<_>>(row, name)?.map(Value::Bytes),
    };
    Ok(found.unwrap_or(Value::Null))
}

/// Collects one column of all rows into an array. A value that isn't of the column's kind becomes null: the table
/// refuses it, or a later comparison shows it.
fn array(rows: &[Row], at: usize, column: &Column) -> Box<dyn ToSql + Sync + Send> {
    let values = rows.iter().map(|row| &row[at]);
    let integers = values.clone().map(|value| match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    });
    match column.kind {
        Kind::Integer => Box::new(integers.collect::<Vec<_>>()),
        Kind::Small => {
            let small = integers.map(|number| number.and_then(|number| i16::try_from(number).ok()));
            Box::new(small.collect::<Vec<_>>())
        }
        Kind::Flag => {
            let flags = values.map(|value| match value {
                Value::Flag(flag) => Some(*flag),
                _ => None,
            });
            Box::new(flags.collect::<Vec<_>>())
        }
        Kind::Text => {
            let texts = values.map(|value| match value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            });
            Box::new(texts.collect::<Vec<_>>())
        }
        Kind::Bytes => {
            let bytes = values.map(|value| match value {
                Value::Bytes(bytes) => Some(bytes.clone()),
                _ => None,
            });
            Box::new(bytes.collect::<Vec<_>>())
        }
    }
}
