//! The journal: every erasure and revocation once more, in a file outside the database.
//!
//! A database can go back in time, when a backup is restored or a replica takes over that was behind. What was erased or
//! revoked meanwhile must not come back with it, so it is also written here, before the database is told, and carried out
//! again when the two disagree. Lines are only ever appended, each a JSON object. They name grants and hashes, no guest.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::grant::{GrantId, Revocation, RevocationReason};
use guestpass_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::store::{RevokedAccessToken, Tombstone, Unavailable};

/// What a line of the journal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A grant was revoked.
    GrantRevoked(GrantId, Revocation),
    /// An access token was revoked.
    AccessTokenRevoked(RevokedAccessToken),
    /// A guest was erased.
    GuestErased(Tombstone),
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
        let mut opened = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(file)
            .map_err(|error| problem(&error))?;
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
        let line = serde_json::to_string(&Line::of(entry)).expect("a line is plain data") + "\n";
        let (reply, answer) = oneshot::channel();
        let job = Job { line, reply };
        self.queue.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Reads a journal from its beginning. A line that is no entry is left out: cut off by a crash, or of a newer
    /// version.
    ///
    /// # Errors
    /// [`JournalError`] if the file can't be read. One that isn't there is empty.
    pub fn read(file: &Path) -> Result<Vec<Entry>, JournalError> {
        let problem = |error: std::io::Error| JournalError(file.to_owned(), error.to_string());
        let opened = match File::open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(problem(error)),
        };
        let mut entries = Vec::new();
        for line in BufReader::new(opened).split(b'\n') {
            let line = line.map_err(problem)?;
            entries.extend(
                serde_json::from_slice::<Line>(&line)
                    .ok()
                    .and_then(Line::entry),
            );
        }
        Ok(entries)
    }
}

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
        let written = append(&mut file, is_torn, &lines).and_then(|()| file.sync_data());
        is_torn = written.is_err();
        let written =
            written.map_err(|error| Unavailable(format!("the journal can't be written: {error}")));
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

/// An entry as JSON. Times are milliseconds since the epoch, ids are base64url.
#[derive(Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    GrantRevoked {
        at: i64,
        sid: String,
        reason: String,
    },
    AccessTokenRevoked {
        at: i64,
        jti: String,
        expires_at: i64,
    },
    GuestErased {
        at: i64,
        tombstone: String,
    },
}

impl Line {
    fn of(entry: Entry) -> Self {
        match entry {
            Entry::GrantRevoked(grant, Revocation { at, reason }) => Self::GrantRevoked {
                at: at.as_millis(),
                sid: grant.to_string(),
                reason: reason.name().to_owned(),
            },
            Entry::AccessTokenRevoked(token) => Self::AccessTokenRevoked {
                at: token.at.as_millis(),
                jti: URL_SAFE_NO_PAD.encode(token.id),
                expires_at: token.expires_at.as_millis(),
            },
            Entry::GuestErased(tombstone) => Self::GuestErased {
                at: tombstone.at.as_millis(),
                tombstone: URL_SAFE_NO_PAD.encode(tombstone.hash),
            },
        }
    }

    fn entry(self) -> Option<Entry> {
        let id = |text: String| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok();
        let at = Timestamp::from_millis;
        Some(match self {
            Self::GrantRevoked {
                at: millis,
                sid,
                reason,
            } => {
                let reason = RevocationReason::from_name(&reason);
                let at = at(millis);
                Entry::GrantRevoked(GrantId::from_bytes(id(sid)?)?, Revocation { at, reason })
            }
            Self::AccessTokenRevoked {
                at: millis,
                jti,
                expires_at,
            } => Entry::AccessTokenRevoked(RevokedAccessToken {
                id: id(jti)?,
                at: at(millis),
                expires_at: at(expires_at),
            }),
            Self::GuestErased {
                at: millis,
                tombstone,
            } => Entry::GuestErased(Tombstone {
                hash: id(tombstone)?,
                at: at(millis),
            }),
        })
    }
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
