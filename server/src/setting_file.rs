//! Small files that settings name: configuration, keys, certificates, a password.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::files::kind;

/// Reads all of a small file. It may be a pipe that somebody writes to.
///
/// # Errors
/// Explains the problem, to stand behind its name.
pub(crate) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut options = File::options();
    // To open a pipe that nobody writes to would block.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.read(true).custom_flags(flags.bits().cast_signed());
    let mut opened = open(file, &options)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(USUAL));
    if kind(file) == Some("a pipe") {
        let mut first = [0];
        match opened.read(&mut first) {
            Ok(0) => return Err("it is a pipe that nobody writes to".to_owned()),
            Ok(_) => bytes.push(first[0]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(unreadable(&error)),
        }
        rustix::fs::fcntl_setfl(&opened, OFlags::empty())
            .map_err(|error| unreadable(&error.into()))?;
    }
    read_to_end(opened, bytes)
}

/// Reads the text of a small file, as [`read`] does.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_text(file: &Path) -> Result<Zeroizing<String>, String> {
    text(&read(file)?)
}

/// Reads the text of a small file. Waits for somebody to write to it if it is a pipe.
///
/// # Errors
/// As [`read`].
pub(crate) fn wait_for_text(file: &Path) -> Result<Zeroizing<String>, String> {
    let opened = open(file, File::options().read(true))?;
    text(&read_to_end(
        opened,
        Zeroizing::new(Vec::with_capacity(USUAL)),
    )?)
}

/// Opens a file or a pipe, and nothing else: to open a device may do anything.
fn open(file: &Path, options: &OpenOptions) -> Result<File, String> {
    match kind(file) {
        None | Some("a file" | "a pipe") => {}
        Some(kind) => return Err(format!("it is {kind}, not a file")),
    }
    options.open(file).map_err(|error| unreadable(&error))
}

fn read_to_end(opened: File, mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, String> {
    opened
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MOST {
        return Err(format!("it has more than {} KiB", MOST / 1024));
    }
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn unreadable(error: &io::Error) -> String {
    format!("it can't be read: {error}")
}

/// More than any of them has, even one with hundreds of certificate authorities.
const MOST: u64 = 4 * 1024 * 1024;

/// As much as a file with a secret has, lest the bytes be copied while they are read.
const USUAL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn f20_what_is_no_small_file_is_refused_at_once() {
        for (file, problem) in [
            ("/", "it is a directory, not a file"),
            ("/dev/zero", "it is a device, not a file"),
            ("/dev/null", "it is a device, not a file"),
            (
                "/nowhere",
                "it can't be read: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(read(Path::new(file)).unwrap_err(), problem);
        }
        let large = tempfile::NamedTempFile::new().unwrap();
        large.as_file().set_len(MOST + 1).unwrap();
        assert_eq!(read(large.path()).unwrap_err(), "it has more than 4096 KiB");
    }

    #[test]
    fn f20_a_pipe_is_read_if_somebody_writes_to_it() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let writing = std::thread::spawn(move || writer.write_all(b"text").unwrap());
        assert_eq!(*read_text(Path::new(&path)).unwrap(), "text");
        writing.join().unwrap();
        let problem = read(Path::new(&path)).unwrap_err();
        assert_eq!(problem, "it is a pipe that nobody writes to");
    }
}
