//! `POST /oauth/introspect`: whether a token works, for a confidential client (RFC 7662).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use guestpass_core::client::Client;
use guestpass_core::params::Params;
use guestpass_core::presented_token::PARAMETERS;
use guestpass_core::refusal::Refusal;
use serde_json::{Value, json};

use super::client_auth::{API_KEY, Presented};
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, sid, sub};
use super::{body, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/introspect",
    allow: "POST, OPTIONS",
    parameters: PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::ConfidentialClient,
    operations: &[Operation {
        methods: &["POST"],
        id: "introspect",
        summary: "Whether a token works",
        about: "RFC 7662, for confidential clients: about access tokens that are meant for them, and about their own \
                refresh tokens. Of any other they learn that it doesn't work.",
        answers: &[Answer::json(
            "What the token says, if it works.",
            Schema {
                name: "Introspection",
                of: schema,
            },
        )],
    }],
};

fn schema() -> Value {
    let text = json!({"type": "string"});
    let seconds = json!({"type": "integer", "format": "int64"});
    json!({"oneOf": [
        {
            "title": "It doesn't work",
            "type": "object",
            "properties": {"active": {"const": false}},
            "required": ["active"],
            "additionalProperties": false,
        },
        {
            "title": "It works",
            "type": "object",
            "properties": {
                "active": {"const": true},
                "token_type": {"enum": ["Bearer", "refresh_token"]},
                "iss": text,
                "sub": sub(),
                "subn": text,
                "aud": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "client_id": text,
                "iat": seconds,
                "exp": seconds,
                "jti": text,
                "sid": sid(),
            },
            "required": ["active", "token_type", "iss", "sub", "client_id", "iat", "exp", "sid"],
            "additionalProperties": false,
        },
    ]})
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    // Before anything of the request is looked at.
    if !parts.headers.contains_key(AUTHORIZATION) && !parts.headers.contains_key(API_KEY) {
        return Err(Refusal::ApiKeyMissing.into());
    }
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    let params = body::params_in_body(ENDPOINT.parameters, &parts.headers, query, &body)?;
    let presented =
        Presented::read_if_any(&parts.headers, &params)?.ok_or(Refusal::ApiKeyMissing)?;
    let client = presented.client(&app);
    let answer = introspect(&app, &presented, client.as_deref(), &params).await;
    Ok(respond::to(client, answer))
}

async fn introspect(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    params: &Params<'_>,
) -> Result<Response, Error> {
    let client = presented.authenticate(app, client)?;
    if !client.confidential {
        return Err(Refusal::ClientPublic.into());
    }
    let introspection = app.introspect(client, params.required("token")?).await?;
    Ok(Json(introspection).into_response())
}
