//! A closed loop over TLS connections that are kept, by HTTP/1.1 or HTTP/2. Both go through the same library, so that what
//! differs is the server's.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, Response};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use memchr::memmem;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::failure::Failure;
use crate::generator::{Outcome, Step, Workload};

/// Names a version of HTTP, as TLS negotiates it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// Each request under way has a connection of its own.
    Http1,
    /// All share one.
    Http2,
}

impl Version {
    const fn protocol(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Describes a load of requests to the token endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) tls: &'a Arc<ClientConfig>,
    pub(crate) version: Version,
    /// Number of requests under way.
    pub(crate) in_flight: usize,
}

impl Kept<'_> {
    /// Runs the load for that time on one thread, and waits for the answers that are outstanding at its end.
    pub(crate) fn run(
        self,
        workload: &mut dyn Workload,
        time: Duration,
    ) -> Result<Outcome, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let senders = self.senders().await?;
            let run = Run {
                host: self.address.to_string(),
                start: Instant::now(),
                time,
                workload: RefCell::new(workload),
                outcome: RefCell::default(),
            };
            let slots = senders.into_iter().enumerate();
            join_all(slots.map(|(slot, sender)| run.work(slot, sender))).await;
            let mut outcome = run.outcome.into_inner();
            outcome.rate = outcome.done as f64 / run.start.elapsed().as_secs_f64();
            outcome.offered = outcome.rate;
            Ok(outcome)
        })
    }

    async fn senders(self) -> Result<Vec<Sender>, Failure> {
        let mut senders = Vec::new();
        match self.version {
            Version::Http1 => {
                for _ in 0..self.in_flight {
                    let (sender, connection) = http1::handshake(self.connect().await?).await?;
                    tokio::spawn(connection);
                    senders.push(Sender::Http1(sender));
                }
            }
            Version::Http2 => {
                let io = self.connect().await?;
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                senders.resize_with(self.in_flight, || Sender::Http2(sender.clone()));
            }
        }
        Ok(senders)
    }

    async fn connect(self) -> Result<TokioIo<TlsStream<TcpStream>>, Failure> {
        let mut tls = ClientConfig::clone(self.tls);
        tls.alpn_protocols = vec![self.version.protocol().to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(tls));
        let stream = connector.connect(self.address.ip().into(), stream).await?;
        Ok(TokioIo::new(stream))
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn send(&mut self, host: &str, body: Bytes) -> hyper::Result<Response<Incoming>> {
        let form = |request: axum::http::request::Builder| {
            request
                .method("POST")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(body))
                .expect("its parts are sound")
        };
        match self {
            Self::Http1(sender) => {
                let request = Request::builder().uri("/oauth/token").header(HOST, host);
                sender.ready().await?;
                sender.send_request(form(request)).await
            }
            Self::Http2(sender) => {
                let request = Request::builder().uri(format!("https://{host}/oauth/token"));
                sender.ready().await?;
                sender.send_request(form(request)).await
            }
        }
    }
}

/// Holds what the requests under way share.
struct Run<'a> {
    host: String,
    start: Instant,
    time: Duration,
    workload: RefCell<&'a mut dyn Workload>,
    outcome: RefCell<Outcome>,
}

impl Run<'_> {
    /// Sends one request after the other until the time is over or the connection lost.
    async fn work(&self, slot: usize, mut sender: Sender) {
        while self.start.elapsed() < self.time {
            let mut request = Vec::new();
            if !self.workload.borrow_mut().request(slot, &mut request) {
                return;
            }
            let begun = Instant::now();
            let answered = async {
                let answer = sender.send(&self.host, body_of(request)).await?;
                let status = answer.status().as_u16();
                Ok((status, answer.into_body().collect().await?.to_bytes()))
            };
            match answered.await {
                Ok((status, body)) => self.take(slot, status, &body, begun.elapsed()),
                Err(error) => return self.lose(slot, &error),
            }
        }
    }

    fn take(&self, slot: usize, status: u16, body: &[u8], took: Duration) {
        let step = self.workload.borrow_mut().answer(slot, status, body);
        let mut outcome = self.outcome.borrow_mut();
        outcome.received += body.len() as u64;
        if step == Step::Done {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            outcome.done += 1;
            outcome.latency.saturating_record(micros);
        } else {
            *outcome.failed.entry(status).or_default() += 1;
            let text = String::from_utf8_lossy(body);
            outcome
                .first_failure
                .get_or_insert_with(|| format!("{status}: {text}"));
        }
    }

    fn lose(&self, slot: usize, error: &hyper::Error) {
        self.workload.borrow_mut().lost(slot);
        let mut outcome = self.outcome.borrow_mut();
        *outcome.failed.entry(0).or_default() += 1;
        outcome
            .first_failure
            .get_or_insert_with(|| error.to_string());
    }
}

/// Returns the body of a request of HTTP/1.1.
fn body_of(mut request: Vec<u8>) -> Bytes {
    let end = memmem::find(&request, b"\r\n\r\n").expect("a request has a header");
    Bytes::from(request.split_off(end + 4))
}
