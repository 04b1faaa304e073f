//! The socket of a listener: TCP, or a Unix socket on which a proxy of this machine connects.

use std::io;
use std::path::PathBuf;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::handed_over;
use super::requests::Peer;
use super::unix_socket::{self, SocketFile};
use crate::config::Listen;

/// A socket that listens.
pub struct Listener {
    pub(super) socket: Socket,
    /// The file of a Unix socket that was made here.
    file: Option<SocketFile>,
}

pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The server's end of a connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Returns the place at which this listens. An abstract Unix socket has an empty path.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn place(&self) -> io::Result<Listen> {
        Ok(match &self.socket {
            Socket::Tcp(socket) => Listen::Address(socket.local_addr()?),
            Socket::Unix(socket) => Listen::Unix(
                socket
                    .local_addr()?
                    .as_pathname()
                    .map_or_else(PathBuf::new, ToOwned::to_owned),
            ),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Stream::Tcp(stream), address.into()))
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((Stream::Unix(stream), Peer::of_unix_socket()))
            }
        }
    }

    /// Stops listening, and returns those who have connected already, whom the end of the socket would reset. Those of a Unix
    /// socket that was made here are all, for its file is removed before.
    pub(super) fn close(self, most: usize) -> io::Result<Vec<(Stream, Peer)>> {
        drop(self.file);
        // Asked of the operating system, for the runtime may not have heard of the last ones yet.
        match self.socket {
            Socket::Tcp(socket) => {
                let socket = socket.into_std()?;
                Ok(waiting(most, || {
                    let (stream, address) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok((Stream::Tcp(TcpStream::from_std(stream)?), address.into()))
                }))
            }
            Socket::Unix(socket) => {
                let socket = socket.into_std()?;
                Ok(waiting(most, || {
                    let (stream, _) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    let stream = Stream::Unix(UnixStream::from_std(stream)?);
                    Ok((stream, Peer::of_unix_socket()))
                }))
            }
        }
    }
}

/// Accepts, without waiting, until there is nobody any more.
fn waiting<T>(most: usize, accept: impl Fn() -> io::Result<T>) -> Vec<T> {
    std::iter::from_fn(|| accept().ok()).take(most).collect()
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self {
            socket: Socket::Tcp(socket),
            file: None,
        }
    }
}

impl From<UnixListener> for Listener {
    fn from(socket: UnixListener) -> Self {
        Self {
            socket: Socket::Unix(socket),
            file: None,
        }
    }
}

/// A place that a listener can have. Nobody can connect to it yet, but for a socket that was handed over: there they wait.
pub enum Reserved {
    /// An address, which is taken.
    Address(TcpSocket),
    /// A path at which there is nothing, or what is left of a server that has crashed.
    Unix(PathBuf),
    /// A socket that was handed over.
    HandedOver(Listener),
}

impl Reserved {
    /// Takes a place, or looks whether it can be taken.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if another server has it, or another error of the operating system, or a sentence.
    pub fn take(place: &Listen) -> io::Result<Self> {
        match place {
            Listen::Address(address) => {
                let socket = match address.is_ipv4() {
                    true => TcpSocket::new_v4()?,
                    false => TcpSocket::new_v6()?,
                };
                // Connections of a server that has ended may linger on the port.
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                Ok(Self::Address(socket))
            }
            Listen::Unix(path) => {
                unix_socket::look(path)?;
                Ok(Self::Unix(path.clone()))
            }
            Listen::HandedOver => handed_over::take().map(Self::HandedOver),
        }
    }

    /// Returns the place, as it is known now: with the port that the operating system has chosen, or what kind of socket was
    /// handed over.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn place(&self) -> io::Result<Listen> {
        match self {
            Self::Address(socket) => socket.local_addr().map(Listen::Address),
            Self::Unix(path) => Ok(Listen::Unix(path.clone())),
            Self::HandedOver(listener) => listener.place(),
        }
    }

    /// Listens.
    ///
    /// # Errors
    /// As [`Reserved::take`].
    pub fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Address(socket) => socket.listen(BACKLOG).map(Listener::from),
            Self::Unix(path) => {
                let (socket, file) = unix_socket::listen(&path, BACKLOG)?;
                Ok(Listener {
                    socket: Socket::Unix(socket),
                    file: Some(file),
                })
            }
            Self::HandedOver(listener) => Ok(listener),
        }
    }
}

/// The connections that wait to be accepted, as many as Linux lets there be unless it is told otherwise: whoever finds no place
/// tries again a second later.
const BACKLOG: u32 = 4096;
