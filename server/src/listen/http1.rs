//! HTTP/1.1 on one connection. While nothing is asked for, the connection is parked: the HTTP library, whose buffers take most of
//! the memory of a connection, is given it anew when something arrives.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use hyper::server::conn::http1::{self, Parts};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::connections::Activity;
use super::guarded::{Guarded, Transport};
use super::requests::Requests;
use super::{BUFFER, Connection};

type Served<S> = http1::Connection<TokioIo<Guarded<S>>, Requests>;

impl Connection {
    pub(super) async fn http1<S: AsyncRead + AsyncWrite + Transport + Unpin>(self, stream: S) {
        let activity = self.admitted.activity().clone();
        let mut stream = Guarded::http1(stream, &self.admitted, self.deadlines.clone());
        let mut requests = Requests::of(self, S::IS_TLS);
        while stream.readable().await.is_ok() {
            let connection = http1::Builder::new()
                // Above our own limits (`http::limits`), so that those answer, in JSON; this is only what bounds memory.
                .max_headers(256)
                .max_buf_size(BUFFER)
                .serve_connection(TokioIo::new(stream), requests);
            let Some(parts) = until_silent(Box::new(connection), &activity).await else {
                return;
            };
            stream = parts.io.into_inner();
            requests = parts.service;
            stream.unread(parts.read_buf);
        }
        // Over TLS the peer is told that this is the end.
        let _ = stream.shutdown().await;
    }
}

/// Serves a connection until its peer is silent between two requests, and takes it apart. `None` if it has ended.
async fn until_silent<S: AsyncRead + AsyncWrite + Transport + Unpin>(
    mut connection: Box<Served<S>>,
    activity: &Activity,
) -> Option<Parts<TokioIo<Guarded<S>>, Requests>> {
    let is_silent = poll_fn(|context| match Pin::new(&mut *connection).poll(context) {
        Poll::Ready(_) => Poll::Ready(false),
        Poll::Pending if activity.park() => Poll::Ready(true),
        Poll::Pending => Poll::Pending,
    });
    if !is_silent.await {
        return None;
    }
    // The library ends a connection between two requests at once, and needs neither to read nor to write for it. If it has to,
    // something isn't whole, such as a body that nobody has read: then it is left to end the connection as it does.
    Pin::new(&mut *connection).graceful_shutdown();
    let ended = poll_fn(|context| Poll::Ready(connection.poll_without_shutdown(context))).await;
    match ended {
        Poll::Ready(Ok(())) if activity.is_parked() => Some(connection.into_parts()),
        Poll::Ready(_) => None,
        Poll::Pending => {
            let _ = connection.await;
            None
        }
    }
}
