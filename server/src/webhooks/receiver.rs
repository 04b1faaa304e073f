//! One delivery: a POST to the shop's receiver.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use axum::http::{Request, StatusCode};
use guestpass_core::event::EventId;
use guestpass_core::time::Timestamp;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::config::Webhook;

/// The shop's receiver of webhooks. It is known by the certificates that this machine trusts; no redirect is followed, and
/// the body of its answer isn't read.
pub struct Receiver {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    webhook: Webhook,
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
    /// Makes a receiver that has `deadline` to answer.
    ///
    /// # Errors
    /// Explains why the certificates that this machine trusts can't be read.
    pub fn new(webhook: Webhook, deadline: Duration) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        // On loopback nobody has to be trusted.
        let tls = match webhook.url.scheme() {
            "https" => tls.with_native_roots().map_err(|error| {
                format!("the certificates that this machine trusts can't be read: {error}")
            })?,
            _ => tls.with_root_certificates(rustls::RootCertStore::empty()),
        }
        .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            webhook,
            deadline,
        })
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
        let request = Request::post(self.webhook.url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("guestpass/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id.to_string())
            .header("webhook-timestamp", now.as_seconds())
            .header(
                "webhook-signature",
                self.webhook.secrets.sign(id, now, &body),
            )
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
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Err(NotDelivered {
            problem: format!("it answered {status}"),
            retry_after: seconds.map(Duration::from_secs),
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
