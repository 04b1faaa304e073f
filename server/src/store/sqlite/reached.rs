//! Refuses names of a database beside which SQLite would begin a second log.
//!
//! SQLite names the log after the file that a path leads to, symbolic links followed. By a hard link, or a mount of the
//! file alone, it keeps another log beside that other name: two of them destroy the database, and what a crash has left
//! in one is missed by the other.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::leftover_log::is_of_open_file;
use crate::files::{resolved, with_suffix};
use crate::store::SchemaError;

/// Checks that the name by which a database is to be opened is the one beside which its log is, or may begin. `is_served`
/// says that a process has the lock of the database.
///
/// To close a file takes the locks that SQLite has on it in this process, so nobody in it may have the database open.
///
/// # Errors
/// [`SchemaError::OtherName`].
pub fn check_name(file: &Path, is_served: bool) -> Result<(), SchemaError> {
    let real = resolved(file).unwrap_or_else(|_| file.to_owned());
    let Ok(found) = fs::metadata(&real) else {
        return Ok(());
    };
    let refused = |problem: &str| {
        Err(SchemaError::OtherName(
            file.display().to_string(),
            problem.to_owned(),
        ))
    };
    if is_mounted_alone(&real) {
        return refused(
            "it is a mount of a single file, and its log, which it can't do without, would be left outside. Mount the \
             directory that it is in",
        );
    }
    let has_other_names = found.nlink() > 1;
    if !has_other_names || with_suffix(&real, "-wal").exists() {
        return Ok(());
    }
    let user = user(&real);
    let names = format!(
        "`find / -xdev -samefile {}` lists its names",
        real.display()
    );
    if is_served || user.is_some() {
        let name = user.and_then(|user| name_used_by(user, &found));
        let name = name.map_or(names, |name| format!("that is {}", name.display()));
        refused(&format!(
            "it is in use by another of its names (hard links), beside which its log is: {name}. Use that name, or stop \
             what uses it and remove all names but one"
        ))
    } else if is_of_open_file(&real) {
        refused(&format!(
            "it was not closed when it was used by another of its names (hard links), beside which its log is: {names}. Use \
             that name; or, to go on without that log, remove all names but one"
        ))
    } else {
        Ok(())
    }
}

/// Returns whether another process has a database open. Nobody in this one may.
pub(super) fn is_open(database: &Path) -> bool {
    user(database).is_some()
}

/// Returns the lock of another process that has a database open, as SQLite keeps it.
fn user(database: &Path) -> Option<Flock> {
    // SQLite's file format, "lock bytes".
    let lock = Flock {
        start: 0x4000_0000,
        length: 512,
        ..Flock::from(FlockType::WriteLock)
    };
    let file = File::options().read(true).write(true).open(database).ok()?;
    fcntl_getlk(&file, &lock).ok()?
}

/// Returns the name by which a process has a file open, as far as the system tells.
fn name_used_by(user: Flock, file: &Metadata) -> Option<PathBuf> {
    let process = user.pid?.as_raw_nonzero();
    let opened = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let mut opened = opened.filter_map(|opened| Some(opened.ok()?.path()));
    let found = opened.find(|opened| {
        fs::metadata(opened)
            .is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
    });
    fs::read_link(found?).ok()
}

#[cfg(target_os = "linux")]
fn is_mounted_alone(file: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let found = statx(CWD, file, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
fn is_mounted_alone(_: &Path) -> bool {
    false
}
