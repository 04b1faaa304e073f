//! Tells which file a path leads to: files are compared by what they are, and not by how a path is spelled.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A file, by what the file system knows it by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identity {
    /// One that exists: its device and inode.
    Exists(u64, u64),
    /// One that doesn't exist yet: the device and inode of its directory, and its name there.
    In(u64, u64, OsString),
    /// One whose directory doesn't exist yet either.
    At(PathBuf),
}

impl Identity {
    /// Returns the identity of the file that a path leads to.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        if let Ok(found) = fs::metadata(path) {
            return Self::Exists(found.dev(), found.ino());
        }
        let path = resolved(path).unwrap_or_else(|_| path.to_owned());
        let directory = path.parent().and_then(|parent| fs::metadata(parent).ok());
        match (directory, path.file_name()) {
            (Some(directory), Some(name)) => {
                Self::In(directory.dev(), directory.ino(), name.to_owned())
            }
            _ => Self::At(path),
        }
    }
}

/// Returns the path without links, `.` and `..` of the file that a path leads to. The file need not exist, nor its
/// directory.
///
/// # Errors
/// An error of the file system, or too many links.
pub fn resolved(path: &Path) -> io::Result<PathBuf> {
    follow(&std::path::absolute(path)?, MOST_LINKS)
}

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

fn follow(path: &Path, links: usize) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Ok(real) => return Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let Some(parent) = path.parent() else {
        return Ok(path.to_owned());
    };
    if let Ok(target) = fs::read_link(path) {
        let links = links.checked_sub(1);
        let links = links.ok_or_else(|| io::Error::other("it has too many symbolic links"))?;
        return follow(&parent.join(target), links);
    }
    let mut real = follow(parent, links)?;
    match path.file_name() {
        Some(name) => real.push(name),
        // It ends with `..`.
        None => drop(real.pop()),
    }
    Ok(real)
}

/// Says what a path leads to: "a file", "a directory", and so on. `None` if that can't be told, as of nothing. Opens nothing.
#[must_use]
pub fn kind(path: &Path) -> Option<&'static str> {
    let found = fs::metadata(path).ok()?.file_type();
    Some(match found {
        found if found.is_file() => "a file",
        found if found.is_dir() => "a directory",
        found if found.is_fifo() => "a pipe",
        found if found.is_socket() => "a socket",
        _ => "a device",
    })
}

/// Returns the directory of a file.
#[must_use]
pub fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(directory) if directory.as_os_str().is_empty() => Path::new("."),
        Some(directory) => directory,
        None => Path::new("/"),
    }
}

/// Returns whether a file system refuses a call because it has no such thing: locks, or the sync of a directory.
#[must_use]
pub fn is_unknown_to_file_system(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(Errno::NOLCK.raw_os_error())
}

/// Returns the path with more text behind its name, as SQLite names the files beside a database.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_the_same_however_it_is_spelled() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir(at("data")).unwrap();
        fs::write(at("data/there"), "").unwrap();
        fs::hard_link(at("data/there"), at("data/hard")).unwrap();
        symlink(at("data"), at("linked")).unwrap();
        symlink("data/there", at("soft")).unwrap();
        symlink("data/coming", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (one, same) in [
            ("data/there", "data/../data/there"),
            ("data/there", "linked/there"),
            ("data/there", "soft"),
            ("data/there", "data/hard"),
            ("data/coming", "./data//coming"),
            ("data/coming", "linked/coming"),
            ("data/coming", "dangling"),
            ("none/coming", "data/../none/./coming"),
            ("none/coming", "none/deeper/../coming"),
        ] {
            assert_eq!(Identity::of(&at(one)), Identity::of(&at(same)), "{same}");
        }
        for (one, other) in [
            ("data/there", "data/coming"),
            ("data/coming", "coming"),
            ("none/coming", "other/coming"),
            ("loop", "data/coming"),
        ] {
            assert_ne!(Identity::of(&at(one)), Identity::of(&at(other)), "{other}");
        }
    }
}
