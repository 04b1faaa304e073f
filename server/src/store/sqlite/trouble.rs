//! Explains an error of SQLite to an operator: which file, why, and what to do.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::{Error, ErrorCode};
use rustix::fs::Access;

use super::files::{is_full, lacks_locks};
use crate::store::Unavailable;

/// Names the file of an error.
pub(super) fn unavailable_at(file: &Path, error: &Error) -> Unavailable {
    Unavailable(format!("{}: {}", file.display(), explained(file, error)))
}

/// Explains an error, to stand behind the name of its file: SQLite's own words, and what would help.
pub(super) fn explained(file: &Path, error: &Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => unopened(file, error),
        _ if is_full(error) => format!(
            "{error}: its disk is full, or a quota on it, and there is no room for what SQLite keeps beside it, {0}-wal and \
             {0}-shm. Make room on that disk",
            file.display()
        ),
        _ if lacks_locks(error) => format!("{error}: {LACKS_LOCKS}"),
        _ => with_advice(error),
    }
}

/// Adds to an error of SQLite what would help.
pub(super) fn with_advice(error: &(dyn std::error::Error + 'static)) -> String {
    let code = error
        .downcast_ref()
        .and_then(Error::sqlite_error_code)
        .and_then(advice);
    match code {
        Some(advice) => format!("{error}. {advice}"),
        None => error.to_string(),
    }
}

/// Explains why a file can't be opened, which SQLite keeps to itself. It isn't opened to find out: to close it again would
/// take the locks of all connections of this process (POSIX).
fn unopened(file: &Path, error: &Error) -> String {
    let is_directory = std::fs::metadata(file).is_ok_and(|found| found.is_dir());
    match rustix::fs::access(file, Access::READ_OK | Access::WRITE_OK) {
        Err(reason) => inaccessible(&io::Error::from(reason)),
        Ok(()) if is_directory => inaccessible(&io::Error::from(rustix::io::Errno::ISDIR)),
        Ok(()) => inaccessible(error),
    }
}

/// Adds to the reason for which a database can't be opened who must be able to.
pub fn inaccessible(reason: &dyn fmt::Display) -> String {
    format!(
        "{reason}. The user that guestpass runs as, number {}, must be able to read and write it, and to make files in its \
         directory",
        rustix::process::geteuid()
    )
}

/// Names a thing that a database needs and a file system may lack.
const LACKS_LOCKS: &str = "its file system can't lock files, or has no memory that processes share, as some network file \
                           systems. Put the database on a local disk: --data-dir, or the setting database";

fn advice(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::DatabaseCorrupt => Some("It is damaged: stop the server and restore a backup"),
        ErrorCode::NotADatabase => {
            Some("Name the right file: --data-dir, or the setting database; or restore a backup")
        }
        ErrorCode::DiskFull => Some("Make room on its disk"),
        ErrorCode::ReadOnly => Some(
            "The user that guestpass runs as must be able to write it, and to make files in its directory, and the disk must \
             not be mounted read-only",
        ),
        ErrorCode::SystemIoFailure => Some("Look at its disk: the system's log says more"),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Some("Another process holds it: try again")
        }
        _ => None,
    }
}
