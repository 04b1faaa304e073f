//! Opening the database that the configuration names.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use guestpass_core::time::Timestamp;

use super::master_key;
use super::{Failure, rfc3339};
use crate::clock::{SteadyClock, SystemClock};
use crate::config::{Config, Database};
use crate::random::SecureGenerator;
use crate::store::postgres::{Connection, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Migration, SchemaError, Store};
use crate::timekeeper::Timekeeper;

/// An open store, and the clock that all its users share.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<SteadyClock>,
}

impl Opened {
    /// Returns the time, for a change that depends on it and can't be taken back.
    pub(super) fn trusted_now(&self) -> Result<Timestamp, Failure> {
        if self.clock.is_doubted() {
            return Err(Failure(format!(
                "the clock says {}, which doesn't fit the time at which this installation was last served (guestpass clock \
                 show). Set it right; or, if it is right, say so: guestpass clock accept",
                rfc3339(self.clock.reference())
            )));
        }
        Ok(self.clock.now())
    }
}

/// Opens the store, which must exist and not be an unfinished copy.
pub(super) async fn open(config: &Config) -> Result<Opened, SchemaError> {
    let opened = match &config.database {
        Database::Sqlite(file) => {
            let store = SqliteStore::open(file, config.synchronous)?;
            Opened {
                store: Arc::new(store),
                clock: Arc::new(SteadyClock::new(Arc::new(SystemClock::new()))),
            }
        }
        Database::Postgres(connection) => open_postgres(connection).await?,
    };
    let name = &config.database;
    let installation = opened
        .store
        .installation_row()
        .await
        .map_err(|error| SchemaError::cannot_open(name, &error))?;
    if installation.unfinished_copy {
        return Err(SchemaError::UnfinishedCopy(name.to_string()));
    }
    Timekeeper::begin(&*opened.store, &opened.clock)
        .await
        .map_err(|error| SchemaError::cannot_open(name, &error))?;
    Ok(opened)
}

/// Opens a store in PostgreSQL, even if it is an unfinished copy.
pub(super) async fn open_postgres(connection: &Connection) -> Result<Opened, SchemaError> {
    let clock = Arc::new(SteadyClock::new(Arc::new(SystemClock::new())));
    let store = PostgresStore::open(connection, Arc::clone(&clock)).await?;
    Ok(Opened {
        store: Arc::new(store),
        clock,
    })
}

/// Opens the store, and creates or migrates an embedded one first. Returns whether it was created.
pub(super) async fn open_or_make(config: &Config) -> Result<(Opened, bool), Failure> {
    make_directories(config)?;
    let Database::Sqlite(file) = &config.database else {
        return Ok((open(config).await?, false));
    };
    let is_new = !file.exists();
    // A key that is given from elsewhere says nothing; one in the data directory is what is left of an installation,
    // whose guests would be refused for good.
    let has_own_key = config.master_key.is_none()
        && config.master_key_file.starts_with(&config.data_dir)
        && config.master_key_file.exists();
    if is_new && has_own_key {
        return Err(Failure(format!(
            "there is a master key, {}, but not the database that belongs to it, {}. Bring that back; or, if this is a \
             new installation with a prepared key, make an empty one: guestpass db migrate",
            config.master_key_file.display(),
            file.display()
        )));
    }
    if is_new {
        SqliteStore::migrate(file, &SecureGenerator::new())?;
    }
    match open(config).await {
        Err(SchemaError::Older(_)) => {
            SqliteStore::migrate(file, &SecureGenerator::new())?;
            Ok((open(config).await?, is_new))
        }
        opened => Ok((opened?, is_new)),
    }
}

/// Migrates the schema. In PostgreSQL it also makes the first keys, so that no node has to.
pub(super) async fn migrate(config: &Config) -> Result<Migration, Failure> {
    make_directories(config)?;
    match &config.database {
        Database::Sqlite(file) => Ok(SqliteStore::migrate(file, &SecureGenerator::new())?),
        Database::Postgres(connection) => {
            master_key::require_master_key(config)?;
            let migration = PostgresStore::migrate(connection, &SecureGenerator::new()).await?;
            master_key::open_or_make_keys(config, &open(config).await?).await?;
            Ok(migration)
        }
    }
}

/// Returns the migration that [`migrate`] would carry out.
pub(super) async fn pending(config: &Config) -> Result<Migration, SchemaError> {
    match &config.database {
        Database::Sqlite(file) => SqliteStore::pending(file),
        Database::Postgres(connection) => PostgresStore::pending(connection).await,
    }
}

/// Creates the missing directories of the data and of the database, with mode 0700.
pub(super) fn make_directories(config: &Config) -> Result<(), Failure> {
    let of_database = match &config.database {
        Database::Sqlite(file) => file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty()),
        Database::Postgres(_) => None,
    };
    for directory in [Some(config.data_dir.as_path()), of_database]
        .into_iter()
        .flatten()
    {
        make_directory(directory)?;
    }
    Ok(())
}

fn make_directory(directory: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| {
            Failure(format!(
                "the directory {} can't be made: {error}",
                directory.display()
            ))
        })
}
