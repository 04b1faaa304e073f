//! Small files that settings name: configuration, keys, certificates, a password.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Reads all of a small file, which may be a pipe.
///
/// # Errors
/// Explains the problem, to stand behind its name.
pub(crate) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: std::io::Error| format!("it can't be read: {error}");
    let opened = File::open(file).map_err(unreadable)?;
    if opened.metadata().map_err(unreadable)?.is_dir() {
        return Err("it is a directory, not a file".to_owned());
    }
    if opened.is_terminal() {
        return Err("it is a terminal, not a file".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(USUAL));
    opened
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MOST {
        return Err(format!("it has more than {} KiB", MOST / 1024));
    }
    Ok(bytes)
}

/// Reads the text of a small file, which may be a pipe.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_text(file: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = read(file)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// More than any of them has, even one with hundreds of certificate authorities.
const MOST: u64 = 4 * 1024 * 1024;

/// As much as a file with a secret has, lest the bytes be copied while they are read.
const USUAL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f20_what_is_no_small_file_is_refused_at_once() {
        for (file, problem) in [
            ("/", "it is a directory, not a file"),
            ("/dev/zero", "it has more than 4096 KiB"),
            (
                "/nowhere",
                "it can't be read: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(read(Path::new(file)).unwrap_err(), problem);
        }
        assert!(read(Path::new("/dev/null")).unwrap().is_empty());
    }
}
