//! Decides whether the log beside a database belongs to it.
//!
//! SQLite takes any log of the right name for the database's own. A backup that is copied over a database whose server was
//! killed is thereby mixed with the pages of another file, or undone. So each start writes a number into the file, has the
//! whole log moved there, and only then writes the same number into the log as well. From then on a log that has a number
//! which the file without it hasn't belongs to another file.

use std::fs;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Synchronous, cannot_open, open};
use crate::files::{resolved, with_suffix};
use crate::random::Random;
use crate::store::SchemaError;

/// The numbers of the last start, as the database has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Starts {
    in_file: Option<i64>,
    in_log: Option<i64>,
}

/// Checks a database that nobody uses and that was not closed: its log belongs to it, and the two are sound. Changes
/// nothing.
///
/// # Errors
/// [`SchemaError::ForeignLog`] or [`SchemaError::Damaged`].
pub fn check_log(file: &Path) -> Result<(), SchemaError> {
    let damaged = |problem: String| SchemaError::Damaged(file.display().to_string(), problem);
    let real = resolved(file).unwrap_or_else(|_| file.to_owned());
    let log = with_suffix(&real, "-wal");
    let has_something = |file| fs::metadata(file).is_ok_and(|found| found.len() > 0);
    // Of an empty database SQLite would empty the log, too.
    if !has_something(&real) || !has_something(&log) {
        return Ok(());
    }
    // A checkpoint that was cut off leaves a file that can't be read without its log.
    let without_log = read_without_log(&real).ok();
    let opened = open(&real, Synchronous::Full).and_then(|connection| {
        // Else the log would be moved into the file at the end.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(connection)
    });
    let connection = opened.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(error.to_string()),
        _ => cannot_open(file, &error),
    })?;
    let is_foreign = match (without_log, read(&connection)) {
        (Some(without), Ok(with)) => !belongs(without, with),
        (Some(_), Err(_)) => true,
        (None, _) => false,
    };
    if is_foreign {
        return Err(SchemaError::ForeignLog(
            file.display().to_string(),
            log.display().to_string(),
        ));
    }
    let problems: Vec<String> = connection
        .prepare("pragma quick_check(1)")
        .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect())
        .unwrap_or_else(|error: rusqlite::Error| vec![error.to_string()]);
    match problems.first() {
        Some(problem) if problem != "ok" => Err(damaged(problem.clone())),
        _ => Ok(()),
    }
}

/// Decides whether a log belongs to a file, by what can be read of the file alone and of both together. A start that was
/// cut off may have got its number into the file, and not yet into the log.
fn belongs(without_log: Starts, with_log: Starts) -> bool {
    without_log.in_file == with_log.in_log || without_log.in_file == with_log.in_file
}

fn read(connection: &Connection) -> rusqlite::Result<Starts> {
    const SQL: &str = "select start_in_file, start_in_log from installation";
    connection.query_row(SQL, [], |row| {
        Ok(Starts {
            in_file: row.get(0)?,
            in_log: row.get(1)?,
        })
    })
}

fn read_without_log(file: &Path) -> rusqlite::Result<Starts> {
    let mut uri = "file:".to_owned();
    for byte in file.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    // SQLite reads no log of a file that it is told nobody changes.
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    read(&Connection::open_with_flags(uri, flags)?)
}

/// Gives the log of this start to the file, which nobody else serves: the log before it is moved into the file first, so
/// that a disk that it has filled has room again.
///
/// # Errors
/// [`SchemaError`] if the file can't be written.
pub fn begin_log(file: &Path, random: &dyn Random) -> Result<(), SchemaError> {
    const IN_FILE: &str = "update installation set start_in_file = ?";
    const IN_LOG: &str = "update installation set start_in_log = start_in_file";
    const MOVE: &str = "pragma wal_checkpoint(truncate)";
    let begin = || {
        let connection = open(file, Synchronous::Full)?;
        let moved = || connection.query_row(MOVE, [], |row| row.get::<_, i64>(0));
        moved()?;
        connection.execute(IN_FILE, [i64::from_le_bytes(random.bytes())])?;
        // While somebody reads, a part of the log stays, and with it the number of the start before.
        if moved()? == 0 {
            connection.execute(IN_LOG, [])?;
        }
        Ok(())
    };
    begin().map_err(|error: rusqlite::Error| SchemaError::cannot_open(&file.display(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_belongs_to_the_file_that_its_start_was_written_to() {
        let starts = |in_file, in_log| Starts { in_file, in_log };
        for (without_log, with_log, expected) in [
            // As it is while a server runs, before and after its log was moved.
            (starts(Some(2), Some(1)), starts(Some(2), Some(2)), true),
            (starts(Some(2), Some(2)), starts(Some(2), Some(2)), true),
            // A start was cut off: before its number was in the file, and after.
            (starts(Some(1), Some(1)), starts(Some(2), Some(1)), true),
            (starts(Some(2), Some(1)), starts(Some(2), Some(1)), true),
            // The first one.
            (starts(None, None), starts(Some(1), None), true),
            // A backup of an earlier start, or from before the first, under the log of a later one.
            (starts(Some(1), Some(1)), starts(Some(2), Some(2)), false),
            (starts(None, None), starts(Some(2), Some(2)), false),
        ] {
            assert_eq!(belongs(without_log, with_log), expected, "{with_log:?}");
        }
    }
}
