//! The operators' API, on a listener of its own that is off unless `admin_listen` names an address.
//!
//! It answers with the headers, errors and limits of the public API. Beside that it goes by no name but its own, lest a page
//! reads it by a name that the page's author has lead here (DNS rebinding), and may ask for a token.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use guestpass_core::refusal::Refusal;
use guestpass_verify::bearer;

use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation};
use super::{envelope, health};
use crate::app::App;
use crate::config::{Admin, Host};
use crate::error::Error;

static METRICS: Endpoint = Endpoint {
    path: "/metrics",
    allow: "GET, HEAD, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Operator,
    early_check: None,
    operations: &[Operation {
        methods: &["GET", "HEAD"],
        query: None,
        id: "metrics",
        summary: "Metrics",
        about: "Counters and histograms of this node, in the OpenMetrics text format.",
        answers: &[Answer::empty(StatusCode::OK, "The metrics.")],
    }],
};

/// Builds the router of the operators' API over `app`.
pub fn router(app: Arc<App>, admin: Admin) -> Router {
    let admin = Arc::new(admin);
    let by_its_name = from_fn_with_state(Arc::clone(&admin), check_host);
    let with_token = from_fn_with_state(admin, check_token);
    let metrics = (&METRICS, get(metrics).layer(with_token));
    let mut router = Router::new();
    for (endpoint, handlers) in health::endpoints().into_iter().chain([metrics]) {
        let handlers = handlers.layer(by_its_name.clone());
        router = router.route(endpoint.path, endpoint.route(&app, handlers));
    }
    let nothing = async || Error::from(Refusal::PathUnknown);
    let fallback = nothing
        .layer(by_its_name)
        .layer(envelope::layer(&app, None));
    router.fallback(fallback).with_state(app)
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, OPEN_METRICS)], app.metrics.expose())
}

async fn check_host(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let host = host(request.uri(), request.headers());
    if !host.is_some_and(|host| goes_by(&admin, host.host())) {
        return Err(Refusal::HostUnknown.into());
    }
    Ok(next.run(request).await)
}

async fn check_token(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    if let Some(token) = &admin.token {
        let presented = bearer::token_of(request.headers()).ok().flatten();
        if !presented.is_some_and(|presented| token.is(presented)) {
            return Err(Refusal::OperatorTokenWrong.into());
        }
    }
    Ok(next.run(request).await)
}

/// Returns the host that a request names, and its port (RFC 9110 §7.2). HTTP/2 has it in the target.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => headers.get(HOST)?.to_str().ok()?.parse().ok(),
    }
}

/// Tells whether the listener goes by that host. An address can't be made to lead elsewhere, so where it listens on all of
/// its machine's any will do.
fn goes_by(admin: &Admin, host: &str) -> bool {
    let Some(host) = Host::of(host) else {
        return false;
    };
    let own = admin.listen.ip().to_canonical();
    let is_own = match &host {
        Host::Address(address) => address.is_loopback() || *address == own || own.is_unspecified(),
        Host::Name(name) => name == "localhost",
    };
    is_own || admin.hosts.contains(&host)
}
