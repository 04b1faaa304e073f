//! A connection of the load generator.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::answer::{Answer, Reader};

/// Holds a non-blocking connection with at most one outstanding request.
pub(crate) struct Connection {
    stream: Stream,
    reader: Reader,
    /// Rest of a request that the socket hasn't taken yet.
    unsent: Vec<u8>,
}

impl Connection {
    /// Connects and waits for it. The TLS handshake follows with the first request.
    pub(crate) fn open(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        registry: &Registry,
        token: Token,
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
                    let session = ClientConnection::new(Arc::clone(tls), address.ip().into())
                        .map_err(io::Error::other)?;
                    Stream::Tls(Box::new(StreamOwned::new(session, stream)))
                }
            },
            reader: Reader::default(),
            unsent: Vec::new(),
        })
    }

    /// Sends a request, or as much of it as the socket takes.
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

    /// Sends the rest of the request and reads; returns `None` while the answer is incomplete.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Answer<'_>>> {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        // Notifications are edge-triggered: read until the answer is complete or reading would block.
        while self.reader.answer()?.is_none() {
            if !self.reader.read(&mut self.stream)? {
                return Ok(None);
            }
        }
        self.reader.answer()
    }

    /// Drops the answer, so that the next request may be sent.
    pub(crate) fn answered(&mut self) {
        self.reader.clear();
    }

    /// Sends the TLS close_notify alert, if that doesn't block.
    pub(crate) fn close(self) {
        if let Stream::Tls(mut stream) = self.stream {
            stream.conn.send_close_notify();
            let _ = stream.conn.write_tls(&mut stream.sock);
        }
    }
}

/// Reads and writes plain or TLS streams without blocking.
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
        // The session buffers it until the handshake is done; reading drives that on.
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
