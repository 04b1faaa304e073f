//! Cross-origin resource sharing (CORS, Fetch standard): a web page may read an answer if the answer's client has
//! registered its origin.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method};
use guestpass_core::client::Client;

use super::endpoint::{Caller, Endpoint};
use super::envelope::Received;
use super::{script, session, ticket};
use crate::app::App;

/// Adds the CORS headers to `headers`. If the client isn't known, as in a preflight or an early refusal, an origin that
/// any client has registered is allowed; an unregistered origin is never echoed.
pub(super) fn apply(
    app: &App,
    endpoint: &Endpoint,
    received: &Received,
    client: Option<&Client>,
    headers: &mut HeaderMap,
) {
    if endpoint.caller == Caller::Operator {
        return;
    }
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if endpoint.path == script::ENDPOINT.path {
        // Of any page, and without its cookies.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return;
    }
    if endpoint.caller == Caller::BackEnd {
        return;
    }
    let Some(origin) = &received.origin else {
        return;
    };
    let Ok(text) = origin.to_str() else { return };
    let allowed = match client {
        Some(client) => client.has_origin(text.as_bytes()),
        None => app.clients.any_has_origin(text),
    };
    if !allowed {
        return;
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    let keeps_cookies = match client {
        Some(client) => client.cookies.is_some(),
        None => app.clients.any_keeps_cookies_at(text),
    };
    if READ_COOKIES.contains(&endpoint.path) && keeps_cookies {
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("retry-after, ratelimit, ratelimit-policy, x-request-id"),
    );
    if received.method == Method::OPTIONS {
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(endpoint.allow),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(ALLOWED_HEADERS),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

/// The endpoints to which a page sends its cookies (credentials, Fetch standard), from a sibling host too.
const READ_COOKIES: [&str; 2] = [session::ENDPOINT.path, ticket::ENDPOINT.path];

/// Names what is read here, and what tracing libraries add to the requests of a page (W3C Trace Context, Baggage): it isn't
/// read, and carries no credential, but a browser would block the whole call for it.
const ALLOWED_HEADERS: &str = "authorization, content-type, x-api-key, x-dressipi-jwt, traceparent, tracestate, baggage, sentry-trace";
