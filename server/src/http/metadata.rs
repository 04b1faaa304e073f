//! `GET /.well-known/oauth-authorization-server`: what this server is and where (RFC 8414).

use std::time::Duration;

use guestpass_core::authorize::RESPONSE_TYPE;
use guestpass_core::token_request::GRANT_TYPES;
use serde_json::json;

use super::document::Document;
use super::{Caller, Endpoint, authorize, introspect, jwks, revoke, token};
use crate::app::App;
use crate::config::Issuer;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/.well-known/oauth-authorization-server",
    allow: "GET, OPTIONS",
    parameters: &[],
    caller: Caller::Anyone,
};

/// Where the document stands: the issuer's own path comes last (RFC 8414 §3.1).
pub(super) fn path(issuer: &Issuer) -> String {
    format!("{}{}", ENDPOINT.path, issuer.path())
}

pub(super) fn document(app: &App) -> Document {
    let base = base_url(app);
    let at = |endpoint: &Endpoint| format!("{base}{}", endpoint.path);
    let with_key = ["client_secret_basic", API_KEY_HEADER];
    let with_or_without = ["none", "client_secret_basic", API_KEY_HEADER];
    let metadata = json!({
        "issuer": app.issuer.as_str(),
        "authorization_endpoint": at(&authorize::ENDPOINT),
        "token_endpoint": at(&token::ENDPOINT),
        "jwks_uri": at(&jwks::ENDPOINT),
        "revocation_endpoint": at(&revoke::ENDPOINT),
        "introspection_endpoint": at(&introspect::ENDPOINT),
        "response_types_supported": [RESPONSE_TYPE],
        "response_modes_supported": [RESPONSE_MODE],
        "grant_types_supported": GRANT_TYPES,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": with_or_without,
        "revocation_endpoint_auth_methods_supported": with_or_without,
        "introspection_endpoint_auth_methods_supported": with_key,
    });
    Document::new(metadata.to_string(), MAX_AGE)
}

/// Where the endpoints are for those who read documents: below the issuer, if it is one of the base paths, else below the
/// first of them.
pub(super) fn base_url(app: &App) -> String {
    let own = app.issuer.path();
    let base = app
        .base_paths
        .iter()
        .find(|base| *base == own)
        .or_else(|| app.base_paths.first());
    format!("{}{}", app.issuer.origin(), base.map_or("", String::as_str))
}

/// The answer is the body of the response. A private value, because an absent one would mean that there is a redirect to
/// wait for (RFC 8414 §2).
const RESPONSE_MODE: &str = "urn:guestpass:response-mode:body";

/// `x-api-key`, which no registry knows.
const API_KEY_HEADER: &str = "urn:guestpass:auth-method:x-api-key";

const MAX_AGE: Duration = Duration::from_secs(3600);
