//! The schema and its versions. SQLite keeps the number of the last migration in `user_version`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::{Synchronous, cannot_open, trouble};
use crate::random::Random;
use crate::store::schema::{Migration, SchemaError, Step};
use crate::timing::BUSY_TIMEOUT;

/// Numbered from 1 and never changed once released.
const STEPS: &[Step] = &[Step {
    name: "0001_guests",
    sql: include_str!("../../../migrations/sqlite/0001_guests.sql"),
    serves_since: 1,
}];

/// Opens a file that must have the current schema.
pub(super) fn open_current(
    file: &Path,
    synchronous: Synchronous,
) -> Result<Connection, SchemaError> {
    if !is_there(file)? {
        return Err(SchemaError::Missing(file.display().to_string()));
    }
    let connection = super::open(file, synchronous).map_err(|error| cannot_open(file, &error))?;
    check(&connection, file)?;
    Ok(connection)
}

/// Returns whether a file holds something. Of an empty one SQLite would empty the log, too, if there is one.
fn is_there(file: &Path) -> Result<bool, SchemaError> {
    match fs::metadata(file) {
        Ok(found) => Ok(found.len() > 0),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(inaccessible(file, &error))
        }
        Err(_) => Ok(false),
    }
}

fn inaccessible(file: &Path, error: &io::Error) -> SchemaError {
    SchemaError::cannot_open(&file.display(), &trouble::inaccessible(error))
}

/// Checks that this version can use a schema.
fn check(connection: &Connection, file: &Path) -> Result<(), SchemaError> {
    let found = version(connection)
        .and_then(|version| Ok((version, columns(connection)?)))
        .map_err(|error| cannot_open(file, &error));
    let (version, columns) = found?;
    if version == 0 && columns.is_empty() {
        return Err(SchemaError::Missing(file.display().to_string()));
    }
    // One process at a time serves a file, so nothing else is there for which a newer schema would have to be good.
    SchemaError::of(&file.display(), version, version, STEPS.len())?;
    let extra = [
        ("grants", "grant_number"),
        ("installation", "log_in_file"),
        ("installation", "log_in_log"),
    ];
    SchemaError::compare(&file.display(), &columns, &extra, false)
}

fn columns(connection: &Connection) -> rusqlite::Result<BTreeSet<(String, String)>> {
    const SQL: &str = "
        select of.name, has.name from sqlite_schema of join pragma_table_info(of.name) has where of.type = 'table'";
    connection
        .prepare(SQL)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Returns the steps that [`migrate`] would take.
pub(super) fn pending(file: &Path) -> Result<Migration, SchemaError> {
    if !is_there(file)? {
        return Ok(Migration::of(STEPS, 0));
    }
    let cannot_open = |error| cannot_open(file, &error);
    let connection = super::open(file, Synchronous::Full).map_err(cannot_open)?;
    let from = version(&connection).map_err(cannot_open)?;
    let migration = Migration::of(STEPS, from);
    if migration.steps.is_empty() {
        check(&connection, file)?;
    }
    Ok(migration)
}

pub(super) fn migrate(file: &Path, random: &dyn Random) -> Result<Migration, SchemaError> {
    create_private(file).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => inaccessible(file, &error),
        _ => SchemaError::cannot_open(&file.display(), &error),
    })?;
    let (from, connection) = run(file, random).map_err(|error| cannot_open(file, &error))?;
    check(&connection, file)?;
    Ok(Migration::of(STEPS, from))
}

/// Only its owner may read the file; SQLite gives the log beside it the same mode.
fn create_private(file: &Path) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .map(drop)
}

fn run(file: &Path, random: &dyn Random) -> rusqlite::Result<(usize, Connection)> {
    const INSTALLATION: &str = "
        insert into installation (only_row, installation_id, revision, next_client_number) values (1, ?, 0, 1)";
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Of a new file. A refresh writes one page to the log and one to the file, so a page should be small; but the
    // smaller, the deeper the trees.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let from = version(&transaction)?;
    for step in STEPS.iter().skip(from) {
        transaction.execute_batch(step.sql)?;
    }
    if from == 0 {
        transaction.execute(INSTALLATION, [random.bytes::<16>()])?;
    }
    if from < STEPS.len() {
        transaction.pragma_update(None, "user_version", STEPS.len())?;
    }
    transaction.commit()?;
    Ok((from, connection))
}

const PAGE_BYTES: usize = 2048;

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.query_row("pragma user_version", [], |row| row.get(0))
}
