//! The listener of the public API: from a socket to requests that know their peer and their deadline.
//!
//! Whoever connects is a stranger. Each connection waits for them in bounded time (`listen/guarded.rs`) and is one of a
//! bounded number, in all and of each address (`listen/connections.rs`).
//!
//! When the server leaves, nothing that was sent is lost: it accepts for the drain delay and then whatever has connected
//! already, says with each answer that the connection closes (a GOAWAY on HTTP/2), and has `timing::DRAIN` for what is under
//! way, which is more than a request may take.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use self::connections::{Admitted, Connections};
use self::guarded::{Deadlines, Guarded, LAST_REQUEST, Transport};
use self::requests::Requests;
pub use self::requests::{Deadline, Peer};
pub use self::socket::{Listener, Reserved};
use self::socket::{Socket, Stream};
use self::strict_transport::StrictTransport;
use crate::config::TrustedProxies;
use crate::source::Source;
use crate::timing::DRAIN;

mod connections;
mod guarded;
mod handed_over;
mod http1;
mod requests;
mod socket;
mod strict_transport;
mod unix_socket;

/// The settings of a listener.
#[derive(Clone)]
pub struct Settings {
    /// The certificate and its key; with them a listener on TCP speaks nothing but TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// The time for which a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// The connections that one address may have; `None` is any number.
    pub per_address: Option<usize>,
    /// The proxies in front, which have as many connections as they like.
    pub trusted_proxies: TrustedProxies,
    /// The connections that there may be in all.
    pub max_connections: usize,
    /// The time for which a server that leaves still accepts.
    pub drain_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: None,
            keep_alive: Duration::from_secs(75),
            per_address: Some(256),
            trusted_proxies: TrustedProxies::default(),
            max_connections: MAX_CONNECTIONS,
            drain_delay: Duration::ZERO,
        }
    }
}

/// The most connections that a listener has, however many files the process may open. A parked one takes some 2 KiB, and its socket
/// at least 4 KiB of the kernel's.
pub const MAX_CONNECTIONS: usize = 16_000;

/// Serves `router` on `listener` until `stop` is done, then leaves.
pub async fn serve(
    listener: impl Into<Listener>,
    settings: Settings,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let listener = listener.into();
    if let Err(error) = bound_buffers(&listener) {
        tracing::warn!(error = %error, "the operating system doesn't let the buffers of connections be bounded");
    }
    let (enter, stage) = watch::channel(Stage::Serving);
    let serving = Serving {
        connections: Connections::new(settings.max_connections, settings.per_address),
        tasks: TaskTracker::new(),
        settings,
        router,
        stage,
    };
    serving.accept_until(&listener, stop).await;
    let _ = enter.send(Stage::Leaving);
    let delay = serving.settings.drain_delay;
    if !delay.is_zero() {
        let over = tokio::time::sleep(delay);
        serving.accept_until(&listener, over).await;
    }
    let waiting = listener.close(serving.settings.max_connections);
    for (stream, peer) in waiting.unwrap_or_default() {
        serving.begin(stream, peer);
    }
    let _ = enter.send(Stage::Closed);
    serving.connections.wake_all();
    serving.tasks.close();
    if tokio::time::timeout(DRAIN, serving.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = serving.tasks.len(),
            "some connections were still open at the end"
        );
    }
}

/// Says how far a listener has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stage {
    /// It accepts and answers.
    Serving,
    /// It does so still, and each answer is the last of its connection.
    Leaving,
    /// It accepts no more, and who asks for nothing is let go.
    Closed,
}

/// Everything that the connections of a listener share.
struct Serving {
    settings: Settings,
    router: Router,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    stage: watch::Receiver<Stage>,
}

impl Serving {
    /// Accepts until `end` is done.
    async fn accept_until(&self, listener: &Listener, end: impl Future<Output = ()>) {
        let mut failures = Failures::default();
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut end => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Further ones wait in the operating system's queue meanwhile. This one isn't dropped at the end.
                    let is_over = tokio::select! {
                        () = self.connections.wait_for_room() => false,
                        () = &mut end => true,
                    };
                    self.begin(stream, peer);
                    if is_over {
                        return;
                    }
                }
                Err(error) => {
                    failures.note(&error);
                    // Out of file descriptors, mostly. Connections that end will free some.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Admits a connection, unless its address has too many that are in use. A proxy has as many as it likes, since those of
    /// all visitors are its own.
    fn admit(&self, peer: &Peer) -> Option<Admitted> {
        let is_stranger = |address: &_| !self.settings.trusted_proxies.contains(*address);
        let stranger = peer.address().filter(is_stranger);
        self.connections.admit(stranger.map(Source::from))
    }

    /// Serves one connection, if it is admitted.
    fn begin(&self, stream: Stream, peer: Peer) {
        let Some(admitted) = self.admit(&peer) else {
            tracing::debug!(%peer, "refused: the address has too many connections");
            return;
        };
        let (router, stage) = (self.router.clone(), self.stage.clone());
        let deadlines = Deadlines {
            keep_alive: self.settings.keep_alive,
            stage: stage.clone(),
        };
        let tls = self.settings.tls.clone();
        self.tasks.spawn(async move {
            let connection = Connection {
                admitted,
                deadlines,
                stage,
                router,
                peer,
            };
            // A broken connection is the peer's affair; its request, if there was one, has its own line.
            match (stream, tls) {
                (Stream::Unix(stream), _) => connection.http1(stream).await,
                (Stream::Tcp(stream), None) => connection.http1(stream).await,
                (Stream::Tcp(stream), Some(tls)) => {
                    // A task is as large as all that it may ever hold. Apart, lest a connection in the clear have room for TLS.
                    Box::pin(connection.over_tls(stream, tls)).await;
                }
            }
        });
    }
}

/// One connection.
struct Connection {
    admitted: Admitted,
    deadlines: Deadlines,
    stage: watch::Receiver<Stage>,
    router: Router,
    peer: Peer,
}

impl Connection {
    /// Performs a TLS handshake. `None` if it fails or is late, or if the server leaves meanwhile: nothing has been asked
    /// yet.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        tls: Arc<ServerConfig>,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = TlsAcceptor::from(tls).accept(stream);
        let evicted = self.admitted.activity().evicted();
        let mut stage = self.stage.clone();
        let left = async {
            // An error means that the listener has gone.
            let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
            tokio::time::sleep(LAST_REQUEST).await;
        };
        tokio::select! {
            done = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake) => done,
            () = evicted => return None,
            () = left => return None,
        }
        .unwrap_or_else(|late| Err(late.into()))
        .inspect_err(|error| tracing::debug!(peer = %self.peer, %error, "a TLS handshake failed"))
        .ok()
    }

    async fn over_tls(self, stream: TcpStream, tls: Arc<ServerConfig>) {
        let Some(stream) = self.shake_hands(stream, tls).await else {
            return;
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            Box::pin(self.http2(stream)).await;
        } else {
            self.http1(StrictTransport::new(stream)).await;
        }
    }

    async fn http2<S: AsyncRead + AsyncWrite + Transport + Unpin + Send + 'static>(
        self,
        stream: S,
    ) {
        let ends = Arc::new(Notify::new());
        let deadlines = self.deadlines.clone();
        let stream = Guarded::http2(stream, &self.admitted, deadlines, Arc::clone(&ends));
        let mut stage = self.stage.clone();
        let requests = Requests::of(self, S::IS_TLS);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(BUFFER_U32)
            .max_send_buf_size(BUFFER)
            .initial_stream_window_size(BUFFER_U32)
            .initial_connection_window_size(4 * BUFFER_U32)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_REFUSALS)
            .serve_connection(TokioIo::new(stream), requests);
        let mut connection = std::pin::pin!(connection);
        let leaves = async {
            tokio::select! {
                // An error means that the listener has gone.
                _ = stage.wait_for(|stage| *stage >= Stage::Leaving) => {}
                () = tokio::time::sleep(MAX_AGE) => {}
                () = ends.notified() => {}
            }
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = leaves => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// Bounds what the operating system keeps for each connection. Accepted sockets inherit it from the listening one. Those of a
/// Unix socket don't, nor do theirs grow.
fn bound_buffers(listener: &Listener) -> std::io::Result<()> {
    use rustix::net::sockopt;
    let Socket::Tcp(listener) = &listener.socket else {
        return Ok(());
    };
    // Answers are small and whole: waiting to fill a segment would only delay them.
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_send_buffer_size(listener, SOCKET_BUFFER)?;
    sockopt::set_socket_recv_buffer_size(listener, SOCKET_BUFFER)?;
    // A peer that acknowledges nothing, also when the connection is closed on our side already. Longer than we wait: the
    // kernel counts a window that stays small as no progress.
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(
        listener,
        guarded::WHOLE_WRITE_DEADLINE
            .as_millis()
            .try_into()
            .unwrap_or(u32::MAX),
    )?;
    Ok(())
}

/// Logs failures to accept, at most once a minute.
#[derive(Default)]
struct Failures {
    logged_at: Option<Instant>,
    left_out: u64,
}

impl Failures {
    fn note(&mut self, error: &std::io::Error) {
        if self
            .logged_at
            .is_some_and(|at| at.elapsed() < Duration::from_secs(60))
        {
            self.left_out += 1;
            return;
        }
        tracing::error!(
            error = %error,
            left_out = self.left_out,
            "can't accept a connection; this is said once a minute"
        );
        *self = Self {
            logged_at: Some(Instant::now()),
            left_out: 0,
        };
    }
}

/// The time from the start of a connection to the end of its TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The age at which a connection ends with its next answer, so that none lasts for ever.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// The bytes that a connection may hold in memory of what was read, and of what is to be written.
const BUFFER: usize = 64 * 1024;
const BUFFER_U32: u32 = 64 * 1024;
/// The bytes that the operating system keeps of either; Linux doubles it.
const SOCKET_BUFFER: usize = 16 * 1024;
/// The requests that one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 128;
/// The resets after which an HTTP/2 connection is taken for an attack (CVE-2023-44487).
const MAX_RESETS: usize = 32;

/// The requests of an HTTP/2 connection that are refused or reset for an error, before it is closed: more than a client opens at
/// once while it doesn't know yet how many it may (RFC 9113 §5.1.2). It sends those that were refused again.
const MAX_REFUSALS: usize = 1024;
