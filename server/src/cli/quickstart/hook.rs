//! The shop's receiver of webhooks, as quickstart plays it: it takes everything.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use axum::http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cli::Failure;
use crate::config::{Events, Webhook};
use crate::random::SecureGenerator;
use crate::webhooks::new_secret;

/// A receiver on loopback.
pub(super) struct Hook {
    webhook: Webhook,
    events: mpsc::UnboundedReceiver<Heard>,
}

/// Lists what it was sent.
pub(super) struct Heard {
    pub(super) id: String,
    pub(super) event: Value,
}

pub(super) const PATH: &str = "/events";

impl Hook {
    pub(super) async fn start(data_dir: &Path) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}{PATH}", listener.local_addr()?);
        let secret_file = data_dir.join("webhook.secret");
        let secret = new_secret(&SecureGenerator::new());
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&secret_file)?;
        writeln!(file, "{}", *secret)?;
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let take = service_fn(move |request| take(sender.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), take));
            }
        });
        Ok(Self {
            webhook: Webhook {
                url: url.parse()?,
                secret_file,
            },
            events,
        })
    }

    /// Returns the settings of a server that tells this receiver.
    pub(super) fn settings(&self) -> Events {
        Events {
            recorded: true,
            webhook: Some(self.webhook.clone()),
        }
    }

    /// Waits for an event about that guest. What is about others, of an earlier run, is left out.
    pub(super) async fn hear(&mut self, sub: &str) -> Result<Heard, Failure> {
        let heard = async {
            loop {
                let heard = self.events.recv().await?;
                if heard.event["data"]["sub"] == sub {
                    return Some(heard);
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await.ok().flatten();
        heard.ok_or_else(|| Failure("the receiver has heard nothing".to_owned()))
    }
}

/// An event comes within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

async fn take(
    sender: mpsc::UnboundedSender<Heard>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if let (Some(id), Ok(event)) = (id(&parts.headers), serde_json::from_slice(&body)) {
        let _ = sender.send(Heard { id, event });
    }
    Ok(Response::new(Empty::new()))
}

fn id(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("webhook-id")?.to_str().ok()?.to_owned())
}
