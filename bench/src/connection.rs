//! One connection of the generator.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::answer::{Answer, Reader};

/// A connection that has at most one request under way.
pub(crate) struct Connection {
    stream: Stream,
    reader: Reader,
    /// What the socket didn't take yet.
    unsent: Vec<u8>,
}

impl Connection {
    /// Connects, and waits until that is done. The handshake, if there is one, comes with the first request.
    pub(crate) fn open(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        (registry, token): (&Registry, Token),
    ) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream: match tls {
                None => Stream::Plain(stream),
                Some(tls) => {
                    let session = ClientConnection::new(Arc::clone(tls), address.ip().into());
                    let session = session.map_err(io::Error::other)?;
                    Stream::Tls(Box::new(StreamOwned::new(session, stream)))
                }
            },
            reader: Reader::default(),
            unsent: Vec::new(),
        })
    }

    /// Sends a request, or as much of it as goes now.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match self.stream.write(request) {
            Ok(written) if written == request.len() => Ok(()),
            Ok(written) => {
                self.unsent.extend_from_slice(&request[written..]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(request);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on sending, and reads what has come. `None` if the answer isn't there yet.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Answer<'_>>> {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        // Notified once of what has come: read until there is an answer or nothing more.
        while self.reader.answer()?.is_none() {
            if !self.reader.read(&mut self.stream)? {
                return Ok(None);
            }
        }
        self.reader.answer()
    }

    /// The answer was read: the next request may be sent.
    pub(crate) fn answered(&mut self) {
        self.reader.clear();
    }

    /// Takes leave, as far as that goes without waiting.
    pub(crate) fn close(self) {
        if let Stream::Tls(mut stream) = self.stream {
            stream.conn.send_close_notify();
            let _ = stream.conn.write_tls(&mut stream.sock);
        }
    }
}

/// What HTTP goes over. Its calls don't wait.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stream = match self {
            Self::Plain(stream) => return stream.write(bytes),
            Self::Tls(stream) => stream,
        };
        // The session keeps it until the handshake is done, which reading goes on with.
        let taken = stream.conn.writer().write(bytes)?;
        match stream.conn.complete_io(&mut stream.sock) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
