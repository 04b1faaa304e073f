//! What every request goes through and every answer carries, whatever the endpoint.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::ORIGIN;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use tracing::field::Empty;

use super::{Endpoint, client_auth, limits, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::{Deadline, Peer};
use crate::request_id::RequestId;
use crate::store::Unavailable;

/// What is remembered of a request until its answer leaves.
pub(super) struct Received {
    /// Names the request in the answer and in the log.
    pub(super) id: RequestId,
    pub(super) endpoint: Option<&'static Endpoint>,
    pub(super) method: Method,
    pub(super) origin: Option<HeaderValue>,
    pub(super) tries_basic: bool,
    pub(super) peer: Option<Peer>,
    /// By the monotonic clock.
    pub(super) at: Duration,
}

/// The middleware around an endpoint, or around the answer for paths where there is none.
pub(super) async fn wrap(
    State((app, endpoint)): State<(Arc<App>, Option<&'static Endpoint>)>,
    request: Request,
    next: Next,
) -> Response {
    let received = Received {
        id: RequestId::draw(&*app.random),
        endpoint,
        method: request.method().clone(),
        origin: request.headers().get(ORIGIN).cloned(),
        tries_basic: client_auth::tries_basic(request.headers()),
        peer: request.extensions().get::<Peer>().copied(),
        at: app.clock.monotonic(),
    };
    let span = tracing::info_span!(
        target: "guestpass::request",
        "request",
        request.id = received.id.text(),
        client.id = Empty,
        grant.id = Empty,
        decision = Empty,
    );
    let response = match limits::check(&request) {
        Err(refusal) => Error::from(refusal).into_response(),
        Ok(()) => handle(request, next).instrument(span.clone()).await,
    };
    span.in_scope(|| respond::finish(&app, &received, response))
}

/// Runs the handler in a task of its own: it runs to its end even if the client has gone or the deadline has passed, and
/// if it panics, nothing else does.
async fn handle(request: Request, next: Next) -> Response {
    let deadline = request.extensions().get::<Deadline>().copied();
    let handler = tokio::spawn(next.run(request).in_current_span());
    let result = match deadline {
        Some(Deadline { answer, .. }) => tokio::time::timeout_at(answer, handler).await,
        None => Ok(handler.await),
    };
    match result {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => Error::Internal(panic.to_string()).into_response(),
        Err(_) => Error::from(Unavailable("the answer took too long".into())).into_response(),
    }
}
