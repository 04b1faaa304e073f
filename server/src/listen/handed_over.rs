//! The socket that the service manager hands over (socket activation, sd_listen_fds(3)).

use std::io;
use std::mem;
use std::net;
use std::os::fd::OwnedFd;
use std::os::unix;

use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};
use tokio::net::{TcpListener, UnixListener};

use super::socket::Listener;
use crate::config::Listen;

/// Takes the socket that is named [`NAME`], or else the first. To be called once, for a descriptor has one owner.
///
/// # Errors
/// A sentence, if there is no such socket, or it doesn't listen.
pub(super) fn take() -> io::Result<Listener> {
    let problem = |text: &str| io::Error::other(format!("{text}. {REMEDY}"));
    let mut sockets = sd_listen_fds::get()
        .map_err(|_| problem("LISTEN_PID or LISTEN_FDS is set, and isn't a number"))?;
    if sockets.is_empty() {
        return Err(problem("the service manager hands over no socket"));
    }
    let is_named = |(name, _): &(Option<String>, _)| name.as_deref() == Some(NAME);
    let at = sockets.iter().position(is_named).unwrap_or_default();
    let socket = sockets.swap_remove(at).1.into_std();
    // The others stay open: if nothing was handed over, their numbers are those of other files of this process.
    for (_, other) in sockets {
        let _ = other.into_raw();
    }
    let family = match family(&socket) {
        Ok(family) => family,
        Err(error) => {
            mem::forget(socket);
            let text = format!("what the service manager hands over won't do: {error}");
            return Err(problem(&text));
        }
    };
    let listener = listener(socket, family)?;
    match listener.place()? {
        Listen::Unix(path) if path.as_os_str().is_empty() => Err(problem(
            "the service manager hands over an abstract socket, which has no permissions, so that everybody could connect",
        )),
        _ => Ok(listener),
    }
}

/// Returns the family of a socket that listens.
fn family(socket: &OwnedFd) -> io::Result<AddressFamily> {
    let family = getsockname(socket)?.address_family();
    let known = [
        AddressFamily::INET,
        AddressFamily::INET6,
        AddressFamily::UNIX,
    ];
    let is_stream = sockopt::socket_type(socket)? == SocketType::STREAM;
    // Other systems have no systemd.
    #[cfg(target_os = "linux")]
    let listens = sockopt::socket_acceptconn(socket)?;
    #[cfg(not(target_os = "linux"))]
    let listens = true;
    match known.contains(&family) && is_stream && listens {
        true => Ok(family),
        false => Err(io::Error::other("it isn't a stream socket that listens")),
    }
}

fn listener(socket: OwnedFd, family: AddressFamily) -> io::Result<Listener> {
    if family == AddressFamily::UNIX {
        let socket = unix::net::UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        return UnixListener::from_std(socket).map(Listener::from);
    }
    let socket = net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket).map(Listener::from)
}

/// The name of our socket among several (`FileDescriptorName=`).
const NAME: &str = "guestpass";

const REMEDY: &str = "Start the server by systemd, with a socket unit beside its service: ListenStream=, and not Accept=yes";
