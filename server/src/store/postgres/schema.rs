//! The schema and its versions. A step first adds what the next version needs and leaves what the present one uses, so that
//! nodes of both run together; what nobody uses any more goes in a later one.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;

use super::pool::{Deadline, Pool};
use super::row::value;
use crate::random::Random;
use crate::store::Unavailable;
use crate::store::schema::{Migration, SchemaError, Step};

/// Numbered from 1 and never changed once released.
const STEPS: &[Step] = &[Step {
    name: "0001_guests",
    sql: include_str!("../../../migrations/postgres/0001_guests.sql"),
    serves_since: 1,
}];

pub(super) async fn require_usable(pool: &Pool) -> Result<(), SchemaError> {
    let name = pool.name();
    let cannot_open = |error| SchemaError::cannot_open(&name, &error);
    match version(pool).await.map_err(cannot_open)? {
        Some((version, serves_since)) => {
            SchemaError::of(&name, version, serves_since, STEPS.len())?;
            let columns = columns(pool).await.map_err(cannot_open)?;
            let is_newer = version > STEPS.len();
            SchemaError::compare(&name, &columns, &SCHEMA_VERSION, is_newer)
        }
        None => Err(SchemaError::Missing(name)),
    }
}

/// The columns of the table that says which version a schema has.
const SCHEMA_VERSION: [(&str, &str); 3] = [
    ("schema_version", "only_row"),
    ("schema_version", "version"),
    ("schema_version", "serves_since"),
];

/// Reads the columns of the tables in the schema that unqualified names mean.
async fn columns(pool: &Pool) -> Result<BTreeSet<(String, String)>, Unavailable> {
    const SQL: &str = "
        select table_name::text as of, column_name::text as has from information_schema.columns
         where table_schema = current_schema()";
    let rows = pool.read(SQL, &[]).await?;
    rows.iter()
        .map(|row| Ok((value(row, "of")?, value(row, "has")?)))
        .collect()
}

/// Returns the steps that [`migrate`] would take.
pub(super) async fn pending(pool: &Pool) -> Result<Migration, SchemaError> {
    let found = version(pool)
        .await
        .map_err(|error| SchemaError::cannot_open(&pool.name(), &error))?;
    let migration = Migration::of(STEPS, found.unwrap_or_default().0);
    if migration.steps.is_empty() {
        require_usable(pool).await?;
    }
    Ok(migration)
}

/// All steps or none. Two programs at once take turns, and the second finds nothing to do.
pub(super) async fn migrate(pool: &Pool, random: &dyn Random) -> Result<Migration, SchemaError> {
    const VERSION: &str = "
        create table if not exists schema_version (
            only_row      smallint primary key check (only_row = 1),
            version       bigint not null,
            serves_since  bigint not null  -- the oldest version whose programs can use this one
        );
        insert into schema_version (only_row, version, serves_since) values (1, 0, 0) on conflict do nothing";
    const FROM: &str = "select version, serves_since from schema_version for update";
    const INSTALLATION: &str = "
        insert into installation (only_row, installation_id, revision, next_client_number) values (1, $1, 0, 1)";
    const DONE: &str = "update schema_version set version = $1, serves_since = $2";
    // Others who migrate are waited for.
    const TURN: &str = "set local statement_timeout = '60s'";
    // A step that has to wait for a table makes everyone else wait behind it: rather give up soon.
    const PATIENCE: &str = "set local lock_timeout = '2s'; set local statement_timeout = 0";
    let pending = pending(pool).await?;
    if pending.steps.is_empty() {
        return Ok(pending);
    }
    let id = random.bytes::<16>();
    let migrated = pool.change(Deadline::None, async |transaction| {
        transaction.batch_execute(TURN).await?;
        transaction.batch_execute(VERSION).await?;
        let from = number(transaction.query_one(FROM, &[]).await?.try_get(0)?);
        transaction.batch_execute(PATIENCE).await?;
        let migration = Migration::of(STEPS, from);
        for step in STEPS.iter().skip(from) {
            transaction.batch_execute(step.sql).await?;
        }
        if from == 0 {
            transaction.execute(INSTALLATION, &[&&id[..]]).await?;
        }
        if let Some(last) = STEPS.get(from..).and_then(|steps| steps.last()) {
            let version =
                [STEPS.len(), last.serves_since].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            transaction
                .execute(DONE, &[&version[0], &version[1]])
                .await?;
        }
        Ok(migration)
    });
    let error: Unavailable = match migrated.await {
        Ok(migration) => return Ok(migration),
        Err(error) => error,
    };
    // Two programs can't take turns before there is a table: whoever was slower hears of a duplicate.
    match self::pending(pool).await {
        Ok(pending) if pending.steps.is_empty() => Ok(pending),
        _ => Err(SchemaError::cannot_open(&pool.name(), &error)),
    }
}

/// Reads the version of the schema, and the oldest version whose programs it serves.
async fn version(pool: &Pool) -> Result<Option<(usize, usize)>, Unavailable> {
    const SQL: &str = "select version, serves_since from schema_version";
    pool.snapshot(Deadline::Transaction, async |transaction| {
        let rows = match transaction.query(SQL, &[]).await {
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
            rows => rows?,
        };
        match rows.first() {
            Some(row) => Ok(Some((number(row.try_get(0)?), number(row.try_get(1)?)))),
            None => Ok(None),
        }
    })
    .await
}

fn number(stored: i64) -> usize {
    usize::try_from(stored).unwrap_or_default()
}
