//! `POST /oauth/introspect`: token introspection for confidential clients (RFC 7662).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use guestpass_core::client::{CLIENT_SECRET, Client};
use guestpass_core::params::Params;
use guestpass_core::presented_token::PARAMETERS;
use guestpass_core::refusal::Refusal;
use serde_json::{Value, json};

use super::attributes::attributes;
use super::client_auth::{API_KEY, Presented};
use super::endpoint::{
    Answer, Caller, Endpoint, Operation, ParameterLocation, Schema, seconds, sid, sub,
};
use super::link::customer;
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
    early_check: None,
    operations: &[Operation {
        methods: &["POST"],
        query: None,
        id: "introspect",
        summary: "Introspect a token",
        about: "RFC 7662, for confidential clients. A client may introspect its own refresh tokens, and access tokens \
                whose audience it is; any other token is answered as inactive. A client is told by its `claims` \
                which customer the guest is, and its attributes, as of now.",
        answers: &[Answer::json(
            "Whether the token is active, and its claims if it is.",
            Schema {
                name: "Introspection",
                of: schema,
            },
        )],
    }],
};

fn schema() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({"oneOf": [
        {
            "title": "Inactive",
            "type": "object",
            "properties": {"active": {"const": false}},
            "required": ["active"],
            "additionalProperties": false,
        },
        {
            "title": "Active",
            "type": "object",
            "properties": {
                "active": {"const": true},
                "token_type": {"enum": ["Bearer", "refresh_token"]},
                "iss": text("The issuer."),
                "sub": sub(),
                "subn": text("The guest's network id, if the token has one."),
                "aud": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "client_id": text("The client that the token was issued to."),
                "iat": seconds("When the token was issued"),
                "exp": seconds("When the token expires"),
                "jti": text("The id of an access token."),
                "sid": sid(),
                "customer": customer(),
                "attrs": attributes(),
            },
            "required": ["active", "token_type", "iss", "sub", "client_id", "iat", "exp", "sid"],
            "additionalProperties": false,
        },
    ]})
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    // RFC 7662 §2.1: authentication is required, so of a request without any nothing else is read.
    if !parts.headers.contains_key(AUTHORIZATION)
        && !parts.headers.contains_key(API_KEY)
        && !shows_secret(&parts.headers, query, &body)
    {
        return Err(Refusal::ApiKeyMissing.into());
    }
    let params = body::params_in_body(ENDPOINT.parameters, &parts.headers, query, &body)?;
    let presented =
        Presented::read_if_any(&parts.headers, &params)?.ok_or(Refusal::ApiKeyMissing)?;
    let client = presented.client(&app);
    let answer = introspect(&app, &presented, client.as_deref(), &params).await;
    Ok(respond::to(client, answer))
}

/// Tells if the body, or against the rules the query, has a client's secret that can be read.
fn shows_secret(headers: &HeaderMap, query: &str, body: &Bytes) -> bool {
    match body::params(&[CLIENT_SECRET], headers, query, body) {
        Ok((_, params)) => params.get(CLIENT_SECRET.name).is_some(),
        Err(refusal) => refusal.parameter() == Some(CLIENT_SECRET.name),
    }
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
    let token = params.required("token")?;
    app.check_introspection(client)?;
    Ok(Json(app.introspect(client, token).await?).into_response())
}
