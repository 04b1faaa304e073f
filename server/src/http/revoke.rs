//! `POST /oauth/revoke`: revokes a token (RFC 7009).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use guestpass_core::client::Client;
use guestpass_core::params::Params;
use guestpass_core::presented_token::PARAMETERS;
use guestpass_core::refusal::WireCode;

use super::client_auth::Presented;
use super::endpoint::{Answer, Caller, Endpoint, Operation, ParameterLocation};
use super::visitor::Visitor;
use super::{body, fetch_metadata, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/revoke",
    allow: "POST, OPTIONS",
    parameters: PARAMETERS,
    location: ParameterLocation::Body,
    caller: Caller::Client(WireCode::InvalidClient),
    early_check: None,
    operations: &[Operation {
        methods: &["POST"],
        query: None,
        id: "revoke",
        summary: "Revoke a token",
        about: "RFC 7009. Revoking a refresh token, or an access token of a confidential client, ends the whole grant; \
                revoking an access token of a public client ends that token alone. A public client's token can be \
                revoked without naming the client.",
        answers: &[Answer::empty(
            StatusCode::OK,
            "This server refuses the token, whether or not it did before. Whoever verifies an access token offline \
             accepts it until it expires.",
        )],
    }],
};

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    fetch_metadata::check_or_beacon(&parts.headers)?;
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default();
    let params = body::params_in_body(ENDPOINT.parameters, &parts.headers, query, &body)?;
    // A public client's token names the client, so that its holder needn't.
    let visitor = Visitor::of_request(&app, &parts);
    let Some(presented) = Presented::read_if_any(&parts.headers, &params)? else {
        let answer = revoke(&app, None, visitor, &params).await;
        return Ok(respond::to(None, answer));
    };
    let client = presented.client(&app);
    let answer = match presented.authenticate(&app, client.as_deref()) {
        Ok(client) => revoke(&app, Some(client), visitor, &params).await,
        Err(error) => Err(error),
    };
    Ok(respond::to(client, answer))
}

/// Answers an empty 200 even for an unknown token (RFC 7009 §2.2): it doesn't work, which is what was asked for.
async fn revoke(
    app: &App,
    client: Option<&Client>,
    visitor: Visitor,
    params: &Params<'_>,
) -> Result<Response, Error> {
    let token = params.required("token")?;
    app.check_ending(client, visitor.source(client)?)?;
    app.revoke(client, token).await?;
    Ok(StatusCode::OK.into_response())
}
