//! A shop's receiver of webhooks on loopback, which answers as a test tells it to.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, Request, Response};
use guestpass::config::Config;
use guestpass::webhooks::{self, Receiver};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The receiver. What it was sent stays until it is taken.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    directory: Arc<TempDir>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    /// Those of them that were answered with success.
    taken: Vec<Received>,
    script: VecDeque<Answers>,
    always: Option<Answers>,
}

/// A delivery, whatever was answered.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// An answer of the receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answers {
    /// With this status.
    Status(u16),
    /// With this status, and the seconds after which to try again.
    RetryAfter(u16, u32),
    /// With a redirect to itself.
    Redirect,
    /// Never.
    Never,
    /// By closing the connection.
    Close,
}

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl Hook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let directory = Arc::new(TempDir::new().unwrap());
        std::fs::write(directory.path().join("secret"), SECRET).unwrap();
        let hook = Self {
            url,
            state: Arc::default(),
            directory,
        };
        let serving = hook.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hook = serving.clone();
                let answer = service_fn(move |request| hook.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        hook
    }

    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Empty<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.received.push(Received {
                headers: parts.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            });
            let next = state.script.pop_front().or(state.always);
            let next = next.unwrap_or(Answers::Status(204));
            if next == Answers::Status(204) {
                let taken = state.received.last().cloned();
                state.taken.extend(taken);
            }
            next
        };
        let with = |status: u16| Response::builder().status(status);
        let response = match answer {
            Answers::Status(status) => with(status),
            Answers::RetryAfter(status, seconds) => with(status).header("retry-after", seconds),
            Answers::Redirect => with(302).header("location", &self.url),
            Answers::Never => std::future::pending().await,
            Answers::Close => return Err(io::Error::other("closed")),
        };
        Ok(response.body(Empty::new()).unwrap())
    }

    /// Returns settings with which a server sends its events here.
    pub(crate) fn settings(&self) -> [(&'static str, String); 2] {
        let file = self.directory.path().join("secret");
        [
            ("events.url", self.url.clone()),
            ("events.secret_file", file.display().to_string()),
        ]
    }

    /// Returns the way to this receiver. It has a long time to answer.
    pub(crate) fn receiver(&self, config: &Config) -> Receiver {
        self.receiver_within(config, webhooks::DEADLINE * 10)
    }

    /// Returns the way to this receiver, which has that time to answer.
    pub(crate) fn receiver_within(&self, config: &Config, deadline: Duration) -> Receiver {
        let webhook = config.events.webhook.as_ref().unwrap();
        Receiver::new(webhook, deadline).unwrap()
    }

    /// Lets the next deliveries have these answers, in this order.
    pub(crate) fn answers(&self, answers: &[Answers]) {
        self.state.lock().unwrap().script.extend(answers);
    }

    /// Lets all deliveries have this answer, or succeed again.
    pub(crate) fn always(&self, answer: Option<Answers>) {
        self.state.lock().unwrap().always = answer;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().unwrap().received.is_empty()
    }

    /// Returns all that was answered with success.
    pub(crate) fn taken(&self) -> Vec<Received> {
        self.state.lock().unwrap().taken.clone()
    }

    /// Takes what was received since the last call.
    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.state.lock().unwrap().received)
    }
}

impl Received {
    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}
