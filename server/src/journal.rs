//! The journal: an append-only log of erasures and revocations, in a file outside the database.
//!
//! A database goes back in time when a backup is restored, or when a replica takes over that lagged behind. Erasures
//! and revocations that it loses thereby must be repeated. So each is appended here before it is written to the
//! database (write-ahead), and `restore.rs` replays the journal at start if the database lacks something of it. Each
//! line is a JSON object. It names a grant by its `sid`, which holds the guest's `sub`, and an erased guest by the hash
//! of its tombstone.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use guestpass_core::grant::{GrantId, Revocation};
use guestpass_core::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::store::{RevokedAccessToken, Tombstone, Unavailable};
use appender::{Appender, Job, QUEUE};

mod appender;
mod compact;
mod line;

/// An entry of the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A grant was revoked.
    GrantRevoked(GrantId, Revocation),
    /// An access token was revoked.
    AccessTokenRevoked(RevokedAccessToken),
    /// A guest was erased.
    GuestErased(Tombstone),
    /// A checkpoint: the store had everything before this, and was then given the same mark. A store without it went
    /// back.
    Mark([u8; 16]),
}

impl Entry {
    /// Returns the time of the event. `None` for a mark.
    fn at(&self) -> Option<Timestamp> {
        match self {
            Self::GrantRevoked(_, revocation) => Some(revocation.at),
            Self::AccessTokenRevoked(token) => Some(token.at),
            Self::GuestErased(tombstone) => Some(tombstone.at),
            Self::Mark(_) => None,
        }
    }
}

/// Appends to the journal, by group commit: entries go through a bounded queue to one thread, which writes all that
/// wait, syncs once and answers each. [`Journal::append`] returns when its entry is durable, so call it first, then
/// write to the store, then answer the request. Reading needs no open journal. When this is dropped, the thread works
/// off the queue and ends.
pub struct Journal {
    queue: mpsc::Sender<Job>,
}

impl Journal {
    /// Opens the journal, creating it with mode 0600 if it doesn't exist.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be opened.
    pub fn open(file: &Path) -> Result<Self, JournalError> {
        let problem = |error: &dyn fmt::Display| JournalError(file.to_owned(), error.to_string());
        let mut opened = compact::open_shared(file).map_err(|error| problem(&error))?;
        end_line(&mut opened).map_err(|error| problem(&error))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let appender = Appender::new(opened, file);
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || appender.run(jobs))
            .map_err(|error| problem(&error))?;
        Ok(Self { queue })
    }

    /// Appends an entry, and returns when it is on the disk. Waits while the queue is full (backpressure).
    ///
    /// # Errors
    /// [`Unavailable`] if the file can't be written: the disk is full or gone.
    pub async fn append(&self, entry: Entry) -> Result<(), Unavailable> {
        self.ask(line::written(entry)).await
    }

    /// Tries whether an entry could be appended now: the file is still the one that was opened, the last append didn't
    /// fail, and there is room on its disk. Appends nothing, but for the end of a line after a failure.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn check(&self) -> Result<(), Unavailable> {
        self.ask(String::new()).await
    }

    async fn ask(&self, line: String) -> Result<(), Unavailable> {
        let ended = || Unavailable("the journal's thread has ended: restart the server".into());
        let (reply, answer) = oneshot::channel();
        let job = Job { line, reply };
        self.queue.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Reads a whole journal. A line that is no entry is skipped, and a file that doesn't exist is an empty journal.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be read.
    pub fn read(file: &Path) -> Result<Vec<Entry>, JournalError> {
        Self::read_from(file, None)
    }

    /// Reads the last mark of a journal and what follows it; all of the journal, if it has no mark.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn since_last_mark(file: &Path) -> Result<Vec<Entry>, JournalError> {
        let last_mark =
            |entries: &[Entry]| entries.iter().rposition(|e| matches!(e, Entry::Mark(_)));
        let mut entries = Self::read_back(file, |entries| last_mark(entries).is_some())?;
        let mark = last_mark(&entries).unwrap_or_default();
        Ok(entries.split_off(mark))
    }

    /// Reads the entries since that time, and perhaps some before it.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn since(file: &Path, time: Timestamp) -> Result<Vec<Entry>, JournalError> {
        Self::read_back(file, |entries| {
            entries
                .iter()
                .find_map(Entry::at)
                .is_some_and(|first| first < time)
        })
    }

    /// Reads an ever larger part of the end of a journal, until `is_enough` or all of it is read.
    fn read_back(
        file: &Path,
        is_enough: impl Fn(&[Entry]) -> bool,
    ) -> Result<Vec<Entry>, JournalError> {
        let mut bytes = FIRST_READ;
        loop {
            let entries = Self::read_from(file, Some(bytes))?;
            let is_all = std::fs::metadata(file).map_or(0, |file| file.len()) <= bytes;
            if is_all || is_enough(&entries) {
                return Ok(entries);
            }
            bytes *= 4;
        }
    }

    fn read_from(file: &Path, last_bytes: Option<u64>) -> Result<Vec<Entry>, JournalError> {
        let problem = |error: std::io::Error| JournalError(file.to_owned(), error.to_string());
        let mut opened = match File::open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(problem(error)),
        };
        if let Some(bytes) = last_bytes {
            let length = opened.metadata().map_err(problem)?.len();
            // In the middle of a line, most likely, which then is no entry.
            let start = SeekFrom::Start(length.saturating_sub(bytes));
            opened.seek(start).map_err(problem)?;
        }
        let mut entries = Vec::new();
        for line in BufReader::new(opened).split(b'\n') {
            entries.extend(line::read(&line.map_err(problem)?));
        }
        Ok(entries)
    }

    /// Drops the entries that no restore can make necessary any more: access tokens that have expired, and whatever is
    /// older than `keep`. Does nothing while the journal is short, most of it is needed, or another process has it
    /// open.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be read or replaced; then it is as it was.
    pub fn compact(file: &Path, keep: Duration, now: Timestamp) -> Result<(), JournalError> {
        compact::compact(file, keep, now, WORTH_COMPACTING)
            .map_err(|error| JournalError(file.to_owned(), error.to_string()))
    }
}

/// The size in bytes from which on compaction is worth it: some ten thousand entries.
const WORTH_COMPACTING: u64 = 1024 * 1024;

/// The bytes at the end that are read first.
const FIRST_READ: u64 = 4 * 1024;

/// Ends a line that a crash cut off, so that the next one doesn't join it. Nobody was told that the cut-off entry is
/// durable.
fn end_line(file: &mut File) -> std::io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// Names a journal that can't be used, and says why.
#[derive(Debug)]
pub struct JournalError(PathBuf, String);

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the journal {} can't be used: {}. Erasures and revocations need it. Mend that, or name another file with \
             the setting journal",
            self.0.display(),
            self.1
        )
    }
}

impl std::error::Error for JournalError {}
