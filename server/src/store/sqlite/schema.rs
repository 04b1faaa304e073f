//! The schema and its versions. SQLite keeps the number of the last migration in `user_version`.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::BUSY_TIMEOUT;
use crate::random::Random;

/// Numbered from 1 and never changed once released.
const MIGRATIONS: &[&str] = &[include_str!("../../../migrations/sqlite/0001_guests.sql")];

/// What a migration did.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The version before, 0 for a new file.
    pub from: usize,
    /// The version now.
    pub to: usize,
}

/// Why a file can't be used, and what to do about it.
#[derive(Debug)]
pub enum SchemaError {
    /// There is no such file.
    Missing(PathBuf),
    /// The file is older than this program.
    Older(PathBuf),
    /// The file is newer than this program.
    Newer(PathBuf),
    /// SQLite can't open it.
    CannotOpen(PathBuf, String),
}

impl SchemaError {
    pub(super) fn cannot_open(file: &Path, error: &rusqlite::Error) -> Self {
        Self::CannotOpen(file.to_owned(), error.to_string())
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(file) => write!(
                f,
                "there is no database at {}. If the path is right, `guestpass db migrate` makes one; if not, name the \
                 right directory with --data-dir",
                file.display()
            ),
            Self::Older(file) => write!(
                f,
                "the database {} was made by an older version. Run `guestpass db migrate`",
                file.display()
            ),
            Self::Newer(file) => write!(
                f,
                "the database {} was made by a newer version of guestpass than this one, {}. Run that version, or \
                 restore a backup from before the upgrade",
                file.display(),
                env!("CARGO_PKG_VERSION")
            ),
            Self::CannotOpen(file, error) => {
                write!(
                    f,
                    "the database {} can't be opened: {error}",
                    file.display()
                )
            }
        }
    }
}

impl std::error::Error for SchemaError {}

pub(super) fn require_current(file: &Path) -> Result<(), SchemaError> {
    if !file.exists() {
        return Err(SchemaError::Missing(file.to_owned()));
    }
    let connection = super::open(file, super::Synchronous::Full)
        .map_err(|e| SchemaError::cannot_open(file, &e))?;
    let version = version(&connection).map_err(|e| SchemaError::cannot_open(file, &e))?;
    match version.cmp(&MIGRATIONS.len()) {
        std::cmp::Ordering::Less => Err(SchemaError::Older(file.to_owned())),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(SchemaError::Newer(file.to_owned())),
    }
}

pub(super) fn migrate(file: &Path, random: &dyn Random) -> Result<Migration, SchemaError> {
    create_private(file)
        .map_err(|error| SchemaError::CannotOpen(file.to_owned(), error.to_string()))?;
    let from = run(file, random).map_err(|error| SchemaError::cannot_open(file, &error))?;
    if from > MIGRATIONS.len() {
        return Err(SchemaError::Newer(file.to_owned()));
    }
    Ok(Migration {
        from,
        to: MIGRATIONS.len(),
    })
}

/// Only its owner may read the file; SQLite gives the log beside it the same mode.
fn create_private(file: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .map(drop)
}

fn run(file: &Path, random: &dyn Random) -> rusqlite::Result<usize> {
    const INSTALLATION: &str = "
        insert into installation (only_row, installation_id, revision, next_client_number) values (1, ?, 0, 1)";
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let from = version(&transaction)?;
    for migration in MIGRATIONS.iter().skip(from) {
        transaction.execute_batch(migration)?;
    }
    if from == 0 {
        transaction.execute(INSTALLATION, [random.bytes::<16>()])?;
    }
    if from < MIGRATIONS.len() {
        transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    }
    transaction.commit()?;
    Ok(from)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.query_row("pragma user_version", [], |row| row.get(0))
}
