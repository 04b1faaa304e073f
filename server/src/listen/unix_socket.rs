//! The file of a Unix socket. It is put where nothing is, or where a server that has crashed has left one; whatever else is
//! there stays as it is.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};
use tokio::net::{UnixListener, UnixSocket};

use crate::files::{directory_of, kind};

/// A file that is removed when this is dropped, if it still is the one that was made.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Something at the path of a socket that may be replaced.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Found {
    Nothing,
    /// A socket of this user's on which nobody listens.
    Left,
}

/// Looks what is at the path of a socket, and touches nothing.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if somebody listens there. A sentence, if something else is there.
pub(super) fn look(path: &Path) -> io::Result<Found> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let kind = match found.file_type() {
        kind if kind.is_socket() => None,
        // Not followed: it may lead anywhere tomorrow.
        kind if kind.is_symlink() => Some("a link"),
        _ => kind(path),
    };
    if let Some(kind) = kind {
        return Err(io::Error::other(format!(
            "there is {kind}, which isn't a socket and stays as it is"
        )));
    }
    match connect(path) {
        // Ours may wait with more connections than it has room for.
        Ok(()) | Err(Errno::AGAIN) => Err(Errno::ADDRINUSE.into()),
        Err(Errno::NOENT) => Ok(Found::Nothing),
        Err(Errno::CONNREFUSED) if found.uid() == rustix::process::geteuid().as_raw() => {
            Ok(Found::Left)
        }
        Err(Errno::CONNREFUSED) => Err(io::Error::other(format!(
            "there is a socket of another user ({}), which stays as it is. If a server has left it, remove it: rm {}",
            found.uid(),
            path.display()
        ))),
        Err(error) => Err(io::Error::other(format!(
            "there is a socket that isn't ours, and stays as it is ({})",
            io::Error::from(error)
        ))),
    }
}

/// Listens on a socket at that path, which nobody but its owner and group can connect to.
///
/// # Errors
/// As [`look`], and errors of the operating system.
pub(super) fn listen(path: &Path, backlog: u32) -> io::Result<(UnixListener, SocketFile)> {
    let directory = File::open(directory_of(path))?;
    // Of two servers that start at once, both might find what a third has left, and one remove what the other has just made.
    // Where there are no locks they have to be lucky.
    let _ = directory.lock();
    if look(path)? == Found::Left {
        fs::remove_file(path)?;
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(&fs::symlink_metadata(path)?),
    };
    // Whatever the umask. Nobody can connect before it listens.
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok((socket.listen(backlog)?, file))
}

/// Connects for a moment, without waiting.
fn connect(path: &Path) -> rustix::io::Result<()> {
    let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    ioctl_fionbio(&socket, true)?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
