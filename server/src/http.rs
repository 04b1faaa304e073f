//! The public API: a file per endpoint, and what all of them share.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, post};
use guestpass_core::params::Parameter;
use guestpass_core::refusal::{Refusal, WireCode};

use self::openapi::Operation;
use crate::app::App;
use crate::error::Error;

mod authorize;
mod body;
mod client_auth;
mod cors;
mod document;
mod envelope;
mod guest_auth;
mod health;
mod introspect;
mod jwks;
mod limits;
mod metadata;
mod openapi;
mod profile;
mod respond;
mod revoke;
mod token;
mod verify;

/// The public API over `app`.
pub fn router(app: Arc<App>) -> Router {
    let known = Arc::clone(&app);
    let metadata = move || metadata::document(&known);
    let beside = [
        (&health::LIVE, get(health::live)),
        (&health::READY, get(health::ready)),
        (&metadata::ENDPOINT, get(document::handler(metadata))),
    ];
    let mut below = vec![
        (&authorize::ENDPOINT, get(authorize::get)),
        (&token::ENDPOINT, post(token::post)),
        (&revoke::ENDPOINT, post(revoke::post)),
        (&introspect::ENDPOINT, post(introspect::post)),
        (&verify::ENDPOINT, verify::methods()),
        (
            &profile::ENDPOINT,
            get(profile::get).delete(profile::delete),
        ),
        (&jwks::ENDPOINT, get(jwks::get)),
    ];
    let (known, all) = (Arc::clone(&app), (endpoints(&beside), endpoints(&below)));
    let described = move || openapi::document(&known, &all.0, &all.1);
    below.push((&openapi::ENDPOINT, get(document::handler(described))));

    let mut router = Router::new();
    for (endpoint, handlers) in beside {
        let path = endpoint.path_beside(&app);
        router = router.route(&path, endpoint.route(&app, handlers));
    }
    for base in &app.base_paths {
        for (endpoint, handlers) in &below {
            let path = format!("{base}{}", endpoint.path);
            router = router.route(&path, endpoint.route(&app, handlers.clone()));
        }
    }
    let nothing = async || Error::from(Refusal::PathUnknown);
    let fallback = nothing.layer(envelope::layer(&app, None));
    router.fallback(fallback).with_state(app)
}

fn endpoints(routes: &[(&'static Endpoint, MethodRouter<Arc<App>>)]) -> Vec<&'static Endpoint> {
    routes.iter().map(|(endpoint, _)| *endpoint).collect()
}

/// What is known of an endpoint before any request.
#[derive(Debug)]
struct Endpoint {
    /// Below the base paths, or all of it for what stands beside them.
    path: &'static str,
    /// What the `Allow` header says.
    allow: &'static str,
    /// What it is told.
    parameters: &'static [Parameter],
    /// Where it is told.
    told_in: ToldIn,
    /// Who calls, and so how a failure is told.
    caller: Caller,
    /// What it does. The answer to `OPTIONS` is the same everywhere and not among them.
    operations: &'static [Operation],
}

/// Where an endpoint reads its parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ToldIn {
    Query,
    /// A form, or a JSON object. Other endpoints leave a body unread.
    Body,
}

/// Who calls an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Caller {
    /// Anyone.
    Anyone,
    /// A client, whose failed authentication has this code: RFC 6749 §4.1.2.1 and §5.2 differ.
    Client(WireCode),
    /// A client with a key. Without one the answer is 401 (RFC 7662 §2.1).
    ConfidentialClient,
    /// Whoever holds a guest's access token (RFC 6750).
    Guest,
    /// A gateway that asks on behalf of a request. It knows no other refusal than 401.
    Gateway,
}

impl Endpoint {
    /// The whole path of an endpoint that doesn't stand below the base paths. The issuer's own comes last in that of its
    /// metadata (RFC 8414 §3.1).
    fn path_beside(&self, app: &App) -> String {
        if self.path == metadata::ENDPOINT.path {
            format!("{}{}", self.path, app.issuer.path())
        } else {
            self.path.to_owned()
        }
    }

    fn route(
        &'static self,
        app: &Arc<App>,
        handlers: MethodRouter<Arc<App>>,
    ) -> MethodRouter<Arc<App>> {
        let not_allowed = async || Error::from(Refusal::MethodNotAllowed);
        let has_head = self.allow.contains("HEAD");
        let handlers = if has_head {
            handlers
        } else {
            // Without this, axum would answer HEAD by running the GET, which creates a guest.
            handlers.on(MethodFilter::HEAD, not_allowed)
        };
        handlers
            .on(MethodFilter::OPTIONS, respond::options)
            .fallback(not_allowed)
            .layer(envelope::layer(app, Some(self)))
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
