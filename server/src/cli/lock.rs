//! The lock of an embedded database: one server, or copy, at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::lock_of;
use crate::files::{is_unknown_to_file_system, resolved};

/// An exclusive lock on the database file, by whatever name that is reached. It ends with the process, however that
/// ends; a file beside the database stays, and names the process that has the lock or had it last.
///
/// To close a file takes all locks of this process that SQLite has on it, so this is taken before a connection is opened
/// and dropped after the last one.
pub(super) struct Lock {
    _database: File,
    note: PathBuf,
}

impl Lock {
    /// Acquires the lock of `database`, which must exist, or fails at once. `does` follows "process 12" in the message to
    /// others.
    pub(super) fn take(database: &Path, does: &str) -> Result<Self, Failure> {
        let real = resolved(database).map_err(|error| problem(database, &error))?;
        let note = lock_of(&real);
        match try_lock(&real) {
            Ok(file) => {
                let lock = Self {
                    _database: file,
                    note,
                };
                lock.say(does)?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => {
                let first = holder(&real, &note);
                Err(Failure(format!(
                    "{} is in use already, by {first}. Stop that one first, or name another database or data directory",
                    database.display()
                )))
            }
            Err(TryLockError::Error(error)) => Err(problem(database, &error)),
        }
    }

    /// Returns whether a server has the lock of `database`. Fails if a server could not take it.
    pub(super) fn look(database: &Path) -> Result<bool, Failure> {
        let real = resolved(database).map_err(|error| problem(database, &error))?;
        match try_lock(&real) {
            Ok(_) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(problem(database, &error)),
        }
    }

    /// Returns whether a server has the lock of `database`.
    pub(super) fn is_taken(database: &Path) -> bool {
        matches!(try_lock(database), Err(TryLockError::WouldBlock))
    }

    /// Replaces the message to others. A file of that name that isn't ours is left alone.
    pub(super) fn say(&self, does: &str) -> Result<(), Failure> {
        if !is_ours(&self.note) {
            return Ok(());
        }
        let text = format!("process {}{does}", std::process::id());
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.note)
            .and_then(|file| {
                // Not emptied first: to free a block and take it again can cost the disk as much as a sync.
                file.write_all_at(text.as_bytes(), 0)?;
                file.set_len(text.len() as u64)
            });
        written.map_err(|error| problem(&self.note, &error))
    }
}

fn try_lock(database: &Path) -> Result<File, TryLockError> {
    let file = OpenOptions::new().read(true).write(true).open(database);
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Says which process has the lock, as far as that can be told.
fn holder(database: &Path, note: &Path) -> String {
    let noted = fs::read_to_string(note).ok().filter(|_| is_ours(note));
    let process = process_with_lock(database);
    let of_process = |noted: &String| {
        process.is_none_or(|id| {
            let name = format!("process {id}");
            noted
                .strip_prefix(&name)
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        })
    };
    match (noted.filter(of_process), process) {
        (Some(noted), _) if !noted.is_empty() => noted,
        (_, Some(id)) => format!("process {id}, perhaps by another name of the same file"),
        _ => "another process".to_owned(),
    }
}

/// Looks for the holder of a lock in the list of the kernel, for a database that was reached by another name. `None` if
/// there is no such list, or it is another container's process.
fn process_with_lock(database: &Path) -> Option<u32> {
    let inode = fs::metadata(database).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", process, file, ..] = words[..] else {
            return None;
        };
        let found = file.rsplit(':').next()?.parse::<u64>().ok()?;
        process.parse().ok().filter(|_| found == inode)
    })
}

/// Returns whether the message to others may be written there: there is nothing yet, or such a message.
fn is_ours(note: &Path) -> bool {
    match fs::symlink_metadata(note) {
        Ok(found) if found.is_file() => {
            let mut beginning = Vec::new();
            let read = File::open(note).and_then(|file| {
                file.take(BEGINNING.len() as u64)
                    .read_to_end(&mut beginning)
            });
            read.is_ok() && (beginning.is_empty() || beginning == BEGINNING)
        }
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

const BEGINNING: &[u8] = b"process ";

fn problem(path: &Path, error: &io::Error) -> Failure {
    let advice = match is_unknown_to_file_system(error) {
        true => {
            ". Its file system can't lock files, so two servers could change one database at once. Put it on a local disk: \
             --data-dir, or the setting database; on NFS, start the lock service"
        }
        false => "",
    };
    Failure(format!("{}: {error}{advice}", path.display()))
}
