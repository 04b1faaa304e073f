//! The thread that appends to the journal, by group commit.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use crate::store::Unavailable;

/// A request to the thread.
pub(super) struct Job {
    /// A line to be appended; empty to try whether one could be.
    pub(super) line: String,
    pub(super) reply: oneshot::Sender<Result<(), Unavailable>>,
}

/// The most entries that wait for the disk.
pub(super) const QUEUE: usize = 256;

/// The end of the journal, as this process writes it.
pub(super) struct Appender {
    file: File,
    path: PathBuf,
    /// The last append failed, and may have left a part of a line.
    is_torn: bool,
    /// A file without a name on the same disk, to try whether there is room: opened when it is first needed.
    scratch: Option<File>,
}

impl Appender {
    pub(super) fn new(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
            is_torn: false,
            scratch: None,
        }
    }

    /// Appends all entries that wait, syncs once, and answers each.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(QUEUE);
        while jobs.blocking_recv_many(&mut batch, QUEUE) > 0 {
            let lines: String = batch.iter().map(|job| job.line.as_str()).collect();
            let done = self.carry_out(&lines).map_err(|error| {
                let path = self.path.display();
                Unavailable(format!("the journal {path} can't be written: {error}"))
            });
            for job in batch.drain(..) {
                let _ = job.reply.send(done.clone());
            }
        }
    }

    fn carry_out(&mut self, lines: &str) -> io::Result<()> {
        self.check_place()?;
        if !lines.is_empty() || self.is_torn {
            let written =
                append(&mut self.file, self.is_torn, lines).and_then(|()| self.file.sync_data());
            // A failed sync may have lost only what was confirmed to nobody: what was confirmed before has been synced.
            self.is_torn = written.is_err();
            written?;
        }
        if lines.is_empty() {
            self.try_room()
        } else {
            Ok(())
        }
    }

    /// Fails if the path doesn't lead to this file any more: nobody would read what is appended to it.
    fn check_place(&self) -> io::Result<()> {
        let opened = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (opened.dev(), opened.ino()) => Ok(()),
            Ok(_) => Err(io::Error::other(
                "it was replaced under the server. Bring the old file back, or restart the server",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::other(
                "it was moved or deleted under the server. Bring it back, or restart the server",
            )),
            Err(error) => Err(error),
        }
    }

    /// Takes room on the disk for some entries, and gives it back.
    fn try_room(&mut self) -> io::Result<()> {
        let scratch = match &mut self.scratch {
            Some(opened) => opened,
            none => match scratch(&self.file, &self.path) {
                Ok(opened) => none.insert(opened),
                Err(error) if says_nothing(&error) => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let taken = scratch
            .rewind()
            .and_then(|()| scratch.write_all(&[b'\n'; ROOM]))
            .and_then(|()| scratch.sync_data());
        let given_back = scratch.set_len(0);
        taken.and(given_back)
    }
}

/// Two blocks of most file systems, so that there is no room for it in what is left of one.
const ROOM: usize = 8 * 1024;

/// Opens a file beside the journal that has no name.
fn scratch(journal: &File, path: &Path) -> io::Result<File> {
    let name = format!("{}-room", path.canonicalize()?.display());
    // A process that was killed in between has left it.
    let _ = std::fs::remove_file(&name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&name)?;
    std::fs::remove_file(&name)?;
    if file.metadata()?.dev() == journal.metadata()?.dev() {
        Ok(file)
    } else {
        Err(io::ErrorKind::CrossesDevices.into())
    }
}

/// Returns whether the journal may be written although no file could be made beside it.
fn says_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::Unsupported
    )
}

/// Appends lines. After a write that failed, it first ends the line that this left, or the next one would be lost with
/// it.
fn append(file: &mut impl Write, is_torn: bool, lines: &str) -> io::Result<()> {
    if is_torn {
        file.write_all(b"\n")?;
    }
    file.write_all(lines.as_bytes())
}

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
