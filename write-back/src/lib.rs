//! Has the operating system write back a part of a file.
//!
//! A sync of a whole file queues all of it before whatever else is written meanwhile. Written back part by part, it lets the
//! others in between, and little is left for the sync.

use std::fs::File;
use std::io;

/// Writes back what was changed of `length` bytes from `offset` on, and waits until the disk has taken it. What lies behind the
/// end of the file is not there, and no error.
///
/// This promises nothing after a crash, for the disk may keep it in a cache: sync the file afterwards. So where there is no
/// such call, on systems other than Linux, nothing is done.
///
/// # Errors
///
/// What the operating system says, and `InvalidInput` if it can't count so far.
pub fn write_back(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let [offset, length] =
        [offset, length].map(|bytes| i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput));
    sync_file_range(file, offset?, length?)
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "a foreign function; it is given numbers only, and the file is open while it is borrowed"
)]
fn sync_file_range(file: &File, offset: i64, length: i64) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let and_wait = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: see the reason above.
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
