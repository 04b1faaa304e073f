//! `GET /oauth/jwks`: the keys that access tokens are verified with (RFC 7517). HS256 has none to show.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::document::Document;
use super::{Caller, Endpoint};
use crate::app::App;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/jwks",
    allow: "GET, OPTIONS",
    parameters: &[],
    caller: Caller::Anyone,
};

pub(super) async fn get(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let keys = app.keys.now();
    let max_age = app.keys.schedule().jwks_max_age;
    Document::new(keys.published().to_owned(), max_age).answer(&headers)
}
