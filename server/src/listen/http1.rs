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
            let Some(parts) = until_silent(serve(stream, requests), &activity).await else {
                return;
            };
            stream = parts.io.into_inner();
            requests = parts.service;
            stream.unread(&parts.read_buf);
        }
        // Over TLS the peer is told that this is the end.
        let _ = stream.shutdown().await;
    }
}

/// Gives the stream to the HTTP library.
fn serve<S: AsyncRead + AsyncWrite + Transport + Unpin>(
    stream: Guarded<S>,
    requests: Requests,
) -> Box<Served<S>> {
    let connection = http1::Builder::new()
        // Above our own limits (`http::limits`), so that those answer, in JSON; this is only what bounds memory.
        .max_headers(256)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), requests);
    Box::new(connection)
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;
    use tokio::time::{Duration, Instant};

    use super::super::Stage;
    use super::super::connections::Connections;
    use super::super::guarded::{Deadlines, PARKED_AFTER};
    use super::*;

    #[tokio::test]
    async fn a_connection_is_parked_soon_after_each_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let (_enter, stage) = watch::channel(Stage::Serving);
        let deadlines = Deadlines {
            keep_alive: Duration::from_secs(75),
            stage: stage.clone(),
        };
        let connection = Connection {
            admitted: Connections::new(1, None).admit(None).unwrap(),
            deadlines: deadlines.clone(),
            stage,
            router: Router::new()
                .route("/", get(async || "a"))
                .route("/", post(async |body: String| body)),
            peer: address.into(),
        };
        let activity = connection.admitted.activity().clone();
        let mut stream = Guarded::http1(stream, &connection.admitted, deadlines);
        let mut requests = Requests::of(connection, false);
        tokio::time::pause();
        for ask in [
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        ] {
            let activity = activity.clone();
            // A task of its own, or it would look at the connection whenever the peer does.
            let parked = tokio::spawn(async move {
                stream.readable().await.unwrap();
                let parts = until_silent(serve(stream, requests), &activity).await;
                (parts.expect("it is parked"), Instant::now())
            });
            peer.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = [0; 1024];
            let length = peer.read(&mut answer).await.unwrap();
            assert!(answer[..length].ends_with(b"\r\n\r\na"));
            let answered = Instant::now();
            let (parts, parked) = parked.await.unwrap();
            let silence = parked - answered;
            assert!(silence <= 2 * PARKED_AFTER, "{silence:?}");
            stream = parts.io.into_inner();
            requests = parts.service;
        }
    }
}
