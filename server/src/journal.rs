//! The journal: an append-only log of erasures and revocations, in a file outside the database.
//!
//! A database goes back in time when a backup is restored, or when a replica takes over that lagged behind. Erasures
//! and revocations that it loses thereby must be repeated. So each is appended here before it is written to the
//! database (write-ahead), and `restore.rs` carries out again what follows the last mark that the database has. Each
//! line is a JSON object. It names a grant by its `sid`, which holds the guest's `sub`, and an erased guest, or a link to a
//! customer that was undone, by the hash of its tombstone.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use guestpass_core::grant::{GrantId, Revocation};
use guestpass_core::time::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::store::{RevokedAccessToken, Tombstone, Unavailable};
use appender::{Appender, Job, QUEUE};
use read::{Entries, EntriesFromEnd};

mod appender;
mod compact;
mod line;
mod read;

/// An entry of the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A grant was revoked.
    GrantRevoked(GrantId, Revocation),
    /// An access token was revoked.
    AccessTokenRevoked(RevokedAccessToken),
    /// A guest was erased.
    GuestErased(Tombstone),
    /// The link of a guest to a customer was undone.
    LinkUndone(Tombstone),
    /// A checkpoint: a store that has this mark has everything before it.
    Mark(Mark),
    /// The store was given that mark. A store without it went back.
    MarkStored([u8; 16]),
}

/// A mark.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// Names the mark, in the store as well.
    pub id: [u8; 16],
    /// The time at which it was made, for people to read.
    pub at: Timestamp,
    /// The time at which the store had last gone back. Until all access tokens of then have expired, an entry may be
    /// about a grant that the store has lost and that has no row to say that it ended.
    pub went_back_at: Option<Timestamp>,
}

impl Entry {
    /// Returns the time of the event. `None` for a mark.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::GrantRevoked(_, revocation) => Some(revocation.at),
            Self::AccessTokenRevoked(token) => Some(token.at),
            Self::GuestErased(tombstone) | Self::LinkUndone(tombstone) => Some(tombstone.at),
            Self::Mark(_) | Self::MarkStored(_) => None,
        }
    }

    /// Returns whether it is about a mark rather than a guest.
    #[must_use]
    pub const fn is_mark(&self) -> bool {
        matches!(self, Self::Mark(_) | Self::MarkStored(_))
    }
}

/// Appends to the journal, by group commit: entries go through a bounded queue to one thread, which writes all that
/// wait, syncs once and answers each. [`Journal::append`] returns when its entry is durable, so call it first, then
/// write to the store, then answer the request. Reading needs no open journal. When this is dropped, the thread works
/// off the queue and ends.
pub struct Journal {
    queue: mpsc::Sender<Job>,
    /// Entries since the last mark.
    unmarked: AtomicU64,
    many_unmarked: Notify,
}

impl Journal {
    /// Opens the journal, creating it with mode 0600 if it doesn't exist.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be opened, or is no file.
    pub fn open(file: &Path) -> Result<Self, JournalError> {
        let problem = |error: &dyn fmt::Display| JournalError(file.to_owned(), error.to_string());
        Self::check_kind(file)?;
        let mut opened = compact::open_shared(file).map_err(|error| problem(&error))?;
        end_line(&mut opened).map_err(|error| problem(&error))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let appender = Appender::new(opened, file);
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || appender.run(jobs))
            .map_err(|error| problem(&error))?;
        Ok(Self {
            queue,
            unmarked: AtomicU64::new(0),
            many_unmarked: Notify::new(),
        })
    }

    /// Checks that a journal is a file, if it exists: to open or read anything else may block for ever.
    ///
    /// # Errors
    /// [`JournalError`] if it is something else, or can't be looked at.
    pub fn check_kind(file: &Path) -> Result<(), JournalError> {
        let problem = |problem: String| Err(JournalError(file.to_owned(), problem));
        match std::fs::metadata(file) {
            Ok(found) if found.is_file() => Ok(()),
            Ok(_) => problem("it is a directory, a device or the like, and no file".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => problem(error.to_string()),
        }
    }

    /// Appends an entry, and returns when it is on the disk. Waits while the queue is full (backpressure).
    ///
    /// # Errors
    /// [`Unavailable`] if the file can't be written: the disk is full or gone.
    pub async fn append(&self, entry: Entry) -> Result<(), Unavailable> {
        self.ask(line::written(entry)).await?;
        if entry.is_mark() {
            self.unmarked.store(0, Ordering::Relaxed);
        } else if self.unmarked.fetch_add(1, Ordering::Relaxed) + 1 == MARK_AFTER {
            self.many_unmarked.notify_one();
        }
        Ok(())
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

    /// Waits until so many entries follow the last mark that it is time for another.
    pub async fn many_unmarked(&self) {
        self.many_unmarked.notified().await;
    }

    /// Reads a whole journal. A line that is no entry is skipped, and a file that doesn't exist is an empty journal.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be read.
    pub fn read(file: &Path) -> Result<Vec<Entry>, JournalError> {
        Self::entries(file, 0)?.collect()
    }

    /// Reads a journal as a stream, from the beginning of a line on.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn entries(
        file: &Path,
        position: u64,
    ) -> Result<impl Iterator<Item = Result<Entry, JournalError>>, JournalError> {
        let problem = problem(file);
        Self::check_kind(file)?;
        let entries = Entries::open(file, position).map_err(&problem)?;
        Ok(entries.map(move |entry| entry.map_err(&problem)))
    }

    /// Reads a journal from its end back: each entry with the position behind its line.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn entries_from_end(
        file: &Path,
    ) -> Result<impl Iterator<Item = Result<(u64, Entry), JournalError>>, JournalError> {
        let problem = problem(file);
        Self::check_kind(file)?;
        let entries = EntriesFromEnd::open(file).map_err(&problem)?;
        Ok(entries.map(move |entry| entry.map_err(&problem)))
    }

    /// Drops the entries that no restore can make necessary any more: access tokens that have expired, and whatever is
    /// older than `keep`. Does nothing while the journal is short, most of it is needed, or another process has it
    /// open. Returns why the file couldn't be replaced, if so: then it is as it was.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be read.
    pub fn compact(
        file: &Path,
        keep: Duration,
        now: Timestamp,
    ) -> Result<Option<String>, JournalError> {
        compact::compact(file, keep, now, WORTH_COMPACTING).map_err(problem(file))
    }
}

fn problem(file: &Path) -> impl Fn(io::Error) -> JournalError + use<> {
    let file = file.to_owned();
    move |error| JournalError(file.clone(), error.to_string())
}

/// The entries after which a mark is due, and with them the most that a start has to look at, but for those that come
/// while the mark is made.
pub const MARK_AFTER: u64 = 10_000;

/// The size in bytes from which on compaction is worth it: some ten thousand entries.
const WORTH_COMPACTING: u64 = 1024 * 1024;

/// Ends a line that a crash cut off, so that the next one doesn't join it. Nobody was told that the cut-off entry is
/// durable.
fn end_line(file: &mut File) -> io::Result<()> {
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

impl JournalError {
    /// Says that the journal in that file can't be used, and why.
    #[must_use]
    pub fn new(file: &Path, problem: &dyn fmt::Display) -> Self {
        Self(file.to_owned(), problem.to_string())
    }
}

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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_mark_is_due_after_so_many_entries() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("guestpass.journal")).unwrap();
        let at = Timestamp::from_millis(0);
        let append = async |entries, entry| {
            let all = (0..entries).map(|_| journal.append(entry));
            join_all(all).await.into_iter().for_each(Result::unwrap);
        };
        let erased = Entry::GuestErased(Tombstone { hash: [1; 16], at });
        let mark = Entry::Mark(Mark {
            id: [1; 16],
            at,
            went_back_at: None,
        });
        append(MARK_AFTER / 2, erased).await;
        append(1, mark).await;
        append(MARK_AFTER - 1, erased).await;
        assert!(journal.many_unmarked().now_or_never().is_none());
        append(1, erased).await;
        assert!(journal.many_unmarked().now_or_never().is_some());
        assert!(journal.many_unmarked().now_or_never().is_none());
    }
}
