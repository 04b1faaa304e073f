//! Decides whether this process may still trust the files that it has open: the database, the log and the log's index.
//!
//! Three things can take that trust away. A file may have been moved or deleted under the process, which then writes what
//! nobody will read: no write is taken until it is back. A sync of the database file may have failed; the operating
//! system says so once and then takes the lost pages for written, so nothing in this process can tell any more what is
//! on the disk: no write is taken, the log is never emptied or started over, and the process ends. And a page may be
//! malformed, which concerns whoever needs that page: the readiness check says so, and the others are served.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::watch;

use crate::store::Unavailable;

/// Holds what is known of the files of one store, shared by all its connections.
pub(super) struct Files {
    /// The database file, to sync it. To close it takes the locks of all connections of this process (POSIX), so
    /// whoever has a connection shares this, and drops it last.
    file: File,
    path: PathBuf,
    /// The files by their paths. Those beside the database may come to be later.
    opened: [(PathBuf, OnceLock<Identity>); 3],
    /// No write is to be taken. The one look that a batch takes.
    refuses_writes: AtomicBool,
    problems: Mutex<Problems>,
    has_failed: watch::Sender<Option<Unavailable>>,
}

#[derive(Default)]
struct Problems {
    displaced: Option<Unavailable>,
    malformed: Option<Unavailable>,
    unsynced: Option<Unavailable>,
}

/// Tells a file from every other: its device and its inode.
type Identity = (u64, u64);

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino())
}

impl Files {
    /// Opens the database file at `path`, which has a connection already.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // For writing, but only to reserve room.
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let beside = |ending| {
            let path = PathBuf::from(format!("{}{ending}", path.display()));
            let opened = match std::fs::metadata(&path) {
                Ok(found) => OnceLock::from(identity(&found)),
                Err(_) => OnceLock::new(),
            };
            (path, opened)
        };
        let database = OnceLock::from(identity(&file.metadata()?));
        Ok(Self {
            opened: [(path.to_owned(), database), beside("-wal"), beside("-shm")],
            file,
            path: path.to_owned(),
            refuses_writes: AtomicBool::new(false),
            problems: Mutex::default(),
            has_failed: watch::Sender::new(None),
        })
    }

    /// Returns the path of the database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the database file.
    pub(super) fn database(&self) -> &File {
        &self.file
    }

    /// Reserves room on the disk for a database file of that length, which stays as long as it is. Only Linux has a call
    /// for that.
    #[cfg(target_os = "linux")]
    pub(super) fn reserve(&self, length: u64) -> io::Result<()> {
        let and_keep_its_size = rustix::fs::FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(
            &self.file,
            and_keep_its_size,
            0,
            length,
        )?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    /// Fails if no write may be taken.
    pub(super) fn check_writable(&self) -> Result<(), Unavailable> {
        if !self.refuses_writes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let problems = self.problems();
        let problem = problems.unsynced.as_ref().or(problems.displaced.as_ref());
        problem.cloned().map_or(Ok(()), Err)
    }

    /// Looks whether the paths still lead to the files that are open, and fails if they don't or if anything else has
    /// taken the trust in them away.
    pub(super) fn check(&self) -> Result<(), Unavailable> {
        let displaced = self.displaced();
        let mut problems = self.problems();
        match (&problems.displaced, &displaced) {
            (None, Some(problem)) => tracing::error!(problem = %problem, "no write is taken"),
            (Some(_), None) => tracing::warn!(
                database = %self.path.display(),
                "the files of the database are in their places again"
            ),
            (None, None) | (Some(_), Some(_)) => {}
        }
        problems.displaced = displaced;
        let refuses = problems.unsynced.is_some() || problems.displaced.is_some();
        self.refuses_writes.store(refuses, Ordering::Relaxed);
        let Problems {
            displaced,
            malformed,
            unsynced,
        } = &*problems;
        let problem = unsynced.as_ref().or(displaced.as_ref());
        problem.or(malformed.as_ref()).cloned().map_or(Ok(()), Err)
    }

    /// Returns what is wrong with the place of the files, if that is sure.
    fn displaced(&self) -> Option<Unavailable> {
        self.opened.iter().find_map(|(path, opened)| {
            let found = match std::fs::metadata(path) {
                Ok(found) => Some(identity(&found)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                // A path that can't be followed now tells nothing of the file.
                Err(_) => return None,
            };
            let expected = match found {
                Some(found) => Some(*opened.get_or_init(|| found)),
                None => opened.get().copied(),
            };
            (found != expected).then(|| {
                Unavailable(format!(
                    "the file {} was {} under the server, which has another one open: what it writes there would be lost. \
                     Bring the old file back, or stop the server before you replace it",
                    path.display(),
                    if found.is_some() { "replaced" } else { "moved or deleted" }
                ))
            })
        })
    }

    /// Notes that a sync of the database file has failed: from now on no write is taken, and [`Files::failure`] ends.
    pub(super) fn sync_failed(&self, error: &dyn fmt::Display) {
        let problem = Unavailable(format!(
            "the database file {} could not be synced: {error}. What was moved into it may be lost, so the log is kept, \
             and the server ends; the next start moves all of the log into the file once more. Look after the disk",
            self.path.display()
        ));
        tracing::error!(problem = %problem, "no write is taken any more");
        self.problems().unsynced = Some(problem.clone());
        self.refuses_writes.store(true, Ordering::Relaxed);
        self.has_failed.send_replace(Some(problem));
    }

    /// Notes what an error of SQLite says of the files.
    pub(super) fn note(&self, code: Option<ErrorCode>, error: &dyn fmt::Display) {
        let is_malformed = matches!(
            code,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        );
        if !is_malformed {
            return;
        }
        let problem = Unavailable(format!(
            "the database {} is damaged: {error}. `guestpass db check` says where; restore a backup",
            self.path.display()
        ));
        let known = &mut self.problems().malformed;
        if known.is_none() {
            tracing::error!(problem = %problem, "a page of the database can't be used");
        }
        *known = Some(problem);
    }

    /// Returns whether a sync of the database file has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.borrow().is_some()
    }

    /// Waits until a sync of the database file has failed.
    pub(super) async fn failure(&self) -> Unavailable {
        let mut failed = self.has_failed.subscribe();
        let problem = failed.wait_for(Option::is_some).await;
        let problem = problem.ok().and_then(|problem| problem.clone());
        match problem {
            Some(problem) => problem,
            None => std::future::pending().await,
        }
    }

    /// Closes a connection. The last one to be closed moves the log into the file and removes it, so after a failed
    /// sync none may.
    pub(super) fn close(&self, connection: Connection) {
        if self.has_failed() {
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        drop(connection);
    }

    fn problems(&self) -> MutexGuard<'_, Problems> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether that is the error of a sync that failed.
pub(super) fn is_of_sync(error: &rusqlite::Error) -> bool {
    let codes = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
    extended_code(error).is_some_and(|code| codes.contains(&code))
}

/// Returns whether that is the error of a disk without room, for the log or for its index.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    let codes = [
        ffi::SQLITE_FULL,
        ffi::SQLITE_IOERR_SHMSIZE,
        // The index could not get its first bytes.
        ffi::SQLITE_IOERR_SHMOPEN,
    ];
    extended_code(error).is_some_and(|code| codes.contains(&code))
}

/// Returns whether that is the error of a file system without locks, or without memory that processes share.
pub(super) fn lacks_locks(error: &rusqlite::Error) -> bool {
    let codes = [
        ffi::SQLITE_IOERR_LOCK,
        ffi::SQLITE_IOERR_RDLOCK,
        ffi::SQLITE_IOERR_UNLOCK,
        ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
        ffi::SQLITE_IOERR_SHMLOCK,
        ffi::SQLITE_IOERR_SHMMAP,
    ];
    extended_code(error).is_some_and(|code| codes.contains(&code))
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    Some(error.sqlite_error()?.extended_code)
}
