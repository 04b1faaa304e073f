//! The public API: a file per endpoint, and what all of them share.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use guestpass_core::params::Parameter;
use guestpass_core::refusal::{Refusal, WireCode};

use crate::app::App;
use crate::error::Error;

mod authorize;
mod body;
mod client_auth;
mod cors;
mod envelope;
mod health;
mod limits;
mod respond;
mod token;

/// The public API over `app`.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route(health::LIVE.path, health::LIVE.route(&app, health::live))
        .route(health::READY.path, health::READY.route(&app, health::ready));
    for base in &app.base_paths {
        let authorize = authorize::ENDPOINT.route(&app, authorize::get);
        let token = token::ENDPOINT.route(&app, token::post);
        router = router
            .route(&format!("{base}{}", authorize::ENDPOINT.path), authorize)
            .route(&format!("{base}{}", token::ENDPOINT.path), token);
    }
    let nothing = async || Error::from(Refusal::PathUnknown);
    let envelope = from_fn_with_state((Arc::clone(&app), None), envelope::wrap);
    router.fallback(nothing.layer(envelope)).with_state(app)
}

/// What is known of an endpoint before any request.
#[derive(Debug)]
struct Endpoint {
    /// Below the base paths, or all of it for `/livez` and `/readyz`.
    path: &'static str,
    /// The one method beside `OPTIONS`.
    method: Method,
    /// What the `Allow` header says.
    allow: &'static str,
    /// What it is told.
    parameters: &'static [Parameter],
    /// What a failed client authentication is called here: RFC 6749 §4.1.2.1 and §5.2 differ.
    authentication_failure: WireCode,
}

impl Endpoint {
    fn route<H, T>(&'static self, app: &Arc<App>, handler: H) -> MethodRouter<Arc<App>>
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let method = MethodFilter::try_from(self.method.clone()).expect("a standard method");
        let not_allowed = async || Error::from(Refusal::MethodNotAllowed);
        MethodRouter::new()
            .on(method, handler)
            // Without this, axum would answer HEAD by running the GET, which creates a guest.
            .on(MethodFilter::HEAD, not_allowed)
            .on(MethodFilter::OPTIONS, respond::options)
            .fallback(not_allowed)
            .layer(from_fn_with_state(
                (Arc::clone(app), Some(self)),
                envelope::wrap,
            ))
    }
}

impl IntoResponse for Error {
    /// Leaves the error for the envelope, which knows the endpoint and the request and turns it into an answer there.
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}
