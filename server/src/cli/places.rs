//! Checks, without making anything, that a start could make and use the files that the settings name, where they name them.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use super::Failure;
use super::database::directories_to_make;
use crate::config::{Config, Database, Listen};
use crate::files::{directory_of, resolved};
use crate::journal::{Journal, JournalError};
use crate::store::SchemaError;
use crate::store::sqlite::inaccessible;

/// Checks the directories that a start makes, the database, the journal and the directory of a Unix socket.
pub(super) fn require_usable(config: &Config) -> Result<(), Failure> {
    require_database(config)?;
    Journal::check_kind(&config.journal)?;
    usable(&config.journal, &directories_to_make(config))
        .map_err(|error| JournalError::new(&config.journal, &error))?;
    if let Listen::Unix(socket) = &config.listen {
        let directory = directory_of(socket);
        access(directory, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| no_socket_in(directory, &config.listen, &error))?;
    }
    Ok(())
}

/// Checks the directories that a start makes, and the database.
pub(super) fn require_database(config: &Config) -> Result<(), Failure> {
    let made = directories_to_make(config);
    for directory in &made {
        makeable(directory).map_err(|error| cannot_make(directory, &error))?;
    }
    if let Database::Sqlite(file) = &config.database {
        let usable = usable(file, &made).and_then(|()| writable_directory(file, &made));
        usable.map_err(|error| SchemaError::cannot_open(&file.display(), &inaccessible(&error)))?;
    }
    Ok(())
}

/// Checks that a file could be made, if it doesn't exist.
pub(super) fn require_makeable(config: &Config, file: &Path) -> io::Result<()> {
    usable(file, &directories_to_make(config))
}

/// Explains that no socket can be made in a directory.
fn no_socket_in(directory: &Path, listen: &Listen, error: &io::Error) -> Failure {
    Failure(format!(
        "can't listen on {listen}: {}: {error}. A start doesn't make this directory: make one in which its user may make \
         files, as RuntimeDirectory=guestpass does in the unit, or choose another address with --listen",
        directory.display()
    ))
}

/// Explains that a directory can't be made.
pub(super) fn cannot_make(directory: &Path, error: &io::Error) -> Failure {
    Failure(format!(
        "the directory {} can't be made: {error}",
        directory.display()
    ))
}

/// Checks that a directory exists, or could be made with all that leads to it.
fn makeable(directory: &Path) -> io::Result<()> {
    match directory.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Errno::EXIST.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // A link that leads nowhere.
        Err(_) if directory.symlink_metadata().is_ok() => Err(Errno::EXIST.into()),
        Err(_) => {
            let parent = directory_of(directory);
            makeable(parent)?;
            match parent.is_dir() {
                true => access(parent, Access::WRITE_OK | Access::EXEC_OK),
                false => Ok(()),
            }
        }
    }
}

/// Checks that a file can be read and written or, if it doesn't exist, be made. `made` are the directories that a start makes.
fn usable(file: &Path, made: &[PathBuf]) -> io::Result<()> {
    match file.metadata() {
        Ok(_) => access(file, Access::READ_OK | Access::WRITE_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => writable_directory(file, made),
        Err(error) => Err(error),
    }
}

/// Checks that files can be made beside a file.
fn writable_directory(file: &Path, made: &[PathBuf]) -> io::Result<()> {
    let real = resolved(file)?;
    let directory = directory_of(&real);
    let is_made = |made: &PathBuf| resolved(made).is_ok_and(|made| made.starts_with(directory));
    if !directory.exists() && made.iter().any(is_made) {
        return Ok(());
    }
    access(directory, Access::WRITE_OK | Access::EXEC_OK)
}

fn access(path: &Path, wanted: Access) -> io::Result<()> {
    Ok(rustix::fs::access(path, wanted)?)
}
