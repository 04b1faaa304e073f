//! Compaction of the journal, safe beside processes that append to it: those hold a shared lock on the file, and
//! compaction takes an exclusive one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;
use std::time::Duration;

use guestpass_core::time::Timestamp;

use super::read::{Entries, read_line};
use super::{Entry, line};
use crate::files::is_unknown_to_file_system;

/// Opens the journal for appending, creating it if it doesn't exist, and locks it against being replaced.
pub(super) fn open_shared(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        match file.lock_shared() {
            // Nor could it be replaced then, which takes the other lock.
            Err(error) if is_unknown_to_file_system(&error) => {}
            locked => locked?,
        }
        // Even if it isn't new: whoever made it may have failed here.
        sync_directory(path)?;
        // It may have been replaced while we waited for the lock.
        match fs::metadata(path) {
            Ok(current) if current.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Rewrites a journal of at least `worth_it` bytes if no more than half of it is needed. Returns why it couldn't be
/// replaced, if that is so; then it is as it was.
pub(super) fn compact(
    path: &Path,
    keep: Duration,
    now: Timestamp,
    worth_it: u64,
) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length == 0 || length < worth_it {
        return Ok(None);
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) if is_unknown_to_file_system(&error) => {
            return Ok(Some(format!("its file system can't lock files: {error}")));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if is_mostly_needed(path, length, keep, now)? {
        return Ok(None);
    }
    let mut needed = 0;
    copy_needed(&file, keep, now, |lines| {
        needed += lines.len() as u64;
        Ok(needed <= length / 2)
    })?;
    if needed > length / 2 {
        return Ok(None);
    }
    let replaced = replace(path, &file, |new| {
        copy_needed(&file, keep, now, |lines| {
            new.write_all(lines)?;
            Ok(true)
        })
    });
    Ok(replaced.err().map(|error| error.to_string()))
}

/// Returns whether most of a journal seems to be needed, by some entries from all over it: a start mustn't read all of a
/// journal that has grown for years, only to leave it as it is.
fn is_mostly_needed(path: &Path, length: u64, keep: Duration, now: Timestamp) -> io::Result<bool> {
    const SAMPLES: u64 = 64;
    let mut needed = 0;
    for sample in 0..SAMPLES {
        // The rest of a line is no entry.
        let mut entries = Entries::open(path, length / SAMPLES * sample)?;
        let is_mark = |entry: &io::Result<Entry>| entry.as_ref().is_ok_and(Entry::is_mark);
        let first = entries.find(|entry| !is_mark(entry)).transpose()?;
        needed += u64::from(first.is_some_and(|entry| is_needed(entry, keep, now)));
    }
    Ok(needed > SAMPLES / 2)
}

/// Calls `take` with the lines that are needed, each with its line feed, until that returns `false`. Of the marks before
/// the first entry that is needed the last one is kept, so that a database finds something that it knows.
fn copy_needed(
    mut file: &File,
    keep: Duration,
    now: Timestamp,
    mut take: impl FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    file.rewind()?;
    let mut file = BufReader::new(file);
    let (mut line, mut marks, mut is_needed_before) = (Vec::new(), Vec::new(), false);
    while read_line(&mut file, &mut line)? {
        if line.is_empty() {
            continue;
        }
        // A newer version may need a line that this one can't read.
        let entry = line::read(&line);
        line.push(b'\n');
        match entry {
            Some(Entry::Mark(_)) if !is_needed_before => marks.clone_from(&line),
            Some(Entry::MarkStored(_)) if !is_needed_before => marks.extend_from_slice(&line),
            Some(entry) if !is_needed(entry, keep, now) => {}
            _ => {
                is_needed_before = true;
                if !take(&std::mem::take(&mut marks))? || !take(&line)? {
                    return Ok(());
                }
            }
        }
    }
    take(&marks).map(drop)
}

fn is_needed(entry: Entry, keep: Duration, now: Timestamp) -> bool {
    match entry {
        Entry::AccessTokenRevoked(token) => token.expires_at > now,
        Entry::GrantRevoked(_, revocation) => revocation.at + keep > now,
        Entry::GuestErased(tombstone) | Entry::LinkUndone(tombstone) => tombstone.at + keep > now,
        Entry::Mark(_) | Entry::MarkStored(_) => true,
    }
}

/// Puts a new file in the place of `old`, which is at `path`: where it really lies, with its owner, group and mode.
fn replace(
    path: &Path,
    old: &File,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let (path, found) = (path.canonicalize()?, old.metadata()?);
    if found.nlink() > 1 {
        return Err(io::Error::other("it has another name, a hard link"));
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let new = tempfile::Builder::new()
        .prefix(".guestpass-journal-")
        .tempfile_in(directory)?;
    let made = new.as_file().metadata()?;
    if (made.uid(), made.gid()) != (found.uid(), found.gid()) {
        fchown(new.as_file(), Some(found.uid()), Some(found.gid()))?;
    }
    new.as_file().set_permissions(found.permissions())?;
    let mut out = BufWriter::new(new.as_file());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    new.as_file().sync_all()?;
    // Not `persist`, whose call the tests can't let fail: it goes past the C library.
    fs::rename(new.path(), &path)?;
    sync_directory(&path)
}

/// Syncs the directory, so that a new name in it is durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match File::open(directory)?.sync_all() {
        // Some file systems have no such thing.
        Err(error) if is_unknown_to_file_system(&error) => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use guestpass_core::grant::{GrantId, Revocation, RevocationReason};

    use super::*;
    use crate::journal::{Journal, Mark};
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
        let [first, second, third] = [1, 2, 3].map(|id| {
            Entry::Mark(Mark {
                id: [id; 16],
                at: at(0),
                went_back_at: None,
            })
        });
        let stored = Entry::MarkStored([2; 16]);
        let [one, two, three, four] = entries();
        let written = [first, one, second, stored, two, three, four, third];
        for entry in written {
            journal.append(entry).await.unwrap();
        }
        let kept = || Journal::read(&path).unwrap();
        compact(&path, KEEP, at(1030), 0).unwrap();
        assert_eq!(kept(), written, "somebody has it open");
        drop(journal);
        // The thread that appends ends soon; its lock goes with its file.
        let opened = OpenOptions::new().append(true).open(&path).unwrap();
        opened.lock().unwrap();
        drop(opened);
        compact(&path, KEEP, at(0), 0).unwrap();
        assert_eq!(kept(), written, "more than half is needed");
        compact(&path, KEEP, at(1030), 1 << 20).unwrap();
        assert_eq!(kept(), written, "not worth it");
        assert_eq!(compact(&path, KEEP, at(1030), 0).unwrap(), None);
        assert_eq!(kept(), [second, stored, four, third]);
        let opened = OpenOptions::new().append(true).open(&path).unwrap();
        writeln!(&opened, "{{\"event\":\"of_a_newer_version\"}}\ncut o").unwrap();
        compact(&path, KEEP, at(1050), 0).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("{\"event\":\"of_a_newer_version\"}\ncut o\n"));
        assert_eq!(kept(), [third]);
    }
}
