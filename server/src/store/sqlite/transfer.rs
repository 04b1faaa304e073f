//! A whole installation as rows, and guests that come without a grant. The statements are made of the tables' columns.

use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, params, params_from_iter};

use super::grants::{self, NEW_PROFILE_COLUMNS, PROFILE_COLUMNS};
use crate::store::transfer::{Column, InstallationRow, Kind, Part, Row, Table, Value, names};

pub(super) fn installation_row(connection: &Connection) -> rusqlite::Result<InstallationRow> {
    const SQL: &str = "
        select installation_id, master_key_check, revision, next_client_number, issuer, unfinished_copy from installation";
    connection.query_row(SQL, [], |row| {
        Ok(InstallationRow {
            id: row.get(0)?,
            master_key_check: row.get(1)?,
            revision: row.get(2)?,
            next_client_number: row.get(3)?,
            issuer: row.get(4)?,
            unfinished_copy: row.get(5)?,
        })
    })
}

pub(super) fn keep_issuer(
    connection: &Connection,
    from: Option<&str>,
    issuer: &str,
) -> rusqlite::Result<bool> {
    const SQL: &str = "update installation set issuer = ?2 where issuer is ?1";
    Ok(connection.execute(SQL, params![from, issuer])? == 1)
}

pub(super) fn count(connection: &Connection, table: Table) -> rusqlite::Result<u64> {
    let sql = format!("select count(*) from {}", table.name());
    connection.query_row(&sql, [], |row| row.get(0))
}

pub(super) fn rows(
    connection: &Connection,
    table: Table,
    after: Option<&[Value]>,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let (columns, key) = (names(table.columns()), names(table.key()));
    let behind = after.map_or(String::new(), |after| {
        format!("where ({key}) > ({})", placeholders(after.len()))
    });
    let sql = format!(
        "select {columns} from {} {behind} order by {key} limit {limit}",
        table.name()
    );
    connection
        .prepare_cached(&sql)?
        .query_map(params_from_iter(after.unwrap_or_default()), |row| {
            let columns = table.columns().iter().enumerate();
            columns.map(|(at, column)| value(row, at, column)).collect()
        })?
        .collect()
}

pub(super) fn begin_copy(connection: &Connection, row: &InstallationRow) -> rusqlite::Result<bool> {
    const SQL: &str = "
        update installation
           set installation_id = ?1, master_key_check = ?2, revision = ?3, next_client_number = ?4, issuer = ?5,
               unfinished_copy = true
         where case when unfinished_copy then installation_id = ?1
                    else revision = 0 and not exists (select 1 from profiles) end";
    let row = params![
        row.id,
        row.master_key_check,
        row.revision,
        row.next_client_number,
        row.issuer
    ];
    Ok(connection.execute(SQL, row)? == 1)
}

pub(super) fn replace(transaction: &Transaction<'_>, part: &Part) -> rusqlite::Result<bool> {
    let table = part.table;
    let unfinished = transaction
        .prepare("select 1 from installation where unfinished_copy")?
        .exists([])?;
    if !unfinished {
        return Ok(false);
    }
    let key = names(table.key());
    let bounds = [(">", &part.after), ("<=", &part.up_to)];
    let bounds = bounds.iter().filter_map(|(than, bound)| {
        let bound = bound.as_ref()?;
        Some((
            format!("({key}) {than} ({})", placeholders(bound.len())),
            bound,
        ))
    });
    let (mut conditions, bounds): (Vec<_>, Vec<_>) = bounds.unzip();
    conditions.push("true".to_owned());
    let delete = format!(
        "delete from {} where {}",
        table.name(),
        conditions.join(" and ")
    );
    transaction.execute(&delete, params_from_iter(bounds.into_iter().flatten()))?;
    insert(transaction, table, &part.rows)?;
    Ok(true)
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    table: Table,
    rows: &[Row],
) -> rusqlite::Result<()> {
    let columns = table.columns();
    let (mut into, mut values) = (names(columns), placeholders(columns.len()));
    if table == Table::Grants {
        into += ", grant_number";
        values = format!("{values}, {}", grants::NEW_NUMBER);
    }
    let insert = format!("insert into {} ({into}) values ({values})", table.name());
    let mut insert = transaction.prepare(&insert)?;
    for row in rows {
        insert.execute(params_from_iter(row))?;
    }
    Ok(())
}

pub(super) fn finish_copy(connection: &Connection) -> rusqlite::Result<bool> {
    const SQL: &str = "update installation set unfinished_copy = false where unfinished_copy";
    Ok(connection.execute(SQL, [])? == 1)
}

pub(super) fn known_profiles(
    connection: &Connection,
    ids: &[ProfileId],
) -> rusqlite::Result<Vec<Profile>> {
    let mut find = connection.prepare_cached(&format!(
        "select {PROFILE_COLUMNS} from profiles where profile_id = ?"
    ))?;
    let mut known = Vec::new();
    for id in ids {
        known.extend(find.query_row([id.as_i64()], grants::profile).optional()?);
    }
    Ok(known)
}

pub(super) fn insert_profiles(
    transaction: &Transaction<'_>,
    profiles: &[Profile],
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare(&format!(
        "insert into profiles ({NEW_PROFILE_COLUMNS}, customer, linked_at, version, seen_at)
         values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing"
    ))?;
    for profile in profiles {
        insert.execute(params![
            profile.id.as_i64(),
            profile.network_id.as_bytes(),
            profile.client.0,
            profile.created_at.as_millis(),
            profile.link.as_ref().map(|link| link.customer.as_str()),
            profile.link.as_ref().map(|link| link.at.as_millis()),
            profile.link.as_ref().map(|_| 1),
            profile.seen_at.map(Timestamp::as_millis),
        ])?;
    }
    Ok(())
}

/// Lists that many placeholders of parameters.
fn placeholders(number: usize) -> String {
    vec!["?"; number].join(", ")
}

fn value(row: &rusqlite::Row<'_>, at: usize, column: &Column) -> rusqlite::Result<Value> {
    if matches!(row.get_ref(at)?, ValueRef::Null) {
        return Ok(Value::Null);
    }
    match column.kind {
        Kind::Integer | Kind::Small => row.get(at).map(Value::Integer),
        Kind::Flag => row.get(at).map(Value::Flag),
        Kind::Text => row.get(at).map(Value::Text),
        Kind::Bytes => row.get(at).map(Value::Bytes),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Ok(ToSqlOutput::Borrowed(ValueRef::Null)),
            Self::Integer(number) => number.to_sql(),
            Self::Flag(flag) => flag.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Bytes(bytes) => bytes.to_sql(),
        }
    }
}
