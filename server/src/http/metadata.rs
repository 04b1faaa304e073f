//! `GET /.well-known/oauth-authorization-server`: authorization server metadata (RFC 8414).

use std::iter;
use std::time::Duration;

use guestpass_core::authorize::{CHALLENGE_METHOD, RESPONSE_TYPE};
use guestpass_core::token_request::GRANT_TYPES;
use serde_json::{Value, json};

use super::document::Document;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, base_url};
use super::{authorize, introspect, jwks, revoke, token};
use crate::app::App;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/.well-known/oauth-authorization-server",
    allow: "GET, HEAD, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    early_check: None,
    operations: &[Operation {
        methods: &["GET", "HEAD"],
        query: None,
        id: "metadata",
        summary: "Authorization server metadata",
        about: "RFC 8414, for libraries that configure themselves. If the issuer has a path, the same document is in two \
                places: RFC 8414 puts that path behind the well-known one; many clients ask first where it stands in front, as \
                they are used to from OpenID Connect.",
        answers: &[
            Answer::document(
                "The metadata document.",
                Schema {
                    name: "Metadata",
                    of: schema,
                },
            ),
            Answer::NOT_MODIFIED,
        ],
    }],
};

/// Returns the paths of the document: with that of the issuer behind the well-known one (RFC 8414 §3.1), and, if the issuer
/// has a path, with it in front.
pub(super) fn paths(app: &App) -> Vec<String> {
    let (well_known, of_issuer) = (ENDPOINT.path, app.issuer.path());
    let mut paths = vec![format!("{well_known}{of_issuer}")];
    if !of_issuer.is_empty() {
        paths.push(format!("{of_issuer}{well_known}"));
    }
    paths
}

pub(super) fn document(app: &App) -> Document {
    let base = base_url(app);
    let at = |endpoint: &Endpoint| format!("{base}{}", endpoint.path);
    let with_key = ["client_secret_basic", "client_secret_post", API_KEY_HEADER];
    let with_or_without: Vec<_> = iter::once("none").chain(with_key).collect();
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
        "code_challenge_methods_supported": [CHALLENGE_METHOD],
        "token_endpoint_auth_methods_supported": with_or_without,
        "revocation_endpoint_auth_methods_supported": with_or_without,
        "introspection_endpoint_auth_methods_supported": with_key,
    });
    Document::new(metadata.to_string(), MAX_AGE)
}

fn schema() -> Value {
    let url = json!({"type": "string", "format": "uri"});
    let names = json!({"type": "array", "items": {"type": "string"}, "minItems": 1});
    json!({
        "type": "object",
        "properties": {
            "issuer": url,
            "authorization_endpoint": url,
            "token_endpoint": url,
            "jwks_uri": url,
            "revocation_endpoint": url,
            "introspection_endpoint": url,
            "response_types_supported": names,
            "response_modes_supported": names,
            "grant_types_supported": names,
            "code_challenge_methods_supported": names,
            "token_endpoint_auth_methods_supported": names,
            "revocation_endpoint_auth_methods_supported": names,
            "introspection_endpoint_auth_methods_supported": names,
        },
        "required": ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported"],
    })
}

/// Says that the authorization response is the body of the HTTP response. No registered value means that, and without
/// any a client would expect a redirect (RFC 8414 §2).
const RESPONSE_MODE: &str = "urn:guestpass:response-mode:body";

/// Names `x-api-key`, for which there is no registered value.
const API_KEY_HEADER: &str = "urn:guestpass:auth-method:x-api-key";

const MAX_AGE: Duration = Duration::from_secs(3600);
