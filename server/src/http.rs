//! The public API. Each endpoint has a file; the middleware and the helpers that endpoints share have theirs.

#![warn(clippy::wildcard_enum_match_arm)]

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use guestpass_core::refusal::Refusal;

use crate::app::App;
use crate::error::Error;

pub mod admin;
mod attributes;
mod authorize;
mod back_end;
mod body;
mod charset;
pub mod client_auth;
mod cookies;
mod cors;
mod document;
mod endpoint;
mod envelope;
mod fetch_metadata;
mod guest_auth;
mod health;
mod introspect;
mod jwks;
mod limits;
mod link;
mod metadata;
mod openapi;
mod profile;
mod respond;
mod revoke;
mod script;
mod session;
mod ticket;
mod token;
mod unlink;
mod verify;
mod visitor;

pub use self::respond::statuses;

/// Builds the router of the public API over `app`.
pub fn router(app: Arc<App>) -> Router {
    let metadata = {
        let app = Arc::clone(&app);
        document::handler(move || metadata::document(&app))
    };
    let mut at_root = Vec::new();
    if app.public_health {
        for (endpoint, handlers) in health::endpoints() {
            at_root.push((endpoint.path.to_owned(), endpoint, handlers));
        }
    }
    for path in metadata::paths(&app) {
        at_root.push((path, &metadata::ENDPOINT, get(metadata.clone())));
    }
    let mut under_base_paths = vec![
        (&authorize::ENDPOINT, get(authorize::get)),
        (&token::ENDPOINT, post(token::post)),
        (&revoke::ENDPOINT, post(revoke::post)),
        (&introspect::ENDPOINT, post(introspect::post)),
        (&attributes::ENDPOINT, post(attributes::post)),
        (&link::ENDPOINT, post(link::post)),
        (&unlink::ENDPOINT, post(unlink::post)),
        (
            &session::ENDPOINT,
            post(session::post).delete(session::delete),
        ),
        (&ticket::ENDPOINT, post(ticket::post)),
        (&verify::ENDPOINT, verify::methods()),
        (
            &profile::ENDPOINT,
            get(profile::get).delete(profile::delete),
        ),
        (&jwks::ENDPOINT, get(jwks::get)),
        (&script::ENDPOINT, get(document::handler(script::document))),
    ];
    let description = {
        let app = Arc::clone(&app);
        let at_root: Vec<_> = at_root
            .iter()
            .map(|(path, endpoint, _)| (path.clone(), *endpoint))
            .collect();
        let under_base_paths: Vec<_> = under_base_paths
            .iter()
            .map(|(endpoint, _)| *endpoint)
            .collect();
        move || openapi::document(&app, &at_root, &under_base_paths)
    };
    under_base_paths.push((&openapi::ENDPOINT, get(document::handler(description))));

    let mut router = Router::new();
    for (path, endpoint, handlers) in at_root {
        router = router.route(&path, endpoint.route(&app, handlers));
    }
    for base in &app.base_paths {
        for (endpoint, handlers) in &under_base_paths {
            let path = format!("{base}{}", endpoint.path);
            router = router.route(&path, endpoint.route(&app, handlers.clone()));
        }
    }
    let nothing = async || Error::from(Refusal::PathUnknown);
    let fallback = nothing.layer(envelope::layer(&app, None));
    router.fallback(fallback).with_state(app)
}

impl IntoResponse for Error {
    /// Leaves the error in the extensions of an empty response. The middleware (`envelope`) knows the endpoint and
    /// the request, and renders it.
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}
