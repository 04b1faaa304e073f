//! `GET /oauth/jwks`: the public keys that verify access tokens (RFC 7517). Keys for HS256 are secret and not among
//! them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use super::document::Document;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema};
use crate::app::App;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/jwks",
    allow: "GET, HEAD, OPTIONS",
    parameters: &[],
    location: ParameterLocation::Query,
    caller: Caller::Anyone,
    early_check: None,
    operations: &[Operation {
        methods: &["GET", "HEAD"],
        query: None,
        id: "jwks",
        summary: "Keys that verify access tokens",
        about: "A JSON Web Key Set (RFC 7517). A key is published here before anything is signed with it. Keys for HS256 \
                are secret and not listed, so the set may be empty.",
        answers: &[
            Answer::document(
                "The key set.",
                Schema {
                    name: "KeySet",
                    of: schema,
                },
            ),
            Answer::NOT_MODIFIED,
        ],
    }],
};

fn schema() -> Value {
    let text = json!({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"});
    json!({
        "type": "object",
        "properties": {"keys": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "kid": text,
                "kty": {"enum": ["EC", "OKP", "RSA"]},
                "use": {"const": "sig"},
                "alg": {"enum": ["ES256", "EdDSA", "RS256"]},
                "crv": {"enum": ["P-256", "Ed25519"]},
                "x": text,
                "y": text,
                "n": text,
                "e": text,
            },
            "required": ["kid", "kty", "use", "alg"],
            "additionalProperties": false,
        }}},
        "required": ["keys"],
        "additionalProperties": false,
    })
}

pub(super) async fn get(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let keys = app.keys.now();
    let max_age = app.keys.schedule().jwks_max_age;
    Document::new(keys.published().to_owned(), max_age).answer(&headers)
}
