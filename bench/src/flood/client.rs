//! A connection of the flood, attacker or guest, from an address of its own.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::answer::Reader;

/// Holds a connection with at most one outstanding request.
pub(super) struct Client {
    stream: TcpStream,
    reader: Reader,
}

/// Holds an answer.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Client {
    /// Connects from an address.
    pub(super) async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        Self::connect_with(TcpSocket::new_v4()?, from, to).await
    }

    /// Connects, and leaves as much of the answers as possible to the server's side.
    pub(super) async fn connect_with_little_room(
        from: Ipv4Addr,
        to: SocketAddr,
    ) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(1)?;
        Self::connect_with(socket, from, to).await
    }

    async fn connect_with(socket: TcpSocket, from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.bind((from, 0).into())?;
        Ok(Self {
            stream: within(socket.connect(to)).await?,
            reader: Reader::default(),
        })
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<Answered> {
        within(async {
            self.send(request).await?;
            self.answer().await
        })
        .await
    }

    /// Sends all of these bytes, however long the server takes to take them.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the server ends the connection, and throws away what it sends.
    pub(super) async fn ended(&self) {
        let mut buffer = [0; 1024];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    async fn answer(&mut self) -> io::Result<Answered> {
        loop {
            if let Some(answer) = self.reader.answer()? {
                let answered = Answered {
                    status: answer.status,
                    body: answer.body.to_vec(),
                };
                self.reader.clear();
                return Ok(answered);
            }
            self.stream.readable().await?;
            self.reader.read(&mut Ready(&self.stream))?;
        }
    }
}

/// Reads from a stream without waiting.
struct Ready<'a>(&'a TcpStream);

impl Read for Ready<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

async fn within<T>(done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, done)
        .await
        .unwrap_or_else(|late| Err(late.into()))
}

/// The longest wait for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(10);
