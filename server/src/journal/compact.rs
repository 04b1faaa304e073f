//! Compaction of the journal, safe beside processes that append to it: those hold a shared lock on the file, and
//! compaction takes an exclusive one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use guestpass_core::time::Timestamp;

use super::{Entry, line};

/// Opens the journal for appending, creating it if it doesn't exist, and locks it against being replaced.
pub(super) fn open_shared(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        file.lock_shared()?;
        // Even if it isn't new: whoever made it may have failed here.
        sync_directory(path)?;
        // It may have been replaced while we waited for the lock.
        match std::fs::metadata(path) {
            Ok(current) if current.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Rewrites a journal of at least `worth_it` bytes if no more than half of it is needed.
pub(super) fn compact(
    path: &Path,
    keep: Duration,
    now: Timestamp,
    worth_it: u64,
) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let is_needed = |line: &[u8]| {
        // A newer version may need a line that this one can't read.
        !line.is_empty() && line::read(line).is_none_or(|entry| is_needed(entry, keep, now))
    };
    let length = file.metadata()?.len();
    let mut needed = 0;
    for line in BufReader::new(&file).split(b'\n') {
        let line = line?;
        if length < worth_it || needed > length / 2 {
            return Ok(());
        }
        needed += if is_needed(&line) {
            line.len() as u64 + 1
        } else {
            0
        };
    }
    if needed > length / 2 {
        return Ok(());
    }
    let part = path.with_extension("journal-part");
    let new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    let mut out = BufWriter::new(&new);
    (&file).rewind()?;
    for line in BufReader::new(&file).split(b'\n') {
        let line = line?;
        if is_needed(&line) {
            out.write_all(&line)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    new.sync_all()?;
    std::fs::rename(&part, path)?;
    sync_directory(path)
}

fn is_needed(entry: Entry, keep: Duration, now: Timestamp) -> bool {
    match entry {
        Entry::AccessTokenRevoked(token) => token.expires_at > now,
        Entry::GrantRevoked(_, revocation) => revocation.at + keep > now,
        Entry::GuestErased(tombstone) => tombstone.at + keep > now,
        // Each start appends a new one after compaction.
        Entry::Mark(_) => false,
    }
}

/// Syncs the directory, so that a new name in it is durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match File::open(directory)?.sync_all() {
        // Some file systems have no such thing.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use guestpass_core::grant::{GrantId, Revocation, RevocationReason};

    use super::*;
    use crate::journal::Journal;
    use crate::store::{RevokedAccessToken, Tombstone};

    const KEEP: Duration = Duration::from_secs(1000);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn entries() -> [Entry; 4] {
        let grant = GrantId::from_bytes([1; 16]).unwrap();
        let reason = RevocationReason::CodeReplayed;
        let token = RevokedAccessToken {
            id: [3; 16],
            at: at(30),
            expires_at: at(500),
        };
        [
            Entry::GuestErased(Tombstone {
                hash: [2; 16],
                at: at(10),
            }),
            Entry::GrantRevoked(grant, Revocation { at: at(20), reason }),
            Entry::AccessTokenRevoked(token),
            Entry::GuestErased(Tombstone {
                hash: [4; 16],
                at: at(40),
            }),
        ]
    }

    #[tokio::test]
    async fn what_nothing_can_bring_back_is_dropped_once_nobody_appends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guestpass.journal");
        compact(&path, KEEP, at(0), 0).unwrap();
        let journal = Journal::open(&path).unwrap();
        for entry in [Entry::Mark([1; 16])].into_iter().chain(entries()) {
            journal.append(entry).await.unwrap();
        }
        let kept = || {
            let mut kept = Journal::read(&path).unwrap();
            kept.retain(|entry| !matches!(entry, Entry::Mark(_)));
            kept
        };
        compact(&path, KEEP, at(1030), 0).unwrap();
        assert_eq!(kept(), entries(), "somebody has it open");
        let since = Journal::since_last_mark(&path).unwrap();
        assert_eq!(since.len(), 1 + entries().len());
        drop(journal);
        // The thread that appends ends soon; its lock goes with its file.
        let opened = OpenOptions::new().append(true).open(&path).unwrap();
        opened.lock().unwrap();
        drop(opened);
        compact(&path, KEEP, at(0), 0).unwrap();
        assert_eq!(kept(), entries(), "more than half is needed");
        compact(&path, KEEP, at(1030), 1 << 20).unwrap();
        assert_eq!(kept(), entries(), "not worth it");
        compact(&path, KEEP, at(1030), 0).unwrap();
        assert_eq!(kept(), [entries()[3]]);
        let opened = OpenOptions::new().append(true).open(&path).unwrap();
        writeln!(&opened, "{{\"event\":\"of_a_newer_version\"}}\ncut o").unwrap();
        compact(&path, KEEP, at(1050), 0).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"event\":\"of_a_newer_version\"}\ncut o\n");
    }
}
