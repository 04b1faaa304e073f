//! The accept loop: from a socket to requests that know their peer and their deadline.

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

/// Who sent a request: the other end of the connection, as text, because every line of the log says it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<str>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// By when it must have arrived whole.
    pub arrival: Instant,
    /// By when it must be answered. What it has set going goes on to its end all the same.
    pub answer: Instant,
}

/// Serves `router` on `listener` until `stop` is done, then lets what is under way finish. With `tls`, it speaks nothing
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

/// What is left to speak HTTP on, unless the peer fails or the server stops: nothing has been asked yet.
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

/// Passes the requests of one connection on, each with its peer and its deadline.
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
/// From the start of a connection to the end of its TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// From the start of a connection, with TLS the end of its handshake, or the end of the last request on it, to the end of
/// the header. Longer than proxies keep an idle connection, lest they send a request into one that is closing.
const HEADER_DEADLINE: Duration = Duration::from_secs(75);
