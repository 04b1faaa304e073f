//! The accept loop: from a socket to requests that know their peer and their deadline.
//!
//! On SIGTERM it accepts no more, and connections with a request under way have `DRAIN` to answer it (graceful
//! shutdown). The drain waits for connections, not for tasks that have left theirs: the rest of a handler whose client
//! has gone or whose deadline has passed (`http::envelope`), and the second pass of an erasure (`revocation.rs`). Those
//! are cut off, at any await, when the process ends. Nothing that was promised is lost: each write is atomic, the
//! journal is replayed at the next start, and the cleaner removes what a second pass would have.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::timing::{ANSWER_DEADLINE, ARRIVAL_DEADLINE, DRAIN};

/// The address of the client's end of a connection, as text, because every line of the log has it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<str>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The deadlines of a request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The time by which the whole request must have arrived.
    pub arrival: Instant,
    /// The time by which it must be answered. A handler that is late goes on to its end all the same.
    pub answer: Instant,
}

/// Serves `router` on `listener` until `stop` is done, then drains for at most `DRAIN`. With `tls`, it speaks nothing
/// else.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let (serving, stopping) = watch::channel(());
    let mut stop = std::pin::pin!(stop);
    loop {
        // At the cap, new connections wait in the operating system's queue.
        let permit = Arc::clone(&connections).acquire_owned();
        let accepted = async { (permit.await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Answers are small and whole: waiting to fill a segment would only delay them.
                let _ = stream.set_nodelay(true);
                let (watcher, router) = (graceful.watcher(), router.clone());
                // A broken connection is the peer's affair; its request, if there was one, has its own line.
                if let Some(tls) = tls.clone() {
                    let handshake = handshake(stream, peer, tls, stopping.clone());
                    tokio::spawn(async move {
                        if let Some(stream) = handshake.await {
                            let _ = watcher.watch(connection(stream, peer, router)).await;
                        }
                        drop(permit);
                    });
                } else {
                    let connection = watcher.watch(connection(stream, peer, router));
                    tokio::spawn(async move {
                        let _ = connection.await;
                        drop(permit);
                    });
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly. Connections that end will free some.
                tracing::error!(error = %error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop((listener, serving));
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => tracing::warn!("some requests were still under way at the end"),
    }
}

/// Performs a TLS handshake. `None` if it fails or is late, or if the server stops meanwhile: nothing has been asked
/// yet.
async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<ServerConfig>,
    mut stopping: watch::Receiver<()>,
) -> Option<TlsStream<TcpStream>> {
    let handshake = TlsAcceptor::from(tls).accept(stream);
    tokio::select! {
        done = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake) => done,
        _ = stopping.changed() => return None,
    }
    .unwrap_or_else(|late| Err(late.into()))
    .inspect_err(|error| tracing::debug!(%peer, %error, "a TLS handshake failed"))
    .ok()
}

fn connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    peer: SocketAddr,
    router: Router,
) -> http1::Connection<TokioIo<S>, Requests> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        // Above our own limits (`http::limits`), so that those answer, in JSON; this is only what bounds memory.
        .max_headers(256)
        .max_buf_size(64 * 1024)
        .serve_connection(
            TokioIo::new(stream),
            Requests {
                router,
                peer: Peer(peer.to_string().into()),
            },
        )
}

/// Passes the requests of one connection to the router, each with its peer and its deadline.
struct Requests {
    router: Router,
    peer: Peer,
}

impl Service<hyper::Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        let arrival = Instant::now() + ARRIVAL_DEADLINE;
        let answer = arrival + ANSWER_DEADLINE;
        request
            .extensions_mut()
            .insert(Deadline { arrival, answer });
        tower::Service::call(&mut self.router.clone(), request)
    }
}

const MAX_CONNECTIONS: usize = 10_000;
/// The time from the start of a connection to the end of its TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The time for which a connection may be idle: up to the end of the next header, from the last request, the TLS
/// handshake or the start. Longer than proxies keep an idle connection, lest they send a request into one that is
/// closing.
const HEADER_DEADLINE: Duration = Duration::from_secs(75);
