//! The answers of the HTTP library itself, to what it can't read as a request: 400 and 431. Over TLS they ask for TLS from then
//! on, as all others do (HSTS, RFC 6797 §7.1).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guarded::Transport;

/// For a year.
pub(super) const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static(VALUE);
const VALUE: &str = "max-age=31536000";
const NAME: &str = "strict-transport-security";

/// A stream over TLS on which each answer that is an error of the client's has the header field. The library has no hook for its
/// own, so it is put into what is written.
pub(super) struct StrictTransport<S> {
    stream: S,
    /// Such an answer while it is written, and the length that it had.
    own: Option<(Vec<u8>, usize)>,
}

impl<S> StrictTransport<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, own: None }
    }
}

impl<S: Transport> Transport for StrictTransport<S> {
    const IS_TLS: bool = S::IS_TLS;

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_readable(context)
    }

    fn reset_when_closed(&self) {
        self.stream.reset_when_closed();
    }
}

/// Returns the answer with the header field, if it is one of the library's own: those of the server have it already.
fn completed(answer: &[u8]) -> Option<Vec<u8>> {
    let is_error = answer.starts_with(b"HTTP/1.") && answer.get(9) == Some(&b'4');
    let text = str::from_utf8(answer).ok().filter(|_| is_error)?;
    let (status, rest) = text.split_once("\r\n")?;
    let is_own = !rest.contains(NAME);
    is_own.then(|| format!("{status}\r\n{NAME}: {VALUE}\r\n{rest}").into_bytes())
}

impl<S: AsyncWrite + Unpin> StrictTransport<S> {
    /// Writes an answer of the library's own, whole. `None` for anything else.
    fn poll_own(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.own.is_none() {
            self.own = completed(bytes).map(|own| (own, bytes.len()));
        }
        let (rest, length) = self.own.as_mut()?;
        while !rest.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Ok(0))),
                Poll::Ready(Ok(written)) => drop(rest.drain(..written)),
                other => return Some(other),
            }
        }
        let length = *length;
        self.own = None;
        Some(Poll::Ready(Ok(length)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictTransport<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictTransport<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_own(context, bytes) {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let head = parts.first().map_or(&[][..], |head| head);
        match self.poll_own(context, head) {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn f57_an_answer_of_the_library_has_the_field_however_it_is_written() {
        let own = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
        let ours = "HTTP/1.1 404 Not Found\r\nstrict-transport-security: max-age=31536000\r\n\r\n";
        for room in [7, 1024] {
            let (stream, mut peer) = duplex(room);
            let mut stream = StrictTransport::new(stream);
            let write = async move {
                for answer in [ours, own, "HTTP/1.1 200 OK\r\n\r\n4"] {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            };
            let mut arrived = String::new();
            let ((), read) = tokio::join!(write, peer.read_to_string(&mut arrived));
            read.unwrap();
            let times = arrived.matches(NAME).count();
            assert_eq!(times, 2, "{arrived}");
            assert_eq!(arrived.matches("connection: close\r\n\r\n").count(), 1);
            assert!(arrived.ends_with("200 OK\r\n\r\n4"), "{arrived}");
        }
    }
}
