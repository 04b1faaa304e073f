//! Opening the database that the configuration names.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guestpass_core::time::Timestamp;

use super::inventory::{Contents, DatabaseFile, Files, JournalSays, Lack};
use super::lock::Lock;
use super::master_key;
use super::places::{cannot_make, require_database};
use super::{Failure, rfc3339};
use crate::clock::{SteadyClock, SystemClock};
use crate::config::{Config, Database};
use crate::events::EventRecorder;
use crate::journal::Journal;
use crate::marks;
use crate::progress::waiting;
use crate::random::SecureGenerator;
use crate::store::postgres::{Connection, PostgresStore};
use crate::store::sqlite::{self, Checked, SqliteStore};
use crate::store::{Migration, SchemaError, Store};
use crate::terminal;
use crate::timekeeper::Timekeeper;

/// An open store, and the clock that all its users share.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<SteadyClock>,
}

impl Opened {
    /// Makes a recorder of what this command changes.
    pub(super) fn recorder(&self, records: bool) -> EventRecorder {
        let clock = Arc::clone(&self.clock);
        EventRecorder::new(records, clock, Arc::new(SecureGenerator::new()))
    }

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
    examine(config).await?;
    open_examined(config).await
}

/// Opens a store that was examined.
pub(super) async fn open_examined(config: &Config) -> Result<Opened, SchemaError> {
    let opened = match &config.database {
        Database::Sqlite(file) => {
            let (path, synchronous) = (file.clone(), config.synchronous);
            let store = blocking(file, move || SqliteStore::open(&path, synchronous)).await?;
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

/// Runs work on an embedded database that may wait for its lock, so that others can say so meanwhile.
async fn blocking<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce() -> Result<T, SchemaError> + Send + 'static,
) -> Result<T, SchemaError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(SchemaError::cannot_open(&file.display(), &error)))
}

/// Checks, before a command opens a database, that it may by this name, and the log that it was left with.
async fn examine(config: &Config) -> Result<(), SchemaError> {
    let Database::Sqlite(file) = &config.database else {
        return Ok(());
    };
    // The holder of the lock has checked the log.
    let is_served = Lock::is_taken(file);
    sqlite::check_name(file, is_served)?;
    if !is_served
        && let Some(left) = check_log(file, true).await?.left
        && left.is_suspicious()
    {
        terminal::say(&left.to_string());
    }
    Ok(())
}

/// Checks the same for whoever has the lock, and is to say what was left.
pub(super) async fn examine_locked(file: &Path) -> Result<Checked, SchemaError> {
    sqlite::check_name(file, false)?;
    check_log(file, false).await
}

async fn check_log(file: &Path, is_command: bool) -> Result<Checked, SchemaError> {
    let path = file.to_owned();
    let checking = blocking(file, move || sqlite::check_log(&path, is_command));
    waiting("checking the database, which was not closed", checking).await
}

/// Begins the log of a server that is about to start, and has the lock.
pub(super) async fn begin_log(file: &Path) -> Result<(), SchemaError> {
    let path = file.to_owned();
    let beginning = blocking(file, move || sqlite::begin_log(&path));
    waiting("moving the log into the database", beginning).await
}

async fn migrate_file(file: &Path) -> Result<Migration, SchemaError> {
    let path = file.to_owned();
    blocking(file, move || {
        SqliteStore::migrate(&path, &SecureGenerator::new())
    })
    .await
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
    examine(config).await?;
    open_or_make_examined(config).await
}

/// Does the same with a store that was examined.
pub(super) async fn open_or_make_examined(config: &Config) -> Result<(Opened, bool), Failure> {
    make_directories(config)?;
    let Database::Sqlite(file) = &config.database else {
        return Ok((open_examined(config).await?, false));
    };
    let mut files = Files::look(config)?;
    if files.database == DatabaseFile::Something {
        match open_examined(config).await {
            Err(SchemaError::Older(_)) => {
                migrate_file(file).await?;
                return Ok((open_examined(config).await?, false));
            }
            // A file without a table, as an interrupted start leaves it.
            Err(SchemaError::Missing(_)) => files.database = DatabaseFile::Empty,
            opened => return Ok((opened?, false)),
        }
    }
    if let Some(lack) = files.lack() {
        return Err(lack.failure(config));
    }
    migrate_file(file).await?;
    Ok((open_examined(config).await?, true))
}

/// Migrates the schema. In PostgreSQL it also makes the first keys, so that no node has to. Makes no new database where
/// there are remains of an old one, unless it `begins_anew`.
pub(super) async fn migrate(config: &Config, begins_anew: bool) -> Result<Migration, Failure> {
    make_directories(config)?;
    examine(config).await?;
    let lack = Files::look(config)?.lack();
    let lack = lack.filter(|lack| match lack {
        Lack::DatabaseOfKey => false,
        Lack::DatabaseOfLog => true,
        _ => !begins_anew,
    });
    if let Some(lack) = lack {
        return Err(lack.failure(config));
    }
    let migration = match &config.database {
        Database::Sqlite(file) => migrate_file(file).await?,
        Database::Postgres(connection) => {
            master_key::require_master_key(config).await?;
            PostgresStore::migrate(connection, &SecureGenerator::new()).await?
        }
    };
    if begins_anew {
        let opened = open(config).await?;
        master_key::open_or_make_keys(config, &opened).await?;
        let (journal, random) = (Journal::open(&config.journal)?, SecureGenerator::new());
        let (node, now) = (&config.node, opened.clock.now());
        marks::agree_from_here(&*opened.store, &journal, node, &random, now).await?;
    } else if matches!(config.database, Database::Postgres(_)) {
        let opened = open(config).await?;
        if let Some(lack @ Lack::Keys) = contents(config, &opened).await?.lack() {
            return Err(lack.failure(config));
        }
        master_key::open_or_make_keys(config, &opened).await?;
    }
    Ok(migration)
}

/// Checks, without making anything, that a start would find all of an installation, or nothing. `None` stands for a database
/// that doesn't exist.
pub(super) async fn require_nothing_lost(
    config: &Config,
    opened: Option<&Opened>,
) -> Result<(), Failure> {
    if let Some(opened) = opened {
        return require_whole(config, opened).await;
    }
    let mut files = Files::look(config)?;
    if files.database == DatabaseFile::Something {
        // It has no table.
        files.database = DatabaseFile::Empty;
    }
    match files.lack() {
        Some(lack) => Err(lack.failure(config)),
        None => Ok(()),
    }
}

/// Checks that the database has all that the journal proves.
pub(super) async fn require_whole(config: &Config, opened: &Opened) -> Result<(), Failure> {
    match contents(config, opened).await?.lack() {
        Some(lack) => Err(lack.failure(config)),
        None => Ok(()),
    }
}

async fn contents(config: &Config, opened: &Opened) -> Result<Contents, Failure> {
    let journal = JournalSays::look(&config.journal)?;
    Ok(Contents::look(&*opened.store, journal).await?)
}

/// Returns the migration that [`migrate`] would carry out.
pub(super) async fn pending(config: &Config) -> Result<Migration, SchemaError> {
    examine(config).await?;
    match &config.database {
        Database::Sqlite(file) => SqliteStore::pending(file),
        Database::Postgres(connection) => PostgresStore::pending(connection).await,
    }
}

/// Creates the missing directories of the data and of the database, with mode 0700, once it is known that they can be used.
pub(super) fn make_directories(config: &Config) -> Result<(), Failure> {
    require_database(config)?;
    for directory in directories_to_make(config) {
        make_directory(&directory)?;
    }
    Ok(())
}

/// Lists the directories that [`make_directories`] makes unless they are there.
pub(super) fn directories_to_make(config: &Config) -> Vec<PathBuf> {
    let of_database = match &config.database {
        Database::Sqlite(file) => file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty()),
        Database::Postgres(_) => None,
    };
    let directories = [Some(config.data_dir.as_path()), of_database];
    let directories = directories.into_iter().flatten();
    directories.map(Path::to_owned).collect()
}

fn make_directory(directory: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| cannot_make(directory, &error))
}
