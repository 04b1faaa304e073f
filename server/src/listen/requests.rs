//! The requests of one connection, on their way to the router.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::http::header::{CONNECTION, STRICT_TRANSPORT_SECURITY};
use axum::http::{HeaderValue, Version};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connections::{Activity, Admitted};
use super::strict_transport::STRICT_TRANSPORT;
use super::{Connection, MAX_AGE, Stage};
use crate::timing::{ANSWER_DEADLINE, ARRIVAL_DEADLINE};

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    address: Option<IpAddr>,
    /// Address and port as text, because every line of the log has them.
    text: Arc<str>,
}

impl Peer {
    /// Returns the client's end of a connection on a Unix socket.
    pub(super) fn of_unix_socket() -> Self {
        Self {
            address: None,
            text: "unix".into(),
        }
    }

    /// Returns the address without the port. There is none on a Unix socket, whose permissions say who can connect: a proxy.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl From<SocketAddr> for Peer {
    fn from(peer: SocketAddr) -> Self {
        Self {
            address: Some(peer.ip()),
            text: peer.to_string().into(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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

/// Passes the requests of one connection to the router, each with its peer and its deadline.
pub(super) struct Requests {
    router: Router,
    peer: Peer,
    /// Counts the connection for as long as it may have requests.
    admitted: Admitted,
    stage: watch::Receiver<Stage>,
    is_tls: bool,
}

impl Requests {
    /// Passes them on as those of a connection, which speaks TLS or not.
    pub(super) fn of(connection: Connection, is_tls: bool) -> Self {
        Self {
            router: connection.router,
            peer: connection.peer,
            admitted: connection.admitted,
            stage: connection.stage,
            is_tls,
        }
    }
}

impl Service<hyper::Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Answering {
        let under_way = UnderWay::begin(self.admitted.activity());
        let now = Instant::now();
        let arrival = now + ARRIVAL_DEADLINE;
        let answer = arrival + ANSWER_DEADLINE;
        let is_http1 = request.version() <= Version::HTTP_11;
        let extensions = request.extensions_mut();
        extensions.insert(self.peer.clone());
        extensions.insert(Deadline { arrival, answer });
        Answering {
            answer: tower::Service::call(&mut self.router.clone(), request),
            under_way,
            stage: is_http1.then(|| self.stage.clone()),
            is_tls: self.is_tls,
        }
    }
}

pin_project! {
    /// An answer on its way. While it is, the connection isn't idle.
    pub(super) struct Answering {
        #[pin]
        answer: RouteFuture<Infallible>,
        under_way: UnderWay,
        // With HTTP/2 a frame says that the connection closes.
        stage: Option<watch::Receiver<Stage>>,
        is_tls: bool,
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.answer.poll(context));
        if *this.is_tls {
            response
                .headers_mut()
                .insert(STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
        }
        if let Some(stage) = this.stage
            && (*stage.borrow() >= Stage::Leaving || this.under_way.0.age() > MAX_AGE)
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Poll::Ready(Ok(response))
    }
}

/// Counts a request of a connection as under way until it is dropped.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begin();
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}
