//! A file that a command reads more than once, whatever its argument names.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::Failure;

/// An argument that names a file, opened once, so that every pass reads the same.
pub(super) struct Input {
    /// Its name, as the operator gave it.
    pub(super) name: String,
    /// The file, which may stand in its middle.
    pub(super) file: File,
}

impl Input {
    /// Opens a file, or standard input if that is what `-` names. A pipe is kept in a temporary file first.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let is_stdin = path.as_os_str() == "-";
        let name = match is_stdin {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        let refused = |problem: &str| {
            Failure(format!(
                "{name}: it {problem}. Name a file, or send one through a pipe and write -"
            ))
        };
        let unreadable = |error: io::Error| refused(&format!("can't be read: {error}"));
        if !is_stdin {
            // Before it is opened, which alone may do something to a device.
            let found = std::fs::metadata(path).map_err(unreadable)?.file_type();
            if found.is_block_device() {
                return Err(refused("is a device"));
            }
        }
        let file = match is_stdin {
            true => File::from(io::stdin().as_fd().try_clone_to_owned()?),
            false => File::open(path).map_err(unreadable)?,
        };
        let found = file.metadata().map_err(unreadable)?.file_type();
        if file.is_terminal() {
            return Err(refused("is a terminal"));
        }
        if found.is_dir() {
            return Err(refused("is a directory"));
        }
        if found.is_char_device() || found.is_block_device() {
            return Err(refused("is a device"));
        }
        // Standard input may stand in the middle of its file, and others may move it.
        if found.is_file() && !is_stdin {
            return Ok(Self { name, file });
        }
        let kept = kept(file).map_err(|error| {
            Failure(format!(
                "{name} can't be kept in a temporary file in {}: {error}. Name a file instead, or another directory: \
                 TMPDIR",
                std::env::temp_dir().display()
            ))
        })?;
        Ok(Self { name, file: kept })
    }
}

/// Copies a stream into a temporary file, which has no name and goes with the process.
fn kept(mut stream: File) -> io::Result<File> {
    let mut kept = tempfile::tempfile()?;
    io::copy(&mut stream, &mut kept)?;
    Ok(kept)
}
