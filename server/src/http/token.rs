//! `POST /oauth/token`: a code or a refresh token into new tokens (RFC 6749 §4.1.3, §5, §6).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use guestpass_core::client::Client;
use guestpass_core::params::Params;
use guestpass_core::refusal::{Refusal, WireCode};
use guestpass_core::token_request::{PARAMETERS, TokenRequest};

use super::body::{self, Source};
use super::client_auth::Presented;
use super::{Caller, Endpoint, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::Deadline;

pub(super) static ENDPOINT: Endpoint = Endpoint {
    path: "/oauth/token",
    allow: "POST, OPTIONS",
    parameters: PARAMETERS,
    caller: Caller::Client(WireCode::InvalidClient),
};

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let deadline = parts.extensions.get::<Deadline>().copied();
    let body = body::read(&parts.headers, body, deadline).await?;
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let (source, params) = body::params(ENDPOINT.parameters, &parts.headers, query, &body)?;
    let presented = Presented::read(&parts.headers, &params)?;
    let client = presented.client(&app);
    let answer = redeem(&app, &presented, client.as_deref(), (source, &params)).await;
    Ok(respond::to(client, answer))
}

async fn redeem(
    app: &App,
    presented: &Presented,
    client: Option<&Client>,
    (source, params): (Source, &Params<'_>),
) -> Result<Response, Error> {
    let client = presented.authenticate(app, client)?;
    if source == Source::Query && !app.clients.policy_of(client).query_params {
        return Err(Refusal::QueryParamsDisallowed.into());
    }
    let tokens = app.redeem(client, &TokenRequest::parse(params)?).await?;
    Ok(Json(tokens).into_response())
}
