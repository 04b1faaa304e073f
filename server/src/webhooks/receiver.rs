//! One delivery: a POST to the shop's receiver.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use axum::http::{Request, StatusCode};
use guestpass_core::event::EventId;
use guestpass_core::time::Timestamp;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use url::Url;

use crate::config::Webhook;
use crate::store::BoxFuture;
use crate::webhooks::Secrets;

/// The shop's receiver of webhooks. It is known by the certificates that this machine trusts; no redirect is followed, and
/// the body of its answer isn't read.
pub struct Receiver {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    url: Url,
    secrets: Secrets,
    deadline: Duration,
}

/// A delivery that has failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotDelivered {
    /// The reason, for an operator.
    pub problem: String,
    /// The time after which the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Receiver {
    /// Makes a receiver that has `deadline` to answer, and reads the secrets.
    ///
    /// # Errors
    /// Explains why the secrets, or the certificates that this machine trusts, can't be read.
    pub fn new(webhook: &Webhook, deadline: Duration) -> Result<Self, String> {
        let secrets = webhook.secrets()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        // On loopback nobody has to be trusted.
        let tls = match webhook.url.scheme() {
            "https" => tls.with_native_roots().map_err(|error| {
                format!(
                    "events.url: the certificates that this machine trusts can't be read: {error}"
                )
            })?,
            _ => tls.with_root_certificates(rustls::RootCertStore::empty()),
        }
        .with_no_client_auth();
        let mut http = HttpConnector::new_with_resolver(Resolver {
            only_loopback: webhook.url.scheme() == "http",
            permits: Arc::new(Semaphore::new(1)),
        });
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: webhook.url.clone(),
            secrets,
            deadline,
        })
    }

    /// Returns the secrets that sign, for others to take their place.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// Sends a message once. It is delivered when the receiver answers with 2xx.
    ///
    /// # Errors
    /// [`NotDelivered`] if it answers with something else, too late, or not at all.
    pub async fn send(
        &self,
        id: EventId,
        now: Timestamp,
        body: String,
    ) -> Result<StatusCode, NotDelivered> {
        let failed = |problem| NotDelivered {
            problem,
            retry_after: None,
        };
        let request = Request::post(self.url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("guestpass/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id.to_string())
            .header("webhook-timestamp", now.as_seconds())
            .header("webhook-signature", self.secrets.sign(id, now, &body))
            .body(Full::from(body))
            .map_err(|error| failed(error.to_string()))?;
        let answer = tokio::time::timeout(self.deadline, self.client.request(request))
            .await
            .map_err(|_| failed(format!("no answer within {:?}", self.deadline)))?
            .map_err(|error| failed(with_causes(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(status);
        }
        let retry_after = answer.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| after(value.to_str().ok()?.trim(), now));
        Err(NotDelivered {
            problem: format!("it answered {status}"),
            retry_after,
        })
    }
}

/// Reads a `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let millis = date.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(Timestamp::from_millis(i64::try_from(millis).ok()?).since(now))
}

/// Looks names up, one at a time: a name server that hangs holds one of the threads that the store reads on, and no more.
#[derive(Clone)]
struct Resolver {
    /// A name must stand for this machine: what is sent there isn't encrypted.
    only_loopback: bool,
    /// Held until a look-up has really ended, however long ago its delivery was given up.
    permits: Arc<Semaphore>,
}

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self {
            only_loopback,
            permits,
        } = self.clone();
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let looked_up = spawn_blocking(move || {
                let _permit = permit;
                (name.as_str(), 0).to_socket_addrs().map(Vec::from_iter)
            });
            let found = looked_up.await.map_err(io::Error::other)??;
            if only_loopback
                && !found
                    .iter()
                    .all(|address| address.ip().to_canonical().is_loopback())
            {
                return Err(io::Error::other("the name doesn't stand for this machine"));
            }
            Ok(found.into_iter())
        })
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
