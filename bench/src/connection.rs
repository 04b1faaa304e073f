//! One connection of the generator.

use std::io::{self, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::answer::{Answer, Reader};

/// A connection that has at most one request under way.
pub(crate) struct Connection {
    stream: TcpStream,
    reader: Reader,
    /// What the socket didn't take yet.
    unsent: Vec<u8>,
}

impl Connection {
    /// Connects, and waits until that is done.
    pub(crate) fn open(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
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
}
