//! A connection that waits for its peer in bounded time only.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::Stage;
use super::connections::{Activity, Admitted};

/// Holds all that a connection's deadlines follow from.
#[derive(Clone)]
pub(super) struct Deadlines {
    /// The time for which it may be idle between two requests.
    pub(super) keep_alive: Duration,
    /// Says how far the listener has come: once it is closed, a connection is idle for [`LAST_REQUEST`] at most.
    pub(super) stage: watch::Receiver<Stage>,
}

/// A stream whose reads fail when the peer has been silent for too long with no request under way, or when the
/// connection was asked to make room; and whose writes fail when the peer takes too long to take them.
///
/// There is one timer for each connection, and few requests touch it: it is armed for the earliest deadline that it knows of, and
/// when it fires it is armed anew for what then holds.
pub(super) struct Guarded<S> {
    stream: S,
    /// What was read and given back.
    unread: Bytes,
    activity: Arc<Activity>,
    deadlines: Deadlines,
    reads_headers: bool,
    farewell: Option<Farewell>,
    timer: Pin<Box<Sleep>>,
    /// The time from which the first header is waited for.
    begun: Instant,
    /// The time at which the header of a request began to arrive, and the number of requests before it.
    header: Option<(Instant, u64)>,
    /// The times since which a write has been waiting, and since which none has made progress.
    blocked: Option<Blocked>,
}

/// Lets an HTTP/2 connection say that it ends (GOAWAY) before it does: the peer may be sending a request.
struct Farewell {
    due: Arc<Notify>,
    /// The time by which it has been said.
    until: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Blocked {
    since: Instant,
    without_progress_since: Instant,
}

impl<S> Guarded<S> {
    /// Guards an HTTP/1.1 connection, on which a header that has begun must soon be whole.
    pub(super) fn http1(stream: S, admitted: &Admitted, deadlines: Deadlines) -> Self {
        Self::new(stream, admitted, deadlines, true)
    }

    /// Guards an HTTP/2 connection, on which frames may come at any time. Notifies `ends` when the peer has been silent for too
    /// long, and then gives it [`LAST_REQUEST`].
    pub(super) fn http2(
        stream: S,
        admitted: &Admitted,
        deadlines: Deadlines,
        ends: Arc<Notify>,
    ) -> Self {
        let farewell = Farewell {
            due: ends,
            until: None,
        };
        Self {
            farewell: Some(farewell),
            ..Self::new(stream, admitted, deadlines, false)
        }
    }

    fn new(stream: S, admitted: &Admitted, deadlines: Deadlines, reads_headers: bool) -> Self {
        let begun = Instant::now();
        Self {
            stream,
            unread: Bytes::new(),
            activity: Arc::clone(admitted.activity()),
            deadlines,
            reads_headers,
            farewell: None,
            timer: Box::pin(tokio::time::sleep_until(begun + HEADER_DEADLINE)),
            begun,
            header: None,
            blocked: None,
        }
    }

    /// Returns the time by which the peer must have sent something. `None` while a request is under way, whose body has
    /// a deadline of its own.
    fn read_deadline(&self) -> Option<Instant> {
        let idle_since = self.activity.idle_since()?;
        if let Some(until) = self.farewell.as_ref().and_then(|farewell| farewell.until) {
            return Some(until);
        }
        let before = self.activity.begun();
        let header = self.header.filter(|(_, at)| *at == before);
        Some(match header {
            Some(_) if before == 0 => self.begun + HEADER_DEADLINE,
            Some((begun, _)) => begun + HEADER_DEADLINE,
            // Not from the handshake's beginning.
            None if *self.deadlines.stage.borrow() == Stage::Closed => {
                idle_since.max(self.begun) + LAST_REQUEST
            }
            None if before == 0 => self.begun + HEADER_DEADLINE,
            None => idle_since + self.deadlines.keep_alive,
        })
    }

    /// Ready when the deadline has passed. Otherwise the task is woken by then.
    fn poll_deadline(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        while Instant::now() < deadline {
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            match self.timer.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => self.timer.as_mut().reset(deadline),
            }
        }
        Poll::Ready(())
    }

    /// Gives back what was read and isn't used yet: it is read once more.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        // A copy, for the buffer that they were read into is larger.
        self.unread = Bytes::copy_from_slice(bytes);
    }

    /// Reads what was given back, and then the stream.
    fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncRead + Unpin,
    {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let next = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(next));
        Poll::Ready(Ok(()))
    }

    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// If the peer is silent for too long, or must make room.
    pub(super) async fn readable(&mut self) -> io::Result<()>
    where
        S: Transport,
    {
        if !self.unread.is_empty() {
            return Ok(());
        }
        poll_fn(|context| match self.stream.poll_readable(context) {
            Poll::Ready(readable) => Poll::Ready(readable),
            Poll::Pending => self.poll_silence(context).map(Err),
        })
        .await
    }

    /// Ready when the peer has been silent for too long, or must make room. Otherwise the task is woken by then.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let is_evicted = self.activity.poll_evicted(context).is_ready();
        let Some(deadline) = self.read_deadline() else {
            // The end of the request wakes nobody who reads, so this looks again by the time that matters then.
            let after = match self.reads_headers {
                true => PARKED_AFTER,
                false => self.deadlines.keep_alive,
            };
            let _ = self.poll_deadline(context, Instant::now() + after);
            return Poll::Pending;
        };
        if !is_evicted {
            if let Some(parked_at) = self.parked_at() {
                ready!(self.poll_deadline(context, parked_at.min(deadline)));
                self.activity.note_silence();
            }
            ready!(self.poll_deadline(context, deadline));
        }
        match &mut self.farewell {
            Some(Farewell { due, until }) if !is_evicted && until.is_none() => {
                let last = Instant::now() + LAST_REQUEST;
                *until = Some(last);
                due.notify_one();
                let _ = self.poll_deadline(context, last);
                Poll::Pending
            }
            _ => Poll::Ready(late("the peer asks for nothing")),
        }
    }

    /// Returns the time at which an HTTP/1.1 connection is parked. `None` while a request is under way or its header is.
    fn parked_at(&self) -> Option<Instant> {
        let before = self.activity.begun();
        let is_between = self.reads_headers && self.header.is_none_or(|(_, at)| at != before);
        let idle_since = self.activity.idle_since().filter(|_| is_between)?;
        Some(idle_since + PARKED_AFTER)
    }

    /// Bounds the waiting of a write, a flush or a shutdown that has returned `polled`.
    fn bound<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        S: Transport,
    {
        if polled.is_ready() {
            return polled;
        }
        let now = Instant::now();
        let blocked = *self.blocked.get_or_insert(Blocked {
            since: now,
            without_progress_since: now,
        });
        let deadline = (blocked.without_progress_since + WRITE_DEADLINE)
            .min(blocked.since + WHOLE_WRITE_DEADLINE);
        self.poll_deadline(context, deadline).map(|()| {
            self.stream.reset_when_closed();
            Err(late("the peer takes nothing"))
        })
    }
}

/// The stream of a connection.
pub(super) trait Transport {
    /// Tells whether TLS is spoken on it.
    const IS_TLS: bool;

    /// Ready when there may be something to read. Otherwise the task is woken then.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has the end of the stream throw away what the peer hasn't taken, which the operating system would keep otherwise.
    fn reset_when_closed(&self);
}

impl Transport for TcpStream {
    const IS_TLS: bool = false;

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The runtime takes a new connection for readable until it has looked.
        self.poll_peek(context, &mut ReadBuf::new(&mut [0]))
            .map_ok(drop)
    }

    fn reset_when_closed(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Transport for UnixStream {
    const IS_TLS: bool = false;

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    /// Does nothing: what the peer hasn't taken is kept until it goes, and it is on this machine.
    fn reset_when_closed(&self) {}
}

impl Transport for TlsStream<TcpStream> {
    const IS_TLS: bool = true;

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (stream, session) = self.get_ref();
        // What has come with the end of the handshake is in the session.
        match session.wants_read() {
            true => stream.poll_read_ready(context),
            false => Poll::Ready(Ok(())),
        }
    }

    fn reset_when_closed(&self) {
        self.get_ref().0.reset_when_closed();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.activity.note_use();
        let read = this.poll_stream(context, buffer);
        if read.is_ready() {
            if this.reads_headers && this.activity.idle_since().is_some() {
                let begun = this.activity.begun();
                if this.header.is_none_or(|(_, before)| before != begun) {
                    this.header = Some((Instant::now(), begun));
                }
            }
            return read;
        }
        this.poll_silence(context).map(Err)
    }
}

impl<S: AsyncWrite + Transport + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.note_use();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.note_progress(&written);
        this.bound(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.note_use();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.note_progress(&written);
        this.bound(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        if flushed.is_ready() {
            this.blocked = None;
            this.activity.flushed();
        }
        this.bound(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.activity.note_use();
        let shut_down = Pin::new(&mut this.stream).poll_shutdown(context);
        this.bound(context, shut_down)
    }
}

impl<S> Guarded<S> {
    fn note_progress(&mut self, written: &Poll<io::Result<usize>>) {
        if written.is_ready()
            && let Some(blocked) = &mut self.blocked
        {
            blocked.without_progress_since = Instant::now();
        }
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// The time in which the header of a request must be whole, from its first byte or from the start of the connection.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// The silence between two requests after which a connection is parked.
pub(super) const PARKED_AFTER: Duration = Duration::from_millis(100);
/// The longest that a write may wait without any progress.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// The longest that the peer may take to take all that is written: whoever takes a byte a minute makes progress, too.
pub(super) const WHOLE_WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// The time that a connection which has just been in use has for one more request when the server leaves: the client may
/// have sent it already.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);
