//! The lock of an embedded database: one server, or copy, at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Failure;

/// An exclusive lock on a file beside the database. It ends with the process, however that ends; the file stays, and
/// names the process that has the lock or had it last.
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Acquires the lock of `database`, or fails at once. `does` follows "process 12" in the message to others.
    pub(super) fn take(database: &Path, does: &str) -> Result<Self, Failure> {
        let path = database.with_extension("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| problem(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {
                let lock = Self { path, file };
                lock.say(does)?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => {
                let mut first = String::new();
                let _ = file.read_to_string(&mut first);
                let first = if first.is_empty() {
                    "another process".to_owned()
                } else {
                    first
                };
                Err(Failure(format!(
                    "{} is in use already, by {first}. Stop that one first, or name another database or data directory",
                    database.display()
                )))
            }
            Err(TryLockError::Error(error)) => Err(problem(&path, &error)),
        }
    }

    /// Replaces the message to others.
    pub(super) fn say(&self, does: &str) -> Result<(), Failure> {
        let text = format!("process {}{does}", std::process::id());
        // Not emptied first: to free a block and take it again can cost the disk as much as a sync.
        self.file
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.file.set_len(text.len() as u64))
            .map_err(|error| problem(&self.path, &error))
    }
}

fn problem(path: &Path, error: &io::Error) -> Failure {
    Failure(format!("{}: {error}", path.display()))
}
