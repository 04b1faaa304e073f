//! Decides whether the log beside a database belongs to it, and whether all of it is there.
//!
//! SQLite takes any log of the right name for the database's own. A backup that is copied over a database whose server was
//! killed is thereby mixed with the pages of another file, or undone. So each start, and each checkpoint after which the
//! log begins anew, writes a number into the file, has the whole log moved there, and only then writes the same number
//! into the log as well ([`numbered`]). From then on a log that has a number which the file without it hasn't belongs to
//! another file. Decision 14 says what that can't tell.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use guestpass_core::time::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::frames::{Readable, readable};
use super::reached::is_open;
use super::{Synchronous, cannot_open, open};
use crate::cli::rfc3339;
use crate::files::{resolved, with_suffix};
use crate::store::SchemaError;
use crate::timing::BUSY_TIMEOUT;

/// Describes the log that a database was left with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftLog {
    database: String,
    log: String,
    /// It, or its end, is missing: the time at which the database as it is now was last served, 0 if never.
    lacks_since: Option<Timestamp>,
    /// The file says that it was closed: a backup was put there, unless a checkpoint or a command was cut off.
    is_of_closed_file: bool,
}

impl LeftLog {
    /// Returns whether it, or its end, is missing.
    #[must_use]
    pub const fn is_lacking(&self) -> bool {
        self.lacks_since.is_some()
    }

    /// Returns whether it is more than what every crash leaves.
    #[must_use]
    pub const fn is_suspicious(&self) -> bool {
        self.is_lacking() || self.is_of_closed_file
    }
}

impl fmt::Display for LeftLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, log, .. } = self;
        let Some(since) = self.lacks_since else {
            return write!(
                f,
                "the database {database} was not closed, and goes on with its log, {log}. If you have \
                 put a backup there since, that is undone: restore it once more, and remove the log first"
            );
        };
        let since = match since.as_millis() {
            0 => String::new(),
            _ => format!(" who came since {}", rfc3339(since)),
        };
        write!(
            f,
            "the database {database} was not closed, and its log, {log}, is missing, cut off, or unreadable at its end: what was there is lost. \
             Guests{since} may be missing. If you have that log, stop, bring it back together with the database that it \
             belongs to, and start again"
        )
    }
}

/// The outcome of a check.
#[derive(Default)]
pub struct Checked {
    /// The log that was left, unless it is in use.
    pub left: Option<LeftLog>,
    /// The connection that has read the log: while it is open, the next one need not read all of it again.
    pub connection: Option<Connection>,
}

impl Checked {
    /// Logs what was left: as an error if guests may be missing.
    pub fn log_left(&self) {
        match &self.left {
            Some(left) if left.is_lacking() => tracing::error!("{left}"),
            Some(left) => tracing::warn!("{left}"),
            None => {}
        }
    }
}

/// The numbers of the last log, as the database has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Numbers {
    in_file: Option<i64>,
    in_log: Option<i64>,
    /// The time at which the installation was last served.
    seen_at: Timestamp,
}

impl Numbers {
    /// Returns whether a file, read without its log, was not closed: then the log's number is in the log only.
    fn is_of_open_file(self) -> bool {
        self.in_file != self.in_log
    }
}

/// Checks a database that nobody serves: the log beside it, if it was not closed, belongs to it, and the two are sound.
/// Changes nothing. For a command it reads no log that was cut off, for that would make its index anew, which is the proof:
/// the next start is to say so in its log.
///
/// # Errors
/// [`SchemaError::ForeignLog`], [`SchemaError::LackingLog`], [`SchemaError::DamagedLog`] or [`SchemaError::Damaged`].
pub fn check_log(file: &Path, is_command: bool) -> Result<Checked, SchemaError> {
    let damaged = |problem: String| SchemaError::Damaged(file.display().to_string(), problem);
    let real = resolved(file).unwrap_or_else(|_| file.to_owned());
    let log = with_suffix(&real, "-wal");
    // Of an empty database SQLite would empty the log, too.
    if !has_something(&real) {
        return Ok(Checked::default());
    }
    refuse_rollback(file, &real)?;
    let is_in_use = is_open(&real);
    // Of what is no database, SQLite says so.
    let readable = match page_size(&real).filter(|_| !is_in_use) {
        None => None,
        Some(_) if !has_something(&log) => Some(Readable::default()),
        Some(page) => Some(readable(&log, page).map_err(|error| damaged(error.to_string()))?),
    };
    if let Some(damaged) = readable.as_ref().filter(|readable| readable.is_damaged) {
        let (file, log) = (file.display().to_string(), log.display().to_string());
        return Err(SchemaError::DamagedLog(file, log, damaged.length));
    }
    // Before SQLite has read the log, and made its index anew. Not afterwards: to close the index takes away the locks that
    // this process has on it, and the next one to come would empty it under the others.
    let index = with_suffix(&real, "-shm");
    let is_cut_off = readable.is_some_and(|readable| is_cut_off(&log, &index, readable.length));
    // A checkpoint that was cut off leaves a file that can't be read without its log.
    let without_log = read_without_log(&real).ok();
    let found = |lacks_since| LeftLog {
        database: file.display().to_string(),
        log: log.display().to_string(),
        lacks_since,
        is_of_closed_file: !without_log.is_some_and(Numbers::is_of_open_file),
    };
    if is_command && is_cut_off && has_something(&log) {
        let seen_at = without_log.map_or(Timestamp::from_millis(0), |numbers| numbers.seen_at);
        return Err(SchemaError::LackingLog(found(Some(seen_at)).to_string()));
    }
    if !has_something(&log) {
        let is_missing =
            !is_in_use && !log.exists() && without_log.is_some_and(Numbers::is_of_open_file);
        let left = without_log.filter(|_| is_missing || is_cut_off);
        return Ok(Checked {
            left: left.map(|numbers| found(Some(numbers.seen_at))),
            connection: None,
        });
    }
    let foreign = || SchemaError::ForeignLog(file.display().to_string(), log.display().to_string());
    if has_no_log(&real) {
        return Err(foreign());
    }
    let opened = open(&real, Synchronous::Full).and_then(|connection| {
        // Else the log would be moved into the file at the end.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(connection)
    });
    let connection = opened.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(error.to_string()),
        _ => cannot_open(file, &error),
    })?;
    let with_log = read(&connection);
    let is_foreign = match (without_log, &with_log) {
        (Some(without), Ok(with)) => !belongs(without, *with),
        (Some(_), Err(_)) => true,
        (None, _) => false,
    };
    if is_foreign {
        return Err(foreign());
    }
    let problems: Vec<String> = connection
        .prepare("pragma quick_check(1)")
        .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect())
        .unwrap_or_else(|error: rusqlite::Error| vec![error.to_string()]);
    match problems.first() {
        Some(problem) if problem != "ok" => return Err(damaged(problem.clone())),
        _ => {}
    }
    let left = match with_log {
        Ok(numbers) if is_cut_off => Some(found(Some(numbers.seen_at))),
        _ if is_in_use => None,
        _ => Some(found(None)),
    };
    Ok(Checked {
        left,
        connection: Some(connection),
    })
}

/// Refuses a database beside which lies what SQLite keeps in other modes than ours, and would take back into the file. Only at
/// the beginning of a database, before it is one of ours, may there be one.
fn refuse_rollback(file: &Path, real: &Path) -> Result<(), SchemaError> {
    let rollback = with_suffix(real, "-journal");
    if has_something(&rollback) && read_without_log(real).is_ok() {
        let (file, rollback) = (file.display().to_string(), rollback.display().to_string());
        return Err(SchemaError::ForeignLog(file, rollback));
    }
    Ok(())
}

fn has_something(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.len() > 0)
}

/// Returns whether a database was not closed, as its file says without the log.
pub(super) fn is_of_open_file(file: &Path) -> bool {
    read_without_log(file).is_ok_and(Numbers::is_of_open_file)
}

/// Returns whether a database says that it has no log, as what `vacuum into` has made. Ours always has one.
fn has_no_log(file: &Path) -> bool {
    const LOG: u8 = 2;
    beginning::<20>(file)
        .is_some_and(|header| header.starts_with(MAGIC) && header[18..] != [LOG, LOG])
}

/// Returns the size of the pages of a database, in bytes (SQLite's file format, section 1.3.2).
fn page_size(file: &Path) -> Option<usize> {
    let header = beginning::<18>(file).filter(|header| header.starts_with(MAGIC))?;
    match u16::from_be_bytes([header[16], header[17]]) {
        1 => Some(65_536),
        size => Some(size.into()).filter(|size| (512..=32_768).contains(size)),
    }
}

const MAGIC: &[u8] = b"SQLite format 3\0";

/// Returns whether a log, of which `readable` bytes can be read, has fewer frames than its index, which is left by a crash as
/// well, has counted. SQLite writes a frame to the disk before it counts it.
fn is_cut_off(log: &Path, index: &Path, readable: u64) -> bool {
    let Some(counted) = beginning::<100>(index) else {
        return false;
    };
    let number = |at: usize| {
        u32::from_ne_bytes([
            counted[at],
            counted[at + 1],
            counted[at + 2],
            counted[at + 3],
        ])
    };
    let (frames, moved) = (number(16), number(96));
    let is_begun = counted[12] == 1;
    let is_of_log = |header: [u8; 32]| header[16..24] == counted[32..40];
    let page = match u64::from(u16::from_ne_bytes([counted[14], counted[15]])) {
        1 => 65_536,
        page => page,
    };
    let expected = 32 + u64::from(frames) * (24 + page);
    is_begun
        && moved < frames
        && readable < expected
        // One that was begun anew has its own count.
        && beginning(log).is_none_or(is_of_log)
        // Another process may have begun it anew meanwhile.
        && beginning::<100>(index) == Some(counted)
}

fn beginning<const LENGTH: usize>(file: &Path) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    File::open(file).ok()?.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Decides whether a log belongs to a file, by what can be read of the file alone and of both together. A start that was
/// cut off may have got its number into the file, and not yet into the log.
fn belongs(without_log: Numbers, with_log: Numbers) -> bool {
    without_log.in_file == with_log.in_log || without_log.in_file == with_log.in_file
}

fn read(connection: &Connection) -> rusqlite::Result<Numbers> {
    const SQL: &str = "select log_in_file, log_in_log, seen_at from installation";
    connection.query_row(SQL, [], |row| {
        Ok(Numbers {
            in_file: row.get(0)?,
            in_log: row.get(1)?,
            seen_at: Timestamp::from_millis(row.get(2)?),
        })
    })
}

fn read_without_log(file: &Path) -> rusqlite::Result<Numbers> {
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

/// Begins the log of a server, which nobody else serves: the log before it is moved into the file first, so that a disk
/// that it has filled has room again.
///
/// # Errors
/// [`SchemaError`] if the file can't be written.
pub fn begin_log(file: &Path) -> Result<(), SchemaError> {
    const MOVE: &str = "pragma wal_checkpoint(truncate)";
    let begin = || {
        let connection = open(file, Synchronous::Full)?;
        let moved = || connection.query_row(MOVE, [], |row| Ok(row.get::<_, i64>(0)? == 0));
        moved()?;
        numbered(&connection, moved).map(drop)
    };
    begin().map_err(|error: rusqlite::Error| cannot_open(file, &error))
}

/// Gives the log that begins when `move_all` has moved all of the present one, which it returns, a number of its own.
/// Returns the same. No step that fails or is left out, as on a full disk, makes a log foreign: it is then only told
/// from fewer others.
pub(super) fn numbered(
    connection: &Connection,
    move_all: impl FnOnce() -> rusqlite::Result<bool>,
) -> rusqlite::Result<bool> {
    // If the last number is not confirmed, the file may have it already: then that goes on.
    const DRAW: &str =
        "update installation set log_in_file = random() where log_in_file is log_in_log";
    match connection.execute(DRAW, []) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Ok(false);
        }
        // Without room, to move the log is what helps.
        _ => {}
    }
    let is_moved = move_all()?;
    if is_moved {
        let _ = confirm_number(connection);
    }
    Ok(is_moved)
}

/// Writes the number that the file has to the log, all of which before it must have been moved. Returns `false` if it was
/// there already.
pub(super) fn confirm_number(connection: &Connection) -> rusqlite::Result<bool> {
    const SQL: &str =
        "update installation set log_in_log = log_in_file where log_in_log is not log_in_file";
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection.execute(SQL, [])? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_belongs_to_the_file_that_its_number_was_written_to() {
        let numbers = |in_file, in_log| Numbers {
            in_file,
            in_log,
            seen_at: Timestamp::from_millis(0),
        };
        for (without_log, with_log, expected) in [
            // As it is while a server runs, before and after its log was moved.
            (numbers(Some(2), Some(1)), numbers(Some(2), Some(2)), true),
            (numbers(Some(2), Some(2)), numbers(Some(2), Some(2)), true),
            // A start was cut off: before its number was in the file, and after.
            (numbers(Some(1), Some(1)), numbers(Some(2), Some(1)), true),
            (numbers(Some(2), Some(1)), numbers(Some(2), Some(1)), true),
            // The first one.
            (numbers(None, None), numbers(Some(1), None), true),
            // A backup of an earlier start, or from before the first, under the log of a later one.
            (numbers(Some(1), Some(1)), numbers(Some(2), Some(2)), false),
            (numbers(None, None), numbers(Some(2), Some(2)), false),
        ] {
            assert_eq!(belongs(without_log, with_log), expected, "{with_log:?}");
        }
    }
}
