//! The journal: every erasure and revocation once more, in a file outside the database.
//!
//! A database can go back in time, when a backup is restored or a replica takes over that was behind. What was erased or
//! revoked meanwhile must not come back with it, so it is also written here, before the database is told, and carried out
//! again when the two disagree. Lines are only ever appended, each a JSON object. They name grants by `sid`, which holds the
//! guest's `sub`, and erased guests by the hash of their tombstone.

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

mod compact;
mod line;

/// What a line of the journal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A grant was revoked.
    GrantRevoked(GrantId, Revocation),
    /// An access token was revoked.
    AccessTokenRevoked(RevokedAccessToken),
    /// A guest was erased.
    GuestErased(Tombstone),
    /// The store knew all that stands before this, and was then given this mark.
    Mark([u8; 16]),
}

impl Entry {
    /// When it happened. `None` for a mark.
    fn at(&self) -> Option<Timestamp> {
        match self {
            Self::GrantRevoked(_, revocation) => Some(revocation.at),
            Self::AccessTokenRevoked(token) => Some(token.at),
            Self::GuestErased(tombstone) => Some(tombstone.at),
            Self::Mark(_) => None,
        }
    }
}

/// The way to the thread that appends. When this is dropped, the thread finishes what was queued and ends.
pub struct Journal {
    queue: mpsc::Sender<Job>,
}

struct Job {
    line: String,
    reply: oneshot::Sender<Result<(), Unavailable>>,
}

impl Journal {
    /// Opens the journal, making it if need be; only its owner can read it.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be opened.
    pub fn open(file: &Path) -> Result<Self, JournalError> {
        let problem = |error: &dyn fmt::Display| JournalError(file.to_owned(), error.to_string());
        let mut opened = compact::open_shared(file).map_err(|error| problem(&error))?;
        end_line(&mut opened).map_err(|error| problem(&error))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || run(opened, jobs))
            .map_err(|error| problem(&error))?;
        Ok(Self { queue })
    }

    /// Appends an entry, and answers when it is on the disk.
    ///
    /// # Errors
    /// [`Unavailable`] if the file can't be written: the disk is full or gone.
    pub async fn append(&self, entry: Entry) -> Result<(), Unavailable> {
        let ended = || Unavailable("the journal's thread has ended: restart the server".into());
        let (reply, answer) = oneshot::channel();
        let job = Job {
            line: line::written(entry),
            reply,
        };
        self.queue.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Reads a journal from its beginning. A line that is no entry is left out.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be read. One that isn't there is empty.
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

    /// Reads what a journal says since that time, and perhaps some of what stands before it.
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

    /// Reads from the end of a journal as much as is enough, or all of it.
    fn read_back(
        file: &Path,
        is_enough: impl Fn(&[Entry]) -> bool,
    ) -> Result<Vec<Entry>, JournalError> {
        let mut bytes = FIRST_LOOK;
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

    /// Drops entries that nothing can bring back any more: of access tokens that have expired, and what is older than
    /// `keep`. Does nothing while the journal is short, most of it is needed, or another process has it open.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be read or replaced; then it is as it was.
    pub fn compact(file: &Path, keep: Duration, now: Timestamp) -> Result<(), JournalError> {
        compact::compact(file, keep, now, WORTH_COMPACTING)
            .map_err(|error| JournalError(file.to_owned(), error.to_string()))
    }
}

/// Some ten thousand entries.
const WORTH_COMPACTING: u64 = 1024 * 1024;

/// How much of the end is read before more of it.
const FIRST_LOOK: u64 = 4 * 1024;

/// What was being written when the power went was never answered, and the next line must not join it.
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

/// How many entries may wait for the disk.
const QUEUE: usize = 256;

/// Appends what is waiting, syncs once, answers each.
fn run(mut file: File, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(QUEUE);
    let mut is_torn = false;
    while jobs.blocking_recv_many(&mut batch, QUEUE) > 0 {
        let lines: String = batch.iter().map(|job| job.line.as_str()).collect();
        let written = append(&mut file, is_torn, &lines)
            .and_then(|()| file.sync_data())
            .map_err(|error| Unavailable(format!("the journal can't be written: {error}")));
        is_torn = written.is_err();
        for job in batch.drain(..) {
            let _ = job.reply.send(written.clone());
        }
    }
}

/// What a write that failed has left of a line must not join the next one, which would be lost with it.
fn append(file: &mut impl Write, is_torn: bool, lines: &str) -> std::io::Result<()> {
    if is_torn {
        file.write_all(b"\n")?;
    }
    file.write_all(lines.as_bytes())
}

/// A journal can't be used: which, and why.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_the_disk_had_no_room_for_spoils_no_other() {
        let mut disk = [0; 5];
        append(&mut &mut disk[..], false, "first\n").unwrap_err();
        let mut file = disk.to_vec();
        append(&mut file, true, "second\n").unwrap();
        append(&mut file, false, "third\n").unwrap();
        assert_eq!(file, b"first\nsecond\nthird\n");
    }
}
