//! Writes a range of a file back to the disk (Linux: `sync_file_range`), the one system call that needs `unsafe`.
//!
//! A sync of a whole file queues all its dirty pages at once, and whatever else is written meanwhile waits behind them.
//! Writing the file back range by range first lets other writes in between, and leaves little for the sync.

use std::fs::File;
use std::io;

/// Writes back the dirty pages of `length` bytes from `offset` on, and waits until the disk has taken them. A range may
/// reach beyond the end of the file.
///
/// This is no durability: the disk may still hold the data in a volatile cache, so sync the file afterwards. Since only
/// that sync counts, systems without the call (all but Linux) do nothing here.
///
/// # Errors
///
/// Returns the operating system's error, such as that of a failed disk or of a file that isn't a regular one, and
/// `InvalidInput` if `offset` or `length` is above `i64::MAX`.
pub fn write_back(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let signed = |bytes: u64| i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput);
    sync_file_range(file, signed(offset)?, signed(length)?)
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the standard library has no call for this, and a foreign function is unsafe to call"
)]
fn sync_file_range(file: &File, offset: i64, length: i64) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let and_wait = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes numbers only and touches no memory of this process. The descriptor is `file`'s, which is
    // borrowed until the call returns, so it can't be closed, and its number taken by another file, in the meantime.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, and_wait) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn sync_file_range(_: &File, _: i64, _: i64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_part_of_a_file_can_be_written_back() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        for (offset, length) in [(0, 4096), (4096, 4096), (8192, 1 << 20), (1 << 30, 1)] {
            write_back(&file, offset, length).unwrap();
        }
    }

    #[test]
    fn what_is_no_part_of_a_file_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let error = write_back(&file, u64::MAX, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_operating_system_has_its_say() {
        let (reader, _writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        write_back(&pipe, 0, 1).unwrap_err();
    }
}
